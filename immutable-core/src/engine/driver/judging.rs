//! Measuring both releases, interval by interval, and judging what is known of them.

use futures_util::future::{try_join, try_join_all};

use super::Driver;
use crate::analysis::{Compared, Evidence, Judgement, Pair};
use crate::engine::event::Event;
use crate::engine::machine::Judging;
use crate::journal::JournalError;
use crate::model::FleetId;
use crate::provider::{MetricValue, ProviderError, Window};

/// The most intervals that are measured in one turn: after a long absence there may be many.
const AT_ONCE: usize = 30;

/// After so many intervals what is known is written down, even if it means the same as before, and later when it has grown by an
/// eighth: a stage that waits for days leaves few entries. What is lost with a driver is measured again.
const UNWRITTEN: u64 = 12;

impl Driver {
    /// What the plan's analysis says now, if it says anything: always while both releases have traffic, and otherwise only that it
    /// has to end.
    pub(super) async fn compare(&mut self) -> Result<Option<Judgement>, JournalError> {
        let crashes = self.assessor.crashes(&self.machine.plan().target);
        if self.machine.max_crashes().is_some_and(|most| crashes >= most) {
            let evidence = format!("{crashes} instances of the new release died or were never ready");
            return Ok(Some(Judgement::Fail { evidence }));
        }
        let now = self.calls.now();
        let Some(judging) = self.machine.judging(now) else { return Ok(None) };
        let (analysis, is_compared) = (judging.analysis, judging.beside.is_some());
        let written = self.machine.evidence();
        let by = self.machine.judged_by();
        let ahead = self.evidence.take().filter(|(of, ahead)| *of == by && ahead.next() >= written.next());
        let mut evidence = ahead.map_or_else(|| written.clone(), |(_, ahead)| ahead);
        let measured = self.measure(&judging, &mut evidence).await;
        let judge = |evidence| if is_compared { analysis.judge(evidence) } else { analysis.hard_stop(evidence) };
        let judged = judge(&evidence);
        let means_something_else = std::mem::discriminant(&judged) != std::mem::discriminant(&judge(written));
        let unwritten = UNWRITTEN.max(judging.counted(written) / 8);
        let is_news = means_something_else || evidence.next() >= written.next().saturating_add(unwritten);
        let (is_ahead, is_up_to_date) = (evidence.next() > written.next(), judging.is_up_to_date(&evidence));
        if is_ahead && is_news {
            self.record(vec![Event::Judged { evidence: evidence.clone(), at: now }]).await?;
        }
        self.evidence = Some((by, evidence));
        if let (Ok(()), true, Judgement::NotEnoughData { evidence }) = (&measured, is_up_to_date, &judged) {
            self.record(self.machine.give_up(now, evidence)).await?;
        }
        let judgement = match measured {
            Err(error) if !error.kind().is_transient() => {
                self.record(self.machine.refused(now, error.to_string())).await?;
                return Ok(None);
            }
            // What was measured before does not make a pass of what cannot be measured now.
            Err(error) if !fails(&judged) => Judgement::NotEnoughData { evidence: error.to_string() },
            _ => judged,
        };
        Ok(Some(judgement).filter(|judgement| is_compared || fails(judgement)))
    }

    /// What was counted and is not in the journal yet. It is written before a stage is left or reached: what is counted from then on
    /// is another stage's.
    pub(super) fn unwritten_evidence(&self) -> Option<Event> {
        let (by, evidence) = self.evidence.as_ref()?;
        let is_ahead = *by == self.machine.judged_by() && evidence.next() > self.machine.evidence().next();
        is_ahead.then(|| Event::Judged { evidence: evidence.clone(), at: self.calls.now() })
    }

    /// Counts the intervals that are over. What was counted before an error stays counted.
    async fn measure(&self, judging: &Judging<'_>, evidence: &mut Evidence) -> Result<(), ProviderError> {
        for interval in judging.due(evidence).take(AT_ONCE) {
            let window = judging.window(interval);
            let pairs = judging.analysis.metrics().iter().map(|compared| self.pair(compared, judging.beside, window));
            evidence.count(judging.analysis, interval, &try_join_all(pairs).await?);
        }
        Ok(())
    }

    /// What a metric says of both fleets. Where the baseline is silent, because it did not come up or had no requests, the old fleet
    /// is asked: a broken old release must not hold up the fix, and what all suffer from is not the canary's fault.
    async fn pair(&self, compared: &Compared, beside: Option<&FleetId>, window: Window) -> Result<Pair, ProviderError> {
        let plan = self.machine.plan();
        let canary = self.value(compared, Some(&plan.target), window);
        let (canary, mut baseline) = try_join(canary, self.value(compared, beside, window)).await?;
        if baseline.is_none() && beside.is_some() && beside == plan.baseline.as_ref() {
            baseline = self.value(compared, plan.replaces.as_ref(), window).await?;
        }
        Ok(Pair { canary, baseline })
    }

    async fn value(
        &self,
        compared: &Compared,
        fleet: Option<&FleetId>,
        window: Window,
    ) -> Result<Option<MetricValue>, ProviderError> {
        let Some(fleet) = fleet else { return Ok(None) };
        let context = self.calls.context(&["measure"]);
        let query = self.platform.metrics.query(&context, compared.metric(), fleet, window);
        Ok(MetricValue::pooled(&self.calls.look("read a metric", query).await?))
    }
}

fn fails(judgement: &Judgement) -> bool {
    matches!(judgement, Judgement::Fail { .. })
}
