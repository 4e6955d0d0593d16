//! What is said between a builder and us: by managed run commands, which need no way in. To tell what has come of them they need
//! [a way out to Azure](https://learn.microsoft.com/azure/virtual-machines/linux/run-command#restrictions), port 443: the vendor says so, and it was not
//! tried.
//!
//! The recipe itself is run by cloud-init, as custom data, whose size is documented; and it must not run under Azure's agent, all of
//! whose traces are taken away at the end. One command waits for what the build says, which is in memory only. When that was heard, another
//! one makes the machine into a pattern of others, as Azure's agent itself does it, and switches it off.
//!
//! A builder that is off is taken for clean when that command has ended well. It can end only before the agent is taken away, so what it says is that
//! the cleaning was begun. From then on the machine is meant to switch itself off as the last step of that and in no other way: what else would have
//! switched it off is ended, whoever asks it to stop waits for the cleaning, and where that fails it stays on, until its time is over. **That is not
//! certain**: a machine that loses its power within this minute without being asked, and is not started again, is taken for clean and is not. None of
//! this was tried on Azure.

use immutable_core::provider::{Effect, ErrorKind, ProviderError};
use immutable_guest::Signal;
use reqwest::Method;
use serde_json::{Value, json};

use super::BUILDS;
use super::builder::{Builder, TO_BOOT_AND_TO_BE_HEARD};
use super::resources::COMPUTE;
use super::site::Site;
use crate::client::Request;
use crate::startup::ADMIN;

/// Where a builder says how it went. It is gone when the machine is off.
pub(super) const SAID: &str = "/run/immutable-said";

/// What the build says is said three times within as many seconds.
const LISTEN: &str = "#!/bin/sh
# Says on what the build has said.
until [ -s /run/immutable-said ]; do sleep 2; done
sleep 5
cat /run/immutable-said
";

/// The name of the command that listens, and of that which seals.
const LISTENS: &str = "immutable-listen";
const SEALS: &str = "immutable-seal";

