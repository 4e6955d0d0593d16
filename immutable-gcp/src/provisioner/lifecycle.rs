//! Where an instance stands, in the words of the contract.

use google_cloud_compute_v1::model::managed_instance::{CurrentAction, InstanceStatus};
use google_cloud_compute_v1::model::{ManagedInstance, instance};
use immutable_core::model::Lifecycle;

pub(super) fn is_live(lifecycle: Lifecycle) -> bool {
    matches!(lifecycle, Lifecycle::Starting | Lifecycle::Running)
}

/// Where an instance stands that a group keeps: what the group does with it says more than what it is right now.
pub(super) fn managed(managed: &ManagedInstance) -> Lifecycle {
    let state = state(managed.instance_status.as_ref().and_then(InstanceStatus::name));
    match managed.current_action.as_ref() {
        Some(CurrentAction::Abandoning | CurrentAction::Deleting) => Lifecycle::Ending,
        // Until the machine is there that takes its place, it is the old one, which is on its way out.
        Some(CurrentAction::Recreating) if state != Lifecycle::Starting => Lifecycle::Ending,
        // Also a machine that stands still is on its way up.
        Some(
            CurrentAction::Creating
            | CurrentAction::CreatingWithoutRetries
            | CurrentAction::Restarting
            | CurrentAction::Resuming
            | CurrentAction::Starting
            | CurrentAction::Verifying,
        ) => Lifecycle::Starting,
        Some(CurrentAction::Stopping | CurrentAction::Suspending) => Lifecycle::Dead,
        _ => state,
    }
}

/// Where an instance stands that is in no group.
pub(super) fn alone(status: Option<&instance::Status>) -> Lifecycle {
    match status {
        // Stopped by hand, or deleted: Compute Engine does not tell which. What is stopped is listed as that soon.
        Some(instance::Status::Stopping | instance::Status::PendingStop) => Lifecycle::Ending,
        status => state(status.and_then(instance::Status::name)),
    }
}

/// What the states of a [machine](https://docs.cloud.google.com/compute/docs/instances/instance-lifecycle) mean.
fn state(status: Option<&str>) -> Lifecycle {
    match status {
        Some("PENDING" | "PROVISIONING" | "STAGING") => Lifecycle::Starting,
        Some("RUNNING") => Lifecycle::Running,
        // "REPAIRING: the instance encountered an internal error or the underlying machine is unavailable due to maintenance."
        Some("PENDING_STOP" | "REPAIRING" | "STOPPED" | "STOPPING" | "SUSPENDED" | "SUSPENDING" | "TERMINATED") => {
            Lifecycle::Dead
        }
        // Still counted until it is known to be gone.
        _ => Lifecycle::Ending,
    }
}

#[cfg(test)]
mod tests {
    use Lifecycle::{Dead, Ending, Running, Starting};

    use super::*;

    #[test]
    fn what_a_group_does_with_an_instance_says_more_than_what_it_is() {
        for (action, status, lifecycle) in [
            ("NONE", "RUNNING", Running),
            ("NONE", "STAGING", Starting),
            ("NONE", "STOPPING", Dead),
            ("NONE", "TERMINATED", Dead),
            ("NONE", "REPAIRING", Dead),
            ("NONE", "SOMETHING_NEW", Ending),
            ("SOMETHING_NEW", "RUNNING", Running),
            ("REFRESHING", "RUNNING", Running),
            ("CREATING", "PROVISIONING", Starting),
            ("VERIFYING", "RUNNING", Starting),
            ("RESTARTING", "TERMINATED", Starting),
            ("STOPPING", "RUNNING", Dead),
            ("DELETING", "RUNNING", Ending),
            ("ABANDONING", "RUNNING", Ending),
            // The old machine, and the new one.
            ("RECREATING", "TERMINATED", Ending),
            ("RECREATING", "STOPPING", Ending),
            ("RECREATING", "STAGING", Starting),
        ] {
            let instance = ManagedInstance::new().set_current_action(action).set_instance_status(status);
            assert_eq!(managed(&instance), lifecycle, "{action} {status}");
        }
    }

    #[test]
    fn what_is_in_no_group_is_what_it_is() {
        for (status, lifecycle) in
            [("RUNNING", Running), ("STAGING", Starting), ("STOPPING", Ending), ("TERMINATED", Dead), ("NEW", Ending)]
        {
            assert_eq!(alone(Some(&status.into())), lifecycle, "{status}");
        }
        assert_eq!(alone(None), Ending);
    }
}
