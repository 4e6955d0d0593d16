//! What the suite does to the cloud.

use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use immutable_core::model::{Fingerprint, FleetId, InstanceId, LaunchSpec, Release, RouteId};
use immutable_core::provider::{ImageSpec, OpContext, Platform, Progress, Recipe};
use immutable_core::testkit::conformance::{Ability, Fault, Harness, Ownership, Version};
use immutable_core::testkit::{Operation, VirtualClock};
use jiff::Timestamp;

use crate::acme::{Acme, ApiKey, MachineState, Mishap};
use crate::provider::platform;

pub(crate) const API_KEY: &str = "acme-key-hunter2";

#[derive(Debug)]
pub(crate) struct AcmeHarness {
    acme: Acme,
    /// What is done to the platform before it is handed out: nothing, unless a test wants it broken.
    change: fn(Platform) -> Platform,
    /// The machine that has a request in flight.
    busy: Mutex<Option<String>>,
}

impl AcmeHarness {
    pub(crate) fn new() -> Self {
        Self::with(|platform| platform)
    }

    pub(crate) fn with(change: fn(Platform) -> Platform) -> Self {
        Self { acme: Acme::new(ApiKey(API_KEY.to_owned())), change, busy: Mutex::default() }
    }

    pub(crate) fn clock(&self) -> VirtualClock {
        self.acme.clock()
    }

    fn image(&self, name: &str) -> ImageSpec {
        let recipe = Recipe { base: None, layers: Vec::new(), command: vec!["app".to_owned(), name.to_owned()] };
        ImageSpec { service: self.service(), recipe, version: name.to_owned(), commit: None }
    }
}

#[async_trait]
impl Harness for AcmeHarness {
    fn platform(&self) -> Platform {
        (self.change)(platform(&self.acme))
    }

    fn now(&self) -> Timestamp {
        self.acme.now()
    }

    async fn wait(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }

    fn patience(&self) -> Duration {
        Duration::from_mins(2)
    }

    async fn release(&self, version: Version) -> Release {
        let (images, spec) = (self.platform().images, self.image(&format!("{version:?}")));
        loop {
            match images.ensure(&OpContext::standalone("release"), &spec).await.unwrap() {
                Progress::Done(image) => return Release::new(image, LaunchSpec::default()),
                Progress::Pending { retry_after, .. } => self.wait(retry_after).await,
            }
        }
    }

    fn image_spec(&self, version: Version) -> ImageSpec {
        self.image(&format!("only built: {version:?}"))
    }

    fn lacks(&self) -> Vec<(Ability, &'static str)> {
        vec![(Ability::SilentEndpoint, "the cloud is asked about its machines, and nothing is asked of them")]
    }

    fn many(&self) -> u32 {
        25
    }

    async fn inject(&self, fault: &Fault) -> bool {
        let state = |instance: &InstanceId, state| self.acme.change(instance.as_str(), |machine| machine.state = state);
        let next = |operation: &Operation, mishap| {
            // The request of the call that has the effect.
            let request = match operation {
                Operation::EnsureFleet => "StartMachine",
                Operation::ObserveFleets => "ListMachines",
                Operation::Retire => "StopMachines",
                Operation::ObserveRoute => "GetPool",
                _ => return false,
            };
            self.acme.plan(request, mishap);
            true
        };
        match fault {
            Fault::LoseAnswer(operation) => next(operation, Mishap::AnswerLost),
            Fault::Throttle(operation) => next(operation, Mishap::Throttled),
            Fault::Kill(instance) => state(instance, MachineState::Crashed),
            Fault::MakeIll(instance) => state(instance, MachineState::Impaired),
            Fault::Heal(instance) => state(instance, MachineState::Running),
            Fault::Drift(instance) => self.acme.change(instance.as_str(), |machine| {
                machine.template = Fingerprint::of("somebody was here").to_string();
            }),
            Fault::BlindProbe => {
                self.acme.plan("MachineStatus", Mishap::AnswerLost);
                true
            }
            _ => false,
        }
    }

    fn reopen(&self) -> Option<Platform> {
        Some(self.platform())
    }

    async fn ownership(&self, instance: &InstanceId) -> Option<Ownership> {
        let mut tags = None;
        self.acme.change(instance.as_str(), |machine| tags = Some(machine.tags.clone()));
        let tags = tags?;
        Some(Ownership {
            service: tags.get("immutable-service")?.parse().ok()?,
            release: tags.get("immutable-release")?.parse().ok()?,
            rollout: tags.get("immutable-rollout")?.parse().ok()?,
        })
    }

    async fn request(&self) -> Option<Result<FleetId, String>> {
        let route = self.route();
        let Some((machine, group)) = self.acme.begin(route.as_str()) else {
            return Some(Err("nobody answers".to_owned()));
        };
        self.acme.finish(route.as_str(), &machine);
        Some(Ok(group.parse().unwrap()))
    }

    async fn begin_request(&self) -> Option<InstanceId> {
        let (machine, _) = self.acme.begin(self.route().as_str())?;
        *self.busy.lock().unwrap() = Some(machine.clone());
        machine.parse().ok()
    }

    async fn finish_request(&self) -> Result<(), String> {
        let machine = self.busy.lock().unwrap().take().ok_or("no request was begun")?;
        let finished = self.acme.finish(self.route().as_str(), &machine);
        if finished { Ok(()) } else { Err(format!("{machine} was cut off")) }
    }

    fn other_route(&self) -> Option<RouteId> {
        "conformance-other".parse().ok()
    }

    fn secrets(&self) -> Vec<String> {
        vec![API_KEY.to_owned()]
    }
}
