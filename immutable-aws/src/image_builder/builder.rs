//! The instance that an image is built on.

use std::collections::BTreeSet;
use std::time::Duration;

use aws_sdk_ec2::types::{
    BlockDeviceMapping, EbsBlockDevice, HttpTokensState, IamInstanceProfileSpecification, Instance,
    InstanceMetadataOptionsRequest, InstanceNetworkInterfaceSpecification, InstanceStateName, InstanceType,
    ResourceType, ShutdownBehavior,
};
use aws_smithy_types::error::metadata::ProvideErrorMetadata as _;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use immutable_core::model::{Fingerprint, ServiceName};
use immutable_core::provider::{Effect, ErrorKind, IdempotencyKey, ImageSpec, OpContext, ProviderError};
use immutable_guest::{Attempt, Build, Signal};
use jiff::Timestamp;

use super::ami::{self, Base};
use super::user_data::user_data;
use super::{ENSURE, told};
use crate::config::Config;
use crate::error::{failed, kind, unseen};
use crate::tags::{self, Tags};

/// Beside the time of the build itself: to boot, to switch off, and until its last words can be read, which are posted some minutes after they
/// were said: <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/troubleshoot-unreachable-instance.html>.
const TO_BOOT_AND_TO_BE_HEARD: Duration = Duration::from_mins(15);
/// How long after a builder that EC2 has ended at its launch no other one is started. EC2 tells of an ended instance for about an hour, but nobody can
/// say when what was missing is there.
const AFTER_A_FAILED_LAUNCH: Duration = Duration::from_mins(3);

/// A builder as EC2 tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Builder {
    pub(super) id: String,
    pub(super) state: InstanceStateName,
    pub(super) launched: Timestamp,
    pub(super) tags: Tags,
    /// Why it is in its state, as a code of EC2.
    pub(super) reason: Option<String>,
}

impl Builder {
    fn read(instance: &Instance) -> Option<Self> {
        let launched = instance.launch_time()?;
        Some(Self {
            id: instance.instance_id()?.to_owned(),
            state: instance.state()?.name()?.clone(),
            launched: Timestamp::from_second(launched.secs()).ok()?,
            tags: tags::read(instance.tags()),
            reason: instance.state_reason().and_then(|reason| reason.code()).map(str::to_owned),
        })
    }

    /// Whether it is there and stays there.
    pub(super) fn is_alive(&self) -> bool {
        !matches!(self.state, InstanceStateName::ShuttingDown | InstanceStateName::Terminated)
    }

    pub(super) fn is_for(&self, recipe: &Fingerprint) -> bool {
        self.tags.get(tags::RECIPE) == Some(&recipe.to_string())
    }

    /// Whether nobody needs it any more, whoever started it and whatever for.
    pub(super) fn is_expired(&self, now: Timestamp) -> bool {
        let expires = self.tags.get(tags::EXPIRES_AT).and_then(|at| at.parse::<Timestamp>().ok());
        expires.is_some_and(|expires| expires <= now)
    }

    /// Whether it has had its time.
    pub(super) fn is_late(&self, deadline: Duration, now: Timestamp) -> bool {
        let time = deadline.saturating_add(TO_BOOT_AND_TO_BE_HEARD).as_secs();
        let taken = now.as_second().saturating_sub(self.launched.as_second());
        u64::try_from(taken).is_ok_and(|taken| taken > time)
    }

    /// Why EC2 has ended it, if nobody has asked for that and it does not switch itself off:
    /// <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_StateReason.html>.
    fn failure(&self) -> Option<&str> {
        const MEANT: [&str; 3] =
            ["Client.UserInitiatedShutdown", "Client.InstanceInitiatedShutdown", "Client.UserInitiatedHibernate"];
        let is_failure =
            |code: &&str| (code.starts_with("Client.") || code.starts_with("Server.")) && !MEANT.contains(code);
        self.reason.as_deref().filter(is_failure)
    }
}

