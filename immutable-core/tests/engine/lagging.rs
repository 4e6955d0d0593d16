//! Lists that lag: they do not show yet what was made, or miss for a while what is there.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use immutable_core::decide::RetireProof;
use immutable_core::engine::{Engine, Outcome};
use immutable_core::model::{FleetId, FleetSpec, InstanceId, ServiceName};
use immutable_core::plan::Strategy;
use immutable_core::provider::{
    FleetsState, OpContext, Pace, Platform, Progress, ProviderError, Provisioner, ProvisionerCapabilities,
};
use immutable_core::testkit::SimCloud;

use super::harness::{Stand, minutes, outcome, strategies, switches, until, until_waiting};

const LAG: Duration = Duration::from_secs(8);

/// A cloud whose lists lag.
#[derive(Debug)]
struct Lagging {
    cloud: SimCloud,
    /// What is not listed although it is there.
    hidden: Mutex<Vec<InstanceId>>,
    /// Whether what is younger than the lag is not listed.
    young: bool,
}

#[async_trait]
impl Provisioner for Lagging {
    fn capabilities(&self) -> ProvisionerCapabilities {
        self.cloud.platform().fleets.capabilities()
    }

    async fn ensure(&self, cx: &OpContext, spec: &FleetSpec) -> Result<Progress<()>, ProviderError> {
        self.cloud.platform().fleets.ensure(cx, spec).await
    }

    async fn observe(&self, cx: &OpContext, service: &ServiceName) -> Result<FleetsState, ProviderError> {
        let mut state = self.cloud.platform().fleets.observe(cx, service).await?;
        let hidden = self.hidden.lock().unwrap();
        let (from, mut fleets) = (self.cloud.now() - LAG, Vec::new());
        for fleet in &mut state.fleets {
            let all = fleet.instances.len();
            fleet.instances.retain(|it| !(hidden.contains(&it.id) || self.young && it.started_at > from));
            // It is known by its instances.
            let is_young = self.young && all > 0 && fleet.instances.is_empty();
            fleets.extend((!is_young).then(|| fleet.clone()));
        }
        state.fleets = fleets;
        Ok(state)
    }

    async fn retire(&self, cx: &OpContext, proof: &RetireProof) -> Result<Progress<()>, ProviderError> {
        self.cloud.platform().fleets.retire(cx, proof).await
    }

    async fn remove(
        &self,
        cx: &OpContext,
        service: &ServiceName,
        fleet: &FleetId,
    ) -> Result<Progress<()>, ProviderError> {
        self.cloud.platform().fleets.remove(cx, service, fleet).await
    }
}

fn lagging(stand: &Stand, young: bool, pace: Pace) -> (Arc<Lagging>, Engine) {
    let lagging = Arc::new(Lagging { cloud: stand.cloud.clone(), hidden: Mutex::default(), young });
    let platform = Platform { fleets: Arc::clone(&lagging) as Arc<dyn Provisioner>, pace, ..stand.cloud.platform() };
    let engine = Engine::builder(platform).journal(stand.journal.clone()).clock(stand.cloud.clock()).build();
    (lagging, engine)
}

/// Every instance is missing from the lists once, one after the other, while a rollout bakes. What was written meanwhile, and the
/// least that served.
async fn written_while_missing(pace: Pace) -> (usize, usize) {
    let stand = Stand::serving(switches()[0], 3).await;
    let (lagging, engine) = lagging(&stand, false, pace);
    let rollout = engine.start(stand.spec("2", Strategy::blue_green().bake(minutes(60)))).await.unwrap();
    until_waiting(&rollout, "the hold").await;
    let before = stand.entries().await;
    for instance in stand.cloud.instances() {
        lagging.hidden.lock().unwrap().push(instance.id);
        tokio::time::sleep(LAG).await;
        lagging.hidden.lock().unwrap().clear();
        tokio::time::sleep(LAG).await;
    }
    let written = stand.entries().await - before;
    assert_eq!(outcome(&rollout).await, Outcome::Promoted);
    stand.assert_only("2", 3, "lagging").await;
    (written, stand.cloud.least_serving().unwrap())
}

#[tokio::test(start_paused = true)]
async fn what_a_list_misses_for_a_while_is_not_gone() {
    assert_eq!(written_while_missing(Pace::default()).await, (0, 3));
    // Whoever takes the list at its word writes, and acts.
    let (written, _) = written_while_missing(Pace { list_lag: Duration::ZERO, ..Pace::default() }).await;
    assert!(written > 0);
}

#[tokio::test(start_paused = true)]
async fn what_is_gone_is_replaced_soon() {
    let stand = Stand::serving(switches()[0], 3).await;
    let (lagging, engine) = lagging(&stand, false, Pace::default());
    let rollout = engine.start(stand.spec("2", Strategy::blue_green().bake(minutes(60)))).await.unwrap();
    until_waiting(&rollout, "the hold").await;
    let lost = stand.ids("2").remove(0);
    lagging.hidden.lock().unwrap().push(lost.clone());
    assert!(stand.cloud.kill(&lost));
    tokio::time::sleep(minutes(5)).await;
    let serving = stand.cloud.members().iter().filter(|member| member.fleet == stand.fleet("2")).count();
    assert_eq!(serving, 3);
    assert_eq!(outcome(&rollout).await, Outcome::Promoted);
}

/// Each strategy, aborted as soon as instances were started that the lists do not show yet. What is left over at the end.
async fn left_over(pace: Pace) -> Vec<usize> {
    let mut left_over = Vec::new();
    for strategy in strategies(3) {
        let stand = Stand::serving(switches()[0], 3).await;
        let (_, engine) = lagging(&stand, true, pace);
        let rollout = engine.start(stand.spec("2", strategy)).await.unwrap();
        until("started", &rollout, || !stand.ids("2").is_empty() || stand.cloud.instances().len() < 3).await;
        rollout.abort("enough").await.unwrap();
        let end = outcome(&rollout).await;
        assert!(matches!(end, Outcome::RolledBack { .. }), "{end}");
        left_over.push(stand.ids("2").len());
        assert_eq!(stand.ids("1").len(), 3);
    }
    left_over
}

#[tokio::test(start_paused = true)]
async fn what_is_not_listed_yet_is_not_left_over() {
    let left = left_over(Pace::default()).await;
    assert!(left.iter().all(|left| *left == 0), "{left:?}");
    // Whoever takes the list at its word ends too early.
    let left = left_over(Pace { list_lag: Duration::ZERO, ..Pace::default() }).await;
    assert!(left.iter().any(|left| *left > 0), "{left:?}");
}

/// A rollout that is superseded as soon as it has started instances that the lists do not show yet.
#[tokio::test(start_paused = true)]
async fn what_a_superseded_rollout_started_has_its_place_in_the_surge() {
    for strategy in [Strategy::blue_green(), Strategy::rolling()] {
        let stand = Stand::serving(switches()[0], 3).await;
        let (_, engine) = lagging(&stand, true, Pace::default());
        let rollout = engine.start(stand.spec("2", strategy.clone())).await.unwrap();
        until("started", &rollout, || !stand.ids("2").is_empty()).await;
        let next = engine.supersede(stand.spec("3", strategy)).await.unwrap();
        assert_eq!(outcome(&next).await, Outcome::Promoted);
        let (peak, most) = (stand.cloud.peak_instances(), next.plan().budget.ceiling());
        assert!(peak <= most, "{peak} of {most}:\n{}", stand.cloud.log().join("\n"));
        stand.assert_only("3", 3, "superseded").await;
    }
}
