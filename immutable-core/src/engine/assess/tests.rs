//! From observations and looks to phases, case by case. Times are seconds.
//!
//! An observed instance is `name:lifecycle` and what the balancer says: `s` starting, `r` running, `e` ending, `x` dead; `-` not a
//! member, `g` registering, `h` healthy, `u` unhealthy, `t` untold, `d` draining. What comes out is a phase as in the tests of
//! `decide`, with `!` for what is to be replaced and `x` for what is dead.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::time::Duration;

use jiff::Timestamp;

use super::{Assessment, Assessor};
use crate::decide::tests::notation::action;
use crate::decide::{InstanceView, Phase};
use crate::engine::blame::Beside;
use crate::engine::event::Event;
use crate::engine::hold::{Hold, Signal};
use crate::engine::machine::Machine;
use crate::engine::machine::tests::{at, plan_of, release};
use crate::model::{Fingerprint, InstanceId, Lifecycle, Look, ObservedFleet, ObservedInstance, Sample, Split};
use crate::plan::{Limits, Plan};
use crate::provider::{FleetsState, Member, MemberHealth, Pace, TrafficState};

struct Scene {
    assessor: Assessor,
    machine: Machine,
    /// Since when instances run, and what their image is.
    started: i64,
    image: Option<Fingerprint>,
    /// When the balancer came to think of members what it says; nothing: as it is observed.
    thought: Option<i64>,
}

impl Scene {
    fn new() -> Self {
        Self::after(&[])
    }

    /// A rollout that began at 0, after these events; a drained instance is left alone for 20 seconds.
    fn after(events: &[Event]) -> Self {
        let limits = Limits { drain_time: Duration::from_secs(20), ..Limits::default() };
        let plan = Box::new(Plan { limits, ..plan_of("2") });
        let started = Event::Started { rollout: "r-1".parse().unwrap(), plan, at: at(0) };
        let machine = Machine::replay(std::iter::once(started).chain(events.iter().cloned())).unwrap();
        Self { assessor: Assessor::default(), machine, started: 0, image: None, thought: None }
    }

    fn fleets(&self, fleets: &[(&str, &str)]) -> (FleetsState, TrafficState) {
        let mut members = Vec::new();
        let mut observed = Vec::new();
        for (fleet, text) in fleets {
            let mut instances = Vec::new();
            for word in text.split_whitespace() {
                let (id, letters) = word.split_once(':').unwrap();
                let id: InstanceId = id.parse().unwrap();
                let lifecycle = match &letters[..1] {
                    "s" => Lifecycle::Starting,
                    "r" => Lifecycle::Running,
                    "e" => Lifecycle::Ending,
                    _ => Lifecycle::Dead,
                };
                let health = match &letters[1..] {
                    "g" => Some(MemberHealth::Registering),
                    "h" => Some(MemberHealth::Healthy),
                    "u" => Some(MemberHealth::Unhealthy),
                    "t" => Some(MemberHealth::Untold),
                    "d" => Some(MemberHealth::Draining),
                    _ => None,
                };
                let fleet = fleet.parse().unwrap();
                let health_as_of = self.thought.map(at);
                members.extend(health.map(|health| Member { instance: id.clone(), fleet, health, health_as_of }));
                let endpoint = (!id.as_str().starts_with("nowhere")).then(|| "127.0.0.1:1".parse().unwrap());
                let (image, started_at) = (self.image, at(self.started));
                instances.push(ObservedInstance { id, lifecycle, image, endpoint, started_at });
            }
            observed.push(ObservedFleet {
                id: fleet.parse().unwrap(),
                release: release("2").id(),
                instances,
                wanted: None,
            });
        }
        let (as_of, split, version) = (at(0), Split::closed(), "1".parse().unwrap());
        (FleetsState { as_of, fleets: observed }, TrafficState { as_of, version, split, members })
    }

    fn assess(&mut self, second: i64, fleets: &[(&str, &str)]) -> Assessment {
        let (fleets, traffic) = self.fleets(fleets);
        let traffic = TrafficState { as_of: at(second), ..traffic };
        self.assessor.assess(at(second), &self.machine, &fleets, &traffic)
    }

