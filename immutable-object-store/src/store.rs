//! Records as objects.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::TryStreamExt as _;
use immutable_core::journal::store::{RecordKey, RecordStore, StoreError, Stored, Version};
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt as _, PutMode, RetryConfig, UpdateVersion};

use crate::cause;

/// Records as objects under a prefix: `<prefix>/<folder>/<name>`.
///
/// It takes a built store and no builder: a builder's `Debug` prints its keys. Its own `Debug` prints the prefix and nothing of the
/// store, and its errors are in its own words, because what a store answers can hold tokens.
///
/// # Guarantees
/// The clauses of [`RecordStore`], where the object store has conditional writes. A refusal is believed only as far as the record
/// shows it: S3 also refuses (409) while another write is under way, and then there may be no record, or still the expected one.
///
/// # Assumptions
/// The store was built with [`retry_config`]: it tries once. A store that repeats a write by itself takes its own first try for somebody
/// else's; [`StoreJournal`](immutable_core::journal::StoreJournal) sees through that, others may not. Its timeout should be shorter
/// than a sixth of the lease time; a longer one is cut off by the journal.
///
/// # Examples
/// ```
/// use std::sync::Arc;
/// use immutable_core::journal::{Journal, StoreJournal};
/// use immutable_object_store::ObjectRecordStore;
/// use immutable_object_store::object_store::memory::InMemory;
/// # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
/// let records = ObjectRecordStore::new(Arc::new(InMemory::new()), "rollouts");
/// let journal = StoreJournal::new(Arc::new(records));
/// let (lease, entries) = journal.take_over(&"web".parse()?, &"host-1".parse()?).await?;
/// assert!(entries.is_empty());
/// journal.release(lease).await?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct ObjectRecordStore {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
}

/// The retries that a store for records is built with: none.
///
/// ```
/// use immutable_object_store::object_store::gcp::GoogleCloudStorageBuilder;
/// use immutable_object_store::retry_config;
///
/// let builder = GoogleCloudStorageBuilder::new().with_bucket_name("rollouts").with_retry(retry_config());
/// ```
pub fn retry_config() -> RetryConfig {
    RetryConfig { max_retries: 0, retry_timeout: Duration::ZERO, ..RetryConfig::default() }
}

impl ObjectRecordStore {
    /// Records under a prefix of a store; an empty prefix is all of it.
    pub fn new(store: Arc<dyn ObjectStore>, prefix: impl Into<Path>) -> Self {
        Self { store, prefix: prefix.into() }
    }

    fn folder(&self, key: &RecordKey) -> Path {
        self.prefix.clone().join(key.folder())
    }

    fn path(&self, key: &RecordKey) -> Path {
        self.folder(key).join(key.name())
    }

    /// The version that a record has now.
    async fn version_now(&self, key: &RecordKey) -> Result<Option<Version>, StoreError> {
        match self.store.head(&self.path(key)).await {
            Ok(meta) => Ok(version(meta.e_tag, meta.version)),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(failed("look at", key, &error)),
        }
    }
}

impl fmt::Debug for ObjectRecordStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObjectRecordStore").field("prefix", &self.prefix.as_ref()).finish_non_exhaustive()
    }
}

#[async_trait]
impl RecordStore for ObjectRecordStore {
    async fn create(&self, key: &RecordKey, body: &[u8]) -> Result<Version, StoreError> {
        match self.store.put_opts(&self.path(key), body.to_vec().into(), PutMode::Create.into()).await {
            Ok(put) => version(put.e_tag, put.version).ok_or_else(|| no_version("create", key)),
            Err(error @ Error::AlreadyExists { .. }) => match self.version_now(key).await? {
                Some(_) => Err(StoreError::Exists { key: key.clone() }),
                None => Err(failed("create", key, &error)),
            },
            Err(error) => Err(failed("create", key, &error)),
        }
    }

    async fn get(&self, key: &RecordKey) -> Result<Option<Stored>, StoreError> {
        let found = match self.store.get(&self.path(key)).await {
            Ok(found) => found,
            Err(Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(failed("read", key, &error)),
        };
        let (e_tag, number) = (found.meta.e_tag.clone(), found.meta.version.clone());
        let version = version(e_tag, number).ok_or_else(|| no_version("read", key))?;
        let body = found.bytes().await.map_err(|error| failed("read", key, &error))?;
        Ok(Some(Stored { body: body.into(), version }))
    }

    async fn compare_and_swap(&self, key: &RecordKey, body: &[u8], expected: &Version) -> Result<Version, StoreError> {
        let mode = PutMode::Update(condition(expected));
        match self.store.put_opts(&self.path(key), body.to_vec().into(), mode.into()).await {
            Ok(put) => version(put.e_tag, put.version).ok_or_else(|| no_version("replace", key)),
            Err(Error::Precondition { .. } | Error::NotFound { .. }) => Err(StoreError::Stale { key: key.clone() }),
            Err(error @ Error::AlreadyExists { .. }) => match self.version_now(key).await? {
                Some(found) if found == *expected => Err(failed("replace", key, &error)),
                _ => Err(StoreError::Stale { key: key.clone() }),
            },
            Err(error) => Err(failed("replace", key, &error)),
        }
    }

    async fn list_after(&self, after: &RecordKey) -> Result<Vec<RecordKey>, StoreError> {
        let folder = self.folder(after);
        let listed = self.store.list_with_offset(Some(&folder), &self.path(after));
        let listed: Vec<_> =
            listed.try_collect().await.map_err(|error| failed("list the records after", after, &error))?;
        let keys = listed.iter().filter_map(|meta| {
            let mut parts = meta.location.prefix_match(&folder)?;
            // What lies deeper, or has a name that no record has, is somebody else's.
            let (name, None) = (parts.next()?, parts.next()) else { return None };
            RecordKey::new(after.folder(), name.as_ref()).ok()
        });
        // The order is not promised, and neither is it everywhere that the offset itself is left out.
        let mut keys: Vec<_> = keys.filter(|key| key.name() > after.name()).collect();
        keys.sort();
        Ok(keys)
    }

    async fn delete(&self, key: &RecordKey) -> Result<(), StoreError> {
        match self.store.delete(&self.path(key)).await {
            Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(failed("delete", key, &error)),
        }
    }
}

/// Stores compare either the entity tag or a number of theirs, so both are kept. Neither can hold a line break.
fn version(e_tag: Option<String>, number: Option<String>) -> Option<Version> {
    if e_tag.is_none() && number.is_none() {
        return None;
    }
    Some(Version::new(format!("{}\n{}", e_tag.unwrap_or_default(), number.unwrap_or_default())))
}

fn condition(version: &Version) -> UpdateVersion {
    let (e_tag, number) = version.as_str().split_once('\n').unwrap_or((version.as_str(), ""));
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    UpdateVersion { e_tag: some(e_tag), version: some(number) }
}

fn failed(verb: &str, key: &RecordKey, error: &Error) -> StoreError {
    let cause = cause::of(error);
    StoreError::failed(format!("{verb} {key} ({cause})"), cause)
}

fn no_version(verb: &str, key: &RecordKey) -> StoreError {
    let cause = "the store tells no versions";
    StoreError::failed(format!("{verb} {key} ({cause})"), cause)
}
