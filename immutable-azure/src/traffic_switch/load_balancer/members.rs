//! The members of a backend pool: who is in, who comes and who goes. Nothing is asked or changed in here.
//!
//! # Names
//! An entry of ours is named `<instance>.<when>.<stamp>`: the machine, since when it is in or out, and the write that made it so. The time is in
//! seconds, and the entry's `adminState` says which of the two it is about. A name may have 80 characters, as
//! [those of parts of a network resource](https://learn.microsoft.com/azure/azure-resource-manager/management/resource-name-rules#microsoftnetwork) have.
//! A name of ours without time and stamp was changed by somebody: the machine counts as in or out since ever.
//!
//! # Stamps
//! A stamp is made of the call's intent, the version that it saw and what the pool is after its write. So whoever reads the pool sees whether it is as
//! a certain call has left it: then that call may be sent again and goes on. And a pool that is changed and changed back has other stamps.
//!
//! # Sweeps
//! When a fleet is removed, its entries go that have left. No stamp tells of who had left before its write, so a call that is under way goes on. And
//! whose entry stays gets a mark behind the stamp, another one with each sweep, so that no version of the pool comes back as long as anything of ours is in it.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use immutable_core::model::{Fingerprint, FleetId, InstanceId};
use immutable_core::provider::MemberTarget;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::instance;

/// The longest name of an entry.
const LONGEST_NAME: usize = 80;

/// What a stamp is as long as it is not known. No name has this.
const NO_STAMP: &str = "?";

/// Characters of a stamp.
const STAMP: usize = 6;

/// Characters of a mark.
const MARK: usize = 1;

/// One entry of a pool, of ours or of somebody else's.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::traffic_switch) struct Entry {
    pub(in crate::traffic_switch) value: Value,
    pub(in crate::traffic_switch) ours: Option<Ours>,
}

/// What the name of an entry of ours tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::traffic_switch) struct Ours {
    pub(in crate::traffic_switch) instance: InstanceId,
    pub(in crate::traffic_switch) fleet: FleetId,
    pub(in crate::traffic_switch) since: Timestamp,
    pub(in crate::traffic_switch) stamp: String,
    /// How often something was swept beside it, in a digit; nothing for never.
    pub(super) mark: String,
}

impl Entry {
    /// Reads an entry; nothing for what is none.
    pub(in crate::traffic_switch) fn read(value: &Value) -> Option<Self> {
        let name = value["name"].as_str()?;
        Some(Self { value: value.clone(), ours: Ours::read(name) })
    }

    /// A machine that comes.
    pub(in crate::traffic_switch) fn joining(ours: Ours, address: &str, network: Option<&str>) -> Self {
        let mut properties = json!({ "ipAddress": address, "adminState": "None" });
        if let Some(network) = network {
            properties["virtualNetwork"] = json!({ "id": network });
        }
        Self { value: json!({ "name": ours.name(), "properties": properties }), ours: Some(ours) }
    }

    pub(in crate::traffic_switch) fn name(&self) -> &str {
        self.value["name"].as_str().unwrap_or_default()
    }

    pub(in crate::traffic_switch) fn address(&self) -> Option<&str> {
        self.value["properties"]["ipAddress"].as_str()
    }

    /// Whether it gets no new connections, by somebody's decision.
    pub(in crate::traffic_switch) fn is_out(&self) -> bool {
        self.value["properties"]["adminState"].as_str().is_some_and(|state| state.eq_ignore_ascii_case("Down"))
    }

    /// What of ours is in.
    pub(in crate::traffic_switch) fn registered(&self) -> Option<&Ours> {
        self.ours.as_ref().filter(|_| !self.is_out())
    }

    /// What of ours is on its way out, or was.
    pub(in crate::traffic_switch) fn left(&self) -> Option<&Ours> {
        self.ours.as_ref().filter(|_| self.is_out())
    }

    /// Whether this is that machine, and it is in.
    pub(in crate::traffic_switch) fn is(&self, target: &MemberTarget) -> bool {
        self.registered().is_some_and(|ours| ours.instance == target.instance) && self.has_address_of(target)
    }

    fn has_address_of(&self, target: &MemberTarget) -> bool {
        let address = |text: &str| text.parse::<IpAddr>().ok();
        self.address().and_then(address).is_some_and(|own| address(target.endpoint.host()) == Some(own))
    }

    /// With this stamp on it, and no mark.
    fn stamped(self, stamp: &str) -> Self {
        self.marked("").renamed(|ours| stamp.clone_into(&mut ours.stamp))
    }

