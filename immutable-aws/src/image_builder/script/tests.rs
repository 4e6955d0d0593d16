//! The script is really run here, by `sh`, in a directory that stands for the root of a machine.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use flate2::read::GzDecoder;
use immutable_core::model::LaunchSpec;
use immutable_core::provider::Layer;
use proptest::prelude::*;
use tempfile::TempDir;

use super::super::recipe;
use super::super::recipe::tests::{file, spec};
use super::*;

const NONCE: &str = "0123456789abcdef0123456789abcdef";

/// A machine: a directory for its root, and programs that only a real one has.
struct Machine {
    directory: TempDir,
}

impl Machine {
    fn new() -> Self {
        let machine = Self { directory: tempfile::tempdir().unwrap() };
        for directory in ["root/dev", "root/etc/ssh", "root/var/lib", "bin"] {
            fs::create_dir_all(machine.path(directory)).unwrap();
        }
        for program in ["poweroff", "systemctl", "useradd", "groupadd", "cloud-init", "sync"] {
            machine.program(program, &format!("echo {program} \"$@\" >>{}", machine.path("log").display()));
        }
        machine.program(
            "sleep",
            &format!("echo \"$1\" >>{}; [ \"$1\" != 1800 ] || exec /bin/sleep 30", machine.path("slept").display()),
        );
        machine.program("getent", "exit 2");
        machine.program("runuser", "shift 3; exec \"$@\"");
        // What the API of AWS would answer: the reference itself, in another region another one.
        machine.program(
            "aws",
            "shift 4; case $2 in */empty) echo None; exit 0;; esac; printf 'secret of %s\\n' \"$2\"; echo \"$@\" >&2; [ \"$2\" != arn:aws:ssm:r:1:parameter/none ]",
        );
        fs::write(machine.path("root/etc/machine-id"), "0123\n").unwrap();
        fs::write(machine.path("root/etc/ssh/ssh_host_rsa_key"), "secret").unwrap();
        machine
    }

    fn path(&self, path: &str) -> PathBuf {
        self.directory.path().join(path)
    }

    fn prefix(&self) -> String {
        self.path("root").to_str().unwrap().to_owned()
    }

