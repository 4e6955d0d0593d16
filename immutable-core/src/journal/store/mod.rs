//! Where a shared journal keeps its records: a small trait that object stores, directories and memory can all fulfil.

#[cfg(any(test, feature = "testkit"))]
pub mod conformance;
mod directory;
mod key;
mod memory;

use std::error::Error;
use std::fmt;

use async_trait::async_trait;

pub use directory::DirectoryStore;
pub use key::{RecordKey, RecordKeyError};
pub use memory::MemoryStore;

/// Named records that are created once, and replaced only by those who know what they replace.
///
/// # Contract
/// * **S1 created only if absent.** Of any number of creations of a key, at most one succeeds; the others change nothing and are
///   [`Exists`](StoreError::Exists).
/// * **S2 compare and swap.** A record is replaced only if its version is the expected one; of any number of replacements that
///   expect the same version, at most one succeeds. The others change nothing and are [`Stale`](StoreError::Stale), and so is
///   the replacement of a record that is not there.
/// * **S3 versions.** A version is changed by every write of another body. Equal bodies may have equal versions (an `ETag` is often a
///   hash): whoever relies on versions makes its bodies differ.
/// * **S4 read your writes.** `get` and `list_after` see every write that was answered before they were called.
/// * **S5 whole or not at all.** A reader sees a record as it was written, or none. A write whose call failed with
///   [`Failed`](StoreError::Failed), or was dropped, may have happened, or may happen later, as a whole.
/// * **S6 in order.** `list_after` gives all names of a folder that are greater than a name, in the order of their bytes.
/// * **S7 deletion.** After `delete` there is no such record; deleting what is not there is done.
/// * **S8 one attempt.** A call tries once and never repeats a write by itself: a second try would take the first one's record for
///   somebody else's.
///
/// # Cancellation
/// A dropped write may still happen, as in S5. Dropping a `get` or a `list_after` leaves nothing behind.
#[async_trait]
pub trait RecordStore: fmt::Debug + Send + Sync + 'static {
    /// Creates a record that must not be there.
    ///
    /// # Errors
    /// [`StoreError::Exists`] when there is one; [`StoreError::Failed`] when it is not known.
    async fn create(&self, key: &RecordKey, body: &[u8]) -> Result<Version, StoreError>;

    /// The record of a key, if there is one.
    ///
    /// # Errors
    /// [`StoreError::Failed`].
    async fn get(&self, key: &RecordKey) -> Result<Option<Stored>, StoreError>;

    /// Replaces a record that must still have the expected version.
    ///
    /// # Errors
    /// [`StoreError::Stale`] when it has another, or is not there; [`StoreError::Failed`] when it is not known.
    async fn compare_and_swap(&self, key: &RecordKey, body: &[u8], expected: &Version) -> Result<Version, StoreError>;

    /// The keys in the folder of `after` whose names are greater than its own, in order.
    ///
    /// # Errors
    /// [`StoreError::Failed`].
    async fn list_after(&self, after: &RecordKey) -> Result<Vec<RecordKey>, StoreError>;

    /// Deletes a record, whatever its version.
    ///
    /// # Errors
    /// [`StoreError::Failed`].
    async fn delete(&self, key: &RecordKey) -> Result<(), StoreError>;
}

/// A record and its version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// What was written.
    pub body: Vec<u8>,
    /// The version that it has.
    pub version: Version,
}

/// Tells a record from what it was before. What it says is the store's business.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Version(String);

impl Version {
    /// A version, for implementations of [`RecordStore`] to give out.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The version as its store gave it out.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Why a call to a store failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// There is such a record already, and it was left as it is.
    #[error("record {key} exists already")]
    Exists {
        /// The record.
        key: RecordKey,
    },
    /// The record is not what was expected, and was left as it is.
    #[error("record {key} was changed meanwhile")]
    Stale {
        /// The record.
        key: RecordKey,
    },
    /// The store failed, or did not answer. A write may have happened, or may happen later.
    #[error("cannot {operation}")]
    Failed {
        /// What was tried, on what, and the kind of failure, in one line and without secrets.
        operation: String,
        /// The cause, for logs.
        source: Box<dyn Error + Send + Sync>,
    },
}

impl StoreError {
    /// A failure of the medium: what was tried, on what, and why it failed.
    pub fn failed(operation: impl Into<String>, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Failed { operation: operation.into().replace(['\n', '\r'], " "), source: source.into() }
    }
}
