//! One request from its arrival to the end of its answer: in flight at a member, and counted once when it is over.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::StatusCode;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::Instant;

use super::counters::Outcome;
use super::pool::Upstream;
use super::table::{InFlight, TableMember};
use crate::clock::Clock;

/// A request under way. Dropping it ends it: it is counted, and no longer in flight.
#[derive(Debug)]
pub(super) struct Exchange {
    in_flight: InFlight,
    arrived: Instant,
    outcome: Outcome,
    /// When the head of the answer came, or it was clear that none comes.
    answered: Option<Instant>,
    clock: Clock,
}

impl Exchange {
    /// A request that has arrived. Until something else is known, it is one whose client went away.
    pub(super) fn begin(in_flight: InFlight, arrived: Instant, clock: Clock) -> Self {
        Self { in_flight, arrived, outcome: Outcome::Abandoned, answered: None, clock }
    }

    pub(super) fn member(&self) -> &Arc<TableMember> {
        self.in_flight.member()
    }

    /// Hands the request on to another member. A fleet that loses the request to another one has failed it.
    pub(super) fn hand_on(&mut self, next: InFlight) {
        if next.member().fleet != self.member().fleet {
            self.fail();
            self.count();
            self.outcome = Outcome::Abandoned;
            self.answered = None;
        }
        self.in_flight = next;
    }

    /// The head of an answer came.
    pub(super) fn answer(&mut self, status: StatusCode) {
        self.outcome = Outcome::Answered(status);
        self.answered = Some(Instant::now());
    }

    /// There will be no answer, or no end of it.
    pub(super) fn fail(&mut self) {
        self.outcome = Outcome::Failed;
        self.answered.get_or_insert_with(Instant::now);
    }

    fn count(&self) {
        let answered = self.answered.unwrap_or_else(Instant::now);
        self.member().meter.record(self.clock.now(), self.outcome, answered.duration_since(self.arrived));
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.count();
    }
}

/// The body of a member's answer, passed on as it comes.
#[derive(Debug)]
pub(super) struct CountedBody {
    body: Incoming,
    ended: bool,
    upstream: Option<Upstream>,
    exchange: Exchange,
}

impl CountedBody {
    pub(super) fn new(body: Incoming, upstream: Upstream, exchange: Exchange) -> Self {
        Self { body, ended: false, upstream: Some(upstream), exchange }
    }
}

impl Body for CountedBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        match &frame {
            None => self.ended = true,
            Some(Err(_)) => self.exchange.fail(),
            Some(Ok(_)) => {}
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for CountedBody {
    fn drop(&mut self) {
        // A connection with an unread rest of an answer is of no use: dropping it closes it.
        let whole = self.ended || self.body.is_end_stream();
        if let Some(upstream) = self.upstream.take().filter(|_| whole) {
            self.exchange.member().pool.park(upstream);
        }
    }
}
