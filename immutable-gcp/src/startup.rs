//! What is particular to the machines of Compute Engine, and what an instance of a fleet is told at its first boot.

use immutable_core::model::LaunchSpec;
use immutable_core::provider::{ErrorKind, ProviderError};
use immutable_guest::{Cloud, Secrets, launch_script};

use crate::image_builder::BUILDS;

/// The most that one value of a machine's metadata takes, in bytes:
/// <https://docs.cloud.google.com/compute/docs/metadata/setting-custom-metadata#limitations>.
pub(crate) const LIMIT: usize = 256 * 1024;

/// The machines of Compute Engine.
pub(crate) const COMPUTE_ENGINE: Cloud = Cloud {
    name: "Compute Engine",
    carrier: "metadata",
    longest_launch: LIMIT,
    secrets: Secrets {
        is_reference,
        reference: "one version of a secret of Secret Manager, by its number (projects/project/secrets/name/versions/1)",
        functions: FUNCTIONS,
        read: READ,
    },
    builds: BUILDS,
};

/// Secrets are read with the token of the instance's service account, by programs that every image of Google's has. Neither the token nor a
/// secret is an argument of one.
const FUNCTIONS: &str = r#"# What an answer has in a field. JSON can have some characters in another way.
immutable_field() {
  printf '%s' "$1" | tr -d '\n' | sed -n "s/.*\"$2\" *: *\"\([^\"]*\)\".*/\1/p" |
    sed 's/\\u003[dD]/=/g; s/\\u002[bB]/+/g; s/\\u002[fF]/\//g; s/\\//g'
}

