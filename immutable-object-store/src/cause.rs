//! Why an object store failed, in our words.
//!
//! What `object_store` tells holds the body of the answer and often the address. A store that refuses a signature repeats the
//! request in that body, a session token included, and an address can carry a signature: neither is passed on.

use std::error::Error as _;

use object_store::Error;
use object_store::client::{HttpError, HttpErrorKind};

/// What went wrong, in a few words and without anything that the store said.
pub(crate) fn of(error: &Error) -> String {
    match error {
        Error::NotFound { .. } => "not found: is there such a bucket?".to_owned(),
        Error::PermissionDenied { .. } => "permission denied".to_owned(),
        Error::Unauthenticated { .. } => "the credentials were refused".to_owned(),
        Error::AlreadyExists { .. } => "another write is under way".to_owned(),
        Error::Precondition { .. } | Error::NotModified { .. } => "a condition was refused".to_owned(),
        Error::NotSupported { .. } | Error::NotImplemented { .. } => "this store cannot do it".to_owned(),
        Error::InvalidPath { .. } => "the path is not valid".to_owned(),
        other => deeper(other).unwrap_or_else(|| "for a reason that the store did not tell".to_owned()),
    }
}

/// The kind of a transport error, or the HTTP status of an answer, from deeper down.
fn deeper(error: &Error) -> Option<String> {
    let mut next = error.source();
    while let Some(cause) = next {
        if let Some(transport) = cause.downcast_ref::<HttpError>() {
            let words = match transport.kind() {
                HttpErrorKind::Connect => "no connection",
                HttpErrorKind::Timeout => "no answer in time",
                HttpErrorKind::Request | HttpErrorKind::Interrupted => "the connection was lost",
                HttpErrorKind::Decode => "the answer makes no sense",
                _ => "the connection failed",
            };
            return Some(words.to_owned());
        }
        if let Some(status) = status(&cause.to_string()) {
            return Some(format!("HTTP status {status}"));
        }
        next = cause.source();
    }
    None
}

/// The type that holds the status is private to `object_store`; its text is not.
fn status(text: &str) -> Option<&str> {
    let digits = text.strip_prefix("Server returned non-2xx status code: ")?.get(..3)?;
    digits.bytes().all(|byte| byte.is_ascii_digit()).then_some(digits)
}
