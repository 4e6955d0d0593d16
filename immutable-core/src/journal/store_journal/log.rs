//! The log: numbered records, each created only if absent.

use futures_util::StreamExt;
use futures_util::stream;

use super::record::{self, LogRecord, Says, corrupt};
use super::{StoreJournal, TRIES, key, storage};
use crate::journal::store::{RecordKey, StoreError};
use crate::journal::{Entry, JournalError, Nonce};
use crate::model::ServiceName;

/// What the log says, as far as it was read.
#[derive(Debug)]
pub(super) struct Log {
    pub(super) service: ServiceName,
    /// The nonce of its first record.
    pub(super) lineage: Option<Nonce>,
    /// The number of the last record; zero before the first.
    pub(super) last: u64,
    /// The newest epoch; zero before the first.
    pub(super) epoch: u64,
    pub(super) entries: Vec<Entry>,
    /// The records that were not read from a segment.
    pub(super) loose: Vec<LogRecord>,
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
        Self { service: service.clone(), lineage: None, last: 0, epoch: 0, entries: Vec::new(), loose: Vec::new() }
    }

    /// The record that would come next.
    pub(super) fn next(&self, epoch: u64, nonce: Nonce, says: Says) -> LogRecord {
        let (service, lineage) = (self.service.clone(), self.lineage.unwrap_or(nonce));
        LogRecord { service, lineage, number: self.last + 1, nonce, epoch, says }
    }

    /// Takes the next record into account, if it is one. The location is where it was found, for people.
    pub(super) fn accept(&mut self, location: &str, record: LogRecord) -> Result<(), JournalError> {
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
            return Err(corrupt(&self.service, location, problem));
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
        if log.last == 0 {
            self.read_segments(log).await?;
        }
        let mut missing = None;
        while let Some(found) = self.read_records(log).await? {
            // A list that was made while records were created may have one and lack the one before it, which is older. The next list
            // has both.
            let expected = name(log.last + 1);
            if missing.replace(log.last) == Some(log.last) {
                return Err(corrupt(&log.service, found.name(), format!("{expected} is missing before it")));
            }
        }
        Ok(())
    }

    /// Reads the records after the last one, up to a gap: then with the record that was found behind it.
    async fn read_records(&self, log: &mut Log) -> Result<Option<RecordKey>, JournalError> {
        let (service, after) = (log.service.clone(), log_key(&log.service, log.last)?);
        let keys = self.call(self.store.list_after(&after)).await.map_err(|error| storage(&service, error))?;
        // Others than the log's are segments, or of a newer program.
        let keys = keys.into_iter().filter(|key| key.name().starts_with(PREFIX));
        let fetched = keys.map(|key| self.fetch_named(&service, key));
        let mut fetched = stream::iter(fetched).buffered(AT_ONCE);
        while let Some((key, record)) = fetched.next().await {
            if key.name() != name(log.last + 1) {
                return Ok(Some(key));
            }
            let Some(record) = record? else {
                return Err(corrupt(&service, key.name(), "it was deleted"));
            };
            log.loose.push(record.clone());
            log.accept(key.name(), record)?;
        }
        Ok(None)
    }

    async fn fetch_named(
        &self,
        service: &ServiceName,
        key: RecordKey,
    ) -> (RecordKey, Result<Option<LogRecord>, JournalError>) {
        let record = self.fetch(service, &key).await;
        (key, record)
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
                // Not there, or not known: the same record again does no harm, whichever of the two arrives. A store that says that it
                // is there and shows nothing may be in the middle of another write.
                (Ok(None) | Err(JournalError::Storage { .. }), failure @ Some(_)) | (Ok(None), failure @ None) => {
                    tries += 1;
                    if tries >= TRIES {
                        return Err(storage(service, failure.unwrap_or(StoreError::Exists { key })));
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

/// How many records are read at the same time.
pub(super) const AT_ONCE: usize = 8;

/// The name of a record: as many digits as a number can have, so that names and numbers have the same order.
pub(super) fn name(number: u64) -> String {
    format!("{PREFIX}{number:020}")
}

pub(super) fn log_key(service: &ServiceName, number: u64) -> Result<RecordKey, JournalError> {
    key(service, &name(number))
}
