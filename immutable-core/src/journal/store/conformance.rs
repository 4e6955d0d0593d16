//! The clauses of [`RecordStore`] as checks, for the tests of whoever implements it.
//!
//! ```
//! use immutable_core::journal::store::{MemoryStore, conformance};
//! # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
//! conformance::check(&MemoryStore::new()).await?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use futures_util::future::join_all;

use super::{RecordKey, RecordStore, StoreError, Version};
use crate::journal::Nonce;

/// A clause that a store does not keep.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{clause}: {seen}")]
pub struct Violation {
    /// The id of the clause, as in the contract of [`RecordStore`].
    pub clause: &'static str,
    /// What was seen instead.
    pub seen: String,
}

type Checked = Result<(), Violation>;

/// Checks every clause that can be seen from outside, in folders of its own whose names are drawn anew; they are left behind.
///
/// # Errors
/// The first [`Violation`], also when the store fails.
pub async fn check(store: &dyn RecordStore) -> Checked {
    created_only_if_absent(store).await?;
    of_a_hundred_creators_one_wins(store).await?;
    compare_and_swap(store).await?;
    of_a_hundred_swappers_one_wins(store).await?;
    a_version_does_not_come_back(store).await?;
    listed_in_order(store).await?;
    deleted(store).await
}

async fn created_only_if_absent(store: &dyn RecordStore) -> Checked {
    let clause = Clause { id: "S1", store, folder: folder("S1")? };
    let key = clause.key("r-1");
    clause.expect(
        store.get(&key).await.is_ok_and(|found| found.is_none()),
        "a record is there that nobody has written",
    )?;
    clause.write("create", store.create(&key, b"first").await)?;
    let again = store.create(&key, b"second").await;
    clause.expect(matches!(again, Err(StoreError::Exists { .. })), format!("a second creation answers {again:?}"))?;
    clause.holds(&key, b"first").await
}

async fn of_a_hundred_creators_one_wins(store: &dyn RecordStore) -> Checked {
    let clause = Clause { id: "S1", store, folder: folder("S1")? };
    let key = clause.key("r-1");
    let bodies: Vec<_> = (0..100).map(|racer| format!("racer {racer}")).collect();
    let answers = join_all(bodies.iter().map(|body| store.create(&key, body.as_bytes()))).await;
    clause.one_won(&key, &bodies, answers).await
}

async fn compare_and_swap(store: &dyn RecordStore) -> Checked {
    let clause = Clause { id: "S2", store, folder: folder("S2")? };
    let (key, absent) = (clause.key("lease"), clause.key("absent"));
    let first = clause.write("create", store.create(&key, b"first").await)?;
    let stale = store.compare_and_swap(&absent, b"body", &first).await;
    clause.expect(matches!(stale, Err(StoreError::Stale { .. })), format!("replacing nothing answers {stale:?}"))?;
    clause.expect(store.get(&absent).await.is_ok_and(|found| found.is_none()), "replacing nothing makes a record")?;
    let second = clause.write("replace", store.compare_and_swap(&key, b"second", &first).await)?;
    clause.expect(first != second, "another body has the same version")?;
    clause.holds(&key, b"second").await?;
    let stale = store.compare_and_swap(&key, b"third", &first).await;
    clause.expect(matches!(stale, Err(StoreError::Stale { .. })), format!("an old version answers {stale:?}"))?;
    clause.holds(&key, b"second").await?;
    let found = clause.get(&key).await?.map(|stored| stored.version);
    clause.expect(found.as_ref() == Some(&second), "`get` gives another version than the write")
}

async fn of_a_hundred_swappers_one_wins(store: &dyn RecordStore) -> Checked {
    let clause = Clause { id: "S2", store, folder: folder("S2")? };
    let key = clause.key("lease");
    let version = clause.write("create", store.create(&key, b"first").await)?;
    let bodies: Vec<_> = (0..100).map(|racer| format!("racer {racer}")).collect();
    let answers = join_all(bodies.iter().map(|body| store.compare_and_swap(&key, body.as_bytes(), &version))).await;
    clause.one_won(&key, &bodies, answers).await
}

