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
mod tests;
