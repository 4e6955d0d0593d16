//! Names, stamps and steps of the members of a backend pool.

use std::time::Duration;

use immutable_core::model::{Endpoint, FleetId, InstanceId};
use immutable_core::provider::MemberTarget;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::members::{Entry, Obstacle, Step, after, is_left_by, sealed};
use super::pool::Place;
use super::removal::without;

const HOUR: Duration = Duration::from_hours(1);

fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

fn target(instance: &str, ip: &str) -> MemberTarget {
    let (fleet, _) = instance.trim_start_matches("im-").rsplit_once('_').unwrap();
    let instance = InstanceId::new(instance).unwrap();
    MemberTarget { instance, fleet: FleetId::new(fleet).unwrap(), endpoint: Endpoint::new(ip, 80).unwrap() }
}

fn text(entries: &[Entry]) -> String {
    entries.iter().map(Entry::text).collect()
}

fn entry(name: &str, ip: &str, state: &str) -> Entry {
    let value: Value = json!({ "name": name, "properties": { "ipAddress": ip, "adminState": state } });
    Entry::read(&value).unwrap()
}

fn joined(entries: &[Entry], targets: &[MemberTarget], seen: &str) -> Result<Vec<Entry>, Obstacle> {
    let entries = after(entries, &Step::Join(targets.iter().collect()), None, (now(), HOUR))?;
    Ok(sealed(entries, ("key", seen), text))
}

#[test]
fn a_name_tells_the_instance_the_time_and_the_write() {
    let longest = format!("im-{}-{}_0a1b2c3d", "a".repeat(40), "f".repeat(12));
    let new = joined(&[], &[target(&longest, "10.0.0.1")], "1").unwrap();
    let name = new[0].name().to_owned();
    assert!(name.len() <= 80 && name.ends_with(|c: char| c.is_ascii_alphanumeric()), "{name}");
    let read = Entry::read(&new[0].value).unwrap();
    assert_eq!(read, new[0]);
    assert_eq!((read.ours.as_ref().unwrap().since, read.ours.unwrap().instance.as_str()), (now(), longest.as_str()));
    let out = sealed(after(&new, &Step::Leave(&[]), None, (now(), HOUR)).unwrap(), ("key", "2"), text);
    assert!(out[0].name().len() <= 80 && out[0].is_out());
    let since = out[0].left().unwrap().since;
    assert!(since > now() && since <= now() + Duration::from_secs(1), "whole seconds, and none too few");
    let soon = now() + Duration::from_millis(1);
    let late = after(&[], &Step::Join(vec![&target("im-web-1_a", "10.0.0.1")]), None, (soon, HOUR)).unwrap();
    let since = Entry::read(&late[0].value).unwrap().ours.unwrap().since;
    assert!(since > soon && since <= soon + Duration::from_secs(1), "nothing is said of it that was said before");
    let longer = target(&format!("im-{}_0a1b2c3d", "a".repeat(60)), "10.0.0.1");
    assert!(matches!(joined(&[], &[longer], "1"), Err(Obstacle::LongName(_))));
}

#[test]
fn names_of_somebody_else_are_not_ours_and_names_of_ours_without_marks_are() {
    for (name, instance, since) in [
        ("im-web-1_0a1b.tro8w0.abcdef", Some("im-web-1_0a1b"), 1_800_000_000),
        ("im-web-1_0a1b", Some("im-web-1_0a1b"), 0),
        ("IM-WEB-1_0A1B.?.x", Some("im-web-1_0a1b"), 0),
        ("somebody", None, 0),
        ("im-web", None, 0),
        ("10.0.0.1", None, 0),
        ("4c6a_webnic", None, 0),
    ] {
        let read = entry(name, "10.0.0.1", "None");
        assert_eq!(read.ours.as_ref().map(|ours| ours.instance.as_str()), instance, "{name}");
        assert_eq!(read.ours.map_or(0, |ours| ours.since.as_second()), since, "{name}");
    }
}

#[test]
fn it_is_seen_whose_write_a_pool_is_as_left_by() {
    let there = [entry("somebody", "10.0.0.9", "None")];
    let one = joined(&there, &[target("im-web-1_a", "10.0.0.1")], "1").unwrap();
    let two = joined(&one, &[target("im-web-1_b", "10.0.0.2")], "2").unwrap();
    let is = |entries: &[Entry], key, seen| is_left_by(entries, (key, seen), text);
    assert!(is(&one, "key", "1") && is(&two, "key", "2"));
    assert!(!is(&there, "key", "1") && !is(&one, "other", "1") && !is(&one, "key", "2"));
    assert!(!is(&two, "key", "1"), "somebody has written since");
    let mut changed = one.clone();
    changed[0] = entry("somebody", "10.0.0.8", "None");
    assert!(!is(&changed, "key", "1") && !is(&one[1..], "key", "1"));
    // The same members by another write are something else.
    assert_ne!(text(&one), text(&joined(&there, &[target("im-web-1_a", "10.0.0.1")], "3").unwrap()));
}

