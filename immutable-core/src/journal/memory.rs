//! A journal in memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use jiff::Timestamp;
use serde_json::Value;

use super::record::check_next;
use super::{Entry, Journal, JournalError, Lease, MAX_BODY_BYTES, Nonce};
use crate::model::{OwnerId, ServiceName};

/// A journal in memory, shared by its clones and gone with the last of them.
///
/// Taking over always succeeds and fences the former owner. Nonces are counted, so that a run can be repeated exactly.
#[derive(Debug, Clone, Default)]
pub struct MemoryJournal {
    logs: Arc<Mutex<BTreeMap<ServiceName, Log>>>,
}

#[derive(Debug, Default)]
struct Log {
    epoch: u64,
    entries: Vec<Entry>,
}

impl MemoryJournal {
    /// A journal without entries.
    pub fn new() -> Self {
        Self::default()
    }

    fn logs(&self) -> MutexGuard<'_, BTreeMap<ServiceName, Log>> {
        // Every change under the lock is one push or one increment, so a panic elsewhere leaves nothing half-made.
        self.logs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The log of a lease that still holds.
fn held<'a>(logs: &'a mut BTreeMap<ServiceName, Log>, lease: &Lease) -> Result<&'a mut Log, JournalError> {
    let service = lease.service();
    match logs.get_mut(service) {
        Some(log) if log.epoch == lease.epoch() => Ok(log),
        Some(log) if log.epoch > lease.epoch() => {
            Err(JournalError::Fenced { service: service.clone(), epoch: log.epoch })
        }
        _ => Err(JournalError::LeaseUnusable { service: service.clone() }),
    }
}

#[async_trait]
impl Journal for MemoryJournal {
    async fn take_over(&self, service: &ServiceName, owner: &OwnerId) -> Result<(Lease, Vec<Entry>), JournalError> {
        let mut logs = self.logs();
        let log = logs.entry(service.clone()).or_default();
        log.epoch += 1;
        Ok((Lease::new(service.clone(), owner.clone(), log.epoch), log.entries.clone()))
    }

    async fn append(&self, lease: &Lease, seq: u64, at: Timestamp, body: &Value) -> Result<Entry, JournalError> {
        let bytes = body.to_string().len();
        let mut logs = self.logs();
        let log = held(&mut logs, lease)?;
        let service = lease.service();
        if bytes > MAX_BODY_BYTES {
            return Err(JournalError::TooLarge { service: service.clone(), bytes, limit: MAX_BODY_BYTES });
        }
        check_next(service, log.entries.len() as u64, seq)?;
        let entry = Entry { seq, epoch: lease.epoch(), nonce: Nonce::new(seq), at, body: body.clone() };
        log.entries.push(entry.clone());
        Ok(entry)
    }

    async fn check(&self, lease: &Lease) -> Result<(), JournalError> {
        held(&mut self.logs(), lease).map(|_| ())
    }

    async fn list(&self, service: &ServiceName) -> Result<Vec<Entry>, JournalError> {
        Ok(self.logs().get(service).map(|log| log.entries.clone()).unwrap_or_default())
    }

    async fn release(&self, _lease: Lease) -> Result<(), JournalError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::contract;
    use super::*;

    contract::tests!(&MemoryJournal::new(), contract::TakeOver::Fences);

    #[tokio::test]
    async fn clones_share_their_entries() {
        let journal = MemoryJournal::new();
        let (lease, _) = contract::taken(&journal).await;
        contract::append(&journal.clone(), &lease, 1).await.unwrap();
        assert_eq!(journal.list(lease.service()).await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn a_lease_of_another_journal_is_unusable() {
        let (lease, _) = contract::taken(&MemoryJournal::new()).await;
        let error = MemoryJournal::new().check(&lease).await.unwrap_err();
        assert!(matches!(error, JournalError::LeaseUnusable { .. }), "{error}");
        // Nor is it fenced by an epoch that is lower.
        let journal = MemoryJournal::new();
        let (_first, (second, _)) = (contract::taken(&journal).await, contract::taken(&journal).await);
        let other = MemoryJournal::new();
        let (_held, _) = contract::taken(&other).await;
        let error = other.check(&second).await.unwrap_err();
        assert!(matches!(error, JournalError::LeaseUnusable { .. }), "{error}");
    }
}
