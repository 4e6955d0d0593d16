//! What a route on a gateway is, and where it leads.

use immutable_core::model::{Fingerprint, RouteId};
use immutable_core::provider::{ErrorKind, ProviderError};
use serde_json::{Value, json};

use super::document::{self, Document, named, same};

/// A route: a part of a gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::traffic_switch) struct Route {
    pub(super) id: RouteId,
    /// The id of the gateway.
    pub(super) gateway: String,
    pub(super) part: Part,
}

/// Which part of a gateway a route is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    Pool(String),
    Rule(String),
    /// The default of a map of paths.
    Map(String),
    PathRule {
        map: String,
        rule: String,
    },
}

/// The id of the gateway that this is the id of, or of a part of; and the part, `<list>/<name>` and perhaps more of the kind.
pub(crate) fn gateway_of(id: &str) -> Option<(String, Vec<&str>)> {
    let parts: Vec<&str> = id.split('/').collect();
    let ["", subscriptions, _, groups, _, providers, service, kind, _, rest @ ..] = parts.as_slice() else {
        return None;
    };
    let fixed = [
        (subscriptions, "subscriptions"),
        (groups, "resourceGroups"),
        (providers, "providers"),
        (service, "Microsoft.Network"),
        (kind, "applicationGateways"),
    ];
    let is_one = fixed.iter().all(|(one, other)| one.eq_ignore_ascii_case(other)) && !parts[1..].contains(&"");
    is_one.then(|| (parts[..9].join("/"), rest.to_vec()))
}

impl Route {
    /// What an id names, if it is a route on a gateway.
    pub(in crate::traffic_switch) fn parse(id: &RouteId) -> Option<Self> {
        let (gateway, rest) = gateway_of(id.as_str())?;
        let list = rest.first()?.to_ascii_lowercase();
        let part = match (list.as_str(), &rest[1..]) {
            ("backendaddresspools", [pool]) => Part::Pool((*pool).to_owned()),
            ("requestroutingrules", [rule]) => Part::Rule((*rule).to_owned()),
            ("urlpathmaps", [map]) => Part::Map((*map).to_owned()),
            ("urlpathmaps", [map, rules, rule]) if rules.eq_ignore_ascii_case("pathRules") => {
                Part::PathRule { map: (*map).to_owned(), rule: (*rule).to_owned() }
            }
            _ => return None,
        };
        Some(Self { id: id.clone(), gateway, part })
    }

    /// What tells this route from the others of its gateway in names of ours: eight digits. Ids mean the same in letters of either size.
    pub(super) fn short(&self) -> String {
        let mut short = Fingerprint::of(self.id.as_str().to_ascii_lowercase()).short();
        short.truncate(8);
        short
    }

