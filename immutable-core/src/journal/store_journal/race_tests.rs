//! What others do between two calls of an owner, and where exactly its time is over.

#![expect(clippy::disallowed_methods, reason = "time passes here without anybody waiting for it")]

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::BoxFuture;
use tokio::time::{Instant, sleep};

use super::super::contract;
use super::super::store::{MemoryStore, Stored, Version};
use super::log::log_key;
use super::record::{LogRecord, seal};
use super::tests::{on, owner, web};
use super::*;

const LEASE: Duration = Duration::from_secs(30);

type Meddling = Box<dyn FnOnce(MemoryStore) -> BoxFuture<'static, ()> + Send>;

/// A store that counts its writes, and on which something else happens just before a record is created.
struct Busy {
    store: MemoryStore,
    writes: AtomicUsize,
    before: Mutex<Option<(RecordKey, Meddling)>>,
    /// Whether writes fail, and reads of the log.
    failing: (bool, bool),
}

impl std::fmt::Debug for Busy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Busy").field("writes", &self.writes).finish_non_exhaustive()
    }
}

impl Busy {
    fn over(store: &MemoryStore) -> Self {
        Self { store: store.clone(), writes: AtomicUsize::new(0), before: Mutex::new(None), failing: (false, false) }
    }

    /// What happens just before record `number` of the log is created.
    fn before<F: Future<Output = ()> + Send + 'static>(
        self,
        number: u64,
        meddle: impl FnOnce(MemoryStore) -> F + Send + 'static,
    ) -> Self {
        let key = log_key(&web(), number).unwrap();
        *self.before.lock().unwrap() = Some((key, Box::new(move |store| Box::pin(meddle(store)))));
        self
    }

    fn count(&self) -> Result<(), StoreError> {
        let writes = self.writes.fetch_add(1, Ordering::Relaxed);
        assert!(writes < 100, "it tries for ever");
        if self.failing.0 { Err(StoreError::failed("write", "refused by the test")) } else { Ok(()) }
    }
}

#[async_trait]
impl RecordStore for Busy {
    async fn create(&self, key: &RecordKey, body: &[u8]) -> Result<Version, StoreError> {
        let due = self.before.lock().unwrap().take_if(|(at, _)| at == key);
        if let Some((_, meddle)) = due {
            meddle(self.store.clone()).await;
        }
        self.count()?;
        self.store.create(key, body).await
    }

    async fn get(&self, key: &RecordKey) -> Result<Option<Stored>, StoreError> {
        if self.failing.1 && key.name().starts_with("r-") {
            return Err(StoreError::failed("read", "refused by the test"));
        }
        self.store.get(key).await
    }

    async fn compare_and_swap(&self, key: &RecordKey, body: &[u8], expected: &Version) -> Result<Version, StoreError> {
        self.count()?;
        self.store.compare_and_swap(key, body, expected).await
    }

    async fn list_after(&self, after: &RecordKey) -> Result<Vec<RecordKey>, StoreError> {
        self.store.list_after(after).await
    }

    async fn delete(&self, key: &RecordKey) -> Result<(), StoreError> {
        self.store.delete(key).await
    }
}

fn journal(store: Busy) -> (StoreJournal, Arc<Busy>) {
    let store = Arc::new(store);
    (StoreJournal::new(store.clone()), store)
}

