//! Growing, and what keeps a fleet from it.

use std::time::Duration;

use immutable_azure_fake::Options;
use immutable_core::model::Lifecycle;
use immutable_core::provider::{Effect, ErrorKind, Progress};
use serde_json::json;

use crate::stand::{BOTH, SETS, Stand, path};

#[tokio::test]
async fn a_fleet_grows_to_what_is_asked_for_and_never_further() {
    for orchestration in BOTH {
        let stand = Stand::open(orchestration);
        let spec = stand.spec(2);
        assert!(matches!(stand.try_ensure(&spec).await, Ok(Progress::Pending { .. })), "it does not wait");
        stand.ensure(&spec).await.unwrap();
        let two = stand.running(&spec).await;
        assert_eq!((two.len(), stand.fleet(&spec).await.unwrap().wanted), (2, Some(2)));
        for size in [2, 1, 0] {
            stand.ensure(&stand.spec(size)).await.unwrap();
        }
        assert_eq!((stand.running(&spec).await, stand.calls("PATCH", "")), (two.clone(), 0));
        stand.ensure(&stand.spec(5)).await.unwrap();
        let five = stand.running(&spec).await;
        assert!(five.len() == 5 && two.iter().all(|one| five.contains(one)), "{five:?} of {two:?}");
        assert_eq!((stand.calls("PUT", ""), stand.calls("PATCH", "")), (1, 1));
    }
}

#[tokio::test]
async fn two_who_grow_a_fleet_at_once_start_nothing_twice() {
    for orchestration in BOTH {
        let stand = Stand::open(orchestration);
        for size in [2, 4] {
            let spec = stand.spec(size);
            let (one, other) = futures_util::future::join(stand.ensure(&spec), stand.ensure(&spec)).await;
            one.and(other).unwrap();
            assert_eq!(stand.running(&spec).await.len(), size as usize);
        }
    }
}

#[tokio::test]
async fn a_set_that_somebody_else_makes_or_changes_in_this_moment_is_not_overwritten() {
    let stand = Stand::open(BOTH[0]);
    let spec = stand.spec(2);
    let unmet = "The condition on the ETag is not met.";
    stand.fake().refuse_next(&format!("PUT {SETS}"), 412, "PreconditionFailed", unmet);
    stand.ensure(&spec).await.unwrap();
    stand.fake().refuse_next(&format!("PATCH {SETS}"), 412, "PreconditionFailed", unmet);
    stand.ensure(&stand.spec(3)).await.unwrap();
    assert_eq!((stand.running(&spec).await.len(), stand.calls("PUT", ""), stand.calls("PATCH", "")), (3, 2, 2));
}

#[tokio::test]
async fn a_lost_answer_at_any_step_makes_nothing_twice() {
    for orchestration in BOTH {
        for verb in ["PUT", "PATCH"] {
            let stand = Stand::open(orchestration);
            if verb == "PATCH" {
                stand.ensure(&stand.spec(1)).await.unwrap();
            }
            stand.fake().lose_next(&format!("{verb} {SETS}"));
            let spec = stand.spec(3);
            let error = stand.ensure(&spec).await.unwrap_err();
            assert_eq!(error.effect(), Effect::Unknown, "{verb}: {error}");
            stand.ensure(&spec).await.unwrap();
            assert_eq!((stand.running(&spec).await.len(), stand.calls(verb, "")), (3, 1), "{verb}");
        }
    }
}

#[tokio::test]
async fn a_shortage_is_told_and_tried_again() {
    for orchestration in BOTH {
        let stand = Stand::open(orchestration);
        let spec = stand.spec(2);
        stand.short(true);
        for _ in 0..2 {
            let error = stand.ensure(&spec).await.unwrap_err();
            assert_eq!((error.kind(), error.effect()), (ErrorKind::Capacity, Effect::None), "{error}");
            assert!(error.to_string().contains("ZonalAllocationFailed"), "{error}");
        }
        let fleet = stand.fleet(&spec).await.unwrap();
        assert_eq!((fleet.instances, fleet.wanted), (Vec::new(), Some(2)));
        // Whoever comes next knows nothing, and finds out.
        let stand = stand.restarted(|builder| builder.orchestration(orchestration).zones(["1", "2", "3"]));
        let error = stand.ensure(&spec).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Capacity, "{error}");
        stand.short(false);
        stand.ensure(&spec).await.unwrap();
        assert_eq!(stand.running(&spec).await.len(), 2);
    }
}

