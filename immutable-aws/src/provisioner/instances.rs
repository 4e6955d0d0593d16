//! Fleets as plain instances.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_ec2::operation::create_fleet::CreateFleetOutput;
use aws_sdk_ec2::types::{
    CreateFleetError, FleetData, FleetLaunchTemplateConfigRequest, FleetLaunchTemplateOverridesRequest,
    FleetLaunchTemplateSpecificationRequest, FleetOnDemandAllocationStrategy, FleetType,
    InstanceNetworkInterfaceSpecification, InstanceStateName, InstanceType, LaunchTemplateSpecification,
    OnDemandOptionsRequest, ResourceType, TargetCapacitySpecificationRequest,
};
use aws_smithy_types::DateTime;
use immutable_core::decide::RetireProof;
use immutable_core::model::{FleetId, FleetSpec, ServiceName};
use immutable_core::provider::{
    Effect, ErrorKind, FleetsState, IdempotencyKey, OpContext, Progress, ProviderError, Provisioner,
    ProvisionerCapabilities,
};

use super::survey::{self, Of, Parts};
use super::{ENSURE, OBSERVE, REMOVE, RETIRE, launch_template, removal, within_limit};
use crate::config::Config;
use crate::error::{self, failed};
use crate::tags::{self, Tags};

/// So many requests to start an instance are sent in a call. EC2 lets an account send five at once, and two each second after
/// that: <https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-throttling.html>.
const STARTS_AT_ONCE: usize = 5;

/// A request to start an instance that was first sent longer ago has been answered before.
const REPEATED_AFTER_SECONDS: i64 = 30;

/// An instance that EC2 does not list and whose start is longer ago is gone, not new.
const LISTED_WITHIN_SECONDS: i64 = 600;

/// Keeps each fleet as plain instances. Nothing replaces one that fails but the engine.
///
/// Each instance has a place in its fleet, and the client token of its start is made from the place: however often, and by however many, the same
/// place is filled, there is one instance in it. With one type and one subnet it is started by `RunInstances`, with several by
/// `CreateFleet` of type instant, which takes the first type that there is room for, in the zones by turns.
#[derive(Clone)]
pub struct Ec2Provisioner {
    config: Config,
    /// Places, with the template of their fleet, that nobody can be started in any more. What is not known here is learned again, a few places
    /// a call.
    spent: Arc<Mutex<BTreeSet<(String, u32)>>>,
}

/// What a request to fill a place has come to.
enum Filled {
    /// An instance is in it.
    Alive,
    /// Its instance has ended, and EC2 remembers that: nobody can ever be started in this place again.
    Spent,
}

impl Ec2Provisioner {
    /// A provisioner with these settings.
    pub fn new(config: Config) -> Self {
        Self { config, spent: Arc::default() }
    }

    async fn fill(
        &self,
        spec: &FleetSpec,
        template: &str,
        place: u32,
        parts: &Parts,
        before: Effect,
    ) -> Result<Filled, ProviderError> {
        // What stands in the template is the same for every rollout that grows the fleet, as it has to be for the same token.
        let made = parts.template.as_ref().map(|template| tags::read(template.tags()));
        let mut tags = made.unwrap_or_else(|| launch_template::tags_of(&self.config, spec));
        tags.insert(tags::PLACE.to_owned(), place.to_string());
        // A fleet that was removed and is made again has another template, and so other tokens.
        let token = IdempotencyKey::of(&["place", template, &place.to_string()]);
        let launch = &self.config.launch;
        if let ([_], [subnet]) = (launch.instance_types.as_slice(), launch.subnets.as_slice()) {
            self.run(template, subnet, &token, &tags, before).await
        } else {
            let answer = self.run_one_of_several(template, place, &token, &tags, before).await?;
            match answer.instances().iter().flat_map(aws_sdk_ec2::types::CreateFleetInstance::instance_ids).next() {
                Some(instance) => self.is_alive(instance, answer.fleet_id(), parts).await,
                // The answer of the first time: there may be room again, and this request will never find it.
                None if self.is_old(answer.fleet_id(), REPEATED_AFTER_SECONDS).await? => Ok(Filled::Spent),
                None => Err(refusal(before, answer.errors())),
            }
        }
    }

