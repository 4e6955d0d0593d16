//! A proxy in front of moto that supplies what AWS does and moto does not.
//!
//! It passes requests on as they are, with their signatures, to the account of one test, and changes what has to be changed in the
//! answers. Where moto differs from AWS, and what is done about it:
//!
//! | moto | AWS, and this proxy | where |
//! |---|---|---|
//! | forgets client tokens | the same token: the same answer; with other parameters: `IdempotentParameterMismatch` | `tokens` |
//! | instances run at once | `pending` for a while, in a group `Pending`; their status is `initializing` | `machines` |
//! | ended instances are gone at once | `shutting-down` for a while | `machines` |
//! | a group keeps an instance that has stopped | `Unhealthy`, then ended and replaced | `machines` |
//! | lists are always up to date | instances are listed after a while ([`Options::lag`]) | `machines` |
//! | targets are healthy at once | `unused` while nothing forwards to the group, `initial`, `healthy` or `unhealthy`, `draining` | `targets` |
//! | deregistering a target that is not there is an error | it is done | `normal` |
//! | a second group of a name takes the first one's place | `AlreadyExists` | `rules` |
//! | any desired capacity | not above the largest size | `rules` |
//! | templates launch AMIs that were deregistered | `InvalidAMIID.Unavailable` | `rules` |
//! | targets need not run | `InvalidTarget` while they are pending | `rules` |
//! | any weight, any number of groups | 0 to 999, at most five | `rules` |
//! | `RunInstances` starts the least number asked for | the most | `normal` |
//! | user data is not run, the console always says the same | a builder says that it is done, and switches itself off | `builders` |
//! | images are available at once | `pending` for a while | `builders` |
//! | two images of a name | `InvalidAMIName.Duplicate` | `rules` |
//! | `CreateImage` with tags for snapshots fails | they are tagged | `normal` |
//! | no CBOR | `CloudWatch` speaks it | `cbor` |
//! | a denial has a form that no service has | that of the service | `rules` |
//! | large pages, or whole lists | small pages | `pages` |
//! | never too many requests, never a lost answer, always room | on demand | `faults` |
//!
//! Not supplied: activities of a group (moto has none), instances that a group lists as `Terminating` (EC2 lists them as `shutting-down`).

mod builders;
mod call;
mod cbor;
mod faults;
mod machines;
mod normal;
mod pages;
mod rules;
mod server;
mod targets;
mod tokens;
mod xml;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use builders::Builders;
use call::{Answer, Call};
use faults::{Fate, Faults};
use machines::Machines;
use pages::Pages;
use rules::Rules;
use targets::Targets;
use tokens::Tokens;

use super::Moto;

/// How this AWS behaves; as quick as can be, so that a test is not slower than what it tests.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// From the start of an instance until it runs.
    pub(crate) boot: Duration,
    /// From the end of an instance until it is gone.
    pub(crate) end: Duration,
    /// From the registration of a target until it is healthy.
    pub(crate) warm_up: Duration,
    /// From the deregistration of a target until it is out.
    pub(crate) drain: Duration,
    /// From the start of an instance until it is listed.
    pub(crate) lag: Duration,
    /// From the death of an instance until its group replaces it.
    pub(crate) replacement: Duration,
    /// How long every request takes.
    pub(crate) latency: Duration,
    /// How long an image takes to be built on its machine.
    pub(crate) build: Duration,
    /// From the request for an image until it is available.
    pub(crate) image: Duration,
    /// The most things on a page of a list.
    pub(crate) page: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            boot: Duration::from_millis(150),
            end: Duration::from_millis(200),
            warm_up: Duration::from_millis(100),
            drain: Duration::from_millis(200),
            lag: Duration::ZERO,
            replacement: Duration::from_millis(600),
            latency: Duration::ZERO,
            build: Duration::from_millis(200),
            image: Duration::from_millis(200),
            page: 3,
        }
    }
}

/// A proxy to one account, alive as long as the runtime of its test.
#[derive(Clone)]
pub(crate) struct Proxy(Arc<Inner>);

