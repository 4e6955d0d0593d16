//! An account of the emulated AWS, and what the suite does to it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_ec2::types::Filter;
use immutable_aws::{AutoScalingProvisioner, Ec2Provisioner, Fleets};
use immutable_core::model::{Fingerprint, Image, ImageLabels, InstanceId, LaunchSpec, Release, RouteId};
use immutable_core::provider::{ImageSpec, Pace, Platform, Provisioner, Recipe};
use immutable_core::testkit::conformance::{Ability, Fault, Harness, Ownership, Version};
use immutable_core::testkit::{Operation, SimCloud, SimOptions};
use jiff::Timestamp;

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
    /// The parts that are not under test.
    aids: SimCloud,
}

impl AwsHarness {
    pub(crate) async fn new(kind: Kind) -> Self {
        let account = Account::open(Moto::shared(), Options::default()).await;
        Self { account, kind, aids: SimCloud::new(SimOptions::default()) }
    }

    fn fleets(&self) -> Arc<dyn Provisioner> {
        let config = self.account.config().list_lag(Duration::ZERO);
        match self.kind {
            Kind::Groups => Arc::new(AutoScalingProvisioner::new(config.build().unwrap())),
            Kind::Instances => {
                let config = config.fleets(Fleets::Instances).subnets([self.account.subnets[0].clone()]);
                Arc::new(Ec2Provisioner::new(config.build().unwrap()))
            }
            Kind::InstancesOfSeveralTypes => {
                let config = config.fleets(Fleets::Instances).instance_types(["m7i.large", "m7a.large"]);
                Arc::new(Ec2Provisioner::new(config.build().unwrap()))
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
            (Operation::ObserveFleets, _) => &["DescribeInstances"],
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
        Platform { fleets: self.fleets(), pace, ..self.aids.platform() }
    }

    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    async fn wait(&self, time: Duration) {
        tokio::time::sleep(time / HASTE).await;
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(60)
    }

    async fn release(&self, version: Version) -> Release {
        let (id, name) = match version {
            Version::Old => (&self.account.images[0], "1"),
            Version::New => (&self.account.images[1], "2"),
        };
        let labels = ImageLabels { version: name.to_owned(), commit: None, built_at: Timestamp::UNIX_EPOCH };
        let image = Image { id: id.parse().unwrap(), fingerprint: Fingerprint::of(id), parents: Vec::new(), labels };
        Release::new(image, LaunchSpec::default())
    }

    fn image_spec(&self, version: Version) -> ImageSpec {
        let name = format!("{version:?}");
        let recipe = Recipe { base: None, layers: Vec::new(), command: vec!["app".to_owned(), name.clone()] };
        ImageSpec { service: self.service(), recipe, version: name, commit: None }
    }

    fn route(&self) -> RouteId {
        self.account.routes[0].clone()
    }

    fn lacks(&self) -> Vec<(Ability, &'static str)> {
        vec![
            (Ability::Request, "moto has no data plane: nothing listens behind its load balancers"),
            (Ability::HoldRequest, "moto has no data plane: nothing listens behind its load balancers"),
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

    fn secrets(&self) -> Vec<String> {
        vec![SECRET.to_owned()]
    }
}
