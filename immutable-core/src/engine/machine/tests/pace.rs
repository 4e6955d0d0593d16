//! Deadlines: what is progress, what is forgiven, and what another driver may count on.

use super::*;
use crate::engine::machine::Command;

/// Two new instances beside two old ones; each `i` is what the new ones are.
fn with_new(instances: &str) -> String {
    format!("2 2 0 step 1: old at 10000 [S S] new at 0 [{instances}] toward new 2@10000")
}

#[test]
fn only_what_is_better_than_ever_is_progress_and_only_when_it_is_worth_an_entry() {
    let mut machine = machine(SOME, &[]);
    let mut score = |second, instances: &str| {
        let says = next(&mut machine, second, &with_new(instances));
        says.into_iter().filter(|word| word.starts_with("progressed")).collect::<Vec<_>>()
    };
    let none: [&str; 0] = [];
    // The first look says what progress is measured against, and puts nothing off.
    assert_eq!(score(10, "u u"), ["progressed 3999992, deadline 600"]);
    assert_eq!(score(100, "u u"), none);
    assert_eq!(score(129, "P u"), ["progressed 3999993, deadline 729"]);
    assert_eq!(score(200, "u u"), none);
    assert_eq!(score(201, "u P"), none, "as far as before");
    assert_eq!(score(202, "P! P"), none, "what is to be replaced is none");
    assert_eq!(score(203, "P P"), ["progressed 3999994, deadline 803"]);
    assert_eq!(score(204, "P j"), none, "not worth an entry yet");
    assert_eq!(score(232, "P j"), none);
    assert_eq!(score(233, "P j"), ["progressed 3999995, deadline 833"]);
    assert_eq!(score(300, "j S"), ["progressed 3999997, deadline 900"]);
}

#[test]
fn weight_that_moves_and_others_that_go_are_progress() {
    let score = |world: &str| {
        let text = format!("2 2 0 step 1: {world} toward new 2@6000 old 1@4000");
        let says = next(&mut machine(&text, &[]), 1, &text);
        let said = says[0].strip_prefix("progressed ").map(|rest| rest.split(',').next().unwrap().parse::<u64>());
        said.unwrap().unwrap()
    };
    let base = score("old at 10000 [S S] new at 0 [P j]");
    assert_eq!(score("old at 9000 [S S] new at 1000 [P j]") - base, 1_000);
    assert_eq!(score("old at 0 [S S] new at 10000 [P j]") - base, 6_000, "no more than the goal has");
    assert_eq!(score("old at 10000 [S] new at 0 [P j]") - base, 4);
    assert_eq!(score("old at 10000 [S S] new at 0 [D S]") - base, 1);
    assert_eq!(base - score("old at 10000 [S S] new at 0 [a ? d e]"), 3);
}

#[test]
fn without_progress_it_turns_back_at_the_deadline_and_not_before() {
    let none: [&str; 0] = [];
    let world = with_new("u u");
    let mut machine = machine(SOME, &[]);
    assert_eq!(next(&mut machine, 1, &world).len(), 1);
    assert_eq!(next(&mut machine, 599, &world), none);
    let mut held = machine.clone();
    held.apply(&held_at(500));
    assert_eq!(next(&mut held, 600, &world), none);
    assert_eq!(next(&mut machine.clone(), 600, &with_new("P u"))[0], "progressed 3999993, deadline 1200");
    assert_eq!(next(&mut machine, 600, &world), ["turned back for want of progress"]);
}

fn held_at(second: i64) -> Event {
    held(throttled(), second)
}

#[test]
fn a_new_release_that_serves_is_not_taken_back_for_what_is_left_over() {
    let left_over = "2 2 0 step 1: old at 0 [d] new at 10000 [S S] toward new 2@10000";
    let mut machine = machine(SOME, &[]);
    assert_eq!(next(&mut machine, 1, left_over).len(), 1);
    assert_eq!(next(&mut machine, 600, left_over), ["stuck"]);
}

