//! The stand-in for Azure that an example runs against, with what a subscription needs before its first rollout.

#![allow(dead_code, reason = "each example uses a part of it")]

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use azure_core::credentials::{AccessToken, TokenCredential, TokenRequestOptions};
use azure_core::time::{Duration as Span, OffsetDateTime};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use immutable_azure::{Clients, Config, ImageSettings};
use immutable_azure_fake::{Fake, Options, Ran};
use immutable_core::model::Fingerprint;
use immutable_core::provider::{Pace, Platform};
use serde_json::{Value, json};

const BALANCER: &str = "Microsoft.Network/loadBalancers/web";
const GALLERY: &str = "Microsoft.Compute/galleries/golden";

/// A resource group with a gallery that has two images, and a base to build another on; and a load balancer with a backend pool.
#[derive(Debug)]
pub(crate) struct Furnished {
    pub(crate) config: Config,
    pub(crate) images: Vec<String>,
    pub(crate) base: String,
    /// It serves as long as this lives, and complains at its end if it was asked what the API does not know.
    _fake: Fake,
}

/// Whoever asks has a token: the fake takes any.
#[derive(Debug)]
struct Anybody;

#[async_trait]
impl TokenCredential for Anybody {
    async fn get_token(&self, _: &[&str], _: Option<TokenRequestOptions<'_>>) -> azure_core::Result<AccessToken> {
        Ok(AccessToken::new("of-an-example", OffsetDateTime::now_utc() + Span::hours(1)))
    }
}

pub(crate) fn furnish() -> Result<Furnished, Box<dyn Error>> {
    let options = Options { page: 100, ..Options::default() };
    let subscription = options.subscription.clone();
    let fake = Fake::serve(options, 0)?;
    fake.on_run_command(|machine, script| Some(run(machine, script)));
    fake.put(GALLERY, json!({}));
    fake.put(&format!("{GALLERY}/images/debian"), json!({}));
    let image = |version: &str| {
        let path = format!("{GALLERY}/images/debian/versions/{version}");
        fake.put(&path, json!({}));
        fake.id(&path)
    };
    let (images, base) = (vec![image("1.0.0"), image("2.0.0")], image("0.1.0"));
    fake.put(BALANCER, balancer(&fake));

    let clients = Clients::new(Arc::new(Anybody), Some(&fake.url()))?;
    let config = Config::builder(clients, subscription, "fake", "westeurope")
        .zones(["1", "2", "3"])
        .vm_size("Standard_B2s")
        .subnet(fake.id("Microsoft.Network/virtualNetworks/net/subnets/main"))
        .routes([fake.id(&format!("{BALANCER}/backendAddressPools/web")).parse()?])
        .images(ImageSettings::new(fake.id(GALLERY)))
        .list_lag(Duration::ZERO)
        .build()?;
    Ok(Furnished { config, images, base, _fake: fake })
}

/// A load balancer of which a rule with a probe leads to a backend pool.
fn balancer(fake: &Fake) -> Value {
    let part = |part: &str| json!({ "id": fake.id(&format!("{BALANCER}/{part}")) });
    let rule = json!({
        "protocol": "Tcp",
        "frontendPort": 80,
        "backendPort": 80,
        "frontendIPConfiguration": part("frontendIPConfigurations/front"),
        "backendAddressPool": part("backendAddressPools/web"),
        "probe": part("probes/web"),
    });
    json!({
        "sku": { "name": "Standard" },
        "properties": {
            "frontendIPConfigurations": [{ "name": "front", "properties": { "privateIPAllocationMethod": "Dynamic" } }],
            // Who leaves has this long for what it has begun: a few minutes where there are clients.
            "backendAddressPools": [{ "name": "web", "properties": { "drainPeriodInSeconds": 1 } }],
            "loadBalancingRules": [{ "name": "web", "properties": rule }],
            "probes": [{ "name": "web", "properties": { "protocol": "Tcp", "port": 80 } }],
        },
    })
}

/// What run commands do on a builder of images of the stand-in, where no script really runs: they say that the build is done, and switch the machine
/// off.
fn run(machine: &Value, script: &str) -> Ran {
    if script.contains("deprovision") {
        return Ran { off: true, ..Ran::default() };
    }
    let data = machine["properties"]["osProfile"]["customData"].as_str().unwrap_or_default();
    let data = BASE64_STANDARD.decode(data).unwrap_or_default();
    let data = String::from_utf8_lossy(&data);
    let nonce = data.lines().find_map(|line| line.strip_prefix("# immutable-nonce: ")).unwrap_or_default();
    Ran { output: format!("immutable {nonce} done {}\n", Fingerprint::of("content")), ..Ran::default() }
}

/// The platform, looked at more often than a real one would bear.
pub(crate) fn platform(config: &Config) -> Platform {
    let pace = Pace {
        observe: Duration::from_millis(100),
        probe_starting: Duration::from_millis(100),
        probe_running: Duration::from_millis(500),
        ambiguity_horizon: Duration::from_secs(1),
        list_lag: Duration::ZERO,
        ..Pace::default()
    };
    Platform { pace, ..immutable_azure::platform(config) }
}
