//! The clauses of [`Journal`] as tests, run against every journal of this crate.

use std::collections::BTreeSet;

use futures_util::FutureExt;
use futures_util::future::join_all;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{Entry, Journal, JournalError, Lease, MAX_BODY_BYTES};
use crate::model::ServiceName;

/// What a journal does when it is taken over while its owner lives; J2 allows both.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum TakeOver {
    /// The former owner is fenced.
    Fences,
    /// The newcomer is refused.
    IsRefused,
}

/// Makes a test of each clause, with a journal and what taking it over does.
macro_rules! tests {
    ($journal:expr, $take_over:expr) => {
        #[tokio::test]
        async fn j1_an_entry_is_created_only_if_absent() {
            super::super::contract::created_only_if_absent(&*$journal).await;
        }

        #[tokio::test]
        async fn j1_of_a_hundred_racers_exactly_one_wins() {
            super::super::contract::one_racer_wins(&*$journal).await;
        }

        #[tokio::test]
        async fn j2_a_newer_epoch_fences_the_older_one() {
            super::super::contract::newer_epoch_fences(&*$journal, $take_over).await;
        }

        #[tokio::test]
        async fn j2_epochs_rise_in_a_race_of_take_overs() {
            super::super::contract::epochs_rise(&*$journal).await;
        }

        #[tokio::test]
        async fn j4_a_list_is_complete_and_in_order() {
            super::super::contract::complete_and_in_order(&*$journal).await;
        }

        #[tokio::test]
        async fn j5_each_write_has_a_nonce_of_its_own() {
            super::super::contract::own_nonce(&*$journal).await;
        }

        #[tokio::test]
        async fn j6_a_dropped_append_leaves_all_or_nothing() {
            super::super::contract::dropped_append(&*$journal).await;
        }

        #[tokio::test]
        async fn a_body_that_is_too_large_is_refused_and_harms_nothing() {
            super::super::contract::too_large(&*$journal).await;
        }
    };
}
pub(super) use tests;

pub(super) fn service() -> ServiceName {
    "web".parse().unwrap()
}

pub(super) async fn taken(journal: &dyn Journal) -> (Lease, Vec<Entry>) {
    journal.take_over(&service(), &"owner-1".parse().unwrap()).await.unwrap()
}

/// Appends an entry whose body and time tell its number.
pub(super) async fn append(journal: &dyn Journal, lease: &Lease, seq: u64) -> Result<Entry, JournalError> {
    journal.append(lease, seq, at(seq), &body(seq)).await
}

fn at(seq: u64) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_secs(i64::try_from(seq).unwrap())
}

fn body(seq: u64) -> Value {
    json!({ "number": seq, "share": 0.1, "text": "ü\n" })
}

pub(super) async fn created_only_if_absent(journal: &dyn Journal) {
    let (lease, _) = taken(journal).await;
    for seq in [0, 2] {
        let error = append(journal, &lease, seq).await.unwrap_err();
        assert!(matches!(error, JournalError::Gap { expected: 1, .. }), "{error}");
    }
    let first = append(journal, &lease, 1).await.unwrap();
    let error = journal.append(&lease, 1, at(9), &json!("other")).await.unwrap_err();
    assert!(matches!(error, JournalError::SequenceTaken { seq: 1, .. }), "{error}");
    assert_eq!(journal.list(&service()).await.unwrap(), [first]);
    append(journal, &lease, 2).await.unwrap();
}

pub(super) async fn one_racer_wins(journal: &dyn Journal) {
    let (lease, _) = taken(journal).await;
    append(journal, &lease, 1).await.unwrap();
    let racers = (0..100).map(|racer| {
        let lease = &lease;
        async move { journal.append(lease, 2, at(2), &json!({ "racer": racer })).await }
    });
    let (won, lost): (Vec<_>, Vec<_>) = join_all(racers).await.into_iter().partition(Result::is_ok);
    assert_eq!(won.len(), 1);
    assert!(lost.iter().all(|answer| matches!(answer, Err(JournalError::SequenceTaken { seq: 2, .. }))));
    let winner = won.into_iter().next().unwrap().unwrap();
    assert_eq!(journal.list(&service()).await.unwrap()[1..], [winner]);
}

