//! What each state means.

use serde_json::json;

use super::*;

#[test]
fn a_group_judges_machines_that_run_and_stay_by_its_health_check() {
    let cases: &[(&str, &str, &[&str], Look)] = &[
        ("RUNNING", "NONE", &["HEALTHY"], Look::Good),
        ("RUNNING", "VERIFYING", &["HEALTHY"], Look::Good),
        ("RUNNING", "NONE", &[], Look::Good),
        ("RUNNING", "NONE", &["UNKNOWN"], Look::Unknown),
        ("RUNNING", "NONE", &["DRAINING"], Look::Unknown),
        ("RUNNING", "NONE", &["SOMETHING_NEW"], Look::Unknown),
        ("RUNNING", "DELETING", &["HEALTHY"], Look::Unknown),
        ("RUNNING", "RECREATING", &["UNHEALTHY"], Look::Bad),
        ("RUNNING", "NONE", &["UNHEALTHY"], Look::Bad),
        ("RUNNING", "NONE", &["HEALTHY", "TIMEOUT"], Look::Bad),
        ("STAGING", "CREATING", &[], Look::Unknown),
        ("STAGING", "CREATING", &["TIMEOUT"], Look::Unknown),
        ("SOMETHING_NEW", "NONE", &[], Look::Unknown),
        ("REPAIRING", "NONE", &[], Look::Bad),
        ("TERMINATED", "NONE", &["HEALTHY"], Look::Bad),
        ("STOPPING", "DELETING", &[], Look::Bad),
    ];
    for (status, action, health, expected) in cases {
        let health: Vec<_> = health.iter().map(|state| json!({ "detailedHealthState": state })).collect();
        let member = json!({ "instanceStatus": status, "currentAction": action, "instanceHealth": health });
        let (look, evidence) = group_look(&serde_json::from_value(member).unwrap(), false);
        assert_eq!(look, *expected, "{evidence}");
        assert!(evidence.starts_with(&format!("{status}, {action}")), "{evidence}");
    }
    assert_eq!(group_look(&ManagedInstance::new(), false).0, Look::Unknown);
    let running = ManagedInstance::new().set_instance_status(InstanceStatus::Running);
    let looks = [false, true].map(|is_checked| group_look(&running, is_checked).0);
    assert_eq!(looks, [Look::Good, Look::Unknown], "a check that has found nothing yet is no reason to be good");
}

#[test]
fn a_balancer_judges_those_it_has_looked_at() {
    let look = |state: &str| backend_look(&HealthStatus::new().set_health_state(state), "im-a-b");
    assert_eq!(look("HEALTHY"), (Look::Good, "HEALTHY in im-a-b".to_owned()));
    assert_eq!(look("UNHEALTHY").0, Look::Bad);
    assert_eq!(look("TIMEOUT").0, Look::Bad);
    assert_eq!(look("DRAINING"), (Look::Unknown, "DRAINING in im-a-b".to_owned()));
    assert_eq!(backend_look(&HealthStatus::new(), "im-a-b").1, "not looked at in im-a-b");
}

#[test]
fn an_instance_is_the_same_by_its_url_and_by_its_id() {
    let url = "https://www.googleapis.com/compute/v1/projects/web/zones/us-east1-b/instances/im-web-1-x2k9";
    assert_eq!(zone_and_name(url).as_deref(), Some("us-east1-b/im-web-1-x2k9"));
    assert_eq!(place("us-east1-b/im-web-1-x2k9/42"), zone_and_name(url).as_deref());
    // One that does not exist yet, and one of somebody else.
    assert_eq!([place("us-east1-b/im-web-1-x2k9"), place("i-1"), zone_and_name("i-1").as_deref()], [None; 3]);
    let member = ManagedInstance::new().set_instance(url);
    assert_eq!(id_of(&member), None);
    assert_eq!(id_of(&member.set_id(42_u64)).as_deref(), Some("us-east1-b/im-web-1-x2k9/42"));
}
