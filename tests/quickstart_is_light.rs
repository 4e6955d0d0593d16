//! What a first-time user has to compile: the quick start without any cloud SDK or Prometheus, and the core without TLS.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::process::Command;

#[test]
fn the_quick_start_needs_no_cloud_sdk_and_no_prometheus() {
    let packages = packages(&["-e", "normal,dev", "-p", "immutable-examples"]);
    check(&packages, "immutable-local", &["aws-", "google-cloud-", "azure_", "prometheus-", "reqwest"], |found| {
        format!(
            "the quick start would compile {found}: make the provider an optional dependency of the root package, \
             behind a feature that is off by default (cargo tree -i tells who wants it)"
        )
    });
}

#[test]
fn the_core_has_no_tls() {
    let packages = packages(&["-e", "normal", "-p", "immutable-core", "--no-default-features"]);
    check(&packages, "tokio", &["rustls", "native-tls", "openssl"], |found| {
        format!(
            "immutable-core would bring {found} to everybody: TLS belongs into the provider that talks to a cloud \
             (cargo tree -i tells who wants it)"
        )
    });
}

/// None of the packages has a name that begins like this; `present` is there, so that the list is a list.
fn check(packages: &BTreeSet<String>, present: &str, banned: &[&str], problem: impl Fn(&str) -> String) {
    assert!(packages.contains(present), "{present} is not among {packages:?}");
    let found: Vec<_> =
        packages.iter().filter(|name| banned.iter().any(|prefix| name.starts_with(prefix))).cloned().collect();
    assert!(found.is_empty(), "{}", problem(&found.join(", ")));
}

/// The names of all packages in a tree of dependencies, for this machine and with default features.
fn packages(arguments: &[&str]) -> BTreeSet<String> {
    let cargo = std::env::var_os("CARGO").expect("cargo test sets CARGO");
    let mut command = Command::new(cargo);
    command.args(["tree", "--offline", "--prefix", "none", "--format", "{p}"]).args(arguments);
    let output = command.current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    assert!(output.status.success(), "cargo tree failed: {}", String::from_utf8_lossy(&output.stderr));
    let listing = String::from_utf8(output.stdout).unwrap();
    listing
        .lines()
        .filter_map(|line| line.split(' ').next())
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect()
}
