//! A running fake, as tests see it.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;
use std::{io, mem, thread};

use serde_json::Value;
use tokio::sync::oneshot;

use crate::exchange::Exchange;
use crate::failure::Failure;
use crate::options::Options;
use crate::resources;
use crate::server::{self, Shared, lock};
use crate::world::World;

/// A running fake of Azure Resource Manager. It ends when it is dropped.
///
/// Any bearer token is taken for a good one.
///
/// # Panics
/// When dropped, if a client asked for what the fake does not do: [`Fake::violations`].
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
    /// If there is no port.
    pub fn start(options: Options) -> Self {
        Self::serve(options, 0).unwrap_or_else(|why| panic!("no fake of Azure: {why}"))
    }

    /// Starts a fake on a port of the loopback; 0: any that is free.
    ///
    /// # Errors
    /// What a person has to do about it.
    pub fn serve(options: Options, port: u16) -> Result<Self, String> {
        let listener = TcpListener::bind(("127.0.0.1", port)).map_err(|error| format!("port {port}: {error}"))?;
        let address = listener.local_addr().map_err(|error| error.to_string())?;
        let world = Arc::new(Mutex::new(World::new(options)));
        let (stop, stopped) = oneshot::channel();
        let served = Arc::clone(&world);
        let thread = thread::spawn(move || server::run(listener, &served, stopped));
        Ok(Self { world, address, stop: Some(stop), thread: Some(thread) })
    }

    /// Where it listens: `http://127.0.0.1:<port>`, for a client's endpoint.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The whole id of a resource, named from its type on: `Microsoft.Compute/virtualMachines/web`. It is in the first
    /// resource group.
    pub fn id(&self, id: &str) -> String {
        lock(&self.world).id_of(id)
    }

    /// How often each operation was called, such as `PUT Microsoft.Compute/virtualMachineScaleSets`. A list is a
    /// `LIST`; an action and a view are under their names: `POST Microsoft.Compute/virtualMachineScaleSets/delete`.
    pub fn calls(&self) -> BTreeMap<String, usize> {
        lock(&self.world).calls.clone()
    }

    /// What was said so far, in the order of time.
    pub fn exchanges(&self) -> Vec<Exchange> {
        lock(&self.world).exchanges.clone()
    }

    /// What clients asked so far that the fake does not do.
    pub fn violations(&self) -> Vec<String> {
        lock(&self.world).violations.clone()
    }

    /// The same, and forgets it: for a test that is about that.
    pub fn take_violations(&self) -> Vec<String> {
        mem::take(&mut lock(&self.world).violations)
    }
}

/// What is there, seen and changed behind the client's back. None of it counts as a call. Ids as in [`Fake::id`].
impl Fake {
    /// Places a resource, such as a user's load balancer. What the server says about it is added, and its
    /// `provisioningState` is `Succeeded` unless it says otherwise.
    ///
    /// # Panics
    /// If the resource cannot be so.
    pub fn put(&self, id: &str, mut resource: Value) {
        let wrong = self.world(|world| {
            let id = world.id_of(id);
            if resource.get("location").is_none() {
                resource["location"] = world.options.location.as_str().into();
            }
            if resource["properties"].get("provisioningState").is_none() {
                resource["properties"]["provisioningState"] = "Succeeded".into();
            }
            let wrong = resources::complete(&id, &mut resource).err().map(|failure| failure.message);
            world.create(&id, resource);
            wrong
        });
        assert_eq!(wrong, None, "{id} cannot be so");
    }

    /// A resource as it is now, with the secrets that answers do not show.
    pub fn get(&self, id: &str) -> Option<Value> {
        self.world(|world| world.get(&world.id_of(id)).cloned())
    }

    /// The resources whose ids begin so, by their ids in small letters: `Microsoft.Compute/`, or `""` for all of the
    /// first resource group.
    pub fn list(&self, prefix: &str) -> BTreeMap<String, Value> {
        self.world(|world| {
            let all = world.below(&world.id_of(prefix));
            all.into_iter().map(|(id, value)| (id.clone(), value.clone())).collect()
        })
    }

    /// Changes a resource as another client would: it has a new `ETag`.
    pub fn change(&self, id: &str, change: impl FnOnce(&mut Value)) {
        self.world(|world| world.update(&world.id_of(id), change));
    }

    /// Removes a resource at once, whoever uses it.
    pub fn remove(&self, id: &str) -> Option<Value> {
        self.world(|world| world.remove(&world.id_of(id)))
    }

    /// Makes it later than it is.
    pub fn skip(&self, time: Duration) {
        self.world(|world| world.skip(time));
    }

    /// The options from now on.
    pub fn set(&self, change: impl FnOnce(&mut Options)) {
        self.world(|world| change(&mut world.options));
    }
}

/// What goes wrong, once, with the next call of an operation, named as in [`Fake::calls`].
impl Fake {
    /// The call does what it does, but the connection breaks before its answer.
    pub fn lose_next(&self, operation: &str) {
        lock(&self.world).faults.lose(operation);
    }

    /// The call is refused and does nothing: HTTP status, code, message.
    pub fn refuse_next(&self, operation: &str, status: u16, code: &str, message: &str) {
        lock(&self.world).faults.refuse(operation, Failure::new(status, code, message));
    }

    /// The call is refused for too many calls, to be tried again in some seconds.
    pub fn throttle_next(&self, operation: &str, seconds: u32) {
        let message = format!("The request is being throttled as the limit has been reached. Retry after {seconds}s.");
        lock(&self.world).faults.refuse(operation, Failure::new(429, "TooManyRequests", message).later(seconds));
    }

    /// The call is accepted, its asynchronous operation does nothing and ends with this error, such as
    /// `OverconstrainedAllocationRequest`; the resource is `Failed`.
    pub fn fail_next_operation(&self, operation: &str, code: &str, message: &str) {
        lock(&self.world).faults.fail(operation, Failure::new(409, code, message));
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
        assert!(!self.world.is_poisoned(), "the fake of Azure panicked: see above");
        if let Some(Ok(Err(error))) = served {
            panic!("the fake of Azure stopped serving: {error}");
        }
        let violations = self.violations();
        assert!(violations.is_empty(), "the fake does not do all that was asked:\n{}", violations.join("\n"));
    }
}

impl std::fmt::Debug for Fake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fake").field("url", &self.url()).finish_non_exhaustive()
    }
}
