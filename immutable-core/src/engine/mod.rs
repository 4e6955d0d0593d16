//! Driving rollouts: the pure machine that knows where a rollout stands, and the driver that makes it happen.
//!
//! ## Flow
//! [`Engine::start`] observes, compiles the [`Plan`], takes the journal's lease and writes the first entry; nothing has been
//! touched until then. A task then drives the rollout: it observes, asks the [`Machine`], writes what it intends to the
//! journal, calls the providers, and repeats until the machine says that the rollout has ended.
//!
//! ## Guarantees
//! An action is in the journal before it is tried, and is tried only while the lease holds. The same events make the same
//! machine. Nothing is ended without a [`RetireProof`](crate::decide::RetireProof).
//!
//! ## Cancellation
//! Dropping a [`Rollout`] changes nothing. Dropping the [`Engine`] stops its drivers where they are; what runs goes on running,
//! and the journal has what is needed to continue.

mod absence;
mod assess;
mod attempts;
mod blame;
mod calls;
mod clock;
mod driver;
mod entry;
mod error;
mod event;
mod history;
mod hold;
mod images;
mod machine;
mod metrics;
mod rollout;
mod sizes;
mod status;
mod steering;
mod throttle;
mod unsettled;
mod word;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

pub use blame::{Beside, Fare};
pub use clock::{Clock, Entropy, SystemClock, SystemEntropy};
pub use error::{DriverError, StartError};
pub use event::{Event, Outcome, Reason};
pub use history::History;
pub use hold::{Hold, Signal};
pub use machine::{Command, Machine, Step};
pub use rollout::Rollout;
pub use status::Status;
pub use throttle::ApiBudget;

use crate::journal::{Journal, MemoryJournal};
use crate::model::{OwnerId, ReleaseId, RolloutId, ServiceName, Weight};
use crate::plan::{Amount, Facts, Plan, PlanError, RolloutSpec, StageSpec, Strategy, compile};
use crate::provider::Platform;
use absence::Absence;
use assess::Assessor;
use attempts::{Attempts, Trouble};
use calls::Calls;
use driver::Driver;
use rollout::Shared;
use sizes::Sizes;
use throttle::Throttle;
use unsettled::Unsettled;

/// Starts rollouts on a platform and drives them.
#[derive(Debug)]
pub struct Engine {
    platform: Platform,
    journal: Arc<dyn Journal>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    owner: OwnerId,
    throttle: Arc<Throttle>,
    live: Mutex<HashMap<ServiceName, Rollout>>,
    /// For each service, the right to start a rollout of it: two at once would fence each other.
    starting: Mutex<HashMap<ServiceName, Arc<tokio::sync::Mutex<()>>>>,
    drivers: Mutex<JoinSet<()>>,
    /// Why nothing advances, if nothing does.
    frozen: Mutex<Option<String>>,
}

/// Builds an [`Engine`].
#[derive(Debug)]
#[must_use]
pub struct EngineBuilder {
    platform: Platform,
    journal: Arc<dyn Journal>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    budget: ApiBudget,
    owner: Option<OwnerId>,
}

impl EngineBuilder {
    /// Where decisions are kept; in memory unless it is set.
    pub fn journal(mut self, journal: impl Journal) -> Self {
        self.journal = Arc::new(journal);
        self
    }

    /// Who tells the time; the [`SystemClock`] unless it is set. Its time must be that of the providers.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Who gives random numbers; the operating system unless it is set.
    pub fn entropy(mut self, entropy: impl Entropy) -> Self {
        self.entropy = Arc::new(entropy);
        self
    }

    /// How much of the platform's API all rollouts may use together.
    pub fn api_budget(mut self, budget: ApiBudget) -> Self {
        self.budget = budget;
        self
    }

    /// Who this engine is, for leases and for people; a random name unless it is set.
    pub fn owner(mut self, owner: OwnerId) -> Self {
        self.owner = Some(owner);
        self
    }

