//! The store of records, and a journal on it, over the S3 API on loopback and over `object_store`'s own memory.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod engines;
mod s3;

use std::sync::Arc;
use std::time::Duration;

use immutable_core::journal::store::{RecordKey, RecordStore, StoreError, conformance};
use immutable_core::journal::{Journal, JournalError, StoreJournal};
use immutable_object_store::ObjectRecordStore;
use immutable_object_store::object_store::memory::InMemory;
use jiff::Timestamp;
use s3::{Fault, S3};
use serde_json::json;

fn key(name: &str) -> RecordKey {
    RecordKey::new("web", name).unwrap()
}

#[tokio::test]
async fn records_in_memory_keep_the_contract() {
    for prefix in ["", "some/prefix"] {
        let records = ObjectRecordStore::new(Arc::new(InMemory::new()), prefix);
        assert_eq!(conformance::check(&records).await, Ok(()));
    }
}

#[tokio::test]
async fn records_in_s3_keep_the_contract_and_their_prefix() {
    let s3 = S3::start().await;
    assert_eq!(conformance::check(&s3.records()).await, Ok(()));
    let keys = s3.keys();
    assert!(keys.len() > 20 && keys.iter().all(|key| key.starts_with("some/prefix/")), "{keys:?}");
}

#[tokio::test]
async fn a_write_whose_answer_is_lost_is_tried_once_and_not_known() {
    for (fault, is_there) in [(Fault::LostAnswer, true), (Fault::LostRequest, false)] {
        let s3 = S3::start().await.failing(0, fault);
        let error = s3.records().create(&key("r-1"), b"one").await.unwrap_err();
        assert_eq!(error.to_string(), "cannot create web/r-1 (the connection was lost)");
        assert_eq!(s3.writes(), 1, "it was tried again");
        let found = s3.records().get(&key("r-1")).await.unwrap().map(|stored| stored.body);
        assert_eq!(found, is_there.then(|| b"one".to_vec()), "{fault:?}");
    }
}

#[tokio::test]
async fn a_conflict_with_a_write_under_way_is_neither_a_record_nor_a_change() {
    let s3 = S3::start().await.failing(0, Fault::Conflict);
    let error = s3.records().create(&key("lease"), b"one").await.unwrap_err();
    assert_eq!(error.to_string(), "cannot create web/lease (another write is under way)");

    let s3 = S3::start().await.failing(1, Fault::Conflict);
    let version = s3.records().create(&key("lease"), b"one").await.unwrap();
    let error = s3.records().compare_and_swap(&key("lease"), b"two", &version).await.unwrap_err();
    assert_eq!(error.to_string(), "cannot replace web/lease (another write is under way)");
    let newer = s3.records().compare_and_swap(&key("lease"), b"two", &version).await.unwrap();

    // What was refused for a conflict may show afterwards as what it is.
    let s3 = s3.failing(3, Fault::Conflict);
    let error = s3.records().compare_and_swap(&key("lease"), b"three", &version).await.unwrap_err();
    assert!(matches!(error, StoreError::Stale { .. }), "{error}");
    let s3 = s3.failing(4, Fault::Conflict);
    let error = s3.records().create(&key("lease"), b"three").await.unwrap_err();
    assert!(matches!(error, StoreError::Exists { .. }), "{error}");
    assert_eq!(s3.records().get(&key("lease")).await.unwrap().unwrap().version, newer);
}

#[tokio::test]
async fn no_secret_is_in_an_error_or_in_debug() {
    let s3 = S3::start().await.failing(0, Fault::BadSignature);
    let records = s3.records();
    let error = records.create(&key("r-1"), b"one").await.unwrap_err();
    assert_eq!(error.to_string(), "cannot create web/r-1 (permission denied)");
    let error = JournalError::storage("write", error);
    let shown = format!("{error} {error:?} {records:?}");
    for secret in [s3::SECRET, s3::KEY_ID, s3::TOKEN, "Signature"] {
        assert!(!shown.contains(secret), "{shown}");
    }
    assert!(shown.contains("some/prefix"), "{shown}");

    let s3 = S3::start().await.failing(0, Fault::SlowDown);
    let error = s3.records().create(&key("r-1"), b"one").await.unwrap_err();
    assert_eq!(error.to_string(), "cannot create web/r-1 (HTTP status 503)");
    assert_eq!(s3.writes(), 1);
}

#[tokio::test]
async fn a_store_that_is_not_there_is_told() {
    let s3 = S3::start().await;
    let gone = s3::records(&s3.endpoint);
    drop(s3);
    // The connection that is open already may live on; a new store has none.
    let error = gone.get(&key("r-1")).await.unwrap_err();
    assert_eq!(error.to_string(), "cannot read web/r-1 (no connection)");
}

/// Each write of two owners, one after the other, fails in each way.
#[tokio::test]
async fn a_journal_in_s3_loses_and_doubles_nothing_whichever_write_fails() {
    let service = "web".parse().unwrap();
    for fault in [Fault::LostAnswer, Fault::LostRequest, Fault::Conflict, Fault::SlowDown] {
        let mut writes = 0;
        for failing in 0..12 {
            let s3 = S3::start().await.failing(failing, fault);
            let journal = StoreJournal::new(Arc::new(s3.records()));
            let mut expected = Vec::new();
            for round in 1..=2_u64 {
                let owner = format!("owner-{round}").parse().unwrap();
                let (lease, entries) = journal.take_over(&service, &owner).await.unwrap();
                assert_eq!((&entries, lease.epoch()), (&expected, round), "write {failing}, {fault:?}");
                for seq in 2 * round - 1..=2 * round {
                    let body = json!({ "entry": seq, "by": round });
                    expected.push(journal.append(&lease, seq, Timestamp::UNIX_EPOCH, &body).await.unwrap());
                }
                journal.check(&lease).await.unwrap();
                journal.release(lease).await.unwrap();
            }
            assert_eq!(journal.list(&service).await.unwrap(), expected, "write {failing}, {fault:?}");
            writes = s3.writes();
        }
        assert!((10..12).contains(&writes), "not each of {writes} writes has failed");
    }
}

#[tokio::test(start_paused = true)]
async fn of_two_owners_in_memory_the_living_keeps_the_journal_and_the_silent_loses_it() {
    let store = Arc::new(InMemory::new());
    let on = || StoreJournal::new(Arc::new(ObjectRecordStore::new(store.clone(), "rollouts")));
    let (first, second, service) = (on(), on(), "web".parse().unwrap());
    let (old, _) = first.take_over(&service, &"host-1".parse().unwrap()).await.unwrap();
    let mut looks = tokio::time::interval(Duration::from_secs(3));
    let owner = "host-2".parse().unwrap();
    let held = tokio::select! {
        answer = second.take_over(&service, &owner) => answer.unwrap_err(),
        () = async { loop { looks.tick().await; first.check(&old).await.unwrap(); } } => unreachable!("it goes on"),
    };
    assert_eq!(held.to_string(), "journal of web is held by host-1: wait until it ends, or end it");

    let began = tokio::time::Instant::now();
    let (_new, _) = second.take_over(&service, &owner).await.unwrap();
    assert_eq!(began.elapsed(), Duration::from_secs(30));
    let late = first.append(&old, 1, Timestamp::UNIX_EPOCH, &json!("late")).await.unwrap_err();
    assert!(matches!(late, JournalError::Fenced { epoch: 2, .. }), "{late}");
}
