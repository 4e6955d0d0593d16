//! What holds it, what that puts off, and what is kept meanwhile.

use super::*;
use crate::engine::blame::{Beside, Fare};

#[test]
fn during_a_shortage_only_what_is_ill_is_ended_and_what_serves_stays() {
    let world = "3 1 2 step 1: old at 10000 [S S D D! u p Dx] new at 0 [u] toward new 3@10000";
    assert_eq!(
        next(&mut machine(world, &[]), 1, world),
        ["progressed 3999972, deadline 600", "end old old3 old6 old2 old5 old4", "route old=10000 -old0"]
    );
    let mut short = machine(world, &[held(short_of("new"), 0)]);
    // It grows by nothing here, so that the hold would be over: an ill instance of the new fleet goes.
    let world = "3 1 2 step 1: old at 10000 [S S D D! u p Dx] new at 0 [u!] toward new 3@10000";
    assert_eq!(next(&mut short, 1, world), ["progressed 3999972, deadline 600", "end new new0", "end old old3 old6"]);
}

#[test]
fn a_shortage_is_over_as_soon_as_its_fleet_is_not_to_grow() {
    let cases = [
        ("2 1 0 step 1: old at 10000 [S S] toward new 2@10000", false),
        ("2 0 0 step 1: old at 10000 [S S] *new at 0 [] toward new 2@10000", false),
        ("2 0 0 step 1: old at 10000 [S S] new at 0 [u!] toward new 2@10000", false),
        ("2 2 0 step 1: old at 10000 [S S] new at 0 [u u] toward new 2@10000", true),
        ("2 2 0 step 1: old at 10000 [S S u!] *old at 0 [] new at 0 [u u] toward new 2@10000", true),
    ];
    for (world, is_over) in cases {
        let mut machine = machine(world, &[held(short_of("new"), 10)]);
        let says = next(&mut machine, 20, world);
        assert_eq!(says == ["went on, deadline 610"], is_over, "{world}: {says:?}");
        assert_eq!(machine.hold().is_none(), is_over);
    }
}

#[test]
fn a_hold_puts_the_deadline_off_by_its_time_and_never_beyond_a_new_one() {
    for (since, until, deadline) in [(0, 0, 600), (100, 150, 650), (550, 1_000, 1_050), (0, 5_000, 5_600)] {
        let mut machine = machine(SOME, &[held(throttled(), since)]);
        let says = machine.go_on(at(until));
        assert_eq!(told(&mut machine, &says), [format!("went on, deadline {deadline}")]);
        assert_eq!((machine.hold(), machine.go_on(at(until))), (None, vec![]));
    }
}

#[test]
fn the_time_begins_anew_only_the_first_time_that_the_environment_was_at_fault() {
    let mut machine = machine(SOME, &[]);
    let mut hold = |since, until| {
        machine.apply(&held(degraded(Signal::Instances), since));
        let says = machine.go_on(at(until));
        told(&mut machine, &says)
    };
    assert_eq!(hold(100, 200), ["went on, deadline 800"]);
    assert_eq!(hold(300, 350), ["went on, deadline 850"]);
    assert_eq!(hold(400, 450), ["went on, deadline 900"]);
}

#[test]
fn a_stage_is_judged_anew_when_the_environment_is_well_again() {
    let serving = "2 2 0 step 1: new at 10000 [S S] toward new 2@10000";
    let went_on = |hold: Hold| {
        let mut machine = machine(serving, &[]);
        assert_eq!(next(&mut machine, 10, serving), ["reached until 110"]);
        machine.apply(&held(hold, 50));
        let says = machine.go_on(at(90));
        machine.apply(&says[0]);
        [110, 189, 190].map(|second| next(&mut machine.clone(), second, serving) == ["promoted"])
    };
    assert_eq!(went_on(degraded(Signal::Checks)), [false, false, true]);
    assert_eq!(went_on(throttled()), [true, true, true]);
}

#[test]
fn the_hold_that_explains_more_is_told() {
    let none: [&str; 0] = [];
    let kinds = || [throttled(), short_of("new"), degraded(Signal::Instances)];
    for (rank, before) in kinds().into_iter().enumerate() {
        for (other, hold) in kinds().into_iter().enumerate() {
            let mut machine = machine(SOME, &[held(before.clone(), 100)]);
            let says = machine.hold_since(at(120), at(150), hold.clone());
            let says = told(&mut machine, &says);
            if other > rank {
                assert_eq!(says.len(), 2, "{says:?}");
                assert_eq!(says[0], "went on, deadline 650");
                assert_eq!(says[1], format!("held by {} since 120", name(&hold)));
            } else {
                assert_eq!(says, none);
            }
        }
    }
    let mut machine = machine(SOME, &[]);
    let says = machine.hold_since(at(120), at(150), throttled());
    assert_eq!(told(&mut machine, &says), ["held by throttling since 120"]);
}

