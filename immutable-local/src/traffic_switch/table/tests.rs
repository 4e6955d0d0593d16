use super::*;

/// A member `web-1/a` is the instance `a` of the fleet `web-1`.
fn target(name: &str) -> MemberTarget {
    let (fleet, instance) = name.split_once('/').expect("fleet/instance");
    // Another name is another port: a table does not connect.
    let port = 1000 + u16::from(instance.as_bytes()[0]);
    MemberTarget {
        instance: instance.parse().expect("a name"),
        fleet: fleet.parse().expect("a name"),
        endpoint: Endpoint::new("127.0.0.1", port).expect("an endpoint"),
    }
}

fn assignment(weights: &[(&str, u16)], members: &[&str]) -> Assignment {
    let weight = |(fleet, points): &(&str, u16)| {
        (fleet.parse().expect("a name"), Weight::basis_points(*points).expect("at most 10 000"))
    };
    Assignment {
        split: Split::new(weights.iter().map(weight)).expect("10 000 in sum"),
        members: members.iter().map(|name| target(name)).collect(),
    }
}

fn table(weights: &[(&str, u16)], members: &[&str]) -> Table {
    let table = Table::new();
    apply(&table, &assignment(weights, members));
    table
}

fn apply(table: &Table, assignment: &Assignment) {
    let version = table.observe().0;
    table.apply(assignment, &version, &Meters::default()).expect("applied");
}

fn picked(pick: Option<InFlight>) -> String {
    pick.map(|pick| pick.member().instance.to_string()).unwrap_or_default()
}

fn observed(table: &Table) -> Vec<(String, MemberHealth)> {
    table.observe().2.into_iter().map(|member| (member.instance.to_string(), member.health)).collect()
}

#[test]
fn any_ten_thousand_requests_meet_the_weights_exactly() {
    for weights in
        [&[("f0", 500), ("f1", 9500)][..], &[("f0", 1), ("f1", 9999)], &[("f0", 3333), ("f1", 3333), ("f2", 3334)]]
    {
        let members: Vec<_> = weights.iter().enumerate().map(|(i, (fleet, _))| format!("{fleet}/{i}")).collect();
        let members: Vec<_> = members.iter().map(String::as_str).collect();
        let table = table(weights, &members);
        for skipped in [0, 1, 777] {
            (0..skipped).for_each(|_| drop(table.pick()));
            let mut counts = BTreeMap::new();
            for _ in 0..10_000 {
                *counts.entry(table.pick().expect("open").member().fleet.to_string()).or_insert(0) += 1;
            }
            let expected: BTreeMap<_, _> =
                weights.iter().map(|(fleet, points)| ((*fleet).to_owned(), *points)).collect();
            assert_eq!(counts, expected);
        }
    }
}

#[test]
fn a_small_share_is_spread_over_short_windows() {
    let table = table(&[("new", 500), ("old", 9500)], &["new/n", "old/o"]);
    let picks: Vec<_> = (0..20_000).map(|_| picked(table.pick()) == "n").collect();
    for window in picks.windows(100) {
        let count = window.iter().filter(|new| **new).count();
        assert!((3..=7).contains(&count), "{count} of 100 at 5 %");
    }
    // Also for a client whose requests come in a pattern of two.
    let even = picks.iter().step_by(2).filter(|new| **new).count();
    assert_eq!(even, 500);
}

#[test]
fn members_take_turns_and_the_least_busy_goes_first() {
    let four = ["f/a", "f/b", "f/c", "f/d"];
    let table = table(&[("f", 10_000)], &four);
    let turns: Vec<_> = (0..8).map(|_| picked(table.pick())).collect();
    assert_eq!(turns, ["a", "b", "c", "d", "a", "b", "c", "d"]);
    let held: Vec<_> = (0..3).map(|_| table.pick()).collect();
    for _ in 0..4 {
        assert_eq!(picked(table.pick()), "d", "a, b and c are busy");
    }
    drop(held);
    let turns: BTreeSet<_> = (0..4).map(|_| picked(table.pick())).collect();
    assert_eq!(turns.len(), 4);
}

#[test]
fn a_busy_member_among_a_hundred_gets_nothing_more() {
    let names: Vec<_> =
        (0..100_u8).map(|i| format!("f/{}", char::from(b'!' + (i % 90)).to_string() + &i.to_string())).collect();
    let members: Vec<_> = names.iter().map(String::as_str).collect();
    let table = table(&[("f", 10_000)], &members);
    let busy = table.pick();
    let name = busy.as_ref().expect("open").member().instance.to_string();
    let counts = (0..990).fold(BTreeMap::new(), |mut counts: BTreeMap<_, u32>, _| {
        *counts.entry(picked(table.pick())).or_default() += 1;
        counts
    });
    assert_eq!(counts.len(), 99);
    assert!(!counts.contains_key(&name));
    assert!(counts.values().all(|count| *count <= 20), "{counts:?}");
}

#[test]
fn a_closed_or_empty_route_leads_nowhere() {
    assert!(Table::new().pick().is_none());
    assert!(table(&[], &["f/a"]).pick().is_none());
    assert!(table(&[("f", 10_000)], &[]).pick().is_none());
}

