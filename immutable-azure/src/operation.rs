//! Driving asynchronous operations: one bounded look per call, resumable by whoever comes next.
//!
//! # Flow
//! A call looks at the thing it is about, and at its [standing](Standing). While an operation runs on it, the call waits. Otherwise the call sends
//! its change, if the thing is not as it should be, and reads from the answer what [has begun](begun). Most changes go on after their answer: then
//! the call is pending, and the next one looks at the thing again.
//!
//! The answer also says where the operation itself can be looked at. Such a [`Handle`] is plain text: it can be looked at in the same call, to tell
//! at once why a change failed early, or be kept and looked at later by any process.
//!
//! # Guarantees
//! Nothing is remembered here, and nothing needs to be: whether a change runs, is done or has failed is in the `provisioningState` of the thing.
//!
//! # Assumptions
//! Only the operation has the words for a failure; the thing itself says no more than `Failed`, until a change of it succeeds. Who finds it so and
//! has no handle learns why from the statuses of its instances (whose codes [`Complaint`] and the table of errors know as well), tells that, and
//! then sends the change again: that is how the vendor lets a thing be repaired. A handle may be forgotten by the platform some time after the
//! operation has ended: then it is not found, and only the thing tells.
//!
//! # Errors
//! A change that was accepted and then failed is an error that says whether the call itself had changed anything before.

use std::fmt;
use std::time::Duration;

use immutable_core::provider::{Effect, ErrorKind, Progress, ProviderError};
use serde::{Deserialize, Serialize};

use crate::Clients;
use crate::client::{Answer, Request};
use crate::error::{Complaint, of_operation, unseen};

/// When to ask again about an operation if the platform does not say: most of those on machines take a minute.
pub(crate) const SOON: Duration = Duration::from_secs(10);

/// Where an operation can be looked at, as text that any process can use.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Handle {
    /// A page that says how the operation stands: from the header `Azure-AsyncOperation`, which is to be preferred.
    Status(String),
    /// A page that is not there yet, as 202 says, until the operation has ended: from the header `Location`.
    Result(String),
}

impl fmt::Debug for Handle {
    /// Without the signature of the link.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let link = self.link().split('?').next().unwrap_or_default();
        f.debug_tuple("Handle").field(&link).finish()
    }
}

/// What the answer to a change says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Begun {
    pub(crate) progress: Progress<()>,
    /// Where to look, if it goes on and the platform says where.
    pub(crate) handle: Option<Handle>,
}

/// How a thing stands, by its `provisioningState`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// The last change of it succeeded.
    Settled,
    /// A change of it goes on, its removal perhaps: another one would be refused.
    Busy,
    /// The last change of it failed or was cancelled.
    Failed,
}

impl Standing {
    /// The standing of a thing in this state: what does not [end](https://learn.microsoft.com/azure/azure-resource-manager/management/async-operations#provisioningstate-values)
    /// an operation goes on, and what has no state is done.
    pub(crate) fn of(state: Option<&str>) -> Self {
        let is = |end: &str| state.is_some_and(|state| state.eq_ignore_ascii_case(end));
        match state {
            None => Self::Settled,
            Some(_) if is("Succeeded") => Self::Settled,
            Some(_) if is("Failed") || is("Canceled") => Self::Failed,
            Some(_) => Self::Busy,
        }
    }
}

#[derive(Deserialize)]
struct Thing {
    #[serde(default)]
    properties: Properties,
}

#[derive(Default, Deserialize)]
struct Properties {
    #[serde(rename = "provisioningState")]
    state: Option<String>,
}

#[derive(Deserialize)]
struct Status {
    status: String,
}

/// What the answer to a change of a thing says. `before` is what the call has done so far.
///
/// # Errors
/// Why the change failed, if it is over already.
pub(crate) fn begun(
    operation: &'static str,
    before: Effect,
    thing: &str,
    answer: &Answer,
) -> Result<Begun, ProviderError> {
    let handle = Handle::of(answer);
    let goes_on = || pending(answer, thing);
    let progress = match standing_in(answer) {
        Some(Standing::Failed) if handle.is_none() => return Err(over(operation, before, thing, answer)),
        // An operation is not over because the thing still says how the one before ended.
        _ if handle.is_some() || answer.status == 202 => goes_on(),
        Some(Standing::Settled) => Progress::Done(()),
        // What cannot be read tells nothing: the next look at the thing does.
        Some(Standing::Busy | Standing::Failed) | None => goes_on(),
    };
    Ok(Begun { progress, handle })
}

