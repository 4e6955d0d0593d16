//! What several looks at one instance mean: pure, without a clock.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::HealthConfigError;
use crate::model::{Look, Verdict};

/// How many looks it takes to call an instance healthy or unhealthy.
///
/// ```
/// use immutable_core::health::HealthPolicy;
/// use std::time::Duration;
///
/// let policy = HealthPolicy::builder().good_looks(3).minimum_healthy_time(Duration::from_secs(10)).build()?;
/// assert_eq!(policy.bad_looks(), HealthPolicy::default().bad_looks());
///
/// let error = HealthPolicy::builder().good_looks(0).build().unwrap_err();
/// assert_eq!(error.to_string(), "health policy: good_looks must be at least 1");
/// # Ok::<(), immutable_core::health::HealthConfigError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "HealthPolicyBuilder", into = "HealthPolicyBuilder")]
pub struct HealthPolicy {
    good_looks: u32,
    minimum_healthy_time: Duration,
    bad_looks: u32,
    fresh_for: Duration,
}

impl HealthPolicy {
    /// A policy to be filled in; what is left out has its default.
    pub fn builder() -> HealthPolicyBuilder {
        HealthPolicyBuilder::default()
    }

    /// How many good looks in a row it takes to be healthy.
    pub fn good_looks(&self) -> u32 {
        self.good_looks
    }

    /// How much time must lie between the first and the last of these good looks.
    pub fn minimum_healthy_time(&self) -> Duration {
        self.minimum_healthy_time
    }

    /// How many bad looks in a row it takes to be unhealthy.
    pub fn bad_looks(&self) -> u32 {
        self.bad_looks
    }

    /// How long a good or bad look says anything.
    pub fn fresh_for(&self) -> Duration {
        self.fresh_for
    }

    fn is_stale(&self, told: Timestamp, now: Timestamp) -> bool {
        // A clock that was set back makes nothing stale: time that cannot be told has not passed.
        since(told, now) > self.fresh_for
    }
}

impl Default for HealthPolicy {
    /// Two good looks, with any time between them; three bad looks; fresh for 30 seconds.
    fn default() -> Self {
        Self { good_looks: 2, minimum_healthy_time: Duration::ZERO, bad_looks: 3, fresh_for: Duration::from_secs(30) }
    }
}

/// Builds a [`HealthPolicy`]. As text, durations are like `30s` or `1m 30s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[must_use]
pub struct HealthPolicyBuilder {
    good_looks: u32,
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    minimum_healthy_time: Duration,
    bad_looks: u32,
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    fresh_for: Duration,
}

impl HealthPolicyBuilder {
    /// How many good looks in a row it takes to be healthy; 2 unless it is set.
    pub fn good_looks(mut self, looks: u32) -> Self {
        self.good_looks = looks;
        self
    }

    /// How much time must lie between the first and the last good look; none unless it is set.
    pub fn minimum_healthy_time(mut self, time: Duration) -> Self {
        self.minimum_healthy_time = time;
        self
    }

    /// How many bad looks in a row it takes to be unhealthy; 3 unless it is set.
    pub fn bad_looks(mut self, looks: u32) -> Self {
        self.bad_looks = looks;
        self
    }

    /// How long a good or bad look says anything; 30 seconds unless it is set. Longer than the time between two looks.
    pub fn fresh_for(mut self, time: Duration) -> Self {
        self.fresh_for = time;
        self
    }

    /// The policy.
    ///
    /// # Errors
    /// [`HealthConfigError`] names the setting that cannot work: a number of looks, or `fresh_for`, of zero.
    pub fn build(self) -> Result<HealthPolicy, HealthConfigError> {
        let refuse = |field, problem| Err(HealthConfigError::new("health policy", field, problem));
        let Self { good_looks, minimum_healthy_time, bad_looks, fresh_for } = self;
        if good_looks == 0 {
            return refuse("good_looks", "must be at least 1");
        }
        if bad_looks == 0 {
            return refuse("bad_looks", "must be at least 1");
        }
        if fresh_for.is_zero() {
            return refuse("fresh_for", "must be longer than nothing");
        }
        Ok(HealthPolicy { good_looks, minimum_healthy_time, bad_looks, fresh_for })
    }
}

impl Default for HealthPolicyBuilder {
    fn default() -> Self {
        HealthPolicy::default().into()
    }
}

