//! Launching instances: ports, environment, processes.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt;
use std::panic::resume_unwind;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;

use immutable_core::model::{ConfigKey, FleetSpec, InstanceId};
use immutable_core::provider::{ErrorKind, ProviderError};
use jiff::Timestamp;

use super::core::Children;
use super::process::{self, MARK};
use super::registry::{InstanceRecord, Registry};
use crate::error::{AtPath, io_error};
use crate::secret_source::Secret;

/// The variables that an instance has from the environment of this process, where they are set there.
const INHERITED: [&str; 4] = ["PATH", "HOME", "LANG", "TZ"];

/// The variables that every instance is given. A release may not set them.
const GIVEN: [&str; 5] = ["PORT", MARK, "IMMUTABLE_FLEET", "IMMUTABLE_RELEASE", "IMAGE_DIR"];

/// How often a program that is "busy" is tried again at once; see [`spawn`].
const BUSY_ATTEMPTS: usize = 100;

/// How many instances of a batch are started at the same time.
const STARTS_AT_ONCE: usize = 8;

/// The values of secrets by the variables they are given as.
pub(super) type Secrets = BTreeMap<ConfigKey, Secret>;

/// Checks what a release gives to its instances. The error names keys, never values.
pub(super) fn check_environment(operation: &str, spec: &FleetSpec) -> Result<(), ProviderError> {
    let refuse = |message: String| {
        Err(ProviderError::new(ErrorKind::InvalidRequest, operation.to_owned(), message).without_effect())
    };
    let launch = spec.release.launch();
    for key in launch.config.keys().chain(launch.secrets.keys()) {
        if GIVEN.contains(&key.as_str()) {
            return refuse(format!("{key} is given to every instance and cannot be set by a release: rename it"));
        }
    }
    if let Some(key) = launch.secrets.keys().find(|key| launch.config.contains_key(*key)) {
        return refuse(format!("{key} is both a configuration value and a secret: remove one of the two"));
    }
    if let Some((key, _)) = launch.config.iter().find(|(_, value)| value.contains('\0')) {
        return refuse(format!("the value of {key} has a NUL character: remove it"));
    }
    Ok(())
}

/// One batch of instances that is launched from a verified image.
#[derive(Debug)]
pub(super) struct Launch<'a> {
    pub(super) operation: &'a str,
    pub(super) spec: &'a FleetSpec,
    pub(super) tree: &'a Path,
    pub(super) command: &'a [String],
    pub(super) secrets: &'a Secrets,
    pub(super) now: Timestamp,
}

