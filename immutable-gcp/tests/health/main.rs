//! What Google Cloud itself knows of instances and of requests, asked for as a rollout does.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod metrics;
mod probes;

use google_cloud_auth::credentials::anonymous;
use immutable_core::model::{Fingerprint, FleetId, RouteId};
use immutable_gcp::{Clients, Config, ConfigBuilder, Location};
use immutable_gcp_fake::Fake;

const FLEET: &str = "web-0123456789ab";
const ZONE: &str = "europe-west1-b";

async fn clients(fake: &Fake) -> Clients {
    Clients::new(anonymous::Builder::new().build(), Some(&fake.url())).await.unwrap()
}

async fn config(fake: &Fake) -> ConfigBuilder {
    Config::builder(clients(fake).await, fake.project(), Location::zone(ZONE), "e2-small")
}

fn fleet() -> FleetId {
    FLEET.parse().unwrap()
}

fn routes(routes: &[&str]) -> Vec<RouteId> {
    routes.iter().map(|route| route.parse().unwrap()).collect()
}

/// The name of what the fleet has on a route.
fn name_on(route: &str) -> String {
    format!("im-{}-{}", Fingerprint::of(FLEET).short(), Fingerprint::of(route).short())
}
