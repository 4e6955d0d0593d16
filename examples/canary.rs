//! A canary on this machine: a tenth of the traffic, then half, each judged by the errors that clients really see. The next
//! release fails a fifth of its requests, and is gone before it has more than a tenth of the traffic.
//!
//! `cargo run --example canary`

#![allow(clippy::print_stdout, reason = "it talks to a person")]

mod support;

use std::process::ExitCode;
use std::time::Duration;

use futures_util::StreamExt;
use immutable_core::analysis::Check;
use immutable_core::engine::{Engine, Event, Outcome, Rollout};
use immutable_core::health::HttpProbe;
use immutable_core::journal::FileJournal;
use immutable_core::plan::{RolloutSpec, StageSpec, Strategy};
use immutable_local::{LocalConfig, LocalSwitch, SwitchOptions};
use support::demo::{Demo, Result, run, verdict};
use support::load::{Load, LoadOptions};
use support::service::{Behaviour, run_if_asked};

#[tokio::main]
async fn main() -> ExitCode {
    // An instance of this example is this executable, started with the argument `serve`.
    run_if_asked();
    run(canary).await
}

async fn canary(demo: &Demo) -> Result<()> {
    let switch = LocalSwitch::bind(SwitchOptions::default())?;
    let probe = HttpProbe::get("/health").timeout(Duration::from_millis(500)).build()?;
    let platform = immutable_local::platform(LocalConfig::new(demo.directory()), &switch, probe);
    let engine = Engine::builder(platform).journal(FileJournal::open(demo.directory().join("journal"))?).build();

    // At most 2 % of the new release's answers are errors. Nothing is said before thirty of them are known.
    let errors = Check::at_most("errors".parse()?, 0.02).min_count(30);
    let canary = Strategy::canary([
        StageSpec::percent(10)?.hold(Duration::from_millis(500)).check(errors.clone()),
        StageSpec::percent(50)?.hold(Duration::from_millis(500)).check(errors.clone()),
    ])
    // With all of the traffic it is watched once more, before the old fleet ends.
    .bake(Duration::from_millis(500))
    .watch([errors]);
    let spec = |release, strategy: &Strategy| {
        let (service, route) = (demo.service.clone(), switch.route().clone());
        RolloutSpec::new(service, route, release, strategy.clone()).desired(4)
    };

    // Nothing serves yet that a canary could be compared with, and nobody's requests could be judged.
    println!("release 1 is installed");
    let first = demo.release(&engine, &Behaviour::of("1")).await?;
    follow(&engine.start(spec(first, &Strategy::blue_green())).await?).await?;

    let load = Load::start(switch.address(), LoadOptions::per_second(300));

    let second = demo.release(&engine, &Behaviour::of("2")).await?;
    println!("\n{}\n", engine.plan(&spec(second.clone(), &canary)).await?);
    match follow(&engine.start(spec(second.clone(), &canary)).await?).await? {
        Outcome::Promoted => println!("  {}", load.mark()),
        other => return Err(format!("release 2 is good, and yet: {other}").into()),
    }
    let good = load.mark();

    println!("\nrelease 3 fails a fifth of its requests");
    let bad = Behaviour { error_percent: 20, ..Behaviour::of("3") };
    let third = demo.release(&engine, &bad).await?;
    match follow(&engine.start(spec(third, &canary)).await?).await? {
        Outcome::RolledBack { to, .. } if to == second.id() => println!("  {}", load.mark().since(&good)),
        other => return Err(format!("release 3 should not have come through: {other}").into()),
    }

    // A canary costs the errors of its own few requests, and nothing else.
    let counts = load.stop().await;
    verdict(counts.failed() - counts.release("3").failed)
}

/// Prints what happens in a rollout, and says how it ended.
async fn follow(rollout: &Rollout) -> Result<Outcome> {
    let mut events = rollout.events();
    while let Some(event) = events.next().await {
        // Progress only moves a deadline: it is of no interest to people.
        if !matches!(event, Event::Progressed { .. }) {
            println!("  {event}");
        }
    }
    Ok(rollout.wait().await?)
}
