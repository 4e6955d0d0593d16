//! What instances are made from.

use std::time::Duration;

use immutable_core::model::{FleetSpec, InstanceId, LaunchSpec, Look, Release};
use immutable_core::provider::{Effect, ErrorKind, HealthProbe as _, OpContext, ProbeTarget};
use immutable_gcp::{ConfigBuilder, GroupHealthProbe, GroupProvisioner};
use immutable_gcp_fake::Options;
use serde_json::{Value, json};

use crate::stand::Stand;
use crate::support::{LOCATIONS, Project};

const SECRET: &str = "projects/fake-project/secrets/db/versions/3";

/// A fleet without instances that is launched with a value and a secret.
fn spec(stand: &Stand) -> FleetSpec {
    let mut launch = LaunchSpec::default();
    launch.config.insert("CACHE_MB".parse().unwrap(), "512".to_owned());
    launch.secrets.insert("DB_PASSWORD".parse().unwrap(), SECRET.parse().unwrap());
    Project::spec(Release::new(stand.project.image("web-old"), launch), 0)
}

/// The template and the group that are made with these settings.
async fn made(settings: impl FnOnce(ConfigBuilder) -> ConfigBuilder) -> (Value, Value) {
    let stand = Stand::with(Options::default(), settings).await;
    let spec = spec(&stand);
    stand.ensure(&spec).await.unwrap();
    let template = stand.fake().get(&format!("global/instanceTemplates/im-{}", spec.id)).unwrap();
    let path = format!("regions/{}/instanceGroupManagers/im-{}", LOCATIONS.0, spec.id);
    (template["properties"].clone(), stand.fake().get(&path).unwrap())
}

fn metadata<'a>(template: &'a Value, key: &str) -> Option<&'a str> {
    let items = template["metadata"]["items"].as_array()?;
    items.iter().find(|item| item["key"] == key)?["value"].as_str()
}

#[tokio::test]
async fn an_instance_is_closed_unless_it_is_opened_by_name() {
    let (template, _) = made(|builder| builder).await;
    let interface = &template["networkInterfaces"][0];
    assert_eq!(interface.get("accessConfigs"), None);
    assert!(interface["network"].as_str().unwrap().ends_with("global/networks/default"), "{interface}");
    let shielded = json!({ "enableSecureBoot": true, "enableVtpm": true, "enableIntegrityMonitoring": true });
    assert_eq!(template["shieldedInstanceConfig"], shielded);
    for (key, value) in
        [("block-project-ssh-keys", "TRUE"), ("enable-oslogin", "FALSE"), ("serial-port-enable", "FALSE")]
    {
        assert_eq!(metadata(&template, key), Some(value), "{key}");
    }
    assert_eq!(template.get("serviceAccounts"), None);

    let (template, _) =
        made(|builder| builder.with_external_addresses().with_project_ssh_keys().with_unverified_boot()).await;
    assert_eq!(template["networkInterfaces"][0]["accessConfigs"][0]["type"], "ONE_TO_ONE_NAT");
    assert_eq!(metadata(&template, "block-project-ssh-keys"), Some("FALSE"));
    let shielded = json!({ "enableSecureBoot": false, "enableVtpm": true, "enableIntegrityMonitoring": true });
    assert_eq!(template["shieldedInstanceConfig"], shielded);
}

#[tokio::test]
async fn a_template_names_one_image_and_secrets_only_by_reference() {
    let (template, group) = made(|builder| builder).await;
    let disk = &template["disks"][0];
    let image = disk["initializeParams"]["sourceImage"].as_str().unwrap();
    assert!(image.ends_with("projects/fake-project/global/images/web-old"), "{image}");
    assert_eq!((&disk["boot"], &disk["autoDelete"]), (&json!(true), &json!(true)));
    assert!(!format!("{template}{group}").contains("family"), "{template} {group}");
    let script = metadata(&template, "startup-script").unwrap();
    for words in ["CACHE_MB='\\''512'\\''", &format!("DB_PASSWORD {SECRET}")] {
        assert!(script.contains(words), "{words} is not in {script}");
    }
}

#[tokio::test]
async fn settings_become_parts_of_the_template_and_of_the_group() {
    let key = "projects/fake-project/locations/eu/keyRings/r/cryptoKeys/k";
    let (template, group) = made(|builder| {
        builder
            .network("private")
            .subnetwork("regions/europe-west1/subnetworks/web")
            .network_tags(["web"])
            .service_account("web@fake-project.iam.gserviceaccount.com")
            .disk_gb(20)
            .disk_type("pd-ssd")
            .disk_key(key)
            .named_port("http", 8080)
            .autohealing("projects/fake-project/global/healthChecks/web", Duration::from_mins(5))
    })
    .await;
    assert_eq!(template["machineType"], "e2-small");
    let interface = &template["networkInterfaces"][0];
    assert!(interface["network"].as_str().unwrap().ends_with("global/networks/private"), "{interface}");
    assert_eq!(template["tags"]["items"], json!(["web"]));
    let account = &template["serviceAccounts"][0];
    assert_eq!(account["email"], "web@fake-project.iam.gserviceaccount.com");
    assert_eq!(account["scopes"], json!(["https://www.googleapis.com/auth/cloud-platform"]));
    let disk = &template["disks"][0];
    assert_eq!(
        (&disk["initializeParams"]["diskSizeGb"], &disk["initializeParams"]["diskType"]),
        (&json!("20"), &json!("pd-ssd"))
    );
    assert_eq!(disk["diskEncryptionKey"]["kmsKeyName"], key);
    assert_eq!(group["namedPorts"], json!([{ "name": "http", "port": 8080 }]));
    assert_eq!(group["autoHealingPolicies"][0]["initialDelaySec"], 300);
    let policy = &group["updatePolicy"];
    assert_eq!((&policy["type"], &policy["instanceRedistributionType"]), (&json!("OPPORTUNISTIC"), &json!("NONE")));
    let zones: Vec<_> = group["distributionPolicy"]["zones"].as_array().unwrap().iter().collect();
    assert!(zones.len() == 2 && zones[0]["zone"].as_str().unwrap().ends_with(LOCATIONS.1[0]), "{zones:?}");
}

