//! Segments, lists that are not made at one moment, and calls of every kind that fail.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use serde_json::json;

use super::super::contract;
use super::super::store::{MemoryStore, RecordKey, RecordStore, StoreError, Stored, Version};
use super::segment::segment_key;
use super::tests::{on, owner, web};
use super::*;

/// Counts the calls, and makes one of them fail: after it was done, where it is a write.
#[derive(Debug, Default)]
struct Watched {
    store: MemoryStore,
    calls: AtomicUsize,
    /// Which call fails, counted from 0, and whether a write takes place nevertheless.
    failing: Option<(usize, bool)>,
    /// What one list leaves out.
    unseen: Mutex<Vec<RecordKey>>,
}

impl Watched {
    async fn call<T: Send>(
        &self,
        is_write: bool,
        call: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        let number = self.calls.fetch_add(1, Ordering::Relaxed);
        match self.failing {
            Some((which, takes_place)) if which == number => {
                if is_write && takes_place {
                    let _ = call.await;
                }
                Err(StoreError::failed("hear an answer", "lost by the test"))
            }
            _ => call.await,
        }
    }
}

#[async_trait]
impl RecordStore for Watched {
    async fn create(&self, key: &RecordKey, body: &[u8]) -> Result<Version, StoreError> {
        self.call(true, self.store.create(key, body)).await
    }

    async fn get(&self, key: &RecordKey) -> Result<Option<Stored>, StoreError> {
        self.call(false, self.store.get(key)).await
    }

    async fn compare_and_swap(&self, key: &RecordKey, body: &[u8], expected: &Version) -> Result<Version, StoreError> {
        self.call(true, self.store.compare_and_swap(key, body, expected)).await
    }

    async fn list_after(&self, after: &RecordKey) -> Result<Vec<RecordKey>, StoreError> {
        let mut keys = self.call(false, self.store.list_after(after)).await?;
        let mut unseen = self.unseen.lock().unwrap();
        if keys.iter().any(|key| unseen.contains(key)) {
            keys.retain(|key| !unseen.contains(key));
            unseen.clear();
        }
        Ok(keys)
    }

    async fn delete(&self, key: &RecordKey) -> Result<(), StoreError> {
        self.call(true, self.store.delete(key)).await
    }
}

/// Owners one after the other, each with some entries.
async fn write(journal: &StoreJournal, owners: usize, each: u64) -> Vec<Entry> {
    let mut written = Vec::new();
    for number in 1..=owners {
        let (lease, entries) = journal.take_over(&web(), &owner(number)).await.unwrap();
        assert_eq!(entries, written);
        for _ in 0..each {
            written.push(contract::append(journal, &lease, written.len() as u64 + 1).await.unwrap());
        }
        journal.release(lease).await.unwrap();
    }
    written
}

async fn segments(store: &MemoryStore) -> Vec<RecordKey> {
    store.list_after(&segment_key(&web(), 0).unwrap()).await.unwrap()
}

#[tokio::test]
async fn a_long_log_is_read_with_few_calls() {
    let store = Arc::new(Watched::default());
    let journal = StoreJournal::new(store.clone());
    let written = write(&journal, 100, 20).await;
    store.calls.store(0, Ordering::Relaxed);
    assert_eq!(journal.list(&web()).await.unwrap(), written);
    let calls = store.calls.load(Ordering::Relaxed);
    // At most a segment for 64 records, and as many records that are in none yet, and the last owner's.
    assert!(calls < 2100 / 64 + 64 + 21 + 3, "{calls} calls for {} entries of 100 owners", written.len());
}

#[tokio::test]
async fn a_segment_is_written_as_soon_as_it_is_worth_it() {
    // And the record that says that the first owner began.
    for (entries, expected) in [(62, 0), (63, 1)] {
        let store = MemoryStore::new();
        write(&on(&store), 1, entries).await;
        let _ = on(&store).take_over(&web(), &owner(2)).await.unwrap();
        assert_eq!(segments(&store).await.len(), expected, "{entries} entries");
    }
}

