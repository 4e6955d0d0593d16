//! A journal that many hosts share, over any [`RecordStore`].

mod lease;
mod log;
mod record;
mod segment;

#[cfg(test)]
mod race_tests;
#[cfg(test)]
mod segment_tests;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use serde_json::Value;

use super::record::next_epoch;
use super::store::{RecordKey, RecordStore, StoreError};
use super::{Entry, Journal, JournalError, Lease, MAX_BODY_BYTES, Nonce};
use crate::model::{OwnerId, ServiceName};
use lease::Session;
use log::{Log, Written};
use record::Says;

/// A journal that many controllers on many hosts share, without a server of ours.
///
/// The log is numbered records, each created only if absent: the creation is the fence, and a stale owner can no longer write
/// once a newer one has put its epoch into the log. The lease is one more record, replaced by compare-and-swap; it only says
/// when it is worth trying to take over.
///
/// # Guarantees
/// The clauses of [`Journal`]. An owner that is silent for a [lease time](Self::with_lease_time) can be taken over; one that lives is
/// [`Held`](JournalError::Held). No clocks are compared: whoever wants to take over watches the lease for a whole lease time by its own
/// clock, and an owner counts its own from before it last wrote it.
///
/// # Keeping the lease
/// [`Journal::check`] renews the lease once a third of its time is over, and costs no call to the store before. Whoever holds a lease
/// checks it at least that often, or others take it for dead. An [`Engine`](crate::engine::Engine) checks it whenever it looks, so the
/// lease time is more than three times the `observe` of its platform's pace.
///
/// # Reading
/// Every take-over that finds many records in no segment yet copies them into one, so that a log of thousands is read with a few dozen
/// calls, several at a time. Nothing is deleted: a number that is free again could be created by an owner that froze before it was taken.
///
/// # Cancellation
/// As in [`Journal`]. A dropped `take_over` may hold the lease until its time is over.
///
/// # Examples
/// ```
/// use immutable_core::journal::store::MemoryStore;
/// use immutable_core::journal::{Journal, JournalError, StoreJournal};
/// # use std::sync::Arc;
/// # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?.block_on(async {
/// let store = Arc::new(MemoryStore::new());
/// let (here, there) = (StoreJournal::new(store.clone()), StoreJournal::new(store));
/// let service = "web".parse()?;
///
/// let (lease, _) = here.take_over(&service, &"host-1".parse()?).await?;
/// here.append(&lease, 1, jiff::Timestamp::UNIX_EPOCH, &serde_json::json!("begun")).await?;
///
/// // The first host says nothing for a lease time: it is taken for dead, and fenced.
/// let (newer, entries) = there.take_over(&service, &"host-2".parse()?).await?;
/// assert_eq!(entries.len(), 1);
/// let late = here.append(&lease, 2, jiff::Timestamp::UNIX_EPOCH, &serde_json::json!("late")).await;
/// assert!(matches!(late, Err(JournalError::Fenced { epoch: 2, .. })));
/// # there.release(newer).await?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct StoreJournal {
    store: Arc<dyn RecordStore>,
    lease_time: Duration,
}

/// How often a write is tried whose answer was lost.
const TRIES: usize = 3;

impl StoreJournal {
    /// A journal whose records are kept in a store, with a lease time of half a minute.
    pub fn new(store: Arc<dyn RecordStore>) -> Self {
        Self { store, lease_time: Duration::from_secs(30) }
    }

    /// Sets how long an owner may be silent before others may take over. A sixth of it is the longest that a call to the store may
    /// take, so that an owner has several tries to renew. All who share a journal should use the same.
    #[must_use]
    pub fn with_lease_time(mut self, lease_time: Duration) -> Self {
        self.lease_time = lease_time;
        self
    }

    /// One call to the store, which does not take for ever.
    async fn call<T>(&self, call: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        let limit = self.lease_time / 6;
        tokio::time::timeout(limit, call).await.unwrap_or_else(|elapsed| {
            Err(StoreError::failed(format!("get an answer from the store within {limit:?}"), elapsed))
        })
    }
}

