//! What the errors of Azure mean here: one table, from the vendor's code to a kind and a hint when to try again.

mod complaint;
mod table;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::time::Duration;

use immutable_core::provider::{Effect, ErrorKind, ProviderError};

pub(crate) use complaint::Complaint;
use table::{Row, row};

use crate::client::{Answer, Failure};

/// The longest text of the vendor's that is told on, in characters.
const LONGEST: usize = 500;

/// When to try again what was throttled without a word on when.
const THROTTLED_FOR: Duration = Duration::from_secs(20);

/// What a failed request means for the call that sent it.
///
/// `before` is `None` as long as the call has changed nothing: then a refusal leaves nothing behind. No answer, or one that says
/// that Azure itself failed, may have had an effect.
pub(crate) fn failed(operation: &'static str, before: Effect, failure: Failure) -> ProviderError {
    use ErrorKind as Kind;
    let (kind, effect, message) = match &failure {
        Failure::Refused(answer) => return refused(operation, before, answer).with_source(failure),
        Failure::NoToken(_) if failure.is_passing() => {
            (Kind::Unavailable, Effect::None, Cow::from("no token could be had now: look again"))
        }
        Failure::NoToken(_) => (Kind::PermissionDenied, Effect::None, Cow::from(NO_TOKEN)),
        Failure::Foreign(host) => (Kind::PermissionDenied, Effect::None, foreign(host).into()),
        Failure::Unmade(why) => {
            (Kind::InvalidRequest, Effect::None, format!("the request could not be made: {why}").into())
        }
        Failure::Unreached(_) => {
            (Kind::Unavailable, Effect::None, "there was no connection to Azure: look again".into())
        }
        Failure::Late(_) => (Kind::Timeout, Effect::Unknown, "no answer in time".into()),
        Failure::Lost(_) => (Kind::Unavailable, Effect::Unknown, "the connection to Azure failed: look again".into()),
        Failure::Unreadable => (Kind::Internal, Effect::Unknown, "the answer could not be read: look again".into()),
    };
    with_effect(ProviderError::new(kind, operation, message), before, effect).with_source(failure)
}

/// What a failed look means for the call that looked: a look changes nothing, whether it was answered or not.
pub(crate) fn unseen(operation: &'static str, failure: Failure) -> ProviderError {
    failed(operation, Effect::None, failure).without_effect()
}

/// What is said of an operation that was accepted and then failed, or of an instance that could not be made. It is over: nothing of it lands any
/// more, and the next look shows what it has done until then.
pub(crate) fn of_operation(operation: &'static str, before: Effect, complaint: &Complaint) -> ProviderError {
    let (telling, row) = most_telling(complaint, None);
    let kind = row.map_or(ErrorKind::Internal, |row| row.kind);
    let failed = ProviderError::new(kind, operation, words(telling));
    with_hint(with_effect(failed, before, Effect::None), None, row)
}

const NO_TOKEN: &str = "no token could be had: sign in with `az login` and set AZURE_TOKEN_CREDENTIALS to \"dev\", or check the \
    managed identity or the service principal";

fn foreign(host: &str) -> String {
    format!("{:?} is not Azure Resource Manager, so nothing was sent there: check the endpoint", one_line(host))
}

fn refused(operation: &'static str, before: Effect, answer: &Answer) -> ProviderError {
    let (by_status, effect) = by_status(answer.status);
    let complaint = Complaint::read(&answer.body);
    let (message, row) = match &complaint {
        Some(complaint) => {
            let (telling, row) = most_telling(complaint, Some(answer.status));
            (words(telling), row)
        }
        None => (format!("status {} without an error that can be read", answer.status), None),
    };
    // A vague code says no more than the status, and may say less.
    let kind = row.filter(|row| !row.is_vague).map_or(by_status, |row| row.kind);
    let message = if kind == ErrorKind::Throttled { message + &remaining(answer) } else { message };
    let failed = with_effect(ProviderError::new(kind, operation, message), before, effect);
    let hint = answer.retry_after().or((kind == ErrorKind::Throttled && row.is_none()).then_some(THROTTLED_FOR));
    with_hint(failed, hint, row)
}

/// The complaint that says most, and what it means: the outermost whose code is known and no mere status.
fn most_telling(complaint: &Complaint, status: Option<u16>) -> (&Complaint, Option<&'static Row>) {
    let all = complaint.all();
    let known = || all.iter().filter_map(move |one| Some((*one, meaning(one, status)?)));
    let found = known().find(|(_, row)| !row.is_vague).or_else(|| known().next());
    found.map_or((complaint, None), |(one, row)| (one, Some(row)))
}

fn meaning(complaint: &Complaint, status: Option<u16>) -> Option<&'static Row> {
    let code = complaint.code.as_deref()?;
    let about_quota = || {
        let words = complaint.message.as_deref().unwrap_or_default().to_ascii_lowercase();
        status != Some(429) && words.contains("quota")
    };
    // "The deployment is attempting an operation that exceeds the quota", or something else altogether.
    if code == "OperationNotAllowed" { row("QuotaExceeded").filter(|_| about_quota()) } else { row(code) }
}

/// A code that is not known yet is no reason to give up, and none to hope.
fn by_status(status: u16) -> (ErrorKind, Effect) {
    match status {
        400 | 422 => (ErrorKind::InvalidRequest, Effect::None),
        401 | 403 => (ErrorKind::PermissionDenied, Effect::None),
        404 | 410 => (ErrorKind::NotFound, Effect::None),
        409 | 412 => (ErrorKind::Conflict, Effect::None),
        429 => (ErrorKind::Throttled, Effect::None),
        408 | 504 => (ErrorKind::Timeout, Effect::Unknown),
        402..=499 => (ErrorKind::Internal, Effect::None),
        500..=599 => (ErrorKind::Unavailable, Effect::Unknown),
        _ => (ErrorKind::Internal, Effect::Unknown),
    }
}

/// What is left of the limits that [Azure Resource Manager](https://learn.microsoft.com/azure/azure-resource-manager/management/request-limits-and-throttling)
/// and the services behind it tell: which of them it is that has nothing left.
fn remaining(answer: &Answer) -> String {
    const PREFIX: &str = "x-ms-ratelimit-remaining-";
    let told = answer.headers.iter().filter_map(|(name, value)| {
        let (name, value) = (name.as_str().strip_prefix(PREFIX)?, value.to_str().ok()?);
        Some(format!("{name} {value}"))
    });
    let told: Vec<_> = told.take(10).collect();
    if told.is_empty() { String::new() } else { format!(" (left: {})", one_line(&told.join(", "))) }
}

fn with_effect(failed: ProviderError, before: Effect, effect: Effect) -> ProviderError {
    if before == Effect::None && effect == Effect::None { failed.without_effect() } else { failed }
}

fn with_hint(failed: ProviderError, told: Option<Duration>, row: Option<&Row>) -> ProviderError {
    let usual = || row.and_then(|row| row.retry_after).map(Duration::from_secs);
    match told.or_else(usual) {
        Some(delay) => failed.with_retry_after(delay),
        None => failed,
    }
}

/// The vendor's code and words, in one line that cannot grow without end.
fn words(complaint: &Complaint) -> String {
    let code = complaint.code.as_deref().unwrap_or("an error without a code");
    let words = complaint.message.as_deref().unwrap_or("without a reason");
    format!("{}: {}", one_line(code), one_line(words))
}

fn one_line(words: &str) -> String {
    words.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST).collect()
}
