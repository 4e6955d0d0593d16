//! A tour of rollouts on this machine: real processes, real traffic, real images.
//!
//! `cargo run --example quickstart [instances] [connections]` — four instances and sixteen connections unless you say otherwise.

#![allow(clippy::print_stdout, reason = "it talks to a person")]

mod support;

use std::num::NonZeroU32;
use std::process::ExitCode;
use std::time::Duration;

use immutable_core::analysis::Check;
use immutable_core::engine::{Outcome, Rollout};
use immutable_core::plan::{Amount, StageSpec, Strategy};
use support::demo::{Demo, Result, run, verdict};
use support::load::LoadOptions;
use support::report::{Row, table};
use support::service::{Behaviour, run_if_asked};
use support::stand::{Stand, failed_outside};

#[tokio::main]
async fn main() -> ExitCode {
    // An instance of this example is this executable, started with the argument `serve`.
    run_if_asked();
    run(tour).await
}

async fn tour(demo: &Demo) -> Result<()> {
    let (instances, connections) = (number(1, "instances", 4)?, number(2, "connections", 16)?);
    let stand = Stand::new(demo, instances)?;
    println!("{instances} instances behind http://{}, {connections} connections", stand.switch.address());
    let mut tour = Tour::default();

    let first = Behaviour::of("1");
    let (outcome, row) = stand.roll("first install", &first, Strategy::blue_green(), None, nothing).await?;
    tour.expect(row, outcome == Outcome::Promoted, 0);

    let rate = NonZeroU32::new(400);
    let load = stand.load(LoadOptions { connections, rate, ..LoadOptions::default() });

    let good = [
        ("blue-green", "2", Strategy::blue_green().bake(Duration::from_millis(300))),
        ("rolling", "3", Strategy::rolling().max_surge(Amount::Count(1)).max_unavailable(Amount::Count(0))),
        ("canary", "4", canary()?),
    ];
    for (name, version, strategy) in good {
        let (outcome, row) = stand.roll(name, &Behaviour::of(version), strategy, Some(&load), nothing).await?;
        let failed = row.counts.failed();
        tour.expect(row, outcome == Outcome::Promoted, failed);
    }

    let errors = Behaviour { error_percent: 20, ..Behaviour::of("5") };
    let (outcome, row) = stand.roll("bad canary", &errors, canary()?, Some(&load), nothing).await?;
    let failed = failed_outside(&row.counts, "5");
    tour.expect(row, matches!(outcome, Outcome::RolledBack { .. }), failed);

    let ill = Behaviour { healthy: false, ..Behaviour::of("6") };
    let impatient = Strategy::rolling().max_surge(Amount::Count(1)).progress_deadline(Duration::from_secs(3));
    let (outcome, row) = stand.roll("never healthy", &ill, impatient, Some(&load), nothing).await?;
    let failed = row.counts.failed() + row.counts.release("6").ok;
    tour.expect(row, matches!(outcome, Outcome::RolledBack { .. }), failed);

    let slow = Behaviour { start_delay_ms: 100, ..Behaviour::of("7") };
    let rolling = Strategy::rolling().max_surge(Amount::Count(1));
    let (outcome, row) =
        stand.roll("kill -9", &slow, rolling, Some(&load), async |_: &Rollout| kill_two(&stand).await).await?;
    // What a killed instance was working on is lost, and nothing else.
    let lost = row.counts.failed().saturating_sub(2 * u64::from(connections));
    tour.expect(row, outcome == Outcome::Promoted, lost);

    load.stop().await;
    println!("\n{}", table(&tour.rows).trim_end());
    tour.verdict()
}

/// An argument: a number of things, of which there must be at least one.
fn number(index: usize, what: &str, default: u32) -> Result<u32> {
    let Some(text) = std::env::args().nth(index) else { return Ok(default) };
    let number: Option<NonZeroU32> = text.parse().ok();
    Ok(number.ok_or_else(|| format!("{what}: {text:?} is not a number above zero"))?.get())
}

/// 5 %, then 25 %, each until the errors of enough requests are known; then all.
fn canary() -> Result<Strategy> {
    let errors = || -> Result<Check> { Ok(Check::at_most("errors".parse()?, 0.02).min_count(30)) };
    let step = |percent| -> Result<StageSpec> {
        Ok(StageSpec::percent(percent)?.hold(Duration::from_millis(300)).check(errors()?))
    };
    Ok(Strategy::canary([step(5)?, step(25)?]).bake(Duration::from_millis(300)).watch([errors()?]))
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
