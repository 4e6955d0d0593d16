//! The balancer's word about a member, damped: one bad word is not the end of an instance that answers us well.

use jiff::{SignedDuration, Timestamp};

use crate::health::HealthPolicy;
use crate::provider::MemberHealth;

/// Words that come faster than this are one word: the balancer has not looked again meanwhile.
const APART: SignedDuration = SignedDuration::from_secs(1);

/// What the balancer said about one member lately. As many words in a row count as looks of a probe do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Word {
    /// Equal words in a row.
    bad: u32,
    good: u32,
    /// Whether a bad word came after the last whole run of good ones.
    doubted: bool,
    condemned: bool,
    /// What moment the last word that counted is about.
    heard: Option<Timestamp>,
}

/// What the words mean together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// The balancer uses it.
    Trusted,
    /// It said bad things, not often enough to believe them, or not long enough ago to forget them.
    Doubted,
    /// It said so often enough in a row that it is bad.
    Condemned,
}

impl Word {
    /// Takes a word about a moment into account. One from before the last word is no news: who says it has been contradicted since.
    pub(super) fn hear(&mut self, policy: &HealthPolicy, as_of: Timestamp, word: MemberHealth) -> Standing {
        let since = self.heard.map_or(SignedDuration::MAX, |heard| as_of.duration_since(heard));
        let is_news = |run: u32| since >= if run > 0 { APART } else { SignedDuration::ZERO };
        match word {
            MemberHealth::Unhealthy if is_news(self.bad) => {
                (self.bad, self.good, self.doubted) = (self.bad.saturating_add(1), 0, true);
                self.condemned |= self.bad >= policy.bad_looks();
                self.heard = Some(as_of);
            }
            MemberHealth::Healthy | MemberHealth::Untold if is_news(self.good) => {
                (self.bad, self.good) = (0, self.good.saturating_add(1));
                if self.good >= policy.good_looks() {
                    (self.doubted, self.condemned) = (false, false);
                }
                self.heard = Some(as_of);
            }
            // Not a member in use: what was said before is about another time.
            MemberHealth::Registering | MemberHealth::Draining => *self = Self::default(),
            _ => {}
        }
        match (self.condemned, self.doubted) {
            (true, _) => Standing::Condemned,
            (false, true) => Standing::Doubted,
            (false, false) => Standing::Trusted,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Words five seconds apart, `U`nhealthy or `H`ealthy, and what they mean: `T`rusted, `D`oubted or `C`ondemned.
    #[track_caller]
    fn check(words: &str, expected: &str) {
        let (policy, mut word) = (HealthPolicy::default(), Word::default());
        let hear = |(index, letter): (usize, char)| {
            let at = Timestamp::UNIX_EPOCH + SignedDuration::from_secs(5 * i64::try_from(index).unwrap());
            let said = if letter == 'U' { MemberHealth::Unhealthy } else { MemberHealth::Healthy };
            match word.hear(&policy, at, said) {
                Standing::Trusted => 'T',
                Standing::Doubted => 'D',
                Standing::Condemned => 'C',
            }
        };
        assert_eq!(words.chars().enumerate().map(hear).collect::<String>(), expected, "{words}");
    }

    #[test]
    fn it_takes_a_run_of_words_to_condemn_and_one_to_trust_again() {
        check("HHHH", "TTTT");
        check("HUHH", "TDDT");
        check("HUUHH", "TDDDT");
        check("HUUUU", "TDDCC");
        check("UUUHUHH", "DDCCCCT");
        check("UHUHUHUH", "DDDDDDDD");
    }

    #[test]
    fn words_in_a_hurry_are_one_word() {
        let (policy, mut word) = (HealthPolicy::default(), Word::default());
        for millisecond in 0..10 {
            let at = Timestamp::UNIX_EPOCH + SignedDuration::from_millis(millisecond);
            assert_eq!(word.hear(&policy, at, MemberHealth::Unhealthy), Standing::Doubted);
        }
        assert_eq!(word.hear(&policy, Timestamp::UNIX_EPOCH, MemberHealth::Registering), Standing::Trusted);
    }

    #[test]
    fn a_word_counts_again_after_a_second_and_the_other_word_at_once() {
        let policy = HealthPolicy::default();
        let hear = |words: &[(i64, char)]| {
            let mut word = Word::default();
            let mut last = Standing::Trusted;
            for (millisecond, letter) in words {
                let said = if *letter == 'U' { MemberHealth::Unhealthy } else { MemberHealth::Healthy };
                let at = Timestamp::UNIX_EPOCH + SignedDuration::from_millis(*millisecond);
                last = word.hear(&policy, at, said);
            }
            last
        };
        let condemned = [(0, 'U'), (1_000, 'U'), (2_000, 'U')];
        assert_eq!(hear(&condemned), Standing::Condemned);
        assert_eq!(hear(&[(0, 'U'), (999, 'U'), (1_999, 'U')]), Standing::Doubted);
        assert_eq!(hear(&[(0, 'H'), (1, 'U')]), Standing::Doubted);
        assert_eq!(hear(&[(0, 'U'), (1_000, 'U'), (500, 'H'), (2_000, 'U')]), Standing::Condemned, "no news between");
        let then = |words: &[(i64, char)]| hear(&[&condemned, words].concat());
        assert_eq!(then(&[(2_001, 'H'), (2_002, 'H'), (2_999, 'H')]), Standing::Condemned, "one word in a hurry");
        assert_eq!(then(&[(2_001, 'H'), (3_001, 'H')]), Standing::Trusted);
    }
}