    /// The new fleet's phases, and when they change by time alone.
    fn see(&mut self, second: i64, new: &str) -> (String, Option<i64>) {
        let Assessment { world, wake, .. } = self.assess(second, &[("new", new)]);
        let views: Vec<_> = world.fleets[0].instances.iter().map(letter).collect();
        let hold = if world.fleets[0].hold_growth { "*" } else { "" };
        (format!("{hold}{}", views.join(" ")), wake.map(Timestamp::as_second))
    }

    fn phases(&mut self, second: i64, new: &str) -> String {
        self.see(second, new).0
    }

    fn looked(&mut self, second: i64, id: &str, look: Look) -> bool {
        let evidence = format!("said {look:?}");
        let sample = Sample { instance: id.parse().unwrap(), at: at(second), look, evidence };
        self.assessor.looked(&self.machine, &[id.parse().unwrap()], vec![sample])
    }

    /// Three looks that end at this second.
    fn looks(&mut self, second: i64, id: &str, look: Look) {
        for second in second - 2..=second {
            self.looked(second, id, look);
        }
    }
}

fn letter(view: &InstanceView) -> String {
    let phase = match view.phase {
        Phase::Pending => "p",
        Phase::Unproven => "u",
        Phase::Proven => "P",
        Phase::Joining => "j",
        Phase::Serving => "S",
        Phase::Unsure => "?",
        Phase::Ailing => "a",
        Phase::Draining => "d",
        Phase::Drained => "D",
        Phase::Ending => "e",
    };
    format!("{phase}{}{}", if view.replace { "!" } else { "" }, if view.dead { "x" } else { "" })
}

fn routed(text: &str) -> Event {
    Event::Intended { actions: vec![action(text)], at: at(0) }
}

#[test]
fn what_the_platform_the_balancer_and_the_looks_say_is_one_phase() {
    // What is seen, without any look, after good ones and after bad ones.
    let cases = [
        ("s-", "p", "P", "p"),
        ("r-", "u", "P", "u"),
        ("rg", "j", "j", "a"),
        ("rh", "?", "S", "a"),
        ("rt", "?", "S", "a"),
        ("ru", "?", "?", "a"),
        ("rd", "d", "d", "d!"),
        ("e-", "e", "e", "e"),
        ("eh", "e", "e", "e"),
        ("x-", "D!x", "D!x", "D!x"),
        ("xh", "a!x", "a!x", "a!x"),
    ];
    for (seen, unknown, good, bad) in cases {
        for (look, expected) in [(None, unknown), (Some(Look::Good), good), (Some(Look::Bad), bad)] {
            let mut scene = Scene::new();
            scene.see(5, "i:s-");
            if let Some(look) = look {
                scene.looks(9, "i", look);
            }
            assert_eq!(scene.phases(10, &format!("i:{seen}")).trim_start_matches('*'), expected, "{seen}, {look:?}");
        }
    }
}

#[test]
fn what_the_balancer_says_again_without_having_looked_again_is_one_word() {
    // Observed at a second, thought at another if it says so, of an instance that our own looks find well: the phases then.
    let check = |told: &str, expected: &str| {
        let mut scene = Scene::new();
        scene.see(5, "i:rh");
        scene.looks(8, "i", Look::Good);
        let hear = |word: &str| {
            let (time, health) = word.split_at(word.len() - 1);
            let (second, thought) = time.split_once('@').unzip();
            let second = second.unwrap_or(time).parse().unwrap();
            scene.thought = thought.map(|thought| thought.parse().unwrap());
            scene.looked(second, "i", Look::Good);
            scene.phases(second, &format!("i:r{health}"))
        };
        assert_eq!(told.split_whitespace().map(hear).collect::<Vec<_>>().join(" "), expected, "{told}");
    };
    check("10u 15u 20u", "? ? a");
    check("10@9u 15@9u 20@9u 25@9u", "? ? ? ?");
    check("10@9u 15@14u 20@14u 25@24u", "? ? ? a");
    // One good answer that is told twice does not make well either, nor one from before.
    check("10@9u 15@14u 20@19u 25@24h 30@24h 35@34h", "? ? a a a S");
    check("10@9u 15@14u 20@19u 25@17h 30@18h 35h 40h", "? ? a a a a S");
}

