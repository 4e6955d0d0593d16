//! The names of records.

use std::fmt;

/// The name of a record: a folder and a name in it. Letters, digits, `-`, `_` and `.`, so that every store can have it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordKey {
    folder: String,
    name: String,
}

/// A text that cannot be part of a [`RecordKey`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("record key {text:?}: must be 1 to 200 letters, digits, '-', '_' or '.', and not begin with '.'")]
pub struct RecordKeyError {
    text: String,
}

impl RecordKey {
    /// A key.
    ///
    /// # Errors
    /// When the folder or the name is not one that every store can have.
    pub fn new(folder: impl Into<String>, name: impl Into<String>) -> Result<Self, RecordKeyError> {
        let (folder, name) = (folder.into(), name.into());
        for part in [&folder, &name] {
            let is_good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
            if part.is_empty() || part.len() > 200 || part.starts_with('.') || !part.bytes().all(is_good) {
                return Err(RecordKeyError { text: part.chars().take(80).collect() });
            }
        }
        Ok(Self { folder, name })
    }

    /// What it has in common with the other records of the same journal.
    pub fn folder(&self) -> &str {
        &self.folder
    }

    /// What tells it from them.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for RecordKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.folder, self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_every_store_can_have_is_a_key() {
        assert_eq!(RecordKey::new("web", "r-1").unwrap().to_string(), "web/r-1");
        let long = "x".repeat(201);
        for bad in ["", ".", "..", ".x", "a/b", "a b", "ü", "a\n", &long] {
            assert!(RecordKey::new(bad, "r").is_err(), "{bad}");
            assert!(RecordKey::new("web", bad).is_err(), "{bad}");
        }
    }
}
