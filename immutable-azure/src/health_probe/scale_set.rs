//! Looking at instances with what Azure itself knows of them.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Instant;

use async_trait::async_trait;
use immutable_core::model::{FleetId, InstanceId, Look, Sample};
use immutable_core::provider::{HealthProbe, OpContext, ProbeTarget, ProviderError};
use jiff::Timestamp;
use serde_json::Value;

use crate::Config;
use crate::members::ScaleSet;

const LOOK: &str = "look at instances of a scale set";

/// What was seen of an instance, and the evidence.
type Seen = (Look, String);

/// What Azure finds of the members of scale sets: whether the machine runs, and what its
/// [application health extension](https://learn.microsoft.com/azure/virtual-machine-scale-sets/virtual-machine-scale-sets-health-extension)
/// tells, or the load balancer's probe that the scale set is to be judged by. Without either, a machine that runs is good, which says nothing about
/// what runs on it.
///
/// An extension that has not told anything yet, or tells `Initializing` or `Unknown`, says nothing about the instance: no look is good before it
/// says `Healthy`. A machine that stops, or has stopped, is bad.
///
/// It takes one request for the scale set of each fleet and one for each page of its members, however many of them are asked about.
///
/// # Errors
/// Only when Azure cannot be asked. An instance that is in no scale set, or not any more, has no sample.
///
/// # Cancellation
/// Dropping the future ends the looks; nothing is left behind.
pub struct ScaleSetHealthProbe {
    config: Config,
}

impl ScaleSetHealthProbe {
    /// A probe with the clients of this configuration.
    pub fn new(config: Config) -> Self {
        Self { config }
    }
}

impl fmt::Debug for ScaleSetHealthProbe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScaleSetHealthProbe").finish_non_exhaustive()
    }
}

#[async_trait]
impl HealthProbe for ScaleSetHealthProbe {
    async fn sample(&self, cx: &OpContext, targets: &[ProbeTarget]) -> Result<Vec<Sample>, ProviderError> {
        // After half of the time no new list is begun; the rest is for the last one.
        let until = Instant::now() + cx.timeout / 2;
        let asked: BTreeSet<&InstanceId> = targets.iter().map(|target| &target.instance).collect();
        let fleets: BTreeSet<&FleetId> = targets.iter().map(|target| &target.fleet).collect();
        let mut samples = Vec::new();
        for fleet in fleets {
            if Instant::now() > until {
                break;
            }
            let Some(set) = ScaleSet::of(&self.config, LOOK, fleet).await? else { continue };
            let members = set.members(LOOK).await?;
            let at = Timestamp::now();
            samples.extend(members.iter().filter_map(|member| {
                let instance = set.instance(member).filter(|id| asked.contains(id))?;
                let (look, evidence) = look(member, set.is_checked());
                Some(Sample { instance, at, look, evidence })
            }));
        }
        Ok(samples)
    }
}

/// What a member with its instance view shows. `is_checked`: whether Azure looks at what runs on it, which it may not have done yet.
fn look(member: &Value, is_checked: bool) -> Seen {
    let properties = &member["properties"];
    let view = &properties["instanceView"];
    let codes: Vec<&str> =
        view["statuses"].as_array().into_iter().flatten().filter_map(|one| one["code"].as_str()).collect();
    let state = properties["provisioningState"].as_str().map(str::to_ascii_lowercase);
    let power = codes.iter().find_map(|code| after(code, "PowerState"));
    let health = view["vmHealth"]["status"]["code"].as_str().and_then(|code| after(code, "HealthState"));
    let look = match (state.as_deref(), power.as_deref(), health.as_deref()) {
        (_, Some("stopping" | "stopped" | "deallocating" | "deallocated"), _)
        | (_, Some("running"), Some("unhealthy")) => Look::Bad,
        // It is on its way up, or about to end.
        (Some("creating" | "deleting"), ..) => Look::Unknown,
        (_, Some("running"), Some("healthy")) => Look::Good,
        // Its last change failed, which may have been its creation, and nobody looks at what runs on it.
        (Some("failed"), _, None) if !is_checked => Look::Bad,
        (Some("failed"), None, _) => Look::Bad,
        (_, Some("running"), None) if !is_checked => Look::Good,
        // What has no state yet is on its way up, as far as anybody knows.
        _ => Look::Unknown,
    };
    let word = |told: Option<String>| told.unwrap_or_else(|| "not told".to_owned());
    let mut evidence = vec![word(state), word(power)];
    evidence.extend(health.or_else(|| is_checked.then(|| "health not told yet".to_owned())));
    (look, evidence.join(", "))
}

