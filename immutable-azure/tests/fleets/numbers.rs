//! Members of uniform sets, whose numbers are used again.

use std::time::Duration;

use immutable_azure::Orchestration;
use immutable_azure_fake::Options;
use immutable_core::model::Lifecycle;
use immutable_core::provider::{Effect, ErrorKind, OpContext, Progress, Provisioner as _};
use serde_json::Value;

use crate::stand::{Stand, path};
use crate::support::{machines, proof};

const HOUR: Duration = Duration::from_hours(1);

fn uniform(options: Options) -> Stand {
    Stand::with(options, |builder| builder.orchestration(Orchestration::Uniform))
}

/// Takes away what tells a machine from one that has its number later, and gives it back.
fn take_vm_id(stand: &Stand, machine: &str) -> Value {
    let mut taken = Value::Null;
    stand.fake().change(machine, |one| taken = one["properties"]["vmId"].take());
    taken
}

fn give_vm_id(stand: &Stand, machine: &str, vm_id: Value) {
    stand.fake().change(machine, |one| one["properties"]["vmId"] = vm_id);
}

#[tokio::test]
async fn who_has_the_number_of_one_that_is_gone_is_another_instance() {
    let stand = uniform(Options::default());
    let spec = stand.spec(2);
    stand.ensure(&spec).await.unwrap();
    let before = stand.running(&spec).await;
    let place = stand.machine(&before[0]);
    stand.retire(&spec, &before[..1]).await.unwrap();
    stand.fake().skip(Duration::from_secs(1));
    stand.ensure(&spec).await.unwrap();
    let after = stand.running(&spec).await;
    assert!(after.len() == 2 && after.contains(&before[1]) && !after.contains(&before[0]), "{before:?} {after:?}");
    let new = after.iter().find(|one| **one != before[1]).unwrap();
    assert_eq!(stand.machine(new), place, "it has the number");

    // The answer of the end was lost, perhaps, and it is sent again.
    let ends = stand.calls("POST", "/delete");
    stand.retire(&spec, &before[..1]).await.unwrap();
    assert_eq!((stand.running(&spec).await, stand.calls("POST", "/delete")), (after, ends));
}

#[tokio::test]
async fn who_is_still_listed_and_whose_number_another_has_is_waited_for_and_nobody_is_ended() {
    let stand = uniform(Options { list_lag: HOUR, ..Options::default() });
    let spec = stand.spec(1);
    stand.try_ensure(&spec).await.unwrap();
    stand.fake().skip(HOUR);
    let gone = stand.running(&spec).await;
    let place = stand.machine(&gone[0]);
    stand.fake().remove(&place);
    stand.fake().change(&path(&spec), |set| set["sku"]["capacity"] = 0.into());
    stand.try_ensure(&spec).await.unwrap();
    stand.fake().skip(Duration::from_secs(1));
    assert!(stand.fake().get(&place).is_some(), "another one has its number");
    assert_eq!(stand.running(&spec).await, gone, "the list is old");

    let (cx, ends) = (OpContext::standalone("retire"), stand.calls("POST", "/delete"));
    let waits = stand.fleets.retire(&cx, &proof(&spec.id, &gone)).await.unwrap();
    assert!(matches!(waits, Progress::Pending { .. }), "{waits:?}");
    assert_eq!(stand.calls("POST", "/delete"), ends);
    stand.fake().skip(HOUR);
    stand.retire(&spec, &gone).await.unwrap();
    let left = stand.running(&spec).await;
    assert!(left.len() == 1 && left != gone, "{left:?}");
    assert_eq!(stand.calls("POST", "/delete"), ends);
}

#[tokio::test]
async fn of_those_who_are_listed_the_ones_who_are_there_are_ended() {
    let stand = uniform(Options { list_lag: HOUR, ..Options::default() });
    let spec = stand.spec(2);
    stand.try_ensure(&spec).await.unwrap();
    stand.fake().skip(HOUR);
    let both = stand.running(&spec).await;
    let places = [0, 1].map(|one| stand.machine(&both[one]));
    stand.fake().remove(&places[0]);
    let cx = OpContext::standalone("retire");
    stand.fleets.retire(&cx, &proof(&spec.id, &both)).await.unwrap();
    stand.fake().skip(Duration::from_secs(1));
    assert_eq!((stand.calls("POST", "/delete"), stand.fake().get(&places[1])), (1, None));
}

