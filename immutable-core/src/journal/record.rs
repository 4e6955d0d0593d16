//! Version 1 of the lines of a journal file: how they are written, and how they are read back without trusting them.
//!
//! A line is `{"v":1,"sum":"<16 hexadecimal digits>",<record>}` and a newline. The sum is the beginning of the SHA-256 of all
//! that follows its comma, up to the newline. Bytes after the last newline are a torn tail: a write that was never answered.

use std::borrow::Cow;
use std::ops::Range;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Entry, JournalError, Nonce};
use crate::model::{Fingerprint, OwnerId, ServiceName};

/// The version that is written, and the newest that is read.
pub(super) const VERSION: u64 = 1;

const HEAD: &str = r#"{"v":1,"sum":""#;
const SUM_DIGITS: usize = 16;
const AFTER_SUM: &str = r#"","#;

/// What one line says. The kinds are tagged from outside, so that no value is buffered on its way and numbers stay exact.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Record<'a> {
    /// An owner has taken the journal over.
    Epoch { service: Cow<'a, ServiceName>, epoch: u64, owner: Cow<'a, OwnerId> },
    /// An entry.
    Entry { seq: u64, epoch: u64, nonce: Nonce, at: Timestamp, body: Cow<'a, Value> },
}

impl Record<'_> {
    /// The record as a whole line, newline included.
    pub(super) fn to_line(&self) -> String {
        let json = serde_json::to_string(self).expect("invariant: names, numbers and JSON always serialise");
        let rest = &json[1..];
        format!("{HEAD}{}{AFTER_SUM}{rest}\n", sum(rest.as_bytes()))
    }
}

/// What a file holds.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Scan {
    pub(super) entries: Vec<Entry>,
    /// The newest epoch; zero before the first.
    pub(super) epoch: u64,
    /// Where the torn tail lies, if there is one.
    pub(super) torn: Option<Range<usize>>,
}

