//! Judging the new release: beside the old one from the first stage in which both have traffic, or by itself.

use std::ops::Range;
use std::time::Duration;

use jiff::Timestamp;

use super::{Course, Machine};
use crate::analysis::{Analysis, AtDeadline, Evidence, Judgement};
use crate::engine::clock::later;
use crate::engine::event::{Event, Reason};
use crate::model::FleetId;
use crate::provider::Window;

/// How a stage is judged.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::engine) struct Judged<'a> {
    pub(in crate::engine) analysis: &'a Analysis,
    /// The fleet that the new one is compared with, while both have traffic.
    pub(in crate::engine) beside: Option<&'a FleetId>,
    /// Whether the stage has to pass; otherwise only hard stops hold.
    pub(in crate::engine) is_whole: bool,
}

/// What is to be measured and judged now.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::engine) struct Judging<'a> {
    pub(in crate::engine) stage: Judged<'a>,
    /// The number of the first interval that lies after the beginning as a whole.
    first: u64,
    /// The number of the first interval that is not over yet.
    end: u64,
}

impl Judged<'_> {
    /// What is known, judged as the stage is.
    pub(in crate::engine) fn judge(&self, evidence: &Evidence) -> Judgement {
        if self.is_whole { self.analysis.judge(evidence) } else { self.analysis.hard_stop(evidence) }
    }
}

impl Judging<'_> {
    /// The intervals that are over and were not counted for a metric.
    pub(in crate::engine) fn due(&self, evidence: &Evidence, metric: usize) -> Range<u64> {
        self.first.max(evidence.next_of(metric))..self.end
    }

    /// Whether all intervals that are over were counted.
    pub(in crate::engine) fn is_up_to_date(&self, evidence: &Evidence) -> bool {
        evidence.next() >= self.end
    }

    /// Whether some intervals that are over are still to be counted.
    pub(in crate::engine) fn is_behind(&self, evidence: &Evidence) -> bool {
        self.first.max(evidence.next()) < self.end
    }

    /// Until when intervals were counted, if that is still to come: by a driver whose clock was ahead.
    pub(in crate::engine) fn counted_ahead_until(&self, evidence: &Evidence) -> Option<Timestamp> {
        // One interval is within what clocks differ by.
        (evidence.next() > self.end.saturating_add(1)).then(|| self.window(evidence.next()).from)
    }

    /// How many intervals of the stage were counted.
    pub(in crate::engine) fn counted(&self, evidence: &Evidence) -> u64 {
        evidence.latest().saturating_sub(self.first)
    }

    /// When an interval was. They are numbered from the epoch, whoever counts them.
    pub(in crate::engine) fn window(&self, interval: u64) -> Window {
        let at = |number: u64| {
            let since = nanoseconds(self.stage.analysis.interval).saturating_mul(i128::from(number));
            Timestamp::from_nanosecond(since).unwrap_or(Timestamp::MAX)
        };
        Window { from: at(interval), to: at(interval + 1) }
    }
}

impl Machine {
    /// How the current stage is judged, if it is: as a whole while there is all that it takes, and by hard stops alone after that.
    pub(super) fn analysis(&self) -> Option<Judged<'_>> {
        let Course::Forward { stage } = self.course else { return None };
        let analysis = self.plan.analysis.as_ref().filter(|_| !self.skips_gates())?;
        let beside = self.plan.compared_with().filter(|_| self.plan.is_shared(stage));
        let is_whole = beside.is_some() || self.plan.judges_alone(stage);
        let stops = analysis.has_hard_stop() && stage == self.plan.full_stage();
        (is_whole || stops).then_some(Judged { analysis, beside, is_whole })
    }

    /// Whether the current stage has to pass its analysis.
    pub(super) fn is_judged(&self) -> bool {
        self.analysis().is_some_and(|judged| judged.is_whole)
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
        let stage = self.analysis().filter(|_| !self.is_blamed())?;
        let analysis = stage.analysis;
        let number = |at: Timestamp| at.as_nanosecond().max(0) / nanoseconds(analysis.interval).max(1);
        let ended = now.checked_sub(analysis.delay).unwrap_or(Timestamp::UNIX_EPOCH);
        let first = u64::try_from(number(self.judged_from?) + 1).unwrap_or(u64::MAX);
        Some(Judging { stage, first, end: u64::try_from(number(ended)).unwrap_or(0) })
    }

    /// Since when the current stage is judged, or the one before until its goal is reached. It tells apart what is counted for each.
    pub(in crate::engine) fn judged_from(&self) -> Option<Timestamp> {
        self.judged_from
    }

    /// What is known of the new release, as far as it is in the journal.
    pub(in crate::engine) fn evidence(&self) -> &Evidence {
        &self.evidence
    }

    pub(super) fn begin_judging(&mut self, at: Timestamp) {
        let Some(deadline) = self.analysis().map(|judged| judged.analysis.deadline) else { return };
        if self.judged_by.is_none() {
            (self.judged_from, self.judged_by) = (Some(at), Some(later(at, deadline)));
            // What was counted on the way to this stage was still of the one before.
            self.passed = false;
            self.evidence.begin_stage();
        }
    }

    /// Takes what is known into account.
    pub(super) fn judged(&mut self, evidence: &Evidence, at: Timestamp) {
        self.evidence = evidence.clone();
        let judged =
            self.judging(at).filter(|judging| !judging.is_behind(evidence)).map(|now| now.stage.judge(evidence));
        self.passed |= matches!(judged, Some(Judgement::Pass { .. }));
    }

    /// After the environment was at fault, what was measured until now says nothing about the release: neither for it nor against it.
    /// What passes once more gets all of the time for that; what did not pass, only the first time.
    pub(super) fn judge_anew(&mut self, at: Timestamp, first: bool) {
        if self.judged_from.is_none() {
            return;
        }
        let deadline = self.plan.analysis.as_ref().map_or(Duration::ZERO, |analysis| analysis.deadline);
        if first || self.passed {
            self.judged_by = self.judged_by.map(|by| by.max(later(at, deadline)));
        }
        (self.judged_from, self.passed) = (Some(at), false);
        self.evidence = Evidence::default();
    }

    /// Whether the stage was found to pass.
    pub(in crate::engine) fn has_passed(&self) -> bool {
        self.passed
    }

    /// Whether the stage should have been judged by now. If it was not, it never goes on by itself.
    pub(super) fn is_judged_late(&self, now: Timestamp) -> bool {
        self.judged_by.is_some_and(|by| by <= now) && self.held.is_none()
    }

    /// The way back from a stage that could not be judged by its deadline, where that is asked for. `missing` is what all that was
    /// measured lacks; what could not be measured, or not yet, is no reason.
    pub(in crate::engine) fn give_up(&self, now: Timestamp, missing: &str) -> Vec<Event> {
        let goes_back = self.analysis().is_some_and(|judged| judged.analysis.at_deadline == AtDeadline::GoBack);
        let waits = self.stopped.is_some() || self.passed || !self.is_judged() || !self.is_judged_late(now);
        if !goes_back || waits {
            return Vec::new();
        }
        self.turn_back(now, Reason::NotJudged { evidence: missing.to_owned() }).events
    }
}

fn nanoseconds(time: Duration) -> i128 {
    i128::try_from(time.as_nanos()).unwrap_or(i128::MAX)
}
