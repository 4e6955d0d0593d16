//! When a canary is judged, and what counts: neither what was not its fault, nor time in which nothing could go on.

use immutable_core::analysis::{Analysis, AtDeadline, Check};
use immutable_core::engine::{Event, Outcome, Reason, Rollout};
use immutable_core::model::InstanceId;
use immutable_core::plan::{Amount, StageSpec, Strategy};
use immutable_core::provider::ErrorKind;
use immutable_core::testkit::{Behaviour, Operation, SimOptions};
use jiff::{SignedDuration, Timestamp};

use super::harness::{Stand, events, minutes, outcome, switches, until, until_waiting};
use super::judged_fleets::analysis;
use super::weather::Outside;

const AT_FAULT: &str = "the environment to be well again";

/// A tenth of the traffic, on so many instances.
fn tenth(size: u32) -> StageSpec {
    StageSpec::percent(10).unwrap().size(Amount::Count(size))
}

fn canary(size: u32, analysis: Analysis) -> Strategy {
    Strategy::canary([tenth(size)]).analysis(analysis)
}

fn alive(stand: &Stand, version: &str) -> Option<InstanceId> {
    stand.instances(version).into_iter().find(|instance| instance.is_good).map(|instance| instance.id)
}

/// Kills an instance of a release, once one of those that it has is good.
async fn kill_one(stand: &Stand, rollout: &Rollout, version: &str) {
    until("an instance to kill", rollout, || alive(stand, version).is_some()).await;
    assert!(stand.cloud.kill(&alive(stand, version).unwrap()));
    tokio::time::sleep(minutes(2)).await;
}

/// When the first of these events was.
fn first(events: &[Event], is: impl Fn(&Event) -> Option<Timestamp>) -> Timestamp {
    events.iter().find_map(is).unwrap_or_else(|| panic!("{events:#?}"))
}

#[tokio::test(start_paused = true)]
async fn as_many_instances_as_the_canary_has_may_crash() {
    let stand = Stand::serving(switches()[0], 4).await;
    let patient = analysis().minimum_time(minutes(30)).max_crashes(1);
    let rollout = stand.start("2", canary(3, patient)).await;
    until_waiting(&rollout, "errors: ").await;
    for _ in 0..2 {
        kill_one(&stand, &rollout, "2").await;
        assert_eq!(rollout.status().going_back, None);
    }
    kill_one(&stand, &rollout, "2").await;
    let Outcome::RolledBack { reason, .. } = outcome(&rollout).await else { panic!("{:?}", rollout.status()) };
    assert!(reason.to_string().contains("3 instances of the new release died"), "{reason}");
}

#[tokio::test(start_paused = true)]
async fn instances_of_the_old_release_that_crash_do_not_count() {
    let stand = Stand::serving(switches()[0], 4).await;
    let rollout = stand.start("2", canary(1, analysis().minimum_time(minutes(30)).max_crashes(1))).await;
    until_waiting(&rollout, "errors: ").await;
    let baseline = rollout.plan().baseline.clone().unwrap();
    for _ in 0..5 {
        kill_one(&stand, &rollout, "1").await;
        assert_eq!(rollout.status().going_back, None);
        let beside = stand.cloud.instances().into_iter().find(|instance| instance.fleet == baseline);
        assert!(stand.cloud.kill(&beside.unwrap().id));
        tokio::time::sleep(minutes(2)).await;
    }
    assert_eq!(outcome(&rollout).await, Outcome::Promoted);
}

#[tokio::test(start_paused = true)]
async fn instances_that_crash_with_the_environment_do_not_count() {
    let stand = Stand::serving(switches()[0], 4).await;
    let rollout = stand.start("2", canary(1, analysis().max_crashes(1))).await;
    until_waiting(&rollout, "errors: ").await;
    let bad = |behaviour| ["1", "2"].map(|version| stand.cloud.behave(stand.id(version), behaviour));
    // With the canary goes most of the old fleet: what is seen at once is not known to be at fault yet.
    for id in stand.ids("2").into_iter().chain(stand.ids("1").into_iter().take(4)) {
        assert!(stand.cloud.kill(&id));
    }
    bad(Behaviour::NeverHealthy);
    until_waiting(&rollout, AT_FAULT).await;
    for _ in 0..5 {
        until("another one", &rollout, || !stand.ids("2").is_empty()).await;
        stand.ids("2").iter().for_each(|id| _ = stand.cloud.kill(id));
        tokio::time::sleep(minutes(2)).await;
    }
    assert!(rollout.status().waiting.join("").contains(AT_FAULT), "{:#?}", rollout.status());
    bad(Behaviour::Good);
    assert_eq!(outcome(&rollout).await, Outcome::Promoted);
}

