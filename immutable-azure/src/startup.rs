//! What is particular to the machines of Azure, and what an instance of a fleet is told at its first boot.

use immutable_core::model::LaunchSpec;
use immutable_core::provider::{ErrorKind, ProviderError};
use immutable_guest::{Cloud, Secrets, launch_script};
use serde_json::{Value, json};

use crate::image_builder::BUILDS;

/// The most that the custom data of a machine can have, in bytes, before they are encoded:
/// <https://learn.microsoft.com/rest/api/compute/virtual-machines/create-or-update#osprofile>.
pub(crate) const LIMIT: usize = 65_535;

/// The machines of Azure.
pub(crate) const AZURE: Cloud = Cloud {
    name: "Azure",
    carrier: "custom data",
    longest_launch: LIMIT,
    secrets: Secrets {
        is_reference,
        reference: "one version of a secret of Key Vault, by its URL (https://vault.vault.azure.net/secrets/name/ and the 32 digits of the version), \
                    with ?client_id= and the client id of an identity where instances have several",
        functions: FUNCTIONS,
        read: READ,
    },
    builds: BUILDS,
};

/// Secrets are read with the token of the instance's managed identity, by programs that every image for Azure has. Neither the token nor a
/// secret is an argument of one.
///
/// <https://learn.microsoft.com/entra/identity/managed-identities-azure-resources/how-to-use-vm-token>,
/// <https://learn.microsoft.com/rest/api/keyvault/secrets/get-secret>.
const FUNCTIONS: &str = r#"# What the object of JSON on the standard input has in a field of its own that is a text. Bytes are characters here.
immutable_field() {
  LC_ALL=C awk -v field="$1" '
    function of_hex(digits,  at, number) {
      for (at = 1; at <= 4; at++) number = number * 16 + index("0123456789abcdef", tolower(substr(digits, at, 1))) - 1
      return number
    }
    function of_code(code) {
      if (code < 128) return sprintf("%c", code)
      if (code < 2048) return sprintf("%c%c", 192 + int(code / 64), 128 + code % 64)
      if (code < 65536) return sprintf("%c%c%c", 224 + int(code / 4096), 128 + int(code / 64) % 64, 128 + code % 64)
      return sprintf("%c%c%c%c", 240 + int(code / 262144), 128 + int(code / 4096) % 64, 128 + int(code / 64) % 64, 128 + code % 64)
    }
    # The text that begins behind the quotation mark at `at`, which is moved to the one that ends it.
    function text_at(  found, from, c, code, low) {
      found = ""
      for (from = ++at; (c = substr(json, at, 1)) != "\""; at++) {
        if (c == "") exit bad = 1
        if (c != "\\") continue
        found = found substr(json, from, at - from)
        c = substr(json, ++at, 1)
        if (c == "u") {
          code = of_hex(substr(json, at + 1, 4)); at += 4
          if (code >= 55296 && code < 56320 && substr(json, at + 1, 2) == "\\u") {
            low = of_hex(substr(json, at + 3, 4)); at += 6
            code = 65536 + (code - 55296) * 1024 + low - 56320
          }
          # No environment can hold a NUL character.
          if (code == 0) exit bad = 1
          found = found of_code(code)
        } else if (c in escapes) found = found escapes[c]
        else exit bad = 1
        from = at + 1
      }
      return found substr(json, from, at - from)
    }
    { json = json $0 }
    END {
      if (bad) exit 1
      escapes["\""] = "\""; escapes["\\"] = "\\"; escapes["/"] = "/"
      escapes["b"] = "\b"; escapes["f"] = "\f"; escapes["n"] = "\n"; escapes["r"] = "\r"; escapes["t"] = "\t"
      for (at = 1; at <= length(json); at++) {
        c = substr(json, at, 1)
        if (c == "{" || c == "[") depth++
        else if (c == "}" || c == "]") depth--
        else if (c == ":") is_value = 1
        else if (c == ",") is_value = 0
        else if (c == "\"") {
          text = text_at()
          if (depth == 1 && is_value && name == field) { printf "%s", text; exit 0 }
          if (!is_value) name = text
        }
      }
      exit 1
    }'
}

