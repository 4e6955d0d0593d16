//! A query with places that are filled in, which nothing that is filled in can turn into another query.

use immutable_core::model::FleetId;

/// A query, cut at its placeholders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Template(Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Filled(Placeholder, Place),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Placeholder {
    Fleet,
    Release,
    Service,
    Window,
}

impl Placeholder {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "fleet" => Self::Fleet,
            "release" => Self::Release,
            "service" => Self::Service,
            "window" => Self::Window,
            _ => return None,
        })
    }
}

/// Where a part of a query stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Code,
    /// After a `#`, until the line ends.
    Comment,
    /// In a text between two of these quotes; `is_pattern` where it is matched as a regular expression.
    Quoted {
        quote: char,
        is_pattern: bool,
    },
}

impl Template {
    /// Cuts a query at its placeholders.
    ///
    /// # Errors
    /// What is wrong with it, in words that follow its name.
    pub(crate) fn parse(query: &str) -> Result<Self, String> {
        let mut scan = Scan { place: Place::Code, before: String::new(), pieces: Vec::new() };
        let mut rest = query;
        while let Some(next) = rest.chars().next() {
            if let Some(inner) = rest.strip_prefix("{{") {
                let (name, after) = inner.split_once("}}").ok_or("has a \"{{\" without a \"}}\" after it")?;
                scan.placeholder(name.trim())?;
                rest = after;
                continue;
            }
            // What follows a backslash ends no text, whatever it is.
            let is_escape = next == '\\' && matches!(scan.place, Place::Quoted { quote, .. } if quote != '`');
            let taken: String = rest.chars().take(if is_escape { 2 } else { 1 }).collect();
            if !is_escape {
                scan.step(next);
            }
            scan.text(&taken);
            rest = &rest[taken.len()..];
        }
        if matches!(scan.place, Place::Quoted { .. }) {
            return Err("has a quote that is not closed".to_owned());
        }
        Ok(Self(scan.pieces))
    }

    pub(crate) fn uses(&self, wanted: Placeholder) -> bool {
        self.0.iter().any(|piece| matches!(piece, Piece::Filled(placeholder, _) if *placeholder == wanted))
    }

    /// The query for a fleet, with a window of so many seconds.
    ///
    /// # Errors
    /// What is wrong with the fleet, where its name is not made of a service and a release, and either is asked for.
    pub(crate) fn fill(&self, fleet: &FleetId, window: i64) -> Result<String, String> {
        let parts = fleet.as_str().rsplit_once('-');
        let window = format!("{window}s");
        let mut query = String::new();
        for piece in &self.0 {
            let (placeholder, place) = match piece {
                Piece::Text(text) => {
                    query.push_str(text);
                    continue;
                }
                Piece::Filled(placeholder, place) => (placeholder, place),
            };
            let value = match placeholder {
                Placeholder::Fleet => Some(fleet.as_str()),
                Placeholder::Service => parts.map(|(service, _)| service),
                Placeholder::Release => parts.map(|(_, release)| release),
                Placeholder::Window => Some(window.as_str()),
            };
            let value =
                value.ok_or_else(|| format!("fleet {fleet} is not named by a service, a hyphen and a release"))?;
            query.push_str(&place.escaped(value));
        }
        Ok(query)
    }
}

/// A query on the way to its end.
struct Scan {
    place: Place,
    /// The last two characters of code that are no space: what comes before a quote.
    before: String,
    pieces: Vec<Piece>,
}

impl Scan {
    fn placeholder(&mut self, name: &str) -> Result<(), String> {
        let Some(placeholder) = Placeholder::named(name) else {
            let name: String = name.chars().take(40).collect();
            return Err(format!(
                "has {{{{{name}}}}}, and there are only {{{{fleet}}}}, {{{{release}}}}, {{{{service}}}} and {{{{window}}}}"
            ));
        };
        let can_be_escaped = matches!(self.place, Place::Quoted { quote, .. } if quote != '`');
        if placeholder != Placeholder::Window && !can_be_escaped {
            return Err(format!(
                "has {{{{{name}}}}} outside of \"\" and '', where it could become a part of the query"
            ));
        }
        self.pieces.push(Piece::Filled(placeholder, self.place));
        Ok(())
    }

    fn text(&mut self, text: &str) {
        match self.pieces.last_mut() {
            Some(Piece::Text(last)) => last.push_str(text),
            _ => self.pieces.push(Piece::Text(text.to_owned())),
        }
    }

    fn step(&mut self, next: char) {
        self.place = match (self.place, next) {
            (Place::Code, '#') => Place::Comment,
            (Place::Code, quote @ ('"' | '\'' | '`')) => {
                Place::Quoted { quote, is_pattern: matches!(self.before.as_str(), "=~" | "!~") }
            }
            (Place::Comment, '\n') => Place::Code,
            (Place::Quoted { quote, .. }, next) if next == quote => Place::Code,
            (place, _) => place,
        };
        if self.place == Place::Code && !next.is_whitespace() {
            let last = self.before.chars().next_back();
            self.before = last.into_iter().chain([next]).collect();
        }
    }
}

