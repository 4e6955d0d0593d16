//! A journal in files: one file of lines per service.

use std::borrow::Cow;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use jiff::Timestamp;
use serde_json::Value;

use super::record::{self, Record, check_next};
use super::{Entry, Journal, JournalError, Lease, MAX_BODY_BYTES, Nonce};
use crate::model::{OwnerId, ServiceName};

/// A journal in a directory of a local file system.
///
/// | file | what it is |
/// |---|---|
/// | `<service>.jsonl` | the journal: one JSON line per entry and per take-over, each with a version and a checksum |
/// | `<service>.lock` | locked by the owner as long as its lease lives; names the owner, for people |
/// | `<service>.torn` | what a write that was never answered left behind; for people, never read |
///
/// # Guarantees
/// Two owners exclude each other, in one process or in several, on one machine. `append` answers after the line is on the medium (`fdatasync`).
/// A last line without its newline is a write that was never answered: `take_over` cuts it off and keeps it in `<service>.torn`, and
/// `list` passes over it. Every other damage is [`Corrupt`](JournalError::Corrupt). After a failed write the lease is
/// [`unusable`](JournalError::LeaseUnusable), so that no whole line ever follows half a one.
///
/// # Assumptions
/// The file system honours file locks and `fsync`; network file systems often do not. Only this type writes the files: a change by
/// somebody else is noticed by its length, at the latest by the next `append` or `check`. A `list` in the moment of a repair may answer
/// [`Corrupt`](JournalError::Corrupt); listing again tells.
///
/// # Examples
/// ```
/// use immutable_core::journal::{FileJournal, Journal, JournalError};
/// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
/// # let directory = tempfile::tempdir()?;
/// let journal = FileJournal::open(directory.path())?;
/// let (lease, _) = journal.take_over(&"web".parse()?, &"deployer-1".parse()?).await?;
///
/// let other = FileJournal::open(directory.path())?;
/// let error = other.take_over(&"web".parse()?, &"deployer-2".parse()?).await.unwrap_err();
/// assert_eq!(error.to_string(), "journal of web is held by deployer-1: wait until it ends, or end it");
/// # journal.release(lease).await?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct FileJournal {
    directory: PathBuf,
    write: WriteLine,
}

/// Writes a line and makes it durable. A value, so that a test can put a failing medium in its place.
type WriteLine = fn(&mut File, &[u8]) -> io::Result<()>;

fn write_line(file: &mut File, line: &[u8]) -> io::Result<()> {
    file.write_all(line)?;
    file.sync_data()
}

impl FileJournal {
    /// A journal in a directory, which is made if it is absent. Blocks for a moment.
    ///
    /// # Errors
    /// [`Storage`](JournalError::Storage) when the directory cannot be made.
    pub fn open(directory: impl Into<PathBuf>) -> Result<Self, JournalError> {
        let directory = directory.into();
        if !directory.is_dir() {
            fs::create_dir_all(&directory).map_err(|error| failed("make", &directory, error))?;
            if let Some(parent) = directory.parent().filter(|parent| !parent.as_os_str().is_empty()) {
                sync_directory(parent)?;
            }
        }
        Ok(Self { directory, write: write_line })
    }

    fn path(&self, service: &ServiceName, extension: &str) -> PathBuf {
        self.directory.join(format!("{service}.{extension}"))
    }

    fn take_over_blocking(
        &self,
        service: &ServiceName,
        owner: &OwnerId,
    ) -> Result<(Held, u64, Vec<Entry>), JournalError> {
        let lock = self.lock(service, owner)?;
        let path = self.path(service, "jsonl");
        let mut file =
            private().read(true).append(true).create(true).open(&path).map_err(|error| failed("open", &path, error))?;
        sync_directory(&self.directory)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(|error| failed("read", &path, error))?;
        let scan = record::scan(&bytes, service).map_err(|damage| damage.into_error(service, location(&path)))?;
        let epoch = record::next_epoch(service, &location(&path), scan.epoch)?;
        let mut length = bytes.len() as u64;
        if let Some(torn) = scan.torn {
            length = torn.start as u64;
            self.set_aside(service, &bytes[torn])?;
            truncate(&path, length).map_err(|error| failed("repair", &path, error))?;
        }

        let begun = Record::Epoch { service: Cow::Borrowed(service), epoch, owner: Cow::Borrowed(owner) };
        let seq = scan.entries.len() as u64;
        let mut tail = Tail { file, path, length, seq, write: self.write };
        tail.write(begun.to_line().as_bytes())?;
        Ok((Held { service: service.clone(), epoch, lock, tail: Mutex::new(Some(tail)) }, epoch, scan.entries))
    }