/// Why a file cannot be trusted.
#[derive(Debug, PartialEq)]
pub(super) enum Damage {
    Corrupt { offset: u64, problem: Cow<'static, str> },
    UnknownVersion { found: u64 },
}

impl Damage {
    pub(super) fn into_error(self, service: &ServiceName, location: String) -> JournalError {
        let service = service.clone();
        match self {
            Self::Corrupt { offset, problem } => {
                JournalError::Corrupt { service, location, offset, problem: problem.into() }
            }
            Self::UnknownVersion { found } => JournalError::UnknownVersion { service, found, newest: VERSION },
        }
    }
}

/// Reads a whole file of one service.
pub(super) fn scan(bytes: &[u8], service: &ServiceName) -> Result<Scan, Damage> {
    let mut scan = Scan::default();
    let mut start = 0;
    while let Some(length) = bytes[start..].iter().position(|byte| *byte == b'\n') {
        let line = &bytes[start..start + length];
        let corrupt = |problem| Damage::Corrupt { offset: start as u64, problem };
        let record = read_line(line)
            .map_err(|problem| unknown_version(line).unwrap_or_else(|| corrupt(Cow::Borrowed(problem))))?;
        scan.accept(record, service).map_err(corrupt)?;
        start += length + 1;
    }
    let tail = &bytes[start..];
    if !tail.is_empty() {
        if let Some(damage) = unknown_version(tail) {
            return Err(damage);
        }
        // A torn write is the beginning of a line. A whole line that ends in something else than a newline was answered, and then damaged.
        if read_line(&tail[..tail.len() - 1]).is_ok() {
            return Err(Damage::Corrupt { offset: start as u64, problem: "the newline is damaged".into() });
        }
        scan.torn = Some(start..bytes.len());
    }
    Ok(scan)
}

impl Scan {
    fn accept(&mut self, record: Record<'_>, service: &ServiceName) -> Result<(), Cow<'static, str>> {
        match record {
            Record::Epoch { service: found, .. } if *found != *service => {
                Err(format!("it is the journal of {found}").into())
            }
            Record::Epoch { epoch, .. } if epoch <= self.epoch => Err("the epoch does not rise".into()),
            // The next take-over needs a number above it.
            Record::Epoch { epoch: u64::MAX, .. } => Err("the epoch is the last one".into()),
            Record::Epoch { epoch, .. } => {
                self.epoch = epoch;
                Ok(())
            }
            Record::Entry { epoch, .. } if epoch == 0 || epoch != self.epoch => {
                Err("the entry is of another epoch".into())
            }
            Record::Entry { seq, .. } if seq != self.entries.len() as u64 + 1 => {
                Err(format!("it is entry {seq}, and entry {} was expected", self.entries.len() + 1).into())
            }
            Record::Entry { seq, epoch, nonce, at, body } => {
                self.entries.push(Entry { seq, epoch, nonce, at, body: body.into_owned() });
                Ok(())
            }
        }
    }
}

/// The epoch of whoever takes over after `last`. One that would be refused when it is read back is not written.
pub(super) fn next_epoch(service: &ServiceName, location: &str, last: u64) -> Result<u64, JournalError> {
    last.checked_add(1).filter(|epoch| *epoch != u64::MAX).ok_or_else(|| JournalError::Corrupt {
        service: service.clone(),
        location: location.to_owned(),
        offset: 0,
        problem: format!("there is no epoch left after {last}"),
    })
}

/// Whether `seq` is the number after `last`.
pub(super) fn check_next(service: &ServiceName, last: u64, seq: u64) -> Result<(), JournalError> {
    let (service, expected) = (service.clone(), last + 1);
    match seq {
        0 => Err(JournalError::Gap { service, seq, expected }),
        seq if seq <= last => Err(JournalError::SequenceTaken { service, seq }),
        seq if seq > expected => Err(JournalError::Gap { service, seq, expected }),
        _ => Ok(()),
    }
}

fn read_line(line: &[u8]) -> Result<Record<'static>, &'static str> {
    let after_head = line.strip_prefix(HEAD.as_bytes()).ok_or("it is not a line of a journal")?;
    let (found, rest) = after_head.split_at_checked(SUM_DIGITS).ok_or("the checksum is cut off")?;
    let rest = rest.strip_prefix(AFTER_SUM.as_bytes()).ok_or("it is not a line of a journal")?;
    if found != sum(rest).as_bytes() {
        return Err("the checksum does not match");
    }
    let mut json = Vec::with_capacity(rest.len() + 1);
    json.push(b'{');
    json.extend_from_slice(rest);
    serde_json::from_slice(&json).map_err(|_| "the record makes no sense")
}

/// The damage of a line that states another version than ours.
fn unknown_version(line: &[u8]) -> Option<Damage> {
    let text = line.strip_prefix(br#"{"v":"#)?;
    let digits = &text[..text.iter().position(|byte| *byte == b',')?];
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let found = std::str::from_utf8(digits).ok()?.parse().ok()?;
    (found != VERSION).then_some(Damage::UnknownVersion { found })
}

/// The beginning of the SHA-256 of what must not change unnoticed.
pub(super) fn sum(bytes: &[u8]) -> String {
    let mut digits = Fingerprint::of(bytes).to_string();
    digits.truncate(SUM_DIGITS);
    digits
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// Written once by version 1 and never again: every later program must read it.
    const FIXTURE: &str = include_str!("../../tests/fixtures/journal/v1.jsonl");

    fn web() -> ServiceName {
        "web".parse().unwrap()
    }

    fn records() -> Vec<Record<'static>> {
        let epoch = |epoch, owner: &str| Record::Epoch {
            service: Cow::Owned(web()),
            epoch,
            owner: Cow::Owned(owner.parse().unwrap()),
        };
        let entry = |seq, epoch, nonce, at: &str, body| Record::Entry {
            seq,
            epoch,
            nonce: Nonce::new(nonce),
            at: at.parse().unwrap(),
            body: Cow::Owned(body),
        };
        vec![
            epoch(1, "host-1/41"),
            entry(1, 1, 0xfeed_0001, "2026-01-02T03:04:05Z", json!({ "rollout_begun": { "to": "ba7816bf8f01" } })),
            entry(
                2,
                1,
                u64::MAX,
                "2026-01-02T03:04:05.678901234Z",
                json!([0.1, -1, 18_446_744_073_709_551_615_u64, null]),
            ),
            epoch(3, "höst-2/7"),
            entry(3, 3, 0, "2026-01-02T03:05:00Z", json!("line\nbreak, \"quote\" and ünicode")),
        ]
    }

    fn file() -> String {
        records().iter().map(Record::to_line).collect()
    }

    fn corrupt(offset: usize, problem: &'static str) -> Damage {
        Damage::Corrupt { offset: offset as u64, problem: problem.into() }
    }

    #[test]
    fn the_first_version_is_read_for_ever() {
        let scan = scan(FIXTURE.as_bytes(), &web()).unwrap();
        assert_eq!((scan.epoch, scan.torn), (3, None));
        let expected: Vec<Entry> = records()
            .into_iter()
            .filter_map(|record| match record {
                Record::Entry { seq, epoch, nonce, at, body } => {
                    Some(Entry { seq, epoch, nonce, at, body: body.into_owned() })
                }
                Record::Epoch { .. } => None,
            })
            .collect();
        assert_eq!(scan.entries, expected);
    }

    #[test]
    fn what_is_written_is_still_the_first_version() {
        assert_eq!(file(), FIXTURE);
    }

    #[test]
    fn a_record_out_of_place_is_corrupt() {
        let lines: Vec<String> = records().iter().map(Record::to_line).collect();
        let check = |order: &[usize], problem: &'static str| {
            let (last, before) = order.split_last().unwrap();
            let before: String = before.iter().map(|index| lines[*index].as_str()).collect();
            let text = format!("{before}{}", lines[*last]);
            assert_eq!(scan(text.as_bytes(), &web()), Err(corrupt(before.len(), problem)), "{order:?}");
        };
        check(&[1], "the entry is of another epoch");
        check(&[0, 0], "the epoch does not rise");
        check(&[3, 0], "the epoch does not rise");
        let last =
            Record::Epoch { service: Cow::Owned(web()), epoch: u64::MAX, owner: Cow::Owned("o".parse().unwrap()) };
        assert_eq!(scan(last.to_line().as_bytes(), &web()), Err(corrupt(0, "the epoch is the last one")));
        check(&[0, 2], "it is entry 2, and entry 1 was expected");
        check(&[0, 1, 1], "it is entry 1, and entry 2 was expected");
        check(&[0, 1, 3, 2], "the entry is of another epoch");
    }