#[test]
fn a_goal_that_is_lost_gets_a_quarter_of_its_time_back_and_holds_anew() {
    let none: [&str; 0] = [];
    let (well, ill) =
        ("2 2 0 step 1: new at 10000 [S S] toward new 2@10000", "2 2 0 step 1: new at 10000 [S a] toward new 2@10000");
    let mut machine = machine(SOME, &[]);
    assert_eq!(next(&mut machine, 200, well), ["reached until 300"]);
    // 400 were left; a quarter of 40 comes back.
    assert_eq!(next(&mut machine, 240, ill)[0], "lost, deadline 650");
    // Something was done about it: it holds anew.
    assert_eq!(next(&mut machine.clone(), 250, well), ["reached until 350"]);
    let mut lost = machine.clone();
    for (reached, until, lost_at, deadline) in
        [(250, 350, 290, 700), (300, 400, 340, 750), (350, 450, 360, 760), (370, 470, 449, 858)]
    {
        assert_eq!(next(&mut lost, reached, well), [format!("reached until {until}")], "at {reached}");
        assert_eq!(next(&mut lost, lost_at, ill)[0], format!("lost, deadline {deadline}"), "at {lost_at}");
    }
    // After so many losses what is left of a hold is enough, unless too little of it was over.
    assert_eq!(next(&mut lost, 500, well), ["reached until 521"]);
    assert_eq!(next(&mut machine, 250, well), ["reached until 350"]);
    assert_eq!(next(&mut machine, 349, well), none);
    assert_eq!(next(&mut machine, 350, well), ["promoted"]);
}

#[test]
fn a_pause_burns_no_deadline_and_no_hold() {
    let well = "2 2 0 step 1: new at 10000 [S S] toward new 2@10000";
    let none: [&str; 0] = [];
    let mut reached = machine(SOME, &[]);
    assert_eq!(next(&mut reached, 200, well), ["reached until 300"]);
    for event in [
        Event::Paused { at: at(250) },
        Event::Frozen { reason: "night".into(), at: at(260) },
        Event::Resumed { at: at(270) },
        Event::Thawed { at: at(350) },
    ] {
        assert_eq!(next(&mut reached.clone(), 1_000, well) == none, reached.is_paused() || reached.frozen().is_some());
        reached.apply(&event);
    }
    assert_eq!((next(&mut reached, 399, well), next(&mut reached, 400, well)), (vec![], vec!["promoted".to_owned()]));
    let waits = with_new("u u");
    let mut pending = machine(SOME, &[Event::Paused { at: at(100) }, Event::Resumed { at: at(150) }]);
    assert_eq!(next(&mut pending, 649, &waits), ["progressed 3999992, deadline 650"]);
    assert_eq!(next(&mut pending, 650, &waits), ["turned back for want of progress"]);
}

#[test]
fn a_deadline_that_passed_while_nobody_looked_is_put_off_until_somebody_has() {
    // At, for the first time, and the deadline that follows.
    let cases = [
        (300, false, None),
        (599, false, None),
        (600, false, Some(900)),
        (600, true, Some(900)),
        (300, true, None),
        (330, true, None),
        (331, true, Some(631)),
        (5_000, false, Some(5_300)),
    ];
    for (now, first, expected) in cases {
        let mut machine = machine(SOME, &[]);
        let says = machine.looked_again(at(now), first);
        let expected: Vec<_> = expected.iter().map(|deadline| format!("looked again, deadline {deadline}")).collect();
        assert_eq!(told(&mut machine, &says), expected, "at {now}, first: {first}");
    }
    let does_not_count = [
        Event::Paused { at: at(0) },
        Event::GoalReached { at: at(0), hold_until: at(9_000) },
        held_at(0),
        Event::Ended { outcome: Outcome::Promoted, at: at(0) },
    ];
    for event in does_not_count {
        assert_eq!(machine(SOME, std::slice::from_ref(&event)).looked_again(at(700), true), [], "{event:?}");
    }
}

