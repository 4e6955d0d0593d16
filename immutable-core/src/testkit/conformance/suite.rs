//! The one list of the clauses, and the macro that makes tests of them.

use super::report::Clause;
use super::{fleets, general, health, images, metrics, traffic};

/// Makes a test of each clause of the contract for a platform of yours: see
/// [`testkit::conformance`](crate::testkit::conformance).
#[macro_export]
macro_rules! conformance_suite {
    ($harness:expr $(,)?) => {
        $crate::conformance_suite!($harness, tokio());
    };
    ($harness:expr, tokio $tokio:tt $(,)?) => {
        $crate::conformance_suite!($harness, tokio $tokio, traits(images, fleets, health, traffic, metrics));
    };
    ($harness:expr, traits $parts:tt $(,)?) => {
        $crate::conformance_suite!($harness, tokio(), traits $parts);
    };
    ($harness:expr, tokio $tokio:tt, traits($($part:ident),+ $(,)?) $(,)?) => {
        $crate::conformance_suite! { @each { ($harness) $tokio ($($part),+) } general $($part)+ }
    };
    (@each $with:tt $($group:ident)+) => {
        $( $crate::__conformance_clauses! { [$crate::__conformance_tests] $with $group } )+
    };
}

/// The clauses of each group, handed to another macro.
#[doc(hidden)]
#[macro_export]
macro_rules! __conformance_clauses {
    ([$($then:tt)*] $with:tt general) => {
        $($then)*! { $with general: g1_one_attempt g2_idempotent g3_honest_errors g4_tagged g5_complete g6_cancellation g7_no_secrets }
    };
    ([$($then:tt)*] $with:tt images) => {
        $($then)*! { $with images: i1_once i2_whole_or_not_at_all i3_pinned i4_refused_early i5_not_in_use }
    };
    ([$($then:tt)*] $with:tt fleets) => {
        $($then)*! { $with fleets: p1_grow_only p2_never_more p3_bound_for_ever p4_sees_everything p5_named_victims p6_clean }
    };
    ([$($then:tt)*] $with:tt health) => {
        $($then)*! { $with health: h1_one_sample_each h2_bad_is_not_broken h3_no_memory h4_bounded }
    };
    ([$($then:tt)*] $with:tt traffic) => {
        $($then)*! { $with traffic: t1_observed_not_remembered t2_compare_and_swap t3_make_before_break t4_drain t5_nothing_else }
    };
    ([$($then:tt)*] $with:tt metrics) => {
        $($then)*! { $with metrics: m1_silence_is_silence m2_known_names_only m3_inside_the_window }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __conformance_tests {
    ({ ($harness:expr) $tokio:tt $parts:tt } $group:ident: $($name:ident)+) => { $(
        #[tokio::test $tokio]
        async fn $name() {
            let harness = $harness;
            let clause = $crate::testkit::conformance::clause(stringify!($name));
            clause.assert(&harness, &$crate::__conformance_parts! $parts).await;
        }
    )+ };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __conformance_parts {
    ($($part:ident),+) => { [$($crate::__conformance_parts!(@one $part)),+] };
    (@one images) => { $crate::testkit::conformance::Part::Images };
    (@one fleets) => { $crate::testkit::conformance::Part::Fleets };
    (@one health) => { $crate::testkit::conformance::Part::Health };
    (@one traffic) => { $crate::testkit::conformance::Part::Traffic };
    (@one metrics) => { $crate::testkit::conformance::Part::Metrics };
}

macro_rules! table {
    ({} $group:ident: $($name:ident)+) => {
        &[$(Clause { name: stringify!($name), check: |bench| Box::pin($group::$name(bench)) }),+]
    };
}

const GROUPS: [&[Clause]; 6] = [
    __conformance_clauses! { [table] {} general },
    __conformance_clauses! { [table] {} images },
    __conformance_clauses! { [table] {} fleets },
    __conformance_clauses! { [table] {} health },
    __conformance_clauses! { [table] {} traffic },
    __conformance_clauses! { [table] {} metrics },
];

/// Every clause, in order.
pub fn clauses() -> impl Iterator<Item = &'static Clause> {
    GROUPS.into_iter().flatten()
}

/// The clause of a test's name.
///
/// # Panics
/// When there is none.
pub fn clause(name: &str) -> &'static Clause {
    clauses().find(|clause| clause.name() == name).unwrap_or_else(|| panic!("no clause has the name {name}"))
}
