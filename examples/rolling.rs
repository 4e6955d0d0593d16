//! Rolling on this machine: one instance more than needed, never one less, until all are of the new release. The next release
//! never becomes healthy, and the rollout goes back by itself.
//!
//! `cargo run --example rolling`

#![allow(clippy::print_stdout, reason = "it talks to a person")]

mod support;

use std::process::ExitCode;
use std::time::Duration;

use futures_util::StreamExt;
use immutable_core::engine::{Engine, Event, Outcome, Rollout};
use immutable_core::health::{HealthPolicy, HttpProbe};
use immutable_core::journal::FileJournal;
use immutable_core::plan::{Amount, RolloutSpec, Strategy};
use immutable_local::{LocalConfig, LocalSwitch, SwitchOptions};
use support::demo::{Demo, Result, run, verdict};
use support::load::{Load, LoadOptions};
use support::service::{Behaviour, run_if_asked};

#[tokio::main]
async fn main() -> ExitCode {
    // An instance of this example is this executable, started with the argument `serve`.
    run_if_asked();
    run(rolling).await
}

async fn rolling(demo: &Demo) -> Result<()> {
    let switch = LocalSwitch::bind(SwitchOptions::default())?;
    let probe = HttpProbe::get("/health").timeout(Duration::from_millis(500)).build()?;
    let platform = immutable_local::platform(LocalConfig::new(demo.directory()), &switch, probe);
    let engine = Engine::builder(platform).journal(FileJournal::open(demo.directory().join("journal"))?).build();

    // Healthy is who was found good for a fifth of a second; ill is who was found bad twice in a row.
    let health = HealthPolicy::builder().minimum_healthy_time(Duration::from_millis(200)).bad_looks(2).build()?;
    let strategy = Strategy::rolling().max_surge(Amount::Count(1)).max_unavailable(Amount::Count(0)).health(health);
    let spec = |release, strategy: &Strategy| {
        let (service, route) = (demo.service.clone(), switch.route().clone());
        RolloutSpec::new(service, route, release, strategy.clone()).desired(4)
    };

    println!("release 1 is installed");
    let first = demo.release(&engine, &Behaviour::of("1")).await?;
    follow(&engine.start(spec(first, &strategy)).await?).await?;

    let load = Load::start(switch.address(), LoadOptions::per_second(200));

    println!("\nrelease 2 replaces it, one instance at a time");
    let second = demo.release(&engine, &Behaviour::of("2")).await?;
    match follow(&engine.start(spec(second.clone(), &strategy)).await?).await? {
        Outcome::Promoted => println!("  {}", load.mark()),
        other => return Err(format!("release 2 is good, and yet: {other}").into()),
    }

    println!("\nrelease 3 never becomes healthy");
    let before = load.mark();
    let ill = Behaviour { healthy: false, ..Behaviour::of("3") };
    let third = demo.release(&engine, &ill).await?;
    // How long a rollout may go without any progress before it goes back: ten minutes, unless somebody has less patience.
    let impatient = strategy.progress_deadline(Duration::from_secs(2));
    match follow(&engine.start(spec(third, &impatient)).await?).await? {
        Outcome::RolledBack { to, .. } if to == second.id() => println!("  {}", load.mark().since(&before)),
        other => return Err(format!("release 3 should not have come through: {other}").into()),
    }

    let counts = load.stop().await;
    // It never had any traffic.
    verdict(counts.failed() + counts.release("3").ok)
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
