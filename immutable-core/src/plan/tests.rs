//! Strategies against facts: what plans come out, and which are refused in which words.

mod baseline;
mod make_way;
mod resize;

use std::time::Duration;

use super::*;
use crate::analysis::{Analysis, Check, Compared};
use crate::health::HealthPolicy;
use crate::model::{
    Fingerprint, Image, ImageLabels, LaunchSpec, Lifecycle, ObservedFleet, ObservedInstance, Split, Weight,
};
use crate::provider::{FleetsState, ProvisionerCapabilities, TrafficCapabilities, VersionCheck};

fn release(version: &str) -> Release {
    let labels = ImageLabels { version: version.to_owned(), commit: None, built_at: jiff::Timestamp::UNIX_EPOCH };
    let id = format!("image-{version}").parse().unwrap();
    Release::new(Image { id, fingerprint: Fingerprint::of(version), parents: vec![], labels }, LaunchSpec::default())
}

fn fleet_of(version: &str) -> FleetId {
    FleetId::of(&"web".parse().unwrap(), &release(version).id())
}

/// A world in which so many instances of release 1 serve, and what its providers can do.
struct Given {
    serving: usize,
    switch: SwitchKind,
    max_fleet_size: Option<u32>,
    max_fleets: Option<u32>,
    proven: bool,
}

const WEIGHTED: SwitchKind = SwitchKind::Weighted { step: Weight::NONE };

fn given(serving: usize) -> Given {
    let step = Weight::basis_points(1).unwrap();
    Given { serving, switch: SwitchKind::Weighted { step }, max_fleet_size: None, max_fleets: None, proven: true }
}

impl Given {
    fn plan(&self, version: &str, strategy: Strategy, desired: Option<u32>) -> Result<Plan, PlanError> {
        let instance = |number: usize| ObservedInstance {
            id: format!("i-{number}").parse().unwrap(),
            lifecycle: Lifecycle::Running,
            image: None,
            endpoint: None,
            started_at: jiff::Timestamp::UNIX_EPOCH,
        };
        let serves = self.serving > 0;
        let fleet = ObservedFleet {
            id: fleet_of("1"),
            release: release("1").id(),
            instances: (0..self.serving).map(instance).collect(),
            wanted: None,
        };
        let fleets =
            FleetsState { as_of: jiff::Timestamp::UNIX_EPOCH, fleets: serves.then_some(fleet).into_iter().collect() };
        let split = if serves { Split::all_to(fleet_of("1")) } else { Split::closed() };
        self.plan_in(&fleets, &split, version, strategy, desired)
    }

    fn plan_in(
        &self,
        fleets: &FleetsState,
        split: &Split,
        version: &str,
        strategy: Strategy,
        desired: Option<u32>,
    ) -> Result<Plan, PlanError> {
        let proven = if self.proven { vec![release("1")] } else { vec![] };
        let facts = Facts {
            fleets,
            split,
            provisioner: ProvisionerCapabilities { max_fleet_size: self.max_fleet_size },
            traffic: TrafficCapabilities {
                kind: self.switch,
                max_fleets: self.max_fleets,
                version_check: VersionCheck::WithTheChange,
            },
            proven: &proven,
            superseded: None,
        };
        let mut spec = RolloutSpec::new("web".parse().unwrap(), "route".parse().unwrap(), release(version), strategy);
        spec.desired = desired;
        compile(&spec, &facts)
    }

    /// The stages of a plan, in one line each, with short names for the fleets.
    fn stages(&self, strategy: Strategy) -> Vec<String> {
        let plan = self.plan("2", strategy, None).unwrap();
        let short = |text: String| text.replace(fleet_of("1").as_str(), "old").replace(fleet_of("2").as_str(), "new");
        plan.stages.iter().map(|stage| short(format!("{}: {}", stage.name, stage.goal))).collect()
    }
}

fn canary(percents: &[u16]) -> Strategy {
    Strategy::canary(percents.iter().map(|percent| StageSpec::percent(*percent).unwrap()))
}

