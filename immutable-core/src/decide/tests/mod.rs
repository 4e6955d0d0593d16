//! `decide`, case by case.

use super::*;
use notation::{awaited, case, written};

mod any_world;
mod judge;
pub(crate) mod notation;
mod proof;
mod reached;

/// Each case is two lines: a question, then its answer behind `=`.
fn for_each(cases: &str, answer: impl Fn(&str) -> String) {
    let lines: Vec<&str> = cases.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    for lines in lines.chunks(2) {
        assert_eq!(format!("= {}", answer(lines[0])), lines[1], "{}", lines[0]);
    }
}

/// Budget, switch, world and goal; then what is decided, which the judge has to allow.
fn check_cases(cases: &str) {
    for_each(cases, |text| {
        let (world, goal, budget, switch) = case(text);
        let decision = decide(&world, &goal, &budget, switch);
        for action in &decision.actions {
            assert_eq!(check(&world, action, &budget, switch), Ok(()), "{text}: {}", written(action));
        }
        let words = decision.actions.iter().map(written).chain(decision.waiting.iter().map(awaited));
        let words: Vec<String> = words.collect();
        if words.is_empty() { "nothing".to_owned() } else { words.join("; ") }
    });
}

#[test]
fn a_weighted_switch_is_moved_as_far_as_capacity_allows() {
    check_cases(
        "
        4 1 0 step 1: old at 10000 [S S S S] toward new 4@10000
            = grow new 1; wait room new 3; wait capacity 4 of 4
        4 1 0 step 1: old at 10000 [S S S S] *new at 0 [] toward new 4@10000
            = wait backoff new 4; wait capacity 4 of 4
        4 2 0 step 1: old at 10000 [S S S S] new at 0 [p u] toward new 4@10000
            = wait room new 2; wait start new 1; wait proof new 1; wait capacity 4 of 4
        4 1 0 step 1: old at 10000 [S S S S] new at 0 [P] toward new 4@10000
            = route old=10000 +new0; wait room new 3; wait capacity 4 of 4
        4 1 0 step 1: old at 10000 [S S S S] new at 0 [P-] toward new 4@10000
            = wait room new 3; wait capacity 4 of 4
        4 1 0 step 1: old at 10000 [S S S S] new at 0 [j] toward new 4@10000
            = wait room new 3; wait balancer new 1; wait capacity 4 of 4
        4 1 0 step 1: old at 10000 [S S S S] new at 0 [S] toward new 4@10000
            = route new=2500 old=7500; wait room new 3
        4 1 0 step 1: old at 7500 [S S S S] new at 2500 [S] toward new 4@10000
            = route new=2500 old=7500 -old0; wait room new 3
        4 1 0 step 1: old at 7500 [S S S d] new at 2500 [S] toward new 4@10000
            = wait room new 3; wait drain old 1; wait capacity 4 of 4
        4 1 0 step 1: old at 7500 [S S S D] new at 2500 [S] toward new 4@10000
            = end old old3; wait room new 3; wait capacity 4 of 4
        4 1 0 step 1: old at 7500 [S S S e] new at 2500 [S] toward new 4@10000
            = wait room new 3; wait end old 1; wait capacity 4 of 4
        4 1 0 step 1: old at 7500 [S S S] new at 2500 [S] toward new 4@10000
            = grow new 2; wait room new 2; wait capacity 4 of 4
        4 1 0 step 1: old at 0 [] new at 10000 [S S S S] toward new 4@10000
            = remove old
        4 1 0 step 1: old at 2500 [] new at 7500 [S S S S] toward new 4@10000
            = route new=10000
        4 1 0 step 1: new at 10000 [S S S S] toward new 4@10000
            = nothing
        4 1 0 step 100: old at 10000 [S S S S] new at 0 [S] toward new 1@500 old 4@9500
            = route new=500 old=9500
        4 0 1 step 1: old at 10000 [S S S S] new at 0 [S] toward new 4@10000
            = route new=3334 old=6666 -old0; wait room new 3
        4 0 1 step 1: old at 10000 [S S S S] toward new 4@10000
            = route old=10000 -old0; wait room new 4
        4 0 2 step 1: old at 10000 [S S S S] toward new 4@10000
            = route old=10000 -old0 -old1; wait room new 4
        4 0 1 step 1: ~gone at 5000 [] new at 5000 [S S S S] toward new 4@10000
            = route new=10000
        2 1 0 step 1: ~gone at 5000 [] new at 5000 [a a] toward new 2@10000
            = grow new 3; wait room new 1; wait proof new 2
        3 0 0 step 1: old at 10000 [S S S] toward nothing
            = wait capacity 3 of 3
        3 0 3 step 1: old at 10000 [S S S] toward nothing
            = route -old0 -old1
        3 0 3 step 1: old at 0 [D D d] toward nothing
            = end old old0 old1; wait drain old 1
        ",
    );
}

