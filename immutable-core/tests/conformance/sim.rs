//! The simulated cloud, and what the suite does to it.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]
#![expect(clippy::disallowed_methods, reason = "tests wait in virtual time")]

use std::time::Duration;

use async_trait::async_trait;
use immutable_core::model::{Endpoint, InstanceId, Release, RouteId};
use immutable_core::provider::{Effect, ErrorKind, ImageSpec, Platform, Recipe};
use immutable_core::testkit::conformance::{Ability, Fault, Harness, Ownership, Version};
use immutable_core::testkit::{Operation, SimCloud, SimOptions};
use jiff::Timestamp;

use crate::broken::{self, Defect};

#[derive(Debug)]
pub(crate) struct SimHarness {
    cloud: SimCloud,
    defect: Option<Defect>,
    /// What it says that it cannot do although the cloud can.
    denied: Option<Ability>,
}

impl SimHarness {
    pub(crate) fn new(options: SimOptions) -> Self {
        Self::with_defect(options, None)
    }

    pub(crate) fn with_defect(options: SimOptions, defect: Option<Defect>) -> Self {
        Self { cloud: SimCloud::new(options), defect, denied: None }
    }

    pub(crate) fn denying(options: SimOptions, ability: Ability) -> Self {
        Self { denied: Some(ability), ..Self::new(options) }
    }

    fn denies(&self, ability: Ability) -> bool {
        self.denied == Some(ability)
    }
}

fn name(version: Version) -> &'static str {
    match version {
        Version::Old => "1",
        Version::New => "2",
    }
}

#[async_trait]
impl Harness for SimHarness {
    fn platform(&self) -> Platform {
        match self.defect {
            None => self.cloud.platform(),
            Some(defect) => broken::platform(&self.cloud, defect),
        }
    }

    fn now(&self) -> Timestamp {
        self.cloud.now()
    }

    async fn wait(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }

    fn patience(&self) -> Duration {
        Duration::from_mins(5)
    }

    async fn release(&self, version: Version) -> Release {
        let release = self.cloud.release(name(version));
        let mut launch = release.launch().clone();
        if self.denies(Ability::Secrets) {
            launch.secrets.insert("TOKEN".parse().unwrap(), "token".parse().unwrap());
        }
        Release::new(release.image().clone(), launch)
    }

    fn image_spec(&self, version: Version) -> ImageSpec {
        let command = vec!["built".to_owned(), name(version).to_owned()];
        let recipe = Recipe { base: None, layers: Vec::new(), command };
        ImageSpec { service: self.service(), recipe, version: name(version).to_owned(), commit: None }
    }

    fn lacks(&self) -> Vec<(Ability, &'static str)> {
        let denied = self.denied.filter(|denied| *denied != Ability::Secrets);
        let mut lacks = vec![
            (Ability::Request, "the simulated cloud counts requests and sends none"),
            (Ability::HoldRequest, "the simulated cloud counts requests and sends none"),
            (Ability::Secrets, "the simulated cloud is given none"),
        ];
        lacks.extend(denied.map(|denied| (denied, "nobody has tried")));
        lacks
    }

    fn many(&self) -> u32 {
        250
    }

    async fn inject(&self, fault: &Fault) -> bool {
        let next = |operation, kind, effect| {
            self.cloud.fail_next(operation, kind, effect, 1);
            true
        };
        match fault {
            Fault::LoseAnswer(operation) => next(*operation, ErrorKind::Timeout, Effect::Unknown),
            Fault::Throttle(operation) => next(*operation, ErrorKind::Throttled, Effect::None),
            Fault::Kill(instance) => self.cloud.kill(instance),
            Fault::MakeIll(instance) => self.cloud.make_ill(instance),
            Fault::Heal(instance) => self.cloud.heal(instance),
            Fault::Drift(instance) => !self.denies(Ability::Drift) && self.cloud.drift(instance),
            Fault::BlindProbe => next(Operation::SampleHealth, ErrorKind::Unavailable, Effect::None),
            _ => false,
        }
    }

    fn silent_endpoint(&self) -> Option<Endpoint> {
        "nobody:80".parse().ok()
    }

    fn reopen(&self) -> Option<Platform> {
        Some(self.cloud.platform())
    }

    async fn ownership(&self, instance: &InstanceId) -> Option<Ownership> {
        let found = self.cloud.instances().into_iter().find(|one| one.id == *instance)?;
        Some(Ownership { service: found.service, release: found.release, rollout: found.rollout })
    }

    fn other_route(&self) -> Option<RouteId> {
        "conformance-other".parse().ok().filter(|_| !self.denies(Ability::OtherRoute))
    }
}
