//! What was said, for whoever holds it to the vendor's models.

use serde_json::Value;

/// A request and its answer.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Exchange {
    /// Such as `PUT Microsoft.Compute/virtualMachineScaleSets`, or `LIST …`.
    pub operation: String,
    /// The status of the answer.
    pub status: u16,
    /// The body of the request; `null`: none.
    pub request: Value,
    /// The body of the answer; `null`: none.
    pub answer: Value,
}
