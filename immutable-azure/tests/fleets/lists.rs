//! What is seen of a service.

use std::time::Duration;

use immutable_azure_fake::Options;
use immutable_core::model::{Fingerprint, Lifecycle};
use immutable_core::provider::{Effect, ErrorKind, OpContext, Provisioner as _};
use serde_json::json;

use crate::stand::{BOTH, Stand, path};
use crate::support::Group;

#[tokio::test]
async fn everything_of_a_service_is_seen_and_nothing_of_others() {
    for orchestration in BOTH {
        let stand = Stand::open(orchestration);
        let (old, new) = (stand.spec(3), Group::spec(stand.group.release("2.0.0"), 0));
        stand.ensure(&old).await.unwrap();
        stand.ensure(&new).await.unwrap();
        let cx = OpContext::standalone("look");
        let seen = stand.fleets.observe(&cx, &old.service).await.unwrap();
        assert_eq!(seen.fleets.len(), 2, "an empty one too");
        let fleet = stand.fleet(&old).await.unwrap();
        assert_eq!((fleet.release, fleet.instances.len()), (old.release.id(), 3));
        for instance in &fleet.instances {
            assert!(instance.id.as_str().starts_with(&format!("im-{}_", old.id)), "{}", instance.id);
            assert_eq!(instance.image, Some(Fingerprint::of("1.0.0")));
            let endpoint = instance.endpoint.as_ref().unwrap().to_string();
            assert!(endpoint.starts_with("10.1.") && endpoint.ends_with(":8080"), "{endpoint}");
            let machine = stand.fake().get(&stand.machine(&instance.id)).unwrap();
            let created = machine["properties"]["timeCreated"].as_str().unwrap();
            assert_eq!(created.parse().ok(), Some(instance.started_at));
        }
        let others = stand.fleets.observe(&cx, &"other".parse().unwrap()).await.unwrap();
        assert!(others.fleets.is_empty());
    }
}

#[tokio::test]
async fn an_instance_that_boots_is_starting_and_one_that_stopped_is_dead() {
    for orchestration in BOTH {
        let options = Options { boot_time: Duration::from_hours(1), ..Options::default() };
        let stand = Stand::with(options, |builder| builder.orchestration(orchestration));
        let spec = stand.spec(1);
        stand.try_ensure(&spec).await.unwrap();
        assert_eq!(stand.instances(&spec, Lifecycle::Starting).await.len(), 1);
        stand.fake().skip(Duration::from_hours(1));
        let running = stand.running(&spec).await;
        stand.fake().kill(&stand.machine(&running[0]));
        assert_eq!(stand.instances(&spec, Lifecycle::Dead).await, running);
    }
}

#[tokio::test]
async fn who_runs_something_else_is_listed_as_running_something_else() {
    for orchestration in BOTH {
        let stand = Stand::open(orchestration);
        let spec = stand.spec(2);
        stand.ensure(&spec).await.unwrap();
        let all = stand.running(&spec).await;
        let machine = stand.machine(&all[0]);
        let other = stand.group.image("2.0.0").id.to_string();
        stand.fake().change(&machine, |one| {
            one["properties"]["storageProfile"]["imageReference"]["id"] = other.as_str().into();
        });
        let drifted = async || {
            let fleet = stand.fleet(&spec).await.unwrap();
            let drifted = fleet.instances.into_iter().filter(|one| one.image != Some(Fingerprint::of("1.0.0")));
            drifted.map(|one| (one.id, one.image.is_some())).collect::<Vec<_>>()
        };
        assert_eq!(drifted().await, [(all[0].clone(), true)]);
    }
    let stand = Stand::open(BOTH[1]);
    let spec = stand.spec(1);
    stand.ensure(&spec).await.unwrap();
    let machine = stand.machine(&stand.running(&spec).await[0]);
    stand.fake().change(&machine, |one| one["properties"]["latestModelApplied"] = false.into());
    let fleet = stand.fleet(&spec).await.unwrap();
    assert_eq!(fleet.instances[0].image, Some(Fingerprint::of("1.0.0")), "it says itself what it was made of");
    stand.fake().change(&machine, |one| one["properties"]["storageProfile"] = json!({}));
    let fleet = stand.fleet(&spec).await.unwrap();
    assert!(fleet.instances[0].image.is_some_and(|image| image != Fingerprint::of("1.0.0")));
}

