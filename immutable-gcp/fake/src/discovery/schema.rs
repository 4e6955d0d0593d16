//! Whether requests and answers are as the document says.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use jiff::Timestamp;
use serde_json::Value;

use super::{Document, Method};
use crate::call::Call;

/// Parameters that every API takes and no document lists (<https://cloud.google.com/apis/docs/system-parameters>).
const SYSTEM_PARAMETERS: [&str; 2] = ["$alt", "$apiVersion"];

/// Who wrote what is looked at.
#[derive(Debug, Clone, Copy)]
enum Side<'a> {
    /// A caller of this method.
    Request(&'a str),
    /// The fake.
    Answer,
}

/// Looks at values, and notes what is wrong with them.
struct Check<'a> {
    document: &'a Document,
    side: Side<'a>,
    wrong: Vec<String>,
}

impl Document {
    /// What is wrong with a request. `has_body`: whether it has one at all.
    pub(crate) fn check_request(&self, method: &Method, call: &Call, has_body: bool) -> Vec<String> {
        let mut check = Check { document: self, side: Side::Request(&method.id), wrong: Vec::new() };
        check.parameters(method, call);
        match (&method.request, has_body) {
            (Some(schema), true) => check.named(schema, &call.body, ""),
            (Some(_), false) => check.note("", "the body is missing"),
            // The vendor's clients send an empty object with every POST.
            (None, true) if call.body.as_object().is_none_or(|body| !body.is_empty()) => {
                check.note("", "has a body, where the method takes none");
            }
            (None, _) => {}
        }
        check.wrong
    }

    /// What is wrong with an answer.
    pub(crate) fn check_answer(&self, method: &Method, answer: &Value) -> Vec<String> {
        match &method.response {
            Some(schema) => self.check_resource(schema, answer),
            None if answer.is_null() => Vec::new(),
            None => vec!["has a body, where the method answers none".to_owned()],
        }
    }

    /// What is wrong with a resource that is to be answered.
    pub(crate) fn check_resource(&self, schema: &str, resource: &Value) -> Vec<String> {
        let mut check = Check { document: self, side: Side::Answer, wrong: Vec::new() };
        check.named(schema, resource, "");
        check.wrong
    }
}

impl Check<'_> {
    fn note(&mut self, at: &str, what: &str) {
        let at = if at.is_empty() { String::new() } else { format!("{}: ", at.trim_start_matches('.')) };
        self.wrong.push(format!("{at}{what}"));
    }

    fn parameters(&mut self, method: &Method, call: &Call) {
        for (name, schema) in &method.parameters {
            let given = call.params.contains_key(name) || call.query(name).is_some();
            if schema["required"] == true && !given {
                self.note(name, "the parameter is missing");
            }
            if schema["repeated"] != true && call.queries.iter().filter(|(key, _)| key == name).count() > 1 {
                self.note(name, "the parameter is given twice");
            }
        }
        for (name, value) in call.params.iter().chain(call.queries.iter().map(|(name, value)| (name, value))) {
            match method.parameters.get(name) {
                Some(schema) => self.parameter(schema, value, name),
                None if SYSTEM_PARAMETERS.contains(&name.as_str()) => {}
                None => self.note(name, "unknown parameter"),
            }
        }
    }

    /// A parameter is text, whatever its type.
    fn parameter(&mut self, schema: &Value, text: &str, name: &str) {
        let value = match schema["type"].as_str() {
            Some("integer" | "number" | "boolean") => serde_json::from_str(text).unwrap_or_else(|_| text.into()),
            _ => Value::from(text),
        };
        self.value(schema, &value, name);
    }

    fn named(&mut self, schema: &str, value: &Value, at: &str) {
        let document = self.document;
        match document.schemas.get(schema) {
            Some(schema) => self.value(schema, value, at),
            None => self.note(at, &format!("the document has no type {schema}")),
        }
    }

    fn value(&mut self, schema: &Value, value: &Value, at: &str) {
        if let Some(name) = schema["$ref"].as_str() {
            return self.named(name, value, at);
        }
        // In a patch, `null` takes a field away.
        if value.is_null() && matches!(self.side, Side::Request(_)) {
            return;
        }
        let kind = schema["type"].as_str().unwrap_or_default();
        match (kind, value) {
            ("object", Value::Object(fields)) => self.object(schema, fields, at),
            ("array", Value::Array(items)) => {
                for (index, item) in items.iter().enumerate() {
                    self.value(&schema["items"], item, &format!("{at}[{index}]"));
                }
            }
            ("string", Value::String(text)) => self.text(schema, text, at),
            ("integer", Value::Number(number)) => {
                let fits = number.as_i64().is_some_and(|number| match schema["format"].as_str() {
                    Some("uint32") => u32::try_from(number).is_ok(),
                    _ => i32::try_from(number).is_ok(),
                });
                if !fits {
                    self.note(at, &format!("{number} is no {}", schema["format"].as_str().unwrap_or("integer")));
                }
            }
            ("any", _) | ("boolean", Value::Bool(_)) | ("number", Value::Number(_)) => {}
            ("number", Value::String(text)) if ["NaN", "Infinity", "-Infinity"].contains(&text.as_str()) => {}
            (kind, value) => self.note(at, &format!("should be of the type {kind}, but is {}", shown(value))),
        }
    }

    fn object(&mut self, schema: &Value, fields: &serde_json::Map<String, Value>, at: &str) {
        for (name, value) in fields {
            let at = format!("{at}.{name}");
            match (schema["properties"].get(name), schema.get("additionalProperties")) {
                (Some(schema), _) | (None, Some(schema)) => self.value(schema, value, &at),
                (None, None) => self.note(&at, "unknown field"),
            }
        }
        let Side::Request(method) = self.side else { return };
        for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
            let required =
                schema["annotations"]["required"].as_array().is_some_and(|by| by.iter().any(|by| by == method));
            if required && fields.get(name).is_none_or(Value::is_null) {
                self.note(&format!("{at}.{name}"), "the field is missing");
            }
        }
    }

    fn text(&mut self, schema: &Value, text: &str, at: &str) {
        if let Some(values) = schema["enum"].as_array() {
            if !values.iter().any(|value| value == text) && !self.is_enum_number(text) {
                self.note(at, &format!("'{text}' is no value of the enum"));
            }
            return;
        }
        let fits = match schema["format"].as_str() {
            Some("int64") => text.parse::<i64>().is_ok(),
            Some("uint64") => text.parse::<u64>().is_ok(),
            Some("byte") => STANDARD.decode(text).is_ok() || URL_SAFE.decode(text).is_ok(),
            Some("google-datetime") => text.parse::<Timestamp>().is_ok(),
            Some("google-duration") => text.strip_suffix('s').is_some_and(|text| text.parse::<f64>().is_ok()),
            _ => true,
        };
        if !fits {
            self.note(at, &format!("'{text}' is no {}", schema["format"].as_str().unwrap_or_default()));
        }
        if let Some(pattern) = schema["pattern"].as_str().filter(|pattern| !self.document.is_like(pattern, text)) {
            self.note(at, &format!("'{text}' is not like {pattern}"));
        }
    }

    /// Google's newer APIs take the number of an enum's value as well, which the document does not list.
    /// Compute Engine's enums have no numbers that a client could know.
    fn is_enum_number(&self, text: &str) -> bool {
        self.document.name != "compute" && matches!(self.side, Side::Request(_)) && text.parse::<u16>().is_ok()
    }
}

/// The beginning of a value, for a message.
fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
