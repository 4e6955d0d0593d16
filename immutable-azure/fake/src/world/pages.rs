//! Lists, in pages.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::World;
use crate::answer::Answer;
use crate::call::Call;

impl World {
    /// One page of a list. `rows`: all of it, by what it is sorted by.
    pub(crate) fn page(&self, call: &Call, mut rows: BTreeMap<String, Value>) -> Answer {
        if let Some(last) = call.query("$skiptoken") {
            rows = rows.split_off(last);
        }
        let mut value = Vec::new();
        let mut next = None;
        for (key, row) in rows {
            if value.len() == self.options.page.max(1) {
                next = Some(key);
                break;
            }
            value.push(row);
        }
        let mut page = json!({ "value": value });
        if let Some(next) = next {
            let mut query = form_urlencoded::Serializer::new(String::new());
            query.extend_pairs(call.queries.iter().filter(|(name, _)| !name.eq_ignore_ascii_case("$skiptoken")));
            query.append_pair("$skiptoken", &next);
            page["nextLink"] = format!("{}{}?{}", call.base, call.id(), query.finish()).into();
        }
        Answer::ok(page)
    }
}
