//! A golden AMI: an instance without any way in runs the recipe, says whether it went well, and becomes the image. The same recipe
//! again is the same image.
//!
//! Against a machine's own emulator, which costs nothing (`cargo xtask emulator` installs it):
//!
//!     cargo run --features aws --example aws_build_image -- --emulator
//!
//! Against an account of yours, where it starts an instance and makes an image:
//!
//!     export AWS_PROFILE=... AWS_REGION=... IMMUTABLE_AWS_SUBNETS=subnet-... IMMUTABLE_AWS_SECURITY_GROUPS=sg-...
//!     export IMMUTABLE_AWS_INSTANCE_TYPES=t3.small
//!     cargo run --features aws --example aws_build_image -- <service> <version> <base AMI>

#![allow(clippy::print_stdout, reason = "it talks to a person")]

#[path = "support/emulator.rs"]
mod emulator;

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;

use immutable_aws::{AmiBuilder, Config};
use immutable_core::model::{Image, ServiceName};
use immutable_core::provider::{FileCopy, ImageBuilder, ImageSpec, Layer, OpContext, Progress, Recipe};

const USAGE: &str = "arguments: <service> <version> <base AMI>, or --emulator";

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = if arguments == ["--emulator"] {
        emulator::run_again(|furnished| vec!["web".to_owned(), "1.0.0".to_owned(), furnished.images[0].clone()]).await
    } else {
        build(&arguments).await
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn build(arguments: &[String]) -> Result<(), Box<dyn Error>> {
    let [service, version, base] = arguments else { return Err(USAGE.into()) };
    let builder = AmiBuilder::new(Config::from_env().await?);
    let file = |source: &str, target: &str, executable| FileCopy {
        source: Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/support").join(source),
        target: target.to_owned(),
        executable,
    };
    let recipe = Recipe {
        base: Some(AmiBuilder::base(base)?),
        layers: vec![
            Layer::Files(vec![file("start_server.sh", "start", true), file("index.html", "site/index.html", false)]),
            // Nothing is fetched, so that a subnet without a way out does: Amazon Linux 2023, Debian and Ubuntu all have Python.
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
async fn ensure(builder: &AmiBuilder, spec: &ImageSpec) -> Result<Image, Box<dyn Error>> {
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