#[tokio::test]
async fn a_segment_holds_no_more_bytes_than_can_be_written_at_once() {
    let store = MemoryStore::new();
    let journal = on(&store);
    let (lease, _) = contract::taken(&journal).await;
    let large = json!("x".repeat(MAX_BODY_BYTES / 8));
    for seq in 1..=70 {
        journal.append(&lease, seq, Timestamp::UNIX_EPOCH, &large).await.unwrap();
    }
    journal.release(lease).await.unwrap();
    for rounds in 1..=2 {
        let (lease, entries) = contract::taken(&journal).await;
        assert_eq!(entries.len(), 70);
        journal.release(lease).await.unwrap();
        // What is left after the first is not worth another.
        let found = segments(&store).await;
        assert_eq!(found.len(), 1, "after {rounds} rounds");
        let bytes = store.get(&found[0]).await.unwrap().unwrap().body.len();
        assert!((3 << 20..5 << 20).contains(&bytes), "{bytes} bytes");
    }
}

#[tokio::test]
async fn segments_that_overlap_or_are_missing_change_nothing() {
    let store = MemoryStore::new();
    let journal = on(&store);
    let written = write(&journal, 4, 70).await;
    let found = segments(&store).await;
    assert_eq!(found.len(), 3);
    for gone in &found {
        let kept = store.get(gone).await.unwrap().unwrap().body;
        store.delete(gone).await.unwrap();
        assert_eq!(journal.list(&web()).await.unwrap(), written, "without {gone}");
        store.create(gone, &kept).await.unwrap();
    }
    // One that holds the beginning of the second segment as well.
    let mut first: record::Segment = opened(&store, &found[0]).await;
    let second: record::Segment = opened(&store, &found[1]).await;
    first.records.extend(second.records.into_iter().take(10));
    let last = first.records.last().unwrap().number;
    store.create(&segment_key(&web(), last).unwrap(), &record::seal(&first)).await.unwrap();
    assert_eq!(journal.list(&web()).await.unwrap(), written);
}

#[tokio::test(start_paused = true)]
async fn an_epoch_that_could_not_be_read_back_is_not_written() {
    let store = MemoryStore::new();
    let journal = on(&store);
    let written = write(&journal, 1, 2).await;
    let first = log::log_key(&web(), 1).unwrap();
    let first: record::LogRecord =
        record::open(&web(), "record", &store.get(&first).await.unwrap().unwrap().body).unwrap();
    let late = record::LogRecord { number: 4, epoch: u64::MAX - 2, nonce: Nonce::new(4), ..first };
    store.create(&log::log_key(&web(), 4).unwrap(), &record::seal(&late)).await.unwrap();
    let (lease, _) = journal.take_over(&web(), &owner(2)).await.unwrap();
    assert_eq!(lease.epoch(), u64::MAX - 1);
    journal.release(lease).await.unwrap();
    for _ in 0..2 {
        let error = journal.take_over(&web(), &owner(3)).await.unwrap_err();
        assert!(error.to_string().contains("there is no epoch left"), "{error}");
        assert_eq!(journal.list(&web()).await.unwrap(), written);
    }
}

async fn opened(store: &MemoryStore, key: &RecordKey) -> record::Segment {
    record::open(&web(), "segment", &store.get(key).await.unwrap().unwrap().body).unwrap()
}

#[tokio::test]
async fn a_segment_that_cannot_be_trusted_is_refused_with_its_name() {
    let store = MemoryStore::new();
    let journal = on(&store);
    write(&journal, 2, 70).await;
    let [key] = &segments(&store).await[..] else { panic!("one segment was expected") };
    let whole = opened(&store, key).await;
    let with = |change: fn(&mut Vec<record::LogRecord>)| {
        let mut segment = whole.clone();
        change(&mut segment.records);
        record::seal(&segment)
    };
    let cases = [
        (with(|records| drop(records.pop())), "it ends with record"),
        (with(|records| drop(records.remove(3))), "it is record 5, and 4 was expected"),
        (with(|records| records[5].lineage = Nonce::new(7)), "it is of another journal of this service"),
        (with(|records| records[5].epoch = 7), "the entry is of another epoch"),
        (with(|records| records.truncate(1)), "it is not a segment"),
        (b"{\"v\":1".to_vec(), "it is not a record of a journal"),
        (b"{\"v\":7,\"more\":[]}".to_vec(), "has version 7"),
    ];
    for (body, expected) in cases {
        store.delete(key).await.unwrap();
        store.create(key, &body).await.unwrap();
        let error = journal.list(&web()).await.unwrap_err();
        let named = matches!(error, JournalError::UnknownVersion { .. }) || error.to_string().contains(key.name());
        assert!(named && error.to_string().contains(expected), "{error}");
    }
}