# A full stop keeps the line feeds at the end of a secret.
immutable_read() {
  immutable_secret=${1%%\?*}
  immutable_vault=${immutable_secret#https://}
  immutable_vault=${immutable_vault%%/*}
  immutable_query="api-version=2018-02-01&resource=https%3A%2F%2F${immutable_vault#*.}"
  case "$1" in *\?*) immutable_query="$immutable_query&${1#*\?}" ;; esac
  immutable_answer=$(curl -q -fsS -m 10 --noproxy '*' -H 'Metadata: true' \
    "http://169.254.169.254/metadata/identity/oauth2/token?$immutable_query" </dev/null) || return 1
  immutable_token=$(printf '%s\n' "$immutable_answer" | immutable_field access_token) || return 1
  [ -n "$immutable_token" ] || return 1
  immutable_answer=$(printf 'header = "Authorization: Bearer %s"\n' "$immutable_token" |
    curl -q -fsS -m 30 -K - "$immutable_secret?api-version=7.4") || return 1
  printf '%s\n' "$immutable_answer" | immutable_field value && printf .
}
"#;

const READ: &str = r#"    if ! immutable_value=$(immutable_read "$immutable_reference"); then
      echo "immutable: $immutable_name cannot be read: give the managed identity of the fleet the role Key Vault Secrets User on it" >&2
      immutable_give_up
    fi
    immutable_value=${immutable_value%.}
"#;

/// The endings of the names of vaults: <https://learn.microsoft.com/azure/key-vault/general/about-keys-secrets-certificates>. The token for a
/// vault goes nowhere else.
const CLOUDS: [&str; 3] = [".vault.azure.net", ".vault.azure.cn", ".vault.usgovcloudapi.net"];

/// The user that Azure wants a machine to have. Nobody can log in as it.
pub(crate) const ADMIN: &str = "immutable-admin";

/// Azure wants a key for a machine of Linux that takes no password. This is a line of [RFC 8709](https://www.rfc-editor.org/rfc/rfc8709#section-4) whose
/// point on the curve is the SHA-256 of "nobody logs in to an immutable instance 1": a key whose other half nobody can know, as nobody has made it.
const NOBODYS_KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIH/+fWMm6RF3n+2hjKBrsBOH8F56HoIkAlMFkVBLDngn";

/// The `linuxConfiguration` of a machine with the agent of Azure, to which [`ADMIN`] can log in with this key; nobody, without one.
pub(crate) fn linux(key: Option<&str>) -> Value {
    let key = key.unwrap_or(NOBODYS_KEY);
    json!({
        "disablePasswordAuthentication": true,
        "provisionVMAgent": true,
        "ssh": { "publicKeys": [{ "path": format!("/home/{ADMIN}/.ssh/authorized_keys"), "keyData": key }] },
    })
}

/// The script that cloud-init runs as root when an instance of a release starts for the first time. The same for the same release.
///
/// # Errors
/// `InvalidRequest` without effect: a value or a reference that no instance could be given, and a script that is longer than Azure takes. It
/// names the key and not the value.
pub(crate) fn script(launch: &LaunchSpec) -> Result<String, ProviderError> {
    launch_script(&AZURE, launch).map_err(|refused| {
        let operation = "write the custom data of a launch";
        ProviderError::new(ErrorKind::InvalidRequest, operation, refused.to_string()).without_effect()
    })
}

/// Whether a reference names one version of a secret. Without a version it would be the newest: instances of one fleet would differ.
fn is_reference(reference: &str) -> bool {
    let is_made_of =
        |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    let is_hex = |text: &str, length| text.len() == length && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_client = |text: &str| {
        let parts: Vec<&str> = text.split('-').collect();
        parts.len() == 5 && parts.iter().zip([8, 4, 4, 4, 12]).all(|(part, length)| is_hex(part, length))
    };
    let (secret, query) = reference.split_once('?').map_or((reference, None), |(secret, query)| (secret, Some(query)));
    match secret.split('/').collect::<Vec<_>>()[..] {
        ["https:", "", host, "secrets", name, version] => {
            CLOUDS.iter().any(|cloud| host.strip_suffix(cloud).is_some_and(is_made_of))
                && is_made_of(name)
                && is_hex(version, 32)
                && query.is_none_or(|query| query.strip_prefix("client_id=").is_some_and(is_client))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use azure_core::base64;
    use immutable_core::model::Fingerprint;
    use immutable_core::provider::Effect;
    use immutable_guest::testkit::{Machine, launch};

    use super::*;

    const SECRET: &str = "https://web.vault.azure.net/secrets/db-password/0123456789abcdef0123456789abcdef";
    const CLIENT: &str = "?client_id=01234567-89ab-cdef-0123-456789abcdef";

    #[test]
    fn the_key_of_nobody_is_made_of_words() {
        let key = base64::decode(NOBODYS_KEY.strip_prefix("ssh-ed25519 ").unwrap()).unwrap();
        assert_eq!(key[..19], *b"\0\0\0\x0bssh-ed25519\0\0\0\x20");
        let digest = Fingerprint::of("nobody logs in to an immutable instance 1").to_string();
        for (index, byte) in key[19..].iter().enumerate() {
            assert_eq!(u8::from_str_radix(&digest[2 * index..2 * index + 2], 16), Ok(*byte));
        }
    }

    #[test]
    fn a_script_starts_like_one_and_has_references_to_secrets() {
        let script = script(&launch(&[("PORT", "80")], &[("DB_PASSWORD", SECRET)])).unwrap();
        assert!(script.starts_with("#!"), "what does not begin like a script is not run");
        assert!(script.contains(&format!("'DB_PASSWORD {SECRET}\n'")), "{script}");
    }

    #[test]
    fn secrets_of_every_cloud_are_known_by_their_version() {
        let references = [SECRET.to_owned(), format!("{SECRET}{CLIENT}")];
        let elsewhere =
            ["vault.azure.cn", "vault.usgovcloudapi.net"].map(|cloud| SECRET.replace("vault.azure.net", cloud));
        for reference in references.iter().chain(&elsewhere) {
            assert!(script(&launch(&[], &[("KEY", reference)])).is_ok(), "{reference}");
        }
    }

    #[test]
    fn what_no_instance_could_be_given_is_refused_without_its_value() {
        let large = "x".repeat(LIMIT);
        let words = "the reference of secret KEY must be one version of a secret";
        let too_large = "bytes of custom data, and Azure takes 65535";
        let version = "0123456789abcdef0123456789abcdef";
        let references = [
            "hunter2".to_owned(),
            "https://web.vault.azure.net/secrets/hunter2".to_owned(),
            "https://web.vault.azure.net/secrets/hunter2/".to_owned(),
            "https://web.vault.azure.net/secrets/hunter2/latest".to_owned(),
            format!("https://web.vault.azure.net/secrets/hunter2/{version}/"),
            format!("https://web.vault.azure.net/keys/hunter2/{version}"),
            format!("http://web.vault.azure.net/secrets/hunter2/{version}"),
            format!("https://hunter2.example.com/secrets/a/{version}"),
            format!("https://hunter2.web.vault.azure.net/secrets/a/{version}"),
            format!("https://.vault.azure.net/secrets/hunter2/{version}"),
            format!("https://web.vault.azure.net/secrets/$(hunter2)/{version}"),
            format!("https://web.vault.azure.net/secrets/hunter2/{version}?client_id=web"),
            format!("https://web.vault.azure.net/secrets/hunter2/{version}?resource=web"),
        ];
        let references = references.iter().map(|reference| (launch(&[], &[("KEY", reference)]), words));
        for (launch, words) in references.chain([(launch(&[("KEY", large.as_str())], &[]), too_large)]) {
            let error = script(&launch).expect_err(words);
            assert_eq!((error.kind(), error.effect()), (ErrorKind::InvalidRequest, Effect::None));
            let text = format!("{error} {error:?}");
            assert!(text.contains(words), "{text}");
            assert!(!text.contains("hunter2"), "{text}");
        }
    }

    /// A machine whose vault answers so, whose programs keep what they are called with; and what its command has in its environment.
    fn started(reference: &str, answer: &str) -> (Machine, String) {
        let machine = Machine::new(&AZURE);
        let (log, secret) = (machine.path("calls"), machine.path("secret"));
        std::fs::write(&secret, answer).unwrap();
        let program = r#"echo "$@" >>LOG
case "$*" in
*" -H Metadata: true http://169.254.169.254/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https%3A%2F%2Fvault.azure.net") ;;
*"&resource=https%3A%2F%2Fvault.azure.netQUERY") ;;
*" SECRET?api-version=7.4") grep -q '^header = "Authorization: Bearer t0ken"$' || exit 22; cat FILE; exit ;;
*) exit 6 ;;
esac
echo '{"access_token":"t0ken","client_id":"c","expires_in":"86400","resource":"https://vault.azure.net","token_type":"Bearer"}'"#;
        let program = program
            .replace("LOG", &log.display().to_string())
            .replace("QUERY", &CLIENT.replace('?', "&"))
            .replace("SECRET", SECRET)
            .replace("FILE", &secret.display().to_string());
        machine.program("curl", &program);
        // What a build says is for its builder only.
        machine.program("tee", "cat >/dev/null");
        let output = machine.start(&launch(&[], &[("DB_PASSWORD", reference)]), &[]);
        (machine, String::from_utf8(output.stdout).unwrap())
    }

    #[test]
    fn the_command_gets_its_secrets_from_key_vault_and_no_program_gets_them_as_an_argument() {
        let id = format!(r#""id":"{SECRET}""#);
        let large = "\u{20ac}\\\"".repeat(5000);
        let text =
            |text: &str| (format!("{{\"value\":{},{id}}}", serde_json::to_string(text).unwrap()), text.to_owned());
        for (answer, value) in [
            text("it's\na \"secret\" \\ \\n %s ?>\t\u{1}\u{20ac}\n\n"),
            text(&large),
            (
                r#"{"value":"\u003cs\u00E9cret\u003E\u20ac\uD83D\ude00\/","id":"x"}"#.into(),
                "<s\u{e9}cret>\u{20ac}\u{1f600}/".into(),
            ),
            (r#"{"contentType":"\"value\":\"no\"","tags":{"value":"no"},"value" : "yes"}"#.into(), "yes".into()),
            (
                "{\n  \"id\": \"value\",\n  \"value\": \"yes\",\n  \"attributes\": {\"enabled\": true}\n}\n".into(),
                "yes".into(),
            ),
            (r#"{"value":"","id":"x"}"#.into(), String::new()),
        ] {
            let (machine, seen) = started(SECRET, &answer);
            let seen: Vec<&str> = seen.split('\0').collect();
            assert!(seen.contains(&format!("DB_PASSWORD={value}").as_str()), "{answer} is seen as {seen:?}");
            assert!(!seen.iter().any(|variable| variable.starts_with("immutable_")), "{seen:?}");
            let calls = machine.read("calls");
            assert!(!calls.contains("t0ken") && !calls.contains("secret\""), "{calls}");
        }
    }

    #[test]
    fn one_of_several_identities_can_be_named() {
        let (machine, seen) = started(&format!("{SECRET}{CLIENT}"), r#"{"value":"yes"}"#);
        assert!(seen.contains("DB_PASSWORD=yes\0"), "{seen}");
        assert_eq!(machine.read("calls").matches("client_id").count(), 1, "the vault knows no such parameter");
    }

    #[test]
    fn a_secret_that_cannot_be_read_stops_the_start() {
        // No answer, none in JSON, none with a text, one that ends too early, and a NUL character.
        for answer in ["", "secret", r#"{"tags":{"value":"no"}}"#, r#"{"value":"se"#, r#"{"value":"a\u0000b"}"#] {
            let (machine, seen) = started(SECRET, answer);
            assert_eq!(seen, "", "the command was started without its secret");
            assert!(machine.waited() < 30);
        }
    }
}
