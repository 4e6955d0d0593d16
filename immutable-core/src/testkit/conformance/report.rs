//! What comes out of a test of a clause.

use std::fmt;
use std::pin::Pin;

use super::bench::{Bench, Seen};
use super::harness::Harness;

/// A trait of the provider seam.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Part {
    /// [`ImageBuilder`](crate::provider::ImageBuilder).
    Images,
    /// [`Provisioner`](crate::provider::Provisioner).
    Fleets,
    /// [`HealthProbe`](crate::provider::HealthProbe).
    Health,
    /// [`TrafficSwitch`](crate::provider::TrafficSwitch).
    Traffic,
    /// [`MetricSource`](crate::provider::MetricSource).
    Metrics,
}

pub(super) type Checking<'a> = Pin<Box<dyn Future<Output = Result<(), Seen>> + 'a>>;

/// One clause of the contract, and its test.
#[derive(Debug, Clone, Copy)]
pub struct Clause {
    pub(super) name: &'static str,
    pub(super) check: for<'a> fn(&'a Bench<'a>) -> Checking<'a>,
}

impl Clause {
    /// The name of its test: the id and the title, `p5_named_victims`.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The id in the documentation of the traits: `P5`.
    pub fn id(&self) -> String {
        self.name.split('_').next().unwrap_or_default().to_uppercase()
    }

    /// The clause in the words of the trait's documentation, with its id and title; empty when it is not there.
    pub fn text(&self) -> String {
        text(&self.id()).unwrap_or_default()
    }

    /// Tests the clause on a platform of which these parts are under test, and clears away what the test made.
    ///
    /// # Errors
    /// [`Violation`] when the platform does not keep it, or the harness does not say what it cannot do.
    ///
    /// # Cancellation
    /// A dropped test leaves what it made on the platform.
    pub async fn run(&self, harness: &dyn Harness, parts: &[Part]) -> Result<Outcome, Violation> {
        let bench = Bench::new(harness, parts);
        let checked = (self.check)(&bench).await;
        bench.clear_away().await;
        let gaps = bench.gaps();
        checked.map(|()| Outcome { gaps }).map_err(|Seen(seen)| Violation { clause: self.text(), seen })
    }

    /// As [`run`](Self::run), for the tests that the macro makes: panics with the violation, and prints the gaps.
    #[doc(hidden)]
    pub async fn assert(&self, harness: &dyn Harness, parts: &[Part]) {
        match self.run(harness, parts).await {
            Ok(outcome) => tell(&self.id(), &outcome),
            Err(violation) => panic!("{violation}"),
        }
    }
}

#[expect(clippy::print_stderr, reason = "the output of a test is where its author looks")]
fn tell(id: &str, outcome: &Outcome) {
    for gap in outcome.gaps() {
        eprintln!("{id}: not exercised: {gap}");
    }
}

/// A clause that was kept, as far as it was exercised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    gaps: Vec<Gap>,
}

impl Outcome {
    /// What could not be exercised; nothing when the whole clause was.
    pub fn gaps(&self) -> &[Gap] {
        &self.gaps
    }
}

/// Something that was not exercised, because the harness or the provider declares that it cannot be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Gap {
    pub(super) what: String,
    pub(super) why: String,
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.why)
    }
}

/// A clause that was not kept. `Display` is the clause in the words of the documentation, and what was seen instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    clause: String,
    seen: String,
}

impl Violation {
    /// What was seen.
    pub fn seen(&self) -> &str {
        &self.seen
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n  seen: {}", self.clause, self.seen)
    }
}

impl std::error::Error for Violation {}

/// Where the clauses are written: there is one copy of their words.
const CONTRACTS: [&str; 6] = [
    include_str!("../../provider/mod.rs"),
    include_str!("../../provider/image_builder.rs"),
    include_str!("../../provider/provisioner.rs"),
    include_str!("../../provider/health_probe.rs"),
    include_str!("../../provider/traffic_switch.rs"),
    include_str!("../../provider/metric_source.rs"),
];

/// A clause in the words of the documentation, in one line.
fn text(id: &str) -> Option<String> {
    let start = format!("* **{id} ");
    let comments = |source: &'static str| source.lines().filter_map(comment);
    CONTRACTS.iter().find_map(|source| {
        let mut lines = comments(source).skip_while(|line| !line.starts_with(&start));
        let first = lines.next()?;
        let rest = lines.take_while(|line| !line.is_empty() && !line.starts_with("* "));
        Some(std::iter::once(first).chain(rest).collect::<Vec<_>>().join(" ").replace("* **", "").replace("**", ""))
    })
}

/// The text of a line of documentation.
fn comment(line: &'static str) -> Option<&'static str> {
    let line = line.trim_start();
    line.strip_prefix("///").or_else(|| line.strip_prefix("//!")).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::super::clauses;
    use super::*;

    #[test]
    fn every_clause_of_the_documentation_has_its_test_under_its_title_and_no_other() {
        let titles = CONTRACTS.iter().flat_map(|source| source.lines().filter_map(comment)).filter_map(|line| {
            let (title, _) = line.strip_prefix("* **")?.split_once(".**")?;
            Some(title.to_lowercase().replace(',', "").replace(' ', "_"))
        });
        let mut titles: Vec<String> = titles.collect();
        titles.sort();
        let mut names: Vec<&str> = clauses().map(Clause::name).collect();
        names.sort_unstable();
        assert_eq!(titles, names);
        assert_eq!(names.len(), 30);
    }

    #[test]
    fn a_violation_says_the_clause_in_its_own_words() {
        let violation = Violation { clause: text("H1").unwrap(), seen: "two samples of i-1".to_owned() };
        let expected = "H1 one sample each. Each target has at most one sample in the answer; a target without one was not \
                        looked at.\n  seen: two samples of i-1";
        assert_eq!(violation.to_string(), expected);
    }
}
