//! Ending instances, and removing fleets.

use std::time::Duration;

use immutable_azure_fake::Options;
use immutable_core::model::{InstanceId, Lifecycle};
use immutable_core::provider::{Effect, ErrorKind, OpContext, Progress, Provisioner as _};
use serde_json::json;

use crate::stand::{BOTH, SETS, Stand, path};

#[tokio::test]
async fn exactly_those_who_are_named_are_ended_and_the_size_is_lowered_with_them() {
    for orchestration in BOTH {
        let stand = Stand::open(orchestration);
        let spec = stand.spec(4);
        stand.ensure(&spec).await.unwrap();
        let all = stand.running(&spec).await;
        stand.retire(&spec, &all[1..3]).await.unwrap();
        assert_eq!(stand.running(&spec).await, [all[0].clone(), all[3].clone()]);
        assert_eq!(stand.fleet(&spec).await.unwrap().wanted, Some(2));
        // Who is gone is done, and so is who never was.
        stand.retire(&spec, &all[1..2]).await.unwrap();
        stand.retire(&spec, &["im-web_1".parse::<InstanceId>().unwrap()]).await.unwrap();
        assert_eq!((stand.calls("POST", "/delete"), stand.calls("PATCH", "")), (1, 0));
        stand.ensure(&spec).await.unwrap();
        let four = stand.running(&spec).await;
        assert!(four.len() == 4 && !four.contains(&all[1]), "{four:?}");
        let sent = stand.fake().exchanges().into_iter().find(|one| one.operation.ends_with("/delete")).unwrap();
        assert_eq!(sent.request["instanceIds"].as_array().map(Vec::len), Some(2));
    }
}

#[tokio::test]
async fn a_hundred_are_ended_with_a_request_and_the_others_with_the_next() {
    for orchestration in BOTH {
        let options = Options { page: 500, ..Options::default() };
        let stand = Stand::with(options, |builder| builder.orchestration(orchestration));
        let spec = stand.spec(103);
        stand.ensure(&spec).await.unwrap();
        let mut all = stand.running(&spec).await;
        let stays = all.pop().unwrap();
        stand.retire(&spec, &all).await.unwrap();
        assert_eq!((stand.running(&spec).await, stand.calls("POST", "/delete")), (vec![stays], 2));
        assert_eq!(stand.fleet(&spec).await.unwrap().wanted, Some(1));
    }
}

#[tokio::test]
async fn a_retirement_that_is_sent_again_lowers_the_size_once() {
    for orchestration in BOTH {
        let stand = Stand::open(orchestration);
        let spec = stand.spec(4);
        stand.ensure(&spec).await.unwrap();
        let all = stand.running(&spec).await;
        stand.fake().lose_next(&format!("POST {SETS}/delete"));
        let error = stand.retire(&spec, &all[..1]).await.unwrap_err();
        assert_eq!(error.effect(), Effect::Unknown, "{error}");
        stand.fake().skip(Duration::from_secs(1));
        for _ in 0..2 {
            stand.retire(&spec, &all[..1]).await.unwrap();
        }
        let fleet = stand.fleet(&spec).await.unwrap();
        assert_eq!((fleet.instances.len(), fleet.wanted), (3, Some(3)));
        stand.fake().fail_next_operation(&format!("POST {SETS}/delete"), "InternalExecutionError", "try again");
        stand.retire(&spec, &all[..2]).await.unwrap();
        assert_eq!(stand.running(&spec).await, all[2..], "what failed was sent again");
    }
}

#[tokio::test]
async fn a_protected_instance_is_told_and_not_ended() {
    let stand = Stand::open(BOTH[1]);
    let spec = stand.spec(2);
    stand.ensure(&spec).await.unwrap();
    let all = stand.running(&spec).await;
    let machine = stand.machine(&all[0]);
    stand
        .fake()
        .change(&machine, |one| one["properties"]["protectionPolicy"] = json!({ "protectFromScaleSetActions": true }));
    let error = stand.retire(&spec, &all).await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (ErrorKind::Conflict, Effect::None), "{error}");
    assert!(error.to_string().contains(all[0].as_str()), "{error}");
    assert_eq!(stand.running(&spec).await, all[..1], "the other one went");
}

