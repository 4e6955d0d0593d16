//! The server: a process that ends with the test, whichever way that ends.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::until;

/// Runs a program until nobody holds the other end of the standard input any more.
const GUARD: &str = r#""$@" </dev/null & read nothing; kill -9 $!; wait"#;

/// A process of Prometheus that scrapes an exporter five times a second.
#[derive(Debug)]
pub(crate) struct Prometheus {
    pub(crate) url: String,
    process: Child,
    directory: TempDir,
}

impl Prometheus {
    pub(crate) async fn start(exporter: SocketAddr) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let place = |name: &str| directory.path().join(name);
        let scrape = format!("job_name: test, static_configs: [{{targets: ['{exporter}']}}]");
        let global = "scrape_interval: 200ms, scrape_timeout: 200ms";
        let config = format!("global: {{{global}}}\nscrape_configs: [{{{scrape}}}]\n");
        fs::write(place("config.yml"), config).unwrap();
        let log = fs::File::create(place("log")).unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", GUARD, "sh"]).arg(binary()).arg("--web.listen-address=127.0.0.1:0");
        command.arg(format!("--config.file={}", place("config.yml").display()));
        command.arg(format!("--storage.tsdb.path={}", place("data").display()));
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log);
        let process = command.spawn().unwrap();
        let mut server = Self { url: String::new(), process, directory };
        let address = until("Prometheus listens: run cargo xtask emulator", async || server.address()).await;
        server.url = format!("http://{address}");
        let ready = format!("{}/-/ready", server.url);
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let is_ready = async || http.get(&ready).send().await.is_ok_and(|answer| answer.status().is_success());
        until("Prometheus is ready", async || is_ready().await.then_some(())).await;
        server
    }

    /// Where it listens, as it writes in its log.
    fn address(&self) -> Option<SocketAddr> {
        let log = fs::read_to_string(self.directory.path().join("log")).ok()?;
        let line = log.lines().find(|line| line.contains("\"Listening on\""))?;
        line.split_once("address=")?.1.split_whitespace().next()?.parse().ok()
    }

    /// Ends it.
    pub(crate) fn stop(&mut self) {
        drop(self.process.stdin.take());
        self.process.wait().unwrap();
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}

/// What `cargo xtask emulator` has fetched; else what is on the `PATH`.
fn binary() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let fetched = target.join("prometheus/usr/bin/prometheus");
    if fetched.exists() { fetched } else { "prometheus".into() }
}
