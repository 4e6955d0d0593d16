//! The end of what a fleet has on routes.

use immutable_core::provider::{Effect, ErrorKind};

use super::*;
use crate::backends;

/// Removes what a fleet has on routes, until it is done.
pub(super) async fn remove(stand: &Stand, key: &str, fleet: &str) -> Result<(), ProviderError> {
    let (config, cx) = (stand.config(), OpContext::standalone(&format!("remove {fleet} {key}")));
    for _ in 0..MOST_STEPS {
        let answer = backends::remove(&config, &cx, &"web".parse().unwrap(), &fleet.parse().unwrap()).await;
        stand.fake.skip(Duration::from_millis(60));
        if answer? == Progress::Done(()) {
            return Ok(());
        }
    }
    panic!("{fleet} is not removed after {MOST_STEPS} steps")
}

/// The names of our backend services and groups.
fn ours(stand: &Stand) -> Vec<String> {
    let all = stand.fake.list("").into_keys();
    let ours = all.filter(|path| path.rsplit('/').next().is_some_and(|name| name.starts_with("im-")));
    ours.collect()
}

#[tokio::test]
async fn a_fleet_without_traffic_leaves_nothing_behind() {
    for list_lag in [Duration::ZERO, Duration::from_millis(200)] {
        let stand = Stand::open_with(Options { list_lag, ..Options::default() }).await;
        let (old, new) = (stand.pair("web-old"), stand.pair("web-new"));
        stand.apply("open", &assignment(&[("web-old", 100)], &[&old])).await;
        stand.apply("move", &assignment(&[("web-new", 100)], &[&new])).await;
        let version = stand.look(&stand.switch()).await.version;
        assert_eq!(ours(&stand).len(), 2 * (1 + ZONES.len()));
        remove(&stand, "once", "web-old").await.unwrap();
        let left = ours(&stand);
        assert!(
            left.len() == 1 + ZONES.len() && left.iter().all(|path| path.ends_with(&stand.name("web-new"))),
            "{left:?}"
        );
        let state = stand.look(&stand.switch()).await;
        assert_eq!((state.split, state.members.len()), (Split::all_to(fleet("web-new")), 2));
        assert_ne!(state.version, version);
        // Another fleet can come under the name of the one before.
        stand.apply("back", &assignment(&[("web-old", 100)], &[&old])).await;
        assert_eq!(stand.look(&stand.switch()).await.split, Split::all_to(fleet("web-old")));
    }
}

#[tokio::test]
async fn what_has_traffic_is_not_removed() {
    let stand = Stand::open().await;
    let new = stand.pair("web-new");
    stand.apply("open", &assignment(&[("web-new", 100)], &[&new])).await;
    let before = ours(&stand);
    let error = remove(&stand, "once", "web-new").await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (ErrorKind::Conflict, Effect::None), "{error}");
    assert_eq!(ours(&stand), before);
    // A fleet of another service, and one that was never on a route, have nothing.
    remove(&stand, "once", "web-nobody").await.unwrap();
    let cx = OpContext::standalone("other service");
    let other = backends::remove(&stand.config(), &cx, &"other".parse().unwrap(), &fleet("web-new")).await;
    assert_eq!(other.unwrap(), Progress::Done(()));
    assert_eq!(ours(&stand), before);
}

#[tokio::test]
async fn the_count_of_changes_goes_on_when_the_fleet_that_kept_it_is_removed() {
    let stand = Stand::open().await;
    let (first, second) = (stand.pair("web-a"), stand.pair("web-b"));
    let to = |name, members: &[&[MemberTarget]]| assignment(&[(name, 100)], members);
    // One of the two keeps the count of all these, whichever it is.
    for (gone, stays, members) in [("web-a", "web-b", &second), ("web-b", "web-a", &first)] {
        stand.apply(&format!("both for {stays}"), &to("web-a", &[&first, &second])).await;
        for round in 0..3 {
            stand.apply(&format!("there {round} for {stays}"), &to("web-b", &[&first, &second])).await;
            stand.apply(&format!("back {round} for {stays}"), &to("web-a", &[&first, &second])).await;
        }
        stand.apply(&format!("only {stays}"), &to(stays, &[members])).await;
        let count = async || -> u64 {
            let version = stand.look(&stand.switch()).await.version;
            version.as_str().split('-').next().unwrap().parse().unwrap()
        };
        let before = count().await;
        remove(&stand, "once", gone).await.unwrap();
        assert!(before > 7 && count().await >= before, "{before} changes, and {} without {gone}", count().await);
    }
}

#[tokio::test]
async fn lost_answers_do_not_stop_a_removal() {
    for method in [
        "compute.urlMaps.update",
        "compute.backendServices.delete",
        "compute.networkEndpointGroups.delete",
        "compute.backendServices.aggregatedList",
        "compute.networkEndpointGroups.aggregatedList",
    ] {
        let stand = Stand::open().await;
        let (old, new) = (stand.pair("web-old"), stand.pair("web-new"));
        stand.apply("open", &assignment(&[("web-old", 100)], &[&old])).await;
        stand.apply("move", &assignment(&[("web-new", 100)], &[&new])).await;
        stand.fake.lose_next(method);
        let lost = remove(&stand, "once", "web-old").await.unwrap_err();
        let effect = if method.ends_with("List") { Effect::None } else { Effect::Unknown };
        assert_eq!(lost.effect(), effect, "{method}: {lost}");
        remove(&stand, "once", "web-old").await.unwrap();
        assert_eq!(ours(&stand).len(), 1 + ZONES.len(), "{method}");
    }
}
