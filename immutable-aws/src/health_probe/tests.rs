//! What each state means, and the requests by which it is learnt.

use aws_sdk_ec2::types::InstanceState;
use immutable_core::provider::ErrorKind;

use super::*;
use crate::testing::Script;

fn target(id: &str) -> ProbeTarget {
    ProbeTarget { instance: id.parse().unwrap(), fleet: "web-1".parse().unwrap(), endpoint: None }
}

#[test]
fn status_checks_are_good_when_both_are_passed_and_bad_when_one_is_failed() {
    let cases = [
        ("running", "ok", "ok", Look::Good),
        ("running", "ok", "initializing", Look::Unknown),
        ("running", "insufficient-data", "ok", Look::Unknown),
        ("running", "impaired", "ok", Look::Bad),
        ("running", "ok", "impaired", Look::Bad),
        ("running", "impaired", "initializing", Look::Bad),
        ("pending", "not-applicable", "not-applicable", Look::Unknown),
        ("stopped", "not-applicable", "not-applicable", Look::Bad),
        ("shutting-down", "ok", "ok", Look::Bad),
        ("terminated", "not-applicable", "not-applicable", Look::Bad),
    ];
    for (state, instance, system, expected) in cases {
        let summary = |status: &str| InstanceStatusSummary::builder().status(status.into()).build();
        let status = InstanceStatus::builder()
            .instance_state(InstanceState::builder().name(state.into()).build())
            .instance_status(summary(instance))
            .system_status(summary(system))
            .build();
        assert_eq!(status_look(&status).0, expected, "{state} {instance} {system}");
    }
    assert_eq!(status_look(&InstanceStatus::builder().build()).0, Look::Unknown);
}

#[test]
fn a_group_judges_those_who_are_in_service() {
    let cases = [
        ("HEALTHY", "InService", Look::Good),
        ("Healthy", "Standby", Look::Good),
        ("HEALTHY", "Pending:Wait", Look::Unknown),
        ("HEALTHY", "Terminating:Wait", Look::Unknown),
        ("UNHEALTHY", "InService", Look::Bad),
        ("Unhealthy", "Terminating", Look::Bad),
        ("", "", Look::Unknown),
    ];
    for (health, state, expected) in cases {
        let instance = Instance::builder().health_status(health).lifecycle_state(state.into()).build();
        assert_eq!(group_look(&instance).0, expected, "{health} {state}");
    }
}

fn status_of(id: &str) -> String {
    let ok = "<status>ok</status>";
    format!(
        "<item><instanceId>{id}</instanceId><instanceState><name>running</name></instanceState>\
         <systemStatus>{ok}</systemStatus><instanceStatus>{ok}</instanceStatus></item>"
    )
}

#[tokio::test]
async fn one_instance_that_ec2_does_not_know_blinds_nobody() {
    let script = Script::default();
    let unknown = "The instance IDs 'i-2, i-3' do not exist";
    script.refuse_of_ec2("DescribeInstanceStatus", "InvalidInstanceID.NotFound", unknown);
    let known = format!("<instanceStatusSet>{}{}</instanceStatusSet>", status_of("i-1"), status_of("i-4"));
    script.answer_of_ec2("DescribeInstanceStatus", &known);
    let found = statuses(&script.clients(), &["i-1", "i-2", "i-3", "i-4"].map(str::to_owned)).await.unwrap();
    assert_eq!(found.iter().filter_map(|status| status.instance_id()).collect::<Vec<_>>(), ["i-1", "i-4"]);
    let sent = script.finish();
    let asked: Vec<_> = sent[1].parameters.values().filter(|value| value.starts_with("i-")).collect();
    assert_eq!(asked, ["i-1", "i-4"]);
    // Once is enough: it is no reason to ask for ever.
    for _ in 0..2 {
        script.refuse_of_ec2(
            "DescribeInstanceStatus",
            "InvalidInstanceID.NotFound",
            "The instance ID 'i-1' does not exist",
        );
    }
    let ids = ["i-1", "i-2"].map(str::to_owned);
    assert!(statuses(&script.clients(), &ids).await.is_err());
    script.finish();
}

#[tokio::test]
async fn instances_are_asked_about_a_hundred_at_a_time_and_all_pages_are_read() {
    let script = Script::default();
    let page = |ids: std::ops::Range<u32>, next: &str| {
        let all: String = ids.map(|n| status_of(&format!("i-{n:03}"))).collect::<Vec<_>>().concat();
        format!("<instanceStatusSet>{all}</instanceStatusSet>{next}")
    };
    script.answer_of_ec2("DescribeInstanceStatus", &page(0..60, "<nextToken>more</nextToken>"));
    script.answer_of_ec2("DescribeInstanceStatus", &page(60..100, ""));
    script.answer_of_ec2("DescribeInstanceStatus", &page(100..130, ""));
    let probe = StatusCheckProbe::new(script.config());
    let cx = OpContext::standalone("look");
    let samples = probe.sample(&cx, &(0..130).map(|n| target(&format!("i-{n:03}"))).collect::<Vec<_>>()).await.unwrap();
    assert_eq!(samples.iter().filter(|sample| sample.look == Look::Good).count(), 130);
    let sent = script.finish();
    let asked: Vec<_> = sent.iter().map(|sent| (sent.parameters.len(), sent.get("NextToken"))).collect();
    assert_eq!(asked, [(101, None), (102, Some("more")), (31, None)]);
}

