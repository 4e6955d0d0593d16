//! Records as files in a directory.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use async_trait::async_trait;

use super::{RecordKey, RecordStore, StoreError, Stored, Version};
use crate::journal::Nonce;

/// Records as files in a directory of a local file system: one folder of files per journal, shared by any number of processes.
///
/// # Guarantees
/// A record appears by a hard link or a rename, as a whole, after its bytes are on the medium; both need no lock to be read.
/// Replacing takes a file lock for as long as the version is compared and the file renamed.
///
/// # Assumptions
/// The file system knows hard links and honours file locks and `fsync`; network file systems often do not. A process that is frozen while
/// it replaces a record holds the lock, and with it up everybody who wants to, until it goes on or is ended.
#[derive(Debug, Clone)]
pub struct DirectoryStore {
    directory: PathBuf,
}

/// The first line of a file is its version, drawn anew for every write; the body follows.
const VERSION_BYTES: usize = 17;

impl DirectoryStore {
    /// A store in a directory, which is made if it is absent. Blocks for a moment.
    ///
    /// # Errors
    /// [`StoreError::Failed`] when the directory cannot be made.
    pub fn open(directory: impl Into<PathBuf>) -> Result<Self, StoreError> {
        let directory = directory.into();
        if !directory.is_dir() {
            fs::create_dir_all(&directory).map_err(|error| failed("make", &directory, error))?;
            sync_directory(&directory)?;
        }
        Ok(Self { directory })
    }

    fn path(&self, key: &RecordKey) -> PathBuf {
        self.directory.join(key.folder()).join(key.name())
    }

    fn create_blocking(&self, key: &RecordKey, body: &[u8]) -> Result<Version, StoreError> {
        let path = self.path(key);
        let draft = Draft::write(&self.directory.join(key.folder()), body)?;
        match fs::hard_link(&draft.path, &path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(StoreError::Exists { key: key.clone() });
            }
            Err(error) => return Err(failed("create", &path, error)),
        }
        // The folder may be new as well.
        sync_directory(&path)?;
        sync_directory(&self.directory.join(key.folder()))?;
        Ok(draft.version.clone())
    }

    fn get_blocking(&self, key: &RecordKey) -> Result<Option<Stored>, StoreError> {
        let path = self.path(key);
        let mut bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed("read", &path, error)),
        };
        let version = bytes.get(..VERSION_BYTES - 1).and_then(|head| std::str::from_utf8(head).ok());
        let Some(version) = version.and_then(|text| text.parse::<Nonce>().ok()) else {
            let damage = io::Error::new(io::ErrorKind::InvalidData, "it does not begin with a version");
            return Err(failed("read", &path, damage));
        };
        Ok(Some(Stored { body: bytes.split_off(VERSION_BYTES.min(bytes.len())), version: version_of(version) }))
    }

    fn swap_blocking(&self, key: &RecordKey, body: &[u8], expected: &Version) -> Result<Version, StoreError> {
        let (path, folder) = (self.path(key), self.directory.join(key.folder()));
        let draft = Draft::write(&folder, body)?;
        let _lock = lock(&folder)?;
        if self.get_blocking(key)?.is_none_or(|stored| stored.version != *expected) {
            return Err(StoreError::Stale { key: key.clone() });
        }
        fs::rename(&draft.path, &path).map_err(|error| failed("replace", &path, error))?;
        sync_directory(&path)?;
        Ok(draft.version.clone())
    }

    fn list_blocking(&self, after: &RecordKey) -> Result<Vec<RecordKey>, StoreError> {
        let folder = self.directory.join(after.folder());
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed("list", &folder, error)),
        };
        let mut keys = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|error| failed("list", &folder, error))?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            // Drafts and the lock begin with a dot, which no key does.
            if name.as_str() > after.name()
                && let Ok(key) = RecordKey::new(after.folder(), name)
            {
                keys.push(key);
            }
        }
        keys.sort();
        Ok(keys)
    }

    fn delete_blocking(&self, key: &RecordKey) -> Result<(), StoreError> {
        let (path, folder) = (self.path(key), self.directory.join(key.folder()));
        if !path.exists() {
            return Ok(());
        }
        // Or it would come back with a replacement that has just found it.
        let _lock = lock(&folder)?;
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("delete", &path, error)),
            _ => sync_directory(&path),
        }
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let store = self.clone();
        match tokio::task::spawn_blocking(move || work(&store)).await {
            Ok(answer) => answer,
            Err(error) => Err(StoreError::failed("finish the file work", error)),
        }
    }
}

#[async_trait]
impl RecordStore for DirectoryStore {
    async fn create(&self, key: &RecordKey, body: &[u8]) -> Result<Version, StoreError> {
        let (key, body) = (key.clone(), body.to_vec());
        self.run(move |store| store.create_blocking(&key, &body)).await
    }

    async fn get(&self, key: &RecordKey) -> Result<Option<Stored>, StoreError> {
        let key = key.clone();
        self.run(move |store| store.get_blocking(&key)).await
    }

    async fn compare_and_swap(&self, key: &RecordKey, body: &[u8], expected: &Version) -> Result<Version, StoreError> {
        let (key, body, expected) = (key.clone(), body.to_vec(), expected.clone());
        self.run(move |store| store.swap_blocking(&key, &body, &expected)).await
    }

