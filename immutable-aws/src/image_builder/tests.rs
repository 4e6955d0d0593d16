//! What the builder of images asks for, on answers that are written down: what an emulator does not show.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use immutable_core::provider::{Layer, Recipe};

use super::*;
use crate::testing::Script;

const NOW: &str = "2026-01-02T03:10:00Z";

fn spec() -> ImageSpec {
    let base = Some(AmiBuilder::base("ami-0").unwrap());
    let recipe = Recipe { base, layers: vec![Layer::Script("true".into())], command: vec!["app".into()] };
    ImageSpec { service: "web".parse().unwrap(), recipe, version: "1".into(), commit: None }
}

fn images(script: &Script) -> AmiBuilder {
    AmiBuilder::new(script.config()).with_clock(|| NOW.parse().unwrap())
}

async fn ensure(images: &AmiBuilder) -> Result<Progress<Image>, ProviderError> {
    images.ensure(&OpContext::standalone("build"), &spec()).await
}

fn recipe() -> String {
    Build::new(&EC2, &spec()).unwrap().fingerprint().to_string()
}

fn tag_set(tags: &[(&str, &str)]) -> String {
    let tag = |(key, value): &(&str, &str)| format!("<item><key>{key}</key><value>{value}</value></item>");
    format!("<tagSet>{}</tagSet>", tags.iter().map(tag).collect::<Vec<_>>().concat())
}

fn ami(id: &str, state: &str, built_at: &str, snapshot: &str) -> String {
    let volume = match snapshot {
        "" => String::new(),
        id => format!("<item><deviceName>/dev/xvda</deviceName><ebs><snapshotId>{id}</snapshotId></ebs></item>"),
    };
    let tags = tag_set(&[(tags::IMAGE, &recipe()), (tags::BUILT_AT, built_at), ("aws:of", "others")]);
    format!(
        "<item><imageId>{id}</imageId><imageState>{state}</imageState><name>it</name>\
         <blockDeviceMapping>{volume}</blockDeviceMapping>{tags}</item>"
    )
}

fn lists(script: &Script, amis: &[String], builder: &str) {
    script.answer_of_ec2("DescribeImages", &format!("<imagesSet>{}</imagesSet>", amis.concat()));
    let set = format!("<reservationSet><item><instancesSet>{builder}</instancesSet></item></reservationSet>");
    script.answer_of_ec2("DescribeInstances", &set);
}

fn builder(state: &str, launched: &str, reason: &str) -> String {
    let tags = tag_set(&[(tags::RECIPE, &recipe()), (tags::NONCE, "n"), ("Name", "it")]);
    format!(
        "<item><instanceId>i-1</instanceId><launchTime>{launched}</launchTime><instanceState><name>{state}</name></instanceState>\
         <stateReason><code>{reason}</code></stateReason>{tags}</item>"
    )
}

fn snapshots(ids: &[&str]) -> String {
    let item = |id: &&str| format!("<item><snapshotId>{id}</snapshotId></item>");
    format!("<snapshotSet>{}</snapshotSet>", ids.iter().map(item).collect::<Vec<_>>().concat())
}

/// A base with two volumes, and the answers to the start of a builder on it.
fn starts(script: &Script) {
    let device = |name: &str| format!("<item><deviceName>{name}</deviceName><ebs/></item>");
    let base = format!(
        "<item><imageId>ami-0</imageId><imageState>available</imageState><rootDeviceName>/dev/xvda</rootDeviceName>\
         <blockDeviceMapping>{}{}</blockDeviceMapping></item>",
        device("/dev/xvda"),
        device("/dev/sdb")
    );
    script.answer_of_ec2("DescribeImages", &format!("<imagesSet>{base}</imagesSet>"));
    script.answer_of_ec2("RunInstances", "");
}

#[tokio::test]
async fn a_builder_that_was_ended_at_its_launch_is_not_started_again_at_once() {
    let script = Script::default();
    let ended = |launched| builder("terminated", launched, "Client.InternalError");
    lists(&script, &[], &ended("2026-01-02T03:09:30Z"));
    let error = ensure(&images(&script)).await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (ErrorKind::InvalidRequest, Effect::None));
    assert!(error.to_string().contains("Client.InternalError"), "{error}");
    script.finish();

    lists(&script, &[], &ended("2026-01-02T03:00:00Z"));
    script.answer_of_ec2("DescribeSnapshots", &snapshots(&["snap-1"])).answer_of_ec2("DeleteSnapshot", "");
    starts(&script);
    assert!(ensure(&images(&script)).await.unwrap().done().is_none());
    let sent = script.finish();
    assert_eq!(sent[0].get("IncludeDisabled"), Some("true"));
    assert_eq!(sent[3].get("SnapshotId"), Some("snap-1"), "what a failed build has left");
    assert_eq!(sent[4].get("ImageId.1"), Some("ami-0"));
    for end in [".Ebs.Encrypted", ".Ebs.DeleteOnTermination"] {
        assert_eq!(sent[5].count(end), 2, "of each volume of the base: {:?}", sent[5]);
    }
}

