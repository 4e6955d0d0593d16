//! The steps of a change, their order, and what is seen on the way.

use super::*;

#[tokio::test]
async fn a_fleet_gets_a_backend_service_like_the_original_and_then_the_traffic() {
    let stand = Stand::open().await;
    let switch = stand.switch();
    let state = stand.look(&switch).await;
    assert!(state.split.is_closed() && state.members.is_empty(), "{state:?}");
    let policy = format!("{LINK}global/securityPolicies/guard");
    let mut original = stand.fake.get(ORIGINAL).unwrap();
    original["securityPolicy"] = policy.clone().into();
    stand.fake.put(ORIGINAL, original.clone());
    let new = stand.pair("web-new");
    let wanted = assignment(&[("web-new", 100)], &[&new]);
    let lost = || assert!(stand.fake.request(ROUTE).is_ok(), "a request was lost");
    stand.until_done(&switch, "open", &wanted, lost).await.unwrap();
    let name = stand.name("web-new");
    assert_eq!(stand.weights(), BTreeMap::from([("web".to_owned(), 0), (name.clone(), 1000)]));
    let made = stand.fake.get(&format!("global/backendServices/{name}")).unwrap();
    for field in ["loadBalancingScheme", "protocol", "timeoutSec", "connectionDraining", "healthChecks", "logConfig"] {
        assert_eq!(made[field], original[field], "{field}");
    }
    assert_eq!(made["securityPolicy"], policy);
    let backends = made["backends"].as_array().unwrap();
    assert_eq!(backends.len(), ZONES.len());
    assert!(backends.iter().all(|backend| backend["maxRatePerEndpoint"] == 70.0), "{backends:?}");
    let state = stand.look(&switch).await;
    assert_eq!(state.split, Split::all_to(fleet("web-new")));
    let expected = new.iter().map(|member| (member.instance.clone(), MemberHealth::Healthy));
    assert_eq!(healths(&state), expected.collect());
    assert!(stand.fake.request(ROUTE).unwrap().contains("/web-new-"));
    // The user's own is as it was, but for the number of the change that this test made.
    let after = stand.fake.get(ORIGINAL).unwrap();
    assert_eq!(after["backends"], original["backends"]);
}

#[tokio::test]
async fn no_request_is_lost_while_traffic_moves_from_fleet_to_fleet() {
    // Every list comes in pieces.
    let stand = Stand::open_with(Options { page: 1, ..Options::default() }).await;
    let switch = stand.switch();
    let (old, new) = (stand.pair("web-old"), stand.pair("web-new"));
    let steps = [
        assignment(&[("web-old", 100)], &[&old]),
        assignment(&[("web-old", 100)], &[&old, &new]),
        assignment(&[("web-old", 75), ("web-new", 25)], &[&old, &new]),
        assignment(&[("web-new", 100)], &[&new]),
        assignment(&[("web-old", 100)], &[&old]),
        assignment(&[], &[]),
    ];
    for (index, wanted) in steps.iter().enumerate() {
        let lost = || {
            for _ in 0..5 {
                stand.fake.request(ROUTE).unwrap_or_else(|why| panic!("lost on the way to step {index}: {why}"));
            }
        };
        stand.until_done(&switch, &format!("step {index}"), wanted, lost).await.unwrap();
        let state = stand.look(&switch).await;
        assert_eq!(state.split, wanted.split, "step {index}");
        let in_use = state.members.iter().filter(|member| member.health == MemberHealth::Healthy).count();
        assert_eq!(in_use, wanted.members.len(), "step {index}: {state:?}");
    }
    assert_eq!(stand.weights().into_values().collect::<Vec<_>>(), [0, 0, 1000]);
    assert!(stand.fake.request(ROUTE).unwrap().contains("/original-"));
}

#[tokio::test]
async fn weights_are_written_exactly() {
    let stand = Stand::open().await;
    let (old, new) = (stand.pair("web-old"), stand.pair("web-new"));
    let share = |points: u16| {
        let weights = [("web-old", 10_000 - points), ("web-new", points)];
        let weights = weights.map(|(name, points)| (fleet(name), Weight::basis_points(points).unwrap()));
        Assignment { split: Split::new(weights).unwrap(), members: [&old[..], &new[..]].concat() }
    };
    for (points, weight) in [(10, 1), (3330, 333), (9990, 999)] {
        let wanted = share(points);
        stand.apply(&format!("{points} points"), &wanted).await;
        assert_eq!(stand.weights()[&stand.name("web-new")], weight);
        assert_eq!(stand.weights()[&stand.name("web-old")], 1000 - weight);
        assert_eq!(stand.look(&stand.switch()).await.split, wanted.split);
    }
}