#[tokio::test]
async fn who_lives_when_another_is_replaced_runs_what_it_ran() {
    let options = Options { outdated_by_tags: true, ..Options::default() };
    let stand = Stand::with(options, |builder| builder.orchestration(BOTH[1]));
    let spec = stand.spec(2);
    stand.ensure(&spec).await.unwrap();
    let all = stand.running(&spec).await;
    stand.fake().kill(&stand.machine(&all[0]));
    stand.ensure(&spec).await.unwrap();
    let lives = stand.fake().get(&stand.machine(&all[1])).unwrap();
    assert_eq!(lives["properties"]["latestModelApplied"], false, "the note of who was replaced is a change");
    let fleet = stand.fleet(&spec).await.unwrap();
    assert!(fleet.instances.iter().all(|one| one.image == Some(Fingerprint::of("1.0.0"))), "{fleet:?}");
}

#[tokio::test]
async fn a_machine_that_was_put_into_the_set_by_hand_is_an_instance() {
    let stand = Stand::open(BOTH[0]);
    let spec = stand.spec(1);
    stand.ensure(&spec).await.unwrap();
    let set = stand.fake().id(&path(&spec));
    let machine = json!({
        "properties": {
            "virtualMachineScaleSet": { "id": set },
            "storageProfile": { "imageReference": { "publisher": "somebody", "version": "latest" }, "osDisk": {} },
        },
    });
    stand.fake().put("Microsoft.Compute/virtualMachines/By-Hand", machine);
    let fleet = stand.fleet(&spec).await.unwrap();
    let by_hand = fleet.instances.iter().find(|one| one.id.as_str() == "by-hand").unwrap();
    assert_eq!((fleet.instances.len(), by_hand.image), (2, None));
    stand.retire(&spec, std::slice::from_ref(&by_hand.id)).await.unwrap();
    assert_eq!(stand.running(&spec).await.len(), 1);
    assert_eq!(stand.fake().get("Microsoft.Compute/virtualMachines/By-Hand"), None);
}

#[tokio::test]
async fn a_thing_of_ours_whose_tags_were_damaged_is_an_error_and_not_an_absence() {
    let stand = Stand::open(BOTH[0]);
    let spec = stand.spec(1);
    stand.ensure(&spec).await.unwrap();
    stand.fake().change(&path(&spec), |set| set["tags"]["immutable-release"] = "".into());
    let cx = OpContext::standalone("look");
    for error in [
        stand.fleets.observe(&cx, &spec.service).await.unwrap_err(),
        stand.try_ensure(&spec).await.unwrap_err(),
        stand.fleets.remove(&cx, &spec.service, &spec.id).await.unwrap_err(),
    ] {
        assert_eq!((error.kind(), error.effect()), (ErrorKind::Internal, Effect::None), "{error}");
        assert!(error.to_string().contains("immutable-release"), "{error}");
    }
    let others = stand.fleets.observe(&cx, &"other".parse().unwrap()).await.unwrap();
    assert!(others.fleets.is_empty());
}

#[tokio::test]
async fn who_is_ill_is_replaced_by_another_instance_and_only_with_repairs() {
    for (orchestration, repairs) in [(BOTH[0], true), (BOTH[1], true), (BOTH[0], false)] {
        let options = Options { health_time: Duration::ZERO, ..Options::default() };
        let stand = Stand::with(options, |builder| {
            let builder = builder.orchestration(orchestration).health_path("/health");
            if repairs { builder } else { builder.without_repairs() }
        });
        let spec = stand.spec(2);
        stand.ensure(&spec).await.unwrap();
        let before = stand.running(&spec).await;
        stand.fake().set_ill(&stand.machine(&before[0]), true);
        for _ in 0..50 {
            stand.fake().skip(Duration::from_millis(200));
        }
        stand.ensure(&spec).await.unwrap();
        let after = stand.running(&spec).await;
        assert_eq!((after.len(), after.contains(&before[0])), (2, !repairs), "{after:?} of {before:?}");
        assert_eq!((stand.fleet(&spec).await.unwrap().wanted, stand.calls("PATCH", "")), (Some(2), 0));
    }
}

#[tokio::test]
async fn a_set_that_goes_between_the_list_and_the_look_is_gone() {
    for orchestration in BOTH {
        let stand = Stand::open(orchestration);
        let spec = stand.spec(1);
        stand.ensure(&spec).await.unwrap();
        let list = if orchestration == BOTH[0] { "virtualMachines" } else { "virtualMachineScaleSets/virtualMachines" };
        stand.fake().refuse_next(&format!("LIST Microsoft.Compute/{list}"), 404, "ResourceNotFound", "It is gone.");
        assert_eq!(stand.fleet(&spec).await, None);
    }
}

#[tokio::test]
async fn a_look_is_as_old_as_lists_may_be() {
    let stand = Stand::with(Options::default(), |builder| builder.list_lag(Duration::from_mins(5)));
    let seen = stand.fleets.observe(&OpContext::standalone("look"), &stand.spec(0).service).await.unwrap();
    let now = jiff::Timestamp::now();
    assert!(seen.as_of <= now - Duration::from_mins(5), "{} is too young at {now}", seen.as_of);
}
