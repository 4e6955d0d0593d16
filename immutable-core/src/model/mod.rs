//! What a rollout is about: names, images, releases, fleets, traffic and health.
//!
//! Everything here is plain data. A value of these types is valid by construction: names are parsed, a
//! [`Split`] sums to exactly 10 000 basis points, a [`Release`] is named by its own content.

mod fingerprint;
mod fleet;
mod health;
mod image;
mod name;
mod parts;
mod release;
mod traffic;

pub use fingerprint::Fingerprint;
pub use fleet::{Endpoint, FleetSpec, Lifecycle, ObservedFleet, ObservedInstance};
pub use health::{Look, Sample, Verdict};
pub use image::{Image, ImageLabels};
pub use name::{
    ApprovalName, ConfigKey, FleetId, ImageId, InstanceId, LabelKey, MetricName, NameError, OwnerId, RolloutId,
    RouteId, RouteVersion, SecretRef, ServiceName,
};
pub use release::{LaunchSpec, Release, ReleaseId};
pub use traffic::{Split, SplitError, Weight};