/// Why no builder should be started at the moment: EC2 has ended the newest of those that are gone, and has ended it at its launch.
pub(super) fn failed_launch(gone: &[&Builder], now: Timestamp, before: Effect) -> Option<ProviderError> {
    let newest = gone.iter().max_by_key(|builder| (builder.launched, &builder.id))?;
    let code = newest.failure()?;
    let since = u64::try_from(now.as_second().saturating_sub(newest.launched.as_second())).unwrap_or(0);
    let left = AFTER_A_FAILED_LAUNCH.checked_sub(Duration::from_secs(since)).filter(|left| !left.is_zero())?;
    let (side, rest) = code.split_once('.')?;
    let kind = match (kind(rest), side) {
        (Some(kind @ (ErrorKind::Quota | ErrorKind::Capacity)), _) => kind,
        (_, "Server") => ErrorKind::Unavailable,
        _ => ErrorKind::InvalidRequest,
    };
    let advice = match (kind, rest) {
        (ErrorKind::InvalidRequest, "InternalError") => ", which is mostly a KMS key that may not be used",
        _ => "",
    };
    let problem = format!("EC2 has ended builder {} as it started it, with {code}{advice}", newest.id);
    Some(told(kind, problem, before).with_retry_after(left))
}

/// All builders of a service, of all pages, those that are gone included as long as EC2 tells of them.
pub(super) async fn of_service(config: &Config, service: &ServiceName) -> Result<Vec<Builder>, ProviderError> {
    let request = config.clients.ec2.describe_instances().filters(tags::of_service(service));
    let request = request.filters(ami::filter(&format!("tag:{}", tags::ROLE), tags::BUILDER));
    // A thousand is the most that a page can have:
    // https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeInstances.html
    let pages = request.into_paginator().page_size(1000).items().send();
    let found = pages.collect::<Result<Vec<_>, _>>().await.map_err(|error| unseen(ENSURE, Effect::None, error))?;
    let instances = found.iter().flat_map(aws_sdk_ec2::types::Reservation::instances);
    Ok(instances.filter_map(Builder::read).collect())
}

/// What a builder is started for.
#[derive(Debug)]
pub(super) struct Order<'a> {
    pub(super) cx: &'a OpContext,
    pub(super) spec: &'a ImageSpec,
    pub(super) plan: &'a Build,
    pub(super) base: Base,
    /// Builders of the recipe that have ended: a new one is not the one that they were.
    pub(super) gone: BTreeSet<&'a str>,
    pub(super) now: Timestamp,
}

/// Starts the builder of a recipe, once however often it is asked for within the hour. Whether this was it, and not somebody else.
pub(super) async fn start(config: &Config, order: &Order<'_>, before: Effect) -> Result<bool, ProviderError> {
    let (images, plan) = (&config.images, order.plan);
    let expires = expires_at(images.deadline, order.now);
    let gone: Vec<&str> = order.gone.iter().copied().collect();
    let token =
        IdempotencyKey::of(&["builder", &plan.fingerprint().to_string(), &expires.to_string(), &gone.join(" ")]);
    let attempt = Attempt { nonce: token.as_str().to_owned(), deadline: images.deadline };
    let user_data = user_data(plan, &attempt).map_err(|problem| told(ErrorKind::InvalidRequest, problem, before))?;
    let tags = tags_of(order, &attempt, expires);
    let kind = images.instance_type.as_ref().or(config.launch.instance_types.first());
    let metadata = InstanceMetadataOptionsRequest::builder().http_tokens(HttpTokensState::Required).build();
    let profile = images.instance_profile.as_ref();
    let mut request = config
        .clients
        .ec2
        .run_instances()
        .client_token(token.as_str())
        .min_count(1)
        .max_count(1)
        .image_id(plan.base().id.as_str())
        .set_instance_type(kind.map(|kind| InstanceType::from(kind.as_str())))
        .user_data(BASE64_STANDARD.encode(user_data))
        .metadata_options(metadata)
        .network_interfaces(interface(config))
        .set_iam_instance_profile(profile.map(|name| IamInstanceProfileSpecification::builder().name(name).build()))
        .instance_initiated_shutdown_behavior(ShutdownBehavior::Stop)
        .set_block_device_mappings(Some(volumes(config, &order.base.volumes)));
    for of in [ResourceType::Instance, ResourceType::Volume, ResourceType::NetworkInterface] {
        request = request.tag_specifications(tags::specification(of, &tags));
    }
    match request.send().await {
        Ok(_) => Ok(true),
        // Somebody else has started it with other labels or settings, and theirs will do; or it has ended just now, and the next look
        // at the list tells so, after which the token is another one.
        Err(error) if matches!(error.code(), Some("IdempotentParameterMismatch" | "IdempotentInstanceTerminated")) => {
            Ok(false)
        }
        Err(error) => Err(failed(ENSURE, before, error)),
    }
}