    fn marked(self, mark: &str) -> Self {
        self.renamed(|ours| mark.clone_into(&mut ours.mark))
    }

    /// With the next mark.
    pub(in crate::traffic_switch) fn marked_anew(self) -> Self {
        let last = self.ours.as_ref().and_then(|ours| u64::from_str_radix(&ours.mark, 36).ok());
        self.marked(&digits(last.map_or(1, |last| (last + 1) % 36)))
    }

    fn renamed(mut self, change: impl FnOnce(&mut Ours)) -> Self {
        if let Some(ours) = &mut self.ours {
            let before = ours.clone();
            change(ours);
            if *ours != before {
                self.value["name"] = ours.name().into();
            }
        }
        self
    }

    /// What people decide about an entry.
    pub(in crate::traffic_switch) fn text(&self) -> String {
        let properties = &self.value["properties"];
        let id = |field: &str| properties[field]["id"].as_str().unwrap_or_default().to_ascii_lowercase();
        let state = properties["adminState"].as_str().unwrap_or("None");
        let [network, subnet, front] = ["virtualNetwork", "subnet", "loadBalancerFrontendIPConfiguration"].map(id);
        let address = self.address().unwrap_or_default();
        format!("{}|{address}|{state}|{network}|{subnet}|{front}\n", self.name())
    }
}

impl Ours {
    fn read(name: &str) -> Option<Self> {
        let mut parts = name.splitn(3, '.');
        let instance = instance::id(parts.next()?).ok()?;
        let fleet = instance::fleet(&instance)?;
        let since = parts.next().and_then(|text| i64::from_str_radix(text, 36).ok());
        let since = since.and_then(|seconds| Timestamp::from_second(seconds).ok()).unwrap_or(Timestamp::UNIX_EPOCH);
        let rest = parts.next().unwrap_or_default();
        let (stamp, mark) = rest.split_at_checked(STAMP).unwrap_or((rest, ""));
        Some(Self { instance, fleet, since, stamp: stamp.to_owned(), mark: mark.to_owned() })
    }

    fn name(&self) -> String {
        let when = u64::try_from(self.since.as_second()).unwrap_or_default();
        format!("{}.{}.{}{}", self.instance, digits(when), self.stamp, self.mark)
    }

    /// Whether it can have a mark: it was not named by hand.
    pub(in crate::traffic_switch) fn has_stamp(&self) -> bool {
        self.stamp.len() == STAMP
    }

    /// Whether what it had begun may still be going on at this time.
    pub(in crate::traffic_switch) fn drains(&self, drain_time: Duration, now: Timestamp) -> bool {
        !drain_time.is_zero() && self.since.saturating_add(drain_time).is_ok_and(|end| now < end)
    }
}

/// A number in digits of base 36.
fn digits(mut number: u64) -> String {
    let mut text = Vec::new();
    loop {
        let digit = u32::try_from(number % 36).unwrap_or_default();
        text.extend(char::from_digit(digit, 36));
        number /= 36;
        if number == 0 {
            return text.into_iter().rev().collect();
        }
    }
}

/// What a write does to the members of a pool.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::traffic_switch) enum Step<'a> {
    /// These come.
    Join(Vec<&'a MemberTarget>),
    /// Who is in and is none of these goes.
    Leave(&'a [MemberTarget]),
}

/// Why members cannot come.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(in crate::traffic_switch) enum Obstacle {
    #[error("{0} answers at {1}, which is no IP address: members of a backend pool have one")]
    NoAddress(InstanceId, String),
    #[error("the name {0} is too long: with its mark it may have {LONGEST_NAME} characters")]
    LongName(String),
    #[error("the entry {0} of somebody else has the address of {1}: take it out")]
    Taken(String, InstanceId),
    #[error(
        "the entry {0} has no IP address: members by address and by network interface cannot be in one pool, so take another"
    )]
    ByInterface(String),
}

