//! Operations: how every change of Compute Engine goes about.

use std::time::Duration;

use serde_json::{Value, json};

use super::World;
use super::agenda::Effect;
use super::store::link;
use crate::call::Call;
use crate::failure::{Failure, OperationError};

/// The work of an operation.
type Work = Box<dyn FnOnce(&mut World) -> Result<(), OperationError> + Send>;

/// A change that was asked for, as a handler describes it.
pub(crate) struct Change {
    kind: String,
    target: String,
    at_once: Option<Effect>,
    work: Work,
    lasts: Option<Duration>,
    open: bool,
}

impl Change {
    /// A change of what is at `target`. `kind`: what the operation says as its `operationType`, such as `insert`.
    pub(crate) fn new(kind: &str, target: &str) -> Self {
        let (kind, target) = (kind.to_owned(), target.to_owned());
        Self { kind, target, at_once: None, work: Box::new(|_| Ok(())), lasts: None, open: false }
    }

    /// What happens before the answer: unless the operation is to fail.
    #[must_use]
    pub(crate) fn at_once(mut self, effect: impl FnOnce(&mut World) + Send + 'static) -> Self {
        self.at_once = Some(Box::new(effect));
        self
    }

    /// What the operation does when half of its time is over. Its error is the operation's.
    #[must_use]
    pub(crate) fn later(
        mut self,
        work: impl FnOnce(&mut World) -> Result<(), OperationError> + Send + 'static,
    ) -> Self {
        self.work = Box::new(work);
        self
    }

    /// How long the operation runs, if not as long as others.
    #[must_use]
    pub(crate) fn lasts(mut self, time: Duration) -> Self {
        self.lasts = Some(time);
        self
    }

    /// The operation runs until [`World::finish`].
    #[must_use]
    pub(crate) fn open(mut self) -> Self {
        self.open = true;
        self
    }
}

impl World {
    /// The operation that an earlier request with the same `requestId` began.
    pub(crate) fn repeated(&mut self, call: &Call) -> Result<Option<Value>, Failure> {
        let Some(id) = call.query("requestId") else { return Ok(None) };
        if !is_uuid(id) {
            self.violation(format!("{}: the requestId '{id}' is no UUID, or the zero one", call.method));
            return Err(Failure::invalid("requestId", id, "Must be a valid UUID."));
        }
        let Some((first, operation)) = self.requests.get(id) else { return Ok(None) };
        if first.is_same(call) {
            return Ok(self.get(operation).cloned());
        }
        self.violation(format!("{}: the requestId '{id}' is that of another request", call.method));
        Err(Failure::invalid("requestId", id, "The request ID was used for another request."))
    }

    /// Begins an operation, and answers it.
    pub(crate) fn operate(&mut self, call: &Call, change: Change) -> Result<Value, Failure> {
        self.refuse_in_between(&change)?;
        let path = self.begin(call, &change);
        let lasts = change.lasts.unwrap_or(self.options.operation_time);
        if let Some(error) = self.faults.failure(&call.method) {
            let end = path.clone();
            self.soon(lasts, move |world| world.finish(&end, Err(error)));
        } else {
            if let Some(effect) = change.at_once {
                effect(self);
            }
            let (end, work, open) = (path.clone(), change.work, change.open);
            self.soon(lasts / 2, move |world| match work(world) {
                Ok(()) if open => {}
                result => world.soon(lasts / 2, move |world| world.finish(&end, result)),
            });
        }
        Ok(self.find(&path)?.clone())
    }

    /// Ends an operation, if it is not over.
    pub(crate) fn finish(&mut self, operation: &str, result: Result<(), OperationError>) {
        if self.get(operation).is_none_or(|operation| operation["status"] == "DONE") {
            return;
        }
        self.show(operation, "status", "DONE");
        self.show(operation, "progress", 100);
        self.name_target(operation);
        let now = self.timestamp();
        self.show(operation, "endTime", now);
        if let Err(error) = result {
            self.show(operation, "httpErrorStatusCode", error.status);
            self.show(operation, "httpErrorMessage", phrase(error.status));
            self.show(operation, "error", error.to_json());
        }
    }

