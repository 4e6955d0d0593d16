//! The actions that a call needs, as roles name them.
//!
//! <https://learn.microsoft.com/azure/role-based-access-control/resource-provider-operations> lists them. Beside the
//! action of the call itself, Azure asks for one on each resource that a written body refers to.

use serde_json::Value;

use crate::call::Call;
use crate::route::{METRICS, What};

/// What a field of a written body refers to, by its name, and the action that is needed on that.
const LINKED: &[(&str, &str)] = &[
    ("applicationGatewayBackendAddressPools", "Microsoft.Network/applicationGateways/backendAddressPools/join/action"),
    ("applicationSecurityGroups", "Microsoft.Network/applicationSecurityGroups/joinIpConfiguration/action"),
    ("imageReference", "Microsoft.Compute/galleries/images/versions/read"),
    ("loadBalancerBackendAddressPools", "Microsoft.Network/loadBalancers/backendAddressPools/join/action"),
    ("networkSecurityGroup", "Microsoft.Network/networkSecurityGroups/join/action"),
    ("publicIPAddress", "Microsoft.Network/publicIPAddresses/join/action"),
    ("subnet", "Microsoft.Network/virtualNetworks/subnets/join/action"),
    ("virtualNetwork", "Microsoft.Network/virtualNetworks/joinLoadBalancer/action"),
];

/// What is needed to give machines an identity.
const ASSIGN: &str = "Microsoft.ManagedIdentity/userAssignedIdentities/assign/action";

/// The action that a call is.
pub(crate) fn of(call: &Call) -> String {
    let kind = call.kind();
    match (&call.route.what, call.verb.as_str()) {
        (What::Action(action), "GET") if action == METRICS => format!("{METRICS}/read"),
        (What::Action(action), "GET") => format!("{kind}/{action}/read"),
        (What::Action(action), _) => format!("{kind}/{action}/action"),
        (_, "GET") => format!("{kind}/read"),
        (_, "DELETE") => format!("{kind}/delete"),
        _ => format!("{kind}/write"),
    }
}

/// The actions that a call needs on what its body refers to, each with the id of that.
pub(crate) fn linked(call: &Call) -> Vec<(&'static str, String)> {
    let mut found = Vec::new();
    if matches!(call.verb.as_str(), "PUT" | "PATCH") {
        let identities = call.body["identity"]["userAssignedIdentities"].as_object();
        found.extend(identities.into_iter().flat_map(|all| all.keys()).map(|id| (ASSIGN, id.clone())));
        collect(&call.body, &mut found);
    }
    found
}

fn collect(value: &Value, found: &mut Vec<(&'static str, String)>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| collect(item, found)),
        Value::Object(fields) => {
            for (name, field) in fields {
                if let Some((_, action)) = LINKED.iter().find(|(linked, _)| linked == name) {
                    let one = std::slice::from_ref(field);
                    let all = field.as_array().map_or(one, Vec::as_slice);
                    found.extend(all.iter().filter_map(|item| Some((*action, item["id"].as_str()?.to_owned()))));
                }
                collect(field, found);
            }
        }
        _ => {}
    }
}