#[test]
fn only_instances_of_ec2_are_asked_about_and_each_once() {
    let target =
        |id: &str| ProbeTarget { instance: id.parse().unwrap(), fleet: "web-1".parse().unwrap(), endpoint: None };
    assert_eq!(ids(&[target("i-2"), target("i-1"), target("i-2"), target("silent-1")]), ["i-1", "i-2"]);
}

#[tokio::test]
async fn a_group_is_asked_about_once_and_who_is_not_in_it_has_no_sample() {
    let script = Script::default();
    let member = |(id, health, state): (&str, &str, &str)| {
        let told = format!("<HealthStatus>{health}</HealthStatus><LifecycleState>{state}</LifecycleState>");
        format!("<member><InstanceId>{id}</InstanceId>{told}</member>")
    };
    let members = [
        ("i-1", "Healthy", "InService"),
        ("i-2", "Unhealthy", "InService"),
        ("i-3", "Healthy", "Pending:Wait"),
        ("i-4", "Healthy", "InService"),
    ];
    let members = members.map(member).concat();
    let group = format!("<AutoScalingGroups><member><Instances>{members}</Instances></member></AutoScalingGroups>");
    script.answer("DescribeAutoScalingGroups", &group);
    let targets = ["i-1", "i-2", "i-3", "i-alone"].map(target);
    let probe = GroupHealthProbe::new(script.config());
    let samples = probe.sample(&OpContext::standalone("look"), &targets).await.unwrap();
    let looks: Vec<_> = samples.iter().map(|sample| (sample.instance.as_str(), sample.look)).collect();
    assert_eq!(looks, [("i-1", Look::Good), ("i-2", Look::Bad), ("i-3", Look::Unknown)]);
    let asked = script.finish().pop().unwrap();
    assert_eq!((asked.count("member.2"), asked.get("AutoScalingGroupNames.member.1")), (0, Some("immutable-web-1")));
}

#[tokio::test]
async fn bad_on_one_route_is_bad_and_only_those_who_were_asked_about_are_told_of() {
    let script = Script::default();
    let routes =
        ["1", "2", "3"].map(|id| format!("arn:aws:elasticloadbalancing:eu-central-1:1:listener/app/web/1/{id}"));
    let group =
        |arn: &str| format!("<TargetGroups><member><TargetGroupArn>{arn}</TargetGroupArn></member></TargetGroups>");
    let told = |targets: &[(&str, &str)]| {
        let told = |(id, state): &(&str, &str)| {
            format!(
                "<member><Target><Id>{id}</Id></Target><TargetHealth><State>{state}</State></TargetHealth></member>"
            )
        };
        let all = targets.iter().map(told).collect::<Vec<_>>().concat();
        format!("<TargetHealthDescriptions>{all}</TargetHealthDescriptions>")
    };
    script.answer("DescribeTargetGroups", &group("a"));
    script.answer(
        "DescribeTargetHealth",
        &told(&[("i-1", "healthy"), ("i-2", "healthy"), ("i-3", "initial"), ("i-9", "healthy")]),
    );
    // Nothing of this fleet is on the second route.
    script.refuse("DescribeTargetGroups", "TargetGroupNotFound");
    script.answer("DescribeTargetGroups", &group("c"));
    script.answer("DescribeTargetHealth", &told(&[("i-1", "unhealthy"), ("i-2", "draining")]));
    let config = script.config();
    let config = Config { routes: routes.iter().map(|route| route.parse().unwrap()).collect(), ..config };
    let probe = TargetHealthProbe::new(config);
    let targets = ["i-1", "i-2", "i-3", "i-4"].map(target);
    let samples = probe.sample(&OpContext::standalone("look"), &targets).await.unwrap();
    let looks: Vec<_> = samples.iter().map(|sample| (sample.instance.as_str(), sample.look)).collect();
    assert_eq!(looks, [("i-1", Look::Bad), ("i-2", Look::Good), ("i-3", Look::Unknown)]);
    let sent = script.finish();
    let names: Vec<_> = routes.iter().map(|route| target_groups::name(route, &"web-1".parse().unwrap())).collect();
    let asked: Vec<_> = sent.iter().filter_map(|sent| sent.get("Names.member.1")).collect();
    assert_eq!(asked, names);
}

#[tokio::test]
async fn a_probe_that_cannot_look_says_so() {
    let script = Script::default();
    script.refuse_of_ec2("DescribeInstanceStatus", "RequestLimitExceeded", "Request limit exceeded.");
    let probe = StatusCheckProbe::new(script.config());
    let error = probe.sample(&OpContext::standalone("look"), &[target("i-1")]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Throttled, "{error}");
    // No time is left: nobody is asked about, and nobody is judged.
    let cx = OpContext { timeout: std::time::Duration::ZERO, ..OpContext::standalone("look") };
    assert_eq!(probe.sample(&cx, &[target("i-1")]).await.unwrap(), []);
    script.finish();
}
