//! What the tests of the providers need beside Rust, under the target directory: Python programs, in virtual environments of their own, and a
//! server of Prometheus.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// moto, the emulator of AWS that tests of `immutable-aws` talk to. boto3 is the independent client that looks at what a rollout left
/// behind.
const AWS: &str = "moto[server]==5.2.5\nboto3==1.44.5\n";

/// Google's own client of Compute Engine, which must understand the fake that tests of `immutable-gcp` talk to, and the package with
/// the descriptions of Google's APIs that the fake is held to.
const GCP: &str = "google-cloud-compute==1.57.0\ngoogle-api-python-client==2.202.0\n";

/// Azure's own clients, which must understand the fake that tests of `immutable-azure` talk to, and whose models must know all that
/// is said to it.
const AZURE: &str = "azure-mgmt-compute==39.0.0\nazure-mgmt-network==33.1.0\nazure-mgmt-trafficmanager==2.0.0\n";

/// Copies descriptions of APIs out of the package, into the directory of the first argument.
const COPY_DESCRIPTIONS: &str = r#"
import importlib.resources, pathlib, sys
place, *names = sys.argv[1:]
documents = importlib.resources.files("googleapiclient") / "discovery_cache" / "documents"
for name in names:
    (pathlib.Path(place) / name).write_bytes((documents / name).read_bytes())
"#;

/// The descriptions of the APIs that the fake of Google Cloud answers like.
const DESCRIPTIONS: [&str; 2] = ["compute.v1.json", "monitoring.v3.json"];

/// The server that tests of `immutable-prometheus` ask, as Debian packs it: a program that needs nothing but libc.
const PROMETHEUS: &str = "prometheus";

/// Makes the virtual environments that are not there with just their requirements, and fetches what is not installed.
///
/// # Errors
/// What a person has to do about it.
pub(crate) fn install() -> Result<(), String> {
    environment("aws-emulator", AWS, |_| Ok(()))?;
    environment("gcp-emulator", GCP, copy_descriptions)?;
    environment("azure-emulator", AZURE, |_| Ok(()))?;
    prometheus()
}

/// Fetches and unpacks the package of Prometheus, unless it is there or installed. No root is needed, and nothing is installed.
fn prometheus() -> Result<(), String> {
    let place = target().join("prometheus");
    let stamp = place.join("version.txt");
    if stamp.exists() || version(Path::new(PROMETHEUS)).is_some() {
        return Ok(());
    }
    if place.exists() {
        fs::remove_dir_all(&place).map_err(|error| format!("{} cannot be removed: {error}", place.display()))?;
    }
    fs::create_dir_all(&place).map_err(|error| format!("{} cannot be made: {error}", place.display()))?;
    let unpacked = run(Command::new("apt-get").args(["download", "--quiet", PROMETHEUS]).current_dir(&place))
        .and_then(|()| {
            run(Command::new("sh").args(["-c", "dpkg -x prometheus_*.deb . && rm *.deb"]).current_dir(&place))
        })
        .and_then(|()| version(&place.join("usr/bin/prometheus")).ok_or_else(|| "it does not run here".to_owned()));
    let version = unpacked.map_err(|problem| {
        format!(
            "there is no prometheus on the PATH, and Debian's package could not be fetched ({problem}): install Prometheus, or \
             let `apt-get update` find the package. The tests of immutable-prometheus need it"
        )
    })?;
    // Last, so that what was begun and not finished is made anew. It tells which version the tests ran against.
    fs::write(&stamp, version).map_err(|error| format!("{} cannot be written: {error}", stamp.display()))
}

/// What a program says of its version, if it can be run.
fn version(program: &Path) -> Option<String> {
    let said = Command::new(program).arg("--version").output().ok()?;
    said.status.success().then(|| String::from_utf8_lossy(&said.stdout).into_owned())
}

/// Runs a command that has to succeed.
fn run(command: &mut Command) -> Result<(), String> {
    let program = command.get_program().to_string_lossy().into_owned();
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{program}: {status}")),
        Err(error) => Err(format!("{program}: {error}")),
    }
}

/// Makes a virtual environment, unless it is there with just these requirements; then what else belongs into it.
fn environment(name: &str, requirements: &str, finish: impl FnOnce(&Path) -> Result<(), String>) -> Result<(), String> {
    let place = target().join(name);
    let stamp = place.join("requirements.txt");
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == requirements) {
        return Ok(());
    }
    // What is there is another version, or half made.
    if place.exists() {
        fs::remove_dir_all(&place).map_err(|error| format!("{} cannot be removed: {error}", place.display()))?;
    }
    let venv = Command::new("python3").args(["-m", "venv"]).arg(&place).status();
    match venv {
        Ok(status) if status.success() => {}
        Ok(status) => return Err(format!("python3 -m venv failed ({status}): its module venv may be missing")),
        Err(error) => {
            return Err(format!("python3 cannot be run ({error}): the tests of the providers need it, 3.10 or later"));
        }
    }
    let mut pip = python(&place);
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]).args(requirements.lines());
    let installed = pip.status().is_ok_and(|status| status.success());
    if !installed {
        return Err(format!("pip could not install {}", requirements.replace('\n', " ").trim_end()));
    }
    finish(&place)?;
    // Last, so that what was begun and not finished is made anew.
    fs::write(&stamp, requirements).map_err(|error| format!("{} cannot be written: {error}", stamp.display()))
}

fn copy_descriptions(place: &Path) -> Result<(), String> {
    let copied = python(place).args(["-c", COPY_DESCRIPTIONS]).arg(place).args(DESCRIPTIONS).status();
    let copied = copied.is_ok_and(|status| status.success());
    copied.then_some(()).ok_or_else(|| format!("{} could not be copied out of the package", DESCRIPTIONS.join(", ")))
}

/// The interpreter of a virtual environment.
fn python(place: &Path) -> Command {
    Command::new(place.join("bin/python"))
}

/// Where cargo builds.
fn target() -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace.join("target"), |target| workspace.join(target))
}
