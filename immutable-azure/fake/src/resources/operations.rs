//! Asynchronous operations, as they are followed.

use super::unknown;
use crate::answer::Answer;
use crate::call::Call;
use crate::failure::Failure;
use crate::route::{What, name_of};
use crate::world::World;

pub(super) fn handle(world: &mut World, call: &Call) -> Result<Answer, Failure> {
    if call.verb != "GET" || call.route.what != What::Resource {
        return unknown(world, call);
    }
    let name = name_of(call.id());
    let is_location = call.query("monitor").is_some() || call.kind().ends_with("/operationResults");
    let retry_after = world.options.retry_after;
    if is_location {
        return Ok(match world.result(name)? {
            None => world.accepted(call, name),
            Some(result) if result.is_null() => Answer::nothing(),
            Some(result) => Answer::ok(result),
        });
    }
    let status = world.status(name)?;
    let runs = status["status"] == "InProgress";
    let answer = Answer::ok(status);
    Ok(if runs { answer.with("retry-after", retry_after.to_string()) } else { answer })
}
