//! What `iam_policy` allows is enough for a whole rollout, and each action that it allows is needed: moto checks every signature and
//! every permission.
//!
//! moto's permissions know neither conditions nor resources, so the actions of the policy are given to it without them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../support/mod.rs"]
mod support;

use std::collections::BTreeSet;
use std::time::Duration;

use aws_credential_types::Credentials;
use futures_util::StreamExt as _;
use immutable_aws::{Clients, Config, Fleets, iam_policy};
use immutable_core::engine::{Engine, Outcome};
use immutable_core::journal::MemoryJournal;
use immutable_core::model::{Fingerprint, Image, ImageLabels, LaunchSpec, Release};
use immutable_core::plan::{RolloutSpec, Strategy};
use immutable_core::provider::{Pace, Platform};
use jiff::Timestamp;
use serde_json::{Value, json};
use support::{Account, Moto, Options, clients, python, script};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// So many rollouts at a time.
const AT_ONCE: usize = 4;

/// No rollout takes so long here.
const LONG: Duration = Duration::from_mins(4);

/// Without progress for so long, a rollout that lacks a permission ends; a look that is not permitted may be permitted soon, so it ends nothing at once.
const PATIENCE: Duration = Duration::from_secs(10);

struct Team {
    account: Account,
    journal: MemoryJournal,
    kind: Fleets,
}

impl Team {
    async fn new(moto: &Moto, kind: Fleets) -> Self {
        Self { account: Account::open(moto, Options::default()).await, journal: MemoryJournal::new(), kind }
    }

    fn config(&self, clients: Clients) -> Config {
        let config = self.account.config_with(clients).fleets(self.kind).list_lag(Duration::ZERO);
        config.subnets([self.account.subnets[0].clone()]).build().unwrap()
    }

    /// The actions that the policy for these settings allows.
    fn allowed(&self) -> BTreeSet<String> {
        let policy: Value = serde_json::from_str(&iam_policy(&self.config(self.account.clients()))).unwrap();
        let statements = policy["Statement"].as_array().unwrap().iter();
        let actions = statements.flat_map(|statement| {
            statement["Action"].as_array().cloned().unwrap_or_else(|| vec![statement["Action"].clone()])
        });
        actions.map(|action| action.as_str().unwrap().to_owned()).collect()
    }

    /// Clients of somebody who is allowed just these actions.
    async fn clients_allowed(&self, moto: &Moto, actions: &BTreeSet<String>) -> Clients {
        let policy = json!({
            "Version": "2012-10-17",
            "Statement": [{ "Effect": "Allow", "Action": actions, "Resource": "*" }],
        });
        let endpoint = format!("http://{}", moto.address());
        let mut permit = tokio::process::Command::new(python());
        permit.arg(script("permit.py")).args([&endpoint, &self.account.id, &policy.to_string()]);
        let told = permit.output().await.unwrap();
        assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
        let told = String::from_utf8(told.stdout).unwrap();
        let (id, secret) = told.trim().split_once(' ').unwrap();
        clients(&self.account.proxy, Credentials::new(id, secret, None, None, "test"))
    }

    /// Rolls a release out, and tells how that ended, which it does after so long without progress.
    async fn roll_out(&self, clients: Clients, image: usize, patience: Duration) -> Result<Outcome, String> {
        let id = &self.account.images[image];
        let labels = ImageLabels { version: id.clone(), commit: None, built_at: Timestamp::UNIX_EPOCH };
        let image = Image { id: id.parse().unwrap(), fingerprint: Fingerprint::of(id), parents: Vec::new(), labels };
        let release = Release::new(image, LaunchSpec::default());
        let pace = Pace {
            observe: Duration::from_millis(200),
            probe_starting: Duration::from_millis(200),
            probe_running: Duration::from_millis(500),
            ambiguity_horizon: Duration::from_secs(1),
            list_lag: Duration::ZERO,
            ..Pace::default()
        };
        let platform = Platform { pace, ..immutable_aws::platform(&self.config(clients)) };
        let engine = Engine::builder(platform).journal(self.journal.clone()).build();
        let route = self.account.routes[0].clone();
        let strategy = Strategy::blue_green().progress_deadline(patience);
        let spec = RolloutSpec::new("web".parse().unwrap(), route, release, strategy).desired(1);
        let rollout = engine.start(spec).await.map_err(|error| error.to_string())?;
        match tokio::time::timeout(LONG, rollout.wait()).await {
            Ok(outcome) => outcome.map_err(|error| error.to_string()),
            Err(late) => panic!("{late}: {:?}", rollout.status()),
        }
    }

    /// Those of these actions that were called.
    fn called(&self, of: &BTreeSet<String>) -> BTreeSet<String> {
        let calls = self.account.proxy.calls();
        of.iter().filter(|action| calls.contains_key(action.split_once(':').unwrap().1)).cloned().collect()
    }
}

/// From now on every request is checked, or none.
async fn check(moto: &Moto, checked: bool) {
    let count = if checked { "0" } else { "inf" };
    let mut stream = tokio::net::TcpStream::connect(moto.address()).await.unwrap();
    let request = format!(
        "POST /moto-api/reset-auth HTTP/1.1\r\nHost: moto\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{count}",
        count.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains(" 200 "), "{answer}");
}

async fn every_action_is_enough_and_needed(kind: Fleets) {
    let moto = Moto::start();
    let team = Team::new(&moto, kind).await;
    let allowed = team.allowed();
    let exactly = team.clients_allowed(&moto, &allowed).await;
    check(&moto, true).await;
    assert_eq!(team.roll_out(exactly.clone(), 0, LONG).await, Ok(Outcome::Promoted));
    let first = team.called(&allowed);
    assert_eq!(team.roll_out(exactly, 1, LONG).await, Ok(Outcome::Promoted));
    let both = team.called(&allowed);
    assert!(first.len() > 10 && both.len() > first.len() + 2, "{both:?}");

    // What is needed only to take the place of a release is missed by the second rollout.
    check(&moto, false).await;
    let prepared = futures_util::stream::iter(&both).map(|missing| {
        let (moto, allowed, first) = (&moto, &allowed, &first);
        async move {
            let team = Team::new(moto, kind).await;
            let mut actions = allowed.clone();
            actions.remove(missing);
            let clients = team.clients_allowed(moto, &actions).await;
            if !first.contains(missing) {
                assert_eq!(team.roll_out(team.account.clients(), 0, LONG).await, Ok(Outcome::Promoted));
            }
            (missing, team, clients, usize::from(!first.contains(missing)))
        }
    });
    let prepared: Vec<_> = prepared.buffer_unordered(AT_ONCE).collect().await;
    check(&moto, true).await;
    let told = futures_util::stream::iter(prepared)
        .map(|(missing, team, clients, image)| async move { (missing, team.roll_out(clients, image, PATIENCE).await) });
    let told: Vec<_> = told.buffer_unordered(AT_ONCE).collect().await;
    let names_it = |(missing, ended): &(&String, Result<Outcome, String>)| match ended {
        Ok(Outcome::Promoted) => false,
        Ok(outcome) => outcome.to_string().contains(missing.as_str()),
        Err(error) => error.contains(missing.as_str()),
    };
    let silent: Vec<_> = told.iter().filter(|one| !names_it(one)).collect();
    assert!(silent.is_empty(), "not named: {silent:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_policy_for_groups_is_enough_and_every_action_in_it_is_needed() {
    every_action_is_enough_and_needed(Fleets::AutoScaling).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_policy_for_instances_is_enough_and_every_action_in_it_is_needed() {
    every_action_is_enough_and_needed(Fleets::Instances).await;
}
