//! Every name that is accepted stands for itself.

#![no_main]

use std::fmt::{Debug, Display};
use std::str::FromStr;

use immutable_core::journal::Nonce;
use immutable_core::model::{
    ApprovalName, ConfigKey, Fingerprint, FleetId, InstanceId, LabelKey, MetricName, ServiceName,
};
use immutable_core::plan::Amount;
use libfuzzer_sys::fuzz_target;

fn reads_exactly<T: FromStr + Display>(text: &str) {
    if let Ok(value) = text.parse::<T>() {
        assert_eq!(value.to_string(), text);
    }
}

fn reads_back<T: FromStr<Err: Debug> + Display + PartialEq + Debug>(text: &str) {
    if let Ok(value) = text.parse::<T>() {
        assert_eq!(value.to_string().parse::<T>().expect("its own text"), value);
    }
}

fuzz_target!(|text: &str| {
    reads_exactly::<ServiceName>(text);
    reads_exactly::<FleetId>(text);
    // The rule of all other ids and of secret references, too.
    reads_exactly::<InstanceId>(text);
    reads_exactly::<ApprovalName>(text);
    reads_exactly::<LabelKey>(text);
    reads_exactly::<MetricName>(text);
    reads_exactly::<ConfigKey>(text);
    reads_exactly::<Fingerprint>(text);
    reads_exactly::<Nonce>(text);
    reads_back::<Amount>(text);
});
