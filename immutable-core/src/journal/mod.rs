//! The durable record of a service: one append-only log, written by one owner at a time.
//!
//! What an entry says is its writer's business: to a journal a body is JSON, kept and given back unchanged.
//!
//! * [`MemoryJournal`] is for tests and for rollouts that need not survive their process.
//! * [`FileJournal`] keeps one file of lines per service in a directory.
//! * [`StoreJournal`] is shared by many hosts: numbered records and a lease in any [`RecordStore`](store::RecordStore).

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test stops at the first surprise"))]

mod entry;
mod error;
mod file;
mod lease;
mod memory;
mod record;
pub mod store;
mod store_journal;

#[cfg(test)]
mod contract;

use async_trait::async_trait;
use jiff::Timestamp;
use serde_json::Value;

pub use entry::{Entry, Nonce, NonceError};
pub use error::JournalError;
pub use file::FileJournal;
pub use lease::Lease;
pub use memory::MemoryJournal;
pub use store_journal::StoreJournal;

use crate::model::{OwnerId, ServiceName};

/// The most bytes that the body of one entry may have as JSON: one mebibyte.
///
/// The whole journal is read at every take-over, so an entry must stay small.
pub const MAX_BODY_BYTES: usize = 1 << 20;

/// One append-only log per service, and the right to write it.
///
/// # Contract
/// * **J1 created only if absent.** Entries are numbered from 1 without a gap, and each number is written once:
///   of any number of appends with the same number, exactly one succeeds. This is the fence.
/// * **J2 fenced.** Epochs of a service only rise, also over restarts. Once a newer epoch exists, no append and no check with an
///   older one succeeds. A journal may instead refuse the take-over as [`Held`](JournalError::Held) while the older owner lives.
/// * **J3 durable.** What `append` and `take_over` have answered survives a crash of the process and of the machine,
///   as far as the medium can.
/// * **J4 complete and in order.** `list` and `take_over` show every entry that an append has answered, from 1 up, unchanged.
///   A journal that does not exist is an empty one.
/// * **J5 a lost answer is no loss.** An append answers [`SequenceTaken`](JournalError::SequenceTaken) only when the entry there is not the one
///   that this very call wrote. Where an answer can be lost, the implementation reads back and compares the [`Nonce`],
///   which it draws anew for each call.
/// * **J6 whole or not at all.** An append that failed, or was dropped, has left its whole entry behind or nothing; no reader sees a part.
/// * **J7 damage is told.** Content that cannot be trusted is [`Corrupt`](JournalError::Corrupt) or
///   [`UnknownVersion`](JournalError::UnknownVersion), never a guess and never a shorter list.
///
/// # Cancellation
/// A dropped `append` may still write its entry, as a whole, even after the drop; take over or list to know.
/// A dropped `take_over` may have begun a new epoch; its lease is gone, and so is the exclusion that it held.
/// Dropping the others leaves nothing behind.
///
/// # Examples
/// ```
/// use immutable_core::journal::{Journal, JournalError, MemoryJournal};
/// # use jiff::Timestamp;
/// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
/// let journal = MemoryJournal::new();
/// let (service, owner) = ("web".parse()?, "deployer-1".parse()?);
///
/// let (lease, entries) = journal.take_over(&service, &owner).await?;
/// assert!(entries.is_empty());
/// let entry = journal.append(&lease, 1, Timestamp::UNIX_EPOCH, &serde_json::json!({ "begun": true })).await?;
/// assert_eq!(journal.list(&service).await?, [entry]);
///
/// let (newer, _) = journal.take_over(&service, &"deployer-2".parse()?).await?;
/// assert!(matches!(journal.check(&lease).await, Err(JournalError::Fenced { .. })));
/// journal.release(newer).await?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[cfg_attr(feature = "mocks", mockall::automock)]
#[async_trait]
pub trait Journal: std::fmt::Debug + Send + Sync + 'static {
    /// Takes the right to write, making the journal if it is absent: a new, higher epoch. Answers with all entries so far.
    ///
    /// # Errors
    /// [`Held`](JournalError::Held) where another owner lives and cannot be fenced; [`Corrupt`](JournalError::Corrupt) or
    /// [`UnknownVersion`](JournalError::UnknownVersion) when the content cannot be trusted.
    async fn take_over(&self, service: &ServiceName, owner: &OwnerId) -> Result<(Lease, Vec<Entry>), JournalError>;

    /// Appends entry number `seq`, which must be the next one. It is durable when this answers.
    ///
    /// # Errors
    /// [`Fenced`](JournalError::Fenced) when a newer epoch exists, [`SequenceTaken`](JournalError::SequenceTaken) or
    /// [`Gap`](JournalError::Gap) when `seq` is not the next number, [`TooLarge`](JournalError::TooLarge) for a body over [`MAX_BODY_BYTES`].
    /// After [`Storage`](JournalError::Storage) the entry may or may not be there, and the lease may be unusable: take over again.
    async fn append(&self, lease: &Lease, seq: u64, at: Timestamp, body: &Value) -> Result<Entry, JournalError>;

    /// Whether the lease still holds; renews it where it would run out. It is asked immediately before every provider call, so it is
    /// cheap. A holder asks at least every few seconds, or others may take it for dead.
    ///
    /// # Errors
    /// [`Fenced`](JournalError::Fenced) or [`LeaseUnusable`](JournalError::LeaseUnusable): stop acting.
    async fn check(&self, lease: &Lease) -> Result<(), JournalError>;

    /// All entries of a service. Needs no lease.
    ///
    /// # Errors
    /// [`Corrupt`](JournalError::Corrupt) or [`UnknownVersion`](JournalError::UnknownVersion) when the content cannot be trusted.
    async fn list(&self, service: &ServiceName) -> Result<Vec<Entry>, JournalError>;

    /// Gives the right to write back, so that another owner need not wait. Releasing a fenced lease is done.
    ///
    /// # Errors
    /// [`Storage`](JournalError::Storage) when it could not be given back; it then ends with this process.
    async fn release(&self, lease: Lease) -> Result<(), JournalError>;
}
