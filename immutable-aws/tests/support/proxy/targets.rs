//! What targets of a load balancer go through: in moto they are healthy from the moment they are registered, and are gone from the
//! moment they are deregistered.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use roxmltree::Node;

use super::Options;
use super::call::Call;
use super::machines::Machines;
use super::xml::{all, child, edited, text};

#[derive(Debug)]
struct Target {
    port: String,
    registered: Instant,
    left: Option<Instant>,
}

/// The targets that have been registered, and the groups that a load balancer uses.
#[derive(Debug, Default)]
pub(super) struct Targets {
    /// By group and id.
    known: BTreeMap<(String, String), Target>,
    /// Since when which groups are forwarded to, by listener or rule.
    used: BTreeMap<String, BTreeMap<String, Instant>>,
}

impl Targets {
    /// What a request that moto has done says about targets.
    pub(super) fn learn(&mut self, call: &Call) {
        let group = call.get("TargetGroupArn").unwrap_or_default();
        let now = Instant::now();
        match call.action.as_str() {
            "RegisterTargets" => {
                for (id, port) in ids(call).zip(ports(call)) {
                    let target = self.known.entry((group.to_owned(), id.to_owned()));
                    let target = target.or_insert(Target { port: port.to_owned(), registered: now, left: None });
                    if target.left.take().is_some() {
                        target.registered = now;
                    }
                }
            }
            "DeregisterTargets" => {
                let is_used = self.used_since(group).is_some();
                for id in ids(call) {
                    let key = (group.to_owned(), id.to_owned());
                    if !is_used {
                        // Nothing can be in flight there.
                        self.known.remove(&key);
                    } else if let Some(target) = self.known.get_mut(&key) {
                        target.left.get_or_insert(now);
                    }
                }
            }
            "DeleteTargetGroup" => self.known.retain(|(of, _), _| of != group),
            "ModifyListener" | "ModifyRule" => {
                let route = call.get("ListenerArn").or(call.get("RuleArn")).unwrap_or_default();
                let before = self.used.remove(route).unwrap_or_default();
                let groups: BTreeSet<_> = call.all("", ".TargetGroupArn").collect();
                let since = |group: &str| before.get(group).copied().unwrap_or(now);
                self.used.insert(route.to_owned(), groups.into_iter().map(|of| (of.to_owned(), since(of))).collect());
            }
            _ => {}
        }
    }

    fn used_since(&self, group: &str) -> Option<Instant> {
        self.used.values().filter_map(|groups| groups.get(group)).min().copied()
    }

    pub(super) fn is_registered(&self, group: &str, id: &str) -> bool {
        self.known.get(&(group.to_owned(), id.to_owned())).is_some_and(|target| target.left.is_none())
    }

    /// The answer to a question about the health of targets as AWS would have given it.
    pub(super) fn edit(&self, call: &Call, answer: &str, machines: &Machines, options: &Options) -> String {
        let group = call.get("TargetGroupArn").unwrap_or_default();
        edited(answer, |document, edits| {
            let Some(list) = all(document, "TargetHealthDescriptions").next() else { return };
            let mut all = String::new();
            for node in list.children() {
                let told = self.told(group, node, machines, options).unwrap_or_default();
                all += if told.is_empty() { &answer[node.range()] } else { &told };
            }
            let leaves = |target: &Target| target.left.is_some_and(|left| left.elapsed() < options.drain);
            let of_group = self.known.iter().filter(|((of, _), _)| of == group);
            for ((_, id), target) in of_group.filter(|(_, target)| leaves(target)) {
                all += &target.description(id, "draining", "Target.DeregistrationInProgress");
            }
            edits.replace(list, format!("<TargetHealthDescriptions>{all}</TargetHealthDescriptions>"));
        })
    }

    /// A target in another state than moto says.
    fn told(&self, group: &str, node: Node<'_, '_>, machines: &Machines, options: &Options) -> Option<String> {
        let id = text(child(node, "Target")?, "Id")?;
        let state = text(child(node, "TargetHealth")?, "State")?;
        let target = self.known.get(&(group.to_owned(), id.to_owned()))?;
        let Some(used) = self.used_since(group) else {
            return Some(target.description(id, "unused", "Target.NotInUse"));
        };
        if state != "healthy" {
            return None;
        }
        if target.registered.max(used).elapsed() < options.warm_up {
            return Some(target.description(id, "initial", "Elb.RegistrationInProgress"));
        }
        machines.is_ill(id).then(|| target.description(id, "unhealthy", "Target.FailedHealthChecks"))
    }
}

/// The ids of the targets that a request names.
pub(super) fn ids(call: &Call) -> impl Iterator<Item = &str> {
    call.all("Targets.member.", ".Id")
}

/// The port of each target that a request names; none, for the port of the group.
fn ports(call: &Call) -> impl Iterator<Item = &str> {
    (1..)
        .take(ids(call).count())
        .map(|index: usize| call.get(&format!("Targets.member.{index}.Port")).unwrap_or_default())
}

impl Target {
    fn description(&self, id: &str, state: &str, reason: &str) -> String {
        let port = if self.port.is_empty() { String::new() } else { format!("<Port>{}</Port>", self.port) };
        let health = format!("<TargetHealth><State>{state}</State><Reason>{reason}</Reason></TargetHealth>");
        format!("<member><Target><Id>{id}</Id>{port}</Target>{health}</member>")
    }
}
