//! What the tests of images and of instances have in common.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::fs;
use std::path::{Path, PathBuf};

use immutable_core::model::Image;
use immutable_core::provider::{FileCopy, ImageBuilder, ImageSpec, Layer, OpContext, Progress, Recipe};
use immutable_local::LocalImageBuilder;
use tempfile::TempDir;

/// A root directory, and files to build images from.
#[derive(Debug)]
pub(crate) struct Place {
    directory: TempDir,
}

impl Drop for Place {
    fn drop(&mut self) {
        // No process outlives its test, whichever way the test ends.
        let Ok(entries) = fs::read_dir(self.root().join("instances")) else { return };
        for entry in entries.flatten() {
            let Ok(text) = fs::read_to_string(entry.path().join("record.json")) else { continue };
            let Ok(record) = serde_json::from_str::<serde_json::Value>(&text) else { continue };
            let pid = record["process"]["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok());
            let stranger = i32::try_from(std::process::id()).ok();
            if let Some(group) = pid.filter(|_| pid != stranger).and_then(rustix::process::Pid::from_raw) {
                let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
            }
        }
    }
}

impl Place {
    pub(crate) fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.directory.path().join("root")
    }

    pub(crate) fn images(&self) -> LocalImageBuilder {
        LocalImageBuilder::new(self.root())
    }

    pub(crate) fn source(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.directory.path().join(name);
        fs::write(&path, content).unwrap();
        path
    }

    /// An image of one shell script.
    pub(crate) async fn script(&self, script: &str) -> Image {
        let source = self.source("script", format!("#!/bin/sh\n{script}\n"));
        build(&self.images(), &spec(vec![Layer::Files(vec![program("bin/app", &source)])])).await
    }
}

pub(crate) fn cx() -> OpContext {
    OpContext::standalone("test")
}

pub(crate) fn file(target: &str, source: &Path) -> FileCopy {
    FileCopy { source: source.to_path_buf(), target: target.to_owned(), executable: false }
}

pub(crate) fn program(target: &str, source: &Path) -> FileCopy {
    FileCopy { executable: true, ..file(target, source) }
}

pub(crate) fn spec(layers: Vec<Layer>) -> ImageSpec {
    let recipe = Recipe { base: None, layers, command: vec!["bin/app".to_owned()] };
    ImageSpec { service: "web".parse().unwrap(), recipe, version: "1.0.0".to_owned(), commit: None }
}

pub(crate) async fn build(images: &LocalImageBuilder, spec: &ImageSpec) -> Image {
    done(images.ensure(&cx(), spec).await.unwrap())
}

pub(crate) fn done<T>(progress: Progress<T>) -> T {
    progress.done().expect("nobody else is at work")
}

/// The place of a file of an image on disk.
pub(crate) fn in_image(root: &Path, image: &Image, path: &str) -> PathBuf {
    root.join("images").join(image.fingerprint.to_string()).join("tree").join(path)
}

/// Changes a file that is read-only, as somebody with bad intentions would.
pub(crate) fn tamper(path: &Path, content: &str) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(path, content).unwrap();
}
