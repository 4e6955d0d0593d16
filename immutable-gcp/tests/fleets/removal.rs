//! Ending instances, and removing fleets.

use immutable_core::model::{InstanceId, Lifecycle};
use immutable_core::provider::{Effect, ErrorKind, OpContext, Provisioner as _};
use immutable_gcp_fake::Options;

use crate::stand::{Stand, path};
use crate::support::LOCATIONS;

#[tokio::test]
async fn a_proof_for_an_instance_does_not_end_the_one_that_was_put_in_its_place() {
    let stand = Stand::open().await;
    let spec = stand.spec(2);
    stand.ensure(&spec).await.unwrap();
    let old = stand.running(&spec).await;
    stand.fake().kill(&path(&old[0]));
    stand.ensure(&spec).await.unwrap();
    let new = stand.running(&spec).await;
    assert!(new.iter().any(|id| path(id) == path(&old[0]) && *id != old[0]), "{new:?} in the place of {old:?}");
    stand.retire(&spec, &old[..1]).await.unwrap();
    assert_eq!((stand.running(&spec).await, stand.calls("deleteInstances")), (new, 0));
}

#[tokio::test]
async fn a_thousand_are_ended_with_a_request_and_the_others_with_the_next() {
    let options = Options { page: 500, ..Options::default() };
    let stand = Stand::with(options, |builder| builder.max_fleet_size(2000)).await;
    let spec = stand.spec(1003);
    stand.ensure(&spec).await.unwrap();
    let mut all = stand.running(&spec).await;
    let stays = all.pop().unwrap();
    stand.retire(&spec, &all).await.unwrap();
    assert_eq!((stand.running(&spec).await, stand.calls("deleteInstances")), (vec![stays], 2));
    assert_eq!(stand.fleet(&spec).await.unwrap().wanted, Some(1));
}

#[tokio::test]
async fn a_retirement_that_is_sent_again_lowers_the_size_once() {
    let stand = Stand::open().await;
    let spec = stand.spec(4);
    stand.ensure(&spec).await.unwrap();
    let all = stand.running(&spec).await;
    let method = "compute.regionInstanceGroupManagers.deleteInstances";
    stand.fake().lose_next(method);
    let error = stand.retire(&spec, &all[..1]).await.unwrap_err();
    assert_eq!(error.effect(), Effect::Unknown, "{error}");
    stand.fake().fail_next_operation(method, "RESOURCE_OPERATION_RATE_EXCEEDED", "too often");
    let error = stand.retire(&spec, &all[..2]).await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (ErrorKind::Throttled, Effect::None), "{error}");
    for _ in 0..2 {
        stand.retire(&spec, &all[..1]).await.unwrap();
    }
    let fleet = stand.fleet(&spec).await.unwrap();
    assert_eq!((fleet.instances.len(), fleet.wanted), (3, Some(3)));
}

/// Takes instances out of the group, as a person would.
async fn abandon(stand: &Stand, group: &str, instances: &[InstanceId]) {
    use google_cloud_compute_v1::model::RegionInstanceGroupManagersAbandonInstancesRequest as Body;
    let request = stand.project.clients.region_instance_group_managers.abandon_instances();
    let request = request.set_project(stand.fake().project()).set_region(LOCATIONS.0).set_instance_group_manager(group);
    request.set_body(Body::new().set_instances(instances.iter().map(path))).send().await.unwrap();
}

#[tokio::test]
async fn an_instance_that_was_taken_out_of_the_group_is_still_of_the_fleet() {
    let stand = Stand::open().await;
    let spec = stand.spec(3);
    stand.ensure(&spec).await.unwrap();
    let all = stand.running(&spec).await;
    abandon(&stand, &format!("im-{}", spec.id), &all[..2]).await;
    assert_eq!(stand.running(&spec).await, all);
    assert_eq!(stand.fleet(&spec).await.unwrap().wanted, Some(1));
    stand.ensure(&spec).await.unwrap();
    assert_eq!((stand.running(&spec).await.len(), stand.calls("resize")), (3, 0), "it counts like any other");

    stand.retire(&spec, &all).await.unwrap();
    assert!(stand.fleet(&spec).await.unwrap().instances.is_empty());
    assert_eq!(stand.fake().calls()["compute.instances.delete"], 2);
    stand.remove(&spec).await.unwrap();
    assert_eq!(stand.fleet(&spec).await, None);
}

