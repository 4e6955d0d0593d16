//! Asynchronous operations: how every change goes about.
//!
//! <https://learn.microsoft.com/azure/azure-resource-manager/management/async-operations>. A change is visible at once, with
//! a `provisioningState` that says that it is on its way; a failure leaves the resource there with the state `Failed`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::World;
use super::store::key;
use crate::answer::Answer;
use crate::call::Call;
use crate::failure::Failure;
use crate::route::kind_of;

/// The asynchronous operations, by their names, and which of them wait for machines.
#[derive(Default)]
pub(super) struct Operations {
    all: BTreeMap<String, Operation>,
    waits: Vec<Wait>,
}

struct Operation {
    /// `InProgress`, `Succeeded`, `Failed` or `Canceled`.
    status: &'static str,
    began: String,
    ended: Option<String>,
    error: Option<Failure>,
    /// What the action answers when it is done.
    result: Value,
    target: String,
    /// The HTTP method that began it.
    verb: String,
    deletes: bool,
}

/// An operation that is over when nothing happens any more to any of these machines or scripts.
struct Wait {
    operation: String,
    machines: BTreeSet<String>,
    result: Result<Value, Failure>,
}

/// How the work of an operation went.
pub(crate) enum Outcome {
    /// It is done. What the client is to hear, if anything.
    Done(Value),
    /// It is done when nothing happens any more to these machines or scripts. Then it ends so.
    When(Vec<String>, Result<(), Failure>),
}

impl World {
    /// Begins an operation on the resource of a call, of which `work` is done when its time is over. Gives back its name.
    pub(crate) fn operate(
        &mut self,
        call: &Call,
        work: impl FnOnce(&mut Self) -> Result<Outcome, Failure> + Send + 'static,
    ) -> String {
        self.operate_on(call, call.id(), call.verb == "DELETE", work)
    }

    /// The same, for a call that is about a part of the resource. `deletes`: whether the resource is gone at the end.
    pub(crate) fn operate_on(
        &mut self,
        call: &Call,
        target: &str,
        deletes: bool,
        work: impl FnOnce(&mut Self) -> Result<Outcome, Failure> + Send + 'static,
    ) -> String {
        let name = self.uuid();
        let operation = Operation {
            status: "InProgress",
            began: self.timestamp(),
            ended: None,
            error: None,
            result: Value::Null,
            target: target.to_owned(),
            verb: call.verb.clone(),
            deletes,
        };
        self.operations.all.insert(name.clone(), operation);
        let fault = self.faults.failure(&call.operation);
        let began = name.clone();
        self.after(self.options.operation_time, move |world| {
            // Something newer took its place.
            if world.operations.all[&name].status != "InProgress" {
                return;
            }
            match fault.map_or_else(|| work(world), Err) {
                Ok(Outcome::Done(result)) => world.finish(&name, Ok(result)),
                Ok(Outcome::When(machines, result)) => {
                    let machines = machines.iter().map(|id| key(id)).collect();
                    world.operations.waits.push(Wait {
                        operation: name,
                        machines,
                        result: result.map(|()| Value::Null),
                    });
                    world.settle(None);
                }
                Err(failure) => world.finish(&name, Err(failure)),
            }
        });
        began
    }

    /// Nothing happens any more to a machine or a script: ends the operations that waited for that. None: to none in
    /// particular.
    pub(crate) fn settle(&mut self, machine: Option<&str>) {
        let machine = machine.map(key);
        for wait in &mut self.operations.waits {
            if let Some(machine) = &machine {
                wait.machines.remove(machine);
            }
        }
        let waits = std::mem::take(&mut self.operations.waits);
        let (over, rest): (Vec<_>, Vec<_>) = waits.into_iter().partition(|wait| wait.machines.is_empty());
        self.operations.waits = rest;
        for wait in over {
            self.finish(&wait.operation, wait.result);
        }
    }

    /// Ends the running writes of a resource, because a newer one takes their place.
    pub(crate) fn preempt(&mut self, target: &str) {
        let mut older = self.running(target);
        older.retain(|name| matches!(self.operations.all[name].verb.as_str(), "PUT" | "PATCH"));
        for name in older {
            let message = "Operation execution has been preempted by a more recent operation.";
            self.end(&name, "Canceled", Some(Failure::new(409, "OperationPreempted", message)), Value::Null);
            self.operations.waits.retain(|wait| wait.operation != name);
        }
    }

