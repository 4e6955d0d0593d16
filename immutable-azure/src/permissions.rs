//! What the provider's own credentials must be allowed to do, and nothing more.

use std::collections::BTreeSet;

use serde_json::json;

/// What somebody is to do with the provider, and what for a role has to allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum RoleUse {
    /// To start, watch and end instances.
    Fleets,
    /// To give instances and the builders of images a [managed identity](crate::ConfigBuilder::identity).
    Identity,
    /// To put instances into a [security group](crate::ConfigBuilder::security_group).
    SecurityGroup,
    /// To build images, and to remove old ones.
    Images,
    /// To move traffic by application gateways.
    Gateways,
    /// To move traffic by load balancers.
    LoadBalancers,
    /// To move traffic by profiles of Traffic Manager and the load balancers behind them, so all that [`LoadBalancers`](Self::LoadBalancers) is as
    /// well.
    TrafficManager,
    /// To look at instances with what Azure finds of them.
    Health,
    /// To judge fleets by what Azure Monitor tells of them.
    Metrics,
}

impl RoleUse {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Fleets,
        Self::Identity,
        Self::SecurityGroup,
        Self::Images,
        Self::Gateways,
        Self::LoadBalancers,
        Self::TrafficManager,
        Self::Health,
        Self::Metrics,
    ];

    /// Whether all that the other one needs is needed for this one.
    fn includes(self, other: Self) -> bool {
        self == other || (self, other) == (Self::TrafficManager, Self::LoadBalancers)
    }
}

/// Which use needs an action, which one, and what for.
type Needed = (RoleUse, &'static str, &'static str);

