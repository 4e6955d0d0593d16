//! What the targets share.

use std::path::Path;

use immutable_core::decide::World;
use immutable_core::journal::{FileJournal, Journal, JournalError};
use immutable_core::model::{ServiceName, Split};
use jiff::Timestamp;
use serde_json::json;
use tokio::runtime::Builder;

/// A journal file of this content is refused with a place inside it, or is read, repaired and written on without losing anything.
///
/// # Panics
/// When it is not.
pub fn journal(directory: &Path, bytes: &[u8]) {
    let runtime = Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async {
        let service: ServiceName = "web".parse().expect("a name");
        let path = directory.join("web.jsonl");
        std::fs::write(&path, bytes).expect("a file in a temporary directory");
        let journal = FileJournal::open(directory).expect("a directory that exists");
        match journal.list(&service).await {
            Ok(entries) => {
                let (lease, taken) =
                    journal.take_over(&service, &"fuzzer".parse().expect("a name")).await.expect("what can be read");
                assert_eq!(taken, entries);
                let next = entries.len() as u64 + 1;
                let written =
                    journal.append(&lease, next, Timestamp::UNIX_EPOCH, &json!("next")).await.expect("the next");
                journal.release(lease).await.expect("our own lease");
                let found = journal.list(&service).await.expect("what was written");
                assert_eq!(found, [entries, vec![written]].concat());
            }
            Err(JournalError::Corrupt { offset, .. }) => {
                assert!(offset < bytes.len() as u64, "{offset}");
                assert!(offset == 0 || bytes[offset as usize - 1] == b'\n', "{offset} is not the beginning of a line");
                let before = &bytes[..offset as usize];
                std::fs::write(&path, before).expect("a file in a temporary directory");
                journal.list(&service).await.expect("all before the first bad line is good");
            }
            Err(JournalError::UnknownVersion { found, newest, .. }) => assert_ne!(found, newest),
            Err(error) => panic!("{error}"),
        }
    });
}

/// A world without any fleet.
///
/// # Panics
/// Never.
pub fn empty_world() -> World {
    let version = "v1".parse().expect("a version");
    World { as_of: Timestamp::UNIX_EPOCH, fleets: Vec::new(), split: Split::closed(), version }
}
