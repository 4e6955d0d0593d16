//! Trees of files: hashing, copying, linking, and comparing what is on disk with what was built.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, FileType, Metadata, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use immutable_core::model::Fingerprint;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use walkdir::WalkDir;

use crate::error::{AtPath, Drift};
use crate::files::sync_directory;
use crate::stamp::{Memo, Moment, Stamp};

/// One file of a tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FileEntry {
    /// Whether it can be run.
    pub(crate) executable: bool,
    /// The SHA-256 of its content.
    pub(crate) sha256: Fingerprint,
}

/// The files of a tree by their paths: relative, with forward slashes.
pub(crate) type Files = BTreeMap<String, FileEntry>;

/// The fingerprint of a layer: paths, modes and contents, in the order of the paths.
pub(crate) fn layer_fingerprint(files: &Files) -> io::Result<Fingerprint> {
    Ok(Fingerprint::of(serde_json::to_vec(files)?))
}

/// The fingerprint of an image: all that [`layer_fingerprint`] covers, and the command.
pub(crate) fn image_fingerprint(files: &Files, command: &[String]) -> io::Result<Fingerprint> {
    // JSON keeps the parts apart, so that no two different images are the same bytes.
    Ok(Fingerprint::of(serde_json::to_vec(&(files, command))?))
}

/// The SHA-256 of a file's content.
pub(crate) fn hash_file(path: &Path) -> io::Result<Fingerprint> {
    pump(&mut File::open(path)?, &mut io::sink())
}

/// Copies a file, hashing what is really written, and makes the copy read-only and durable.
pub(crate) fn copy_hashed(source: &Path, target: &Path, executable: bool) -> io::Result<FileEntry> {
    make_parent(target)?;
    let mode = if executable { 0o555 } else { 0o444 };
    let mut from = File::open(source).at(source)?;
    let mut to = OpenOptions::new().write(true).create_new(true).mode(mode).open(target).at(target)?;
    let sha256 = pump(&mut from, &mut to).at(target)?;
    // Not left to the umask: the executable bit is part of the fingerprint.
    to.set_permissions(Permissions::from_mode(mode)).at(target)?;
    to.sync_all().at(target)?;
    Ok(FileEntry { executable, sha256 })
}

/// Puts a read-only file of a store into a tree without copying it, or copies it where it cannot be linked.
pub(crate) fn link(source: &Path, target: &Path, entry: &FileEntry) -> io::Result<()> {
    make_parent(target)?;
    if fs::hard_link(source, target).is_ok() {
        return Ok(());
    }
    let copied = copy_hashed(source, target, entry.executable)?;
    if copied == *entry { Ok(()) } else { Err(changed_meanwhile(source)) }
}

/// Makes the directories of a finished tree read-only and durable.
pub(crate) fn seal(tree: &Path) -> io::Result<()> {
    for entry in WalkDir::new(tree).contents_first(true) {
        let entry = entry?;
        if entry.file_type().is_dir() {
            sync_directory(entry.path())?;
            fs::set_permissions(entry.path(), Permissions::from_mode(0o555)).at(entry.path())?;
        }
    }
    Ok(())
}

/// A difference between a tree on disk and its list of files, or why there could be no comparison.
#[derive(Debug)]
pub(crate) enum Mismatch {
    Drift(String, Drift),
    Unreadable(String, io::Error),
}

/// The contents of files that were read before, by their paths in the tree.
pub(crate) type Hashes = Memo<String, Fingerprint>;

/// Compares a tree on disk with its list of files, content for content; the first difference in the order of paths is told.
pub(crate) fn check(tree: &Path, files: &Files) -> Result<(), Mismatch> {
    check_with(tree, files, |_, path, _| hash_file(path))
}

/// Like [`check`], without reading those files again that are as they were when they were read for `hashes`.
pub(crate) fn check_again(tree: &Path, files: &Files, hashes: &mut Hashes, moment: Moment) -> Result<(), Mismatch> {
    check_with(tree, files, |name, path, metadata| hash_again(name, path, metadata, hashes, moment))
}

/// What is known of a tree from earlier looks.
#[derive(Debug, Default)]
pub(crate) struct Known {
    pub(crate) hashes: Hashes,
    /// The fingerprint of all of it, and every file and directory as it was then.
    whole: Option<(Fingerprint, Vec<(PathBuf, Stamp)>)>,
}

impl Known {
    /// The fingerprint of the whole tree, when nothing in it was changed since it was taken.
    pub(crate) fn recall(&self) -> Option<Fingerprint> {
        let (fingerprint, stamps) = self.whole.as_ref()?;
        let is_same =
            |(path, then): &(PathBuf, Stamp)| fs::symlink_metadata(path).is_ok_and(|now| Stamp::of(&now) == *then);
        stamps.iter().all(is_same).then_some(*fingerprint)
    }

