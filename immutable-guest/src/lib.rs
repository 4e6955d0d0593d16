//! What runs on the machines of an immutable rollout, which is the same on every cloud.
//!
//! A provider takes two scripts from here:
//!
//! * [`launch_script`] is what an instance of a fleet runs at its first boot: it writes the configuration of its release, and references to
//!   its secrets, to where the service of its image finds them.
//! * [`Build`] is a recipe that was checked, and [`Build::script`] makes an image of it on a builder: it puts the recipe's files into
//!   `/opt/immutable`, runs its scripts there, installs a service that runs its command, takes away what only the builder was, and says on the console how
//!   that went, which [`Signal::read`] hears.
//!
//! What differs is a constant of the provider, a [`Cloud`]: how a machine reads a secret, how long it stays on, how large a script can be.
//!
//! The machine needs systemd and the usual programs of a Linux distribution, and whatever the cloud's way to read a secret needs.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test fails by panicking"))]

mod build;
mod cloud;
mod launch;
mod shell;
#[cfg(any(test, feature = "testkit"))]
pub mod testkit;

pub use build::{Attempt, Build, Signal};
pub use cloud::{Builds, Cloud, Secrets};
pub use launch::launch_script;

/// Why a recipe or a configuration cannot be had on a machine. Names the field and says what to do; never holds a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refused(String);

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// A cloud whose secrets are told by a program named `secret`.
    pub(crate) const CLOUD: Cloud = Cloud {
        name: "Somewhere",
        carrier: "metadata",
        longest_launch: 2048,
        secrets: Secrets {
            is_reference: |reference| ["one", "two", "none"].contains(&reference),
            reference: "one, two or none",
            functions: "immutable_read() { secret \"$1\" </dev/null && printf .; }\n",
            read: "    immutable_value=$(immutable_read \"$immutable_reference\") || immutable_give_up\n    immutable_value=${immutable_value%.}\n",
        },
        builds: Builds {
            base: "name one",
            longest_label: 64,
            largest_file: 1024,
            too_large: "fetch it",
            tell: |_| String::new(),
            stays_on: Duration::ZERO,
        },
    };
}
