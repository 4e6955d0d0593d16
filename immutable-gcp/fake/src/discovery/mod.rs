//! Google's Discovery documents: which method a request is, and what it may say.
//!
//! A document is Google's own machine-readable description of an API
//! (<https://developers.google.com/discovery/v1/reference/apis>), so a fake that is held to it cannot agree with a wrong
//! client. They are large, hence read once a process.

mod method;
mod schema;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::{env, fs};

use regex_lite::Regex;
use serde_json::Value;

pub(crate) use method::Method;

/// One document.
#[derive(Debug)]
pub(crate) struct Document {
    name: String,
    schemas: Value,
    /// Each pattern of the document that was looked at: making one takes longer than asking it.
    patterns: Mutex<BTreeMap<String, Option<Regex>>>,
    methods: Vec<Method>,
}

/// All documents.
#[derive(Debug)]
pub(crate) struct Api {
    documents: Vec<Document>,
}

/// The documents, read by the first who asks.
///
/// # Errors
/// What a person has to do about it.
pub(crate) fn api() -> Result<&'static Api, String> {
    static API: OnceLock<Result<Api, String>> = OnceLock::new();
    API.get_or_init(Api::load).as_ref().map_err(Clone::clone)
}

impl Api {
    fn load() -> Result<Self, String> {
        let folder = target().join("gcp-emulator");
        let documents = ["compute.v1.json", "monitoring.v3.json"].map(|file| Document::load(&folder.join(file)));
        Ok(Self { documents: documents.into_iter().collect::<Result<_, _>>()? })
    }

    /// The method that a request calls, and its document. Of several, the one whose path says the most.
    pub(crate) fn route(&self, verb: &str, path: &[String]) -> Option<(&Document, &Method)> {
        let all =
            self.documents.iter().flat_map(|document| document.methods.iter().map(move |method| (document, method)));
        all.filter(|(_, method)| method.takes(verb, path)).max_by_key(|(_, method)| method.literals())
    }

    /// The document that describes Compute Engine.
    pub(crate) fn compute(&self) -> &Document {
        &self.documents[0]
    }
}

impl Document {
    fn load(path: &Path) -> Result<Self, String> {
        let text = fs::read(path).map_err(|error| {
            format!("{} cannot be read ({error}): run `cargo xtask emulator`, which downloads it", path.display())
        })?;
        let document: Value = serde_json::from_slice(&text).map_err(|error| {
            format!("{} is no JSON ({error}): delete it and run `cargo xtask emulator`", path.display())
        })?;
        let mut methods = Vec::new();
        method::collect(&document, document["servicePath"].as_str().unwrap_or_default(), &document, &mut methods);
        let name = document["name"].as_str().unwrap_or_default().to_owned();
        Ok(Self { name, schemas: document["schemas"].clone(), patterns: Mutex::default(), methods })
    }

    /// Whether a text is wholly like a pattern.
    fn is_like(&self, pattern: &str, text: &str) -> bool {
        let mut patterns = self.patterns.lock().unwrap_or_else(PoisonError::into_inner);
        if !patterns.contains_key(pattern) {
            patterns.insert(pattern.to_owned(), Regex::new(&format!("^(?:{pattern})$")).ok());
        }
        patterns[pattern].as_ref().is_some_and(|pattern| pattern.is_match(text))
    }

    /// Whether resources of this type have this field.
    pub(crate) fn has_field(&self, schema: &str, field: &str) -> bool {
        self.schemas[schema]["properties"].get(field).is_some()
    }
}

/// Where cargo builds.
fn target() -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace.join("target"), |target| workspace.join(target))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_document_says_what_to_run() {
        let why = Document::load(Path::new("nowhere/compute.v1.json")).unwrap_err();
        assert!(why.starts_with("nowhere/compute.v1.json cannot be read"), "{why}");
        assert!(why.contains("`cargo xtask emulator`"), "{why}");
    }
}
