//! What the provisioners ask for, on answers that are written down: what an emulator does not show.

use std::time::Duration;

use immutable_core::decide::{FleetView, InstanceView, Phase, RetireProof, World};
use immutable_core::model::{
    Fingerprint, FleetId, FleetSpec, Image, ImageLabels, InstanceId, LaunchSpec, Release, ServiceName, Split,
};
use immutable_core::provider::{Effect, ErrorKind, OpContext, Progress, Provisioner};
use jiff::Timestamp;

use super::{AutoScalingProvisioner, Ec2Provisioner, launch_template};
use crate::config::{Config, Fleets};
use crate::tags;
use crate::testing::Script;

fn spec(size: u32) -> FleetSpec {
    let labels = ImageLabels { version: "1".into(), commit: None, built_at: Timestamp::UNIX_EPOCH };
    let (id, fingerprint) = ("ami-1".parse().unwrap(), Fingerprint::of("one"));
    let release = Release::new(Image { id, fingerprint, parents: vec![], labels }, LaunchSpec::default());
    let service: ServiceName = "web".parse().unwrap();
    let id = FleetId::of(&service, &release.id());
    FleetSpec { id, service, release, size, rollout: "rollout-1".parse().unwrap() }
}

/// The tags of the fleet, in the way in which a service writes them.
fn tag_list(config: &Config, item: &str, [key, value]: [&str; 2]) -> String {
    let tags = launch_template::tags_of(config, &spec(0));
    let tag = |(k, v): (&String, &String)| format!("<{item}><{key}>{k}</{key}><{value}>{v}</{value}></{item}>");
    tags.iter().map(tag).collect::<Vec<_>>().concat()
}

/// The three lists that are read of a fleet: its template, its group with these members, and these instances with their states.
fn lists(script: &Script, config: &Config, group: Option<(u32, &str, &[&str])>, instances: &[(&str, &str)]) {
    let tags = tag_list(config, "item", ["key", "value"]);
    let template = format!("<item><launchTemplateId>lt-1</launchTemplateId><tagSet>{tags}</tagSet></item>");
    script.answer_of_ec2("DescribeLaunchTemplates", &format!("<launchTemplates>{template}</launchTemplates>"));
    if config.fleets == Fleets::AutoScaling {
        let group = group.map(|(desired, suspended, members)| group_of(config, desired, suspended, members));
        let groups = format!("<AutoScalingGroups>{}</AutoScalingGroups>", group.unwrap_or_default());
        script.answer("DescribeAutoScalingGroups", &groups);
    }
    let instance = |(id, state): &(&str, &str)| {
        format!(
            "<item><instanceId>{id}</instanceId><instanceState><name>{state}</name></instanceState><tagSet>{tags}</tagSet></item>"
        )
    };
    let instances: String = instances.iter().map(instance).collect::<Vec<_>>().concat();
    let set = format!("<reservationSet><item><instancesSet>{instances}</instancesSet></item></reservationSet>");
    script.answer_of_ec2("DescribeInstances", &set);
}

fn group_of(config: &Config, desired: u32, suspended: &str, members: &[&str]) -> String {
    let member =
        |id: &&str| format!("<member><InstanceId>{id}</InstanceId><LifecycleState>InService</LifecycleState></member>");
    let members: String = members.iter().map(member).collect::<Vec<_>>().concat();
    let process = |name: &str| format!("<member><ProcessName>{name}</ProcessName></member>");
    let suspended: String = suspended.split(' ').map(process).collect::<Vec<_>>().concat();
    let tags = tag_list(config, "member", ["Key", "Value"]);
    format!(
        "<member><AutoScalingGroupName>{}</AutoScalingGroupName><DesiredCapacity>{desired}</DesiredCapacity>\
         <Instances>{members}</Instances><SuspendedProcesses>{suspended}</SuspendedProcesses><Tags>{tags}</Tags></member>",
        spec(0).id
    )
}

