//! Settings that work and settings that cannot.

use google_cloud_auth::credentials::anonymous;

use super::*;

/// Settings that can be built, with clients that reach nobody.
pub(crate) async fn builder() -> ConfigBuilder {
    let credentials = anonymous::Builder::new().build();
    let clients = Clients::new(credentials, Some("http://127.0.0.1:9")).await.unwrap();
    let location = Location::region("europe-west3", ["europe-west3-a", "europe-west3-b"]);
    Config::builder(clients, "web-production", location, "e2-standard-2")
}

#[tokio::test]
async fn a_setting_that_cannot_work_is_named() {
    let good = builder().await;
    let at = |location: Location| {
        let mut other = good.clone();
        other.0.launch.location = location;
        other
    };
    let hours = Duration::from_hours(2);
    let cases = vec![
        (at(Location::region("europe-west3", [""; 0])), "location: name at least one zone"),
        (at(Location::zone("europe-west3")), "location: a zone looks like \"europe-west3-a\""),
        (at(Location::region("us-east1", ["europe-west3-a"])), "location: every zone must be one of the region"),
        (at(Location::region("us-east1", ["us-east1-b"; 2])), "location: name each zone once"),
        (good.clone().service_account("web"), "service_account: must be an e-mail address"),
        (good.clone().network_tags(["Web"]), "network_tags: must have only lower-case letters, digits and hyphens"),
        (good.clone().named_port("http", 0), "named_port: must have a name of lower-case letters, and a port"),
        (
            good.clone().autohealing("web", hours),
            "autohealing: must be the URL of a health check, \"projects/.../healthChecks/...\"",
        ),
        (
            good.clone().autohealing("projects/p/global/healthChecks/web", hours),
            "autohealing: must begin within an hour",
        ),
        (
            good.clone().subnetwork("web"),
            "subnetwork: must be one of the region, \"regions/<region>/subnetworks/<name>\"",
        ),
        (
            good.clone().network("web").subnetwork("regions/us-east1/subnetworks/web"),
            "subnetwork: must be one of the region, \"regions/<region>/subnetworks/<name>\"",
        ),
        (
            good.clone().subnetwork("regions/europe-west3/subnetworks/web"),
            "network: name the network of the subnetwork as well",
        ),
        (good.clone().network("Web"), "network: must be a name, or \"projects/<project>/global/networks/<name>\""),
        (good.clone().disk_gb(0), "disk_gb: must be at least 1"),
        (good.clone().disk_type("zones/a/diskTypes/b"), "disk_type: must be a type, such as \"pd-balanced\""),
        (good.clone().disk_key("k"), "disk_key: must be a key, \"projects/.../cryptoKeys/...\""),
        (
            good.clone().routes(["web".parse().unwrap()]),
            "routes: must look like \"global/urlMaps/web\" or \"global/backendServices/web\"",
        ),
        (good.clone().metric_lag(Duration::from_mins(61)), "metric_lag: must be at most an hour"),
        (
            good.clone().autohealing("regions/r/healthChecks/web", Duration::ZERO),
            "autohealing: must be the URL of a health check, \"projects/.../healthChecks/...\"",
        ),
        (good.clone().port(0), "port: must be from 1 to 65535"),
        (good.clone().max_fleet_size(0), "max_fleet_size: must be at least 1"),
        (good.clone().list_lag(Duration::from_mins(6)), "list_lag: must be at most 5 minutes"),
        (good.clone().weight_lag(Duration::from_mins(11)), "weight_lag: must be at most 10 minutes"),
        (good.clone().health_path("health"), "health_path: must start with a slash"),
    ];
    for (builder, problem) in cases {
        assert_eq!(builder.build().unwrap_err().to_string(), problem);
    }
    assert!(good.build().is_ok());
}

#[tokio::test]
async fn other_launch_settings_are_another_label_and_other_settings_are_not() {
    let good = builder().await;
    let label = |builder: ConfigBuilder| builder.build().unwrap().launch_label();
    assert_ne!(label(good.clone()), label(good.clone().disk_gb(20)));
    assert_ne!(label(good.clone()), label(good.clone().with_external_addresses()));
    assert_eq!(label(good.clone()), label(good.max_fleet_size(7).health_path("/health")));
}
