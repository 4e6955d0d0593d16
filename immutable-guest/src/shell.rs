//! Texts for `sh`: whatever they hold, the shell takes them as they are.

/// One word that the shell takes literally. The text has no NUL character, which no shell can hold.
pub(crate) fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// The command that writes a file with this content, which has no NUL character.
///
/// Not with a here-document: in one, `dash` (the `sh` of Debian and Ubuntu) loses bytes from 0x80 on in a line that begins as the end mark does.
pub(crate) fn write_file(path: &str, content: &str) -> String {
    format!("printf %s {} >{}\n", quote(content), quote(path))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use proptest::prelude::*;

    use super::*;

    fn sh(script: &str) -> Vec<u8> {
        let output = Command::new("sh").args(["-euc", script]).output().unwrap();
        assert!(output.status.success(), "{script:?}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    #[test]
    fn a_file_keeps_bytes_that_a_here_document_loses() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        for content in ["E\u{a1}\n", "END\n", "", "no line feed"] {
            sh(&write_file(path.to_str().unwrap(), content));
            assert_eq!(std::fs::read_to_string(&path).unwrap(), content);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100))]

        #[test]
        fn a_quoted_word_is_what_it_was(word in "([^\0]|['\"$`\\\\\n!*~#-])*") {
            prop_assert_eq!(sh(&format!("printf %s {}", quote(&word))), word.into_bytes());
        }

        #[test]
        fn a_file_has_the_content_that_was_asked_for(content in "(([^\0]|['\"$`\\\\]){0,20}|END_?)(\nEND_{0,2}|\n[^\0]{0,20}){0,3}") {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("it's a file");
            let content = content + "\n";
            sh(&write_file(path.to_str().unwrap(), &content));
            prop_assert_eq!(std::fs::read(&path).unwrap(), content.into_bytes());
        }
    }
}