fn proof(instances: &[&str]) -> RetireProof {
    let (fleet, ids): (_, Vec<InstanceId>) = (spec(0).id, instances.iter().map(|id| id.parse().unwrap()).collect());
    let view = |id: &InstanceId| InstanceView {
        id: id.clone(),
        phase: Phase::Drained,
        replace: false,
        dead: false,
        endpoint: None,
    };
    let fleets = vec![FleetView { id: fleet.clone(), instances: ids.iter().map(view).collect(), hold_growth: false }];
    let now = Timestamp::UNIX_EPOCH;
    let world = World { as_of: now, fleets, split: Split::closed(), version: "1".parse().unwrap() };
    RetireProof::new(&world, &fleet, &ids, now, Duration::ZERO).unwrap()
}

fn cx() -> OpContext {
    OpContext::standalone("test")
}

const USUAL: &str = "AZRebalance";

/// A policy that has lowered the desired capacity by one wants one end, and not a second one for the end itself.
#[tokio::test]
async fn the_desired_capacity_is_not_lowered_for_an_end_that_it_was_lowered_for_before() {
    for (desired, expected) in [(2, "false"), (3, "true")] {
        let script = Script::default();
        let config = script.config();
        let running = [("i-1", "running"), ("i-2", "running"), ("i-3", "running")];
        lists(&script, &config, Some((desired, USUAL, &["i-1", "i-2", "i-3"])), &running);
        script.answer("TerminateInstanceInAutoScalingGroup", "");
        let answer = AutoScalingProvisioner::new(config).retire(&cx(), &proof(&["i-2"])).await.unwrap();
        assert_eq!(answer, Progress::Done(()));
        let ended = script.finish().pop().unwrap();
        assert_eq!(ended.get("InstanceId"), Some("i-2"));
        assert_eq!(ended.get("ShouldDecrementDesiredCapacity"), Some(expected), "desired {desired}");
    }
}

#[tokio::test]
async fn a_dead_member_is_detached_so_that_the_group_replaces_it_and_is_ended_when_it_is_said_so() {
    let script = Script::default();
    let config = script.config();
    let provisioner = AutoScalingProvisioner::new(config.clone());
    lists(&script, &config, Some((2, USUAL, &["i-1", "i-2"])), &[("i-1", "running"), ("i-2", "stopped")]);
    script.answer("DetachInstances", "");
    assert!(matches!(provisioner.ensure(&cx(), &spec(2)).await.unwrap(), Progress::Pending { .. }));
    let detached = script.finish().pop().unwrap();
    assert_eq!(detached.get("InstanceIds.member.1"), Some("i-2"));
    assert_eq!((detached.count("member.2"), detached.get("ShouldDecrementDesiredCapacity")), (0, Some("false")));

    lists(&script, &config, Some((2, USUAL, &["i-1", "i-3"])), &[("i-1", "running"), ("i-2", "stopped")]);
    script.answer_of_ec2("TerminateInstances", "");
    assert_eq!(provisioner.retire(&cx(), &proof(&["i-2"])).await.unwrap(), Progress::Done(()));
    assert_eq!(script.finish().pop().unwrap().get("InstanceId.1"), Some("i-2"));
}

