//! How a simulated rollout ended, whether that is as promised, and what is left then.

use std::time::Duration;

use immutable_core::engine::Outcome;
use immutable_core::journal::Journal;
use immutable_core::model::FleetId;
use immutable_core::plan::Strategy;
use immutable_core::provider::OpContext;
use immutable_core::testkit::{Faults, VirtualClock};

use super::{BOUND, Report, World, engine, service, spec};
use crate::rules::Judge;
use crate::story::Story;

impl World {
    pub(super) async fn settle(mut self, end: Option<Result<Outcome, String>>) -> Report {
        // Whatever goes last is gone by then.
        tokio::time::sleep(Duration::from_mins(10)).await;
        let story = self.story().await;
        let outcome = match &end {
            None => {
                self.violations.push(format!("rule 9, progress: no end within {BOUND:?}: {:?}", self.told.last()));
                "no end".to_owned()
            }
            Some(Err(error)) => {
                self.violations.push(format!("rule 9, progress: {error}"));
                error.clone()
            }
            Some(Ok(Outcome::RolledBack { .. })) => "rolled back".to_owned(),
            Some(Ok(outcome)) => {
                if self.is_fix && *outcome != Outcome::Promoted {
                    let text = format!("rule 11, broken old never blocks the fix: {outcome}");
                    self.violations.push(text);
                }
                outcome.to_string().split(':').next().unwrap_or_default().to_owned()
            }
        };
        self.cloud.set_faults(Faults::default());
        if matches!(end, Some(Ok(_))) {
            self.nothing_is_left(&story).await;
            if story.last().winner().is_none() {
                self.tell("a person makes it good");
                self.make_it_good().await;
            }
        }
        self.report(outcome).await
    }

    /// A rollout that ends without a winner leaves nothing behind that the next one does not clear away.
    async fn make_it_good(&mut self) {
        // Without what is broken on purpose: it is about what was left.
        let platform = self.watch.platform();
        let last = engine(&self.cloud, platform, self.journal.clone(), self.seed.wrapping_mul(1_000));
        let rollout = match last.start(spec(&self.cloud, "9", Strategy::blue_green(), self.desired)).await {
            Ok(rollout) => rollout,
            Err(error) => return self.violations.push(format!("rule 9, progress: no rollout after the end: {error}")),
        };
        match tokio::time::timeout(BOUND, rollout.wait()).await {
            Ok(Ok(Outcome::Promoted)) => {}
            end => {
                let waiting = rollout.status().waiting;
                self.violations.push(format!("rule 9, progress: fair weather, and {end:?}: {waiting:?}"));
            }
        }
        let story = self.story().await;
        self.nothing_is_left(&story).await;
    }

    /// At the end only the winner's is there, and all traffic is its.
    async fn nothing_is_left(&mut self, story: &Story) {
        let Some(winner) = story.last().winner() else { return };
        let fleet = FleetId::of(&service(), &winner);
        let (instances, members) = (self.cloud.instances(), self.cloud.members());
        let listed = self.cloud.platform().fleets.observe(&OpContext::standalone("the end"), &service()).await;
        let mut left: Vec<String> =
            instances.iter().filter(|i| i.fleet != fleet).map(|i| format!("{} of {}", i.id, i.fleet)).collect();
        left.extend(listed.unwrap().fleets.into_iter().filter(|f| f.id != fleet).map(|f| format!("fleet {}", f.id)));
        left.extend(members.iter().filter(|m| m.fleet != fleet).map(|m| format!("member {}", m.instance)));
        // Whoever laid hands on the route after the last look of all is not seen any more.
        let edited = self.watch.last_look().is_none_or(|look| look <= self.edited);
        let weights = self.cloud.split();
        if !edited && weights.iter().any(|(of, _)| *of != fleet) {
            left.push(format!("weights {weights}"));
        }
        if !left.is_empty() {
            self.violations.push(format!("rule 7, no leak: left of others than {fleet}: {}", left.join(", ")));
        }
    }

    async fn story(&self) -> Story {
        Story::read(self.journal.list(&service()).await.unwrap())
    }

    pub(super) async fn report(mut self, outcome: String) -> Report {
        let story = self.story().await;
        let (story, watch, drifted) = (&story, &self.watch, self.drifted.clone());
        let judge = Judge { story, watch, switch: self.switch, drifted };
        let mut violations = judge.broken(&self.cloud.take_changes());
        violations.extend(story.broken(&self.watch.measured()));
        violations.extend(self.aborted.iter().filter_map(|(id, at)| story.heeds_abort(id, *at)));
        violations.append(&mut self.violations);
        self.tell(&outcome);
        let mut trace = self.told;
        trace.extend(self.cloud.log());
        let events = story.rollouts.iter().skip(1).flat_map(|told| &told.events);
        trace.extend(events.map(|(at, event)| format!("{at} {event:?}")));
        let time = self.cloud.now().duration_since(VirtualClock::START).unsigned_abs();
        Report { trace, violations, outcome, struck: self.cloud.struck(), given: self.given, time }
    }
}
