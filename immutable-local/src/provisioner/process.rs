//! Processes of the machine: telling ours from others, and ending their groups.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::path::Path;

use immutable_core::model::InstanceId;
use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions, getpgid, kill_process_group, waitpid};
use serde::{Deserialize, Serialize};
use sysinfo::{Process, ProcessRefreshKind, ProcessStatus, ProcessesToUpdate, System, UpdateKind};

pub(super) use rustix::process::Signal;

/// The variable by which a process of ours is known, together with its children.
pub(super) const MARK: &str = "IMMUTABLE_INSTANCE";

/// Which process it is: a number is given again to others, a number with its start time is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProcessIdentity {
    pub(crate) pid: u32,
    /// When the kernel says that it was started, in seconds since 1970.
    pub(crate) started: u64,
}

/// What became of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It runs.
    Alive,
    /// It ended, and its number is nobody else's; members of its group may still run.
    Gone,
    /// It ended, and its number is another process's. A number is not given again while a group has it,
    /// so nothing of its group is left, and a signal would hit a stranger.
    Replaced,
}

/// Looks at the processes of several instances at once.
pub(super) fn look(instances: &[(&InstanceId, ProcessIdentity)]) -> io::Result<HashMap<InstanceId, Fate>> {
    let pids: Vec<_> = instances.iter().map(|(_, process)| sysinfo::Pid::from_u32(process.pid)).collect();
    let system = refreshed(ProcessesToUpdate::Some(&pids))?;
    let fate = |(id, process): &(&InstanceId, ProcessIdentity)| {
        let fate = match system.process(sysinfo::Pid::from_u32(process.pid)) {
            None => Fate::Gone,
            Some(found) if !is_ours(found, id, process) => Fate::Replaced,
            Some(found) if has_ended(found) => {
                // It may be our own child after the provisioner that started it was dropped; otherwise this does nothing.
                let _ = pid(process.pid).map(|pid| waitpid(Some(pid), WaitOptions::NOHANG));
                Fate::Gone
            }
            Some(_) => Fate::Alive,
        };
        ((*id).clone(), fate)
    };
    Ok(instances.iter().map(fate).collect())
}

/// The identities of processes that were started just now.
pub(super) fn identities(pids: &[u32]) -> io::Result<Vec<ProcessIdentity>> {
    let keys: Vec<_> = pids.iter().copied().map(sysinfo::Pid::from_u32).collect();
    let system = refreshed(ProcessesToUpdate::Some(&keys))?;
    // Not to be seen any more means ended already: a start time that no process has says just that.
    let started = |pid: u32| system.process(sysinfo::Pid::from_u32(pid)).map_or(0, Process::start_time);
    Ok(pids.iter().map(|pid| ProcessIdentity { pid: *pid, started: started(*pid) }).collect())
}

/// Finds the process of an instance whose record does not name it, by its environment or its working directory.
pub(super) fn find(id: &InstanceId, directory: &Path) -> io::Result<Option<ProcessIdentity>> {
    let system = refreshed(ProcessesToUpdate::All)?;
    let is_leader = |process: &&Process| {
        let number = pid(process.pid().as_u32());
        number.is_some_and(|number| getpgid(Some(number)) == Ok(number))
    };
    let belongs = |process: &&Process| {
        process.thread_kind().is_none()
            && !has_ended(process)
            && (is_marked(process, id) || process.cwd().is_some_and(|cwd| cwd.starts_with(directory)))
    };
    // The first one started is the instance itself; a later leader is a child with a group of its own.
    let first = system.processes().values().filter(belongs).filter(is_leader);
    let first = first.min_by_key(|process| (process.start_time(), process.pid()));
    Ok(first.map(|first| ProcessIdentity { pid: first.pid().as_u32(), started: first.start_time() }))
}

/// Sends a signal to the group of a process. A group that is gone is fine.
pub(super) fn signal_group(process: ProcessIdentity, signal: Signal) -> io::Result<()> {
    let Some(group) = pid(process.pid) else { return Ok(()) };
    match kill_process_group(group, signal) {
        Ok(()) | Err(Errno::SRCH) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// A process number that is safe to signal: neither "every process" nor our own group.
fn pid(number: u32) -> Option<Pid> {
    i32::try_from(number).ok().filter(|number| *number > 1).and_then(Pid::from_raw)
}

fn refreshed(which: ProcessesToUpdate<'_>) -> io::Result<System> {
    let what =
        ProcessRefreshKind::nothing().without_tasks().with_environ(UpdateKind::Always).with_cwd(UpdateKind::Always);
    let mut system = System::new().map_err(|error| io::Error::other(error.to_string()))?;
    system.refresh_processes_specifics(which, false, what);
    Ok(system)
}

fn has_ended(process: &Process) -> bool {
    matches!(process.status(), ProcessStatus::Zombie | ProcessStatus::Dead)
}

/// The same start time, within the two seconds by which the kernel's idea of it moves with the clock; or, after the clock
/// was set, the mark in its environment.
fn is_ours(process: &Process, id: &InstanceId, identity: &ProcessIdentity) -> bool {
    process.start_time().abs_diff(identity.started) <= 2 || is_marked(process, id)
}

fn is_marked(process: &Process, id: &InstanceId) -> bool {
    let mark = format!("{MARK}={id}");
    process.environ().iter().any(|variable| variable == OsStr::new(&mark))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_alone_is_not_a_process_of_ours() {
        let id = InstanceId::new("i-1").unwrap();
        let me = identities(&[std::process::id()]).unwrap()[0];
        let check = |process, expected| assert_eq!(look(&[(&id, process)]).unwrap()[&id], expected, "{process:?}");
        check(me, Fate::Alive);
        check(ProcessIdentity { started: me.started - 1, ..me }, Fate::Alive);
        check(ProcessIdentity { started: me.started - 60, ..me }, Fate::Replaced);
        check(ProcessIdentity { pid: 0x7fff_fff0, started: 1 }, Fate::Gone);
    }

    #[test]
    fn nothing_is_ever_sent_to_everybody() {
        for number in [0, 1, u32::MAX, 0x8000_0000] {
            assert!(pid(number).is_none(), "{number}");
        }
    }
}
