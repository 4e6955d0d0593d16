//! Controllers in processes of their own share a journal, in a directory and in S3: one is refused while another lives, one is
//! frozen and fenced, one is killed. A test without a harness, because its program is also the controller's.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr, reason = "a test and a program")]

#[path = "../loopback/s3.rs"]
#[expect(dead_code, reason = "nothing fails here but processes")]
mod s3;

use std::env;
use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, ExitCode};
use std::sync::Arc;
use std::time::Duration;

use immutable_core::journal::store::{DirectoryStore, RecordStore};
use immutable_core::journal::{Entry, Journal, JournalError, StoreJournal};
use jiff::Timestamp;
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use s3::S3;
use serde_json::json;
use tokio::time::{Instant, sleep, timeout};

const LEASE: Duration = Duration::from_secs(3);
/// Far more than anything here takes.
const LONG: Duration = Duration::from_mins(1);

const HELD: u8 = 3;
const FENCED: u8 = 4;
const FAILED: u8 = 5;

#[tokio::main]
async fn main() -> ExitCode {
    if let Ok(place) = env::var("CONTROLLER_PLACE") {
        return controller(&place, &env::var("CONTROLLER_OWNER").unwrap()).await;
    }
    let (s3, directory) = (S3::start().await, tempfile::tempdir().unwrap());
    tokio::join!(check(&s3.endpoint), check(directory.path().to_str().unwrap()));
    ExitCode::SUCCESS
}

/// Takes the journal over and writes until it may not, or is ended.
async fn controller(place: &str, owner: &str) -> ExitCode {
    let run = async {
        let journal = journal(place);
        let (lease, entries) = journal.take_over(&"web".parse().unwrap(), &owner.parse().unwrap()).await?;
        for seq in entries.len() as u64 + 1.. {
            journal.check(&lease).await?;
            journal.append(&lease, seq, Timestamp::UNIX_EPOCH, &json!({ "by": owner })).await?;
            sleep(LEASE / 100).await;
        }
        Ok(())
    };
    match run.await {
        Err(JournalError::Held { .. }) => HELD.into(),
        Err(JournalError::Fenced { .. } | JournalError::LeaseUnusable { .. }) => FENCED.into(),
        other => {
            eprintln!("{owner} at {place}: {other:?}");
            FAILED.into()
        }
    }
}

fn journal(place: &str) -> StoreJournal {
    let store: Arc<dyn RecordStore> = match place.strip_prefix("http") {
        Some(_) => Arc::new(s3::records(place)),
        None => Arc::new(DirectoryStore::open(place).unwrap()),
    };
    StoreJournal::new(store).with_lease_time(LEASE)
}

async fn check(place: &str) {
    let mut first = Controller::start(place, "first");
    entries(place, "first").await;

    let mut second = Controller::start(place, "second");
    assert_eq!(second.ended().await, HELD, "{place}: it took the journal of a controller that lives");

    first.freeze(place).await;
    let began = Instant::now();
    let mut third = Controller::start(place, "third");
    entries(place, "third").await;
    let after_freeze = began.elapsed();
    first.signal(Signal::CONT);
    assert_eq!(first.ended().await, FENCED, "{place}: it goes on although it was taken over");

    third.signal(Signal::KILL);
    third.child.wait().unwrap();
    let began = Instant::now();
    let (service, owner) = ("web".parse().unwrap(), "fourth".parse().unwrap());
    let (lease, found) = journal(place).take_over(&service, &owner).await.unwrap();
    let after_kill = began.elapsed();
    assert_eq!(lease.epoch(), 3);
    for waited in [after_freeze, after_kill] {
        assert!((LEASE..2 * LEASE).contains(&waited), "{place}: it waited {waited:?} for a lease of {LEASE:?}");
    }
    for (entry, seq) in found.iter().zip(1..) {
        let by = if entry.epoch == 1 { "first" } else { "third" };
        assert_eq!((entry.seq, &entry.body), (seq, &json!({ "by": by })), "{place}");
    }
    assert!(found.is_sorted_by_key(|entry| entry.epoch), "{place}: a fenced controller wrote");
    let count = found.len();
    println!("{place}: {count} entries, taken over {after_freeze:?} after a freeze, {after_kill:?} after a kill");
}

/// All entries, once there are some of this owner.
async fn entries(place: &str, owner: &str) -> Vec<Entry> {
    let look = async {
        loop {
            let found = journal(place).list(&"web".parse().unwrap()).await.unwrap();
            if found.last().is_some_and(|entry| entry.body == json!({ "by": owner })) {
                return found;
            }
            sleep(LEASE / 100).await;
        }
    };
    timeout(LONG, look).await.unwrap_or_else(|_| panic!("{owner} has written nothing to {place}"))
}

/// A process of ours, until it is dropped.
struct Controller {
    child: Child,
}

impl Controller {
    fn start(place: &str, owner: &str) -> Self {
        let mut command = Command::new(env::current_exe().unwrap());
        command.env("CONTROLLER_PLACE", place).env("CONTROLLER_OWNER", owner);
        Self { child: command.spawn().unwrap() }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Stops it, but not while it holds the lock of a directory, where it would hold up everybody.
    async fn freeze(&self, place: &str) {
        let pid = Pid::from_child(&self.child);
        loop {
            self.signal(Signal::STOP);
            waitpid(Some(pid), WaitOptions::UNTRACED).unwrap();
            if File::open(Path::new(place).join("web/.lock")).map_or(true, |lock| lock.try_lock().is_ok()) {
                return;
            }
            self.signal(Signal::CONT);
            sleep(LEASE / 100).await;
        }
    }

    /// The code with which it ends by itself.
    async fn ended(&mut self) -> u8 {
        let look = async {
            loop {
                if let Some(status) = self.child.try_wait().unwrap() {
                    return status.code().unwrap().try_into().unwrap();
                }
                sleep(LEASE / 100).await;
            }
        };
        timeout(LONG, look).await.expect("it goes on and on")
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        // Either may fail when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