#[test]
fn strategies_become_stages() {
    assert_eq!(
        given(4).stages(Strategy::blue_green()),
        [
            "start: 4 x new at 0 %, 4 x old at 100 %",
            "switch: 4 x new at 100 %, 4 x old at 0 %",
            "retire: 4 x new at 100 %",
        ]
    );
    assert_eq!(given(4).stages(Strategy::rolling()), ["roll: 4 x new at 100 %"]);
    assert_eq!(
        given(4).stages(canary(&[5, 25, 50])),
        [
            "5 %: 1 x new at 5 %, 4 x old at 95 %",
            "25 %: 1 x new at 25 %, 4 x old at 75 %",
            "50 %: 2 x new at 50 %, 4 x old at 50 %",
            "switch: 4 x new at 100 %, 4 x old at 0 %",
            "retire: 4 x new at 100 %",
        ]
    );
    // With little room the old fleet shrinks as the new one grows.
    assert_eq!(
        given(4).stages(canary(&[25, 50]).max_surge(Amount::Count(1))),
        [
            "25 %: 1 x new at 25 %, 4 x old at 75 %",
            "50 %: 2 x new at 50 %, 3 x old at 50 %",
            "switch: 4 x new at 100 %",
        ]
    );
    assert_eq!(
        given(10).stages(Strategy::blue_green().retain_old_for(Duration::from_hours(1))),
        [
            "start: 10 x new at 0 %, 10 x old at 100 %",
            "switch: 10 x new at 100 %, 10 x old at 0 %",
            "retain: 10 x new at 100 %, 10 x old at 0 %",
            "retire: 10 x new at 100 %",
        ]
    );
    let dark = StageSpec::new("dark", Weight::NONE).size(Amount::Count(1));
    assert_eq!(given(4).stages(Strategy::stages("mine", [dark]))[0], "dark: 1 x new at 0 %, 4 x old at 100 %");
}

#[test]
fn a_first_install_is_proven_in_the_dark_and_then_opened() {
    let plan = given(0).plan("2", canary(&[5]), Some(3)).unwrap();
    let stages: Vec<_> = plan.stages.iter().map(|stage| stage.name.as_str()).collect();
    assert_eq!(stages, ["start", "switch"]);
    assert!(plan.stages[0].goal.split().is_closed());
    assert_eq!(plan.way_back().unwrap().0, Goal::nothing());
}

#[test]
fn the_way_back_leads_only_to_what_was_proven() {
    let proven = given(4).plan("2", Strategy::rolling(), None).unwrap();
    assert_eq!(proven.way_back().unwrap().0, Goal::only(fleet_of("1"), 4).unwrap());
    let unproven = Given { proven: false, ..given(4) }.plan("2", Strategy::rolling(), None).unwrap();
    assert_eq!(unproven.way_back(), None);
    // The same release again goes back to itself.
    let same = given(4).plan("1", Strategy::blue_green(), None).unwrap();
    assert_eq!(same.way_back().unwrap().0, Goal::only(fleet_of("1"), 4).unwrap());
    assert_eq!(same.stages.len(), 1);
}

