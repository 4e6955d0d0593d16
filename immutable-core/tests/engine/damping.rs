//! One look, or one word of the balancer, decides nothing; and what was healthy once is not trusted for ever.

use std::time::Duration;

use immutable_core::engine::Outcome;
use immutable_core::plan::{StageSpec, Strategy};
use immutable_core::provider::{ErrorKind, MemberHealth, SwitchKind};
use immutable_core::testkit::Operation;

use super::harness::{minutes, outcome, switches, until, until_waiting};
use super::weather::Outside;

fn baking() -> Strategy {
    Strategy::blue_green().bake(minutes(60))
}

#[tokio::test(start_paused = true)]
async fn flapping_damped() {
    for switch in switches() {
        let outside = Outside::serving(switch, 3).await;
        let rollout = outside.start("2", baking()).await;
        until_waiting(&rollout, "the hold").await;
        let (log, ids) = (outside.stand.cloud.log().len(), outside.stand.ids("2"));
        for _ in 0..10 {
            outside.weather.say(&ids[0], Some(MemberHealth::Unhealthy));
            tokio::time::sleep(Duration::from_secs(7)).await;
            outside.weather.say(&ids[0], None);
            tokio::time::sleep(minutes(3)).await;
        }
        assert_eq!(outside.stand.ids("2"), ids);
        let since = outside.stand.cloud.log().split_off(log);
        // On a switch by membership, one that stands by helps out for the time.
        let helps = |line: &String| switch == SwitchKind::Membership && line.contains("apply route");
        let touched = |line: &String| ids.iter().any(|id| line.contains(id.as_str()));
        assert!(since.iter().all(|line| helps(line) && !touched(line)), "{switch:?}: {since:#?}");
        assert_eq!(outcome(&rollout).await, Outcome::Promoted);
    }
}

#[tokio::test(start_paused = true)]
async fn a_member_that_the_balancer_condemns_again_and_again_is_replaced() {
    let outside = Outside::serving(switches()[0], 3).await;
    let rollout = outside.start("2", baking()).await;
    until_waiting(&rollout, "the hold").await;
    let ill = outside.stand.ids("2")[0].clone();
    outside.weather.say(&ill, Some(MemberHealth::Unhealthy));
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert!(outside.stand.cloud.members().iter().any(|member| member.instance == ill && is_in(member.health)));
    until("replaced", &rollout, || !outside.stand.ids("2").contains(&ill)).await;
    assert_eq!(outcome(&rollout).await, Outcome::Promoted);
    outside.stand.assert_only("2", 3, "replaced").await;
}

fn is_in(health: MemberHealth) -> bool {
    health != MemberHealth::Draining
}

#[tokio::test(start_paused = true)]
async fn a_member_that_flaps_is_no_capacity_for_new_weight() {
    let outside = Outside::serving(switches()[0], 4).await;
    let held = StageSpec::percent(25).unwrap().approval("more".parse().unwrap());
    let rollout = outside.start("2", Strategy::canary([held])).await;
    until_waiting(&rollout, "approve more").await;
    let flapping = outside.stand.ids("2")[0].clone();
    outside.weather.say(&flapping, Some(MemberHealth::Unhealthy));
    tokio::time::sleep(Duration::from_secs(6)).await;
    rollout.approve("more".parse().unwrap()).await.unwrap();
    for bad in [false, true].repeat(8) {
        outside.weather.say(&flapping, bad.then_some(MemberHealth::Unhealthy));
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(outside.weight("2").points(), 2_500);
    }
    assert!(outside.stand.ids("2").contains(&flapping));
    outside.weather.say(&flapping, None);
    assert_eq!(outcome(&rollout).await, Outcome::Promoted);
    outside.stand.assert_only("2", 4, "flapping").await;
}

#[tokio::test(start_paused = true)]
async fn a_probe_error_is_never_taken_as_ill_health() {
    for switch in switches() {
        let outside = Outside::serving(switch, 3).await;
        // While it is in use, and while it is not proven yet: for longer than an instance may take.
        let strategy = || baking().progress_deadline(Duration::from_hours(3)).instance_deadline(minutes(3));
        let rollout = outside.start("2", strategy()).await;
        until("started", &rollout, || outside.stand.ids("2").len() == 3).await;
        let ids = outside.stand.ids("2");
        for _ in 0..2 {
            outside.weather.fail(&[Operation::SampleHealth], ErrorKind::Unavailable, None);
            tokio::time::sleep(minutes(30)).await;
            assert!(rollout.status().waiting.join("").contains("health looks to work again"), "{switch:?}");
            outside.weather.clear();
            until_waiting(&rollout, "the hold").await;
        }
        assert_eq!(outcome(&rollout).await, Outcome::Promoted);
        assert_eq!(outside.stand.ids("2"), ids, "{switch:?}: {}", outside.stand.cloud.log().join("\n"));
    }
}

#[tokio::test(start_paused = true)]
async fn health_latched_once_is_not_trusted_later() {
    let outside = Outside::serving(switches()[0], 4).await;
    let held = StageSpec::percent(25).unwrap().approval("more".parse().unwrap());
    let rollout = outside.start("2", Strategy::canary([held])).await;
    until_waiting(&rollout, "approve more").await;
    // Everybody was healthy; now nobody can look, and they may be anything.
    outside.weather.fail(&[Operation::SampleHealth], ErrorKind::Unavailable, None);
    tokio::time::sleep(minutes(1)).await;
    rollout.approve("more".parse().unwrap()).await.unwrap();
    let log = outside.stand.cloud.log();
    tokio::time::sleep(minutes(4)).await;
    assert_eq!((outside.stand.cloud.log(), outside.weight("2").points()), (log, 2_500));
    assert!(rollout.status().waiting.join("").contains("in traffic; nothing is moved meanwhile"));
    outside.weather.clear();
    assert_eq!(outcome(&rollout).await, Outcome::Promoted);
}
