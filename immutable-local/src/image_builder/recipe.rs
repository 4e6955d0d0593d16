//! Checking a recipe before anything is made, and planning what it makes.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use immutable_core::model::Fingerprint;
use immutable_core::provider::{ErrorKind, FileCopy, ImageSpec, Layer, ProviderError};

use super::store::{ImageStore, Manifest};
use super::tree::{self, FileEntry, Files};
use crate::error::io_error;

/// What a checked recipe makes.
#[derive(Debug)]
pub(crate) struct BuildPlan {
    pub(crate) fingerprint: Fingerprint,
    pub(crate) base: Option<Manifest>,
    pub(crate) layers: Vec<LayerPlan>,
    /// All files of the image, the later layer's where several have the same path.
    pub(crate) files: Files,
    pub(crate) command: Vec<String>,
}

/// One layer of a checked recipe.
#[derive(Debug)]
pub(crate) struct LayerPlan {
    pub(crate) fingerprint: Fingerprint,
    pub(crate) files: Files,
    pub(crate) sources: BTreeMap<String, PathBuf>,
}

/// Checks all of a recipe and takes the fingerprint of what it makes. Reads every source and writes nothing.
pub(crate) fn plan(operation: &str, spec: &ImageSpec, store: &ImageStore) -> Result<BuildPlan, ProviderError> {
    let refuse = |refusal: Refusal| {
        let message = format!("{}: {}", refusal.field, refusal.problem);
        ProviderError::new(ErrorKind::InvalidRequest, operation.to_owned(), message).without_effect()
    };
    let unreadable = |error: io::Error| io_error(operation, error).without_effect();
    let base = check_base(spec, store).map_err(refuse)?;
    check_names(spec, base.as_ref()).map_err(refuse)?;
    check_command(spec, base.as_ref()).map_err(refuse)?;

    let mut files = base.as_ref().map_or_else(Files::new, |base| base.files.clone());
    let mut layers = Vec::new();
    for (index, copies) in layers_of(spec) {
        let (layer_files, sources) = read_layer(index, copies).map_err(refuse)?;
        files.extend(layer_files.clone());
        let fingerprint = tree::layer_fingerprint(&layer_files).map_err(unreadable)?;
        layers.push(LayerPlan { fingerprint, files: layer_files, sources });
    }
    let command = spec.recipe.command.clone();
    let fingerprint = tree::image_fingerprint(&files, &command).map_err(unreadable)?;
    Ok(BuildPlan { fingerprint, base, layers, files, command })
}

/// What is wrong with one field of a recipe, and what to do about it.
struct Refusal {
    field: String,
    problem: String,
}

fn refuse<T>(field: impl Into<String>, problem: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal { field: field.into(), problem: problem.into() })
}

fn check_base(spec: &ImageSpec, store: &ImageStore) -> Result<Option<Manifest>, Refusal> {
    let Some(base) = &spec.recipe.base else { return Ok(None) };
    store.verify(&base.fingerprint).map(Some).or_else(|error| refuse("base", error.to_string()))
}

/// The layers that consist of files; the only kind that is built here, which [`check_names`] makes sure of.
fn layers_of(spec: &ImageSpec) -> impl Iterator<Item = (usize, &[FileCopy])> {
    spec.recipe.layers.iter().enumerate().filter_map(|(index, layer)| match layer {
        Layer::Files(copies) => Some((index, copies.as_slice())),
        _ => None,
    })
}

/// Checks every target by itself and against all the others.
fn check_names(spec: &ImageSpec, base: Option<&Manifest>) -> Result<(), Refusal> {
    for (index, layer) in spec.recipe.layers.iter().enumerate() {
        let problem = match layer {
            Layer::Files(_) => continue,
            Layer::Script(_) => {
                "nothing can be run as root in an image that is a directory tree: run the script before the build, and add \
                 the files that it makes"
            }
            _ => "this kind of layer is not known here: use files",
        };
        return refuse(format!("layers[{index}]"), problem);
    }
    let from_base = base.iter().flat_map(|base| base.files.keys().map(|path| (path.clone(), "the base".to_owned())));
    // What makes each path so far.
    let mut makers: BTreeMap<String, String> = from_base.collect();
    for (index, copies) in layers_of(spec) {
        let mut here: BTreeMap<&str, String> = BTreeMap::new();
        for (position, copy) in copies.iter().enumerate() {
            let maker = format!("layers[{index}].files[{position}]");
            let (field, target) = (format!("{maker}.target"), copy.target.as_str());
            if let Some(problem) = bad_path(target) {
                return refuse(field, format!("{target:?} {problem}"));
            }
            if let Some(first) = here.insert(target, maker.clone()) {
                return refuse(field, format!("{target:?} is the target of {first} already: remove one of the two"));
            }
            if let Some(file) = tree::ancestors(target).find(|path| makers.contains_key(*path)) {
                let problem =
                    format!("{target:?} needs {file:?} to be a directory, but {} makes it a file", makers[file]);
                return refuse(field, format!("{problem}: rename one of the two"));
            }
            let inside = format!("{target}/");
            if let Some((path, first)) =
                makers.range(inside.clone()..).next().filter(|(path, _)| path.starts_with(&inside))
            {
                let problem = format!("{target:?} is a directory already, because {first} makes {path:?}");
                return refuse(field, format!("{problem}: rename one of the two"));
            }
            makers.insert(target.to_owned(), maker);
        }
    }
    Ok(())
}