/// The entries after a step at this time, without a stamp on what is new.
pub(in crate::traffic_switch) fn after(
    entries: &[Entry],
    step: &Step<'_>,
    network: Option<&str>,
    (now, drain_time): (Timestamp, Duration),
) -> Result<Vec<Entry>, Obstacle> {
    let is_over = |entry: &Entry| entry.left().is_some_and(|ours| !ours.drains(drain_time, now));
    let rest = entries.iter().filter(|entry| !is_over(entry)).cloned();
    match step {
        Step::Join(targets) => {
            if let Some(entry) = entries.iter().find(|entry| entry.address().is_none()) {
                return Err(Obstacle::ByInterface(entry.name().to_owned()));
            }
            let comes_anew = |entry: &Entry, target: &&MemberTarget| {
                entry.ours.as_ref().is_some_and(|ours| ours.instance == target.instance || entry.has_address_of(target))
            };
            let rest = rest.filter(|entry| !targets.iter().any(|target| comes_anew(entry, target)));
            let mut all: Vec<Entry> = rest.collect();
            for target in targets {
                let host = target.endpoint.host();
                if host.parse::<IpAddr>().is_err() {
                    return Err(Obstacle::NoAddress(target.instance.clone(), host.to_owned()));
                }
                if let Some(entry) = all.iter().find(|entry| entry.has_address_of(target)) {
                    return Err(Obstacle::Taken(entry.name().to_owned(), target.instance.clone()));
                }
                let (instance, fleet) = (target.instance.clone(), target.fleet.clone());
                let (stamp, mark) = (NO_STAMP.to_owned(), String::new());
                let since = whole(now);
                let entry = Entry::joining(Ours { instance, fleet, since, stamp, mark }, host, network);
                if entry.name().len() - NO_STAMP.len() + STAMP + MARK > LONGEST_NAME {
                    return Err(Obstacle::LongName(entry.name().to_owned()));
                }
                all.push(entry);
            }
            Ok(all)
        }
        Step::Leave(stay) => Ok(rest.map(|entry| if leaves(&entry, stay) { out(entry, now) } else { entry }).collect()),
    }
}

/// The whole second that this one ends in, as names tell it: what was said before is said of who had the address before.
fn whole(now: Timestamp) -> Timestamp {
    let begun = i64::from(now.subsec_nanosecond() > 0);
    Timestamp::from_second(now.as_second().saturating_add(begun)).unwrap_or(now)
}

/// Whether an entry of ours is in and not one of these.
pub(in crate::traffic_switch) fn leaves(entry: &Entry, stay: &[MemberTarget]) -> bool {
    entry.registered().is_some_and(|ours| !stay.iter().any(|target| target.instance == ours.instance))
}

fn out(mut entry: Entry, now: Timestamp) -> Entry {
    entry.value["properties"]["adminState"] = "Down".into();
    if let Some(ours) = &mut entry.ours {
        // Whole seconds are told, and none too few.
        ours.since = now.saturating_add(Duration::from_secs(1)).unwrap_or(now);
    }
    entry.stamped(NO_STAMP)
}

/// What a stamp is made of: all entries but those that others have taken out, and no marks.
pub(super) fn witnessed(entries: &[Entry]) -> Vec<Entry> {
    let counts = |entry: &&Entry| entry.left().is_none_or(|ours| ours.stamp == NO_STAMP);
    entries.iter().filter(counts).map(|entry| entry.clone().marked("")).collect()
}

/// The stamp of a write: `text` is all that is written, with nothing where the stamp is to be.
pub(in crate::traffic_switch) fn stamp(intent: &str, seen: &str, text: &str) -> String {
    let hash = Fingerprint::of(format!("{intent}\n{seen}\n{text}")).to_string();
    let number = hash.get(..12).and_then(|hex| u64::from_str_radix(hex, 16).ok()).unwrap_or_default();
    format!("{:0>STAMP$}", digits(number % 36_u64.pow(6)))
}

/// The entries with a stamp on what is new.
pub(in crate::traffic_switch) fn sealed(
    entries: Vec<Entry>,
    (intent, seen): (&str, &str),
    text: impl Fn(&[Entry]) -> String,
) -> Vec<Entry> {
    let stamp = stamp(intent, seen, &text(&witnessed(&entries)));
    let is_new = |entry: &Entry| entry.ours.as_ref().is_some_and(|ours| ours.stamp == NO_STAMP);
    entries.into_iter().map(|entry| if is_new(&entry) { entry.stamped(&stamp) } else { entry }).collect()
}

/// Whether the pool is as a call with this intent, which saw that version, has left it.
pub(in crate::traffic_switch) fn is_left_by(
    entries: &[Entry],
    (intent, seen): (&str, &str),
    text: impl Fn(&[Entry]) -> String,
) -> bool {
    let stamps: BTreeSet<&str> = entries.iter().filter_map(|entry| Some(entry.ours.as_ref()?.stamp.as_str())).collect();
    stamps.into_iter().any(|found| {
        let is_it = |entry: &Entry| entry.ours.as_ref().is_some_and(|ours| ours.stamp == found);
        let blank = |entry: &Entry| if is_it(entry) { entry.clone().stamped(NO_STAMP) } else { entry.clone() };
        let before: Vec<Entry> = entries.iter().map(blank).collect();
        stamp(intent, seen, &text(&witnessed(&before))) == found
    })
}