/// The body comes back but for its nonce, which is what a journal writes; the version must not.
async fn a_version_does_not_come_back(store: &dyn RecordStore) -> Checked {
    let clause = Clause { id: "S3", store, folder: folder("S3")? };
    let key = clause.key("lease");
    let old = clause.write("create", store.create(&key, b"held 1").await)?;
    let between = clause.write("replace", store.compare_and_swap(&key, b"free 2", &old).await)?;
    let now = clause.write("replace", store.compare_and_swap(&key, b"held 3", &between).await)?;
    clause.expect(old != now && old != between, "a version came back")?;
    let stale = store.compare_and_swap(&key, b"stolen 4", &old).await;
    clause.expect(matches!(stale, Err(StoreError::Stale { .. })), format!("an old version answers {stale:?}"))?;
    clause.holds(&key, b"held 3").await
}

async fn listed_in_order(store: &dyn RecordStore) -> Checked {
    let clause = Clause { id: "S6", store, folder: folder("S6")? };
    let names: Vec<_> = (1..=25).map(|number| format!("r-{number:05}")).collect();
    for name in names.iter().rev() {
        clause.write("create", store.create(&clause.key(name), name.as_bytes()).await)?;
    }
    clause.write("create", store.create(&clause.key("lease"), b"lease").await)?;
    let elsewhere = Clause { id: "S6", store, folder: folder("S6")? };
    clause.write("create", store.create(&elsewhere.key("r-00099"), b"other").await)?;
    for after in [0, 1, 10, 24, 25] {
        let listed = store.list_after(&clause.key(&format!("r-{after:05}"))).await;
        let listed = listed.map_err(|error| clause.violation(error.to_string()))?;
        let expected: Vec<_> = names[after..].iter().map(|name| clause.key(name)).collect();
        clause.expect(listed == expected, format!("after {after} it lists {listed:?}"))?;
    }
    let nowhere =
        RecordKey::new(format!("{}-none", clause.folder), "r").map_err(|e| clause.violation(e.to_string()))?;
    clause.expect(store.list_after(&nowhere).await.is_ok_and(|found| found.is_empty()), "an absent folder is not empty")
}

async fn deleted(store: &dyn RecordStore) -> Checked {
    let clause = Clause { id: "S7", store, folder: folder("S7")? };
    let (key, other) = (clause.key("r-1"), clause.key("r-2"));
    for key in [&key, &other] {
        clause.write("create", store.create(key, b"body").await)?;
    }
    for _ in 0..2 {
        store.delete(&key).await.map_err(|error| clause.violation(error.to_string()))?;
        clause.expect(clause.get(&key).await?.is_none(), "it is still there")?;
    }
    let left = store.list_after(&clause.key("r-0")).await.unwrap_or_default();
    clause.expect(left == [other], format!("{left:?} is left"))?;
    clause.write("create anew", store.create(&key, b"body").await).map(|_| ())
}

struct Clause<'a> {
    id: &'static str,
    store: &'a dyn RecordStore,
    folder: String,
}

impl Clause<'_> {
    fn key(&self, name: &str) -> RecordKey {
        RecordKey::new(self.folder.clone(), name).expect("invariant: letters, digits and hyphens are a key")
    }

    fn violation(&self, seen: impl Into<String>) -> Violation {
        Violation { clause: self.id, seen: seen.into() }
    }

    fn expect(&self, so: bool, otherwise: impl Into<String>) -> Checked {
        if so { Ok(()) } else { Err(self.violation(otherwise)) }
    }

    fn write(&self, what: &str, answer: Result<Version, StoreError>) -> Result<Version, Violation> {
        answer.map_err(|error| self.violation(format!("{what}: {error}")))
    }

    async fn get(&self, key: &RecordKey) -> Result<Option<super::Stored>, Violation> {
        self.store.get(key).await.map_err(|error| self.violation(error.to_string()))
    }

    async fn holds(&self, key: &RecordKey, body: &[u8]) -> Checked {
        let found = self.get(key).await?.map(|stored| stored.body);
        let text = found.as_deref().map(String::from_utf8_lossy);
        self.expect(found.as_deref() == Some(body), format!("{key} is {text:?}"))
    }

    async fn one_won(&self, key: &RecordKey, bodies: &[String], answers: Vec<Result<Version, StoreError>>) -> Checked {
        let winners: Vec<_> = bodies.iter().zip(&answers).filter(|(_, answer)| answer.is_ok()).collect();
        let &[(body, _)] = winners.as_slice() else {
            return Err(self.violation(format!("{} of {} won", winners.len(), bodies.len())));
        };
        let lost = answers.iter().filter_map(|answer| answer.as_ref().err());
        for error in lost {
            let told = matches!(error, StoreError::Exists { .. } | StoreError::Stale { .. });
            self.expect(told, format!("a loser is told: {error}"))?;
        }
        self.holds(key, body.as_bytes()).await
    }
}