impl Launch<'_> {
    /// Starts so many instances. Each has its record before its process; after an error, what could be started stays,
    /// and what could not is not recorded any more.
    pub(super) fn run(
        &self,
        registry: &Registry,
        children: &mut Children,
        count: u32,
        taken: BTreeSet<u16>,
    ) -> Result<(), ProviderError> {
        let failed = |error| io_error(self.operation, error);
        let bind = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
        let ports = free_ports(count, taken, bind).map_err(|error| failed(error).without_effect())?;
        let (mut started, mut pids, mut result) = (Vec::new(), Vec::new(), Ok(()));
        for outcome in self.start_all(registry, &ports) {
            match outcome {
                Ok((record, child)) => {
                    pids.push(child.id());
                    children.insert(record.id.clone(), child);
                    started.push(record);
                }
                Err(error) => result = result.and(Err(error)),
            }
        }
        // A record that cannot be completed here stays half made, and the next look completes it.
        for (mut record, identity) in started.into_iter().zip(process::identities(&pids).map_err(failed)?) {
            record.process = Some(identity);
            registry.save(&record).map_err(failed)?;
        }
        result
    }

    /// Starts an instance for each port, several at a time: most of a start is waiting until the new process has a processor.
    fn start_all(&self, registry: &Registry, ports: &[u16]) -> Vec<Result<(InstanceRecord, Child), ProviderError>> {
        let share = ports.len().div_ceil(STARTS_AT_ONCE).max(1);
        let start_share = |ports: &[u16]| {
            let mut outcomes = Vec::new();
            for port in ports {
                outcomes.push(self.start(registry, *port));
                if outcomes.last().is_some_and(Result::is_err) {
                    break;
                }
            }
            outcomes
        };
        thread::scope(|scope| {
            let workers: Vec<_> = ports.chunks(share).map(|ports| scope.spawn(move || start_share(ports))).collect();
            let outcomes =
                workers.into_iter().flat_map(|worker| worker.join().unwrap_or_else(|panic| resume_unwind(panic)));
            outcomes.collect()
        })
    }

    fn start(&self, registry: &Registry, port: u16) -> Result<(InstanceRecord, Child), ProviderError> {
        let failed = |error| io_error(self.operation, error);
        let record = InstanceRecord::beginning(new_id(self.operation)?, self.spec, port, self.now);
        let child = registry.begin(&record).map_err(failed).and_then(|()| {
            let mut command = self.prepare(&record, &registry.directory(&record.id)).map_err(failed)?;
            spawn(&mut command).map_err(|error| self.spawn_error(error))
        });
        match child {
            Ok(child) => {
                let (instance, fleet, pid) = (&record.id, &record.fleet, child.id());
                tracing::info!(%instance, %fleet, pid, port, "instance started");
                Ok((record, child))
            }
            Err(error) => {
                // Nothing was started, so the record must not stay; if even this fails, the next look shows it as dead.
                let _ = registry.discard(&record.id);
                Err(error)
            }
        }
    }

    fn prepare(&self, record: &InstanceRecord, directory: &Path) -> io::Result<Command> {
        let output = |name: &str| File::create_new(directory.join(name)).at(directory);
        let mut command = Command::new(self.tree.join(&self.command[0]));
        command
            .args(&self.command[1..])
            .env_clear()
            .envs(self.environment(record))
            .current_dir(directory.join("work"))
            .stdin(Stdio::null())
            // Files, because nobody reads the other end of a pipe once this process is gone.
            .stdout(output("stdout")?)
            .stderr(output("stderr")?)
            .process_group(0);
        Ok(command)
    }

    /// Later ones win: a release may set `PATH`, and nothing replaces what every instance is given.
    fn environment(&self, record: &InstanceRecord) -> BTreeMap<String, OsString> {
        let inherited = INHERITED.into_iter().filter_map(|key| Some((key.to_owned(), std::env::var_os(key)?)));
        let config = self.spec.release.launch().config.iter().map(|(key, value)| (key.to_string(), value.into()));
        let secrets = self.secrets.iter().map(|(key, secret)| (key.to_string(), secret.expose().into()));
        let given: [OsString; 5] = [
            record.port.to_string().into(),
            record.id.as_str().into(),
            record.fleet.as_str().into(),
            record.release.fingerprint().to_string().into(),
            self.tree.into(),
        ];
        let given = GIVEN.into_iter().map(str::to_owned).zip(given);
        inherited.chain(config).chain(secrets).chain(given).collect()
    }

    fn spawn_error(&self, error: io::Error) -> ProviderError {
        let kind = match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::OutOfMemory => ErrorKind::Capacity,
            io::ErrorKind::PermissionDenied => ErrorKind::PermissionDenied,
            io::ErrorKind::ExecutableFileBusy => ErrorKind::Unavailable,
            // Not a program that this machine can run, or an interpreter that is not there.
            _ => ErrorKind::InvalidRequest,
        };
        let message = format!("cannot start {:?} of image {}: {error}", self.command[0], self.spec.release.image().id);
        ProviderError::new(kind, self.operation.to_owned(), message).with_source(error)
    }
}

/// Starts a process, at once again while its program is "busy".
///
/// A child that another thread is forking has, for the microseconds until it runs its own program, the file that was being
/// copied into the image still open for writing, and the kernel runs no such file. This is part of one attempt, not a wait.
fn spawn(command: &mut Command) -> io::Result<Child> {
    for _ in 1..BUSY_ATTEMPTS {
        match command.spawn() {
            Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy => thread::yield_now(),
            result => return result,
        }
    }
    command.spawn()
}

fn new_id(operation: &str) -> Result<InstanceId, ProviderError> {
    let internal = |message: String| ProviderError::new(ErrorKind::Internal, operation.to_owned(), message);
    let random = getrandom::u64().map_err(|error| internal(error.to_string()))?;
    InstanceId::new(format!("i-{random:016x}")).map_err(|error| internal(error.to_string()))
}

/// Picks free ports that no other instance has. All are held until the last one is picked, so that they differ.
///
/// Between here and the moment when the instance listens, another program may take the port; the instance then ends by
/// itself and is replaced like any other that does.
fn free_ports(
    count: u32,
    mut taken: BTreeSet<u16>,
    mut bind: impl FnMut() -> io::Result<TcpListener>,
) -> io::Result<Vec<u16>> {
    let (mut ports, mut held) = (Vec::new(), Vec::new());
    while ports.len() < count as usize {
        let listener = bind()?;
        let port = listener.local_addr()?.port();
        if taken.insert(port) {
            ports.push(port);
        }
        // A port that an instance has, though nothing listens there, is held too: otherwise it would come up again.
        held.push(listener);
    }
    Ok(ports)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_an_instance_has_is_not_given_again() {
        let bind = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let [first, second, third] = [bind(), bind(), bind()];
        let port = |listener: &TcpListener| listener.local_addr().unwrap().port();
        let (taken, expected) = (BTreeSet::from([port(&first)]), vec![port(&second), port(&third)]);
        let mut offered = [first, second, third].into_iter();
        assert_eq!(free_ports(2, taken, || Ok(offered.next().unwrap())).unwrap(), expected);
    }

    #[test]
    fn ports_of_one_batch_differ() {
        let bind = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
        let ports = free_ports(50, BTreeSet::new(), bind).unwrap();
        assert_eq!(ports.iter().collect::<BTreeSet<_>>().len(), 50);
    }
}
