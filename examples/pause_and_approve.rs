//! A rollout and a person: it is paused, looked at, let go on, and approved where it asks for that. Whatever it waits for, its
//! status says what and why.
//!
//! `cargo run --example pause_and_approve`

#![allow(clippy::print_stdout, reason = "it talks to a person")]

mod support;

use std::process::ExitCode;
use std::time::Duration;

use immutable_core::engine::{Outcome, Rollout, Status};
use immutable_core::model::ApprovalName;
use immutable_core::plan::{StageSpec, Strategy};
use support::demo::{Demo, Result, run, verdict};
use support::load::LoadOptions;
use support::service::{Behaviour, run_if_asked};
use support::stand::Stand;
use tokio::time::{sleep, timeout};

#[tokio::main]
async fn main() -> ExitCode {
    // An instance of this example is this executable, started with the argument `serve`.
    run_if_asked();
    run(pause_and_approve).await
}

async fn pause_and_approve(demo: &Demo) -> Result<()> {
    let stand = Stand::new(demo, 3)?;
    stand.start(&Behaviour::of("1"), Strategy::blue_green()).await?.wait().await?;
    println!("release 1 serves");
    let load = stand.load(LoadOptions::per_second(100)).await;

    // A quarter of the traffic, and then somebody has to approve.
    let more: ApprovalName = "more-traffic".parse()?;
    let strategy = Strategy::canary([StageSpec::percent(25)?.hold(Duration::from_millis(200)).approval(more.clone())]);
    let rollout = stand.start(&Behaviour::of("2"), strategy).await?;

    // It stops wherever it is: nothing is started, moved or ended until somebody resumes it.
    rollout.pause().await?;
    let paused = until(&rollout, |status| status.paused && !status.waiting.is_empty()).await?;
    tell("paused", &paused);
    let before = load.mark();
    sleep(Duration::from_millis(500)).await;
    println!("  in half a second of the pause: {}", load.mark().since(&before));
    rollout.resume().await?;

    // Now it goes on until it needs the approval; time that it waits for a person burns no deadline.
    let asking = until(&rollout, |status| waits_for(status, &more)).await?;
    tell("resumed", &asking);
    let before = load.mark();
    sleep(Duration::from_millis(500)).await;
    println!("  in half a second of the canary: {}", load.mark().since(&before));
    rollout.approve(more).await?;
    println!("approved");

    let outcome = rollout.wait().await?;
    tell("ended", &rollout.status());
    if outcome != Outcome::Promoted {
        return Err(outcome.to_string().into());
    }
    let counts = load.stop().await;
    println!("  {counts}");
    verdict(counts.failed())
}

/// The status, as soon as something about it holds.
async fn until(rollout: &Rollout, holds: impl Fn(&Status) -> bool) -> Result<Status> {
    let looking = async {
        loop {
            let status = rollout.status();
            if holds(&status) || status.outcome.is_some() {
                return status;
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    Ok(timeout(Duration::from_secs(20), looking)
        .await
        .map_err(|_| format!("it still waits: {:?}", rollout.status()))?)
}

/// Whether nothing but the approval is missing.
fn waits_for(status: &Status, approval: &ApprovalName) -> bool {
    matches!(&status.waiting[..], [only] if only.contains(approval.as_str()))
}

fn tell(what: &str, status: &Status) {
    let stage = match &status.stage {
        Some((number, name)) => format!("stage {number} of {} ({name})", status.stages),
        None => "on the way back".to_owned(),
    };
    println!("{what}: {stage}");
    for what in &status.waiting {
        println!("  waits for {what}");
    }
    if let Some(outcome) = &status.outcome {
        println!("  {outcome}");
    }
}
