//! What an example needs beside the library: a directory, the images of a small service, and an end that leaves nothing behind.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use immutable_core::engine::Engine;
use immutable_core::model::{Fingerprint, Image, ImageLabels, LaunchSpec, Release, ServiceName};
use immutable_core::provider::ErrorKind;
use immutable_local::{LocalConfig, LocalProvisioner};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::sleep;

use super::images;
use super::service::Behaviour;

/// Whatever went wrong: the examples only print it.
pub(crate) type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// A service for demonstrations, and a directory for everything that an example keeps.
pub(crate) struct Demo {
    pub(crate) service: ServiceName,
    directory: Directory,
}

enum Directory {
    /// Removed when the example ends.
    Own(tempfile::TempDir),
    /// Somebody else's: it stays, so that what was killed can be started again and go on.
    Given(PathBuf),
}

impl Demo {
    /// The root of the local platform.
    pub(crate) fn directory(&self) -> &Path {
        match &self.directory {
            Directory::Own(directory) => directory.path(),
            Directory::Given(directory) => directory,
        }
    }

    /// The release that behaves so; its image is built, or found.
    pub(crate) async fn release(&self, engine: &Engine, behaviour: &Behaviour) -> Result<Release> {
        let spec = images::recipe(self.directory(), &self.service, behaviour)?;
        Ok(Release::new(engine.image(&spec).await?, LaunchSpec::default()))
    }

    /// Ends all instances at once.
    async fn shut_down(&self) -> Result<()> {
        let provisioner = LocalProvisioner::new(LocalConfig::new(self.directory()));
        let mut tries = 0;
        loop {
            // A call that was under way when its future was dropped goes on for a moment, and would be a conflict.
            sleep(Duration::from_millis(50)).await;
            match provisioner.shut_down(&self.service).await {
                Err(error) if error.kind() == ErrorKind::Conflict && tries < 100 => tries += 1,
                result => return Ok(result?),
            }
        }
    }
}

/// A release without anything in its image, for instances that need none.
pub(crate) fn bare_release(version: &str) -> Result<Release> {
    let labels = ImageLabels { version: version.to_owned(), commit: None, built_at: jiff::Timestamp::now() };
    let (id, fingerprint) = (format!("bare-{version}").parse()?, Fingerprint::of(version));
    Ok(Release::new(Image { id, fingerprint, parents: Vec::new(), labels }, LaunchSpec::default()))
}

/// Runs an example to its end, or until somebody stops it, and says what went wrong, if anything did.
///
/// Instances outlive the process that has started them; those of an example are ended here, whichever way it went.
pub(crate) async fn run(example: impl AsyncFnOnce(&Demo) -> Result<()>) -> ExitCode {
    run_in(None, example).await
}

/// Like [`run`], in a directory that stays, if one is given.
pub(crate) async fn run_in(directory: Option<PathBuf>, example: impl AsyncFnOnce(&Demo) -> Result<()>) -> ExitCode {
    let ended = async {
        let directory = match directory {
            Some(directory) => Directory::Given(directory),
            None => Directory::Own(tempfile::tempdir()?),
        };
        let demo = Demo { service: "web".parse()?, directory };
        // The example is dropped at the end of this statement, and with it its engine, which would start instances anew.
        let result = tokio::select! {
            // Boxed: all that an example keeps while it waits is large.
            result = Box::pin(example(&demo)) => result,
            stopped = stopped() => Err(stopped.map_or_else(Into::into, |()| "it was stopped before its end".into())),
        };
        result.and(demo.shut_down().await)
    };
    match ended.await {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            println!("\nPROBLEM: {problem}");
            ExitCode::FAILURE
        }
    }
}

/// Comes back on ctrl-c or SIGTERM.
async fn stopped() -> std::io::Result<()> {
    let mut terminated = signal(SignalKind::terminate())?;
    tokio::select! {
        pressed = tokio::signal::ctrl_c() => pressed,
        _ = terminated.recv() => Ok(()),
    }
}

/// The last line of an example: whether its clients noticed anything that they should not have.
///
/// # Errors
/// When requests have failed.
pub(crate) fn verdict(failed: u64) -> Result<()> {
    if failed > 0 {
        return Err(format!("{failed} requests failed that should not have").into());
    }
    println!("\nNo request failed that should not have.");
    Ok(())
}
