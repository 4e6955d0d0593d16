//! Rolling on Azure: one instance more than needed, never one less, until all members of a backend pool are of the new release.
//!
//! Against a stand-in for Azure Resource Manager in this process, which costs nothing:
//!
//!     cargo run --features azure --example azure_rolling -- --emulator
//!
//! Against a subscription of yours, where it starts and ends instances:
//!
//!     az login
//!     export AZURE_TOKEN_CREDENTIALS=dev IMMUTABLE_AZURE_SUBSCRIPTION=... IMMUTABLE_AZURE_RESOURCE_GROUP=... IMMUTABLE_AZURE_LOCATION=westeurope
//!     export IMMUTABLE_AZURE_ZONES=1,2,3 IMMUTABLE_AZURE_VM_SIZE=Standard_B2s IMMUTABLE_AZURE_SUBNET=/subscriptions/.../subnets/<subnet>
//!     export IMMUTABLE_AZURE_PORT=8080 IMMUTABLE_AZURE_HEALTH_PATH=/
//!     export IMMUTABLE_AZURE_ROUTES=/subscriptions/.../loadBalancers/<balancer>/backendAddressPools/<pool>
//!     cargo run --features azure --example azure_rolling -- <service> <instances> <image>...
//!
//! An image is named by its id, `/subscriptions/.../galleries/<gallery>/images/<definition>/versions/<version>`, and each is rolled out over the one
//! before. Those that `azure_build_image` makes answer on port 8080, which is not the one that is asked unless `IMMUTABLE_AZURE_PORT` says so; the rule of
//! the balancer and its probe have to lead there as well. With a health path, each instance is also asked at its private address from where this runs: run it
//! where the subnet can be reached, or leave `IMMUTABLE_AZURE_HEALTH_PATH` out. All variables: `immutable_azure::Config::from_env`.

#![allow(clippy::print_stdout, reason = "it talks to a person")]

#[path = "support/azure_fake.rs"]
mod azure_fake;

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use futures_util::StreamExt;
use immutable_azure::{Config, GalleryImageBuilder};
use immutable_core::engine::{Engine, Event, Outcome};
use immutable_core::journal::FileJournal;
use immutable_core::model::{LaunchSpec, Release, ServiceName};
use immutable_core::plan::{Amount, RolloutSpec, Strategy};

const USAGE: &str = "arguments: <service> <instances> <image>..., or --emulator";

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = if arguments == ["--emulator"] { on_a_fake().await } else { in_a_subscription(&arguments).await };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn in_a_subscription(arguments: &[String]) -> Result<(), Box<dyn Error>> {
    let config = Config::from_env()?;
    // The journal is a directory here; `immutable-object-store` keeps it in Blob Storage, where a whole team can go on with it.
    let journal = FileJournal::open("immutable-journal")?;
    let engine = Engine::builder(immutable_azure::platform(&config)).journal(journal).build();
    rolling(arguments, &config, &engine).await
}

async fn on_a_fake() -> Result<(), Box<dyn Error>> {
    let (furnished, directory) = (azure_fake::furnish()?, tempfile::tempdir()?);
    let journal = FileJournal::open(directory.path().join("journal"))?;
    let engine = Engine::builder(azure_fake::platform(&furnished.config)).journal(journal).build();
    let arguments = ["web", "3"].map(str::to_owned).into_iter().chain(furnished.images.iter().cloned());
    rolling(&arguments.collect::<Vec<_>>(), &furnished.config, &engine).await
}

async fn rolling(arguments: &[String], config: &Config, engine: &Engine) -> Result<(), Box<dyn Error>> {
    let [service, instances, images @ ..] = arguments else { return Err(USAGE.into()) };
    let (service, instances) = (service.parse::<ServiceName>()?, instances.parse::<u32>()?);
    let route =
        config.routes().first().ok_or("IMMUTABLE_AZURE_ROUTES: name a backend pool of a load balancer")?.clone();
    for image in images {
        let built = GalleryImageBuilder::base(image)?;
        let mut launch = LaunchSpec::default();
        // With another size of machines or other zones, the same image is another release.
        launch.labels.extend([config.launch_label()]);
        let strategy = Strategy::rolling().max_surge(Amount::Count(1)).max_unavailable(Amount::Count(0));
        let release = Release::new(built, launch);
        let spec = RolloutSpec::new(service.clone(), route.clone(), release, strategy.bake(Duration::from_secs(5)));
        let spec = spec.desired(instances);

        println!("{}\n", engine.plan(&spec).await?);
        let rollout = engine.start(spec).await?;
        let mut events = rollout.events();
        while let Some(event) = events.next().await {
            if !matches!(event, Event::Progressed { .. }) {
                println!("  {event}");
            }
        }
        match rollout.wait().await? {
            Outcome::Promoted => println!("all members are of {image}\n"),
            other => return Err(other.to_string().into()),
        }
    }
    Ok(())
}
