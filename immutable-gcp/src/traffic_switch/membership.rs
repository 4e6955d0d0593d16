//! Sharing traffic by the members of one backend service.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use async_trait::async_trait;
use google_cloud_compute_v1::model::{Backend, BackendService};
use immutable_core::model::{FleetId, RouteId, RouteVersion, Split, Weight};
use immutable_core::provider::{
    Assignment, ErrorKind, OpContext, Progress, ProviderError, SwitchKind, TrafficCapabilities, TrafficState,
    TrafficSwitch, VersionCheck,
};
use jiff::Timestamp;

use super::claim::{Claim, Version};
use super::members::{Members, is_unready};
use super::{APPLY, OBSERVE, text};
use crate::Config;
use crate::backends::{self, Place, ROUTE};
use crate::changes::until_seen;
use crate::endpoint_groups::{self, EndpointGroup, Machines, zone};
use crate::operation::SOON;
use crate::ownership::{self, Record};
use crate::task::Task;

/// The most endpoint groups that a backend service has. <https://docs.cloud.google.com/load-balancing/docs/quotas#backends>
const MOST_BACKENDS: usize = 50;

/// What the descriptions of backends of ours begin with. The rest is the last change of the route.
const MARK: &str = "immutable:";

/// Shares traffic by the members of a backend service, for balancers without URL maps: proxy and passthrough Network Load Balancers.
///
/// A route is a backend service, `global/backendServices/<name>` or `regions/<region>/backendServices/<name>`, whose backends, if it has
/// any, are zonal endpoint groups. Each fleet gets endpoint groups of its own there, one for each zone, balanced as those that
/// are there. Backends of somebody else's, and all else of the backend service, stay as they are. Who leaves is drained as the backend
/// service says (`connectionDraining`).
///
/// # Errors
/// `NotFound` for what is no backend service; `InvalidRequest` for one with instance groups, which cannot be mixed with endpoint groups.
///
/// # Cancellation
/// A dropped `apply` may have done some of its steps, in the order in which no request is lost: groups, members, and then those who go. The
/// same call again does the rest.
pub struct BackendServiceSwitch {
    config: Config,
}

impl BackendServiceSwitch {
    /// A switch for all backend services of the project.
    pub fn new(config: Config) -> Self {
        Self { config }
    }
}

impl fmt::Debug for BackendServiceSwitch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BackendServiceSwitch").finish_non_exhaustive()
    }
}

#[async_trait]
impl TrafficSwitch for BackendServiceSwitch {
    fn capabilities(&self) -> TrafficCapabilities {
        let zones = self.config.launch.location.zones().len().max(1);
        TrafficCapabilities {
            kind: SwitchKind::Membership,
            max_fleets: u32::try_from(MOST_BACKENDS / zones).ok(),
            version_check: VersionCheck::BeforeTheChange,
        }
    }

    async fn observe(&self, cx: &OpContext, route: &RouteId) -> Result<TrafficState, ProviderError> {
        let task = &Task::new(&self.config, OBSERVE, cx);
        let as_of = Timestamp::now();
        let state = State::read(task, route).await?;
        let members = state.fleets.values().flat_map(Members::all).collect();
        Ok(TrafficState { as_of, version: state.version().id(), split: state.split(), members })
    }

    async fn apply(
        &self,
        cx: &OpContext,
        route: &RouteId,
        assignment: &Assignment,
        expected: &RouteVersion,
    ) -> Result<Progress<()>, ProviderError> {
        let task = &Task::new(&self.config, APPLY, cx);
        let _turn = self.config.turns.take(route, APPLY)?;
        let state = State::read(task, route).await?;
        state.check_backends(APPLY)?;
        let has_claim = state.version().admit(&state.claim, (APPLY, route, task.key), expected, false)?;
        let call = Call { task, state: &state, assignment };
        let claim = if has_claim { state.claim.clone() } else { state.claim.next(task.key, expected) };
        if !has_claim && call.has_work() && !state.fleets.is_empty() {
            return state.write(task, &[], &claim).await;
        }
        call.run(&claim).await
    }
}

/// A backend service as it was read.
struct State {
    route: RouteId,
    place: Place,
    service: BackendService,
    /// What fleets have there.
    fleets: BTreeMap<FleetId, Members>,
    claim: Claim,
}

