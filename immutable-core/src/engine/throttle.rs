//! The budget of calls that all rollouts of an engine share, and how it gives way to a platform that throttles.

#![expect(clippy::disallowed_methods, reason = "calls wait for their turn here")]

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

/// How much of a platform's API all rollouts of one engine may use together.
///
/// It is the most, not the least: while the platform throttles, all rollouts of the engine slow down together. Each
/// throttled answer halves the number of calls at once, down to one, and closes the budget for as long as the platform
/// said, at least a second, which doubles with each throttled answer in a row up to a minute. Each round of answers that
/// are not throttled allows one call more. This is additive increase and multiplicative decrease, which is known to
/// share a bottleneck fairly (Chiu and Jain, 1989) and keeps TCP from congestion (RFC 5681, section 3.1).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ApiBudget {
    /// The most calls at once.
    pub concurrency: usize,
    /// The most calls in a second, on average; `None`: as many as there are.
    pub calls_per_second: Option<u32>,
}

impl Default for ApiBudget {
    /// Sixteen calls at once, no limit of their rate.
    fn default() -> Self {
        Self { concurrency: 16, calls_per_second: None }
    }
}

const SHORTEST_CLOSURE: Duration = Duration::from_secs(1);
const LONGEST_CLOSURE: Duration = Duration::from_mins(1);

/// The budget in use, shared by all rollouts of an engine.
#[derive(Debug)]
pub(super) struct Throttle {
    slots: Semaphore,
    most: usize,
    pause: Option<Duration>,
    course: Mutex<Course>,
}

#[derive(Debug)]
struct Course {
    /// How many calls may be made at once now.
    window: usize,
    /// Slots that are in use and go when they are given back: the window has become smaller meanwhile.
    owed: usize,
    /// Answers since the window last changed that were not throttled.
    answers: usize,
    /// Throttled answers in a row.
    in_a_row: u32,
    /// When the window last became smaller.
    cut_at: Option<Instant>,
    opens_at: Instant,
    next_turn: Instant,
}

/// The right to make one call.
#[derive(Debug)]
pub(super) struct Slot<'a> {
    throttle: &'a Throttle,
    permit: Option<SemaphorePermit<'a>>,
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        let mut course = self.throttle.course();
        if course.owed > 0 {
            course.owed -= 1;
            if let Some(permit) = self.permit.take() {
                permit.forget();
            }
        }
    }
}

impl Throttle {
    pub(super) fn new(budget: ApiBudget) -> Self {
        let (most, now) = (budget.concurrency.clamp(1, Semaphore::MAX_PERMITS), Instant::now());
        Self {
            slots: Semaphore::new(most),
            most,
            pause: budget.calls_per_second.map(|rate| Duration::from_secs(1) / rate.max(1)),
            course: Mutex::new(Course {
                window: most,
                owed: 0,
                answers: 0,
                in_a_row: 0,
                cut_at: None,
                opens_at: now,
                next_turn: now,
            }),
        }
    }

    fn course(&self) -> MutexGuard<'_, Course> {
        self.course.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until a call may be made; the slot is held while it is.
    pub(super) async fn enter(&self) -> Slot<'_> {
        let permit = self.slots.acquire().await.expect("invariant: the semaphore is never closed");
        let slot = Slot { throttle: self, permit: Some(permit) };
        // The slot first: a turn in the rate that is taken is used at once.
        if let Some(at) = self.take_turn() {
            tokio::time::sleep_until(at).await;
        }
        // Whoever waits here may find it closed again by another's answer.
        loop {
            let opens_at = self.course().opens_at;
            if opens_at <= Instant::now() {
                return slot;
            }
            tokio::time::sleep_until(opens_at).await;
        }
    }

    fn take_turn(&self) -> Option<Instant> {
        let pause = self.pause?;
        let mut course = self.course();
        // The rate is cut in proportion to the window.
        let slowed = pause.saturating_mul(u32::try_from(self.most / course.window).unwrap_or(u32::MAX));
        let at = course.next_turn.max(Instant::now());
        course.next_turn = at + slowed;
        Some(at)
    }

    /// A call has an answer that does not say that there are too many.
    pub(super) fn answered(&self) {
        let mut course = self.course();
        course.in_a_row = 0;
        course.answers += 1;
        if course.window < self.most && course.answers >= course.window {
            course.window += 1;
            course.answers = 0;
            if course.owed > 0 {
                course.owed -= 1;
            } else {
                self.slots.add_permits(1);
            }
        }
    }

    /// A call that was begun then was too many. `told` is how long the platform said to wait; `jitter`, below a thousand,
    /// how many thousandths of the wait are added, so that many engines do not come back at the same moment.
    pub(super) fn throttled(&self, begun: Instant, told: Option<Duration>, jitter: u32) {
        let (mut course, now) = (self.course(), Instant::now());
        // All calls that were under way when the window was cut tell of the same flood; it is cut once for all of them.
        let new = course.cut_at.is_none_or(|cut_at| begun >= cut_at);
        if new {
            let doubled = SHORTEST_CLOSURE.saturating_mul(1 << course.in_a_row.min(16)).min(LONGEST_CLOSURE);
            course.in_a_row = course.in_a_row.saturating_add(1);
            course.answers = 0;
            course.cut_at = Some(now);
            let smaller = (course.window / 2).max(1);
            let gone = course.window - smaller;
            course.window = smaller;
            course.owed += gone - self.slots.forget_permits(gone);
            course.opens_at = course.opens_at.max(now + jittered(doubled, jitter));
        }
        if let Some(told) = told {
            course.opens_at = course.opens_at.max(now + jittered(told, jitter));
        }
    }
}

