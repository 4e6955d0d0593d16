//! Events as the body of a journal's entry, and back. What any version ever wrote is read for ever.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::event::Event;
use crate::journal::{Entry, JournalError};
use crate::model::ServiceName;

/// The version that is written. A later one is written only when an older program must not guess what it means.
const VERSION: u64 = 1;

#[derive(Serialize)]
struct Body<'a> {
    version: u64,
    events: &'a [Event],
}

#[derive(Deserialize)]
struct Versioned {
    version: u64,
    #[serde(default)]
    events: Value,
}

/// The body of the entry in which these events happen.
pub(super) fn body(events: &[Event]) -> Value {
    serde_json::to_value(Body { version: VERSION, events }).expect("invariant: events are plain data")
}

/// The events of an entry.
pub(super) fn events(service: &ServiceName, entry: Entry) -> Result<Vec<Event>, JournalError> {
    let seq = entry.seq;
    let corrupt = |error: serde_json::Error| corrupt(service, seq, error.to_string());
    let Versioned { version, events } = serde_json::from_value(entry.body).map_err(corrupt)?;
    if version > VERSION {
        return Err(JournalError::UnknownVersion { service: service.clone(), found: version, newest: VERSION });
    }
    serde_json::from_value(events).map_err(corrupt)
}

/// An entry that is whole and makes no sense.
pub(super) fn corrupt(service: &ServiceName, seq: u64, problem: String) -> JournalError {
    let location = format!("journal of {service}, entry {seq}");
    JournalError::Corrupt { service: service.clone(), location, offset: 0, problem }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{History, Machine, Outcome};
    use crate::journal::Nonce;
    use jiff::Timestamp;
    use serde_json::json;

    fn entry(seq: u64, body: Value) -> Entry {
        Entry { seq, epoch: 1, nonce: Nonce::new(seq), at: Timestamp::UNIX_EPOCH, body }
    }

    fn fixture(text: &'static str) -> (Vec<&'static str>, Vec<Entry>) {
        let lines: Vec<&str> = text.lines().collect();
        let entries =
            lines.iter().zip(1..).map(|(line, seq)| entry(seq, serde_json::from_str(line).unwrap())).collect();
        (lines, entries)
    }

    fn assert_still_written_so(entries: &[Entry]) {
        let service: ServiceName = "web".parse().unwrap();
        for entry in entries {
            assert_eq!(body(&events(&service, entry.clone()).unwrap()), entry.body, "entry {}", entry.seq);
        }
    }

    /// Written by version 1 and never changed: every later program must read it, and make the same of it.
    #[test]
    fn entries_of_the_first_version_are_read_for_ever() {
        let service: ServiceName = "web".parse().unwrap();
        let (lines, entries) = fixture(include_str!("fixtures/v1.jsonl"));
        let kinds = [
            "started",
            "stage_entered",
            "progressed",
            "looked_again",
            "taken_over",
            "intended",
            "resized",
            "goal_reached",
            "goal_lost",
            "paused",
            "resumed",
            "frozen",
            "thawed",
            "approved",
            "promotion_asked",
            "held",
            "went_on",
            "turned_back",
            "ended",
        ];
        for kind in kinds {
            assert!(lines.iter().any(|line| line.contains(&format!("\"event\":\"{kind}\""))), "no event {kind}");
        }
        assert_still_written_so(&entries);
        let history = History::read(&service, entries).unwrap();
        let machine = Machine::replay(history.last_rollout().to_vec()).unwrap();
        assert_eq!((history.proven().len(), history.failed().len()), (1, 1));
        assert!(matches!(machine.outcome(), Some(Outcome::RolledBack { .. })), "{:?}", machine.outcome());
    }

    /// The same for rollouts that were judged: by comparison and by a bound, and by a threshold.
    #[test]
    fn evidence_of_the_first_version_is_read_for_ever() {
        let service: ServiceName = "web".parse().unwrap();
        let (lines, entries) = fixture(include_str!("fixtures/v1_judged.jsonl"));
        for form in
            ["\"event\":\"judged\"", "\"why\":\"not_judged\"", "\"at_most\":", "\"hard_stop\":", "\"threshold\":{"]
        {
            assert!(lines.iter().any(|line| line.contains(form)), "no {form}");
        }
        assert_still_written_so(&entries);
        let history = History::read(&service, entries).unwrap();
        let machine = Machine::replay(history.last_rollout().to_vec()).unwrap();
        assert!(matches!(machine.outcome(), Some(Outcome::Promoted)), "{:?}", machine.outcome());
        assert!(machine.evidence().next() > 0);
    }

    #[test]
    fn what_a_newer_program_wrote_is_refused_and_never_guessed() {
        let service: ServiceName = "web".parse().unwrap();
        let newer = entry(7, json!({ "version": 2, "happenings": [] }));
        let error = events(&service, newer).unwrap_err();
        assert!(matches!(error, JournalError::UnknownVersion { found: 2, newest: 1, .. }), "{error}");
        for body in [
            json!([]),
            json!({ "events": [] }),
            json!({ "version": 1 }),
            json!({ "version": 1, "events": [{ "event": "sung" }] }),
        ] {
            let error = events(&service, entry(7, body)).unwrap_err().to_string();
            assert!(error.contains("journal of web, entry 7"), "{error}");
        }
    }
}
