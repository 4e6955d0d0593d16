//! Checking a recipe before anything is made, and reading what it needs from this machine.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;

use immutable_core::model::{Fingerprint, Image};
use immutable_core::provider::{FileCopy, ImageSpec, Layer};

use super::script::{self, Attempt};
use crate::{Builds, Cloud, Refused};

/// A recipe that was checked, with the contents of its files.
#[derive(Debug)]
pub struct Build {
    fingerprint: Fingerprint,
    base: Image,
    cloud: Cloud,
    pub(super) layers: Vec<Part>,
    pub(super) command: Vec<String>,
}

impl Build {
    /// Checks all of a recipe that can be told without asking the cloud, and reads its files, which are small.
    ///
    /// # Errors
    /// What is wrong with which field, and what to do.
    pub fn new(cloud: &Cloud, spec: &ImageSpec) -> Result<Self, Refused> {
        build(cloud, spec).map_err(Refused)
    }

    /// The identity of the image: of the service it is for, what it starts from, and all of the script that makes it.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// What the image starts from.
    pub fn base(&self) -> &Image {
        &self.base
    }

    /// The script that makes the image when root runs it on a machine that was started from the base, and switches the machine off after that.
    /// The same for the same recipe and attempt. Its second line is a comment with the nonce.
    pub fn script(&self, attempt: &Attempt) -> String {
        self.script_below("", attempt)
    }

    /// The same for a machine whose root is a directory.
    pub(crate) fn script_below(&self, prefix: &str, attempt: &Attempt) -> String {
        script::text(&self.cloud, self, prefix, attempt)
    }
}

/// A layer of a checked recipe.
#[derive(Debug)]
pub(super) enum Part {
    Files(Vec<File>),
    Script(String),
}

/// A file that goes into the image.
#[derive(Debug)]
pub(super) struct File {
    pub(super) target: String,
    pub(super) executable: bool,
    pub(super) content: Vec<u8>,
}

fn build(cloud: &Cloud, spec: &ImageSpec) -> Result<Build, String> {
    let (recipe, terms) = (&spec.recipe, &cloud.builds);
    let Some(base) = recipe.base.clone() else {
        return Err(format!("base: {}", terms.base));
    };
    check_command(&recipe.command)?;
    check_targets(&recipe.layers)?;
    for (field, text) in [("version", Some(&spec.version)), ("commit", spec.commit.as_ref())] {
        let longest = terms.longest_label;
        if text.is_some_and(|text| text.chars().count() > longest) {
            return Err(format!("{field}: has more than {longest} characters, which no label can hold: shorten it"));
        }
    }
    let layers = recipe.layers.iter().enumerate();
    let layers = layers.map(|(index, layer)| part(terms, index, layer)).collect::<Result<_, _>>()?;
    let (cloud, command) = (*cloud, recipe.command.clone());
    let mut build = Build { fingerprint: Fingerprint::of(""), base, cloud, layers, command };
    // The same nonce and deadline for all: they are of the attempt, not of the image.
    let made_by = build.script(&Attempt::default());
    let identity = [spec.service.as_str(), build.base.id.as_str(), &build.base.fingerprint.to_string(), &made_by];
    build.fingerprint = Fingerprint::of(identity.join("\u{1f}"));
    Ok(build)
}

fn check_command(command: &[String]) -> Result<(), String> {
    let program = command.first().map_or("", String::as_str);
    if let Some(problem) = bad_path(program) {
        return Err(format!("command[0]: {program:?} {problem}"));
    }
    match command.iter().position(|word| word.contains('\0')) {
        Some(index) => Err(format!("command[{index}]: has a NUL character: remove it")),
        None => Ok(()),
    }
}