/// The actions, as [the list of them](https://learn.microsoft.com/azure/role-based-access-control/resource-provider-operations) names them. Beside the
/// action of a request itself, Azure asks for one on each thing that the request refers to; for gateways
/// [these](https://learn.microsoft.com/azure/application-gateway/configuration-infrastructure#permissions).
#[rustfmt::skip]
const NEEDED: &[Needed] = &[
    (RoleUse::Fleets, "Microsoft.Compute/disks/delete", "what ended instances left behind goes with their fleet"),
    (RoleUse::Fleets, "Microsoft.Compute/disks/read", "what ended instances left behind is found"),
    (RoleUse::Fleets, "Microsoft.Compute/galleries/images/read", "whether the images of a rollout are still there is looked at"),
    (RoleUse::Fleets, "Microsoft.Compute/galleries/images/versions/read", "instances are made of an image"),
    (RoleUse::Fleets, "Microsoft.Compute/locations/operations/read", "why instances could not be made is looked at"),
    (RoleUse::Fleets, "Microsoft.Compute/virtualMachineScaleSets/delete", "a fleet is removed"),
    (RoleUse::Fleets, "Microsoft.Compute/virtualMachineScaleSets/delete/action", "named instances are ended"),
    (RoleUse::Fleets, "Microsoft.Compute/virtualMachineScaleSets/networkInterfaces/read", "members of uniform scale sets have addresses"),
    (RoleUse::Fleets, "Microsoft.Compute/virtualMachineScaleSets/read", "fleets are found and looked at"),
    (RoleUse::Fleets, "Microsoft.Compute/virtualMachineScaleSets/virtualMachines/read", "members of uniform scale sets are looked at"),
    (RoleUse::Fleets, "Microsoft.Compute/virtualMachineScaleSets/write", "a fleet is made and grows"),
    (RoleUse::Fleets, "Microsoft.Compute/virtualMachines/read", "members of flexible scale sets are looked at"),
    (RoleUse::Fleets, "Microsoft.Network/networkInterfaces/delete", "what ended instances left behind goes with their fleet"),
    (RoleUse::Fleets, "Microsoft.Network/networkInterfaces/read", "members of flexible scale sets have addresses"),
    (RoleUse::Fleets, "Microsoft.Network/virtualNetworks/subnets/join/action", "instances are in a subnet"),

    (RoleUse::Identity, "Microsoft.ManagedIdentity/userAssignedIdentities/assign/action", "machines have the identity of the settings"),

    (RoleUse::SecurityGroup, "Microsoft.Network/networkSecurityGroups/join/action", "instances are in the security group of the settings"),

    (RoleUse::Images, "Microsoft.Compute/disks/delete", "disks that builders left behind are removed"),
    (RoleUse::Images, "Microsoft.Compute/disks/read", "disks that builders left behind are found"),
    (RoleUse::Images, "Microsoft.Compute/galleries/images/read", "images are versions of a definition"),
    (RoleUse::Images, "Microsoft.Compute/galleries/images/versions/delete", "an old image is removed"),
    (RoleUse::Images, "Microsoft.Compute/galleries/images/versions/read", "images are found by their fingerprints"),
    (RoleUse::Images, "Microsoft.Compute/galleries/images/versions/write", "a builder is made into an image"),
    (RoleUse::Images, "Microsoft.Compute/galleries/images/write", "a service has a definition of its own"),
    (RoleUse::Images, "Microsoft.Compute/virtualMachineScaleSets/read", "an image that a fleet is made of stays"),
    (RoleUse::Images, "Microsoft.Compute/virtualMachines/deallocate/action", "a builder stops before it becomes an image"),
    (RoleUse::Images, "Microsoft.Compute/virtualMachines/delete", "a builder ends"),
    (RoleUse::Images, "Microsoft.Compute/virtualMachines/generalize/action", "a builder becomes the pattern of an image"),
    (RoleUse::Images, "Microsoft.Compute/virtualMachines/read", "builders are found and looked at"),
    (RoleUse::Images, "Microsoft.Compute/virtualMachines/runCommands/delete", "a command that was not heard is sent anew"),
    (RoleUse::Images, "Microsoft.Compute/virtualMachines/runCommands/read", "how the script of a recipe went is looked at"),
    (RoleUse::Images, "Microsoft.Compute/virtualMachines/runCommands/write", "a builder is listened to, and sealed"),
    (RoleUse::Images, "Microsoft.Compute/virtualMachines/write", "a builder is made"),
    (RoleUse::Images, "Microsoft.Network/networkInterfaces/delete", "interfaces that builders left behind are removed"),
    (RoleUse::Images, "Microsoft.Network/networkInterfaces/read", "interfaces that builders left behind are found"),
    (RoleUse::Images, "Microsoft.Network/virtualNetworks/subnets/join/action", "a builder is in a subnet"),

    (RoleUse::Gateways, "Microsoft.Compute/virtualMachineScaleSets/networkInterfaces/read", "members of uniform scale sets have addresses"),
    (RoleUse::Gateways, "Microsoft.Compute/virtualMachineScaleSets/read", "which scale sets are uniform is looked at"),
    (RoleUse::Gateways, "Microsoft.Compute/virtualMachineScaleSets/virtualMachines/read", "who has which number in a uniform scale set is looked at"),
    (RoleUse::Gateways, "Microsoft.Network/applicationGateways/backendhealth/action", "members are healthy in the eyes of the gateway"),
    (RoleUse::Gateways, "Microsoft.Network/applicationGateways/getBackendHealthOnDemand/action", "members are healthy before a rule leads to them"),
    (RoleUse::Gateways, "Microsoft.Network/applicationGateways/read", "where traffic goes is looked at"),
    (RoleUse::Gateways, "Microsoft.Network/applicationGateways/write", "traffic is moved"),
    (RoleUse::Gateways, "Microsoft.Network/locations/operationResults/read", "what the gateway finds is told later"),
    (RoleUse::Gateways, "Microsoft.Network/locations/operations/read", "changes are followed until they are done"),
    (RoleUse::Gateways, "Microsoft.Network/networkInterfaces/read", "instances have addresses"),
    (RoleUse::Gateways, "Microsoft.Network/publicIPAddresses/join/action", "a gateway is written with its public address"),
    (RoleUse::Gateways, "Microsoft.Network/publicIPAddresses/read", "a gateway is written with its public address"),
    (RoleUse::Gateways, "Microsoft.Network/virtualNetworks/subnets/join/action", "a gateway is written with its subnet"),
    (RoleUse::Gateways, "Microsoft.Network/virtualNetworks/subnets/read", "a gateway is written with its subnet"),

    (RoleUse::LoadBalancers, "Microsoft.Network/loadBalancers/backendAddressPools/write", "members join and leave"),
    (RoleUse::LoadBalancers, "Microsoft.Network/loadBalancers/loadBalancingRules/health/action", "members are healthy in the eyes of the balancer"),
    (RoleUse::LoadBalancers, "Microsoft.Network/loadBalancers/read", "where traffic goes is looked at"),
    (RoleUse::LoadBalancers, "Microsoft.Network/locations/operationResults/read", "what the balancer finds is told later"),
    (RoleUse::LoadBalancers, "Microsoft.Network/virtualNetworks/joinLoadBalancer/action", "members are addresses of a network"),

    (RoleUse::TrafficManager, "Microsoft.Network/trafficManagerProfiles/read", "where traffic goes is looked at"),
    (RoleUse::TrafficManager, "Microsoft.Network/trafficManagerProfiles/write", "endpoints have weights"),

    (RoleUse::Health, "Microsoft.Compute/virtualMachineScaleSets/read", "whether Azure checks members is looked at"),
    (RoleUse::Health, "Microsoft.Compute/virtualMachineScaleSets/virtualMachines/read", "members of uniform scale sets are looked at"),
    (RoleUse::Health, "Microsoft.Compute/virtualMachines/read", "members of flexible scale sets are looked at"),

    (RoleUse::Metrics, "Microsoft.Compute/virtualMachineScaleSets/networkInterfaces/read", "metrics of a shared pool are told apart by address"),
    (RoleUse::Metrics, "Microsoft.Compute/virtualMachineScaleSets/read", "metrics of a shared pool are told apart by address"),
    (RoleUse::Metrics, "Microsoft.Compute/virtualMachineScaleSets/virtualMachines/read", "an address was somebody else's before"),
    (RoleUse::Metrics, "Microsoft.Compute/virtualMachines/read", "an address was somebody else's before"),
    (RoleUse::Metrics, "Microsoft.Insights/metrics/read", "metrics are asked for"),
    (RoleUse::Metrics, "Microsoft.Network/applicationGateways/read", "whether a fleet has a pool of its own is looked at"),
    (RoleUse::Metrics, "Microsoft.Network/networkInterfaces/read", "metrics of a shared pool are told apart by address"),
];