#[test]
fn who_is_not_ready_in_time_is_replaced_and_time_in_which_nobody_could_look_does_not_count() {
    let mut scene = Scene::new();
    assert_eq!(scene.see(10, "i:s-"), ("p".into(), Some(310)));
    assert_eq!(scene.see(309, "i:r-"), ("u".into(), Some(310)));
    // And growth waits for a moment.
    assert_eq!(scene.see(310, "i:r-").0, "*u!");
    assert_eq!(scene.assessor.fate(&"new".parse().unwrap()).unwrap(), "i was not ready in time");

    for member in ["g", "h"] {
        let mut scene = Scene::new();
        scene.see(10, &format!("i:r{member}"));
        assert_eq!(scene.phases(310, &format!("i:r{member}")).trim_start_matches('*'), "a!", "never taken into use");
    }

    let mut scene = Scene::new();
    scene.see(10, "i:r-");
    scene.assessor.looks_failed(at(100), &["i".parse().unwrap()]);
    scene.assessor.looks_failed(at(200), &["i".parse().unwrap()]);
    assert_eq!(scene.see(400, "i:r-"), ("u".into(), None));
    scene.looked(500, "i", Look::Bad);
    assert_eq!(scene.see(500, "i:r-"), ("u".into(), Some(710)), "400 seconds do not count");
    assert_eq!(scene.phases(710, "i:r-"), "*u!");

    let mut scene = Scene::new();
    scene.see(10, "i:r- j:r-");
    scene.assessor.looks_failed(at(20), &["j".parse().unwrap()]);
    scene.assessor.was_blind(at(100), at(150));
    assert_eq!(scene.see(310, "i:r- j:r-"), ("u u".into(), Some(360)));
    scene.looked(320, "j", Look::Unknown);
    assert_eq!(scene.phases(360, "i:r- j:r-"), "*u! u", "what nobody could look at was not put off twice");
    assert_eq!(scene.phases(610, "j:r-"), "*u!");
}

#[test]
fn what_was_in_traffic_is_drained_for_its_time_and_at_most_for_its_limit() {
    let mut scene = Scene::after(&[routed("route new=10000 +i")]);
    scene.looks(9, "i", Look::Good);
    scene.see(5, "i:rh");
    scene.looks(9, "i", Look::Good);
    assert_eq!(scene.phases(10, "i:rh"), "S");
    assert_eq!(scene.see(11, "i:rd"), ("d".into(), Some(311)));
    assert_eq!(scene.see(12, "i:r-"), ("d".into(), Some(32)));
    scene.looks(31, "i", Look::Good);
    // This rollout did not take it out: it can be used again.
    assert_eq!(scene.phases(32, "i:r-"), "P");
    scene.see(33, "i:rh");
    assert_eq!(scene.see(34, "i:r-"), ("d".into(), Some(54)), "its time begins anew");

    let mut endless = Scene::after(&[routed("route new=10000 +i")]);
    endless.see(5, "i:rd");
    assert_eq!(endless.phases(304, "i:rd"), "d");
    assert_eq!(endless.phases(305, "i:rd"), "*D!");

    for (events, started, expected) in [
        (vec![routed("route new=10000 +i -i")], 0, "D"),
        (vec![routed("route new=10000 +i")], 0, "P"),
        (vec![], -1, "P"),
    ] {
        let mut scene = Scene { started, ..Scene::after(&events) };
        scene.see(1, "i:r-");
        scene.looks(21, "i", Look::Good);
        assert_eq!(scene.phases(21, "i:r-"), expected, "{events:?}");
    }
}

#[test]
fn what_may_have_had_requests_is_not_used_or_ended_before_it_is_known_to_be_well() {
    let mut scene = Scene::after(&[routed("route new=10000 +i")]);
    assert_eq!(scene.see(1, "i:r-"), ("d".into(), Some(21)));
    assert_eq!(scene.see(21, "i:r-"), ("d".into(), Some(301)));
    let mut ill = Scene::after(&[routed("route new=10000 +i")]);
    ill.see(1, "i:r-");
    ill.looks(21, "i", Look::Bad);
    assert_eq!(ill.phases(21, "i:r-"), "u");
    assert_eq!(scene.phases(301, "i:r-"), "u");
    let mut drained = Scene::after(&[routed("route new=10000 +i -i")]);
    drained.see(1, "i:r-");
    assert_eq!(drained.phases(301, "i:r-"), "*D!", "what is out is not kept on a guess");
}

