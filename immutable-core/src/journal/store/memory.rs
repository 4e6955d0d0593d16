//! Records in memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use super::{RecordKey, RecordStore, StoreError, Stored, Version};

/// Records in memory, shared by the clones of the store and gone with the last of them.
#[derive(Debug, Clone, Default)]
pub struct MemoryStore {
    records: Arc<Mutex<Records>>,
}

#[derive(Debug, Default)]
struct Records {
    by_key: BTreeMap<RecordKey, Stored>,
    writes: u64,
}

impl MemoryStore {
    /// A store without records.
    pub fn new() -> Self {
        Self::default()
    }

    fn records(&self) -> MutexGuard<'_, Records> {
        // Every change under the lock is one insertion or removal, so a panic elsewhere leaves nothing half-made.
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Records {
    fn write(&mut self, key: &RecordKey, body: &[u8]) -> Version {
        self.writes += 1;
        let version = Version::new(self.writes.to_string());
        self.by_key.insert(key.clone(), Stored { body: body.to_vec(), version: version.clone() });
        version
    }
}

#[async_trait]
impl RecordStore for MemoryStore {
    async fn create(&self, key: &RecordKey, body: &[u8]) -> Result<Version, StoreError> {
        let mut records = self.records();
        if records.by_key.contains_key(key) {
            return Err(StoreError::Exists { key: key.clone() });
        }
        Ok(records.write(key, body))
    }

    async fn get(&self, key: &RecordKey) -> Result<Option<Stored>, StoreError> {
        Ok(self.records().by_key.get(key).cloned())
    }

    async fn compare_and_swap(&self, key: &RecordKey, body: &[u8], expected: &Version) -> Result<Version, StoreError> {
        let mut records = self.records();
        if records.by_key.get(key).is_none_or(|stored| stored.version != *expected) {
            return Err(StoreError::Stale { key: key.clone() });
        }
        Ok(records.write(key, body))
    }

    async fn list_after(&self, after: &RecordKey) -> Result<Vec<RecordKey>, StoreError> {
        let records = self.records();
        let greater = records.by_key.keys().filter(|key| key.folder() == after.folder() && key.name() > after.name());
        Ok(greater.cloned().collect())
    }

    async fn delete(&self, key: &RecordKey) -> Result<(), StoreError> {
        self.records().by_key.remove(key);
        Ok(())
    }
}
