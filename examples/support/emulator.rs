//! The emulator of AWS that an example runs against: moto, a program in Python that `cargo xtask emulator` installs.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

/// What there is in the emulated account.
pub(crate) struct Furnished {
    pub(crate) images: Vec<String>,
    variables: Vec<(String, String)>,
}

/// Runs this example again, with these arguments and with variables that lead it to an emulator, which ends with it.
pub(crate) async fn run_again(arguments: impl FnOnce(&Furnished) -> Vec<String>) -> Result<(), Box<dyn Error>> {
    let python = python();
    if !python.exists() {
        return Err("the emulator is not installed: run cargo xtask emulator".into());
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/support/emulator.py");
    let mut command = Command::new(python);
    // It ends when its standard input is closed, however this program ends.
    command.arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut moto = command.spawn()?;
    let output = moto.stdout.take().ok_or("the emulator has no output")?;
    let furnished = read(&mut BufReader::new(output)).await?;
    let directory = tempfile::tempdir()?;
    let mut example = Command::new(std::env::current_exe()?);
    example.args(arguments(&furnished)).envs(furnished.variables).current_dir(directory.path());
    let status = example.status().await?;
    if status.success() { Ok(()) } else { Err("the example failed on the emulator".into()) }
}

/// Lines of `NAME=value`, up to an empty one.
async fn read(output: &mut (impl AsyncBufReadExt + Unpin)) -> Result<Furnished, Box<dyn Error>> {
    let mut furnished = Furnished { images: Vec::new(), variables: Vec::new() };
    let mut lines = output.lines();
    while let Some(line) = lines.next_line().await? {
        match line.split_once('=') {
            Some(("IMAGE", image)) => furnished.images.push(image.to_owned()),
            Some((name, value)) => furnished.variables.push((name.to_owned(), value.to_owned())),
            None if line.is_empty() => return Ok(furnished),
            None => break,
        }
    }
    Err("the emulator did not start: run cargo xtask emulator".into())
}

/// The interpreter of the emulator, in the directory that cargo builds in: two above the examples.
fn python() -> PathBuf {
    let example = std::env::current_exe().unwrap_or_default();
    let target = example.ancestors().find(|directory| directory.join("aws-emulator").exists());
    target.unwrap_or(Path::new("target")).join("aws-emulator/bin/python")
}
