//! Looks at machines by asking the cloud, which checks them.

use std::collections::BTreeSet;

use async_trait::async_trait;
use immutable_core::model::{Look, Sample};
use immutable_core::provider::{HealthProbe, OpContext, ProbeTarget, ProviderError};
use tokio::time::Instant;

use super::error::{unreadable, unseen};
use crate::acme::{Acme, MachineState};

/// How many machines one request may name.
const BATCH: usize = 5;

#[derive(Debug)]
pub(super) struct AcmeProbe {
    acme: Acme,
}

impl AcmeProbe {
    pub(super) fn new(acme: Acme) -> Self {
        Self { acme }
    }
}

#[async_trait]
impl HealthProbe for AcmeProbe {
    async fn sample(&self, cx: &OpContext, targets: &[ProbeTarget]) -> Result<Vec<Sample>, ProviderError> {
        const OPERATION: &str = "sample health";
        // H1: each of them once, whoever is named twice.
        let ids: BTreeSet<String> = targets.iter().map(|target| target.instance.to_string()).collect();
        let ids: Vec<String> = ids.into_iter().collect();
        // H4: who is not reached in this time has no sample. The rest of it is for the last request.
        let enough = Instant::now() + cx.timeout / 2;
        let mut samples = Vec::new();
        for batch in ids.chunks(BATCH) {
            if Instant::now() > enough {
                break;
            }
            // H2: an error here says nothing about the machines. Whom the cloud does not know has no sample.
            let found = self.acme.machine_status(batch).await.map_err(|trouble| unseen(OPERATION, trouble))?;
            for (id, state) in found {
                let look = if state == MachineState::Running { Look::Good } else { Look::Bad };
                let instance = id.parse().map_err(|error| unreadable(OPERATION, &error))?;
                samples.push(Sample { instance, at: self.acme.now(), look, evidence: format!("{state:?}") });
            }
        }
        Ok(samples)
    }
}
