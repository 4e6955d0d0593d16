//! The methods of a document, and which of them a request calls.

use std::collections::BTreeMap;

use serde_json::Value;

/// One part of a method's path.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Literal(String),
    Param(String),
    /// `{+name}`: as many parts as are left for it.
    Rest(String),
}

/// A method of an API.
#[derive(Debug)]
pub(crate) struct Method {
    /// Such as `compute.urlMaps.patch`.
    pub(crate) id: String,
    verb: String,
    /// The path with one part each, by which requests are told apart.
    flat: Vec<Part>,
    /// The path that names the parameters.
    path: Vec<Part>,
    /// What the document says of each parameter.
    pub(crate) parameters: serde_json::Map<String, Value>,
    /// The type of the body of a request.
    pub(crate) request: Option<String>,
    /// The type of the body of an answer.
    pub(crate) response: Option<String>,
}

/// The methods of a part of a document and of what is in it.
pub(super) fn collect(document: &Value, service: &str, part: &Value, methods: &mut Vec<Method>) {
    let of = |key| part.get(key).and_then(Value::as_object).into_iter().flat_map(|found| found.values());
    methods.extend(of("methods").map(|method| Method::new(document, service, method)));
    for resource in of("resources") {
        collect(document, service, resource, methods);
    }
}

impl Method {
    fn new(document: &Value, service: &str, method: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let parts = |key| parts(&format!("{service}{}", text(&method[key])));
        let mut parameters = method["parameters"].as_object().cloned().unwrap_or_default();
        // What every method of the API takes, such as `fields`.
        parameters.extend(document["parameters"].as_object().cloned().unwrap_or_default());
        Self {
            id: text(&method["id"]),
            verb: text(&method["httpMethod"]),
            flat: parts("flatPath"),
            path: parts("path"),
            parameters,
            request: method["request"]["$ref"].as_str().map(str::to_owned),
            response: method["response"]["$ref"].as_str().map(str::to_owned),
        }
    }

    /// Whether a request of this verb and path calls this method.
    pub(super) fn takes(&self, verb: &str, path: &[String]) -> bool {
        let fits = |(part, given): (&Part, &String)| match part {
            Part::Literal(literal) => literal == given,
            Part::Param(_) | Part::Rest(_) => !given.is_empty(),
        };
        self.verb == verb && self.flat.len() == path.len() && self.flat.iter().zip(path).all(fits)
    }

    /// How many parts of the path are fixed.
    pub(super) fn literals(&self) -> usize {
        self.flat.iter().filter(|part| matches!(part, Part::Literal(_))).count()
    }

    /// The parameters in a path that [`Method::takes`].
    pub(crate) fn params(&self, path: &[String]) -> BTreeMap<String, String> {
        let rest = path.len() + 1 - self.path.len();
        let (mut at, mut params) = (0, BTreeMap::new());
        for part in &self.path {
            let end = at + if matches!(part, Part::Rest(_)) { rest } else { 1 };
            if let Part::Param(name) | Part::Rest(name) = part {
                params.insert(name.clone(), path[at..end].join("/"));
            }
            at = end;
        }
        params
    }
}

fn parts(path: &str) -> Vec<Part> {
    let part = |text: &str| match text.strip_prefix('{').and_then(|text| text.strip_suffix('}')) {
        Some(name) => match name.strip_prefix('+') {
            Some(name) => Part::Rest(name.to_owned()),
            None => Part::Param(name.to_owned()),
        },
        None => Part::Literal(text.to_owned()),
    };
    path.split('/').map(part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rest_takes_what_the_other_parts_leave() {
        let method = Method {
            id: String::new(),
            verb: "GET".to_owned(),
            flat: parts("v3/projects/{projectsId}/timeSeries"),
            path: parts("v3/{+name}/timeSeries"),
            parameters: serde_json::Map::new(),
            request: None,
            response: None,
        };
        let path = ["v3", "projects", "p", "timeSeries"].map(str::to_owned);
        assert!(method.takes("GET", &path));
        assert!(!method.takes("POST", &path));
        assert_eq!(method.params(&path), BTreeMap::from([("name".to_owned(), "projects/p".to_owned())]));
    }
}
