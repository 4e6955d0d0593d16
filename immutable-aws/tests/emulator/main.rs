//! The test bed itself: what the proxy supplies is there, and what it does not touch is moto's.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../support/mod.rs"]
mod support;

use std::time::Duration;

use aws_sdk_autoscaling::types::LaunchTemplateSpecification;
use aws_sdk_ec2::error::ProvideErrorMetadata;
use aws_sdk_ec2::types::{InstanceStateName, InstanceType, RequestLaunchTemplateData};
use aws_sdk_elasticloadbalancingv2::types::{
    Action, ActionTypeEnum, ForwardActionConfig, TargetDescription, TargetGroupTuple, TargetHealthDescription,
};
use support::{Account, Moto, Options};

/// Slow enough for a busy machine to see each state.
async fn account() -> Account {
    let time = Duration::from_secs(3);
    let options =
        Options { boot: time, end: time, warm_up: time, drain: time, replacement: time, ..Options::default() };
    Account::open(Moto::shared(), options).await
}

/// Looks until it is so.
async fn until<T: PartialEq + std::fmt::Debug>(expected: &[T], mut look: impl AsyncFnMut() -> Vec<T>) {
    let begun = std::time::Instant::now();
    loop {
        let found = look().await;
        if found == expected {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "{found:?} and not {expected:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
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
    until(&[InstanceStateName::Running], async || states(&account).await).await;
    account.clients().ec2.terminate_instances().instance_ids(id).send().await.unwrap();
    assert_eq!(states(&account).await, [InstanceStateName::ShuttingDown]);
    until(&[InstanceStateName::Terminated], async || states(&account).await).await;
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

#[tokio::test]
async fn metrics_are_read_in_the_language_of_the_sdk() {
    use aws_sdk_cloudwatch::primitives::DateTime;
    use aws_sdk_cloudwatch::types::{Dimension, Metric, MetricDataQuery, MetricDatum, MetricStat};

    let account = account().await;
    let group = Dimension::builder().name("TargetGroup").value("targetgroup/web/1").build();
    let now = std::time::SystemTime::now();
    let seen = MetricDatum::builder().metric_name("RequestCount").dimensions(group.clone()).value(7.0);
    let seen = seen.timestamp(DateTime::from(now)).build();
    let put = account.own.cloudwatch.put_metric_data().namespace("AWS/ApplicationELB").metric_data(seen);
    put.send().await.unwrap();

    let metric =
        Metric::builder().namespace("AWS/ApplicationELB").metric_name("RequestCount").dimensions(group).build();
    let stat = MetricStat::builder().metric(metric).period(60).stat("Sum").build();
    let query = MetricDataQuery::builder().id("requests").metric_stat(stat).build();
    let minutes = |number: u64| Duration::from_secs(60 * number);
    let look = account.clients().cloudwatch.get_metric_data().metric_data_queries(query);
    let look = look.start_time(DateTime::from(now - minutes(5))).end_time(DateTime::from(now + minutes(1)));
    let found = look.send().await.unwrap();
    let result = &found.metric_data_results()[0];
    assert_eq!((result.values(), result.timestamps().len()), (&[7.0][..], 1), "{found:?}");
    let age = now.duration_since(result.timestamps()[0].try_into().unwrap()).unwrap();
    assert!(age < minutes(2), "{found:?}");
}

async fn health(account: &Account) -> Vec<String> {
    let look = account.clients().elb.describe_target_health().target_group_arn(&account.target_group);
    let found = look.send().await.unwrap();
    let state = |one: &TargetHealthDescription| Some(one.target_health()?.state()?.as_str().to_owned());
    found.target_health_descriptions().iter().filter_map(state).collect()
}

async fn forward(account: &Account, groups: &[(&str, i32)]) -> Result<(), String> {
    let tuple =
        |&(group, weight): &(&str, i32)| TargetGroupTuple::builder().target_group_arn(group).weight(weight).build();
    let forward = ForwardActionConfig::builder().set_target_groups(Some(groups.iter().map(tuple).collect())).build();
    let action = Action::builder().r#type(ActionTypeEnum::Forward).forward_config(forward).build();
    let modify = account.clients().elb.modify_listener().listener_arn(account.routes[0].as_str());
    let done = modify.default_actions(action).send().await;
    done.map(drop).map_err(|error| error.code().unwrap_or("no answer").to_owned())
}

#[tokio::test]
async fn a_target_warms_up_falls_ill_and_drains() {
    let account = account().await;
    let id = run(&account, "token", 0).await.unwrap();
    let (elb, target) = (account.clients().elb, TargetDescription::builder().id(&id).build());
    let register = elb.register_targets().target_group_arn(&account.target_group).targets(target.clone());
    let refused = register.clone().send().await.map_err(|error| error.code().map(str::to_owned));
    assert_eq!(refused.map(drop), Err(Some("InvalidTarget".to_owned())), "it does not run yet");
    until(&[InstanceStateName::Running], async || states(&account).await).await;
    register.send().await.unwrap();
    assert_eq!(health(&account).await, ["unused"]);
    forward(&account, &[(&account.target_group, 1)]).await.unwrap();
    assert_eq!(health(&account).await, ["initial"]);
    until(&["healthy".to_owned()], async || health(&account).await).await;
    assert!(account.proxy.set_ill(&id, true));
    assert_eq!(health(&account).await, ["unhealthy"]);
    for _ in 0..2 {
        let deregister = elb.deregister_targets().target_group_arn(&account.target_group).targets(target.clone());
        deregister.send().await.unwrap();
        assert_eq!(health(&account).await, ["draining"]);
    }
    until(&[], async || health(&account).await).await;
}

#[tokio::test]
async fn a_route_takes_weights_to_999_and_five_groups() {
    let account = account().await;
    let group = account.target_group.as_str();
    assert_eq!(forward(&account, &[(group, 999)]).await, Ok(()));
    assert_eq!(forward(&account, &[(group, 1000)]).await, Err("ValidationError".to_owned()));
    let names: Vec<_> = (0..6).map(|number| format!("{group}{number}")).collect();
    let six: Vec<_> = names.iter().map(|name| (name.as_str(), 1)).collect();
    assert_eq!(forward(&account, &six).await, Err("TooManyTargetGroups".to_owned()));
}

#[tokio::test]
async fn a_group_is_one_keeps_its_limit_and_replaces_its_dead() {
    let account = account().await;
    let (ec2, groups) = (account.clients().ec2, account.clients().autoscaling);
    let data = RequestLaunchTemplateData::builder().image_id(&account.images[0]);
    let data = data.instance_type(InstanceType::M7iLarge).build();
    ec2.create_launch_template().launch_template_name("web").launch_template_data(data).send().await.unwrap();
    let template = LaunchTemplateSpecification::builder().launch_template_name("web").version("1").build();
    let create = groups.create_auto_scaling_group().auto_scaling_group_name("web").launch_template(template);
    let create = create.min_size(0).max_size(2).desired_capacity(1).vpc_zone_identifier(&account.subnets[0]);
    create.clone().send().await.unwrap();
    assert_eq!(create.send().await.unwrap_err().code(), Some("AlreadyExists"));
    let size = |size| groups.set_desired_capacity().auto_scaling_group_name("web").desired_capacity(size).send();
    assert_eq!(size(3).await.unwrap_err().code(), Some("ValidationError"));

    let members = async || {
        let found = groups.describe_auto_scaling_instances().send().await.unwrap();
        let tell = |one: &aws_sdk_autoscaling::types::AutoScalingInstanceDetails| {
            [one.instance_id(), one.lifecycle_state(), one.health_status()].map(|text| text.unwrap().to_owned())
        };
        found.auto_scaling_instances().iter().map(tell).collect::<Vec<_>>()
    };
    let [first, state, _] = members().await.remove(0);
    assert_eq!(state, "Pending");
    assert!(account.proxy.kill(&first).await);
    assert_eq!(members().await[0][2], "Unhealthy");
    until(&[true], async || members().await.iter().map(|member| member[0] != first).collect()).await;

    // What is launched from a template later needs its image as well.
    ec2.deregister_image().image_id(&account.images[0]).send().await.unwrap();
    let template = aws_sdk_ec2::types::LaunchTemplateSpecification::builder().launch_template_name("web").build();
    let run = ec2.run_instances().launch_template(template).min_count(1).max_count(1).send().await;
    assert_eq!(run.unwrap_err().code(), Some("InvalidAMIID.Unavailable"));
}