    fn program(&self, name: &str, text: &str) {
        let path = self.path("bin").join(name);
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn run(&self, file: &Path) -> Output {
        let path = format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", self.path("bin").display());
        Command::new("sh").arg(file).env_clear().env("PATH", path).output().unwrap()
    }

    /// Builds an image on this machine, and hears how that went.
    fn build(&self, layers: Vec<Layer>, command: &[&str]) -> Option<Signal> {
        let plan = recipe::plan(&spec(layers, command)).unwrap();
        let attempt = Attempt { nonce: NONCE.to_owned(), deadline: Duration::from_mins(30) };
        let script = self.path("user-data");
        fs::write(&script, text(&plan, &self.prefix(), &attempt)).unwrap();
        let output = self.run(&script);
        let console = self.read("root/dev/console");
        Signal::read(&console, NONCE).or_else(|| panic!("{}", String::from_utf8_lossy(&output.stderr)))
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }
}

fn script(text: &str) -> Layer {
    Layer::Script(text.to_owned())
}

fn has_failed(signal: Option<Signal>, step: &str) {
    let Some(Signal::Failed(failed)) = signal else { panic!("{signal:?} instead of {step}") };
    assert_eq!(failed, step);
}

#[test]
fn a_build_puts_everything_in_its_place_says_so_and_switches_off() {
    let machine = Machine::new();
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
    has_failed(Machine::new().build(vec![script("true"), script("exit 7")], &["app"]), "layers[1] with status 7");
    let machine = Machine::new();
    has_failed(machine.build(vec![script("false\ntouch went-on")], &["app"]), "layers[0] with status 1");
    assert!(!machine.path("root/opt/immutable/went-on").exists());
    assert!(machine.read("log").ends_with("sync\npoweroff\npoweroff -f\n"));
    has_failed(Machine::new().build(vec![script("true")], &["bin/app"]), "command[0] with status 1");
    has_failed(Machine::new().build(vec![script("touch app")], &["app"]), "command[0] with status 1");
    let machine = Machine::new();
    machine.program("useradd", "exit 9");
    has_failed(machine.build(vec![script("touch app; chmod +x app")], &["app"]), "prepare with status 9");
}

#[test]
fn an_image_holds_nothing_that_an_instance_was_launched_with() {
    let machine = Machine::new();
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
fn the_user_data_is_the_script_compressed_and_too_much_is_refused() {
    let attempt = Attempt { nonce: NONCE.to_owned(), deadline: Duration::from_mins(30) };
    let small = recipe::plan(&spec(vec![script("true")], &["app"])).unwrap();
    let data = user_data(&small, &attempt).unwrap();
    assert_eq!(data, user_data(&small, &attempt).unwrap());
    let mut read = String::new();
    GzDecoder::new(data.as_slice()).read_to_string(&mut read).unwrap();
    assert_eq!(read, text(&small, "", &attempt));
    assert!(read.starts_with(&format!("#!/bin/sh\n# immutable-nonce: {NONCE}\n")));

    let noise: Vec<String> = (0..600).map(|index| Fingerprint::of(index.to_string()).to_string()).collect();
    let large = recipe::plan(&spec(vec![script(&noise.join("\n"))], &["app"])).unwrap();
    let problem = user_data(&large, &attempt).map(drop).unwrap_err();
    assert!(problem.contains("bytes: it does not fit") && problem.contains("artifact store"), "{problem}");
}

/// What the started command has in its environment.
fn started(launch: &LaunchSpec, arguments: &[&str]) -> (Machine, Output) {
    let machine = Machine::new();
    let command: Vec<&str> = ["bin/app"].into_iter().chain(arguments.iter().copied()).collect();
    let app = "mkdir bin\nprintf '#!/bin/sh\\npwd\\nprintf \"%%s\\\\0\" \"$@\"\\nexec env -0\\n' >bin/app\nchmod +x bin/app\n";
    assert!(matches!(machine.build(vec![script(app)], &command), Some(Signal::Done(_))));
    let directory = machine.path("root/etc/immutable");
    fs::create_dir_all(&directory).unwrap();
    let config = launch.config.iter().map(|(key, value)| format!("{key}={}\n", quote(value)));
    fs::write(directory.join("config.env"), config.collect::<Vec<_>>().concat()).unwrap();
    let secrets = launch.secrets.iter().map(|(key, reference)| format!("{key} {reference}\n"));
    fs::write(directory.join("secrets"), secrets.collect::<Vec<_>>().concat()).unwrap();
    let output = machine.run(&machine.path("root/usr/lib/immutable/start"));
    (machine, output)
}

fn launch(config: &[(&str, &str)], secrets: &[(&str, &str)]) -> LaunchSpec {
    let mut launch = LaunchSpec::default();
    launch.config.extend(config.iter().map(|(key, value)| (key.parse().unwrap(), (*value).to_owned())));
    launch.secrets.extend(secrets.iter().map(|(key, value)| (key.parse().unwrap(), value.parse().unwrap())));
    launch
}

#[test]
fn the_command_gets_its_configuration_and_its_secrets_and_nothing_of_how_they_came() {
    let secret = "arn:aws:secretsmanager:eu-west-1:1:secret:db";
    let parameter = "arn:aws:ssm:us-east-1:1:parameter/a/b";
    let config = [("PATH", "/nowhere"), ("name", "x y"), ("QUOTED", "it's \"$HOME\"\n`id` \\")];
    let secrets = [("AWS_PROFILE", parameter), ("value", secret)];
    let (machine, output) = started(&launch(&config, &secrets), &["-v", "it's an argument"]);
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    // `env` is not found where this path leads.
    assert!(!output.status.success() && errors.contains("env"), "{errors}");
    let (_, output) = started(&launch(&config[1..], &secrets), &["-v", "it's an argument"]);
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
        assert!(seen.contains(&format!("{key}=secret of {reference}").as_str()), "{key} in {seen:?}");
    }
    assert!(!seen.iter().any(|variable| variable.starts_with("immutable_")), "{seen:?}");
    drop(machine);
}

#[test]
fn a_secret_that_cannot_be_read_stops_the_start() {
    let missing = launch(&[], &[("TOKEN", "arn:aws:ssm:r:1:parameter/none")]);
    let no_text = launch(&[], &[("TOKEN", "arn:aws:ssm:r:1:parameter/empty")]);
    for launch in [missing, no_text] {
        let (machine, output) = started(&launch, &[]);
        assert!(!output.status.success());
        assert!(output.stdout.is_empty(), "the command was started without its secret");
        let slept = machine.read("slept");
        let last: u32 = slept.lines().last().unwrap().parse().unwrap();
        assert!(last < 30 && slept.lines().filter(|&time| time != "1").count() > 2, "{slept}");
    }
}

#[test]
fn an_image_keeps_nothing_that_only_its_builder_was() {
    let machine = Machine::new();
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
    assert_eq!(Machine::new().build(vec![script("kill $PPID; sleep 1; exit 3")], &["app"]), Some(Signal::Stopped));
}

#[test]
fn a_program_that_the_user_of_the_service_cannot_run_is_refused() {
    let machine = Machine::new();
    machine.program("runuser", "exit 1");
    has_failed(machine.build(vec![script("touch app; chmod +x app")], &["app"]), "command[0] with status 1");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn any_argument_and_any_value_reaches_the_command(argument in "([^\0]|['\"$`\\\\\n]){0,20}", value in "([^\0]|['\"$`\\\\\n]){0,20}") {
        let (_, output) = started(&launch(&[("KEY", &value)], &[]), &[&argument]);
        let seen = output.stdout.splitn(2, |byte| *byte == b'\n').nth(1).unwrap().to_vec();
        let seen: Vec<&[u8]> = seen.split(|byte| *byte == 0).collect();
        prop_assert_eq!(seen[0], argument.as_bytes());
        let variable = format!("KEY={value}");
        prop_assert!(seen.contains(&variable.as_bytes()));
    }
}