#[test]
#[expect(clippy::too_many_lines, reason = "it is a table")]
fn an_impossible_plan_is_refused_in_words_that_say_what_to_do() {
    let percent = |percent| StageSpec::percent(percent).unwrap();
    let one = |stage: StageSpec| Strategy::canary([stage]);
    let errors = |bound| Check::at_most("errors".parse().unwrap(), bound);
    let coarse =
        |serving| Given { switch: SwitchKind::Weighted { step: Weight::percent(10).unwrap() }, ..given(serving) };
    let members = |serving| Given { switch: SwitchKind::Membership, ..given(serving) };
    let slow = HealthPolicy::builder().minimum_healthy_time(Duration::from_mins(5)).build().unwrap();
    let rolling = Strategy::rolling;
    let cases: Vec<(Given, Strategy, Option<u32>, &str)> = vec![
        (
            given(0),
            rolling(),
            None,
            "desired: the service has no instances to take its size from; say how many it needs",
        ),
        (given(4), rolling(), Some(0), "desired: 0 instances can serve nothing; give at least 1"),
        (
            Given { max_fleet_size: Some(8), ..given(4) },
            rolling(),
            Some(9),
            "desired: 9 instances; the provider's fleets have at most 8",
        ),
        (
            given(4),
            rolling().max_surge(Amount::Count(0)),
            None,
            "max_surge 0 and max_unavailable 0 are both nothing for 4 instances: nothing could ever be replaced; allow one of them at least 1",
        ),
        (
            given(2),
            rolling().max_surge(Amount::Count(0)).max_unavailable(Amount::Percent(20)),
            None,
            "max_surge 0 and max_unavailable 20% are both nothing for 2 instances: nothing could ever be replaced; allow one of them at least 1",
        ),
        (
            given(1),
            rolling().max_unavailable(Amount::Count(1)),
            None,
            "max_unavailable 1 of 1 instances would let nothing serve: allow fewer, and a max_surge of at least 1",
        ),
        (given(4), Strategy::stages("none", []), None, "stages: there are none; give at least one"),
        (
            given(4),
            one(percent(5).size(Amount::Percent(0))),
            None,
            "stage \"5 %\": size 0% of 4 instances is none; give at least 1",
        ),
        (
            given(4),
            one(percent(5).size(Amount::Count(5))),
            None,
            "stage \"5 %\": size 5 is more than the 4 desired instances",
        ),
        (
            given(4),
            Strategy::blue_green().max_surge(Amount::Count(1)),
            None,
            "stage \"start\": 4 new instances beside the old ones that 100 % of the traffic needs are 8, max_surge allows 5; raise max_surge to 4",
        ),
        (
            given(4),
            one(percent(50).size(Amount::Count(1))),
            None,
            "stage \"50 %\": 50 % of the traffic needs 2 of 4 instances, its size is 1; raise the size or lower the weight",
        ),
        (coarse(4), canary(&[5]), None, "stage \"5 %\": the switch cannot express 5 %; its smallest step is 10 %"),
        (
            members(4),
            canary(&[5]),
            None,
            "stage \"5 %\": a switch by membership gives 1 of 5 instances 20 % of the traffic, not 5 %; ask for that weight or another size",
        ),
        (
            Given { max_fleets: Some(1), ..given(4) },
            canary(&[5]),
            None,
            "stage \"5 %\": two fleets would have traffic at once, the switch can do 1; use blue-green",
        ),
        (given(4), rolling().quorum_percent(0), None, "quorum_percent: 0 is not between 1 and 100"),
        (given(4), rolling().quorum_percent(101), None, "quorum_percent: 101 is not between 1 and 100"),
        (
            given(10),
            rolling().quorum_percent(90),
            None,
            "quorum_percent: 90 % of 10 are 9 instances, 10 must serve (desired - max_unavailable); raise max_unavailable to 1",
        ),
        (
            given(4),
            rolling().retain_old_for(Duration::from_hours(24)),
            None,
            "retain_old_for 24h: the old fleet is replaced instance by instance, nothing of it is left to keep; use blue-green, or a canary with a max_surge of 4",
        ),
        (given(4), rolling().progress_deadline(Duration::ZERO), None, "progress_deadline: must be longer than nothing"),
        (given(4), rolling().instance_deadline(Duration::ZERO), None, "instance_deadline: must be longer than nothing"),
        (
            given(4),
            rolling().health(slow),
            None,
            "instance_deadline: 5m is not longer than the minimum healthy time of 5m; no instance could ever be proven",
        ),
        (
            given(4),
            rolling().watch([errors(f64::NAN)]),
            None,
            "check errors at most NaN of 100 or more: the bound must be a number from 0 up",
        ),
        (
            given(4),
            one(percent(5).check(errors(0.1).min_count(0))),
            None,
            "check errors at most 0.1 of 0 or more: min_count must be at least 1: no data is never a pass",
        ),
    ];
    for (given, strategy, desired, expected) in cases {
        let refused =
            given.plan("2", strategy, desired).map(|plan| plan.to_string()).map_err(|error| error.to_string());
        assert_eq!(refused, Err(expected.to_owned()));
    }
}

