//! The store of images and layers on disk.
//!
//! ```text
//! <root>/images.lock                    held while images or layers are made or removed
//! <root>/images/<fingerprint>/          one image, renamed into place when it is complete
//!     manifest.json                     what it consists of; written once
//!     services/<service>                one empty file for each service that asked for it
//!     tree/                             its files, read-only, hard links into the layers
//! <root>/layers/<fingerprint>/          one layer, renamed into place when it is complete
//! ```
//!
//! Names that start with a dot are things half made or half removed; the next build or removal clears them away.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use immutable_core::model::{Fingerprint, Image, ServiceName};
use serde::{Deserialize, Serialize};

use super::recipe::{BuildPlan, LayerPlan};
use super::tree::{self, Files, Hashes, Known, Mismatch};
use crate::error::{AtPath, Drift, VerifyError};
use crate::files::{self, Lock};
use crate::stamp::Moment;

/// What an image consists of. Versioned: a program that does not know the version does not touch the image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    pub(crate) version: u32,
    /// The service that it was first built for.
    pub(crate) service: ServiceName,
    pub(crate) image: Image,
    pub(crate) command: Vec<String>,
    /// The layers of its own recipe; those of its base are the base's.
    pub(crate) layers: Vec<Fingerprint>,
    pub(crate) files: Files,
}

impl Manifest {
    pub(crate) const VERSION: u32 = 1;
}

/// Images and layers under one root.
#[derive(Debug, Clone)]
pub(crate) struct ImageStore {
    root: PathBuf,
}

