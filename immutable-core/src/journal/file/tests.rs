//! What a journal in a file survives.

use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;

use super::super::contract;
use super::*;

contract::tests!(TempJournal::new(), contract::TakeOver::IsRefused);

/// A journal in a directory that goes with it.
#[derive(Debug)]
struct TempJournal {
    journal: FileJournal,
    directory: tempfile::TempDir,
}

impl TempJournal {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self { journal: FileJournal::open(directory.path().join("journal")).unwrap(), directory }
    }

    fn file(&self, extension: &str) -> PathBuf {
        self.directory.path().join("journal").join(format!("web.{extension}"))
    }

    fn other(&self) -> FileJournal {
        FileJournal::open(self.directory.path().join("journal")).unwrap()
    }
}

impl std::ops::Deref for TempJournal {
    type Target = FileJournal;
    fn deref(&self) -> &FileJournal {
        &self.journal
    }
}

/// A journal with entries 1 and 2, released.
async fn two_entries() -> TempJournal {
    let journal = TempJournal::new();
    let (lease, _) = contract::taken(&*journal).await;
    for seq in 1..=2 {
        contract::append(&*journal, &lease, seq).await.unwrap();
    }
    journal.release(lease).await.unwrap();
    journal
}

fn seqs(entries: &[Entry]) -> Vec<u64> {
    entries.iter().map(|entry| entry.seq).collect()
}

#[tokio::test]
async fn two_journals_over_one_directory_exclude_each_other_and_name_the_owner() {
    let journal = TempJournal::new();
    let (lease, _) = contract::taken(&*journal).await;
    match journal.other().take_over(lease.service(), &"other".parse().unwrap()).await {
        Err(JournalError::Held { owner, .. }) => assert_eq!(owner.as_ref(), Some(lease.owner())),
        other => panic!("{other:?}"),
    }
    journal.release(lease).await.unwrap();
    contract::taken(&journal.other()).await.0.epoch();
}

#[tokio::test]
async fn an_epoch_that_could_not_be_read_back_is_not_written() {
    let journal = two_entries().await;
    let path = journal.path(&contract::service(), "jsonl");
    let epoch = |epoch| {
        let (service, owner) = (contract::service(), "host-9".parse().unwrap());
        Record::Epoch { service: Cow::Owned(service), epoch, owner: Cow::Owned(owner) }.to_line()
    };
    let whole = fs::read_to_string(&path).unwrap() + &epoch(u64::MAX - 2);
    fs::write(&path, &whole).unwrap();
    let (lease, entries) = contract::taken(&*journal).await;
    assert_eq!((lease.epoch(), seqs(&entries)), (u64::MAX - 1, vec![1, 2]));
    journal.release(lease).await.unwrap();
    for _ in 0..2 {
        let written = fs::read(&path).unwrap();
        let error = journal.take_over(&contract::service(), &"other".parse().unwrap()).await.unwrap_err();
        assert!(error.to_string().contains("there is no epoch left"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), written);
        assert_eq!(seqs(&journal.list(&contract::service()).await.unwrap()), [1, 2]);
    }
}

#[tokio::test]
async fn services_do_not_exclude_each_other() {
    let journal = TempJournal::new();
    let (_web, _) = contract::taken(&*journal).await;
    let shop = journal.take_over(&"shop".parse().unwrap(), &"other".parse().unwrap()).await;
    assert!(shop.is_ok(), "{shop:?}");
}

#[tokio::test]
async fn dropping_a_lease_frees_the_lock() {
    let journal = TempJournal::new();
    let (lease, _) = contract::taken(&*journal).await;
    drop(lease);
    let (lease, _) = contract::taken(&journal.other()).await;
    assert_eq!(lease.epoch(), 2);
}

#[tokio::test]
async fn the_epoch_and_the_entries_survive_the_process() {
    let journal = two_entries().await;
    let (lease, entries) = contract::taken(&journal.other()).await;
    assert_eq!((lease.epoch(), seqs(&entries)), (2, vec![1, 2]));
}

