//! A service on the emulated AWS, and what is left of its rollouts.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_sdk_ec2::types::Filter;
use immutable_aws::{Config, Fleets};
use immutable_core::engine::{Engine, Outcome, Rollout};
use immutable_core::journal::MemoryJournal;
use immutable_core::model::{Fingerprint, FleetId, Image, ImageLabels, LaunchSpec, Release, ServiceName};
use immutable_core::plan::{RolloutSpec, Strategy};
use immutable_core::provider::{OpContext, Pace, Platform};
use jiff::Timestamp;
use serde::Deserialize;

use crate::support::{Account, Moto, Options, REGION, python, script};

/// No rollout takes so long here.
const LIMIT: Duration = Duration::from_mins(4);

#[derive(Debug)]
pub(crate) struct Stand {
    pub(crate) account: Account,
    pub(crate) journal: MemoryJournal,
    kind: Fleets,
}

/// What an independent client finds in the account.
#[derive(Debug, Deserialize)]
pub(crate) struct Left {
    /// Each with its fleet.
    pub(crate) instances: Vec<(String, String)>,
    /// Each with its desired capacity.
    pub(crate) groups: Vec<(String, u32)>,
    pub(crate) launch_templates: Vec<String>,
    /// The targets of each, by fleet or by name.
    pub(crate) target_groups: BTreeMap<String, Vec<String>>,
    /// The weights of each, by fleet or by name.
    pub(crate) routes: BTreeMap<String, BTreeMap<String, u32>>,
    pub(crate) images: Vec<String>,
    pub(crate) snapshots: u32,
    pub(crate) loose_volumes: u32,
}

impl Stand {
    pub(crate) async fn new(kind: Fleets, options: Options) -> Self {
        let account = Account::open(Moto::shared(), options).await;
        Self { account, journal: MemoryJournal::new(), kind }
    }

    pub(crate) fn config(&self) -> Config {
        self.account.config().fleets(self.kind).list_lag(Duration::ZERO).build().unwrap()
    }

    pub(crate) fn platform(&self) -> Platform {
        platform(&self.config())
    }

    /// A driver, which knows what the journal tells and nothing else.
    pub(crate) fn engine(&self) -> Engine {
        Engine::builder(self.platform()).journal(self.journal.clone()).build()
    }

    pub(crate) fn release(&self, number: usize) -> Release {
        release(&self.account.images[number])
    }

    pub(crate) fn fleet(&self, number: usize) -> FleetId {
        FleetId::of(&service(), &self.release(number).id())
    }

    pub(crate) fn spec(&self, number: usize, strategy: Strategy, size: u32) -> RolloutSpec {
        RolloutSpec::new(service(), self.account.routes[0].clone(), self.release(number), strategy).desired(size)
    }

    /// Rolls a release out to its end.
    pub(crate) async fn roll_out(&self, number: usize, strategy: Strategy, size: u32) -> Outcome {
        let engine = self.engine();
        let rollout = engine.start(self.spec(number, strategy, size)).await.unwrap();
        self.end(&rollout).await
    }

    /// The end of a rollout, which is to come soon.
    pub(crate) async fn end(&self, rollout: &Rollout) -> Outcome {
        match tokio::time::timeout(LIMIT, rollout.wait()).await {
            Ok(outcome) => outcome.unwrap(),
            Err(late) => panic!("{late}: {:?}\n{:?}", rollout.status(), self.account.proxy.calls()),
        }
    }

    /// The instances of a fleet, wherever they stand.
    pub(crate) async fn instances(&self, number: usize) -> Vec<String> {
        let of = Filter::builder().name("tag:immutable:fleet").values(self.fleet(number).as_str()).build();
        let found = self.account.own.ec2.describe_instances().filters(of).send().await.unwrap();
        let found = found.reservations().iter().flat_map(aws_sdk_ec2::types::Reservation::instances);
        found.filter_map(|instance| Some(instance.instance_id()?.to_owned())).collect()
    }

    /// Until a fleet has traffic.
    pub(crate) async fn until_routed(&self, number: usize) {
        let (cx, fleet, traffic) = (OpContext::standalone("look"), self.fleet(number), self.platform().traffic);
        loop {
            let route = traffic.observe(&cx, &self.account.routes[0]).await.unwrap();
            if route.split.iter().any(|(routed, _)| *routed == fleet) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    pub(crate) async fn left(&self) -> Left {
        let endpoint = format!("http://{}", Moto::shared().address());
        let mut look = tokio::process::Command::new(python());
        look.arg(script("leftovers.py")).args([&endpoint, &self.account.id, REGION]);
        let told = look.output().await.unwrap();
        assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
        serde_json::from_slice(&told.stdout).unwrap()
    }

    /// Nothing is there but one fleet of this size, and it has all of the traffic.
    pub(crate) async fn assert_only(&self, number: usize, size: usize) {
        let (left, fleet) = (self.left().await, self.fleet(number).to_string());
        assert!(left.instances.len() == size && left.instances.iter().all(|(of, _)| *of == fleet), "{left:?}");
        let groups = if self.kind == Fleets::AutoScaling {
            vec![(format!("immutable-{fleet}"), u32::try_from(size).unwrap())]
        } else {
            Vec::new()
        };
        assert_eq!(left.groups, groups);
        assert_eq!(left.launch_templates, [format!("immutable-{fleet}")]);
        let ids: Vec<_> = left.instances.iter().map(|(_, id)| id.clone()).collect();
        let web = ("web".to_owned(), Vec::new());
        assert_eq!(left.target_groups, BTreeMap::from([(fleet.clone(), ids), web]), "{left:?}");
        let [listener, rule] = self.account.routes.each_ref().map(|route| left.routes[route.as_str()].clone());
        let with_traffic: Vec<_> = listener.iter().filter(|(_, weight)| **weight > 0).map(|(of, _)| of).collect();
        assert_eq!(with_traffic, [&fleet], "{listener:?}");
        assert_eq!(rule, BTreeMap::from([("web".to_owned(), 1)]), "the rule was nobody's to change");
        assert_eq!((left.images.len(), left.snapshots, left.loose_volumes), (2, 2, 0), "{left:?}");
    }
}

pub(crate) fn service() -> ServiceName {
    "web".parse().unwrap()
}

pub(crate) fn release(ami: &str) -> Release {
    let labels = ImageLabels { version: ami.to_owned(), commit: None, built_at: Timestamp::UNIX_EPOCH };
    let image = Image { id: ami.parse().unwrap(), fingerprint: Fingerprint::of(ami), parents: Vec::new(), labels };
    Release::new(image, LaunchSpec::default())
}

/// The platform, looked at more often than a real one would bear.
pub(crate) fn platform(config: &Config) -> Platform {
    let pace = Pace {
        observe: Duration::from_millis(100),
        probe_starting: Duration::from_millis(100),
        probe_running: Duration::from_millis(500),
        ambiguity_horizon: Duration::from_secs(1),
        list_lag: Duration::ZERO,
        ..Pace::default()
    };
    Platform { pace, ..immutable_aws::platform(config) }
}
