//! What an instance of a fleet is told at its first boot: its configuration, and where its secrets lie.
//!
//! The image brings the rest: a service that reads what is written here, which [`crate::image_builder`] puts into it. An image that was built in
//! another way finds the same two files.

use immutable_core::model::{ConfigKey, LaunchSpec, SecretRef};
use immutable_core::provider::{ErrorKind, ProviderError};

use crate::shell::{quote, write_file};

/// Where an instance keeps what it was launched with.
pub(crate) const DIRECTORY: &str = "/etc/immutable";
/// Lines of `KEY='value'`, to be read by a shell.
pub(crate) const CONFIG: &str = "config.env";
/// Lines of `KEY reference`.
pub(crate) const SECRETS: &str = "secrets";
/// The service that runs the image's command, its user and its group.
pub(crate) const SERVICE: &str = "immutable";

/// The most that EC2 takes, in bytes before they are encoded:
/// <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/user-data.html>.
pub(crate) const LIMIT: usize = 16 * 1024;

/// The script that cloud-init runs as root on an instance of a release. The same for the same release.
///
/// It writes the values of the configuration and the references to secrets, never a secret.
///
/// # Errors
/// `InvalidRequest` without effect: a value or a reference that no instance could be given, and a script that is longer than EC2
/// takes. It names the key and not the value.
pub(crate) fn of(launch: &LaunchSpec) -> Result<String, ProviderError> {
    let refused = |problem: String| {
        ProviderError::new(ErrorKind::InvalidRequest, "write the user data of a launch", problem).without_effect()
    };
    check(launch).map_err(refused)?;
    let script = script(DIRECTORY, launch);
    if script.len() > LIMIT {
        let size = script.len();
        return Err(refused(format!(
            "the configuration makes {size} bytes of user data, and EC2 takes {LIMIT}: put large values into the image or \
             into a parameter that the instance reads"
        )));
    }
    Ok(script)
}

fn check(launch: &LaunchSpec) -> Result<(), String> {
    for key in launch.config.keys().chain(launch.secrets.keys()) {
        if OF_THE_SHELL.contains(&key.as_str()) || key.as_str().starts_with(OURS) {
            return Err(format!(
                "{key} is a variable that the shell or the start of the service needs: give it another name"
            ));
        }
    }
    if let Some(key) = launch.secrets.keys().find(|key| launch.config.contains_key(*key)) {
        return Err(format!("{key} is both a configuration value and a secret: remove one of the two"));
    }
    if let Some((key, _)) = launch.config.iter().find(|(_, value)| value.contains('\0')) {
        return Err(format!("the value of {key} has a NUL character, which no environment can hold: remove it"));
    }
    launch.secrets.iter().try_for_each(|(key, reference)| check_reference(key, reference))
}

/// Variables that a shell sets anew or does not let anybody set, so that the service would see another value or none.
const OF_THE_SHELL: [&str; 19] = [
    "_",
    "BASHOPTS",
    "BASHPID",
    "BASH_VERSINFO",
    "DIRSTACK",
    "EPOCHREALTIME",
    "EPOCHSECONDS",
    "EUID",
    "FUNCNAME",
    "GROUPS",
    "LINENO",
    "OLDPWD",
    "PPID",
    "PWD",
    "RANDOM",
    "SECONDS",
    "SHELLOPTS",
    "SHLVL",
    "UID",
];

/// The variables of the script that starts the service begin like this.
pub(crate) const OURS: &str = "immutable_";

