//! Questions that Azure takes a while to answer, such as how the members of a gateway are: asked in one call, answered in a later one.
//!
//! # Flow
//! The first call asks, and has [no answer yet](Unanswered::NotYet). Later ones look whether the answer is there. As soon as
//! there is one, each call has the last answer, with the time that it is about, and every other call asks anew. A call that does not come through, because Azure
//! is busy or wants fewer requests, has the last answer as well.
//!
//! # Guarantees
//! * One request per call, and no call waits.
//! * Who asks is told no answer that is older than [`OLDEST`]: an older one is as good as none. Only who [asks for what was kept](Questions::kept) has it, with its time.
//! * A question that is not answered within [`GIVEN_UP`] is asked anew.
//! * Only answers are remembered. Who forgets them, because the process ended, asks again.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use immutable_core::provider::{ErrorKind, ProviderError};
use jiff::Timestamp;
use serde::de::DeserializeOwned;

use crate::Clients;
use crate::client::{Answer, Failure, Request};
use crate::error::unseen;

/// How old an answer may be, counted from its question. Gateways answer after a few seconds, sometimes after half a minute and more; until then the one before counts.
const OLDEST: Duration = Duration::from_mins(3);

/// How long an answer is waited for.
const GIVEN_UP: Duration = Duration::from_mins(5);

/// The questions of all who share these settings. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Questions(Arc<Mutex<BTreeMap<String, Known>>>);

/// An answer, and the moment that it is about: that of the question.
#[derive(Clone)]
pub(crate) struct Answered {
    pub(crate) as_of: Timestamp,
    body: Bytes,
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Unanswered {
    /// Azure has not answered yet. What became of the question before, if nothing good.
    NotYet(Option<String>),
    /// Why it cannot be asked. It has no effect.
    Failed(ProviderError),
}

#[derive(Clone, Default)]
struct Known {
    under_way: Option<Asked>,
    last: Option<Answered>,
    /// Why the last question has no answer.
    why: Option<String>,
}

#[derive(Clone)]
struct Asked {
    at: Timestamp,
    link: String,
}

impl Questions {
    /// The last answer to a question, which this call asks or looks for. `topic` names the question: the same for the same one.
    ///
    /// # Errors
    /// That there is no answer yet; why the question was refused, or could not be answered, unless that passes and there is an answer.
    pub(crate) async fn ask(
        &self,
        clients: &Clients,
        operation: &'static str,
        topic: &str,
        question: Request,
    ) -> Result<Answered, Unanswered> {
        let oldest = Timestamp::now() - GIVEN_UP;
        let under_way = self.change(topic, |known| {
            if known.under_way.take_if(|asked| asked.at < oldest).is_some() {
                known.why = Some(format!("no answer within {} minutes", GIVEN_UP.as_secs() / 60));
            }
            known.under_way.clone()
        });
        let (at, request) = match under_way {
            Some(asked) => (asked.at, Request::link(&asked.link)),
            None => (Timestamp::now(), question),
        };
        let answer = match clients.send(request).await {
            Ok(answer) => answer,
            Err(failure) => {
                // Whatever became of it, the next call asks anew.
                let error = unseen(operation, failure);
                let was_asked = self.change(topic, |known| {
                    known.why = Some(error.to_string());
                    known.under_way.take().is_some()
                });
                let last = self.last(topic).filter(|_| may_pass(error.kind(), was_asked));
                return last.ok_or(Unanswered::Failed(error));
            }
        };
        self.take_in(topic, at, answer).map_err(|failure| Unanswered::Failed(unseen(operation, failure)))?;
        self.last(topic).ok_or_else(|| Unanswered::NotYet(self.change(topic, |known| known.why.clone())))
    }

    /// The last answer to a question, if there is one that is not too old. Asks nobody.
    pub(crate) fn last(&self, topic: &str) -> Option<Answered> {
        let oldest = Timestamp::now() - OLDEST;
        self.change(topic, |known| known.last.clone().filter(|last| last.as_of >= oldest))
    }

    /// The last answer to a question, however old. Asks nobody.
    pub(crate) fn kept(&self, topic: &str) -> Option<Answered> {
        self.change(topic, |known| known.last.clone())
    }

