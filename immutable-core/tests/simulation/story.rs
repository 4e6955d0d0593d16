//! What the journal tells, and the rules about it: who may write, what ends, who goes back to what, and what passes a gate.

use std::collections::BTreeMap;
use std::time::Duration;

use immutable_core::analysis::{Analysis, Judgement};
use immutable_core::decide::Budget;
use immutable_core::engine::{Event, Outcome};
use immutable_core::journal::Entry;
use immutable_core::model::{FleetId, Release, ReleaseId, RolloutId, Weight};
use immutable_core::plan::Plan;
use jiff::Timestamp;

use crate::watch::Measured;

/// The one bound on a metric that the strategies have: at most so many errors of a hundred, of at least so many requests.
pub(crate) const MOST_ERRORS: u64 = 2;
/// See [`MOST_ERRORS`].
pub(crate) const LEAST_REQUESTS: u64 = 500;

/// How long each interval of an analysis is.
pub(crate) const INTERVAL: Duration = Duration::from_secs(10);

/// So often may one intent follow the same one without anything between them. Where answers are lost and lists lag, it takes
/// several tries; a driver that never stops writing tries for ever.
const SAME_INTENTS: usize = 25;

/// All that was written about a service.
pub(crate) struct Story {
    entries: Vec<(u64, Timestamp)>,
    pub(crate) rollouts: Vec<Told>,
}

/// All that was written about one rollout.
pub(crate) struct Told {
    pub(crate) id: RolloutId,
    pub(crate) plan: Plan,
    /// What happened, and when it was written.
    pub(crate) events: Vec<(Timestamp, Event)>,
}

impl Told {
    /// Whether a fleet is the baseline that it planned, of the release that it is to be of.
    fn compares_with(&self, fleet: &FleetId, release: ReleaseId) -> bool {
        let old = self.plan.previous.as_ref().map(Release::id);
        self.plan.baseline.as_ref() == Some(fleet) && old == Some(release)
    }

    pub(crate) fn turned_back(&self) -> Option<Timestamp> {
        self.events.iter().find(|(_, event)| matches!(event, Event::TurnedBack { .. })).map(|(at, _)| *at)
    }

    pub(crate) fn outcome(&self) -> Option<&Outcome> {
        self.events.iter().find_map(|(_, event)| match event {
            Event::Ended { outcome, .. } => Some(outcome),
            _ => None,
        })
    }

    /// The release that it says serves alone at its end.
    pub(crate) fn winner(&self) -> Option<ReleaseId> {
        match self.outcome()? {
            Outcome::Promoted => Some(self.plan.release.id()),
            Outcome::RolledBack { to, .. } => Some(*to),
            _ => None,
        }
    }

    fn is_about(&self, wanted: &impl Fn(&Event) -> bool, before: usize) -> bool {
        self.events[..before].iter().any(|(_, event)| wanted(event))
    }
}

impl Story {
    pub(crate) fn read(entries: Vec<Entry>) -> Self {
        let mut story = Self { entries: Vec::new(), rollouts: Vec::new() };
        for entry in entries {
            story.entries.push((entry.epoch, entry.at));
            for event in serde_json::from_value::<Vec<Event>>(entry.body["events"].clone()).unwrap() {
                if let Event::Started { rollout, plan, .. } = &event {
                    let (id, plan) = (rollout.clone(), (**plan).clone());
                    story.rollouts.push(Told { id, plan, events: Vec::new() });
                }
                story.rollouts.last_mut().unwrap().events.push((entry.at, event));
            }
        }
        story
    }

    pub(crate) fn last(&self) -> &Told {
        self.rollouts.last().unwrap()
    }

    /// Whether a fleet is the baseline of a rollout that was planned, and of its old release.
    pub(crate) fn compares_with(&self, fleet: &FleetId, release: ReleaseId) -> bool {
        self.rollouts.iter().any(|told| told.compares_with(fleet, release))
    }

    pub(crate) fn knows(&self, rollout: &RolloutId) -> bool {
        self.rollouts.iter().any(|told| told.id == *rollout)
    }

