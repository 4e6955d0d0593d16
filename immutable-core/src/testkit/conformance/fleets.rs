//! The clauses of [`Provisioner`](crate::provider::Provisioner).

use std::collections::BTreeSet;

use super::bench::{Bench, Check, Seen, hold};
use super::harness::{Fault, Version};
use super::world::{ids, proof};
use crate::model::{FleetSpec, InstanceId, Lifecycle, ServiceName};
use crate::provider::ErrorKind;

pub(super) async fn p1_grow_only(bench: &Bench<'_>) -> Check {
    let spec = bench.spec(Version::Old, 2).await;
    let size = |size| FleetSpec { size, ..spec.clone() };
    bench.ensure(&spec).await?;
    let two = ids(&bench.alive(&spec.id).await?);
    hold!(two.len() == 2, "{} instances are alive after `ensure` of 2", two.len());
    bench.ensure(&size(3)).await?;
    let three = ids(&bench.alive(&spec.id).await?);
    hold!(three.len() == 3 && three.is_superset(&two), "growing {two:?} to 3 gave {three:?}");
    bench.ensure(&size(1)).await?;
    let after = ids(&bench.alive(&spec.id).await?);
    hold!(after == three, "`ensure` of 1 made {after:?} of {three:?}");

    // One that is being ended no longer counts.
    let Some(first) = three.first() else { return Ok(()) };
    bench.retire(&spec.id, std::slice::from_ref(first)).await?;
    bench.ensure(&size(3)).await?;
    let alive = ids(&bench.alive(&spec.id).await?);
    hold!(alive.len() == 3 && !alive.contains(first), "with {first} ending, `ensure` of 3 gave {alive:?}");

    // One that has died no longer counts either.
    let Some(victim) = alive.first().cloned() else { return Ok(()) };
    if bench.inject(Fault::Kill(victim.clone())).await? {
        bench.until(&format!("{victim} is seen as dead"), async || is_dead(bench, &spec, &victim).await).await?;
        bench.ensure(&size(3)).await?;
        let alive = ids(&bench.alive(&spec.id).await?);
        hold!(alive.len() == 3 && !alive.contains(&victim), "with {victim} dead, `ensure` of 3 gave {alive:?}");
    }
    let max = bench.platform.fleets.capabilities().max_fleet_size;
    let Some(beyond) = max.and_then(|max| max.checked_add(1)) else {
        bench.gap("a fleet larger than the largest", "`capabilities` declares no limit");
        return Ok(());
    };
    let before = ids(&bench.instances(&spec.id).await?);
    match bench.try_ensure(&size(beyond), "beyond the limit").await? {
        Ok(_) => return Err(Seen(format!("`capabilities` declares a limit of {max:?}, and {beyond} were accepted"))),
        Err(error) => {
            hold!(error.kind() == ErrorKind::Quota, "{beyond} instances are refused as something else: {error}");
        }
    }
    let after = ids(&bench.instances(&spec.id).await?);
    hold!(after.is_subset(&before), "a refused `ensure` of {beyond} made {after:?} of {before:?}");
    Ok(())
}

async fn is_dead(bench: &Bench<'_>, spec: &FleetSpec, instance: &InstanceId) -> Result<bool, Seen> {
    let instances = bench.instances(&spec.id).await?;
    // A platform may clear away what has died by itself.
    Ok(instances.iter().find(|one| one.id == *instance).is_none_or(|one| one.lifecycle == Lifecycle::Dead))
}

pub(super) async fn p2_never_more(bench: &Bench<'_>) -> Check {
    let spec = bench.spec(Version::Old, 2).await;
    for key in ["first", "first", "second"] {
        bench.ensure_as(&spec, key).await?;
        let found = bench.instances(&spec.id).await?;
        hold!(found.len() == 2, "after `ensure` of 2 under the key {key:?}, {} instances exist", found.len());
    }
    // Two callers at once, with a key each.
    let more = FleetSpec { size: 3, ..spec.clone() };
    let (left, right) =
        futures_util::future::join(bench.ensure_as(&more, "left"), bench.ensure_as(&more, "right")).await;
    left.and(right)?;
    let found = bench.instances(&spec.id).await?;
    hold!(found.len() == 3, "after two calls of `ensure` of 3 at once, {} instances exist", found.len());
    Ok(())
}