/// What the agent leaves is taken away by the agent's own
/// [deprovisioning](https://learn.microsoft.com/azure/virtual-machines/generalize#linux). It ends the agent and with it what runs under it, so this
/// does not. It begins late enough for the agent to have told that the command has ended well, without which no image is made. What the build has
/// cleaned already is cleaned again, because the machine has gone on writing since.
fn seal() -> String {
    format!(
        "#!/bin/sh
exec systemd-run --no-block --unit=immutable-seal --property=TimeoutStopSec=infinity /bin/sh -c '
trap \"\" HUP INT TERM
sleep 60
systemctl kill --signal=KILL cloud-final.service
systemctl stop cloud-final.service
waagent -force -deprovision+user || exec sleep infinity
userdel -f -r {ADMIN}
if command -v cloud-init >/dev/null; then cloud-init clean --logs; fi
rm -rf /var/lib/waagent /var/log/azure /var/log/waagent.log* /var/log/journal/* /var/lib/cloud/instance /var/lib/cloud/instances
rm -f /etc/ssh/ssh_host_*_key /etc/ssh/ssh_host_*_key.pub /var/lib/systemd/random-seed
if [ -e /etc/machine-id ]; then : >/etc/machine-id; fi
sync
poweroff'
"
    )
}

/// How a command stands.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Command {
    /// It was not given.
    None,
    /// It runs, or will.
    Going,
    /// It has ended, with this output and these errors.
    Ended { is_good: bool, output: String, error: String },
}

/// What a builder has said. It is asked if it was not yet.
pub(super) async fn listen(site: &Site<'_>, builder: &Builder) -> Result<Option<Signal>, ProviderError> {
    match look(site, builder, LISTENS).await? {
        Command::None => give(site, builder, LISTENS, LISTEN).await.map(|()| None),
        Command::Going => Ok(None),
        Command::Ended { output, .. } => {
            let said = Signal::read(&output, &builder.record.nonce);
            if said.is_none() {
                // The agent was not well, or it was somebody else's: it is asked again until its time is over.
                forget(site, builder, LISTENS).await?;
            }
            Ok(said)
        }
    }
}

/// Has a builder that is done made into a pattern and switched off, if it was not told yet.
///
/// # Errors
/// `Internal` when it cannot be.
pub(super) async fn ask_to_seal(site: &Site<'_>, builder: &Builder) -> Result<(), ProviderError> {
    match look(site, builder, SEALS).await? {
        Command::None => give(site, builder, SEALS, &seal()).await,
        Command::Going | Command::Ended { is_good: true, .. } => Ok(()),
        Command::Ended { error, .. } => {
            let error: String = error.chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect();
            let problem = format!("builder {} could not be made into a pattern: {error}", builder.name);
            Err(ProviderError::new(ErrorKind::Internal, site.operation, problem))
        }
    }
}

/// Whether a builder that is off has begun to seal itself, for all that is known: otherwise something else has stopped it.
pub(super) async fn has_sealed(site: &Site<'_>, builder: &Builder) -> Result<bool, ProviderError> {
    Ok(matches!(look(site, builder, SEALS).await?, Command::Ended { is_good: true, .. }))
}

fn id(site: &Site<'_>, builder: &Builder, name: &str) -> String {
    format!("{}/runCommands/{name}", site.machine(&builder.name))
}

async fn look(site: &Site<'_>, builder: &Builder, name: &str) -> Result<Command, ProviderError> {
    let found = site.compute().get(&id(site, builder, name), Some("instanceView")).await?;
    Ok(found.map_or(Command::None, |found| read(&found)))
}

fn read(found: &Value) -> Command {
    let view = &found["properties"]["instanceView"];
    let text = |key: &str| view[key].as_str().unwrap_or_default().to_owned();
    let ended = |is_good| Command::Ended { is_good, output: text("output"), error: text("error") };
    match (view["executionState"].as_str(), found["properties"]["provisioningState"].as_str()) {
        (Some("Succeeded"), _) => ended(true),
        (Some("Failed" | "TimedOut" | "Canceled"), _) | (_, Some("Failed" | "Canceled")) => ended(false),
        _ => Command::Going,
    }
}

async fn give(site: &Site<'_>, builder: &Builder, name: &str, script: &str) -> Result<(), ProviderError> {
    let time = site.images.deadline + TO_BOOT_AND_TO_BE_HEARD + BUILDS.stays_on;
    let command = json!({
        "location": site.config.launch.location,
        "properties": {
            "source": { "script": script },
            // It is followed by its instance view, by whoever comes.
            "asyncExecution": true,
            "timeoutInSeconds": time.as_secs(),
        },
    });
    let request = Request::new(Method::PUT, &id(site, builder, name), COMPUTE).json(&command);
    match site.compute().change(Effect::None, &format!("command {name}"), request).await {
        Ok(_) => Ok(()),
        // The machine is being changed, or was switched off just now.
        Err(error) if error.kind() == ErrorKind::Conflict => Ok(()),
        Err(error) => Err(error),
    }
}

async fn forget(site: &Site<'_>, builder: &Builder, name: &str) -> Result<(), ProviderError> {
    site.compute().delete(Effect::None, &id(site, builder, name)).await.map(drop)
}

#[cfg(test)]
mod tests {
    use immutable_core::provider::Layer;
    use immutable_guest::testkit::{Machine, NONCE};

    use super::*;
    use crate::startup::AZURE;

    #[test]
    fn what_a_build_says_is_where_it_is_listened_to() {
        let machine = Machine::new(&AZURE);
        let said = machine.path("said");
        machine.program("tee", &format!("echo \"$@\" >>{0}; cat >>{0}", said.display()));
        machine.build(vec![Layer::Script("mkdir bin; touch bin/app; chmod +x bin/app".to_owned())], &["bin/app"]);
        let said = machine.read("said");
        assert!(said.lines().any(|line| line == format!("-a {SAID}")), "{said}");
        assert!(matches!(Signal::read(&said, NONCE), Some(Signal::Done(_))), "{said}");
    }

    #[test]
    fn the_command_that_seals_is_one_word_for_the_shell() {
        let seal = seal();
        assert_eq!(seal.matches('\'').count(), 2, "{seal}");
        assert!(seal.ends_with("\npoweroff'\n") && !seal.contains("exit"), "it is off only by its last step: {seal}");
        assert!(LISTEN.contains(SAID));
    }

    #[test]
    fn a_command_has_ended_when_it_says_so_or_was_never_begun() {
        let command = |execution: &str, provisioning: &str| {
            read(&json!({ "properties": {
                "provisioningState": provisioning,
                "instanceView": { "executionState": execution, "output": "o", "error": "e" },
            } }))
        };
        let ended = |is_good| Command::Ended { is_good, output: "o".into(), error: "e".into() };
        assert_eq!(command("Running", "Succeeded"), Command::Going);
        assert_eq!(command("Pending", "Creating"), Command::Going);
        assert_eq!(command("Succeeded", "Succeeded"), ended(true));
        assert_eq!(command("TimedOut", "Succeeded"), ended(false));
        assert_eq!(command("Unknown", "Failed"), ended(false));
        assert_eq!(read(&json!({ "properties": { "provisioningState": "Updating" } })), Command::Going);
    }
}
