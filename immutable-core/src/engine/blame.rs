//! Blame before rollback: how the fleet that serves beside the new one fares.

use crate::model::FleetId;

/// How the instances of one fleet fare.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fare {
    /// How many are proven healthy.
    pub well: usize,
    /// How many are ill, or dead.
    pub ill: usize,
    /// How many there are, those counted of which nothing is known now.
    pub all: usize,
}

/// The new fleet, and the one that serves beside it, at one moment.
///
/// Of the old one only those count that were seen healthy in this rollout and were not taken out of traffic while they
/// were: an old release that was ill from the start is no excuse for the new one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Beside {
    /// The fleet that serves beside the new one, if there is one.
    pub fleet: Option<FleetId>,
    /// How it fares.
    pub old: Fare,
    /// How the new one fares. Ill are those only that fell ill, died, or were not ready in time.
    pub new: Fare,
    /// The last bad look at each, for people.
    pub looks: Vec<String>,
}

impl Beside {
    /// Whether at least half of the old fleet fell ill, while the new one is ill, too, or makes no progress.
    pub fn blames_environment(&self, overdue: bool) -> bool {
        self.old.ill > 0 && self.old.ill * 2 >= self.old.all && (self.new.ill > 0 || overdue)
    }

    /// Whether most of the old fleet is well again, or nothing is left of it; or the new one is well without it, which a
    /// broken old release must never hold up.
    pub fn is_over(&self) -> bool {
        let new_is_well = self.new.all > 0 && self.new.well == self.new.all;
        self.old.well * 2 > self.old.all || self.old.all == 0 || new_is_well
    }

    /// What it rests on, for people.
    pub fn evidence(&self) -> String {
        let fleet = self.fleet.as_ref().map_or("the old fleet", |fleet| fleet.as_str());
        let (Fare { ill, all, .. }, new) = (&self.old, &self.new);
        let counts = format!(
            "{ill} of {all} instances of {fleet} that were healthy are ill, with {} of {} of the new release",
            new.ill, new.all
        );
        std::iter::once(counts).chain(self.looks.iter().cloned()).collect::<Vec<_>>().join("; ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_evidence_names_the_fleet_the_counts_and_the_looks() {
        let (old, new) = (Fare { well: 1, ill: 3, all: 4 }, Fare { well: 0, ill: 1, all: 2 });
        let looks = vec!["refused".to_owned(), "500".to_owned()];
        let beside = Beside { fleet: Some("web-1".parse().unwrap()), old, new, looks };
        let counts = |fleet: &str| {
            format!(
                "3 of 4 instances of {fleet} that were healthy are ill, with 1 of 2 of the new release; refused; 500"
            )
        };
        assert_eq!(beside.evidence(), counts("web-1"));
        assert_eq!(Beside { fleet: None, ..beside }.evidence(), counts("the old fleet"));
    }
}
