//! One controller: what it knows, and its next step.

use crate::protocol::{Protocol, Rule};
use crate::world::{Effect, HORIZON, LEASE, Lease, Order, Record, Request, Service, State};

/// How far a controller has come. What it knows is what it has seen, which may be old by now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Phase {
    /// It owns nothing, and knows nothing.
    Idle,
    /// It has the lease, and has seen where the journal ends.
    Leased { epoch: u8, place: usize },
    /// It waits until nothing that was sent before can land any more.
    Waiting { epoch: u8, place: usize, ticks_left: u8 },
    /// It has to look before it acts.
    Ready { epoch: u8, place: usize },
    /// It has looked.
    Seen { epoch: u8, place: usize, service: Service },
    /// It has chosen, and must write that down.
    Chosen { epoch: u8, place: usize, effect: Effect, route_version: u8 },
    /// It has written that down, and must check its lease and call.
    Written { epoch: u8, order: Order, effect: Effect, route_version: u8 },
    /// It waits for the answer.
    Called { epoch: u8, order: Order },
}

impl Phase {
    pub(crate) fn wait_mut(&mut self) -> Option<&mut u8> {
        match self {
            Self::Waiting { ticks_left, .. } => Some(ticks_left),
            _ => None,
        }
    }

    /// The epoch that it believes to be its own.
    pub(crate) fn epoch(self) -> Option<u8> {
        match self {
            Self::Idle => None,
            Self::Leased { epoch, .. }
            | Self::Waiting { epoch, .. }
            | Self::Ready { epoch, .. }
            | Self::Seen { epoch, .. }
            | Self::Chosen { epoch, .. }
            | Self::Written { epoch, .. }
            | Self::Called { epoch, .. } => Some(epoch),
        }
    }
}

/// A step of one controller.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Move {
    /// Takes the lease that has expired, by compare-and-swap.
    TakeLease,
    /// Appends the fence at the end of the journal, as it was seen.
    Fence,
    /// Has waited long enough.
    WaitedEnough,
    /// Looks at the service.
    Look,
    /// Decides about the next effect.
    Choose(Effect),
    /// Appends the intent.
    Write,
    /// Checks the lease and sends the request.
    Call,
    /// Gives up waiting for an answer.
    TimeOut,
    /// Renews the lease, or finds that it is another's by now and stops.
    Renew,
    /// Forgets everything.
    Crash,
}

/// The steps that a controller may take now.
pub(crate) fn moves(model: Protocol, state: &State, controller: usize) -> Vec<Move> {
    let phase = state.controllers[controller];
    let mut moves = match phase {
        Phase::Idle if state.lease.ticks_left == 0 => vec![Move::TakeLease],
        Phase::Leased { .. } => vec![Move::Fence],
        Phase::Waiting { ticks_left: 0, .. } => vec![Move::WaitedEnough],
        Phase::Ready { .. } => vec![Move::Look],
        Phase::Seen { service, .. } => service.permitted().map(Move::Choose).collect(),
        Phase::Chosen { .. } => vec![Move::Write],
        Phase::Written { .. } => vec![Move::Call],
        Phase::Called { .. } => vec![Move::TimeOut],
        Phase::Idle | Phase::Waiting { .. } => Vec::new(),
    };
    if let Some(epoch) = phase.epoch() {
        moves.push(Move::Crash);
        if state.lease.epoch != epoch || (model.keeps(Rule::OwnerRenews) && state.lease.ticks_left < LEASE) {
            moves.push(Move::Renew);
        }
    }
    moves
}

/// The state after a step of one controller.
pub(crate) fn step(model: Protocol, state: &State, controller: usize, step: Move) -> State {
    let mut next = state.clone();
    let phase = state.controllers[controller];
    next.controllers[controller] = match (step, phase) {
        (Move::TakeLease, _) => {
            next.lease = Lease { epoch: state.lease.epoch + 1, ticks_left: LEASE };
            Phase::Leased { epoch: next.lease.epoch, place: state.journal.len() }
        }
        (Move::Fence, Phase::Leased { epoch, place }) => fence(model, &mut next, epoch, place),
        (Move::WaitedEnough, Phase::Waiting { epoch, place, .. }) => Phase::Ready { epoch, place },
        (Move::Look, Phase::Ready { epoch, place }) => Phase::Seen { epoch, place, service: state.service },
        (Move::Choose(effect), Phase::Seen { epoch, place, service }) => {
            Phase::Chosen { epoch, place, effect, route_version: service.route_version }
        }
        (Move::Write, Phase::Chosen { epoch, place, effect, route_version }) => {
            let order = Order { epoch, place };
            let written = append(model, &mut next, place, Record::Intended { epoch, effect });
            if written { Phase::Written { epoch, order, effect, route_version } } else { Phase::Idle }
        }
        (Move::Call, Phase::Written { epoch, order, effect, route_version }) => {
            let holds = state.lease.epoch == epoch && state.lease.ticks_left > 0;
            if holds || !model.keeps(Rule::LeaseBeforeCall) {
                let expected_version = model.route_has_version.then_some(route_version);
                next.send(Request { sender: controller, order, effect, expected_version, ticks_left: HORIZON });
                Phase::Called { epoch, order }
            } else {
                Phase::Idle
            }
        }
        (Move::TimeOut, Phase::Called { epoch, order }) => settle(model, epoch, order.place + 1),
        (Move::Renew, _) if phase.epoch() == Some(state.lease.epoch) => {
            next.lease.ticks_left = LEASE;
            phase
        }
        (Move::Renew | Move::Crash, _) => Phase::Idle,
        (step, phase) => unreachable!("{step:?} in {phase:?}"),
    };
    next
}

/// The fence is the first record of an owner. Whoever finds its place taken looks for the end of the journal once more.
fn fence(model: Protocol, next: &mut State, epoch: u8, place: usize) -> Phase {
    if append(model, next, place, Record::TakenOver { epoch }) {
        let ticks_left = if model.keeps(Rule::NewOwnerWaits) { HORIZON } else { 0 };
        return Phase::Waiting { epoch, place: place + 1, ticks_left };
    }
    let newer = next.journal.iter().flatten().any(|record| record.epoch() > epoch);
    if newer { Phase::Idle } else { Phase::Leased { epoch, place: next.journal.len() } }
}

/// Whether the record was written to its place.
fn append(model: Protocol, next: &mut State, place: usize, record: Record) -> bool {
    match next.journal.get_mut(place) {
        Some(_) if model.keeps(Rule::CreateOnly) => return false,
        Some(taken) => taken.push(record),
        None => next.journal.push(vec![record]),
    }
    true
}

/// What an owner does whose answer was lost.
fn settle(model: Protocol, epoch: u8, place: usize) -> Phase {
    if model.keeps(Rule::LostAnswerSettled) {
        Phase::Waiting { epoch, place, ticks_left: HORIZON }
    } else {
        Phase::Ready { epoch, place }
    }
}
