//! The images of releases: the executable of the example, and how the release behaves.

use std::io;
use std::path::Path;

use immutable_core::model::{Fingerprint, ServiceName};
use immutable_core::provider::{FileCopy, ImageSpec, Layer, Recipe};

use super::service::{BEHAVIOUR_FILE, Behaviour, SERVE};

/// The program in the image.
const PROGRAM: &str = "service";

/// The image of a release whose program is this executable, which must call
/// [`run_if_asked`](super::service::run_if_asked) first in its `main`.
///
/// The files that the image is built from are put into `directory` and must stay there until it is built.
///
/// # Errors
/// When this executable is not known, or the directory cannot be written to.
pub(crate) fn recipe(directory: &Path, service: &ServiceName, behaviour: &Behaviour) -> io::Result<ImageSpec> {
    recipe_with(&std::env::current_exe()?, directory, service, behaviour)
}

/// Like [`recipe`], with another program: a test is not its own service, and uses the example `service`.
///
/// # Errors
/// When the directory cannot be written to.
pub(crate) fn recipe_with(
    program: &Path,
    directory: &Path,
    service: &ServiceName,
    behaviour: &Behaviour,
) -> io::Result<ImageSpec> {
    let content = serde_json::to_vec_pretty(behaviour)?;
    // Named by its content, so that no other release's file is ever changed.
    let source = directory.join(format!("release-{}.json", Fingerprint::of(&content).short()));
    std::fs::write(&source, content)?;

    let program = FileCopy { source: program.to_path_buf(), target: PROGRAM.to_owned(), executable: true };
    let release = FileCopy { source, target: BEHAVIOUR_FILE.to_owned(), executable: false };
    let recipe = Recipe {
        base: None,
        // The program is the same in all releases: its layer is built once.
        layers: vec![Layer::Files(vec![program]), Layer::Files(vec![release])],
        command: vec![PROGRAM.to_owned(), SERVE.to_owned()],
    };
    Ok(ImageSpec { service: service.clone(), recipe, version: behaviour.version.clone(), commit: None })
}
