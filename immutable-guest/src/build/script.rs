//! The script that makes an image on its builder, and the one line by which it tells how that went.

use std::fmt::Write as _;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use immutable_core::model::Fingerprint;

use super::install::{ROOT, START, UNIT, start, unit};
use super::recipe::{Build, File, Part};
use crate::Cloud;
use crate::launch::{DIRECTORY, SERVICE};
use crate::shell::{quote, write_file};

/// Where scripts are put before they run.
const WORK: &str = "/var/lib/immutable-build";
/// Where the builder tells how it went.
const CONSOLE: &str = "/dev/console";

/// As the user that the command runs as, where there is a program for that.
const AS_SERVICE: &str = "$(command -v runuser >/dev/null && echo 'runuser -u immutable --')";

/// What belongs to one attempt to make an image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "the two are all that an attempt has of its own")]
pub struct Attempt {
    /// The word by which the output of this attempt is known: letters and digits.
    pub nonce: String,
    /// How long it may take, in whole seconds.
    pub deadline: Duration,
}

/// How a build went.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "whoever hears one has to say what comes of it")]
pub enum Signal {
    /// It is done, and this is the SHA-256 of what it has put into the image.
    Done(String),
    /// This step has failed.
    Failed(String),
    /// The builder itself has seen that the time is over.
    OutOfTime,
    /// Somebody has stopped the builder before it was done.
    Stopped,
}

impl Signal {
    /// The first signal of an attempt in what its builder has said, which may have anything else around it.
    pub fn read(console: &str, nonce: &str) -> Option<Self> {
        let start = format!("immutable {nonce} ");
        let words = |line: &str| Some(line.split_once(&start)?.1.trim().to_owned());
        console.lines().filter_map(words).find_map(|words| match words.split_once(' ') {
            Some(("done", digest)) => digest.parse::<Fingerprint>().ok().map(|digest| Self::Done(digest.to_string())),
            Some(("failed", "deadline")) => Some(Self::OutOfTime),
            Some(("failed", "stopped")) => Some(Self::Stopped),
            Some(("failed", step)) => Some(Self::Failed(step.to_owned())),
            _ => None,
        })
    }
}

/// The script itself. Paths begin with `prefix`, which is empty on an instance.
pub(super) fn text(cloud: &Cloud, build: &Build, prefix: &str, attempt: &Attempt) -> String {
    let parts = build.layers.iter().enumerate().map(|(index, part)| match part {
        Part::Files(files) => add_files(index, files, prefix),
        Part::Script(script) => run_script(index, script, prefix),
    });
    let parts: Vec<String> = parts.collect();
    let service = install(cloud, build, prefix);
    [begin(cloud, prefix, attempt), prepare(prefix), parts.concat(), service, end(prefix)].concat()
}

/// Whatever happens from here on, the builder says so and switches itself off. The line is said more than once, because whatever else is
/// written to the console at the same moment could break one.
fn begin(cloud: &Cloud, prefix: &str, attempt: &Attempt) -> String {
    let Attempt { nonce, deadline } = attempt;
    let tell = (cloud.builds.tell)(&format!("\"immutable {nonce} $1\""));
    let stay = match cloud.builds.stays_on.as_secs() {
        0 => String::new(),
        seconds => format!("  sleep {seconds}\n"),
    };
    let (console, seconds) = (quote(&format!("{prefix}{CONSOLE}")), deadline.as_secs());
    format!(
        r#"#!/bin/sh
# immutable-nonce: {nonce}
set -eu
umask 022
export HOME=/root DEBIAN_FRONTEND=noninteractive
step=start
digest=
stopped=

say() {{
  for _ in 1 2 3; do
    printf '\nimmutable {nonce} %s\n' "$1" >>{console} || :
{tell}    sleep 1
  done
}}

finish() {{
  status=$?
  trap - EXIT
  set +e
  [ -z "${{watchdog-}}" ] || kill "$watchdog"
  if [ -n "$digest" ]; then say "done $digest"
  elif [ -n "$stopped" ]; then say 'failed stopped'
  else say "failed $step with status $status"; fi
  sync
  off
}}

# Something that does not end must not keep the machine on.
off() {{
{stay}  poweroff || :
  sleep 300
  poweroff -f
}}
trap finish EXIT
trap 'stopped=1; exit 143' HUP INT TERM
(trap - EXIT HUP INT TERM; sleep {seconds}; say 'failed deadline'; off) </dev/null >/dev/null 2>&1 &
watchdog=$!
"#
    )
}