#[tokio::test]
async fn traffic_waits_until_one_of_the_new_members_is_found_good() {
    let stand = Stand::open_with(Options { health_time: Duration::from_hours(1), ..Options::default() }).await;
    let switch = stand.switch();
    let new = stand.pair("web-new");
    let wanted = assignment(&[("web-new", 100)], &[&new]);
    let expected = stand.look(&switch).await.version;
    let mut last = Progress::Done(());
    for _ in 0..15 {
        last = stand.call(&switch, "open", &wanted, &expected).await.unwrap();
    }
    assert!(matches!(&last, Progress::Pending { note, .. } if note.contains("good")), "{last:?}");
    let state = stand.look(&switch).await;
    assert!(state.split.is_closed());
    assert!(healths(&state).values().all(|health| *health == MemberHealth::Registering), "{state:?}");
    // One that is good is enough; the other one is ill.
    stand.fake.set_ill(&format!("zones/{}/instances/web-new-1", ZONES[0]), true);
    stand.fake.skip(Duration::from_hours(1));
    stand.until_done(&switch, "open again", &wanted, || {}).await.unwrap();
    let state = stand.look(&switch).await;
    assert_eq!(state.split, Split::all_to(fleet("web-new")));
    assert_eq!(healths(&state)[&new[0].instance], MemberHealth::Unhealthy);
}

#[tokio::test]
async fn who_leaves_finishes_its_requests_and_is_listed_until_then() {
    let stand = Stand::open().await;
    // Long enough for a slow machine, and over as soon as it is skipped.
    stand.fake.change(|options| options.second = Duration::from_secs(1));
    let switch = stand.switch();
    let members = stand.pair("web-new");
    stand.apply("open", &assignment(&[("web-new", 100)], &[&members])).await;
    let holder = stand.fake.begin_request(ROUTE).unwrap();
    let (leaving, staying): (Vec<_>, Vec<_>) =
        members.into_iter().partition(|member| holder.ends_with(member.instance.as_str().split('/').nth(1).unwrap()));
    let wanted = assignment(&[("web-new", 100)], &[&staying]);
    stand.apply("shrink", &wanted).await;
    let leaver = &leaving[0].instance;
    assert_eq!(healths(&stand.look(&switch).await).get(leaver), Some(&MemberHealth::Draining));
    for _ in 0..8 {
        assert_ne!(stand.fake.request(ROUTE).unwrap(), holder);
    }
    let version = stand.look(&switch).await.version;
    stand.fake.finish_request().unwrap();
    stand.fake.skip(Duration::from_secs(31));
    let state = stand.look(&switch).await;
    assert_eq!(healths(&state).get(leaver), None);
    assert_eq!(state.version, version, "who is drained is no change");
}

#[tokio::test]
async fn members_stay_until_the_weights_are_in_use_everywhere() {
    let stand = Stand::open().await;
    let (old, new) = (stand.pair("web-old"), stand.pair("web-new"));
    stand.apply("open", &assignment(&[("web-old", 100)], &[&old])).await;
    let hour = stand.builder.clone().weight_lag(Duration::from_mins(10)).build().unwrap();
    let slow = UrlMapSwitch::new(hour);
    let wanted = assignment(&[("web-new", 100)], &[&new]);
    let expected = stand.look(&slow).await.version;
    let mut last = Progress::Done(());
    for _ in 0..20 {
        last = stand.call(&slow, "move", &wanted, &expected).await.unwrap();
    }
    let Progress::Pending { retry_after, note } = last else { panic!("members left at once") };
    assert!(retry_after > Duration::from_mins(9) && retry_after <= Duration::from_mins(10), "{retry_after:?}");
    assert!(note.contains("before members leave"), "{note}");
    let state = stand.look(&slow).await;
    assert_eq!(state.split, wanted.split);
    assert_eq!(healths(&state)[&old[0].instance], MemberHealth::Healthy);
    stand.call(&stand.switch(), "move", &wanted, &expected).await.unwrap();
    assert_eq!(healths(&stand.look(&slow).await)[&old[0].instance], MemberHealth::Draining);
}

#[tokio::test]
async fn members_of_a_fleet_that_has_less_traffic_stay_until_that_is_so_everywhere() {
    let stand = Stand::open().await;
    let (old, new) = (stand.pair("web-old"), stand.pair("web-new"));
    stand.apply("open", &assignment(&[("web-old", 100)], &[&old])).await;
    let half = [("web-old", 50), ("web-new", 50)];
    stand.apply("halve", &assignment(&half, &[&old, &new])).await;
    let slow = UrlMapSwitch::new(stand.builder.clone().weight_lag(Duration::from_mins(10)).build().unwrap());
    let shrunk = assignment(&half, &[&old[..1], &new]);
    let expected = stand.look(&slow).await.version;
    for _ in 0..5 {
        let answer = stand.call(&slow, "shrink", &shrunk, &expected).await.unwrap();
        assert!(matches!(answer, Progress::Pending { .. }), "members left at once");
    }
    let healths = healths(&stand.look(&slow).await);
    assert!(old.iter().all(|member| healths[&member.instance] == MemberHealth::Healthy), "{healths:?}");
}