impl Handle {
    fn of(answer: &Answer) -> Option<Self> {
        let link = |name| answer.header(name).filter(|link| !link.is_empty()).map(str::to_owned);
        // On other answers than 202, `Location` names the thing that was made.
        let result = || link("location").filter(|_| answer.status == 202);
        link("azure-asyncoperation").map(Self::Status).or_else(|| result().map(Self::Result))
    }

    fn link(&self) -> &str {
        let (Self::Status(link) | Self::Result(link)) = self;
        link
    }

    /// Looks once at the operation on a thing. `before` is what the call has done so far, this operation not counted.
    ///
    /// # Errors
    /// Why the operation failed, or why it cannot be seen; `NotFound` when it is forgotten.
    pub(crate) async fn look(
        &self,
        clients: &Clients,
        operation: &'static str,
        before: Effect,
        thing: &str,
    ) -> Result<Progress<()>, ProviderError> {
        let answer = clients.send(Request::link(self.link())).await.map_err(|failure| unseen(operation, failure))?;
        let standing = match self {
            Self::Status(_) => {
                let status = answer.json::<Status>().map_err(|failure| unseen(operation, failure))?;
                Standing::of(Some(&status.status))
            }
            Self::Result(_) if answer.status == 202 => Standing::Busy,
            // The content is what the operation leads to: often the thing, sometimes something else.
            Self::Result(_) => standing_in(&answer).unwrap_or(Standing::Settled),
        };
        match standing {
            Standing::Settled => Ok(Progress::Done(())),
            Standing::Busy => Ok(pending(&answer, thing)),
            Standing::Failed => Err(over(operation, before, thing, &answer)),
        }
    }
}

/// How the thing in an answer stands; nothing if that is not said in a form that can be read.
fn standing_in(answer: &Answer) -> Option<Standing> {
    if answer.body.is_empty() {
        return Some(Standing::Settled);
    }
    answer.json::<Thing>().ok().map(|thing| Standing::of(thing.properties.state.as_deref()))
}

fn over(operation: &'static str, before: Effect, thing: &str, answer: &Answer) -> ProviderError {
    if let Some(complaint) = Complaint::read(&answer.body) {
        return of_operation(operation, before, &complaint);
    }
    let problem = format!("the change of {thing} failed without a reason: look at its instances");
    let failed = ProviderError::new(ErrorKind::Internal, operation, problem);
    if before == Effect::None { failed.without_effect() } else { failed }
}