impl State {
    async fn read(task: &Task<'_>, route: &RouteId) -> Result<Self, ProviderError> {
        let missing = || {
            let message = format!("there is no {route} in project {}", task.config.project);
            ProviderError::new(ErrorKind::NotFound, task.operation, message).without_effect()
        };
        let place = Place::parse(route.as_str()).filter(|place| *route.as_str() == *place.id()).ok_or_else(missing)?;
        let service = place.get(task).await?.ok_or_else(missing)?;
        let mut fleets: BTreeMap<FleetId, (Record, Vec<EndpointGroup>)> = BTreeMap::new();
        for group in service.backends.iter().filter(|backend| is_ours(backend)).filter_map(group) {
            let found = endpoint_groups::get(task, &group).await?;
            let record = found.and_then(|found| Record::read(found.description.as_deref()));
            let record = record.filter(|record| record.get(ROUTE) == Some(route.as_str()));
            let Some(record) = record else { continue };
            let Ok(fleet) = record.fleet.parse::<FleetId>() else { continue };
            fleets.entry(fleet).or_insert_with(|| (record, Vec::new())).1.push(group);
        }
        let services: BTreeSet<&str> = fleets.values().map(|(record, _)| record.service.as_str()).collect();
        let machines = Machines::of(task, &services).await?;
        let link = service.self_link.clone().unwrap_or_default();
        let judged = !service.health_checks.is_empty();
        let mut members = BTreeMap::new();
        for (fleet, (_, groups)) in fleets {
            let listed = endpoint_groups::list(task, &groups, &machines, (&link, judged)).await?;
            members.insert(fleet.clone(), Members { fleet, groups, listed });
        }
        let claims = service.backends.iter().filter_map(|backend| backend.description.as_deref()?.strip_prefix(MARK));
        let claim = claims.map(Claim::read).max().unwrap_or_default();
        Ok(Self { route: route.clone(), place, service, fleets: members, claim })
    }

    /// Changes with every change of the members or of the backends, also by hand. What the balancer thinks of a member is no change.
    fn version(&self) -> Version {
        let places = self.fleets.values().flat_map(Members::places).collect::<Vec<_>>().join("\n");
        Version::of(&self.claim, &places, &text(&self.service.backends))
    }

    /// The fleets' shares of the members.
    fn split(&self) -> Split {
        let counts = self.fleets.values().map(|members| members.registered().count());
        let counts: Vec<u32> = counts.map(|count| u32::try_from(count).unwrap_or(u32::MAX)).collect();
        let shares: Vec<Weight> = Weight::from_parts(&counts);
        Split::new(self.fleets.keys().cloned().zip(shares)).unwrap_or_default()
    }

    fn check_backends(&self, operation: &'static str) -> Result<(), ProviderError> {
        if self.service.backends.iter().all(|backend| group(backend).is_some()) {
            return Ok(());
        }
        let message = format!(
            "{} has backends that are no zonal endpoint groups, with which members cannot be mixed: take a backend service without",
            self.route
        );
        Err(ProviderError::new(ErrorKind::InvalidRequest, operation, message).without_effect())
    }

    /// Writes the backends with more groups and this claim, if nobody has changed the backend service since it was read.
    async fn write(
        &self,
        task: &Task<'_>,
        more: &[EndpointGroup],
        claim: &Claim,
    ) -> Result<Progress<()>, ProviderError> {
        let mark = format!("{MARK}{claim}");
        let there = self.service.backends.iter().cloned();
        let there = there.map(|backend| if is_ours(&backend) { backend.set_description(&mark) } else { backend });
        let more = more.iter().map(|group| backends::backend(task, &self.place, &self.service, group));
        let more = more.map(|backend| backend.set_description(&mark));
        let body = BackendService::new().set_backends(there.chain(more));
        let body = body.set_or_clear_fingerprint(self.service.fingerprint.clone());
        let done = self.place.patch(task, body).await?;
        Ok(until_seen(done, "the backends"))
    }
}

/// A backend of ours says so itself; the record of its group says whose it is.
fn is_ours(backend: &Backend) -> bool {
    let marked = backend.description.as_deref().is_some_and(|description| description.starts_with(MARK));
    marked && group(backend).is_some_and(|group| group.name.starts_with(ownership::PREFIX))
}

fn group(backend: &Backend) -> Option<EndpointGroup> {
    EndpointGroup::parse(backend.group.as_deref()?)
}

/// One call of `apply`, with what it has read.
struct Call<'a> {
    task: &'a Task<'a>,
    state: &'a State,
    assignment: &'a Assignment,
}

