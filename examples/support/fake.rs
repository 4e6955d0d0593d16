//! The stand-in for Google Cloud that an example runs against, with what a project needs before its first rollout.

#![allow(dead_code, reason = "each example uses a part of it")]

use std::error::Error;
use std::time::Duration;

use google_cloud_auth::credentials::anonymous;
use immutable_core::provider::{Pace, Platform};
use immutable_gcp::{Clients, Config, Location};
use immutable_gcp_fake::{Fake, Options};
use serde_json::json;

const LINK: &str = "https://www.googleapis.com/compute/v1/projects/fake-project";

/// A project with two images, a base to build another on, and a URL map that leads to a backend service.
#[derive(Debug)]
pub(crate) struct Furnished {
    pub(crate) config: Config,
    pub(crate) images: Vec<String>,
    pub(crate) base: String,
    /// It serves as long as this lives, and complains at its end if it was asked what the API does not know.
    _fake: Fake,
}

pub(crate) async fn furnish() -> Result<Furnished, Box<dyn Error>> {
    let fake = Fake::serve(Options { page: 100, ..Options::default() }, 0)?;
    let image = |name: &str| {
        let path = format!("global/images/{name}");
        fake.put(&path, json!({ "status": "READY", "diskSizeGb": "10" }));
        format!("projects/fake-project/{path}")
    };
    let (images, base) = (vec![image("web-1"), image("web-2")], image("debian-12"));
    fake.put("global/healthChecks/web", json!({ "type": "HTTP", "httpHealthCheck": { "port": 80 } }));
    let service = json!({
        "loadBalancingScheme": "EXTERNAL_MANAGED",
        "protocol": "HTTP",
        "healthChecks": [format!("{LINK}/global/healthChecks/web")],
    });
    fake.put("global/backendServices/web", service);
    fake.put("global/urlMaps/web", json!({ "defaultService": format!("{LINK}/global/backendServices/web") }));

    let clients = Clients::new(anonymous::Builder::new().build(), Some(&fake.url())).await?;
    let location = Location::region("europe-west1", ["europe-west1-b", "europe-west1-c"]);
    let config = Config::builder(clients, fake.project(), location, "e2-small")
        .routes(["global/urlMaps/web".parse()?])
        .list_lag(Duration::ZERO)
        .weight_lag(Duration::ZERO)
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
    Platform { pace, ..immutable_gcp::platform(config) }
}
