//! The contract of fleets (P1 to P6) with real processes, and what happens after crashes.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use immutable_core::decide::{FleetView, InstanceView, Phase, RetireProof, World};
use immutable_core::model::{
    FleetId, FleetSpec, Image, InstanceId, LaunchSpec, Lifecycle, ObservedInstance, Release, ServiceName, Split,
};
use immutable_core::provider::{Effect, ErrorKind, ImageBuilder, ProviderError, Provisioner};
use immutable_local::{LocalConfig, LocalProvisioner, MapSecrets, Secret};
use jiff::Timestamp;

use support::{Place, cx, done, in_image, tamper};

/// Ends when it is asked to.
const OBEDIENT: &str = "trap 'exit 0' TERM; touch ready; while :; do sleep 0.02; done";
/// Has to be forced to end.
const STUBBORN: &str = "trap '' TERM; touch ready; while :; do sleep 0.02; done";

/// A root with one image and a provisioner, whose clock stands still until it is moved.
struct Setup {
    place: Place,
    image: Image,
    clock: Arc<AtomicI64>,
    fleets: LocalProvisioner,
}

impl Setup {
    async fn new(script: &str) -> Self {
        let place = Place::new();
        let image = place.script(script).await;
        let clock = Arc::new(AtomicI64::new(1_000_000));
        let fleets = LocalProvisioner::new(config(&place, &clock));
        Self { place, image, clock, fleets }
    }

    /// As after a crash: nothing is left but what is on disk.
    fn restart(&mut self) {
        self.fleets = LocalProvisioner::new(config(&self.place, &self.clock));
    }

    fn spec(&self, size: u32) -> FleetSpec {
        self.spec_with(size, LaunchSpec::default())
    }

    fn spec_with(&self, size: u32, launch: LaunchSpec) -> FleetSpec {
        let release = Release::new(self.image.clone(), launch);
        FleetSpec { id: fleet(), service: service(), release, size, rollout: "r-1".parse().unwrap() }
    }

    async fn ensure(&self, size: u32) -> Result<(), ProviderError> {
        self.fleets.ensure(&cx(), &self.spec(size)).await.map(done)
    }

    async fn instances(&self) -> Vec<ObservedInstance> {
        let state = self.fleets.observe(&cx(), &service()).await.unwrap();
        state.fleets.into_iter().flat_map(|fleet| fleet.instances).collect()
    }

    async fn lifecycles(&self) -> Vec<Lifecycle> {
        self.instances().await.into_iter().map(|instance| instance.lifecycle).collect()
    }

    async fn retire(&self, instances: &[InstanceId]) {
        done(self.fleets.retire(&cx(), &proof(instances)).await.unwrap());
    }

    /// Looks until the instances are in these lifecycles, in the order of their ids.
    async fn until(&self, expected: &[Lifecycle]) {
        until("the lifecycles", async || self.lifecycles().await == expected).await;
    }

    fn directory(&self, id: &InstanceId) -> PathBuf {
        self.place.root().join("instances").join(id.as_str())
    }

    async fn until_ready(&self, id: &InstanceId) {
        until("ready", async || self.directory(id).join("work/ready").exists()).await;
    }

    fn record(&self, id: &InstanceId) -> serde_json::Value {
        serde_json::from_slice(&fs::read(self.directory(id).join("record.json")).unwrap()).unwrap()
    }

    fn change_record(&self, id: &InstanceId, change: impl FnOnce(&mut serde_json::Value)) {
        let mut record = self.record(id);
        change(&mut record);
        fs::write(self.directory(id).join("record.json"), record.to_string()).unwrap();
    }

    fn pid(&self, id: &InstanceId) -> i32 {
        self.record(id)["process"]["pid"].as_i64().unwrap().try_into().unwrap()
    }
}

fn config(place: &Place, clock: &Arc<AtomicI64>) -> LocalConfig {
    let clock = Arc::clone(clock);
    let secrets = MapSecrets::new([("db/password".parse().unwrap(), Secret::new("hunter2-in-the-clear"))]);
    LocalConfig::new(place.root())
        .with_stop_grace(Duration::from_secs(10))
        .with_secrets(secrets)
        .with_clock(move || Timestamp::from_second(clock.load(Ordering::SeqCst)).unwrap())
}

