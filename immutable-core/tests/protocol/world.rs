//! What lies outside of the controllers: the journal, the lease, the route, the instances, and requests on their way.

use crate::controller::Phase;

/// For how many ticks a request can land after it was sent: the ambiguity horizon.
pub(crate) const HORIZON: u8 = 2;
/// For how many ticks a lease lasts unless it is renewed.
pub(crate) const LEASE: u8 = 2;
/// Controllers are numbered from 0.
pub(crate) const CONTROLLERS: usize = 2;

/// Everything, at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct State {
    pub(crate) controllers: [Phase; CONTROLLERS],
    /// What was written to each place of the journal. More than one record in a place is harm.
    pub(crate) journal: Vec<Vec<Record>>,
    pub(crate) lease: Lease,
    pub(crate) service: Service,
    /// In order, so that equal sets are equal values.
    pub(crate) requests: Vec<Request>,
    /// The newest of all effects that have landed.
    pub(crate) newest_landed: Order,
    /// Whether an effect has landed after a newer one.
    pub(crate) stale_landed: bool,
}

/// A record of the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Record {
    /// An owner has taken over: the fence.
    TakenOver { epoch: u8 },
    /// An owner is about to try this.
    Intended { epoch: u8, effect: Effect },
}

impl Record {
    pub(crate) fn epoch(self) -> u8 {
        match self {
            Self::TakenOver { epoch } | Self::Intended { epoch, .. } => epoch,
        }
    }
}

/// The lease record. Its epoch rises with each owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Lease {
    pub(crate) epoch: u8,
    pub(crate) ticks_left: u8,
}

/// One old and one new instance of a service. The new one is in traffic as long as it lives; the old one comes and goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Service {
    pub(crate) old_lives: bool,
    pub(crate) old_in_traffic: bool,
    pub(crate) new_lives: bool,
    /// Counts the changes of the route, where the route is changed by compare-and-swap; else it stays zero.
    pub(crate) route_version: u8,
}

impl Service {
    pub(crate) fn somebody_serves(self) -> bool {
        self.new_lives || (self.old_lives && self.old_in_traffic)
    }

    /// What is right to do by this look: each end leaves the other instance in traffic.
    pub(crate) fn permitted(self) -> impl Iterator<Item = Effect> {
        let back = self.old_lives && self.old_in_traffic && self.new_lives;
        let effects = [
            (Effect::DeregisterOld, back),
            (Effect::EndNew, back),
            (Effect::RegisterOld, self.old_lives && !self.old_in_traffic),
            (Effect::EndOld, self.old_lives && !self.old_in_traffic && self.new_lives),
        ];
        effects.into_iter().filter_map(|(effect, permitted)| permitted.then_some(effect))
    }

    /// The effect of a request that lands, if the route's version is the one expected.
    fn change(&mut self, effect: Effect, expected: Option<u8>) {
        let routes = matches!(effect, Effect::DeregisterOld | Effect::RegisterOld);
        if routes && let Some(version) = expected {
            if version != self.route_version {
                return;
            }
            self.route_version += 1;
        }
        match effect {
            Effect::DeregisterOld => self.old_in_traffic = false,
            Effect::RegisterOld => self.old_in_traffic = self.old_lives,
            Effect::EndOld => (self.old_lives, self.old_in_traffic) = (false, false),
            Effect::EndNew => self.new_lives = false,
        }
    }
}

/// What a request does when it lands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Effect {
    DeregisterOld,
    EndOld,
    RegisterOld,
    EndNew,
}

/// When an effect was intended: the epoch, then the place of its record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub(crate) struct Order {
    pub(crate) epoch: u8,
    pub(crate) place: usize,
}

/// A request that was sent and has neither landed nor been refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Request {
    pub(crate) sender: usize,
    pub(crate) order: Order,
    pub(crate) effect: Effect,
    pub(crate) expected_version: Option<u8>,
    /// It is refused when none is left.
    pub(crate) ticks_left: u8,
}

impl State {
    pub(crate) fn start() -> Self {
        Self {
            controllers: [Phase::Idle; CONTROLLERS],
            journal: Vec::new(),
            lease: Lease { epoch: 0, ticks_left: 0 },
            service: Service { old_lives: true, old_in_traffic: true, new_lives: true, route_version: 0 },
            requests: Vec::new(),
            newest_landed: Order::default(),
            stale_landed: false,
        }
    }

    /// One tick passes everywhere; what is too old to land is refused.
    pub(crate) fn tick(&mut self) {
        let down = |ticks: &mut u8| *ticks = ticks.saturating_sub(1);
        down(&mut self.lease.ticks_left);
        self.requests.iter_mut().for_each(|request| down(&mut request.ticks_left));
        self.requests.retain(|request| request.ticks_left > 0);
        self.controllers.iter_mut().filter_map(Phase::wait_mut).for_each(down);
    }

    pub(crate) fn send(&mut self, request: Request) {
        self.requests.push(request);
        self.requests.sort_unstable();
    }

    /// A request lands. Whether its sender hears of it is another matter.
    pub(crate) fn land(&mut self, index: usize) -> Request {
        let request = self.requests.remove(index);
        self.service.change(request.effect, request.expected_version);
        self.stale_landed |= request.order < self.newest_landed;
        self.newest_landed = self.newest_landed.max(request.order);
        request
    }
}