#[tokio::test]
async fn an_abandoned_instance_keeps_its_fleet_from_being_removed() {
    let stand = Stand::open().await;
    let spec = stand.spec(1);
    stand.ensure(&spec).await.unwrap();
    abandon(&stand, &format!("im-{}", spec.id), &stand.running(&spec).await).await;
    assert_eq!(stand.running(&spec).await.len(), 1);
    let error = stand.remove(&spec).await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (ErrorKind::Conflict, Effect::None), "{error}");
    assert!(error.to_string().contains("end them first"), "{error}");
}

#[tokio::test]
async fn what_could_never_be_started_is_given_up_before_its_group_goes() {
    let stand = Stand::open().await;
    let spec = stand.spec(2);
    for zone in LOCATIONS.1 {
        stand.fake().set_out_of_stock(zone, true);
    }
    stand.ensure(&spec).await.unwrap_err();
    stand.remove(&spec).await.unwrap();
    assert_eq!((stand.fleet(&spec).await, stand.calls("resize"), stand.calls("delete")), (None, 1, 1));
    assert!(stand.fake().list("global/instanceTemplates").is_empty());
    // Who comes again finds nothing to do.
    stand.remove(&spec).await.unwrap();
}

#[tokio::test]
async fn an_answer_that_is_lost_on_the_way_out_leaves_nothing_behind() {
    for method in ["compute.regionInstanceGroupManagers.delete", "compute.instanceTemplates.delete"] {
        let stand = Stand::open().await;
        let spec = stand.spec(0);
        stand.ensure(&spec).await.unwrap();
        stand.fake().lose_next(method);
        let error = stand.remove(&spec).await.unwrap_err();
        assert_eq!(error.effect(), Effect::Unknown, "{method}: {error}");
        stand.remove(&spec).await.unwrap();
        assert_eq!(stand.fleet(&spec).await, None, "{method}");
    }
}

#[tokio::test]
async fn an_instance_that_is_being_ended_is_listed_until_it_is_gone() {
    let stand = Stand::open().await;
    let spec = stand.spec(2);
    stand.ensure(&spec).await.unwrap();
    let all = stand.running(&spec).await;
    stand.fake().change(|options| options.stop_time = std::time::Duration::from_hours(1));
    stand.retire(&spec, &all[..1]).await.unwrap();
    let fleet = stand.fleet(&spec).await.unwrap();
    let ending = fleet.instances.iter().find(|instance| instance.id == all[0]).unwrap();
    assert_eq!((ending.lifecycle, fleet.wanted), (Lifecycle::Ending, Some(1)));
    stand.remove(&spec).await.unwrap_err();
    stand.fake().skip(std::time::Duration::from_hours(1));
    assert_eq!(stand.running(&spec).await, all[1..]);
}

#[tokio::test]
async fn a_zone_that_lists_cannot_see_is_not_taken_for_empty() {
    let stand = Stand::open().await;
    let spec = stand.spec(2);
    stand.ensure(&spec).await.unwrap();
    let running = stand.running(&spec).await;
    let zone = format!("zones/{}", running[0].as_str().split('/').next().unwrap());
    stand.fake().change(|options| options.unreachable = [zone.clone()].into());
    let cx = OpContext::standalone("look");
    for error in [
        stand.fleets.observe(&cx, &spec.service).await.unwrap_err(),
        stand.try_ensure(&spec).await.unwrap_err(),
        stand.fleets.remove(&cx, &spec.service, &spec.id).await.unwrap_err(),
    ] {
        assert_eq!((error.kind(), error.effect()), (ErrorKind::Unavailable, Effect::None), "{error}");
    }
    stand.fake().change(|options| options.unreachable.clear());
    assert_eq!(stand.running(&spec).await, running);
}
