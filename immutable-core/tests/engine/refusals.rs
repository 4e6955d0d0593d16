//! What each kind of error leads to, wherever it comes from.

use immutable_core::analysis::Check;
use immutable_core::engine::{Outcome, Reason, Rollout};
use immutable_core::plan::{StageSpec, Strategy};
use immutable_core::provider::ErrorKind;
use immutable_core::testkit::Operation;

use super::harness::{minutes, outcome, switches, until, until_waiting};
use super::weather::Outside;

const KINDS: [ErrorKind; 12] = [
    ErrorKind::Throttled,
    ErrorKind::Capacity,
    ErrorKind::Quota,
    ErrorKind::Conflict,
    ErrorKind::NotFound,
    ErrorKind::PermissionDenied,
    ErrorKind::InvalidRequest,
    ErrorKind::Timeout,
    ErrorKind::Unavailable,
    ErrorKind::Immutable,
    ErrorKind::Unsupported,
    ErrorKind::Internal,
];

/// What the engine does about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Response {
    /// Tries again, and goes on when it works again.
    Retry,
    /// Holds the rollout, without a deadline, and goes on when it works again.
    Hold,
    /// Goes back at once.
    TurnBack,
    /// Ends at once, and leaves all as it is.
    Stuck,
}

fn refuses(kind: ErrorKind) -> bool {
    use ErrorKind::{Immutable, InvalidRequest, PermissionDenied, Unsupported};
    matches!(kind, PermissionDenied | InvalidRequest | Immutable | Unsupported)
}

fn expected(operation: Operation, kind: ErrorKind, back: bool) -> Response {
    match (operation, kind) {
        _ if refuses(kind) && back => Response::Stuck,
        // The way back needs these, too: it is tried, and refused.
        (Operation::ObserveFleets | Operation::ObserveRoute | Operation::SampleHealth | Operation::Retire, _)
            if refuses(kind) =>
        {
            Response::Stuck
        }
        _ if refuses(kind) => Response::TurnBack,
        (Operation::EnsureFleet, ErrorKind::Capacity | ErrorKind::Quota) | (_, ErrorKind::Throttled) => Response::Hold,
        _ => Response::Retry,
    }
}

/// A rollout that is in the middle of what an operation is needed for.
async fn needing(outside: &Outside, operation: Operation, back: bool) -> Rollout {
    if back {
        // The old fleet is gone: going back needs everything anew.
        let rollout = outside.start("2", Strategy::rolling().bake(minutes(60))).await;
        until_waiting(&rollout, "the hold").await;
        return rollout;
    }
    let check = Check::at_most("errors".parse().unwrap(), 0.5);
    let half = StageSpec::percent(50).unwrap().hold(minutes(2)).check(check).replacing_old();
    let rollout = outside.start("2", Strategy::canary([half.clone(), half])).await;
    if matches!(operation, Operation::Retire | Operation::QueryMetric) {
        until_waiting(&rollout, "the hold").await;
    } else {
        until("started", &rollout, || !outside.stand.ids("2").is_empty() || operation == Operation::EnsureFleet).await;
    }
    rollout
}

#[tokio::test(start_paused = true)]
async fn each_kind_of_error_has_its_response_in_each_phase() {
    let forward = [
        Operation::EnsureFleet,
        Operation::ObserveFleets,
        Operation::ObserveRoute,
        Operation::SampleHealth,
        Operation::ApplyRoute,
        Operation::Retire,
        Operation::QueryMetric,
    ];
    let back = [Operation::EnsureFleet, Operation::ObserveFleets, Operation::SampleHealth, Operation::ApplyRoute];
    let phases = forward.map(|operation| (operation, false)).into_iter().chain(back.map(|operation| (operation, true)));
    for (operation, back) in phases {
        for kind in KINDS {
            let note = format!("{operation} {kind:?}, back {back}");
            let outside = Outside::serving(switches()[0], 4).await;
            let rollout = needing(&outside, operation, back).await;
            outside.weather.fail(&[operation], kind, None);
            let calls = outside.weather.calls_of(operation);
            if back {
                rollout.abort("enough").await.unwrap();
            }
            until(&note, &rollout, || outside.weather.calls_of(operation) > calls).await;
            let expected = expected(operation, kind, back);
            // Within the progress deadline for what is tried again, and far beyond it for what is held.
            let wait = if expected == Response::Hold { minutes(45) } else { minutes(3) };
            tokio::time::sleep(wait).await;
            let status = rollout.status();
            if matches!(expected, Response::Retry | Response::Hold) {
                assert_eq!((&status.outcome, status.going_back.is_some()), (&None, back), "{note}");
                assert!(status.waiting.iter().any(|text| text.contains("bad weather")), "{note}: {status:#?}");
                let text = status.waiting.join(", ");
                let held = text.contains("stop throttling") || text.contains("nothing healthy is ended");
                // A metric that cannot be read is a hold of its gate.
                assert!(held == (expected == Response::Hold) || operation == Operation::QueryMetric, "{note}: {text}");
                assert!(outside.weather.calls_of(operation) > calls + 1, "{note}");
                outside.weather.clear();
                let end = outcome(&rollout).await;
                assert!(matches!(end, Outcome::Promoted | Outcome::RolledBack { .. }), "{note}: {end}");
                assert_eq!(matches!(end, Outcome::RolledBack { .. }), back, "{note}: {end}");
                continue;
            }
            let (tries, log) = (outside.weather.calls_of(operation), outside.stand.cloud.log());
            let words = format!(" in {operation}: bad weather");
            match outcome(&rollout).await {
                Outcome::Stuck { reason } if expected == Response::Stuck => {
                    assert!(reason.contains(&words), "{note}: {reason}");
                    // Nothing is tried that cannot help: once forward, and once back.
                    assert!(tries <= calls + 4, "{note}: {tries} tries");
                    tokio::time::sleep(minutes(10)).await;
                    assert_eq!(outside.stand.cloud.log(), log, "{note}");
                }
                Outcome::RolledBack { reason: Reason::Refused { error }, .. } if expected == Response::TurnBack => {
                    assert!(error.contains(&words), "{note}: {error}");
                    assert!(tries <= calls + 4, "{note}: {tries} tries");
                }
                other => panic!("{note}: {other}, expected {expected:?}"),
            }
        }
    }
}
