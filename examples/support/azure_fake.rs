//! The stand-in for Azure that an example runs against, with what a subscription needs before its first rollout.

#![allow(dead_code, reason = "each example uses a part of it")]

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use azure_core::credentials::{AccessToken, TokenCredential, TokenRequestOptions};
use azure_core::time::{Duration as Span, OffsetDateTime};
use immutable_azure::{Clients, Config};
use immutable_azure_fake::{Fake, Options};
use immutable_core::provider::{Pace, Platform};
use serde_json::json;

const BALANCER: &str = "Microsoft.Network/loadBalancers/web";
const VERSIONS: &str = "Microsoft.Compute/galleries/golden/images/web/versions";

/// A subscription with two images, a base to build another on, and a load balancer with a backend pool.
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
    for place in ["Microsoft.Compute/galleries/golden", "Microsoft.Compute/galleries/golden/images/web"] {
        fake.put(place, json!({}));
    }
    let image = |version: &str| {
        let path = format!("{VERSIONS}/{version}");
        fake.put(&path, json!({}));
        fake.id(&path)
    };
    let (images, base) = (vec![image("1.0.0"), image("2.0.0")], image("0.1.0"));
    let part = |part: &str| json!({ "id": fake.id(&format!("{BALANCER}/{part}")) });
    let rule = json!({
        "protocol": "Tcp",
        "frontendPort": 80,
        "backendPort": 80,
        "frontendIPConfiguration": part("frontendIPConfigurations/front"),
        "backendAddressPool": part("backendAddressPools/web"),
        "probe": part("probes/web"),
    });
    let balancer = json!({
        "sku": { "name": "Standard" },
        "properties": {
            "frontendIPConfigurations": [{ "name": "front", "properties": { "privateIPAllocationMethod": "Dynamic" } }],
            "backendAddressPools": [{ "name": "web", "properties": {} }],
            "loadBalancingRules": [{ "name": "web", "properties": rule }],
            "probes": [{ "name": "web", "properties": { "protocol": "Tcp", "port": 80 } }],
        },
    });
    fake.put(BALANCER, balancer);

    let clients = Clients::new(Arc::new(Anybody), Some(&fake.url()))?;
    let config = Config::builder(clients, subscription, "fake", "westeurope")
        .zones(["1", "2", "3"])
        .vm_size("Standard_B2s")
        .subnet(fake.id("Microsoft.Network/virtualNetworks/net/subnets/main"))
        .routes([fake.id(&format!("{BALANCER}/backendAddressPools/web")).parse()?])
        .list_lag(Duration::ZERO)
        .build()?;
    Ok(Furnished { config, images, base, _fake: fake })
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
