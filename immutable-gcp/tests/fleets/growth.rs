//! Growing, and what keeps a fleet from it.

use std::time::Duration;

use immutable_core::model::{FleetSpec, Lifecycle};
use immutable_core::provider::{Effect, ErrorKind, OpContext, Progress, Provisioner};
use immutable_gcp::GroupProvisioner;
use immutable_gcp_fake::Options;
use jiff::Timestamp;

use crate::stand::{Stand, path};
use crate::support::LOCATIONS;

/// Sets the target size of a fleet's group, as a person would.
async fn resize_by_hand(stand: &Stand, spec: &FleetSpec, size: i32) {
    let groups = stand.project.clients.region_instance_group_managers.resize();
    let groups = groups.set_project(stand.fake().project()).set_region(LOCATIONS.0);
    groups.set_instance_group_manager(format!("im-{}", spec.id)).set_size(size).send().await.unwrap();
}

fn short(stand: &Stand, short: bool) {
    for zone in LOCATIONS.1 {
        stand.fake().set_out_of_stock(zone, short);
    }
}

#[tokio::test]
async fn a_size_that_was_changed_by_hand_is_told_and_never_lowered() {
    let stand = Stand::open().await;
    let spec = stand.spec(2);
    stand.ensure(&spec).await.unwrap();
    assert_eq!(stand.fleet(&spec).await.unwrap().wanted, Some(2));
    resize_by_hand(&stand, &spec, 4).await;
    assert_eq!((stand.running(&spec).await.len(), stand.fleet(&spec).await.unwrap().wanted), (4, Some(4)));
    stand.ensure(&stand.spec(3)).await.unwrap();
    assert_eq!(stand.running(&spec).await.len(), 4);

    // Also where what is wanted is not there: six are wanted, four exist, and five are asked for.
    short(&stand, true);
    resize_by_hand(&stand, &spec, 6).await;
    stand.fake().skip(Duration::from_secs(1));
    let error = stand.try_ensure(&stand.spec(5)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Capacity, "{error}");
    assert_eq!((stand.fleet(&spec).await.unwrap().wanted, stand.calls("resize")), (Some(6), 2));

    resize_by_hand(&stand, &spec, 1).await;
    assert_eq!((stand.running(&spec).await.len(), stand.fleet(&spec).await.unwrap().wanted), (1, Some(1)));
}

#[tokio::test]
async fn a_shortage_and_a_quota_are_told_as_what_they_are_until_they_are_over() {
    let stand = Stand::open().await;
    let spec = stand.spec(2);
    short(&stand, true);
    let error = stand.ensure(&spec).await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (ErrorKind::Capacity, Effect::None), "{error}");
    assert!(error.to_string().contains("does not have enough resources"), "{error}");
    let fleet = stand.fleet(&spec).await.unwrap();
    assert_eq!((fleet.instances, fleet.wanted), (Vec::new(), Some(2)), "what could not be started is no instance");
    short(&stand, false);
    stand.fake().skip(Duration::from_secs(1));
    stand.ensure(&spec).await.unwrap();

    stand.fake().set_quota(Some(3));
    let error = stand.ensure(&stand.spec(4)).await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (ErrorKind::Quota, Effect::None), "{error}");
    assert_eq!(stand.running(&spec).await.len(), 3);
    stand.fake().set_quota(None);
    stand.fake().skip(Duration::from_secs(1));
    stand.ensure(&stand.spec(4)).await.unwrap();
    assert_eq!(stand.running(&spec).await.len(), 4);
}

#[tokio::test]
async fn a_lost_answer_at_any_step_makes_nothing_twice() {
    let groups = "compute.regionInstanceGroupManagers";
    for method in
        ["compute.instanceTemplates.insert".to_owned(), format!("{groups}.insert"), format!("{groups}.resize")]
    {
        let stand = Stand::open().await;
        if method.ends_with("resize") {
            stand.ensure(&stand.spec(1)).await.unwrap();
        }
        stand.fake().lose_next(&method);
        let spec = stand.spec(3);
        let error = stand.ensure(&spec).await.unwrap_err();
        assert_eq!(error.effect(), Effect::Unknown, "{method}: {error}");
        stand.ensure(&spec).await.unwrap();
        assert_eq!(stand.running(&spec).await.len(), 3, "{method}");
        let calls = stand.fake().calls();
        assert!(calls[&method] <= 2, "{method} was sent {} times", calls[&method]);
    }
}

