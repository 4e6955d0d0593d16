//! Several changes at once, such as one in each zone.

use google_cloud_compute_v1::model::Operation;
use google_cloud_gax::error::Error;
use immutable_core::provider::{Effect, Progress, ProviderError};

use crate::error::failed;
use crate::operation::{Change, SOON, Turn};

/// Sends the requests whose time has come, each with its id, and tells whether all of them are done.
///
/// Nothing is sent before it is known of all whether it may be: so what refuses one of them leaves the others undone as well.
///
/// # Errors
/// Why the last attempt of one failed just now, or why one was refused.
pub(crate) async fn send<T, F>(
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
        if let wait @ Progress::Pending { .. } = change.answered(&answer)? {
            progress = wait;
        }
        before = Effect::Unknown;
    }
    Ok(progress)
}

/// What to wait for when a change was sent: even if its operation is over at once, only a look says that the thing is there.
pub(crate) fn until_seen(sent: Progress<()>, what: &str) -> Progress<()> {
    match sent {
        Progress::Done(()) => Progress::Pending { retry_after: SOON, note: format!("{what} to be seen") },
        pending @ Progress::Pending { .. } => pending,
    }
}
