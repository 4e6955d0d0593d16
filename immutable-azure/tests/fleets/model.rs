//! What a scale set is made with.

use std::time::Duration;

use immutable_azure::{ConfigBuilder, Orchestration};
use immutable_azure_fake::Options;
use immutable_core::model::{FleetId, FleetSpec, LaunchSpec, Release, ServiceName};
use immutable_core::provider::{Effect, ErrorKind};
use serde_json::{Value, json};

use crate::stand::{BOTH, Stand};
use crate::support::Group;

/// The document that a set is made with.
async fn made(settings: impl FnOnce(ConfigBuilder, &Stand) -> ConfigBuilder) -> Value {
    let stand = Stand::with(Options::default(), |builder| builder);
    let builder = settings(stand.group.config(), &stand);
    let stand = stand.restarted(|_| builder);
    let spec = stand.spec(1);
    stand.ensure(&spec).await.unwrap();
    let exchanges = stand.fake().exchanges();
    exchanges.into_iter().find(|one| one.operation.starts_with("PUT ")).unwrap().request
}

fn every_setting(builder: ConfigBuilder, stand: &Stand, orchestration: Orchestration) -> ConfigBuilder {
    let fake = stand.fake();
    builder
        .orchestration(orchestration)
        .zones(["1", "2"])
        .identity(fake.id("Microsoft.ManagedIdentity/userAssignedIdentities/web"))
        .security_group(fake.id("Microsoft.Network/networkSecurityGroups/web"))
        .ssh_public_key(format!("ssh-rsa {} somebody", "A".repeat(372)))
        .with_public_addresses()
        .trusted_launch()
        .disk_gb(64)
        .disk_type("Premium_LRS")
        .health_path("/health")
        .repair_after(Duration::from_mins(15))
}

#[tokio::test]
async fn a_set_is_safe_unless_somebody_asks_for_something_else_by_name() {
    for orchestration in BOTH {
        let set = made(|builder, _| builder.orchestration(orchestration)).await;
        let properties = &set["properties"];
        let profile = &properties["virtualMachineProfile"];
        assert_eq!(properties["upgradePolicy"]["mode"], "Manual");
        assert_eq!(properties["singlePlacementGroup"], false);
        assert_eq!((set.get("zones"), set.get("identity"), properties.get("zoneBalance")), (None, None, None));
        let image = profile["storageProfile"]["imageReference"].as_object().unwrap();
        assert_eq!(image.len(), 1);
        assert!(image["id"].as_str().unwrap().ends_with("/galleries/golden/images/web/versions/1.0.0"));
        let system = &profile["osProfile"];
        assert_eq!(
            (&system["linuxConfiguration"]["disablePasswordAuthentication"], system.get("adminPassword")),
            (&json!(true), None)
        );
        let key = system["linuxConfiguration"]["ssh"]["publicKeys"][0]["keyData"].as_str().unwrap();
        assert_eq!(key, "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIH/+fWMm6RF3n+2hjKBrsBOH8F56HoIkAlMFkVBLDngn", "nobody's");
        assert!(!set.to_string().contains("publicIPAddressConfiguration"));
        assert_eq!((profile.get("extensionProfile"), properties.get("automaticRepairsPolicy")), (None, None));
        let interface = &profile["networkProfile"]["networkInterfaceConfigurations"][0];
        let deleted = (&profile["storageProfile"]["osDisk"]["deleteOption"], &interface["properties"]["deleteOption"]);
        if orchestration == Orchestration::Uniform {
            assert_eq!((&properties["overprovision"], deleted), (&json!(false), (&Value::Null, &Value::Null)));
        } else {
            assert_eq!(properties["platformFaultDomainCount"], 1);
            assert_eq!(deleted, (&json!("Delete"), &json!("Delete")));
        }
    }
}

#[tokio::test]
async fn a_service_whose_instances_would_have_names_that_are_too_long_is_refused() {
    for (orchestration, longest) in [(BOTH[0], 39), (BOTH[1], 34)] {
        let stand = Stand::open(orchestration);
        let fleet = |letters| {
            let service: ServiceName = "a".repeat(letters).parse().unwrap();
            let spec = stand.spec(1);
            FleetSpec { id: FleetId::of(&service, &spec.release.id()), service, ..spec }
        };
        let error = stand.try_ensure(&fleet(longest + 1)).await.unwrap_err();
        assert_eq!((error.kind(), error.effect()), (ErrorKind::InvalidRequest, Effect::None), "{error}");
        assert!(error.to_string().contains(&format!("at most {longest} characters")), "{error}");
        assert_eq!(stand.calls("PUT", ""), 0);
        let spec = fleet(longest);
        stand.ensure(&spec).await.unwrap();
        assert!(stand.running(&spec).await[0].as_str().len() <= 65);
    }
}

