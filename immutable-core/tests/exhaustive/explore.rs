//! The walk over all reachable states, and what is asked of each.

use std::collections::{HashMap, HashSet, VecDeque};

use immutable_core::decide::{Budget, Decision, FleetGoal, Goal, World, check, reached};
use immutable_core::model::Weight;
use immutable_core::provider::SwitchKind;

use crate::small_world::{Fair, Moves, SmallWorld, fleet};

pub(crate) type Decide<'a> = &'a dyn Fn(&World, &Goal, &Budget, SwitchKind) -> Decision;

/// One walk.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) budget: Budget,
    pub(crate) switch: SwitchKind,
    pub(crate) moves: Moves,
    canary: bool,
}

#[derive(Debug)]
pub(crate) enum Found {
    Nothing { states: usize },
    Broken(String),
}

impl Case {
    pub(crate) fn new(
        (desired, max_surge, max_unavailable): (u32, u32, u32),
        switch: SwitchKind,
        moves: Moves,
    ) -> Self {
        Self { budget: Budget { desired, max_surge, max_unavailable }, switch, moves, canary: true }
    }

    pub(crate) fn without_canary(self) -> Self {
        Self { canary: false, ..self }
    }

    /// What strategies ask for, forward and back; any may become the goal at any moment.
    fn goals(&self) -> Vec<(Goal, Budget)> {
        let n = self.budget.desired;
        let part = |index: usize, size, points| FleetGoal {
            fleet: fleet(index).clone(),
            size,
            weight: Weight::basis_points(points).expect("weight"),
        };
        let goal = |old, new, points: u16| {
            Goal::new([part(1, new, points), part(0, old, 10_000 - points)]).expect("a possible goal")
        };
        let mut goals = vec![goal(n, 0, 0), goal(0, n, 10_000)];
        if self.budget.max_surge >= n {
            goals.extend([goal(n, n, 0), goal(n, n, 10_000)]);
        }
        if self.canary && self.budget.max_surge >= 1 {
            goals.push(goal(n, 1, 5_000 / u16::try_from(n).expect("a small world")));
        }
        let mut goals: Vec<_> = goals.into_iter().map(|goal| (goal, self.budget)).collect();
        // The end of a service that has nothing to go back to.
        goals.push((Goal::nothing(), Budget { desired: 0, ..self.budget }));
        goals
    }
}

/// Walks every state that can be reached when any goal may be pursued at any moment.
pub(crate) fn explore(case: &Case, decide: Decide<'_>) -> Found {
    let goals = case.goals();
    let starts = [0, case.budget.desired as usize].map(|size| SmallWorld::start(size, case.switch));
    let mut seen: HashSet<SmallWorld> = starts.iter().cloned().collect();
    let mut queue: VecDeque<SmallWorld> = starts.into();
    while let Some(state) = queue.pop_front() {
        let mut following = state.moved(case.moves);
        let world = state.view();
        for (goal, budget) in &goals {
            let decision = decide(&world, goal, budget, case.switch);
            match effects(&state, &decision, budget, case.switch) {
                Ok(worlds) => following.extend(worlds),
                Err(broken) => return Found::Broken(format!("{broken} in {state} toward {goal}")),
            }
        }
        for next in following {
            if !seen.contains(&next) {
                seen.insert(next.clone());
                queue.push_back(next);
            }
        }
    }
    for (goal, budget) in &goals {
        for fair in [Fair::Best, Fair::NothingHeals, Fair::SlowBalancer] {
            if let Err(broken) = progress(&seen, goal, budget, fair, case.switch, decide) {
                return Found::Broken(broken);
            }
        }
    }
    Found::Nothing { states: seen.len() }
}

/// The world after a decision: all of it in both orders, each action alone, half-done, and repeated.
fn effects(
    state: &SmallWorld,
    decision: &Decision,
    budget: &Budget,
    switch: SwitchKind,
) -> Result<Vec<SmallWorld>, String> {
    let actions = &decision.actions;
    let mut worlds = Vec::new();
    for order in [actions.iter().collect::<Vec<_>>(), actions.iter().rev().collect()] {
        let mut after = state.clone();
        for action in order {
            check(&after.view(), action, budget, switch).map_err(|violation| violation.to_string())?;
            after.apply(action, false, switch);
        }
        worlds.push(after.sorted());
    }
    for action in actions {
        let mut alone = state.clone();
        alone.apply(action, true, switch);
        worlds.push(alone.clone().sorted());
        // The rest of it arrives late, and then all of it once more.
        for _ in 0..2 {
            alone.apply_again(action, switch);
            if alone.total() > budget.ceiling().max(state.total()) {
                return Err(format!("surge: a repeated {action} makes {} instances", alone.total()));
            }
        }
        worlds.push(alone.sorted());
    }
    Ok(worlds)
}

/// Once the environment behaves, the goal is reached from every state, and then nothing more is done.
fn progress(
    seen: &HashSet<SmallWorld>,
    goal: &Goal,
    budget: &Budget,
    fair: Fair,
    switch: SwitchKind,
    decide: Decide<'_>,
) -> Result<(), String> {
    // `None`: on the path that is being walked now, so that a circle is noticed.
    let mut known: HashMap<SmallWorld, Option<()>> = HashMap::new();
    for start in seen {
        let mut path = Vec::new();
        let mut state = start.clone();
        loop {
            match known.get(&state) {
                Some(Some(())) => break,
                Some(None) => {
                    return Err(format!("progress: {goal} is never reached, or never left alone, from {state}"));
                }
                None => {}
            }
            let world = state.view();
            let decision = decide(&world, goal, budget, switch);
            let arrived = reached(&world, goal, switch, |size| size);
            if arrived && decision.actions.is_empty() {
                known.insert(state, Some(()));
                break;
            }
            known.insert(state.clone(), None);
            let mut next = state.clone();
            for action in &decision.actions {
                next.apply(action, false, switch);
            }
            let next = next.behave(fair);
            if next == state && decision.actions.is_empty() && decision.waiting.is_empty() {
                return Err(format!("progress: nothing is done and nothing is waited for in {state} toward {goal}"));
            }
            path.push(std::mem::replace(&mut state, next));
        }
        known.extend(path.into_iter().map(|state| (state, Some(()))));
    }
    Ok(())
}
