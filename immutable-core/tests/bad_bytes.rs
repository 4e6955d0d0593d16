//! Everything that is read from text: it never panics, and what it accepts it gives back as it was read.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::fmt::{Debug, Display};
use std::str::FromStr;
use std::time::Duration;

use immutable_core::engine::Event;
use immutable_core::journal::Nonce;
use immutable_core::model::{
    ApprovalName, ConfigKey, Fingerprint, FleetId, ImageId, InstanceId, LabelKey, MetricName, OwnerId, RolloutId,
    RouteId, RouteVersion, SecretRef, ServiceName, Split, Weight,
};
use immutable_core::plan::{Amount, RolloutSpec, StageSpec, Strategy};
use immutable_core::provider::ImageSpec;
use proptest::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A text that is accepted is printed as a text that means the same.
fn reads_back<T: FromStr + Display + PartialEq + Debug>(text: &str)
where
    T::Err: Debug + Display,
{
    match text.parse::<T>() {
        Ok(value) => assert_eq!(value.to_string().parse::<T>().unwrap(), value, "{text:?}"),
        Err(error) => assert!(!error.to_string().contains('\n'), "{error}"),
    }
}

/// As [`reads_back`], and the text that is printed is the one that was read.
fn reads_exactly<T: FromStr + Display + PartialEq + Debug>(text: &str)
where
    T::Err: Debug + Display,
{
    reads_back::<T>(text);
    if let Ok(value) = text.parse::<T>() {
        assert_eq!(value.to_string(), text);
    }
}

fn all_names(text: &str) {
    reads_exactly::<ServiceName>(text);
    reads_exactly::<FleetId>(text);
    reads_exactly::<InstanceId>(text);
    reads_exactly::<ImageId>(text);
    reads_exactly::<RouteId>(text);
    reads_exactly::<RouteVersion>(text);
    reads_exactly::<RolloutId>(text);
    reads_exactly::<OwnerId>(text);
    reads_exactly::<ApprovalName>(text);
    reads_exactly::<MetricName>(text);
    reads_exactly::<LabelKey>(text);
    reads_exactly::<ConfigKey>(text);
    reads_exactly::<SecretRef>(text);
    reads_exactly::<Fingerprint>(text);
    reads_exactly::<Nonce>(text);
    reads_back::<Amount>(text);
}

/// A document that is accepted is written as a document that means the same.
fn document<T: DeserializeOwned + Serialize + PartialEq + Debug>(bytes: &[u8]) {
    if let Ok(value) = serde_json::from_slice::<T>(bytes) {
        let json = serde_json::to_string(&value).unwrap();
        assert_eq!(serde_json::from_str::<T>(&json).unwrap(), value, "{json}");
    }
}

fn all_documents(bytes: &[u8]) {
    document::<Strategy>(bytes);
    document::<RolloutSpec>(bytes);
    document::<Vec<Event>>(bytes);
    document::<ImageSpec>(bytes);
    document::<Split>(bytes);
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Err(error) = text.parse::<Strategy>()
    {
        assert!(!error.to_string().contains('\n'), "{error}");
    }
}