    fn take_in(&self, topic: &str, at: Timestamp, answer: Answer) -> Result<(), Failure> {
        if answer.status != 202 {
            let answered = Answered { as_of: at, body: answer.body };
            self.change(topic, |known| *known = Known { under_way: None, last: Some(answered), why: None });
            return Ok(());
        }
        // The page that `Location` names becomes the answer. A look at it may name another one, or none: then it stays the same.
        if let Some(link) = answer.header("location").map(str::to_owned) {
            self.change(topic, |known| known.under_way = Some(Asked { at, link }));
        }
        let is_under_way = self.change(topic, |known| known.under_way.is_some());
        if is_under_way { Ok(()) } else { Err(Failure::Unreadable) }
    }

    fn change<T>(&self, topic: &str, change: impl FnOnce(&mut Known) -> T) -> T {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        change(all.entry(topic.to_owned()).or_default())
    }
}

/// Whether the next call may get further. Azure forgets answers, but what was asked about is not gone by that.
fn may_pass(kind: ErrorKind, was_asked: bool) -> bool {
    match kind {
        ErrorKind::Conflict | ErrorKind::Throttled | ErrorKind::Timeout | ErrorKind::Unavailable => true,
        ErrorKind::NotFound => was_asked,
        _ => false,
    }
}

impl Answered {
    /// What was answered.
    ///
    /// # Errors
    /// `Internal` for what is not what was expected.
    pub(crate) fn json<T: DeserializeOwned>(&self, operation: &'static str) -> Result<T, ProviderError> {
        serde_json::from_slice(&self.body).map_err(|_| unseen(operation, Failure::Unreadable))
    }
}

impl fmt::Debug for Questions {
    /// Without the signatures of links.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Questions").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use reqwest::Method;
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::{Reply, Server, reply};

    const QUESTION: &str = "/subscriptions/s/providers/Microsoft.Network/applicationGateways/web/backendhealth";

    /// What stands here for no answer yet: no question fails with this.
    const NOT_YET: ErrorKind = ErrorKind::Conflict;

    async fn ask(questions: &Questions, server: &Server) -> Result<Value, ErrorKind> {
        let question = Request::new(Method::POST, QUESTION, "2024-05-01");
        let answered = questions.ask(&server.clients(), "test", QUESTION, question).await;
        match answered {
            Ok(answered) => answered.json("test").map_err(|error| error.kind()),
            Err(Unanswered::NotYet(_)) => Err(NOT_YET),
            Err(Unanswered::Failed(error)) => Err(error.kind()),
        }
    }

    fn accepted(server: &Server) -> Reply {
        reply(202, &[("Location", &format!("{}/results/1", server.url)), ("Retry-After", "3")], "")
    }

