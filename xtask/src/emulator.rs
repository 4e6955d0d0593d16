//! What the tests of the providers need beside Rust: Python programs, in virtual environments of their own under the target directory.

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

/// Makes the virtual environments that are not there with just their requirements.
///
/// # Errors
/// What a person has to do about it.
pub(crate) fn install() -> Result<(), String> {
    environment("aws-emulator", AWS, |_| Ok(()))?;
    environment("gcp-emulator", GCP, copy_descriptions)?;
    environment("azure-emulator", AZURE, |_| Ok(()))
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