    /// The operations that run on a resource.
    pub(crate) fn running(&self, target: &str) -> Vec<String> {
        let all = self.operations.all.iter();
        let here = all.filter(|(_, one)| one.status == "InProgress" && one.target.eq_ignore_ascii_case(target));
        here.map(|(name, _)| name.clone()).collect()
    }

    /// Why the last change of a resource failed, if one has.
    pub(crate) fn why(&self, target: &str) -> Option<&Failure> {
        let here = self.operations.all.values().filter(|one| one.target.eq_ignore_ascii_case(target));
        here.filter(|one| one.error.is_some()).max_by_key(|one| one.ended.clone())?.error.as_ref()
    }

    /// Ends an operation, and says on its resource how it went.
    fn finish(&mut self, name: &str, result: Result<Value, Failure>) {
        let Operation { target, deletes, .. } = &self.operations.all[name];
        let (target, deletes) = (target.clone(), *deletes);
        let state = match result {
            Ok(result) => {
                self.end(name, "Succeeded", None, result);
                if deletes {
                    self.remove(&target);
                }
                "Succeeded"
            }
            Err(failure) => {
                self.end(name, "Failed", Some(failure), Value::Null);
                "Failed"
            }
        };
        // Who only looked at it has changed nothing, and who is not the last has not the last word.
        let leaves = self.state(&target) == "Deleting" && !deletes;
        if self.running(&target).is_empty() && self.is_busy(&target) && !leaves {
            self.set_state(&target, state);
            // The network counts this as a change.
            if kind_of(&target).is_some_and(|kind| kind.starts_with("Microsoft.Network/")) {
                self.update(&target, |_| {});
            }
        }
    }

    /// Whether a resource shows that something is going on with it.
    pub(crate) fn is_busy(&self, id: &str) -> bool {
        matches!(self.state(id), "Creating" | "Updating" | "Deleting")
    }

    fn end(&mut self, name: &str, status: &'static str, error: Option<Failure>, result: Value) {
        let now = self.timestamp();
        if let Some(operation) = self.operations.all.get_mut(name) {
            (operation.status, operation.error, operation.result, operation.ended) = (status, error, result, Some(now));
        }
    }

    /// Adds where the operation of a call can be followed.
    pub(crate) fn follow(&self, call: &Call, operation: &str, answer: Answer) -> Answer {
        let namespace = call.kind().split('/').next().unwrap_or_default();
        let place = format!(
            "{}/subscriptions/{}/providers/{namespace}/locations/{}",
            call.base, self.options.subscription, self.options.location
        );
        let version = format!("api-version={}", call.api_version());
        let accepted = answer.status == 202;
        let answer = answer
            .with("azure-asyncoperation", format!("{place}/operations/{operation}?{version}"))
            .with("retry-after", self.options.retry_after.to_string());
        match namespace {
            _ if !accepted => answer,
            "Microsoft.Compute" => {
                answer.with("location", format!("{place}/operations/{operation}?monitor=true&{version}"))
            }
            _ => answer.with("location", format!("{place}/operationResults/{operation}?{version}")),
        }
    }

    /// The answer to a change that was accepted, and shows nothing yet.
    pub(crate) fn accepted(&self, call: &Call, operation: &str) -> Answer {
        self.follow(call, operation, Answer::new(202, Value::Null))
    }

    /// The status of an operation, as `Azure-AsyncOperation` leads to it.
    pub(crate) fn status(&self, name: &str) -> Result<Value, Failure> {
        let operation = self.operation(name)?;
        let mut status = json!({ "startTime": operation.began, "status": operation.status, "name": name });
        if let Some(ended) = &operation.ended {
            status["endTime"] = ended.as_str().into();
        }
        if let Some(error) = &operation.error {
            status["error"] = error.error();
        }
        if !operation.result.is_null() {
            status["properties"] = json!({ "output": operation.result });
        }
        Ok(status)
    }

    /// The result of an operation, as `Location` leads to it; none as long as it runs.
    pub(crate) fn result(&self, name: &str) -> Result<Option<Value>, Failure> {
        let operation = self.operation(name)?;
        match &operation.error {
            Some(failure) => Err(failure.clone()),
            None => Ok(operation.ended.as_ref().map(|_| operation.result.clone())),
        }
    }

    fn operation(&self, name: &str) -> Result<&Operation, Failure> {
        let missing = || Failure::new(404, "NotFound", format!("The operation '{name}' was not found."));
        self.operations.all.get(name).ok_or_else(missing)
    }
}