#[tokio::test]
async fn settings_become_parts_of_the_set() {
    for orchestration in BOTH {
        let set = made(|builder, stand| every_setting(builder, stand, orchestration)).await;
        let properties = &set["properties"];
        let profile = &properties["virtualMachineProfile"];
        assert_eq!((&set["zones"], &properties["zoneBalance"]), (&json!(["1", "2"]), &json!(false)));
        let identities = set["identity"]["userAssignedIdentities"].as_object().unwrap();
        assert!(identities.keys().all(|id| id.ends_with("userAssignedIdentities/web")), "{identities:?}");
        assert_eq!(set["identity"]["type"], "UserAssigned");
        let disk = &profile["storageProfile"]["osDisk"];
        assert_eq!(
            (&disk["diskSizeGB"], &disk["managedDisk"]["storageAccountType"]),
            (&json!(64), &json!("Premium_LRS"))
        );
        let interface = &profile["networkProfile"]["networkInterfaceConfigurations"][0]["properties"];
        assert!(interface["networkSecurityGroup"]["id"].as_str().unwrap().ends_with("networkSecurityGroups/web"));
        assert_eq!(
            interface["ipConfigurations"][0]["properties"]["publicIPAddressConfiguration"]["sku"]["name"],
            "Standard"
        );
        let repairs = json!({ "enabled": true, "gracePeriod": "PT15M", "repairAction": "Replace" });
        assert_eq!(properties["automaticRepairsPolicy"], repairs);
        let health = &profile["extensionProfile"]["extensions"][0]["properties"];
        assert_eq!(health["type"], "ApplicationHealthLinux");
        assert_eq!(health["settings"], json!({ "protocol": "http", "port": 8080, "requestPath": "/health" }));
        let security = &profile["securityProfile"];
        assert_eq!(
            (&security["securityType"], &security["uefiSettings"]["secureBootEnabled"]),
            (&json!("TrustedLaunch"), &json!(true))
        );
        let key = &profile["osProfile"]["linuxConfiguration"]["ssh"]["publicKeys"][0]["keyData"];
        assert!(key.as_str().unwrap().ends_with("somebody"), "{key}");
    }
    let set = made(|builder, _| builder.health_path("/health").without_repairs()).await;
    assert_eq!(set["properties"].get("automaticRepairsPolicy"), None);
}

#[tokio::test]
async fn an_instance_is_told_what_to_start_with_and_nobody_reads_it_from_azure() {
    let stand = Stand::open(BOTH[0]);
    let mut launch = LaunchSpec::default();
    launch.config.insert("CACHE_MB".parse().unwrap(), "512".to_owned());
    let spec = Group::spec(Release::new(stand.group.image("1.0.0"), launch), 1);
    stand.ensure(&spec).await.unwrap();
    let data = stand.set(&spec).unwrap();
    let data = data["properties"]["virtualMachineProfile"]["osProfile"]["customData"].as_str().unwrap().to_owned();
    let script = String::from_utf8(azure_core::base64::decode(&data).unwrap()).unwrap();
    assert!(script.starts_with("#!") && script.contains("CACHE_MB"), "{script}");
    for exchange in stand.fake().exchanges() {
        assert!(!exchange.answer.to_string().contains(&data), "{}", exchange.operation);
    }
}

#[tokio::test]
async fn what_is_no_version_of_an_image_is_refused_before_anything_is_made() {
    let stand = Stand::open(BOTH[0]);
    let image = "Microsoft.Compute/galleries/golden/images/web";
    for id in [
        stand.fake().id(image),
        stand.fake().id(&format!("{image}/versions/latest")),
        stand.fake().id(&format!("{image}/versions/1.0")),
        stand.fake().id(&format!("{image}/versions/9.9.9")),
        stand.fake().id("Microsoft.Compute/images/web"),
        "Canonical:ubuntu-24_04-lts:server:latest".to_owned(),
    ] {
        let mut image = stand.group.image("1.0.0");
        image.id = id.parse().unwrap();
        let spec = Group::spec(Release::new(image, LaunchSpec::default()), 1);
        let error = stand.try_ensure(&spec).await.unwrap_err();
        assert_eq!((error.kind(), error.effect()), (ErrorKind::InvalidRequest, Effect::None), "{id}: {error}");
        assert!(error.to_string().contains(&id), "{error}");
    }
    assert_eq!(stand.left(), [""; 0]);
}

/// A fleet that is made, grown, looked at, shrunk and removed.
async fn through_its_life(stand: &Stand) {
    let spec = stand.spec(2);
    stand.ensure(&spec).await.unwrap();
    stand.ensure(&stand.spec(3)).await.unwrap();
    let all = stand.running(&spec).await;
    stand.fake().kill(&stand.machine(&all[0]));
    stand.ensure(&stand.spec(3)).await.unwrap();
    let all: Vec<_> = stand.fleet(&spec).await.unwrap().instances.into_iter().map(|one| one.id).collect();
    stand.retire(&spec, &all).await.unwrap();
    stand.fake().skip(Duration::from_secs(1));
    stand.remove(&spec).await.unwrap();
}

#[tokio::test]
async fn the_vendors_models_know_all_that_is_said() {
    for orchestration in BOTH {
        let stand = Stand::with(Options::default(), |builder| builder.orchestration(orchestration));
        through_its_life(&stand).await;
        assert_eq!(stand.fake().unlike_models(), [""; 0], "{orchestration:?}, the fewest settings");
        let builder = every_setting(stand.group.config(), &stand, orchestration);
        let stand = stand.restarted(|_| builder);
        through_its_life(&stand).await;
        assert_eq!(stand.fake().unlike_models(), [""; 0], "{orchestration:?}, all settings");
    }
}
