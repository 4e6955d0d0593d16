//! What a seed draws: the cloud, the releases, the strategy.

use std::time::Duration;

use immutable_core::analysis::{Against, Analysis, AtDeadline, Check, Compared};
use immutable_core::model::Weight;
use immutable_core::plan::{Amount, StageSpec, Strategy};
use immutable_core::provider::SwitchKind;
use immutable_core::testkit::{Behaviour, Faults, SimCloud, SimOptions};

use crate::random::Random;
use crate::story::{INTERVAL, LEAST_REQUESTS, MOST_ERRORS};

pub(crate) fn options(random: &Random) -> SimOptions {
    let step = Weight::basis_points(*random.of(&[1, 100, 500]).unwrap()).unwrap();
    let switch = if random.below(2) == 0 { SwitchKind::Membership } else { SwitchKind::Weighted { step } };
    SimOptions {
        switch,
        boot: random.seconds(90),
        register_after: random.seconds(30),
        drain_for: random.seconds(60),
        end_after: random.seconds(60),
        // None at all, hardly any, and enough.
        requests_per_second: *random.of(&[0, 1, 100, 100]).unwrap(),
        ..SimOptions::default()
    }
}

pub(crate) fn behaviour(random: &Random) -> Behaviour {
    match random.below(10) {
        0 => Behaviour::NeverHealthy,
        1 => Behaviour::NeverBoots,
        2 => Behaviour::DiesAfter(random.seconds(900)),
        3 => Behaviour::UnhealthyAfter(random.seconds(900)),
        4 => Behaviour::Errors { per_mille: u32::try_from(random.below(60)).unwrap() },
        _ => Behaviour::Good,
    }
}

/// What serves is ill, dead or gone.
pub(crate) fn break_what_serves(random: &Random, cloud: &SimCloud) {
    let how = random.below(3);
    for instance in cloud.instances() {
        match how {
            0 => _ = cloud.kill(&instance.id),
            1 => _ = cloud.end(&instance.id),
            _ => cloud.behave(instance.release, Behaviour::NeverHealthy),
        }
    }
}

/// Without what could keep a good release from going out.
pub(crate) fn only_slow(faults: Faults) -> Faults {
    Faults { lost: 0, late: 0, never_boots: 0, dies: 0, falters: 0, shortage: 0, crowded: 0, zone_loss: 0, ..faults }
}

fn check() -> Check {
    #[expect(clippy::cast_precision_loss, reason = "a few percent")]
    let bound = MOST_ERRORS as f64 / 100.0;
    Check::at_most("errors".parse().unwrap(), bound).min_count(LEAST_REQUESTS)
}

/// How canaries of every fourth seed are judged, where there is any traffic to judge them by.
pub(crate) fn analysis(seed: u64, options: &SimOptions) -> Option<Analysis> {
    let random = Random::new(seed ^ u64::MAX);
    (seed % 4 == 1 && options.requests_per_second > 0).then(|| {
        let against = *random.of(&[Against::Baseline, Against::Baseline, Against::OldFleet]).unwrap();
        let at_deadline = *random.of(&[AtDeadline::Hold, AtDeadline::GoBack]).unwrap();
        let errors = Compared::new("errors".parse().unwrap());
        let errors = if random.below(3) == 0 { errors.at_most(0.05) } else { errors.acceptable(0.05) };
        Analysis::of([errors])
            .against(against)
            .at_deadline(at_deadline)
            .deadline(Duration::from_mins(30))
            .minimum_time(Duration::from_mins(1))
            .minimum_requests(LEAST_REQUESTS)
            .minimum_instances(1)
            .interval(INTERVAL)
            .max_crashes(1_000)
    })
}

pub(crate) fn strategy(random: &Random, desired: u32, switch: SwitchKind, analysis: Option<Analysis>) -> Strategy {
    let whole = |name: &str, weight| StageSpec::new(name, weight).size(Amount::Percent(100));
    let strategy = match random.below(6) {
        0 => Strategy::blue_green(),
        1 => Strategy::rolling(),
        2 => {
            let unavailable = u32::try_from(random.below(u64::from(desired.min(2)))).unwrap();
            Strategy::rolling().max_surge(Amount::Count(1)).max_unavailable(Amount::Count(unavailable))
        }
        3 => {
            let dark = gated(random, whole("dark", Weight::NONE).hold(random.seconds(600)), false);
            Strategy::stages("own", [dark, whole("all", Weight::FULL)]).retain_old_for(random.seconds(600))
        }
        _ => {
            let canary = Strategy::canary(canary(random, desired, switch));
            analysis.into_iter().fold(canary, Strategy::analysis)
        }
    };
    let strategy = if random.below(4) == 0 { strategy.watch([check()]) } else { strategy };
    strategy.bake(random.seconds(3_600))
}

/// A first instance with a share of the traffic that it can carry; where weights can be chosen, half of the traffic after it.
fn canary(random: &Random, desired: u32, switch: SwitchKind) -> Vec<StageSpec> {
    let one = |points: u32| {
        let weight = Weight::basis_points(u16::try_from(points).unwrap()).unwrap();
        let stage = StageSpec::new("one", weight).size(Amount::Count(1)).hold(random.seconds(900));
        gated(random, stage, true)
    };
    let whole = u32::from(Weight::FULL.points());
    match switch {
        SwitchKind::Membership => vec![one(whole / (desired + 1))],
        SwitchKind::Weighted { .. } => {
            let most = (whole / desired / 500).min(10);
            let half = StageSpec::percent(50).unwrap().hold(random.seconds(900));
            let first = one(500 * (1 + u32::try_from(random.below(u64::from(most))).unwrap()));
            vec![first, gated(random, half, true)]
        }
    }
}

/// The stage, with a gate as often as not. Without traffic there is nothing to measure.
fn gated(random: &Random, stage: StageSpec, measured: bool) -> StageSpec {
    let stage = if random.below(3) == 0 { stage.approval("more".parse().unwrap()) } else { stage };
    if measured && random.below(2) == 0 { stage.check(check()) } else { stage }
}
