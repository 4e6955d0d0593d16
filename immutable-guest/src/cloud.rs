//! What differs from one cloud to the next in what runs on a machine.

use std::time::Duration;

/// What a provider knows of the machines of its cloud: a constant of the provider, of texts for a shell and for messages.
///
/// Whatever of it becomes a part of the script of a build is a part of the identity of every image that is built with it: another text makes other
/// fingerprints, and all images are built anew.
#[derive(Debug, Clone, Copy)]
#[allow(clippy::exhaustive_structs, reason = "each provider writes it out as a constant, and must not forget a part")]
pub struct Cloud {
    /// The service that starts machines, as messages name it: `EC2`.
    pub name: &'static str,
    /// How a script is handed to a machine, as messages name it: `user data`.
    pub carrier: &'static str,
    /// The most bytes that the script of a launch can have.
    pub longest_launch: usize,
    /// How a machine reads its secrets.
    pub secrets: Secrets,
    /// How images are built.
    pub builds: Builds,
}

/// How a machine reads the secrets of its release, each time that its service starts.
///
/// The texts are a part of a script for `sh` that runs under `set -eu` as the user of the service. Its variables begin with `immutable_`, and so have
/// those of these texts to begin. A secret must become neither an argument of a program, which everybody on the machine can see, nor a file.
#[derive(Debug, Clone, Copy)]
#[allow(clippy::exhaustive_structs, reason = "each provider writes it out as a constant, and must not forget a part")]
pub struct Secrets {
    /// Whether a machine can read a secret by a reference like this.
    pub is_reference: fn(&str) -> bool,
    /// What such a reference is, in words that follow "must be".
    pub reference: &'static str,
    /// The functions that `read` needs, at the top of the script. Whole lines.
    pub functions: &'static str,
    /// The commands that put the text of the secret `$immutable_reference` into `immutable_value`, or call `immutable_give_up`, which ends the
    /// script after some seconds. `$immutable_name` is the variable that it is for, and `$immutable_line_feed` is a line feed. Whole lines.
    pub read: &'static str,
}

/// How images are built on a machine.
#[derive(Debug, Clone, Copy)]
#[allow(clippy::exhaustive_structs, reason = "each provider writes it out as a constant, and must not forget a part")]
pub struct Builds {
    /// What to do about a recipe without a base.
    pub base: &'static str,
    /// The most characters that a version or a commit can have.
    pub longest_label: usize,
    /// The most bytes that a file of a recipe can have.
    pub largest_file: u64,
    /// What to do about a file that is larger, or about a recipe that is.
    pub too_large: &'static str,
    /// The commands that tell, beside the console, how a build went. They are given the line that is said, as one word for the shell. Whole
    /// lines, or none; a status other than zero does no harm.
    pub tell: fn(&str) -> String,
    /// How long the machine stays on after it has said how the build went, in whole seconds: for clouds where it can only be heard until it is off.
    pub stays_on: Duration,
}
