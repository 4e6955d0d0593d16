//! Instances, as groups and load balancers find them.

use std::time::Duration;

use google_cloud_compute_v1::model::{
    AttachedDisk, AttachedDiskInitializeParams, InstanceGroupManager, InstanceGroupManagerAutoHealingPolicy,
    InstanceProperties, InstanceTemplate, NetworkEndpoint, NetworkEndpointGroupsAttachEndpointsRequest,
    NetworkInterface, instance_group_manager,
};
use immutable_core::model::{InstanceId, Look, Sample};
use immutable_core::provider::{HealthProbe, OpContext, ProbeTarget};
use immutable_gcp::{BackendHealthProbe, GroupHealthProbe};
use immutable_gcp_fake::{Fake, Options};
use serde_json::json;

use crate::{FLEET, ZONE, clients, config, fleet, name_on, routes};

const MINUTE: Duration = Duration::from_mins(1);

/// A fake where everything takes a minute, so that time passes only when a test says so.
fn slow() -> Fake {
    let second = Duration::from_secs(1);
    let (operation_time, boot_time, health_time) = (MINUTE, MINUTE, MINUTE);
    Fake::start(Options { operation_time, boot_time, health_time, second, ..Options::default() })
}

/// The instances that there are, by their ids.
fn instances(fake: &Fake) -> Vec<InstanceId> {
    let all = fake.list(&format!("zones/{ZONE}/instances"));
    let id = |machine: &serde_json::Value| {
        let (name, number) = (machine["name"].as_str().unwrap(), machine["id"].as_str().unwrap());
        format!("{ZONE}/{name}/{number}").parse().unwrap()
    };
    all.values().map(id).collect()
}

fn path(instance: &InstanceId) -> String {
    format!("zones/{ZONE}/instances/{}", instance.as_str().split('/').nth(1).unwrap())
}

/// What a probe sees of these.
async fn looks(probe: &dyn HealthProbe, instances: &[InstanceId]) -> Vec<(InstanceId, Look)> {
    let target = |instance: &InstanceId| ProbeTarget { instance: instance.clone(), fleet: fleet(), endpoint: None };
    let targets: Vec<_> = instances.iter().map(target).collect();
    let samples = probe.sample(&OpContext::standalone("look"), &targets).await.unwrap();
    assert!(samples.iter().all(|sample: &Sample| !sample.evidence.is_empty()));
    let mut looks: Vec<_> = samples.into_iter().map(|sample| (sample.instance, sample.look)).collect();
    looks.sort_by(|one, other| one.0.cmp(&other.0));
    looks
}

/// One that had the name of this instance before it.
fn predecessor(instance: &InstanceId) -> InstanceId {
    format!("{}/1", instance.as_str().rsplit_once('/').unwrap().0).parse().unwrap()
}

#[tokio::test]
async fn a_group_tells_of_its_instances_what_its_health_check_finds() {
    let fake = slow();
    fake.put("global/images/web", json!({ "status": "READY", "diskSizeGb": "10" }));
    fake.put("global/healthChecks/web", json!({ "type": "HTTP" }));
    let check = format!("projects/{}/global/healthChecks/web", fake.project());
    let probe = |config: immutable_gcp::ConfigBuilder| GroupHealthProbe::new(config.build().unwrap());
    let probe = probe(config(&fake).await.autohealing(&check, Duration::from_mins(30)));
    let nobody: InstanceId = format!("{ZONE}/im-{FLEET}-x/7").parse().unwrap();
    assert_eq!(looks(&probe, &[nobody]).await, [], "there is no group yet");

    make_group(&fake, &check).await;
    let all = instances(&fake);
    let [first, second, third] = &all[..] else { panic!("{all:?}") };
    assert!(looks(&probe, &all).await.iter().all(|(_, look)| *look == Look::Unknown), "nobody was looked at yet");
    fake.skip(3 * MINUTE);
    fake.set_ill(&path(second), true);
    let asked = [first.clone(), second.clone(), predecessor(third)];
    let expected = [(first.clone(), Look::Good), (second.clone(), Look::Bad)];
    assert_eq!(looks(&probe, &asked).await, expected, "of three on two pages, and nobody else");
}

