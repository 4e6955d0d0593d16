//! A journal file of any lines, each with the checksum that it should have: what lies behind the checksum is reached, too.

#![no_main]

use immutable_core::model::Fingerprint;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|lines: &str| {
    let sealed = |line: &str| {
        let sum = Fingerprint::of(line).to_string();
        format!("{{\"v\":1,\"sum\":\"{}\",{line}\n", &sum[..16])
    };
    let file: String = lines.lines().map(sealed).collect();
    let directory = tempfile::tempdir().expect("a temporary directory");
    immutable_fuzz::journal(directory.path(), file.as_bytes());
});
