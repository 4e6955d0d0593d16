//! What an application gateway finds.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use immutable_core::model::{InstanceId, Look, Sample};
use immutable_core::provider::{HealthProbe, OpContext, ProbeTarget, ProviderError};
use jiff::Timestamp;

use crate::asked::Unanswered;
use crate::traffic_switch::application_gateway::{Seen, ask_all, gateway_of, pool_looks};
use crate::{Config, ConfigError};

const LOOK: &str = "look at members of a gateway";

/// What an application gateway finds of its members, by its own probes.
///
/// It knows those whom a rule leads to, by their addresses; others have no sample, and neither have instances without an address. Of several settings the worst
/// counts. A gateway takes seconds to answer: until it has, all are [`Unknown`](Look::Unknown), and later each look tells the last answer with the time of its
/// question. So is one that it calls bad and has not had the time to probe, and an instance that was not asked about before that question: it may have been about another one with that address.
///
/// # Errors
/// Only when the gateway cannot be asked.
pub struct GatewayHealthProbe {
    config: Config,
    gateway: String,
    pool: Option<String>,
    known: Mutex<BTreeMap<InstanceId, Known>>,
}

/// How long the gateway may not have probed whom it has just been told of: twice the usual interval of a probe.
const UNPROBED: Duration = Duration::from_mins(1);

/// An instance as it was asked about.
#[derive(Debug, Clone, Copy)]
struct Known {
    address: IpAddr,
    first: Timestamp,
    last: Timestamp,
    /// When the gateway has spoken of it for the first time.
    told: Option<Timestamp>,
    was_good: bool,
}

impl Known {
    /// What a word of the gateway about it means: those are bad for it whom it has not probed yet.
    fn hear(&mut self, seen: Seen, as_of: Timestamp) -> Seen {
        let told = *self.told.get_or_insert(as_of);
        self.was_good |= seen == Seen::Good;
        let is_probed = self.was_good || told.saturating_add(UNPROBED).is_ok_and(|end| end <= as_of);
        if seen == Seen::Bad && !is_probed { Seen::Open } else { seen }
    }
}

/// Who was not asked about for this long is forgotten. No answer is that old.
const FORGOTTEN: Duration = Duration::from_mins(5);

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
        Ok(Self { config, gateway, pool, known: Mutex::default() })
    }

    /// What a word of the gateway about an instance means.
    fn hear(&self, instance: &InstanceId, seen: Seen, as_of: Timestamp) -> Seen {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get_mut(instance).map_or(Seen::Open, |one| one.hear(seen, as_of))
    }

    /// Since when each of these has been asked about, at this address.
    fn meet(&self, asked: &BTreeMap<&InstanceId, IpAddr>, now: Timestamp) -> BTreeMap<InstanceId, Timestamp> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, one| one.last.saturating_add(FORGOTTEN).is_ok_and(|end| now < end));
        let meet = |(instance, address): (&&InstanceId, &IpAddr)| {
            let before = known.get(*instance).filter(|one| one.address == *address);
            let new = Known { address: *address, first: now, last: now, told: None, was_good: false };
            let one = Known { last: now, ..before.copied().unwrap_or(new) };
            known.insert((*instance).clone(), one);
            ((*instance).clone(), one.first)
        };
        asked.iter().map(meet).collect()
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
        let since = self.meet(&asked, Timestamp::now());
        let answered = match ask_all(&self.config, LOOK, &self.gateway).await {
            Ok(answered) => answered,
            Err(Unanswered::NotYet(_)) => {
                let now = Timestamp::now();
                let unknown =
                    |instance: &&InstanceId| sample(instance, now, Look::Unknown, "the gateway has not answered yet");
                return Ok(asked.keys().map(unknown).collect());
            }
            Err(Unanswered::Failed(error)) => return Err(error),
        };
        let looks = pool_looks(&answered, LOOK, self.pool.as_deref())?;
        let seen = asked.into_iter().filter_map(|(instance, address)| {
            let seen = looks.get(&address)?;
            if since.get(instance).is_none_or(|since| answered.as_of < *since) {
                let evidence = "the gateway was not asked since this instance is known";
                return Some(sample(instance, answered.as_of, Look::Unknown, evidence));
            }
            let (look, evidence) = match self.hear(instance, *seen, answered.as_of) {
                Seen::Good => (Look::Good, "healthy, the gateway says"),
                Seen::Bad => (Look::Bad, "unhealthy, the gateway says"),
                Seen::Open => (Look::Unknown, "the gateway cannot say"),
            };
            Some(sample(instance, answered.as_of, look, evidence))
        });
        Ok(seen.collect())
    }
}
