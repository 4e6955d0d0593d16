//! Client tokens: moto does what it is asked as often as it is asked.
//!
//! AWS [answers the same request](https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-idempotency.html) with what came of the first,
//! and refuses another request with the same token.

use std::collections::BTreeMap;

use super::call::{Answer, Call};
use super::machines::Machines;

const ACTIONS: &[&str] = &["RunInstances", "CreateFleet", "CreateLaunchTemplate"];

/// The requests that had a token, and what came of them.
#[derive(Debug, Default)]
pub(super) struct Tokens(BTreeMap<(String, String), (Wish, Answer)>);

/// What a request asked for.
type Wish = Vec<(String, String)>;

/// The action and the token of a request that AWS does only once.
pub(super) fn of(call: &Call) -> Option<(String, String)> {
    let token = call.get("ClientToken").filter(|_| ACTIONS.contains(&call.action.as_str()))?;
    Some((call.action.clone(), token.to_owned()))
}

impl Tokens {
    /// The answer to a request that was there before.
    pub(super) fn known(&self, token: &(String, String), call: &Call, machines: &Machines) -> Option<Answer> {
        let (wish, answer) = self.0.get(token)?;
        if *wish == call.wish() {
            let is_over = call.action == "RunInstances" && answer.text().is_some_and(|text| machines.are_ended(text));
            let over = || {
                Answer::refusal(&call.service, 400, "IdempotentInstanceTerminated", "The instance has been terminated")
            };
            return Some(if is_over { over() } else { answer.clone() });
        }
        let message =
            "Arguments on this idempotent request are inconsistent with arguments used in previous request(s).";
        Some(Answer::refusal(&call.service, 400, "IdempotentParameterMismatch", message))
    }

    /// A request that was refused may be sent again with the same token.
    pub(super) fn learn(&mut self, token: (String, String), call: &Call, answer: &Answer) {
        if answer.text().is_some() {
            self.0.insert(token, (call.wish(), answer.clone()));
        }
    }
}
