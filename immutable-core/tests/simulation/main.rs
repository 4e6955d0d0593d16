//! Random rollouts on a cloud that fails, judged after every call against what is really there.
//!
//! `cargo xtask simulate --seed N` repeats one of them; `--seeds N` runs many.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test stops at the first surprise, and tells figures")]
#![allow(clippy::disallowed_methods, reason = "tests wait in virtual time")]

mod broken;
mod crash;
mod rules;
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use immutable_core::testkit::Fault;
use world::{Report, run};

/// How many seeds the normal test run takes.
const SEEDS: u64 = 500;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap_or_else(|_| panic!("{name}={value}: not a number")))
}

#[test]
fn every_seed_keeps_every_rule_and_tells_the_same_story_twice() {
    let one = number("IMMUTABLE_SEED");
    let from = one.or(number("IMMUTABLE_FROM")).unwrap_or(0);
    let count = one.map_or_else(|| number("IMMUTABLE_SEEDS").unwrap_or(SEEDS), |_| 1);
    let (mut outcomes, mut struck, mut time) = (BTreeMap::<String, u64>::new(), 0, Duration::ZERO);
    for seed in from..from + count {
        let report = run(seed, BTreeSet::new(), None);
        let again = run(seed, BTreeSet::new(), None);
        assert_eq!(report.trace, again.trace, "seed {seed} tells two stories: cargo xtask simulate --seed {seed}");
        if let Some(violation) = report.violations.first() {
            if one.is_some() {
                println!("{}", report.trace.join("\n"));
            }
            println!("seed {seed}: {violation}; looking for the faults that it takes");
            let faults = shrink(seed, &report);
            let trace = run(seed, off(&report, &faults), None).trace.join("\n");
            panic!("{violation}\nwith {faults:#?}\n{trace}\nrepeat it: cargo xtask simulate --seed {seed}");
        }
        *outcomes.entry(report.outcome).or_default() += 1;
        struck += report.struck.len();
        time += report.time;
    }
    let days = time.as_secs() / 86_400;
    println!("{count} seeds from {from}, each twice: {struck} faults, {days} simulated days, {outcomes:?}");
}

fn off(report: &Report, kept: &BTreeSet<Fault>) -> BTreeSet<Fault> {
    report.struck.difference(kept).copied().collect()
}

/// The faults without which it does not fail any more: each is switched off for good if it fails all the same.
fn shrink(seed: u64, report: &Report) -> BTreeSet<Fault> {
    let mut kept = report.struck.clone();
    for fault in &report.struck {
        kept.remove(fault);
        if run(seed, off(report, &kept), None).violations.is_empty() {
            kept.insert(*fault);
        }
    }
    kept
}
