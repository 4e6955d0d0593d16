//! What a role of the crate allows.

use std::collections::BTreeSet;

use immutable_azure::{RoleUse, custom_role};
use serde_json::Value;

/// The actions of the role for these uses.
pub(crate) fn actions(uses: impl IntoIterator<Item = RoleUse>) -> BTreeSet<String> {
    let role: Value = serde_json::from_str(&custom_role("immutable", ["/"], uses)).unwrap();
    role["Actions"].as_array().unwrap().iter().map(|action| action.as_str().unwrap().to_owned()).collect()
}

/// All of them but one.
pub(crate) fn without(actions: &BTreeSet<String>, missing: &str) -> BTreeSet<String> {
    actions.iter().filter(|action| *action != missing).cloned().collect()
}