/// The full hour after the deadline and an hour more: the same for all who start the same builder within an hour.
fn expires_at(deadline: Duration, now: Timestamp) -> Timestamp {
    const HOUR: i64 = 3600;
    let end = now.as_second().saturating_add(i64::try_from(deadline.as_secs()).unwrap_or(i64::MAX));
    let hour = end.div_euclid(HOUR).saturating_add(2).saturating_mul(HOUR);
    Timestamp::from_second(hour).unwrap_or(Timestamp::MAX)
}

/// What will be known of the image stands on its builder, so that whoever comes later can go on with it.
fn tags_of(order: &Order<'_>, attempt: &Attempt, expires: Timestamp) -> Tags {
    let spec = order.spec;
    let mut tags = ami::parent_tags(&order.base.parents);
    tags.extend(tags::tags([
        ("Name", ami::name(&spec.service, &order.plan.fingerprint()).as_str()),
        (tags::SERVICE, spec.service.as_str()),
        (tags::ROLE, tags::BUILDER),
        (tags::RECIPE, &order.plan.fingerprint().to_string()),
        (tags::NONCE, &attempt.nonce),
        (tags::EXPIRES_AT, &expires.to_string()),
        (tags::VERSION, &spec.version),
    ]));
    tags.extend(spec.commit.iter().map(|commit| (tags::COMMIT.to_owned(), commit.clone())));
    tags.extend(order.cx.rollout.iter().map(|rollout| (tags::ROLLOUT.to_owned(), rollout.to_string())));
    tags
}

fn interface(config: &Config) -> InstanceNetworkInterfaceSpecification {
    let images = &config.images;
    InstanceNetworkInterfaceSpecification::builder()
        .device_index(0)
        .set_subnet_id(images.subnet.as_ref().or(config.launch.subnets.first()).cloned())
        .set_groups(Some(images.security_groups.as_ref().unwrap_or(&config.launch.security_groups).clone()))
        .associate_public_ip_address(config.launch.exceptions.public_address)
        .delete_on_termination(true)
        .build()
}

/// All volumes go with the builder, and all become part of the image.
fn volumes(config: &Config, devices: &BTreeSet<String>) -> Vec<BlockDeviceMapping> {
    let mut volume = EbsBlockDevice::builder().delete_on_termination(true);
    if !config.launch.exceptions.unencrypted_root_volume {
        volume = volume.encrypted(true).set_kms_key_id(config.launch.volume_key.clone());
    }
    let volume = volume.build();
    let mapping = |name: &String| BlockDeviceMapping::builder().device_name(name).ebs(volume.clone()).build();
    devices.iter().map(mapping).collect()
}

/// What a builder that has switched itself off has said, as far as EC2 tells of it yet.
pub(super) async fn listen(
    config: &Config,
    builder: &Builder,
    before: Effect,
) -> Result<Option<Signal>, ProviderError> {
    let nonce = builder.tags.get(tags::NONCE).map_or("", String::as_str);
    let request = config.clients.ec2.get_console_output().instance_id(&builder.id);
    let answer = request.clone().send().await.map_err(|error| unseen(ENSURE, before, error))?;
    if let Some(signal) = Signal::read(&said(answer.output()), nonce) {
        return Ok(Some(signal));
    }
    // What was posted last can be older than what was said last. Not every type of instance tells that, and not in every state.
    let latest = request.latest(true).send().await.ok();
    Ok(latest.and_then(|answer| Signal::read(&said(answer.output()), nonce)))
}

/// The text of a console. One that cannot be read is no reason to wait for ever: nothing was heard, and there is a deadline.
fn said(output: Option<&str>) -> String {
    let encoded: String = output.unwrap_or_default().chars().filter(|c| !c.is_ascii_whitespace()).collect();
    String::from_utf8_lossy(&BASE64_STANDARD.decode(encoded).unwrap_or_default()).into_owned()
}

