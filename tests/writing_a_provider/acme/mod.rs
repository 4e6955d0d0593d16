//! A cloud that does not exist, as its SDK would look: machines in groups, templates, pools of a balancer. It has the habits that
//! a provider has to deal with: requests that are refused by a code or never answered, pages, limits of batches, tags, things
//! that take time, and an API key.

mod machines;
mod pools;
mod templates;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use immutable_core::testkit::VirtualClock;
use jiff::{SignedDuration, Timestamp};
use tokio::time::sleep;

pub(crate) use machines::{Machine, MachineState};
pub(crate) use pools::{Pool, Target, TargetState};
pub(crate) use templates::Template;

pub(crate) type Tags = BTreeMap<String, String>;
pub(crate) type Answer<T> = Result<T, Trouble>;

/// How long a request is on its way, there and back.
const WAY: Duration = Duration::from_millis(5);
/// How many things one page of a list has at most.
const PAGE: usize = 10;

/// What the cloud says instead of an answer.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// The connection broke before there was an answer.
    NoAnswer,
    /// It was not done.
    Refused { code: &'static str, message: String, retry_after: Option<Duration> },
}

fn refused<T>(code: &'static str, message: impl Into<String>) -> Answer<T> {
    Err(Trouble::Refused { code, message: message.into(), retry_after: None })
}

/// One page of a list, and the way to the next.
#[derive(Debug)]
pub(crate) struct Page<T> {
    pub(crate) items: Vec<T>,
    pub(crate) next: Option<String>,
}

/// A secret, as SDKs keep it.
#[derive(Clone)]
pub(crate) struct ApiKey(pub(crate) String);

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(..)")
    }
}

/// What goes wrong with the next request of a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mishap {
    Throttled,
    AnswerLost,
}

/// A client of the cloud.
#[derive(Debug, Clone)]
pub(crate) struct Acme {
    key: ApiKey,
    clock: VirtualClock,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    groups: BTreeMap<String, Tags>,
    machines: Vec<Machine>,
    templates: BTreeMap<String, Template>,
    pools: BTreeMap<String, Pool>,
    requests: Vec<pools::Request>,
    serial: u64,
    mishaps: Vec<(&'static str, Mishap)>,
}

impl Acme {
    pub(crate) fn new(key: ApiKey) -> Self {
        Self { key, clock: VirtualClock::new(), state: Arc::default() }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(crate) fn clock(&self) -> VirtualClock {
        self.clock
    }

    /// Lets the next request of a kind go wrong.
    pub(crate) fn plan(&self, request: &'static str, mishap: Mishap) {
        self.with(|state| state.mishaps.push((request, mishap)));
    }

    fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state.lock().unwrap();
        state.settle(self.clock.now());
        work(&mut state)
    }

    /// A request on its way there and back.
    async fn request<T>(&self, name: &'static str, work: impl FnOnce(&mut State, Timestamp) -> Answer<T>) -> Answer<T> {
        assert!(!self.key.0.is_empty(), "a client signs its requests");
        sleep(WAY).await;
        let now = self.clock.now();
        let (mishap, answer) = self.with(|state| {
            let planned = state.mishaps.iter().position(|(request, _)| *request == name);
            let mishap = planned.map(|index| state.mishaps.remove(index).1);
            if mishap == Some(Mishap::Throttled) {
                let (message, retry_after) = ("slow down".to_owned(), Some(Duration::from_secs(2)));
                return (mishap, Err(Trouble::Refused { code: "TooManyRequests", message, retry_after }));
            }
            (mishap, work(state, now))
        });
        sleep(WAY).await;
        if mishap == Some(Mishap::AnswerLost) { Err(Trouble::NoAnswer) } else { answer }
    }
}

impl State {
    /// What has changed by itself up to now.
    fn settle(&mut self, now: Timestamp) {
        self.settle_machines(now);
        self.settle_pools(now);
    }

    fn number(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }
}

/// Whether so much time has passed since then.
fn is_over(then: Timestamp, time: Duration, now: Timestamp) -> bool {
    SignedDuration::try_from(time).is_ok_and(|time| now.duration_since(then) >= time)
}

/// One page of all.
fn page<T>(all: impl IntoIterator<Item = T>, from: Option<&str>) -> Answer<Page<T>> {
    let Ok(start) = from.unwrap_or("0").parse::<usize>() else { return refused("BadRequest", "no such page") };
    let mut rest = all.into_iter().skip(start);
    let items: Vec<T> = rest.by_ref().take(PAGE).collect();
    let next = rest.next().map(|_| (start + PAGE).to_string());
    Ok(Page { items, next })
}

fn has_tag(tags: &Tags, (key, value): (&str, &str)) -> bool {
    tags.get(key).is_some_and(|found| found == value)
}