#[tokio::test]
async fn what_keeps_a_group_from_starting_instances_is_told_and_not_waited_for() {
    let script = Script::default();
    let config = script.config();
    let provisioner = AutoScalingProvisioner::new(config.clone());
    lists(&script, &config, Some((1, "AZRebalance Launch", &["i-1"])), &[("i-1", "running")]);
    let error = provisioner.ensure(&cx(), &spec(2)).await.unwrap_err();
    assert!(error.to_string().ends_with("is suspended: resume it"), "{error}");
    script.finish();

    let words = "We currently do not have sufficient m7i.large capacity in the Availability Zone you requested.";
    let activity = |age: i64, status: &str| {
        let at = Timestamp::from_second(Timestamp::now().as_second() - age).unwrap();
        format!(
            "<member><Description>Launching a new EC2 instance</Description><StatusCode>{status}</StatusCode>\
             <StatusMessage>{words}</StatusMessage><StartTime>{at}</StartTime></member>"
        )
    };
    for (activities, is_told) in [
        (activity(5, "Failed"), true),
        (activity(2, "InProgress") + &activity(5, "Failed"), false),
        (activity(3600, "Failed"), false),
        (String::new(), false),
    ] {
        lists(&script, &config, Some((2, USUAL, &["i-1"])), &[("i-1", "running")]);
        script.answer("DescribeScalingActivities", &format!("<Activities>{activities}</Activities>"));
        let answer = provisioner.ensure(&cx(), &spec(2)).await;
        script.finish();
        if is_told {
            let error = answer.unwrap_err();
            assert_eq!((error.kind(), error.effect()), (ErrorKind::Capacity, Effect::None), "{error}");
        } else {
            assert!(matches!(answer, Ok(Progress::Pending { .. })), "{answer:?}");
        }
    }
}

/// Settings for plain instances of several types.
fn instances(script: &Script) -> Config {
    let config = script.config();
    let launch =
        crate::config::Launch { instance_types: vec!["m7i.large".into(), "m7a.large".into()], ..config.launch };
    Config { fleets: Fleets::Instances, launch, ..config }
}

/// The same request, sent again a day later, has the answer of the first time.
#[tokio::test]
async fn a_place_whose_instance_is_long_gone_is_not_filled_again() {
    let script = Script::default();
    let config = instances(&script);
    lists(&script, &config, None, &[]);
    let created = |id: &str| {
        format!(
            "<fleetId>fleet-1</fleetId><fleetInstanceSet><item><instanceIds><item>{id}</item></instanceIds></item></fleetInstanceSet>"
        )
    };
    let made =
        "<fleetSet><item><fleetId>fleet-1</fleetId><createTime>2020-01-01T00:00:00.000Z</createTime></item></fleetSet>";
    script.answer_of_ec2("CreateFleet", &created("i-old"));
    script.answer_of_ec2("DescribeInstances", "<reservationSet/>").answer_of_ec2("DescribeFleets", made);
    script.answer_of_ec2("CreateFleet", &created("i-new"));
    let alive = "<reservationSet><item><instancesSet><item><instanceId>i-new</instanceId><instanceState><name>pending</name>\
                 </instanceState></item></instancesSet></item></reservationSet>";
    script.answer_of_ec2("DescribeInstances", alive);
    let answer = Ec2Provisioner::new(config).ensure(&cx(), &spec(1)).await.unwrap();
    assert_eq!(answer, Progress::Done(()));
    let sent = script.finish();
    let starts: Vec<_> = sent.iter().filter(|sent| sent.action == "CreateFleet").collect();
    assert_ne!(starts[0].get("ClientToken"), starts[1].get("ClientToken"));
    let place = |sent: &crate::testing::Sent| {
        let (name, _) = sent.parameters.iter().find(|(_, value)| *value == tags::PLACE).unwrap();
        sent.get(&name.replace("Key", "Value")).map(str::to_owned)
    };
    assert_eq!([place(starts[0]), place(starts[1])], [Some("0".to_owned()), Some("1".to_owned())]);
}

#[tokio::test]
async fn a_shortage_of_every_choice_is_a_shortage_and_anything_else_comes_first() {
    let error =
        |code: &str| format!("<item><errorCode>{code}</errorCode><errorMessage>{code} it is</errorMessage></item>");
    let short = error("InsufficientInstanceCapacity");
    for (errors, kind) in [
        (short.clone() + &short, ErrorKind::Capacity),
        (short.clone() + &error("UnauthorizedOperation"), ErrorKind::PermissionDenied),
        (short + &error("VcpuLimitExceeded"), ErrorKind::Quota),
    ] {
        let script = Script::default();
        let config = instances(&script);
        lists(&script, &config, None, &[]);
        script.answer_of_ec2("CreateFleet", &format!("<errorSet>{errors}</errorSet>"));
        let error = Ec2Provisioner::new(config).ensure(&cx(), &spec(1)).await.unwrap_err();
        assert_eq!((error.kind(), error.effect()), (kind, Effect::None), "{error}");
        script.finish();
    }
}

