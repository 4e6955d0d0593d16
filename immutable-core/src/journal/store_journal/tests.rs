#![expect(clippy::disallowed_methods, reason = "time passes here without anybody waiting for it")]

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::join_all;
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::super::contract;
use super::super::store::{MemoryStore, Stored, Version};
use super::log::log_key;
use super::*;

const LEASE: Duration = Duration::from_secs(30);

contract::tests!(
    &StoreJournal::new(Arc::new(MemoryStore::new())).with_lease_time(Duration::from_millis(300)),
    contract::TakeOver::Fences
);

pub(super) fn web() -> ServiceName {
    contract::service()
}

pub(super) fn owner(number: usize) -> OwnerId {
    format!("owner-{number}").parse().unwrap()
}

pub(super) fn on(store: &MemoryStore) -> StoreJournal {
    StoreJournal::new(Arc::new(store.clone()))
}

/// A store on which the n-th write takes place, or does not, and says that it failed.
#[derive(Debug)]
struct Lossy {
    store: MemoryStore,
    writes: AtomicUsize,
    /// The write whose answer is lost, counted from 0, and whether it takes place.
    lost: Mutex<Option<(usize, bool)>>,
}

impl Lossy {
    fn new(lost: Option<(usize, bool)>) -> Self {
        Self { store: MemoryStore::new(), writes: AtomicUsize::new(0), lost: Mutex::new(lost) }
    }

    async fn write(
        &self,
        write: impl Future<Output = Result<Version, StoreError>> + Send,
    ) -> Result<Version, StoreError> {
        let number = self.writes.fetch_add(1, Ordering::Relaxed);
        let lost = *self.lost.lock().unwrap();
        match lost {
            Some((which, takes_place)) if which == number => {
                if takes_place {
                    let _ = write.await;
                }
                Err(StoreError::failed("hear an answer", "lost by the test"))
            }
            _ => write.await,
        }
    }
}

#[async_trait]
impl RecordStore for Lossy {
    async fn create(&self, key: &RecordKey, body: &[u8]) -> Result<Version, StoreError> {
        self.write(self.store.create(key, body)).await
    }

    async fn get(&self, key: &RecordKey) -> Result<Option<Stored>, StoreError> {
        self.store.get(key).await
    }

    async fn compare_and_swap(&self, key: &RecordKey, body: &[u8], expected: &Version) -> Result<Version, StoreError> {
        self.write(self.store.compare_and_swap(key, body, expected)).await
    }

    async fn list_after(&self, after: &RecordKey) -> Result<Vec<RecordKey>, StoreError> {
        self.store.list_after(after).await
    }

