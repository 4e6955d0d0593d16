//! Events that were read from anywhere are replayed and gone on from without a panic.

#![no_main]

use immutable_core::engine::{Event, Machine};
use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(events) = serde_json::from_str::<Vec<Event>>(text)
        && let Some(machine) = Machine::replay(events)
    {
        let _ = machine.next(Timestamp::UNIX_EPOCH, &immutable_fuzz::empty_world(), &[]);
    }
});
