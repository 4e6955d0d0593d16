//! From what is known to a judgement.

use super::Judgement;
use super::bets::mean_of_logs;
use super::classic;
use super::compared::Compared;
use super::evidence::{Evidence, Known};
use super::freeze::is_suspicious;
use super::settings::Analysis;

/// The least number of requests that a hard stop rests on.
const HARD_STOP_REQUESTS: u64 = 20;

impl Analysis {
    /// Judges what is known. It may be asked at any time and as often as one likes: that is what the evidence is made for.
    pub fn judge(&self, evidence: &Evidence) -> Judgement {
        let known = || self.metrics.iter().zip(&evidence.metrics);
        if let Some(evidence) = known().find_map(|(compared, known)| self.stops(compared, known)) {
            return Judgement::Fail { evidence };
        }
        if let Some(judgement) = classic::judge(&evidence.classic, self) {
            return judgement;
        }
        let worse = mean_of_logs(known().map(|(compared, known)| (known.worse.log(), compared.weight)));
        if worse >= -self.alpha.ln() {
            let most = known().max_by(|(_, a), (_, b)| a.worse.log().total_cmp(&b.worse.log()));
            let words = most.map(|(compared, known)| {
                let claim = if compared.at_most.is_some() { "its being within that" } else { "no worse" };
                format!("{}; evidence 1 in {:.0} against {claim}", in_words(compared, known), worse.exp())
            });
            return Judgement::Fail { evidence: words.unwrap_or_default() };
        }
        let missing: Vec<String> = known().filter_map(|(compared, known)| self.missing(compared, known)).collect();
        if evidence.metrics.is_empty() || evidence.metrics.len() != self.metrics.len() {
            return Judgement::NotEnoughData { evidence: "no interval was measured yet".into() };
        }
        if missing.is_empty() {
            let words: Vec<_> = known().map(|(compared, known)| in_words(compared, known)).collect();
            return Judgement::Pass { evidence: words.join("; ") };
        }
        Judgement::NotEnoughData { evidence: missing.join("; ") }
    }

    /// Judges by hard stops alone, where there is nothing to compare with.
    pub(crate) fn hard_stop(&self, evidence: &Evidence) -> Judgement {
        let known = self.metrics.iter().zip(&evidence.metrics);
        match known.into_iter().find_map(|(compared, known)| self.stops(compared, known)) {
            Some(evidence) => Judgement::Fail { evidence },
            None => Judgement::NotEnoughData { evidence: "no hard stop".into() },
        }
    }

    /// What the hard stop of a metric says, if it says anything.
    fn stops(&self, compared: &Compared, known: &Known) -> Option<String> {
        let stop = compared.hard_stop?;
        let above = self.interval.saturating_mul(known.above.intervals);
        let enough = above >= stop.during && known.above.requests >= HARD_STOP_REQUESTS;
        enough.then(|| format!("{} above {} for {above:?}: hard stop", compared.metric, stop.above))
    }

    /// What a metric lacks for a pass.
    fn missing(&self, compared: &Compared, known: &Known) -> Option<String> {
        let (metric, needed) = (&compared.metric, -self.beta.ln());
        // What is acceptable whatever the baseline is need not look as good as that.
        if is_suspicious(known.events) && known.calm.log(compared.acceptable) < needed {
            return Some(format!("{}; looks worse, and is not proven to be", in_words(compared, known)));
        }
        let measured = self.interval.saturating_mul(u32::try_from(known.intervals).unwrap_or(u32::MAX));
        if measured < self.minimum_time {
            return Some(format!("{metric}: {measured:?} of {:?} measured", self.minimum_time));
        }
        if known.is_share && known.canary.whole < self.minimum_requests {
            return Some(format!("{metric}: {} of {} requests", known.canary.whole, self.minimum_requests));
        }
        let log = known.log_good(compared);
        if log >= needed {
            return None;
        }
        let words = in_words(compared, known);
        Some(match self.left(log, needed, known) {
            Some(left) => format!("{words}; about {left} more"),
            None => format!("{words}; not shown to be good"),
        })
    }

    /// How much more it takes at the pace so far, in words.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an estimate"
    )]
    fn left(&self, log: f64, needed: f64, known: &Known) -> Option<String> {
        let share = (needed - log) / log;
        if !share.is_finite() || share <= 0.0 {
            return None;
        }
        let intervals = (known.intervals as f64 * share).ceil().min(1e9);
        let minutes = (intervals * self.interval.as_secs_f64() / 60.0).ceil();
        let requests = (known.canary.whole as f64 * share).ceil() as u64;
        Some(if known.is_share {
            format!("{requests} requests, {minutes} minutes")
        } else {
            format!("{minutes} minutes")
        })
    }
}

fn in_words(compared: &Compared, known: &Known) -> String {
    let (metric, canary, counted) = (&compared.metric, known.canary.mean(), known.canary.whole);
    match compared.at_most {
        Some(bound) => format!("{metric} is {canary:.4}, at most {bound} is wanted ({counted} counted)"),
        None => format!("{metric} is {canary:.4}, {:.4} beside it ({counted} counted)", known.baseline.mean()),
    }
}
