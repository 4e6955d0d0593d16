//! Every strategy, plan, rollout and event that is accepted is written as one that means the same.

#![no_main]

use std::fmt::Debug;

use immutable_core::engine::Event;
use immutable_core::plan::{Plan, RolloutSpec, Strategy};
use libfuzzer_sys::fuzz_target;
use serde::Serialize;
use serde::de::DeserializeOwned;

fn document<T: DeserializeOwned + Serialize + PartialEq + Debug>(text: &str) {
    if let Ok(value) = serde_json::from_str::<T>(text) {
        let json = serde_json::to_string(&value).expect("what was read can be written");
        assert_eq!(serde_json::from_str::<T>(&json).expect("its own text"), value);
    }
}

fuzz_target!(|text: &str| {
    document::<Strategy>(text);
    document::<RolloutSpec>(text);
    document::<Plan>(text);
    document::<Vec<Event>>(text);
    match text.parse::<Strategy>() {
        Ok(strategy) => assert_eq!(serde_json::from_str::<Strategy>(text).expect("the same reader"), strategy),
        Err(error) => assert!(!error.to_string().contains('\n'), "{error}"),
    }
});
