//! From a request to its answer.

use bytes::Bytes;
use hyper::http::request::Parts;
use percent_encoding::percent_decode_str;
use serde_json::Value;

use crate::call::Call;
use crate::discovery::{Document, Method};
use crate::failure::Failure;
use crate::resources;
use crate::world::World;

/// What the client hears.
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// `null`: nothing.
    pub(crate) body: Value,
    /// The client hears nothing: the connection breaks.
    pub(crate) lost: bool,
}

/// Does what a request asks for.
pub(crate) fn answer(world: &mut World, parts: &Parts, body: &Bytes) -> Answer {
    world.advance();
    let path: Vec<String> = parts.uri.path().trim_start_matches('/').split('/').map(decoded).collect();
    let verb = parts.method.as_str();
    let Some((document, method)) = world.api.route(verb, &path) else {
        world.violation(format!("{verb} {}: no method of a Discovery document", parts.uri.path()));
        return refused(&Failure::new(404, "notFound", "Not Found"), false);
    };
    *world.calls.entry(method.id.clone()).or_default() += 1;
    let lost = world.faults.loss(&method.id);
    match done(world, document, method, parts, &path, body) {
        Ok(body) => Answer { status: if body.is_null() { 204 } else { 200 }, body, lost },
        Err(failure) => refused(&failure, lost),
    }
}

fn done(
    world: &mut World,
    document: &Document,
    method: &Method,
    parts: &Parts,
    path: &[String],
    body: &Bytes,
) -> Result<Value, Failure> {
    let call = Call {
        method: method.id.clone(),
        params: method.params(path),
        queries: form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes()).into_owned().collect(),
        body: json(body).map_err(|why| {
            world.violation(format!("{}: the body is no JSON: {why}", method.id));
            Failure::new(400, "parseError", "Parse Error")
        })?,
    };
    let wrong = document.check_request(method, &call, !body.is_empty());
    if let Some(first) = wrong.first() {
        let failure = Failure::new(400, "invalid", format!("Invalid request: {first}"));
        for what in wrong {
            world.violation(format!("{}: request: {what}", method.id));
        }
        return Err(failure);
    }
    if let Some(failure) = world.faults.refusal(&method.id) {
        return Err(failure);
    }
    world.admit(&call)?;
    let answer = match world.repeated(&call)? {
        Some(operation) => operation,
        None => resources::handle(world, &call)?,
    };
    for what in document.check_answer(method, &answer) {
        world.violation(format!("{}: answer: {what}", method.id));
    }
    Ok(answer)
}

fn refused(failure: &Failure, lost: bool) -> Answer {
    Answer { status: failure.status, body: failure.to_json(), lost }
}

fn json(body: &Bytes) -> Result<Value, serde_json::Error> {
    if body.is_empty() { Ok(Value::Null) } else { serde_json::from_slice(body) }
}

fn decoded(part: &str) -> String {
    percent_decode_str(part).decode_utf8_lossy().into_owned()
}
