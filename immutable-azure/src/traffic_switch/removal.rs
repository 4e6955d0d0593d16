//! Removing what a fleet without instances has left on routes.
//!
//! # Flow
//! Who leaves is remembered on a route while it is drained, and the next change of the route forgets it. After the last change of a rollout there is no
//! next one: so a fleet that is removed takes with it what is left of it on the routes that the configuration names. Of weights of
//! Traffic Manager nothing is left on the profile, and the pools behind it are routes as others.

use immutable_core::model::FleetId;
use immutable_core::provider::{Progress, ProviderError};

use super::application_gateway::{self, Route};
use super::load_balancer::{self, pool::Place};
use crate::Config;

/// Removes what a fleet without instances has on routes, one change in a call. Done when there is nothing; routes that are gone have nothing.
///
/// # Errors
/// `Conflict` when members of it are still in or still have traffic, and when somebody else has changed the route in this moment.
pub(crate) async fn drop_fleet(
    config: &Config,
    operation: &'static str,
    fleet: &FleetId,
) -> Result<Progress<()>, ProviderError> {
    for route in &config.routes {
        let step = if let Some(place) = Place::parse(route.as_str()) {
            load_balancer::drop_fleet(config, operation, &place, fleet).await?
        } else if let Some(route) = Route::parse(route) {
            application_gateway::drop_fleet(config, operation, route, fleet).await?
        } else {
            Progress::Done(())
        };
        if step != Progress::Done(()) {
            return Ok(step);
        }
    }
    Ok(Progress::Done(()))
}
