//! What the provider's own credentials must be allowed to do, and nothing more.

use std::collections::BTreeSet;

use immutable_core::model::RouteId;

use crate::{Config, Location};

/// A permission, and the method that asks for it, as the reference of the method says
/// (<https://docs.cloud.google.com/compute/docs/reference/rest/v1>), be it for what the request refers to
/// (<https://docs.cloud.google.com/compute/docs/instances/create-start-instance>).
type Needed = (&'static str, &'static str);

/// Whatever the settings are.
const FLEETS: &[Needed] = &[
    ("compute.backendServices.list", "backendServices.aggregatedList"),
    ("compute.disks.create", "instanceGroupManagers.insert"),
    ("compute.disks.setLabels", "instanceGroupManagers.insert"),
    ("compute.globalOperations.list", "globalOperations.list"),
    ("compute.images.get", "images.get"),
    ("compute.images.useReadOnly", "instanceGroupManagers.insert"),
    ("compute.instanceGroupManagers.create", "instanceGroupManagers.insert"),
    ("compute.instanceGroupManagers.delete", "instanceGroupManagers.delete"),
    ("compute.instanceGroupManagers.get", "instanceGroupManagers.listManagedInstances"),
    ("compute.instanceGroupManagers.list", "instanceGroupManagers.aggregatedList"),
    ("compute.instanceGroupManagers.update", "instanceGroupManagers.deleteInstances"),
    ("compute.instanceGroups.delete", "instanceGroupManagers.delete"),
    ("compute.instanceTemplates.create", "instanceTemplates.insert"),
    ("compute.instanceTemplates.delete", "instanceTemplates.delete"),
    ("compute.instanceTemplates.get", "instanceTemplates.get"),
    ("compute.instanceTemplates.list", "instanceTemplates.list"),
    ("compute.instanceTemplates.useReadOnly", "instanceGroupManagers.insert"),
    ("compute.instances.create", "instanceGroupManagers.insert"),
    ("compute.instances.delete", "instances.delete"),
    ("compute.instances.get", "instances.get"),
    ("compute.instances.list", "instances.aggregatedList"),
    ("compute.instances.setLabels", "instanceGroupManagers.insert"),
    ("compute.instances.setMetadata", "instanceGroupManagers.insert"),
    ("compute.networkEndpointGroups.list", "networkEndpointGroups.aggregatedList"),
    ("compute.subnetworks.use", "instanceGroupManagers.insert"),
    ("compute.zoneOperations.list", "zoneOperations.list"),
];

/// To build images, whose builders and disks are fleets' as well in what they need.
const IMAGES: &[Needed] = &[
    ("compute.disks.delete", "disks.delete"),
    ("compute.disks.list", "disks.aggregatedList"),
    ("compute.disks.useReadOnly", "images.insert"),
    ("compute.images.create", "images.insert"),
    ("compute.images.delete", "images.delete"),
    ("compute.images.deprecate", "images.deprecate"),
    ("compute.images.list", "images.list"),
    ("compute.images.setLabels", "images.insert"),
    ("compute.instances.getGuestAttributes", "instances.getGuestAttributes"),
    ("compute.instances.getSerialPortOutput", "instances.getSerialPortOutput"),
    ("compute.instances.stop", "instances.stop"),
];

/// To put instances behind any route.
const ROUTES: &[Needed] = &[
    ("compute.instances.use", "networkEndpointGroups.attachNetworkEndpoints"),
    ("compute.networkEndpointGroups.attachNetworkEndpoints", "networkEndpointGroups.attachNetworkEndpoints"),
    ("compute.networkEndpointGroups.create", "networkEndpointGroups.insert"),
    ("compute.networkEndpointGroups.delete", "networkEndpointGroups.delete"),
    ("compute.networkEndpointGroups.detachNetworkEndpoints", "networkEndpointGroups.detachNetworkEndpoints"),
    ("compute.networkEndpointGroups.get", "networkEndpointGroups.listNetworkEndpoints"),
    ("compute.networkEndpointGroups.use", "backendServices.update"),
    ("compute.networks.use", "networkEndpointGroups.insert"),
];