pub(super) async fn p3_bound_for_ever(bench: &Bench<'_>) -> Check {
    let spec = bench.spec(Version::Old, 1).await;
    bench.ensure(&spec).await?;
    let before = bench.fleet(&spec.id).await?;
    let other = bench.harness.release(Version::New).await;
    for size in [1, 2] {
        let foreign = FleetSpec { release: other.clone(), size, ..spec.clone() };
        match bench.try_ensure(&foreign, &format!("another release, {size}")).await? {
            Ok(answer) => return Err(Seen(format!("`ensure` with another release answered {answer:?}"))),
            Err(error) => {
                hold!(error.kind() == ErrorKind::Immutable, "another release is refused as something else: {error}");
            }
        }
        let after = bench.fleet(&spec.id).await?;
        let told = after.as_ref().map(|fleet| (fleet.release, ids(&fleet.instances)));
        let expected = before.as_ref().map(|fleet| (fleet.release, ids(&fleet.instances)));
        hold!(told == expected, "`ensure` with another release made {after:?} of {before:?}");
    }
    hold!(before.is_some_and(|fleet| fleet.release == spec.release.id()), "the fleet is not of its release");
    Ok(())
}

pub(super) async fn p4_sees_everything(bench: &Bench<'_>) -> Check {
    let empty = bench.spec(Version::New, 0).await;
    bench.ensure(&empty).await?;
    let listed = bench.fleet(&empty.id).await?;
    hold!(listed.is_some(), "a fleet without instances is not listed");

    let spec = bench.spec(Version::Old, 3).await;
    bench.ensure(&spec).await?;
    up_to_date(bench, &spec).await?;
    let running = bench.running(Version::Old, 3).await?;
    let born = spec.release.image().fingerprint;
    for one in &running {
        hold!(one.image.is_none_or(|image| image == born), "{} runs {:?} instead of {born:?}", one.id, one.image);
    }
    drifted(bench, &spec, &running[0].id).await?;

    let (dead, ending) = (running[1].id.clone(), running[2].id.clone());
    if bench.inject(Fault::Kill(dead.clone())).await? {
        let mut lifecycle = None;
        bench
            .until("a killed instance is no longer running", async || {
                let found = bench.instances(&spec.id).await?.into_iter().find(|one| one.id == dead);
                lifecycle = found.map(|one| one.lifecycle);
                Ok(lifecycle != Some(Lifecycle::Running))
            })
            .await?;
        hold!(lifecycle == Some(Lifecycle::Dead), "a killed instance is listed as {lifecycle:?}");
    }
    bench.retire(&spec.id, std::slice::from_ref(&ending)).await?;
    let found = bench.instances(&spec.id).await?.into_iter().find(|one| one.id == ending);
    let lifecycle = found.map(|one| one.lifecycle);
    hold!(matches!(lifecycle, None | Some(Lifecycle::Ending)), "a retired instance is listed as {lifecycle:?}");
    if lifecycle.is_none() {
        // It may be gone already; then nothing is left that ensure could trip over, or that a remove refuses.
        bench.gap("an instance that is being ended", "it was gone at once");
    }

    let stranger = ServiceName::new("conformance-other").map_err(|error| Seen(error.to_string()))?;
    let cx = bench.cx("observe another service");
    let others = bench.good("observe", bench.platform.fleets.observe(&cx, &stranger)).await?;
    hold!(others.fleets.is_empty(), "another service is shown {:?}", others.fleets);
    Ok(())
}

/// No fact is older than `as_of` says: what was done before it is in it. A list that lags has to say so.
async fn up_to_date(bench: &Bench<'_>, spec: &FleetSpec) -> Check {
    let done = bench.harness.now();
    bench
        .until("what was started is listed", async || {
            let state = bench.look().await?;
            let now = bench.harness.now();
            hold!(state.as_of <= now, "`as_of` is {}, and it is {now}", state.as_of);
            let fleet = state.fleets.iter().find(|fleet| fleet.id == spec.id);
            let count = fleet.map_or(0, |fleet| fleet.instances.len());
            hold!(
                state.as_of < done || count == spec.size as usize,
                "{count} instances are listed as of {}; {} were started before {done}",
                state.as_of,
                spec.size
            );
            Ok(count == spec.size as usize)
        })
        .await
}