    /// The engine.
    pub fn build(self) -> Engine {
        let Self { platform, journal, clock, entropy, budget, owner } = self;
        let random = || format!("engine-{:016x}", entropy.next_u64());
        let owner = owner.unwrap_or_else(|| OwnerId::new(random()).expect("invariant: hexadecimal digits are a name"));
        Engine {
            platform,
            journal,
            clock,
            entropy,
            owner,
            throttle: Arc::new(Throttle::new(budget)),
            live: Mutex::default(),
            starting: Mutex::default(),
            drivers: Mutex::default(),
            frozen: Mutex::default(),
        }
    }
}

impl Engine {
    /// An engine for a platform, with everything else to be set.
    pub fn builder(platform: Platform) -> EngineBuilder {
        EngineBuilder {
            platform,
            journal: Arc::new(MemoryJournal::new()),
            clock: Arc::new(SystemClock),
            entropy: Arc::new(SystemEntropy),
            budget: ApiBudget::default(),
            owner: None,
        }
    }

    /// An engine for a platform, with its journal in memory: rollouts do not survive the process.
    pub fn new(platform: Platform) -> Self {
        Self::builder(platform).build()
    }

    /// What a rollout would do, without doing anything.
    ///
    /// # Errors
    /// [`StartError::Plan`] when it cannot work; others when the world or the journal cannot be read.
    pub async fn plan(&self, spec: &RolloutSpec) -> Result<Plan, StartError> {
        let history = self.history(&spec.service).await?;
        self.compile(spec, &history, None).await
    }

    /// Starts a rollout. Nothing is touched before its plan is known to be possible and its first entry is in the journal.
    ///
    /// Starting the release again that is being rolled out gives the rollout that is going on, and continues one that
    /// another driver left.
    ///
    /// # Errors
    /// [`StartError::Plan`] when it cannot work, [`StartError::Live`] when another rollout of the service is going on,
    /// [`StartError::Frozen`] while the engine is frozen, unless the release was proven before.
    pub async fn start(&self, spec: RolloutSpec) -> Result<Rollout, StartError> {
        let starting = self.starting(&spec.service);
        let _one_at_a_time = starting.lock().await;
        self.start_alone(spec).await
    }

    /// Starts a rollout, for whoever has the right to.
    async fn start_alone(&self, spec: RolloutSpec) -> Result<Rollout, StartError> {
        if let Some(rollout) = self.live(&spec.service) {
            return same_or_live(&spec, rollout);
        }
        let (lease, entries) = self.journal.take_over(&spec.service, &self.owner).await?;
        let next_seq = entries.last().map_or(1, |entry| entry.seq + 1);
        let history = History::read(&spec.service, entries)?;
        let left = history.is_live().then(|| Machine::replay(history.last_rollout().to_vec())).flatten();
        let prepared = match left {
            Some(machine) if machine.plan().release.id() == spec.release.id() => Ok((machine, None)),
            Some(machine) => Err(live_error(&spec.service, machine.rollout().clone(), machine.plan().release.id())),
            None => Box::pin(self.compile(&spec, &history, None)).await.and_then(|plan| self.begin(plan)),
        };
        let (machine, first) = match prepared {
            Ok(prepared) => prepared,
            Err(error) => {
                self.journal.release(lease).await?;
                return Err(error);
            }
        };
        let mut next_seq = next_seq;
        let mut events = history.last_rollout().to_vec();
        if let Some(first) = first {
            self.journal.append(&lease, next_seq, self.clock.now(), &entry::body(&first)).await?;
            next_seq += 1;
            events = first;
        }
        Ok(self.drive(machine, events, lease, next_seq).await)
    }

