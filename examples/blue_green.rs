//! Blue-green on this machine: a whole new fleet starts beside the old one, takes all of the traffic at once, and is watched
//! for a while before the old fleet ends. Then somebody wants the old release back.
//!
//! `cargo run --example blue_green`

#![allow(clippy::print_stdout, reason = "it talks to a person")]

mod support;

use std::process::ExitCode;
use std::time::Duration;

use futures_util::StreamExt;
use immutable_core::engine::{Engine, Event, Outcome, Rollout};
use immutable_core::health::HttpProbe;
use immutable_core::journal::FileJournal;
use immutable_core::plan::{RolloutSpec, Strategy};
use immutable_local::{LocalConfig, LocalSwitch, SwitchOptions};
use support::demo::{Demo, Result, run, verdict};
use support::load::{Load, LoadOptions};
use support::service::{Behaviour, run_if_asked};

#[tokio::main]
async fn main() -> ExitCode {
    // An instance of this example is this executable, started with the argument `serve`.
    run_if_asked();
    run(blue_green).await
}

async fn blue_green(demo: &Demo) -> Result<()> {
    // The platform: processes of this machine, a proxy in front of them, and a probe that looks at them.
    let switch = LocalSwitch::bind(SwitchOptions::default())?;
    let probe = HttpProbe::get("/health").timeout(Duration::from_millis(500)).build()?;
    let platform = immutable_local::platform(LocalConfig::new(demo.directory()), &switch, probe);

    // The engine: it drives rollouts, and writes each decision to a journal before it acts.
    let journal = FileJournal::open(demo.directory().join("journal"))?;
    let engine = Engine::builder(platform).journal(journal).build();

    // What is rolled out, where its traffic enters, how it takes over, and how many instances it needs.
    let strategy = Strategy::blue_green().bake(Duration::from_millis(500));
    let spec = |release| {
        let (service, route) = (demo.service.clone(), switch.route().clone());
        RolloutSpec::new(service, route, release, strategy.clone()).desired(3)
    };

    println!("release 1 is installed");
    let first = demo.release(&engine, &Behaviour::of("1")).await?;
    expect_promoted(&engine.start(spec(first.clone())).await?).await?;

    let load = Load::start(switch.address(), LoadOptions::per_second(200));

    let second = spec(demo.release(&engine, &Behaviour::of("2")).await?);
    // A plan says what would happen, and touches nothing.
    println!("\n{}\n", engine.plan(&second).await?);
    expect_promoted(&engine.start(second).await?).await?;
    println!("  {}", load.mark());

    println!("\nback to release 1");
    let before = load.mark();
    expect_promoted(&engine.roll_back(&demo.service, &first.id()).await?).await?;
    println!("  {}", load.mark().since(&before));

    verdict(load.stop().await.failed())
}

/// Prints what happens in a rollout, until its end.
async fn expect_promoted(rollout: &Rollout) -> Result<()> {
    let mut events = rollout.events();
    while let Some(event) = events.next().await {
        // Progress only moves a deadline: it is of no interest to people.
        if !matches!(event, Event::Progressed { .. }) {
            println!("  {event}");
        }
    }
    match rollout.wait().await? {
        Outcome::Promoted => Ok(()),
        other => Err(other.to_string().into()),
    }
}
