//! What must not be seen.

use std::fmt;

/// A password, a token, or the value of a header. `Debug` never prints it.
///
/// ```
/// let secret = immutable_prometheus::Secret::new("hunter2");
/// assert_eq!(format!("{secret:?}"), "Secret(..)");
/// ```
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// A secret with a value.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}