/// Why a text is not a path inside an image.
fn bad_path(path: &str) -> Option<&'static str> {
    match path {
        "" => Some("is empty: name the file in the image"),
        _ if path.contains('\0') => Some("has a NUL character: remove it"),
        _ if path.contains('\\') => Some("has a backslash: use forward slashes"),
        _ if path.starts_with('/') => Some("is absolute: make it relative to the image's root"),
        _ if path.split('/').any(|part| part == "..") => Some("has a `..` part: name a place inside the image"),
        _ if path.split('/').any(|part| part.is_empty() || part == ".") => Some("has an empty or `.` part: remove it"),
        _ if path.split('/').any(|part| part.len() > 255) => Some("has a part of more than 255 bytes: shorten it"),
        _ => None,
    }
}

fn check_command(spec: &ImageSpec, base: Option<&Manifest>) -> Result<(), Refusal> {
    let command = &spec.recipe.command;
    let Some(program) = command.first().filter(|program| !program.is_empty()) else {
        return refuse("command", "is empty: name a program of the image, and its arguments");
    };
    if let Some(index) = command.iter().position(|part| part.contains('\0')) {
        return refuse(format!("command[{index}]"), "has a NUL character: remove it");
    }
    let in_base = base.and_then(|base| base.files.get(program)).map(|entry| (entry.executable, "the base".to_owned()));
    let in_layers = layers_of(spec).flat_map(|(index, copies)| {
        let named = copies.iter().enumerate().filter(|(_, copy)| copy.target == *program);
        named.map(move |(position, copy)| (copy.executable, format!("layers[{index}].files[{position}]")))
    });
    match in_layers.last().or(in_base) {
        Some((true, _)) => Ok(()),
        Some((false, maker)) => {
            refuse("command[0]", format!("{program:?} is not executable: set `executable` in {maker}"))
        }
        None => refuse(
            "command[0]",
            format!("{program:?} is not in the image: name the target of a file, relative to the image's root"),
        ),
    }
}

fn read_layer(index: usize, copies: &[FileCopy]) -> Result<(Files, BTreeMap<String, PathBuf>), Refusal> {
    let (mut files, mut sources) = (Files::new(), BTreeMap::new());
    for (position, copy) in copies.iter().enumerate() {
        let sha256 = read_source(&copy.source)
            .or_else(|problem| refuse(format!("layers[{index}].files[{position}].source"), problem))?;
        files.insert(copy.target.clone(), FileEntry { executable: copy.executable, sha256 });
        sources.insert(copy.target.clone(), copy.source.clone());
    }
    Ok((files, sources))
}

fn read_source(source: &Path) -> Result<Fingerprint, String> {
    let kind = fs::symlink_metadata(source).map_err(|error| unreadable(source, &error))?.file_type();
    let name = source.to_string_lossy();
    if kind.is_symlink() {
        return Err(format!("{name:?} is a symbolic link: resolve it yourself, and name the file it leads to"));
    }
    if kind.is_dir() {
        return Err(format!("{name:?} is a directory: name each file in it"));
    }
    if !kind.is_file() {
        return Err(format!("{name:?} is not a regular file: name one"));
    }
    tree::hash_file(source).map_err(|error| unreadable(source, &error))
}

fn unreadable(source: &Path, error: &io::Error) -> String {
    let name = source.to_string_lossy();
    match error.kind() {
        io::ErrorKind::NotFound => format!("{name:?} does not exist: make it, or name another file"),
        io::ErrorKind::PermissionDenied => format!("{name:?} may not be read: allow it to be read"),
        _ => format!("{name:?} cannot be read: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_that_may_not_be_read_says_what_to_do() {
        // Through the mapping: whoever runs the tests may be allowed to read everything.
        let denied = io::Error::from(io::ErrorKind::PermissionDenied);
        assert_eq!(unreadable(Path::new("/x"), &denied), "\"/x\" may not be read: allow it to be read");
        let broken = io::Error::other("input/output error");
        assert_eq!(unreadable(Path::new("/x"), &broken), "\"/x\" cannot be read: input/output error");
    }

    #[test]
    fn paths_inside_an_image_are_plain() {
        for path in ["a", "bin/app", "a.b/..c", "ä/ö", "-x"] {
            assert_eq!(bad_path(path), None, "{path}");
        }
        for path in ["", "/", "/a", "a/", "a//b", "./a", "a/./b", "..", "a/..", "a\\b", "a\0"] {
            assert!(bad_path(path).is_some(), "{path}");
        }
    }
}