#[tokio::test]
async fn an_operation_that_failed_is_told_for_a_while_and_then_tried_again() {
    let groups = "compute.regionInstanceGroupManagers";
    for method in
        ["compute.instanceTemplates.insert".to_owned(), format!("{groups}.insert"), format!("{groups}.resize")]
    {
        let stand = Stand::open().await;
        if method.ends_with("resize") {
            stand.ensure(&stand.spec(1)).await.unwrap();
        }
        let spec = stand.spec(3);
        stand.fake().fail_next_operation(&method, "QUOTA_EXCEEDED", "Quota 'CPUS' exceeded. Limit: 2.0.");
        for _ in 0..2 {
            let error = stand.ensure(&spec).await.unwrap_err();
            assert_eq!((error.kind(), error.effect()), (ErrorKind::Quota, Effect::None), "{method}: {error}");
        }
        assert_eq!(stand.fake().calls()[&method], 1, "{method}");
        age_operations(&stand);
        stand.ensure(&spec).await.unwrap();
        assert_eq!((stand.fake().calls()[&method], stand.running(&spec).await.len()), (2, 3), "{method}");
    }
}

/// Has everything that is over be over for an hour: how long ago that was, the provider tells by its own clock.
fn age_operations(stand: &Stand) {
    let hour_ago = Timestamp::now() - Duration::from_hours(1);
    for (path, mut operation) in stand.fake().list("") {
        if path.contains("/operations/") && operation["status"] == "DONE" {
            operation["endTime"] = hour_ago.to_string().into();
            stand.fake().put(&path, operation);
        }
    }
}

#[tokio::test]
async fn a_fleet_that_somebody_else_makes_at_the_same_time_is_waited_for() {
    let stand = Stand::open().await;
    let spec = stand.spec(2);
    for method in ["compute.instanceTemplates.insert", "compute.regionInstanceGroupManagers.insert"] {
        stand.fake().refuse_next(method, 409, "alreadyExists", "it exists");
    }
    stand.ensure(&spec).await.unwrap();
    assert_eq!(stand.running(&spec).await.len(), 2);
}

#[tokio::test]
async fn lists_that_lag_make_nothing_twice_and_are_told_as_old() {
    let lag = Duration::from_hours(1);
    let options = Options { list_lag: lag, ..Options::default() };
    let stand = Stand::with(options, |builder| builder.list_lag(Duration::from_mins(5))).await;
    let spec = stand.spec(2);
    for size in [2, 2, 3] {
        stand.ensure(&stand.spec(size)).await.unwrap();
    }
    let machines = || stand.fake().list("").into_keys().filter(|path| path.contains("/instances/")).count();
    assert_eq!(machines(), 3);
    stand.fake().skip(lag);
    // One that is gone, and is listed for another hour, is not taken for one that was abandoned.
    stand.retire(&spec, &stand.running(&spec).await[..1]).await.unwrap();
    stand.fake().skip(Duration::from_secs(1));
    stand.ensure(&stand.spec(3)).await.unwrap();
    assert_eq!((machines(), stand.calls("resize")), (3, 2));
    let cx = OpContext::standalone("observe");
    let seen = stand.fleets.observe(&cx, &spec.service).await.unwrap();
    let now = Timestamp::now();
    assert!(seen.as_of <= now - Duration::from_mins(5), "{} is too young at {now}", seen.as_of);
    stand.fake().skip(lag);
    assert_eq!(stand.running(&spec).await.len(), 3);
}

#[tokio::test]
async fn an_instance_that_boots_is_starting_and_one_that_stopped_is_dead_until_the_group_replaces_it() {
    let options = Options { boot_time: Duration::from_hours(1), ..Options::default() };
    let stand = Stand::with(options, |builder| builder).await;
    let spec = stand.spec(1);
    stand.ensure(&spec).await.unwrap();
    let lifecycles = async || {
        let fleet = stand.fleet_now(&spec).await.unwrap();
        fleet.instances.into_iter().map(|instance| instance.lifecycle).collect::<Vec<_>>()
    };
    assert_eq!(lifecycles().await, [Lifecycle::Starting]);
    stand.fake().skip(Duration::from_hours(1));
    assert_eq!(lifecycles().await, [Lifecycle::Running]);
    stand.fake().change(|options| options.notice_time = Duration::from_mins(1));
    let old = stand.running(&spec).await;
    stand.fake().kill(&path(&old[0]));
    assert_eq!(lifecycles().await, [Lifecycle::Dead]);
    assert!(matches!(stand.try_ensure(&spec).await, Ok(Progress::Pending { .. })), "the group is to replace it");
    stand.fake().skip(Duration::from_hours(2));
    let new = stand.running(&spec).await;
    assert!(new.len() == 1 && new != old && path(&new[0]) == path(&old[0]), "{new:?} in the place of {old:?}");
    assert_eq!(stand.calls("resize"), 0);
}

#[tokio::test]
async fn without_a_permission_the_error_names_it() {
    let stand = Stand::with(Options { permissions: Some([].into()), ..Options::default() }, |builder| builder).await;
    let error = stand.try_ensure(&stand.spec(1)).await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (ErrorKind::PermissionDenied, Effect::None), "{error}");
    assert!(error.to_string().contains("compute.instanceTemplates.get"), "{error}");
}

#[test]
fn nothing_of_the_clients_is_printed() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let stand = runtime.block_on(Stand::open());
    let fleets: &GroupProvisioner = &stand.fleets;
    assert_eq!(format!("{fleets:?}"), "GroupProvisioner { .. }");
}
