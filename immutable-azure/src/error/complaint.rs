//! What Azure says is wrong: a code with words, and more of them inside.

use serde::Deserialize;
use serde::de::IgnoredAny;

/// So many complaints within each other are looked at; the outermost says the least.
const DEEPEST: usize = 5;

/// So many complaints are looked at in all.
const MOST: usize = 50;

/// One complaint, as in [the answers of every service](https://github.com/Azure/azure-resource-manager-rpc/blob/master/v1.0/common-api-details.md#error-response-content).
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub(crate) struct Complaint {
    #[serde(alias = "Code", default, deserialize_with = "lenient")]
    pub(crate) code: Option<String>,
    #[serde(alias = "Message", default, deserialize_with = "lenient")]
    pub(crate) message: Option<String>,
    #[serde(alias = "Details", default, deserialize_with = "lenient")]
    details: Option<Vec<Lenient>>,
}

/// What is in a list of complaints and perhaps none itself.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged)]
enum Lenient {
    Complaint(Box<Complaint>),
    Other(IgnoredAny),
}

#[derive(Deserialize)]
struct Wrapped {
    #[serde(alias = "Error")]
    error: Complaint,
}

impl Complaint {
    /// The complaint in the content of an answer, with or without a wrapper; services differ.
    pub(crate) fn read(body: &[u8]) -> Option<Self> {
        let wrapped = serde_json::from_slice::<Wrapped>(body).map(|wrapped| wrapped.error);
        let found = wrapped.or_else(|_| serde_json::from_slice(body)).ok();
        found.filter(|found: &Self| found.code.is_some() || found.message.is_some())
    }

    /// This one and all in it, the outer before the inner.
    pub(super) fn all(&self) -> Vec<&Self> {
        let (mut found, mut level) = (Vec::new(), vec![self]);
        for _ in 0..DEEPEST {
            found.extend(&level);
            level = level.into_iter().flat_map(Self::inner).take(MOST).collect();
        }
        found.truncate(MOST);
        found
    }

    fn inner(&self) -> impl Iterator<Item = &Self> {
        self.details.iter().flatten().filter_map(|inner| match inner {
            Lenient::Complaint(complaint) => Some(complaint.as_ref()),
            Lenient::Other(_) => None,
        })
    }
}

/// Nothing where there is something else than expected: the rest may still tell what is wrong.
fn lenient<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de>,
{
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either<T> {
        Expected(T),
        Other(IgnoredAny),
    }
    Ok(match Option::<Either<T>>::deserialize(deserializer)? {
        Some(Either::Expected(value)) => Some(value),
        Some(Either::Other(_)) | None => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes(body: &str) -> Option<Vec<String>> {
        let found = Complaint::read(body.as_bytes())?;
        Some(found.all().into_iter().map(|one| one.code.clone().unwrap_or_default()).collect())
    }

    #[test]
    fn a_complaint_is_found_in_every_form() {
        for (body, expected) in [
            (r#"{"error":{"code":"A","message":"m"}}"#, Some("A")),
            (r#"{"code":"A","message":"m"}"#, Some("A")),
            (r#"{"Code":"A","Message":"m"}"#, Some("A")),
            (r#"{"error":{"code":"A","message":"m","details":[]}}"#, Some("A")),
            (
                r#"{"error":{"code":"A","details":[{"code":"B","details":[{"code":"D"}]},{"code":"C"}]}}"#,
                Some("A B C D"),
            ),
            (r#"{"error":{"code":"A","details":["text",7,{"code":"B"}]}}"#, Some("A B")),
            (r#"{"error":{"code":"A","details":{"not":"a list"}}}"#, Some("A")),
            (r#"{"error":{"code":7,"message":"m"}}"#, Some("")),
            (r#"{"error":{}}"#, None),
            (r#"{"error":"text"}"#, None),
            ("{}", None),
            ("[]", None),
            ("null", None),
            ("", None),
            ("<html>Bad gateway</html>", None),
        ] {
            assert_eq!(codes(body).map(|codes| codes.join(" ")).as_deref(), expected, "{body}");
        }
    }

    #[test]
    fn what_has_no_end_is_not_looked_at_to_the_end() {
        let mut deep = r#"{"code":"A"}"#.to_owned();
        for _ in 0..20 {
            deep = format!(r#"{{"code":"A","details":[{deep}]}}"#);
        }
        assert_eq!(codes(&deep).unwrap().len(), DEEPEST);
        let wide = vec![r#"{"code":"B"}"#; 500].join(",");
        assert_eq!(codes(&format!(r#"{{"code":"A","details":[{wide}]}}"#)).unwrap().len(), MOST);
    }
}
