//! The judge of single actions, case by case.

use super::notation::{action, case};
use super::{check, for_each};

/// Budget, switch, world and action; then whether the judge allows it.
fn check_judge(cases: &str) {
    for_each(cases, |text| {
        let (before, wanted) = text.split_once(" do ").expect("an action");
        let (world, _, budget, switch) = case(&format!("{before} toward nothing"));
        check(&world, &action(wanted), &budget, switch)
            .map_or_else(|broken| broken.to_string(), |()| "allowed".to_owned())
    });
}

#[test]
fn the_judge_counts_who_exists_and_who_could_serve() {
    check_judge(
        "
        4 1 0 step 1: old at 10000 [S S S S] do grow new 1
            = allowed
        4 1 0 step 1: old at 10000 [S S S S] do grow new 2
            = surge: 6 instances would exist, at most 5 may (desired + max_surge)
        4 1 0 step 1: old at 10000 [S S S e] do grow old 4
            = allowed
        4 1 0 step 1: old at 10000 [S S S e] do grow old 5
            = surge: 6 instances would exist, at most 5 may (desired + max_surge)
        4 1 0 step 1: old at 10000 [S S S ax] do grow old 4
            = allowed
        4 1 0 step 1: old at 10000 [S S S ax] do grow old 5
            = surge: 6 instances would exist, at most 5 may (desired + max_surge)
        4 1 0 step 1: old at 10000 [S S S S S S] do grow old 6
            = allowed
        4 1 0 step 1: old at 10000 [S S S S S S] do grow old 7
            = surge: 7 instances would exist, at most 5 may (desired + max_surge)
        4 1 0 step 1: old at 10000 [S S S S S S] do grow old 2
            = allowed
        2 4 0 step 1: old at 10000 [S S p u P! D! D! e] do end old old2 old3 old4 old5 old6 old7
            = allowed
        2 4 0 step 1: old at 10000 [S S S] do end old old2
            = drain before death: instance old2 is Serving
        2 4 0 step 1: old at 10000 [S S j] do end old old2
            = drain before death: instance old2 is Joining
        2 4 0 step 1: old at 10000 [S S ?] do end old old2
            = drain before death: instance old2 is Unsure
        2 4 0 step 1: old at 10000 [S S a] do end old old2
            = drain before death: instance old2 is Ailing
        2 4 0 step 1: old at 10000 [S S d] do end old old2
            = drain before death: instance old2 is Draining
        2 4 0 step 1: old at 10000 [S S] do end old old2
            = instance old2 is not in the world
        2 4 0 step 1: old at 10000 [S S] do end new new0
            = fleet new is not in the world
        2 4 0 step 1: old at 0 [D D] do end old old0
            = capacity: 1 instances would serve, 2 must (desired - max_unavailable)
        2 4 0 step 1: old at 0 [D P D] do end old old0
            = allowed
        2 4 0 step 1: old at 0 [D D D] do end old old0 old1
            = capacity: 1 instances would serve, 2 must (desired - max_unavailable)
        2 4 0 step 1: old at 0 [D] do end old old0 old0
            = capacity: 0 instances would serve, 2 must (desired - max_unavailable)
        2 4 0 step 1: old at 0 [D D!] do end old old1
            = allowed
        2 4 0 step 1: old at 0 [D u] do end old old1
            = allowed
        2 4 0 step 1: old at 0 [D j S!] do end old old0
            = allowed
        2 4 0 step 1: old at 0 [D j! S!] do end old old0
            = capacity: 1 instances would serve, 2 must (desired - max_unavailable)
        2 4 0 step 1: old at 0 [D P] new at 0 [S] do end old old0
            = allowed
        2 4 0 step 1: old at 10000 [] do remove old
            = no leak: fleet old is in use and would be forgotten
        2 4 0 step 1: old at 0 [e] do remove old
            = no leak: fleet old is in use and would be forgotten
        2 4 0 step 1: old at 0 [] do remove old
            = allowed
        2 4 0 step 1: old at 0 [] do remove new
            = fleet new is not in the world
        ",
    );
}

