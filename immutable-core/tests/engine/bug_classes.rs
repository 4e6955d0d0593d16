//! Bugs that other systems had, each with a test of its name.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use immutable_core::engine::Engine;
use immutable_core::engine::{Outcome, Reason};
use immutable_core::model::{Lifecycle, RouteId, RouteVersion, Split};
use immutable_core::plan::{Amount, StageSpec, Strategy};
use immutable_core::provider::{
    Assignment, OpContext, Platform, Progress, ProviderError, TrafficCapabilities, TrafficState, TrafficSwitch,
};
use immutable_core::testkit::{Behaviour, SimCloud, SimOptions};
use jiff::Timestamp;
use proptest::prelude::{ProptestConfig, prop_assert, proptest};

use super::harness::{Stand, minutes, outcome, switches, until, until_waiting};

#[tokio::test(start_paused = true)]
async fn terminating_instances_are_counted_in_the_surge() {
    for switch in switches() {
        let stand = Stand::with(SimOptions { switch, end_after: minutes(5), ..SimOptions::default() });
        stand.install(3).await;
        let rollout = stand.start("2", Strategy::rolling().max_surge(Amount::Count(1))).await;
        let ending = || stand.instances("1").iter().any(|instance| instance.lifecycle == Lifecycle::Ending);
        until("ending", &rollout, ending).await;
        assert_eq!(outcome(&rollout).await, Outcome::Promoted);
        stand.assert_within_budget(&rollout, &format!("{switch:?}"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_during_promotion_sends_traffic_to_what_is_proven() {
    for switch in switches() {
        let note = format!("{switch:?}");
        let stand = Stand::serving(switch, 4).await;
        let strategy = || Strategy::rolling().progress_deadline(minutes(20));
        // What came last before the new release is not what was proven.
        stand.cloud.behave(stand.id("2"), Behaviour::NeverHealthy);
        assert!(matches!(stand.run(stand.spec("2", strategy())).await, Outcome::RolledBack { .. }), "{note}");

        let fifth = StageSpec::percent(20).unwrap().hold(minutes(60));
        let rollout = stand.start("3", Strategy::canary([fifth]).progress_deadline(minutes(20))).await;
        until_waiting(&rollout, "hold").await;
        rollout.promote().await.unwrap();
        let weight = || stand.cloud.split().weight(&stand.fleet("3")).points();
        until("more than the first stage", &rollout, || weight() > 2_000).await;
        stand.cloud.behave(stand.id("3"), Behaviour::NeverHealthy);
        let ended = outcome(&rollout).await;
        let Outcome::RolledBack { to, reason: Reason::NoProgress { .. } } = ended else { panic!("{note}: {ended:?}") };
        assert_eq!(to, stand.id("1"), "{note}");
        assert!(stand.was_never_routed("2"), "{note}");
        stand.assert_only("1", 4, &note).await;
    }
}

/// A balancer that takes a minute until a change of weights is in effect, and says so.
#[derive(Debug)]
struct Sluggish {
    cloud: SimCloud,
    /// The weights in effect, and until when they are although others were asked for.
    before: Mutex<Option<(Split, Timestamp)>>,
    /// What was drained of a fleet that still had weight, without another change.
    early: Mutex<Vec<String>>,
}

impl Sluggish {
    fn in_effect(&self) -> Option<Split> {
        let before = self.before.lock().unwrap();
        before.as_ref().filter(|(_, until)| *until > self.cloud.now()).map(|(split, _)| split.clone())
    }
}

#[async_trait]
impl TrafficSwitch for Sluggish {
    fn capabilities(&self) -> TrafficCapabilities {
        self.cloud.platform().traffic.capabilities()
    }

    async fn observe(&self, cx: &OpContext, route: &RouteId) -> Result<TrafficState, ProviderError> {
        let state = self.cloud.platform().traffic.observe(cx, route).await?;
        Ok(TrafficState { split: self.in_effect().unwrap_or_else(|| state.split.clone()), ..state })
    }

    async fn apply(
        &self,
        cx: &OpContext,
        route: &RouteId,
        assignment: &Assignment,
        expected: &RouteVersion,
    ) -> Result<Progress<()>, ProviderError> {
        let (asked, members) = (self.cloud.split(), self.cloud.members());
        let effective = self.in_effect().unwrap_or_else(|| asked.clone());
        let stays = |id| assignment.members.iter().any(|member| member.instance == id);
        for member in members.into_iter().filter(|member| !stays(member.instance.clone())) {
            if !effective.weight(&member.fleet).is_none() {
                self.early.lock().unwrap().push(format!("{} of {}", member.instance, member.fleet));
            }
        }
        let answer = self.cloud.platform().traffic.apply(cx, route, assignment, expected).await;
        if self.cloud.split() != asked {
            *self.before.lock().unwrap() = Some((effective, self.cloud.now() + Duration::from_mins(1)));
        }
        answer
    }
}

#[tokio::test(start_paused = true)]
async fn weights_are_verified_at_the_balancer_before_the_old_fleet_is_drained() {
    let fifth = StageSpec::percent(20).unwrap().hold(minutes(5));
    for strategy in [Strategy::blue_green(), Strategy::canary([fifth]).max_surge(Amount::Percent(100))] {
        let stand = Stand::serving(switches()[0], 4).await;
        let (before, early) = (Mutex::default(), Mutex::default());
        let switch = Arc::new(Sluggish { cloud: stand.cloud.clone(), before, early });
        let traffic = Arc::clone(&switch) as Arc<dyn TrafficSwitch>;
        let platform = Platform { traffic, ..stand.cloud.platform() };
        let engine = Engine::builder(platform).journal(stand.journal.clone()).clock(stand.cloud.clock()).build();
        let rollout = engine.start(stand.spec("2", strategy)).await.unwrap();
        assert_eq!(outcome(&rollout).await, Outcome::Promoted);
        assert!(switch.before.lock().unwrap().is_some(), "weights were moved");
        let early = switch.early.lock().unwrap().clone();
        assert!(early.is_empty(), "drained while they had traffic: {early:?}\n{}", stand.cloud.log().join("\n"));
        stand.assert_only("2", 4, "sluggish").await;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// In hundredths of an instance: neither direction is ever off by one, up to what a size can be.
    #[test]
    fn rounding_is_exact_for_any_size_and_percent(desired in 0_u32..=1_000_000, percent in 0_u32..=1_000_000) {
        let (amount, exact) = (Amount::Percent(percent), u128::from(desired) * u128::from(percent));
        let (up, down) = (amount.rounded_up(desired), amount.rounded_down(desired));
        let (most, least) = (u128::from(up) * 100, u128::from(down) * 100);
        prop_assert!(least <= exact && (exact < least + 100 || down == u32::MAX), "{percent} % of {desired}: {down}");
        prop_assert!(most < exact + 100 && (most >= exact || up == u32::MAX), "{percent} % of {desired}: {up}");
    }
}
