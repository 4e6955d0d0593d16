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
    fn look_at(&mut self, instance: &InstanceId) -> Sample {
        let complaint = match self.machines.get(instance) {
            None => Some("connection timed out"),
            Some(machine) => self.life(machine).complaint(self.now),
        };
        if complaint.is_none()
            && let Some(machine) = self.machines.get_mut(instance)
        {
            machine.seen_good = true;
        }
        Sample {
            instance: instance.clone(),
            at: self.clock.at(self.now),
            look: if complaint.is_none() { Look::Good } else { Look::Bad },
            evidence: complaint.unwrap_or("answered 200").to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{after, cx, fleet, id, ready};
    use super::*;

    async fn looks(cloud: &SimCloud, names: &[&str]) -> Vec<(String, Look)> {
        let endpoint = Some("sim:80".parse().unwrap());
        let target =
            |name: &&str| ProbeTarget { instance: id(name), fleet: "f".parse().unwrap(), endpoint: endpoint.clone() };
        let targets: Vec<_> = names.iter().map(target).collect();
        let samples = cloud.platform().health.sample(&cx(), &targets).await.unwrap();
        samples.into_iter().map(|sample| (sample.instance.to_string(), sample.look)).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn h1_each_target_with_an_endpoint_has_one_sample() {
        let cloud = SimCloud::default();
        ready(&cloud, "1", 1).await;
        assert_eq!(looks(&cloud, &["sim-1", "sim-1"]).await, [("sim-1".to_owned(), Look::Good)]);
        let target = ProbeTarget { instance: id("sim-1"), fleet: "f".parse().unwrap(), endpoint: None };
        assert!(cloud.platform().health.sample(&cx(), &[target]).await.unwrap().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn h2_whoever_does_not_answer_is_bad() {
        let cloud = SimCloud::default();
        cloud.platform().fleets.ensure(&cx(), &fleet(&cloud, "1", 1)).await.unwrap();
        let check = async |expected| assert_eq!(looks(&cloud, &["sim-1"]).await, [("sim-1".to_owned(), expected)]);
        check(Look::Bad).await;
        after(31).await;
        check(Look::Bad).await;
        after(5).await;
        check(Look::Good).await;
        assert!(cloud.make_ill(&id("sim-1")));
        check(Look::Bad).await;
        assert!(cloud.heal(&id("sim-1")));
        check(Look::Good).await;
        assert!(cloud.kill(&id("sim-1")));
        check(Look::Bad).await;
        assert!(!cloud.kill(&id("sim-2")));
        assert_eq!(looks(&cloud, &["sim-2"]).await, [("sim-2".to_owned(), Look::Bad)]);
    }
}
