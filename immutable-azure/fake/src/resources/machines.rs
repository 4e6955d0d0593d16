//! Machines: how they come, fall ill and go, whoever asked for it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value, json};

use super::disks;
use super::network::interfaces;
use super::scale_sets;
use super::scale_sets::repairs;
use crate::Fake;
use crate::failure::Failure;
use crate::route::kind_of;
use crate::world::{World, key};

/// What is so with machines, but not to be seen in any resource. By their ids in small letters.
#[derive(Debug, Default)]
pub(crate) struct Machines {
    running: BTreeMap<String, Running>,
    ill: BTreeSet<String>,
    generalized: BTreeSet<String>,
    /// Those that could not be made.
    failed: BTreeMap<String, Failure>,
    /// The sets of those that leave late.
    pub(super) leaving: BTreeMap<String, String>,
    /// The interfaces that are reserved for machines that could not be made.
    pub(super) reserved: BTreeSet<String>,
    short: BTreeSet<String>,
    quota: Option<usize>,
}

/// A machine that has booted.
#[derive(Debug, Clone)]
struct Running {
    since: Duration,
    /// How the API says whether it still does: `running`, `stopped`, `deallocated`.
    power: &'static str,
    at: String,
}

/// What a machine does that its user did not ask for. A machine is named by its id, or from its type on as in
/// [`Fake::id`]: that of a `virtualMachines`, or of a member of a uniform scale set.
impl Fake {
    /// Makes what runs on a machine answer that it is ill, or well again. A new machine is well.
    pub fn set_ill(&self, machine: &str, ill: bool) {
        self.world(|world| {
            let id = world.id_of(machine);
            if ill {
                world.machines.ill.insert(key(&id));
                repairs::consider(world, &id);
            } else {
                world.machines.ill.remove(&key(&id));
            }
        });
    }

    /// Turns a machine off at once, as when its host is lost. Whether there is such a machine, and it ran.
    pub fn kill(&self, machine: &str) -> bool {
        self.world(|world| {
            let id = world.id_of(machine);
            let now = world.timestamp();
            let Some(running) = world.machines.running.get_mut(&key(&id)) else { return false };
            let ran = running.power == "running";
            (running.power, running.at) = ("stopped", now);
            repairs::consider(world, &id);
            ran
        })
    }

    /// Makes a zone run out of machines of every size, or have them again. `""`: where no zone is asked for.
    pub fn set_out_of_stock(&self, zone: &str, short: bool) {
        self.world(|world| {
            let zone = zone.to_owned();
            if short { world.machines.short.insert(zone) } else { world.machines.short.remove(&zone) }
        });
    }

    /// How many machines the subscription may have; none given: any number. Azure counts their cores; here each has one.
    pub fn set_quota(&self, machines: Option<usize>) {
        self.world(|world| world.machines.quota = machines);
    }
}

/// Whether a zone has no machines left.
pub(super) fn is_short(world: &World, zone: &str) -> bool {
    world.machines.short.contains(zone)
}

/// Refuses more machines than the subscription may have.
pub(super) fn check_quota(world: &World, more: usize) -> Result<(), Failure> {
    let Some(quota) = world.machines.quota else { return Ok(()) };
    let kinds = ["Microsoft.Compute/virtualMachines", "Microsoft.Compute/virtualMachineScaleSets/virtualMachines"];
    let used: usize = kinds.iter().map(|kind| world.all_of(kind).len()).sum();
    if more == 0 || used + more <= quota {
        return Ok(());
    }
    let message = format!(
        "Operation could not be completed as it results in exceeding approved Total Regional Cores quota. Additional \
         details - Deployment Model: Resource Manager, Location: {}, Current Limit: {quota}, Current Usage: {used}, \
         Additional Required: {more}, (Minimum) New Limit Required: {}. Setup Alerts when Quota reaches threshold.",
        world.options.location,
        used + more
    );
    Err(Failure::new(409, "OperationNotAllowed", message))
}

/// Refuses a machine for which there is no room.
pub(super) fn check_stock(world: &World, zone: &str) -> Result<(), Failure> {
    if !is_short(world, zone) {
        return Ok(());
    }
    let (code, place) =
        if zone.is_empty() { ("AllocationFailed", "region") } else { ("ZonalAllocationFailed", "zone") };
    let message = format!(
        "Allocation failed. We do not have sufficient capacity for the requested VM size in this {place}. Read more about \
         improving likelihood of allocation success at http://aka.ms/allocation-guidance"
    );
    Err(Failure::new(409, code, message))
}

/// Makes a machine: it boots from now on. `body`: what it shows of itself.
pub(super) fn start(world: &mut World, id: &str, mut body: Value) {
    let (serial, now) = (world.uuid(), world.timestamp());
    body["properties"]["provisioningState"] = "Creating".into();
    body["properties"]["vmId"] = serial.into();
    body["properties"]["timeCreated"] = now.into();
    // Those of members of a uniform set are not to be seen.
    if is_own(id) {
        disks::make(world, id, &mut body);
    }
    world.create(id, body);
    let time = world.options.boot_time;
    on_the_way(world, id, "Creating", time, |world, id| {
        let running = Running { since: world.now(), power: "running", at: world.timestamp() };
        world.machines.running.insert(key(id), running);
        world.set_state(id, "Succeeded");
        world.settle(Some(id));
        repairs::consider(world, id);
    });
}

/// Leaves a machine behind that could not be made: it is there, and never boots.
pub(super) fn fail(world: &mut World, id: &str, mut body: Value, why: Failure) {
    body["properties"]["provisioningState"] = "Failed".into();
    body["properties"]["vmId"] = world.uuid().into();
    body["properties"]["timeCreated"] = world.timestamp().into();
    world.create(id, body);
    world.machines.failed.insert(key(id), why);
}