    async fn run(
        &self,
        template: &str,
        subnet: &str,
        token: &IdempotencyKey,
        tags: &Tags,
        before: Effect,
    ) -> Result<Filled, ProviderError> {
        let launch = &self.config.launch;
        let template = LaunchTemplateSpecification::builder()
            .launch_template_id(template)
            .version(launch_template::VERSION)
            .build();
        // An interface in the template and a subnet beside it would contradict each other.
        let interface = InstanceNetworkInterfaceSpecification::builder()
            .device_index(0)
            .subnet_id(subnet)
            .set_groups(Some(launch.security_groups.clone()))
            .associate_public_ip_address(launch.exceptions.public_address)
            .delete_on_termination(true)
            .build();
        let request = self.config.clients.ec2.run_instances().launch_template(template).network_interfaces(interface);
        let request = request.min_count(1).max_count(1).client_token(token.as_str());
        let request = request.tag_specifications(tags::specification(ResourceType::Instance, tags));
        match request.send().await {
            Ok(started) => {
                let state = started.instances().first().and_then(|one| one.state()).and_then(|state| state.name());
                Ok(if state.is_some_and(has_ended) { Filled::Spent } else { Filled::Alive })
            }
            Err(error) if error.as_service_error().and_then(code) == Some("IdempotentInstanceTerminated") => {
                Ok(Filled::Spent)
            }
            Err(error) => Err(failed(ENSURE, before, error)),
        }
    }

    async fn run_one_of_several(
        &self,
        template: &str,
        place: u32,
        token: &IdempotencyKey,
        tags: &Tags,
        before: Effect,
    ) -> Result<CreateFleetOutput, ProviderError> {
        let specification = FleetLaunchTemplateSpecificationRequest::builder()
            .launch_template_id(template)
            .version(launch_template::VERSION)
            .build();
        let choice = FleetLaunchTemplateConfigRequest::builder()
            .launch_template_specification(specification)
            .set_overrides(Some(self.overrides(place)))
            .build();
        let prioritized = FleetOnDemandAllocationStrategy::Prioritized;
        let one = TargetCapacitySpecificationRequest::builder()
            .total_target_capacity(1)
            .default_target_capacity_type(aws_sdk_ec2::types::DefaultTargetCapacityType::OnDemand)
            .build();
        let request = self.config.clients.ec2.create_fleet().r#type(FleetType::Instant).client_token(token.as_str());
        let request = request.launch_template_configs(choice).target_capacity_specification(one);
        let request =
            request.on_demand_options(OnDemandOptionsRequest::builder().allocation_strategy(prioritized).build());
        let request = request.tag_specifications(tags::specification(ResourceType::Fleet, tags));
        let request = request.tag_specifications(tags::specification(ResourceType::Instance, tags));
        request.send().await.map_err(|error| failed(ENSURE, before, error))
    }

    /// Each type in each subnet: the best type first, and of its subnets the one whose turn it is at this place.
    fn overrides(&self, place: u32) -> Vec<FleetLaunchTemplateOverridesRequest> {
        let launch = &self.config.launch;
        let (zones, turn) = (launch.subnets.len(), place as usize);
        let choices = launch.instance_types.iter().enumerate().flat_map(|(rank, kind)| {
            launch.subnets.iter().enumerate().map(move |(index, subnet)| {
                let priority = rank * zones + (index + zones - turn % zones) % zones;
                FleetLaunchTemplateOverridesRequest::builder()
                    .instance_type(InstanceType::from(kind.as_str()))
                    .subnet_id(subnet)
                    .priority(f64::from(u32::try_from(priority).unwrap_or(u32::MAX)))
                    .build()
            })
        });
        choices.collect()
    }

    /// Whether the instance that an answer names is one that was just started. A request that is sent again has the answer of the first
    /// time, though the instance may have ended since, and EC2 lists an ended one for about an hour only.
    async fn is_alive(&self, instance: &str, request: Option<&str>, parts: &Parts) -> Result<Filled, ProviderError> {
        if parts.lifecycles().contains_key(instance) {
            return Ok(Filled::Alive);
        }
        let ids = aws_sdk_ec2::types::Filter::builder().name("instance-id").values(instance).build();
        let found = self.config.clients.ec2.describe_instances().filters(ids).send().await;
        let found = found.map_err(|error| failed(ENSURE, Effect::Unknown, error))?;
        let mut found = found.reservations().iter().flat_map(aws_sdk_ec2::types::Reservation::instances);
        if let Some(state) = found.next().and_then(|one| one.state()).and_then(|state| state.name()) {
            return Ok(if has_ended(state) { Filled::Spent } else { Filled::Alive });
        }
        Ok(if self.is_old(request, LISTED_WITHIN_SECONDS).await? { Filled::Spent } else { Filled::Alive })
    }

    /// Whether the request that made this fleet of EC2's was first sent so long ago.
    async fn is_old(&self, request: Option<&str>, seconds: i64) -> Result<bool, ProviderError> {
        let Some(id) = request else { return Ok(false) };
        let made = self.config.clients.ec2.describe_fleets().fleet_ids(id).send().await;
        let made = made.map_err(|error| failed(ENSURE, Effect::Unknown, error))?;
        let made = made.fleets().first().and_then(FleetData::create_time).map(DateTime::secs);
        Ok(made.is_some_and(|made| made < jiff::Timestamp::now().as_second().saturating_sub(seconds)))
    }

    fn spent(&self, template: &str) -> Vec<u32> {
        let spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        spent.iter().filter(|(of, _)| of == template).map(|(_, place)| *place).collect()
    }

