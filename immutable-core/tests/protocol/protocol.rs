//! The model: every step that can be next, and what must hold after each.

use stateright::{Expectation, Model, Property};

use crate::controller::{self, Move, Phase};
use crate::world::{CONTROLLERS, State};

/// The most records of the journal: two owners and the effects of both, or three owners.
const MAX_RECORDS: usize = 5;
/// The most owners, one after another.
const MAX_EPOCHS: u8 = 3;
/// More steps than any controller that is alone needs until it can act.
const LONG_ENOUGH: usize = 40;

pub(crate) const WRITTEN_ONCE: &str = "each place of the journal is written once";
pub(crate) const WRITERS_IN_TURN: &str = "no writer comes after a newer one";
pub(crate) const NEWER_STAYS: &str = "no effect lands after a newer one";
pub(crate) const SOMEBODY_SERVES: &str = "somebody serves";
pub(crate) const SOMEBODY_CAN_ACT: &str = "a controller that is left alone can act in the end";

/// A rule that can be taken away.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Rule {
    /// A record is created only if its place in the journal is free.
    CreateOnly,
    /// The lease is checked immediately before each call.
    LeaseBeforeCall,
    /// A new owner waits for the horizon before it looks and acts.
    NewOwnerWaits,
    /// An owner whose answer was lost waits for the horizon and looks again.
    LostAnswerSettled,
    /// An owner renews its lease, also while it waits.
    OwnerRenews,
}

/// Two controllers and one service.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Protocol {
    /// The rule that is not kept, if there is one.
    pub(crate) without: Option<Rule>,
    /// Whether the route is changed by compare-and-swap.
    pub(crate) route_has_version: bool,
}

/// Anything that happens.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Step {
    Tick,
    Of(usize, Move),
    /// A request lands, and its sender is told.
    Answered(usize),
    /// A request lands, and nobody is told.
    Unanswered(usize),
}

impl Model for Protocol {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        vec![State::start()]
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        steps.push(Step::Tick);
        steps.extend((0..state.requests.len()).flat_map(|index| [Step::Answered(index), Step::Unanswered(index)]));
        for controller in 0..CONTROLLERS {
            steps
                .extend(controller::moves(*self, state, controller).into_iter().map(|step| Step::Of(controller, step)));
        }
    }

    fn next_state(&self, state: &State, step: Step) -> Option<State> {
        Some(match step {
            Step::Tick => {
                let mut next = state.clone();
                next.tick();
                next
            }
            Step::Of(controller, step) => controller::step(*self, state, controller, step),
            Step::Answered(index) => {
                let mut next = state.clone();
                let request = next.land(index);
                let sender = &mut next.controllers[request.sender];
                match *sender {
                    Phase::Called { epoch, order } if order == request.order => {
                        *sender = Phase::Ready { epoch, place: order.place + 1 };
                    }
                    // It waits no more, so this is the same as no answer.
                    _ => return None,
                }
                next
            }
            Step::Unanswered(index) => {
                let mut next = state.clone();
                next.land(index);
                next
            }
        })
    }

    fn within_boundary(&self, state: &State) -> bool {
        state.journal.len() <= MAX_RECORDS && state.lease.epoch <= MAX_EPOCHS
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(WRITTEN_ONCE, |_, state: &State| state.journal.iter().all(|place| place.len() == 1)),
            Property::always(WRITERS_IN_TURN, |_, state: &State| {
                state.journal.iter().flatten().is_sorted_by_key(|record| record.epoch())
            }),
            Property::always(NEWER_STAYS, |_, state: &State| !state.stale_landed),
            Property::always(SOMEBODY_SERVES, |_, state: &State| state.service.somebody_serves()),
            Property::always(SOMEBODY_CAN_ACT, |model: &Self, state: &State| {
                (0..CONTROLLERS).all(|controller| model.can_act_in_the_end(state, controller))
            }),
            // These show that the model goes where it matters.
            Property::sometimes("the old instance is ended", |_, state: &State| !state.service.old_lives),
            Property::sometimes("the new instance is ended by a later owner", |_, state: &State| {
                !state.service.new_lives && state.newest_landed.epoch > 1
            }),
            Property::sometimes("the last owner acts", |_, state: &State| state.newest_landed.epoch == MAX_EPOCHS),
            Property::sometimes("a request is on its way when the next owner has the lease", |_, state: &State| {
                state.requests.iter().any(|request| request.order.epoch < state.lease.epoch)
            }),
        ]
    }
}

impl Protocol {
    pub(crate) fn keeps(self, rule: Rule) -> bool {
        self.without != Some(rule)
    }

    /// The properties that must always hold, and do not here.
    pub(crate) fn broken(self, state: &State) -> Vec<&'static str> {
        let always = self.properties().into_iter().filter(|property| property.expectation == Expectation::Always);
        always.filter(|property| !(property.condition)(&self, state)).map(|property| property.name).collect()
    }

    /// Whether a controller gets to act from here when all others are frozen and every answer is lost.
    fn can_act_in_the_end(self, state: &State, controller: usize) -> bool {
        let mut state = state.clone();
        for _ in 0..LONG_ENOUGH {
            let phase = state.controllers[controller];
            let holds = phase.epoch() == Some(state.lease.epoch) && state.lease.ticks_left > 0;
            if holds && matches!(phase, Phase::Seen { .. }) {
                return true;
            }
            let moves = controller::moves(self, &state, controller);
            let about_to_expire = state.lease.ticks_left <= 1 && moves.contains(&Move::Renew);
            let next =
                if about_to_expire { Some(Move::Renew) } else { moves.into_iter().find(|step| *step != Move::Crash) };
            match next {
                Some(step) => state = controller::step(self, &state, controller, step),
                None => state.tick(),
            }
        }
        false
    }
}