#[tokio::test]
async fn what_could_not_be_made_is_dead_and_tells_why_until_it_is_ended() {
    for orchestration in BOTH {
        let options = Options { keeps_failed: true, ..Options::default() };
        let stand = Stand::with(options, |builder| builder.orchestration(orchestration).zones(["1"]));
        let spec = stand.spec(3);
        stand.ensure(&stand.spec(1)).await.unwrap();
        stand.short(true);
        for _ in 0..3 {
            let error = stand.ensure(&spec).await.unwrap_err();
            assert_eq!((error.kind(), error.effect()), (ErrorKind::Capacity, Effect::None), "{error}");
            assert!(error.to_string().contains("ZonalAllocationFailed"), "{error}");
        }
        let dead = stand.instances(&spec, Lifecycle::Dead).await;
        assert_eq!((dead.len(), stand.running(&spec).await.len(), stand.calls("PATCH", "")), (2, 1, 1));
        stand.short(false);
        stand.retire(&spec, &dead).await.unwrap();
        stand.ensure(&spec).await.unwrap();
        let fleet = stand.fleet(&spec).await.unwrap();
        assert_eq!((fleet.instances.len(), fleet.wanted), (3, Some(3)));
    }
}

#[tokio::test]
async fn a_quota_is_told_at_once_and_changes_nothing() {
    let stand = Stand::open(BOTH[0]);
    stand.ensure(&stand.spec(2)).await.unwrap();
    stand.fake().set_quota(Some(3));
    let error = stand.ensure(&stand.spec(4)).await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (ErrorKind::Quota, Effect::None), "{error}");
    assert_eq!(stand.running(&stand.spec(4)).await.len(), 2);
    stand.fake().set_quota(None);
    stand.ensure(&stand.spec(4)).await.unwrap();

    let error = stand.ensure(&stand.spec(1001)).await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (ErrorKind::Quota, Effect::None), "{error}");
}

#[tokio::test]
async fn who_died_is_replaced_without_being_ended_and_nobody_takes_that_for_a_larger_fleet() {
    for orchestration in BOTH {
        let stand = Stand::open(orchestration);
        let spec = stand.spec(2);
        stand.ensure(&spec).await.unwrap();
        let first = stand.running(&spec).await.remove(0);
        assert!(stand.fake().kill(&stand.machine(&first)));
        assert_eq!(stand.instances(&spec, Lifecycle::Dead).await, std::slice::from_ref(&first));
        assert_eq!(stand.fleet(&spec).await.unwrap().wanted, Some(2));
        stand.ensure(&spec).await.unwrap();
        let fleet = stand.fleet(&spec).await.unwrap();
        assert_eq!((fleet.instances.len(), fleet.wanted), (3, Some(2)), "{orchestration:?}");
        assert_eq!(stand.set(&spec).unwrap()["sku"]["capacity"], 3);
        stand.retire(&spec, &[first]).await.unwrap();
        let fleet = stand.fleet(&spec).await.unwrap();
        assert_eq!((fleet.instances.len(), fleet.wanted), (2, Some(2)));
        // The next one that dies is another.
        let second = stand.running(&spec).await.remove(0);
        stand.fake().kill(&stand.machine(&second));
        assert_eq!(stand.fleet(&spec).await.unwrap().wanted, Some(2));
    }
}

#[tokio::test]
async fn a_size_that_was_changed_by_hand_is_told_and_never_lowered() {
    for orchestration in BOTH {
        let stand = Stand::open(orchestration);
        let spec = stand.spec(2);
        stand.ensure(&spec).await.unwrap();
        stand.fake().change(&path(&spec), |set| set["sku"]["capacity"] = 4.into());
        assert_eq!(stand.fleet(&spec).await.unwrap().wanted, Some(4));
        stand.ensure(&spec).await.unwrap();
        assert_eq!(stand.set(&spec).unwrap()["sku"]["capacity"], 4);
    }
}

#[tokio::test]
async fn lists_that_lag_make_nothing_twice_and_are_told_as_old() {
    for orchestration in BOTH {
        let lag = Duration::from_hours(1);
        let options = Options { list_lag: lag, ..Options::default() };
        let settings = |builder: immutable_azure::ConfigBuilder| {
            builder.orchestration(orchestration).list_lag(Duration::from_mins(5))
        };
        let stand = Stand::with(options, settings);
        for size in [2, 2, 3] {
            let spec = stand.spec(size);
            for _ in 0..3 {
                stand.try_ensure(&spec).await.unwrap();
                stand.fake().skip(Duration::from_secs(1));
            }
        }
        let spec = stand.spec(3);
        assert_eq!(stand.set(&spec).unwrap()["sku"]["capacity"], 3);
        stand.fake().skip(lag);
        stand.ensure(&spec).await.unwrap();
        let all = stand.running(&spec).await;
        assert_eq!(all.len(), 3);
        // One that died, and one that is gone, are listed for another hour.
        stand.fake().kill(&stand.machine(&all[0]));
        stand.retire(&spec, &all[..2]).await.unwrap();
        stand.fake().skip(Duration::from_secs(1));
        stand.try_ensure(&spec).await.unwrap();
        stand.fake().skip(Duration::from_secs(1));
        stand.try_ensure(&spec).await.unwrap();
        assert_eq!(stand.set(&spec).unwrap()["sku"]["capacity"], 3, "{orchestration:?}");
        stand.fake().skip(lag);
        assert_eq!(stand.running(&spec).await.len(), 3);
    }
}