/// Ends builders. One that is gone has ended. What the call has done so far, afterwards.
pub(super) async fn end<'a>(
    config: &Config,
    builders: impl IntoIterator<Item = &'a Builder>,
    before: Effect,
) -> Result<Effect, ProviderError> {
    let ids: Vec<String> = builders.into_iter().map(|builder| builder.id.clone()).collect();
    let mut effect = before;
    // One by one: of a batch with one that is gone, none is ended.
    for id in ids {
        if let Err(error) = config.clients.ec2.terminate_instances().instance_ids(id).send().await {
            let error = failed(ENSURE, effect, error);
            if error.kind() != ErrorKind::NotFound {
                return Err(error);
            }
        }
        effect = Effect::Unknown;
    }
    Ok(effect)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_starts_a_builder_within_the_hour_gives_it_the_same_end() {
        let at = |time: &str| expires_at(Duration::from_mins(30), time.parse().unwrap()).to_string();
        assert_eq!(at("2026-01-02T03:00:00Z"), "2026-01-02T05:00:00Z");
        assert_eq!(at("2026-01-02T03:29:59Z"), "2026-01-02T05:00:00Z");
        assert_eq!(at("2026-01-02T03:30:00Z"), "2026-01-02T06:00:00Z");
    }

    #[test]
    fn a_builder_is_late_only_after_it_could_have_been_heard() {
        let builder = Builder {
            id: "i-1".into(),
            state: InstanceStateName::Running,
            launched: "2026-01-02T03:00:00Z".parse().unwrap(),
            tags: tags::tags([(tags::EXPIRES_AT, "2026-01-02T05:00:00Z")]),
            reason: None,
        };
        let late = |time: &str| builder.is_late(Duration::from_mins(30), time.parse().unwrap());
        assert!(!late("2026-01-02T02:00:00Z"), "a clock that is behind");
        assert!(!late("2026-01-02T03:45:00Z"));
        assert!(late("2026-01-02T03:45:01Z"));
        assert!(!builder.is_expired("2026-01-02T04:59:59Z".parse().unwrap()));
        assert!(builder.is_expired("2026-01-02T05:00:00Z".parse().unwrap()));
        let unmarked = Builder { tags: Tags::new(), ..builder };
        assert!(!unmarked.is_expired("2030-01-01T00:00:00Z".parse().unwrap()));
    }
    #[test]
    fn a_builder_that_ec2_ends_at_its_launch_is_an_error_for_a_while() {
        let gone = |id: &str, launched: &str, reason: &str| Builder {
            id: id.into(),
            state: InstanceStateName::Terminated,
            launched: launched.parse().unwrap(),
            tags: Tags::new(),
            reason: Some(reason.to_owned()).filter(|reason| !reason.is_empty()),
        };
        let now: Timestamp = "2026-01-02T03:02:00Z".parse().unwrap();
        let cases = [
            ("Client.InternalError", Some(ErrorKind::InvalidRequest)),
            ("Client.InvalidKMSKey.InvalidState", Some(ErrorKind::InvalidRequest)),
            ("Client.InvalidSnapshot.NotFound", Some(ErrorKind::InvalidRequest)),
            ("Client.VolumeLimitExceeded", Some(ErrorKind::Quota)),
            ("Server.InternalError", Some(ErrorKind::Unavailable)),
            ("Server.InsufficientInstanceCapacity", Some(ErrorKind::Capacity)),
            ("Client.UserInitiatedShutdown", None),
            ("Client.InstanceInitiatedShutdown", None),
            ("", None),
        ];
        for (reason, kind) in cases {
            let (old, new) = (
                gone("i-2", "2026-01-02T02:30:00Z", "Server.InternalError"),
                gone("i-1", "2026-01-02T03:00:00Z", reason),
            );
            let error = failed_launch(&[&new, &old], now, Effect::None);
            assert_eq!(error.as_ref().map(ProviderError::kind), kind, "{reason}");
            let Some(error) = error else { continue };
            assert!(error.to_string().contains(reason) && error.to_string().contains("i-1"), "{error}");
            assert_eq!(error.retry_after(), Some(Duration::from_mins(1)), "{reason}");
            let later = "2026-01-02T03:03:00Z".parse().unwrap();
            assert!(failed_launch(&[&new], later, Effect::None).is_none(), "what was missing can be there now");
        }
    }

    #[test]
    fn a_console_is_read_in_lines_and_one_that_cannot_be_read_has_said_nothing() {
        assert_eq!(said(Some("aGVs\r\nbG8g\n dGhlcmU=\n")), "hello there");
        assert_eq!((said(Some("%%%")), said(Some("")), said(None)), Default::default());
    }
}
