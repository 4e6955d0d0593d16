//! An account of the emulated AWS, and what the suite does to it.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_ec2::types::Filter;
use immutable_aws::{AmiBuilder, Fleets};
use immutable_core::model::{Image, InstanceId, LaunchSpec, Release, RouteId};
use immutable_core::provider::{ImageSpec, Layer, OpContext, Pace, Platform, Progress, Recipe};
use immutable_core::testkit::Operation;
use immutable_core::testkit::conformance::{Ability, Fault, Harness, Ownership, Version};
use jiff::Timestamp;
use tokio::sync::Mutex;

use crate::support::{Account, Moto, Options, SECRET};

/// Nothing here takes as long as on AWS: a tenth of the time is enough for everything.
const HASTE: u32 = 10;

/// How the fleets under test are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Groups,
    Instances,
    InstancesOfSeveralTypes,
}

#[derive(Debug)]
pub(crate) struct AwsHarness {
    account: Account,
    kind: Kind,
    patience: Duration,
    /// The image of each version, once it is built.
    images: Mutex<BTreeMap<Version, Image>>,
}

impl AwsHarness {
    pub(crate) async fn new(kind: Kind) -> Self {
        let account = Account::open(Moto::shared(), Options::default()).await;
        Self { account, kind, patience: Duration::from_mins(2), images: Mutex::default() }
    }

    /// For what takes minutes also here: `CloudWatch` tells of whole minutes, and its time is that of everybody.
    pub(crate) async fn under_load() -> Self {
        let harness = Self::new(Kind::Groups).await;
        tokio::spawn(crate::load::run(harness.account.own.clone()));
        Self { patience: Duration::from_secs(150) * HASTE, ..harness }
    }

    fn image(&self, text: &str) -> ImageSpec {
        let base = AmiBuilder::base(&self.account.images[0]).unwrap();
        let script = format!("echo {text} >version\n");
        let recipe = Recipe { base: Some(base), layers: vec![Layer::Script(script)], command: vec!["app".to_owned()] };
        ImageSpec { service: self.service(), recipe, version: text.to_owned(), commit: None }
    }

    async fn build(&self, spec: &ImageSpec) -> Image {
        loop {
            let cx = OpContext::standalone("build");
            match self.platform().images.ensure(&cx, spec).await.unwrap() {
                Progress::Done(image) => return image,
                Progress::Pending { .. } => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    }

    /// The requests that a call of the provider stands or falls with.
    fn requests(&self, operation: Operation) -> &'static [&'static str] {
        match (operation, self.kind) {
            (Operation::EnsureFleet, Kind::Groups) => &["CreateAutoScalingGroup", "SetDesiredCapacity"],
            (Operation::EnsureFleet, _) => &["RunInstances", "CreateFleet"],
            (Operation::Retire, Kind::Groups) => &["TerminateInstanceInAutoScalingGroup"],
            (Operation::Retire, _) => &["TerminateInstances"],
            (Operation::EnsureImage, _) => &["RunInstances", "CreateImage"],
            (Operation::RemoveImage, _) => &["DeregisterImage"],
            (Operation::FindImage | Operation::ListImages, _) => &["DescribeImages"],
            (Operation::ObserveFleets, _) => &["DescribeInstances"],
            (Operation::ObserveRoute, _) => &["DescribeListeners"],
            _ => &[],
        }
    }
}

#[async_trait]
impl Harness for AwsHarness {
    fn platform(&self) -> Platform {
        let pace = Pace {
            observe: Duration::from_millis(500),
            list_lag: Duration::ZERO,
            ambiguity_horizon: Duration::from_secs(1),
            ..Pace::default()
        };
        let config = self.account.config().list_lag(Duration::ZERO).metric_lag(Duration::ZERO);
        let config = match self.kind {
            Kind::Groups => config,
            Kind::Instances => config.fleets(Fleets::Instances).subnets([self.account.subnets[0].clone()]),
            Kind::InstancesOfSeveralTypes => {
                config.fleets(Fleets::Instances).instance_types(["m7i.large", "m7a.large"])
            }
        };
        Platform { pace, ..immutable_aws::platform(&config.build().unwrap()) }
    }

    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    async fn wait(&self, time: Duration) {
        tokio::time::sleep(time / HASTE).await;
    }

    fn patience(&self) -> Duration {
        self.patience
    }

    async fn release(&self, version: Version) -> Release {
        let mut images = self.images.lock().await;
        if let Entry::Vacant(place) = images.entry(version) {
            place.insert(self.build(&self.image(&format!("{version:?}"))).await);
        }
        Release::new(images[&version].clone(), LaunchSpec::default())
    }

    fn image_spec(&self, version: Version) -> ImageSpec {
        self.image(&format!("only built: {version:?}"))
    }

    fn route(&self) -> RouteId {
        self.account.routes[0].clone()
    }

    fn lacks(&self) -> Vec<(Ability, &'static str)> {
        vec![
            (Ability::Request, "moto has no data plane: nothing listens behind its load balancers"),
            (Ability::HoldRequest, "moto has no data plane: nothing listens behind its load balancers"),
            (Ability::SilentEndpoint, "AWS is asked about its instances, and nothing is asked of them"),
        ]
    }

    /// More than fit on a page, and more than are started in a call.
    fn many(&self) -> u32 {
        8
    }

    async fn inject(&self, fault: &Fault) -> bool {
        let proxy = &self.account.proxy;
        match fault {
            Fault::LoseAnswer(operation) => proxy.lose_next(self.requests(*operation)),
            Fault::Throttle(operation) => proxy.throttle_next(self.requests(*operation)),
            Fault::Kill(instance) => return proxy.kill(instance.as_str()).await,
            Fault::Drift(instance) => return proxy.drift(instance.as_str()),
            Fault::BlindProbe => proxy.throttle_next(&["DescribeInstanceStatus"]),
            Fault::MakeIll(instance) => return proxy.set_ill(instance.as_str(), true),
            Fault::Heal(instance) => return proxy.set_ill(instance.as_str(), false),
            _ => return false,
        }
        true
    }

    fn reopen(&self) -> Option<Platform> {
        Some(self.platform())
    }

    async fn ownership(&self, instance: &InstanceId) -> Option<Ownership> {
        let of = Filter::builder().name("resource-id").values(instance.as_str()).build();
        let tags = self.account.own.ec2.describe_tags().filters(of).send().await.unwrap();
        let tag = |key: &str| tags.tags().iter().find(|tag| tag.key() == Some(key))?.value();
        Some(Ownership {
            service: tag("immutable:service")?.parse().ok()?,
            release: tag("immutable:release")?.parse().ok()?,
            rollout: tag("immutable:rollout")?.parse().ok()?,
        })
    }

    fn other_route(&self) -> Option<RouteId> {
        Some(self.account.routes[1].clone())
    }

    fn secrets(&self) -> Vec<String> {
        vec![SECRET.to_owned()]
    }
}