#[test]
fn steps_keep_what_is_not_theirs() {
    let old = [
        entry("somebody", "10.0.0.9", "Down"),
        entry("im-web-1_a.tro8w0.abcdef", "10.0.0.1", "None"),
        entry("im-web-1_b.tro8w0.abcdef", "10.0.0.2", "Down"),
        entry("im-web-1_c", "10.0.0.3", "Down"),
    ];
    let ips = |entries: &[Entry]| entries.iter().map(|one| one.address().unwrap().to_owned()).collect::<Vec<_>>();
    // One comes, another comes back, and what was drained long ago goes.
    let next = joined(&old, &[target("im-web-2_a", "10.0.0.4"), target("im-web-1_b", "10.0.0.2")], "1").unwrap();
    assert_eq!(ips(&next), ["10.0.0.9", "10.0.0.1", "10.0.0.4", "10.0.0.2"]);
    assert_eq!((&next[..2], next[3].is_out()), (&old[..2], false));
    // An address changes hands.
    let next = joined(&old, &[target("im-web-2_a", "10.0.0.1")], "1").unwrap();
    assert_eq!(ips(&next), ["10.0.0.9", "10.0.0.2", "10.0.0.1"]);
    // All leave but somebody else's.
    let next = after(&old, &Step::Leave(&[]), None, (now(), HOUR)).unwrap();
    assert_eq!((ips(&next).len(), &next[0], next[1].is_out(), &next[2]), (3, &old[0], true, &old[2]));
    assert!(matches!(joined(&old, &[target("im-web-2_a", "10.0.0.9")], "1"), Err(Obstacle::Taken(..))));
}

#[test]
fn a_sweep_takes_out_who_left_and_leaves_a_call_under_way_its_stamp_and_no_version_twice() {
    let there = [
        entry("somebody", "10.0.0.9", "Down"),
        entry("im-web-1_a.tro8w0.abcdef", "10.0.0.1", "Down"),
        entry("im-web-1_b", "10.0.0.2", "Down"),
        entry("im-web-2_a.tro8w0.abcdef", "10.0.0.3", "None"),
    ];
    let mut now = joined(&there, &[target("im-web-2_b", "10.0.0.4")], "1").unwrap();
    let mut versions = vec![text(&now)];
    for round in 1..=40 {
        now = without(&now, &"web-1".parse().unwrap());
        let addresses: Vec<_> = now.iter().map(|one| one.address().unwrap()).collect();
        assert_eq!((addresses.as_slice(), &now[0]), (&["10.0.0.9", "10.0.0.3", "10.0.0.4"][..], &there[0]));
        assert!(is_left_by(&now, ("key", "1"), text), "round {round}");
        assert!(!is_left_by(&now, ("key", "2"), text));
        let read: Vec<Entry> = now.iter().map(|one| Entry::read(&one.value).unwrap()).collect();
        assert_eq!(read, now, "in round {round} the names tell what was written");
        assert_eq!(versions.contains(&text(&now)), round > 36, "round {round}");
        versions.push(text(&now));
    }
    // A fleet that has nobody left, and one that is in, lose nobody.
    assert_eq!(without(&there[..1], &"web-1".parse().unwrap()), there[..1]);
    assert_eq!(without(&there, &"web-2".parse().unwrap()).len(), 4);
    // Who is taken out or put in by hand is seen all the same.
    for (index, state) in [(1, "Down"), (0, "None")] {
        let mut changed = now.clone();
        changed[index].value["properties"]["adminState"] = state.into();
        assert!(!is_left_by(&changed, ("key", "1"), text), "{index} {state}");
    }
}

#[test]
fn a_pool_is_told_from_what_is_none() {
    let group = "/subscriptions/s/resourceGroups/g/providers";
    let good = format!("{group}/Microsoft.Network/loadBalancers/web/backendAddressPools/blue");
    let place = Place::parse(&good).unwrap();
    assert_eq!((place.pool.as_str(), place.id()), ("blue", good.clone()));
    assert!(Place::parse(&good.to_uppercase()).is_some());
    for wrong in [
        String::new(),
        "blue".to_owned(),
        format!("{group}/Microsoft.Network/loadBalancers/web"),
        format!("{group}/Microsoft.Network/loadBalancers/web/probes/blue"),
        format!("{group}/Microsoft.Compute/loadBalancers/web/backendAddressPools/blue"),
        format!("{group}/Microsoft.Network/loadBalancers/web/backendAddressPools/"),
        format!("{good}/more"),
        format!("{good}/more/still"),
        good[1..].to_owned(),
    ] {
        assert_eq!(Place::parse(&wrong), None, "{wrong}");
    }
}