#[test]
fn a_fleet_name_that_is_taken_is_refused() {
    let taken = ObservedFleet { id: fleet_of("2"), release: release("1").id(), instances: vec![], wanted: None };
    let fleets = FleetsState { as_of: jiff::Timestamp::UNIX_EPOCH, fleets: vec![taken] };
    let facts = Facts {
        fleets: &fleets,
        split: &Split::closed(),
        provisioner: ProvisionerCapabilities::default(),
        traffic: TrafficCapabilities { kind: WEIGHTED, max_fleets: None, version_check: VersionCheck::WithTheChange },
        proven: &[],
        superseded: None,
    };
    let spec = RolloutSpec::new("web".parse().unwrap(), "route".parse().unwrap(), release("2"), Strategy::rolling());
    let expected = format!("fleet {} exists with another release: its name is taken", fleet_of("2"));
    assert_eq!(compile(&spec.desired(1), &facts).map_err(|error| error.to_string()), Err(expected));
}

#[test]
fn a_plan_reads_well_and_survives_its_text() {
    let check = Check::at_most("errors".parse().unwrap(), 0.01);
    let step =
        StageSpec::percent(5).unwrap().hold(Duration::from_mins(10)).check(check).approval("go".parse().unwrap());
    let plan = given(4).plan("2", Strategy::canary([step]).bake(Duration::from_hours(1)), None).unwrap();
    let text = plan.to_string().replace(fleet_of("1").as_str(), "OLD").replace(fleet_of("2").as_str(), "NEW");
    let text = text.replace(&release("1").id().to_string(), "R1").replace(&release("2").id().to_string(), "R2");
    assert_eq!(
        text,
        "canary of web to release R2 (2)\n  \
           back to:  release R1 (1)\n  \
           size:     4 instances, at most 8 at once, at least 4 serving\n  \
           stage 1:  5 %: 1 x NEW at 5 %, 4 x OLD at 95 %\n            \
                     hold for 10m\n            \
                     check errors at most 0.01 of 100 or more\n            \
                     approval go\n  \
           stage 2:  switch: 4 x NEW at 100 %, 4 x OLD at 0 %\n            \
                     hold for 1h\n  \
           stage 3:  retire: 4 x NEW at 100 %\n  \
           limits:   5m for an instance, 10m without progress"
    );
    let json = serde_json::to_string(&plan).unwrap();
    assert_eq!(serde_json::from_str::<Plan>(&json).unwrap(), plan);
}

#[test]
fn a_bad_text_is_refused_with_the_name_of_the_field() {
    let good = serde_json::to_value(canary(&[5]).bake(Duration::from_mins(90))).unwrap();
    assert_eq!(good["bake"], "1h 30m");
    assert_eq!(good.to_string().parse(), Ok(canary(&[5]).bake(Duration::from_mins(90))));
    let cases = [
        ("/bake", serde_json::json!("10 parsecs"), "strategy: bake: "),
        ("/bake", serde_json::json!("-5s"), "strategy: bake: "),
        ("/bake", serde_json::json!(5), "strategy: bake: "),
        (
            "/max_surge",
            serde_json::json!("a few"),
            "strategy: max_surge: amount \"a few\": write a number of instances like 3, or a percent like 25%",
        ),
        ("/max_surge", serde_json::json!(-1), "strategy: max_surge: "),
        (
            "/stages/0/weight",
            serde_json::json!(10_001),
            "strategy: stages[0].weight: weight of 10001 basis points: the whole is 10000",
        ),
        (
            "/stages/0/approval",
            serde_json::json!("a b"),
            "strategy: stages[0].approval: approval name \"a b\": must have only letters, digits, '-', '_', '.' and '/'",
        ),
        (
            "/limits/health/good_looks",
            serde_json::json!(0),
            "strategy: limits.health: health policy: good_looks must be at least 1",
        ),
        ("/limits/progress_deadline", serde_json::json!("soon"), "strategy: limits.progress_deadline: "),
    ];
    for (pointer, value, expected) in cases {
        let mut bad = good.clone();
        *bad.pointer_mut(pointer).unwrap() = value;
        let error = bad.to_string().parse::<Strategy>().unwrap_err().to_string();
        assert!(error.starts_with(expected), "{pointer}: {error}");
    }
    let unknown = good.to_string().replacen("\"bake\"", "\"bale\"", 1);
    let error = unknown.parse::<Strategy>().unwrap_err().to_string();
    assert!(error.starts_with("strategy: bale: unknown field `bale`, expected one of"), "{error}");
    let error = format!("{good} and more").parse::<Strategy>().unwrap_err().to_string();
    assert!(error.starts_with("strategy: end of the text: "), "{error}");
}

