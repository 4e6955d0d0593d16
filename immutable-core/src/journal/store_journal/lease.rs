//! The lease: who may write, as others see it. It serves liveness; safety is the log's.

#![expect(clippy::disallowed_methods, reason = "to watch a lease is to wait")]

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::log::Log;
use super::record::{self, LeaseRecord, LogRecord, Says};
use super::{StoreJournal, key, nonce, storage};
use crate::journal::record::check_next;
use crate::journal::store::{RecordKey, StoreError, Version};
use crate::journal::{JournalError, Lease, Nonce};
use crate::model::{OwnerId, ServiceName};

/// The lease record as it was last written by us.
#[derive(Debug, Clone)]
pub(super) struct HeldLease {
    session: Nonce,
    version: Version,
    /// When the write was sent: until then plus the lease time nobody else may take it.
    since: Instant,
}

/// What an owner knows of its lease and of its place in the log.
#[derive(Debug)]
pub(super) struct Session {
    lineage: Nonce,
    /// What an entry's number is greater than its `seq` by: the take-overs up to ours.
    ahead: u64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    held: HeldLease,
    /// The last entry that is known to be there.
    last_seq: u64,
    end: Option<End>,
    renewing: bool,
}

/// Why the lease is over.
#[derive(Debug, Clone, Copy)]
enum End {
    Fenced { epoch: u64 },
    Unusable,
}

/// Where an entry goes.
pub(super) struct Place {
    lineage: Nonce,
    number: u64,
}

impl Place {
    pub(super) fn record(self, service: &ServiceName, epoch: u64, nonce: Nonce, says: Says) -> LogRecord {
        LogRecord { service: service.clone(), lineage: self.lineage, number: self.number, nonce, epoch, says }
    }
}

impl Session {
    /// The session of whoever has just put its epoch into the log.
    pub(super) fn new(held: HeldLease, log: &Log) -> Self {
        let last_seq = log.entries.len() as u64;
        let lineage = log.lineage.expect("invariant: the log has the take-over of this session");
        let state = State { held, last_seq, end: None, renewing: false };
        Self { lineage, ahead: log.last - last_seq, state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where entry number `seq` goes, if it is the next one.
    pub(super) fn place(&self, service: &ServiceName, seq: u64) -> Result<Place, JournalError> {
        let state = self.state();
        state.refuse(service)?;
        check_next(service, state.last_seq, seq)?;
        Ok(Place { lineage: self.lineage, number: self.ahead + seq })
    }

    pub(super) fn has_written(&self, seq: u64) {
        let mut state = self.state();
        state.last_seq = state.last_seq.max(seq);
    }

    pub(super) fn is_fenced_by(&self, epoch: u64) {
        self.state().end = Some(End::Fenced { epoch });
    }

    pub(super) fn is_unusable(&self) {
        self.state().end.get_or_insert(End::Unusable);
    }
}

impl State {
    fn refuse(&self, service: &ServiceName) -> Result<(), JournalError> {
        let service = service.clone();
        match self.end {
            None => Ok(()),
            Some(End::Fenced { epoch }) => Err(JournalError::Fenced { service, epoch }),
            Some(End::Unusable) => Err(JournalError::LeaseUnusable { service }),
        }
    }
}

/// The turn to renew, given back however the renewal ends.
struct Turn<'a>(&'a Session);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.state().renewing = false;
    }
}

impl StoreJournal {
    /// Takes the lease record, once nobody has written it for as long as its owner may be silent.
    pub(super) async fn take_lease(&self, service: &ServiceName, owner: &OwnerId) -> Result<HeldLease, JournalError> {
        let (key, session) = (lease_key(service)?, nonce()?);
        let mut watched: Option<(Nonce, Instant)> = None;
        let mut tries = 0;
        loop {
            let stored = self.call(self.store.get(&key)).await.map_err(|error| storage(service, error))?;
            let now = Instant::now();
            let expected = match stored {
                None => None,
                Some(stored) => {
                    let theirs: LeaseRecord = record::open(service, &key.to_string(), &stored.body)?;
                    if theirs.session != session {
                        match (theirs.held_for, watched) {
                            (None, _) => {}
                            (Some(time), None) => {
                                watched = Some((theirs.nonce, now + Duration::from_millis(time)));
                                self.watch(now + Duration::from_millis(time)).await;
                                continue;
                            }
                            (Some(_), Some((nonce, until))) if theirs.nonce == nonce => {
                                if now < until {
                                    self.watch(until).await;
                                    continue;
                                }
                            }
                            (Some(_), Some(_)) => {
                                return Err(JournalError::Held { service: service.clone(), owner: Some(theirs.owner) });
                            }
                        }
                    }
                    Some(stored.version)
                }
            };
            // A lost answer shows at the next look: it is our session then, and is written once more to be sure of its time.
            match self.write_lease(&key, service, owner, session, Some(self.lease_time), expected.as_ref()).await {
                Ok(held) => return Ok(held),
                Err(StoreError::Exists { .. } | StoreError::Stale { .. }) => {}
                Err(error) => {
                    tries += 1;
                    if tries >= super::TRIES {
                        return Err(storage(service, error));
                    }
                }
            }
        }
    }

