//! A golden image on Azure: a machine without any way in runs the recipe, says whether it went well, and becomes a version of a gallery. The same
//! recipe again is the same image.
//!
//! Against a stand-in for Azure Resource Manager in this process, which costs nothing:
//!
//!     cargo run --features azure --example azure_build_image -- --emulator
//!
//! Against a resource group of yours, where it starts a machine and makes an image in a gallery that is there:
//!
//!     az login
//!     export AZURE_TOKEN_CREDENTIALS=dev IMMUTABLE_AZURE_SUBSCRIPTION=... IMMUTABLE_AZURE_RESOURCE_GROUP=...
//!     export IMMUTABLE_AZURE_LOCATION=westeurope IMMUTABLE_AZURE_VM_SIZE=Standard_D2s_v5 IMMUTABLE_AZURE_SUBNET=/subscriptions/...
//!     export IMMUTABLE_AZURE_GALLERY=/subscriptions/.../providers/Microsoft.Compute/galleries/...
//!     cargo run --features azure --example azure_build_image -- <service> <version> debian:debian-12:12-gen2:...

#![allow(clippy::print_stdout, reason = "it talks to a person")]

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use azure_core::base64;
use azure_core::credentials::{AccessToken, TokenCredential, TokenRequestOptions};
use azure_core::time::{Duration, OffsetDateTime};
use immutable_azure::{Clients, Config, GalleryImageBuilder, ImageSettings};
use immutable_azure_fake::{Fake, Options, Ran};
use immutable_core::model::{Fingerprint, Image, ServiceName};
use immutable_core::provider::{FileCopy, ImageBuilder, ImageSpec, Layer, OpContext, Progress, Recipe};
use serde_json::{Value, json};

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
    let fake = Fake::start(Options::default());
    fake.put("Microsoft.Compute/galleries/golden", json!({}));
    fake.on_run_command(|machine, script| Some(run(machine, script)));
    let subnet = fake.id("Microsoft.Network/virtualNetworks/web/subnets/default");
    let clients = Clients::new(Arc::new(Known), Some(&fake.url()))?;
    let config = Config::builder(clients, Options::default().subscription, "fake", "westeurope")
        .vm_size("Standard_D2s_v5")
        .subnet(subnet)
        .images(ImageSettings::new(fake.id("Microsoft.Compute/galleries/golden")))
        .build()?;
    let arguments = ["web", "1.0.0", "debian:debian-12:12-gen2:0.20260112.1993"].map(str::to_owned);
    build(&arguments, GalleryImageBuilder::new(config)).await
}

/// What run commands do on the builder of the stand-in, where no script really runs: they say that the build is done, and switch the machine off.
fn run(machine: &Value, script: &str) -> Ran {
    if script.contains("deprovision") {
        return Ran { off: true, ..Ran::default() };
    }
    let data = machine["properties"]["osProfile"]["customData"].as_str().unwrap_or_default();
    let data = base64::decode(data).unwrap_or_default();
    let data = String::from_utf8_lossy(&data);
    let nonce = data.lines().find_map(|line| line.strip_prefix("# immutable-nonce: ")).unwrap_or_default();
    Ran { output: format!("immutable {nonce} done {}\n", Fingerprint::of("content")), ..Ran::default() }
}

/// A credential for the stand-in, which takes any token for a good one.
#[derive(Debug)]
struct Known;

#[async_trait::async_trait]
impl TokenCredential for Known {
    async fn get_token(&self, _: &[&str], _: Option<TokenRequestOptions<'_>>) -> azure_core::Result<AccessToken> {
        Ok(AccessToken::new("for-the-stand-in", OffsetDateTime::now_utc() + Duration::hours(1)))
    }
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
            // Nothing is fetched, so that a subnet without a way out does: images for Azure have Python.
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
