//! Managed run commands: scripts that run on machines. None of them really runs: the test says what each does.
//!
//! <https://learn.microsoft.com/azure/virtual-machines/linux/run-command-managed>

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{check_location, machines, rows, shown, unknown};
use crate::Fake;
use crate::answer::Answer;
use crate::call::Call;
use crate::failure::Failure;
use crate::route::What;
use crate::world::{Outcome, World, key};

/// How much of the end of what a script writes is shown, in bytes.
const SHOWN: usize = 4096;

/// What a script did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "tests make it")]
pub struct Ran {
    /// Its exit status.
    pub exit_code: i32,
    /// What it wrote to its standard output.
    pub output: String,
    /// What it wrote to its standard error.
    pub error: String,
    /// Whether it has switched its machine off at its end.
    pub off: bool,
}

/// Says what a script does, given its machine and itself. None: it never ends.
type Script = Box<dyn FnMut(&Value, &str) -> Option<Ran> + Send>;

/// What runs on machines, and what has run, by the ids of the commands in small letters.
#[derive(Default)]
pub(crate) struct RunCommands {
    script: Option<Script>,
    views: BTreeMap<String, Value>,
}

impl Fake {
    /// What scripts of run commands do from now on, given their machine as it is and themselves. Unless this is called,
    /// they do nothing, with success. None: the script never ends.
    pub fn on_run_command(&self, script: impl FnMut(&Value, &str) -> Option<Ran> + Send + 'static) {
        self.world(|world| world.run_commands.script = Some(Box::new(script)));
    }
}

pub(super) fn handle(world: &mut World, call: &Call) -> Result<Answer, Failure> {
    match (call.verb.as_str(), &call.route.what) {
        ("GET", What::Resource) => {
            let mut found = shown(world.find(call.id())?);
            match call.query("$expand") {
                Some(expand) if expand.eq_ignore_ascii_case("instanceView") => {
                    let view = world.run_commands.views.get(&key(call.id()));
                    found["properties"]["instanceView"] = view.cloned().unwrap_or_default();
                }
                Some(_) => return unknown(world, call),
                None => {}
            }
            Ok(Answer::ok(found))
        }
        ("GET", What::List) => Ok(world.page(call, rows(world, call))),
        ("PUT", What::Resource) => put(world, call),
        ("DELETE", What::Resource) => {
            if world.get(call.id()).is_none() {
                return Ok(Answer::nothing());
            }
            world.set_state(call.id(), "Deleting");
            let operation = world.operate(call, |_| Ok(Outcome::Done(Value::Null)));
            Ok(world.accepted(call, &operation))
        }
        _ => unknown(world, call),
    }
}

fn put(world: &mut World, call: &Call) -> Result<Answer, Failure> {
    check_location(world, &call.body)?;
    let id = call.id().to_owned();
    let machine = id.rsplitn(3, '/').nth(2).unwrap_or_default().to_owned();
    world.find(&machine)?;
    if machines::power(world, &machine) != Some("running") {
        let message = "Cannot modify extensions in the VM when the VM is not running.";
        return Err(Failure::new(409, "OperationNotAllowed", message));
    }
    let Some(script) = call.body["properties"]["source"]["script"].as_str().map(str::to_owned) else {
        return Err(Failure::invalid("source.script", "Required parameter 'source.script' is missing (null)."));
    };
    let status = if world.get(&id).is_some() { 200 } else { 201 };
    let mut command = call.body.clone();
    command["location"] = world.options.location.as_str().into();
    command["properties"]["provisioningState"] = "Creating".into();
    world.create(&id, command);
    run(world, &id, &machine, &script);
    let waits = call.body["properties"]["asyncExecution"] != true;
    let target = id.clone();
    let operation = world.operate(call, move |world| {
        let runs = world.run_commands.views.get(&key(&target)).is_some_and(|view| view["executionState"] == "Running");
        Ok(Outcome::When(if waits && runs { vec![target] } else { Vec::new() }, Ok(())))
    });
    let answer = Answer::new(status, shown(world.find(&id)?));
    Ok(world.follow(call, &operation, answer))
}

/// Runs a script on a machine. It ends when its time is over, if the machine still is that one and runs.
fn run(world: &mut World, id: &str, machine: &str, script: &str) {
    let began = world.timestamp();
    let view = json!({ "executionState": "Running", "exitCode": 0, "output": "", "error": "", "startTime": began });
    world.run_commands.views.insert(key(id), view);
    let limit = world.get(id).and_then(|command| command["properties"]["timeoutInSeconds"].as_u64());
    let limit = limit.and_then(|limit| u32::try_from(limit).ok()).map(|limit| world.options.second * limit);
    let shown = world.get(machine).cloned().unwrap_or_default();
    let ran = match &mut world.run_commands.script {
        Some(script_of_test) => script_of_test(&shown, script),
        None => Some(Ran::default()),
    };
    let takes = world.options.run_time;
    let (time, ran) = match limit {
        Some(limit) if ran.is_none() || limit < takes => (limit, None),
        _ if ran.is_none() => return,
        _ => (takes, ran),
    };
    let (id, machine, serial) = (id.to_owned(), machine.to_owned(), machines::serial(world, machine));
    world.after(time, move |world| {
        let same = machines::serial(world, &machine) == serial && machines::power(world, &machine) == Some("running");
        if !same {
            return;
        }
        let ended = world.timestamp();
        let mut is_off = false;
        // It may have been run again since.
        let view = world.run_commands.views.get_mut(&key(&id)).filter(|view| view["startTime"] == began);
        if let Some(view) = view {
            view["executionState"] = match &ran {
                None => "TimedOut",
                Some(Ran { exit_code: 0, .. }) => "Succeeded",
                Some(_) => "Failed",
            }
            .into();
            view["endTime"] = ended.into();
            let ran = ran.unwrap_or_default();
            is_off = ran.off;
            view["exitCode"] = ran.exit_code.into();
            view["output"] = end_of(&ran.output).into();
            view["error"] = end_of(&ran.error).into();
        }
        if is_off {
            machines::set_power(world, &machine, "stopped");
        }
        world.settle(Some(&id));
    });
}

/// As much of the end of a text as is shown.
fn end_of(text: &str) -> &str {
    let mut from = text.len().saturating_sub(SHOWN);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    &text[from..]
}