fn folder(clause: &'static str) -> Result<String, Violation> {
    let nonce = Nonce::random().map_err(|error| Violation { clause, seen: error.to_string() })?;
    Ok(format!("{clause}-{nonce}"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use async_trait::async_trait;

    use super::super::{DirectoryStore, MemoryStore, Stored};
    use super::*;

    #[tokio::test]
    async fn memory_keeps_its_contract() {
        assert_eq!(check(&MemoryStore::new()).await, Ok(()));
    }

    #[tokio::test]
    async fn a_directory_keeps_its_contract() {
        let directory = tempfile::tempdir().unwrap();
        let store = DirectoryStore::open(directory.path()).unwrap();
        assert_eq!(check(&store).await, Ok(()));
    }

    /// What a broken store gets wrong.
    #[derive(Debug, Clone, Copy, PartialEq)]
    enum Fault {
        CreateOverwrites,
        SwapIgnoresTheVersion,
        SwapCreates,
        VersionsAreLengths,
        ListsBackward,
        ListsOtherFolders,
        KeepsTheDeleted,
    }

    #[derive(Debug)]
    struct Broken {
        store: Arc<MemoryStore>,
        fault: Fault,
    }

    impl Broken {
        fn shown(&self, version: Version, body: &[u8]) -> Version {
            if self.fault == Fault::VersionsAreLengths { Version::new(body.len().to_string()) } else { version }
        }
    }

    #[async_trait]
    impl RecordStore for Broken {
        async fn create(&self, key: &RecordKey, body: &[u8]) -> Result<Version, StoreError> {
            if self.fault == Fault::CreateOverwrites {
                self.store.delete(key).await?;
            }
            self.store.create(key, body).await.map(|version| self.shown(version, body))
        }

        async fn get(&self, key: &RecordKey) -> Result<Option<Stored>, StoreError> {
            let stored = self.store.get(key).await?;
            Ok(stored.map(|Stored { body, version }| Stored { version: self.shown(version, &body), body }))
        }

        async fn compare_and_swap(
            &self,
            key: &RecordKey,
            body: &[u8],
            expected: &Version,
        ) -> Result<Version, StoreError> {
            let Some(stored) = self.store.get(key).await? else {
                return match self.fault {
                    Fault::SwapCreates => self.store.create(key, body).await,
                    _ => Err(StoreError::Stale { key: key.clone() }),
                };
            };
            let shown = self.shown(stored.version.clone(), &stored.body);
            if shown != *expected && self.fault != Fault::SwapIgnoresTheVersion {
                return Err(StoreError::Stale { key: key.clone() });
            }
            let version = self.store.compare_and_swap(key, body, &stored.version).await?;
            Ok(self.shown(version, body))
        }

        async fn list_after(&self, after: &RecordKey) -> Result<Vec<RecordKey>, StoreError> {
            let mut keys = self.store.list_after(after).await?;
            match self.fault {
                Fault::ListsBackward => keys.reverse(),
                Fault::ListsOtherFolders => keys.push(RecordKey::new("zzz", "r-99999").unwrap()),
                _ => {}
            }
            Ok(keys)
        }

        async fn delete(&self, key: &RecordKey) -> Result<(), StoreError> {
            if self.fault == Fault::KeepsTheDeleted { Ok(()) } else { self.store.delete(key).await }
        }
    }

    #[tokio::test]
    async fn each_broken_store_is_caught() {
        let cases = [
            (Fault::CreateOverwrites, "S1"),
            (Fault::SwapIgnoresTheVersion, "S2"),
            (Fault::SwapCreates, "S2"),
            (Fault::VersionsAreLengths, "S3"),
            (Fault::ListsBackward, "S6"),
            (Fault::ListsOtherFolders, "S6"),
            (Fault::KeepsTheDeleted, "S7"),
        ];
        for (fault, clause) in cases {
            let broken = Broken { store: Arc::default(), fault };
            let caught = check(&broken).await.unwrap_err();
            assert_eq!(caught.clause, clause, "{fault:?}: {caught}");
        }
    }
}