#[test]
fn an_instance_that_is_ill_or_unknown_is_no_capacity() {
    check_cases(
        "
        4 1 0 step 1: old at 10000 [S S S ?] new at 0 [S] toward new 4@10000
            = wait room new 3; wait looks old 1; wait capacity 4 of 4
        4 1 0 members: old at 10000 [S S S ?] new at 0 [S] toward new 4@10000
            = wait room new 3; wait looks old 1; wait capacity 4 of 4
        4 1 0 step 1: old at 10000 [S S S a] new at 0 [S] toward new 4@10000
            = route new=2500 old=7500 -old3; wait room new 3; wait proof old 1; wait capacity 4 of 4
        3 1 0 step 1: old at 10000 [a a a] toward new 3@10000
            = grow new 1; wait room new 2; wait proof old 3
        3 1 0 step 1: old at 10000 [a a a] new at 0 [u] toward new 3@10000
            = route old=10000 -old1; wait room new 2; wait proof new 1; wait proof old 3
        3 1 2 step 1: old at 10000 [a a a] new at 0 [u] toward new 3@10000
            = route old=10000 -old1 -old2; wait room new 2; wait proof new 1; wait proof old 3
        3 1 2 step 1: old at 10000 [a a d] new at 0 [u] toward new 3@10000
            = route old=10000 -old1; wait room new 2; wait proof new 1; wait proof old 2; wait drain old 1
        3 1 2 step 1: old at 10000 [a a e] new at 0 [u] toward new 3@10000
            = route old=10000 -old1; wait room new 2; wait proof new 1; wait proof old 2; wait end old 1
        3 1 2 step 1: old at 10000 [a a D] new at 0 [u] toward new 3@10000
            = route old=10000 +old2 -old1 -old0; wait room new 2; wait proof new 1; wait proof old 2
        1 1 0 step 1: old at 10000 [a] new at 0 [u] toward new 1@10000
            = route old=10000 -old0; wait proof new 1; wait proof old 1
        1 1 1 step 1: old at 10000 [a] new at 0 [a] toward new 1@10000
            = route old=10000 -new0 -old0; wait room new 1; wait proof new 1; wait proof old 1
        1 1 0 step 1: old at 10000 [a] new at 0 [a] toward new 1@10000
            = route old=10000 -new0; wait room new 1; wait proof new 1; wait proof old 1
        1 2 0 step 1: old at 10000 [a j] new at 0 [a] toward new 1@10000
            = route old=10000 -old0; wait room new 1; wait proof new 1; wait proof old 1; wait balancer old 1
        2 1 0 step 1: old at 10000 [a a] new at 0 [S] toward new 2@10000
            = route new=10000 -old0 -old1; wait room new 1; wait proof old 2
        3 1 0 step 1: old at 10000 [S ax ax] new at 0 [] toward old 3@10000
            = grow old 2; route old=10000 -old1 -old2; remove new; wait room old 1; wait proof old 2
        2 2 0 step 1: old at 5000 [S S] new at 5000 [a a] toward new 2@10000
            = route old=10000 -new0 -new1; wait room new 2; wait proof new 2; wait capacity 2 of 2
        4 2 0 step 1: old at 10000 [S S D! u! p! P!] toward old 4@10000
            = end old old2 old3 old4 old5
        ",
    );
}

#[test]
fn what_is_too_many_goes_cheapest_first_and_never_below_what_has_to_serve() {
    check_cases(
        "
        2 8 0 step 1: new at 10000 [S S D p u P j S] toward new 2@10000
            = end new new2 new3 new4 new5; route new=10000 -new0 -new6; wait balancer new 1
        3 8 0 step 1: new at 10000 [S S D p u P j S] toward new 3@10000
            = end new new2 new3 new4 new5; route new=10000 -new6; wait balancer new 1; wait capacity 3 of 3
        3 8 0 step 1: new at 10000 [S S D p u P j S] toward new 5@10000
            = end new new2 new3 new4; route new=10000 +new5; wait balancer new 1
        3 8 0 step 1: new at 10000 [S S D p u P j S] toward new 6@10000
            = end new new2 new3; route new=10000 +new5; wait proof new 1; wait balancer new 1
        3 8 0 step 1: new at 10000 [S S D p u P j S] toward new 7@10000
            = end new new2; route new=10000 +new5; wait start new 1; wait proof new 1; wait balancer new 1
        3 8 0 step 1: new at 10000 [S S d d! u] toward new 3@10000
            = wait proof new 1; wait drain new 2
        2 8 0 step 1: new at 10000 [S S d d u u] toward new 2@10000
            = end new new4 new5; wait drain new 2
        2 2 0 step 1: old at 0 [D D P j] toward new 2@10000
            = end old old0 old1; route +old2; wait room new 2; wait balancer old 1
        3 2 0 members: old at 0 [D D D D] toward new 2@10000
            = end old old0; grow new 1; route new=10000 +old1 +old2 +old3; wait room new 1
        3 2 0 members: old at 0 [j j P D] toward new 2@10000
            = end old old3; grow new 1; route new=10000 +old2; wait room new 1; wait balancer old 2
        3 2 0 members: old at 0 [j j P D] new at 0 [S S] toward new 2@10000
            = end old old3 old2; route new=10000 -old1; wait balancer old 2; wait capacity 2 of 3
        2 4 0 members: a at 0 [D D] b at 0 [D D] toward new 2@10000
            = end b b0 b1; grow new 2; route new=10000 +a0 +a1
        2 2 0 step 1: old at 10000 [S S j j] toward old 2@10000
            = route old=10000 -old2 -old3; wait balancer old 2; wait capacity 2 of 2
        2 2 0 step 1: old at 10000 [S j j j] toward old 2@10000
            = route old=10000 -old2; wait balancer old 3; wait capacity 1 of 2
        ",
    );
}

