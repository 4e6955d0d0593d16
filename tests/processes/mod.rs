//! Real instances of a test: the program that they run, and the directory that they do not outlive.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::path::{Path, PathBuf};

use immutable_core::model::InstanceId;
use tempfile::TempDir;

/// `target/<profile>/examples/<name>`, where `cargo test` has put it before it runs the tests, which have no service in them.
pub(crate) fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    // The test is target/<profile>/deps/<test>.
    let profile = test.parent().unwrap().parent().unwrap();
    let path = profile.join("examples").join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    assert!(path.exists(), "{} does not exist: cargo build --examples makes it", path.display());
    path
}

/// A directory for a local platform, and for what its images are built from. No process outlives it, whichever way the test ends.
#[derive(Debug)]
pub(crate) struct Directory(TempDir);

impl Directory {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// The root of the platform.
    pub(crate) fn root(&self) -> PathBuf {
        self.path().join("root")
    }

    /// Kills an instance, as it is recorded, if it is.
    pub(crate) fn kill(&self, id: &InstanceId) -> Option<()> {
        kill_recorded(&self.root().join("instances").join(id.as_str()))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let Ok(entries) = std::fs::read_dir(self.root().join("instances")) else { return };
        for entry in entries.flatten() {
            kill_recorded(&entry.path());
        }
    }
}

/// Kills the process group of the instance in a directory.
fn kill_recorded(instance: &Path) -> Option<()> {
    let record: serde_json::Value = serde_json::from_slice(&std::fs::read(instance.join("record.json")).ok()?).ok()?;
    let group = i32::try_from(record["process"]["pid"].as_i64()?).ok()?;
    rustix::process::kill_process_group(rustix::process::Pid::from_raw(group)?, rustix::process::Signal::KILL).ok()
}