#[tokio::test]
async fn many_members_come_and_go_five_hundred_at_a_time() {
    let stand = Stand::open_with(Options { page: 1000, ..Options::default() }).await;
    let new: Vec<_> = (0..510).map(|number| stand.machine("web-new", 0, number)).collect();
    stand.apply("open", &assignment(&[("web-new", 100)], &[&new])).await;
    assert_eq!(stand.look(&stand.switch()).await.members.len(), 510);
    assert_eq!(stand.calls("compute.networkEndpointGroups.attachNetworkEndpoints"), 1 + 2);
    stand.apply("shrink", &assignment(&[("web-new", 100)], &[&new[..1]])).await;
    assert_eq!(stand.calls("compute.networkEndpointGroups.detachNetworkEndpoints"), 2);
}

#[tokio::test]
async fn a_member_in_a_zone_that_was_not_configured_gets_a_group_there() {
    let mut stand = Stand::open().await;
    stand.builder =
        Config::builder(stand.config().clients.clone(), stand.fake.project(), Location::zone(ZONES[0]), "e2-small")
            .weight_lag(Duration::ZERO);
    let first = [stand.machine("web-new", 0, 1)];
    stand.apply("open", &assignment(&[("web-new", 100)], &[&first])).await;
    let both = [first[0].clone(), stand.machine("web-new", 1, 2)];
    stand.apply("widen", &assignment(&[("web-new", 100)], &[&both])).await;
    assert_eq!(healths(&stand.look(&stand.switch()).await).len(), 2);
    let made = stand.fake.get(&format!("global/backendServices/{}", stand.name("web-new"))).unwrap();
    assert_eq!(made["backends"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_machine_that_is_made_again_under_its_name_is_another_member() {
    let stand = Stand::open().await;
    let switch = stand.switch();
    let members = stand.pair("web-new");
    stand.apply("open", &assignment(&[("web-new", 100)], &[&members])).await;
    stand.fake.remove(&format!("zones/{}/instances/web-new-1", ZONES[0])).unwrap();
    let again = stand.machine("web-new", 0, 1);
    assert_ne!(again.instance, members[0].instance);
    let there = healths(&stand.look(&switch).await);
    assert_eq!(there.keys().collect::<Vec<_>>(), [&members[1].instance]);
    let both = [again.clone(), members[1].clone()];
    stand.apply("repair", &assignment(&[("web-new", 100)], &[&both])).await;
    assert!(healths(&stand.look(&switch).await).contains_key(&again.instance));
}

#[tokio::test]
async fn regional_url_maps_have_regional_backend_services() {
    let mut stand = Stand::open().await;
    let (map, path) = ("regions/europe-west1/urlMaps/web", "regions/europe-west1/backendServices/web");
    let mut original = service("web", "INTERNAL_MANAGED", "HTTP");
    // Machines in a managed group, as most balancers have them before.
    original["backends"] = json!([{
        "group": format!("{LINK}zones/{}/instanceGroups/web", ZONES[0]),
        "balancingMode": "UTILIZATION",
        "maxUtilization": 0.8,
        "maxRatePerInstance": 35.0,
    }]);
    stand.fake.put(path, original);
    stand.fake.put(map, json!({ "defaultService": format!("{LINK}{path}") }));
    stand.route = map.parse().unwrap();
    let new = stand.pair("web-new");
    stand.apply("open", &assignment(&[("web-new", 100)], &[&new])).await;
    assert_eq!(stand.look(&stand.switch()).await.split, Split::all_to(fleet("web-new")));
    assert!(stand.fake.request(map).unwrap().contains("/web-new-"));
    let made = stand.fake.get(&format!("regions/europe-west1/backendServices/{}", stand.name("web-new"))).unwrap();
    for backend in made["backends"].as_array().unwrap() {
        assert_eq!((&backend["balancingMode"], &backend["maxRatePerEndpoint"]), (&json!("RATE"), &json!(35.0)));
        assert_eq!(backend.get("maxUtilization"), None);
    }
    stand.apply("close", &assignment(&[], &[])).await;
    removal::remove(&stand, "once", "web-new").await.unwrap();
    assert_eq!(stand.fake.get(map).unwrap()["defaultService"], format!("{LINK}{path}"));
}
