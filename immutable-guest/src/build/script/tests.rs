//! What the script does, seen on a machine that runs it.

use std::fs;
use std::path::PathBuf;

use immutable_core::provider::{FileCopy, Layer};
use proptest::prelude::*;

use super::*;
use crate::testkit::{Machine, NONCE, launch};
use crate::tests::CLOUD;
use crate::{Builds, Cloud};

fn fresh() -> Machine {
    let machine = Machine::new(&CLOUD);
    machine.program("secret", "printf 'secret of %s\\n' \"$1\"; [ \"$1\" != none ]");
    machine
}

fn script(text: &str) -> Layer {
    Layer::Script(text.to_owned())
}

fn file(source: impl Into<PathBuf>, target: &str) -> FileCopy {
    FileCopy { source: source.into(), target: target.to_owned(), executable: true }
}

fn has_failed(signal: Option<Signal>, step: &str) {
    let Some(Signal::Failed(failed)) = signal else { panic!("{signal:?} instead of {step}") };
    assert_eq!(failed, step);
}

#[test]
fn a_build_puts_everything_in_its_place_says_so_and_switches_off() {
    let machine = fresh();
    let source = machine.path("source");
    fs::write(&source, [0, 255, 7, 10]).unwrap();
    let mut plain = file(&source, "share/it's data");
    plain.executable = false;
    let layers = vec![
        Layer::Files(vec![file(&source, "bin/tool"), plain]),
        script("printf '#!/bin/sh\\necho started\\n' >bin/app\nchmod +x bin/app"),
        script("#!/bin/sh\nset -u\nrm bin/tool; ls share >list; exit 0\n"),
    ];
    let Some(Signal::Done(first)) = machine.build(layers.clone(), &["bin/app"]) else { panic!("not done") };
    assert_eq!(fs::read(machine.path("root/opt/immutable/share/it's data")).unwrap(), [0, 255, 7, 10]);
    assert_eq!(machine.read("root/opt/immutable/list"), "it's data\n", "scripts run in the image's root, in order");
    assert!(!machine.path("root/opt/immutable/bin/tool").exists());
    assert_eq!(machine.read("root/etc/systemd/system/immutable.service"), unit());
    let log = machine.read("log");
    assert!(log.contains("systemctl enable immutable.service\n"), "{log}");
    assert!(log.ends_with("cloud-init clean --logs\nsync\npoweroff\npoweroff -f\n"), "{log}");
    assert_eq!(machine.read("root/etc/machine-id"), "");
    assert!(!machine.path("root/etc/ssh/ssh_host_rsa_key").exists());
    assert!(!machine.path("root/var/lib/immutable-build").exists());
    assert_eq!(machine.read("root/dev/console").matches(NONCE).count(), 3, "said more than once");

    // The digest is that of what was made: in the same place the same, and with one byte more another.
    let again = Some(Signal::Done(first));
    assert_eq!(machine.build(layers.clone(), &["bin/app"]), again);
    fs::remove_file(machine.path("root/dev/console")).unwrap();
    let more = [layers, vec![script("echo >>list")]].concat();
    assert_ne!(machine.build(more, &["bin/app"]), again);
}

#[test]
fn a_step_that_fails_is_named_and_nothing_after_it_is_done() {
    has_failed(fresh().build(vec![script("true"), script("exit 7")], &["app"]), "layers[1] with status 7");
    let machine = fresh();
    has_failed(machine.build(vec![script("false\ntouch went-on")], &["app"]), "layers[0] with status 1");
    assert!(!machine.path("root/opt/immutable/went-on").exists());
    assert!(machine.read("log").ends_with("sync\npoweroff\npoweroff -f\n"));
    has_failed(fresh().build(vec![script("true")], &["bin/app"]), "command[0] with status 1");
    has_failed(fresh().build(vec![script("touch app")], &["app"]), "command[0] with status 1");
    let machine = fresh();
    machine.program("useradd", "exit 9");
    has_failed(machine.build(vec![script("touch app; chmod +x app")], &["app"]), "prepare with status 9");
}

#[test]
fn an_image_holds_nothing_that_an_instance_was_launched_with() {
    let machine = fresh();
    fs::create_dir_all(machine.path("root/etc/immutable")).unwrap();
    fs::write(machine.path("root/etc/immutable/config.env"), "OLD='1'\n").unwrap();
    assert!(matches!(machine.build(vec![script("touch app; chmod +x app")], &["app"]), Some(Signal::Done(_))));
    assert!(!machine.path("root/etc/immutable").exists());
}

#[test]
fn a_signal_is_heard_through_the_noise_of_a_console_and_of_no_other_attempt() {
    let digest = Fingerprint::of("it").to_string();
    let done = format!("[   12.3] cloud-init[9]: x\r\n[ 12.4] immutable {NONCE} done {digest}\r\nlogin:");
    assert_eq!(Signal::read(&done, NONCE), Some(Signal::Done(digest.clone())));
    assert_eq!(Signal::read(&done, "another"), None);
    let broken = format!(
        "immutable {NONCE} done 12ab\nimmutable {NONCE} failed layers[0] with status 2\nimmutable {NONCE} done {digest}"
    );
    assert_eq!(Signal::read(&broken, NONCE), Some(Signal::Failed("layers[0] with status 2".to_owned())));
    assert_eq!(Signal::read(&format!("immutable {NONCE} failed deadline"), NONCE), Some(Signal::OutOfTime));
    assert_eq!(Signal::read("", NONCE), None);
}

