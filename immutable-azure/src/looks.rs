//! Looks at things: one that may not be there, and lists with all their pages.

use immutable_core::provider::{ErrorKind, ProviderError};
use serde::Deserialize;
use serde_json::Value;

use crate::Clients;
use crate::client::{Answer, Failure, Request};
use crate::error::{Complaint, unseen};

/// One page of a list: <https://github.com/Azure/azure-resource-manager-rpc/blob/master/v1.0/resource-api-reference.md#get-resource>.
#[derive(Deserialize)]
struct Page {
    value: Vec<Value>,
    #[serde(rename = "nextLink", default)]
    next: Option<String>,
}

/// The thing that a request asks for, if it is there.
///
/// # Errors
/// Why it cannot be seen. That there is no such resource group says nothing of a thing in it.
pub(crate) async fn one(
    clients: &Clients,
    operation: &'static str,
    request: Request,
) -> Result<Option<Answer>, ProviderError> {
    match clients.send(request).await {
        Ok(answer) => Ok(Some(answer)),
        Err(failure) => absent(operation, failure).map(|()| None),
    }
}

/// All entries of a list; nothing, if what it is a list of is not there (any more).
///
/// # Errors
/// Why not all of it can be seen.
pub(crate) async fn all(
    clients: &Clients,
    operation: &'static str,
    request: Request,
) -> Result<Option<Vec<Value>>, ProviderError> {
    let (mut found, mut next) = (Vec::new(), Some(request));
    while let Some(request) = next {
        let answer = match clients.send(request).await {
            Ok(answer) => answer,
            Err(failure) => return absent(operation, failure).map(|()| None),
        };
        let page: Page = answer.json().map_err(|failure| unseen(operation, failure))?;
        found.extend(page.value);
        next = page.next.filter(|link| !link.is_empty()).map(|link| Request::link(&link));
    }
    Ok(Some(found))
}

fn absent(operation: &'static str, failure: Failure) -> Result<(), ProviderError> {
    let code = match &failure {
        Failure::Refused(answer) if answer.status == 404 => Complaint::read(&answer.body).and_then(|found| found.code),
        _ => None,
    };
    let is_known = matches!(code.as_deref(), Some("NotFound" | "ParentResourceNotFound" | "ResourceNotFound"));
    let error = unseen(operation, failure);
    if is_known && error.kind() == ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

#[cfg(test)]
mod tests {
    use reqwest::Method;
    use serde_json::json;

    use super::*;
    use crate::testing::{Server, reply};

    fn request() -> Request {
        Request::new(Method::GET, "/subscriptions/s/providers/Microsoft.Compute/virtualMachines", "2024-07-01")
    }

    fn refusal(code: &str) -> String {
        json!({ "error": { "code": code, "message": "m" } }).to_string()
    }

    #[tokio::test]
    async fn a_list_is_read_to_its_end() {
        let server = Server::start([]).await;
        let link = format!("{}/next?$skiptoken=1", server.url);
        server.then(reply(200, &[], &json!({ "value": [1, 2], "nextLink": link }).to_string()));
        server.then(reply(200, &[], &json!({ "value": [], "nextLink": link }).to_string()));
        server.then(reply(200, &[], &json!({ "value": [3], "nextLink": "" }).to_string()));
        let found = all(&server.clients(), "test", request()).await.unwrap();
        assert_eq!((found, server.seen().len()), (Some(vec![json!(1), json!(2), json!(3)]), 3));
    }

    #[tokio::test]
    async fn what_is_not_there_is_told_from_what_cannot_be_seen() {
        for (status, body, kind) in [
            (404, refusal("ResourceNotFound"), None),
            (404, refusal("ParentResourceNotFound"), None),
            (404, refusal("NotFound"), None),
            (404, refusal("ResourceGroupNotFound"), Some(ErrorKind::NotFound)),
            (404, refusal("SubscriptionNotFound"), Some(ErrorKind::PermissionDenied)),
            (404, "<html>".to_owned(), Some(ErrorKind::NotFound)),
            (403, refusal("AuthorizationFailed"), Some(ErrorKind::PermissionDenied)),
            (200, r#"{"items":[]}"#.to_owned(), Some(ErrorKind::Internal)),
        ] {
            let server = Server::start([reply(status, &[], &body)]).await;
            let found = all(&server.clients(), "test", request()).await;
            assert_eq!(found.as_ref().err().map(ProviderError::kind), kind, "{status} {body}");
            assert_eq!(found.is_ok_and(|found| found.is_none()), kind.is_none());
            if status != 200 {
                let server = Server::start([reply(status, &[], &body)]).await;
                let found = one(&server.clients(), "test", request()).await;
                assert_eq!(found.err().map(|error| error.kind()), kind, "{status} {body}");
            }
        }
    }
}
