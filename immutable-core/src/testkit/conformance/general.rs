//! The clauses that hold for every provider, tested where a fleet, an image or a route shows them.

use std::pin::pin;
use std::time::Duration;

use futures_util::future::select;

use super::bench::{Bench, Check, Seen, hold};
use super::harness::{Ability, Fault, Ownership, Version};
use super::report::Part;
use super::world::{ids, proof};
use crate::model::{FleetId, FleetSpec};
use crate::provider::{Effect, ErrorKind, Platform};
use crate::testkit::Operation;

impl Bench<'_> {
    /// Whether fleets are under test; without them, most of the general clauses have nothing to be seen at.
    fn has_fleets(&self) -> bool {
        let under_test = self.tests(Part::Fleets);
        if !under_test {
            self.gap("fleets", "they are not under test");
        }
        under_test
    }

    /// Exactly so many instances of a fleet exist.
    async fn count_is(&self, fleet: &FleetId, expected: usize, when: &str) -> Check {
        let found = ids(&self.instances(fleet).await?);
        hold!(found.len() == expected, "{when}, {} instances exist instead of {expected}: {found:?}", found.len());
        Ok(())
    }
}

pub(super) async fn g1_one_attempt(bench: &Bench<'_>) -> Check {
    if bench.has_fleets() {
        // Each call of these is timed.
        let spec = bench.spec(Version::Old, 1).await;
        bench.ensure(&spec).await?;
        if bench.inject(Fault::Throttle(Operation::ObserveFleets)).await? {
            let (cx, service) = (bench.cx("observe while throttled"), bench.harness.service());
            let answer = bench.call("observe", bench.platform.fleets.observe(&cx, &service)).await?;
            let kind = answer.as_ref().err().map(crate::provider::ProviderError::kind);
            hold!(kind == Some(ErrorKind::Throttled), "a throttled `observe` answered {answer:?}: it was tried again");
            bench.look().await?;
        }
    }
    if bench.tests(Part::Traffic) && bench.inject(Fault::Throttle(Operation::ObserveRoute)).await? {
        let (cx, route) = (bench.cx("observe the route while throttled"), bench.harness.route());
        let call = bench.platform.traffic.observe(&cx, &route);
        let answer = bench.call("observe of the route", call).await?;
        let kind = answer.as_ref().err().map(crate::provider::ProviderError::kind);
        hold!(kind == Some(ErrorKind::Throttled), "a throttled look at the route answered {answer:?}");
    }
    Ok(())
}

pub(super) async fn g2_idempotent(bench: &Bench<'_>) -> Check {
    if !bench.has_fleets() {
        return Ok(());
    }
    let spec = bench.spec(Version::Old, 2).await;
    if bench.inject(Fault::LoseAnswer(Operation::EnsureFleet)).await? {
        // What came of it is unknown to the caller, who sends the same again.
        let _ = bench.try_ensure(&spec, "the one intent").await?;
    }
    bench.ensure_as(&spec, "the one intent").await?;
    bench.count_is(&spec.id, 2, "after the same `ensure` of 2 sent again").await?;
    let running = bench.running(Version::Old, 2).await?;
    let victim = std::slice::from_ref(&running[0].id);
    let proof = proof(&spec.id, victim, bench.harness.now())?;
    let cx = bench.cx("the one retirement");
    if bench.inject(Fault::LoseAnswer(Operation::Retire)).await? {
        let _ = bench.call("retire", bench.platform.fleets.retire(&cx, &proof)).await?;
    }
    bench.done("retire", || bench.platform.fleets.retire(&cx, &proof)).await?;
    let alive = ids(&bench.alive(&spec.id).await?);
    hold!(
        alive == ids(&running[1..]),
        "after the same `retire` sent again, {alive:?} of {:?} are alive",
        ids(&running)
    );
    Ok(())
}

pub(super) async fn g3_honest_errors(bench: &Bench<'_>) -> Check {
    if !bench.has_fleets() {
        return Ok(());
    }
    let spec = bench.spec(Version::Old, 1).await;
    if bench.inject(Fault::LoseAnswer(Operation::EnsureFleet)).await? {
        match bench.try_ensure(&spec, "with a lost answer").await? {
            Ok(answer) => return Err(Seen(format!("a call whose answer was lost answered {answer:?}"))),
            Err(error) => hold!(
                error.effect() == Effect::Unknown,
                "the answer was lost, and the error denies an effect: {error:?}"
            ),
        }
    }
    bench.ensure(&spec).await?;
    if bench.inject(Fault::Throttle(Operation::EnsureFleet)).await? {
        let more = FleetSpec { size: 2, ..spec.clone() };
        match bench.try_ensure(&more, "while throttled").await? {
            Ok(answer) => return Err(Seen(format!("a throttled call answered {answer:?}"))),
            Err(error) => {
                hold!(error.kind() == ErrorKind::Throttled, "a throttled call failed as something else: {error}");
                let claim = error.effect();
                let found = bench.instances(&spec.id).await?.len();
                hold!(
                    claim == Effect::Unknown || found == 1,
                    "an error without effect left {found} instances instead of 1"
                );
            }
        }
    }
    Ok(())
}

