//! What deciding costs: for each instance, it must not cost more in a large fleet than in a small one.
//!
//! `cargo bench --bench decide`

#![allow(missing_docs, reason = "a program, not an interface")]
#![allow(clippy::print_stdout, reason = "it talks to a person")]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput};
use immutable_core::decide::{FleetView, InstanceView, Phase, World, check, decide};
use immutable_core::engine::{Event, Machine};
use immutable_core::model::{
    FleetId, Lifecycle, ObservedFleet, ObservedInstance, Release, RouteId, ServiceName, Split, Weight,
};
use immutable_core::plan::{Amount, Facts, Plan, RolloutSpec, Strategy, compile};
use immutable_core::provider::{FleetsState, ProvisionerCapabilities, SwitchKind, TrafficCapabilities, VersionCheck};
use immutable_core::testkit::{SimCloud, VirtualClock};
use jiff::Timestamp;

const SIZES: [u32; 3] = [10, 1_000, 100_000];

const NOW: Timestamp = VirtualClock::START;

/// The least time that was seen, by what was done and for how many instances.
type Best = BTreeMap<(String, u32), Duration>;

fn main() {
    // A cloud has a clock of tokio's, which does not need to go.
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .sample_size(20)
        .configure_from_args();
    let mut best = Best::new();
    for size in SIZES {
        for scene in [Scene::steady(size), Scene::mid_rollout(size)] {
            measure(&mut criterion, &scene, "decide and check", &mut best, || {
                let plan = &scene.plan;
                let goal = &plan.stages[0].goal;
                let decision = decide(&scene.world, goal, &plan.budget, plan.switch);
                for action in &decision.actions {
                    check(&scene.world, action, &plan.budget, plan.switch).expect("a decision is safe");
                }
                black_box(decision);
            });
            let machine = scene.machine.clone();
            measure(&mut criterion, &scene, "tick", &mut best, || {
                black_box(machine.next(NOW, &scene.world, &[]));
            });
        }
    }
    criterion.final_summary();
    print_ratios(&best);
}

fn measure(criterion: &mut Criterion, scene: &Scene, what: &str, best: &mut Best, mut work: impl FnMut()) {
    let name = format!("{what}, {}", scene.name);
    let mut group = criterion.benchmark_group(&name);
    group.throughput(Throughput::Elements(scene.size.into()));
    group.bench_function(BenchmarkId::from_parameter(scene.size), |bencher| {
        bencher.iter_custom(|times| {
            let begun = Instant::now();
            for _ in 0..times {
                work();
            }
            let took = begun.elapsed();
            let each = took / u32::try_from(times).unwrap_or(u32::MAX);
            best.entry((name.clone(), scene.size)).and_modify(|least| *least = each.min(*least)).or_insert(each);
            took
        });
    });
    group.finish();
}

fn print_ratios(best: &Best) {
    println!("\n{:<32}{:>10}{:>10}{:>10}   100,000 : 1,000", "ns for each instance", SIZES[0], SIZES[1], SIZES[2]);
    let mut names: Vec<&String> = best.keys().map(|(name, _)| name).collect();
    names.dedup();
    for name in names {
        let each = |size: u32| {
            let time = best.get(&(name.clone(), size)).copied().unwrap_or_default();
            time.as_secs_f64() * 1e9 / f64::from(size)
        };
        let [small, middle, large] = SIZES.map(each);
        println!("{name:<32}{small:>10.1}{middle:>10.1}{large:>10.1}{:>18.2}", large / middle);
    }
}

/// A world, and a rollout that is somewhere on its way in it.
struct Scene {
    name: &'static str,
    size: u32,
    world: World,
    plan: Plan,
    machine: Machine,
}

impl Scene {
    /// The new release serves alone.
    fn steady(size: u32) -> Self {
        Self::new("steady", size, |plan| {
            let fleet = fleet(plan.target.clone(), &[(Phase::Serving, size)]);
            (vec![fleet], Split::all_to(plan.target.clone()))
        })
    }

    /// About half of the instances are replaced; some are in every phase on the way.
    fn mid_rollout(size: u32) -> Self {
        Self::new("mid-rollout", size, |plan| {
            let some = (size / 50).max(1);
            let serving = size / 2 - some;
            let coming =
                [(Phase::Serving, serving), (Phase::Joining, some), (Phase::Proven, some), (Phase::Unproven, some)];
            // More than the service needs, so that some can be drained.
            let going = [(Phase::Serving, size - serving + some), (Phase::Draining, some), (Phase::Drained, some)];
            let old = plan.replaces.clone().expect("there is an old fleet");
            let [to_new, to_old] = [48, 52].map(|percent| Weight::percent(percent).expect("a percentage"));
            let split = Split::new([(plan.target.clone(), to_new), (old.clone(), to_old)]).expect("the whole");
            (vec![fleet(plan.target.clone(), &coming), fleet(old, &going)], split)
        })
    }

    fn new(name: &'static str, size: u32, world: impl Fn(&Plan) -> (Vec<FleetView>, Split)) -> Self {
        let plan = plan(size);
        let (fleets, split) = world(&plan);
        let world = World { as_of: NOW, fleets, split, version: "1".parse().expect("a version") };
        let rollout = "rollout-1".parse().expect("a name");
        let started = Event::Started { rollout, plan: Box::new(plan.clone()), at: NOW };
        let machine = Machine::replay([started]).expect("it begins with its start");
        Self { name, size, world, plan, machine }
    }
}

/// A rolling update of a service of so many instances.
fn plan(size: u32) -> Plan {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let cloud = runtime.expect("a runtime").block_on(async { SimCloud::default() });
    let service: ServiceName = "web".parse().expect("a name");
    let route: RouteId = "route".parse().expect("a name");
    let (old, new): (Release, Release) = (cloud.release("1"), cloud.release("2"));
    let old_fleet = FleetId::of(&service, &old.id());
    let instances = (0..size).map(|number| ObservedInstance {
        id: format!("i-{number}").parse().expect("a name"),
        lifecycle: Lifecycle::Running,
        image: Some(old.image().fingerprint),
        endpoint: Some("127.0.0.1:80".parse().expect("an endpoint")),
        started_at: NOW,
    });
    let observed =
        ObservedFleet { id: old_fleet.clone(), release: old.id(), instances: instances.collect(), wanted: None };
    let fleets = FleetsState { as_of: NOW, fleets: vec![observed] };
    let step = Weight::basis_points(1).expect("a weight");
    let facts = Facts {
        fleets: &fleets,
        split: &Split::all_to(old_fleet),
        provisioner: ProvisionerCapabilities { max_fleet_size: None },
        traffic: TrafficCapabilities {
            kind: SwitchKind::Weighted { step },
            max_fleets: None,
            version_check: VersionCheck::WithTheChange,
        },
        proven: &[old],
        superseded: None,
    };
    let strategy = Strategy::rolling().max_surge(Amount::Percent(20));
    compile(&RolloutSpec::new(service, route, new, strategy).desired(size), &facts).expect("a plan")
}

fn fleet(id: FleetId, phases: &[(Phase, u32)]) -> FleetView {
    let phases = phases.iter().flat_map(|(phase, count)| std::iter::repeat_n(*phase, *count as usize));
    let instances = phases.enumerate().map(|(number, phase)| InstanceView {
        id: format!("{id}-{number}").parse().expect("a name"),
        phase,
        replace: false,
        dead: false,
        endpoint: Some("127.0.0.1:80".parse().expect("an endpoint")),
    });
    FleetView { instances: instances.collect(), id, hold_growth: false }
}
