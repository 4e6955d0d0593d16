//! Worlds of two small fleets, counted: instances in the same state are the same.

use std::fmt;
use std::sync::OnceLock;

use immutable_core::decide::{Action, FleetView, InstanceView, Phase, World};
use immutable_core::model::{Endpoint, FleetId, InstanceId, RouteVersion, Split, Weight};
use immutable_core::provider::SwitchKind;

/// Phase, to be replaced, dead.
type Kind = (Phase, bool, bool);

pub(crate) const KINDS: [Kind; 17] = [
    (Phase::Pending, false, false),
    (Phase::Unproven, false, false),
    (Phase::Unproven, true, false),
    (Phase::Proven, false, false),
    (Phase::Proven, true, false),
    (Phase::Joining, false, false),
    (Phase::Serving, false, false),
    (Phase::Serving, true, false),
    (Phase::Unsure, false, false),
    (Phase::Ailing, false, false),
    (Phase::Ailing, true, true),
    (Phase::Draining, false, false),
    (Phase::Draining, true, false),
    (Phase::Drained, false, false),
    (Phase::Drained, true, false),
    (Phase::Drained, true, true),
    (Phase::Ending, true, false),
];

const fn kind(phase: Phase, replace: bool, dead: bool) -> u8 {
    let mut index: u8 = 0;
    loop {
        let (p, r, d) = KINDS[index as usize];
        if p as u8 == phase as u8 && r == replace && d == dead {
            return index;
        }
        index += 1;
    }
}

const PENDING: u8 = kind(Phase::Pending, false, false);
const UNPROVEN: u8 = kind(Phase::Unproven, false, false);
const LATE: u8 = kind(Phase::Unproven, true, false);
const PROVEN: u8 = kind(Phase::Proven, false, false);
const PROVEN_OUTDATED: u8 = kind(Phase::Proven, true, false);
const JOINING: u8 = kind(Phase::Joining, false, false);
const SERVING: u8 = kind(Phase::Serving, false, false);
const OUTDATED: u8 = kind(Phase::Serving, true, false);
const UNSURE: u8 = kind(Phase::Unsure, false, false);
const AILING: u8 = kind(Phase::Ailing, false, false);
const AILING_DEAD: u8 = kind(Phase::Ailing, true, true);
const DRAINING: u8 = kind(Phase::Draining, false, false);
const DRAINING_BAD: u8 = kind(Phase::Draining, true, false);
const DRAINED: u8 = kind(Phase::Drained, false, false);
const DRAINED_BAD: u8 = kind(Phase::Drained, true, false);
const DRAINED_DEAD: u8 = kind(Phase::Drained, true, true);
const ENDING: u8 = kind(Phase::Ending, true, false);
const GONE: u8 = u8::MAX;

/// How the environment may misbehave in a walk, besides instances that start, become healthy, fall ill and recover.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moves {
    /// In no further way.
    Plain,
    /// Instances miss their deadline or fall ill while draining.
    Health,
    /// Instances die or vanish at any moment.
    Death,
    /// Instances are found to run another image.
    Drift,
    /// Instances in traffic cannot be looked at.
    Silence,
    /// The route is emptied at once: a proxy is started anew, or somebody does it by hand.
    Emptied,
}

/// More than any world here holds, with room for one that breaks the surge.
const SLOTS: usize = 12;

/// How the environment behaves when it behaves: everything starts, becomes healthy, drains and ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fair {
    /// And the ill recover.
    Best,
    /// But the ill stay ill.
    NothingHeals,
    /// And the ill recover; but the balancer takes instances into use only when all else is settled.
    SlowBalancer,
}

/// Two fleets; an instance is its kind. Sorted, so that equal worlds are equal values.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct SmallWorld {
    pub(crate) fleets: [[u8; SLOTS]; 2],
    pub(crate) exists: [bool; 2],
    pub(crate) weights: [u16; 2],
}

impl fmt::Display for SmallWorld {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for index in 0..2 {
            write!(f, "{} at {} [", fleet(index), self.weights[index])?;
            for kind in self.fleets[index].iter().filter(|kind| **kind != GONE) {
                let (phase, replace, dead) = KINDS[usize::from(*kind)];
                let marks = [if replace { "!" } else { "" }, if dead { "x" } else { "" }].concat();
                write!(f, " {phase:?}{marks}")?;
            }
            write!(f, " ] ")?;
        }
        Ok(())
    }
}