fn check_targets(layers: &[Layer]) -> Result<(), String> {
    let mut all: BTreeSet<&str> = BTreeSet::new();
    for (index, layer) in layers.iter().enumerate() {
        let Layer::Files(files) = layer else { continue };
        let mut here = BTreeSet::new();
        for (position, file) in files.iter().enumerate() {
            let (field, target) = (format!("layers[{index}].files[{position}].target"), file.target.as_str());
            if let Some(problem) = bad_path(target) {
                return Err(format!("{field}: {target:?} {problem}"));
            }
            if !here.insert(target) {
                return Err(format!(
                    "{field}: {target:?} is a target of the same layer already: remove one of the two"
                ));
            }
            all.insert(target);
        }
    }
    let inside = |outer: &&str| {
        let prefix = format!("{outer}/");
        all.range(prefix.as_str()..).next().filter(|inner| inner.starts_with(&prefix)).map(|inner| (*inner).to_owned())
    };
    match all.iter().find_map(|outer| Some((outer, inside(outer)?))) {
        Some((outer, inner)) => {
            Err(format!("layers: {inner:?} needs {outer:?} to be a directory, but it is a file: rename one of the two"))
        }
        None => Ok(()),
    }
}

/// Why a text is not a path inside an image.
fn bad_path(path: &str) -> Option<&'static str> {
    match path {
        "" => Some("is empty: name a file of the image"),
        _ if path.contains(|c: char| c.is_control()) => Some("has a control character: remove it"),
        _ if path.contains('\\') => Some("has a backslash: use forward slashes"),
        _ if path.starts_with('/') => Some("is absolute: make it relative to the image's root"),
        _ if path.split('/').any(|part| part == "..") => Some("has a `..` part: name a place inside the image"),
        _ if path.split('/').any(|part| part.is_empty() || part == ".") => Some("has an empty or `.` part: remove it"),
        _ if path.split('/').any(|part| part.len() > 255) => Some("has a part of more than 255 bytes: shorten it"),
        _ => None,
    }
}

fn part(terms: &Builds, index: usize, layer: &Layer) -> Result<Part, String> {
    match layer {
        Layer::Files(files) => {
            let read = |(position, file): (usize, &FileCopy)| {
                let content = read(terms, &file.source)
                    .map_err(|problem| format!("layers[{index}].files[{position}].source: {problem}"))?;
                Ok(File { target: file.target.clone(), executable: file.executable, content })
            };
            files.iter().enumerate().map(read).collect::<Result<_, _>>().map(Part::Files)
        }
        Layer::Script(script) if script.trim().is_empty() => {
            Err(format!("layers[{index}]: the script is empty: write what it does, or leave it out"))
        }
        Layer::Script(script) if script.contains('\0') => {
            Err(format!("layers[{index}]: the script has a NUL character: remove it"))
        }
        Layer::Script(script) => Ok(Part::Script(script.clone())),
        _ => Err(format!("layers[{index}]: this kind of layer is not known here: use files and scripts")),
    }
}