#[tokio::test]
async fn an_image_that_is_deregistered_but_told_of_is_built_again() {
    let script = Script::default();
    lists(&script, &[ami("ami-1", "deregistered", NOW, "snap-1")], "");
    script.answer_of_ec2("DescribeSnapshots", &snapshots(&[]));
    starts(&script);
    assert!(ensure(&images(&script)).await.unwrap().done().is_none());
    script.finish();
}

#[tokio::test]
async fn a_builder_that_is_off_is_asked_for_its_latest_words_too() {
    let script = Script::default();
    let stopped = || builder("stopped", "2026-01-02T03:00:00Z", "Client.InstanceInitiatedShutdown");
    lists(&script, &[], &stopped());
    script.answer_of_ec2("GetConsoleOutput", "<output>%%%</output>");
    script.refuse_of_ec2("GetConsoleOutput", "UnsupportedOperation", "not of this type");
    assert!(ensure(&images(&script)).await.unwrap().done().is_none());
    script.finish();

    lists(&script, &[], &stopped());
    script.answer_of_ec2("GetConsoleOutput", "");
    let said = BASE64_STANDARD.encode("immutable n failed layers[0] with status 1");
    script.answer_of_ec2("GetConsoleOutput", &format!("<output>{said}</output>"));
    script.answer_of_ec2("TerminateInstances", "");
    let error = ensure(&images(&script)).await.unwrap_err();
    assert!(error.to_string().contains("layers[0] with status 1"), "{error}");
    assert_eq!(script.finish()[3].get("Latest"), Some("true"));
}

#[tokio::test]
async fn an_ami_of_somebody_else_with_the_name_is_told() {
    let script = Script::default();
    let done = format!("immutable n done {}", Fingerprint::of("it"));
    let create = |named: &str| {
        lists(&script, &[], &builder("stopped", "2026-01-02T03:00:00Z", ""));
        script.answer_of_ec2("GetConsoleOutput", &format!("<output>{}</output>", BASE64_STANDARD.encode(&done)));
        script.refuse_of_ec2("CreateImage", "InvalidAMIName.Duplicate", "in use");
        script.answer_of_ec2("DescribeImages", &format!("<imagesSet>{named}</imagesSet>"));
    };
    create("<item><imageId>ami-9</imageId></item>");
    let error = ensure(&images(&script)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.to_string().contains("ami-9"), "{error}");
    script.finish();
    create(&ami("ami-1", "pending", NOW, ""));
    assert!(ensure(&images(&script)).await.unwrap().done().is_none());
    script.finish();
}

/// A builder of images that copies them to another region, whose client asks at the same place.
fn copying(script: &Script) -> AmiBuilder {
    let mut config = script.config();
    config.images = ImageSettings::default().copy_to(ImageCopy::new(script.clients().ec2));
    AmiBuilder::new(config).with_clock(|| NOW.parse().unwrap())
}

#[tokio::test]
async fn a_copy_is_found_by_what_it_is_and_only_our_tags_are_copied() {
    let script = Script::default();
    let there = |amis: &[String]| {
        lists(&script, &[ami("ami-1", "available", NOW, "snap-1")], "");
        script.answer_of_ec2("DescribeImages", &format!("<imagesSet>{}</imagesSet>", amis.concat()));
    };
    for code in ["IdempotentParameterMismatch", "InvalidAMIName.Duplicate"] {
        there(&[]);
        script.answer_of_ec2("DescribeImages", "<imagesSet/>").refuse_of_ec2("CopyImage", code, "is begun");
        assert!(ensure(&copying(&script)).await.unwrap().done().is_none());
        let sent = script.finish();
        assert!(sent[4].parameters.values().all(|value| value != "aws:of"), "{:?}", sent[4]);
    }
    there(&[ami("ami-2", "available", "2025-01-01T00:00:00Z", "snap-2"), ami("ami-3", "available", NOW, "snap-3")]);
    assert!(ensure(&copying(&script)).await.unwrap().done().is_some());
    script.finish();

    there(&[ami("ami-2", "available", "2025-01-01T00:00:00Z", "snap-2")]);
    script.answer_of_ec2("DeregisterImage", "").answer_of_ec2("DeleteSnapshot", "");
    let error = ensure(&copying(&script)).await.unwrap_err();
    assert!(error.to_string().contains("ami-2"), "{error}");
    script.finish();

    there(&[]);
    script.answer_of_ec2("DescribeImages", "<imagesSet><item><imageId>ami-9</imageId></item></imagesSet>");
    assert_eq!(ensure(&copying(&script)).await.unwrap_err().kind(), ErrorKind::Conflict);
    script.finish();
}