    /// Reads what is in a tree now and takes its fingerprint. It is kept only where the moment of the look is known.
    pub(crate) fn read(
        &mut self,
        tree: &Path,
        moment: Option<Moment>,
        fingerprint: impl FnOnce(&Files) -> io::Result<Fingerprint>,
    ) -> io::Result<Fingerprint> {
        let (mut files, mut stamps) = (Files::new(), Vec::new());
        for entry in WalkDir::new(tree) {
            let entry = entry?;
            // A directory's stamp changes with every file that comes or goes, and was taken before it is listed or read.
            stamps.push((entry.path().to_path_buf(), Stamp::of(&entry.metadata()?)));
            if let Some(file) = self.read_file(tree, entry.path(), entry.file_type(), moment)? {
                files.insert(relative(tree, entry.path()), file);
            }
        }
        let found = fingerprint(&files)?;
        let is_settled = moment.is_some_and(|moment| stamps.iter().all(|(_, stamp)| moment.is_after(stamp)));
        self.whole = is_settled.then_some((found, stamps));
        Ok(found)
    }

    fn read_file(
        &mut self,
        tree: &Path,
        path: &Path,
        kind: FileType,
        moment: Option<Moment>,
    ) -> io::Result<Option<FileEntry>> {
        if kind.is_file() {
            let mut hash = |name: &String, path: &Path, metadata: &Metadata| match moment {
                Some(moment) => hash_again(name, path, metadata, &mut self.hashes, moment),
                None => hash_file(path),
            };
            return read_entry(&relative(tree, path), path, &mut hash).map(Some);
        }
        if kind.is_dir() {
            return Ok(None);
        }
        // Nothing of this kind was built, so whatever it is, this is another content.
        let sha256 = Fingerprint::of(format!("{kind:?} {:?}", fs::read_link(path).ok()));
        Ok(Some(FileEntry { executable: false, sha256 }))
    }
}

fn hash_again(
    name: &String,
    path: &Path,
    metadata: &Metadata,
    hashes: &mut Hashes,
    moment: Moment,
) -> io::Result<Fingerprint> {
    let stamp = Stamp::of(metadata);
    if let Some(known) = hashes.recall(name, &stamp) {
        return Ok(known);
    }
    let sha256 = hash_file(path)?;
    hashes.keep(name.clone(), stamp, moment, &sha256);
    Ok(sha256)
}

fn check_with(
    tree: &Path,
    files: &Files,
    mut hash: impl FnMut(&String, &Path, &Metadata) -> io::Result<Fingerprint>,
) -> Result<(), Mismatch> {
    let mut found = BTreeMap::new();
    for entry in WalkDir::new(tree).min_depth(1) {
        let entry = entry.map_err(|error| {
            let path = error.path().map_or_else(String::new, |path| relative(tree, path));
            Mismatch::Unreadable(path, error.into())
        })?;
        found.insert(relative(tree, entry.path()), entry.file_type());
    }
    let directories: BTreeSet<&str> = files.keys().flat_map(|path| ancestors(path)).collect();
    for (path, kind) in &found {
        let expected = if kind.is_dir() { directories.contains(path.as_str()) } else { files.contains_key(path) };
        if !expected {
            let known = directories.contains(path.as_str()) || files.contains_key(path);
            return Err(Mismatch::Drift(path.clone(), if known { Drift::Changed } else { Drift::Additional }));
        }
    }
    for (path, entry) in files {
        if !found.contains_key(path) {
            return Err(Mismatch::Drift(path.clone(), Drift::Missing));
        }
        // A symbolic link to the right content is not what was built.
        let same = found[path].is_file()
            && read_entry(path, &join(tree, path), &mut hash)
                .map_err(|error| Mismatch::Unreadable(path.clone(), error))?
                == *entry;
        if !same {
            return Err(Mismatch::Drift(path.clone(), Drift::Changed));
        }
    }
    Ok(())
}

/// The directories that a path lies in, outermost last.
pub(crate) fn ancestors(path: &str) -> impl Iterator<Item = &str> {
    path.rmatch_indices('/').map(|(end, _)| &path[..end])
}

/// The place of a file of a tree.
pub(crate) fn join(tree: &Path, path: &str) -> PathBuf {
    tree.join(path)
}

/// The error when a source is not what it was when its fingerprint was taken.
pub(crate) fn changed_meanwhile(source: &Path) -> io::Error {
    io::Error::other(format!("{} was changed while it was being copied; build again", source.display()))
}

fn read_entry(
    name: &String,
    path: &Path,
    hash: &mut impl FnMut(&String, &Path, &Metadata) -> io::Result<Fingerprint>,
) -> io::Result<FileEntry> {
    let metadata = fs::symlink_metadata(path)?;
    let executable = metadata.permissions().mode() & 0o111 != 0;
    Ok(FileEntry { executable, sha256: hash(name, path, &metadata)? })
}

fn relative(tree: &Path, path: &Path) -> String {
    path.strip_prefix(tree).unwrap_or(path).to_string_lossy().into_owned()
}