#[tokio::test]
async fn a_torn_tail_is_passed_over_by_a_list_and_cut_off_by_a_take_over() {
    let journal = two_entries().await;
    let whole = fs::read(journal.file("jsonl")).unwrap();
    let torn = b"{\"v\":1,\"sum\":\"0123";
    fs::write(journal.file("jsonl"), [&whole[..], torn].concat()).unwrap();

    let listed = journal.list(&contract::service()).await.unwrap();
    assert_eq!(seqs(&listed), [1, 2]);
    assert_eq!(fs::read(journal.file("jsonl")).unwrap().len(), whole.len() + torn.len(), "a list repairs nothing");

    let (lease, entries) = contract::taken(&*journal).await;
    assert_eq!(entries, listed);
    contract::append(&*journal, &lease, 3).await.unwrap();
    assert_eq!(seqs(&journal.list(lease.service()).await.unwrap()), [1, 2, 3]);
    assert_eq!(fs::read(journal.file("torn")).unwrap(), [torn, &b"\n"[..]].concat());
}

#[tokio::test]
async fn a_journal_cut_at_any_length_goes_on_from_its_whole_entries() {
    let source = two_entries().await;
    let bytes = fs::read(source.file("jsonl")).unwrap();
    let journal = TempJournal::new();
    for length in (0..bytes.len()).step_by(7) {
        fs::write(journal.file("jsonl"), &bytes[..length]).unwrap();
        let (lease, before) = contract::taken(&*journal).await;
        let next = before.len() as u64 + 1;
        contract::append(&*journal, &lease, next).await.unwrap();
        let after = journal.list(lease.service()).await.unwrap();
        assert_eq!(seqs(&after), (1..=next).collect::<Vec<_>>(), "cut at {length}");
        journal.release(lease).await.unwrap();
    }
}

