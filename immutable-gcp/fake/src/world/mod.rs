//! All that a fake knows: its resources, its time and what is still to happen.

mod agenda;
mod changes;
mod pages;
mod store;

use std::collections::BTreeMap;
use std::time::Instant;

use jiff::Timestamp;
use serde_json::Value;

use crate::call::Call;
use crate::discovery::Api;
use crate::failure::Failure;
use crate::faults::Faults;
use crate::options::Options;
use crate::permissions;
use crate::resources::builders::Builders;
use crate::resources::endpoint_groups::Endpoints;
use crate::resources::groups::Groups;
use crate::resources::machines::Machines;
use crate::resources::monitoring::Measured;
use crate::resources::requests::Requests;

pub(crate) use changes::Change;
pub(crate) use pages::Row;
pub(crate) use store::{link, merge, name};

/// All that a fake knows. Time passes when it is looked at, before each call: see [`World::advance`].
pub(crate) struct World {
    pub(crate) options: Options,
    pub(crate) api: &'static Api,
    pub(crate) faults: Faults,
    /// What was wrong with requests and answers.
    pub(crate) violations: Vec<String>,
    /// How often each method was called.
    pub(crate) calls: BTreeMap<String, usize>,
    /// What is being built on machines.
    pub(crate) builders: Builders,
    /// What is so with machines beside what they show.
    pub(crate) machines: Machines,
    /// What managed instance groups know beside what they show.
    pub(crate) groups: Groups,
    /// What load balancers have measured.
    pub(crate) measured: Vec<Measured>,
    /// Who is in which group of network endpoints.
    pub(crate) endpoints: Endpoints,
    /// What balancers know of the requests of their clients.
    pub(crate) traffic: Requests,
    resources: BTreeMap<String, Value>,
    /// What lists still show of what is gone, and what they do not show yet.
    lag: store::Lag,
    requests: BTreeMap<String, (Call, String)>,
    agenda: agenda::Agenda,
    began: (Instant, Timestamp),
    serial: u64,
}

impl World {
    pub(crate) fn new(options: Options, api: &'static Api) -> Self {
        Self {
            options,
            api,
            faults: Faults::default(),
            violations: Vec::new(),
            calls: BTreeMap::new(),
            builders: Builders::default(),
            machines: Machines::default(),
            groups: Groups::default(),
            measured: Vec::new(),
            endpoints: Endpoints::default(),
            traffic: Requests::default(),
            resources: BTreeMap::new(),
            lag: store::Lag::default(),
            requests: BTreeMap::new(),
            agenda: agenda::Agenda::default(),
            // What a client compares with is its own clock.
            began: (Instant::now(), Timestamp::now()),
            serial: 0,
        }
    }

    /// Notes what a client or the fake itself did wrong.
    pub(crate) fn violation(&mut self, what: String) {
        self.violations.push(what);
    }

    /// Refuses the caller who lacks a permission, for what a call needs beside its own.
    pub(crate) fn require(&self, permission: &str, resource: &str) -> Result<(), Failure> {
        match &self.options.permissions {
            Some(granted) if !granted.contains(permission) => Err(Failure::forbidden(permission, resource)),
            _ => Ok(()),
        }
    }

    /// Refuses a call that cannot be, whatever its method: where nothing is, or without the permission.
    pub(crate) fn admit(&self, call: &Call) -> Result<(), Failure> {
        let regions = &self.options.regions;
        place(call, "region", |name| regions.contains_key(name))?;
        place(call, "zone", |name| regions.values().flatten().any(|zone| zone == name))?;
        let Some(project) = call.params.get("project") else {
            return self.require(&permissions::of(call), &self.project());
        };
        if *project == self.options.project {
            return self.require(&permissions::of(call), &call.scope());
        }
        // What a test put into another project is public, such as Google's images: it may be read.
        if self.below(&format!("projects/{project}/")).next().is_none() {
            return Err(Failure::not_found(&format!("projects/{project}")));
        }
        if matches!(call.name().1, "get" | "getFromFamily" | "list") {
            return Ok(());
        }
        Err(Failure::forbidden(&permissions::of(call), &call.scope()))
    }

    /// The path of the project.
    pub(crate) fn project(&self) -> String {
        format!("projects/{}", self.options.project)
    }

    /// A number that was not given before, larger than all that were.
    pub(crate) fn serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }
}

/// Refuses a call in a place that is none.
fn place(call: &Call, kind: &str, is_known: impl Fn(&str) -> bool) -> Result<(), Failure> {
    match call.params.get(kind) {
        Some(name) if !is_known(name) => Err(Failure::invalid(kind, name, &format!("Unknown {kind}."))),
        _ => Ok(()),
    }
}
