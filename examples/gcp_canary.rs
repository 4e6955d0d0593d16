//! A canary on Google Cloud: a tenth of the traffic first, then half of it, then all, each step watched for a while; then the old fleet ends.
//!
//! Against a stand-in for Compute Engine in this process, which costs nothing (`cargo xtask emulator` fetches the description of the API
//! that it keeps to):
//!
//!     cargo run --features gcp --example gcp_canary -- --emulator
//!
//! Against a project of yours, where it starts and ends instances:
//!
//!     gcloud auth application-default login
//!     export IMMUTABLE_GCP_PROJECT=... IMMUTABLE_GCP_ZONES=europe-west3-a,europe-west3-b IMMUTABLE_GCP_MACHINE_TYPE=e2-small
//!     export IMMUTABLE_GCP_HEALTH_PATH=/ IMMUTABLE_GCP_ROUTES=global/urlMaps/<a URL map whose default is a backend service>
//!     cargo run --features gcp --example gcp_canary -- <service> <instances> <image>...
//!
//! An image is named as `projects/<project>/global/images/<name>`, and each is rolled out over the one before. All variables:
//! `immutable_gcp::Config::from_env`.

#![allow(clippy::print_stdout, reason = "it talks to a person")]

#[path = "support/fake.rs"]
mod fake;

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use futures_util::StreamExt;
use immutable_core::engine::{Engine, Event, Outcome};
use immutable_core::journal::FileJournal;
use immutable_core::model::{LaunchSpec, Release, ServiceName};
use immutable_core::plan::{RolloutSpec, StageSpec, Strategy};
use immutable_gcp::{ComputeImageBuilder, Config};

const USAGE: &str = "arguments: <service> <instances> <image>..., or --emulator";

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = if arguments == ["--emulator"] { on_a_fake().await } else { in_a_project(&arguments).await };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn in_a_project(arguments: &[String]) -> Result<(), Box<dyn Error>> {
    let config = Config::from_env().await?;
    // The journal is a directory here; `immutable-object-store` keeps it in Cloud Storage, where a whole team can go on with it.
    let journal = FileJournal::open("immutable-journal")?;
    let engine = Engine::builder(immutable_gcp::platform(&config)).journal(journal).build();
    canary(arguments, &config, &engine).await
}

async fn on_a_fake() -> Result<(), Box<dyn Error>> {
    let (furnished, directory) = (fake::furnish().await?, tempfile::tempdir()?);
    let journal = FileJournal::open(directory.path().join("journal"))?;
    let engine = Engine::builder(fake::platform(&furnished.config)).journal(journal).build();
    let arguments = ["web", "2"].map(str::to_owned).into_iter().chain(furnished.images.iter().cloned());
    canary(&arguments.collect::<Vec<_>>(), &furnished.config, &engine).await
}

async fn canary(arguments: &[String], config: &Config, engine: &Engine) -> Result<(), Box<dyn Error>> {
    let [service, instances, images @ ..] = arguments else { return Err(USAGE.into()) };
    let (service, instances) = (service.parse::<ServiceName>()?, instances.parse::<u32>()?);
    let route = config.routes().first().ok_or("IMMUTABLE_GCP_ROUTES: name a URL map")?.clone();
    for image in images {
        let built = ComputeImageBuilder::base(image)?;
        let mut launch = LaunchSpec::default();
        // With another machine type or other zones, the same image is another release.
        launch.labels.extend([config.launch_label()]);
        // With enough traffic to judge by, a stage also takes bounds: `.check(Check::at_most("errors".parse()?, 0.01))`.
        let stage = |percent| Ok::<_, Box<dyn Error>>(StageSpec::percent(percent)?.hold(Duration::from_secs(5)));
        let strategy = Strategy::canary([stage(10)?, stage(50)?]);
        let release = Release::new(built, launch);
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
            Outcome::Promoted => println!("{image} has all of the traffic\n"),
            other => return Err(other.to_string().into()),
        }
    }
    Ok(())
}
