//! Journals that lose what they should keep, and a clock that stands still.

use async_trait::async_trait;
use immutable_core::engine::Clock;
use immutable_core::journal::{Entry, Journal, JournalError, Lease, MemoryJournal};
use immutable_core::model::{OwnerId, ServiceName};
use jiff::Timestamp;
use serde_json::Value;

/// A journal whose fence or lease means nothing, or both.
#[derive(Debug)]
pub(super) struct Unfenced {
    pub(super) good: MemoryJournal,
    /// Stale drivers may append.
    pub(super) appends: bool,
    /// Stale drivers are told that their lease is good.
    pub(super) calls: bool,
}

#[async_trait]
impl Journal for Unfenced {
    async fn take_over(&self, service: &ServiceName, owner: &OwnerId) -> Result<(Lease, Vec<Entry>), JournalError> {
        self.good.take_over(service, owner).await
    }

    async fn append(&self, lease: &Lease, seq: u64, at: Timestamp, body: &Value) -> Result<Entry, JournalError> {
        match self.good.append(lease, seq, at, body).await {
            Err(JournalError::Fenced { .. } | JournalError::SequenceTaken { .. }) if self.appends => {
                // As if it were written: the stale driver goes on with what it believes.
                let entries = self.good.list(lease.service()).await?;
                Ok(entries.last().expect("invariant: whoever is fenced has written").clone())
            }
            answer => answer,
        }
    }

    async fn check(&self, lease: &Lease) -> Result<(), JournalError> {
        if self.calls { Ok(()) } else { self.good.check(lease).await }
    }

    async fn list(&self, service: &ServiceName) -> Result<Vec<Entry>, JournalError> {
        self.good.list(service).await
    }

    async fn release(&self, lease: Lease) -> Result<(), JournalError> {
        self.good.release(lease).await
    }
}

/// A journal that keeps all events but those of one name.
#[derive(Debug)]
pub(super) struct Forgets(pub(super) MemoryJournal, pub(super) &'static str);

impl Forgets {
    fn cut(&self, mut entries: Vec<Entry>) -> Vec<Entry> {
        for events in entries.iter_mut().filter_map(|entry| entry.body["events"].as_array_mut()) {
            events.retain(|event| event["event"] != self.1);
        }
        entries
    }
}

#[async_trait]
impl Journal for Forgets {
    async fn take_over(&self, service: &ServiceName, owner: &OwnerId) -> Result<(Lease, Vec<Entry>), JournalError> {
        let (lease, entries) = self.0.take_over(service, owner).await?;
        Ok((lease, self.cut(entries)))
    }

    async fn append(&self, lease: &Lease, seq: u64, at: Timestamp, body: &Value) -> Result<Entry, JournalError> {
        self.0.append(lease, seq, at, body).await
    }

    async fn check(&self, lease: &Lease) -> Result<(), JournalError> {
        self.0.check(lease).await
    }

    async fn list(&self, service: &ServiceName) -> Result<Vec<Entry>, JournalError> {
        Ok(self.cut(self.0.list(service).await?))
    }

    async fn release(&self, lease: Lease) -> Result<(), JournalError> {
        self.0.release(lease).await
    }
}

/// A clock that stands still.
#[derive(Debug)]
pub(super) struct Stopped(pub(super) Timestamp);

impl Clock for Stopped {
    fn now(&self) -> Timestamp {
        self.0
    }
}