async fn drifted(bench: &Bench<'_>, spec: &FleetSpec, victim: &InstanceId) -> Check {
    let could = bench.inject(Fault::Drift(victim.clone())).await?;
    let born = spec.release.image().fingerprint;
    let found = bench.instances(&spec.id).await?.into_iter().find(|one| one.id == *victim);
    if !could {
        let told = found.and_then(|one| one.image);
        hold!(
            told.is_none(),
            "no instance can be let drift here, and `observe` says what {victim} really runs: {told:?}"
        );
        return Ok(());
    }
    match found.map(|one| one.image) {
        Some(None) => bench.gap("drift", "the provider says that it cannot tell the content of an instance"),
        Some(Some(image)) => hold!(image != born, "{victim} runs other content, and `observe` says it is {born:?}"),
        None => return Err(Seen(format!("{victim} has drifted and is not listed any more"))),
    }
    Ok(())
}

pub(super) async fn p5_named_victims(bench: &Bench<'_>) -> Check {
    let old = bench.running(Version::Old, 3).await?;
    let new = bench.running(Version::New, 1).await?;
    let (fleet, other) = (bench.fleet_id(Version::Old).await, bench.fleet_id(Version::New).await);
    let named: BTreeSet<InstanceId> = ids(&old[..2]);
    let victims: Vec<_> = named.iter().cloned().collect();
    for _ in 0..2 {
        bench.retire(&fleet, &victims).await?;
        let alive = ids(&bench.alive(&fleet).await?);
        hold!(alive == ids(&old[2..]), "with {named:?} of {:?} retired, {alive:?} are alive", ids(&old));
    }
    bench.until_gone(&fleet, &named).await?;
    // Gone ones, ones that never were, and nobody at all: done, and nothing happens.
    let never = InstanceId::new("never-was").map_err(|error| Seen(error.to_string()))?;
    for victims in [victims.clone(), vec![never], Vec::new()] {
        bench.retire(&fleet, &victims).await?;
    }
    // Time in which something could replace them.
    bench.harness.wait(bench.harness.patience() / 4).await;
    let found = ids(&bench.instances(&fleet).await?);
    hold!(found == ids(&old[2..]), "some time after {named:?} were retired, {found:?} exist");

    // Named, but of another fleet: refused or passed over.
    let proof = proof(&fleet, &[new[0].id.clone()], bench.harness.now())?;
    let cx = bench.cx("retire of another fleet's");
    let _ = bench.call("retire", bench.platform.fleets.retire(&cx, &proof)).await?;
    let alive = ids(&bench.alive(&other).await?);
    hold!(
        alive == ids(&new),
        "a proof about {fleet} ended an instance of {other}: {alive:?} of {:?} are left",
        ids(&new)
    );
    Ok(())
}

pub(super) async fn p6_clean(bench: &Bench<'_>) -> Check {
    let all: Vec<_> = bench.running(Version::Old, 1).await?.into_iter().map(|one| one.id).collect();
    let (fleet, service) = (bench.fleet_id(Version::Old).await, bench.harness.service());
    let cx = bench.cx("remove a fleet that has instances");
    match bench.call("remove", bench.platform.fleets.remove(&cx, &service, &fleet)).await? {
        Ok(answer) => return Err(Seen(format!("`remove` of a fleet with an instance answered {answer:?}"))),
        Err(error) => {
            hold!(error.kind() == ErrorKind::Conflict, "a fleet with an instance is no conflict: {error}");
        }
    }
    hold!(bench.alive(&fleet).await?.len() == 1, "a refused `remove` ended the instance");
    bench.retire(&fleet, &all).await?;
    bench.until_gone(&fleet, &all.into_iter().collect()).await?;

    let stranger = ServiceName::new("conformance-other").map_err(|error| Seen(error.to_string()))?;
    let cx = bench.cx("remove as another service");
    let answer = bench.call("remove", bench.platform.fleets.remove(&cx, &stranger, &fleet)).await?;
    hold!(bench.fleet(&fleet).await?.is_some(), "another service removed the fleet: {answer:?}");
    for time in ["first", "second"] {
        let cx = bench.cx(&format!("remove for the {time} time"));
        let what = format!("`remove` for the {time} time");
        bench.done(&what, || bench.platform.fleets.remove(&cx, &service, &fleet)).await?;
        let left = bench.fleet(&fleet).await?;
        hold!(left.is_none(), "after {what}, there is {left:?}");
    }
    Ok(())
}