    /// Locks the service until the file is closed, and writes there who did.
    fn lock(&self, service: &ServiceName, owner: &OwnerId) -> Result<File, JournalError> {
        let path = self.path(service, "lock");
        let fail = |error| failed("lock", &path, error);
        let mut lock =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(fail)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let owner = fs::read_to_string(&path).ok().and_then(|text| text.parse().ok());
                return Err(JournalError::Held { service: service.clone(), owner });
            }
            Err(TryLockError::Error(error)) => return Err(fail(error)),
        }
        lock.set_len(0).and_then(|()| lock.write_all(owner.as_str().as_bytes())).map_err(fail)?;
        Ok(lock)
    }

    fn set_aside(&self, service: &ServiceName, torn: &[u8]) -> Result<(), JournalError> {
        let path = self.path(service, "torn");
        let write = || {
            let mut file = private().append(true).create(true).open(&path)?;
            file.write_all(torn)?;
            write_line(&mut file, b"\n")
        };
        write().map_err(|error| failed("write", &path, error))
    }

    fn list_blocking(&self, service: &ServiceName) -> Result<Vec<Entry>, JournalError> {
        let path = self.path(service, "jsonl");
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed("read", &path, error)),
        };
        let scan = record::scan(&bytes, service).map_err(|damage| damage.into_error(service, location(&path)))?;
        Ok(scan.entries)
    }
}

#[async_trait]
impl Journal for FileJournal {
    async fn take_over(&self, service: &ServiceName, owner: &OwnerId) -> Result<(Lease, Vec<Entry>), JournalError> {
        let (journal, name, by) = (self.clone(), service.clone(), owner.clone());
        let (held, epoch, entries) = blocking(move || journal.take_over_blocking(&name, &by)).await?;
        Ok((Lease::new(service.clone(), owner.clone(), epoch).with_guard(Arc::new(held)), entries))
    }

    async fn append(&self, lease: &Lease, seq: u64, at: Timestamp, body: &Value) -> Result<Entry, JournalError> {
        let bytes = body.to_string().len();
        if bytes > MAX_BODY_BYTES {
            let (service, limit) = (lease.service().clone(), MAX_BODY_BYTES);
            return Err(JournalError::TooLarge { service, bytes, limit });
        }
        let nonce = Nonce::random().map_err(|error| JournalError::storage("draw a nonce", error))?;
        let epoch = lease.epoch();
        let line = Record::Entry { seq, epoch, nonce, at, body: Cow::Borrowed(body) }.to_line();
        let held = held(lease)?;
        blocking(move || held.append(seq, line.as_bytes())).await?;
        Ok(Entry { seq, epoch, nonce, at, body: body.clone() })
    }

    async fn check(&self, lease: &Lease) -> Result<(), JournalError> {
        let held = held(lease)?;
        blocking(move || held.check()).await
    }

    async fn list(&self, service: &ServiceName) -> Result<Vec<Entry>, JournalError> {
        let (journal, service) = (self.clone(), service.clone());
        blocking(move || journal.list_blocking(&service)).await
    }

    async fn release(&self, lease: Lease) -> Result<(), JournalError> {
        let held = held(&lease)?;
        blocking(move || held.release()).await
    }
}

/// What lives as long as a lease.
#[derive(Debug)]
struct Held {
    service: ServiceName,
    epoch: u64,
    lock: File,
    /// `None` once the lease cannot be used any more: after a release, a failed write or a change by somebody else.
    tail: Mutex<Option<Tail>>,
}

/// The end of the file, remembered so that an append need not read it.
#[derive(Debug)]
struct Tail {
    file: File,
    path: PathBuf,
    length: u64,
    seq: u64,
    write: WriteLine,
}