    /// The part of the gateway that says where the route leads: its properties.
    fn leader<'a>(&self, document: &'a Document) -> Option<&'a Value> {
        let part = match &self.part {
            Part::Pool(name) => document.part("backendAddressPools", name),
            Part::Rule(name) => document.part("requestRoutingRules", name),
            Part::Map(name) => document.part("urlPathMaps", name),
            Part::PathRule { map, rule } => {
                let rules = document.part("urlPathMaps", map)?["properties"]["pathRules"].as_array()?;
                rules.iter().find(|one| named(one, rule))
            }
        };
        part.map(|part| &part["properties"])
    }

    fn leader_mut<'a>(&self, document: &'a mut Document) -> Option<&'a mut Value> {
        let part = match &self.part {
            Part::Pool(name) => document.part_mut("backendAddressPools", name),
            Part::Rule(name) => document.part_mut("requestRoutingRules", name),
            Part::Map(name) => document.part_mut("urlPathMaps", name),
            Part::PathRule { map, rule } => {
                let rules =
                    document.part_mut("urlPathMaps", map)?.pointer_mut("/properties/pathRules")?.as_array_mut()?;
                rules.iter_mut().find(|one| named(one, rule))
            }
        };
        part?.get_mut("properties")
    }

    /// The fields that say which pool and which settings.
    fn fields(&self) -> (&'static str, &'static str) {
        match self.part {
            Part::Map(_) => ("defaultBackendAddressPool", "defaultBackendHttpSettings"),
            Part::Pool(_) | Part::Rule(_) | Part::PathRule { .. } => ("backendAddressPool", "backendHttpSettings"),
        }
    }

    /// The name of the pool that requests on this route go to: itself, or where the rule leads.
    ///
    /// # Errors
    /// `NotFound` when there is no such route; `InvalidRequest` for a rule that leads to no pool.
    pub(super) fn pool(&self, operation: &'static str, document: &Document) -> Result<String, ProviderError> {
        let refuse = |kind, problem| Err(ProviderError::new(kind, operation, problem).without_effect());
        let Some(leader) = self.leader(document) else {
            return refuse(ErrorKind::NotFound, format!("there is no {}", self.id));
        };
        if let Part::Pool(name) = &self.part {
            return Ok(name.clone());
        }
        let pool = leader[self.fields().0]["id"].as_str().map(document::name);
        match pool.filter(|pool| document.pool(pool).is_some()) {
            Some(pool) => Ok(pool.to_owned()),
            None => refuse(
                ErrorKind::InvalidRequest,
                format!(
                    "{} leads to no backend pool: take a rule that leads to one, and not elsewhere or by paths",
                    self.id
                ),
            ),
        }
    }

    /// Lets a rule lead to another pool of the gateway.
    pub(super) fn lead_to(&self, document: &mut Document, pool: &str) {
        let (gateway, (field, _)) = (document.id().to_owned(), self.fields());
        if let Some(leader) = self.leader_mut(document) {
            leader[field] = json!({ "id": format!("{gateway}/backendAddressPools/{pool}") });
        }
    }

    /// The settings by which requests on this route are sent: those of the rule, or of all rules that lead to the pool.
    pub(super) fn settings<'a>(&self, document: &'a Document) -> Vec<&'a Value> {
        let ids: Vec<&str> = match &self.part {
            Part::Pool(name) => {
                let uses = document.uses().into_iter().filter(|(pool, _)| same(document::name(pool), name));
                uses.map(|(_, settings)| settings).collect()
            }
            _ => self.leader(document).and_then(|leader| leader[self.fields().1]["id"].as_str()).into_iter().collect(),
        };
        let settings = ids.into_iter().map(|id| document.part("backendHttpSettingsCollection", document::name(id)));
        settings.flatten().collect()
    }

    /// All that somebody else can change about the route, as a text that is the same whenever that is: in small letters, as the platform may change their size.
    pub(super) fn text(&self, document: &Document) -> String {
        let Some(leader) = self.leader(document) else { return String::new() };
        if let Part::Pool(_) = self.part {
            let targets = leader["backendAddresses"].as_array().into_iter().flatten();
            let mut targets: Vec<String> = targets.map(|target| target.to_string().to_ascii_lowercase()).collect();
            targets.sort();
            return targets.join("\n");
        }
        let mut fields = leader.as_object().cloned().unwrap_or_default();
        // What Azure says of it, and what are routes of their own.
        fields.retain(|field, value| field != "provisioningState" && field != "pathRules" && !value.is_null());
        Value::Object(fields).to_string().to_ascii_lowercase()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GATEWAY: &str = "/subscriptions/01234567-89ab-cdef-0123-456789abcdef/resourceGroups/g/providers/Microsoft.Network/applicationGateways/web";

    fn parsed(rest: &str) -> Option<Part> {
        let route = Route::parse(&format!("{GATEWAY}{rest}").parse().unwrap())?;
        assert_eq!(route.gateway, GATEWAY);
        Some(route.part)
    }

    #[test]
    fn an_id_names_a_part_of_a_gateway() {
        assert_eq!(parsed("/backendAddressPools/a"), Some(Part::Pool("a".into())));
        assert_eq!(parsed("/BACKENDADDRESSPOOLS/a"), Some(Part::Pool("a".into())));
        assert_eq!(parsed("/requestRoutingRules/a"), Some(Part::Rule("a".into())));
        assert_eq!(parsed("/urlPathMaps/a"), Some(Part::Map("a".into())));
        let rule = Part::PathRule { map: "a".into(), rule: "b".into() };
        assert_eq!(parsed("/urlPathMaps/a/pathRules/b"), Some(rule));
        for wrong in
            ["", "/", "/probes/a", "/backendAddressPools", "/backendAddressPools/", "/urlPathMaps/a/b/c", "/a/b/c/d"]
        {
            assert_eq!(parsed(wrong), None, "{wrong}");
        }
        for wrong in [
            "web",
            "/subscriptions/s/resourceGroups/g/providers/Microsoft.Network/loadBalancers/web/backendAddressPools/a",
        ] {
            assert_eq!(Route::parse(&wrong.parse().unwrap()), None, "{wrong}");
        }
    }

    #[test]
    fn a_route_is_the_same_in_letters_of_either_size() {
        let route = |id: String| Route::parse(&id.parse().unwrap()).unwrap().short();
        let id = format!("{GATEWAY}/backendAddressPools/a");
        assert_eq!(route(id.clone()), route(id.to_uppercase()));
        assert_ne!(route(id.clone()), route(format!("{id}b")));
        assert_eq!(route(id).len(), 8);
    }
}
