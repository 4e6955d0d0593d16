//! What goes wrong on demand.

use super::call::{Answer, Call};

/// What becomes of one request.
#[derive(Debug, Clone)]
pub(super) enum Fate {
    /// It is done, and the connection ends without an answer.
    Lost,
    /// It is not done.
    Throttled,
    /// It is not done, for this reason.
    Refused(&'static str),
}

/// What was ordered, each for the next request of one of some actions.
#[derive(Debug, Default)]
pub(super) struct Faults(Vec<(Vec<String>, Fate)>);

impl Faults {
    pub(super) fn order(&mut self, actions: &[&str], fate: Fate) {
        self.0.push((actions.iter().map(|&action| action.to_owned()).collect(), fate));
    }

    pub(super) fn take(&mut self, action: &str) -> Option<Fate> {
        let meant = |(actions, _): &(Vec<String>, Fate)| actions.iter().any(|one| one == action);
        let index = self.0.iter().position(meant)?;
        Some(self.0.remove(index).1)
    }
}

/// As AWS says it, each service in its own way:
/// [EC2](https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-throttling.html),
/// [the others](https://docs.aws.amazon.com/autoscaling/ec2/APIReference/CommonErrors.html).
pub(super) fn throttled(call: &Call) -> Answer {
    match call.service.as_str() {
        "ec2" => Answer::refusal("ec2", 503, "RequestLimitExceeded", "Request limit exceeded."),
        service => Answer::refusal(service, 400, "Throttling", "Rate exceeded"),
    }
}

/// A refusal with this code, as the issue of capacity has it.
pub(super) fn refused(call: &Call, code: &str) -> Answer {
    let status = if code.starts_with("Insufficient") { 500 } else { 400 };
    Answer::refusal(&call.service, status, code, "ordered by the test")
}