    #[tokio::test]
    async fn a_question_is_asked_in_one_call_and_answered_in_a_later_one() {
        let server = Server::start([]).await;
        let questions = Questions::default();
        for reply in [
            accepted(&server),
            reply(202, &[], ""),
            reply(200, &[], r#"{"look":1}"#),
            accepted(&server),
            reply(200, &[], r#"{"look":2}"#),
        ] {
            server.then(reply);
        }
        let mut told = Vec::new();
        for _ in 0..5 {
            told.push(ask(&questions, &server).await);
        }
        let not_yet = || Err(NOT_YET);
        let first = Ok(json!({"look": 1}));
        assert_eq!(told, [not_yet(), not_yet(), first.clone(), first, Ok(json!({"look": 2}))]);
        let lines: Vec<_> = server.seen().into_iter().map(|seen| seen.line).collect();
        let question = format!("POST {QUESTION}?api-version=2024-05-01");
        assert_eq!(lines, [&question, "GET /results/1", "GET /results/1", &question, "GET /results/1"]);
    }

    #[tokio::test]
    async fn an_answer_at_once_is_an_answer() {
        let server = Server::start([reply(200, &[], "{}")]).await;
        assert_eq!(ask(&Questions::default(), &server).await, Ok(json!({})));
    }

    #[tokio::test]
    async fn a_question_that_failed_is_asked_anew() {
        let server = Server::start([]).await;
        let questions = Questions::default();
        let forgotten = reply(404, &[], r#"{"error":{"code":"ResourceNotFound","message":"m"}}"#);
        for reply in [accepted(&server), forgotten, reply(202, &[], ""), reply(200, &[], "{}")] {
            server.then(reply);
        }
        assert_eq!(ask(&questions, &server).await, Err(NOT_YET));
        assert_eq!(ask(&questions, &server).await, Err(ErrorKind::NotFound));
        assert_eq!(ask(&questions, &server).await, Err(ErrorKind::Internal), "an agreement without a link");
        assert_eq!(ask(&questions, &server).await, Ok(json!({})));
    }

    #[tokio::test]
    async fn a_call_that_does_not_come_through_has_the_last_answer_unless_that_is_old() {
        let refusal = |status, code: &str| reply(status, &[], &json!({ "error": { "code": code } }).to_string());
        for (failed, passes) in [
            (refusal(429, "TooManyRequests"), true),
            (refusal(409, "AnotherOperationInProgress"), true),
            (refusal(429, "AnotherOperationInProgress"), true),
            (refusal(503, "ServiceUnavailable"), true),
            (Reply::HangUp, true),
            (refusal(404, "ResourceNotFound"), false),
            (refusal(403, "AuthorizationFailed"), false),
            (refusal(400, "InvalidRequestFormat"), false),
        ] {
            let server = Server::start([reply(200, &[], r#"{"look":1}"#), failed.clone()]).await;
            let questions = Questions::default();
            let first = ask(&questions, &server).await;
            let as_of = questions.last(QUESTION).map(|last| last.as_of);
            assert_eq!(ask(&questions, &server).await.ok(), first.clone().ok().filter(|_| passes), "{failed:?}");
            // An answer that is lost, or forgotten, is no answer, and what was asked about may be there.
            let forgotten = refusal(404, "ResourceNotFound");
            for failed in if passes { [failed.clone(), forgotten] } else { [forgotten.clone(), forgotten] } {
                server.then(accepted(&server));
                assert_eq!(ask(&questions, &server).await, first);
                server.then(failed);
                assert_eq!(ask(&questions, &server).await, first);
            }
            assert_eq!(questions.last(QUESTION).map(|last| last.as_of), as_of, "it is as old as it is");
            assert_eq!(server.seen().len(), 6, "one request per call");
            questions.change(QUESTION, |known| {
                let last = known.last.as_mut().expect("there was an answer");
                last.as_of = Timestamp::now() - OLDEST - Duration::from_secs(1);
            });
            server.then(failed.clone());
            assert!(ask(&questions, &server).await.is_err(), "{failed:?}");
        }
    }

    #[tokio::test]
    async fn an_old_answer_is_as_good_as_none() {
        let server = Server::start([]).await;
        let questions = Questions::default();
        server.then(reply(200, &[], "{}"));
        assert_eq!(ask(&questions, &server).await, Ok(json!({})));
        questions.change(QUESTION, |known| {
            let last = known.last.as_mut().expect("there was an answer");
            last.as_of = Timestamp::now() - OLDEST - Duration::from_secs(1);
        });
        server.then(accepted(&server));
        assert_eq!(ask(&questions, &server).await, Err(NOT_YET));
    }

    #[tokio::test]
    async fn a_question_that_is_never_answered_is_asked_anew_and_the_next_tells_why() {
        let server = Server::start([]).await;
        let questions = Questions::default();
        for _ in 0..2 {
            server.then(accepted(&server));
        }
        assert_eq!(ask(&questions, &server).await, Err(NOT_YET));
        questions.change(QUESTION, |known| {
            let asked = known.under_way.as_mut().expect("it was asked");
            asked.at = Timestamp::now() - GIVEN_UP - Duration::from_secs(1);
        });
        let question = Request::new(Method::POST, QUESTION, "2024-05-01");
        let unanswered = questions.ask(&server.clients(), "test", QUESTION, question).await.err();
        let Some(Unanswered::NotYet(Some(why))) = unanswered else { panic!("{unanswered:?}") };
        assert_eq!(why, "no answer within 5 minutes");
        let posts = server.seen().into_iter().filter(|seen| seen.line.starts_with("POST"));
        assert_eq!(posts.count(), 2);
    }
}
