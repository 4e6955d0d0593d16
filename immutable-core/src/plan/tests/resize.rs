//! A baseline remains like its canary when somebody else scales the service.

use super::*;
use crate::decide::FleetGoal;
use crate::plan::Resize;
use crate::plan::compile::Compiler;

fn judged(given: &Given, strategy: Strategy, least: u32) -> Plan {
    let analysis = Analysis::of([Compared::new("errors".parse().unwrap())]).minimum_instances(least);
    given.plan("2", strategy.analysis(analysis), None).unwrap()
}

fn members(serving: usize) -> Given {
    Given { switch: SwitchKind::Membership, ..given(serving) }
}

fn whole() -> Strategy {
    Strategy::canary([StageSpec::percent(10).unwrap().size(Amount::Percent(100))]).max_surge(Amount::Percent(300))
}

fn fifth() -> Strategy {
    Strategy::canary([StageSpec::percent(20).unwrap().size(Amount::Count(1))])
}

/// The sizes of canary, baseline and old fleet in the first stage, and the most that may exist.
fn sizes(plan: &Plan) -> ([u32; 3], usize) {
    let size = |fleet: &FleetId| plan.stages[0].goal.fleet(fleet).unwrap().size;
    ([&plan.target, plan.baseline.as_ref().unwrap(), &fleet_of("1")].map(size), plan.budget.ceiling())
}

#[test]
fn a_baseline_is_as_large_as_its_canary_whoever_is_scaled() {
    let (canary_is, baseline_is, old_is) = (0, 1, 2);
    let check = |plan: Plan, (who, size): (usize, u32), desired: u32, expected: ([u32; 3], usize)| {
        let fleets = [plan.target.clone(), plan.baseline.clone().unwrap(), fleet_of("1")];
        let resized = plan.clone().resized(&Resize { fleet: &fleets[who], size, desired, stage: Some(0) });
        assert_eq!(sizes(&resized), expected, "{plan}\n{resized}");
        // The same answer however often it is asked.
        let again = resized.clone().resized(&Resize { fleet: &fleets[who], size, desired, stage: Some(0) });
        assert_eq!(resized, again);
    };
    let three = || judged(&given(10), canary(&[5]), 3);
    assert_eq!(sizes(&three()), ([3, 3, 10], 20));
    // Somebody makes the canary larger.
    check(three(), (canary_is, 4), 10, ([4, 4, 10], 20));
    check(three(), (canary_is, 5), 10, ([5, 5, 10], 20));
    // What does not fit without breaking the budget is left out: the old fleet keeps what its share needs.
    check(three(), (canary_is, 7), 10, ([7, 4, 9], 20));
    check(three(), (canary_is, 10), 10, ([10, 1, 9], 20));
    check(three(), (canary_is, 12), 10, ([12, 1, 9], 22));
    // All of the service is larger or smaller.
    check(judged(&given(4), whole(), 1), (old_is, 6), 6, ([6, 6, 6], 18));
    check(three(), (old_is, 16), 16, ([3, 3, 16], 32));
    check(three(), (old_is, 2), 2, ([2, 2, 2], 12));
    // Half of the traffic, a quarter for the baseline.
    let half = judged(&given(4), canary(&[50]), 1);
    assert_eq!(sizes(&half), ([2, 1, 4], 8));
    check(half.clone(), (canary_is, 4), 4, ([4, 2, 2], 8));
    check(half.clone(), (old_is, 8), 8, ([4, 2, 8], 16));
    // A baseline that is made larger takes its canary with it, one that is made smaller is put back.
    check(half, (baseline_is, 2), 4, ([4, 2, 2], 8));
    check(three(), (baseline_is, 5), 10, ([5, 5, 10], 20));
    check(three(), (baseline_is, 8), 10, ([3, 8, 9], 20));
    check(three(), (baseline_is, 1), 10, ([3, 3, 10], 20));
    // Where members are the weights, equal weights mean equal sizes.
    let one = || judged(&members(4), fifth(), 1);
    assert_eq!(sizes(&one()), ([1, 1, 3], 8));
    check(one(), (canary_is, 2), 4, ([2, 2, 3], 8));
    check(one(), (old_is, 6), 9, ([2, 2, 6], 18));
    // And more instances of the new release would be more traffic than planned.
    check(one(), (baseline_is, 2), 4, ([1, 2, 3], 8));
}

#[test]
fn a_plan_with_a_baseline_is_as_sound_at_another_size() {
    let mut tried = 0;
    for before in 1..=9_u32 {
        let least = [1, 3].map(|least| judged(&given(before as usize), canary(&[10, 50]), least));
        let whole = judged(&given(before as usize), whole(), 1);
        for plan in least.into_iter().chain([whole]).filter(|plan| plan.baseline.is_some()) {
            let fleets = [fleet_of("1"), fleet_of("2"), plan.baseline.clone().unwrap()];
            for (desired, size, stage) in every_resize(plan.stages.len()) {
                for fleet in &fleets {
                    let resized = plan.clone().resized(&Resize { fleet, size, desired, stage: Some(stage) });
                    assert_alike(&plan, &resized, fleet);
                    tried += 1;
                }
            }
            for fleet in &fleets[1..] {
                let Some(FleetGoal { size, .. }) = plan.stages[0].goal.fleet(fleet) else { continue };
                let same = Resize { fleet, size: *size, desired: before, stage: Some(0) };
                assert_eq!(plan.clone().resized(&same), plan);
            }
        }
    }
    assert!(tried > 10_000, "{tried}");
}

/// As many as the canary has for its traffic; more only where somebody else wants them, and fewer only where no more fit.
fn assert_alike(plan: &Plan, resized: &Plan, scaled: &FleetId) {
    let baseline = plan.baseline.as_ref().unwrap();
    for (old, new) in plan.stages.iter().zip(&resized.stages) {
        let note = format!("{scaled} in {}\n{plan}\n{resized}", new.name);
        assert_eq!(old.goal.split(), new.goal.split(), "{note}");
        assert!(new.goal.total() <= resized.budget.ceiling() as u64, "{note}");
        let Some(part) = new.goal.fleet(baseline) else { continue };
        let canary = new.goal.fleet(&plan.target).unwrap();
        let alike = Compiler::baseline_size((canary.size, canary.weight), part.weight);
        let one_more_fits = new.goal.total() < u64::from(resized.budget.desired + plan.budget.max_surge);
        let needed = resized.budget.needed(part.weight);
        assert!(part.size <= alike || scaled == baseline, "{note}");
        assert!(part.size >= alike || part.size == needed || !one_more_fits || scaled == baseline, "{note}");
        assert!(part.size >= needed && needed >= 1, "{note}");
    }
}
