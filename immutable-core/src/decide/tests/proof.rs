//! Who may be ended, and what is counted as serving.

use std::time::Duration;

use jiff::Timestamp;

use super::RetireProof;
use super::notation::case;

#[test]
fn a_proof_needs_a_fresh_world_that_shows_everybody_out_of_traffic() {
    let (mut world, ..) = case("0 0 0 step 1: old at 0 [p u P D e j S ? a d] toward nothing");
    let at = |second| Timestamp::from_second(second).expect("time");
    world.as_of = at(100);
    let prove = |fleet: &str, instances: &str, now| {
        let instances: Vec<_> = instances.split_whitespace().map(|name| name.parse().expect("name")).collect();
        let proof =
            RetireProof::new(&world, &fleet.parse().expect("name"), &instances, at(now), Duration::from_secs(5));
        let proof = proof.map_err(|error| error.to_string())?;
        assert_eq!((proof.fleet().as_str(), proof.instances()), (fleet, &instances[..]));
        Ok::<_, String>(proof.as_of())
    };
    assert_eq!(prove("old", "old0 old1 old2 old3 old4", 105), Ok(at(100)));
    for instance in ["old5", "old6", "old7", "old8"] {
        assert_eq!(prove("old", instance, 100), Err(format!("instance {instance} is in traffic: drain it first")));
    }
    assert_eq!(prove("old", "old3 old9", 100), Err("instance old9 is still draining".into()));
    assert_eq!(prove("old", "old10", 100), Err("instance old10 was not observed".into()));
    assert_eq!(prove("new", "old0", 100), Err("fleet new was not observed".into()));
    let stale = "the world was last observed at 1970-01-01T00:01:40Z: observe again before ending anything";
    // A clock that runs behind proves as little as one that runs ahead.
    for now in [94, 106] {
        assert_eq!(prove("old", "old0", now), Err(stale.into()));
    }
}

#[test]
fn who_serves_is_counted_over_all_fleets() {
    let (world, ..) = case("0 0 0 step 1: old at 0 [S S! j a] new at 10000 [S ?] toward nothing");
    assert_eq!((world.serving(), world.total()), (3, 6));
}
