//! Telling that a file is as it was when it was last read, without reading it again.
//!
//! A file is as it was while its [`Stamp`] is: device, inode, size, and the times of its last change. The time of the last change
//! of an inode (`ctime`) is set by the kernel at every write, rename, link and change of mode, and no call sets it to another value.
//!
//! File systems count time in steps of their own, so a change right after a look can have the time of the look. Therefore a
//! value is kept only when the file's last change is *earlier* than the [`Moment`] before it was read, by the same file
//! system's clock: whatever is changed from then on has another stamp.
//!
//! What this does not see: a write to the disk below the file system, a machine's clock that is set back to the same nanosecond, and
//! a change through a writable memory mapping that was made before. None of them is an accident.

use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::hash::Hash;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::time::SystemTime;

/// A time of a file system, in seconds and nanoseconds.
type Time = (i64, i64);

/// What changes whenever a file is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: Time,
    changed: Time,
}

impl Stamp {
    pub(crate) fn of(file: &Metadata) -> Self {
        Self {
            device: file.dev(),
            inode: file.ino(),
            size: file.size(),
            modified: (file.mtime(), file.mtime_nsec()),
            changed: (file.ctime(), file.ctime_nsec()),
        }
    }
}

/// What time it was by the clock of a file system.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    device: u64,
    time: Time,
}

impl Moment {
    /// The time now, by the clock of the file system that a file is on. The file must be open for writing, and its time of
    /// modification must not mean anything to anybody.
    pub(crate) fn now(marker: &File) -> io::Result<Self> {
        // Any change of an inode sets the time of its last change.
        marker.set_modified(SystemTime::UNIX_EPOCH)?;
        let marker = marker.metadata()?;
        Ok(Self { device: marker.dev(), time: (marker.ctime(), marker.ctime_nsec()) })
    }

    /// Whether what has this stamp was changed before, so that any change from now on gives it another one.
    pub(crate) fn is_after(&self, stamp: &Stamp) -> bool {
        self.device == stamp.device && stamp.changed < self.time
    }
}

/// What was read from files, as long as they are what they were.
#[derive(Debug, Clone)]
pub(crate) struct Memo<K, V> {
    known: HashMap<K, (Stamp, V)>,
}

impl<K, V> Default for Memo<K, V> {
    fn default() -> Self {
        Self { known: HashMap::new() }
    }
}

impl<K: Eq + Hash, V: Clone> Memo<K, V> {
    /// What was read from a file that has the same stamp now.
    pub(crate) fn recall(&self, key: &K, now: &Stamp) -> Option<V> {
        self.known.get(key).filter(|(then, _)| then == now).map(|(_, value)| value.clone())
    }

    /// Keeps what was read from a file. The moment was before the stamp was taken, and the stamp before the file was read.
    pub(crate) fn keep(&mut self, key: K, stamp: Stamp, moment: Moment, value: &V) {
        if moment.is_after(&stamp) {
            self.known.insert(key, (stamp, value.clone()));
        } else {
            self.known.remove(&key);
        }
    }

    /// Forgets all but these.
    pub(crate) fn retain(&mut self, mut wanted: impl FnMut(&K) -> bool) {
        self.known.retain(|key, _| wanted(key));
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn at(changed: Time) -> Stamp {
        Stamp { device: 1, inode: 2, size: 3, modified: (4, 5), changed }
    }

    #[test]
    fn only_what_was_changed_before_the_moment_is_kept() {
        let moment = Moment { device: 1, time: (10, 500) };
        let check = |stamp: Stamp, expected: Option<&str>| {
            let mut memo = Memo::default();
            memo.keep("file", stamp, moment, &"content");
            assert_eq!(memo.recall(&"file", &stamp), expected, "{stamp:?}");
        };
        check(at((10, 499)), Some("content"));
        check(at((9, 999)), Some("content"));
        check(at((10, 500)), None);
        check(at((11, 0)), None);
        check(Stamp { device: 7, ..at((9, 0)) }, None);
    }

    #[test]
    fn every_part_of_a_stamp_matters() {
        let mut memo = Memo::default();
        let kept = at((1, 1));
        memo.keep("file", kept, Moment { device: 1, time: (2, 0) }, &());
        assert!(memo.recall(&"file", &kept).is_some());
        for other in [
            Stamp { device: 9, ..kept },
            Stamp { inode: 9, ..kept },
            Stamp { size: 9, ..kept },
            Stamp { modified: (4, 9), ..kept },
            Stamp { changed: (1, 9), ..kept },
        ] {
            assert!(memo.recall(&"file", &other).is_none(), "{other:?}");
        }
    }

    #[test]
    fn a_write_of_the_same_size_that_puts_the_old_time_back_is_seen() {
        let directory = tempfile::tempdir().unwrap();
        let (path, marker) = (directory.path().join("file"), File::create(directory.path().join("marker")).unwrap());
        fs::write(&path, "old").unwrap();
        let look = || Stamp::of(&fs::metadata(&path).unwrap());
        let mut memo = Memo::default();
        // A file system with coarse times needs a while until the file is older than now.
        while memo.recall(&"file", &look()).is_none() {
            memo.keep("file", look(), Moment::now(&marker).unwrap(), &());
        }
        let before = fs::metadata(&path).unwrap().modified().unwrap();
        fs::write(&path, "new").unwrap();
        File::options().write(true).open(&path).unwrap().set_modified(before).unwrap();
        assert!(memo.recall(&"file", &look()).is_none());
    }
}