struct Inner {
    address: SocketAddr,
    moto: SocketAddr,
    account: String,
    options: Options,
    /// A proxy that passes everything on, for the test's own looks and changes.
    is_plain: bool,
    state: Mutex<State>,
    /// Requests that depend on what was made before come one after another.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    calls: BTreeMap<String, usize>,
    faults: Faults,
    machines: Machines,
    targets: Targets,
    rules: Rules,
    tokens: Tokens,
    builders: Builders,
    pages: Pages,
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy").field("account", &self.0.account).finish_non_exhaustive()
    }
}

impl Proxy {
    pub(crate) async fn start(moto: &Moto, account: &str, options: Options) -> Self {
        Self::serve(moto, account, options, false).await
    }

    /// One that changes nothing.
    pub(crate) async fn plain(moto: &Moto, account: &str) -> Self {
        Self::serve(moto, account, Options::default(), true).await
    }

    async fn serve(moto: &Moto, account: &str, options: Options, is_plain: bool) -> Self {
        let listener = server::listener().await;
        let proxy = Self(Arc::new(Inner {
            address: listener.local_addr().unwrap(),
            moto: moto.address(),
            account: account.to_owned(),
            options,
            is_plain,
            state: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
        }));
        tokio::spawn(server::run(listener, proxy.clone()));
        proxy
    }