impl Held {
    fn append(&self, seq: u64, line: &[u8]) -> Result<(), JournalError> {
        let mut slot = self.tail();
        let tail = slot.as_ref().ok_or_else(|| self.unusable())?;
        check_next(&self.service, tail.seq, seq)?;
        // Taken out for as long as the file may be half-written: an error, or a panic, leaves the lease unusable.
        let mut tail = slot.take().ok_or_else(|| self.unusable())?;
        self.expect_unchanged(&tail)?;
        tail.write(line)?;
        tail.seq = seq;
        *slot = Some(tail);
        Ok(())
    }

    fn check(&self) -> Result<(), JournalError> {
        let mut slot = self.tail();
        let unchanged = self.expect_unchanged(slot.as_ref().ok_or_else(|| self.unusable())?);
        if unchanged.is_err() {
            *slot = None;
        }
        unchanged
    }

    /// Unlocks even while a dropped append still holds a reference to the lease's files.
    fn release(&self) -> Result<(), JournalError> {
        *self.tail() = None;
        self.lock
            .unlock()
            .map_err(|error| JournalError::storage(format!("unlock the journal of {}", self.service), error))
    }

    fn tail(&self) -> MutexGuard<'_, Option<Tail>> {
        self.tail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unusable(&self) -> JournalError {
        JournalError::LeaseUnusable { service: self.service.clone() }
    }

    /// Notices whoever writes without the lock, or beside a lock file that was deleted.
    fn expect_unchanged(&self, tail: &Tail) -> Result<(), JournalError> {
        let found = fs::metadata(&tail.path).map_err(|error| failed("look at", &tail.path, error))?.len();
        if found == tail.length {
            return Ok(());
        }
        let bytes = fs::read(&tail.path).map_err(|error| failed("read", &tail.path, error))?;
        match record::scan(&bytes, &self.service) {
            Ok(scan) if scan.epoch > self.epoch => {
                Err(JournalError::Fenced { service: self.service.clone(), epoch: scan.epoch })
            }
            Ok(_) => Err(JournalError::Corrupt {
                service: self.service.clone(),
                location: location(&tail.path),
                offset: tail.length.min(found),
                problem: "it was changed by somebody without the lease".into(),
            }),
            Err(damage) => Err(damage.into_error(&self.service, location(&tail.path))),
        }
    }
}

impl Tail {
    fn write(&mut self, line: &[u8]) -> Result<(), JournalError> {
        if let Err(error) = (self.write)(&mut self.file, line) {
            // After a failed sync the system may count the pages as clean though they never reached the medium, and a later reader would
            // trust them. Cutting them off forgets them; if that fails as well, the next take-over reads what is there.
            let _ = truncate(&self.path, self.length);
            return Err(failed("write", &self.path, error));
        }
        self.length += line.len() as u64;
        Ok(())
    }
}

fn held(lease: &Lease) -> Result<Arc<Held>, JournalError> {
    lease.guard().ok_or_else(|| JournalError::LeaseUnusable { service: lease.service().clone() })
}

fn location(path: &Path) -> String {
    path.display().to_string()
}

fn failed(verb: &str, path: &Path, error: io::Error) -> JournalError {
    JournalError::storage(format!("{verb} {} ({})", path.display(), error.kind()), error)
}

/// Cuts a file off. Through a handle of its own, because a handle that appends may not do so on every system.
fn truncate(path: &Path, length: u64) -> io::Result<()> {
    let file = OpenOptions::new().write(true).open(path)?;
    file.set_len(length)?;
    file.sync_all()
}

/// For files that are nobody else's business: launch configuration is in them.
fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// Makes a new name in a directory durable.
fn sync_directory(directory: &Path) -> Result<(), JournalError> {
    if cfg!(unix) {
        File::open(directory)
            .and_then(|directory| directory.sync_all())
            .map_err(|error| failed("sync", directory, error))?;
    }
    Ok(())
}

/// Runs file work on a thread that may block: a sync can take as long as the disk likes, and must not hold up the runtime's other tasks.
/// The work goes on when the caller is dropped, which is what keeps a line whole.
async fn blocking<T, W>(work: W) -> Result<T, JournalError>
where
    T: Send + 'static,
    W: FnOnce() -> Result<T, JournalError> + Send + 'static,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(answer) => answer,
        Err(error) => Err(JournalError::storage("finish the file work", error)),
    }
}

#[cfg(test)]
mod tests {
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
}
