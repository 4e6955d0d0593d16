//! What must hold before the next stage.

use jiff::Timestamp;

use super::{Machine, Step};
use crate::analysis::Judgement;
use crate::plan::{Gate, Stage};

impl Machine {
    /// Whether the next stage may begin; if not, what it waits for is added to the step.
    pub(super) fn gate(
        &self,
        now: Timestamp,
        hold_until: Timestamp,
        stage: &Stage,
        judgements: &[Judgement],
        step: &mut Step,
    ) -> bool {
        if self.skips_gates() {
            return true;
        }
        let Gate { approval, .. } = &stage.gate;
        let mut waiting = Vec::new();
        if self.is_blamed() {
            // It is judged anew when the environment is well again.
            return false;
        }
        if now < hold_until {
            step.wake = Some(hold_until);
            waiting.push(format!("the hold of stage {:?} until {hold_until}", stage.name));
        } else {
            step.wake = None;
        }
        for judgement in judgements {
            if let Judgement::NotEnoughData { evidence } = judgement {
                waiting.push(format!("more data ({evidence})"));
            }
        }
        let unsure = matches!(judgements.last(), Some(Judgement::NotEnoughData { .. }));
        if unsure && self.is_judged() && self.is_judged_late(now) {
            waiting.push("somebody to promote or abort it: it should have been judged by now".into());
        }
        let judged = judgements.len() >= stage.gate.checks.len() + usize::from(self.is_judged());
        if !judged {
            waiting.push("the metrics to be read".into());
        }
        if let Some(approval) = approval.as_ref().filter(|approval| !self.approvals.contains(*approval)) {
            waiting.push(format!("somebody to approve {approval}"));
        }
        let open = waiting.is_empty();
        step.waiting.extend(waiting);
        open
    }

    pub(super) fn has_gate(&self, stage: &Stage) -> bool {
        stage.gate != Gate::default() || self.is_judged()
    }
}