    async fn delete(&self, key: &RecordKey) -> Result<(), StoreError> {
        self.store.delete(key).await
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_lost_is_no_loss_whichever_it_is() {
    let mut writes = 0;
    for takes_place in [true, false] {
        for lost in (0..20).map(Some).chain([None]) {
            let store = Arc::new(Lossy::new(lost.map(|which| (which, takes_place))));
            let journal = StoreJournal::new(store.clone());
            let mut expected = Vec::new();
            for round in 0..2 {
                let began = Instant::now();
                let (lease, entries) = journal.take_over(&web(), &owner(round)).await.unwrap();
                assert_eq!(began.elapsed(), Duration::ZERO, "nobody had to be waited for: {lost:?}");
                assert_eq!(entries, expected, "write {lost:?} lost");
                for _ in 0..2 {
                    let seq = expected.len() as u64 + 1;
                    expected.push(contract::append(&journal, &lease, seq).await.unwrap());
                    sleep(LEASE / 2).await;
                    journal.check(&lease).await.unwrap();
                }
                assert_eq!(journal.list(&web()).await.unwrap(), expected);
                journal.release(lease).await.unwrap();
            }
            writes = store.writes.load(Ordering::Relaxed);
        }
    }
    assert!((14..20).contains(&writes), "each of {writes} writes was lost once");
}

#[tokio::test(start_paused = true)]
async fn a_silent_owner_is_taken_over_within_its_lease_time() {
    let store = MemoryStore::new();
    let (first, second) = (on(&store), on(&store));
    let (old, _) = first.take_over(&web(), &owner(1)).await.unwrap();
    contract::append(&first, &old, 1).await.unwrap();
    let began = Instant::now();
    let (new, entries) = second.take_over(&web(), &owner(2)).await.unwrap();
    assert_eq!((began.elapsed(), entries.len(), new.epoch()), (LEASE, 1, 2));
    for answer in [contract::append(&first, &old, 2).await.map(|_| ()), first.check(&old).await] {
        assert!(matches!(answer, Err(JournalError::Fenced { epoch: 2, .. })), "{answer:?}");
    }
    first.release(old).await.unwrap();
    second.check(&new).await.unwrap();
    contract::append(&second, &new, 2).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_checks_is_not_taken_over_however_long_it_writes_nothing() {
    let store = MemoryStore::new();
    let journal = on(&store);
    let (lease, _) = journal.take_over(&web(), &owner(1)).await.unwrap();
    let rival = async {
        for _ in 0..20 {
            let began = Instant::now();
            let error = on(&store).take_over(&web(), &owner(2)).await.unwrap_err();
            assert!(began.elapsed() <= LEASE * 2 / 3, "a renewal is seen soon, and not when the time is over");
            assert_eq!(error.to_string(), "journal of web is held by owner-1: wait until it ends, or end it");
        }
    };
    let keeper = async {
        loop {
            sleep(LEASE / 10).await;
            journal.check(&lease).await.unwrap();
        }
    };
    tokio::select! {
        () = rival => {}
        () = keeper => unreachable!("it keeps on"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_was_given_back_is_not_waited_for() {
    let journal = on(&MemoryStore::new());
    for round in 1..4 {
        let began = Instant::now();
        let (lease, _) = journal.take_over(&web(), &owner(round)).await.unwrap();
        assert_eq!((began.elapsed(), lease.epoch()), (Duration::ZERO, round as u64));
        journal.release(lease).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn of_a_hundred_who_take_over_from_a_dead_owner_one_wins() {
    let store = MemoryStore::new();
    let dead = on(&store).take_over(&web(), &owner(0)).await.unwrap();
    let name = web();
    let racers = (1..=100).map(|number| {
        let journal = on(&store);
        let name = &name;
        async move { journal.take_over(name, &owner(number)).await }
    });
    let (won, lost): (Vec<_>, Vec<_>) = join_all(racers).await.into_iter().partition(Result::is_ok);
    assert_eq!((won.len(), lost.len()), (1, 99));
    assert!(lost.iter().all(|answer| matches!(answer, Err(JournalError::Held { .. }))));
    drop(dead);
}

/// The lease is only for liveness: whoever steals it by force still cannot write between the records of its owner.
#[tokio::test(start_paused = true)]
async fn the_log_fences_even_when_the_lease_is_lost() {
    let store = MemoryStore::new();
    let (first, second) = (on(&store), on(&store));
    let (old, _) = first.take_over(&web(), &owner(1)).await.unwrap();
    store.delete(&key(&web(), "lease").unwrap()).await.unwrap();
    let (new, _) = second.take_over(&web(), &owner(2)).await.unwrap();
    let late = contract::append(&first, &old, 1).await;
    assert!(matches!(late, Err(JournalError::Fenced { epoch: 2, .. })), "{late:?}");
    contract::append(&second, &new, 1).await.unwrap();
    sleep(LEASE / 2).await;
    let check = first.check(&old).await;
    assert!(matches!(check, Err(JournalError::Fenced { epoch: 2, .. })), "{check:?}");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_does_not_answer_ends_the_lease_before_others_may_take_it() {
    #[derive(Debug)]
    struct Silent;
    #[async_trait]
    impl RecordStore for Silent {
        async fn create(&self, _: &RecordKey, _: &[u8]) -> Result<Version, StoreError> {
            std::future::pending().await
        }
        async fn get(&self, _: &RecordKey) -> Result<Option<Stored>, StoreError> {
            std::future::pending().await
        }
        async fn compare_and_swap(&self, _: &RecordKey, _: &[u8], _: &Version) -> Result<Version, StoreError> {
            std::future::pending().await
        }
        async fn list_after(&self, _: &RecordKey) -> Result<Vec<RecordKey>, StoreError> {
            std::future::pending().await
        }
        async fn delete(&self, _: &RecordKey) -> Result<(), StoreError> {
            std::future::pending().await
        }
    }
    let (lease, _) = on(&MemoryStore::new()).take_over(&web(), &owner(1)).await.unwrap();
    let (began, cut_off) = (Instant::now(), StoreJournal::new(Arc::new(Silent)));
    while cut_off.check(&lease).await.is_ok() {
        sleep(Duration::from_secs(1)).await;
        assert!(began.elapsed() < LEASE, "it believes in its lease for too long");
    }
    assert!(began.elapsed() > LEASE / 2, "it gave up too early");
    assert!(began.elapsed() < LEASE * 7 / 6, "it waited for an answer for too long");
    let error = contract::append(&cut_off, &lease, 1).await.unwrap_err();
    assert!(matches!(error, JournalError::Storage { .. }), "{error}");
    let error = contract::append(&on(&MemoryStore::new()), &lease, 1).await.unwrap_err();
    assert!(matches!(error, JournalError::LeaseUnusable { .. }), "it may still come: {error}");
}

/// A log of three records: a take-over and two entries.
async fn written() -> MemoryStore {
    let store = MemoryStore::new();
    let (lease, _) = contract::taken(&on(&store)).await;
    for seq in 1..=2 {
        contract::append(&on(&store), &lease, seq).await.unwrap();
    }
    store
}

async fn put(store: &MemoryStore, number: u64, body: &[u8]) {
    let key = log_key(&web(), number).unwrap();
    store.delete(&key).await.unwrap();
    store.create(&key, body).await.unwrap();
}

async fn problem(store: &MemoryStore) -> String {
    let (listed, taken) = (on(store).list(&web()).await, on(store).take_over(&web(), &owner(2)).await);
    let (listed, taken) = (listed.unwrap_err().to_string(), taken.unwrap_err().to_string());
    assert_eq!(listed, taken);
    listed
}

#[tokio::test(start_paused = true)]
async fn a_log_that_cannot_be_trusted_is_refused_with_the_name_of_the_record() {
    let name = |number| log_key(&web(), number).unwrap().name().to_owned();
    let check = async |store: &MemoryStore, number: u64, expected: &str| {
        let problem = problem(store).await;
        assert!(problem.contains(&name(number)) && problem.contains(expected), "{problem}");
    };

    let store = written().await;
    store.delete(&log_key(&web(), 2).unwrap()).await.unwrap();
    check(&store, 3, &format!("{} is missing before it", name(2))).await;

    let (store, other) = (written().await, written().await);
    let foreign = other.get(&log_key(&web(), 3).unwrap()).await.unwrap().unwrap().body;
    put(&store, 3, &foreign).await;
    check(&store, 3, "another journal of this service").await;

    let store = written().await;
    let second = store.get(&log_key(&web(), 2).unwrap()).await.unwrap().unwrap().body;
    put(&store, 3, &second).await;
    check(&store, 3, "it is record 2, and 3 was expected").await;

    let store = written().await;
    put(&store, 2, b"{\"v\":7,\"whatever\":[]}").await;
    assert_eq!(
        problem(&store).await,
        "journal of web has version 7, and this program knows up to 1: use a newer program"
    );
}

#[tokio::test(start_paused = true)]
async fn a_flipped_bit_anywhere_and_a_cut_at_any_length_are_refused() {
    let store = written().await;
    let whole = store.get(&log_key(&web(), 2).unwrap()).await.unwrap().unwrap().body;
    for index in 0..whole.len() {
        for bit in 0..8 {
            let mut damaged = whole.clone();
            damaged[index] ^= 1 << bit;
            put(&store, 2, &damaged).await;
            assert!(on(&store).list(&web()).await.is_err(), "bit {bit} of byte {index}");
        }
        put(&store, 2, &whole[..index]).await;
        assert!(on(&store).list(&web()).await.is_err(), "cut at {index}");
    }
    put(&store, 2, &whole).await;
    assert_eq!(on(&store).list(&web()).await.unwrap().len(), 2);
}

#[tokio::test]
async fn records_of_the_first_version_are_read_for_ever() {
    let store = MemoryStore::new();
    for (number, line) in include_str!("fixtures/v1.jsonl").lines().enumerate() {
        put(&store, number as u64 + 1, line.as_bytes()).await;
    }
    let entries = on(&store).list(&web()).await.unwrap();
    let told: Vec<_> = entries.iter().map(|entry| (entry.seq, entry.epoch, entry.body.clone())).collect();
    assert_eq!(told, [(1, 1, json!({ "begun": 0.1 })), (2, 1, json!("ü\n")), (3, 2, json!([u64::MAX, null]))]);
}
