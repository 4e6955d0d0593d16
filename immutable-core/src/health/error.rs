//! A setting that cannot work.

/// A setting of a probe or of a policy that cannot work: says which one, and which rule it breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{of}: {field} {problem}")]
pub struct HealthConfigError {
    of: &'static str,
    field: &'static str,
    problem: &'static str,
}

impl HealthConfigError {
    pub(super) fn new(of: &'static str, field: &'static str, problem: &'static str) -> Self {
        Self { of, field, problem }
    }

    /// The name of the setting.
    pub fn field(&self) -> &'static str {
        self.field
    }
}