#[test]
fn another_member_is_of_the_same_fleet_first_and_each_is_tried_once() {
    let table = table(&[("f", 5000), ("g", 5000), ("h", 0)], &["f/a", "f/b", "g/c", "h/d"]);
    let fleet = FleetId::new("f").expect("a name");
    let mut tried = Vec::new();
    let mut order = Vec::new();
    while let Some(next) = table.pick_another(&fleet, &tried) {
        order.push(next.member().instance.to_string());
        tried.push(Arc::clone(next.member()));
    }
    assert_eq!(order, ["a", "b", "c"], "h has no traffic");
}

#[test]
fn a_removed_member_drains_until_its_last_request_ends() {
    use MemberHealth::{Draining, Untold};
    let table = table(&[("f", 10_000)], &["f/a"]);
    let (first, second) = (table.pick(), table.pick());
    apply(&table, &assignment(&[("f", 10_000)], &["f/b"]));
    let both = [("b".to_owned(), Untold), ("a".to_owned(), Draining)];
    assert_eq!(observed(&table), both);
    drop(first);
    assert_eq!(observed(&table), both);
    assert!((0..100).all(|_| picked(table.pick()) == "b"));
    drop(second);
    assert_eq!(observed(&table), both[..1]);
}

#[test]
fn a_member_that_stays_or_comes_back_is_the_same_one() {
    let table = table(&[("f", 10_000)], &["f/a"]);
    let held = table.pick().expect("open");
    let in_flight = || {
        table.loads().iter().map(|load| (load.instance.to_string(), load.in_flight, load.requests)).collect::<Vec<_>>()
    };
    apply(&table, &assignment(&[("f", 10_000)], &["f/a", "f/b"]));
    assert_eq!(in_flight(), [("a".to_owned(), 1, 1), ("b".to_owned(), 0, 0)]);
    apply(&table, &assignment(&[("f", 10_000)], &["f/b"]));
    apply(&table, &assignment(&[("f", 10_000)], &["f/a"]));
    assert_eq!(in_flight(), [("a".to_owned(), 1, 1)]);
    assert_eq!(observed(&table), [("a".to_owned(), MemberHealth::Untold)]);
    drop(held);
    assert_eq!(in_flight(), [("a".to_owned(), 0, 1)]);
}

#[test]
fn a_member_at_another_endpoint_is_another_one_and_listed_once() {
    let table = table(&[("f", 10_000)], &["f/a"]);
    let held = table.pick().expect("open");
    let mut moved = assignment(&[("f", 10_000)], &["f/a"]);
    moved.members[0].endpoint = Endpoint::new("127.0.0.1", 9).expect("an endpoint");
    apply(&table, &moved);
    assert_eq!(table.pick().expect("open").member().endpoint().port(), 9);
    assert_eq!(observed(&table), [("a".to_owned(), MemberHealth::Untold)]);
    moved.members[0] = target("f/b");
    apply(&table, &moved);
    assert_eq!(observed(&table).len(), 2, "the old a is still in use");
    drop(held);
    assert_eq!(observed(&table).len(), 1);
}

#[test]
fn a_version_is_changed_by_each_change_and_by_nothing_else() {
    let table = Table::new();
    let meters = Meters::default();
    let first = table.observe().0;
    let open = assignment(&[("f", 10_000)], &["f/a", "f/b"]);
    assert_eq!(table.apply(&open, &first, &meters), Ok(()));
    let second = table.observe().0;
    assert_ne!(first, second);
    let same = assignment(&[("f", 10_000)], &["f/b", "f/a"]);
    assert_eq!(table.apply(&same, &second, &meters), Ok(()));
    assert_eq!(table.observe().0, second, "nothing was changed");
    assert_eq!(table.apply(&open, &first, &meters), Err(ApplyError::Conflict(second.clone())));
    let closed = assignment(&[], &[]);
    assert_eq!(table.apply(&closed, &first, &meters), Err(ApplyError::Conflict(second.clone())));
    assert_eq!(table.observe().0, second);
    assert_eq!(picked(table.pick()).len(), 1, "still open");
    assert_ne!(Table::new().observe().0, Table::new().observe().0);
}

#[test]
fn the_share_of_a_fleet_without_members_is_served_by_the_others() {
    let table = table(&[("f", 5000), ("g", 5000)], &["f/a"]);
    for _ in 0..10_000 {
        assert_eq!(picked(table.pick()).len(), 1, "a request was served by nobody");
    }
    let (version, split, _) = table.observe();
    assert_eq!(split.weight(&"g".parse().unwrap()).points(), 5000, "the weights are those that were applied");
    let gone = assignment(&[("g", 10_000)], &["f/a"]);
    assert_eq!(table.apply(&gone, &version, &Meters::default()), Ok(()));
    assert_eq!(picked(table.pick()).len(), 1);
}

#[test]
fn an_assignment_that_cannot_be_is_refused_and_changes_nothing() {
    let check = |assignment: &Assignment, expected: &str| {
        let table = table(&[("f", 10_000)], &["f/a"]);
        let before = table.observe();
        let error = table.apply(assignment, &before.0, &Meters::default());
        assert_eq!(error, Err(ApplyError::Invalid(expected.to_owned())));
        assert_eq!(table.observe(), before);
    };
    check(&assignment(&[("f", 10_000)], &["f/a", "f/b", "f/a"]), "instance a is named twice; name each member once");
}
