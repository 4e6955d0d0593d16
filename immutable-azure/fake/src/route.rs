//! What a path is about. Resource Manager's paths are the ids of resources, in any mix of capitals.

/// The types that the fake knows, as Azure writes them.
const KINDS: &[&str] = &[
    "Microsoft.Compute/disks",
    "Microsoft.Compute/galleries",
    "Microsoft.Compute/galleries/images",
    "Microsoft.Compute/galleries/images/versions",
    "Microsoft.Compute/locations/operations",
    "Microsoft.Compute/virtualMachineScaleSets",
    "Microsoft.Compute/virtualMachineScaleSets/networkInterfaces",
    "Microsoft.Compute/virtualMachineScaleSets/virtualMachines",
    "Microsoft.Compute/virtualMachineScaleSets/virtualMachines/networkInterfaces",
    "Microsoft.Compute/virtualMachines",
    "Microsoft.Compute/virtualMachines/runCommands",
    "Microsoft.Network/applicationGateways",
    "Microsoft.Network/loadBalancers",
    "Microsoft.Network/loadBalancers/backendAddressPools",
    "Microsoft.Network/loadBalancers/loadBalancingRules",
    "Microsoft.Network/locations/operationResults",
    "Microsoft.Network/locations/operations",
    "Microsoft.Network/networkInterfaces",
    "Microsoft.Network/trafficManagerProfiles",
    "Microsoft.Network/trafficManagerProfiles/azureEndpoints",
    "Microsoft.Network/trafficManagerProfiles/externalEndpoints",
    "Microsoft.Network/trafficManagerProfiles/nestedEndpoints",
];

/// The view of any resource that Azure Monitor has.
pub(crate) const METRICS: &str = "Microsoft.Insights/metrics";

/// What a request is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Route {
    /// The type, such as `Microsoft.Compute/virtualMachineScaleSets`.
    pub(crate) kind: &'static str,
    /// The id of the resource, or of the folder that is listed, with the type as Azure writes it.
    pub(crate) id: String,
    pub(crate) subscription: String,
    /// The resource group. None: the whole subscription.
    pub(crate) group: Option<String>,
    pub(crate) what: What,
}

/// Which part of a path's resource is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum What {
    Resource,
    /// All resources of the type in a folder.
    List,
    /// Something that is done with a resource, or a view of it, such as `instanceView`.
    Action(String),
}

impl Route {
    /// What a path is about, if the fake knows that.
    pub(crate) fn of(path: &[String]) -> Option<Self> {
        let [first, subscription, rest @ ..] = path else { return None };
        if !first.eq_ignore_ascii_case("subscriptions") {
            return None;
        }
        let (group, rest) = match rest {
            [groups, group, rest @ ..] if groups.eq_ignore_ascii_case("resourceGroups") => (Some(group.clone()), rest),
            rest => (None, rest),
        };
        let [providers, namespace, rest @ ..] = rest else { return None };
        if !providers.eq_ignore_ascii_case("providers") {
            return None;
        }
        let mut scope = format!("/subscriptions/{subscription}");
        if let Some(group) = &group {
            scope = format!("{scope}/resourceGroups/{group}");
        }
        // What another service says of a resource goes on from the id of that.
        let (rest, view) = match rest {
            [own @ .., again, service, view]
                if again.eq_ignore_ascii_case("providers")
                    && format!("{service}/{view}").eq_ignore_ascii_case(METRICS) =>
            {
                (own, Some(METRICS))
            }
            rest => (rest, None),
        };
        let types: Vec<&str> = rest.iter().step_by(2).map(String::as_str).collect();
        let names: Vec<&str> = rest.iter().skip(1).step_by(2).map(String::as_str).collect();
        let found = |kind: &'static str, names: &[&str], what| {
            let id = format!("{scope}/providers/{}", id_of(kind, names));
            Some(Self { kind, id, subscription: subscription.clone(), group: group.clone(), what })
        };
        if let Some(view) = view {
            let kind = known(namespace, &types).filter(|_| types.len() == names.len())?;
            return found(kind, &names, What::Action(view.to_owned()));
        }
        if let Some(kind) = known(namespace, &types) {
            let what = if types.len() == names.len() { What::Resource } else { What::List };
            return found(kind, &names, what);
        }
        let (action, types) = types.split_last()?;
        let kind = known(namespace, types).filter(|_| types.len() == names.len())?;
        found(kind, &names, What::Action((*action).to_owned()))
    }

    /// The resource type with what is done, as [`crate::call::Call::operation`] names it.
    pub(crate) fn operation(&self, verb: &str) -> String {
        match &self.what {
            What::Resource => format!("{verb} {}", self.kind),
            What::List => format!("LIST {}", self.kind),
            What::Action(action) => format!("{verb} {}/{action}", self.kind),
        }
    }
}

