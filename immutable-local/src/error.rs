//! Errors: what may be wrong with an image on disk, and how failures of the machine become provider errors.

use std::error::Error as _;
use std::io;
use std::path::Path;
use std::time::Duration;

use immutable_core::model::Fingerprint;
use immutable_core::provider::{ErrorKind, Progress, ProviderError};

/// How one file of an image differs from what was built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Drift {
    /// Its content, its kind or its executable bit is not what was built.
    Changed,
    /// It is gone.
    Missing,
    /// It was not built, but is there.
    Additional,
}

impl std::fmt::Display for Drift {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Changed => "was changed",
            Self::Missing => "is missing",
            Self::Additional => "was added",
        })
    }
}

/// Why an image on disk cannot be trusted. `Display` does not print the source.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// There is no such image.
    #[error("image {} is not here: build it first", .fingerprint.short())]
    Absent {
        /// The content that was looked for.
        fingerprint: Fingerprint,
    },
    /// The image is not what was built.
    #[error("image {} has drifted: {path:?} {drift}; remove the image and build it again", .fingerprint.short())]
    Drifted {
        /// The content that was built.
        fingerprint: Fingerprint,
        /// The file, relative to the image's root; `manifest.json` is the list of the files itself.
        path: String,
        /// How it differs.
        drift: Drift,
    },
    /// The image could not be read, so nothing is known about it.
    #[error("image {} cannot be read at {path:?}", .fingerprint.short())]
    Unreadable {
        /// The content that was looked for.
        fingerprint: Fingerprint,
        /// Where reading failed.
        path: String,
        /// Why.
        source: io::Error,
    },
}

impl VerifyError {
    /// As an error of an operation that changed nothing.
    pub(crate) fn into_provider(self, operation: impl Into<String>) -> ProviderError {
        let kind = match &self {
            Self::Absent { .. } => ErrorKind::NotFound,
            Self::Drifted { .. } => ErrorKind::Conflict,
            Self::Unreadable { source, .. } => kind_of(source),
        };
        let mut message = self.to_string();
        if let Some(source) = self.source() {
            message = format!("{message}: {source}");
        }
        ProviderError::new(kind, operation.into(), message).without_effect()
    }
}

/// What kind of failure an I/O error is to the engine.
pub(crate) fn kind_of(error: &io::Error) -> ErrorKind {
    match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => ErrorKind::PermissionDenied,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::Quota,
        io::ErrorKind::InvalidData => ErrorKind::Internal,
        _ => ErrorKind::Unavailable,
    }
}

/// An I/O error as a provider error; whether anything was changed is unknown.
pub(crate) fn io_error(operation: &str, error: io::Error) -> ProviderError {
    ProviderError::new(kind_of(&error), operation.to_owned(), error.to_string()).with_source(error)
}

/// Names the path in an I/O error, which the standard library does not.
pub(crate) trait AtPath<T> {
    fn at(self, path: &Path) -> io::Result<T>;
}

impl<T> AtPath<T> for io::Result<T> {
    fn at(self, path: &Path) -> io::Result<T> {
        self.map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
    }
}

/// The answer while another process works on the same root directory.
pub(crate) fn busy<T>(note: &str) -> Progress<T> {
    Progress::Pending { retry_after: Duration::from_millis(50), note: note.to_owned() }
}

/// Runs file and process work on a thread that may block, so that it never holds up the caller's other futures.
///
/// The work is not stopped when the future is dropped: it runs to its end, and the next look shows its result.
pub(crate) async fn blocking<T: Send + 'static>(
    operation: &str,
    work: impl FnOnce() -> Result<T, ProviderError> + Send + 'static,
) -> Result<T, ProviderError> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| {
        let message = "the work was stopped before its end; look again";
        Err(ProviderError::new(ErrorKind::Internal, operation.to_owned(), message).with_source(error))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drift_names_the_file_and_what_to_do() {
        let error =
            VerifyError::Drifted { fingerprint: Fingerprint::of("abc"), path: "bin/app".into(), drift: Drift::Changed };
        let expected = "conflict in ensure fleet web-1: image ba7816bf8f01 has drifted: \"bin/app\" was changed; \
                        remove the image and build it again";
        assert_eq!(error.into_provider("ensure fleet web-1").to_string(), expected);
    }

    #[test]
    fn an_io_error_names_its_path() {
        let error = Err::<(), _>(io::Error::from(io::ErrorKind::StorageFull)).at(Path::new("/x/y")).unwrap_err();
        let error = io_error("build image", error);
        assert_eq!(error.to_string(), "quota reached in build image: /x/y: no storage space");
    }
}
