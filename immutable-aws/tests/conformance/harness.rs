//! An account of the emulated AWS, and what the suite does to it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_ec2::types::Filter;
use immutable_aws::{AmiBuilder, AutoScalingProvisioner, Ec2Provisioner, ElbSwitch, Fleets};
use immutable_core::model::{Fingerprint, Image, ImageLabels, InstanceId, LaunchSpec, Release, RouteId};
use immutable_core::provider::{ImageBuilder, ImageSpec, OpContext, Pace, Platform, Progress, Provisioner, Recipe};
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
    /// Groups, of images that are built here.
    Images,
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
            Kind::Groups | Kind::Images => Arc::new(AutoScalingProvisioner::new(config.build().unwrap())),
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

    fn images(&self) -> AmiBuilder {
        AmiBuilder::new(self.account.config().list_lag(Duration::ZERO).build().unwrap())
    }

    async fn built(&self, spec: &ImageSpec) -> Image {
        loop {
            match self.images().ensure(&OpContext::standalone("build"), spec).await.unwrap() {
                Progress::Done(image) => return image,
                Progress::Pending { retry_after, .. } => self.wait(retry_after).await,
            }
        }
    }

    /// The requests that a call of the provider stands or falls with.
    fn requests(&self, operation: Operation) -> &'static [&'static str] {
        match (operation, self.kind) {
            (Operation::EnsureFleet, Kind::Groups | Kind::Images) => &["CreateAutoScalingGroup", "SetDesiredCapacity"],
            (Operation::EnsureFleet, _) => &["RunInstances", "CreateFleet"],
            (Operation::Retire, Kind::Groups | Kind::Images) => &["TerminateInstanceInAutoScalingGroup"],
            (Operation::Retire, _) => &["TerminateInstances"],
            (Operation::EnsureImage, _) => &["RunInstances", "CreateImage"],
            (Operation::RemoveImage, _) => &["DeregisterImage"],
            (Operation::FindImage | Operation::ListImages, _) => &["DescribeImages"],
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
        Platform {
            fleets: self.fleets(),
            images: Arc::new(self.images()),
            traffic: Arc::new(ElbSwitch::new(self.account.config().build().unwrap())),
            pace,
            ..self.aids.platform()
        }
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
        if self.kind == Kind::Images {
            let mut spec = self.image_spec(version);
            spec.recipe.command.push("release".to_owned());
            return Release::new(self.built(&spec).await, LaunchSpec::default());
        }
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
        let recipe = Recipe {
            base: Some(AmiBuilder::base(&self.account.images[0]).unwrap()),
            layers: Vec::new(),
            command: vec!["app".to_owned(), name.clone()],
        };
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