#[tokio::test]
async fn as_many_are_ended_as_were_looked_at_in_time() {
    let stand = uniform(Options::default());
    let spec = stand.spec(3);
    stand.ensure(&spec).await.unwrap();
    let all = stand.running(&spec).await;
    let mut cx = OpContext::standalone("retire");
    cx.timeout = Duration::ZERO;
    for left in [2, 1, 0] {
        stand.fleets.retire(&cx, &proof(&spec.id, &all)).await.unwrap();
        assert_eq!(stand.running(&spec).await.len(), left);
    }
    let stand = Stand::open(Orchestration::Flexible);
    stand.ensure(&spec).await.unwrap();
    let all = stand.running(&spec).await;
    stand.fleets.retire(&cx, &proof(&spec.id, &all)).await.unwrap();
    assert_eq!(stand.running(&spec).await.len(), 0, "nobody has to be looked at whose name is not used again");
}

#[tokio::test]
async fn who_has_no_name_yet_is_counted_and_listed_when_there_is_one() {
    let stand = uniform(Options { boot_time: HOUR, ..Options::default() });
    let spec = stand.spec(2);
    stand.try_ensure(&spec).await.unwrap();
    let both = stand.instances(&spec, Lifecycle::Starting).await;
    let place = stand.machine(&both[0]);
    let vm_id = take_vm_id(&stand, &place);
    let fleet = stand.fleet(&spec).await.unwrap();
    let listed: Vec<_> = fleet.instances.iter().map(|one| &one.id).collect();
    assert_eq!((listed, fleet.wanted), (vec![&both[1]], Some(2)));
    assert!(matches!(stand.try_ensure(&spec).await, Ok(Progress::Pending { .. })), "not all of them are listed");
    assert_eq!(stand.calls("PATCH", ""), 0);

    // It is nobody of those who were there before, and an instance all the same.
    stand.retire(&spec, &both).await.unwrap();
    stand.fake().skip(Duration::from_secs(1));
    let fleet = stand.fleet(&spec).await.unwrap();
    assert_eq!((fleet.instances.len(), fleet.wanted), (0, Some(1)));
    let error = stand.remove(&spec).await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (ErrorKind::Conflict, Effect::None), "{error}");
    assert!(error.to_string().contains("has 1 instance"), "{error}");
    give_vm_id(&stand, &place, vm_id);
    assert_eq!(stand.instances(&spec, Lifecycle::Starting).await, both[..1]);
    stand.fake().skip(HOUR);
    stand.ensure(&stand.spec(1)).await.unwrap();
    assert_eq!(stand.running(&spec).await, both[..1]);
}

#[tokio::test]
async fn who_could_not_be_made_and_never_gets_a_name_tells_why_and_goes_with_its_fleet() {
    let stand = uniform(Options { keeps_failed: true, ..Options::default() });
    let spec = stand.spec(1);
    stand.short(true);
    stand.ensure(&spec).await.unwrap_err();
    for (place, _) in machines(stand.fake()) {
        take_vm_id(&stand, &place);
    }
    let error = stand.ensure(&spec).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Capacity, "{error}");
    assert_eq!(stand.fleet(&spec).await.unwrap().instances.len(), 0);
    stand.remove(&spec).await.unwrap();
    assert_eq!(stand.left(), [""; 0]);
}

#[tokio::test]
async fn who_runs_and_has_no_name_is_an_answer_that_nobody_understands() {
    let stand = uniform(Options::default());
    let spec = stand.spec(1);
    stand.ensure(&spec).await.unwrap();
    for (place, _) in machines(stand.fake()) {
        take_vm_id(&stand, &place);
    }
    let cx = OpContext::standalone("look");
    let error = stand.fleets.observe(&cx, &spec.service).await.unwrap_err();
    assert_eq!(error.effect(), Effect::None, "{error}");
}
