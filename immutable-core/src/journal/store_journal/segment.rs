//! Segments: many records of the log in one, so that a long log is read with few calls.
//!
//! A segment is a copy: the records that it holds stay where they are, and whoever finds no segment reads those. They are not deleted,
//! because a number that is free again could be created again, by an owner that froze before it was taken; the fence would have a hole.
//! What a segment holds was settled before, so it does not matter who writes it, or whether it is written twice.

use futures_util::{StreamExt, stream};

use super::log::{AT_ONCE, Log};
use super::record::{self, Segment, corrupt};
use super::{StoreJournal, key, storage};
use crate::journal::store::{RecordKey, Stored};
use crate::journal::{Entry, JournalError};
use crate::model::ServiceName;

/// Greater than that of a record, so that a list after a record has it too.
const PREFIX: &str = "s-";

/// As many records as are worth a segment.
const RECORDS: usize = 64;

/// The most bytes that the bodies of one segment have together.
const BYTES: usize = 4 << 20;

impl StoreJournal {
    /// Reads the log as far as there are segments.
    pub(super) async fn read_segments(&self, log: &mut Log) -> Result<(), JournalError> {
        let (service, after) = (log.service.clone(), segment_key(&log.service, 0)?);
        let keys = self.call(self.store.list_after(&after)).await.map_err(|error| storage(&service, error))?;
        let keys = keys.into_iter().filter(|key| key.name().starts_with(PREFIX));
        let mut fetched = stream::iter(keys.map(|key| self.fetch_segment(&service, key))).buffered(AT_ONCE);
        while let Some(segment) = fetched.next().await {
            let Some((key, segment)) = segment? else { continue };
            let (first, last) = match segment.records.as_slice() {
                [first, .., last] => (first.number, last.number),
                _ => return Err(corrupt(&service, key.name(), "it is not a segment")),
            };
            if key.name() != name(last) {
                return Err(corrupt(&service, key.name(), format!("it ends with record {last}")));
            }
            // Two owners may have written segments that overlap. After a gap there are only the records themselves.
            if first <= log.last + 1 {
                let read = log.last;
                for record in segment.records.into_iter().filter(|record| record.number > read) {
                    log.accept(key.name(), record)?;
                }
            }
        }
        Ok(())
    }

    async fn fetch_segment(
        &self,
        service: &ServiceName,
        key: RecordKey,
    ) -> Result<Option<(RecordKey, Segment)>, JournalError> {
        let stored = self.call(self.store.get(&key)).await.map_err(|error| storage(service, error))?;
        let Some(Stored { body, .. }) = stored else { return Ok(None) };
        let segment = record::open(service, &key.to_string(), &body)?;
        Ok(Some((key, segment)))
    }

    /// Puts the records that are in no segment yet into one, if they are many.
    pub(super) async fn gather(&self, log: Log) -> Vec<Entry> {
        let Log { service, entries, mut loose, .. } = log;
        if loose.len() < RECORDS {
            return entries;
        }
        let mut bytes = 0;
        let fit = loose.iter().take_while(|record| {
            bytes += record.body_bytes();
            bytes <= BYTES
        });
        loose.truncate(fit.count());
        let Some(last) = loose.last() else { return entries };
        let Ok(key) = segment_key(&service, last.number) else { return entries };
        let segment = record::seal(&Segment { records: loose });
        if let Err(error) = self.call(self.store.create(&key, &segment)).await {
            // The next owner may try again, and nothing depends on it.
            tracing::debug!(%error, "no segment was written");
        }
        entries
    }
}

fn name(last: u64) -> String {
    format!("{PREFIX}{last:020}")
}

pub(super) fn segment_key(service: &ServiceName, last: u64) -> Result<RecordKey, JournalError> {
    key(service, &name(last))
}
