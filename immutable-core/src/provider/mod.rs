//! The seam to a cloud, or to anything else that runs instances: six small object-safe traits.
//!
//! Rules for every provider (each clause has an id; the conformance suite tests them by it):
//!
//! * **G1 one attempt.** One call is one bounded attempt. A provider never sleeps, polls or retries; what is not done yet is
//!   [`Progress::Pending`], and the engine asks again. The engine owns time.
//! * **G2 idempotent.** The same call with the same [`OpContext::key`] has one effect, however often it is sent.
//! * **G3 honest errors.** A [`ProviderError`] says whether the call may have had an effect; when in doubt it says so.
//! * **G4 tagged.** Everything that is made carries service, release and rollout, before or as it is made, so that
//!   whoever comes later finds it.
//! * **G5 complete.** A list is the whole list: all pages, half-made things included.
//! * **G6 cancellation.** Dropping a future leaves behind what an error with [`Effect::Unknown`] leaves behind.
//! * **G7 no secrets.** No secret is in an error, a log line or a `Debug`.

mod context;
mod error;
mod health_probe;
mod image_builder;
mod metric_source;
mod platform;
mod provisioner;
mod traffic_switch;

pub use context::{IdempotencyKey, OpContext, Progress};
pub use error::{Effect, ErrorKind, ProviderError};
pub use health_probe::{HealthProbe, ProbeTarget};
pub use image_builder::{FileCopy, ImageBuilder, ImageSpec, Layer, Recipe};
pub use metric_source::{MetricKind, MetricSample, MetricSource, MetricValue, Window};
pub use platform::{Pace, Platform};
pub use provisioner::{FleetsState, Provisioner, ProvisionerCapabilities};
pub use traffic_switch::{
    Assignment, Member, MemberHealth, MemberTarget, SwitchKind, TrafficCapabilities, TrafficState, TrafficSwitch,
    VersionCheck,
};

#[cfg(feature = "mocks")]
pub use {
    health_probe::MockHealthProbe, image_builder::MockImageBuilder, metric_source::MockMetricSource,
    provisioner::MockProvisioner, traffic_switch::MockTrafficSwitch,
};