fn read(terms: &Builds, source: &Path) -> Result<Vec<u8>, String> {
    let name = source.to_string_lossy();
    let unreadable = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => format!("{name:?} does not exist: make it, or name another file"),
        io::ErrorKind::PermissionDenied => format!("{name:?} may not be read: allow it to be read"),
        _ => format!("{name:?} cannot be read: {error}"),
    };
    let metadata = fs::metadata(source).map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(format!("{name:?} is not a regular file: name one"));
    }
    if metadata.len() > terms.largest_file {
        return Err(format!("{name:?} has {} bytes: {}", metadata.len(), terms.too_large));
    }
    // Small enough to be read here, on a thread that may be an executor's.
    fs::read(source).map_err(unreadable)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::testkit::spec;
    use crate::tests::CLOUD;

    fn file(source: impl Into<PathBuf>, target: &str) -> FileCopy {
        FileCopy { source: source.into(), target: target.to_owned(), executable: true }
    }

    fn script(text: &str) -> Layer {
        Layer::Script(text.to_owned())
    }

    #[test]
    fn another_recipe_is_another_image_and_other_labels_are_not() {
        let directory = tempfile::tempdir().unwrap();
        let source = directory.path().join("app");
        std::fs::write(&source, "one").unwrap();
        let of = |spec: &ImageSpec| Build::new(&CLOUD, spec).unwrap().fingerprint();
        let files = || Layer::Files(vec![file(&source, "bin/app")]);
        let usual = || spec(vec![files(), script("true")], &["bin/app", "-v"]);
        let first = of(&usual());
        assert_eq!(first, of(&ImageSpec { version: "2".into(), commit: None, ..usual() }));
        let mut not_executable = file(&source, "bin/app");
        not_executable.executable = false;
        let mut other_base = usual();
        other_base.recipe.base.as_mut().unwrap().id = "ami-1".parse().unwrap();
        let mut others = vec![
            of(&spec(vec![files(), script("false")], &["bin/app", "-v"])),
            of(&spec(vec![script("true"), files()], &["bin/app", "-v"])),
            of(&spec(vec![files(), script("true")], &["bin/app", "-q"])),
            of(&spec(vec![Layer::Files(vec![file(&source, "bin/other")]), script("true")], &["bin/app", "-v"])),
            of(&spec(vec![Layer::Files(vec![not_executable]), script("true")], &["bin/app", "-v"])),
            of(&ImageSpec { service: "other".parse().unwrap(), ..usual() }),
            of(&other_base),
        ];
        std::fs::write(&source, "two").unwrap();
        others.extend([first, of(&usual())]);
        assert_eq!(others.iter().collect::<BTreeSet<_>>().len(), others.len());
    }

    #[test]
    fn a_recipe_that_cannot_work_is_refused_by_the_name_of_the_field() {
        let directory = tempfile::tempdir().unwrap();
        let source = directory.path().join("app");
        std::fs::write(&source, "one").unwrap();
        let large = directory.path().join("large");
        std::fs::write(&large, vec![0; usize::try_from(CLOUD.builds.largest_file).unwrap() + 1]).unwrap();
        let to = |target: &str| spec(vec![Layer::Files(vec![file(&source, target)])], &["app"]);
        let from = |source: &Path| spec(vec![Layer::Files(vec![file(source, "app")])], &["app"]);
        let two = |one: &str, two: &str| {
            spec(vec![Layer::Files(vec![file(&source, one)]), Layer::Files(vec![file(&source, two)])], &["app"])
        };
        let mut without_base = to("app");
        without_base.recipe.base = None;
        let cases = [
            (without_base, "base: name one"),
            (spec(vec![], &[]), "command[0]: \"\" is empty"),
            (spec(vec![], &[""]), "command[0]: \"\" is empty"),
            (spec(vec![], &["/bin/sh"]), "command[0]: \"/bin/sh\" is absolute"),
            (spec(vec![], &["app", "a\0"]), "command[1]: has a NUL"),
            (to(""), "layers[0].files[0].target: \"\" is empty"),
            (to("/etc/x"), "\"/etc/x\" is absolute"),
            (to("in/../../out"), "has a `..` part"),
            (to("a//b"), "has an empty or `.` part"),
            (to("a\nb"), "has a control character"),
            (to(&"x".repeat(256)), "has a part of more than 255 bytes"),
            (two("bin/app", "bin"), "layers: \"bin/app\" needs \"bin\" to be a directory"),
            (
                spec(vec![Layer::Files(vec![file(&source, "a"), file(&source, "a")])], &["a"]),
                "layers[0].files[1].target: \"a\" is a target of the same layer already",
            ),
            (from(&directory.path().join("none")), "layers[0].files[0].source"),
            (from(directory.path()), "is not a regular file"),
            (from(&large), "has 1025 bytes: fetch it"),
            (spec(vec![script(" \n")], &["app"]), "layers[0]: the script is empty"),
            (spec(vec![script("a\0")], &["app"]), "layers[0]: the script has a NUL"),
            (ImageSpec { version: "x".repeat(65), ..to("app") }, "version: has more than 64 characters"),
        ];
        for (spec, words) in cases {
            let problem = Build::new(&CLOUD, &spec).map(drop).expect_err(words).to_string();
            assert!(problem.contains(words), "{problem:?} does not say {words:?}");
        }
        assert!(Build::new(&CLOUD, &two("bin", "bin")).is_ok(), "a later layer wins");
    }
}
