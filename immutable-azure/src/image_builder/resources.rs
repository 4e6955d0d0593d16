//! Reading and changing resources as documents: all that is not ours in them stays as it is.

use immutable_core::provider::{Effect, ErrorKind, Progress, ProviderError};
use reqwest::Method;
use serde_json::Value;

use crate::Clients;
use crate::client::{Answer, Failure, Request};
use crate::error::{failed, unseen};
use crate::operation::begun;

/// The version of the API for machines and run commands.
pub(super) const COMPUTE: &str = "2024-07-01";
/// The version of the API for galleries.
pub(super) const GALLERIES: &str = "2023-07-03";
/// The version of the API for disks.
pub(super) const DISKS: &str = "2024-03-02";
/// The version of the API for network interfaces.
pub(super) const NETWORK: &str = "2024-05-01";

/// A kind of resources: the operation that looks at them and the version of their API.
#[derive(Debug, Clone, Copy)]
pub(super) struct Api<'a> {
    pub(super) clients: &'a Clients,
    pub(super) operation: &'static str,
    pub(super) version: &'static str,
}

impl Api<'_> {
    /// One resource, if there is one. `expand`: what is wanted beside it.
    pub(super) async fn get(&self, id: &str, expand: Option<&str>) -> Result<Option<Value>, ProviderError> {
        let mut request = Request::new(Method::GET, id, self.version);
        if let Some(expand) = expand {
            request = request.query("$expand", expand);
        }
        let found = self.clients.send(request).await.and_then(|answer| answer.json());
        match found.map_err(|failure| unseen(self.operation, failure)) {
            Ok(found) => Ok(Some(found)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// All resources of a folder, of all pages.
    pub(super) async fn list(&self, folder: &str) -> Result<Vec<Value>, ProviderError> {
        let (mut request, mut found) = (Request::new(Method::GET, folder, self.version), Vec::new());
        loop {
            let page = self.clients.send(request).await.and_then(|answer| answer.json::<Value>());
            let mut page = page.map_err(|failure| unseen(self.operation, failure))?;
            let Some(rows) = page["value"].as_array_mut() else {
                return Err(unseen(self.operation, Failure::Unreadable));
            };
            found.append(rows);
            match page["nextLink"].as_str().filter(|link| !link.is_empty()) {
                Some(link) => request = Request::link(link),
                None => return Ok(found),
            }
        }
    }

    /// Sends a change of a thing. `before` is what the call has done so far.
    pub(super) async fn change(
        &self,
        before: Effect,
        thing: &str,
        request: Result<Request, Failure>,
    ) -> Result<Progress<()>, ProviderError> {
        let answer = match request {
            Ok(request) => self.clients.send(request).await,
            Err(failure) => Err(failure),
        };
        self.begun(before, thing, answer)
    }

    /// What the answer to a change of a thing says.
    pub(super) fn begun(
        &self,
        before: Effect,
        thing: &str,
        answer: Result<Answer, Failure>,
    ) -> Result<Progress<()>, ProviderError> {
        let answer = answer.map_err(|failure| failed(self.operation, before, failure))?;
        begun(self.operation, before, thing, &answer).map(|begun| begun.progress)
    }

    /// Deletes a thing. Done when it is gone; whether there was one to delete, if it is not.
    pub(super) async fn delete(&self, before: Effect, id: &str) -> Result<Progress<()>, ProviderError> {
        let request = Request::new(Method::DELETE, id, self.version);
        match self.change(before, last(id), Ok(request)).await {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Progress::Done(())),
            // Something else is done with it, its deletion perhaps.
            Err(error) if error.kind() == ErrorKind::Conflict => {
                let note = format!("what is done with {} to be over", last(id));
                Ok(Progress::Pending { retry_after: super::FOR_A_BUILD, note })
            }
            other => other,
        }
    }
}

/// The name at the end of an id.
pub(super) fn last(id: &str) -> &str {
    id.rsplit('/').next().unwrap_or_default()
}