/// To move traffic on routes of a global load balancer, and more where they are URL maps.
const GLOBAL_ROUTES: &[Needed] = &[
    ("compute.backendServices.get", "backendServices.getHealth"),
    ("compute.backendServices.update", "backendServices.update"),
];
const GLOBAL_URL_MAPS: &[Needed] = &[
    ("compute.backendServices.create", "backendServices.insert"),
    ("compute.backendServices.delete", "backendServices.delete"),
    ("compute.backendServices.setSecurityPolicy", "backendServices.setSecurityPolicy"),
    ("compute.backendServices.use", "urlMaps.update"),
    ("compute.healthChecks.useReadOnly", "backendServices.insert"),
    ("compute.securityPolicies.use", "backendServices.setSecurityPolicy"),
    ("compute.urlMaps.get", "urlMaps.get"),
    ("compute.urlMaps.update", "urlMaps.update"),
];

/// To move traffic on routes of a load balancer in a region, and more where they are URL maps.
const REGIONAL_ROUTES: &[Needed] = &[
    ("compute.regionBackendServices.get", "regionBackendServices.getHealth"),
    ("compute.regionBackendServices.update", "regionBackendServices.update"),
];
const REGIONAL_URL_MAPS: &[Needed] = &[
    ("compute.regionBackendServices.create", "regionBackendServices.insert"),
    ("compute.regionBackendServices.delete", "regionBackendServices.delete"),
    ("compute.regionBackendServices.setSecurityPolicy", "regionBackendServices.setSecurityPolicy"),
    ("compute.regionBackendServices.use", "regionUrlMaps.update"),
    ("compute.regionHealthChecks.useReadOnly", "regionBackendServices.insert"),
    ("compute.regionSecurityPolicies.use", "regionBackendServices.setSecurityPolicy"),
    ("compute.regionUrlMaps.get", "regionUrlMaps.get"),
    ("compute.regionUrlMaps.update", "regionUrlMaps.update"),
];

const REGIONAL_OPERATIONS: Needed = ("compute.regionOperations.list", "regionOperations.list");

/// What load balancers measured: <https://docs.cloud.google.com/monitoring/access-control>.
const METRICS: Needed = ("monitoring.timeSeries.list", "timeSeries.list");

/// To run instances as somebody, with network tags, or reachable from the internet.
const SERVICE_ACCOUNT: &[Needed] = &[
    ("compute.instances.setServiceAccount", "instanceGroupManagers.insert"),
    ("iam.serviceAccounts.actAs", "instanceTemplates.insert"),
];
const NETWORK_TAGS: Needed = ("compute.instances.setTags", "instanceGroupManagers.insert");
const EXTERNAL_ADDRESS: Needed = ("compute.subnetworks.useExternalIp", "instanceGroupManagers.insert");
const GLOBAL_AUTOHEALING: Needed = ("compute.healthChecks.useReadOnly", "instanceGroupManagers.insert");
const REGIONAL_AUTOHEALING: Needed = ("compute.regionHealthChecks.useReadOnly", "instanceGroupManagers.insert");

/// The least that the provider has to be allowed with these settings: the permissions of a custom role, in their order.
///
/// A role cannot be narrowed to what is ours, as templates, groups and backend services have no labels; a project of its own for each environment
/// is what separates them. `iam.serviceAccounts.actAs` belongs on the service account of the settings and not on the project.
///
/// ```no_run
/// # fn example(config: &immutable_gcp::Config) {
/// println!("gcloud iam roles create immutable --permissions={}", immutable_gcp::role_permissions(config).join(","));
/// # }
/// ```
pub fn role_permissions(config: &Config) -> Vec<&'static str> {
    let all: BTreeSet<&str> = needed(config).into_iter().map(|(permission, _)| permission).collect();
    all.into_iter().collect()
}

