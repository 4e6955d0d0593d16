//! A tour of rollouts on this machine: real processes, real traffic, real images.
//!
//! `cargo run --example quickstart [instances] [connections] [directory]` — four instances and sixteen connections unless you say
//! otherwise. With a directory, kill it whenever you like (`kill -9`) and start it again: it goes on where it was.

#![allow(clippy::print_stdout, reason = "it talks to a person")]

mod support;

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use immutable_core::analysis::{Analysis, AtDeadline, Compared};
use immutable_core::engine::{Outcome, Rollout};
use immutable_core::plan::{Amount, StageSpec, Strategy};
use support::demo::{Demo, Result, run_in, verdict};
use support::load::LoadOptions;
use support::report::{Row, table};
use support::service::{Behaviour, run_if_asked};
use support::stand::{Stand, failed_outside};

#[tokio::main]
async fn main() -> ExitCode {
    // An instance of this example is this executable, started with the argument `serve`.
    run_if_asked();
    run_in(std::env::args().nth(3).map(PathBuf::from), tour).await
}

async fn tour(demo: &Demo) -> Result<()> {
    let (instances, connections) = (number(1, "instances", 4)?, number(2, "connections", 16)?);
    let stand = Stand::new(demo, instances)?;
    println!("{instances} instances behind http://{}, {connections} connections", stand.switch.address());
    let mut tour = Tour::default();

    if !stand.take_up().await? {
        let first = Behaviour::of("1");
        let (outcome, row) = stand.roll("first install", &first, Strategy::blue_green(), None, nothing).await?;
        tour.expect(row, outcome == Outcome::Promoted, 0);
    }

    let rate = NonZeroU32::new(400);
    let load = stand.load(LoadOptions { connections, rate, ..LoadOptions::default() }).await;
    for (name, behaviour, strategy) in steps()? {
        if stand.is_done(&behaviour).await? {
            continue;
        }
        let (is_good, kills) = (matches!(name, "blue-green" | "rolling" | "canary" | "kill -9"), name == "kill -9");
        let meanwhile = async |_: &Rollout| if kills { kill_two(&stand).await } else { Ok(()) };
        let (outcome, row) = stand.roll(name, &behaviour, strategy, Some(&load), meanwhile).await?;
        let failed = match name {
            "bad canary" => failed_outside(&row.counts, &behaviour.version),
            "never healthy" => row.counts.failed() + row.counts.release(&behaviour.version).ok,
            // What a killed instance was working on is lost, and nothing else.
            "kill -9" => row.counts.failed().saturating_sub(2 * u64::from(connections)),
            _ => row.counts.failed(),
        };
        let as_expected =
            if is_good { outcome == Outcome::Promoted } else { matches!(outcome, Outcome::RolledBack { .. }) };
        tour.expect(row, as_expected, failed);
    }

    load.stop().await;
    println!("\n{}", table(&tour.rows).trim_end());
    tour.verdict()
}

/// What is rolled out after the first install: a name, what the release does, and how it is rolled out.
fn steps() -> Result<[(&'static str, Behaviour, Strategy); 6]> {
    let rolling = || Strategy::rolling().max_surge(Amount::Count(1));
    Ok([
        ("blue-green", Behaviour::of("2"), Strategy::blue_green().bake(Duration::from_millis(300))),
        ("rolling", Behaviour::of("3"), rolling().max_unavailable(Amount::Count(0))),
        ("canary", Behaviour::of("4"), canary()?),
        ("bad canary", Behaviour { error_percent: 20, ..Behaviour::of("5") }, canary()?),
        (
            "never healthy",
            Behaviour { healthy: false, ..Behaviour::of("6") },
            rolling().progress_deadline(Duration::from_secs(3)),
        ),
        ("kill -9", Behaviour { start_delay_ms: 100, ..Behaviour::of("7") }, rolling()),
    ])
}

/// An argument: a number of things, of which there must be at least one.
fn number(index: usize, what: &str, default: u32) -> Result<u32> {
    let Some(text) = std::env::args().nth(index) else { return Ok(default) };
    let number: Option<NonZeroU32> = text.parse().ok();
    Ok(number.ok_or_else(|| format!("{what}: {text:?} is not a number above zero"))?.get())
}

/// 25 %, then 50 %, each until its errors are shown to be no more than those of a baseline beside it, or below 2 %; then all.
///
/// An impatient judge: real ones take minutes, and are right more often.
fn canary() -> Result<Strategy> {
    let errors = Compared::new("errors".parse()?).acceptable(0.02).hard_stop(0.5, Duration::from_secs(2));
    let analysis = Analysis::of([errors])
        .interval(Duration::from_millis(200))
        .minimum_time(Duration::from_millis(600))
        .minimum_requests(30)
        .minimum_instances(1)
        .deadline(Duration::from_mins(3))
        .at_deadline(AtDeadline::GoBack);
    let steps = [StageSpec::percent(25)?, StageSpec::percent(50)?];
    Ok(Strategy::canary(steps).analysis(analysis).bake(Duration::from_millis(300)))
}

/// What the rollouts came to.
#[derive(Default)]
struct Tour {
    rows: Vec<Row>,
    failed: u64,
    surprises: Vec<String>,
}

impl Tour {
    fn expect(&mut self, row: Row, as_expected: bool, failed: u64) {
        if !as_expected {
            self.surprises.push(format!("{} ended otherwise than it should: {}", row.name, row.outcome));
        }
        self.failed += failed;
        self.rows.push(row);
    }

    fn verdict(self) -> Result<()> {
        if self.surprises.is_empty() { verdict(self.failed) } else { Err(self.surprises.join("; ").into()) }
    }
}

async fn nothing(_: &Rollout) -> Result<()> {
    Ok(())
}

/// Kills two instances with SIGKILL while the rollout is on its way.
async fn kill_two(stand: &Stand<'_>) -> Result<()> {
    for _ in 0..2 {
        tokio::time::sleep(Duration::from_millis(250)).await;
        stand.kill_one().await?;
    }
    Ok(())
}
