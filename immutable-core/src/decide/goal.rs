//! What the world is to become, and how far it may sag on the way.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::model::{FleetId, Split, SplitError, Weight};

/// How large each fleet is and how traffic is split. A fleet that is not named is to be gone.
///
/// The order is the order of importance: the first fleet is what the goal is about and grows first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<FleetGoal>", into = "Vec<FleetGoal>")]
pub struct Goal {
    fleets: Vec<FleetGoal>,
    split: Split,
}

/// One fleet of a goal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FleetGoal {
    /// Which fleet.
    pub fleet: FleetId,
    /// How many instances it has.
    pub size: u32,
    /// Its share of the traffic.
    pub weight: Weight,
}

/// A goal that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GoalError {
    /// The weights do not sum to the whole.
    #[error(transparent)]
    Split(#[from] SplitError),
    /// A fleet is named twice.
    #[error("fleet {0} is named twice: name each fleet once")]
    Twice(FleetId),
    /// A fleet has traffic and no instances.
    #[error("fleet {0} has traffic and no instances: give it a size of at least 1")]
    Empty(FleetId),
}

impl Goal {
    /// A goal from its fleets; the weights sum to the whole, or are all zero for a closed route.
    ///
    /// # Errors
    /// [`GoalError`] names the fleet and what is wrong with it.
    pub fn new(fleets: impl IntoIterator<Item = FleetGoal>) -> Result<Self, GoalError> {
        let fleets: Vec<FleetGoal> = fleets.into_iter().filter(|f| f.size > 0 || !f.weight.is_none()).collect();
        for (index, goal) in fleets.iter().enumerate() {
            if goal.size == 0 {
                return Err(GoalError::Empty(goal.fleet.clone()));
            }
            if fleets[..index].iter().any(|other| other.fleet == goal.fleet) {
                return Err(GoalError::Twice(goal.fleet.clone()));
            }
        }
        let split = Split::new(fleets.iter().map(|goal| (goal.fleet.clone(), goal.weight)))?;
        Ok(Self { fleets, split })
    }

    /// One fleet with all of the traffic.
    ///
    /// # Errors
    /// [`GoalError::Empty`] for a size of zero.
    pub fn only(fleet: FleetId, size: u32) -> Result<Self, GoalError> {
        Self::new([FleetGoal { fleet, size, weight: Weight::FULL }])
    }

    /// Nothing at all: no instances and a closed route.
    pub fn nothing() -> Self {
        Self { fleets: Vec::new(), split: Split::closed() }
    }

    /// The fleets, in the order in which they were given.
    pub fn fleets(&self) -> &[FleetGoal] {
        &self.fleets
    }

    /// One fleet's part of the goal.
    pub fn fleet(&self, id: &FleetId) -> Option<&FleetGoal> {
        self.fleets.iter().find(|goal| goal.fleet == *id)
    }

    /// How traffic is split.
    pub fn split(&self) -> &Split {
        &self.split
    }

    /// How many instances the goal has in all.
    pub fn total(&self) -> u64 {
        self.fleets.iter().map(|goal| u64::from(goal.size)).sum()
    }
}

impl TryFrom<Vec<FleetGoal>> for Goal {
    type Error = GoalError;
    fn try_from(fleets: Vec<FleetGoal>) -> Result<Self, GoalError> {
        Self::new(fleets)
    }
}

impl From<Goal> for Vec<FleetGoal> {
    fn from(goal: Goal) -> Self {
        goal.fleets
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.fleets.is_empty() {
            return write!(f, "nothing");
        }
        for (index, goal) in self.fleets.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{} x {} at {}", goal.size, goal.fleet, goal.weight)?;
        }
        Ok(())
    }
}

/// How many instances may be surplus or missing while a goal is approached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Budget {
    /// How many instances the service needs to carry all of its traffic.
    pub desired: u32,
    /// How many more than `desired` may exist, ending ones counted.
    pub max_surge: u32,
    /// How many fewer than `desired` may serve.
    pub max_unavailable: u32,
}

impl Budget {
    /// The least proven capacity that our acts leave, and the denominator of the conservation law.
    pub fn required(&self) -> usize {
        self.desired.saturating_sub(self.max_unavailable) as usize
    }

    /// How many instances a share of the traffic needs.
    pub(crate) fn needed(&self, weight: Weight) -> u32 {
        let required = u64::from(self.desired.saturating_sub(self.max_unavailable));
        let needed = (required * u64::from(weight.points())).div_ceil(u64::from(Weight::FULL.points()));
        u32::try_from(needed).unwrap_or(u32::MAX)
    }

    /// The most instances that may exist.
    pub fn ceiling(&self) -> usize {
        self.desired as usize + self.max_surge as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goal_is_counted_over_all_its_fleets() {
        let part = |fleet: &str, size| FleetGoal { fleet: fleet.parse().expect("name"), size, weight: Weight::NONE };
        assert_eq!(Goal::new([part("a", 4), part("b", u32::MAX)]).map(|goal| goal.total()), Ok(4_294_967_299));
    }

    #[test]
    fn an_impossible_goal_is_refused() {
        let part = |fleet: &str, size, percent| FleetGoal {
            fleet: fleet.parse().expect("name"),
            size,
            weight: Weight::percent(percent).expect("weight"),
        };
        let check = |fleets: Vec<FleetGoal>| Goal::new(fleets).map(|g| g.to_string()).map_err(|e| e.to_string());
        assert_eq!(check(vec![part("a", 4, 95), part("b", 1, 5)]), Ok("4 x a at 95 %, 1 x b at 5 %".into()));
        assert_eq!(check(vec![part("a", 0, 0)]), Ok("nothing".into()));
        let empty = "fleet a has traffic and no instances: give it a size of at least 1";
        assert_eq!(check(vec![part("a", 0, 100)]), Err(empty.into()));
        let twice = "fleet a is named twice: name each fleet once";
        assert_eq!(check(vec![part("a", 1, 50), part("a", 1, 50)]), Err(twice.into()));
        let sum = "split of 5000 basis points in sum: must be exactly 10000, or nothing for a closed route";
        assert_eq!(check(vec![part("a", 1, 50)]), Err(sum.into()));
    }
}