fn make_parent(target: &Path) -> io::Result<()> {
    target.parent().map_or(Ok(()), |parent| fs::create_dir_all(parent).at(parent))
}

fn pump(from: &mut impl Read, to: &mut impl Write) -> io::Result<Fingerprint> {
    let mut digest = Sha256::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(Fingerprint::from_sha256(digest.finalize().into())),
            Ok(count) => {
                digest.update(&buffer[..count]);
                to.write_all(&buffer[..count])?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(content: &str, executable: bool) -> FileEntry {
        FileEntry { executable, sha256: Fingerprint::of(content) }
    }

    #[test]
    fn a_fingerprint_covers_paths_modes_contents_and_command() {
        let files = |path: &str, content: &str, executable| Files::from([(path.into(), entry(content, executable))]);
        let command = |parts: &[&str]| parts.iter().map(|part| (*part).to_owned()).collect::<Vec<_>>();
        let all = [
            image_fingerprint(&files("a", "x", true), &command(&["a", "b"])),
            image_fingerprint(&files("a", "x", false), &command(&["a", "b"])),
            image_fingerprint(&files("b", "x", true), &command(&["a", "b"])),
            image_fingerprint(&files("a", "y", true), &command(&["a", "b"])),
            image_fingerprint(&files("a", "x", true), &command(&["a b"])),
        ];
        let distinct: BTreeSet<_> = all.into_iter().map(Result::unwrap).collect();
        assert_eq!(distinct.len(), 5);
    }

    #[test]
    fn a_copy_is_hashed_and_read_only() {
        let root = tempfile::tempdir().unwrap();
        let (source, target) = (root.path().join("source"), root.path().join("deep/target"));
        fs::write(&source, "abc").unwrap();
        assert_eq!(copy_hashed(&source, &target, true).unwrap(), entry("abc", true));
        assert_eq!(fs::metadata(&target).unwrap().permissions().mode() & 0o777, 0o555);
        assert_eq!(hash_file(&target).unwrap(), Fingerprint::of("abc"));
    }

    #[test]
    fn every_difference_is_told() {
        let files = Files::from([("bin/app".into(), entry("app", true)), ("data".into(), entry("data", false))]);
        let check_after = |change: &dyn Fn(&Path), expected: Option<(&str, Drift)>| {
            let root = tempfile::tempdir().unwrap();
            let tree = root.path().join("tree");
            for (path, content, mode) in [("bin/app", "app", 0o755), ("data", "data", 0o644)] {
                make_parent(&tree.join(path)).unwrap();
                fs::write(tree.join(path), content).unwrap();
                fs::set_permissions(tree.join(path), Permissions::from_mode(mode)).unwrap();
            }
            change(&tree);
            let found = match check(&tree, &files) {
                Err(Mismatch::Drift(path, drift)) => Some((path, drift)),
                other => other.map(|()| None).expect("readable"),
            };
            assert_eq!(found, expected.map(|(path, drift)| (path.to_owned(), drift)));
        };
        check_after(&|_| (), None);
        check_after(&|tree| fs::write(tree.join("data"), "Data").unwrap(), Some(("data", Drift::Changed)));
        check_after(&|tree| fs::remove_file(tree.join("data")).unwrap(), Some(("data", Drift::Missing)));
        check_after(&|tree| fs::write(tree.join("bin/x"), "").unwrap(), Some(("bin/x", Drift::Additional)));
        check_after(&|tree| fs::create_dir(tree.join("empty")).unwrap(), Some(("empty", Drift::Additional)));
        check_after(
            &|tree| fs::set_permissions(tree.join("bin/app"), Permissions::from_mode(0o644)).unwrap(),
            Some(("bin/app", Drift::Changed)),
        );
        check_after(
            &|tree| {
                fs::rename(tree.join("data"), tree.parent().unwrap().join("elsewhere")).unwrap();
                std::os::unix::fs::symlink("../elsewhere", tree.join("data")).unwrap();
            },
            Some(("data", Drift::Changed)),
        );
    }

    #[test]
    fn what_was_compared_before_is_read_again_once_it_was_changed() {
        let root = tempfile::tempdir().unwrap();
        let (tree, marker) = (root.path().join("tree"), File::create(root.path().join("marker")).unwrap());
        let files = Files::from([("data".to_owned(), entry("data", false))]);
        let path = tree.join("data");
        make_parent(&path).unwrap();
        fs::write(&path, "data").unwrap();
        let mut hashes = Hashes::default();
        let mut check = || check_again(&tree, &files, &mut hashes, Moment::now(&marker).unwrap()).is_ok();
        let before = fs::metadata(&path).unwrap().modified().unwrap();
        for _ in 0..100 {
            assert!(check());
        }
        fs::write(&path, "Data").unwrap();
        File::options().write(true).open(&path).unwrap().set_modified(before).unwrap();
        assert!(!check());
        fs::remove_file(&path).unwrap();
        fs::write(&path, "Data").unwrap();
        assert!(!check());
        fs::write(&path, "data").unwrap();
        assert!(check());
    }
}
