//! The simulated cloud keeps every clause of the contract, and a provider that is broken in one way is caught by its clauses.

mod broken;
mod broken_images;
mod sim;

use std::time::Duration;

use broken::Defect;
use immutable_core::provider::SwitchKind;
use immutable_core::testkit::SimOptions;
use immutable_core::testkit::conformance::{Ability, Part, clauses};
use sim::SimHarness;

/// A switch by weights.
mod weighted {
    use super::*;

    immutable_core::conformance_suite!(SimHarness::new(options()), tokio(start_paused = true));
}

/// A switch by weights that can give a fleet half of the traffic and nothing else.
mod coarse {
    use super::*;
    use immutable_core::model::Weight;

    immutable_core::conformance_suite!(
        SimHarness::new(SimOptions {
            switch: SwitchKind::Weighted { step: Weight::percent(50).expect("no more than the whole") },
            ..options()
        }),
        tokio(start_paused = true),
        traits(fleets, health, traffic)
    );
}

/// A switch by weights that can only give all of the traffic to one fleet.
mod all_or_nothing {
    use super::*;
    use immutable_core::model::Weight;

    immutable_core::conformance_suite!(
        SimHarness::new(SimOptions { switch: SwitchKind::Weighted { step: Weight::FULL }, ..options() }),
        tokio(start_paused = true),
        traits(fleets, health, traffic)
    );
}

/// A switch by membership.
mod membership {
    use super::*;

    immutable_core::conformance_suite!(
        SimHarness::new(SimOptions { switch: SwitchKind::Membership, ..options() }),
        tokio(start_paused = true)
    );
}

fn options() -> SimOptions {
    SimOptions { build_for: Duration::from_mins(1), ..SimOptions::default() }
}

/// The ids of the clauses that are broken.
async fn broken(harness: impl Fn() -> SimHarness) -> Vec<String> {
    let parts = [Part::Images, Part::Fleets, Part::Health, Part::Traffic, Part::Metrics];
    let mut broken = Vec::new();
    for clause in clauses() {
        if clause.run(&harness(), &parts).await.is_err() {
            broken.push(clause.id());
        }
    }
    broken
}

async fn caught(defect: Option<Defect>) -> Vec<String> {
    let membership = SimOptions { switch: SwitchKind::Membership, ..options() };
    let options = if defect == Some(Defect::DeclaresWeights) { membership } else { options() };
    broken(|| SimHarness::with_defect(options.clone(), defect)).await
}

#[tokio::test(start_paused = true)]
async fn a_harness_that_denies_what_the_platform_can_do_is_not_believed() {
    for (denied, expected) in
        [(Ability::Drift, "P4"), (Ability::OtherRoute, "T5"), (Ability::Secrets, "G7"), (Ability::SlowBuild, "I2")]
    {
        let found = broken(|| SimHarness::denying(options(), denied)).await;
        assert_eq!(found, [expected], "{denied:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn each_defect_is_caught_by_its_clauses_and_no_other() {
    assert_eq!(caught(None).await, Vec::<String>::new());
    let mut wrong = Vec::new();
    for (defect, expected) in [
        (Defect::TriesAgain, &["G1"][..]),
        (Defect::ForgetsTheKey, &["G2", "G6", "P1", "P2", "P4"]),
        (Defect::DeniesEffects, &["G3"]),
        (Defect::ForgetsTheRollout, &["G4"]),
        (Defect::ListsOnePage, &["G5"]),
        (Defect::EndsSurplus, &["P1"]),
        (Defect::AcceptsAnotherRelease, &["P3"]),
        (Defect::HidesTheDead, &["P4"]),
        (Defect::EndsABystander, &["G2", "P5"]),
        (Defect::SaysRemoved, &["P6"]),
        (Defect::SamplesTwice, &["H1"]),
        (Defect::BlindMeansIll, &["H2"]),
        (Defect::StaysGood, &["H2", "H3"]),
        (Defect::TakesItsTime, &["H4"]),
        (Defect::IgnoresTheVersion, &["T2"]),
        (Defect::VersionOfContent, &["T2"]),
        (Defect::KeepsMembers, &["T1", "T2", "T3", "T4", "T5"]),
        (Defect::TouchesAnotherRoute, &["T5"]),
        (Defect::BuildsTwice, &["I1"]),
        (Defect::FindsNothing, &["I2", "I3", "I5"]),
        (Defect::Relabels, &["I3"]),
        (Defect::BlamesItself, &["I4"]),
        (Defect::RemovesWhatIsUsed, &["I5"]),
        (Defect::SilenceIsAllWell, &["M1", "M3"]),
        (Defect::DescribesAnything, &["M2"]),
        (Defect::LooksBeyondTheWindow, &["M3"]),
        (Defect::DeclaresOneFleet, &[]),
        (Defect::DeclaresOneFleetAndTakesTwo, &["T1"]),
        (Defect::DeclaresWeights, &["T1", "T3"]),
        (Defect::TellsWhenItAsked, &[]),
    ] {
        let found = caught(Some(defect)).await;
        if found != expected {
            wrong.push(format!("{defect:?} breaks {found:?}, expected {expected:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
