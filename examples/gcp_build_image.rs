//! A golden image on Google Cloud: a machine without any way in runs the recipe, says whether it went well, and becomes the image. The same
//! recipe again is the same image.
//!
//! Against a stand-in for Compute Engine in this process, which costs nothing (`cargo xtask emulator` fetches the description of the API
//! that it keeps to):
//!
//!     cargo run --features gcp --example gcp_build_image -- --emulator
//!
//! Against a project of yours, where it starts a machine and makes an image:
//!
//!     gcloud auth application-default login
//!     export IMMUTABLE_GCP_PROJECT=... IMMUTABLE_GCP_ZONES=europe-west3-a IMMUTABLE_GCP_MACHINE_TYPE=e2-small
//!     cargo run --features gcp --example gcp_build_image -- <service> <version> projects/debian-cloud/global/images/debian-12-...

#![allow(clippy::print_stdout, reason = "it talks to a person")]

#[path = "support/fake.rs"]
mod fake;

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;

use immutable_core::model::{Image, ServiceName};
use immutable_core::provider::{FileCopy, ImageBuilder, ImageSpec, Layer, OpContext, Progress, Recipe};
use immutable_gcp::{ComputeImageBuilder, Config};

const USAGE: &str = "arguments: <service> <version> <base image>, or --emulator";

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
    build(arguments, ComputeImageBuilder::new(Config::from_env().await?)).await
}

async fn on_a_fake() -> Result<(), Box<dyn Error>> {
    let furnished = fake::furnish().await?;
    let arguments = ["web".to_owned(), "1.0.0".to_owned(), furnished.base.clone()];
    build(&arguments, ComputeImageBuilder::new(furnished.config.clone())).await
}

async fn build(arguments: &[String], builder: ComputeImageBuilder) -> Result<(), Box<dyn Error>> {
    let [service, version, base] = arguments else { return Err(USAGE.into()) };
    let file = |source: &str, target: &str, executable| FileCopy {
        source: Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/support").join(source),
        target: target.to_owned(),
        executable,
    };
    let recipe = Recipe {
        base: Some(ComputeImageBuilder::base(base)?),
        layers: vec![
            Layer::Files(vec![file("start_server.sh", "start", true), file("index.html", "site/index.html", false)]),
            // Nothing is fetched, so that a subnetwork without a way out does: Debian and Ubuntu have Python.
            Layer::Script("python3 -c 'import http.server'\n".to_owned()),
        ],
        command: vec!["start".to_owned()],
    };
    let service: ServiceName = service.parse()?;
    let spec = ImageSpec { service, recipe, version: version.clone(), commit: None };
    let first = ensure(&builder, &spec).await?;
    println!("{} is the image of {version}, with the fingerprint {}", first.id, first.fingerprint);
    let again = ensure(&builder, &spec).await?;
    println!("the same recipe again is {}", again.id);
    if first == again { Ok(()) } else { Err("the same recipe was built twice".into()) }
}

/// Asks until the image is there. A provider never waits by itself; an engine, or a loop like this, owns the time.
async fn ensure(builder: &ComputeImageBuilder, spec: &ImageSpec) -> Result<Image, Box<dyn Error>> {
    loop {
        match builder.ensure(&OpContext::standalone("build an image"), spec).await? {
            Progress::Done(image) => return Ok(image),
            Progress::Pending { retry_after, note } => {
                println!("  waits for {note}");
                tokio::time::sleep(retry_after).await;
            }
        }
    }
}