    #[test]
    fn a_line_that_makes_no_sense_is_corrupt() {
        let whole = |rest: &str| format!("{HEAD}{}{AFTER_SUM}{rest}\n", sum(rest.as_bytes()));
        let check = |text: &str, problem| assert_eq!(scan(text.as_bytes(), &web()), Err(corrupt(0, problem)), "{text}");
        check("\n", "it is not a line of a journal");
        check("{}\n", "it is not a line of a journal");
        check("{\"v\":1,\"sum\":\"012\n", "the checksum is cut off");
        check(&whole("}"), "the record makes no sense");
        check(&whole("\"other\":{}}"), "the record makes no sense");
        check(&file().replacen("web", "wab", 1), "the checksum does not match");
        check("{\"v\":,\n", "it is not a line of a journal");
        check("{\"v\":99999999999999999999999,\n", "it is not a line of a journal");
    }

    #[test]
    fn the_journal_of_another_service_is_corrupt() {
        let other = "shop".parse().unwrap();
        assert_eq!(scan(file().as_bytes(), &other), Err(corrupt(0, "it is the journal of web")));
    }

    #[test]
    fn a_newer_version_is_told_apart_from_damage() {
        let newer = format!("{}{{\"v\":2,\"whatever\":[]}}\n", file());
        assert_eq!(scan(newer.as_bytes(), &web()), Err(Damage::UnknownVersion { found: 2 }));
        let torn = format!("{}{{\"v\":12,\"what", file());
        assert_eq!(scan(torn.as_bytes(), &web()), Err(Damage::UnknownVersion { found: 12 }));
    }