impl From<HealthPolicy> for HealthPolicyBuilder {
    fn from(policy: HealthPolicy) -> Self {
        let HealthPolicy { good_looks, minimum_healthy_time, bad_looks, fresh_for } = policy;
        Self { good_looks, minimum_healthy_time, bad_looks, fresh_for }
    }
}

impl TryFrom<HealthPolicyBuilder> for HealthPolicy {
    type Error = HealthConfigError;
    fn try_from(builder: HealthPolicyBuilder) -> Result<Self, HealthConfigError> {
        builder.build()
    }
}

/// The looks at one instance so far, boiled down to what the next verdict needs.
///
/// # Guarantees
/// * Healthy after `good_looks` good looks in a row that span `minimum_healthy_time`; from then on until `bad_looks` bad looks in a row.
/// * Unhealthy after `bad_looks` bad looks in a row; from then on until a whole run of good looks.
/// * A look that could not be made ends a run of good looks. It is not bad, it does not end a run of bad looks, and it revokes nothing.
/// * Without a good or bad look for longer than `fresh_for` nothing is known any more, and everything starts anew.
/// * A look that is not later than the one before it is ignored: the same sample told twice is one look.
///
/// ```
/// use immutable_core::health::{HealthPolicy, Track};
/// use immutable_core::model::{Look, Verdict};
/// use jiff::{SignedDuration, Timestamp};
///
/// let (policy, mut track, start) = (HealthPolicy::default(), Track::default(), Timestamp::UNIX_EPOCH);
/// track.look(&policy, start, Look::Good);
/// assert_eq!(track.verdict(&policy, start), Verdict::Unknown);
/// track.look(&policy, start + SignedDuration::from_secs(5), Look::Good);
/// assert_eq!(track.verdict(&policy, start + SignedDuration::from_secs(5)), Verdict::Healthy);
/// assert_eq!(track.verdict(&policy, start + SignedDuration::from_secs(36)), Verdict::Unknown);
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Track {
    standing: Standing,
    run: Run,
    /// When the last look was, of whatever kind.
    looked: Option<Timestamp>,
    /// When the last good or bad look was.
    told: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Standing {
    #[default]
    Unproven,
    Healthy,
    Unhealthy,
}

/// Equal looks in a row.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Run {
    #[default]
    None,
    Good {
        looks: u32,
        since: Timestamp,
    },
    Bad {
        looks: u32,
    },
}

impl Track {
    /// Adds a look that ended at a moment.
    pub fn look(&mut self, policy: &HealthPolicy, at: Timestamp, look: Look) {
        if self.looked.is_some_and(|looked| at <= looked) {
            return;
        }
        if self.told.is_some_and(|told| policy.is_stale(told, at)) {
            *self = Self::default();
        }
        self.looked = Some(at);
        match look {
            Look::Good => self.good(policy, at),
            Look::Bad => self.bad(policy, at),
            Look::Unknown => {
                if let Run::Good { .. } = self.run {
                    self.run = Run::None;
                }
            }
        }
    }

    fn good(&mut self, policy: &HealthPolicy, at: Timestamp) {
        self.told = Some(at);
        let (looks, first) = match self.run {
            Run::Good { looks, since } => (looks.saturating_add(1), since),
            Run::None | Run::Bad { .. } => (1, at),
        };
        self.run = Run::Good { looks, since: first };
        if looks >= policy.good_looks && since(first, at) >= policy.minimum_healthy_time {
            self.standing = Standing::Healthy;
        }
    }

    fn bad(&mut self, policy: &HealthPolicy, at: Timestamp) {
        self.told = Some(at);
        let looks = match self.run {
            Run::Bad { looks } => looks.saturating_add(1),
            Run::None | Run::Good { .. } => 1,
        };
        self.run = Run::Bad { looks };
        if looks >= policy.bad_looks {
            self.standing = Standing::Unhealthy;
        }
    }

    /// What the looks mean at a moment.
    pub fn verdict(&self, policy: &HealthPolicy, now: Timestamp) -> Verdict {
        match (self.told, self.standing) {
            (Some(told), Standing::Healthy) if !policy.is_stale(told, now) => Verdict::Healthy,
            (Some(told), Standing::Unhealthy) if !policy.is_stale(told, now) => Verdict::Unhealthy,
            _ => Verdict::Unknown,
        }
    }
}