pub(super) async fn newer_epoch_fences(journal: &dyn Journal, take_over: TakeOver) {
    let (older, _) = taken(journal).await;
    append(journal, &older, 1).await.unwrap();
    journal.check(&older).await.unwrap();
    let answer = journal.take_over(&service(), &"owner-2".parse().unwrap()).await;
    if take_over == TakeOver::IsRefused {
        assert!(matches!(answer, Err(JournalError::Held { .. })), "{answer:?}");
        append(journal, &older, 2).await.unwrap();
        return;
    }
    let (newer, entries) = answer.unwrap();
    assert_eq!((newer.epoch(), entries.len()), (older.epoch() + 1, 1));
    for answer in [append(journal, &older, 2).await.map(|_| ()), journal.check(&older).await] {
        assert!(matches!(answer, Err(JournalError::Fenced { epoch, .. }) if epoch == newer.epoch()), "{answer:?}");
    }
    journal.release(older).await.unwrap();
    journal.check(&newer).await.unwrap();
    assert_eq!(append(journal, &newer, 2).await.unwrap().epoch, newer.epoch());
}

pub(super) async fn epochs_rise(journal: &dyn Journal) {
    let mut seen = BTreeSet::new();
    for round in 0..5 {
        let owner = "owner-1".parse().unwrap();
        let name = service();
        let answers = join_all((0..20).map(|_| journal.take_over(&name, &owner))).await;
        let leases: Vec<Lease> = answers.into_iter().filter_map(Result::ok).map(|(lease, _)| lease).collect();
        assert!(!leases.is_empty(), "round {round}");
        for lease in leases {
            assert!(seen.insert(lease.epoch()), "epoch {} was given twice", lease.epoch());
            journal.release(lease).await.unwrap();
        }
    }
}

pub(super) async fn complete_and_in_order(journal: &dyn Journal) {
    assert_eq!(journal.list(&service()).await.unwrap(), []);
    let mut written = Vec::new();
    for _ in 0..3 {
        let (lease, entries) = taken(journal).await;
        assert_eq!(entries, written);
        for _ in 0..4 {
            let entry = append(journal, &lease, written.len() as u64 + 1).await.unwrap();
            assert_eq!((entry.epoch, entry.at, &entry.body), (lease.epoch(), at(entry.seq), &body(entry.seq)));
            written.push(entry);
        }
        assert_eq!(journal.list(&service()).await.unwrap(), written);
        journal.release(lease).await.unwrap();
    }
    assert_eq!(journal.list(&"other".parse().unwrap()).await.unwrap(), []);
}

pub(super) async fn own_nonce(journal: &dyn Journal) {
    let (lease, _) = taken(journal).await;
    let mut nonces = BTreeSet::new();
    for seq in 1..=20 {
        nonces.insert(append(journal, &lease, seq).await.unwrap().nonce);
    }
    assert_eq!(nonces.len(), 20);
}

pub(super) async fn dropped_append(journal: &dyn Journal) {
    let (lease, _) = taken(journal).await;
    // Polled once and dropped, whatever it answers.
    let _ = append(journal, &lease, 1).now_or_never();
    let next = match append(journal, &lease, 1).await {
        Ok(_) => 2,
        Err(JournalError::SequenceTaken { .. }) => {
            append(journal, &lease, 2).await.unwrap();
            3
        }
        Err(error) => panic!("{error}"),
    };
    append(journal, &lease, next).await.unwrap();
    let bodies: Vec<_> = journal.list(&service()).await.unwrap().into_iter().map(|entry| entry.body).collect();
    assert_eq!(bodies, (1..=next).map(body).collect::<Vec<_>>());
}

pub(super) async fn too_large(journal: &dyn Journal) {
    let (lease, _) = taken(journal).await;
    // A JSON text has two quotes.
    let text = |bytes: usize| Value::String("x".repeat(bytes - 2));
    let error = journal.append(&lease, 1, at(1), &text(MAX_BODY_BYTES + 1)).await.unwrap_err();
    assert!(matches!(error, JournalError::TooLarge { limit: MAX_BODY_BYTES, .. }), "{error}");
    journal.append(&lease, 1, at(1), &text(MAX_BODY_BYTES)).await.unwrap();
}
