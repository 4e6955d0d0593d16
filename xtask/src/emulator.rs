//! The emulator of AWS that tests of `immutable-aws` talk to: moto, a Python program, in a virtual environment of its own.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// What is installed, with pip. boto3 is the independent client that looks at what a rollout left behind.
const REQUIREMENTS: &str = "moto[server]==5.2.5\nboto3==1.44.5\n";

/// Makes the virtual environment, unless it is there with just these requirements.
///
/// # Errors
/// What a person has to do about it.
pub(crate) fn install() -> Result<(), String> {
    let place = target().join("aws-emulator");
    let stamp = place.join("requirements.txt");
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == REQUIREMENTS) {
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
        Err(error) => return Err(format!("python3 cannot be run ({error}): the tests for AWS need it, 3.10 or later")),
    }
    let mut pip = Command::new(place.join("bin/python"));
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]).args(REQUIREMENTS.lines());
    let installed = pip.status().is_ok_and(|status| status.success());
    if !installed {
        return Err(format!("pip could not install {}", REQUIREMENTS.replace('\n', " ").trim_end()));
    }
    // Last, so that what was begun and not finished is made anew.
    fs::write(&stamp, REQUIREMENTS).map_err(|error| format!("{} cannot be written: {error}", stamp.display()))
}

/// Where cargo builds.
fn target() -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace.join("target"), |target| workspace.join(target))
}
