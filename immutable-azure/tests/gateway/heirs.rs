//! A machine gets the address that another one had, of which the gateway has told.

use immutable_azure::{GatewayHealthProbe, GatewayPoolSwitch};
use immutable_core::model::Look;
use immutable_core::provider::MemberHealth::{Healthy, Registering, Unhealthy};
use immutable_core::provider::{HealthProbe as _, MemberTarget, ProbeTarget, TrafficSwitch as _};

use crate::stand::{GATEWAY, Stand, all, config, cx, to, told};

const NICS: &str = "Microsoft.Network/networkInterfaces";

/// A member that was found good, and the machine, which is ill, that has its address by now.
async fn heir(stand: &Stand) -> (MemberTarget, MemberTarget) {
    let (old, new) = (stand.fleet("web-1", 1).await.remove(0), stand.fleet("web-2", 1).await.remove(0));
    stand.apply(&to("web-1", &[std::slice::from_ref(&old)])).await.unwrap();
    assert_eq!(stand.settled().await.members, all(&[std::slice::from_ref(&old)], Healthy));
    let heir = MemberTarget { endpoint: old.endpoint.clone(), ..new.clone() };
    (old, heir)
}

/// Gives the machine of the heir the address.
fn inherit(stand: &Stand, old: &MemberTarget, heir: &MemberTarget) {
    stand.fake.set_ill(&format!("Microsoft.Compute/virtualMachines/{}", heir.instance), true);
    for (id, interface) in stand.fake.list(NICS) {
        let machine = interface["properties"]["virtualMachine"]["id"].as_str().unwrap_or_default().to_ascii_lowercase();
        for (target, address) in [(old, "10.250.0.1"), (heir, old.endpoint.host())] {
            if machine.ends_with(target.instance.as_str()) {
                stand.fake.change(&id, |one| {
                    one["properties"]["ipConfigurations"][0]["properties"]["privateIPAddress"] = address.into();
                });
            }
        }
    }
}

#[tokio::test]
async fn what_was_said_of_who_had_the_address_before_is_not_said_of_the_new_member() {
    let stand = Stand::by_members();
    let (old, heir) = heir(&stand).await;
    let wanted = to("web-2", &[std::slice::from_ref(&heir)]);
    inherit(&stand, &old, &heir);
    let version = stand.observe().await.version;
    stand.once("heir", &wanted, &version).await.unwrap();
    let member = std::slice::from_ref(&heir);
    assert_eq!(told(&stand.observe().await).members, all(&[member], Registering));
    assert_eq!(stand.probed().await.members, all(&[member], Unhealthy));
}

#[tokio::test]
async fn nor_when_another_process_has_put_it_there() {
    let stand = Stand::by_members();
    let (old, heir) = heir(&stand).await;
    inherit(&stand, &old, &heir);
    let other = GatewayPoolSwitch::new(config(&stand.fake).build().unwrap());
    let version = stand.observe().await.version;
    let wanted = to("web-2", &[std::slice::from_ref(&heir)]);
    other.apply(&cx("other"), &stand.route, &wanted, &version).await.unwrap();
    let member = std::slice::from_ref(&heir);
    assert_eq!(told(&stand.observe().await).members, all(&[member], Registering));
    assert_eq!(stand.probed().await.members, all(&[member], Unhealthy));
}

#[tokio::test]
async fn a_probe_knows_nothing_of_an_instance_from_before_it_was_asked_about() {
    let stand = Stand::by_members();
    let (old, heir) = heir(&stand).await;
    let probe = GatewayHealthProbe::new(config(&stand.fake).build().unwrap(), &stand.fake.id(GATEWAY)).unwrap();
    let look = async |member: &MemberTarget| {
        let (instance, fleet) = (member.instance.clone(), member.fleet.clone());
        let target = ProbeTarget { instance, fleet, endpoint: Some(member.endpoint.clone()) };
        probe.sample(&cx("look"), &[target]).await.unwrap().remove(0).look
    };
    assert_eq!([look(&old).await, look(&old).await], [Look::Unknown, Look::Good]);
    inherit(&stand, &old, &heir);
    // What is bad from the first word on may not have been probed yet.
    assert_eq!([look(&heir).await, look(&heir).await], [Look::Unknown, Look::Unknown]);
}