/// A group of three that boot.
async fn make_group(fake: &Fake, check: &str) {
    let (clients, project, name) = (clients(fake).await, fake.project(), format!("im-{FLEET}"));
    let disk = AttachedDiskInitializeParams::new().set_source_image("global/images/web");
    let disk = AttachedDisk::new().set_boot(true).set_initialize_params(disk);
    let properties = InstanceProperties::new().set_machine_type("e2-small").set_disks([disk]);
    let properties =
        properties.set_network_interfaces([NetworkInterface::new().set_network("global/networks/default")]);
    let template = InstanceTemplate::new().set_name(&name).set_properties(properties);
    let request = clients.instance_templates.insert().set_project(&project);
    request.set_body(template).send().await.unwrap();
    fake.skip(MINUTE);
    let healing = InstanceGroupManagerAutoHealingPolicy::new().set_health_check(check).set_initial_delay_sec(1800);
    let group = InstanceGroupManager::new()
        .set_name(&name)
        .set_base_instance_name(&name)
        .set_instance_template(format!("projects/{project}/global/instanceTemplates/{name}"))
        .set_target_size(3)
        .set_auto_healing_policies([healing])
        .set_list_managed_instances_results(instance_group_manager::ListManagedInstancesResults::Paginated);
    let request = clients.instance_group_managers.insert().set_project(&project).set_zone(ZONE);
    request.set_body(group).send().await.unwrap();
    fake.skip(MINUTE);
}

#[tokio::test]
async fn a_balancer_tells_of_the_members_of_all_routes_what_it_finds() {
    let fake = slow();
    for (name, address) in [("one", "10.0.0.1"), ("three", "10.0.0.3"), ("two", "10.0.0.2")] {
        let machine = json!({ "status": "RUNNING", "networkInterfaces": [{ "networkIP": address }] });
        fake.put(&format!("zones/{ZONE}/instances/{name}"), machine);
    }
    let all = instances(&fake);
    let [one, three, two] = &all[..] else { panic!("{all:?}") };
    let on = ["global/urlMaps/web", "regions/europe-west1/urlMaps/web", "global/urlMaps/other"];
    let probe = BackendHealthProbe::new(config(&fake).await.routes(routes(&on)).build().unwrap());
    assert_eq!(looks(&probe, &all).await, [], "the fleet is on no route yet");

    put_behind(&fake, on[0], &[("one", "10.0.0.1"), ("two", "10.0.0.2")]).await;
    put_behind(&fake, on[1], &[("two", "10.0.0.2")]).await;
    // The operations have had their effects, and no health check has been answered.
    fake.skip(MINUTE * 2 / 3);
    assert_eq!(looks(&probe, &all).await, [], "nobody was looked at yet");
    fake.skip(MINUTE);
    let good = |instance: &InstanceId| (instance.clone(), Look::Good);
    assert_eq!(looks(&probe, &all).await, [good(one), good(two)]);
    fake.set_ill(&path(two), true);
    assert_eq!(looks(&probe, &[two.clone(), three.clone()]).await, [(two.clone(), Look::Bad)]);
}

/// Puts these behind a route: a backend service with one group of them.
async fn put_behind(fake: &Fake, route: &str, members: &[(&str, &str)]) {
    let (name, project) = (name_on(route), fake.project());
    let scope = route.split_once("/urlMaps/").unwrap().0;
    let link = |path: &str| format!("https://www.googleapis.com/compute/v1/projects/{project}/{path}");
    let (group, service) =
        (format!("zones/{ZONE}/networkEndpointGroups/{name}"), format!("{scope}/backendServices/{name}"));
    fake.put(&group, json!({ "networkEndpointType": "GCE_VM_IP_PORT" }));
    let backend = json!({ "group": link(&group), "balancingMode": "RATE", "maxRatePerEndpoint": 10 });
    let body = json!({ "protocol": "HTTP", "loadBalancingScheme": "EXTERNAL_MANAGED", "backends": [backend] });
    fake.put(&service, body);
    fake.put(route, json!({ "defaultService": link(&service) }));
    let endpoint = |(name, address): &(&str, &str)| {
        NetworkEndpoint::new().set_instance(*name).set_ip_address(*address).set_port(80)
    };
    let body = NetworkEndpointGroupsAttachEndpointsRequest::new().set_network_endpoints(members.iter().map(endpoint));
    let request = clients(fake).await.network_endpoint_groups.attach_network_endpoints().set_project(&project);
    request.set_zone(ZONE).set_network_endpoint_group(&name).set_body(body).send().await.unwrap();
}