fn service() -> ServiceName {
    "web".parse().unwrap()
}

fn fleet() -> FleetId {
    "web-1".parse().unwrap()
}

fn ids(instances: &[ObservedInstance]) -> Vec<InstanceId> {
    instances.iter().map(|instance| instance.id.clone()).collect()
}

fn proof(instances: &[InstanceId]) -> RetireProof {
    let view = |id: &InstanceId| InstanceView {
        id: id.clone(),
        phase: Phase::Drained,
        replace: false,
        dead: false,
        endpoint: None,
    };
    let instances_seen = instances.iter().map(view).collect();
    let world = World {
        as_of: Timestamp::UNIX_EPOCH,
        fleets: vec![FleetView { id: fleet(), instances: instances_seen, hold_growth: false }],
        split: Split::closed(),
        version: "1".parse().unwrap(),
    };
    RetireProof::new(&world, &fleet(), instances, Timestamp::UNIX_EPOCH, Duration::ZERO).unwrap()
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds().await {
        assert!(Instant::now() < deadline, "{what}: not within 20 s");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Whether a process runs: there, and more than an entry that nobody has waited for yet.
fn runs(pid: i32) -> bool {
    let pid = sysinfo::Pid::from_u32(pid.try_into().unwrap());
    let mut system = sysinfo::System::new().unwrap();
    system.refresh_processes(sysinfo::ProcessesToUpdate::Some(&[pid]), true);
    system.process(pid).is_some_and(|process| process.status() != sysinfo::ProcessStatus::Zombie)
}

#[tokio::test]
async fn p1_a_fleet_grows_to_its_size_and_never_shrinks() {
    let world = Setup::new(OBEDIENT).await;
    world.ensure(2).await.unwrap();
    let two = world.instances().await;
    assert_eq!(two.len(), 2);
    world.ensure(3).await.unwrap();
    let three = world.instances().await;
    world.ensure(1).await.unwrap();
    assert_eq!(world.instances().await, three);
    assert!(ids(&two).iter().all(|id| ids(&three).contains(id)));
    assert_eq!(three.iter().map(|one| one.endpoint.clone().unwrap().port()).collect::<BTreeSet<_>>().len(), 3);
    for one in &three {
        assert_eq!((one.lifecycle, one.image), (Lifecycle::Running, Some(world.image.fingerprint)));
        assert_eq!(one.started_at, Timestamp::from_second(1_000_000).unwrap());
        assert_eq!(one.endpoint.as_ref().unwrap().host(), "127.0.0.1");
    }
}

#[tokio::test]
async fn p1_dead_instances_are_not_counted() {
    let world = Setup::new("exit 3").await;
    world.ensure(1).await.unwrap();
    world.until(&[Lifecycle::Dead]).await;
    world.ensure(1).await.unwrap();
    world.until(&[Lifecycle::Dead, Lifecycle::Dead]).await;
    // A dead one goes at once.
    world.retire(&ids(&world.instances().await)).await;
    assert_eq!(world.instances().await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn p2_two_at_once_start_nothing_more() {
    let world = Setup::new(OBEDIENT).await;
    let other = LocalProvisioner::new(config(&world.place, &world.clock));
    let spec = world.spec(3);
    let ensure = async |fleets: LocalProvisioner| {
        // Another provisioner over the same root may be told to ask again.
        until("ensured", async || fleets.ensure(&cx(), &spec).await.unwrap().done().is_some()).await;
    };
    tokio::join!(ensure(world.fleets.clone()), ensure(world.fleets.clone()), ensure(other));
    assert_eq!(world.lifecycles().await, [Lifecycle::Running; 3]);
}

#[tokio::test]
async fn p3_a_fleet_is_bound_for_ever() {
    let world = Setup::new(OBEDIENT).await;
    world.ensure(1).await.unwrap();
    let mut launch = LaunchSpec::default();
    launch.config.insert("MODE".parse().unwrap(), "other".to_owned());
    let other = world.spec_with(2, launch);
    let error = world.fleets.ensure(&cx(), &other).await.unwrap_err();
    let (old, new) = (world.spec(1).release.id(), other.release.id());
    let text = format!("immutable in ensure fleet web-1: it is bound to release {old}, not {new}: make another fleet");
    assert_eq!((error.kind(), error.effect(), error.to_string()), (ErrorKind::Immutable, Effect::None, text));

    // A release is what its id says: other labels of the same content are not another release.
    let mut relabelled = world.image.clone();
    relabelled.labels.version = "2.0.0".to_owned();
    let same = FleetSpec { release: Release::new(relabelled, LaunchSpec::default()), ..world.spec(1) };
    done(world.fleets.ensure(&cx(), &same).await.unwrap());

    let stranger = FleetSpec { service: "api".parse().unwrap(), ..world.spec(1) };
    let error = world.fleets.ensure(&cx(), &stranger).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Immutable);
    assert_eq!(world.instances().await.len(), 1);
}

#[tokio::test]
async fn p4_an_empty_fleet_is_seen_and_services_are_kept_apart() {
    let world = Setup::new(OBEDIENT).await;
    world.ensure(0).await.unwrap();
    let state = world.fleets.observe(&cx(), &service()).await.unwrap();
    assert_eq!(state.as_of, Timestamp::from_second(1_000_000).unwrap());
    assert_eq!((state.fleets.len(), &state.fleets[0].id), (1, &fleet()));
    assert_eq!(state.fleets[0].release, world.spec(0).release.id());
    let other = world.fleets.observe(&cx(), &"api".parse().unwrap()).await.unwrap();
    assert_eq!(other.fleets, []);
}

#[tokio::test]
async fn p5_retire_ends_exactly_those_named() {
    let world = Setup::new(OBEDIENT).await;
    world.ensure(3).await.unwrap();
    let all = ids(&world.instances().await);
    for id in &all {
        world.until_ready(id).await;
    }
    let pid = world.pid(&all[1]);
    world.retire(&all[1..2]).await;
    // Ended by the signal alone: the clock has not moved, so nothing was forced.
    until("gone", async || world.instances().await.len() == 2).await;
    assert_eq!(ids(&world.instances().await), [all[0].clone(), all[2].clone()]);
    assert!(!runs(pid) && !world.directory(&all[1]).exists());
    // Once more is done, and so is an instance that never was.
    world.retire(&all[1..2]).await;
    world.retire(&["i-never".parse().unwrap()]).await;
    assert_eq!(world.lifecycles().await, [Lifecycle::Running; 2]);
}

#[tokio::test]
async fn p5_what_ignores_the_request_is_forced_after_the_grace() {
    let mut world = Setup::new(STUBBORN).await;
    world.ensure(1).await.unwrap();
    let all = ids(&world.instances().await);
    world.until_ready(&all[0]).await;
    let pid = world.pid(&all[0]);
    world.retire(&all).await;
    world.clock.fetch_add(9, Ordering::SeqCst);
    world.retire(&all).await;
    assert_eq!(world.lifecycles().await, [Lifecycle::Ending]);
    assert!(runs(pid));
    // An ending one is not counted, and the moment survives a crash.
    world.restart();
    world.ensure(1).await.unwrap();
    assert_eq!(world.lifecycles().await.len(), 2);
    world.clock.fetch_add(1, Ordering::SeqCst);
    until("forced", async || world.lifecycles().await == [Lifecycle::Running]).await;
    assert!(!runs(pid));
}

#[tokio::test]
async fn p5_the_whole_group_ends() {
    let script = "trap 'exit 0' TERM; (trap '' TERM; while :; do sleep 0.02; done) & echo $! > child; touch ready; \
                  while :; do sleep 0.02; done";
    let world = Setup::new(script).await;
    world.ensure(1).await.unwrap();
    let all = ids(&world.instances().await);
    world.until_ready(&all[0]).await;
    let child: i32 = fs::read_to_string(world.directory(&all[0]).join("work/child")).unwrap().trim().parse().unwrap();
    assert!(runs(child));
    world.retire(&all).await;
    world.until(&[]).await;
    until("the child's end", async || !runs(child)).await;
}

#[tokio::test]
async fn p5_the_group_of_a_dead_instance_ends_too() {
    let world = Setup::new("(while :; do sleep 0.02; done) & echo $! > child; touch ready; exit 1").await;
    world.ensure(1).await.unwrap();
    world.until(&[Lifecycle::Dead]).await;
    let all = ids(&world.instances().await);
    let child: i32 = fs::read_to_string(world.directory(&all[0]).join("work/child")).unwrap().trim().parse().unwrap();
    assert!(runs(child));
    world.retire(&all).await;
    assert_eq!(world.instances().await, []);
    until("the child's end", async || !runs(child)).await;
}

#[tokio::test]
async fn p6_a_fleet_is_removed_when_it_is_empty() {
    let world = Setup::new(OBEDIENT).await;
    world.ensure(1).await.unwrap();
    let all = ids(&world.instances().await);
    let error = world.fleets.remove(&cx(), &service(), &fleet()).await.unwrap_err();
    let text = "conflict in remove fleet web-1: it has instances (1): retire them first, and wait until they are gone";
    assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Conflict, text));
    world.retire(&all).await;
    world.until(&[]).await;
    for _ in 0..2 {
        done(world.fleets.remove(&cx(), &service(), &fleet()).await.unwrap());
    }
    assert_eq!(world.fleets.observe(&cx(), &service()).await.unwrap().fleets, []);
    assert_eq!(fs::read_dir(world.place.root().join("fleets")).unwrap().count(), 0);
    assert_eq!(fs::read_dir(world.place.root().join("instances")).unwrap().count(), 0);
    // Another service's fleet of this name is not touched.
    world.ensure(0).await.unwrap();
    done(world.fleets.remove(&cx(), &"api".parse().unwrap(), &fleet()).await.unwrap());
    assert_eq!(world.fleets.observe(&cx(), &service()).await.unwrap().fleets.len(), 1);
}

#[tokio::test]
async fn p4_an_instance_runs_what_is_in_the_place_of_its_image() {
    let world = Setup::new(OBEDIENT).await;
    world.ensure(1).await.unwrap();
    let content = async || world.instances().await[0].image;
    let born = Some(world.image.fingerprint);
    let tree = in_image(&world.place.root(), &world.image, "");
    let (directory, app) = (tree.join("bin"), tree.join("bin/app"));
    let built = fs::read_to_string(&app).unwrap();
    tamper_directory(&directory);
    // Often, because what was not changed for some time is not read again.
    for _ in 0..20 {
        assert_eq!(content().await, born);
    }
    let changes: [(&str, &dyn Fn()); 4] = [
        ("another text", &|| tamper(&app, "#!/bin/sh\ntouch evil\n")),
        ("another mode", &|| fs::set_permissions(&app, fs::Permissions::from_mode(0o644)).unwrap()),
        ("a new file", &|| fs::write(directory.join("evil"), "").unwrap()),
        ("a link", &|| {
            fs::remove_file(&app).unwrap();
            std::os::unix::fs::symlink("/bin/true", &app).unwrap();
        }),
    ];
    for (what, change) in changes {
        change();
        for _ in 0..3 {
            assert!(content().await.is_some_and(|found| Some(found) != born), "{what}");
        }
        let _ = fs::remove_file(directory.join("evil"));
        fs::remove_file(&app).unwrap();
        fs::write(&app, &built).unwrap();
        fs::set_permissions(&app, fs::Permissions::from_mode(0o555)).unwrap();
        assert_eq!(content().await, born, "{what}, undone");
    }
    // Without the image nobody can tell.
    tamper_directory(&tree);
    fs::rename(tree.parent().unwrap(), world.place.root().join("elsewhere")).unwrap();
    assert_eq!(content().await, None);
}

/// Lets a read-only directory be changed.
fn tamper_directory(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

#[tokio::test]
async fn a_changed_image_is_never_started() {
    let world = Setup::new(OBEDIENT).await;
    tamper(&in_image(&world.place.root(), &world.image, "bin/app"), "#!/bin/sh\ntouch evil\n");
    let error = world.ensure(1).await.unwrap_err();
    let text = format!(
        "conflict in ensure fleet web-1: image {} has drifted: \"bin/app\" was changed; \
         remove the image and build it again",
        world.image.fingerprint.short()
    );
    assert_eq!((error.to_string(), error.effect()), (text, Effect::None));
    assert_eq!(world.fleets.observe(&cx(), &service()).await.unwrap().fleets, []);

    done(world.place.images().remove(&cx(), &world.image).await.unwrap());
    assert_eq!(world.ensure(1).await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_program_that_cannot_run_leaves_nothing_behind() {
    let world = Setup::new("exit 0").await;
    let place = Place::new();
    let source = place.source("app", "#!/no/such/interpreter\n");
    let files = vec![support::program("bin/app", &source)];
    let layers = vec![immutable_core::provider::Layer::Files(files)];
    let broken = support::build(&world.place.images(), &support::spec(layers)).await;
    let spec = FleetSpec { release: Release::new(broken, LaunchSpec::default()), ..world.spec(2) };
    let error = world.fleets.ensure(&cx(), &spec).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidRequest);
    assert!(error.to_string().contains("cannot start \"bin/app\" of image local:"), "{error}");
    assert_eq!(world.instances().await, []);
    assert_eq!(world.fleets.observe(&cx(), &service()).await.unwrap().fleets.len(), 1);
}

#[tokio::test]
async fn instances_are_found_again_after_a_crash() {
    let mut world = Setup::new(OBEDIENT).await;
    world.ensure(2).await.unwrap();
    let before = world.instances().await;
    world.until_ready(&before[0].id).await;
    world.restart();
    assert_eq!(world.instances().await, before);
    world.ensure(2).await.unwrap();
    assert_eq!(world.instances().await, before);
    world.retire(&ids(&before)[..1]).await;
    world.until(&[Lifecycle::Running]).await;
    assert_eq!(world.instances().await, before[1..]);
}

#[tokio::test]
async fn what_another_provisioner_ended_is_not_left_unwaited_for() {
    let world = Setup::new(OBEDIENT).await;
    world.ensure(1).await.unwrap();
    let all = ids(&world.instances().await);
    let pid = world.pid(&all[0]);
    let other = LocalProvisioner::new(config(&world.place, &world.clock));
    other.shut_down(&service()).await.unwrap();
    until("waited for", async || {
        world.instances().await;
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        rustix::process::test_kill_process(pid).is_err()
    })
    .await;
}

#[tokio::test]
async fn a_reused_process_number_is_not_an_instance() {
    let mut world = Setup::new(OBEDIENT).await;
    world.ensure(1).await.unwrap();
    let all = ids(&world.instances().await);
    let real = world.pid(&all[0]);
    world.restart();
    // This very process, which started at another time: if it were signalled, the test would not go on.
    world.change_record(&all[0], |record| {
        record["process"] = serde_json::json!({ "pid": std::process::id(), "started": 1_000 });
    });
    assert_eq!(world.lifecycles().await, [Lifecycle::Dead]);
    world.retire(&all).await;
    assert_eq!(world.instances().await, []);
    let group = rustix::process::Pid::from_raw(real).unwrap();
    rustix::process::kill_process_group(group, rustix::process::Signal::KILL).unwrap();
}

#[tokio::test]
async fn a_crash_between_start_and_record_loses_no_process() {
    let mut world = Setup::new(OBEDIENT).await;
    world.ensure(1).await.unwrap();
    let before = world.instances().await;
    let (id, pid) = (&before[0].id, world.pid(&before[0].id));
    world.restart();
    world.change_record(id, |record| record["process"] = serde_json::Value::Null);
    assert_eq!(world.instances().await, before);
    assert_eq!(world.pid(id), pid);
    world.ensure(1).await.unwrap();
    assert_eq!(world.instances().await, before);
}

#[tokio::test]
async fn a_crash_before_the_start_leaves_a_dead_instance() {
    let mut world = Setup::new(OBEDIENT).await;
    world.ensure(1).await.unwrap();
    let all = ids(&world.instances().await);
    let half: InstanceId = "i-zzz".parse().unwrap();
    fs::create_dir_all(world.directory(&half).join("work")).unwrap();
    fs::copy(world.directory(&all[0]).join("record.json"), world.directory(&half).join("record.json")).unwrap();
    world.change_record(&half, |record| {
        record["id"] = half.as_str().into();
        record["process"] = serde_json::Value::Null;
    });
    world.restart();
    assert_eq!(world.lifecycles().await, [Lifecycle::Running, Lifecycle::Dead]);
    world.retire(std::slice::from_ref(&half)).await;
    assert_eq!(ids(&world.instances().await), all);
    assert!(!world.directory(&half).exists());
}

#[tokio::test]
async fn while_another_process_is_at_work_nothing_is_changed_but_all_is_seen() {
    let world = Setup::new(OBEDIENT).await;
    world.ensure(1).await.unwrap();
    let all = ids(&world.instances().await);
    let lock = fs::File::open(world.place.root().join("instances.lock")).unwrap();
    lock.lock().unwrap();
    assert_eq!(world.fleets.ensure(&cx(), &world.spec(2)).await.unwrap().done(), None);
    assert_eq!(world.fleets.retire(&cx(), &proof(&all)).await.unwrap().done(), None);
    assert_eq!(world.fleets.remove(&cx(), &service(), &fleet()).await.unwrap().done(), None);
    assert_eq!(world.place.images().remove(&cx(), &world.image).await.unwrap().done(), None);
    assert_eq!(world.lifecycles().await, [Lifecycle::Running]);
}

#[tokio::test]
async fn an_instance_has_the_environment_of_its_release_and_no_other() {
    let world = Setup::new("env > environment; pwd > directory; touch ready; while :; do sleep 0.02; done").await;
    let mut launch = LaunchSpec::default();
    launch.config.insert("MODE".parse().unwrap(), "fast = good\nreally".to_owned());
    launch.config.insert("TZ".parse().unwrap(), "Europe/Berlin".to_owned());
    let spec = world.spec_with(1, launch);
    done(world.fleets.ensure(&cx(), &spec).await.unwrap());
    let one = &world.instances().await[0];
    world.until_ready(&one.id).await;
    let work = world.directory(&one.id).join("work");
    let environment = fs::read_to_string(work.join("environment")).unwrap();
    let image = world.place.root().join(format!("images/{}/tree", world.image.fingerprint));
    for line in [
        format!("PORT={}", one.endpoint.as_ref().unwrap().port()),
        format!("IMMUTABLE_INSTANCE={}", one.id),
        "IMMUTABLE_FLEET=web-1".to_owned(),
        format!("IMMUTABLE_RELEASE={}", spec.release.id().fingerprint()),
        format!("IMAGE_DIR={}", image.display()),
        "MODE=fast = good".to_owned(),
        "TZ=Europe/Berlin".to_owned(),
    ] {
        assert!(environment.lines().any(|found| found == line), "{line}");
    }
    // Set by cargo for this process, so it would be there if anything were passed on.
    assert!(!environment.contains("CARGO"));
    let directory = fs::read_to_string(work.join("directory")).unwrap();
    assert_eq!(fs::canonicalize(directory.trim()).unwrap(), fs::canonicalize(&work).unwrap());
}

#[tokio::test]
async fn a_secret_reaches_the_instance_and_nothing_else() {
    // The length tells that it arrived, without having it in the script.
    let world = Setup::new("[ ${#PASSWORD} = 20 ] && touch ready; while :; do sleep 0.02; done").await;
    let mut launch = LaunchSpec::default();
    launch.secrets.insert("PASSWORD".parse().unwrap(), "db/password".parse().unwrap());
    let spec = world.spec_with(1, launch);
    done(world.fleets.ensure(&cx(), &spec).await.unwrap());
    let one = &world.instances().await[0];
    world.until_ready(&one.id).await;
    done(world.fleets.ensure(&cx(), &spec).await.unwrap());
    assert_eq!(world.instances().await.len(), 1);

    assert!(!format!("{:?}", world.fleets).contains("hunter2"));
    let mut files = 0;
    for entry in walkdir::WalkDir::new(world.place.root()).into_iter().map(Result::unwrap) {
        if entry.file_type().is_file() {
            let content = String::from_utf8_lossy(&fs::read(entry.path()).unwrap()).into_owned();
            assert!(!content.contains("hunter2"), "{}", entry.path().display());
            files += 1;
        }
    }
    assert!(files > 4);
}

#[tokio::test]
async fn a_secret_that_is_not_there_starts_nothing() {
    let world = Setup::new(OBEDIENT).await;
    let mut launch = LaunchSpec::default();
    launch.secrets.insert("PASSWORD".parse().unwrap(), "db/none".parse().unwrap());
    let error = world.fleets.ensure(&cx(), &world.spec_with(1, launch)).await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (ErrorKind::NotFound, Effect::None));
    assert_eq!(world.fleets.observe(&cx(), &service()).await.unwrap().fleets, []);
}

#[tokio::test]
async fn what_a_release_may_not_set_is_refused() {
    let world = Setup::new(OBEDIENT).await;
    let check = async |config: &[(&str, &str)], secrets: &[&str], expected: &str| {
        let mut launch = LaunchSpec::default();
        for (key, value) in config {
            launch.config.insert(key.parse().unwrap(), (*value).to_owned());
        }
        for key in secrets {
            launch.secrets.insert(key.parse().unwrap(), "db/password".parse().unwrap());
        }
        let error = world.fleets.ensure(&cx(), &world.spec_with(1, launch)).await.unwrap_err();
        assert_eq!(error.to_string(), format!("invalid request in ensure fleet web-1: {expected}"));
        assert_eq!(error.effect(), Effect::None);
    };
    for key in ["PORT", "IMMUTABLE_INSTANCE", "IMMUTABLE_FLEET", "IMMUTABLE_RELEASE", "IMAGE_DIR"] {
        let expected = format!("{key} is given to every instance and cannot be set by a release: rename it");
        check(&[(key, "x")], &[], &expected).await;
        check(&[], &[key], &expected).await;
    }
    check(&[("A", "x")], &["A"], "A is both a configuration value and a secret: remove one of the two").await;
    check(&[("A", "hush\0")], &[], "the value of A has a NUL character: remove it").await;
    assert_eq!(world.instances().await, []);

    let limited = LocalProvisioner::new(config(&world.place, &world.clock).with_max_fleet_size(2));
    let error = limited.ensure(&cx(), &world.spec(3)).await.unwrap_err();
    let text = "quota reached in ensure fleet web-1: 3 instances are asked for, at most 2 are allowed: raise the limit";
    assert_eq!(error.to_string(), text);
    assert_eq!(limited.capabilities().max_fleet_size, Some(2));
}

#[tokio::test]
async fn a_port_in_use_is_not_given() {
    let world = Setup::new(OBEDIENT).await;
    let outside: Vec<_> = (0..50).map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    world.ensure(5).await.unwrap();
    let mut ports: BTreeSet<_> = outside.iter().map(|listener| listener.local_addr().unwrap().port()).collect();
    ports.extend(world.instances().await.iter().map(|one| one.endpoint.clone().unwrap().port()));
    assert_eq!(ports.len(), 55);
}

#[tokio::test]
async fn shutting_down_leaves_nothing_of_a_service() {
    let world = Setup::new(STUBBORN).await;
    world.ensure(2).await.unwrap();
    let pids: Vec<_> = ids(&world.instances().await).iter().map(|id| world.pid(id)).collect();
    world.fleets.shut_down(&"api".parse().unwrap()).await.unwrap();
    assert_eq!(world.instances().await.len(), 2);
    world.fleets.shut_down(&service()).await.unwrap();
    assert_eq!(world.fleets.observe(&cx(), &service()).await.unwrap().fleets, []);
    assert!(pids.iter().all(|pid| !runs(*pid)));
    done(world.place.images().remove(&cx(), &world.image).await.unwrap());
}