#[test]
fn a_script_tells_beside_the_console_and_stays_on_as_its_cloud_needs() {
    let builds = Builds {
        // Where the script is in the end.
        tell: |line| format!("    printf '%s\\n' {line} >>told || :\n"),
        stays_on: Duration::from_mins(10),
        ..CLOUD.builds
    };
    let machine = Machine::new(&Cloud { builds, ..CLOUD });
    let app = script("touch app; chmod +x app");
    let Some(Signal::Done(digest)) = machine.build(vec![app], &["app"]) else { panic!("not done") };
    assert!(machine.read("slept").lines().any(|time| time == "600"), "{}", machine.read("slept"));
    assert_eq!(machine.read("root/told"), format!("immutable {NONCE} done {digest}\n").repeat(3));
}

#[test]
fn the_command_gets_its_configuration_and_its_secrets_and_nothing_of_how_they_came() {
    let config = [("PATH", "/nowhere"), ("name", "x y"), ("QUOTED", "it's \"$HOME\"\n`id` \\")];
    let secrets = [("LD_LIBRARY_PATH", "one"), ("value", "two")];
    let output = fresh().start(&launch(&config, &secrets), &["-v", "it's an argument"]);
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    // `env` is not found where this path leads.
    assert!(!output.status.success() && errors.contains("env"), "{errors}");
    let output = fresh().start(&launch(&config[1..], &secrets), &["-v", "it's an argument"]);
    let seen = String::from_utf8(output.stdout).unwrap();
    let (place, rest) = seen.split_once('\n').unwrap();
    assert!(place.ends_with("/root/opt/immutable"), "{place}");
    let mut seen = rest.split('\0');
    assert_eq!((seen.next(), seen.next()), (Some("-v"), Some("it's an argument")));
    let seen: Vec<&str> = seen.collect();
    for (key, value) in &config[1..] {
        assert!(seen.contains(&format!("{key}={value}").as_str()), "{key} in {seen:?}");
    }
    for (key, reference) in secrets {
        assert!(seen.contains(&format!("{key}=secret of {reference}\n").as_str()), "{key} in {seen:?}");
    }
    assert!(!seen.iter().any(|variable| variable.starts_with("immutable_")), "{seen:?}");
}

#[test]
fn a_secret_that_cannot_be_read_stops_the_start() {
    let machine = fresh();
    let output = machine.start(&launch(&[], &[("TOKEN", "none")]), &[]);
    assert!(!output.status.success());
    assert!(output.stdout.is_empty(), "the command was started without its secret");
    assert!(machine.waited() < 30);
}

#[test]
fn an_image_keeps_nothing_that_only_its_builder_was() {
    let machine = fresh();
    let gone = [
        "var/lib/cloud/instances/i-1/sem",
        "var/lib/cloud/instance/sem",
        "var/lib/systemd/random-seed",
        "var/log/journal/0123/system.journal",
        "root/.ssh/authorized_keys",
        "home/admin/.ssh/authorized_keys",
        "home/admin/.bash_history",
    ];
    for file in gone.into_iter().chain(["home/admin/kept"]) {
        let path = machine.path("root").join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "x").unwrap();
    }
    let app = "touch app; chmod +x app; [ \"$HOME $DEBIAN_FRONTEND\" = '/root noninteractive' ]";
    assert!(matches!(machine.build(vec![script(app)], &["app"]), Some(Signal::Done(_))));
    for file in gone {
        assert!(!machine.path("root").join(file).exists(), "{file}");
    }
    assert!(machine.path("root/home/admin/kept").exists());
}

#[test]
fn a_builder_that_somebody_stops_says_so() {
    assert_eq!(fresh().build(vec![script("kill $PPID; sleep 1; exit 3")], &["app"]), Some(Signal::Stopped));
}

#[test]
fn a_program_that_the_user_of_the_service_cannot_run_is_refused() {
    let machine = fresh();
    machine.program("runuser", "exit 1");
    has_failed(machine.build(vec![script("touch app; chmod +x app")], &["app"]), "command[0] with status 1");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn any_argument_and_any_value_reaches_the_command(argument in "([^\0]|['\"$`\\\\\n]){0,20}", value in "([^\0]|['\"$`\\\\\n]){0,20}") {
        let output = fresh().start(&launch(&[("KEY", &value)], &[]), &[&argument]);
        let seen = output.stdout.splitn(2, |byte| *byte == b'\n').nth(1).unwrap().to_vec();
        let seen: Vec<&[u8]> = seen.split(|byte| *byte == 0).collect();
        prop_assert_eq!(seen[0], argument.as_bytes());
        let variable = format!("KEY={value}");
        prop_assert!(seen.contains(&variable.as_bytes()));
    }
}
