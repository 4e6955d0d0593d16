//! The permission that a method needs.
//!
//! The reference of each method names it, such as
//! <https://docs.cloud.google.com/compute/docs/reference/rest/v1/regionInstanceGroupManagers/resize>. What a call needs
//! beside it, for what its body refers to, its handler asks for: `World::require`.

use crate::call::Call;

/// The permission that a call needs for its method.
pub(crate) fn of(call: &Call) -> String {
    let (resource, verb) = call.name();
    if call.method.starts_with("monitoring.") {
        return format!("monitoring.{resource}.{verb}");
    }
    // Regional groups are under the permissions of zonal ones; all other resources have permissions per scope.
    let resource = if resource == "regionInstanceGroupManagers" { "instanceGroupManagers" } else { resource };
    let verb = match (resource, verb) {
        (_, "insert") => "create",
        (_, "aggregatedList") => "list",
        (_, "getHealth" | "listManagedInstances" | "listNetworkEndpoints") => "get",
        (_, "patch" | "resize" | "deleteInstances" | "abandonInstances") => "update",
        (_, verb) => verb,
    };
    format!("compute.{resource}.{verb}")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::Value;

    use super::*;

    #[test]
    fn a_method_needs_the_permission_that_its_reference_names() {
        for (method, permission) in [
            ("compute.instanceTemplates.insert", "compute.instanceTemplates.create"),
            ("compute.instances.aggregatedList", "compute.instances.list"),
            ("compute.regionInstanceGroupManagers.resize", "compute.instanceGroupManagers.update"),
            ("compute.instanceGroupManagers.listManagedInstances", "compute.instanceGroupManagers.get"),
            ("compute.regionBackendServices.getHealth", "compute.regionBackendServices.get"),
            ("compute.zoneOperations.list", "compute.zoneOperations.list"),
            ("monitoring.projects.timeSeries.list", "monitoring.timeSeries.list"),
        ] {
            let call =
                Call { method: method.to_owned(), params: BTreeMap::new(), queries: Vec::new(), body: Value::Null };
            assert_eq!(of(&call), permission);
        }
    }
}