impl ImageStore {
    pub(crate) fn new(root: PathBuf) -> Self {
        Self { root }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The right to make or remove images and layers.
    pub(crate) fn lock(&self) -> io::Result<Option<Lock>> {
        Lock::try_take(&self.root.join("images.lock"))
    }

    /// The root of an image's files.
    pub(crate) fn tree(&self, fingerprint: &Fingerprint) -> PathBuf {
        self.directory(fingerprint).join("tree")
    }

    /// What an image consists of, or nothing where it is not here.
    pub(crate) fn load(&self, fingerprint: &Fingerprint) -> io::Result<Option<Manifest>> {
        let path = self.directory(fingerprint).join("manifest.json");
        let Some(bytes) = files::read_if_there(&path)? else { return Ok(None) };
        let manifest: Manifest = serde_json::from_slice(&bytes).map_err(io::Error::from).at(&path)?;
        if manifest.version == Manifest::VERSION {
            return Ok(Some(manifest));
        }
        let message = format!("manifest version {} is not known: use a newer program", manifest.version);
        Err(io::Error::new(io::ErrorKind::InvalidData, message)).at(&path)
    }

    /// All images.
    pub(crate) fn all(&self) -> io::Result<Vec<Manifest>> {
        let names = files::names(&self.root.join("images"))?;
        let fingerprints = names.iter().filter_map(|name| name.parse().ok());
        fingerprints.filter_map(|fingerprint| self.load(&fingerprint).transpose()).collect()
    }

    /// Reads an image and compares every file with what was built.
    pub(crate) fn verify(&self, fingerprint: &Fingerprint) -> Result<Manifest, VerifyError> {
        self.verify_with(*fingerprint, tree::check)
    }

    /// Like [`verify`](Self::verify), without reading those files again that are as they were when they were read for `hashes`.
    pub(crate) fn verify_again(
        &self,
        fingerprint: &Fingerprint,
        hashes: &mut Hashes,
        moment: Moment,
    ) -> Result<Manifest, VerifyError> {
        self.verify_with(*fingerprint, |tree, files| tree::check_again(tree, files, hashes, moment))
    }

    /// The fingerprint of what is in the place of an image now; nothing where the image is not here.
    pub(crate) fn content(
        &self,
        fingerprint: &Fingerprint,
        known: &mut Known,
        moment: Option<Moment>,
    ) -> io::Result<Option<Fingerprint>> {
        if let Some(content) = known.recall() {
            return Ok(Some(content));
        }
        let Some(Manifest { command, .. }) = self.load(fingerprint)? else { return Ok(None) };
        known.read(&self.tree(fingerprint), moment, |files| tree::image_fingerprint(files, &command)).map(Some)
    }

    fn verify_with(
        &self,
        fingerprint: Fingerprint,
        check: impl FnOnce(&Path, &Files) -> Result<(), Mismatch>,
    ) -> Result<Manifest, VerifyError> {
        let drifted = |path: String, drift| VerifyError::Drifted { fingerprint, path, drift };
        let unreadable = |path: String, source| VerifyError::Unreadable { fingerprint, path, source };
        let list = "manifest.json".to_owned();
        let manifest = match self.load(&fingerprint) {
            Ok(manifest) => manifest.ok_or(VerifyError::Absent { fingerprint })?,
            Err(source) => return Err(unreadable(list, source)),
        };
        match tree::image_fingerprint(&manifest.files, &manifest.command) {
            Ok(named) if named == fingerprint && manifest.image.fingerprint == fingerprint => {}
            _ => return Err(drifted(list, Drift::Changed)),
        }
        match check(&self.tree(&fingerprint), &manifest.files) {
            Ok(()) => Ok(manifest),
            Err(Mismatch::Drift(path, drift)) => Err(drifted(path, drift)),
            Err(Mismatch::Unreadable(path, source)) => Err(unreadable(path, source)),
        }
    }

    /// Whether a service asked for an image.
    pub(crate) fn is_for(&self, manifest: &Manifest, service: &ServiceName) -> bool {
        manifest.service == *service || self.service_mark(&manifest.image.fingerprint, service).exists()
    }

    /// Records that a service asked for an image that is here already.
    pub(crate) fn add_service(&self, fingerprint: &Fingerprint, service: &ServiceName) -> io::Result<()> {
        let mark = self.service_mark(fingerprint, service);
        if mark.exists() { Ok(()) } else { fs::write(&mark, "").at(&mark) }
    }

    /// Builds an image beside its place and renames it there when it is complete. Needs the lock.
    pub(crate) fn build(&self, plan: &BuildPlan, manifest: &Manifest) -> io::Result<()> {
        for layer in &plan.layers {
            self.ensure_layer(layer)?;
        }
        let fingerprint = manifest.image.fingerprint;
        let beside = self.root.join("images").join(format!(".building-{fingerprint}"));
        let tree = beside.join("tree");
        fs::create_dir_all(&tree).at(&tree)?;
        for (path, entry) in &plan.files {
            tree::link(&self.origin(plan, path), &tree::join(&tree, path), entry)?;
        }
        tree::seal(&tree)?;
        let services = beside.join("services");
        fs::create_dir(&services).at(&services)?;
        fs::write(services.join(manifest.service.as_str()), "").at(&services)?;
        files::write_durable(&beside.join("manifest.json"), &serde_json::to_vec_pretty(manifest)?)?;
        put(&beside, &self.directory(&fingerprint))
    }

    /// Removes an image, and the layers that no image uses any more. Needs the lock.
    pub(crate) fn remove(&self, fingerprint: &Fingerprint) -> io::Result<()> {
        let gone = self.root.join("images").join(format!(".removing-{fingerprint}"));
        fs::rename(self.directory(fingerprint), &gone).at(&gone)?;
        files::remove_tree(&gone)?;
        let images = self.all()?;
        let used = |name: &str| images.iter().flat_map(|image| &image.layers).any(|layer| layer.to_string() == name);
        let layers = self.root.join("layers");
        for name in files::names(&layers)?.iter().filter(|name| !used(name)) {
            files::remove_tree(&layers.join(name))?;
        }
        Ok(())
    }

    /// Clears away what interrupted builds and removals left. Needs the lock: nothing half made is anybody's work then.
    pub(crate) fn clean_up(&self) -> io::Result<()> {
        for directory in ["images", "layers"].map(|name| self.root.join(name)) {
            for name in files::names(&directory)?.iter().filter(|name| name.starts_with('.')) {
                files::remove_tree(&directory.join(name))?;
            }
        }
        Ok(())
    }

    /// Makes a layer unless it is here. A damaged one is made anew: its files are hard links, so that a change to a file
    /// of one image is a change to the layer too.
    fn ensure_layer(&self, layer: &LayerPlan) -> io::Result<()> {
        let place = self.layer(&layer.fingerprint);
        if place.exists() {
            if tree::check(&place, &layer.files).is_ok() {
                return Ok(());
            }
            files::remove_tree(&place)?;
        }
        let beside = self.root.join("layers").join(format!(".building-{}", layer.fingerprint));
        fs::create_dir_all(&beside).at(&beside)?;
        for (path, entry) in &layer.files {
            let source = &layer.sources[path];
            if tree::copy_hashed(source, &tree::join(&beside, path), entry.executable)? != *entry {
                return Err(tree::changed_meanwhile(source));
            }
        }
        put(&beside, &place)
    }

    /// Where the content of a file comes from: the last layer that has it, or the base.
    fn origin(&self, plan: &BuildPlan, path: &str) -> PathBuf {
        let layer = plan.layers.iter().rev().find(|layer| layer.files.contains_key(path));
        match (layer, &plan.base) {
            (Some(layer), _) => tree::join(&self.layer(&layer.fingerprint), path),
            (None, Some(base)) => tree::join(&self.tree(&base.image.fingerprint), path),
            (None, None) => unreachable!("invariant: every file of a plan is from a layer or the base"),
        }
    }

    fn directory(&self, fingerprint: &Fingerprint) -> PathBuf {
        self.root.join("images").join(fingerprint.to_string())
    }

    fn layer(&self, fingerprint: &Fingerprint) -> PathBuf {
        self.root.join("layers").join(fingerprint.to_string())
    }

    fn service_mark(&self, fingerprint: &Fingerprint, service: &ServiceName) -> PathBuf {
        self.directory(fingerprint).join("services").join(service.as_str())
    }
}

/// Moves what is complete into its place.
fn put(beside: &Path, place: &Path) -> io::Result<()> {
    files::sync_directory(beside)?;
    fs::rename(beside, place).at(place)?;
    place.parent().map_or(Ok(()), files::sync_directory)
}
