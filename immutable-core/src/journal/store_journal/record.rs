//! Version 1 of the records of a shared journal, and of its lease.
//!
//! Each is one JSON object and carries a checksum over all the rest of it, because a store may lose or mix up bytes. A record of
//! the log also carries the journal's lineage (the nonce of its first record), its own number and nonce: what is found under a
//! name is believed only when all three fit.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::journal::record::sum;
use crate::journal::{JournalError, Nonce};
use crate::model::{OwnerId, ServiceName};

pub(super) const VERSION: u64 = 1;

/// A record of the log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LogRecord {
    pub(super) service: ServiceName,
    /// The nonce of the first record.
    pub(super) lineage: Nonce,
    /// Its place in the log, from 1, take-overs counted.
    pub(super) number: u64,
    pub(super) nonce: Nonce,
    pub(super) epoch: u64,
    pub(super) says: Says,
}

/// What a record of the log says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Says {
    /// An owner has taken the journal over.
    TakenOver { owner: OwnerId },
    /// An entry.
    Entry { seq: u64, at: Timestamp, body: Value },
}

impl LogRecord {
    /// How many bytes its body has as JSON.
    pub(super) fn body_bytes(&self) -> usize {
        match &self.says {
            Says::TakenOver { .. } => 0,
            Says::Entry { body, .. } => body.to_string().len(),
        }
    }
}

/// Records of the log that follow each other, as they are in the log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Segment {
    pub(super) records: Vec<LogRecord>,
}

/// Who may write, for others to see. It serves liveness only: the log itself is what fences.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LeaseRecord {
    pub(super) service: ServiceName,
    pub(super) owner: OwnerId,
    /// Drawn at each take-over: tells one lease from every other, also of the same owner.
    pub(super) session: Nonce,
    /// Drawn at each write, so that no two bodies are equal.
    pub(super) nonce: Nonce,
    /// For how long it must stay unchanged before somebody else may take it, in milliseconds; nothing when it was given back.
    pub(super) held_for: Option<u64>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sealed {
    v: u64,
    sum: String,
    record: Box<serde_json::value::RawValue>,
}

/// A record as bytes.
pub(super) fn seal(record: &impl Serialize) -> Vec<u8> {
    let record = serde_json::value::to_raw_value(record).expect("invariant: names, numbers and JSON always serialise");
    let sealed = Sealed { v: VERSION, sum: sum(record.get().as_bytes()), record };
    serde_json::to_vec(&sealed).expect("invariant: a sealed record is plain JSON")
}

/// A record from bytes that are not trusted.
pub(super) fn open<T: for<'de> Deserialize<'de>>(
    service: &ServiceName,
    location: &str,
    bytes: &[u8],
) -> Result<T, JournalError> {
    #[derive(Deserialize)]
    struct Versioned {
        v: u64,
    }
    let corrupt = |problem: &str| corrupt(service, location, problem);
    let Versioned { v } = serde_json::from_slice(bytes).map_err(|_| corrupt("it is not a record of a journal"))?;
    if v != VERSION {
        return Err(JournalError::UnknownVersion { service: service.clone(), found: v, newest: VERSION });
    }
    let sealed: Sealed = serde_json::from_slice(bytes).map_err(|_| corrupt("it is not a record of a journal"))?;
    if sum(sealed.record.get().as_bytes()) != sealed.sum {
        return Err(corrupt("the checksum does not match"));
    }
    serde_json::from_str(sealed.record.get()).map_err(|_| corrupt("the record makes no sense"))
}

pub(super) fn corrupt(service: &ServiceName, location: &str, problem: impl Into<String>) -> JournalError {
    JournalError::Corrupt {
        service: service.clone(),
        location: location.to_owned(),
        offset: 0,
        problem: problem.into(),
    }
}
