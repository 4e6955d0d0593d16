//! Instances are named as their machines are: `<scale set>_<suffix>`, in small letters.
//!
//! A flexible scale set names its machines by eight hexadecimal digits of chance, a uniform one by a number
//! (<https://learn.microsoft.com/azure/virtual-machine-scale-sets/virtual-machine-scale-sets-instance-ids>). So the name tells the fleet, and the instance from
//! all that are; of a flexible set also from all that were and will be. A number may be used again when whoever had it is gone: see
//! [`Orchestration::Uniform`](crate::Orchestration::Uniform). Azure tells names in letters of either size, depending on whom one asks.

use immutable_core::model::{FleetId, InstanceId, NameError};

use crate::ownership::PREFIX;

/// The instance that is the machine of this name.
///
/// # Errors
/// For what is no name of a machine.
pub(crate) fn id(machine: &str) -> Result<InstanceId, NameError> {
    InstanceId::new(machine.to_ascii_lowercase())
}

/// The fleet of an instance, as its name tells; nothing for a machine that was put into a scale set by hand.
pub(crate) fn fleet(instance: &InstanceId) -> Option<FleetId> {
    let (scale_set, _) = instance.as_str().rsplit_once('_')?;
    FleetId::new(scale_set.strip_prefix(PREFIX)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_machine_tells_its_fleet() {
        for (machine, instance, expected) in [
            ("im-web-1f2e_0a1b2c3d", "im-web-1f2e_0a1b2c3d", Some("web-1f2e")),
            ("IM-WEB-1F2E_0A1B2C3D", "im-web-1f2e_0a1b2c3d", Some("web-1f2e")),
            ("im-web-1f2e_17", "im-web-1f2e_17", Some("web-1f2e")),
            ("web", "web", None),
            ("web_1", "web_1", None),
            ("im-_1", "im-_1", None),
        ] {
            let id = id(machine).unwrap();
            assert_eq!(id.as_str(), instance);
            assert_eq!(fleet(&id).as_ref().map(FleetId::as_str), expected, "{machine}");
        }
    }
}
