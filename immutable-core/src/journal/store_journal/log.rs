//! The log: numbered records, each created only if absent.

use super::record::{self, LogRecord, Says, corrupt};
use super::{StoreJournal, TRIES, key, storage};
use crate::journal::store::{RecordKey, StoreError};
use crate::journal::{Entry, JournalError, Nonce};
use crate::model::ServiceName;

/// What the log says, as far as it was read.
#[derive(Debug)]
pub(super) struct Log {
    service: ServiceName,
    /// The nonce of its first record.
    pub(super) lineage: Option<Nonce>,
    /// The number of the last record; zero before the first.
    pub(super) last: u64,
    /// The newest epoch; zero before the first.
    pub(super) epoch: u64,
    pub(super) entries: Vec<Entry>,
}

/// What a number holds after a creation.
#[derive(Debug)]
pub(super) enum Written {
    /// The record that was to be created.
    Ours,
    /// Somebody else's.
    Taken(LogRecord),
}

impl Log {
    pub(super) fn new(service: &ServiceName) -> Self {
        Self { service: service.clone(), lineage: None, last: 0, epoch: 0, entries: Vec::new() }
    }

    /// The record that would come next.
    pub(super) fn next(&self, epoch: u64, nonce: Nonce, says: Says) -> LogRecord {
        let (service, lineage) = (self.service.clone(), self.lineage.unwrap_or(nonce));
        LogRecord { service, lineage, number: self.last + 1, nonce, epoch, says }
    }

    /// Takes the next record into account, if it is one.
    pub(super) fn accept(&mut self, record: LogRecord) -> Result<(), JournalError> {
        let expected = self.last + 1;
        let lineage = self.lineage.unwrap_or(record.nonce);
        let seq = self.entries.len() as u64 + 1;
        let problem = match &record.says {
            _ if record.service != self.service => format!("it is of the journal of {}", record.service),
            _ if record.number != expected => format!("it is record {}, and {expected} was expected", record.number),
            _ if record.lineage != lineage => "it is of another journal of this service".to_owned(),
            // The next take-over needs a number above it.
            Says::TakenOver { .. } if record.epoch <= self.epoch || record.epoch == u64::MAX => {
                "the epoch does not rise, or is the last one".to_owned()
            }
            Says::Entry { .. } if record.epoch != self.epoch => "the entry is of another epoch".to_owned(),
            Says::Entry { seq: found, .. } if *found != seq => format!("it is entry {found}, and {seq} was expected"),
            _ => String::new(),
        };
        if !problem.is_empty() {
            return Err(corrupt(&self.service, &name(expected), problem));
        }
        (self.lineage, self.last, self.epoch) = (Some(lineage), record.number, record.epoch);
        if let Says::Entry { seq, at, body } = record.says {
            self.entries.push(Entry { seq, epoch: record.epoch, nonce: record.nonce, at, body });
        }
        Ok(())
    }
}

impl StoreJournal {
    /// Reads what was added to the log since it was last read.
    pub(super) async fn read(&self, log: &mut Log) -> Result<(), JournalError> {
        let after = log_key(&log.service, log.last)?;
        let keys = self.call(self.store.list_after(&after)).await.map_err(|error| storage(&log.service, error))?;
        for found in keys {
            // Others than the log's are greater, or of a newer program.
            if !found.name().starts_with(PREFIX) {
                continue;
            }
            let expected = log_key(&log.service, log.last + 1)?;
            if found != expected {
                let problem = format!("{} is missing before it", expected.name());
                return Err(corrupt(&log.service, found.name(), problem));
            }
            let Some(record) = self.fetch(&log.service, &found).await? else {
                return Err(corrupt(&log.service, found.name(), "it was deleted"));
            };
            log.accept(record)?;
        }
        Ok(())
    }

    /// Creates a record, or says what is there. The answer of the store is not trusted: the nonce tells whose record it is.
    pub(super) async fn create(&self, record: &LogRecord) -> Result<Written, JournalError> {
        let (service, key, body) = (&record.service, log_key(&record.service, record.number)?, record::seal(record));
        let mut tries = 0;
        loop {
            let failure = match self.call(self.store.create(&key, &body)).await {
                Ok(_) => return Ok(Written::Ours),
                Err(StoreError::Exists { .. }) => None,
                Err(error) => Some(error),
            };
            match (self.fetch(service, &key).await, failure) {
                (Ok(Some(found)), _) if found.nonce == record.nonce => return Ok(Written::Ours),
                (Ok(Some(found)), _) => return Ok(Written::Taken(found)),
                (Ok(None), None) => return Err(corrupt(service, key.name(), "it exists and cannot be read")),
                // Not there, or not known: the same record again does no harm, whichever of the two arrives.
                (Ok(None) | Err(JournalError::Storage { .. }), Some(error)) => {
                    tries += 1;
                    if tries >= TRIES {
                        return Err(storage(service, error));
                    }
                }
                (Err(error @ JournalError::Storage { .. }), None) => {
                    tries += 1;
                    if tries >= TRIES {
                        return Err(error);
                    }
                }
                (Err(error), _) => return Err(error),
            }
        }
    }

    pub(super) async fn fetch(
        &self,
        service: &ServiceName,
        key: &RecordKey,
    ) -> Result<Option<LogRecord>, JournalError> {
        let stored = self.call(self.store.get(key)).await.map_err(|error| storage(service, error))?;
        let Some(stored) = stored else { return Ok(None) };
        record::open(service, &key.to_string(), &stored.body).map(Some)
    }
}

const PREFIX: &str = "r-";

/// The name of a record: as many digits as a number can have, so that names and numbers have the same order.
pub(super) fn name(number: u64) -> String {
    format!("{PREFIX}{number:020}")
}

pub(super) fn log_key(service: &ServiceName, number: u64) -> Result<RecordKey, JournalError> {
    key(service, &name(number))
}