/// The least that the provider has to be allowed for these uses: a custom role of this name, as JSON for `az role definition create`.
///
/// It can be assigned in these scopes: the resource group of the configuration, and those of what it names in others, such as
/// the subnet, the gateway or the gallery, each as `/subscriptions/<id>/resourceGroups/<name>`. A role cannot be narrowed to what has our tags; a resource
/// group for each environment is what separates them.
///
/// ```no_run
/// use immutable_azure::{RoleUse, custom_role};
///
/// let group = "/subscriptions/01234567-89ab-cdef-0123-456789abcdef/resourceGroups/web-production";
/// let role = custom_role("immutable", [group], [RoleUse::Fleets, RoleUse::Gateways, RoleUse::Health]);
/// std::fs::write("role.json", role)?; // az role definition create --role-definition role.json
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn custom_role(
    name: &str,
    scopes: impl IntoIterator<Item = impl Into<String>>,
    uses: impl IntoIterator<Item = RoleUse>,
) -> String {
    let uses: BTreeSet<RoleUse> = uses.into_iter().collect();
    let needed = NEEDED.iter().filter(|(need, ..)| uses.iter().any(|one| one.includes(*need)));
    let actions: BTreeSet<&str> = needed.map(|(_, action, _)| *action).collect();
    let scopes: Vec<String> = scopes.into_iter().map(Into::into).collect();
    let role = json!({
        "Name": name,
        "IsCustom": true,
        "Description": "Rolls out immutable fleets.",
        "Actions": actions,
        "NotActions": [],
        "DataActions": [],
        "NotDataActions": [],
        "AssignableScopes": scopes,
    });
    serde_json::to_string_pretty(&role).expect("invariant: plain data always serialises")
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    const GROUP: &str = "/subscriptions/01234567-89ab-cdef-0123-456789abcdef/resourceGroups/web-production";

    fn actions(uses: &[RoleUse]) -> Vec<String> {
        let role: Value = serde_json::from_str(&custom_role("immutable", [GROUP], uses.iter().copied())).unwrap();
        assert_eq!(role["AssignableScopes"], json!([GROUP]));
        role["Actions"].as_array().unwrap().iter().map(|action| action.as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn every_action_is_one_and_has_its_reason_once() {
        for (index, (need, action, reason)) in NEEDED.iter().enumerate() {
            let parts: Vec<&str> = action.split('/').collect();
            assert!(parts.len() >= 3 && parts[0].starts_with("Microsoft."), "{action}");
            assert!(matches!(parts.last(), Some(&("read" | "write" | "delete" | "action"))), "{action}");
            assert!(!action.contains('*') && !reason.is_empty(), "{action}");
            let again = NEEDED[..index].iter().any(|(other, same, _)| (need, action) == (other, same));
            assert!(!again, "{action} has two reasons for {need:?}");
            assert!(RoleUse::ALL.contains(need), "{need:?}");
        }
    }

    #[test]
    fn only_what_the_uses_need_is_allowed() {
        assert_eq!(actions(&[]), [""; 0]);
        let health = actions(&[RoleUse::Health]);
        assert!(health.iter().all(|action| action.ends_with("/read")), "{health:?}");
        let metrics = actions(&[RoleUse::Metrics]);
        assert!(metrics.iter().all(|action| action.ends_with("/read")), "{metrics:?}");
        let fleets = actions(&[RoleUse::Fleets, RoleUse::Health]);
        assert!(!fleets.iter().any(|action| action.contains("applicationGateways") || action.contains("assign")));
        assert!(actions(&RoleUse::ALL).len() > fleets.len());
        let (by_address, by_name) = (actions(&[RoleUse::LoadBalancers]), actions(&[RoleUse::TrafficManager]));
        assert!(by_address.iter().all(|action| by_name.contains(action)), "{by_name:?}");
        assert_eq!(by_name.len(), by_address.len() + 2);
    }

    #[test]
    fn the_readme_shows_the_role() {
        let role = custom_role("immutable", [GROUP], RoleUse::ALL);
        let readme = include_str!("../README.md");
        assert!(readme.contains(&format!("```json\n{role}\n```")), "the role of the README should be:\n{role}");
    }
}