/// The second part of a code of a status, such as `PowerState/running`, in small letters.
fn after(code: &str, first: &str) -> Option<String> {
    let (kind, state) = code.split_once('/')?;
    kind.eq_ignore_ascii_case(first).then(|| state.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn member(state: &str, power: &str, health: &str) -> Value {
        let status = |kind: &str, state: &str| json!({ "code": format!("{kind}/{state}") });
        let mut view = json!({ "statuses": [status("ProvisioningState", state)] });
        if !power.is_empty() {
            view["statuses"].as_array_mut().unwrap().push(status("PowerState", power));
        }
        if !health.is_empty() {
            view["vmHealth"] = json!({ "status": status("HealthState", health) });
        }
        json!({ "properties": { "provisioningState": state, "instanceView": view } })
    }

    #[test]
    fn a_machine_that_runs_and_stays_is_judged_by_its_health() {
        let cases: &[(&str, &str, &str, Look)] = &[
            ("Succeeded", "running", "healthy", Look::Good),
            ("Updating", "running", "healthy", Look::Good),
            ("Failed", "running", "healthy", Look::Good),
            ("Succeeded", "running", "unhealthy", Look::Bad),
            ("Creating", "running", "unhealthy", Look::Bad),
            ("Succeeded", "running", "initializing", Look::Unknown),
            ("Succeeded", "running", "unknown", Look::Unknown),
            ("Succeeded", "running", "somethingNew", Look::Unknown),
            ("Succeeded", "running", "", Look::Unknown),
            ("Creating", "running", "healthy", Look::Unknown),
            ("Deleting", "running", "healthy", Look::Unknown),
            ("Creating", "", "", Look::Unknown),
            ("Succeeded", "starting", "", Look::Unknown),
            ("Succeeded", "unknown", "healthy", Look::Unknown),
            ("Failed", "", "", Look::Bad),
            ("Succeeded", "stopped", "healthy", Look::Bad),
            ("Succeeded", "deallocated", "", Look::Bad),
            ("Deleting", "stopping", "", Look::Bad),
        ];
        for (state, power, health, expected) in cases {
            let (seen, evidence) = look(&member(state, power, health), true);
            assert_eq!(seen, *expected, "{evidence}");
            assert!(evidence.starts_with(&state.to_ascii_lowercase()), "{evidence}");
        }
    }

    #[test]
    fn without_a_check_a_machine_that_runs_is_all_there_is() {
        for (state, power, expected) in [
            ("Succeeded", "running", Look::Good),
            ("Updating", "running", Look::Good),
            ("Creating", "running", Look::Unknown),
            ("Failed", "running", Look::Bad),
            ("Succeeded", "", Look::Unknown),
        ] {
            let (seen, evidence) = look(&member(state, power, ""), false);
            assert_eq!(seen, expected, "{evidence}");
        }
        assert_eq!(look(&json!({ "name": "im-web-1_0" }), false), (Look::Unknown, "not told, not told".to_owned()));
        let with_probe = look(&member("Succeeded", "running", "unhealthy"), false).0;
        assert_eq!(with_probe, Look::Bad, "what is told counts, whoever tells it");
    }

    #[test]
    fn the_letters_of_a_code_do_not_matter() {
        let (seen, evidence) = look(&member("succeeded", "Running", "Healthy"), true);
        assert_eq!((seen, evidence.as_str()), (Look::Good, "succeeded, running, healthy"));
    }
}
