//! Small things on disk: writes that are whole or not at all, a lock between processes, safe file names.

use std::fs::{self, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use immutable_core::model::Fingerprint;
use walkdir::WalkDir;

use crate::error::AtPath;
use crate::stamp::{Moment, Stamp};

/// Replaces a file: readers see the old content or the new, never a part. Survives a crash of this process, not of the machine.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write_beside(path, bytes)?;
    fs::rename(path.with_extension("tmp"), path).at(path)
}

/// Makes a file that is not there yet. A reader without the lock that guards it may see it empty.
pub(crate) fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).at(path)?;
    // In one piece: what is killed meanwhile leaves all of it behind, or nothing.
    file.write_all(bytes).at(path)
}

/// Like [`write_whole`], and survives a crash of the machine.
pub(crate) fn write_durable(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write_beside(path, bytes)?.sync_all().at(path)?;
    fs::rename(path.with_extension("tmp"), path).at(path)?;
    path.parent().map_or(Ok(()), sync_directory)
}

fn write_beside(path: &Path, bytes: &[u8]) -> io::Result<File> {
    let beside = path.with_extension("tmp");
    // Configuration values are nobody else's business.
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside).at(&beside)?;
    file.write_all(bytes).at(&beside)?;
    Ok(file)
}

/// Makes the names in a directory survive a crash of the machine.
pub(crate) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path).and_then(|directory| directory.sync_all()).at(path)
}

/// Removes a directory and all in it, read-only directories too. What is not there is removed.
pub(crate) fn remove_tree(path: &Path) -> io::Result<()> {
    let directories = WalkDir::new(path).into_iter().filter_map(Result::ok).filter(|entry| entry.file_type().is_dir());
    for directory in directories {
        // Nothing can be removed from a read-only directory.
        let _ = fs::set_permissions(directory.path(), Permissions::from_mode(0o755));
    }
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).at(path),
        _ => Ok(()),
    }
}

/// The names in a directory; none where there is no directory.
pub(crate) fn names(path: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.at(path)?,
    };
    let mut names = entries
        .map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()))
        .collect::<io::Result<Vec<_>>>()
        .at(path)?;
    names.sort_unstable();
    Ok(names)
}

/// The content of a file, or nothing where there is none.
pub(crate) fn read_if_there(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        content => content.at(path).map(Some),
    }
}

/// The stamp of a file, or nothing where there is none.
pub(crate) fn stamp_if_there(path: &Path) -> io::Result<Option<Stamp>> {
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        metadata => metadata.at(path).map(|metadata| Some(Stamp::of(&metadata))),
    }
}

/// A safe file name for any name: no separator, no leading dot, at most 200 bytes, distinct on file systems that ignore case.
pub(crate) fn file_name(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte);
    let mut encoded = String::new();
    for (index, byte) in name.bytes().enumerate() {
        if plain(byte) || (byte == b'.' && index > 0) {
            encoded.push(char::from(byte));
        } else {
            use std::fmt::Write as _;
            let _ = write!(encoded, "%{byte:02x}");
        }
    }
    if encoded.len() > 200 { format!("%{}", Fingerprint::of(name)) } else { encoded }
}

/// The right to change a directory, held by one process at a time. It ends with the process, however that ends.
#[derive(Debug)]
pub(crate) struct Lock(File);

impl Lock {
    /// Takes the lock, or answers with nothing while somebody else has it.
    pub(crate) fn try_take(path: &Path) -> io::Result<Option<Self>> {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).at(parent)?;
        }
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(path).at(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error).at(path),
        }
    }

    /// What time it is by the clock of the file system that the lock is on.
    pub(crate) fn moment(&self) -> io::Result<Moment> {
        Moment::now(&self.0)
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing is not enough: a child that was forked just now has the same open file until it runs its program.
        let _ = self.0.unlock();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_has_a_safe_file_name() {
        let check = |name: &str, expected: &str| assert_eq!(file_name(name), expected, "{name}");
        check("web-0123.json", "web-0123.json");
        check("../../etc", "%2e.%2f..%2fetc");
        check("..", "%2e.");
        check("Web", "%57eb");
        check("a%2f", "a%252f");
        assert_eq!(file_name(&"x".repeat(512)).len(), 65);
    }

    #[test]
    fn a_lock_is_held_by_one() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("deep/lock");
        let held = Lock::try_take(&path).unwrap();
        assert!(held.is_some());
        assert!(Lock::try_take(&path).unwrap().is_none());
        drop(held);
        assert!(Lock::try_take(&path).unwrap().is_some());
    }

    #[test]
    fn a_read_only_tree_is_removed() {
        let root = tempfile::tempdir().unwrap();
        let tree = root.path().join("tree");
        fs::create_dir_all(tree.join("a/b")).unwrap();
        fs::write(tree.join("a/b/file"), "x").unwrap();
        for directory in ["a/b", "a", ""] {
            fs::set_permissions(tree.join(directory), Permissions::from_mode(0o555)).unwrap();
        }
        remove_tree(&tree).unwrap();
        assert!(!tree.exists());
        remove_tree(&tree).unwrap();
    }
}