#[test]
fn an_instance_that_runs_another_image_is_replaced_in_place() {
    check_cases(
        "
        3 1 0 step 1: old at 10000 [S! S! S!] toward old 3@10000
            = grow old 4; wait room old 2
        3 1 0 step 1: old at 10000 [S! S! S! S] toward old 3@10000
            = route old=10000 -old0; wait room old 2
        3 1 0 step 1: old at 10000 [S! S! d! S] toward old 3@10000
            = wait room old 2; wait drain old 1
        3 1 0 step 1: old at 10000 [S! S! D! S] toward old 3@10000
            = end old old2
        3 3 0 step 1: old at 0 [S S S] new at 10000 [S! S! S] toward new 3@10000
            = route new=10000 -old0 -old1 -old2; wait room new 2
        3 3 0 step 1: old at 6666 [S S S] new at 3334 [S!] toward new 3@10000
            = grow new 3; route new=3334 old=6666 -old0; wait room new 1
        3 3 0 step 1: old at 7000 [S S S] new at 3000 [S!] toward new 3@10000
            = grow new 3; route old=10000; wait room new 1
        3 3 0 step 1: old at 6666 [S S] new at 3334 [S!] toward new 3@10000
            = grow new 4; wait capacity 3 of 3
        3 3 0 step 1: old at 6666 [S! S! S!] new at 3334 [S] toward new 3@10000
            = grow new 3; route new=3334 old=6666 -old0
        2 1 0 members: old at 0 [] new at 10000 [S! S!] toward new 2@10000
            = grow new 3; remove old; wait room new 1
        2 2 0 members: old at 0 [S! S] new at 10000 [S] toward new 2@10000
            = grow new 2; route new=10000 -old0
        ",
    );
}

#[test]
fn a_switch_by_membership_admits_only_whom_the_goal_gives_traffic() {
    check_cases(
        "
        3 1 0 members: old at 0 [S S S] toward new 3@10000
            = grow new 1; wait room new 2; wait capacity 3 of 3
        3 1 0 members: old at 0 [S S S] new at 0 [P] toward new 3@10000
            = route new=10000 +new0; wait room new 2; wait capacity 3 of 3
        3 3 0 members: old at 0 [S S S] new at 0 [P P P] toward old 3@10000 new 3@0
            = nothing
        3 3 0 members: old at 0 [S S] new at 0 [P P P] toward old 3@10000 new 3@0
            = grow old 3; route old=10000 +new0
        3 3 0 members: old at 0 [S] new at 0 [P P P] toward old 3@10000 new 3@0
            = grow old 3; route old=10000 +new0 +new1
        3 3 0 members: old at 0 [S S] new at 0 [S S S] toward old 3@10000 new 3@0
            = grow old 3; route old=10000 -new0 -new1
        3 3 0 members: old at 0 [S S S] new at 0 [j S P] toward old 3@10000 new 3@0
            = route old=10000 -new1 -new0; wait balancer new 1
        3 3 0 members: old at 0 [D D D] new at 0 [j P] toward old 3@10000 new 3@0
            = grow new 3; route old=10000 +old0 +old1 +old2 -new0; wait balancer new 1
        3 3 0 members: old at 0 [S S S] new at 0 [S S S] toward new 3@10000
            = route new=10000 -old0 -old1 -old2
        3 3 1 members: old at 0 [S S S] new at 0 [S S S] toward new 3@10000
            = route new=10000 -old0 -old1 -old2
        4 4 0 members: old at 0 [S] new at 0 [S j P P] toward old 4@10000 new 4@0
            = grow old 4; route old=10000 +new2; wait balancer new 1
        2 2 2 members: old at 0 [S S] toward nothing
            = route -old0 -old1
        2 2 1 members: old at 0 [S S] toward nothing
            = route -old0
        2 1 0 members: old at 0 [S S] new at 0 [P] toward new 1@0 old 2@10000
            = nothing
        2 1 0 members: new at 0 [P P] toward new 2@0
            = nothing
        1 1 1 members: new at 0 [S] toward new 1@10000
            = nothing
        1 1 1 members: old at 0 [S] new at 0 [S] toward new 1@10000
            = route new=10000 -old0
        1 1 1 members: old at 0 [S] new at 0 [j] toward new 1@10000
            = route new=10000 -old0; wait balancer new 1
        3 5 0 members: a at 0 [P] b at 0 [P P] c at 0 [P] toward a 1@0 b 2@0 c 3@10000
            = grow c 3; route c=10000 +a0 +b0 +c0
        ",
    );
}
