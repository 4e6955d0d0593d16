//! What becomes of images, their builders and their snapshots when things do not go as usual, on the emulator.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../support/mod.rs"]
mod support;

use std::time::Duration;

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_ec2::types::{Filter, ImageAttributeName, InstanceStateName, RequestLaunchTemplateData};
use immutable_aws::{AmiBuilder, ImageCopy, ImageSettings};
use immutable_core::model::{Fingerprint, Image, ServiceName};
use immutable_core::provider::{ErrorKind, ImageBuilder, ImageSpec, Layer, OpContext, Progress, ProviderError, Recipe};
use jiff::{SignedDuration, Timestamp};
use support::{Account, Moto, Options, credentials};

struct World {
    account: Account,
}

impl World {
    async fn new() -> Self {
        Self::with(Options::default()).await
    }

    async fn with(options: Options) -> Self {
        Self { account: Account::open(Moto::shared(), options).await }
    }

    /// A driver of its own, as another process would be.
    fn images(&self) -> AmiBuilder {
        AmiBuilder::new(self.account.config().build().unwrap())
    }

    fn spec(&self, script: &str) -> ImageSpec {
        let base = Some(AmiBuilder::base(&self.account.images[0]).unwrap());
        let recipe = Recipe { base, layers: vec![Layer::Script(script.to_owned())], command: vec!["app".to_owned()] };
        ImageSpec { service: service(), recipe, version: "1.0.0".to_owned(), commit: Some("abc".to_owned()) }
    }

    /// The builders that live.
    async fn builders(&self) -> Vec<String> {
        let of_role = Filter::builder().name("tag:immutable:role").values("builder").build();
        let found = self.account.own.ec2.describe_instances().filters(of_role).send().await.unwrap();
        let instances = found.reservations().iter().flat_map(aws_sdk_ec2::types::Reservation::instances);
        let living = instances
            .filter(|instance| instance.state().and_then(|state| state.name()) != Some(&InstanceStateName::Terminated));
        living.map(|instance| instance.instance_id().unwrap().to_owned()).collect()
    }

    async fn amis(&self) -> Vec<String> {
        let ours = Filter::builder().name("tag-key").values("immutable:image").build();
        let found = self.account.own.ec2.describe_images().owners("self").filters(ours).send().await.unwrap();
        found.images().iter().map(|ami| ami.image_id().unwrap().to_owned()).collect()
    }

    async fn snapshots(&self) -> usize {
        let ours = Filter::builder().name("tag-key").values("immutable:image").build();
        let found = self.account.own.ec2.describe_snapshots().filters(ours).send().await.unwrap();
        found.snapshots().len()
    }
}

fn service() -> ServiceName {
    "web".parse().unwrap()
}

fn cx() -> OpContext {
    OpContext::standalone("images")
}

