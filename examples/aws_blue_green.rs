//! Blue-green on AWS: a whole new fleet starts beside the old one, takes all of the traffic of a listener at once, is watched for a
//! while, and then the old fleet ends.
//!
//! Against a machine's own emulator, which costs nothing (`cargo xtask emulator` installs it):
//!
//!     cargo run --features aws --example aws_blue_green -- --emulator
//!
//! Against an account of yours, where it starts and ends instances:
//!
//!     export AWS_PROFILE=... AWS_REGION=... IMMUTABLE_AWS_SUBNETS=subnet-...,subnet-... IMMUTABLE_AWS_SECURITY_GROUPS=sg-...
//!     export IMMUTABLE_AWS_INSTANCE_TYPES=t3.small IMMUTABLE_AWS_ROUTES=<ARN of a listener that forwards to a target group>
//!     cargo run --features aws --example aws_blue_green -- <service> <instances> <AMI>...
//!
//! Each AMI is rolled out over the one before. All variables: `immutable_aws::Config::from_env`.

#![allow(clippy::print_stdout, reason = "it talks to a person")]

#[path = "support/emulator.rs"]
mod emulator;

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use futures_util::StreamExt;
use immutable_aws::{AmiBuilder, Config};
use immutable_core::engine::{Engine, Event, Outcome};
use immutable_core::journal::FileJournal;
use immutable_core::model::{LaunchSpec, Release, ServiceName};
use immutable_core::plan::{RolloutSpec, Strategy};

const USAGE: &str = "arguments: <service> <instances> <AMI>..., or --emulator";

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = if arguments == ["--emulator"] {
        emulator::run_again(|furnished| {
            vec!["web".to_owned(), "2".to_owned(), furnished.images[0].clone(), furnished.images[1].clone()]
        })
        .await
    } else {
        blue_green(&arguments).await
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn blue_green(arguments: &[String]) -> Result<(), Box<dyn Error>> {
    let [service, instances, images @ ..] = arguments else { return Err(USAGE.into()) };
    let (service, instances) = (service.parse::<ServiceName>()?, instances.parse::<u32>()?);
    let config = Config::from_env().await?;
    let route = config.routes().first().ok_or("IMMUTABLE_AWS_ROUTES: name the ARN of a listener")?.clone();

    // The journal is a directory here; `immutable-object-store` keeps it in S3, where a whole team can go on with it.
    let journal = FileJournal::open(format!("immutable-journal-{service}"))?;
    let engine = Engine::builder(immutable_aws::platform(&config)).journal(journal).build();
    for ami in images {
        let image = AmiBuilder::base(ami)?;
        let mut launch = LaunchSpec::default();
        // With other instance types or subnets, the same image is another release.
        launch.labels.extend([config.launch_label()]);
        let strategy = Strategy::blue_green().bake(Duration::from_secs(10));
        let release = Release::new(image, launch);
        let spec = RolloutSpec::new(service.clone(), route.clone(), release, strategy).desired(instances);

        println!("{}\n", engine.plan(&spec).await?);
        let rollout = engine.start(spec).await?;
        let mut events = rollout.events();
        while let Some(event) = events.next().await {
            if !matches!(event, Event::Progressed { .. }) {
                println!("  {event}");
            }
        }
        match rollout.wait().await? {
            Outcome::Promoted => println!("{ami} has all of the traffic\n"),
            other => return Err(other.to_string().into()),
        }
    }
    Ok(())
}