fn pending(answer: &Answer, thing: &str) -> Progress<()> {
    let retry_after = answer.retry_after().unwrap_or(SOON);
    Progress::Pending { retry_after, note: format!("the operation on {thing} to be done") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Server, answer, reply};

    const STATUS: (&str, &str) = ("Azure-AsyncOperation", "https://management.azure.com/operations/1?s=hunter2");
    const RESULT: (&str, &str) = ("Location", "https://management.azure.com/results/1");

    fn kind(progress: &Result<Progress<()>, ProviderError>) -> String {
        match progress {
            Ok(Progress::Done(())) => "done".to_owned(),
            Ok(Progress::Pending { retry_after, .. }) => format!("wait {}", retry_after.as_secs()),
            Err(error) => format!("{error}"),
        }
    }

    fn in_state(state: &str) -> String {
        format!(r#"{{"name":"web","properties":{{"provisioningState":"{state}"}}}}"#)
    }

    #[test]
    fn the_state_of_a_thing_says_how_it_stands() {
        for (state, standing) in [
            (None, Standing::Settled),
            (Some("Succeeded"), Standing::Settled),
            (Some("succeeded"), Standing::Settled),
            (Some("Failed"), Standing::Failed),
            (Some("Canceled"), Standing::Failed),
            (Some("Creating"), Standing::Busy),
            (Some("Updating"), Standing::Busy),
            (Some("Deleting"), Standing::Busy),
            (Some("SomethingNew"), Standing::Busy),
            (Some(""), Standing::Busy),
        ] {
            assert_eq!(Standing::of(state), standing, "{state:?}");
        }
    }

    #[test]
    fn the_answer_to_a_change_says_what_has_begun() {
        let failed = r#"{"error":{"code":"QuotaExceeded","message":"m"},"properties":{"provisioningState":"Failed"}}"#;
        let wait = ("Retry-After", "3");
        for (status, headers, body, expected, link) in [
            (200, vec![], in_state("Succeeded"), "done", None),
            (201, vec![], in_state("Succeeded"), "done", None),
            (200, vec![], "{}".to_owned(), "done", None),
            (200, vec![], String::new(), "done", None),
            (204, vec![], String::new(), "done", None),
            (201, vec![RESULT], in_state("Succeeded"), "done", None),
            (201, vec![], in_state("Creating"), "wait 10", None),
            (200, vec![wait], in_state("Updating"), "wait 3", None),
            (201, vec![STATUS, wait], in_state("Creating"), "wait 3", Some("operations/1")),
            (200, vec![STATUS], in_state("Succeeded"), "wait 10", Some("operations/1")),
            (200, vec![STATUS], in_state("Failed"), "wait 10", Some("operations/1")),
            (202, vec![STATUS, RESULT], String::new(), "wait 10", Some("operations/1")),
            (202, vec![RESULT, wait], String::new(), "wait 3", Some("results/1")),
            (202, vec![], String::new(), "wait 10", None),
            (202, vec![], "{}".to_owned(), "wait 10", None),
            (200, vec![], "<html>".to_owned(), "wait 10", None),
            (200, vec![], failed.to_owned(), "quota reached in test: QuotaExceeded: m", None),
            (
                200,
                vec![],
                in_state("Failed"),
                "internal error in test: the change of web failed without a reason: look at its instances",
                None,
            ),
        ] {
            let answer = answer(status, &headers, &body);
            let begun = begun("test", Effect::None, "web", &answer);
            let handle = begun.as_ref().ok().and_then(|begun| begun.handle.clone());
            let context = format!("{status} {headers:?} {body}");
            assert_eq!(kind(&begun.map(|begun| begun.progress)), expected, "{context}");
            assert_eq!(handle.is_some(), link.is_some(), "{context}");
            assert!(handle.iter().all(|handle| handle.link().contains(link.unwrap())), "{context}");
        }
    }

    #[tokio::test]
    async fn a_look_at_an_operation_says_how_it_stands() {
        let failed = r#"{"status":"Failed","error":{"code":"ZonalAllocationFailed","message":"full"}}"#;
        let (status, result) = (Handle::Status as fn(String) -> Handle, Handle::Result as fn(String) -> Handle);
        for (handle, code, headers, body, expected) in [
            (status, 200, vec![], r#"{"status":"InProgress"}"#.to_owned(), "wait 10"),
            (status, 202, vec![("Retry-After", "3")], r#"{"status":"Running"}"#.to_owned(), "wait 3"),
            (status, 200, vec![], r#"{"status":"Succeeded"}"#.to_owned(), "done"),
            (status, 200, vec![], failed.to_owned(), "no capacity in test: ZonalAllocationFailed: full"),
            (
                status,
                200,
                vec![],
                r#"{"status":"Canceled"}"#.to_owned(),
                "internal error in test: the change of web failed without a reason: look at its instances",
            ),
            (status, 200, vec![], String::new(), "internal error in test: the answer could not be read: look again"),
            (status, 404, vec![], String::new(), "not found in test: status 404 without an error that can be read"),
            (result, 202, vec![("Retry-After", "3")], String::new(), "wait 3"),
            (result, 200, vec![], String::new(), "done"),
            (result, 204, vec![], String::new(), "done"),
            (result, 200, vec![], in_state("Succeeded"), "done"),
            (result, 200, vec![], in_state("Updating"), "wait 10"),
            (result, 200, vec![], "[1]".to_owned(), "done"),
            (
                result,
                409,
                vec![],
                r#"{"error":{"code":"AllocationFailed","message":"full"}}"#.to_owned(),
                "no capacity in test: AllocationFailed: full",
            ),
        ] {
            let server = Server::start([reply(code, &headers, &body)]).await;
            let handle = handle(format!("{}/operations/1?s=hunter2", server.url));
            // Another process has nothing but the text.
            let handle: Handle = serde_json::from_str(&serde_json::to_string(&handle).unwrap()).unwrap();
            let progress = handle.look(&server.clients(), "test", Effect::None, "web").await;
            assert_eq!(kind(&progress), expected, "{code} {body}");
            assert!(progress.err().is_none_or(|error| error.effect() == Effect::None));
            assert_eq!(server.only().line, "GET /operations/1?s=hunter2");
        }
    }

    #[test]
    fn the_signature_of_a_link_is_in_no_debug() {
        let begun = begun("test", Effect::None, "web", &answer(202, &[STATUS], "")).unwrap();
        assert!(!format!("{begun:?}").contains("hunter2"), "{begun:?}");
    }
}