/// Each ended instance has spent its place for as long as EC2 remembers, and nobody lists it any more.
#[tokio::test]
async fn a_fleet_grows_again_however_many_of_its_instances_have_ended() {
    let script = Script::default();
    let config = Config { fleets: Fleets::Instances, ..script.config() };
    let provisioner = Ec2Provisioner::new(config.clone());
    lists(&script, &config, None, &[]);
    for _ in 0..5 {
        script.refuse_of_ec2("RunInstances", "IdempotentInstanceTerminated", "it has ended");
    }
    assert!(matches!(provisioner.ensure(&cx(), &spec(1)).await.unwrap(), Progress::Pending { .. }));
    let tried: Vec<_> = script.finish().iter().filter_map(|sent| sent.get("ClientToken").map(str::to_owned)).collect();
    lists(&script, &config, None, &[]);
    script.answer_of_ec2("RunInstances", "<instancesSet><item><instanceId>i-1</instanceId></item></instancesSet>");
    assert_eq!(provisioner.ensure(&cx(), &spec(1)).await.unwrap(), Progress::Done(()));
    let token = script.finish().pop().unwrap().get("ClientToken").unwrap().to_owned();
    assert!(tried.len() == 5 && !tried.contains(&token), "{token} of {tried:?}");
}

#[tokio::test]
async fn a_group_that_is_being_deleted_is_waited_for_and_one_that_is_too_small_may_grow() {
    let script = Script::default();
    let config = script.config();
    let provisioner = AutoScalingProvisioner::new(config.clone());
    let group = |extra: &str| {
        let group = group_of(&config, 0, USUAL, &[]).replace("</member>", &format!("{extra}</member>"));
        format!("<AutoScalingGroups>{group}</AutoScalingGroups>")
    };
    let ask = async |extra: &str| {
        script.answer_of_ec2("DescribeLaunchTemplates", "<launchTemplates/>");
        script.answer("DescribeAutoScalingGroups", &group(extra));
        script.answer_of_ec2("DescribeInstances", "<reservationSet/>");
        if extra.contains("MaxSize") {
            script.answer("UpdateAutoScalingGroup", "");
        }
        assert!(matches!(provisioner.ensure(&cx(), &spec(3)).await.unwrap(), Progress::Pending { .. }), "{extra}");
        script.finish().pop().unwrap()
    };
    assert_eq!(ask("<Status>Delete in progress</Status>").await.action, "DescribeInstances");
    let update = ask("<MaxSize>2</MaxSize>").await;
    assert_eq!((update.get("MaxSize"), update.get("DesiredCapacity")), (Some("500"), Some("3")));
}

/// One type that a zone does not have is told with the code of a request that is wrong.
#[tokio::test]
async fn a_type_that_a_zone_does_not_have_does_not_hide_a_shortage() {
    let (zone, short) = ("InvalidFleetConfiguration", "InsufficientInstanceCapacity");
    let words = "Your requested instance type (m7i.large) is not supported in your requested Availability Zone (a).";
    let errors = format!(
        "<item><errorCode>{zone}</errorCode><errorMessage>{words}</errorMessage></item>\
         <item><errorCode>{short}</errorCode><errorMessage>none left</errorMessage></item>"
    );
    let script = Script::default();
    let config = instances(&script);
    lists(&script, &config, None, &[]);
    script.answer_of_ec2("CreateFleet", &format!("<errorSet>{errors}</errorSet>"));
    let error = Ec2Provisioner::new(config).ensure(&cx(), &spec(1)).await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (ErrorKind::Capacity, Effect::None), "{error}");
    script.finish();
}