#[test]
fn who_fell_ill_in_traffic_does_not_come_back_once_it_is_out() {
    let mut scene = Scene::after(&[routed("route new=10000 +i -i")]);
    scene.see(1, "i:rh");
    scene.looks(5, "i", Look::Good);
    assert_eq!(scene.phases(5, "i:rh"), "S");
    scene.looks(9, "i", Look::Bad);
    assert_eq!(scene.phases(9, "i:rh"), "a");
    scene.looks(13, "i", Look::Good);
    assert_eq!(scene.phases(13, "i:rd"), "d!");
    let mut well_again = Scene::after(&[routed("route new=10000 +i -i")]);
    well_again.see(1, "i:rh");
    well_again.looks(5, "i", Look::Bad);
    assert_eq!(well_again.phases(5, "i:rh"), "a");
    well_again.looks(9, "i", Look::Good);
    assert_eq!(well_again.phases(9, "i:rh"), "S");
    assert_eq!(well_again.phases(10, "i:rd"), "d");
}

#[test]
fn whoever_runs_another_image_is_replaced_and_that_is_no_failure() {
    let own = Some(release("2").image().fingerprint);
    for (image, expected) in [(None, "u"), (own, "u"), (Some(Fingerprint::of("other")), "u!")] {
        let mut scene = Scene { image, ..Scene::new() };
        assert_eq!(scene.phases(1, "i:r-"), expected);
        assert_eq!(scene.assessor.fate(&"new".parse().unwrap()), None);
    }
}

#[test]
fn each_failed_start_makes_the_next_one_wait_longer_and_is_counted_once() {
    let mut scene = Scene::new();
    let pause = |scene: &mut Scene, second, instances: &str| {
        let Assessment { world, wake, .. } = scene.assess(second, &[("new", instances)]);
        let pause = wake.map(|wake| wake.duration_since(at(second)).as_millis());
        (world.fleets[0].hold_growth, pause)
    };
    assert_eq!(pause(&mut scene, 10, "a:x-"), (true, Some(200)));
    assert_eq!(pause(&mut scene, 20, "a:x-"), (false, None), "it is the same one");
    assert_eq!(pause(&mut scene, 30, "a:x- b:x-"), (true, Some(400)));
    assert_eq!(pause(&mut scene, 40, "c:x- d:x- e:x- f:x- g:x- h:x-"), (true, Some(25_600)));
    assert_eq!(pause(&mut scene, 90, "k:x- l:x-"), (true, Some(60_000)), "never longer than a minute");
    assert_eq!(pause(&mut scene, 150, "k:x- l:x-"), (false, None), "its time has come");
    assert_eq!(pause(&mut scene, 200, "m:e-"), (false, None));
    // Whoever was proven before did start.
    let mut proven = Scene::new();
    proven.see(1, "i:r-");
    proven.looks(5, "i", Look::Good);
    assert_eq!(proven.phases(5, "i:r-"), "P");
    assert_eq!(proven.phases(6, "i:x-"), "D!x");
    assert_eq!(proven.assessor.fate(&"new".parse().unwrap()).unwrap(), "i stopped by itself");
}

#[test]
fn a_look_is_due_when_its_time_has_come_and_no_other_is_under_way() {
    let mut scene = Scene::new();
    let pace =
        Pace { probe_starting: Duration::from_secs(2), probe_running: Duration::from_secs(7), ..Pace::default() };
    let text = "a:r- b:s- c:x- d:e- nowhere:r-";
    let (fleets, _) = scene.fleets(&[("new", text)]);
    let due = |scene: &mut Scene, second| {
        let targets = scene.assessor.due(at(second), &fleets, &pace);
        targets.into_iter().map(|target| target.instance.to_string()).collect::<Vec<_>>()
    };
    let none: [&str; 0] = [];
    assert_eq!(due(&mut scene, 1), none, "nobody is known yet");
    scene.see(1, text);
    assert_eq!(due(&mut scene, 1), ["a", "b"]);
    assert_eq!(due(&mut scene, 10), none, "they are being looked at");
    assert_eq!(scene.assessor.next_look(at(1)), None);
    assert!(!scene.looked(2, "a", Look::Good));
    assert_eq!((scene.assessor.next_look(at(2)), scene.assessor.next_look(at(3))), (Some(at(3)), None));
    assert_eq!((due(&mut scene, 2), due(&mut scene, 3)), (vec![], vec!["a".to_owned()]));
    scene.assessor.looks_lost();
    assert_eq!((due(&mut scene, 4), due(&mut scene, 5)), (vec!["b".to_owned()], vec!["a".to_owned()]));
    assert!(scene.looked(6, "a", Look::Good), "the verdict is another one");
    assert!(!scene.looked(7, "a", Look::Good));
    assert_eq!(scene.phases(7, text), "P p D!x e u");
    assert_eq!((due(&mut scene, 7), scene.assessor.next_look(at(7))), (vec!["a".to_owned()], None));
    scene.looked(8, "a", Look::Good);
    assert_eq!(scene.assessor.next_look(at(8)), Some(at(14)), "the proven are looked at less often");
}

