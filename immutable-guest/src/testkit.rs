//! A machine for tests: the scripts are really run here, by `sh`, in a directory that stands for the root of a machine.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use immutable_core::model::{Fingerprint, Image, ImageId, ImageLabels, LaunchSpec};
use immutable_core::provider::{ImageSpec, Layer, Recipe};
use tempfile::TempDir;

use crate::{Attempt, Build, Cloud, Signal, launch};

/// The nonce of every build.
pub const NONCE: &str = "0123456789abcdef0123456789abcdef";

/// A machine: a directory for its root (`root`), programs that only a real one has (`bin`), and a list of the calls of them (`log`).
#[derive(Debug)]
pub struct Machine {
    directory: TempDir,
    cloud: Cloud,
}

impl Machine {
    /// A machine of a cloud that was just started.
    pub fn new(cloud: &Cloud) -> Self {
        let machine = Self { directory: tempfile::tempdir().unwrap(), cloud: *cloud };
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
        fs::write(machine.path("root/etc/machine-id"), "0123\n").unwrap();
        fs::write(machine.path("root/etc/ssh/ssh_host_rsa_key"), "secret").unwrap();
        machine
    }

    /// A path below the directory of this machine, as it is seen from outside.
    pub fn path(&self, path: &str) -> PathBuf {
        self.directory.path().join(path)
    }

    /// Puts a program where the scripts find it first.
    pub fn program(&self, name: &str, text: &str) {
        let path = self.path("bin").join(name);
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// The text of a file.
    pub fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// Builds an image on this machine, and hears on its console how that went.
    pub fn build(&self, layers: Vec<Layer>, command: &[&str]) -> Option<Signal> {
        let build = Build::new(&self.cloud, &spec(layers, command)).unwrap();
        let attempt = Attempt { nonce: NONCE.to_owned(), deadline: Duration::from_mins(30) };
        let script = self.path("script");
        fs::write(&script, build.script_below(self.path("root").to_str().unwrap(), &attempt)).unwrap();
        let output = self.run(&script);
        let console = self.read("root/dev/console");
        Signal::read(&console, NONCE).or_else(|| panic!("{}", String::from_utf8_lossy(&output.stderr)))
    }

    /// Builds an image whose command prints where it is, its arguments and its environment, launches an instance of it, and starts its service.
    ///
    /// The output is a line with the directory, and behind it the arguments and the variables, each with a NUL character behind it.
    pub fn start(&self, launch: &LaunchSpec, arguments: &[&str]) -> Output {
        let command: Vec<&str> = ["bin/app"].into_iter().chain(arguments.iter().copied()).collect();
        let app = "mkdir bin\nprintf '#!/bin/sh\\npwd\\nprintf \"%%s\\\\0\" \"$@\"\\nexec env -0\\n' >bin/app\nchmod +x bin/app\n";
        assert!(matches!(self.build(vec![Layer::Script(app.to_owned())], &command), Some(Signal::Done(_))));
        let script = self.path("launch");
        fs::write(&script, launch::script(self.path("root/etc/immutable").to_str().unwrap(), launch)).unwrap();
        let launched = self.run(&script);
        assert!(launched.status.success(), "{}", String::from_utf8_lossy(&launched.stderr));
        fs::remove_file(self.path("slept")).unwrap();
        self.run(&self.path("root/usr/lib/immutable/start"))
    }

    /// How long the service waited, in seconds, when its [start](Self::start) was given up, so that not all machines ask again at the same time.
    ///
    /// # Panics
    /// If it did not wait once.
    pub fn waited(&self) -> u32 {
        let slept = self.read("slept");
        slept.trim().parse().unwrap_or_else(|_| panic!("{slept:?} is not one wait"))
    }

    fn run(&self, file: &Path) -> Output {
        let path = format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", self.path("bin").display());
        Command::new("sh").arg(file).env_clear().env("PATH", path).output().unwrap()
    }
}

/// The specification of an image of the service `web`.
pub fn spec(layers: Vec<Layer>, command: &[&str]) -> ImageSpec {
    let labels =
        ImageLabels { version: "base".to_owned(), commit: None, built_at: "1970-01-01T00:00:00Z".parse().unwrap() };
    let id = ImageId::new("ami-0a1b2c3d").unwrap();
    let base = Image { fingerprint: Fingerprint::of(id.as_str()), id, parents: Vec::new(), labels };
    let command = command.iter().map(|&word| word.to_owned()).collect();
    let recipe = Recipe { base: Some(base), layers, command };
    ImageSpec { service: "web".parse().unwrap(), recipe, version: "1.0.0".into(), commit: Some("abc".into()) }
}

/// What an instance is launched with.
pub fn launch(config: &[(&str, &str)], secrets: &[(&str, &str)]) -> LaunchSpec {
    let mut launch = LaunchSpec::default();
    launch.config.extend(config.iter().map(|(key, value)| (key.parse().unwrap(), (*value).to_owned())));
    launch.secrets.extend(secrets.iter().map(|(key, value)| (key.parse().unwrap(), value.parse().unwrap())));
    launch
}
