//! What is particular to the machines of EC2, and what an instance of a fleet is told at its first boot.

use std::time::Duration;

use immutable_core::model::LaunchSpec;
use immutable_core::provider::{ErrorKind, ProviderError};
use immutable_guest::{Builds, Cloud, Secrets, launch_script};

/// The most that EC2 takes, in bytes before they are encoded:
/// <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/user-data.html>.
pub(crate) const LIMIT: usize = 16 * 1024;

/// The machines of EC2.
pub(crate) const EC2: Cloud = Cloud {
    name: "EC2",
    carrier: "user data",
    longest_launch: LIMIT,
    secrets: Secrets {
        is_reference: is_arn,
        reference: "the ARN of a secret of Secrets Manager (arn:aws:secretsmanager:region:account:secret:name) \
                    or of a parameter of SSM (arn:aws:ssm:region:account:parameter/name)",
        functions: FUNCTIONS,
        read: READ,
    },
    builds: Builds {
        base: "name the AMI to start from, with AmiBuilder::base or an image that was built before",
        // The longest value of a tag, in characters: https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/Using_Tags.html
        longest_label: 256,
        // A file that is larger fits into no user data, however well it can be compressed.
        largest_file: 256 * 1024,
        too_large: "it does not fit into the user data, of which EC2 takes 16384 bytes after compression: fetch it in a script from your \
                    artifact store, with the builder's role",
        // What was said on the console can be read when the instance is off.
        tell: |_| String::new(),
        stays_on: Duration::ZERO,
    },
};

/// Secrets are read by the AWS CLI, which is in the base AMI, with the role of the instance.
const FUNCTIONS: &str = r#"# A full stop keeps the line feeds at the end of a secret.
immutable_read() {
  case $1 in
    arn:*:secretsmanager:*) aws secretsmanager get-secret-value --region "$2" --secret-id "$1" --query SecretString --output text ;;
    arn:*:ssm:*) aws ssm get-parameter --region "$2" --name "$1" --with-decryption --query Parameter.Value --output text ;;
    *) echo "immutable: a secret has a reference that is not known here" >&2; return 1 ;;
  esac </dev/null && printf .
}
"#;

const READ: &str = r#"    immutable_region=${immutable_reference#*:*:*:}
    immutable_value=$(immutable_read "$immutable_reference" "${immutable_region%%:*}") || immutable_give_up
    immutable_value=${immutable_value%.}
    # The line feed that the program itself writes behind it.
    immutable_value=${immutable_value%"$immutable_line_feed"}
    if [ "$immutable_value" = None ]; then
      echo "immutable: $immutable_name has no text: store it as a string that is not None" >&2
      immutable_give_up
    fi
"#;

/// The script that cloud-init runs as root on an instance of a release. The same for the same release.
///
/// # Errors
/// `InvalidRequest` without effect: a value or a reference that no instance could be given, and a script that is longer than EC2
/// takes. It names the key and not the value.
pub(crate) fn user_data(launch: &LaunchSpec) -> Result<String, ProviderError> {
    launch_script(&EC2, launch).map_err(|refused| {
        let operation = "write the user data of a launch";
        ProviderError::new(ErrorKind::InvalidRequest, operation, refused.to_string()).without_effect()
    })
}

/// Whether a reference is an ARN that the instance can read with its role.
fn is_arn(reference: &str) -> bool {
    let parts: Vec<&str> = reference.splitn(6, ':').collect();
    // The characters of names in Secrets Manager and in Parameter Store, and the `!` of secrets that AWS itself keeps.
    let usual = |c: char| c.is_ascii_alphanumeric() || "/_+=.@-!:".contains(c);
    match parts[..] {
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
    }
}

#[cfg(test)]
mod tests {
    use immutable_core::provider::{Effect, Layer};
    use immutable_guest::Build;
    use immutable_guest::testkit::{Machine, launch, spec};

    use super::*;

    const SECRET: &str = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:web/db-AbCdEf";
    const PARAMETER: &str = "arn:aws:ssm:eu-central-1:123456789012:parameter/web/token";

    #[test]
    fn a_script_starts_like_one_and_has_references_to_secrets() {
        let script = user_data(&launch(&[], &[("TOKEN", PARAMETER), ("DB_PASSWORD", SECRET)])).unwrap();
        assert!(script.starts_with("#!"), "cloud-init runs only what begins like a script");
        assert!(script.contains(&format!("'DB_PASSWORD {SECRET}\nTOKEN {PARAMETER}\n'")), "{script}");
    }

    #[test]
    fn what_no_instance_could_be_given_is_refused_without_its_value() {
        let large = "x".repeat(LIMIT);
        let almost = |text: &str| launch(&[], &[("KEY", text)]);
        let cases = [
            (launch(&[("KEY", large.as_str())], &[]), "bytes of user data, and EC2 takes 16384"),
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
            let error = user_data(&launch).expect_err(words);
            assert_eq!((error.kind(), error.effect()), (ErrorKind::InvalidRequest, Effect::None));
            let text = format!("{error} {error:?}");
            assert!(text.contains(words), "{text}");
            assert!(!text.contains("hunter2"), "{text}");
        }
    }

    /// What the command that was started has in its environment, where the API of AWS answers with the reference itself.
    fn started(secrets: &[(&str, &str)]) -> (Machine, String) {
        let machine = Machine::new(&EC2);
        machine.program(
            "aws",
            "shift 4; case $2 in */empty) echo None; exit 0;; esac; printf 'secret of %s\\n' \"$2\"; echo \"$@\" >&2; [ \"$2\" != arn:aws:ssm:r:1:parameter/none ]",
        );
        let output = machine.start(&launch(&[], secrets), &[]);
        (machine, String::from_utf8(output.stdout).unwrap())
    }

    #[test]
    fn the_command_gets_its_secrets_from_aws() {
        let (secret, parameter) =
            ("arn:aws:secretsmanager:eu-west-1:1:secret:db", "arn:aws:ssm:us-east-1:1:parameter/a/b");
        let (_machine, seen) = started(&[("AWS_PROFILE", parameter), ("value", secret)]);
        let seen: Vec<&str> = seen.split('\0').collect();
        for variable in [format!("AWS_PROFILE=secret of {parameter}"), format!("value=secret of {secret}")] {
            assert!(seen.contains(&variable.as_str()), "{variable} in {seen:?}");
        }
        assert!(!seen.iter().any(|variable| variable.starts_with("immutable_")), "{seen:?}");
    }

    #[test]
    fn a_secret_that_cannot_be_read_stops_the_start() {
        for reference in ["arn:aws:ssm:r:1:parameter/none", "arn:aws:ssm:r:1:parameter/empty"] {
            let (machine, seen) = started(&[("TOKEN", reference)]);
            assert_eq!(seen, "", "the command was started without its secret");
            assert!(machine.waited() < 30);
        }
    }

    #[test]
    fn an_image_that_an_earlier_version_has_built_is_found_again() {
        let recipe = spec(vec![Layer::Script("true".to_owned())], &["bin/app", "-v"]);
        let build = Build::new(&EC2, &recipe).unwrap();
        assert_eq!(build.fingerprint().to_string(), "eb2a488277abe667ca32d1a9f9f8d68dda08bd9f5a1d84f15bce110be5be6df9");
    }
}