#[async_trait]
impl Journal for StoreJournal {
    async fn take_over(&self, service: &ServiceName, owner: &OwnerId) -> Result<(Lease, Vec<Entry>), JournalError> {
        let held = self.take_lease(service, owner).await?;
        let mut log = Log::new(service);
        loop {
            self.read(&mut log).await?;
            let epoch = next_epoch(service, &log::name(log.last), log.epoch)?;
            let begun = log.next(epoch, nonce()?, Says::TakenOver { owner: owner.clone() });
            match self.create(&begun).await? {
                Written::Ours => {
                    log.accept(&log::name(begun.number), begun)?;
                    let session = Arc::new(Session::new(held, &log));
                    let lease = Lease::new(service.clone(), owner.clone(), epoch).with_guard(session);
                    return Ok((lease, self.gather(log).await));
                }
                // The former owner has got another entry in, which it may until the epoch is there.
                Written::Taken(theirs) if matches!(theirs.says, Says::Entry { .. }) => {}
                Written::Taken(theirs) => {
                    let Says::TakenOver { owner } = theirs.says else { unreachable!("invariant: matched above") };
                    return Err(JournalError::Held { service: service.clone(), owner: Some(owner) });
                }
            }
        }
    }

    async fn append(&self, lease: &Lease, seq: u64, at: Timestamp, body: &Value) -> Result<Entry, JournalError> {
        let (service, session) = (lease.service(), session(lease)?);
        let bytes = body.to_string().len();
        if bytes > MAX_BODY_BYTES {
            return Err(JournalError::TooLarge { service: service.clone(), bytes, limit: MAX_BODY_BYTES });
        }
        let place = session.place(service, seq)?;
        let (nonce, epoch) = (nonce()?, lease.epoch());
        let says = Says::Entry { seq, at, body: body.clone() };
        let record = place.record(service, epoch, nonce, says);
        match self.create(&record).await {
            Ok(Written::Ours) => {
                session.has_written(seq);
                Ok(Entry { seq, epoch, nonce, at, body: body.clone() })
            }
            Ok(Written::Taken(theirs)) if theirs.epoch == epoch => {
                session.has_written(seq);
                Err(JournalError::SequenceTaken { service: service.clone(), seq })
            }
            Ok(Written::Taken(theirs)) => {
                session.is_fenced_by(theirs.epoch);
                Err(JournalError::Fenced { service: service.clone(), epoch: theirs.epoch })
            }
            Err(error) => {
                // Nobody knows whether it is there, and it may still come: nothing more is written with this lease.
                session.is_unusable();
                Err(error)
            }
        }
    }

    async fn check(&self, lease: &Lease) -> Result<(), JournalError> {
        let session = session(lease)?;
        self.keep(lease, &session).await
    }

    async fn list(&self, service: &ServiceName) -> Result<Vec<Entry>, JournalError> {
        let mut log = Log::new(service);
        self.read(&mut log).await?;
        Ok(log.entries)
    }

    async fn release(&self, lease: Lease) -> Result<(), JournalError> {
        let session = session(&lease)?;
        self.give_back(&lease, &session).await
    }
}

fn session(lease: &Lease) -> Result<Arc<Session>, JournalError> {
    lease.guard().ok_or_else(|| JournalError::LeaseUnusable { service: lease.service().clone() })
}

fn nonce() -> Result<Nonce, JournalError> {
    Nonce::random().map_err(|error| JournalError::storage("draw a nonce", error))
}

fn key(service: &ServiceName, name: &str) -> Result<RecordKey, JournalError> {
    RecordKey::new(service.as_str(), name).map_err(|error| JournalError::storage("name a record", error))
}

fn storage(service: &ServiceName, error: StoreError) -> JournalError {
    JournalError::storage(format!("use the journal of {service}: {error}"), error)
}
