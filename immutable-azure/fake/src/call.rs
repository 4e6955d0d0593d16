//! One request, after its path said what it is about.

use serde_json::Value;

use crate::route::Route;

/// A request of which the path, the `api-version` and the body can be read.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    /// What is counted and what faults are for: `PUT Microsoft.Compute/virtualMachineScaleSets`, or `LIST …`, or
    /// `POST Microsoft.Compute/virtualMachineScaleSets/delete`.
    pub(crate) operation: String,
    pub(crate) verb: String,
    pub(crate) route: Route,
    pub(crate) queries: Vec<(String, String)>,
    pub(crate) if_match: Option<String>,
    pub(crate) if_none_match: Option<String>,
    /// The body; `null` where there is none.
    pub(crate) body: Value,
    /// What the client calls this server: `http://127.0.0.1:8080`. Links begin with it.
    pub(crate) base: String,
}

impl Call {
    /// The id of the resource, or of the folder that is listed.
    pub(crate) fn id(&self) -> &str {
        &self.route.id
    }

    /// The type of the resource.
    pub(crate) fn kind(&self) -> &'static str {
        self.route.kind
    }

    /// A parameter of the query.
    pub(crate) fn query(&self, name: &str) -> Option<&str> {
        self.queries.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// A parameter of the query that every call that gets here has.
    pub(crate) fn api_version(&self) -> &str {
        self.query("api-version").unwrap_or_default()
    }
}