/// An image holds nothing that an instance was launched with.
fn prepare(prefix: &str) -> String {
    let (work, root, etc) = (path(prefix, WORK), path(prefix, ROOT), path(prefix, DIRECTORY));
    format!(
        "
step=prepare
rm -rf {etc} {work}
mkdir -p -m 0700 {work}
mkdir -p {root}
getent group {SERVICE} >/dev/null || groupadd --system {SERVICE}
getent passwd {SERVICE} >/dev/null ||
  useradd --system --gid {SERVICE} --home-dir {ROOT} --no-create-home --shell /sbin/nologin {SERVICE}
"
    )
}

fn add_files(index: usize, files: &[File], prefix: &str) -> String {
    let add = |(position, file): (usize, &File)| {
        let target = format!("{prefix}{ROOT}/{}", file.target);
        let directory = target.rsplit_once('/').map_or("/", |(directory, _)| directory);
        let (directory, target) = (quote(directory), quote(&target));
        let mode = if file.executable { "0755" } else { "0644" };
        let mut content = String::new();
        for (position, digit) in BASE64_STANDARD.encode(&file.content).chars().enumerate() {
            if position > 0 && position % 76 == 0 {
                content.push('\n');
            }
            content.push(digit);
        }
        // No line of this encoding is as short as the one that ends it.
        format!(
            "\nstep='layers[{index}].files[{position}]'\nmkdir -p {directory}\nrm -f {target}\n\
             base64 -d >{target} <<'END'\n{content}\nEND\nchmod {mode} {target}\n"
        )
    };
    files.iter().enumerate().map(add).collect::<Vec<_>>().concat()
}

/// A script says itself what it is run by, or it is run by `sh`, which stops at the first command that fails.
fn run_script(index: usize, script: &str, prefix: &str) -> String {
    let (file, root) = (format!("{prefix}{WORK}/layer-{index}"), path(prefix, ROOT));
    let run = if script.starts_with("#!") { quote(&file) } else { format!("sh -eu {}", quote(&file)) };
    let mut content = script.to_owned();
    if !content.ends_with('\n') {
        content.push('\n');
    }
    let write = write_file(&file, &content);
    format!(
        "\nstep='layers[{index}]'\n{write}chmod 0700 {}\n(trap - EXIT; cd {root} && exec {run}) </dev/null\n",
        quote(&file)
    )
}

fn install(cloud: &Cloud, build: &Build, prefix: &str) -> String {
    let mut text = String::new();
    for (file, content, mode) in [(START, start(cloud, prefix, &build.command), "0755"), (UNIT, unit(), "0644")] {
        let directory = file.rsplit_once('/').map_or("/", |(directory, _)| directory);
        let target = format!("{prefix}{file}");
        let write = write_file(&target, &content);
        let (directory, target) = (path(prefix, directory), quote(&target));
        let _ = write!(text, "\nstep=service\nmkdir -p {directory}\nrm -f {target}\n{write}chmod {mode} {target}\n");
    }
    let program = build.command.first().map(|program| path(prefix, &format!("{ROOT}/{program}"))).unwrap_or_default();
    // What a script has made is only known here.
    let _ = write!(
        text,
        "systemctl enable {SERVICE}.service\n\nstep='command[0]'\n[ -f {program} ]\n{AS_SERVICE} [ -x {program} ]\n"
    );
    text
}

/// What was put in is digested; what only the builder itself was, such as its name and its keys, is left out of the image.
fn end(prefix: &str) -> String {
    let (work, slash) = (path(prefix, WORK), quote(&format!("{prefix}/")));
    let machine_id = path(prefix, "/etc/machine-id");
    let host_keys = path(prefix, "/etc/ssh");
    let own = [
        "/var/lib/systemd/random-seed",
        "/root/.ssh/authorized_keys",
        "/home/*/.ssh/authorized_keys",
        "/root/.*_history",
        "/home/*/.*_history",
        "/var/log/journal/*",
        // The last: whatever is in the user data of an instance is done once, and this is how it is known to be done.
        "/var/lib/cloud/instance",
        "/var/lib/cloud/instances",
    ];
    // The patterns stand outside of the quotes.
    let own = own.map(|pattern| format!("{}{pattern}", quote(prefix))).join(" ");
    let paths = [ROOT, START, UNIT].map(|path| quote(path.trim_start_matches('/'))).join(" ");
    format!(
        "
step=digest
cd {slash}
find {paths} -type f -print0 >{work}/found
LC_ALL=C sort -z {work}/found >{work}/names
xargs -0 sha256sum <{work}/names >{work}/sums
sum=$(sha256sum {work}/sums)

step=clean
rm -rf {work}
if command -v cloud-init >/dev/null; then cloud-init clean --logs; fi
if [ -e {machine_id} ]; then : >{machine_id}; fi
rm -f {host_keys}/ssh_host_*_key {host_keys}/ssh_host_*_key.pub
rm -rf {own}
digest=${{sum%% *}}
"
    )
}

fn path(prefix: &str, path: &str) -> String {
    quote(&format!("{prefix}{path}"))
}

#[cfg(test)]
mod tests;
