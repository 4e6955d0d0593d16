//! The test bed itself: what the proxy supplies is there, and what it does not touch is moto's.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../support/mod.rs"]
mod support;

use std::time::Duration;

use aws_sdk_ec2::error::ProvideErrorMetadata;
use aws_sdk_ec2::types::InstanceStateName;
use support::{Account, Moto, Options};

async fn account() -> Account {
    Account::open(Moto::shared(), Options::default()).await
}

async fn run(account: &Account, token: &str, image: usize) -> Result<String, String> {
    let run = account.clients().ec2.run_instances().image_id(&account.images[image]).client_token(token);
    let run = run.min_count(1).max_count(1).subnet_id(&account.subnets[0]).send().await;
    let started = run.map_err(|error| error.code().unwrap_or("no answer").to_owned())?;
    Ok(started.instances()[0].instance_id().unwrap().to_owned())
}

async fn states(account: &Account) -> Vec<InstanceStateName> {
    let mut pages = account.clients().ec2.describe_instances().into_paginator().items().send();
    let mut states = Vec::new();
    while let Some(reservation) = pages.next().await {
        let reservation = reservation.unwrap();
        let of = |instance: &aws_sdk_ec2::types::Instance| instance.state().and_then(|state| state.name()).cloned();
        states.extend(reservation.instances().iter().filter_map(of));
    }
    states
}

#[tokio::test]
async fn a_token_stands_for_one_request() {
    let account = account().await;
    let first = run(&account, "token", 0).await;
    assert!(first.is_ok(), "{first:?}");
    assert_eq!(run(&account, "token", 0).await, first);
    assert_eq!(run(&account, "token", 1).await, Err("IdempotentParameterMismatch".to_owned()));
    assert_eq!(states(&account).await.len(), 1);
}

#[tokio::test]
async fn an_instance_boots_and_shuts_down() {
    let account = account().await;
    let id = run(&account, "token", 0).await.unwrap();
    assert_eq!(states(&account).await, [InstanceStateName::Pending]);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(states(&account).await, [InstanceStateName::Running]);
    account.clients().ec2.terminate_instances().instance_ids(id).send().await.unwrap();
    assert_eq!(states(&account).await, [InstanceStateName::ShuttingDown]);
    tokio::time::sleep(Duration::from_millis(250)).await;
    assert_eq!(states(&account).await, [InstanceStateName::Terminated]);
}

#[tokio::test]
async fn lists_come_in_pages_and_accounts_are_apart() {
    let (account, other) = (account().await, account().await);
    for number in 0..7 {
        run(&account, &format!("token-{number}"), 0).await.unwrap();
    }
    assert_eq!(states(&account).await.len(), 7);
    assert_eq!(account.proxy.calls()["DescribeInstances"], 3);
    assert_eq!(states(&other).await, []);
}

#[tokio::test]
async fn answers_are_lost_and_refused_on_demand() {
    let account = account().await;
    account.proxy.lose_next(&["RunInstances"]);
    account.proxy.refuse_next(&["CreateFleet"], "InsufficientInstanceCapacity");
    assert_eq!(run(&account, "token", 0).await, Err("no answer".to_owned()));
    assert_eq!(states(&account).await.len(), 1);
    account.proxy.throttle_next(&["RunInstances"]);
    assert_eq!(run(&account, "another", 0).await, Err("RequestLimitExceeded".to_owned()));
    account.proxy.refuse_next(&["RunInstances"], "InsufficientInstanceCapacity");
    assert_eq!(run(&account, "another", 0).await, Err("InsufficientInstanceCapacity".to_owned()));
    assert_eq!(states(&account).await.len(), 1);
    assert_eq!(account.proxy.calls()["RunInstances"], 3);
}