    /// Continues the last rollout of a service, if it has not ended: another driver, or an earlier process, left it.
    ///
    /// # Errors
    /// When the journal cannot be read, or another driver is at work.
    pub async fn recover(&self, service: &ServiceName) -> Result<Option<Rollout>, StartError> {
        let starting = self.starting(service);
        let _one_at_a_time = starting.lock().await;
        if let Some(rollout) = self.live(service) {
            return Ok(Some(rollout));
        }
        if !self.history(service).await?.is_live() {
            return Ok(None);
        }
        let (lease, entries) = self.journal.take_over(service, &self.owner).await?;
        let next_seq = entries.last().map_or(1, |entry| entry.seq + 1);
        let history = History::read(service, entries)?;
        let events = history.last_rollout().to_vec();
        let machine = Machine::replay(events.clone()).filter(|_| history.is_live());
        let Some(machine) = machine else {
            self.journal.release(lease).await?;
            return Ok(None);
        };
        Ok(Some(self.drive(machine, events, lease, next_seq).await))
    }

    /// Goes back to an earlier release that was proven, at once and without exposure stages; starts its image anew if need be.
    ///
    /// A rollout that is going on, or was left by its driver, is aborted when it goes back to this release anyway.
    ///
    /// # Errors
    /// [`PlanError::NotProven`] or [`PlanError::UnknownRelease`] for a release that cannot be gone back to;
    /// [`StartError::Live`] when a rollout is going on that goes back elsewhere.
    pub async fn roll_back(&self, service: &ServiceName, to: &ReleaseId) -> Result<Rollout, StartError> {
        if let Some(rollout) = self.recover(service).await? {
            if rollout.plan().previous.as_ref().is_some_and(|release| release.id() == *to) {
                // When its driver has just stopped, the rollout's own end says so.
                let _ = rollout.abort("asked to roll back").await;
                return Ok(rollout);
            }
            return Err(live_error(service, rollout.id(), rollout.plan().release.id()));
        }
        let history = self.history(service).await?;
        let release = match history.proven().iter().find(|release| release.id() == *to) {
            Some(release) => release.clone(),
            None if history.failed().contains(to) => return Err(PlanError::NotProven(*to).into()),
            None => return Err(PlanError::UnknownRelease(*to).into()),
        };
        let (last, desired) = history.last_plan().zip(history.last_desired()).ok_or(PlanError::UnknownRelease(*to))?;
        let at_once = StageSpec::new("return", Weight::FULL).size(Amount::Percent(100)).replacing_old();
        let strategy = Strategy::stages("roll-back", [at_once]).limits_of(&last.limits);
        // The size that was asked for, by then or since: how many are left of a release that fails says nothing.
        let desired = desired.max(self.kept(service).await?);
        self.start(RolloutSpec::new(service.clone(), last.route.clone(), release, strategy).desired(desired)).await
    }

    /// The size at which the platform itself keeps the largest fleet of a service.
    async fn kept(&self, service: &ServiceName) -> Result<u32, StartError> {
        let calls = self.calls(None, 0);
        let (context, fleets) = (calls.context(&["roll back"]), &self.platform.fleets);
        let state = calls.look_patiently("observe fleets", || fleets.observe(&context, service)).await?;
        Ok(state.fleets.iter().filter_map(|fleet| fleet.wanted).max().unwrap_or(0))
    }

