//! Each example runs to its good end, says what it is there to say, and leaves neither processes nor files behind.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod crash;
#[path = "../processes/mod.rs"]
mod processes;

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use processes::example;

/// Many times what each of them takes on an idle machine.
const LIMIT: Duration = Duration::from_mins(5);

const NOTHING_FAILED: &str = "No request failed that should not have.";

#[tokio::test]
async fn quickstart_shows_good_and_bad_rollouts() {
    let expected = [
        "first install: release 1",
        "at least 3 serving, at most 6 instances at once",
        "at least 3 serving, at most 4 instances at once",
        "goes back: check failed: errors is",
        "goes back: no progress in time",
        "rollout        outcome ",
        "blue-green     promoted ",
        "rolling        promoted ",
        "canary         promoted ",
        "bad canary     rolled back ",
        "never healthy  rolled back ",
        "kill -9        promoted ",
        NOTHING_FAILED,
    ];
    check("quickstart", &["3", "4"], &expected).await;
}

#[tokio::test]
async fn blue_green_switches_and_goes_back() {
    let expected =
        ["blue-green of web to release", "stage 2:  switch", "ended: promoted", "started roll-back", NOTHING_FAILED];
    check("blue_green", &[], &expected).await;
}

#[tokio::test]
async fn rolling_replaces_one_by_one_and_gives_up_on_an_ill_release() {
    let expected = ["started rolling", "ended: promoted", "503", "ended: rolled back", NOTHING_FAILED];
    check("rolling", &[], &expected).await;
}

#[tokio::test]
async fn canary_is_judged_by_its_errors() {
    let expected = ["check errors at most 0.02", "ended: promoted", "goes back: check failed", NOTHING_FAILED];
    check("canary", &[], &expected).await;
}

#[tokio::test]
async fn pause_and_approve_says_what_it_waits_for() {
    let expected = [
        "paused: stage 1 of 3 (25 %)\n  waits for somebody to resume the rollout",
        "resumed: stage 1 of 3 (25 %)\n  waits for somebody to approve more-traffic",
        "promoted",
        NOTHING_FAILED,
    ];
    check("pause_and_approve", &[], &expected).await;
}

#[tokio::test]
async fn custom_provider_rolls_without_any_process() {
    check("custom_provider", &[], &["release 1: promoted", "release 2: promoted", NOTHING_FAILED]).await;
}

#[cfg(feature = "aws")]
#[tokio::test]
async fn aws_blue_green_replaces_one_ami_by_the_next() {
    let expected = ["blue-green of web to release", "stage 2:  switch", "has all of the traffic"];
    check("aws_blue_green", &["--emulator"], &expected).await;
}

#[cfg(feature = "aws")]
#[tokio::test]
async fn aws_build_image_builds_a_recipe_once() {
    check("aws_build_image", &["--emulator"], &["is the image of 1.0.0", "the same recipe again is ami-"]).await;
}

#[cfg(feature = "azure")]
#[tokio::test]
async fn azure_rolling_replaces_one_image_by_the_next() {
    let expected =
        ["rolling of web to release", "all members are of /subscriptions/", "versions/1.0.0", "versions/2.0.0"];
    check("azure_rolling", &["--emulator"], &expected).await;
}

#[cfg(feature = "azure")]
#[tokio::test]
async fn azure_build_image_builds_a_recipe_once() {
    let expected = ["is the image of 1.0.0", "the same recipe again is /subscriptions/"];
    check("azure_build_image", &["--emulator"], &expected).await;
}

#[cfg(feature = "gcp")]
#[tokio::test]
async fn gcp_canary_replaces_one_image_by_the_next() {
    let expected = ["canary of web to release", "web-1 has all of the traffic", "web-2 has all of the traffic"];
    check("gcp_canary", &["--emulator"], &expected).await;
}

#[cfg(feature = "gcp")]
#[tokio::test]
async fn gcp_build_image_builds_a_recipe_once() {
    let expected = ["is the image of 1.0.0", "the same recipe again is projects/"];
    check("gcp_build_image", &["--emulator"], &expected).await;
}

#[tokio::test]
async fn mock_providers_tests_a_deploy_step() {
    let expected = ["refused: desired: 3 instances", "1.0 needs a person", "2.0 was rolled back", "All as expected."];
    check("mock_providers", &[], &expected).await;
}

#[tokio::test]
async fn an_example_that_is_stopped_cleans_up_too() {
    for signal in [Signal::INT, Signal::TERM] {
        let root = tempfile::tempdir().unwrap();
        let mut child = start("quickstart", &[], root.path());
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // In the middle of a rollout, with instances of two releases.
        while !lines.next_line().await.unwrap().expect("it goes on").contains("register") {}
        send(&child, signal);
        let status = timeout(LIMIT, child.wait()).await.expect("it ends soon").unwrap();
        assert_eq!(status.code(), Some(1), "after {signal:?}");
        assert_nothing_is_left("quickstart", root.path());
    }
}

#[tokio::test]
async fn an_example_refuses_what_it_does_not_understand() {
    let root = tempfile::tempdir().unwrap();
    let output = start("quickstart", &["none"], root.path()).wait_with_output().await.unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(text(&output).trim(), "PROBLEM: instances: \"none\" is not a number above zero");
}

/// Runs an example to its end: it succeeds, prints these texts in this order, and leaves nothing behind.
async fn check(name: &str, arguments: &[&str], expected: &[&str]) {
    let root = tempfile::tempdir().unwrap();
    let child = start(name, arguments, root.path());
    let stop = Pid::from_raw(child.id().unwrap().cast_signed()).unwrap();
    let mut output = Box::pin(child.wait_with_output());
    let Ok(output) = timeout(LIMIT, &mut output).await else {
        // Politely, so that it ends its instances.
        kill_process(stop, Signal::TERM).unwrap();
        panic!("{name} did not end within {LIMIT:?}:\n{}", text(&output.await.unwrap()));
    };
    let output = output.unwrap();
    let printed = text(&output);
    assert!(output.status.success(), "{name} ended with {}:\n{printed}", output.status);
    let mut rest = printed.as_str();
    for text in expected {
        let Some((_, after)) = rest.split_once(text) else {
            panic!("{name} should say {text:?} after what it should say before:\n{printed}")
        };
        rest = after;
    }
    assert_nothing_is_left(name, root.path());
}

/// Starts an example that keeps its files, and so its images and the programs of its instances, under `root`.
fn start(name: &str, arguments: &[&str], root: &Path) -> Child {
    let mut command = Command::new(example(name));
    command.args(arguments).env("TMPDIR", root).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.kill_on_drop(true).spawn().unwrap()
}

fn assert_nothing_is_left(name: &str, root: &Path) {
    let listing = std::process::Command::new("ps").args(["-A", "-ww", "-o", "pid=,args="]).output().unwrap();
    let listing = text(&listing);
    assert!(listing.contains("examples"), "ps lists this very test:\n{listing}");
    let left: Vec<_> = listing.lines().filter(|line| line.contains(root.to_str().unwrap())).collect();
    assert_eq!(left, Vec::<&str>::new(), "processes that {name} has left");
    let files: Vec<_> = std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files, Vec::<PathBuf>::new(), "what {name} has left");
}

fn send(child: &Child, signal: Signal) {
    kill_process(Pid::from_raw(child.id().unwrap().cast_signed()).unwrap(), signal).unwrap();
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}
