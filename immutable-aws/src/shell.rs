//! Texts for `sh`: whatever they hold, the shell takes them as they are.

/// One word that the shell takes literally. The text has no NUL character, which no shell can hold.
pub(crate) fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// The command that writes a file: what follows it up to a line of its own is the content, taken literally.
///
/// The content ends with a line feed.
pub(crate) fn write_file(path: &str, content: &str) -> String {
    let mut end = "END".to_owned();
    while content.lines().any(|line| line == end) {
        end.push('_');
    }
    format!("cat >{} <<'{end}'\n{content}{end}\n", quote(path))
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
