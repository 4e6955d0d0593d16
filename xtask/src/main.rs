//! The workspace's own commands: `cargo xtask test` is all that CI runs.

use std::process::{Command, ExitCode};

const USAGE: &str = "usage: cargo xtask test    formatting, lints, documentation, all tests, the examples";

/// The steps of `test`: what each shows, and its arguments to cargo.
const STEPS: &[(&str, &[&str])] = &[
    ("formatting", &["fmt", "--all", "--check"]),
    ("lints", &["clippy", "--workspace", "--all-targets", "--all-features", "--", "-D", "warnings"]),
    ("documentation", &["doc", "--workspace", "--all-features", "--no-deps"]),
    // The examples are built with the tests and run by them.
    ("tests", &["test", "--no-fail-fast", "--workspace", "--all-features"]),
];

#[allow(clippy::print_stdout, reason = "it talks to a person")]
fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments != ["test"] {
        println!("{USAGE}");
        return ExitCode::FAILURE;
    }
    for (name, arguments) in STEPS {
        println!("== {name}: cargo {}", arguments.join(" "));
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let status = Command::new(cargo).args(*arguments).env("RUSTDOCFLAGS", "-D warnings").status();
        if !status.is_ok_and(|status| status.success()) {
            println!("== {name} failed");
            return ExitCode::FAILURE;
        }
    }
    println!("== all is well");
    ExitCode::SUCCESS
}