impl Call<'_> {
    /// Whether this call changes anything, or only waits.
    fn has_work(&self) -> bool {
        let members = || self.state.fleets.values();
        !self.new_groups().is_empty()
            || members().any(|members| !members.joining(self.assignment).is_empty())
            || (self.unready().is_none() && members().any(|members| !members.leaving(self.assignment).is_empty()))
    }

    fn named(&self) -> BTreeSet<&FleetId> {
        self.assignment.members.iter().map(|member| &member.fleet).collect()
    }

    fn unready(&self) -> Option<&FleetId> {
        let is_unready = |fleet: &&FleetId| is_unready(self.assignment, fleet, self.state.fleets.get(*fleet));
        self.named().into_iter().find(is_unready)
    }

    /// The groups that named fleets lack: in all zones for a new fleet, in those of new members for others.
    fn new_groups(&self) -> Vec<(&FleetId, Vec<EndpointGroup>)> {
        let mut new = Vec::new();
        for fleet in self.named() {
            let zones: BTreeSet<String> = if let Some(members) = self.state.fleets.get(fleet) {
                members.zones_without_group(self.assignment)
            } else {
                let members = self.assignment.members.iter().filter(|member| member.fleet == *fleet);
                let zones = members.map(|member| zone(&member.instance).to_owned());
                self.task.config.launch.location.zones().iter().cloned().chain(zones).collect()
            };
            let name = ownership::name_on(&self.state.route, fleet);
            if !zones.is_empty() {
                new.push((fleet, zones.iter().map(|zone| EndpointGroup::new(zone, &name)).collect()));
            }
        }
        new
    }

    /// Does the first step that is not done yet. What it does is seen by the next call.
    async fn run(&self, claim: &Claim) -> Result<Progress<()>, ProviderError> {
        let kind = backends::endpoint_type(&self.state.place, &self.state.service);
        let mut more = Vec::new();
        for (fleet, groups) in self.new_groups() {
            let record = backends::record(self.task, fleet, &self.state.route);
            let made = endpoint_groups::ensure(self.task, &groups, &kind, &record).await?;
            if made != Progress::Done(()) {
                return Ok(made);
            }
            for group in &groups {
                if endpoint_groups::get(self.task, group).await?.is_none() {
                    return Ok(until_seen(Progress::Done(()), "endpoint groups"));
                }
            }
            more.extend(groups);
        }
        if !more.is_empty() {
            return self.state.write(self.task, &more, claim).await;
        }
        let members = || self.state.fleets.values();
        let joining: Vec<_> = members().flat_map(|members| members.joining(self.assignment)).collect();
        if !joining.is_empty() {
            return endpoint_groups::attach(self.task, &joining, &kind).await;
        }
        if let Some(fleet) = self.unready() {
            let note = format!("the balancer to find members of {fleet} good");
            return Ok(Progress::Pending { retry_after: SOON, note });
        }
        let leaving: Vec<_> = members().flat_map(|members| members.leaving(self.assignment)).collect();
        if !leaving.is_empty() {
            return endpoint_groups::detach(self.task, &leaving).await;
        }
        Ok(Progress::Done(()))
    }
}

/// Takes endpoint groups out of the backend service that they were made for. Done when they are.
///
/// # Errors
/// `Conflict` when they still have members; `InvalidRequest` when nothing else would be left, and that cannot be written.
pub(crate) async fn drop_groups(
    task: &Task<'_>,
    route: &str,
    groups: &[EndpointGroup],
) -> Result<Progress<()>, ProviderError> {
    let Some(route) = route.parse::<RouteId>().ok() else { return Ok(Progress::Done(())) };
    let _turn = task.config.turns.take(&route, task.operation)?;
    let state = match State::read(task, &route).await {
        Ok(state) => state,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Progress::Done(())),
        Err(error) => return Err(error),
    };
    let goes = |backend: &Backend| group(backend).is_some_and(|group| groups.contains(&group));
    if !state.service.backends.iter().any(goes) {
        return Ok(Progress::Done(()));
    }
    let refuse = |kind, message| Err(ProviderError::new(kind, task.operation, message).without_effect());
    if state.fleets.values().flat_map(|members| &members.listed).any(|listed| groups.contains(&listed.group)) {
        return refuse(ErrorKind::Conflict, format!("members of the fleet are still on {route}: take them out first"));
    }
    let mark = format!("{MARK}{}", state.claim);
    let rest = state.service.backends.iter().filter(|backend| !goes(backend)).cloned();
    // The count goes on with those who stay.
    let rest = rest.map(|backend| if is_ours(&backend) { backend.set_description(&mark) } else { backend });
    let rest: Vec<_> = rest.collect();
    let done = if rest.is_empty() {
        // What is not told cannot be written: https://docs.cloud.google.com/compute/docs/reference/rest/v1/backendServices
        if state.service.iap.as_ref().is_some_and(|iap| iap.oauth_2_client_id.is_some()) {
            let message = format!("{route} would be left without backends, and its secret cannot be kept: add another");
            return refuse(ErrorKind::InvalidRequest, message);
        }
        state.place.update(task, state.service.clone().set_backends(rest)).await?
    } else {
        let body = BackendService::new().set_backends(rest);
        state.place.patch(task, body.set_or_clear_fingerprint(state.service.fingerprint.clone())).await?
    };
    Ok(until_seen(done, "the backends"))
}