#[tokio::test]
async fn damage_is_told_with_its_place_and_changes_nothing() {
    let journal = two_entries().await;
    let mut bytes = fs::read(journal.file("jsonl")).unwrap();
    let last = bytes.len() - 2;
    bytes[last] ^= 1;
    fs::write(journal.file("jsonl"), &bytes).unwrap();
    let start = bytes[..last].iter().rposition(|byte| *byte == b'\n').unwrap() as u64 + 1;

    let taken = journal.take_over(&contract::service(), &"o".parse().unwrap()).await.map(|_| ());
    for answer in [taken, journal.list(&contract::service()).await.map(|_| ())] {
        match answer {
            Err(JournalError::Corrupt { offset, location, .. }) => {
                assert_eq!((offset, Path::new(&location)), (start, &*journal.file("jsonl")));
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(fs::read(journal.file("jsonl")).unwrap(), bytes);
}

#[tokio::test]
async fn a_newer_version_is_refused() {
    let journal = TempJournal::new();
    fs::write(journal.file("jsonl"), "{\"v\":7,\"new\":true}\n").unwrap();
    let error = journal.take_over(&contract::service(), &"o".parse().unwrap()).await.unwrap_err();
    assert!(matches!(error, JournalError::UnknownVersion { found: 7, newest: 1, .. }), "{error}");
}

/// Writes half the line and fails, as a full disk does.
fn half_a_line(file: &mut File, line: &[u8]) -> io::Result<()> {
    file.write_all(&line[..line.len() / 2])?;
    Err(io::ErrorKind::StorageFull.into())
}

#[tokio::test]
async fn a_failed_write_leaves_no_half_line_and_an_unusable_lease() {
    static FULL: AtomicBool = AtomicBool::new(false);
    let mut journal = TempJournal::new();
    journal.journal.write = |file, line| {
        if FULL.load(Ordering::SeqCst) { half_a_line(file, line) } else { write_line(file, line) }
    };
    let (lease, _) = contract::taken(&*journal).await;
    contract::append(&*journal, &lease, 1).await.unwrap();
    let before = fs::read(journal.file("jsonl")).unwrap();

    FULL.store(true, Ordering::SeqCst);
    let error = contract::append(&*journal, &lease, 2).await.unwrap_err();
    assert!(matches!(error, JournalError::Storage { .. }), "{error}");
    assert_eq!(fs::read(journal.file("jsonl")).unwrap(), before);

    FULL.store(false, Ordering::SeqCst);
    for answer in [contract::append(&*journal, &lease, 2).await.map(|_| ()), journal.check(&lease).await] {
        assert!(matches!(answer, Err(JournalError::LeaseUnusable { .. })), "{answer:?}");
    }
    drop(lease);
    let (lease, entries) = contract::taken(&*journal).await;
    assert_eq!(seqs(&entries), [1]);
    contract::append(&*journal, &lease, 2).await.unwrap();
}

#[tokio::test]
async fn whoever_gets_around_the_lock_fences_the_former_owner() {
    let journal = TempJournal::new();
    let (lease, _) = contract::taken(&*journal).await;
    fs::remove_file(journal.file("lock")).unwrap();
    let (newer, _) = contract::taken(&journal.other()).await;

    let error = journal.check(&lease).await.unwrap_err();
    assert!(matches!(error, JournalError::Fenced { epoch: 2, .. }), "{error}");
    assert!(contract::append(&*journal, &lease, 1).await.is_err());
    contract::append(&*journal, &newer, 1).await.unwrap();
}

#[tokio::test]
async fn a_journal_that_vanishes_or_changes_under_its_lease_is_not_written() {
    for change in [|path: &Path| fs::remove_file(path).unwrap(), |path: &Path| fs::write(path, "").unwrap()] {
        let journal = TempJournal::new();
        let (lease, _) = contract::taken(&*journal).await;
        contract::append(&*journal, &lease, 1).await.unwrap();
        change(&journal.file("jsonl"));
        assert!(contract::append(&*journal, &lease, 2).await.is_err());
        let error = journal.check(&lease).await.unwrap_err();
        assert!(matches!(error, JournalError::LeaseUnusable { .. }), "{error}");
    }
}

#[tokio::test]
async fn a_lease_of_another_kind_of_journal_is_unusable() {
    let (lease, _) = contract::taken(&super::super::MemoryJournal::new()).await;
    let error = TempJournal::new().append(&lease, 1, Timestamp::UNIX_EPOCH, &json!(1)).await.unwrap_err();
    assert!(matches!(error, JournalError::LeaseUnusable { .. }), "{error}");
}

#[tokio::test]
async fn a_journal_that_cannot_be_read_is_not_an_empty_one() {
    let directory = tempfile::tempdir().unwrap();
    let journal = FileJournal::open(directory.path()).unwrap();
    assert_eq!(journal.list(&contract::service()).await.unwrap(), []);
    fs::create_dir(directory.path().join("web.jsonl")).unwrap();
    let error = journal.list(&contract::service()).await.unwrap_err();
    assert!(error.to_string().contains("read "), "{error}");
}

#[tokio::test]
async fn a_journal_that_lost_an_entry_is_damaged_and_nobody_is_said_to_have_taken_it_over() {
    let directory = tempfile::tempdir().unwrap();
    let journal = FileJournal::open(directory.path()).unwrap();
    let (lease, _) = contract::taken(&journal).await;
    contract::append(&journal, &lease, 1).await.unwrap();
    let path = directory.path().join("web.jsonl");
    let whole = fs::read_to_string(&path).unwrap();
    let (before, _) = whole.trim_end().rsplit_once('\n').unwrap();
    fs::write(&path, format!("{before}\n")).unwrap();
    let error = journal.check(&lease).await.unwrap_err();
    assert!(matches!(error, JournalError::Corrupt { .. }), "{error}");
}
