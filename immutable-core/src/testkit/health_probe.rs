//! Looking at simulated instances.

use std::collections::BTreeSet;

use async_trait::async_trait;

use super::SimCloud;
use super::operation::Operation;
use super::state::State;
use crate::model::{InstanceId, Look, Sample};
use crate::provider::{HealthProbe, OpContext, ProbeTarget, ProviderError};

#[async_trait]
impl HealthProbe for SimCloud {
    /// Looks at each target that has an endpoint, as a probe over the network does.
    async fn sample(&self, cx: &OpContext, targets: &[ProbeTarget]) -> Result<Vec<Sample>, ProviderError> {
        self.enter(cx, Operation::SampleHealth, |state| {
            let known = targets.iter().filter(|target| target.endpoint.is_some());
            let instances: BTreeSet<&InstanceId> = known.map(|target| &target.instance).collect();
            Ok(instances.into_iter().map(|instance| state.look_at(instance)).collect())
        })
        .await
    }
}

impl State {
    fn look_at(&self, instance: &InstanceId) -> Sample {
        let complaint = match self.machines.get(instance) {
            None => Some("connection timed out"),
            Some(machine) => self.life(machine).complaint(self.now),
        };
        Sample {
            instance: instance.clone(),
            at: self.clock.at(self.now),
            look: if complaint.is_none() { Look::Good } else { Look::Bad },
            evidence: complaint.unwrap_or("answered 200").to_owned(),
        }
    }
}
