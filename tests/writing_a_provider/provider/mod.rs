//! A provider for a cloud that does not exist: every part of a platform.

mod error;
mod fleets;
mod health;
mod images;
mod metrics;
mod switch;

use std::sync::Arc;

use immutable_core::model::ServiceName;
use immutable_core::provider::{Pace, Platform};

use crate::acme::{Acme, Answer, Page, Tags};

/// The tags by which everything of ours is found again (G4).
const SERVICE: &str = "immutable-service";
const FLEET: &str = "immutable-fleet";
const RELEASE: &str = "immutable-release";
const ROLLOUT: &str = "immutable-rollout";

/// The whole platform.
pub(crate) fn platform(acme: &Acme) -> Platform {
    Platform {
        images: Arc::new(images::AcmeImages::new(acme.clone())),
        fleets: Arc::new(fleets::AcmeFleets::new(acme.clone())),
        health: Arc::new(health::AcmeProbe::new(acme.clone())),
        traffic: Arc::new(switch::AcmeSwitch::new(acme.clone())),
        metrics: Arc::new(metrics::AcmeMetrics::new(acme.clone())),
        pace: Pace::default(),
    }
}

/// All pages of a list (G5).
async fn all<T, F>(mut page: impl FnMut(Option<String>) -> F) -> Answer<Vec<T>>
where
    F: Future<Output = Answer<Page<T>>>,
{
    let mut found = Vec::new();
    let mut next = None;
    loop {
        let page = page(next).await?;
        found.extend(page.items);
        next = page.next;
        if next.is_none() {
            return Ok(found);
        }
    }
}

/// What belongs to a service, as a filter of a list.
fn of(service: &ServiceName) -> (&str, &str) {
    (SERVICE, service.as_str())
}

fn tag<'a>(tags: &'a Tags, key: &str) -> &'a str {
    tags.get(key).map_or("", String::as_str)
}
