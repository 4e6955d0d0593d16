//! What a build leaves in an image beside the recipe's files: the service that runs its command on every instance.

use crate::Cloud;
use crate::launch::{CONFIG, DIRECTORY, OURS, SECRETS, SERVICE};
use crate::shell::quote;

/// The image's root: where the recipe's files lie and its command runs.
pub(super) const ROOT: &str = "/opt/immutable";
/// The script that starts the command.
pub(super) const START: &str = "/usr/lib/immutable/start";
/// The service.
pub(super) const UNIT: &str = "/etc/systemd/system/immutable.service";

/// The unit of the service. Without the configuration, as on an instance that an image is built on, nothing is started.
///
/// The service is started by its own user, which may take the ports below 1024.
pub(super) fn unit() -> String {
    format!(
        "\
[Unit]
Description=The command of this image
Wants=network-online.target
After=network-online.target
ConditionPathExists={DIRECTORY}/{CONFIG}
StartLimitIntervalSec=0

[Service]
User={SERVICE}
Group={SERVICE}
AmbientCapabilities=CAP_NET_BIND_SERVICE
WorkingDirectory={ROOT}
ExecStart={START}
Restart=always
RestartSec=5

[Install]
WantedBy=multi-user.target
"
    )
}

/// The script that becomes the command. Paths begin with `prefix`, which is empty on an instance.
///
/// Secrets are read before anything of the configuration is known, so that none of it can change how they are read, and are put into the
/// environment of the command and nowhere else. The program that reads them is in the base AMI.
pub(super) fn start(cloud: &Cloud, prefix: &str, command: &[String]) -> String {
    let (functions, read) = (cloud.secrets.functions, cloud.secrets.read);
    let directory = quote(&format!("{prefix}{DIRECTORY}"));
    let root = quote(&format!("{prefix}{ROOT}"));
    let program = command.first().map(|program| quote(&format!("./{program}"))).unwrap_or_default();
    let arguments: Vec<String> = command.iter().skip(1).map(|word| format!(" {}", quote(word))).collect();
    let arguments = arguments.concat();
    format!(
        r#"#!/bin/sh
# Starts the command of this image with what its instance was launched with.
set -eu

{functions}
# A fleet that starts again and again must not ask all at the same time.
{OURS}give_up() {{
  sleep "$(( $(od -An -N1 -tu1 /dev/urandom) % 30 ))"
  exit 1
}}

{OURS}directory={directory}
{OURS}names=
{OURS}line_feed='
'
if [ -e "${OURS}directory/{SECRETS}" ]; then
  while read -r {OURS}name {OURS}reference; do
{read}    eval "{OURS}of_${OURS}name=\${OURS}value"
    {OURS}names="${OURS}names ${OURS}name"
  done <"${OURS}directory/{SECRETS}"
fi
cd {root}
for {OURS}name in ${OURS}names; do
  eval "export ${OURS}name=\"\${OURS}of_${OURS}name\""
done
set -a
. "${OURS}directory/{CONFIG}"
set +a
exec {program}{arguments}
"#
    )
}