    /// The past of a service.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub async fn history(&self, service: &ServiceName) -> Result<History, StartError> {
        Ok(History::read(service, self.journal.list(service).await?)?)
    }

    fn live(&self, service: &ServiceName) -> Option<Rollout> {
        let live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        live.get(service).filter(|rollout| rollout.is_driven()).cloned()
    }

    fn starting(&self, service: &ServiceName) -> Arc<tokio::sync::Mutex<()>> {
        let mut starting = self.starting.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(starting.entry(service.clone()).or_default())
    }

    fn calls(&self, rollout: Option<RolloutId>, epoch: u64) -> Calls {
        Calls {
            throttle: Arc::clone(&self.throttle),
            clock: Arc::clone(&self.clock),
            entropy: Arc::clone(&self.entropy),
            timeout: self.platform.pace.call_timeout,
            rollout,
            epoch,
        }
    }

    async fn compile(
        &self,
        spec: &RolloutSpec,
        history: &History,
        superseded: Option<&Plan>,
    ) -> Result<Plan, StartError> {
        let calls = self.calls(None, 0);
        let context = calls.context(&["plan"]);
        let Platform { fleets, traffic, .. } = &self.platform;
        let fleets = calls.look_patiently("observe fleets", || fleets.observe(&context, &spec.service)).await?;
        let traffic = calls.look_patiently("observe route", || traffic.observe(&context, &spec.route)).await?;
        let facts = Facts {
            fleets: &fleets,
            split: &traffic.split,
            provisioner: self.platform.fleets.capabilities(),
            traffic: self.platform.traffic.capabilities(),
            proven: history.proven(),
            superseded,
        };
        let mut plan = compile(spec, &facts)?;
        self.mind_the_lag(&mut plan)?;
        self.check_images(&plan, fleets.live(&plan.target)).await?;
        plan.outlook = Box::pin(self.check_metrics(&plan, &traffic.split)).await?;
        Ok(plan)
    }

    /// The first event of a rollout.
    fn begin(&self, plan: Plan) -> Result<(Machine, Option<Vec<Event>>), StartError> {
        if let Some(reason) = self.frozen().filter(|_| !plan.returns) {
            return Err(StartError::Frozen { reason });
        }
        let rollout = format!("{}-{:016x}", plan.service, self.entropy.next_u64());
        let rollout = RolloutId::new(rollout).expect("invariant: a service name and digits are a name");
        let at = self.clock.now();
        let events = vec![Event::Started { rollout, plan: Box::new(plan), at }];
        let machine = Machine::replay(events.clone()).expect("invariant: the first event is the start");
        Ok((machine, Some(events)))
    }

    #[expect(clippy::disallowed_methods, reason = "a rollout is driven by a task of its own")]
    async fn drive(
        &self,
        machine: Machine,
        events: Vec<Event>,
        lease: crate::journal::Lease,
        next_seq: u64,
    ) -> Rollout {
        let service = machine.plan().service.clone();
        let shared = Arc::new(Shared::new(&machine, events));
        let (wishes, heard) = mpsc::channel(16);
        let (ended, end) = watch::channel(None);
        let rollout = Rollout { plan: Arc::new(machine.plan().clone()), shared: Arc::clone(&shared), wishes, end };
        let driver = Driver {
            platform: self.platform.clone(),
            journal: Arc::clone(&self.journal),
            calls: self.calls(Some(machine.rollout().clone()), lease.epoch()),
            lease,
            next_seq,
            machine,
            shared,
            wishes: heard,
            assessor: Assessor::default(),
            probes: JoinSet::new(),
            attempts: Attempts::default(),
            sight: Trouble::default(),
            looks: Trouble::default(),
            acts: Trouble::default(),
            growth: Trouble::default(),
            evidence: None,
            catch_up_in: None,
            judged_since: None,
            seen_at: None,
            absence: Absence::default(),
            unsettled: Unsettled::default(),
            sizes: Sizes::default(),
            way_back_seen: None,
            not_before: None,
            is_new: true,
            blind: true,
            deaf: false,
        };
        let span = tracing::info_span!("rollout", %service, rollout = %rollout.id());
        let task = tracing::Instrument::instrument(
            async move {
                let result = driver.run().await;
                ended.send_replace(Some(result));
            },
            span,
        );
        {
            let mut drivers = self.drivers.lock().unwrap_or_else(PoisonError::into_inner);
            while drivers.try_join_next().is_some() {}
            drivers.spawn(task);
        }
        self.live.lock().unwrap_or_else(PoisonError::into_inner).insert(service, rollout.clone());
        self.freeze_if_frozen(&rollout).await;
        rollout
    }
}

fn same_or_live(spec: &RolloutSpec, rollout: Rollout) -> Result<Rollout, StartError> {
    let release = rollout.plan().release.id();
    if release == spec.release.id() {
        return Ok(rollout);
    }
    Err(live_error(&spec.service, rollout.id(), release))
}

fn live_error(service: &ServiceName, rollout: RolloutId, release: ReleaseId) -> StartError {
    StartError::Live { service: service.clone(), rollout, release }
}