struct Names {
    fleets: [FleetId; 2],
    instances: [Vec<InstanceId>; 2],
    endpoint: Endpoint,
    version: RouteVersion,
}

fn names() -> &'static Names {
    static NAMES: OnceLock<Names> = OnceLock::new();
    NAMES.get_or_init(|| Names {
        fleets: ["old", "new"].map(|name| name.parse().expect("name")),
        instances: ["old", "new"]
            .map(|name| (0..64).map(|index| format!("{name}-{index}").parse().expect("name")).collect()),
        endpoint: "127.0.0.1:1".parse().expect("endpoint"),
        version: "1".parse().expect("version"),
    })
}

pub(crate) fn fleet(index: usize) -> &'static FleetId {
    &names().fleets[index]
}

impl SmallWorld {
    /// `size` old instances that serve, or nothing at all.
    pub(crate) fn start(size: usize, switch: SwitchKind) -> Self {
        // A switch by membership has no weights of its own; `decide` does not look at them there.
        let weighted = matches!(switch, SwitchKind::Weighted { .. });
        let weight = if size > 0 && weighted { 10_000 } else { 0 };
        let mut old = [GONE; SLOTS];
        old[..size].fill(SERVING);
        Self { fleets: [old, [GONE; SLOTS]], exists: [size > 0, false], weights: [weight, 0] }
    }

    pub(crate) fn view(&self) -> World {
        let fleets = (0..2).filter(|index| self.exists[*index]).map(|index| FleetView {
            id: fleet(index).clone(),
            hold_growth: false,
            instances: self.fleets[index]
                .iter()
                .enumerate()
                .filter(|(_, kind)| **kind != GONE)
                .map(|(slot, kind)| {
                    let (phase, replace, dead) = KINDS[usize::from(*kind)];
                    let endpoint = Some(names().endpoint.clone());
                    InstanceView { id: names().instances[index][slot].clone(), phase, replace, dead, endpoint }
                })
                .collect(),
        });
        let weight = |index: usize| Weight::basis_points(self.weights[index]).expect("weight");
        World {
            as_of: jiff::Timestamp::UNIX_EPOCH,
            fleets: fleets.collect(),
            split: Split::new((0..2).map(|index| (fleet(index).clone(), weight(index)))).expect("a whole split"),
            version: names().version.clone(),
        }
    }

    pub(crate) fn sorted(mut self) -> Self {
        for fleet in &mut self.fleets {
            fleet.sort_unstable();
        }
        self
    }

    /// The effect of an action, or of only the first instance of it. Slots stay in place.
    pub(crate) fn apply(&mut self, action: &Action, partly: bool, switch: SwitchKind) {
        let most = if partly { 1 } else { usize::MAX };
        match action {
            Action::Grow { fleet, to } => {
                let index = index_of(fleet);
                self.exists[index] = true;
                let alive = self.fleets[index].iter().filter(|kind| **kind != GONE && !is_ended(**kind)).count();
                let more = (*to as usize).saturating_sub(alive).min(most);
                let free = self.fleets[index].iter_mut().filter(|kind| **kind == GONE);
                free.take(more).for_each(|kind| *kind = PENDING);
            }
            Action::End { instances, .. } => {
                for id in instances.iter().take(most) {
                    *self.slot(id) = ENDING;
                }
            }
            Action::Route(change) => {
                for id in &change.register {
                    *self.slot(id) = JOINING;
                }
                for id in &change.drain {
                    let slot = self.slot(id);
                    *slot = match *slot {
                        SERVING | JOINING | UNSURE => DRAINING,
                        AILING_DEAD => DRAINED_DEAD,
                        _ => DRAINING_BAD,
                    };
                }
                if matches!(switch, SwitchKind::Weighted { .. }) {
                    self.weights = [0, 1].map(|index| change.split.weight(fleet(index)).points());
                }
            }
            Action::Remove { fleet } => {
                let index = index_of(fleet);
                self.exists[index] = false;
            }
            other => panic!("an action that this model does not know: {other:?}"),
        }
    }

    /// The same action sent again: growth is to an absolute size, a route change names a version that has passed.
    pub(crate) fn apply_again(&mut self, action: &Action, switch: SwitchKind) {
        match action {
            Action::Route(_) => {}
            other => self.apply(other, false, switch),
        }
    }

