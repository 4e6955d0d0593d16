//! Random rollouts on a cloud that fails, judged after every call against what is really there.
//!
//! `cargo xtask simulate --seed N` repeats one of them; `--seeds N` runs many.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test stops at the first surprise, and tells figures")]
#![allow(clippy::disallowed_methods, reason = "tests wait in virtual time")]

mod broken;
mod crash;
mod draw;
mod inputs;
mod random;
mod rules;
mod story;
mod watch;
mod world;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use world::{Off, Report, run};

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
    let next = AtomicU64::new(from);
    let share = || {
        let mut told = Vec::new();
        while let Some(seed) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|seed| *seed < from + count) {
            let found = twice(seed);
            if found.violation.is_some() {
                // All seeds before it are in hand already, so the first that fails is among those found.
                next.fetch_max(from + count, Ordering::Relaxed);
            }
            told.push((seed, found));
        }
        told
    };
    // Seeds know nothing of each other: each is a world of its own, on one thread from its beginning to its end.
    let mut all: Vec<_> = thread::scope(|scope| {
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(share)).collect();
        running.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    all.sort_by_key(|(seed, _)| *seed);
    let (mut outcomes, mut struck, mut given, mut time) = (BTreeMap::<String, u64>::new(), 0, 0, Duration::ZERO);
    for (seed, found) in all {
        if let Some(violation) = &found.violation {
            explain(seed, violation, one.is_some());
        }
        *outcomes.entry(found.outcome).or_default() += 1;
        struck += found.struck;
        given += found.given;
        time += found.time;
    }
    let days = time.as_secs() / 86_400;
    println!(
        "{count} seeds from {from}, each twice: {struck} faults, {given} inputs, {days} simulated days, {outcomes:?}"
    );
}

/// What is kept of a seed: a long run has no room for all their traces.
struct Found {
    violation: Option<String>,
    outcome: String,
    struck: usize,
    given: usize,
    time: Duration,
}

fn twice(seed: u64) -> Found {
    let report = run(seed, &Off::default(), None);
    let again = run(seed, &Off::default(), None);
    assert_eq!(report.trace, again.trace, "seed {seed} tells two stories: cargo xtask simulate --seed {seed}");
    let Report { violations, outcome, struck, given, time, .. } = report;
    let violation = violations.into_iter().next();
    Found { violation, outcome, struck: struck.len(), given: given.len(), time }
}

/// Tells the shortest story in which the seed breaks the same rule, and how to see it again.
fn explain(seed: u64, violation: &str, whole: bool) -> ! {
    let report = run(seed, &Off::default(), None);
    if whole {
        println!("{}", report.trace.join("\n"));
    }
    println!("seed {seed}: {violation}; looking for the faults and inputs that it takes");
    let off = shrink(seed, rule(violation), &report);
    let Report { trace, violations, struck, given, .. } = run(seed, &off, None);
    let struck: Vec<_> = struck.iter().map(|fault| format!("{fault:?}")).collect();
    let (trace, violation, struck) = (trace.join("\n"), violations.join("\n"), struck.join("\n"));
    panic!("{violation}\nwith {given:?}\n{struck}\n{trace}\nrepeat it: cargo xtask simulate --seed {seed}");
}

/// The rule that a violation is about: `rule 4`.
fn rule(violation: &str) -> &str {
    let from = violation.find("rule ").unwrap_or(0);
    violation[from..].split(',').next().unwrap_or_default()
}

/// What can be left out: each input and each fault is, for good, if the same rule is broken all the same.
fn shrink(seed: u64, broken: &str, report: &Report) -> Off {
    let mut off = Off::default();
    let mut try_without = |leave: &dyn Fn(&mut Off)| {
        let mut more = off.clone();
        leave(&mut more);
        if run(seed, &more, None).violations.iter().any(|violation| rule(violation) == broken) {
            off = more;
        }
    };
    for input in &report.given {
        try_without(&|off| _ = off.inputs.insert(*input));
    }
    for fault in &report.struck {
        try_without(&|off| _ = off.faults.insert(*fault));
    }
    off
}
