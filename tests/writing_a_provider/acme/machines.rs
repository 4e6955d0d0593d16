//! Machines, and the groups that they are in.

use std::time::Duration;

use jiff::Timestamp;

use super::{Acme, Answer, Page, State, Tags, has_tag, is_over, page, refused};

const BOOT: Duration = Duration::from_secs(2);
const STOP: Duration = Duration::from_secs(5);
/// How many machines one request may name.
const BATCH: usize = 5;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum MachineState {
    Booting,
    Running,
    /// Running, and its service does not answer.
    Impaired,
    Crashed,
    Stopping,
}

#[derive(Debug, Clone)]
pub(crate) struct Machine {
    pub(crate) id: String,
    pub(crate) group: String,
    pub(crate) tags: Tags,
    /// The template that its disk has the content of.
    pub(crate) template: String,
    pub(crate) address: String,
    pub(crate) started: Timestamp,
    pub(crate) state: MachineState,
    stopped: Option<Timestamp>,
    token: String,
}

impl Acme {
    /// Makes a group, unless there is one of this name.
    pub(crate) async fn create_group(&self, name: &str, tags: Tags) -> Answer<()> {
        self.request("CreateGroup", |state, _| {
            if state.groups.contains_key(name) {
                return refused("AlreadyExists", format!("group {name} exists"));
            }
            state.groups.insert(name.to_owned(), tags);
            Ok(())
        })
        .await
    }

    pub(crate) async fn groups(&self, tag: (&str, &str), from: Option<String>) -> Answer<Page<(String, Tags)>> {
        self.request("ListGroups", |state, _| {
            let found = state.groups.iter().filter(|(_, tags)| has_tag(tags, tag));
            page(found.map(|(name, tags)| (name.clone(), tags.clone())), from.as_deref())
        })
        .await
    }

    pub(crate) async fn delete_group(&self, name: &str) -> Answer<()> {
        self.request("DeleteGroup", |state, _| {
            if state.machines.iter().any(|machine| machine.group == name) {
                return refused("InUse", format!("group {name} has machines"));
            }
            match state.groups.remove(name) {
                Some(_) => Ok(()),
                None => refused("NotThere", format!("no group {name}")),
            }
        })
        .await
    }

    /// Starts a machine, unless there is one that was started with this token.
    pub(crate) async fn start_machine(&self, token: &str, group: &str, template: &str, tags: Tags) -> Answer<String> {
        self.request("StartMachine", |state, now| {
            if let Some(there) = state.machines.iter().find(|machine| machine.token == token) {
                return Ok(there.id.clone());
            }
            if !state.groups.contains_key(group) || !state.templates.contains_key(template) {
                return refused("NotThere", format!("no group {group}, or no template {template}"));
            }
            let number = state.number();
            let id = format!("m-{number}");
            state.machines.push(Machine {
                id: id.clone(),
                group: group.to_owned(),
                tags,
                template: template.to_owned(),
                address: format!("10.0.0.{number}:80"),
                started: now,
                state: MachineState::Booting,
                stopped: None,
                token: token.to_owned(),
            });
            Ok(id)
        })
        .await
    }

    pub(crate) async fn machines(&self, tag: (&str, &str), from: Option<String>) -> Answer<Page<Machine>> {
        self.request("ListMachines", |state, _| {
            page(state.machines.iter().filter(|machine| has_tag(&machine.tags, tag)).cloned(), from.as_deref())
        })
        .await
    }

    /// What the cloud's own checks find, of those that there are.
    pub(crate) async fn machine_status(&self, ids: &[String]) -> Answer<Vec<(String, MachineState)>> {
        self.request("MachineStatus", |state, _| {
            if ids.len() > BATCH {
                return refused("BadRequest", format!("more than {BATCH} machines"));
            }
            let found = state.machines.iter().filter(|machine| ids.contains(&machine.id));
            Ok(found.map(|machine| (machine.id.clone(), machine.state.clone())).collect())
        })
        .await
    }

    pub(crate) async fn stop_machines(&self, ids: &[String]) -> Answer<()> {
        self.request("StopMachines", |state, now| {
            if ids.len() > BATCH {
                return refused("BadRequest", format!("more than {BATCH} machines"));
            }
            for machine in state.machines.iter_mut().filter(|machine| ids.contains(&machine.id)) {
                machine.stopped.get_or_insert(now);
                machine.state = MachineState::Stopping;
            }
            Ok(())
        })
        .await
    }

    /// Changes a machine from outside, as a fault or a person would. Whether there is one.
    pub(crate) fn change(&self, id: &str, change: impl FnOnce(&mut Machine)) -> bool {
        self.with(|state| state.machines.iter_mut().find(|machine| machine.id == id).map(change).is_some())
    }
}

impl State {
    pub(super) fn settle_machines(&mut self, now: Timestamp) {
        self.machines.retain(|machine| !machine.stopped.is_some_and(|then| is_over(then, STOP, now)));
        for machine in &mut self.machines {
            if machine.state == MachineState::Booting && is_over(machine.started, BOOT, now) {
                machine.state = MachineState::Running;
            }
        }
    }
}
