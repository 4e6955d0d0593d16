//! Filters of questions about metrics, read strictly.

use std::collections::BTreeMap;

use super::bad;
use crate::failure::Failure;

/// A filter: `A eq 'a' or A eq 'b' and B eq '*'`. `or` joins values of one dimension, `and` joins dimensions, and there is nothing else.
pub(super) fn read(text: &str) -> Result<BTreeMap<String, Vec<String>>, Failure> {
    let wrong = || bad(format!("Invalid filter: {text}"));
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let (mut rest, mut last, mut is_or) = (text, None, false);
    loop {
        let (name, after) = rest.split_once(" eq '").ok_or_else(wrong)?;
        let (value, after) = quoted(after).ok_or_else(wrong)?;
        let name = name.to_ascii_lowercase();
        let is_name = !name.is_empty() && !name.contains([' ', '\'', '(', ')']);
        // `or` cannot separate two dimensions, and `and` cannot join two conditions on one.
        let is_known = found.contains_key(&name);
        if !is_name || is_or != is_known || (is_or && last.as_deref() != Some(name.as_str())) {
            return Err(wrong());
        }
        found.entry(name.clone()).or_default().push(value);
        last = Some(name);
        match after {
            "" => return Ok(found),
            after => {
                let (next, or) = match after.strip_prefix(" or ") {
                    Some(next) => (next, true),
                    None => (after.strip_prefix(" and ").ok_or_else(wrong)?, false),
                };
                (rest, is_or) = (next, or);
            }
        }
    }
}

/// A text up to its quotation mark, of which two are one in the text, and what is behind it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let (mut value, mut rest) = (String::new(), text);
    loop {
        let (before, after) = rest.split_once('\'')?;
        value.push_str(before);
        match after.strip_prefix('\'') {
            Some(next) => {
                value.push('\'');
                rest = next;
            }
            None => return Some((value, after)),
        }
    }
}
