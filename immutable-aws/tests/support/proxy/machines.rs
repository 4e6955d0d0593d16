//! What instances go through: in moto they run from the moment they are started, and are gone from the moment they are ended.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use roxmltree::{Document, Node};

use super::Options;
use super::call::Call;
use super::xml::{Edits, all, child, edited, text};

/// What is known of an instance beside what moto knows.
#[derive(Debug)]
struct Machine {
    born: Instant,
    ended: Option<Instant>,
    /// When it was killed.
    killed: Option<Instant>,
    is_ill: bool,
    has_drifted: bool,
    is_in_a_group: bool,
}

/// The instances that have been seen.
#[derive(Debug, Default)]
pub(super) struct Machines {
    seen: BTreeMap<String, Machine>,
    /// When a group was last told to start some: they are listed only later.
    group_moved: Option<Instant>,
}

const OF_GROUPS: &[&str] = &["DescribeAutoScalingGroups", "DescribeAutoScalingInstances"];

impl Machines {
    pub(super) fn is_ill(&self, id: &str) -> bool {
        self.seen.get(id).is_some_and(|machine| machine.is_ill)
    }

    pub(super) fn is_pending(&self, id: &str, options: &Options) -> bool {
        self.seen.get(id).is_some_and(|machine| machine.born.elapsed() < options.boot)
    }

    /// Whether an answer speaks of instances, all of which have been ended since.
    pub(super) fn are_ended(&self, answer: &str) -> bool {
        let ids = ids(answer);
        let has_ended = |id: &String| self.seen.get(id).is_some_and(|machine| machine.ended.is_some());
        !ids.is_empty() && ids.iter().all(has_ended)
    }

    pub(super) fn set_ill(&mut self, id: &str, is_ill: bool) -> bool {
        self.seen.get_mut(id).map(|machine| machine.is_ill = is_ill).is_some()
    }

    pub(super) fn drift(&mut self, id: &str) -> bool {
        self.seen.get_mut(id).map(|machine| machine.has_drifted = true).is_some()
    }

    pub(super) fn kill(&mut self, id: &str) -> bool {
        self.seen.get_mut(id).map(|machine| machine.killed = Some(Instant::now())).is_some()
    }

    /// The instances of groups that were found dead long enough ago: a group ends and replaces those.
    pub(super) fn replace_dead(&mut self, options: &Options) -> Vec<String> {
        let is_due = |machine: &Machine| {
            let dead = machine.killed.is_some_and(|killed| killed.elapsed() > options.replacement);
            dead && machine.is_in_a_group && machine.ended.is_none()
        };
        let mut due = Vec::new();
        for (id, machine) in self.seen.iter_mut().filter(|(_, machine)| is_due(machine)) {
            machine.ended = Some(Instant::now());
            due.push(id.clone());
        }
        if !due.is_empty() {
            self.group_moved = Some(Instant::now());
        }
        due
    }

    /// What a request that moto has done says about instances.
    pub(super) fn learn(&mut self, call: &Call, answer: &str) {
        let action = call.action.as_str();
        if matches!(action, "TerminateInstances" | "TerminateInstanceInAutoScalingGroup") {
            let now = Instant::now();
            let one = call.get("InstanceId").into_iter();
            for id in call.all("InstanceId.", "").chain(one) {
                let machine = self.seen.get_mut(id).filter(|machine| machine.ended.is_none());
                if let Some(machine) = machine {
                    machine.ended = Some(now);
                }
            }
        }
        if action == "DetachInstances" {
            for id in call.all("InstanceIds.member.", "") {
                self.seen.get_mut(id).into_iter().for_each(|machine| machine.is_in_a_group = false);
            }
        }
        if call.service == "autoscaling" && !action.starts_with("Describe") {
            self.group_moved = Some(Instant::now());
        }
        let is_listed =
            matches!(action, "RunInstances" | "CreateFleet" | "DescribeInstances" | "DescribeInstanceStatus");
        if is_listed || OF_GROUPS.contains(&action) {
            // Who is new in a list was started by a group.
            let is_new = matches!(action, "RunInstances" | "CreateFleet");
            let born = if is_new { None } else { self.group_moved }.unwrap_or_else(Instant::now);
            for id in ids(answer) {
                let fresh = Machine {
                    born,
                    ended: None,
                    killed: None,
                    is_ill: false,
                    has_drifted: false,
                    is_in_a_group: false,
                };
                self.seen.entry(id).or_insert(fresh).is_in_a_group |= OF_GROUPS.contains(&action);
            }
        }
    }

