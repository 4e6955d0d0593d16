//! One request, after the Discovery document said which method it is.

use std::collections::BTreeMap;

use serde_json::Value;

/// A request that the Discovery document allows.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    /// The method's id, such as `compute.regionInstanceGroupManagers.resize`.
    pub(crate) method: String,
    /// The parameters in the path.
    pub(crate) params: BTreeMap<String, String>,
    /// The parameters in the query, in their order: some may be repeated.
    pub(crate) queries: Vec<(String, String)>,
    /// The body; `null` where the method has none.
    pub(crate) body: Value,
}

impl Call {
    /// A parameter of the path.
    pub(crate) fn param(&self, name: &str) -> &str {
        self.params.get(name).expect("invariant: handlers ask for parameters that the method's path has")
    }

    /// A parameter of the query.
    pub(crate) fn query(&self, name: &str) -> Option<&str> {
        self.queries.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The resource and the verb of the method: `("regionInstanceGroupManagers", "resize")`.
    pub(crate) fn name(&self) -> (&str, &str) {
        let mut parts = self.method.rsplitn(3, '.');
        let verb = parts.next().unwrap_or_default();
        (parts.next().unwrap_or_default(), verb)
    }

    /// Where the resource is: `projects/p/zones/z`, `projects/p/regions/r` or `projects/p/global`.
    pub(crate) fn scope(&self) -> String {
        let project = self.param("project");
        match (self.params.get("zone"), self.params.get("region")) {
            (Some(zone), _) => format!("projects/{project}/zones/{zone}"),
            (None, Some(region)) => format!("projects/{project}/regions/{region}"),
            (None, None) => format!("projects/{project}/global"),
        }
    }

    /// The path of a resource in the scope of this call, named by a parameter of the path.
    pub(crate) fn target(&self, collection: &str, param: &str) -> String {
        format!("{}/{collection}/{}", self.scope(), self.param(param))
    }

    /// The path of the resource that this call inserts: its name is in the body.
    pub(crate) fn inserted(&self, collection: &str) -> String {
        let name = self.body["name"].as_str().unwrap_or_default();
        format!("{}/{collection}/{name}", self.scope())
    }

    /// Whether the other is the same request, for a request id that is given twice.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.method == other.method && self.params == other.params && self.body == other.body
    }
}