#[tokio::test(start_paused = true)]
async fn what_was_measured_before_and_while_the_environment_was_at_fault_says_nothing() {
    // Or the baseline does not suffer, so that the canary looks worse than it.
    for all_suffer in [true, false] {
        let outside = Outside::serving(switches()[0], 4).await;
        let check = Check::at_most("errors".parse().unwrap(), 0.01).min_count(500);
        let step = tenth(1).check(check).approval("more".parse().unwrap());
        let rollout = outside.start("2", Strategy::canary([step]).analysis(analysis())).await;
        // It passed, and waits for somebody.
        until("passed", &rollout, || {
            let waiting = rollout.status().waiting.join("; ");
            waiting.contains("somebody to approve more") && !waiting.contains("more data")
        })
        .await;
        let fleets = [outside.stand.fleet("1"), outside.stand.fleet("2"), rollout.plan().baseline.clone().unwrap()];
        let fleets = &fleets[..if all_suffer { 3 } else { 2 }];
        let errors_everywhere = |per_mille| {
            for fleet in fleets {
                outside.weather.errors(fleet.clone(), per_mille);
            }
        };
        errors_everywhere(400);
        until_waiting(&rollout, AT_FAULT).await;
        tokio::time::sleep(minutes(30)).await;
        rollout.approve("more".parse().unwrap()).await.unwrap();
        errors_everywhere(0);
        assert_eq!(outcome(&rollout).await, Outcome::Promoted);
        let events = events(&rollout).await;
        let held = first(&events, |event| if let Event::Held { at, .. } = event { Some(*at) } else { None });
        let over = first(&events, |event| if let Event::WentOn { at, .. } = event { Some(*at) } else { None });
        let left = first(&events, |event| if let Event::StageEntered { at, .. } = event { Some(*at) } else { None });
        let judged = |event: &&Event| matches!(event, Event::Judged { at, .. } if *at > held && *at <= over);
        assert_eq!(events.iter().filter(judged).count(), 0, "{events:#?}");
        assert!(left.duration_since(over) >= SignedDuration::from_mins(5), "{held} {over} {left}");
    }
}

/// What can stop a rollout, or hold it.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Stop {
    Pause,
    Freeze,
    Shortage,
}

impl Stop {
    async fn begin(self, outside: &Outside, rollout: &Rollout) {
        match self {
            Self::Pause => rollout.pause().await.unwrap(),
            Self::Freeze => outside.engine.freeze("an incident").await,
            Self::Shortage => {
                outside.weather.fail(&[Operation::EnsureFleet], ErrorKind::Capacity, None);
                assert!(outside.stand.cloud.kill(&outside.stand.ids("2")[0]));
                until_waiting(rollout, "no capacity").await;
            }
        }
    }

    async fn end(self, outside: &Outside, rollout: &Rollout) {
        match self {
            Self::Pause => rollout.resume().await.unwrap(),
            Self::Freeze => outside.engine.thaw().await,
            Self::Shortage => outside.weather.clear(),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn time_in_which_nothing_could_go_on_puts_the_deadline_off() {
    for stop in [Stop::Pause, Stop::Freeze, Stop::Shortage] {
        let stand = Stand::with(SimOptions { requests_per_second: 2, ..SimOptions::default() });
        stand.install(4).await;
        let outside = Outside::of(stand);
        let never = analysis().minimum_requests(1_000_000).deadline(minutes(30)).at_deadline(AtDeadline::GoBack);
        let rollout = outside.start("2", canary(1, never)).await;
        until_waiting(&rollout, "errors: ").await;
        tokio::time::sleep(minutes(5)).await;
        stop.begin(&outside, &rollout).await;
        tokio::time::sleep(minutes(60)).await;
        stop.end(&outside, &rollout).await;
        let Outcome::RolledBack { reason, .. } = outcome(&rollout).await else { panic!("{:?}", rollout.status()) };
        assert!(matches!(reason, Reason::NotJudged { .. }), "{stop:?}: {reason}");
        let events = events(&rollout).await;
        let reached = first(&events, |event| if let Event::GoalReached { at, .. } = event { Some(*at) } else { None });
        let turned = first(&events, |event| if let Event::TurnedBack { at, .. } = event { Some(*at) } else { None });
        let stopped = first(&events, |event| match event {
            Event::Paused { at } | Event::Frozen { at, .. } | Event::Held { at, .. } => Some(*at),
            _ => None,
        });
        let went_on = first(&events, |event| match event {
            Event::Resumed { at } | Event::Thawed { at } | Event::WentOn { at, .. } => Some(*at),
            _ => None,
        });
        let stopped = went_on.duration_since(stopped);
        assert!(stopped >= SignedDuration::from_mins(60), "{stop:?}: {stopped}");
        let late = turned.duration_since(reached) - stopped - SignedDuration::from_mins(30);
        assert!((SignedDuration::ZERO..SignedDuration::from_mins(1)).contains(&late), "{stop:?}: {late}");
    }
}