    /// How far the world might sag by what was sent at a time, and how long whoever was drained had at the least.
    pub(crate) fn limits_at(&self, sent: Timestamp) -> (Budget, Duration) {
        let began = |told: &&Told| told.events[0].0 <= sent;
        let told = self.rollouts.iter().rev().find(began).unwrap_or(&self.rollouts[0]);
        let back = told.turned_back().filter(|at| *at <= sent).and_then(|_| told.plan.way_back());
        (back.map_or(told.plan.budget, |(_, budget)| budget), told.plan.limits.drain_time)
    }

    /// What the journal says that must not be.
    pub(crate) fn broken(&self, measured: &[Measured]) -> Vec<String> {
        let mut violations = Vec::new();
        if let Some(pair) = self.entries.windows(2).find(|pair| pair[0].0 > pair[1].0) {
            violations.push(format!("rule 6, single writer: epoch {} wrote after {}", pair[1].0, pair[0].0));
        }
        for (index, told) in self.rollouts.iter().enumerate() {
            let rules = [told.ends(), told.repeats(), told.is_scaled(), self.returns(index), told.gates(measured)];
            violations.extend(rules.into_iter().flatten().map(|text| format!("{text} (rollout {})", told.id)));
        }
        violations
    }

    /// Whoever asked a rollout to go back, and was told that it does, is not disappointed.
    pub(crate) fn heeds_abort(&self, rollout: &RolloutId, at: Timestamp) -> Option<String> {
        let told = self.rollouts.iter().find(|told| told.id == *rollout)?;
        let heeds = |event: &Event| matches!(event, Event::TurnedBack { .. } | Event::Ended { .. });
        let heeded = told.events.iter().any(|(then, event)| *then <= at && heeds(event));
        (!heeded).then(|| format!("rule 10, return: {rollout} was aborted at {at}, and goes on"))
    }

    /// Whoever goes back goes back to what was proven before, and through no stage.
    fn returns(&self, index: usize) -> Option<String> {
        let told = &self.rollouts[index];
        if let Some(Outcome::RolledBack { to, .. }) = told.outcome() {
            let mut before = self.rollouts[..index].iter();
            if !before.any(|earlier| earlier.plan.release.id() == *to && earlier.outcome() == Some(&Outcome::Promoted))
            {
                return Some(format!("rule 10, return: went back to {to}, which was never proven"));
            }
        }
        let back = told.events.iter().position(|(_, event)| matches!(event, Event::TurnedBack { .. }))?;
        let forward = |event: &Event| {
            matches!(event, Event::StageEntered { .. } | Event::Ended { outcome: Outcome::Promoted, .. })
        };
        told.events[back..]
            .iter()
            .find(|(_, event)| forward(event))
            .map(|(_, event)| format!("rule 10, return: it turned back, and then: {event}"))
    }
}

impl Told {
    /// After the end there is nothing more to write.
    fn ends(&self) -> Option<String> {
        let end = self.events.iter().position(|(_, event)| matches!(event, Event::Ended { .. }))?;
        let (_, more) = self.events.get(end + 1)?;
        Some(format!("rule 9, progress: it ended, and then: {more}"))
    }

    /// Nobody scales a fleet in these worlds: what a driver takes for it is what drivers have done.
    fn is_scaled(&self) -> Option<String> {
        let resized = self.events.iter().find(|(_, event)| matches!(event, Event::Resized { .. }));
        resized.map(|(at, event)| format!("a request of our own was taken for somebody else's, at {at}: {event}"))
    }

    /// Who waits does not write.
    fn repeats(&self) -> Option<String> {
        let same = |first: &Event, next: &Event| match (first, next) {
            (Event::Intended { actions: first, .. }, Event::Intended { actions: next, .. }) => first == next,
            _ => false,
        };
        let mut runs = self.events.chunk_by(|first, next| same(&first.1, &next.1));
        let run = runs.find(|run| run.len() > SAME_INTENTS)?;
        Some(format!("rule 9, progress: {} times in a row: {}", run.len(), run[0].1))
    }