#[test]
fn what_is_over_stopped_or_goes_back_is_not_held() {
    let back = Event::TurnedBack { reason: Reason::Asked { note: "no".into() }, at: at(0), deadline: at(600) };
    let cases = [
        (vec![Event::Paused { at: at(0) }], [false, false]),
        (vec![Event::Ended { outcome: Outcome::Promoted, at: at(0) }], [false, false]),
        (vec![Event::Paused { at: at(0) }, Event::Resumed { at: at(1) }], [true, true]),
        // What serves beside it is no excuse any more, but it may wait for the platform.
        (vec![back], [true, false]),
    ];
    for (events, expected) in cases {
        let machine = machine(SOME, &events);
        let holds = |hold| !machine.hold_since(at(1), at(1), hold).is_empty();
        assert_eq!([holds(throttled()), holds(degraded(Signal::Checks))], expected, "{events:?}");
    }
    let ended = [held(throttled(), 0), Event::Ended { outcome: Outcome::Promoted, at: at(1) }];
    assert_eq!(machine(SOME, &ended).go_on(at(2)), []);
}

#[test]
fn a_hold_is_worth_its_entry_after_a_twentieth_of_the_deadline_or_at_its_end() {
    let cases =
        [(0, 29, false), (0, 30, true), (100, 129, false), (100, 130, true), (599, 599, false), (600, 600, true)];
    for (since, now, expected) in cases {
        assert_eq!(machine(SOME, &[]).is_worth_a_hold(at(since), at(now)), expected, "since {since}, at {now}");
        let held = machine(SOME, &[held(throttled(), 0)]);
        assert!(!held.is_worth_a_hold(at(since), at(now)), "it is held already");
    }
    // A goal that is reached has no deadline.
    let reached = Event::GoalReached { at: at(0), hold_until: at(900) };
    assert!(!machine(SOME, &[reached]).is_worth_a_hold(at(700), at(700)));
}

#[test]
fn the_fleet_that_serves_beside_the_new_one_decides_who_is_to_blame() {
    let fare = |well, ill, all| Fare { well, ill, all };
    let none: [&str; 0] = [];
    let (blamed, over) = (["held by instances since 50"], ["went on, deadline 650"]);
    // The old fleet, the new one, and what is said of a rollout that is not held, held by instances, held by checks.
    let cases = [
        (fare(4, 0, 4), fare(0, 1, 1), &none[..], &over[..]),
        (fare(2, 1, 4), fare(0, 1, 1), &none, &none),
        (fare(2, 2, 4), fare(0, 1, 1), &blamed, &none),
        (fare(3, 3, 6), fare(0, 1, 1), &blamed, &none),
        (fare(3, 2, 5), fare(0, 1, 1), &none, &over),
        (fare(0, 4, 4), fare(0, 0, 2), &none, &none),
        (fare(0, 4, 4), fare(1, 0, 2), &none, &none),
        (fare(0, 4, 4), fare(2, 0, 2), &none, &over),
        (fare(0, 4, 4), fare(0, 0, 0), &none, &none),
        (fare(0, 0, 0), fare(0, 1, 1), &none, &over),
    ];
    for (old, new, free, held_by_instances) in cases {
        let beside = Beside { fleet: None, old, new, looks: vec![] };
        let say = |events: &[Event], now| {
            let mut machine = machine(SOME, events);
            let says = machine.compare(at(now), &beside);
            told(&mut machine, &says)
        };
        assert_eq!(say(&[], 50), free, "{beside:?}");
        assert_eq!(say(&[held(degraded(Signal::Instances), 50)], 50), held_by_instances, "{beside:?}");
        assert_eq!(say(&[held(degraded(Signal::Checks), 50)], 50), none, "{beside:?}");
        // Past its time, the new one need not be ill.
        let ill = beside.old.ill * 2 >= beside.old.all && beside.old.ill > 0;
        assert_eq!(!say(&[], 600).is_empty(), ill, "{beside:?}");
    }
}