# A full stop keeps the line feeds at the end of a secret.
immutable_read() {
  immutable_answer=$(curl -q -fsS -m 10 -H 'Metadata-Flavor: Google' \
    http://metadata.google.internal/computeMetadata/v1/instance/service-accounts/default/token </dev/null) || return 1
  immutable_token=$(immutable_field "$immutable_answer" access_token)
  [ -n "$immutable_token" ] || return 1
  immutable_answer=$(printf 'header = "Authorization: Bearer %s"\n' "$immutable_token" |
    curl -q -fsS -m 30 -K - "https://secretmanager.googleapis.com/v1/$1:access") || return 1
  immutable_data=$(immutable_field "$immutable_answer" data)
  [ -n "$immutable_data" ] || return 1
  immutable_bytes=$(printf '%s' "$immutable_data" | base64 -d | wc -c)
  # No environment can hold a NUL character.
  [ "$immutable_bytes" -eq "$(printf '%s' "$immutable_data" | base64 -d | tr -d '\000' | wc -c)" ] || return 1
  printf '%s' "$immutable_data" | base64 -d && printf .
}
"#;

const READ: &str = r#"    if ! immutable_value=$(immutable_read "$immutable_reference"); then
      echo "immutable: $immutable_name cannot be read: store it as a text, and give the service account roles/secretmanager.secretAccessor on it" >&2
      immutable_give_up
    fi
    immutable_value=${immutable_value%.}
"#;

/// The script that the guest agent runs as root when an instance of a release starts. The same for the same release.
///
/// # Errors
/// `InvalidRequest` without effect: a value or a reference that no instance could be given, and a script that is longer than Compute Engine
/// takes. It names the key and not the value.
pub(crate) fn script(launch: &LaunchSpec) -> Result<String, ProviderError> {
    launch_script(&COMPUTE_ENGINE, launch).map_err(|refused| {
        let operation = "write the startup script of a launch";
        ProviderError::new(ErrorKind::InvalidRequest, operation, refused.to_string()).without_effect()
    })
}

/// Whether a reference names one version of a secret. `latest` and the other aliases do not: instances of one fleet would differ.
fn is_reference(reference: &str) -> bool {
    let is_made_of = |text: &str, others: &str| {
        !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || others.contains(c))
    };
    match reference.split('/').collect::<Vec<_>>()[..] {
        ["projects", project, "secrets", name, "versions", version] => {
            let is_number = !version.is_empty() && version.chars().all(|c| c.is_ascii_digit());
            is_made_of(project, "-.:") && is_made_of(name, "-_") && is_number
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use immutable_core::provider::Effect;
    use immutable_guest::testkit::{Machine, launch};

    use super::*;

    const SECRET: &str = "projects/web-production/secrets/db_password/versions/7";

    #[test]
    fn a_script_starts_like_one_and_has_references_to_secrets() {
        let script = script(&launch(&[("PORT", "80")], &[("DB_PASSWORD", SECRET)])).unwrap();
        assert!(script.starts_with("#!"), "what does not begin like a script is not run");
        assert!(script.contains(&format!("'DB_PASSWORD {SECRET}\n'")), "{script}");
    }

    #[test]
    fn what_no_instance_could_be_given_is_refused_without_its_value() {
        let large = "x".repeat(LIMIT);
        let almost = |text: &str| launch(&[], &[("KEY", text)]);
        let words = "the reference of secret KEY must be one version of a secret";
        let cases = [
            (launch(&[("KEY", large.as_str())], &[]), "bytes of metadata, and Compute Engine takes 262144"),
            (almost("hunter2"), words),
            (almost("projects/p/secrets/hunter2"), words),
            (almost("projects/p/secrets/hunter2/versions/latest"), words),
            (almost("projects/p/secrets/hunter2/versions/"), words),
            (almost("projects//secrets/hunter2/versions/1"), words),
            (almost("projects/p/secrets/$(hunter2)/versions/1"), words),
            (almost("projects/p/locations/eu/secrets/hunter2/versions/1"), words),
        ];
        for (launch, words) in cases {
            let error = script(&launch).expect_err(words);
            assert_eq!((error.kind(), error.effect()), (ErrorKind::InvalidRequest, Effect::None));
            let text = format!("{error} {error:?}");
            assert!(text.contains(words), "{text}");
            assert!(!text.contains("hunter2"), "{text}");
        }
    }

    /// A machine with this secret, whose programs keep what they are called with; and what its command has in its environment.
    fn started(data: &str) -> (Machine, String) {
        let machine = Machine::new(&COMPUTE_ENGINE);
        let (log, secret) = (machine.path("calls"), machine.path("secret"));
        std::fs::write(&secret, format!("{{\n  \"name\": \"data\",\n  \"payload\": {{\n    \"data\": \"{data}\",\n    \"dataCrc32c\": \"1\"\n  }}\n}}\n"))
            .unwrap();
        machine.program(
            "curl",
            &format!(
                r#"echo "$@" >>{log}
case "$*" in
*metadata.google.internal*) echo '{{"access_token":"t0ken","expires_in":3599,"token_type":"Bearer"}}' ;;
*"https://secretmanager.googleapis.com/v1/{SECRET}:access") grep -q '^header = "Authorization: Bearer t0ken"$' || exit 22; cat {secret} ;;
*) exit 6 ;;
esac"#,
                log = log.display(),
                secret = secret.display(),
            ),
        );
        let output = machine.start(&launch(&[], &[("DB_PASSWORD", SECRET)]), &[]);
        (machine, String::from_utf8(output.stdout).unwrap())
    }

    #[test]
    fn the_command_gets_its_secrets_from_secret_manager_and_no_program_gets_them_as_an_argument() {
        // "it's\na \"secret\" ?>\n\n", whose base64 has all that JSON can have in another way.
        for data in ["aXQncwphICJzZWNyZXQiID8+Cgo=", r"aXQncwphICJzZWNyZXQiID8\u002bCgo\u003d"] {
            let (machine, seen) = started(data);
            let seen: Vec<&str> = seen.split('\0').collect();
            assert!(seen.contains(&"DB_PASSWORD=it's\na \"secret\" ?>\n\n"), "{data} is seen as {seen:?}");
            assert!(!seen.iter().any(|variable| variable.starts_with("immutable_")), "{seen:?}");
            let calls = machine.read("calls");
            assert!(!calls.contains("t0ken") && !calls.contains("secret\""), "{calls}");
        }
    }

    #[test]
    fn a_secret_that_cannot_be_read_stops_the_start() {
        // Nothing, no base64, and a NUL character.
        for data in ["", "!", "YQBi"] {
            let (machine, seen) = started(data);
            assert_eq!(seen, "", "the command was started without its secret");
            assert!(machine.waited() < 30);
        }
    }
}