    pub(crate) fn total(&self) -> usize {
        self.fleets.iter().map(|fleet| fleet.iter().filter(|kind| **kind != GONE).count()).sum()
    }

    fn slot(&mut self, id: &InstanceId) -> &mut u8 {
        let (fleet, slot) = id.as_str().split_once('-').expect("a name of ours");
        let index = usize::from(fleet == "new");
        &mut self.fleets[index][slot.parse::<usize>().expect("a slot of ours")]
    }

    /// Nobody is in traffic any more, and what can be used again is not known yet.
    fn emptied(&self) -> Self {
        let mut world = Self { weights: [0, 0], ..self.clone() };
        for kind in world.fleets.iter_mut().flatten() {
            *kind = match *kind {
                SERVING | JOINING | UNSURE => DRAINING,
                AILING | OUTDATED => DRAINING_BAD,
                AILING_DEAD => DRAINED_DEAD,
                other => other,
            };
        }
        world.sorted()
    }

    /// Every single move of the environment.
    pub(crate) fn moved(&self, moves: Moves) -> Vec<Self> {
        let mut worlds = Vec::new();
        if moves == Moves::Emptied {
            worlds.push(self.emptied());
        }
        for index in 0..2 {
            for slot in 0..self.fleets[index].len() {
                let kind = self.fleets[index][slot];
                if kind == GONE || slot > 0 && self.fleets[index][slot - 1] == kind {
                    continue;
                }
                for next in plain_moves(kind).iter().chain(bad_moves(kind, moves)) {
                    let mut world = self.clone();
                    world.fleets[index][slot] = *next;
                    worlds.push(world.sorted());
                }
            }
        }
        worlds
    }

    /// The environment when it behaves.
    pub(crate) fn behave(mut self, fair: Fair) -> Self {
        let heals = fair != Fair::NothingHeals;
        let busy = self
            .fleets
            .iter()
            .flatten()
            .any(|kind| matches!(*kind, PENDING | UNPROVEN | DRAINING | DRAINING_BAD | ENDING));
        let joins = fair != Fair::SlowBalancer || !busy;
        for fleet in &mut self.fleets {
            for kind in fleet.iter_mut() {
                *kind = match *kind {
                    PENDING => UNPROVEN,
                    UNPROVEN => PROVEN,
                    JOINING if joins => SERVING,
                    UNSURE => SERVING,
                    AILING if heals => SERVING,
                    DRAINING => DRAINED,
                    DRAINING_BAD => DRAINED_BAD,
                    ENDING => GONE,
                    other => other,
                };
            }
        }
        self.sorted()
    }
}

fn index_of(id: &FleetId) -> usize {
    usize::from(id == fleet(1))
}

fn is_ended(kind: u8) -> bool {
    let (phase, _, dead) = KINDS[usize::from(kind)];
    dead || phase == Phase::Ending
}

fn plain_moves(kind: u8) -> &'static [u8] {
    match kind {
        PENDING | PROVEN => &[UNPROVEN],
        UNPROVEN => &[PROVEN],
        JOINING | UNSURE => &[SERVING, AILING],
        SERVING => &[AILING],
        AILING => &[SERVING],
        DRAINING => &[DRAINED],
        DRAINING_BAD => &[DRAINED_BAD],
        ENDING => &[GONE],
        _ => &[],
    }
}

fn bad_moves(kind: u8, moves: Moves) -> &'static [u8] {
    match (moves, kind) {
        (Moves::Health, PENDING | UNPROVEN) => &[LATE],
        (Moves::Health, DRAINING) => &[DRAINING_BAD],
        (Moves::Health, DRAINED) => &[DRAINED_BAD],
        (Moves::Death, PENDING | UNPROVEN | PROVEN | DRAINING | DRAINED) => &[DRAINED_DEAD, GONE],
        (Moves::Death, JOINING | SERVING | AILING) => &[AILING_DEAD, GONE],
        (Moves::Drift, PROVEN) => &[PROVEN_OUTDATED],
        (Moves::Drift, SERVING) => &[OUTDATED],
        (Moves::Drift, OUTDATED) => &[AILING],
        (Moves::Silence, SERVING | AILING) => &[UNSURE],
        _ => &[],
    }
}