    async fn list_after(&self, after: &RecordKey) -> Result<Vec<RecordKey>, StoreError> {
        let after = after.clone();
        self.run(move |store| store.list_blocking(&after)).await
    }

    async fn delete(&self, key: &RecordKey) -> Result<(), StoreError> {
        let key = key.clone();
        self.run(move |store| store.delete_blocking(&key)).await
    }
}

/// A file that is whole and durable, and has no name that anybody reads yet. Its own name goes with it.
struct Draft {
    path: PathBuf,
    version: Version,
}

impl Draft {
    fn write(folder: &Path, body: &[u8]) -> Result<Self, StoreError> {
        fs::create_dir_all(folder).map_err(|error| failed("make", folder, error))?;
        let version = Nonce::random().map_err(|error| StoreError::failed("draw a version", error))?;
        let draft = Self { path: folder.join(format!(".draft-{version}")), version: version_of(version) };
        let write = || {
            let mut file = private().open(&draft.path)?;
            file.write_all(format!("{version}\n").as_bytes())?;
            file.write_all(body)?;
            file.sync_all()
        };
        write().map_err(|error| failed("write", &draft.path, error))?;
        Ok(draft)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // After a rename there is nothing left; what a crash leaves is a file that nobody reads.
        let _ = fs::remove_file(&self.path);
    }
}

/// For files that are nobody else's business: launch configuration is in them.
fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

fn version_of(nonce: Nonce) -> Version {
    Version::new(nonce.to_string())
}

/// Keeps others from replacing and deleting in a folder, until it is dropped.
fn lock(folder: &Path) -> Result<File, StoreError> {
    let fail = |error| failed("lock", folder, error);
    let lock = OpenOptions::new().create(true).truncate(false).write(true).open(folder.join(".lock")).map_err(fail)?;
    lock.lock().map_err(fail)?;
    Ok(lock)
}

/// Makes the name of a file durable.
fn sync_directory(path: &Path) -> Result<(), StoreError> {
    match path.parent() {
        Some(folder) if cfg!(unix) => {
            let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
            File::open(folder).and_then(|folder| folder.sync_all()).map_err(|error| failed("sync", folder, error))
        }
        _ => Ok(()),
    }
}

fn failed(verb: &str, path: &Path, error: io::Error) -> StoreError {
    StoreError::failed(format!("{verb} {} ({})", path.display(), error.kind()), error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> RecordKey {
        RecordKey::new("web", "r-1").unwrap()
    }

    #[tokio::test]
    async fn what_is_not_a_record_is_neither_listed_nor_read() {
        let directory = tempfile::tempdir().unwrap();
        let store = DirectoryStore::open(directory.path()).unwrap();
        store.create(&key(), b"one").await.unwrap();
        fs::write(directory.path().join("web/.draft-0000000000000000"), "half").unwrap();
        assert_eq!(store.list_after(&RecordKey::new("web", "-").unwrap()).await.unwrap(), [key()]);
        for bytes in ["", "0123", "000000000000000G\nbody"] {
            fs::write(directory.path().join("web/r-1"), bytes).unwrap();
            let error = store.get(&key()).await.unwrap_err();
            assert!(error.to_string().starts_with("cannot read "), "{error}");
        }
    }

    #[tokio::test]
    async fn a_folder_that_is_none_or_cannot_be_used_is_an_error_and_not_an_answer() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("new/store");
        let store = DirectoryStore::open(&path).unwrap();
        assert!(path.is_dir());
        let (other, after) = (RecordKey::new("api", "r-1").unwrap(), RecordKey::new("api", "-").unwrap());
        fs::write(path.join("api"), "a file where a folder should be").unwrap();
        let error = store.list_after(&after).await.unwrap_err();
        assert!(error.to_string().starts_with("cannot list "), "{error}");
        assert!(matches!(store.create(&other, b"one").await, Err(StoreError::Failed { .. })));
        DirectoryStore::open(path.join("api")).unwrap_err();
        // What is there and cannot be deleted was not deleted.
        fs::create_dir_all(path.join("web/r-1")).unwrap();
        let error = store.get(&key()).await.unwrap_err();
        assert!(error.to_string().starts_with("cannot read "), "{error}");
        let error = store.delete(&key()).await.unwrap_err();
        assert!(error.to_string().starts_with("cannot delete "), "{error}");
    }

    #[tokio::test]
    async fn a_file_begins_with_the_version_that_was_told() {
        let directory = tempfile::tempdir().unwrap();
        let store = DirectoryStore::open(directory.path()).unwrap();
        let version = store.create(&key(), b"one").await.unwrap();
        let file = fs::read_to_string(directory.path().join("web/r-1")).unwrap();
        assert_eq!(file, format!("{}\none", version.as_str()));
    }

    #[tokio::test]
    async fn nothing_is_left_of_a_refused_write() {
        let directory = tempfile::tempdir().unwrap();
        let store = DirectoryStore::open(directory.path()).unwrap();
        store.create(&key(), b"one").await.unwrap();
        store.create(&key(), b"two").await.unwrap_err();
        store.compare_and_swap(&key(), b"two", &Version::new("other")).await.unwrap_err();
        let mut names: Vec<_> =
            fs::read_dir(directory.path().join("web")).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, [".lock", "r-1"]);
    }
}