/// Deletes a machine, with its interfaces.
pub(super) fn delete(world: &mut World, id: &str) {
    if world.state(id) == "Deleting" {
        return;
    }
    world.set_state(id, "Deleting");
    let time = world.options.stop_time;
    on_the_way(world, id, "Deleting", time, |world, id| {
        let gone = world.remove(id).unwrap_or_default();
        interfaces::remove(world, &gone);
        if is_own(id) {
            disks::leave(world, &gone);
            let parts: Vec<String> = world.below(&format!("{id}/")).into_iter().map(|(part, _)| part.clone()).collect();
            for part in &parts {
                world.remove(part);
            }
        }
        world.machines.running.remove(&key(id));
        world.machines.ill.remove(&key(id));
        world.machines.generalized.remove(&key(id));
        world.machines.failed.remove(&key(id));
        if let Some(set) = world.machines.leaving.remove(&key(id)) {
            scale_sets::lower(world, &set);
        }
        world.settle(Some(id));
    });
}

/// Has something happen to this very machine, if it still is in this state then.
fn on_the_way(
    world: &mut World,
    id: &str,
    state: &'static str,
    time: Duration,
    effect: impl FnOnce(&mut World, &str) + Send + 'static,
) {
    let (id, serial) = (id.to_owned(), serial(world, id));
    world.after(time, move |world| {
        if world.state(&id) == state && self::serial(world, &id) == serial {
            effect(world, &id);
        }
    });
}

/// Whether a machine is a resource of its own, and not one of its uniform scale set.
fn is_own(id: &str) -> bool {
    kind_of(id) == Some("Microsoft.Compute/virtualMachines")
}

/// Turns a machine that has booted on or off: `running`, `stopped` or `deallocated`.
pub(super) fn set_power(world: &mut World, id: &str, power: &'static str) {
    let (now, at) = (world.now(), world.timestamp());
    if let Some(running) = world.machines.running.get_mut(&key(id)) {
        *running = Running { since: now, power, at };
    }
}

/// Whether a machine is turned on or off, as [`set_power`] has it; nothing, before it has booted.
pub(super) fn power(world: &World, id: &str) -> Option<&'static str> {
    world.machines.running.get(&key(id)).map(|running| running.power)
}

/// Whether a machine was made into the pattern of an image.
pub(super) fn is_generalized(world: &World, id: &str) -> bool {
    world.machines.generalized.contains(&key(id))
}

/// Makes a machine into the pattern of an image. It cannot be started again.
pub(super) fn generalize(world: &mut World, id: &str) {
    world.machines.generalized.insert(key(id));
}

/// What tells a machine from another one that has its name later.
pub(super) fn serial(world: &World, id: &str) -> Value {
    world.get(id).map(|machine| machine["properties"]["vmId"].clone()).unwrap_or_default()
}

/// Since when a machine runs, or ran until somebody turned it off.
pub(super) fn since(world: &World, id: &str) -> Option<Duration> {
    world.machines.running.get(&key(id)).map(|running| running.since)
}

/// The health of a machine as its health extension reports it; nothing, without one.
pub(super) fn health(world: &World, id: &str) -> Option<&'static str> {
    let extension = scale_sets::health_extension(world, id)?;
    let is_rich =
        extension["properties"]["typeHandlerVersion"].as_str().is_some_and(|version| version.starts_with('2'));
    let running = world.machines.running.get(&key(id));
    match running {
        Some(running) if running.power == "running" => {
            if world.now() < running.since + world.options.health_time {
                return is_rich.then_some("initializing");
            }
            Some(if world.machines.ill.contains(&key(id)) { "unhealthy" } else { "healthy" })
        }
        _ => is_rich.then_some("unknown"),
    }
}

/// Whether something well listens at an address: on a machine that runs long enough.
pub(super) fn answers(world: &World, address: &str) -> bool {
    let Some(machine) = interfaces::machine_at(world, address).map(|id| key(&id)) else { return false };
    let Some(running) = world.machines.running.get(&machine) else { return false };
    let is_up = running.power == "running" && world.now() >= running.since + world.options.health_time;
    is_up && !world.machines.ill.contains(&machine)
}

/// What a machine is up to: its instance view.
pub(super) fn view(world: &World, id: &str) -> Value {
    let state = world.state(id).to_lowercase();
    let mut statuses = vec![json!({
        "code": format!("ProvisioningState/{state}"),
        "level": if state == "failed" { "Error" } else { "Info" },
        "displayStatus": format!("Provisioning {state}"),
    })];
    let failure = world.machines.failed.get(&key(id)).or_else(|| world.why(id).filter(|_| state == "failed"));
    if let Some(why) = failure {
        statuses[0]["code"] = format!("ProvisioningState/{state}/{}", why.code).into();
        statuses[0]["message"] = why.message.as_str().into();
    }
    if let Some(running) = world.machines.running.get(&key(id)) {
        statuses[0]["time"] = running.at.as_str().into();
        statuses.push(json!({
            "code": format!("PowerState/{}", running.power),
            "level": "Info",
            "displayStatus": format!("VM {}", running.power),
        }));
    }
    if is_generalized(world, id) {
        statuses.push(json!({ "code": "OSState/generalized", "level": "Info", "displayStatus": "VM generalized" }));
    }
    let mut view = json!({ "statuses": statuses });
    if let Some(health) = health(world, id) {
        let display = format!("The VM is reporting itself as {health}");
        view["vmHealth"] =
            json!({ "status": { "code": format!("HealthState/{health}"), "level": "Info", "displayStatus": display } });
    }
    view
}
