//! Where an instance stands, in the words of the contract.

use immutable_core::model::Lifecycle;

pub(super) fn is_live(lifecycle: Lifecycle) -> bool {
    matches!(lifecycle, Lifecycle::Starting | Lifecycle::Running)
}

/// Where a machine stands, by its `provisioningState` and by its [power state](https://learn.microsoft.com/azure/virtual-machines/states-billing), as in
/// `PowerState/running`. `is_unborn`: whether its statuses say that it could not be made. Without any, nothing is known.
pub(super) fn of(provisioning: &str, power: Option<&str>, is_unborn: bool) -> Lifecycle {
    let is = |state: &str| provisioning.eq_ignore_ascii_case(state);
    match power {
        _ if is("Deleting") => Lifecycle::Ending,
        // It boots, or what is installed at its first start is not there yet. That it is stopped "may also be observed briefly during VM creation".
        _ if is("Creating") => Lifecycle::Starting,
        // Stopped by hand, by the system in it, or because its host is gone. Azure does not start it again.
        Some("deallocated" | "deallocating" | "hibernated" | "hibernating" | "stopped" | "stopping") => Lifecycle::Dead,
        // Also where its last change failed: what runs is told from what never did.
        Some("running") => Lifecycle::Running,
        None if is_unborn => Lifecycle::Dead,
        Some(_) | None => Lifecycle::Starting,
    }
}

#[cfg(test)]
mod tests {
    use Lifecycle::{Dead, Ending, Running, Starting};

    use super::*;

    #[test]
    fn a_machine_is_what_its_two_states_say_together() {
        for (provisioning, power, lifecycle) in [
            ("Creating", None, Starting),
            ("Creating", Some("starting"), Starting),
            ("Creating", Some("running"), Starting),
            ("Creating", Some("stopped"), Starting),
            ("creating", Some("stopping"), Starting),
            ("Creating", Some("deallocated"), Starting),
            ("Succeeded", Some("running"), Running),
            ("succeeded", Some("running"), Running),
            ("Updating", Some("running"), Running),
            ("Failed", Some("running"), Running),
            ("Succeeded", Some("starting"), Starting),
            ("Succeeded", None, Starting),
            ("Succeeded", Some("unknown"), Starting),
            ("Succeeded", Some("stopped"), Dead),
            ("Succeeded", Some("stopping"), Dead),
            ("Updating", Some("deallocating"), Dead),
            ("Succeeded", Some("deallocated"), Dead),
            ("Failed", Some("stopped"), Dead),
            ("Failed", None, Starting),
            ("Canceled", None, Starting),
            ("Deleting", Some("running"), Ending),
            ("Deleting", Some("stopped"), Ending),
            ("Deleting", None, Ending),
        ] {
            assert_eq!(of(provisioning, power, false), lifecycle, "{provisioning} {power:?}");
        }
        for (provisioning, power, lifecycle) in [
            ("Failed", None, Dead),
            ("Canceled", None, Dead),
            ("Failed", Some("running"), Running),
            ("Deleting", None, Ending),
        ] {
            assert_eq!(of(provisioning, power, true), lifecycle, "{provisioning} {power:?}, which could not be made");
        }
    }
}
