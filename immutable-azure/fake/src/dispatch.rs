//! From a request to its answer.

use bytes::Bytes;
use hyper::http::header;
use hyper::http::request::Parts;
use percent_encoding::percent_decode_str;
use serde_json::Value;

use crate::answer::Answer;
use crate::call::Call;
use crate::exchange::Exchange;
use crate::failure::Failure;
use crate::resources;
use crate::route::Route;
use crate::world::World;

/// How many requests an hour the subscription has left, as long as nothing throttles it.
const REMAINING: &str = "11999";

/// Does what a request asks for. None: the client is to hear nothing.
pub(crate) fn answer(world: &mut World, parts: &Parts, body: &Bytes) -> Option<Answer> {
    world.advance();
    let path: Vec<String> = parts.uri.path().trim_matches('/').split('/').map(decoded).collect();
    let verb = parts.method.as_str();
    let Some(route) = Route::of(&path) else {
        world.violation(format!("{verb} {}: the fake knows no such resource", parts.uri.path()));
        return Some(Failure::new(404, "InvalidResourceType", "The resource type could not be found.").into());
    };
    let operation = route.operation(verb);
    *world.calls.entry(operation.clone()).or_default() += 1;
    let lost = world.faults.loss(&operation);
    let (request, done) = match read(parts, body, route) {
        Ok(call) => (call.body.clone(), done(world, parts, &call)),
        Err(failure) => (Value::Null, Err(failure)),
    };
    world.advance();
    let answer = done.unwrap_or_else(Answer::from);
    let (status, said) = (answer.status, answer.body.clone());
    world.exchanges.push(Exchange { operation, status, request, answer: said });
    let id = world.uuid();
    let remaining = if status == 429 { "0" } else { REMAINING };
    let budget = match verb {
        "GET" => "x-ms-ratelimit-remaining-subscription-reads",
        "DELETE" => "x-ms-ratelimit-remaining-subscription-deletes",
        _ => "x-ms-ratelimit-remaining-subscription-writes",
    };
    (!lost).then(|| answer.with("x-ms-request-id", id).with(budget, remaining))
}

/// Reads a request, as far as that goes without knowing what is there.
fn read(parts: &Parts, body: &Bytes, route: Route) -> Result<Call, Failure> {
    let said = |name| parts.headers.get(name).and_then(|value: &header::HeaderValue| value.to_str().ok());
    let is_json = said(header::CONTENT_TYPE).is_some_and(|kind| kind.starts_with("application/json"));
    if !body.is_empty() && !is_json {
        return Err(Failure::new(415, "UnsupportedMediaType", "The content media type is not supported."));
    }
    let body = if body.is_empty() { Ok(Value::Null) } else { serde_json::from_slice(body) };
    Ok(Call {
        operation: route.operation(parts.method.as_str()),
        verb: parts.method.to_string(),
        route,
        queries: form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes()).into_owned().collect(),
        if_match: said(header::IF_MATCH).map(str::to_owned),
        if_none_match: said(header::IF_NONE_MATCH).map(str::to_owned),
        body: body.map_err(|error| {
            let message = format!("The request content was invalid and could not be deserialized: '{error}'.");
            Failure::new(400, "InvalidRequestContent", message)
        })?,
        base: format!("http://{}", said(header::HOST).unwrap_or_default()),
    })
}

fn done(world: &mut World, parts: &Parts, call: &Call) -> Result<Answer, Failure> {
    let token = parts.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    if token.and_then(|token| token.strip_prefix("Bearer ")).is_none_or(str::is_empty) {
        let message = "Authentication failed. The 'Authorization' header is missing.";
        return Err(Failure::new(401, "AuthenticationFailed", message));
    }
    admit_version(call)?;
    if let Some(failure) = world.faults.refusal(&call.operation) {
        return Err(failure);
    }
    world.admit(call)?;
    resources::handle(world, call)
}

fn admit_version(call: &Call) -> Result<(), Failure> {
    let version = call.api_version();
    if version.is_empty() {
        let message = "The api-version query parameter (?api-version=) is required for all requests.";
        return Err(Failure::new(400, "MissingApiVersionParameter", message));
    }
    let date = version.strip_suffix("-preview").unwrap_or(version);
    if date.parse::<jiff::civil::Date>().is_err() {
        let message = format!("The api-version '{version}' is invalid. The value must be of the form 'YYYY-MM-DD'.");
        return Err(Failure::new(400, "InvalidApiVersionParameter", message));
    }
    Ok(())
}

fn decoded(part: &str) -> String {
    percent_decode_str(part).decode_utf8_lossy().into_owned()
}