    /// The answer as AWS would have given it.
    pub(super) fn edit(&self, call: &Call, answer: &str, options: &Options) -> String {
        edited(answer, |document, edits| match call.action.as_str() {
            "DescribeInstances" => {
                self.each(document, "instanceId", |node, machine| {
                    machine.lifecycle(node, edits, "instanceState", options);
                    if machine.has_drifted {
                        edits.set(node, "imageId", "ami-0ffffffffffffffff");
                    }
                });
                self.hide(document, edits, options);
            }
            "DescribeInstanceStatus" => self.each(document, "instanceId", |node, machine| {
                machine.lifecycle(node, edits, "instanceState", options);
                machine.status(node, edits, options);
            }),
            "DescribeAutoScalingGroups" | "DescribeAutoScalingInstances" => {
                self.each(document, "InstanceId", |node, machine| machine.in_group(node, edits, options));
            }
            _ => {}
        })
    }

    fn each(&self, document: &Document<'_>, id: &'static str, mut edit: impl FnMut(Node<'_, '_>, &Machine)) {
        for node in all(document, id) {
            let machine = node.text().and_then(|id| self.seen.get(id));
            if let (Some(parent), Some(machine)) = (node.parent(), machine) {
                edit(parent, machine);
            }
        }
    }

    /// A list that lags does not have the newest instances yet.
    fn hide(&self, document: &Document<'_>, edits: &mut Edits, options: &Options) {
        let is_hidden = |id: &str| self.seen.get(id).is_some_and(|machine| machine.born.elapsed() < options.lag);
        for set in all(document, "instancesSet") {
            let items: Vec<_> = set.children().collect();
            let hidden: Vec<_> =
                items.iter().filter(|item| text(**item, "instanceId").is_some_and(is_hidden)).copied().collect();
            if hidden.len() == items.len() {
                set.parent().into_iter().for_each(|reservation| edits.replace(reservation, ""));
            } else {
                for item in hidden {
                    edits.replace(item, "");
                }
            }
        }
    }
}

impl Machine {
    fn is_pending(&self, options: &Options) -> bool {
        self.born.elapsed() < options.boot
    }

    fn lifecycle(&self, node: Node<'_, '_>, edits: &mut Edits, name: &str, options: &Options) {
        let Some(state) = child(node, name) else { return };
        let shown = match text(state, "name") {
            Some("running") if self.is_pending(options) => Some((0, "pending")),
            Some("terminated") if self.ended.is_some_and(|ended| ended.elapsed() < options.end) => {
                Some((32, "shutting-down"))
            }
            _ => None,
        };
        if let Some((code, words)) = shown {
            edits.replace(state, format!("<{name}><code>{code}</code><name>{words}</name></{name}>"));
        }
    }

    fn status(&self, node: Node<'_, '_>, edits: &mut Edits, options: &Options) {
        let shown = match () {
            () if self.is_pending(options) => "initializing",
            () if self.is_ill => "impaired",
            () => return,
        };
        if let Some(status) = child(node, "instanceStatus") {
            edits.set(status, "status", shown);
        }
    }

    fn in_group(&self, node: Node<'_, '_>, edits: &mut Edits, options: &Options) {
        if self.is_pending(options) && text(node, "LifecycleState") == Some("InService") {
            edits.set(node, "LifecycleState", "Pending");
        }
        if self.killed.is_some() {
            edits.set(node, "HealthStatus", "Unhealthy");
        }
    }
}

/// The instances that an answer speaks of.
fn ids(answer: &str) -> BTreeSet<String> {
    let mut ids = BTreeSet::new();
    edited(answer, |document, _| {
        let is_id = |node: &Node<'_, '_>| matches!(node.tag_name().name(), "instanceId" | "InstanceId");
        // CreateFleet has them as items of a set.
        let in_set = |node: &Node<'_, '_>| node.parent().is_some_and(|set| set.tag_name().name() == "instanceIds");
        let found = document.descendants().filter(|node| is_id(node) || in_set(node)).filter_map(|node| node.text());
        ids.extend(found.map(str::to_owned));
    });
    ids
}
