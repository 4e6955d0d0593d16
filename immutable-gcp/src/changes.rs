//! Sending changes: one, or several at once, such as one in each zone.

use google_cloud_compute_v1::model::Operation;
use google_cloud_gax::error::Error;
use immutable_core::provider::{Effect, ErrorKind, Progress, ProviderError};

use crate::error::failed;
use crate::operation::{Change, SOON, Turn};

/// Sends the request of a change with its id, if its time has come, and tells whether it is done.
///
/// # Errors
/// Why the last attempt failed just now, or why the request was refused.
pub(crate) async fn send<F>(
    change: &Change<'_>,
    request: impl FnOnce(String) -> F,
) -> Result<Progress<()>, ProviderError>
where
    F: Future<Output = Result<Operation, Error>>,
{
    let id = match change.turn().await? {
        Turn::Wait(progress) => return Ok(progress),
        Turn::Send(id) => id,
    };
    let answer = Box::pin(request(id)).await.map_err(|error| failed(change.operation, Effect::None, error))?;
    change.answered(Effect::None, &answer)
}

/// Sends the requests whose time has come, each with its id, and tells whether all of them are done.
///
/// Nothing is sent before it is known of all whether it may be: so what refuses one of them leaves the others undone as well.
///
/// # Errors
/// Why the last attempt of one failed just now, or why one was refused.
pub(crate) async fn send_all<T, F>(
    changes: Vec<(Change<'_>, T)>,
    request: impl Fn(T, String) -> F,
) -> Result<Progress<()>, ProviderError>
where
    F: Future<Output = Result<Operation, Error>>,
{
    let (mut ready, mut progress) = (Vec::new(), Progress::Done(()));
    for (change, what) in changes {
        match change.turn().await? {
            Turn::Send(id) => ready.push((change, what, id)),
            Turn::Wait(wait) => progress = wait,
        }
    }
    let mut before = Effect::None;
    for (change, what, id) in ready {
        let answer = Box::pin(request(what, id)).await.map_err(|error| failed(change.operation, before, error))?;
        if let wait @ Progress::Pending { .. } = change.answered(before, &answer)? {
            progress = wait;
        }
        before = Effect::Unknown;
    }
    Ok(progress)
}

/// What is gone already need not be removed: a list may show it for a while.
pub(crate) fn gone(error: ProviderError) -> Result<Progress<()>, ProviderError> {
    if error.kind() == ErrorKind::NotFound { Ok(Progress::Done(())) } else { Err(error) }
}

/// What to wait for when a change was sent: even if its operation is over at once, only a look says that the thing is there.
pub(crate) fn until_seen(sent: Progress<()>, what: &str) -> Progress<()> {
    match sent {
        Progress::Done(()) => Progress::Pending { retry_after: SOON, note: format!("{what} to be seen") },
        pending @ Progress::Pending { .. } => pending,
    }
}
