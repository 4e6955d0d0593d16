//! Comparing the new release with the old one, from the first stage in which both have traffic.

use std::ops::Range;
use std::time::Duration;

use jiff::Timestamp;

use super::{Course, Machine};
use crate::analysis::{Analysis, AtDeadline, Evidence, Judgement};
use crate::engine::clock::later;
use crate::engine::event::{Event, Reason};
use crate::model::FleetId;
use crate::provider::Window;

/// What is to be measured and judged now.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::engine) struct Judging<'a> {
    pub(in crate::engine) analysis: &'a Analysis,
    /// The fleet that the new one is compared with, while both have traffic.
    pub(in crate::engine) beside: Option<&'a FleetId>,
    /// The number of the first interval that lies after the beginning as a whole.
    first: u64,
    /// The number of the first interval that is not over yet.
    end: u64,
}

impl Judging<'_> {
    /// The intervals that are over and were not counted.
    pub(in crate::engine) fn due(&self, evidence: &Evidence) -> Range<u64> {
        self.first.max(evidence.next())..self.end
    }

    /// Whether all intervals that are over were counted.
    pub(in crate::engine) fn is_up_to_date(&self, evidence: &Evidence) -> bool {
        evidence.next() >= self.end
    }

    /// How many intervals of the stage were counted.
    pub(in crate::engine) fn counted(&self, evidence: &Evidence) -> u64 {
        evidence.next().saturating_sub(self.first)
    }

    /// When an interval was. They are numbered from the epoch, whoever counts them.
    pub(in crate::engine) fn window(&self, interval: u64) -> Window {
        let at = |number: u64| {
            let since = nanoseconds(self.analysis.interval).saturating_mul(i128::from(number));
            Timestamp::from_nanosecond(since).unwrap_or(Timestamp::MAX)
        };
        Window { from: at(interval), to: at(interval + 1) }
    }
}

impl Machine {
    /// How the current stage is judged, if it is: while both releases have traffic, and by hard stops alone after that.
    pub(super) fn analysis(&self) -> Option<(&Analysis, Option<&FleetId>)> {
        let Course::Forward { stage } = self.course else { return None };
        let analysis = self.plan.analysis.as_ref().filter(|_| !self.skips_gates())?;
        let beside = self.plan.compared_with().filter(|_| self.plan.is_shared(stage));
        (beside.is_some() || analysis.has_hard_stop() && stage == self.plan.full_stage()).then_some((analysis, beside))
    }

    /// Whether the current stage compares both releases.
    pub(super) fn is_compared(&self) -> bool {
        self.analysis().is_some_and(|(_, beside)| beside.is_some())
    }

    /// How many instances of the new release may crash, where that is limited.
    pub(in crate::engine) fn max_crashes(&self) -> Option<u32> {
        let Course::Forward { stage } = self.course else { return None };
        let analysis =
            self.plan.analysis.as_ref().filter(|_| !self.skips_gates() && stage <= self.plan.full_stage())?;
        let size = self.plan.stages[stage].goal.fleet(&self.plan.target).map_or(0, |part| part.size);
        Some(analysis.max_crashes.max(size))
    }

    /// What is to be judged now, if anything is.
    pub(in crate::engine) fn judging(&self, now: Timestamp) -> Option<Judging<'_>> {
        let (analysis, beside) = self.analysis().filter(|_| !self.is_blamed())?;
        let number = |at: Timestamp| at.as_nanosecond().max(0) / nanoseconds(analysis.interval).max(1);
        let ended = now.checked_sub(analysis.delay).unwrap_or(Timestamp::UNIX_EPOCH);
        let first = u64::try_from(number(self.judged_from?) + 1).unwrap_or(u64::MAX);
        Some(Judging { analysis, beside, first, end: u64::try_from(number(ended)).unwrap_or(0) })
    }

    /// When the current stage should have been judged, if it was reached. It tells the stages apart.
    pub(in crate::engine) fn judged_by(&self) -> Option<Timestamp> {
        self.judged_by
    }

    /// What is known of the new release, as far as it is in the journal.
    pub(in crate::engine) fn evidence(&self) -> &Evidence {
        &self.evidence
    }

    pub(super) fn begin_judging(&mut self, at: Timestamp) {
        let Some(deadline) = self.analysis().map(|(analysis, _)| analysis.deadline) else { return };
        if self.judged_by.is_none() {
            (self.judged_from, self.judged_by) = (Some(at), Some(later(at, deadline)));
            self.evidence.begin_stage();
        }
    }

    /// Takes what is known into account.
    pub(super) fn judged(&mut self, evidence: &Evidence) {
        self.evidence = evidence.clone();
        let judged = self.analysis().map(|(analysis, _)| analysis.judge(evidence));
        self.passed |= matches!(judged, Some(Judgement::Pass { .. }));
    }

    /// After the environment was at fault, what was measured until now says nothing about the release.
    pub(super) fn judge_anew(&mut self, at: Timestamp) {
        if self.judged_by.is_some() {
            (self.judged_from, self.passed) = (Some(at), false);
            self.evidence.begin_stage();
        }
    }

    /// Whether the stage should have been judged by now. If it was not, it never goes on by itself.
    pub(super) fn is_judged_late(&self, now: Timestamp) -> bool {
        self.judged_by.is_some_and(|by| by <= now) && self.held.is_none()
    }

    /// The way back from a stage that could not be judged by its deadline, where that is asked for. `missing` is what all that was
    /// measured lacks; what could not be measured, or not yet, is no reason.
    pub(in crate::engine) fn give_up(&self, now: Timestamp, missing: &str) -> Vec<Event> {
        let goes_back = self.analysis().is_some_and(|(analysis, _)| analysis.at_deadline == AtDeadline::GoBack);
        let waits = self.stopped.is_some() || self.passed || !self.is_compared() || !self.is_judged_late(now);
        if !goes_back || waits {
            return Vec::new();
        }
        self.turn_back(now, Reason::NotJudged { evidence: missing.to_owned() }).events
    }
}

fn nanoseconds(time: Duration) -> i128 {
    i128::try_from(time.as_nanos()).unwrap_or(i128::MAX)
}