#[tokio::test]
async fn who_is_being_ended_is_listed_until_gone_and_keeps_its_fleet() {
    for orchestration in BOTH {
        let stand = Stand::open(orchestration);
        let spec = stand.spec(2);
        stand.ensure(&spec).await.unwrap();
        let all = stand.running(&spec).await;
        stand.fake().set(|options| options.stop_time = Duration::from_hours(1));
        stand.retire(&spec, &all[..1]).await.unwrap();
        let fleet = stand.fleet(&spec).await.unwrap();
        let ending = fleet.instances.iter().find(|instance| instance.id == all[0]).unwrap();
        assert_eq!((ending.lifecycle, fleet.wanted), (Lifecycle::Ending, Some(1)));
        let error = stand.remove(&spec).await.unwrap_err();
        assert_eq!((error.kind(), error.effect()), (ErrorKind::Conflict, Effect::None), "{error}");
        stand.fake().skip(Duration::from_hours(1));
        assert_eq!(stand.running(&spec).await, all[1..]);
    }
}

#[tokio::test]
async fn a_fleet_goes_with_all_that_was_made_for_it() {
    for orchestration in BOTH {
        let stand = Stand::open(orchestration);
        let spec = stand.spec(2);
        stand.ensure(&spec).await.unwrap();
        // What was to go with a machine, and did not.
        let set = format!("im-{}", spec.id);
        stand.fake().put(&format!("Microsoft.Compute/disks/{set}_0a1b2c3d_OsDisk_1"), json!({}));
        stand.fake().put(&format!("Microsoft.Network/networkInterfaces/{set}-0a1b2c3d"), json!({}));
        let theirs =
            [format!("Microsoft.Compute/disks/{set}1_0a1b2c3d_OsDisk_1"), "Microsoft.Compute/disks/other".to_owned()];
        for disk in &theirs {
            stand.fake().put(disk, json!({}));
        }
        let cx = OpContext::standalone("remove");
        let other = "other".parse().unwrap();
        stand.fleets.remove(&cx, &other, &spec.id).await.unwrap();
        let all = stand.running(&spec).await;
        stand.retire(&spec, &all).await.unwrap();
        stand.fake().skip(Duration::from_secs(1));
        stand.fake().lose_next(&format!("DELETE {SETS}"));
        let error = stand.remove(&spec).await.unwrap_err();
        assert_eq!(error.effect(), Effect::Unknown, "{error}");
        stand.remove(&spec).await.unwrap();
        let mut expected = theirs.map(|disk| stand.fake().id(&disk).to_ascii_lowercase());
        expected.sort();
        assert_eq!(stand.left(), expected, "{orchestration:?}");
        stand.remove(&spec).await.unwrap();
    }
}

#[tokio::test]
async fn a_set_whose_machines_could_not_be_made_is_removed_and_one_whose_are_not_listed_is_not() {
    let stand = Stand::open(BOTH[0]);
    let spec = stand.spec(2);
    stand.short(true);
    stand.ensure(&spec).await.unwrap_err();
    stand.remove(&spec).await.unwrap();
    assert_eq!(stand.left(), [""; 0]);

    let options = Options { list_lag: Duration::from_hours(1), ..Options::default() };
    let stand = Stand::with(options, |builder| builder);
    stand.try_ensure(&spec).await.unwrap();
    stand.fake().skip(Duration::from_secs(1));
    let error = stand.remove(&spec).await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (ErrorKind::Conflict, Effect::None), "{error}");
    assert_eq!((stand.calls("DELETE", ""), stand.set(&spec).is_some()), (0, true));
}

#[tokio::test]
async fn interfaces_that_are_reserved_for_who_could_not_be_made_are_waited_for() {
    let options = Options { reserve_time: Duration::from_hours(1), ..Options::default() };
    let stand = Stand::with(options, |builder| builder);
    let spec = stand.spec(1);
    stand.short(true);
    stand.ensure(&spec).await.unwrap_err();
    let cx = OpContext::standalone("remove");
    for _ in 0..2 {
        let waits = stand.fleets.remove(&cx, &spec.service, &spec.id).await.unwrap();
        let Progress::Pending { retry_after, .. } = waits else { panic!("{waits:?}") };
        assert_eq!(retry_after, Duration::from_mins(3));
    }
    stand.fake().skip(Duration::from_hours(1));
    stand.remove(&spec).await.unwrap();
    assert_eq!(stand.left(), [""; 0]);
}