    /// The operation that a running change of this target is. `kind`: its `operationType`.
    pub(crate) fn running(&self, target: &str, kind: &str) -> Option<&String> {
        let target = link(target);
        let mut all = self.below(&self.project()).filter(|(path, _)| path.contains("/operations/"));
        let found = all.find(|(_, operation)| {
            operation["targetLink"] == target && operation["operationType"] == kind && operation["status"] != "DONE"
        });
        found.map(|(path, _)| path)
    }

    /// What is being made or deleted takes no other change.
    fn refuse_in_between(&self, change: &Change) -> Result<(), Failure> {
        if self.running(&change.target, "insert").is_some() {
            let inserts = change.kind == "insert";
            let refuse = if inserts { Failure::already_exists } else { Failure::not_ready };
            return Err(refuse(&change.target));
        }
        if self.running(&change.target, "delete").is_some() {
            return Err(Failure::not_ready(&change.target));
        }
        Ok(())
    }

    /// Now, if there is no time between.
    fn soon(&mut self, time: Duration, effect: impl FnOnce(&mut Self) + Send + 'static) {
        if time.is_zero() { effect(self) } else { self.after(time, effect) }
    }

    fn begin(&mut self, call: &Call, change: &Change) -> String {
        let (id, now) = (self.id(), self.timestamp());
        let name = format!("operation-{}-{:08x}", self.now().as_millis(), self.serial());
        let scope = call.scope();
        let path = format!("{scope}/operations/{name}");
        let mut operation = json!({
            "kind": "compute#operation",
            "id": id,
            "name": name,
            "selfLink": link(&path),
            "operationType": change.kind,
            "targetLink": link(&change.target),
            "status": "RUNNING",
            "progress": 0,
            "user": "tester@example.com",
            "insertTime": now,
            "startTime": now,
        });
        for place in ["zone", "region"] {
            if call.params.contains_key(place) {
                operation[place] = link(&scope).into();
            }
        }
        if let Some(request) = call.query("requestId") {
            operation["clientOperationId"] = request.into();
            self.requests.insert(request.to_owned(), (call.clone(), path.clone()));
        }
        self.keep(&path, operation);
        self.name_target(&path);
        path
    }

    /// Says which incarnation of its target an operation is about, once that is there.
    fn name_target(&mut self, operation: &str) {
        let Some(shown) = self.get(operation).filter(|shown| shown.get("targetId").is_none()) else { return };
        let target = self.path_of(shown["targetLink"].as_str().unwrap_or_default());
        if let Some(id) = self.get(&target).map(|target| target["id"].clone()) {
            self.show(operation, "targetId", id);
        }
    }
}

/// The words of an HTTP status, as operations have them.
fn phrase(status: u16) -> String {
    let status = hyper::StatusCode::from_u16(status).ok();
    status.and_then(|status| status.canonical_reason()).unwrap_or("Error").to_uppercase()
}

/// A UUID, but not the one of zeros.
fn is_uuid(text: &str) -> bool {
    let lengths = text.split('-').map(str::len);
    let digits = text.chars().filter(|c| *c != '-');
    lengths.eq([8, 4, 4, 4, 12]) && digits.clone().all(|c| c.is_ascii_hexdigit()) && digits.clone().any(|c| c != '0')
}

#[cfg(test)]
mod tests {
    use super::is_uuid;

    #[test]
    fn a_request_id_is_a_uuid() {
        for (text, fits) in [
            ("f81d4fae-7dec-11d0-a765-00a0c91e6bf6", true),
            ("F81D4FAE-7DEC-11D0-A765-00A0C91E6BF6", true),
            ("00000000-0000-0000-0000-000000000000", false),
            ("f81d4fae7dec11d0a76500a0c91e6bf6", false),
            ("g81d4fae-7dec-11d0-a765-00a0c91e6bf6", false),
            ("", false),
        ] {
            assert_eq!(is_uuid(text), fits, "{text}");
        }
    }
}