    /// No gate opens without its data and its approval, unless a person skips it.
    fn gates(&self, measured: &[Measured]) -> Option<String> {
        let mut stage = 0;
        for (index, (at, event)) in self.events.iter().enumerate() {
            let next = match event {
                Event::StageEntered { stage, .. } => *stage,
                Event::Ended { outcome: Outcome::Promoted, .. } => self.plan.stages.len(),
                _ => continue,
            };
            let left = std::mem::replace(&mut stage, next);
            let gate = &self.plan.stages[left].gate;
            if self.is_about(&|event| matches!(event, Event::PromotionAsked { .. }), index) {
                continue;
            }
            if let Some(approval) = &gate.approval
                && !self
                    .is_about(&|event| matches!(event, Event::Approved { approval: of, .. } if of == approval), index)
            {
                return Some(format!("rule 12, no data is not a pass: {event} without the approval {approval}"));
            }
            let reached = |(_, event): &(Timestamp, Event)| matches!(event, Event::GoalReached { .. });
            let since =
                self.events[..index].iter().rev().take_while(|(_, event)| !is_stage(event)).filter(|e| reached(e));
            let since = since.last().map(|(at, _)| *at);
            let of_a_check = |m: &&Measured| self.plan.analysis.is_none() || !m.is_interval();
            let is_of = |m: &&Measured| m.at <= *at && m.fleet == self.plan.target && Some(m.window.from) >= since;
            let last = measured.iter().filter(of_a_check).rfind(is_of);
            if !gate.checks.is_empty() && !last.is_some_and(Measured::passes) {
                return Some(format!("rule 12, no data is not a pass: {event} with {last:?}"));
            }
            if let Some(problem) = self.unjudged(left, since, (index, *at), measured) {
                return Some(format!("rule 12, no data is not a pass: {event} with {problem}"));
            }
        }
        None
    }

    /// What was missing for a pass of the plan's analysis when a stage was left, if anything was. What is known has to be in the
    /// journal, and made of requests that the platform has told of.
    fn unjudged(
        &self,
        stage: usize,
        since: Option<Timestamp>,
        (index, at): (usize, Timestamp),
        measured: &[Measured],
    ) -> Option<String> {
        let analysis = self.plan.analysis.as_ref()?;
        let weight = |stage: usize| self.plan.stages[stage].goal.split().weight(&self.plan.target);
        let is_compared = weight(stage) != Weight::FULL && self.plan.compared_with().is_some();
        let is_new = self.plan.replaces.as_ref() != Some(&self.plan.target);
        let is_bounded = has_bound(analysis) && is_new && (0..stage).all(|before| weight(before) != Weight::FULL);
        if weight(stage).is_none() || !is_compared && !is_bounded {
            return None;
        }
        let Some(since) = since else { return Some("a stage that was never reached".into()) };
        let known = self.events[..index].iter().rev().take_while(|(at, event)| *at >= since && !is_stage(event));
        let mut known = known.filter_map(|(_, event)| match event {
            Event::Judged { evidence, .. } => Some(analysis.judge(evidence)),
            _ => None,
        });
        let known = known.next();
        if !matches!(known, Some(Judgement::Pass { .. })) {
            return Some(format!("{known:?}"));
        }
        let told =
            |m: &&Measured| m.is_interval() && m.at <= at && m.fleet == self.plan.target && m.window.from >= since;
        let windows: BTreeMap<_, _> = measured.iter().filter(told).map(|m| (m.window.from, m.whole)).collect();
        let requests: u64 = windows.values().sum();
        (requests < LEAST_REQUESTS).then(|| format!("{requests} requests"))
    }
}

/// Whether the one metric of an analysis is compared with a fixed bound, and so with nobody.
fn has_bound(analysis: &Analysis) -> bool {
    serde_json::to_value(analysis).unwrap()["metrics"][0]["at_most"].is_number()
}

fn is_stage(event: &Event) -> bool {
    matches!(event, Event::StageEntered { .. })
}

impl Measured {
    /// Whether it is of one interval of an analysis: a check looks at all the time since its stage was reached.
    fn is_interval(&self) -> bool {
        self.window.to.duration_since(self.window.from).unsigned_abs() == INTERVAL
    }

    fn passes(&self) -> bool {
        self.whole >= LEAST_REQUESTS && 100 * self.part <= MOST_ERRORS * self.whole
    }
}
