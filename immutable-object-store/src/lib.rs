//! Journals in an object store: S3, Google Cloud Storage and Azure Blob Storage, through the crate [`object_store`].
//!
//! An [`ObjectRecordStore`] keeps the records of a [`StoreJournal`](immutable_core::journal::StoreJournal), so that controllers on
//! many hosts share a journal without a server of ours.
//!
//! ```
//! use std::sync::Arc;
//! use immutable_core::journal::StoreJournal;
//! use immutable_object_store::object_store::aws::AmazonS3Builder;
//! use immutable_object_store::{ObjectRecordStore, retry_config};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//!
//! let bucket = AmazonS3Builder::from_env()
//!     .with_bucket_name("rollouts")
//!     .with_region("eu-central-1")
//!     .with_retry(retry_config())
//!     .build()?;
//! let journal = StoreJournal::new(Arc::new(ObjectRecordStore::new(Arc::new(bucket), "production")));
//! # let _ = journal;
//! # Ok(())
//! # }
//! ```
//!
//! # What the store must be able to do
//! Conditional writes: S3 and what speaks its API with `If-None-Match` and `If-Match`, Google Cloud Storage, Azure Blob Storage.
//! `object_store`'s local file system cannot replace on a condition; [`DirectoryStore`](immutable_core::journal::store::DirectoryStore)
//! can. The rights needed are to read, write, delete and list objects under the prefix.
//!
//! # Features
//! * `aws`, `gcp`, `azure` (all on by default): the feature of `object_store` with that name, which brings TLS. Whoever wants
//!   another TLS than its default turns these off and chooses among the features of `object_store` directly.

mod cause;
mod store;

pub use object_store;
pub use store::{ObjectRecordStore, retry_config};