/// Whether a reference is an ARN that the instance can read with its role.
fn check_reference(key: &ConfigKey, reference: &SecretRef) -> Result<(), String> {
    let parts: Vec<&str> = reference.as_str().splitn(6, ':').collect();
    // The characters of names in Secrets Manager and in Parameter Store, and the `!` of secrets that AWS itself keeps.
    let usual = |c: char| c.is_ascii_alphanumeric() || "/_+=.@-!:".contains(c);
    let is_arn = match parts[..] {
        ["arn", partition, service, region, account, resource] => {
            let is_whole = ![partition, region, account].contains(&"") && resource.chars().all(usual);
            let simple = |c: char| c.is_ascii_alphanumeric() || c == '-';
            let is_simple = [partition, region, account].iter().all(|part| part.chars().all(simple));
            let is_secret = match service {
                "secretsmanager" => resource.strip_prefix("secret:").is_some_and(|name| !name.contains(':')),
                "ssm" => resource.starts_with("parameter/"),
                _ => false,
            };
            is_whole && is_simple && is_secret
        }
        _ => false,
    };
    if is_arn {
        return Ok(());
    }
    Err(format!(
        "the reference of secret {key} must be the ARN of a secret of Secrets Manager (arn:aws:secretsmanager:region:account:secret:name) \
         or of a parameter of SSM (arn:aws:ssm:region:account:parameter/name)"
    ))
}

