//! Instances, as their scale sets find them.

use immutable_azure::ScaleSetHealthProbe;
use immutable_core::model::{InstanceId, Look};
use immutable_core::provider::{ErrorKind, HealthProbe, OpContext, ProbeTarget};

use crate::stand::{HOUR, SET, config, fleet, instances, make_set, slow};

/// What a probe sees of these.
async fn looks(probe: &dyn HealthProbe, instances: &[InstanceId]) -> Vec<(InstanceId, Look)> {
    let target = |instance: &InstanceId| ProbeTarget { instance: instance.clone(), fleet: fleet(), endpoint: None };
    let targets: Vec<_> = instances.iter().map(target).collect();
    let samples = probe.sample(&OpContext::standalone("look"), &targets).await.unwrap();
    assert!(samples.iter().all(|sample| !sample.evidence.is_empty()));
    let mut looks: Vec<_> = samples.into_iter().map(|sample| (sample.instance, sample.look)).collect();
    looks.sort_by(|one, other| one.0.cmp(&other.0));
    looks
}

#[tokio::test]
async fn a_scale_set_tells_of_its_members_what_its_health_extension_finds() {
    for (mode, version) in [("Flexible", "1.0"), ("Flexible", "2.0"), ("Uniform", "1.0"), ("Uniform", "2.0")] {
        let fake = slow();
        let probe = ScaleSetHealthProbe::new(config(&fake).build().unwrap());
        let nobody: InstanceId = "im-web-0123456789ab_7f7f7f7f".parse().unwrap();
        assert_eq!(looks(&probe, std::slice::from_ref(&nobody)).await, [], "there is no scale set yet");

        make_set(&fake, mode, 3, Some(version)).await;
        let all = instances(&fake);
        let ids: Vec<InstanceId> = all.iter().map(|(id, _)| id.clone()).collect();
        let unknown = |id: &InstanceId| (id.clone(), Look::Unknown);
        assert_eq!(looks(&probe, &ids).await, ids.iter().map(unknown).collect::<Vec<_>>(), "they boot");
        fake.skip(HOUR);
        assert_eq!(looks(&probe, &ids).await, ids.iter().map(unknown).collect::<Vec<_>>(), "nobody has looked yet");
        fake.skip(HOUR);
        fake.set_ill(&all[1].1, true);
        let asked = [ids[0].clone(), ids[1].clone(), nobody.clone()];
        let expected = [(ids[0].clone(), Look::Good), (ids[1].clone(), Look::Bad)];
        assert_eq!(looks(&probe, &asked).await, expected, "{mode} {version}: of three on two pages, and nobody else");
        fake.kill(&all[2].1);
        assert_eq!(looks(&probe, &ids[2..]).await, [(ids[2].clone(), Look::Bad)]);
        fake.remove(&all[2].1);
        assert_eq!(looks(&probe, &ids[2..]).await, [], "it is gone");
    }
}

#[tokio::test]
async fn nothing_is_said_of_who_is_gone_when_another_has_its_number() {
    let fake = slow();
    make_set(&fake, "Uniform", 1, None).await;
    fake.skip(HOUR);
    let (gone, machine) = instances(&fake).remove(0);
    let probe = ScaleSetHealthProbe::new(config(&fake).build().unwrap());
    assert_eq!(looks(&probe, std::slice::from_ref(&gone)).await, [(gone.clone(), Look::Good)]);
    fake.change(&machine, |one| one["properties"]["vmId"] = "0f0f0f0f-0000-4000-8000-000000000000".into());
    let (new, _) = instances(&fake).remove(0);
    assert_eq!(looks(&probe, &[gone, new.clone()]).await, [(new, Look::Good)]);
}

#[tokio::test]
async fn without_an_extension_a_machine_that_runs_is_good() {
    for mode in ["Flexible", "Uniform"] {
        let fake = slow();
        make_set(&fake, mode, 1, None).await;
        let (id, _) = instances(&fake).remove(0);
        let probe = ScaleSetHealthProbe::new(config(&fake).build().unwrap());
        assert_eq!(looks(&probe, std::slice::from_ref(&id)).await, [(id.clone(), Look::Unknown)]);
        fake.skip(HOUR);
        assert_eq!(looks(&probe, std::slice::from_ref(&id)).await, [(id, Look::Good)]);
    }
}

#[tokio::test]
async fn a_fleet_takes_a_list_and_no_request_for_each_instance() {
    let fake = slow();
    make_set(&fake, "Flexible", 9, Some("1.0")).await;
    fake.set(|options| options.page = 5);
    let probe = ScaleSetHealthProbe::new(config(&fake).build().unwrap());
    let ids: Vec<InstanceId> = instances(&fake).into_iter().map(|(id, _)| id).collect();
    let before: usize = fake.calls().values().sum();
    assert_eq!(looks(&probe, &ids).await.len(), 9);
    assert_eq!(fake.calls().values().sum::<usize>() - before, 3, "the set, and two pages");
}

#[tokio::test]
async fn who_cannot_look_says_so() {
    let fake = slow();
    make_set(&fake, "Uniform", 1, None).await;
    let (id, _) = instances(&fake).remove(0);
    let probe = ScaleSetHealthProbe::new(config(&fake).build().unwrap());
    let target = ProbeTarget { instance: id, fleet: fleet(), endpoint: None };
    for operation in [
        format!("GET {}", SET.rsplit_once('/').unwrap().0),
        "LIST Microsoft.Compute/virtualMachineScaleSets/virtualMachines".into(),
    ] {
        fake.throttle_next(&operation, 7);
        let error = probe.sample(&OpContext::standalone("look"), std::slice::from_ref(&target)).await.unwrap_err();
        assert_eq!((error.kind(), error.retry_after().map(|time| time.as_secs())), (ErrorKind::Throttled, Some(7)));
    }
}