#[tokio::test]
async fn a_set_that_counts_members_it_never_got_is_removed_when_nobody_is_listed_for_as_long_as_lists_lag() {
    for orchestration in BOTH {
        let lag = Duration::from_millis(300);
        let stand = Stand::with(Options::default(), |builder| builder.orchestration(orchestration).list_lag(lag));
        stand.ensure(&stand.spec(2)).await.unwrap();
        stand.short(true);
        let spec = stand.spec(3);
        stand.ensure(&spec).await.unwrap_err();
        let two = stand.running(&spec).await;
        stand.retire(&spec, &two).await.unwrap();
        stand.short(false);
        stand.fake().skip(Duration::from_secs(1));
        let set = stand.set(&spec).unwrap();
        assert_eq!(
            (&set["sku"]["capacity"], &set["properties"]["provisioningState"]),
            (&json!(1), &json!("Succeeded"))
        );
        let changes = stand.calls("PATCH", "");
        let error = stand.remove(&spec).await.unwrap_err();
        assert_eq!((error.kind(), error.effect()), (ErrorKind::Conflict, Effect::None), "{error}");
        assert!(error.retry_after().is_some_and(|delay| delay <= lag), "{error}");
        assert_eq!(stand.calls("PATCH", ""), changes, "nobody knows yet whether there is somebody");
        tokio::time::sleep(lag).await;
        stand.remove(&spec).await.unwrap();
        assert_eq!((stand.left(), stand.calls("PATCH", "")), (Vec::new(), changes + 1), "{orchestration:?}");
    }
}

#[tokio::test]
async fn who_is_not_listed_yet_is_not_ended_by_a_removal() {
    for orchestration in BOTH {
        let options = Options { list_lag: Duration::from_hours(1), ..Options::default() };
        let lag = Duration::from_millis(300);
        let stand = Stand::with(options, |builder| builder.orchestration(orchestration).list_lag(lag));
        let spec = stand.spec(2);
        stand.try_ensure(&spec).await.unwrap();
        stand.fake().skip(Duration::from_secs(1));
        let error = stand.remove(&spec).await.unwrap_err();
        assert!(error.to_string().contains("not listed"), "{error}");
        // What was changed since is looked at anew.
        stand.fake().change(&path(&spec), |set| set["tags"]["owner"] = "somebody".into());
        tokio::time::sleep(lag).await;
        let error = stand.remove(&spec).await.unwrap_err();
        assert!(error.to_string().contains("not listed"), "{error}");
        stand.fake().skip(Duration::from_hours(1));
        tokio::time::sleep(lag).await;
        let error = stand.remove(&spec).await.unwrap_err();
        assert!(error.to_string().contains("has 2 instances"), "{error}");
        assert_eq!((stand.running(&spec).await.len(), stand.calls("PATCH", "")), (2, 0));
    }
}

#[tokio::test]
async fn who_is_counted_until_gone_is_nobody_elses_change_of_the_size() {
    for orchestration in BOTH {
        let options = Options { leaves_late: true, ..Options::default() };
        let stand = Stand::with(options, |builder| builder.orchestration(orchestration));
        let spec = stand.spec(4);
        stand.ensure(&spec).await.unwrap();
        let all = stand.running(&spec).await;
        stand.fake().set(|options| options.stop_time = Duration::from_hours(1));
        stand.retire(&spec, &all[..3]).await.unwrap();
        let fleet = stand.fleet(&spec).await.unwrap();
        assert_eq!((fleet.instances.len(), &stand.set(&spec).unwrap()["sku"]["capacity"]), (4, &json!(4)));
        assert_eq!(fleet.wanted, Some(1));
        stand.fake().skip(Duration::from_hours(1));
        let fleet = stand.fleet(&spec).await.unwrap();
        assert_eq!((fleet.instances.len(), fleet.wanted), (1, Some(1)));
    }
}

#[tokio::test]
async fn a_set_that_changes_in_this_moment_is_not_removed_before_it_is_looked_at_again() {
    let stand = Stand::open(BOTH[0]);
    let spec = stand.spec(0);
    stand.ensure(&spec).await.unwrap();
    stand.fake().refuse_next(&format!("DELETE {SETS}"), 412, "PreconditionFailed", "The condition is not met.");
    stand.remove(&spec).await.unwrap();
    assert_eq!((stand.calls("DELETE", ""), stand.fake().get(&path(&spec))), (2, None));
}
