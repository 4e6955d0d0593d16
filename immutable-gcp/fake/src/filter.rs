//! The `filter` of a list: the part of its language that clients of ours use.
//!
//! `field eq regex` and `field ne regex` (the whole value must match), or `field = value`, `field != value` and
//! `field:*` (there is one). Several stand in parentheses, next to each other or with `AND`. As the real service, it
//! refuses the two kinds together, and regular expressions on more than one field.

use regex_lite::Regex;
use serde_json::Value;

/// A filter that is understood.
#[derive(Debug)]
pub(crate) struct Filter(Vec<Term>);

#[derive(Debug)]
struct Term {
    field: Vec<String>,
    test: Test,
}

#[derive(Debug)]
enum Test {
    Matches(Regex),
    Differs(Regex),
    Is(String),
    IsNot(String),
    Exists,
}

impl Filter {
    /// # Errors
    /// What is not understood.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut rest = text.trim();
        let mut terms = Vec::new();
        while !rest.is_empty() {
            let bracketed = rest.strip_prefix('(');
            let (term, after) = term(bracketed.unwrap_or(rest).trim_start())?;
            rest = after.trim_start();
            if bracketed.is_some() {
                rest = rest.strip_prefix(')').ok_or_else(|| format!("no ')' before '{rest}'"))?.trim_start();
            }
            terms.push(term);
            if let Some(after) = rest.strip_prefix("AND ") {
                rest = after.trim_start();
            } else if !rest.is_empty() && !rest.starts_with('(') {
                return Err(format!("'{rest}' is not understood"));
            }
        }
        let regular = terms.iter().filter(|term| matches!(term.test, Test::Matches(_) | Test::Differs(_))).count();
        if regular > 0 && regular < terms.len() {
            return Err("eq and ne cannot be mixed with other operators".to_owned());
        }
        if regular > 0 && terms.iter().any(|term| term.field != terms[0].field) {
            return Err("regular expressions on several fields cannot be combined".to_owned());
        }
        Ok(Self(terms))
    }

    pub(crate) fn takes(&self, resource: &Value) -> bool {
        self.0.iter().all(|term| term.takes(resource))
    }
}

impl Term {
    fn takes(&self, resource: &Value) -> bool {
        let value = self.field.iter().try_fold(resource, |value, name| value.get(name));
        let text = match value {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) => Some(text.clone()),
            Some(other) => Some(other.to_string()),
        };
        match &self.test {
            Test::Matches(pattern) => text.is_some_and(|text| pattern.is_match(&text)),
            Test::Differs(pattern) => !text.is_some_and(|text| pattern.is_match(&text)),
            Test::Is(wanted) => text.as_ref() == Some(wanted),
            Test::IsNot(unwanted) => text.as_ref() != Some(unwanted),
            Test::Exists => text.is_some(),
        }
    }
}

/// One expression, and what stands behind it.
fn term(text: &str) -> Result<(Term, &str), String> {
    let end = text.find(|c: char| c.is_whitespace() || "=!:<>()".contains(c)).ok_or("no operator")?;
    let field: Vec<String> = text[..end].split('.').map(str::to_owned).collect();
    if field.iter().any(String::is_empty) {
        return Err(format!("no field before '{text}'"));
    }
    let rest = text[end..].trim_start();
    let operator = ["eq ", "ne ", "!=", "=", ":"].into_iter().find(|operator| rest.starts_with(operator));
    let operator = operator.ok_or_else(|| format!("no operator that is understood before '{rest}'"))?;
    let (value, after) = literal(rest[operator.len()..].trim_start())?;
    let regex = || Regex::new(&format!("^(?:{value})$")).map_err(|error| format!("'{value}' is no pattern: {error}"));
    let comparison = match operator {
        "eq " => Test::Matches(regex()?),
        "ne " => Test::Differs(regex()?),
        "=" => Test::Is(value.to_owned()),
        "!=" => Test::IsNot(value.to_owned()),
        _ if value == "*" => Test::Exists,
        _ => return Err(format!("':{value}' is not understood, only ':*'")),
    };
    Ok((Term { field, test: comparison }, after))
}

/// A value in quotes or without, and what stands behind it.
fn literal(text: &str) -> Result<(&str, &str), String> {
    for quote in ['"', '\''] {
        if let Some(quoted) = text.strip_prefix(quote) {
            return quoted.split_once(quote).ok_or_else(|| format!("no end of {text}"));
        }
    }
    // A regular expression may have parentheses of its own.
    let mut depth = 0_usize;
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' if depth == 0 => return Ok((&text[..at], &text[at..])),
            ')' => depth -= 1,
            c if c.is_whitespace() => return Ok((&text[..at], &text[at..])),
            _ => {}
        }
    }
    if text.is_empty() { Err("no value".to_owned()) } else { Ok((text, "")) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_clients_of_ours_ask_for_is_understood() {
        let resource = json!({
            "name": "im-web-1", "labels": { "immutable-service": "web" }, "targetLink": "https://host/a/b", "progress": 100,
        });
        for (filter, takes) in [
            ("", true),
            ("name eq im-web-.*", true),
            ("name eq im-web", false),
            ("name eq 'im-(web|api)-1'", true),
            ("name eq im-(web|api)-1", true),
            ("name ne im-web-.*", false),
            ("(name eq im-.*) (name ne .*-2)", true),
            ("labels.immutable-service=web", true),
            ("labels.immutable-service = \"api\"", false),
            ("labels.immutable-service:*", true),
            ("labels.other:*", false),
            ("labels.other != web", true),
            ("(targetLink = \"https://host/a/b\") (progress = 100)", true),
            ("(targetLink = https://host/a/b) AND (progress != 100)", false),
            ("targetLink = https://host/a/b AND progress = 100", true),
            ("targetLink eq \"https://host/a/b\"", true),
        ] {
            assert_eq!(Filter::parse(filter).unwrap().takes(&resource), takes, "{filter}");
        }
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for filter in [
            "name",
            "name eq ",
            "name < im",
            "name eq [",
            "name:web",
            "(name eq a",
            "name eq a OR name eq b",
            "(name eq a) (labels.b = c)",
            "(name eq a) (labels.b eq c)",
        ] {
            assert!(Filter::parse(filter).is_err(), "{filter}");
        }
    }
}