impl Place {
    /// A value that is nothing but itself here.
    fn escaped(self, value: &str) -> String {
        let Self::Quoted { quote, is_pattern } = self else { return value.to_owned() };
        let mut escaped = String::with_capacity(value.len());
        for c in value.chars() {
            // <https://pkg.go.dev/regexp#QuoteMeta>: what is special in a pattern is preceded by a backslash.
            let in_pattern = is_pattern && r"\.+*?()|[]{}^$".contains(c);
            for c in in_pattern.then_some('\\').into_iter().chain([c]) {
                // <https://prometheus.io/docs/prometheus/latest/querying/basics/#string-literals>: the rules of Go.
                if c == '\\' || c == quote {
                    escaped.push('\\');
                }
                escaped.push(c);
            }
        }
        escaped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(query: &str, fleet: &str) -> String {
        Template::parse(query).unwrap().fill(&fleet.parse().unwrap(), 10).unwrap()
    }

    #[test]
    fn what_is_named_is_filled_in() {
        let cases = [
            (r#"x{f="{{fleet}}"}[{{window}}]"#, r#"x{f="web-api-1a2b"}[10s]"#),
            (r#"x{s='{{service}}',r="{{ release }}"}"#, r#"x{s='web-api',r="1a2b"}"#),
            (r#"x{f="a{{fleet}}b{{fleet}}"}"#, r#"x{f="aweb-api-1a2bbweb-api-1a2b"}"#),
            ("x{a=`\\`}[{{window}}] # {{window}} isn't\n+ y", "x{a=`\\`}[10s] # 10s isn't\n+ y"),
            (r#"x{a="\"",f="{{fleet}}",b="{"}"#, r#"x{a="\"",f="web-api-1a2b",b="{"}"#),
        ];
        for (query, expected) in cases {
            assert_eq!(fill(query, "web-api-1a2b"), expected);
        }
    }

    #[test]
    fn a_value_is_only_a_value() {
        let evil = r#"a"}or(up)#\'.*-b|c"#;
        let cases = [
            (r#"x{f="{{fleet}}"}"#, r#"x{f="a\"}or(up)#\\'.*-b|c"}"#),
            (r"x{f='{{fleet}}'}", r#"x{f='a"}or(up)#\\\'.*-b|c'}"#),
            (r#"x{f=~"{{fleet}}"}"#, r#"x{f=~"a\"\\}or\\(up\\)#\\\\'\\.\\*-b\\|c"}"#),
            ("x{f !~ # !~\n '{{release}}|z'}", "x{f !~ # !~\n 'b\\\\|c|z'}"),
            (r#"x{g=~"",f="{{release}}"}"#, r#"x{g=~"",f="b|c"}"#),
        ];
        for (query, expected) in cases {
            assert_eq!(fill(query, evil), expected);
        }
    }

    #[test]
    fn a_query_that_cannot_be_filled_in_is_refused() {
        let known = "and there are only {{fleet}}, {{release}}, {{service}} and {{window}}";
        let outside = "outside of \"\" and '', where it could become a part of the query";
        let cases = [
            (r#"x{f="{{flet}}"}"#, format!("has {{{{flet}}}}, {known}")),
            (r#"x{f="{{}}"}"#, format!("has {{{{}}}}, {known}")),
            (r#"x{f="{{Fleet}}"}"#, format!("has {{{{Fleet}}}}, {known}")),
            (r#"x{f="{{fleet}"}"#, "has a \"{{\" without a \"}}\" after it".to_owned()),
            ("x[{{", "has a \"{{\" without a \"}}\" after it".to_owned()),
            ("{{service}}_errors", format!("has {{{{service}}}} {outside}")),
            ("x{f=`{{fleet}}`}", format!("has {{{{fleet}}}} {outside}")),
            ("x # \"{{fleet}}\"", format!("has {{{{fleet}}}} {outside}")),
            (r#"x{f="{{fleet}}\"}"#, "has a quote that is not closed".to_owned()),
        ];
        for (query, expected) in cases {
            assert_eq!(Template::parse(query), Err(expected), "{query}");
        }
    }

    #[test]
    fn a_fleet_of_another_form_has_no_service_and_no_release() {
        let fill = |query: &str| Template::parse(query).unwrap().fill(&"web".parse().unwrap(), 1);
        assert_eq!(fill(r#"x{f="{{fleet}}"}"#), Ok(r#"x{f="web"}"#.to_owned()));
        for name in ["service", "release"] {
            let problem = "fleet web is not named by a service, a hyphen and a release".to_owned();
            assert_eq!(fill(&format!(r#"x{{f="{{{{{name}}}}}"}}"#)), Err(problem));
        }
    }
}