    #[test]
    fn a_cut_at_every_length_leaves_the_whole_lines() {
        let (file, service) = (file(), web());
        let written = scan(file.as_bytes(), &service).unwrap().entries;
        let (mut start, mut entries) = (0, 0);
        for line in file.split_inclusive('\n') {
            for length in start..start + line.len() {
                let cut = scan(&file.as_bytes()[..length], &service).unwrap();
                assert_eq!(cut.torn, (start < length).then_some(start..length), "cut at {length}");
                assert_eq!(cut.entries, written[..entries], "cut at {length}");
            }
            start += line.len();
            entries += usize::from(line.contains("\"entry\":"));
        }
        assert_eq!(entries, written.len());
    }

    #[test]
    fn a_byte_of_any_other_value_anywhere_is_refused_at_its_line() {
        let (file, service) = (file(), web());
        let mut bytes = file.clone().into_bytes();
        let mut start = 0;
        for line in file.split_inclusive('\n') {
            for index in start..start + line.len() {
                let written = bytes[index];
                for value in (0..=u8::MAX).filter(|value| *value != written) {
                    bytes[index] = value;
                    let damage = scan(&bytes, &service).unwrap_err();
                    // The number of a version is the one thing that is believed without a checksum.
                    let version = index == start + r#"{"v":"#.len() && value.is_ascii_digit();
                    let found = match damage {
                        Damage::Corrupt { offset, .. } => !version && offset == start as u64,
                        Damage::UnknownVersion { found } => version && found == u64::from(value - b'0'),
                    };
                    assert!(found, "{value} as byte {index}");
                }
                bytes[index] = written;
            }
            start += line.len();
        }
    }

    proptest! {
        #[test]
        fn no_content_makes_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = scan(&bytes, &web());
        }

        #[test]
        fn damage_never_shows_an_entry_that_was_not_written(
            cut in any::<prop::sample::Index>(),
            at in any::<prop::sample::Index>(),
            value in any::<u8>(),
        ) {
            let (mut bytes, service) = (file().into_bytes(), web());
            let written = scan(&bytes, &service).unwrap().entries;
            let index = at.index(bytes.len());
            bytes[index] = value;
            bytes.truncate(cut.index(bytes.len() + 1));
            if let Ok(found) = scan(&bytes, &service) {
                prop_assert_eq!(&found.entries[..], &written[..found.entries.len()]);
            }
        }

        #[test]
        fn any_body_survives_its_line(text in ".*", number in any::<f64>(), whole in any::<i64>()) {
            let body = json!({ "text": text, "number": number, "whole": whole });
            let epoch = Record::Epoch { service: Cow::Owned(web()), epoch: 1, owner: Cow::Owned("o".parse().unwrap()) };
            let (nonce, at) = (Nonce::new(1), Timestamp::UNIX_EPOCH);
            let entry = Record::Entry { seq: 1, epoch: 1, nonce, at, body: Cow::Borrowed(&body) };
            let file = format!("{}{}", epoch.to_line(), entry.to_line());
            let found = scan(file.as_bytes(), &web()).unwrap();
            prop_assert_eq!(found.entries, vec![Entry { seq: 1, epoch: 1, nonce, at, body }]);
        }
    }
}
