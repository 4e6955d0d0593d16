//! What a journal in a directory says of a medium that it cannot read, or that somebody else has changed.

use std::fs;

use super::{FileJournal, Journal, JournalError, contract};

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
