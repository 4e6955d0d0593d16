//! Fleets: as Auto Scaling groups, or as plain instances.
//!
//! The record of a fleet is its launch template: it is made first and removed last, and its tags say what the fleet is bound to. So whatever a
//! call leaves behind that was cut off is found again and finished.

mod activities;
mod auto_scaling;
mod instances;
pub(crate) mod launch_template;
mod removal;
mod survey;
#[cfg(test)]
mod tests;

pub use auto_scaling::AutoScalingProvisioner;
pub use instances::Ec2Provisioner;

use immutable_core::model::FleetSpec;
use immutable_core::provider::{ErrorKind, ProviderError};

use crate::config::Config;

const ENSURE: &str = "ensure fleet";
const OBSERVE: &str = "observe fleets";
const RETIRE: &str = "retire instances";
const REMOVE: &str = "remove fleet";

/// That the size is one that the settings allow.
fn within_limit(config: &Config, spec: &FleetSpec) -> Result<(), ProviderError> {
    if spec.size <= config.max_fleet_size {
        return Ok(());
    }
    let problem = format!(
        "fleet {} is to have {} instances, and max_fleet_size is {}: raise it, if the account's quota allows",
        spec.id, spec.size, config.max_fleet_size
    );
    Err(ProviderError::new(ErrorKind::Quota, ENSURE, problem).without_effect())
}