#[test]
fn the_last_bad_look_is_told_of_the_first_instance_by_name() {
    let mut scene = Scene::new();
    let (new, old) = ("new".parse().unwrap(), "old".parse().unwrap());
    scene.assess(1, &[("new", "b:r- a:r-"), ("old", "c:rh")]);
    assert_eq!(scene.assessor.evidence(&new), None);
    for id in ["a", "b", "c"] {
        scene.looked(2, id, Look::Bad);
    }
    assert_eq!(scene.assessor.evidence(&new).unwrap(), "last look at a: said Bad");
    assert_eq!(scene.assessor.evidence(&old).unwrap(), "last look at c: said Bad");
    scene.looked(3, "a", Look::Good);
    assert_eq!(scene.assessor.evidence(&new).unwrap(), "last look at b: said Bad");
    // What does not exist any more is forgotten.
    scene.assess(4, &[("new", "a:r-")]);
    assert_eq!((scene.assessor.evidence(&new), scene.assessor.evidence(&old)), (None, None));
}

#[test]
fn who_fell_ill_and_is_not_looked_at_is_ill_still_and_who_was_well_is_unknown() {
    let mut scene = Scene::new();
    let both = [("old", "o1:rh o2:rh"), ("new", "n1:rh")];
    scene.assess(1, &both);
    for id in ["o1", "o2", "n1"] {
        scene.looks(5, id, Look::Good);
    }
    scene.assess(5, &both);
    scene.looks(9, "o2", Look::Bad);
    scene.assess(9, &both);
    let Beside { old, new, .. } = scene.assess(60, &both).beside;
    assert_eq!(([old.well, old.ill, old.all], [new.well, new.ill, new.all]), ([0, 1, 2], [0, 0, 1]));
}

#[test]
fn how_the_old_fleet_and_the_new_one_fare_is_counted() {
    let drained = Scene::after(&[routed("route old=10000 -o4")]);
    let blamed =
        Event::Held { hold: Hold::EnvironmentDegraded { signal: Signal::Instances, evidence: "x".into() }, at: at(0) };
    let fare = |mut scene: Scene, first: bool| {
        let before = [("old", "o1:rh o2:rh o3:rh o4:rh o5:rh"), ("new", "n1:rh n2:rh")];
        scene.assess(1, &before);
        for id in ["o1", "o2", "o3", "o4", "n1", "n2"].into_iter().filter(|_| first) {
            scene.looks(5, id, Look::Good);
        }
        scene.assess(5, &before);
        for id in ["o2", "n2"] {
            scene.looks(9, id, Look::Bad);
        }
        let after = [("old", "o1:rh o2:rh o3:xh o4:r- o5:rh o6:e-"), ("new", "n1:rh n2:rh n3:e-")];
        let beside = scene.assess(9, &after).beside;
        assert_eq!(beside.fleet, Some("old".parse().unwrap()));
        assert_eq!(beside.looks, ["last look at n2: said Bad", "last look at o2: said Bad"]);
        let counts = |fare: &crate::engine::blame::Fare| [fare.well, fare.ill, fare.all];
        (counts(&beside.old), counts(&beside.new))
    };
    // Who was never proven does not count among the old ones, nor who was taken out.
    assert_eq!(fare(drained, true), ([1, 2, 3], [1, 1, 2]));
    assert_eq!(fare(Scene::new(), true), ([2, 2, 4], [1, 1, 2]));
    // A driver that has just begun does not know who was proven: that it is held says it.
    assert_eq!(fare(Scene::after(&[blamed]), false).0, [0, 2, 5]);
}
