//! When a goal is reached, case by case.

use super::notation::case;
use super::{for_each, reached};

/// Switch, world and goal; then whether that is reached when all are needed, and when one fewer is enough.
fn check_reached(cases: &str) {
    for_each(cases, |text| {
        let (world, goal, _, switch) = case(&format!("0 0 0 {text}"));
        let all = reached(&world, &goal, switch, |size| size);
        let most = reached(&world, &goal, switch, |size| size - 1);
        match (all, most) {
            (true, true) => "reached".to_owned(),
            (false, true) => "all but one".to_owned(),
            (false, false) => "not yet".to_owned(),
            (true, false) => panic!("fewer are not more: {text}"),
        }
    });
}

#[test]
fn a_goal_is_reached_by_who_is_ready_and_by_who_is_gone() {
    check_reached(
        "
        step 1: new at 10000 [S S] toward new 2@10000
            = reached
        step 1: new at 10000 [S j] toward new 2@10000
            = all but one
        step 1: new at 10000 [j j] toward new 2@10000
            = not yet
        step 1: new at 10000 [S S!] toward new 2@10000
            = not yet
        step 1: new at 10000 [S ?] toward new 2@10000
            = all but one
        step 1: new at 10000 [S S S] toward new 2@10000
            = not yet
        step 1: new at 10000 [S S] old at 0 [] toward new 2@10000
            = not yet
        step 1: old at 5000 [a] new at 5000 [S S] toward new 2@5000 old 1@5000
            = reached
        step 1: old at 4000 [] new at 6000 [S S] toward new 2@5000 old 1@5000
            = reached
        step 1: old at 6000 [] new at 4000 [S S] toward new 2@5000 old 1@5000
            = not yet
        step 1: old at 6000 [S S] new at 4000 [S S] toward new 2@4000 old 1@6000
            = not yet
        step 1: ~old at 10000 [] toward new 2@10000
            = not yet
        step 1: ~old at 10000 [] toward nothing
            = not yet
        step 1: old at 10000 [] toward nothing
            = not yet
        step 1: old at 0 [] toward nothing
            = not yet
        step 1: new at 0 [P D] old at 10000 [S] toward new 2@0 old 1@10000
            = not yet
        members: new at 0 [S S] toward new 2@10000
            = reached
        members: new at 0 [P S] toward new 2@10000
            = all but one
        members: new at 0 [S S] old at 0 [S] toward new 2@10000 old 1@0
            = not yet
        members: new at 0 [S S] old at 0 [D] toward new 2@10000 old 1@0
            = reached
        members: new at 0 [S S] old at 0 [S] toward new 2@5000 old 1@5000
            = reached
        members: new at 0 [P D] old at 0 [S] toward new 2@0 old 1@10000
            = reached
        members: new at 0 [P D!] old at 0 [S] toward new 2@0 old 1@10000
            = all but one
        members: new at 0 [S D] old at 0 [S] toward new 2@0 old 1@10000
            = all but one
        ",
    );
}