#[test]
fn the_judge_lets_only_the_proven_in_and_the_worst_out_first() {
    check_judge(
        "
        2 4 0 members: old at 0 [S P] do route +old1
            = allowed
        2 4 0 members: old at 0 [S D] do route +old1
            = allowed
        2 4 0 members: old at 0 [S P!] do route +old1
            = proof before traffic: instance old1 is Proven
        2 4 0 members: old at 0 [S u] do route +old1
            = proof before traffic: instance old1 is Unproven
        2 4 0 members: old at 0 [S S] do route +old1
            = proof before traffic: instance old1 is Serving
        2 4 0 members: old at 0 [S S] do route +old2
            = instance old2 is not in the world
        2 4 0 members: old at 0 [S S] do route -old2
            = instance old2 is not in the world
        2 4 0 members: old at 0 [S S S a] do route -old0
            = unhealthy first: instance old0 is healthy and would go before others of its fleet that are not
        2 4 0 members: old at 0 [S S S a] do route -old0 -old3
            = allowed
        2 4 0 members: old at 0 [S! S S a] do route -old0
            = allowed
        2 4 0 members: old at 0 [S S S] new at 0 [a] do route -old0
            = allowed
        2 4 0 members: old at 0 [S S] do route -old0
            = capacity: 1 instances would serve, 2 must (desired - max_unavailable)
        2 4 1 members: old at 0 [S S] do route -old0
            = allowed
        2 4 1 members: old at 0 [S S] do route -old0 -old1
            = capacity: 0 instances would serve, 1 must (desired - max_unavailable)
        2 4 1 members: old at 0 [S S] do route -old0 -old0
            = allowed
        3 4 0 members: old at 0 [S S a] do route -old2
            = allowed
        3 4 0 members: old at 0 [S S j] do route -old2
            = allowed
        ",
    );
}

#[test]
fn the_judge_holds_every_weight_to_what_is_proven() {
    check_judge(
        "
        4 1 0 step 1: old at 10000 [S S S S] new at 0 [S] do route old=7500 new=2500
            = allowed
        4 1 0 step 1: old at 10000 [S S S S] new at 0 [S] do route old=7499 new=2501
            = conservation: fleet new would carry 25.01 % with 1 of 4 instances proven
        4 1 0 step 100: old at 10000 [S S S S] new at 0 [S] do route old=7401 new=2599
            = allowed
        4 1 0 step 100: old at 10000 [S S S S] new at 0 [S] do route old=7400 new=2600
            = conservation: fleet new would carry 26 % with 1 of 4 instances proven
        4 1 0 step 1: old at 10000 [S S S S] new at 0 [S] do route old=10000 -old0
            = conservation: fleet old would carry 100 % with 3 of 4 instances proven
        4 1 0 step 1: old at 10000 [S S S S] new at 0 [S] do route old=7500 new=2500 -old0
            = conservation: fleet old would carry 100 % with 3 of 4 instances proven
        4 1 0 step 1: old at 7500 [S S S S] new at 2500 [S] do route old=7500 new=2500 -old0
            = allowed
        4 1 0 step 1: old at 7500 [S S S S] new at 2500 [S] do route old=7500 new=2500 -new0
            = conservation: fleet new would get traffic and has no proven instance
        4 1 0 step 1: old at 10000 [S S S S] new at 0 [j] do route old=7500 new=2500
            = conservation: fleet new would get traffic and has no proven instance
        4 1 0 step 1: old at 10000 [S] new at 0 [S] do route old=5000 new=5000
            = allowed
        4 1 0 step 1: old at 10000 [S] new at 0 [S] do route old=4999 new=5001
            = conservation: fleet new would carry 50.01 % with 1 of 4 instances proven
        4 1 0 step 1: old at 10000 [S] new at 0 [a] do route old=10000 -new0
            = allowed
        4 1 0 step 1: old at 5000 [a] new at 5000 [S] do route old=5000 new=5000 -old0
            = allowed
        4 1 0 step 1: old at 5000 [a] new at 5000 [S S S S] do route new=10000
            = allowed
        0 1 0 step 1: old at 10000 [S] do route -old0
            = conservation: fleet old would get traffic and has no proven instance
        ",
    );
}