#[tokio::test]
async fn a_list_that_lacks_a_record_and_has_the_next_is_made_again() {
    let store = Arc::new(Watched::default());
    let journal = StoreJournal::new(store.clone());
    let written = write(&journal, 1, 5).await;
    for missing in [&[3][..], &[3, 5]] {
        *store.unseen.lock().unwrap() = missing.iter().map(|number| log::log_key(&web(), *number).unwrap()).collect();
        assert_eq!(journal.list(&web()).await.unwrap(), written);
        assert!(store.unseen.lock().unwrap().is_empty(), "nothing was left out");
    }
}

/// Whatever is lost, an owner that is told of a failure and takes over again goes on from what is there: every entry that was
/// answered is there once, and at most the one that was not answered besides.
#[tokio::test(start_paused = true)]
async fn no_call_of_any_kind_that_fails_costs_or_doubles_an_entry() {
    let mut calls = 0;
    for takes_place in [true, false] {
        for failing in 0..60 {
            let store = Arc::new(Watched { failing: Some((failing, takes_place)), ..Watched::default() });
            let journal = StoreJournal::new(store.clone());
            let mut answered = BTreeMap::new();
            let mut epochs = Vec::new();
            let mut failures = 0;
            'owners: while answered.len() < 6 {
                let (lease, entries) = match journal.take_over(&web(), &owner(1)).await {
                    Ok(taken) => taken,
                    Err(JournalError::Storage { .. }) => {
                        failures += 1;
                        continue;
                    }
                    Err(error) => panic!("call {failing}: {error}"),
                };
                epochs.push(lease.epoch());
                let mut seq = entries.len() as u64;
                for _ in 0..3 {
                    seq += 1;
                    match contract::append(&journal, &lease, seq).await {
                        Ok(entry) => drop(answered.insert(seq, entry)),
                        Err(JournalError::Storage { .. }) => {
                            failures += 1;
                            continue 'owners;
                        }
                        Err(error) => panic!("call {failing}: {error}"),
                    }
                    tokio::time::advance(Duration::from_secs(12)).await;
                    journal.check(&lease).await.unwrap();
                }
                match journal.release(lease).await {
                    Ok(()) => {}
                    Err(JournalError::Storage { .. }) => failures += 1,
                    Err(error) => panic!("call {failing}: {error}"),
                }
            }
            let listed = match journal.list(&web()).await {
                Err(JournalError::Storage { .. }) => journal.list(&web()).await.unwrap(),
                other => other.unwrap(),
            };
            assert!(failures <= 1, "call {failing}: {failures} failures");
            assert!(listed.len() - answered.len() <= failures, "call {failing}: {listed:?}");
            for (seq, entry) in answered {
                assert_eq!(listed[usize::try_from(seq).unwrap() - 1], entry, "call {failing}");
            }
            assert!(epochs.is_sorted_by(|older, newer| older < newer), "call {failing}: {epochs:?}");
            calls = store.calls.load(Ordering::Relaxed);
        }
    }
    assert!((30..60).contains(&calls), "not each of {calls} calls has failed");
}

/// Written once by version 1 and never again: every later program must read it.
#[tokio::test]
async fn segments_of_the_first_version_are_read_for_ever() {
    let store = MemoryStore::new();
    let fixture = include_str!("fixtures/segment-v1.json").trim_end();
    store.create(&segment_key(&web(), 4).unwrap(), fixture.as_bytes()).await.unwrap();
    let entries = on(&store).list(&web()).await.unwrap();
    let told: Vec<_> = entries.iter().map(|entry| (entry.seq, entry.epoch, entry.body.clone())).collect();
    assert_eq!(told, [(1, 1, json!({ "begun": 0.1 })), (2, 1, json!("ü\n"))]);
    let segment = opened(&store, &segment_key(&web(), 4).unwrap()).await;
    assert_eq!(String::from_utf8(record::seal(&segment)).unwrap(), fixture, "it is still written so");
}
