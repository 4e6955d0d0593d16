//! What the client hears.

use serde_json::{Value, json};

use crate::failure::Failure;

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    /// `null`: nothing.
    pub(crate) body: Value,
}

impl Answer {
    pub(crate) fn new(status: u16, body: Value) -> Self {
        Self { status, headers: Vec::new(), body }
    }

    /// Here it is.
    pub(crate) fn ok(body: Value) -> Self {
        Self::new(200, body)
    }

    /// There is nothing to say.
    pub(crate) fn nothing() -> Self {
        Self::new(204, Value::Null)
    }

    #[must_use]
    pub(crate) fn with(mut self, header: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((header, value.into()));
        self
    }
}

impl From<Failure> for Answer {
    fn from(failure: Failure) -> Self {
        let mut answer = Self::new(failure.status, json!({ "error": failure.error() }));
        if let Some(seconds) = failure.retry_after {
            answer = answer.with("retry-after", seconds.to_string());
        }
        if failure.status == 401 {
            answer = answer.with("www-authenticate", "Bearer error=\"invalid_token\"");
        }
        answer
    }
}
