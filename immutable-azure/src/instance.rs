//! Instances are named as their machines are, in small letters: `<scale set>_<suffix>`. So the name tells the fleet, and the instance from all that are,
//! were and will be. Azure tells names in letters of either size, depending on whom one asks.
//!
//! A flexible scale set names its machines by eight hexadecimal digits of chance. A uniform one has
//! [numbers](https://learn.microsoft.com/azure/virtual-machine-scale-sets/virtual-machine-scale-sets-instance-ids) for them, which it may use again when
//! whoever had one is gone. So the beginning of what no other machine has is put behind the number: `<scale set>_<number>-<8 digits of the vmId>`.

use immutable_core::model::{FleetId, InstanceId, NameError};
use serde_json::Value;

use crate::ownership::PREFIX;

/// The instance that is the machine of this name.
///
/// # Errors
/// For what is no name of a machine.
pub(crate) fn id(machine: &str) -> Result<InstanceId, NameError> {
    InstanceId::new(machine.to_ascii_lowercase())
}

/// The instance that a member of a uniform scale set is; nothing, if it has no `vmId`.
pub(crate) fn numbered(scale_set: &str, member: &Value) -> Option<InstanceId> {
    let number = member["instanceId"].as_str()?;
    let (start, _) = member["properties"]["vmId"].as_str()?.split_once('-')?;
    let is_start = start.len() == 8 && start.bytes().all(|b| b.is_ascii_hexdigit());
    is_start.then(|| id(&format!("{scale_set}_{number}-{start}")).ok())?
}

/// What tells an instance from the others of its fleet, in as few characters as can be.
pub(crate) fn mark(instance: &InstanceId) -> &str {
    let name = instance.as_str();
    if fleet(instance).is_some() { name.rsplit(['_', '-']).next().unwrap_or(name) } else { name }
}

/// The fleet of an instance, as its name tells; nothing for a machine that was put into a scale set by hand.
pub(crate) fn fleet(instance: &InstanceId) -> Option<FleetId> {
    let (scale_set, _) = instance.as_str().rsplit_once('_')?;
    FleetId::new(scale_set.strip_prefix(PREFIX)?).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_name_of_a_machine_tells_its_fleet() {
        for (machine, instance, expected) in [
            ("im-web-1f2e_0a1b2c3d", "im-web-1f2e_0a1b2c3d", Some("web-1f2e")),
            ("IM-WEB-1F2E_0A1B2C3D", "im-web-1f2e_0a1b2c3d", Some("web-1f2e")),
            ("im-web-1f2e_17-0a1b2c3d", "im-web-1f2e_17-0a1b2c3d", Some("web-1f2e")),
            ("web", "web", None),
            ("web_1", "web_1", None),
            ("im-_1", "im-_1", None),
        ] {
            let id = id(machine).unwrap();
            assert_eq!(id.as_str(), instance);
            assert_eq!(fleet(&id).as_ref().map(FleetId::as_str), expected, "{machine}");
        }
    }

    #[test]
    fn a_number_tells_an_instance_only_with_what_its_machine_alone_has() {
        for (vm_id, expected) in [
            (json!("0A1b2c3d-0000-4000-8000-000000000000"), Some("im-web-1f2e_17-0a1b2c3d")),
            (json!("1a1b2c3d-0000-4000-8000-000000000000"), Some("im-web-1f2e_17-1a1b2c3d")),
            (json!("0a1b-0000"), None),
            (json!("something-else"), None),
            (json!(""), None),
            (json!(null), None),
        ] {
            let member = json!({ "instanceId": "17", "properties": { "vmId": vm_id } });
            assert_eq!(numbered("im-web-1f2e", &member).as_ref().map(InstanceId::as_str), expected, "{vm_id}");
        }
    }

    #[test]
    fn a_mark_is_short_and_tells_instances_of_a_fleet_apart() {
        for (instance, expected) in [
            ("im-web-1f2e_0a1b2c3d", "0a1b2c3d"),
            ("im-web-1f2e_17-0a1b2c3d", "0a1b2c3d"),
            ("by-hand", "by-hand"),
            ("by_hand", "by_hand"),
        ] {
            assert_eq!(mark(&instance.parse().unwrap()), expected);
        }
    }
}
