//! The workspace's own commands: `cargo xtask test` is all that CI runs.

mod emulator;

use std::num::NonZero;
use std::process::{Command, ExitCode};

const USAGE: &str =
    "usage: cargo xtask test                             formatting, lints, documentation, all tests, the examples
       cargo xtask emulator                         what single tests of immutable-aws, -azure, -gcp and -prometheus need, under target/
       cargo xtask plots                            the plots and the table of docs/canary-judge.md, anew
       cargo xtask simulate --seeds N [--from N]    that many random rollouts on a cloud that fails
       cargo xtask simulate --seed N                one of them
       cargo xtask simulate --crashes               drivers killed at every pair of points";

/// The steps of `test`: what each shows, and its arguments to cargo.
const STEPS: &[(&str, &[&str])] = &[
    ("formatting", &["fmt", "--all", "--check"]),
    ("lints", &["clippy", "--workspace", "--all-targets", "--all-features", "--", "-D", "warnings"]),
    // With the examples, so that the features are those of the lints and tests: the SDKs are not built again.
    ("documentation", &["doc", "--workspace", "--all-features", "--no-deps", "--lib", "--bin", "xtask", "--examples"]),
    // The examples are built with the tests and run by them.
    ("tests", &["test", "--no-fail-fast", "--workspace", "--all-features"]),
];

#[allow(clippy::print_stdout, reason = "it talks to a person")]
fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some(("simulate", arguments)) = arguments.split_first().map(|(first, rest)| (first.as_str(), rest)) {
        return simulate(arguments);
    }
    if arguments == ["emulator"] {
        return emulator();
    }
    if arguments == ["plots"] {
        return plots();
    }
    if arguments != ["test"] {
        println!("{USAGE}");
        return ExitCode::FAILURE;
    }
    for (name, arguments) in STEPS {
        if *name == "tests" && emulator() == ExitCode::FAILURE {
            return ExitCode::FAILURE;
        }
        println!("== {name}: cargo {}", arguments.join(" "));
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(cargo);
        // Everything is built once, and what would make the next build faster takes as much room on the disk as all of that.
        command.args(*arguments).env("RUSTDOCFLAGS", "-D warnings").env("CARGO_INCREMENTAL", "0");
        // Rollouts on the fakes wait for timers more than they compute, so that twice as many at once are done sooner.
        if std::env::var_os("RUST_TEST_THREADS").is_none() {
            let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
            command.env("RUST_TEST_THREADS", (2 * cores).to_string());
        }
        let status = command.status();
        if !status.is_ok_and(|status| status.success()) {
            println!("== {name} failed");
            return ExitCode::FAILURE;
        }
    }
    println!("== all is well");
    ExitCode::SUCCESS
}

/// Installs what the tests of the providers talk to.
#[allow(clippy::print_stdout, reason = "it talks to a person")]
fn emulator() -> ExitCode {
    println!("== emulators");
    if let Err(error) = emulator::install() {
        println!("== emulators: {error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// Writes what the test of the page about the judge otherwise holds it to.
fn plots() -> ExitCode {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let test = ["test", "--package", "immutable-examples", "--test", "judge_page"];
    let status = Command::new(cargo).args(test).env("IMMUTABLE_WRITE_PLOTS", "1").status();
    if status.is_ok_and(|status| status.success()) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs the simulation of `immutable-core`; what it is told comes as variables of its environment.
#[allow(clippy::print_stdout, reason = "it talks to a person")]
fn simulate(arguments: &[String]) -> ExitCode {
    let (mut test, mut variables) = ("every_seed", Vec::new());
    let mut arguments = arguments.iter();
    while let Some(option) = arguments.next() {
        let variable = match option.as_str() {
            "--seed" => "IMMUTABLE_SEED",
            "--seeds" => "IMMUTABLE_SEEDS",
            "--from" => "IMMUTABLE_FROM",
            "--crashes" => {
                test = "a_driver_killed";
                variables.push(("IMMUTABLE_FULL", "1"));
                continue;
            }
            _ => {
                println!("{USAGE}");
                return ExitCode::FAILURE;
            }
        };
        let Some(value) = arguments.next().filter(|value| value.parse::<u64>().is_ok()) else {
            println!("{option} wants a number\n{USAGE}");
            return ExitCode::FAILURE;
        };
        variables.push((variable, value.as_str()));
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let simulation =
        ["test", "--release", "-p", "immutable-core", "--features", "testkit", "--test", "simulation", test];
    let status = Command::new(cargo).args(simulation).args(["--", "--nocapture"]).envs(variables).status();
    if status.is_ok_and(|status| status.success()) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