#[tokio::test]
async fn who_is_listed_as_dead_and_is_gone_is_not_replaced_twice() {
    for orchestration in BOTH {
        let lag = Duration::from_hours(1);
        let options = Options { list_lag: lag, ..Options::default() };
        let stand = Stand::with(options, |builder| builder.orchestration(orchestration));
        let spec = stand.spec(2);
        stand.try_ensure(&spec).await.unwrap();
        stand.fake().skip(lag);
        let machine = stand.machine(&stand.running(&spec).await[0]);
        stand.fake().kill(&machine);
        stand.fake().remove(&machine);
        stand.fake().change(&path(&spec), |set| set["sku"]["capacity"] = 1.into());
        assert_eq!(stand.instances(&spec, Lifecycle::Dead).await.len(), 1, "it is still listed");
        for _ in 0..3 {
            stand.try_ensure(&spec).await.unwrap();
            stand.fake().skip(Duration::from_secs(1));
        }
        assert_eq!(stand.set(&spec).unwrap()["sku"]["capacity"], 2, "{orchestration:?}");
    }
}

#[tokio::test]
async fn a_fleet_is_bound_to_its_release_and_to_its_settings() {
    let stand = Stand::open(BOTH[0]);
    let spec = stand.spec(1);
    stand.ensure(&spec).await.unwrap();
    for size in [1, 2] {
        let release = stand.group.release("2.0.0");
        let other = immutable_core::model::FleetSpec { release, size, ..spec.clone() };
        let error = stand.try_ensure(&other).await.unwrap_err();
        assert_eq!((error.kind(), error.effect()), (ErrorKind::Immutable, Effect::None), "{error}");
    }
    let stand = stand.restarted(|builder| builder.zones(["1", "2", "3"]).vm_size("Standard_D4s_v5"));
    let error = stand.try_ensure(&stand.spec(2)).await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (ErrorKind::Immutable, Effect::None), "{error}");
    assert!(error.to_string().contains("other launch settings"), "{error}");
    // They say how new fleets are made, and not how old ones go.
    let running = stand.running(&spec).await;
    assert_eq!(running.len(), 1);
    stand.retire(&spec, &running).await.unwrap();
    stand.fake().skip(Duration::from_secs(1));
    stand.remove(&spec).await.unwrap();
    assert_eq!(stand.left(), [""; 0]);
}

#[tokio::test]
async fn a_release_that_says_with_which_settings_it_is_launched_grows_under_others() {
    let stand = Stand::open(BOTH[1]);
    let mut launch = immutable_core::model::LaunchSpec::default();
    let made_with = stand.group.config().orchestration(BOTH[1]).zones(["1", "2", "3"]);
    launch.labels.extend([made_with.build().unwrap().launch_label()]);
    let release = immutable_core::model::Release::new(stand.group.image("1.0.0"), launch);
    let spec = |size| crate::support::Group::spec(release.clone(), size);
    stand.ensure(&spec(1)).await.unwrap();
    let stand = stand.restarted(|builder| builder.vm_size("Standard_D4s_v5"));
    stand.ensure(&spec(2)).await.unwrap();
    assert_eq!(stand.running(&spec(2)).await.len(), 2);
    assert_eq!(stand.set(&spec(2)).unwrap()["sku"]["name"], "Standard_D2s_v5");
}

#[tokio::test]
async fn what_somebody_else_has_made_under_the_name_of_a_fleet_is_left_alone() {
    let stand = Stand::open(BOTH[0]);
    let spec = stand.spec(1);
    let theirs = json!({ "tags": { "owner": "somebody" }, "sku": { "name": "a", "capacity": 0 }, "properties": {} });
    stand.fake().put(&path(&spec), theirs);
    let error = stand.try_ensure(&spec).await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (ErrorKind::Immutable, Effect::None), "{error}");
    stand.remove(&spec).await.unwrap();
    assert!(stand.set(&spec).is_some());
    assert_eq!(stand.fleet(&spec).await, None);
}