    /// What the clients of the SDK are to be told.
    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.0.address)
    }

    /// How often each action was asked for.
    pub(crate) fn calls(&self) -> BTreeMap<String, usize> {
        self.state().calls.clone()
    }

    /// The next request of one of these actions is done, and its answer lost.
    pub(crate) fn lose_next(&self, actions: &[&str]) {
        self.state().faults.order(actions, Fate::Lost);
    }

    /// The next request of one of these actions is refused, because there were too many.
    pub(crate) fn throttle_next(&self, actions: &[&str]) {
        self.state().faults.order(actions, Fate::Throttled);
    }

    /// The next request of one of these actions is refused with this code.
    pub(crate) fn refuse_next(&self, actions: &[&str], code: &'static str) {
        self.state().faults.order(actions, Fate::Refused(code));
    }

    /// The instance stops by itself. Whether it could.
    pub(crate) async fn kill(&self, instance: &str) -> bool {
        let stop = [("Action", "StopInstances"), ("Version", "2016-11-15"), ("InstanceId.1", instance)];
        let stopped = self.ask("ec2", &stop).await.text().is_some();
        stopped && self.state().machines.kill(instance)
    }

    /// The instance is listed with another image. Whether it is known.
    pub(crate) fn drift(&self, instance: &str) -> bool {
        self.state().machines.drift(instance)
    }

    /// The instance fails its checks, or passes them again. Whether it is known.
    pub(crate) fn set_ill(&self, instance: &str, is_ill: bool) -> bool {
        self.state().machines.set_ill(instance, is_ill)
    }

    /// A request of the test's own to a service that the provider has no client for, not signed: what is answered.
    pub(crate) async fn request(&self, service: &str, params: &[(&str, &str)]) -> String {
        let answer = self.ask(service, params).await;
        answer.text().unwrap_or_else(|| panic!("{params:?}: {answer:?}")).to_owned()
    }

    /// The next image that is built fails in this step.
    pub(crate) fn fail_next_build(&self, step: &str) {
        self.state().builders.fail_next(step);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap()
    }

    /// What becomes of a request; `None` if the client hears nothing.
    async fn answer(&self, call: Call) -> Option<Answer> {
        if self.0.is_plain {
            return Some(self.send(&call).await);
        }
        *self.state().calls.entry(call.action.clone()).or_default() += 1;
        tokio::time::sleep(self.0.options.latency).await;
        let fate = self.state().faults.take(&call.action);
        match fate {
            None => Some(self.done(call).await),
            Some(Fate::Lost) => {
                // It is done whether the client waits or not.
                let _ = self.done(call).await;
                None
            }
            Some(Fate::Throttled) => Some(faults::throttled(&call)),
            Some(Fate::Refused(code)) => Some(faults::refused(&call, code)),
        }
    }

    async fn done(&self, call: Call) -> Answer {
        if let Some(page) = self.state().pages.next(&call) {
            return page;
        }
        self.let_happen().await;
        let is_change = !call.action.starts_with("Describe") && !call.action.starts_with("Get");
        let _turn = if is_change { Some(self.0.turn.lock().await) } else { None };
        let token = tokens::of(&call);
        if let Some(answer) = self.foregone(&call, token.as_ref()) {
            return answer;
        }
        let way = normal::normal(&call, &self.state().targets);
        let answer = match way {
            normal::Way::As(call) => self.send(&call).await,
            normal::Way::AsItIs => self.send(&call).await,
            normal::Way::Done(answer) => answer,
        };
        self.tag_snapshots(&call, &answer).await;
        if let Some(token) = token {
            self.state().tokens.learn(token, &call, &answer);
        }
        self.told(&call, answer)
    }

    /// The answer to a request that moto need not be asked about: it was done already, or is refused.
    fn foregone(&self, call: &Call, token: Option<&(String, String)>) -> Option<Answer> {
        let state = self.state();
        let known = token.and_then(|token| state.tokens.known(token, call, &state.machines));
        known.or_else(|| state.rules.refusal(call, &state.machines, &self.0.options))
    }

    /// Learns from an answer of moto's, and makes one of AWS's of it.
    fn told(&self, call: &Call, answer: Answer) -> Answer {
        if matches!(answer.status.as_u16(), 401 | 403) {
            return rules::denied(call, &answer);
        }
        let Some(text) = answer.text() else { return answer };
        let (options, mut state) = (&self.0.options, self.state());
        let state = &mut *state;
        state.machines.learn(call, text);
        state.targets.learn(call);
        state.rules.learn(call, text);
        state.builders.learn(call, text);
        let edited = match call.action.as_str() {
            "DescribeTargetHealth" => state.targets.edit(call, text, &state.machines, options),
            "GetConsoleOutput" | "DescribeImages" => state.builders.edit(call, text, options),
            _ => state.machines.edit(call, text, options),
        };
        state.pages.cut(call, answer.with_text(edited), options.page)
    }

    /// What AWS does by itself: the health checks of the groups, and machines that switch themselves off.
    async fn let_happen(&self) {
        let (dead, off) = {
            let (options, mut state) = (&self.0.options, self.state());
            (state.machines.replace_dead(options), state.builders.switch_off(options))
        };
        for instance in dead {
            let action = ("Action", "TerminateInstanceInAutoScalingGroup");
            let replace = ("ShouldDecrementDesiredCapacity", "false");
            let call = [action, ("Version", "2011-01-01"), ("InstanceId", &instance), replace];
            self.ask("autoscaling", &call).await;
        }
        for instance in off {
            let stop = [("Action", "StopInstances"), ("Version", "2016-11-15"), ("InstanceId.1", &instance)];
            self.ask("ec2", &stop).await;
        }
    }

    /// The tags of an image's snapshots, which moto does not take with the image.
    async fn tag_snapshots(&self, call: &Call, answer: &Answer) {
        let tags = normal::tags_of_snapshots(call);
        let image = answer.text().and_then(|text| rules::between(text, "<imageId>", "</imageId>"));
        let Some(image) = image.filter(|_| !tags.is_empty()) else { return };
        let look = [("Action", "DescribeImages"), ("Version", "2016-11-15"), ("ImageId.1", image)];
        let found = self.ask("ec2", &look).await;
        let snapshot = found.text().and_then(|text| rules::between(text, "<snapshotId>", "</snapshotId>"));
        let Some(snapshot) = snapshot else { return };
        let mut request = vec![("Action", "CreateTags"), ("Version", "2016-11-15"), ("ResourceId.1", snapshot)];
        request.extend(tags.iter().map(|(key, value)| (key.as_str(), value.as_str())));
        self.ask("ec2", &request).await;
    }
}
