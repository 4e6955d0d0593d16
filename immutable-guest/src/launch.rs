//! What an instance of a fleet is told at its first boot: its configuration, and where its secrets lie.
//!
//! The image brings the rest: a service that reads what is written here, which a [`Build`](crate::Build) puts into it. An image that was built in
//! another way finds the same two files.

use immutable_core::model::LaunchSpec;

use crate::shell::{quote, write_file};
use crate::{Cloud, Refused};

/// Where an instance keeps what it was launched with.
pub(crate) const DIRECTORY: &str = "/etc/immutable";
/// Lines of `KEY='value'`, to be read by a shell.
pub(crate) const CONFIG: &str = "config.env";
/// Lines of `KEY reference`.
pub(crate) const SECRETS: &str = "secrets";
/// The service that runs the image's command, its user and its group.
pub(crate) const SERVICE: &str = "immutable";

/// The script that an instance of a release runs as root at its first boot. The same for the same release.
///
/// It writes the values of the configuration and the references to secrets, never a secret, and starts the service of the image if it has one. It
/// does no harm when it runs again.
///
/// # Errors
/// A value or a reference that no instance could be given, and a script that is longer than the cloud takes. It names the key and not the value.
pub fn launch_script(cloud: &Cloud, launch: &LaunchSpec) -> Result<String, Refused> {
    check(cloud, launch).map_err(Refused)?;
    let script = script(DIRECTORY, launch);
    if script.len() > cloud.longest_launch {
        let (size, Cloud { name, carrier, longest_launch, .. }) = (script.len(), cloud);
        return Err(Refused(format!(
            "the configuration makes {size} bytes of {carrier}, and {name} takes {longest_launch}: put large values into the image or \
             into a parameter that the instance reads"
        )));
    }
    Ok(script)
}

fn check(cloud: &Cloud, launch: &LaunchSpec) -> Result<(), String> {
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
    let Some((key, _)) = launch.secrets.iter().find(|(_, reference)| !(cloud.secrets.is_reference)(reference.as_str()))
    else {
        return Ok(());
    };
    Err(format!("the reference of secret {key} must be {}", cloud.secrets.reference))
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

pub(crate) fn script(directory: &str, launch: &LaunchSpec) -> String {
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
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;
    use std::process::Command;

    use proptest::prelude::*;

    use super::*;
    use crate::testkit::launch;
    use crate::tests::CLOUD;

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
            let config: Vec<_> = keys.iter().map(String::as_str).zip(values.iter().map(String::as_str)).collect();
            let launch = launch(&config, &[]);
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
        run(&directory, &launch(&[], &[("TOKEN", "one"), ("DB_PASSWORD", "two")]));
        let written = std::fs::read_to_string(directory.join(SECRETS)).unwrap();
        assert_eq!(written, "DB_PASSWORD two\nTOKEN one\n");
        assert_eq!(std::fs::read_to_string(directory.join(CONFIG)).unwrap(), "", "the service starts when it is there");
        for path in [directory.join(SECRETS), directory.join(CONFIG), directory] {
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o077, 0, "{}", path.display());
        }
    }

    #[test]
    fn the_script_is_the_same_for_the_same_release() {
        let of = |config: &[(&str, &str)]| launch_script(&CLOUD, &launch(config, &[("S", "one")])).unwrap();
        let one = of(&[("B", "2"), ("A", "1")]);
        assert_eq!(one, of(&[("A", "1"), ("B", "2")]));
        assert_ne!(one, of(&[("A", "1"), ("B", "3")]));
        assert!(one.starts_with("#!"), "cloud-init runs only what begins like a script");
    }

    #[test]
    fn what_no_instance_could_be_given_is_refused_without_its_value() {
        let large = "x".repeat(CLOUD.longest_launch);
        let cases = [
            (launch(&[("KEY", large.as_str())], &[]), "bytes of metadata, and Somewhere takes 2048"),
            (launch(&[("KEY", "hunter2\0")], &[]), "the value of KEY has a NUL character"),
            (launch(&[("KEY", "hunter2")], &[("KEY", "one")]), "KEY is both"),
            (launch(&[("PPID", "hunter2")], &[]), "PPID is a variable that the shell"),
            (launch(&[("immutable_name", "hunter2")], &[]), "immutable_name is a variable that the shell"),
            (launch(&[], &[("KEY", "hunter2")]), "the reference of secret KEY must be one, two or none"),
        ];
        for (launch, words) in cases {
            let refused = launch_script(&CLOUD, &launch).expect_err(words);
            let text = format!("{refused} {refused:?}");
            assert!(text.contains(words), "{text}");
            assert!(!text.contains("hunter2"), "{text}");
        }
    }

    #[test]
    fn as_much_as_the_cloud_takes_is_accepted() {
        let of = |value: &str| launch_script(&CLOUD, &launch(&[("KEY", value)], &[]));
        let most = "x".repeat(CLOUD.longest_launch - of("").unwrap().len());
        assert_eq!(of(&most).unwrap().len(), CLOUD.longest_launch);
        assert!(of(&format!("{most}x")).is_err());
    }
}