fn script(directory: &str, launch: &LaunchSpec) -> String {
    let config: Vec<String> = launch.config.iter().map(|(key, value)| format!("{key}={}\n", quote(value))).collect();
    let secrets: Vec<String> = launch.secrets.iter().map(|(key, reference)| format!("{key} {reference}\n")).collect();
    let (config_file, secrets_file) = (format!("{directory}/{CONFIG}"), format!("{directory}/{SECRETS}"));
    [
        "#!/bin/sh\nset -eu\numask 077\n".to_owned(),
        format!("mkdir -p {}\n", quote(directory)),
        write_file(&secrets_file, &secrets.concat()),
        write_file(&config_file, &config.concat()),
        // The service may read it and nobody else; where the image has no such user, only root may.
        format!("if getent group {SERVICE} >/dev/null 2>&1; then\n"),
        format!("  chgrp {SERVICE} {} {} {}\n", quote(directory), quote(&secrets_file), quote(&config_file)),
        format!("  chmod 0750 {}\n", quote(directory)),
        format!("  chmod 0640 {} {}\n", quote(&secrets_file), quote(&config_file)),
        "fi\n".to_owned(),
        // Not waited for: the boot that this script is a part of may be what the service waits for.
        format!("if systemctl cat {SERVICE}.service >/dev/null 2>&1; then\n"),
        format!("  systemctl --no-block restart {SERVICE}.service\n"),
        "fi\n".to_owned(),
    ]
    .concat()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;
    use std::process::Command;

    use immutable_core::provider::Effect;
    use proptest::prelude::*;

    use super::*;

    const SECRET: &str = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:web/db-AbCdEf";
    const PARAMETER: &str = "arn:aws:ssm:eu-central-1:123456789012:parameter/web/token";

    fn launch<'a>(config: impl IntoIterator<Item = (&'a str, &'a str)>, secrets: &[(&str, &str)]) -> LaunchSpec {
        LaunchSpec {
            config: config.into_iter().map(|(key, value)| (key.parse().unwrap(), value.to_owned())).collect(),
            secrets: secrets.iter().map(|(key, value)| (key.parse().unwrap(), value.parse().unwrap())).collect(),
            labels: BTreeMap::new(),
        }
    }

    fn run(directory: &Path, launch: &LaunchSpec) {
        let script = script(directory.to_str().unwrap(), launch);
        let output = Command::new("sh").arg("-c").arg(&script).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// What a process sees that is started as the service starts it.
    fn seen(directory: &Path, key: &str) -> Vec<u8> {
        let read = "set -a; . \"$0\"; set +a; exec printenv -0 \"$1\"";
        let file = directory.join(CONFIG);
        let output = Command::new("sh").args(["-euc", read]).arg(file).arg(key).output().unwrap();
        assert!(output.status.success(), "{key}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout.strip_suffix(b"\0").unwrap().to_vec()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(50))]

        #[test]
        fn any_value_reaches_the_service_as_it_is(values in proptest::collection::vec("([^\0]|['\"$`\\\\\n#;&])*|END\n", 1..4)) {
            let directory = tempfile::tempdir().unwrap();
            let directory = directory.path().join("et'c");
            let keys: Vec<String> = (0..values.len()).map(|index| format!("KEY_{index}")).collect();
            let launch = launch(keys.iter().map(String::as_str).zip(values.iter().map(String::as_str)), &[]);
            run(&directory, &launch);
            for (key, value) in keys.iter().zip(&values) {
                prop_assert_eq!(seen(&directory, key), value.as_bytes());
            }
        }
    }

    #[test]
    fn secrets_are_references_and_nobody_else_can_read_them() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path().join("immutable");
        run(&directory, &launch([], &[("TOKEN", PARAMETER), ("DB_PASSWORD", SECRET)]));
        let written = std::fs::read_to_string(directory.join(SECRETS)).unwrap();
        assert_eq!(written, format!("DB_PASSWORD {SECRET}\nTOKEN {PARAMETER}\n"));
        assert_eq!(std::fs::read_to_string(directory.join(CONFIG)).unwrap(), "", "the service starts when it is there");
        for path in [directory.join(SECRETS), directory.join(CONFIG), directory] {
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o077, 0, "{}", path.display());
        }
    }

    #[test]
    fn the_script_is_the_same_for_the_same_release() {
        let one = of(&launch([("B", "2"), ("A", "1")], &[("S", SECRET)])).unwrap();
        assert_eq!(one, of(&launch([("A", "1"), ("B", "2")], &[("S", SECRET)])).unwrap());
        assert_ne!(one, of(&launch([("A", "1"), ("B", "3")], &[("S", SECRET)])).unwrap());
        assert!(one.starts_with("#!"), "cloud-init runs only what begins like a script");
    }

    #[test]
    fn what_no_instance_could_be_given_is_refused_without_its_value() {
        let large = "x".repeat(LIMIT);
        let almost = |text: &str| launch([], &[("KEY", text)]);
        let cases = [
            (launch([("KEY", large.as_str())], &[]), "bytes of user data, and EC2 takes 16384"),
            (launch([("KEY", "hunter2\0")], &[]), "the value of KEY has a NUL character"),
            (launch([("KEY", "hunter2")], &[("KEY", SECRET)]), "KEY is both"),
            (launch([("PPID", "hunter2")], &[]), "PPID is a variable that the shell"),
            (launch([("immutable_name", "hunter2")], &[]), "immutable_name is a variable that the shell"),
            (almost("hunter2"), "the reference of secret KEY must be the ARN"),
            (almost("arn:aws:s3:eu-central-1:123456789012:secret:hunter2"), "the reference of secret KEY"),
            (almost("arn:aws:secretsmanager:eu-central-1:123456789012:hunter2"), "the reference of secret KEY"),
            (
                almost("arn:aws:secretsmanager:eu-central-1:123456789012:secret:a:hunter2"),
                "the reference of secret KEY",
            ),
            (almost("arn:aws:ssm:eu-central-1:123456789012:parameter/$(hunter2)"), "the reference of secret KEY"),
            (almost("arn:aws:ssm:eu;central-1:123456789012:parameter/hunter2"), "the reference of secret KEY"),
            (almost("arn:aws:ssm::123456789012:parameter/hunter2"), "the reference of secret KEY"),
        ];
        for (launch, words) in cases {
            let error = of(&launch).expect_err(words);
            assert_eq!((error.kind(), error.effect()), (ErrorKind::InvalidRequest, Effect::None));
            let text = format!("{error} {error:?}");
            assert!(text.contains(words), "{text}");
            assert!(!text.contains("hunter2"), "{text}");
        }
    }

    #[test]
    fn as_much_as_ec2_takes_is_accepted() {
        let empty = of(&launch([("KEY", "")], &[])).unwrap().len();
        let most = "x".repeat(LIMIT - empty);
        assert_eq!(of(&launch([("KEY", most.as_str())], &[])).unwrap().len(), LIMIT);
        assert!(of(&launch([("KEY", format!("{most}x").as_str())], &[])).is_err());
    }
}