fn needed(config: &Config) -> Vec<Needed> {
    let launch = &config.launch;
    let routes = |start: &str, kind: &str| {
        config.routes.iter().map(RouteId::as_str).any(|route| route.starts_with(start) && route.contains(kind))
    };
    let (global, regional) = ("global/", "regions/");
    let in_region = routes(regional, "") || matches!(launch.location, Location::Region { .. });
    let has_accounts = launch.service_account.is_some() || config.images.service_account.is_some();
    let heals = |regional: bool| {
        let check = launch.autohealing.as_ref().map(|autohealing| &autohealing.health_check);
        check.is_some_and(|check| check.contains("/regions/") == regional)
    };
    let parts: [(bool, &[Needed]); 14] = [
        (true, FLEETS),
        (true, IMAGES),
        (routes("", ""), ROUTES),
        (routes(global, ""), GLOBAL_ROUTES),
        (routes(global, "/urlMaps/"), GLOBAL_URL_MAPS),
        (routes(regional, ""), REGIONAL_ROUTES),
        (routes(regional, "/urlMaps/"), REGIONAL_URL_MAPS),
        (in_region, &[REGIONAL_OPERATIONS]),
        (routes("", ""), &[METRICS]),
        (has_accounts, SERVICE_ACCOUNT),
        (!launch.network_tags.is_empty(), &[NETWORK_TAGS]),
        (launch.exceptions.external_address, &[EXTERNAL_ADDRESS]),
        (heals(false), &[GLOBAL_AUTOHEALING]),
        (heals(true), &[REGIONAL_AUTOHEALING]),
    ];
    parts.into_iter().filter(|(is_needed, _)| *is_needed).flat_map(|(_, part)| part).copied().collect()
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};
    use std::time::Duration;

    use super::*;
    use crate::config::tests::builder;

    /// Settings with which everything is needed that ever is.
    async fn everything() -> Config {
        let routes = ["global/urlMaps/web", "regions/europe-west3/urlMaps/web"].map(|route| route.parse().unwrap());
        builder()
            .await
            .routes(routes)
            .network_tags(["web"])
            .service_account("web@web-production.iam.gserviceaccount.com")
            .with_external_addresses()
            .autohealing("projects/web-production/global/healthChecks/web", Duration::from_mins(5))
            .build()
            .unwrap()
    }

    fn source(directory: &Path) -> String {
        let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
        let text = |path: PathBuf| if path.is_dir() { source(&path) } else { std::fs::read_to_string(path).unwrap() };
        entries.map(text).collect()
    }

    #[tokio::test]
    async fn every_permission_is_for_a_method_that_is_called() {
        let source = source(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
        for (permission, method) in needed(&everything().await) {
            let snake = |name: &str| {
                let spell = |c: char| if c.is_uppercase() { format!("_{}", c.to_lowercase()) } else { c.to_string() };
                name.chars().map(spell).collect::<String>()
            };
            let (resource, verb) = method.split_once('.').unwrap();
            let client = if resource == "timeSeries" { "metrics".to_owned() } else { snake(resource) };
            let verb = if resource == "timeSeries" { "list_time_series".to_owned() } else { snake(verb) };
            // Requests that are alike for several clients are made by macros, which are given the verb.
            let is_called = [format!(".{verb}("), format!(" {verb},")].iter().any(|call| source.contains(call));
            assert!(
                is_called && source.contains(&format!("clients.{client}.")),
                "{permission}: nothing calls {method}"
            );
        }
    }

    #[tokio::test]
    async fn the_readme_shows_the_permissions() {
        let config = builder().await.routes(["global/urlMaps/web".parse().unwrap()]);
        let permissions = role_permissions(&config.build().unwrap()).join("\n");
        let readme = include_str!("../README.md");
        assert!(readme.contains(&format!("```text\n{permissions}\n```")), "the README should say:\n{permissions}");
    }

    #[tokio::test]
    async fn only_what_the_settings_need_is_asked_for() {
        let least = role_permissions(&builder().await.build().unwrap());
        let most = role_permissions(&everything().await);
        let more: Vec<_> = most.iter().filter(|permission| !least.contains(permission)).collect();
        assert!(least.iter().all(|permission| most.contains(permission)));
        for alone in ["urlMaps", "regionUrlMaps", "networkEndpointGroups.create", "actAs", "setTags", "timeSeries"] {
            assert!(more.iter().any(|permission| permission.contains(alone)), "{alone} is not for all settings");
        }
        let on = async |route: &str| {
            let route = route.parse().unwrap();
            role_permissions(&builder().await.routes([route]).build().unwrap())
        };
        let (global, regional) = (on("global/urlMaps/web").await, on("regions/europe-west3/urlMaps/web").await);
        assert!(global.contains(&"compute.urlMaps.update") && !global.contains(&"compute.regionUrlMaps.update"));
        assert!(regional.contains(&"compute.regionUrlMaps.update") && !regional.contains(&"compute.urlMaps.update"));
        let members = on("global/backendServices/web").await;
        assert!(members.contains(&"compute.backendServices.update"), "{members:?}");
        assert!(!members.contains(&"compute.urlMaps.get") && !members.contains(&"compute.backendServices.create"));
    }
}