#[tokio::test]
async fn a_group_whose_template_is_gone_keeps_no_image() {
    let script = Script::default();
    let group = |id: &str, tag: &str| {
        format!(
            "<member><AutoScalingGroupName>of-{id}</AutoScalingGroupName><LaunchTemplate><LaunchTemplateId>{id}</LaunchTemplateId>\
             <Version>1</Version></LaunchTemplate><Tags><member><Key>{tag}</Key><Value>x</Value></member></Tags></member>"
        )
    };
    let groups =
        [group("lt-1", "theirs"), group("lt-2", "theirs"), group("lt-3", tags::FLEET), group("lt-4", "theirs")];
    let groups = format!("<AutoScalingGroups>{}</AutoScalingGroups>", groups.concat());
    script.answer("DescribeAutoScalingGroups", &groups);
    script.refuse_of_ec2("DescribeLaunchTemplateVersions", "InvalidLaunchTemplateId.NotFound", "gone");
    script.refuse_of_ec2("DescribeLaunchTemplateVersions", "InvalidLaunchTemplateId.VersionNotFound", "gone");
    let data = "<launchTemplateData><imageId>ami-1</imageId></launchTemplateData>";
    let set = format!("<launchTemplateVersionSet><item>{data}</item></launchTemplateVersionSet>");
    script.answer_of_ec2("DescribeLaunchTemplateVersions", &set);
    let user = uses::group(&script.config(), "ami-1").await.unwrap().unwrap();
    assert!(user.contains("of-lt-4"), "{user}");
    assert_eq!(script.finish().len(), 4, "groups of fleets are not looked at");
}

#[tokio::test]
async fn copies_and_snapshots_are_removed_when_the_image_itself_is_gone() {
    let script = Script::default();
    let image = Image {
        id: "ami-1".parse().unwrap(),
        fingerprint: recipe().parse().unwrap(),
        parents: vec![],
        labels: ImageLabels { version: "1".into(), commit: None, built_at: NOW.parse().unwrap() },
    };
    let copy = || format!("<imagesSet>{}</imagesSet>", ami("ami-3", "available", NOW, "snap-3"));
    script.answer_of_ec2("DescribeImages", "<imagesSet/>").answer_of_ec2("DescribeImages", &copy());
    script.answer_of_ec2("DescribeInstances", "").answer_of_ec2("DescribeLaunchTemplates", "");
    script.answer_of_ec2("DescribeLaunchTemplateVersions", "").answer_of_ec2("DescribeImages", &copy());
    script.answer_of_ec2("DeregisterImage", "").answer_of_ec2("DeleteSnapshot", "");
    for _ in 0..2 {
        script.answer_of_ec2("DescribeImages", &copy()).answer_of_ec2("DescribeSnapshots", &snapshots(&[]));
    }
    // One that is built again keeps its own.
    script.answer_of_ec2(
        "DescribeImages",
        &format!("<imagesSet>{}</imagesSet>", ami("ami-5", "available", NOW, "snap-5")),
    );
    script.answer_of_ec2("DescribeSnapshots", &snapshots(&["snap-4", "snap-5"])).answer_of_ec2("DeleteSnapshot", "");
    let removed = copying(&script).remove(&OpContext::standalone("remove"), &image).await.unwrap();
    assert_eq!(removed, Progress::Done(()));
    let sent = script.finish();
    let of = |action: &str, name: &str| -> Vec<String> {
        sent.iter().filter(|one| one.action == action).filter_map(|one| one.get(name)).map(str::to_owned).collect()
    };
    assert_eq!(of("DeregisterImage", "ImageId"), ["ami-3"]);
    assert_eq!(of("DeleteSnapshot", "SnapshotId"), ["snap-3", "snap-4"]);
}
