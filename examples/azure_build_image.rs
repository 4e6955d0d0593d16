//! A golden image on Azure: a machine without any way in runs the recipe, says whether it went well, and becomes a version of a gallery. The same
//! recipe again is the same image.
//!
//! Against a stand-in for Azure Resource Manager in this process, which costs nothing:
//!
//!     cargo run --features azure --example azure_build_image -- --emulator
//!
//! Against a resource group of yours, where it starts a machine and makes an image in a gallery that is there. The machine needs a way out of its subnet to
//! port 443 of the service tag `AzureCloud`, by which it says how it went:
//!
//!     az login
//!     export AZURE_TOKEN_CREDENTIALS=dev IMMUTABLE_AZURE_SUBSCRIPTION=... IMMUTABLE_AZURE_RESOURCE_GROUP=...
//!     export IMMUTABLE_AZURE_LOCATION=westeurope IMMUTABLE_AZURE_VM_SIZE=Standard_D2s_v5 IMMUTABLE_AZURE_SUBNET=/subscriptions/...
//!     export IMMUTABLE_AZURE_GALLERY=/subscriptions/.../providers/Microsoft.Compute/galleries/...
//!     cargo run --features azure --example azure_build_image -- <service> <version> debian:debian-12:12-gen2:...
//!
//! What is made of the image answers on port 8080.

#![allow(clippy::print_stdout, reason = "it talks to a person")]

#[path = "support/azure_fake.rs"]
mod azure_fake;

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;

use immutable_azure::{Config, GalleryImageBuilder};
use immutable_core::model::{Image, ServiceName};
use immutable_core::provider::{FileCopy, ImageBuilder, ImageSpec, Layer, OpContext, Progress, Recipe};

const USAGE: &str = "arguments: <service> <version> <base image>, or --emulator";

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = if arguments == ["--emulator"] { on_a_fake().await } else { in_a_group(&arguments).await };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn in_a_group(arguments: &[String]) -> Result<(), Box<dyn Error>> {
    build(arguments, GalleryImageBuilder::new(Config::from_env()?)).await
}

async fn on_a_fake() -> Result<(), Box<dyn Error>> {
    let furnished = azure_fake::furnish()?;
    let arguments = ["web".to_owned(), "1.0.0".to_owned(), furnished.base.clone()];
    build(&arguments, GalleryImageBuilder::new(furnished.config.clone())).await
}

async fn build(arguments: &[String], builder: GalleryImageBuilder) -> Result<(), Box<dyn Error>> {
    let [service, version, base] = arguments else { return Err(USAGE.into()) };
    let file = |source: &str, target: &str, executable| FileCopy {
        source: Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/support").join(source),
        target: target.to_owned(),
        executable,
    };
    let recipe = Recipe {
        base: Some(GalleryImageBuilder::base(base)?),
        layers: vec![
            Layer::Files(vec![file("start_server.sh", "start", true), file("index.html", "site/index.html", false)]),
            // Nothing is fetched, so that a way out to Azure alone does: images for Azure have Python.
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
async fn ensure(builder: &GalleryImageBuilder, spec: &ImageSpec) -> Result<Image, Box<dyn Error>> {
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