/// The time from one moment to a later one; nothing if it is not later.
fn since(from: Timestamp, to: Timestamp) -> Duration {
    to.duration_since(from).max(SignedDuration::ZERO).unsigned_abs()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn second(second: usize) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_secs(i64::try_from(second).unwrap())
    }

    /// Looks one second apart: `G`ood, `B`ad, `?` could not look, `.` no look.
    fn follow(policy: &HealthPolicy, looks: &str) -> Vec<Verdict> {
        let mut track = Track::default();
        let step = |(index, look): (usize, char)| {
            match look {
                'G' => track.look(policy, second(index), Look::Good),
                'B' => track.look(policy, second(index), Look::Bad),
                '?' => track.look(policy, second(index), Look::Unknown),
                _ => {}
            }
            track.verdict(policy, second(index))
        };
        looks.chars().enumerate().map(step).collect()
    }

    /// The verdict after each second: `H`ealthy, `U`nhealthy, `-` unknown.
    #[track_caller]
    fn check(policy: HealthPolicyBuilder, looks: &str, expected: &str) {
        let letter = |verdict: &Verdict| match verdict {
            Verdict::Healthy => 'H',
            Verdict::Unhealthy => 'U',
            Verdict::Unknown => '-',
        };
        let found: String = follow(&policy.build().unwrap(), looks).iter().map(letter).collect();
        assert_eq!(found, expected, "{looks}");
    }

    #[test]
    fn it_takes_a_run_of_looks_to_change_the_verdict() {
        let policy = HealthPolicy::builder().good_looks(2).bad_looks(3);
        check(policy, "", "");
        check(policy, "GGGG", "-HHH");
        check(policy, "BBBB", "--UU");
        check(policy, "GBGG", "---H");
        check(policy, "BBGBB", "-----");
        check(policy, "GBGBGBGB", "--------");
        check(policy, "GGBBGBB", "-HHHHHH");
        check(policy, "GGBBB", "-HHHU");
        check(policy, "GGBBBGG", "-HHHUUH");
        check(policy, "GGBBBGBGG", "-HHHUUUUH");
    }

    #[test]
    fn one_look_is_enough_where_the_policy_says_so() {
        let policy = HealthPolicy::builder().good_looks(1).bad_looks(1);
        check(policy, "GBG?B", "HUHHU");
    }

    #[test]
    fn a_look_that_could_not_be_made_ends_a_good_run_and_revokes_nothing() {
        let policy = HealthPolicy::builder().good_looks(2).bad_looks(3);
        check(policy, "G?GG", "---H");
        check(policy, "G?G?G?", "------");
        check(policy, "GG???", "-HHHH");
        check(policy, "GG?BB?B", "-HHHHHU");
        check(policy, "BBB?G?GG", "--UUUUUH");
        check(policy, "????", "----");
    }

    #[test]
    fn good_looks_must_span_the_minimum_healthy_time() {
        let policy = HealthPolicy::builder().good_looks(2).minimum_healthy_time(Duration::from_secs(3));
        check(policy, "GGGGG", "---HH");
        check(policy, "G..G", "---H");
        check(policy, "GGBGGGG", "------H");
        check(policy, "GG?GGGG", "------H");
    }

    #[test]
    fn without_fresh_looks_nothing_is_known_and_all_starts_anew() {
        let policy = HealthPolicy::builder().good_looks(2).bad_looks(2).fresh_for(Duration::from_secs(3));
        check(policy, "GG..G", "-HHHH");
        check(policy, "GG....GG", "-HHHH--H");
        check(policy, "BB....B", "-UUUU--");
        check(policy, "G....G", "------");
        check(policy, "GG????GG", "-HHHH--H");
        check(policy, "B..B", "---U");
        check(policy, "B...B", "-----");
    }

    #[test]
    fn a_look_from_the_past_is_ignored() {
        let policy = HealthPolicy::default();
        let mut track = Track::default();
        track.look(&policy, second(5), Look::Good);
        for at in [0, 5] {
            for look in [Look::Good, Look::Bad, Look::Unknown] {
                let before = track;
                track.look(&policy, second(at), look);
                assert_eq!(track, before, "{look:?} at {at}");
            }
        }
    }

    #[test]
    fn a_clock_that_was_set_back_makes_nothing_stale() {
        let policy = HealthPolicy::builder().good_looks(1).build().unwrap();
        let mut track = Track::default();
        track.look(&policy, second(1000), Look::Good);
        assert_eq!(track.verdict(&policy, second(0)), Verdict::Healthy);
    }

    #[test]
    fn a_hundred_thousand_tracks_fit_in_eight_megabytes() {
        assert!(size_of::<Track>() <= 80, "{}", size_of::<Track>());
    }

    #[test]
    fn a_policy_that_cannot_work_names_the_setting() {
        let check = |policy: HealthPolicyBuilder, expected: &str| {
            assert_eq!(policy.build().map_err(|error| error.to_string()), Err(expected.to_owned()));
        };
        check(HealthPolicy::builder().good_looks(0), "health policy: good_looks must be at least 1");
        check(HealthPolicy::builder().bad_looks(0), "health policy: bad_looks must be at least 1");
        check(
            HealthPolicy::builder().fresh_for(Duration::ZERO),
            "health policy: fresh_for must be longer than nothing",
        );
    }

    #[test]
    fn a_policy_is_readable_and_checked_when_read_back() {
        let policy = HealthPolicy::builder().minimum_healthy_time(Duration::from_secs(90)).build().unwrap();
        let text = serde_json::to_string(&policy).unwrap();
        assert_eq!(text, r#"{"good_looks":2,"minimum_healthy_time":"1m 30s","bad_looks":3,"fresh_for":"30s"}"#);
        assert_eq!(serde_json::from_str::<HealthPolicy>(&text).unwrap(), policy);
        assert_eq!(serde_json::from_str::<HealthPolicy>("{}").unwrap(), HealthPolicy::default());
        for text in [r#"{"good_looks":0}"#, r#"{"good_lokks":3}"#, r#"{"fresh_for":"-1s"}"#] {
            assert!(serde_json::from_str::<HealthPolicy>(text).is_err(), "{text}");
        }
    }

    prop_compose! {
        fn policies()(good in 1..4_u32, time in 0..5_u64, bad in 1..4_u32, fresh in 1..6_u64) -> HealthPolicy {
            HealthPolicy::builder()
                .good_looks(good)
                .minimum_healthy_time(Duration::from_secs(time))
                .bad_looks(bad)
                .fresh_for(Duration::from_secs(fresh))
                .build()
                .unwrap()
        }
    }

    proptest! {
        #[test]
        fn a_verdict_is_only_reached_by_a_run_of_looks(policy in policies(), looks in "[GB?.]{0,40}") {
            let verdicts = follow(&policy, &looks);
            for (index, pair) in verdicts.windows(2).enumerate() {
                let so_far: String = looks[..index + 2].chars().filter(|look| *look != '.').collect();
                if pair[0] != pair[1] && pair[1] == Verdict::Healthy {
                    let run = "G".repeat(policy.good_looks as usize);
                    prop_assert!(so_far.ends_with(&run), "{}", looks);
                }
                if pair[0] != pair[1] && pair[1] == Verdict::Unhealthy {
                    let told = so_far.replace('?', "");
                    prop_assert!(told.ends_with(&"B".repeat(policy.bad_looks as usize)), "{}", looks);
                }
            }
        }

        #[test]
        fn nothing_is_known_without_a_look_in_the_fresh_time(policy in policies(), looks in "[GB?.]{0,40}") {
            let fresh = usize::try_from(policy.fresh_for.as_secs()).unwrap();
            for (index, verdict) in follow(&policy, &looks).iter().enumerate() {
                let recent = &looks[index.saturating_sub(fresh)..=index];
                prop_assert!(*verdict == Verdict::Unknown || recent.contains(['G', 'B']), "{} at {}", looks, index);
            }
        }

        #[test]
        fn flapping_is_neither_healthy_nor_unhealthy(good in 2..5_u32, bad in 2..5_u32, times in 1..20_usize) {
            let policy = HealthPolicy::builder().good_looks(good).bad_looks(bad).build().unwrap();
            for looks in ["GB", "BG"] {
                let verdicts = follow(&policy, &looks.repeat(times));
                prop_assert!(verdicts.iter().all(|verdict| *verdict == Verdict::Unknown));
            }
        }
    }
}