pub(super) async fn g4_tagged(bench: &Bench<'_>) -> Check {
    if !bench.has_fleets() {
        return Ok(());
    }
    let spec = bench.spec(Version::Old, 1).await;
    bench.ensure(&spec).await?;
    let instances = bench.instances(&spec.id).await?;
    let expected =
        Ownership { service: spec.service.clone(), release: spec.release.id(), rollout: spec.rollout.clone() };
    for instance in &instances {
        let ownership = bench.harness.ownership(&instance.id).await;
        if bench.able(Ability::Ownership, ownership.is_some())? {
            hold!(ownership.as_ref() == Some(&expected), "{} is tagged {ownership:?}, not {expected:?}", instance.id);
        }
    }
    let reopened = bench.harness.reopen();
    if !bench.able(Ability::Reopen, reopened.is_some())? {
        return Ok(());
    }
    let Some(Platform { fleets, .. }) = reopened else { return Ok(()) };
    let (cx, service) = (bench.cx("observe anew"), bench.harness.service());
    let state = bench.good("observe by a provider without memory", fleets.observe(&cx, &service)).await?;
    let found = state.fleets.iter().find(|fleet| fleet.id == spec.id);
    let same =
        found.is_some_and(|fleet| fleet.release == spec.release.id() && ids(&fleet.instances) == ids(&instances));
    hold!(same, "a provider without memory sees {found:?} of {} with {:?}", spec.id, ids(&instances));
    Ok(())
}

pub(super) async fn g5_complete(bench: &Bench<'_>) -> Check {
    if bench.has_fleets() {
        let many = bench.spec(Version::Old, bench.harness.many()).await;
        let empty = bench.spec(Version::New, 0).await;
        bench.ensure(&many).await?;
        bench.ensure(&empty).await?;
        bench.count_is(&many.id, many.size as usize, "after one `ensure` of a large fleet").await?;
        hold!(bench.fleet(&empty.id).await?.is_some(), "beside a large fleet, an empty one is not listed");
    }
    if bench.tests(Part::Images) {
        let mut built = Vec::new();
        for version in [Version::Old, Version::New] {
            built.push(bench.build(&bench.image_spec(version)).await?);
        }
        let listed = bench.images().await?;
        let missing = built.iter().find(|image| !listed.contains(image));
        hold!(missing.is_none(), "{missing:?} was built and is not in `list`");
    }
    Ok(())
}

pub(super) async fn g6_cancellation(bench: &Bench<'_>) -> Check {
    if !bench.has_fleets() {
        return Ok(());
    }
    let spec = bench.spec(Version::Old, 2).await;
    for millis in [0, 10, 40] {
        let cx = bench.cx("ensure, dropped");
        let call = bench.platform.fleets.ensure(&cx, &spec);
        drop(select(pin!(call), bench.harness.wait(Duration::from_millis(millis))).await);
        let found = bench.instances(&spec.id).await?.len();
        hold!(found <= 2, "an `ensure` of 2 that was dropped after {millis} ms left {found} instances");
    }
    bench.ensure_as(&spec, "ensure, dropped").await?;
    bench.count_is(&spec.id, 2, "after a dropped `ensure` of 2 sent again").await
}

pub(super) async fn g7_no_secrets(bench: &Bench<'_>) -> Check {
    let secrets = bench.harness.secrets();
    if !bench.able(Ability::Secrets, !secrets.is_empty())? {
        for version in [Version::Old, Version::New] {
            let release = bench.harness.release(version).await;
            let given = &release.launch().secrets;
            hold!(given.is_empty(), "the harness names no secrets, and {version:?} is given {given:?}");
        }
        return Ok(());
    }
    bench.hear(format!("{:?}", bench.platform));
    let spec = bench.spec(Version::Old, 1).await;
    bench.ensure(&spec).await?;
    // A refusal has the most to say about what was asked for.
    let foreign = FleetSpec { release: bench.harness.release(Version::New).await, ..spec };
    let _ = bench.try_ensure(&foreign, "another release").await?;
    let said = bench.said();
    for (number, secret) in secrets.iter().enumerate() {
        let told = said.iter().any(|words| words.contains(secret.as_str()));
        hold!(!told, "secret {number} of the harness is in an error, a note or a `Debug` of the provider");
    }
    Ok(())
}
