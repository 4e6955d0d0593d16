//! Worlds, goals and actions written on one line.
//!
//! A world is `fleet at points [instances]` for each fleet, points being its weight in effect. An instance is a letter:
//! `p` pending, `u` unproven, `P` proven, `j` joining, `S` serving, `?` unsure, `a` ailing, `d` draining, `D` drained,
//! `e` ending; `!` behind it: to be replaced, `x`: dead, `-`: without an endpoint. It is named by its fleet and its place.
//! A fleet with `*` before it holds its growth; one with `~` has its weight and does not exist.

use crate::decide::{Action, Budget, FleetGoal, FleetView, Goal, InstanceView, Phase, RouteChange, Waiting, World};
use crate::model::{FleetId, Split, Weight};
use crate::provider::SwitchKind;

fn weight(points: u16) -> Weight {
    Weight::basis_points(points).expect("weight")
}

fn fleet(name: &str) -> FleetId {
    name.parse().expect("name")
}

/// `desired max_surge max_unavailable switch: world toward goal`, the switch being `members` or `step points`.
pub(crate) fn case(text: &str) -> (World, Goal, Budget, SwitchKind) {
    let (settings, rest) = text.split_once(": ").expect("settings");
    let (from, to) = rest.split_once(" toward ").expect("a goal");
    let words: Vec<&str> = settings.split_whitespace().collect();
    let count = |index: usize| words[index].parse().expect("a count");
    let switch = match words[3] {
        "members" => SwitchKind::Membership,
        _ => SwitchKind::Weighted { step: weight(words[4].parse().expect("points")) },
    };
    let budget = Budget { desired: count(0), max_surge: count(1), max_unavailable: count(2) };
    (world(from), goal(to), budget, switch)
}

fn instance(fleet: &str, place: usize, marks: &str) -> InstanceView {
    let phase = match &marks[..1] {
        "p" => Phase::Pending,
        "u" => Phase::Unproven,
        "P" => Phase::Proven,
        "j" => Phase::Joining,
        "S" => Phase::Serving,
        "?" => Phase::Unsure,
        "a" => Phase::Ailing,
        "d" => Phase::Draining,
        "D" => Phase::Drained,
        "e" => Phase::Ending,
        other => panic!("no phase is written {other}"),
    };
    let dead = marks.contains('x');
    InstanceView {
        id: format!("{fleet}{place}").parse().expect("name"),
        phase,
        replace: dead || phase == Phase::Ending || marks.contains('!'),
        dead,
        endpoint: (!marks.contains('-')).then(|| "127.0.0.1:1".parse().expect("endpoint")),
    }
}

fn world(text: &str) -> World {
    let (mut weights, mut fleets) = (Vec::new(), Vec::new());
    for part in text.split(']').filter(|part| !part.trim().is_empty()) {
        let (head, instances) = part.split_once('[').expect("instances");
        let (marked, points) = head.split_once(" at ").expect("a weight");
        let name = marked.trim().trim_start_matches(['*', '~']);
        weights.push((fleet(name), weight(points.trim().parse().expect("points"))));
        let instances = instances.split_whitespace().enumerate().map(|(place, marks)| instance(name, place, marks));
        if !marked.contains('~') {
            fleets.push(FleetView {
                id: fleet(name),
                instances: instances.collect(),
                hold_growth: marked.contains('*'),
            });
        }
    }
    let split = Split::new(weights).expect("split");
    World { as_of: jiff::Timestamp::UNIX_EPOCH, fleets, split, version: "1".parse().expect("version") }
}

/// `fleet size@points` for each fleet, the most important one first, or `nothing`.
fn goal(text: &str) -> Goal {
    let words: Vec<&str> = text.split_whitespace().filter(|word| *word != "nothing").collect();
    let parts = words.chunks(2).map(|part| {
        let (size, points) = part[1].split_once('@').expect("size@points");
        let (size, points) = (size.parse().expect("size"), points.parse().expect("points"));
        FleetGoal { fleet: fleet(part[0]), size, weight: weight(points) }
    });
    Goal::new(parts).expect("goal")
}

/// `grow fleet size`, `end fleet instance…`, `remove fleet`, or `route fleet=points… +instance… -instance…`.
pub(crate) fn action(text: &str) -> Action {
    let words: Vec<&str> = text.split_whitespace().collect();
    let marked = |mark: char| {
        words.iter().filter_map(|word| word.strip_prefix(mark)).map(|name| name.parse().expect("name")).collect()
    };
    match words[0] {
        "grow" => Action::Grow { fleet: fleet(words[1]), to: words[2].parse().expect("size") },
        "end" => Action::End {
            fleet: fleet(words[1]),
            instances: words[2..].iter().map(|name| name.parse().expect("name")).collect(),
        },
        "remove" => Action::Remove { fleet: fleet(words[1]) },
        "route" => {
            let weights = words.iter().filter_map(|word| word.split_once('='));
            let weights = weights.map(|(name, points)| (fleet(name), weight(points.parse().expect("points"))));
            let split = Split::new(weights).expect("split");
            Action::Route(RouteChange { split, register: marked('+'), drain: marked('-') })
        }
        other => panic!("no action is written {other}"),
    }
}

/// The action as it would be written.
pub(crate) fn written(action: &Action) -> String {
    let words: Vec<String> = match action {
        Action::Grow { fleet, to } => vec!["grow".into(), fleet.to_string(), to.to_string()],
        Action::End { fleet, instances } => {
            let head = ["end".into(), fleet.to_string()];
            head.into_iter().chain(instances.iter().map(ToString::to_string)).collect()
        }
        Action::Remove { fleet } => vec!["remove".into(), fleet.to_string()],
        Action::Route(change) => {
            let weights = change.split.iter().map(|(fleet, weight)| format!("{fleet}={}", weight.points()));
            let register = change.register.iter().map(|id| format!("+{id}"));
            let drain = change.drain.iter().map(|id| format!("-{id}"));
            std::iter::once("route".into()).chain(weights).chain(register).chain(drain).collect()
        }
    };
    words.join(" ")
}

/// What is waited for: the word, the fleet, how many; for capacity, how many serve of how many.
pub(super) fn awaited(waiting: &Waiting) -> String {
    let (word, fleet, count) = match waiting {
        Waiting::Start { fleet, count } => ("start", fleet, count),
        Waiting::Proof { fleet, count } => ("proof", fleet, count),
        Waiting::Balancer { fleet, count } => ("balancer", fleet, count),
        Waiting::Looks { fleet, count } => ("looks", fleet, count),
        Waiting::Drain { fleet, count } => ("drain", fleet, count),
        Waiting::End { fleet, count } => ("end", fleet, count),
        Waiting::Room { fleet, missing, .. } => ("room", fleet, missing),
        Waiting::Backoff { fleet, missing } => ("backoff", fleet, missing),
        Waiting::Capacity { serving, required } => return format!("wait capacity {serving} of {required}"),
    };
    format!("wait {word} {fleet} {count}")
}