#[tokio::test]
async fn what_is_no_image_is_refused_before_anything_is_made() {
    let stand = Stand::open().await;
    stand.fake().put("global/images/web-obsolete", json!({ "status": "READY", "deprecated": { "state": "OBSOLETE" } }));
    stand.fake().put("global/images/web-broken", json!({ "status": "FAILED" }));
    for id in [
        "projects/fake-project/global/images/web-obsolete",
        "projects/fake-project/global/images/web-broken",
        "projects/debian-cloud/global/images/family/debian-12",
        "web-old",
        "projects/fake-project/global/images/not-there",
        "projects/fake-project/regions/europe-west1/images/web-old",
    ] {
        let mut image = stand.project.image("web-old");
        image.id = id.parse().unwrap();
        let spec = Project::spec(Release::new(image, LaunchSpec::default()), 1);
        let error = stand.try_ensure(&spec).await.unwrap_err();
        assert_eq!((error.kind(), error.effect()), (ErrorKind::InvalidRequest, Effect::None), "{id}: {error}");
        assert!(error.to_string().contains(id), "{error}");
    }
    assert!(stand.fake().list("global/instanceTemplates").is_empty());
}

#[tokio::test]
async fn a_fleet_is_bound_to_its_launch_settings_and_still_led_home_under_others() {
    let stand = Stand::open().await;
    let spec = stand.spec(1);
    stand.ensure(&spec).await.unwrap();
    let elsewhere = GroupProvisioner::new(stand.project.zonal().build().unwrap());
    let other = Stand { fleets: elsewhere, project: stand.project };
    let error = other.try_ensure(&spec).await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (ErrorKind::Immutable, Effect::None), "{error}");
    assert!(error.to_string().contains("other launch settings"), "{error}");
    // The settings say where new groups are made, and not where old ones are looked for.
    let running = other.running(&spec).await;
    assert_eq!(running.len(), 1);
    other.retire(&spec, &running).await.unwrap();
    assert!(other.fleet(&spec).await.unwrap().instances.is_empty());
    other.remove(&spec).await.unwrap();
    assert_eq!(other.fleet(&spec).await, None);
}

#[tokio::test]
async fn what_somebody_else_has_made_under_the_name_of_a_fleet_is_left_alone() {
    let stand = Stand::open().await;
    let spec = stand.spec(1);
    let path = format!("global/instanceTemplates/im-{}", spec.id);
    stand.fake().put(&path, json!({ "description": "mine", "properties": { "machineType": "e2-small" } }));
    let error = stand.try_ensure(&spec).await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (ErrorKind::Immutable, Effect::None), "{error}");
    stand.remove(&spec).await.unwrap();
    assert_eq!(
        (stand.fake().get(&path).unwrap()["description"].as_str(), stand.fleet(&spec).await),
        (Some("mine"), None)
    );
}

#[tokio::test]
async fn a_release_that_says_with_which_settings_it_is_launched_grows_under_others_when_a_rollout_goes_back_to_it() {
    let stand = Stand::open().await;
    let mut launch = LaunchSpec::default();
    launch.labels.extend([stand.project.regional().build().unwrap().launch_label()]);
    let release = Release::new(stand.project.image("web-old"), launch);
    let spec = Project::spec(release.clone(), 1);
    stand.ensure(&spec).await.unwrap();
    let bigger = GroupProvisioner::new(stand.project.regional().disk_gb(20).build().unwrap());
    let other = Stand { fleets: bigger, project: stand.project };
    other.ensure(&Project::spec(release, 2)).await.unwrap();
    assert_eq!(other.running(&spec).await.len(), 2);
    let template = other.fake().get(&format!("global/instanceTemplates/im-{}", spec.id)).unwrap();
    assert_eq!(template["properties"]["disks"][0]["initializeParams"].get("diskSizeGb"), None, "{template}");
}

#[tokio::test]
async fn instances_are_looked_at_where_their_fleet_was_made_and_not_where_new_ones_are() {
    let stand = Stand::open().await;
    let spec = stand.spec(2);
    stand.ensure(&spec).await.unwrap();
    let mut running = stand.running(&spec).await;
    running.sort();
    let target = |id: &InstanceId| ProbeTarget { instance: id.clone(), fleet: spec.id.clone(), endpoint: None };
    let targets: Vec<_> = running.iter().map(target).collect();
    // The group checks nothing, whatever new ones do.
    let check = format!("projects/{}/global/healthChecks/web", stand.project.fake.project());
    let elsewhere = stand.project.zonal().autohealing(check, Duration::from_mins(5));
    let elsewhere = GroupHealthProbe::new(elsewhere.build().unwrap());
    let samples = elsewhere.sample(&OpContext::standalone("look"), &targets).await.unwrap();
    let mut good: Vec<_> =
        samples.into_iter().filter(|sample| sample.look == Look::Good).map(|sample| sample.instance).collect();
    good.sort();
    assert_eq!(good, running);
}