/// The type of these names, if there is one.
fn known(namespace: &str, types: &[&str]) -> Option<&'static str> {
    let wanted = format!("{namespace}/{}", types.join("/"));
    KINDS.iter().find(|kind| kind.eq_ignore_ascii_case(&wanted)).copied()
}

/// A type with its names between: `Microsoft.Compute/virtualMachines/web`.
fn id_of(kind: &str, names: &[&str]) -> String {
    let mut parts = kind.split('/');
    let mut id = parts.next().unwrap_or_default().to_owned();
    let mut names = names.iter();
    for part in parts {
        id = format!("{id}/{part}");
        if let Some(name) = names.next() {
            id = format!("{id}/{name}");
        }
    }
    id
}

/// The type of a resource by its id.
pub(crate) fn kind_of(id: &str) -> Option<&'static str> {
    let path: Vec<String> = id.trim_matches('/').split('/').map(str::to_owned).collect();
    Route::of(&path).filter(|route| route.what == What::Resource).map(|route| route.kind)
}

/// The last part of an id.
pub(crate) fn name_of(id: &str) -> &str {
    id.rsplit('/').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_says_type_and_what_is_meant() {
        let group = "/subscriptions/s/resourceGroups/g/providers";
        for (path, operation, id) in [
            (
                "subscriptions/s/resourcegroups/g/providers/microsoft.compute/VirtualMachineScaleSets/web".to_owned(),
                "PUT Microsoft.Compute/virtualMachineScaleSets",
                format!("{group}/Microsoft.Compute/virtualMachineScaleSets/web"),
            ),
            (
                format!("{}/Microsoft.Compute/virtualMachineScaleSets/web/delete", &group[1..]),
                "PUT Microsoft.Compute/virtualMachineScaleSets/delete",
                format!("{group}/Microsoft.Compute/virtualMachineScaleSets/web"),
            ),
            (
                format!("{}/Microsoft.Compute/virtualMachineScaleSets/web/virtualMachines", &group[1..]),
                "LIST Microsoft.Compute/virtualMachineScaleSets/virtualMachines",
                format!("{group}/Microsoft.Compute/virtualMachineScaleSets/web/virtualMachines"),
            ),
            (
                format!(
                    "{}/Microsoft.Network/applicationGateways/web/providers/microsoft.insights/Metrics",
                    &group[1..]
                ),
                "PUT Microsoft.Network/applicationGateways/Microsoft.Insights/metrics",
                format!("{group}/Microsoft.Network/applicationGateways/web"),
            ),
            (
                "subscriptions/s/providers/Microsoft.Compute/locations/westeurope/operations/1".to_owned(),
                "PUT Microsoft.Compute/locations/operations",
                "/subscriptions/s/providers/Microsoft.Compute/locations/westeurope/operations/1".to_owned(),
            ),
        ] {
            let parts: Vec<String> = path.split('/').map(str::to_owned).collect();
            let route = Route::of(&parts).unwrap();
            assert_eq!((route.operation("PUT").as_str(), &route.id), (operation, &id), "{path}");
        }
    }

    #[test]
    fn an_unknown_path_is_about_nothing() {
        let metrics =
            "subscriptions/s/providers/Microsoft.Compute/virtualMachines/providers/Microsoft.Insights/metrics";
        for path in ["", metrics, "subscriptions/s", "subscriptions/s/providers/Microsoft.Web/sites/web", "tenants"] {
            let parts: Vec<String> = path.split('/').map(str::to_owned).collect();
            assert_eq!(Route::of(&parts), None, "{path}");
        }
    }
}
