//! Why a journal refuses.

use std::error::Error;

use crate::model::{OwnerId, ServiceName};

/// Why a call to a journal failed, and what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// Another owner holds the journal and lives.
    #[error("journal of {service} is held by {}: wait until it ends, or end it", name_of(.owner.as_ref()))]
    Held {
        /// Whose journal.
        service: ServiceName,
        /// Who holds it, where that can be told.
        owner: Option<OwnerId>,
    },
    /// A newer epoch exists: this owner must stop acting.
    #[error("journal of {service} was taken over with epoch {epoch}: stop acting")]
    Fenced {
        /// Whose journal.
        service: ServiceName,
        /// The newest epoch.
        epoch: u64,
    },
    /// There is an entry with this number already.
    #[error("journal of {service} has an entry {seq} already: list it and decide again")]
    SequenceTaken {
        /// Whose journal.
        service: ServiceName,
        /// The number.
        seq: u64,
    },
    /// The number is not the next one.
    #[error("journal of {service} expects entry {expected}, not {seq}: list it and decide again")]
    Gap {
        /// Whose journal.
        service: ServiceName,
        /// The number that was given.
        seq: u64,
        /// The next number.
        expected: u64,
    },
    /// The body of an entry has more than [`MAX_BODY_BYTES`](super::MAX_BODY_BYTES).
    #[error("journal of {service} takes entries of up to {limit} bytes, not {bytes}: make the entry smaller")]
    TooLarge {
        /// Whose journal.
        service: ServiceName,
        /// How many bytes the body has as JSON.
        bytes: usize,
        /// How many it may have.
        limit: usize,
    },
    /// The lease cannot be used any more: an earlier write with it failed, or it was given out by another journal.
    #[error("lease on the journal of {service} cannot be used any more: take the journal over again")]
    LeaseUnusable {
        /// Whose journal.
        service: ServiceName,
    },
    /// The content is damaged, and nothing of it is trusted.
    #[error(
        "journal of {service} is corrupt at byte {offset} of {location}: {problem}; restore a good copy, or move it away"
    )]
    Corrupt {
        /// Whose journal.
        service: ServiceName,
        /// Where it lies, for people.
        location: String,
        /// Where the first bad line begins, in bytes from the start.
        offset: u64,
        /// What is wrong there.
        problem: String,
    },
    /// The content has a version that this program does not know.
    #[error("journal of {service} has version {found}, and this program knows up to {newest}: use a newer program")]
    UnknownVersion {
        /// Whose journal.
        service: ServiceName,
        /// The version that was found.
        found: u64,
        /// The newest version that is known here.
        newest: u64,
    },
    /// The medium failed. The source says why.
    #[error("journal storage: cannot {operation}; mend the cause, then take the journal over again")]
    Storage {
        /// What was tried, on what.
        operation: String,
        /// The cause, for logs.
        source: Box<dyn Error + Send + Sync>,
    },
}

impl JournalError {
    /// A failure of the medium: what was tried, on what, and why it failed.
    pub fn storage(operation: impl Into<String>, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Storage { operation: operation.into().replace(['\n', '\r'], " "), source: source.into() }
    }
}

fn name_of(owner: Option<&OwnerId>) -> &str {
    owner.map_or("another process", OwnerId::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_line_that_says_what_to_do() {
        let service: ServiceName = "web".parse().unwrap();
        let owner = Some("host-1/42".parse().unwrap());
        let cases = [
            (
                JournalError::Held { service: service.clone(), owner },
                "journal of web is held by host-1/42: wait until it ends, or end it",
            ),
            (
                JournalError::Held { service: service.clone(), owner: None },
                "journal of web is held by another process: wait until it ends, or end it",
            ),
            (
                JournalError::Corrupt {
                    service,
                    location: "web.jsonl".into(),
                    offset: 7,
                    problem: "the checksum does not match".into(),
                },
                "journal of web is corrupt at byte 7 of web.jsonl: the checksum does not match; \
                 restore a good copy, or move it away",
            ),
            (
                JournalError::storage("write\nweb.jsonl", "secret"),
                "journal storage: cannot write web.jsonl; mend the cause, then take the journal over again",
            ),
        ];
        for (error, expected) in cases {
            assert_eq!(error.to_string(), expected);
        }
    }
}