/// One document of each kind, with every field set.
fn samples() -> Vec<String> {
    let strategy = Strategy::canary([StageSpec::percent(5)
        .unwrap()
        .size(Amount::Percent(25))
        .hold(Duration::from_secs(90))
        .approval("half".parse().unwrap())]);
    let strategy = serde_json::to_string(&strategy.bake(Duration::from_hours(1))).unwrap();
    let digest = Fingerprint::of("content");
    let labels = r#"{"version":"1","commit":null,"built_at":"2026-01-02T03:04:05Z"}"#;
    let image = format!(r#"{{"id":"image-1","fingerprint":"{digest}","parents":[],"labels":{labels}}}"#);
    let copy = r#"{"source":"/bin/app","target":"bin/app","executable":true}"#;
    vec![
        strategy,
        format!(
            r#"{{"service":"web","recipe":{{"base":{image},"layers":[{{"files":[{copy}]}}],"command":["bin/app"]}},"version":"2","commit":"abc"}}"#
        ),
        r#"[{"event":"stage_entered","stage":1,"at":"2026-01-02T03:04:05Z","deadline":"2026-01-02T03:14:05.5Z"},{"event":"turned_back","reason":{"why":"asked","note":"so"},"at":"2026-01-02T03:04:05Z","deadline":"2026-01-02T03:14:05Z"},{"event":"ended","outcome":{"outcome":"stuck","reason":"x"},"at":"2026-01-02T03:04:05Z"}]"#.into(),
        r#"{"web-a":2500,"web-b":7500}"#.into(),
    ]
}

#[test]
fn the_samples_are_accepted() {
    let [strategy, recipe, events, split] = &samples()[..] else { unreachable!() };
    assert!(strategy.parse::<Strategy>().is_ok());
    assert!(serde_json::from_str::<ImageSpec>(recipe).is_ok());
    assert!(serde_json::from_str::<Vec<Event>>(events).is_ok());
    assert!(serde_json::from_str::<Split>(split).is_ok());
}

#[test]
fn a_document_that_is_cut_is_refused_at_every_length() {
    for sample in samples() {
        for length in 0..sample.len() {
            let cut = &sample[..length];
            assert!(serde_json::from_str::<Strategy>(cut).is_err() && cut.parse::<Strategy>().is_err(), "{cut}");
            assert!(serde_json::from_str::<ImageSpec>(cut).is_err(), "{cut}");
            assert!(serde_json::from_str::<Vec<Event>>(cut).is_err(), "{cut}");
            assert!(serde_json::from_str::<Split>(cut).is_err(), "{cut}");
        }
    }
}

#[test]
fn a_document_with_any_byte_changed_is_refused_or_means_what_it_says() {
    for sample in samples() {
        let mut bytes = sample.into_bytes();
        for index in 0..bytes.len() {
            let written = bytes[index];
            for value in (0..8).map(|bit| written ^ (1 << bit)).chain(*b"0-9\"{}[],:eE.% \0\xff") {
                bytes[index] = value;
                all_documents(&bytes);
            }
            bytes[index] = written;
        }
    }
}

proptest! {
    #[test]
    fn any_text_is_a_name_as_it_stands_or_none(text in any::<String>()) {
        all_names(&text);
    }

    #[test]
    fn a_text_that_looks_like_a_name_is_one_as_it_stands_or_none(text in "[a-zA-Z0-9%/_. é-]{0,80}") {
        all_names(&text);
    }

    #[test]
    fn digits_are_exact_or_refused(text in "[0-9a-fA-F]{16}|[0-9a-fA-F]{12}|[0-9a-f]{64}|[0-9]{1,12}%?") {
        all_names(&text);
    }

    #[test]
    fn any_strategy_survives_its_text(
        percents in prop::collection::vec(0u16..=100, 0..4),
        (surge, unavailable) in (any::<u32>(), any::<u32>()),
        seconds in prop::array::uniform4(0u64..1_000_000_000),
        nanoseconds in 0u32..1_000_000_000,
        quorum in any::<u32>(),
    ) {
        let stages = percents.iter().map(|percent| {
            StageSpec::new(format!("{percent} \"%\""), Weight::percent(*percent).unwrap())
                .size(Amount::Percent(surge))
                .hold(Duration::new(seconds[0], nanoseconds))
        });
        let strategy = Strategy::stages("own", stages)
            .max_surge(Amount::Count(surge))
            .max_unavailable(Amount::Percent(unavailable))
            .bake(Duration::from_secs(seconds[1]))
            .drain_time(Duration::from_millis(seconds[2]))
            .progress_deadline(Duration::new(seconds[3], nanoseconds))
            .quorum_percent(quorum);
        let json = serde_json::to_string(&strategy).unwrap();
        prop_assert_eq!(json.parse::<Strategy>().unwrap(), strategy);
    }
}
