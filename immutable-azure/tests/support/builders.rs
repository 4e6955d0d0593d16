//! The gallery, and what run commands do on the machines that images are built on.

use azure_core::base64;
use immutable_azure_fake::{Fake, Ran};
use immutable_core::model::Fingerprint;
use serde_json::{Value, json};

pub(crate) const GALLERY: &str = "Microsoft.Compute/galleries/golden";

/// A gallery, in a world where every build is done and every builder can be sealed.
pub(crate) fn place(fake: &Fake) {
    fake.put(GALLERY, json!({}));
    fake.on_run_command(|machine, script| Some(well(machine, script)));
}

/// A build is done; a builder that is to seal itself is off.
pub(crate) fn well(machine: &Value, script: &str) -> Ran {
    if seals(script) {
        return Ran { off: true, ..Ran::default() };
    }
    says(&format!("immutable {} done {}", nonce(machine), Fingerprint::of("content")))
}

/// Whether a script is the one that makes a machine into a pattern.
pub(crate) fn seals(script: &str) -> bool {
    assert!(script.contains("deprovision") || script.contains("/run/immutable-said"), "{script}");
    script.contains("deprovision")
}

/// A build says this, among other things.
pub(crate) fn says(line: &str) -> Ran {
    Ran { output: format!("noise\n{line}\n{line}\n"), ..Ran::default() }
}

/// The word by which what a builder says is known.
pub(crate) fn nonce(machine: &Value) -> String {
    let data = base64::decode(machine["properties"]["osProfile"]["customData"].as_str().unwrap()).unwrap();
    let data = String::from_utf8(data).unwrap();
    data.lines().find_map(|line| line.strip_prefix("# immutable-nonce: ")).unwrap().to_owned()
}
