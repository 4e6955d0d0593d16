//! What an application gateway finds.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use async_trait::async_trait;
use immutable_core::model::{InstanceId, Look, Sample};
use immutable_core::provider::{ErrorKind, HealthProbe, OpContext, ProbeTarget, ProviderError};
use jiff::Timestamp;

use crate::traffic_switch::application_gateway::{Seen, ask_all, gateway_of, pool_looks};
use crate::{Config, ConfigError};

const LOOK: &str = "look at members of a gateway";

/// What an application gateway finds of its members, by its own probes.
///
/// It knows those whom a rule leads to, by their addresses; others have no sample, and neither have instances without an address. Of several settings the worst
/// counts. A gateway takes seconds to answer: until it has, all are [`Unknown`](Look::Unknown), and later each look tells the last answer with the time of its
/// question.
///
/// # Errors
/// Only when the gateway cannot be asked.
pub struct GatewayHealthProbe {
    config: Config,
    gateway: String,
    pool: Option<String>,
}

impl GatewayHealthProbe {
    /// A probe of one backend pool, by its id from `/subscriptions/` on; or of all pools together, by the id of the gateway.
    ///
    /// # Errors
    /// [`ConfigError`] for what is neither.
    pub fn new(config: Config, id: &str) -> Result<Self, ConfigError> {
        let found = gateway_of(id).and_then(|(gateway, rest)| match rest[..] {
            [] => Some((gateway, None)),
            [list, pool] if list.eq_ignore_ascii_case("backendAddressPools") => Some((gateway, Some(pool.to_owned()))),
            _ => None,
        });
        let Some((gateway, pool)) = found else {
            let problem = "must look like \"/subscriptions/.../applicationGateways/<gateway>\", perhaps with \"/backendAddressPools/<pool>\"";
            return Err(ConfigError::new("gateway", problem));
        };
        Ok(Self { config, gateway, pool })
    }
}

impl fmt::Debug for GatewayHealthProbe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { gateway, pool, .. } = self;
        f.debug_struct("GatewayHealthProbe").field("gateway", gateway).field("pool", pool).finish_non_exhaustive()
    }
}

#[async_trait]
impl HealthProbe for GatewayHealthProbe {
    async fn sample(&self, _cx: &OpContext, targets: &[ProbeTarget]) -> Result<Vec<Sample>, ProviderError> {
        let asked: BTreeMap<&InstanceId, IpAddr> = targets
            .iter()
            .filter_map(|target| Some((&target.instance, target.endpoint.as_ref()?.host().parse().ok()?)))
            .collect();
        if asked.is_empty() {
            return Ok(Vec::new());
        }
        let sample = |instance: &InstanceId, at, look, evidence: &str| Sample {
            instance: instance.clone(),
            at,
            look,
            evidence: evidence.to_owned(),
        };
        let answered = match ask_all(&self.config, LOOK, &self.gateway).await {
            Ok(answered) => answered,
            Err(error) if error.kind() == ErrorKind::Unavailable => {
                let now = Timestamp::now();
                let unknown =
                    |instance: &&InstanceId| sample(instance, now, Look::Unknown, "the gateway has not answered yet");
                return Ok(asked.keys().map(unknown).collect());
            }
            Err(error) => return Err(error),
        };
        let looks = pool_looks(&answered, LOOK, self.pool.as_deref())?;
        let seen = asked.into_iter().filter_map(|(instance, address)| {
            let (look, evidence) = match looks.get(&address)? {
                Seen::Good => (Look::Good, "healthy, the gateway says"),
                Seen::Bad => (Look::Bad, "unhealthy, the gateway says"),
                Seen::Open => (Look::Unknown, "the gateway cannot say"),
            };
            Some(sample(instance, answered.as_of, look, evidence))
        });
        Ok(seen.collect())
    }
}
