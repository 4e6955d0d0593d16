//! Why a group does not start what it should: what it says of its own attempts.

use google_cloud_compute_v1::model::ManagedInstance;
use google_cloud_compute_v1::model::managed_instance_last_attempt::errors::Errors;
use immutable_core::model::FleetId;
use immutable_core::provider::{Effect, ErrorKind, ProviderError};

use super::ENSURE;
use crate::error::of_code;

/// Nothing, as long as no attempt to start an instance has failed of those that are not there.
///
/// What is there is no matter, whatever was tried before.
///
/// # Errors
/// What the last attempts have failed with: what a person has to mend comes first, then a quota, then a shortage. The group tries again by itself.
pub(super) fn check(fleet: &FleetId, managed: &[ManagedInstance]) -> Result<(), ProviderError> {
    let missing = managed.iter().filter(|instance| instance.id.is_none());
    let errors = missing.filter_map(|instance| instance.last_attempt.as_ref()?.errors.as_ref());
    let told = errors.flat_map(|errors| &errors.errors).map(|error| meaning(fleet, error));
    match told.min_by_key(|error| weight(error.kind())) {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

fn meaning(fleet: &FleetId, error: &Errors) -> ProviderError {
    let code = error.code.as_deref().unwrap_or("an attempt failed");
    let words = format!("group {fleet}: {}", error.message.as_deref().unwrap_or("it does not say why"));
    of_code(ENSURE, Effect::None, (code, &words, None))
}

fn weight(kind: ErrorKind) -> u8 {
    match kind {
        ErrorKind::Quota => 1,
        ErrorKind::Capacity => 2,
        kind if kind.is_transient() => 3,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use google_cloud_compute_v1::model::{ManagedInstanceLastAttempt, managed_instance_last_attempt};

    use super::*;

    fn tried(id: Option<u64>, codes: &[&str]) -> ManagedInstance {
        let error = |code: &&str| Errors::new().set_code(*code).set_message(format!("{code} it is"));
        let errors = managed_instance_last_attempt::Errors::new().set_errors(codes.iter().map(error));
        let attempt = ManagedInstanceLastAttempt::new().set_errors(errors);
        ManagedInstance::new().set_or_clear_id(id).set_last_attempt(attempt)
    }

    #[test]
    fn the_last_attempts_of_what_is_missing_are_told_and_what_a_person_has_to_mend_comes_first() {
        let fleet = "web-1".parse().unwrap();
        let (short, quota) = ("ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS", "QUOTA_EXCEEDED");
        let cases = [
            (vec![tried(None, &[short])], Some(ErrorKind::Capacity)),
            (vec![tried(None, &[short]), tried(None, &[quota])], Some(ErrorKind::Quota)),
            (vec![tried(None, &[quota, "PERMISSIONS_ERROR"])], Some(ErrorKind::PermissionDenied)),
            (vec![tried(None, &["SOMETHING_NEW"]), tried(None, &[short])], Some(ErrorKind::Capacity)),
            (vec![tried(Some(7), &[short]), tried(None, &[])], None),
            (vec![ManagedInstance::new()], None),
        ];
        for (managed, kind) in cases {
            let told = check(&fleet, &managed).err();
            assert_eq!(told.as_ref().map(ProviderError::kind), kind, "{told:?}");
            assert!(told.is_none_or(|error| error.effect() == Effect::None && error.to_string().contains("it is")));
        }
    }
}