/// Asks until it is done or has failed, past what the platform got wrong for a moment.
async fn build(images: &AmiBuilder, spec: &ImageSpec) -> Result<Image, ProviderError> {
    for _ in 0..200 {
        match images.ensure(&cx(), spec).await {
            Ok(Progress::Done(image)) => return Ok(image),
            Err(error) if matches!(error.kind(), ErrorKind::InvalidRequest | ErrorKind::Timeout) => return Err(error),
            Ok(Progress::Pending { .. }) | Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
    panic!("never done");
}

async fn remove(images: &AmiBuilder, image: &Image) -> Result<(), ProviderError> {
    for _ in 0..50 {
        match images.remove(&cx(), image).await? {
            Progress::Done(()) => return Ok(()),
            Progress::Pending { .. } => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
    panic!("never removed");
}

#[tokio::test]
async fn two_drivers_at_once_build_one_image_and_end_its_builder() {
    let world = World::new().await;
    let (one, two, mut spec) = (world.images(), world.images(), world.spec("true"));
    let other_labels = ImageSpec { version: "1.0.1".to_owned(), commit: None, ..spec.clone() };
    let (one, two) = tokio::join!(build(&one, &spec), build(&two, &other_labels));
    let image = one.unwrap();
    assert_eq!(two.unwrap(), image);
    assert_eq!(world.amis().await, [image.id.as_str()]);
    assert_eq!(world.builders().await, [""; 0]);
    assert_eq!(image.parents, [Fingerprint::of(&world.account.images[0])]);
    assert!(["1.0.0", "1.0.1"].contains(&image.labels.version.as_str()));

    spec.recipe.base = Some(image.clone());
    let child = build(&world.images(), &spec).await.unwrap();
    assert_eq!(child.parents, [image.fingerprint, image.parents[0]]);
}

#[tokio::test]
async fn a_step_that_fails_ends_the_builder_and_is_named() {
    let world = World::new().await;
    world.account.proxy.fail_next_build("layers[0]");
    let error = build(&world.images(), &world.spec("false")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidRequest);
    assert!(error.to_string().contains("layers[0] with status 1"), "{error}");
    assert_eq!(world.builders().await, [""; 0]);
    assert_eq!(world.amis().await, [""; 0]);
    // What was wrong lay outside of the recipe, and is mended.
    build(&world.images(), &world.spec("false")).await.unwrap();
    assert_eq!(world.builders().await, [""; 0]);
}

#[tokio::test]
async fn a_builder_that_never_says_anything_is_ended_at_its_deadline() {
    let world = World::with(Options { build: Duration::from_mins(10), ..Options::default() }).await;
    let spec = world.spec("sleep infinity");
    assert!(world.images().ensure(&cx(), &spec).await.unwrap().done().is_none());
    assert_eq!(world.builders().await.len(), 1);
    let in_time = SignedDuration::from_mins(44);
    let early = world.images().with_clock(move || Timestamp::now() + in_time);
    assert!(early.ensure(&cx(), &spec).await.unwrap().done().is_none());
    let late = world.images().with_clock(|| Timestamp::now() + SignedDuration::from_mins(46));
    let error = late.ensure(&cx(), &spec).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(error.to_string().contains("30 minutes"), "{error}");
    assert_eq!(world.builders().await, [""; 0]);
}

#[tokio::test]
async fn a_builder_that_was_left_behind_is_ended_by_whoever_comes_later() {
    let world = World::with(Options { build: Duration::from_mins(10), ..Options::default() }).await;
    world.images().ensure(&cx(), &world.spec("first")).await.unwrap();
    let left = world.builders().await;
    world.images().ensure(&cx(), &world.spec("second")).await.unwrap();
    assert_eq!(world.builders().await.len(), 2, "another build does not disturb it");
    let tomorrow = world.images().with_clock(|| Timestamp::now() + SignedDuration::from_hours(24));
    tomorrow.ensure(&cx(), &world.spec("third")).await.unwrap();
    let builders = world.builders().await;
    assert!(builders.len() == 1 && !builders.contains(&left[0]), "{builders:?}");
}

#[tokio::test]
async fn answers_that_are_lost_and_requests_that_are_throttled_make_no_second_image() {
    let world = World::new().await;
    let (images, spec) = (world.images(), world.spec("true"));
    for action in ["RunInstances", "CreateImage", "TerminateInstances"] {
        world.account.proxy.lose_next(&[action]);
    }
    let image = build(&images, &spec).await.unwrap();
    assert_eq!(world.amis().await, [image.id.as_str()]);
    assert_eq!(world.builders().await, [""; 0]);

    for action in ["DeregisterImage", "DeleteSnapshot"] {
        world.account.proxy.lose_next(&[action]);
    }
    for _ in 0..3 {
        let _ = images.remove(&cx(), &image).await;
    }
    assert_eq!((world.amis().await.len(), world.snapshots().await), (0, 0));
    assert_eq!(images.remove(&cx(), &image).await.unwrap(), Progress::Done(()));
}

#[tokio::test]
async fn a_removal_that_was_interrupted_is_brought_to_its_end() {
    let world = World::new().await;
    let (images, spec) = (world.images(), world.spec("true"));
    let image = build(&images, &spec).await.unwrap();
    assert_eq!(world.snapshots().await, 1);
    world.account.clients().ec2.deregister_image().image_id(image.id.as_str()).send().await.unwrap();
    remove(&images, &image).await.unwrap();
    assert_eq!(world.snapshots().await, 0);

    // The same content, built again meanwhile, is not what was left.
    let again = build(&images, &spec).await.unwrap();
    assert_ne!(again.id, image.id);
    remove(&images, &image).await.unwrap();
    assert_eq!((world.amis().await, world.snapshots().await), (vec![again.id.to_string()], 1));
}

#[tokio::test]
async fn an_image_that_a_launch_template_names_stays() {
    let world = World::new().await;
    let (images, ec2) = (world.images(), &world.account.own.ec2);
    let image = build(&images, &world.spec("true")).await.unwrap();
    let data = |ami: &str| RequestLaunchTemplateData::builder().image_id(ami).build();
    let create = ec2.create_launch_template().launch_template_name("theirs");
    create.launch_template_data(data(image.id.as_str())).send().await.unwrap();
    let error = remove(&images, &image).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.to_string().contains("launch template theirs names it"), "{error}");
    assert_eq!(world.amis().await, [image.id.as_str()]);

    // A group that starts instances from an older version needs it still.
    let version = ec2.create_launch_template_version().launch_template_name("theirs");
    version.launch_template_data(data(&world.account.images[1])).send().await.unwrap();
    ec2.modify_launch_template().launch_template_name("theirs").default_version("2").send().await.unwrap();
    let template = aws_sdk_autoscaling::types::LaunchTemplateSpecification::builder();
    let template = template.launch_template_name("theirs").version("1").build();
    let group = world.account.own.autoscaling.create_auto_scaling_group().auto_scaling_group_name("theirs");
    let group = group.min_size(0).max_size(1).desired_capacity(0).launch_template(template);
    group.vpc_zone_identifier(&world.account.subnets[0]).send().await.unwrap();
    let error = remove(&images, &image).await.unwrap_err();
    assert!(error.to_string().contains("Auto Scaling group theirs starts instances from it"), "{error}");
    let group = world.account.own.autoscaling.delete_auto_scaling_group().auto_scaling_group_name("theirs");
    group.send().await.unwrap();
    remove(&images, &image).await.unwrap();
    assert_eq!((world.amis().await.len(), world.snapshots().await), (0, 0));
}

#[tokio::test]
async fn an_image_of_somebody_else_is_not_removed() {
    let world = World::new().await;
    let theirs = AmiBuilder::base(&world.account.images[1]).unwrap();
    assert_eq!(remove(&world.images(), &theirs).await.unwrap_err().kind(), ErrorKind::InvalidRequest);
    let image = build(&world.images(), &world.spec("true")).await.unwrap();
    let mistaken = Image { fingerprint: Fingerprint::of("another"), ..image.clone() };
    assert_eq!(remove(&world.images(), &mistaken).await.unwrap_err().kind(), ErrorKind::InvalidRequest);
    assert_eq!(world.amis().await, [image.id.as_str()]);
}

#[tokio::test]
async fn an_image_is_copied_and_shared_as_asked_and_its_copies_go_with_it() {
    let world = World::new().await;
    let there = SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::from_static("eu-west-1"))
        .endpoint_url(world.account.proxy.endpoint())
        .credentials_provider(SharedCredentialsProvider::new(credentials()))
        .build();
    let there = immutable_aws::Clients::new(&there).ec2;
    let key = "arn:aws:kms:eu-central-1:123456789012:key/1";
    let settings = ImageSettings::default()
        .copy_to(ImageCopy::new(there.clone()).volume_key("arn:aws:kms:eu-west-1:123456789012:key/1"))
        .share_with(["210987654321"]);
    let config = world.account.config().volume_key(key).images(settings).build().unwrap();
    let images = AmiBuilder::new(config);
    // moto leaves the tags out that a copy is asked for with.
    let made = build(&world.images(), &world.spec("true")).await.unwrap();
    let _ = images.ensure(&cx(), &world.spec("true")).await.unwrap();
    let name = format!("immutable-web-{}", made.fingerprint.short());
    let named = Filter::builder().name("name").values(&name).build();
    let copied = there.describe_images().owners("self").filters(named).send().await.unwrap();
    let main = world.account.own.ec2.describe_images().image_ids(made.id.as_str()).send().await.unwrap();
    let tag = there.create_tags().resources(copied.images()[0].image_id().unwrap());
    tag.set_tags(Some(main.images()[0].tags().to_vec())).send().await.unwrap();
    let image = build(&images, &world.spec("true")).await.unwrap();
    let shown = || async {
        let named = Filter::builder().name("name").values(&name).build();
        let found = there.describe_images().owners("self").filters(named).send().await.unwrap();
        found.images().iter().map(|ami| ami.image_id().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let copy = shown().await;
    assert_eq!(copy.len(), 1);
    for (client, id) in [(&world.account.own.ec2, image.id.as_str()), (&there, copy[0].as_str())] {
        let request = client.describe_image_attribute().image_id(id).attribute(ImageAttributeName::LaunchPermission);
        let may = request.send().await.unwrap();
        assert_eq!(may.launch_permissions()[0].user_id(), Some("210987654321"));
    }
    let calls = world.account.proxy.calls();
    assert_eq!(build(&images, &world.spec("true")).await.unwrap(), image);
    let again = world.account.proxy.calls();
    for action in ["CopyImage", "ModifyImageAttribute", "CreateImage", "RunInstances"] {
        assert_eq!(calls.get(action), again.get(action), "{action}");
    }
    remove(&images, &image).await.unwrap();
    assert_eq!(shown().await, [""; 0]);
    assert_eq!(world.amis().await, [""; 0]);
}
