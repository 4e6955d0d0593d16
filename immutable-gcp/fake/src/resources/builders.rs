//! Machines on which images are built. None of them runs its script: each says what one says that has run it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use serde_json::{Value, json};

use super::machines;
use crate::Fake;
use crate::call::Call;
use crate::failure::Failure;
use crate::world::{World, link};

/// How the build on the next machine goes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "tests choose one")]
pub enum Outcome {
    /// It is done, and says so in both ways.
    #[default]
    Done,
    /// It is done, but only the serial port tells so.
    DoneOnSerialPort,
    /// This step fails, such as `layers[0]`.
    Fails(String),
    /// It never says anything.
    Silent,
    /// It says that it is done as another attempt would: with another nonce.
    WrongNonce,
}

/// What a machine says when it has run its script.
#[derive(Debug)]
struct Speech {
    /// When, since the world began.
    at: Duration,
    line: Option<String>,
    as_attribute: bool,
}

/// What is being built. A machine is known by its id.
#[derive(Debug, Default)]
pub(crate) struct Builders {
    next: VecDeque<Outcome>,
    speeches: BTreeMap<String, Speech>,
    limited: BTreeSet<String>,
}

impl Fake {
    /// How the build on the next machine that is started goes. Those after it are done, unless this is called again.
    pub fn next_build(&self, outcome: Outcome) {
        self.world(|world| world.builders.next.push_back(outcome));
    }
}

/// Gives each machine that runs by now what it will say, and deletes those whose time is over.
pub(super) fn settle(world: &mut World) {
    let machines = world.below(&format!("{}/zones/", world.project()));
    let running = machines.filter(|(path, machine)| machines::is_machine(path) && machine["status"] == "RUNNING");
    let running: Vec<(String, Value)> = running.map(|(path, machine)| (path.clone(), machine.clone())).collect();
    for (path, machine) in running {
        limit(world, &path, &machine);
        let id = machine["id"].as_str().unwrap_or_default().to_owned();
        let Some(nonce) = nonce(&machine).filter(|_| !world.builders.speeches.contains_key(&id)) else { continue };
        let digest = format!("{:064x}", world.serial());
        let outcome = world.builders.next.pop_front().unwrap_or_default();
        let line = match &outcome {
            Outcome::Done | Outcome::DoneOnSerialPort => Some(format!("immutable {nonce} done {digest}")),
            Outcome::Fails(step) => Some(format!("immutable {nonce} failed {step} with status 1")),
            Outcome::WrongNonce => Some(format!("immutable {digest} done {digest}")),
            Outcome::Silent => None,
        };
        let as_attribute =
            outcome != Outcome::DoneOnSerialPort && item(&machine, "enable-guest-attributes") == Some("TRUE");
        let at = world.now() + world.options.build_time;
        world.builders.speeches.insert(id, Speech { at, line, as_attribute });
    }
}

/// A machine whose run time is limited is deleted when it is over.
fn limit(world: &mut World, path: &str, machine: &Value) {
    let most = machine["scheduling"]["maxRunDuration"]["seconds"].as_str().and_then(|most| most.parse::<u32>().ok());
    let Some(most) = most.filter(|_| machine["scheduling"]["instanceTerminationAction"] == "DELETE") else { return };
    let id = machine["id"].as_str().unwrap_or_default().to_owned();
    if !world.builders.limited.insert(id.clone()) {
        return;
    }
    let path = path.to_owned();
    world.after(world.options.second * most, move |world| {
        let is_same = world.get(&path).is_some_and(|machine| machine["id"] == id && machine["status"] == "RUNNING");
        if is_same {
            machines::delete(world, &path);
        }
    });
}

/// What `instances.getGuestAttributes` answers.
pub(super) fn guest_attributes(world: &World, call: &Call) -> Result<Value, Failure> {
    let path = call.target("instances", "instance");
    let machine = world.find(&path)?;
    let query = call.query("queryPath").unwrap_or_default();
    let nothing = || Failure::not_found(&format!("{path}/getGuestAttributes/{query}"));
    let said = said(world, machine).filter(|speech| speech.as_attribute);
    let (namespace, key) = query.split_once('/').ok_or_else(nothing)?;
    let line = said.and_then(|speech| speech.line.as_ref()).filter(|_| (namespace, key) == ("immutable", "result"));
    let value = line.ok_or_else(nothing)?;
    Ok(json!({
        "kind": "compute#guestAttributes",
        "queryPath": query,
        "queryValue": { "items": [{ "namespace": namespace, "key": key, "value": value }] },
        "selfLink": format!("{}/getGuestAttributes", link(&path)),
    }))
}

/// What `instances.getSerialPortOutput` answers: what the kernel says as it boots, and what the builder has said among it.
pub(super) fn serial_port(world: &World, call: &Call) -> Result<Value, Failure> {
    let path = call.target("instances", "instance");
    let machine = world.find(&path)?;
    if machine["status"] != "RUNNING" {
        return Err(Failure::not_ready(&path));
    }
    let line = said(world, machine).and_then(|speech| speech.line.as_ref());
    let line = line.map_or_else(String::new, |line| format!("\r\n{line}\r\n\r\n{line}\r\n"));
    let output = format!("[    0.000000] Linux version 6.1.0\r\n[    1.0] systemd[1]: started\r\n{line}");
    let start: i64 = call.query("start").and_then(|start| start.parse().ok()).unwrap_or_default();
    let whole = i64::try_from(output.len()).unwrap_or(i64::MAX);
    let start = if start < 0 { (whole + start).max(0) } else { start.min(whole) };
    Ok(json!({
        "kind": "compute#serialPortOutput",
        "contents": &output[usize::try_from(start).unwrap_or_default()..],
        "start": start.to_string(),
        "next": whole.to_string(),
        "selfLink": format!("{}/serialPort", link(&path)),
    }))
}

/// What a machine has said, while it runs.
fn said<'a>(world: &'a World, machine: &Value) -> Option<&'a Speech> {
    let speech = world.builders.speeches.get(machine["id"].as_str()?)?;
    (machine["status"] == "RUNNING" && speech.at <= world.now()).then_some(speech)
}

/// The word by which what a builder says is known.
fn nonce(machine: &Value) -> Option<&str> {
    item(machine, "startup-script")?.lines().find_map(|line| line.strip_prefix("# immutable-nonce: "))
}

fn item<'a>(machine: &'a Value, key: &str) -> Option<&'a str> {
    let items = machine["metadata"]["items"].as_array()?;
    items.iter().find(|item| item["key"] == key)?["value"].as_str()
}
