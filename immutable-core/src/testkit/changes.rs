//! What calls changed, for those who check every step.

use jiff::Timestamp;

use super::machine::SimInstance;
use super::operation::Operation;
use crate::model::Split;
use crate::provider::Member;

/// One changing call as it arrived, with what was there just before it and just after.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Change {
    /// When it arrived.
    pub at: Timestamp,
    /// When it was sent.
    pub sent: Timestamp,
    /// What was called.
    pub operation: Operation,
    /// The epoch of its caller.
    pub epoch: u64,
    /// What was there before.
    pub before: Truth,
    /// What is there after.
    pub after: Truth,
}

/// What really is at one moment, whatever anybody was told.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Truth {
    /// Every instance that is not gone for good.
    pub instances: Vec<SimInstance>,
    /// The members of the first route by name.
    pub members: Vec<Member>,
    /// The weights in effect on it.
    pub split: Split,
    /// How many members are healthy and get requests, on all routes.
    pub serving: usize,
}
