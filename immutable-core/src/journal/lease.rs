//! The right to write a journal.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use crate::model::{OwnerId, ServiceName};

/// The right to write one service's journal, as long as no newer epoch exists.
///
/// It cannot be copied. Dropping it gives up whatever exclusion its journal held with it;
/// [`Journal::release`](super::Journal::release) does so in an orderly way.
#[must_use = "dropping a lease gives up the right to write"]
pub struct Lease {
    service: ServiceName,
    owner: OwnerId,
    epoch: u64,
    guard: Option<Arc<dyn Any + Send + Sync>>,
}

impl Lease {
    /// A lease, for implementations of [`Journal`](super::Journal) to give out.
    pub fn new(service: ServiceName, owner: OwnerId, epoch: u64) -> Self {
        Self { service, owner, epoch, guard: None }
    }

    /// Ties a value to the lease: it is dropped with the lease at the latest, unless an operation under way still uses it.
    pub fn with_guard<G: Any + Send + Sync>(mut self, guard: Arc<G>) -> Self {
        self.guard = Some(guard);
        self
    }

    /// The value that is tied to the lease, if there is one of this type.
    pub fn guard<G: Any + Send + Sync>(&self) -> Option<Arc<G>> {
        self.guard.clone()?.downcast().ok()
    }

    /// Whose journal.
    pub fn service(&self) -> &ServiceName {
        &self.service
    }

    /// Who holds the lease.
    pub fn owner(&self) -> &OwnerId {
        &self.owner
    }

    /// The fencing number: a higher one fences this one.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("service", &self.service)
            .field("owner", &self.owner)
            .field("epoch", &self.epoch)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{FileJournal, Journal};

    #[tokio::test]
    async fn a_lease_that_is_given_back_is_free_though_an_operation_still_uses_it() {
        let directory = tempfile::tempdir().unwrap();
        let journal = FileJournal::open(directory.path()).unwrap();
        let (service, owner) = ("web".parse().unwrap(), "owner-1".parse().unwrap());
        let (lease, _) = journal.take_over(&service, &owner).await.unwrap();
        let in_use = lease.guard.clone();
        journal.take_over(&service, &owner).await.unwrap_err();
        journal.release(lease).await.unwrap();
        assert_eq!(journal.take_over(&service, &owner).await.unwrap().0.epoch(), 2);
        drop(in_use);
    }
}
