//! Measuring the releases, interval by interval, and judging what is known of them.

use std::time::Duration;

use futures_util::future::{join_all, try_join};

use super::Driver;
use crate::analysis::{Compared, Evidence, Judgement, Pair};
use crate::engine::event::Event;
use crate::engine::machine::Judging;
use crate::journal::JournalError;
use crate::model::FleetId;
use crate::provider::{MetricValue, ProviderError, Window};

/// The most intervals of a metric that are measured in one turn: after a long absence there may be many.
const AT_ONCE: usize = 30;

/// How soon the next ones are counted. Together they keep up with intervals that are a third as long as the shortest.
const CATCHING_UP: Duration = Duration::from_secs(1);

/// After so many intervals what is known is written down, even if it means the same as before, and later when it has grown by an
/// eighth: a stage that waits for days leaves few entries. What is lost with a driver is measured again.
const UNWRITTEN: u64 = 12;

impl Driver {
    /// What the plan's analysis says now, if it says anything: always in a stage that has to pass it, and otherwise only that it has to
    /// end.
    pub(super) async fn compare(&mut self) -> Result<Option<Judgement>, JournalError> {
        self.catch_up_in = None;
        let crashes = self.assessor.crashes(&self.machine.plan().target);
        if self.machine.max_crashes().is_some_and(|most| crashes >= most) {
            let evidence = format!("{crashes} instances of the new release died or were never ready");
            return Ok(Some(Judgement::Fail { evidence }));
        }
        let now = self.calls.now();
        let Some(judging) = self.machine.judging(now) else { return Ok(None) };
        let stage = judging.stage;
        let written = self.machine.evidence();
        let from = self.machine.judged_from();
        let ahead = self.evidence.take().filter(|(of, _)| *of == from);
        let mut evidence = ahead.map_or_else(|| written.clone(), |(_, ahead)| ahead);
        let Measured { result, has_more } = self.measure(&judging, &mut evidence).await;
        let judged = stage.judge(&evidence);
        let means_something_else = std::mem::discriminant(&judged) != std::mem::discriminant(&stage.judge(written));
        let unwritten = UNWRITTEN.max(judging.counted(written) / 8);
        let is_news = means_something_else || evidence.latest() >= written.latest().saturating_add(unwritten);
        let (is_ahead, is_up_to_date) = (evidence != *written, judging.is_up_to_date(&evidence));
        let (is_behind, counted_until) = (judging.is_behind(&evidence), judging.counted_ahead_until(&evidence));
        let is_whole = stage.is_whole;
        let passes_now = matches!(judged, Judgement::Pass { .. }) && !is_behind && !self.machine.has_passed();
        if is_ahead && (is_news || passes_now) {
            self.record(vec![Event::Judged { evidence: evidence.clone(), at: now }]).await?;
        }
        self.evidence = Some((from, evidence));
        if let (Ok(()), true, Judgement::NotEnoughData { evidence }) = (&result, is_up_to_date, &judged) {
            self.record(self.machine.give_up(now, evidence)).await?;
        }
        self.catch_up_in = has_more.then_some(CATCHING_UP);
        let judgement = match (result, judged) {
            (Err(error), _) if !error.kind().is_transient() => {
                self.record(self.machine.refused(now, error.to_string())).await?;
                return Ok(None);
            }
            // What was measured before does not make a pass of what cannot be measured now, or is not measured yet.
            (Err(error), judged) if !fails(&judged) => Judgement::NotEnoughData { evidence: error.to_string() },
            (_, Judgement::Pass { evidence }) if is_behind => {
                Judgement::NotEnoughData { evidence: format!("{evidence}; later intervals are still to be read") }
            }
            (Ok(()), Judgement::NotEnoughData { evidence }) => {
                let until = counted_until.map(|until| format!("; counted until {until}, by a clock that was ahead"));
                Judgement::NotEnoughData { evidence: evidence + &until.unwrap_or_default() }
            }
            (_, judged) => judged,
        };
        Ok(Some(judgement).filter(|judgement| is_whole || fails(judgement)))
    }

    /// What was counted and is not in the journal yet. It is written before a stage is left or reached: what is counted from then on
    /// is another stage's.
    pub(super) fn unwritten_evidence(&self) -> Option<Event> {
        let (from, evidence) = self.evidence.as_ref()?;
        let is_ahead = *from == self.machine.judged_from() && evidence != self.machine.evidence();
        is_ahead.then(|| Event::Judged { evidence: evidence.clone(), at: self.calls.now() })
    }

    /// Counts the intervals that are over. What was counted before an error stays counted, and one metric that cannot be read holds up
    /// none of the others.
    async fn measure(&self, judging: &Judging<'_>, evidence: &mut Evidence) -> Measured {
        let analysis = judging.stage.analysis;
        let due = (0..analysis.metrics().len()).map(|metric| judging.due(evidence, metric));
        let measured = analysis.metrics().iter().zip(due).map(async |(compared, due)| {
            let beside = judging.stage.beside.filter(|_| analysis.compares(compared));
            let (mut pairs, has_more) = (Vec::new(), due.clone().nth(AT_ONCE).is_some());
            for interval in due.take(AT_ONCE) {
                match self.pair(compared, beside, judging.window(interval)).await {
                    Ok(pair) => pairs.push((interval, pair)),
                    Err(error) => return (pairs, Measured { result: Err(error), has_more: false }),
                }
            }
            (pairs, Measured { result: Ok(()), has_more })
        });
        let mut all = Measured { result: Ok(()), has_more: false };
        for (metric, (pairs, measured)) in join_all(measured).await.into_iter().enumerate() {
            for (interval, pair) in &pairs {
                evidence.count_one(analysis, metric, *interval, pair);
            }
            all.result = all.result.and(measured.result);
            all.has_more |= measured.has_more;
        }
        all
    }

    /// What a metric says of both fleets, where it is compared. Where the baseline is silent, because it did not come up or had no
    /// requests, the old fleet is asked: a broken old release must not hold up the fix, and what all suffer from is not the canary's
    /// fault.
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

/// How it went to count intervals.
struct Measured {
    result: Result<(), ProviderError>,
    /// Whether there are more that could be counted at once.
    has_more: bool,
}

fn fails(judgement: &Judgement) -> bool {
    matches!(judgement, Judgement::Fail { .. })
}
