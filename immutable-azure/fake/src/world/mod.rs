//! What there is, and how it changes.

mod agenda;
mod operations;
mod pages;
mod store;

use std::collections::BTreeMap;

use crate::call::Call;
use crate::exchange::Exchange;
use crate::failure::Failure;
use crate::faults::Faults;
use crate::options::Options;
use crate::permissions;
use crate::resources::machines::Machines;
use crate::resources::monitor::Measured;
use crate::resources::requests::Requests;
use crate::resources::run_commands::RunCommands;

pub(crate) use operations::Outcome;
pub(crate) use store::{key, merge};

/// All that a fake knows. Time passes when it is looked at, before each call: see [`World::advance`].
pub(crate) struct World {
    pub(crate) options: Options,
    pub(crate) faults: Faults,
    /// What a client asked that the fake does not do.
    pub(crate) violations: Vec<String>,
    /// How often each operation was called.
    pub(crate) calls: BTreeMap<String, usize>,
    /// What was said.
    pub(crate) exchanges: Vec<Exchange>,
    /// What is so with machines beside what they show.
    pub(crate) machines: Machines,
    /// What runs on them.
    pub(crate) run_commands: RunCommands,
    /// What balancers and their clients remember.
    pub(crate) requests: Requests,
    /// What Azure Monitor knows.
    pub(crate) measured: Vec<Measured>,
    resources: store::Resources,
    operations: operations::Operations,
    agenda: agenda::Agenda,
    serial: u64,
}

impl World {
    pub(crate) fn new(options: Options) -> Self {
        Self {
            options,
            faults: Faults::default(),
            violations: Vec::new(),
            calls: BTreeMap::new(),
            exchanges: Vec::new(),
            machines: Machines::default(),
            run_commands: RunCommands::default(),
            requests: Requests::default(),
            measured: Vec::new(),
            resources: store::Resources::default(),
            operations: operations::Operations::default(),
            agenda: agenda::Agenda::new(),
            serial: 0,
        }
    }

    /// Notes what a client asked that it cannot be tested with here.
    pub(crate) fn violation(&mut self, what: String) {
        self.violations.push(what);
    }

    /// Refuses a call that cannot be, whatever it is about: in a place that is none, or without the permission.
    pub(crate) fn admit(&self, call: &Call) -> Result<(), Failure> {
        let subscription = &call.route.subscription;
        if !subscription.eq_ignore_ascii_case(&self.options.subscription) {
            let message = format!("The subscription '{subscription}' could not be found.");
            return Err(Failure::new(404, "SubscriptionNotFound", message));
        }
        let action = permissions::of(call);
        if !self.may(&action) {
            return Err(Failure::forbidden(&action, call.id()));
        }
        for (linked, id) in permissions::linked(call) {
            if !self.may(linked) {
                return Err(Failure::linked_forbidden(&action, call.id(), linked, &id));
            }
        }
        match &call.route.group {
            Some(group) if !self.options.groups.iter().any(|known| known.eq_ignore_ascii_case(group)) => {
                let message = format!("Resource group '{group}' could not be found.");
                Err(Failure::new(404, "ResourceGroupNotFound", message))
            }
            _ => Ok(()),
        }
    }

    /// Whether the caller may take an action.
    fn may(&self, action: &str) -> bool {
        let allowed = self.options.actions.as_ref();
        allowed.is_none_or(|all| all.iter().any(|one| one.eq_ignore_ascii_case(action)))
    }

    /// The whole id of a resource that a test names from its type on, such as `Microsoft.Compute/virtualMachines/web`.
    pub(crate) fn id_of(&self, id: &str) -> String {
        if id.starts_with('/') {
            return id.to_owned();
        }
        let group = self.options.groups.first().map(String::as_str).unwrap_or_default();
        format!("/subscriptions/{}/resourceGroups/{group}/providers/{id}", self.options.subscription)
    }

    /// A number that was not given before, larger than all that were.
    pub(crate) fn serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    /// A new UUID.
    pub(crate) fn uuid(&mut self) -> String {
        let serial = self.serial();
        let mixed = serial.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        format!("{:08x}-{:04x}-4000-8000-{serial:012x}", mixed >> 32, mixed & 0xffff)
    }
}
