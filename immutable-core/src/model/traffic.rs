//! Weights and splits of traffic, in basis points.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::FleetId;

/// A share of traffic in basis points: hundredths of a percent, 0 to 10 000.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub struct Weight(u16);

impl Weight {
    /// No traffic.
    pub const NONE: Self = Self(0);
    /// All traffic: 10 000 basis points.
    pub const FULL: Self = Self(10_000);

    /// A weight in basis points.
    ///
    /// # Errors
    /// [`SplitError::Weight`] above 10 000.
    pub fn basis_points(points: u16) -> Result<Self, SplitError> {
        if points > Self::FULL.0 { Err(SplitError::Weight(points.into())) } else { Ok(Self(points)) }
    }

    /// A weight in whole percent.
    ///
    /// # Errors
    /// [`SplitError::Weight`] above 100.
    pub fn percent(percent: u16) -> Result<Self, SplitError> {
        let points = u32::from(percent) * 100;
        u16::try_from(points).map_err(|_| SplitError::Weight(points)).and_then(Self::basis_points)
    }

    /// The weight in basis points.
    pub fn points(self) -> u16 {
        self.0
    }

    /// Whether this is no traffic at all.
    pub fn is_none(self) -> bool {
        self.0 == 0
    }
}

impl TryFrom<u16> for Weight {
    type Error = SplitError;
    fn try_from(points: u16) -> Result<Self, SplitError> {
        Self::basis_points(points)
    }
}

impl From<Weight> for u16 {
    fn from(weight: Weight) -> u16 {
        weight.0
    }
}

impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, part) = (self.0 / 100, self.0 % 100);
        match part {
            0 => write!(f, "{whole} %"),
            _ => write!(f, "{whole}.{part:02} %"),
        }
    }
}

/// A weight or a split that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SplitError {
    /// A weight above 10 000 basis points.
    #[error("weight of {0} basis points: the whole is 10000")]
    Weight(u32),
    /// Weights that do not sum to the whole.
    #[error("split of {0} basis points in sum: must be exactly 10000, or nothing for a closed route")]
    Sum(u32),
}

/// How traffic is shared between fleets: weights that sum to exactly 10 000 basis points, or a closed route.
///
/// A fleet that is not named has weight zero; a weight of zero is not stored, so equal splits are equal values.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<FleetId, Weight>", into = "BTreeMap<FleetId, Weight>")]
pub struct Split(BTreeMap<FleetId, Weight>);

impl Split {
    /// A route that leads nowhere.
    pub fn closed() -> Self {
        Self::default()
    }

    /// All traffic to one fleet.
    pub fn all_to(fleet: FleetId) -> Self {
        Self(BTreeMap::from([(fleet, Weight::FULL)]))
    }

    /// A split from weights; zero weights are dropped, and nothing but zeros is a closed route.
    ///
    /// # Errors
    /// [`SplitError::Sum`] when the weights sum to anything but 10 000 or 0.
    pub fn new(weights: impl IntoIterator<Item = (FleetId, Weight)>) -> Result<Self, SplitError> {
        let weights: BTreeMap<_, _> = weights.into_iter().filter(|(_, weight)| !weight.is_none()).collect();
        match weights.values().map(|weight| u32::from(weight.0)).sum() {
            0 | 10_000 => Ok(Self(weights)),
            sum => Err(SplitError::Sum(sum)),
        }
    }

    /// The share of one fleet.
    pub fn weight(&self, fleet: &FleetId) -> Weight {
        self.0.get(fleet).copied().unwrap_or(Weight::NONE)
    }

    /// Whether the route leads nowhere.
    pub fn is_closed(&self) -> bool {
        self.0.is_empty()
    }

    /// The fleets with traffic, in order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&FleetId, Weight)> {
        self.0.iter().map(|(fleet, weight)| (fleet, *weight))
    }

    /// The fleet with the most traffic; the first by name among equals.
    pub fn heaviest(&self) -> Option<&FleetId> {
        self.0.iter().rev().max_by_key(|(_, weight)| **weight).map(|(fleet, _)| fleet)
    }
}

impl TryFrom<BTreeMap<FleetId, Weight>> for Split {
    type Error = SplitError;
    fn try_from(weights: BTreeMap<FleetId, Weight>) -> Result<Self, SplitError> {
        Self::new(weights)
    }
}

impl From<Split> for BTreeMap<FleetId, Weight> {
    fn from(split: Split) -> Self {
        split.0
    }
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_closed() {
            return write!(f, "closed");
        }
        for (index, (fleet, weight)) in self.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{fleet} {weight}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fleet(name: &str) -> FleetId {
        FleetId::new(name).expect("a valid name")
    }

    #[test]
    fn a_split_sums_to_the_whole_or_is_closed() {
        let weight = |points| Weight::basis_points(points).expect("at most 10000");
        let check = |points: &[u16]| {
            let named = points.iter().enumerate().map(|(i, p)| (fleet(&format!("f{i}")), weight(*p)));
            Split::new(named).map_err(|e| e.to_string())
        };
        assert!(check(&[500, 9500]).is_ok());
        assert_eq!(check(&[]), Ok(Split::closed()));
        assert_eq!(check(&[0, 0]), Ok(Split::closed()));
        let error = "split of 9999 basis points in sum: must be exactly 10000, or nothing for a closed route";
        assert_eq!(check(&[9999]), Err(error.to_owned()));
        assert!(check(&[10_000, 10_000]).is_err());
    }

    #[test]
    fn weights_above_the_whole_are_refused() {
        assert_eq!(Weight::percent(100), Ok(Weight::FULL));
        assert_eq!(Weight::percent(101), Err(SplitError::Weight(10_100)));
        assert_eq!(Weight::percent(u16::MAX), Err(SplitError::Weight(6_553_500)));
        assert_eq!(Weight::basis_points(10_001), Err(SplitError::Weight(10_001)));
    }

    #[test]
    fn a_split_is_checked_when_read_back() {
        assert!(serde_json::from_str::<Split>(r#"{"a":2500,"b":7500}"#).is_ok());
        assert!(serde_json::from_str::<Split>(r#"{"a":2500}"#).is_err());
        assert!(serde_json::from_str::<Split>(r#"{"a":65000}"#).is_err());
    }

    #[test]
    fn the_heaviest_fleet_is_the_first_among_equals() {
        let half = Weight::percent(50).expect("half");
        let split = Split::new([(fleet("b"), half), (fleet("a"), half)]).expect("whole");
        assert_eq!(split.heaviest(), Some(&fleet("a")));
        assert_eq!(split.to_string(), "a 50 %, b 50 %");
    }
}
