//! A running fake, as tests see it.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;
use std::{io, mem, thread};

use serde_json::Value;
use tokio::sync::oneshot;

use crate::discovery;
use crate::failure::{Failure, OperationError};
use crate::options::Options;
use crate::server::{self, Shared, lock};
use crate::world::World;

/// A running fake of Compute Engine and Cloud Monitoring. It ends when it is dropped.
///
/// # Panics
/// When dropped, if a request or an answer was not as the Discovery documents say: [`Fake::violations`].
pub struct Fake {
    world: Shared,
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Fake {
    /// Starts a fake on a free port of the loopback.
    ///
    /// # Panics
    /// If the Discovery documents are not there (`cargo xtask emulator` downloads them), or there is no port.
    pub fn start(options: Options) -> Self {
        Self::serve(options, 0).unwrap_or_else(|why| panic!("no fake of Google Cloud: {why}"))
    }

    /// Starts a fake on a port of the loopback; 0: any that is free.
    ///
    /// # Errors
    /// What a person has to do about it.
    pub fn serve(options: Options, port: u16) -> Result<Self, String> {
        let world = Arc::new(Mutex::new(World::new(options, discovery::api()?)));
        let listener = TcpListener::bind(("127.0.0.1", port)).map_err(|error| format!("port {port}: {error}"))?;
        let address = listener.local_addr().map_err(|error| error.to_string())?;
        let (stop, stopped) = oneshot::channel();
        let served = Arc::clone(&world);
        let thread = thread::spawn(move || server::run(listener, &served, stopped));
        Ok(Self { world, address, stop: Some(stop), thread: Some(thread) })
    }

    /// Where it listens: `http://127.0.0.1:<port>`, for a client's endpoint.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The only project there is.
    pub fn project(&self) -> String {
        lock(&self.world).options.project.clone()
    }

    /// How often each method was called, by its id, such as `compute.urlMaps.patch`.
    pub fn calls(&self) -> BTreeMap<String, usize> {
        lock(&self.world).calls.clone()
    }

    /// What was wrong with requests and answers so far.
    pub fn violations(&self) -> Vec<String> {
        lock(&self.world).violations.clone()
    }

    /// The same, and forgets them: for a test that is about them.
    pub fn take_violations(&self) -> Vec<String> {
        mem::take(&mut lock(&self.world).violations)
    }
}

/// What is there, seen and changed behind the client's back. None of it counts as a call.
impl Fake {
    /// Places a resource, such as a user's URL map, at a path such as `global/urlMaps/web` (or the whole one from
    /// `projects/`). The fields that the server makes are added.
    ///
    /// # Panics
    /// If the Discovery document knows no such resource.
    pub fn put(&self, path: &str, resource: Value) {
        let wrong = self.world(|world| {
            let path = world.path_of(path);
            world.create(&path, resource);
            world.check(&path)
        });
        assert!(wrong.is_empty(), "{path} cannot be so: {}", wrong.join("; "));
    }

    /// A resource as it is now; the path as in [`Fake::put`].
    pub fn get(&self, path: &str) -> Option<Value> {
        self.world(|world| world.get(&world.path_of(path)).cloned())
    }

    /// The resources whose paths begin with this one, with their whole paths: `zones/z/instances`, or `""` for all.
    pub fn list(&self, prefix: &str) -> BTreeMap<String, Value> {
        self.world(|world| {
            let all = world.below(&world.path_of(prefix));
            all.map(|(path, value)| (path.clone(), value.clone())).collect()
        })
    }

    /// Changes a field of a resource, whatever the Discovery document says.
    pub fn spoil(&self, path: &str, field: &str, value: Value) {
        self.world(|world| world.show(&world.path_of(path), field, value));
    }

    /// Removes a resource at once, whoever uses it.
    pub fn remove(&self, path: &str) -> Option<Value> {
        self.world(|world| world.remove(&world.path_of(path)))
    }

    /// Makes it later than it is.
    pub fn skip(&self, time: Duration) {
        self.world(|world| world.skip(time));
    }

    /// The options from now on.
    pub fn change(&self, change: impl FnOnce(&mut Options)) {
        self.world(|world| change(&mut world.options));
    }
}

/// What goes wrong, once, with the next call of a method, such as `compute.urlMaps.patch`.
impl Fake {
    /// The call does what it does, but the connection breaks before its answer.
    pub fn lose_next(&self, method: &str) {
        lock(&self.world).faults.lose(method);
    }

    /// The call is refused and does nothing: HTTP status, `reason`, message.
    pub fn refuse_next(&self, method: &str, status: u16, reason: &str, message: &str) {
        lock(&self.world).faults.refuse(method, Failure::new(status, reason, message));
    }

    /// The call is refused for too many calls. `status`: 403 or 429, both are seen.
    pub fn throttle_next(&self, method: &str, status: u16) {
        self.refuse_next(method, status, "rateLimitExceeded", "Rate Limit Exceeded");
    }

    /// The call's operation is accepted, does nothing and ends with this error, such as `QUOTA_EXCEEDED`.
    pub fn fail_next_operation(&self, method: &str, code: &str, message: &str) {
        lock(&self.world).faults.fail(method, OperationError::new(code, message));
    }
}

impl Fake {
    /// The world, for the parts of this type that are beside their resources.
    pub(crate) fn world<T>(&self, look: impl FnOnce(&mut World) -> T) -> T {
        let mut world = lock(&self.world);
        world.advance();
        let answer = look(&mut world);
        world.advance();
        answer
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.stop.take();
        let served = self.thread.take().map(JoinHandle::join);
        if thread::panicking() {
            return;
        }
        assert!(!self.world.is_poisoned(), "the fake of Google Cloud panicked: see above");
        if let Some(Ok(Err(error))) = served {
            panic!("the fake of Google Cloud stopped serving: {error}");
        }
        let violations = self.violations();
        assert!(violations.is_empty(), "not as the Discovery documents say:\n{}", violations.join("\n"));
    }
}

impl std::fmt::Debug for Fake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fake").field("url", &self.url()).finish_non_exhaustive()
    }
}
