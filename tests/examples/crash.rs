//! The quickstart is killed at random moments and started again, and it ends as it promises.

#[path = "../../examples/support/mod.rs"]
mod support;

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout};
use tokio::time::timeout;

use super::{LIMIT, NOTHING_FAILED, assert_nothing_is_left, start, text};
use support::counts::Failure;
use support::load::{Load, LoadOptions};

const KILLS: usize = 50;
const CONNECTIONS: u32 = 4;
/// The release that answers some of its requests with 500.
const BAD: &str = "5";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_quickstart_goes_on_after_fifty_kills_at_random_moments() {
    let root = tempfile::tempdir().unwrap();
    let (mut kills, mut tours) = (0, 0);
    while kills < KILLS {
        let directory = root.path().join(format!("tour-{tours}"));
        std::fs::create_dir(&directory).unwrap();
        while kills < KILLS && !Life::begin(&directory).ends_within(random_time()).await {
            kills += 1;
        }
        Life::begin(&directory).runs_to_its_end().await;
        std::fs::remove_dir_all(&directory).unwrap();
        assert_nothing_is_left("quickstart", root.path());
        tours += 1;
    }
    // Else it was always killed too early, or too late.
    assert!((2..KILLS).contains(&tours), "{kills} kills in {tours} tours");
}

/// One process of a tour.
struct Life {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    printed: Vec<String>,
}

impl Life {
    fn begin(directory: &Path) -> Self {
        let (connections, place) = (CONNECTIONS.to_string(), directory.to_str().unwrap());
        let mut child = start("quickstart", &["3", &connections, place], directory);
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines, printed: Vec::new() }
    }

    /// Whether the process has ended, and well, before it was killed. As long as the route serves, requests must be answered.
    async fn ends_within(mut self, time: Duration) -> bool {
        let (mut load, mut address) = (None, None);
        let living = async {
            while let Some(line) = self.lines.next_line().await.unwrap() {
                address = address.or_else(|| address_in(&line));
                // The first rollout that is under a load of its own: the route serves.
                if load.is_none() && line.contains(": release ") && !line.starts_with("first install") {
                    load = address.map(|to| Load::start(to, LoadOptions { connections: CONNECTIONS, ..slow() }));
                }
                self.printed.push(line);
            }
        };
        let is_over = timeout(time, living).await.is_ok();
        // A load that goes on for a moment after the end, or the kill, would count what nobody promised.
        match load {
            Some(load) if !is_over => {
                let counts = load.stop().await;
                let allowed = |failure: &Failure| *failure == Failure::Status(500) && counts.release(BAD).failed > 0;
                let failed: u64 = counts.failures.iter().filter(|(kind, _)| !allowed(kind)).map(|(_, n)| n).sum();
                let lost = if self.has_said("kill -9: ") { 2 * u64::from(CONNECTIONS) } else { 0 };
                assert!(failed <= lost, "{counts}\n{}", self.printed.join("\n"));
            }
            _ => {}
        }
        if is_over {
            self.ends_well().await;
        } else {
            self.child.kill().await.unwrap();
        }
        is_over
    }

    async fn runs_to_its_end(mut self) {
        let rest = async {
            while let Some(line) = self.lines.next_line().await.unwrap() {
                self.printed.push(line);
            }
        };
        let ended = timeout(LIMIT, rest).await;
        assert!(ended.is_ok(), "no end within {LIMIT:?}:\n{}", self.printed.join("\n"));
        self.ends_well().await;
    }

    async fn ends_well(self) {
        let (printed, good) = (self.printed.join("\n"), self.has_said(NOTHING_FAILED));
        let output = self.child.wait_with_output().await.unwrap();
        assert!(good && output.status.success(), "{}\n{printed}\n{}", output.status, text(&output));
    }

    fn has_said(&self, text: &str) -> bool {
        self.printed.iter().any(|line| line.starts_with(text))
    }
}

fn slow() -> LoadOptions {
    LoadOptions::per_second(100)
}

fn address_in(line: &str) -> Option<SocketAddr> {
    line.split_once("http://")?.1.split(',').next()?.parse().ok()
}

/// Up to five seconds: from before the first instance is there to the middle of the longest rollouts.
fn random_time() -> Duration {
    Duration::from_millis(getrandom::u64().unwrap() % 5_000)
}