proptest::proptest! {
    /// Whatever is asked for: a plan that comes out never asks for more than its budget, and no arithmetic overflows.
    #[test]
    fn a_plan_stays_within_its_budget(
        serving in 1usize..300,
        surge in 0u32..=200,
        unavailable in 0u32..=200,
        percents in proptest::collection::vec(0u16..=100, 1..4),
        desired in proptest::option::of(0u32..=1_000_000),
        membership in proptest::bool::ANY,
    ) {
        let switch = if membership { SwitchKind::Membership } else { given(1).switch };
        let strategy = canary(&percents).max_surge(Amount::Percent(surge)).max_unavailable(Amount::Percent(unavailable));
        if let Ok(plan) = (Given { switch, ..given(serving) }).plan("2", strategy, desired) {
            for stage in &plan.stages {
                proptest::prop_assert!(stage.goal.total() <= plan.budget.ceiling() as u64, "{plan}");
            }
            proptest::prop_assert!(plan.budget.required() >= 1);
            let last = plan.stages.last().unwrap();
            proptest::prop_assert_eq!(&last.goal, &Goal::only(plan.target.clone(), plan.budget.desired).unwrap());
        }
    }
}

#[test]
fn a_plan_of_another_size_is_as_sound_as_the_first() {
    use super::Resize;
    use crate::decide::limit;

    let step = Weight::basis_points(1).unwrap();
    let strategies = || {
        let canary = canary(&[10, 50]).max_surge(Amount::Percent(50));
        let errors = Compared::new("errors".parse().unwrap());
        let judged = canary_with_bake().analysis(Analysis::of([errors]).minimum_instances(1));
        [Strategy::blue_green(), Strategy::rolling(), canary, canary_with_bake(), judged]
    };
    let mut tried = 0;
    for (before, strategy) in (1..=9_u32).flat_map(|before| strategies().map(|strategy| (before, strategy))) {
        let Ok(plan) = given(before as usize).plan("2", strategy, None) else { continue };
        for (desired, size, stage) in every_resize(plan.stages.len()) {
            for fleet in [fleet_of("1"), fleet_of("2")] {
                let resized = plan.clone().resized(&Resize { fleet: &fleet, size, desired, stage: Some(stage) });
                let note = format!("{before} to {desired}, {fleet} is {size} in stage {stage}\n{plan}\n{resized}");
                let required = resized.budget.required();
                assert!(required >= 1 && resized.budget.desired == desired, "{note}");
                for (old, new) in plan.stages.iter().zip(&resized.stages) {
                    assert!(new.goal.total() <= resized.budget.ceiling() as u64, "{note}");
                    assert_eq!(old.goal.split(), new.goal.split(), "{note}");
                    for part in new.goal.fleets() {
                        assert!(part.weight.points() <= limit(part.size as usize, required, step), "{note}");
                    }
                }
                let last = resized.stages.last().unwrap().goal.fleets();
                assert!(last[0].fleet == fleet_of("2") && last[0].size >= desired, "{note}");
                tried += 1;
            }
        }
        let now = plan.stages[0].goal.fleet(&fleet_of("1")).map_or(0, |part| part.size);
        let same = Resize { fleet: &fleet_of("1"), size: now, desired: before, stage: Some(0) };
        assert_eq!(plan.clone().resized(&same), plan);
    }
    assert!(tried > 3_000, "{tried}");
}

fn canary_with_bake() -> Strategy {
    canary(&[20]).bake(Duration::from_mins(5)).max_surge(Amount::Percent(100)).retain_old_for(Duration::from_mins(5))
}

/// Every size of the service and of a fleet up to 12, in every stage.
fn every_resize(stages: usize) -> impl Iterator<Item = (u32, u32, usize)> {
    (1..=12)
        .flat_map(move |desired| (1..=12).flat_map(move |size| (0..stages).map(move |stage| (desired, size, stage))))
}