/// Nobody holds the lease as far as the store says.
async fn lose_lease(store: &MemoryStore) {
    store.delete(&key(&web(), "lease").unwrap()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_entry_that_its_owner_gets_in_before_the_new_epoch_is_there_is_kept() {
    let store = MemoryStore::new();
    let (old, _) = on(&store).take_over(&web(), &owner(1)).await.unwrap();
    lose_lease(&store).await;
    let busy = Busy::over(&store).before(2, async move |store| {
        contract::append(&on(&store), &old, 1).await.unwrap();
    });
    let (new, entries) = journal(busy).0.take_over(&web(), &owner(2)).await.unwrap();
    assert_eq!((new.epoch(), entries.len()), (2, 1));
    contract::append(&on(&store), &new, 2).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn of_two_who_take_over_at_once_the_second_is_told_who_was_first() {
    let store = MemoryStore::new();
    let busy = Busy::over(&store).before(1, async |store| {
        lose_lease(&store).await;
        let _ = on(&store).take_over(&web(), &owner(1)).await.unwrap();
    });
    match journal(busy).0.take_over(&web(), &owner(2)).await {
        Err(JournalError::Held { owner: held_by, .. }) => assert_eq!(held_by, Some(owner(1))),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn an_entry_that_another_task_of_the_owner_writes_first_fences_nobody() {
    let store = MemoryStore::new();
    let (lease, _) = on(&store).take_over(&web(), &owner(1)).await.unwrap();
    let lease = Arc::new(lease);
    let same = Arc::clone(&lease);
    let busy = Busy::over(&store).before(2, async move |store| {
        contract::append(&on(&store), &same, 1).await.unwrap();
    });
    let (journal, _) = journal(busy);
    let second = contract::append(&journal, &lease, 1).await;
    assert!(matches!(second, Err(JournalError::SequenceTaken { seq: 1, .. })), "{second:?}");
    contract::append(&journal, &lease, 2).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_store_that_refuses_every_write_or_shows_no_record_is_not_asked_for_ever() {
    let refusing = Busy { failing: (true, false), ..Busy::over(&MemoryStore::new()) };
    let error = journal(refusing).0.take_over(&web(), &owner(1)).await.unwrap_err();
    assert!(error.to_string().contains("cannot write"), "{error}");

    // It says that the record is there, and does not show it.
    let store = MemoryStore::new();
    let (lease, _) = on(&store).take_over(&web(), &owner(1)).await.unwrap();
    store.create(&log_key(&web(), 2).unwrap(), b"unseen").await.unwrap();
    let (journal, busy) = journal(Busy { failing: (false, true), ..Busy::over(&store) });
    let error = contract::append(&journal, &lease, 1).await.unwrap_err();
    assert!(error.to_string().contains("cannot read"), "{error}");
    assert_eq!(busy.writes.load(Ordering::Relaxed), TRIES);
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_renewed_after_a_third_of_its_time_and_not_before() {
    let (journal, store) = journal(Busy::over(&MemoryStore::new()));
    let (lease, _) = journal.take_over(&web(), &owner(1)).await.unwrap();
    let writes = || store.writes.load(Ordering::Relaxed);
    let taken = writes();
    for (millis, expected) in [(0, 0), (9_999, 0), (1, 1), (1, 1)] {
        let wait = Duration::from_millis(millis);
        sleep(wait).await;
        journal.check(&lease).await.unwrap();
        assert_eq!(writes() - taken, expected, "{wait:?} later");
    }
}

#[tokio::test(start_paused = true)]
async fn an_owner_whose_lease_was_taken_learns_by_whom_if_the_log_says_it() {
    let store = MemoryStore::new();
    let (first, _) = on(&store).take_over(&web(), &owner(1)).await.unwrap();
    lose_lease(&store).await;
    let (second, _) = on(&store).take_over(&web(), &owner(2)).await.unwrap();
    sleep(LEASE / 2).await;
    let check = on(&store).check(&first).await;
    assert!(matches!(check, Err(JournalError::Fenced { epoch: 2, .. })), "{check:?}");

    // A third has the lease, and its epoch is not there yet.
    lose_lease(&store).await;
    on(&store).take_lease(&web(), &owner(3)).await.unwrap();
    let check = on(&store).check(&second).await;
    assert!(matches!(check, Err(JournalError::LeaseUnusable { .. })), "{check:?}");
}

#[tokio::test(start_paused = true)]
async fn giving_back_a_lease_that_somebody_else_has_leaves_it_to_them() {
    let store = MemoryStore::new();
    let (first, _) = on(&store).take_over(&web(), &owner(1)).await.unwrap();
    lose_lease(&store).await;
    let (second, _) = on(&store).take_over(&web(), &owner(2)).await.unwrap();
    on(&store).release(first).await.unwrap();
    let began = Instant::now();
    let _ = on(&store).take_over(&web(), &owner(3)).await.unwrap();
    assert_eq!(began.elapsed(), LEASE, "the second is waited for, who still holds it");
    drop(second);
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_over_when_no_further_call_could_be_answered_in_its_time() {
    for (end, expected) in [(24_999, true), (25_000, false)] {
        let end = Duration::from_millis(end);
        let store = MemoryStore::new();
        let (lease, _) = on(&store).take_over(&web(), &owner(1)).await.unwrap();
        sleep(end).await;
        let refusing = Busy { failing: (true, false), ..Busy::over(&store) };
        assert_eq!(journal(refusing).0.check(&lease).await.is_ok(), expected, "{end:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_record_that_does_not_follow_the_one_before_it_is_refused() {
    let nonce = Nonce::new(7);
    let record = |number, epoch, says| LogRecord { service: web(), lineage: nonce, number, nonce, epoch, says };
    let taken = |number, epoch| record(number, epoch, Says::TakenOver { owner: owner(1) });
    let entry =
        |number, epoch, seq| record(number, epoch, Says::Entry { seq, at: Timestamp::UNIX_EPOCH, body: Value::Null });
    let mut foreign = taken(1, 1);
    foreign.service = "api".parse().unwrap();
    let cases = [
        (vec![taken(1, 1), entry(2, 1, 1), taken(3, 2), entry(4, 2, 2)], ""),
        (vec![foreign], "it is of the journal of api"),
        (vec![taken(1, 0)], "the epoch does not rise, or is the last one"),
        (vec![taken(1, 2), taken(2, 2)], "the epoch does not rise, or is the last one"),
        (vec![taken(1, 1), taken(2, u64::MAX)], "the epoch does not rise, or is the last one"),
        (vec![taken(1, 1), entry(2, 2, 1)], "the entry is of another epoch"),
        (vec![taken(1, 1), entry(2, 1, 2)], "it is entry 2, and 1 was expected"),
    ];
    for (records, expected) in cases {
        let store = MemoryStore::new();
        for record in &records {
            store.create(&log_key(&web(), record.number).unwrap(), &seal(record)).await.unwrap();
        }
        let problem = on(&store).list(&web()).await.err().map(|error| error.to_string()).unwrap_or_default();
        assert!(problem.contains(expected) && problem.is_empty() == expected.is_empty(), "{problem}");
    }
}
