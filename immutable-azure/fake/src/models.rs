//! What is said, held to the vendor's own models: those of its clients for Python.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::json;

use crate::Fake;

/// Reads exchanges, and says what of them the models do not understand.
const SCRIPT: &str = include_str!("models.py");

impl Fake {
    /// What the vendor's models do not understand of what was said so far: fields that they do not know, would lose or
    /// miss, in requests that were accepted and in answers. Takes some seconds, most of them to load the models.
    ///
    /// # Panics
    /// If the models are not there (`cargo xtask emulator` installs them) or cannot be asked.
    pub fn unlike_models(&self) -> Vec<String> {
        let exchanges = self.exchanges();
        // Most of what is said is said many times.
        let distinct: BTreeSet<String> = exchanges
            .iter()
            .map(|one| json!([one.operation, one.status, one.request, one.answer]).to_string())
            .collect();
        let list = format!("[{}]", distinct.into_iter().collect::<Vec<_>>().join(","));
        let python = target().join("azure-emulator/bin/python");
        assert!(python.exists(), "there is no {}: run cargo xtask emulator", python.display());
        let mut command = Command::new(python);
        let asked = command.args(["-c", SCRIPT]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut asked = asked.spawn().expect("Python runs");
        // All of it is read before anything is written.
        asked.stdin.take().expect("a pipe").write_all(list.as_bytes()).expect("Python reads");
        let output = asked.wait_with_output().expect("Python ends");
        assert!(output.status.success(), "the models: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("a JSON list of texts")
    }
}

/// Where cargo builds.
fn target() -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace.join("target"), |target| workspace.join(target))
}
