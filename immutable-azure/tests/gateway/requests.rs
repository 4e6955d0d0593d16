//! No request is lost on the way from one fleet to another, and what is observed is what requests meet.

use immutable_core::provider::{Assignment, Progress};
use serde_json::json;

use crate::stand::{GATEWAY, Stand, to};

/// Applies step by step, each change of the gateway on its way for a while, with requests all the time.
async fn walk(stand: &Stand, wanted: &Assignment) {
    let version = stand.observe().await.version;
    let key = format!("{wanted:?}");
    for _ in 0..30 {
        let done = stand.once(&key, wanted, &version).await.unwrap() == Progress::Done(());
        for _ in 0..2 {
            let seen = stand.observe().await.split;
            for fleet in stand.answering() {
                let seen: Vec<String> = seen.iter().map(|(fleet, _)| fleet.to_string()).collect();
                assert!(seen.contains(&fleet), "{fleet} answers, and {seen:?} is observed");
            }
            stand.pass();
        }
        if done {
            return;
        }
    }
    panic!("never done");
}

#[tokio::test]
async fn every_request_is_answered_while_fleets_change() {
    for stand in [Stand::by_members(), Stand::by_rule()] {
        // Nobody else is there to answer, or not to.
        stand.fake.change(GATEWAY, |gateway| {
            gateway["properties"]["backendAddressPools"][0]["properties"]["backendAddresses"] = json!([]);
        });
        let (old, new) = (stand.fleet("web-1", 2).await, stand.fleet("web-2", 2).await);
        stand.apply(&to("web-1", &[&old])).await.unwrap();
        stand.settled().await;
        stand.slow();
        walk(&stand, &to("web-2", &[&new])).await;
        assert_eq!(stand.answering(), ["web-2".to_owned()].into());
        walk(&stand, &to("web-2", &[&new, &old])).await;
        walk(&stand, &to("web-1", &[&old])).await;
        assert_eq!(stand.answering(), ["web-1".to_owned()].into());
    }
}

#[tokio::test]
async fn a_request_in_flight_is_finished_while_its_member_drains() {
    let mut stand = Stand::by_members();
    stand.fake.change(GATEWAY, |gateway| {
        gateway["properties"]["backendAddressPools"][0]["properties"]["backendAddresses"] = json!([]);
    });
    stand.reopen(|config| config.drain_time(std::time::Duration::from_mins(5)));
    let members = stand.fleet("web-1", 2).await;
    stand.apply(&to("web-1", &[&members])).await.unwrap();
    let holder = stand.fake.begin_request(stand.route.as_str()).unwrap().to_ascii_lowercase();
    let (leaving, rest): (Vec<_>, Vec<_>) =
        members.into_iter().partition(|member| holder.ends_with(member.instance.as_str()));
    stand.apply(&to("web-1", &[&rest])).await.unwrap();
    let seen = stand.observe().await.members;
    let health = seen.iter().find(|member| member.instance == leaving[0].instance).map(|member| member.health);
    assert_eq!(health, Some(immutable_core::provider::MemberHealth::Draining));
    assert_eq!(stand.fake.finish_request(), Ok(()));
}