    /// Waits a part of the time until then, so that a renewal is noticed soon.
    async fn watch(&self, until: Instant) {
        sleep(until.saturating_duration_since(Instant::now()).min(self.lease_time / 6)).await;
    }

    async fn write_lease(
        &self,
        key: &RecordKey,
        service: &ServiceName,
        owner: &OwnerId,
        session: Nonce,
        time: Option<Duration>,
        expected: Option<&Version>,
    ) -> Result<HeldLease, StoreError> {
        let nonce = Nonce::random().map_err(|error| StoreError::failed("draw a nonce", error))?;
        let held_for = time.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
        let record = LeaseRecord { service: service.clone(), owner: owner.clone(), session, nonce, held_for };
        let (body, since) = (record::seal(&record), Instant::now());
        let version = match expected {
            None => self.call(self.store.create(key, &body)).await?,
            Some(version) => self.call(self.store.compare_and_swap(key, &body, version)).await?,
        };
        Ok(HeldLease { session, version, since })
    }

    /// Says whether the lease holds, and renews it when a third of its time is over.
    pub(super) async fn keep(&self, lease: &Lease, session: &Session) -> Result<(), JournalError> {
        let service = lease.service();
        let (held, _turn) = {
            let mut state = session.state();
            state.refuse(service)?;
            let age = state.held.since.elapsed();
            if age < self.lease_time / 3 || (state.renewing && self.is_safe(age)) {
                return Ok(());
            }
            state.renewing = true;
            (state.held.clone(), Turn(session))
        };
        let key = lease_key(service)?;
        let written =
            self.write_lease(&key, service, lease.owner(), held.session, Some(self.lease_time), Some(&held.version));
        match written.await {
            Ok(renewed) => {
                session.state().held = renewed;
                Ok(())
            }
            Err(error) => self.keep_after(lease, session, &held, error).await,
        }
    }

    /// A renewal failed, or its answer was lost.
    async fn keep_after(
        &self,
        lease: &Lease,
        session: &Session,
        held: &HeldLease,
        error: StoreError,
    ) -> Result<(), JournalError> {
        let service = lease.service();
        let key = lease_key(service)?;
        if let Ok(Some(stored)) = self.call(self.store.get(&key)).await {
            let found: LeaseRecord = record::open(service, &key.to_string(), &stored.body)?;
            if found.session != held.session {
                return Err(self.find_fence(lease, session).await);
            }
            // Ours, whichever of our writes it is; its time still counts from the last answer.
            session.state().held.version = stored.version;
        }
        let state = session.state();
        state.refuse(service)?;
        if self.is_safe(state.held.since.elapsed()) { Ok(()) } else { Err(storage(service, error)) }
    }

    /// Whether a call that is sent now is answered before anybody may take over.
    fn is_safe(&self, age: Duration) -> bool {
        age < self.lease_time / 6 * 5
    }

    /// The lease is somebody else's: with what epoch, if it is in the log already.
    async fn find_fence(&self, lease: &Lease, session: &Session) -> JournalError {
        let service = lease.service();
        let mut log = Log::new(service);
        match self.read(&mut log).await {
            Ok(()) if log.epoch > lease.epoch() => session.is_fenced_by(log.epoch),
            _ => session.is_unusable(),
        }
        let ended = session.state().refuse(service);
        ended.err().unwrap_or_else(|| JournalError::LeaseUnusable { service: service.clone() })
    }

    /// Says in the lease record that nobody holds it, if it is still ours.
    pub(super) async fn give_back(&self, lease: &Lease, session: &Session) -> Result<(), JournalError> {
        let (service, key) = (lease.service(), lease_key(lease.service())?);
        let held = session.state().held.clone();
        session.is_unusable();
        let mut expected = held.version;
        for _ in 0..super::TRIES {
            match self.write_lease(&key, service, lease.owner(), held.session, None, Some(&expected)).await {
                Ok(_) => return Ok(()),
                Err(StoreError::Exists { .. } | StoreError::Stale { .. } | StoreError::Failed { .. }) => {}
            }
            let stored = self.call(self.store.get(&key)).await.map_err(|error| storage(service, error))?;
            let Some(stored) = stored else { return Ok(()) };
            let found: LeaseRecord = record::open(service, &key.to_string(), &stored.body)?;
            if found.session != held.session || found.held_for.is_none() {
                return Ok(());
            }
            expected = stored.version;
        }
        Err(JournalError::storage(format!("give the lease of {service} back"), "the store did not answer"))
    }
}

fn lease_key(service: &ServiceName) -> Result<RecordKey, JournalError> {
    key(service, "lease")
}