    fn remember_spent(&self, template: &str, place: u32) {
        self.spent.lock().unwrap_or_else(PoisonError::into_inner).insert((template.to_owned(), place));
    }
}

#[async_trait]
impl Provisioner for Ec2Provisioner {
    fn capabilities(&self) -> ProvisionerCapabilities {
        ProvisionerCapabilities { max_fleet_size: Some(self.config.max_fleet_size) }
    }

    async fn ensure(&self, _: &OpContext, spec: &FleetSpec) -> Result<Progress<()>, ProviderError> {
        let parts = survey::of_fleet(&self.config, ENSURE, &spec.id).await?;
        launch_template::bound(&self.config, ENSURE, spec, &parts)?;
        within_limit(&self.config, spec)?;
        let template = launch_template::ensure(&self.config, ENSURE, spec, &parts).await?;
        let mut missing = spec.size.saturating_sub(parts.live());
        let mut taken = places(&parts);
        taken.extend(self.spent(&template));
        // The lowest free place first: whoever else fills it at the same time, or whose start is not listed yet, has the same.
        let mut free = (0..).filter(|place| !taken.contains(place));
        let mut done = Effect::None;
        for _ in 0..STARTS_AT_ONCE {
            let Some(place) = free.next().filter(|_| missing > 0) else { return Ok(Progress::Done(())) };
            match self.fill(spec, &template, place, &parts, done).await? {
                Filled::Alive => missing -= 1,
                Filled::Spent => self.remember_spent(&template, place),
            }
            done = Effect::Unknown;
        }
        Ok(match missing {
            0 => Progress::Done(()),
            _ => Progress::Pending {
                retry_after: Duration::from_secs(2),
                note: format!("{missing} of {} instances of {} to be started", spec.size, spec.id),
            },
        })
    }

    async fn observe(&self, _: &OpContext, service: &ServiceName) -> Result<FleetsState, ProviderError> {
        survey::look(&self.config, OBSERVE, Of::Service(service)).await?.state()
    }

    async fn retire(&self, _: &OpContext, proof: &RetireProof) -> Result<Progress<()>, ProviderError> {
        let parts = survey::of_fleet(&self.config, RETIRE, proof.fleet()).await?;
        removal::terminate(&self.config, &removal::victims(&parts, proof)).await?;
        Ok(Progress::Done(()))
    }

    async fn remove(
        &self,
        _: &OpContext,
        service: &ServiceName,
        fleet: &FleetId,
    ) -> Result<Progress<()>, ProviderError> {
        let parts = survey::of_fleet(&self.config, REMOVE, fleet).await?;
        removal::remove(&self.config, service, fleet, &parts).await
    }
}

impl fmt::Debug for Ec2Provisioner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ec2Provisioner").finish_non_exhaustive()
    }
}

fn has_ended(state: &InstanceStateName) -> bool {
    matches!(state, InstanceStateName::ShuttingDown | InstanceStateName::Terminated)
}

fn code<E: aws_smithy_types::error::metadata::ProvideErrorMetadata>(error: &E) -> Option<&str> {
    error.code()
}

/// The places in which there is an instance, or was one not long ago. One that a person has started has none.
fn places(parts: &Parts) -> BTreeSet<u32> {
    let place = |instance: &aws_sdk_ec2::types::Instance| {
        tags::read(instance.tags()).get(tags::PLACE).and_then(|place| place.parse().ok())
    };
    parts.instances.iter().chain(&parts.gone).filter_map(place).collect()
}

/// Why no instance was started: the answer has an error for each choice. What no other choice would change counts first, and a choice that is
/// none counts last: one type may not exist in one zone.
fn refusal(before: Effect, errors: &[CreateFleetError]) -> ProviderError {
    const ORDER: [ErrorKind; 4] =
        [ErrorKind::Throttled, ErrorKind::PermissionDenied, ErrorKind::Quota, ErrorKind::Capacity];
    let rank = |error: &&CreateFleetError| ORDER.iter().position(|kind| *kind == meaning(error)).unwrap_or(ORDER.len());
    let Some(worst) = errors.iter().min_by_key(rank) else {
        let words = "no instance was started, and EC2 does not say why";
        return ProviderError::new(ErrorKind::Internal, ENSURE, words);
    };
    let words = format!(
        "{}: {}",
        worst.error_code().unwrap_or("no code"),
        worst.error_message().unwrap_or("no instance was started")
    );
    let refused = ProviderError::new(meaning(worst), ENSURE, words);
    if before == Effect::None { refused.without_effect() } else { refused }
}

fn meaning(error: &CreateFleetError) -> ErrorKind {
    // It comes with the code of a request that is wrong as a whole.
    let is_zone = |words: &str| words.contains("is not supported in your requested Availability Zone");
    if error.error_message().is_some_and(is_zone) {
        return ErrorKind::Capacity;
    }
    error.error_code().and_then(error::kind).unwrap_or(ErrorKind::Internal)
}