#[test]
fn a_driver_that_goes_on_waits_for_what_the_one_before_may_have_sent() {
    let none: [&str; 0] = [];
    let acted = Event::Intended { actions: vec![], at: at(10) };
    let take = |machine: &mut Machine, now, horizon| {
        let says = machine.take_over(at(now), Duration::from_secs(horizon));
        told(machine, &says)
    };
    assert_eq!(take(&mut machine(SOME, &[]), 100, 300), none, "it had sent nothing");
    let mut taken = machine(SOME, std::slice::from_ref(&acted));
    assert_eq!(take(&mut taken.clone(), 100, 0), none, "nothing lands late");
    assert_eq!(take(&mut taken, 100, 300), ["taken over until 400, deadline 900"]);
    assert_eq!((taken.quiet_until(at(399)), taken.quiet_until(at(400))), (Some(at(400)), None));
    for now in [100, 200] {
        assert_eq!(take(&mut taken, now, 300), none, "the one that waited has sent nothing");
    }
    assert_eq!(take(&mut taken, 100, 299), ["taken over until 399, deadline 1000"], "by a clock that was ahead");
    assert_eq!(take(&mut machine(SOME, std::slice::from_ref(&acted)), 590, 10), ["taken over until 600, deadline 900"]);
    assert_eq!(take(&mut machine(SOME, std::slice::from_ref(&acted)), 0, 10), ["taken over until 10, deadline 610"]);
    for hold in [held_at(0), Event::Paused { at: at(0) }] {
        let mut machine = machine(SOME, &[acted.clone(), hold]);
        assert_eq!(take(&mut machine, 100, 300), ["taken over until 400, deadline 600"]);
    }
    let ended = Event::Ended { outcome: Outcome::Promoted, at: at(20) };
    assert_eq!(take(&mut machine(SOME, &[acted, ended]), 100, 300), none);
    let mut next = machine(SOME, &[]);
    assert_eq!(next.begin_quietly(at(50), at(50)), []);
    let says = next.begin_quietly(at(50), at(80));
    assert_eq!(told(&mut next, &says), ["taken over until 80, deadline 680"]);
}

#[test]
fn a_wish_changes_something_once_and_nothing_when_it_is_so_already() {
    let back = Event::TurnedBack { reason: Reason::Asked { note: "no".into() }, at: at(0), deadline: at(600) };
    let wishes = || {
        let approval = "boss".parse().unwrap();
        let (freeze, abort) = (Command::Freeze("night".into()), Command::Abort("no".into()));
        [Command::Pause, Command::Resume, freeze, Command::Thaw, Command::Approve(approval), Command::Promote, abort]
    };
    let granted = |machine: &Machine| wishes().map(|wish| u8::from(!machine.command(at(1), wish).is_empty()));
    let cases = [
        (vec![], [1, 0, 1, 0, 1, 1, 1]),
        (vec![Event::Paused { at: at(0) }], [0, 1, 1, 0, 1, 1, 1]),
        (vec![Event::Frozen { reason: "night".into(), at: at(0) }], [1, 0, 0, 1, 1, 1, 1]),
        (vec![Event::Approved { approval: "boss".parse().unwrap(), at: at(0) }], [1, 0, 1, 0, 0, 1, 1]),
        (vec![Event::PromotionAsked { at: at(0) }], [1, 0, 1, 0, 1, 0, 1]),
        (vec![back], [0; 7]),
        (vec![Event::Ended { outcome: Outcome::Promoted, at: at(0) }], [0; 7]),
    ];
    for (events, expected) in cases {
        assert_eq!(granted(&machine(SOME, &events)), expected, "{events:?}");
    }
    let started = |returns| Event::Started {
        rollout: "r-1".parse().unwrap(),
        plan: Box::new(Plan { returns, ..plan(SOME) }),
        at: at(0),
    };
    let returns = Machine::replay([started(true)]).unwrap();
    assert_eq!(granted(&returns), [1, 0, 0, 0, 1, 1, 1], "to go back to what worked is always allowed");
}