pub(super) fn jittered(wait: Duration, thousandths: u32) -> Duration {
    wait + wait / 1000 * thousandths
}

#[cfg(test)]
impl Throttle {
    /// How many calls may be made at once now.
    pub(super) fn window(&self) -> usize {
        self.course().window
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn throttle(concurrency: usize, calls_per_second: Option<u32>) -> Throttle {
        Throttle::new(ApiBudget { concurrency, calls_per_second })
    }

    /// How many of the slots can be had at once.
    fn free(throttle: &Throttle) -> usize {
        throttle.slots.available_permits()
    }

    #[tokio::test(start_paused = true)]
    async fn the_window_is_halved_and_comes_back_one_by_one() {
        let throttle = throttle(16, None);
        for expected in [8, 4, 2, 1, 1, 1] {
            throttle.throttled(Instant::now(), None, 0);
            assert_eq!(free(&throttle), expected);
            tokio::time::advance(LONGEST_CLOSURE).await;
        }
        for window in 1..16 {
            assert_eq!(free(&throttle), window);
            (0..window).for_each(|_| throttle.answered());
        }
        assert_eq!(free(&throttle), 16);
        (0..1_000).for_each(|_| throttle.answered());
        assert_eq!(free(&throttle), 16, "never above the budget");
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_is_counted_once() {
        let throttle = throttle(16, None);
        let begun = Instant::now();
        let mut slots = Vec::new();
        for _ in 0..16 {
            slots.push(throttle.enter().await);
        }
        tokio::time::advance(Duration::from_millis(50)).await;
        (0..16).for_each(|_| throttle.throttled(begun, None, 0));
        drop(slots);
        let Course { window, owed, .. } = *throttle.course();
        assert_eq!((free(&throttle), window, owed), (8, 8, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_enters_before_the_told_time_and_each_throttled_answer_in_a_row_waits_longer() {
        let throttle = throttle(4, None);
        for (told, jitter, expected) in
            [(None, 0, 1), (Some(10), 0, 10), (None, 500, 6), (None, 0, 8), (Some(90), 0, 90)]
        {
            let begun = Instant::now();
            throttle.throttled(begun, told.map(Duration::from_secs), jitter);
            drop(throttle.enter().await);
            assert_eq!(begun.elapsed().as_secs(), expected, "told {told:?}");
        }
        throttle.answered();
        let begun = Instant::now();
        throttle.throttled(begun, None, 0);
        drop(throttle.enter().await);
        assert_eq!(begun.elapsed().as_secs(), 1, "the row is over");
    }

    #[tokio::test(start_paused = true)]
    async fn a_rate_is_slowed_with_the_window() {
        let throttle = throttle(4, Some(10));
        let seconds = async |calls: u32| {
            let begun = Instant::now();
            for _ in 0..calls {
                drop(throttle.enter().await);
            }
            begun.elapsed().as_secs()
        };
        assert_eq!(seconds(21).await, 2);
        throttle.throttled(Instant::now(), None, 0);
        throttle.throttled(Instant::now(), None, 0);
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!(seconds(21).await, 8);
    }

    #[tokio::test(start_paused = true)]
    async fn a_window_that_grows_while_its_slots_are_in_use_takes_fewer_of_them_back() {
        let throttle = throttle(16, None);
        let mut slots = Vec::new();
        for _ in 0..16 {
            slots.push(throttle.enter().await);
        }
        throttle.throttled(Instant::now(), None, 0);
        (0..8).for_each(|_| throttle.answered());
        let Course { window, owed, .. } = *throttle.course();
        assert_eq!((free(&throttle), window, owed), (0, 9, 7));
        drop(slots);
        assert_eq!((free(&throttle), throttle.course().owed), (9, 0));
    }
}
