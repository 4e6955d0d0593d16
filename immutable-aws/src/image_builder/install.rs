//! What a build leaves in an image beside the recipe's files: the service that runs its command on every instance.

use crate::shell::quote;
use crate::user_data::{CONFIG, DIRECTORY, OURS, SECRETS, SERVICE};

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
pub(super) fn start(prefix: &str, command: &[String]) -> String {
    let directory = quote(&format!("{prefix}{DIRECTORY}"));
    let root = quote(&format!("{prefix}{ROOT}"));
    let program = command.first().map(|program| quote(&format!("./{program}"))).unwrap_or_default();
    let arguments: Vec<String> = command.iter().skip(1).map(|word| format!(" {}", quote(word))).collect();
    let arguments = arguments.concat();
    format!(
        r#"#!/bin/sh
# Starts the command of this image with what its instance was launched with.
set -eu

# A full stop keeps the line feeds at the end of a secret.
{OURS}read() {{
  case $1 in
    arn:*:secretsmanager:*) aws secretsmanager get-secret-value --region "$2" --secret-id "$1" --query SecretString --output text ;;
    arn:*:ssm:*) aws ssm get-parameter --region "$2" --name "$1" --with-decryption --query Parameter.Value --output text ;;
    *) echo "immutable: a secret has a reference that is not known here" >&2; return 1 ;;
  esac </dev/null && printf .
}}

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
    {OURS}region=${{{OURS}reference#*:*:*:}}
    {OURS}value=$({OURS}read "${OURS}reference" "${{{OURS}region%%:*}}") || {OURS}give_up
    {OURS}value=${{{OURS}value%.}}
    # The line feed that the program itself writes behind it.
    {OURS}value=${{{OURS}value%"${OURS}line_feed"}}
    if [ "${OURS}value" = None ]; then
      echo "immutable: ${OURS}name has no text: store it as a string that is not None" >&2
      {OURS}give_up
    fi
    eval "{OURS}of_${OURS}name=\${OURS}value"
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
