//! The engine under tokio's paused time, with the simulated cloud as its platform.

#![expect(clippy::disallowed_methods, reason = "time is paused: waiting takes no time")]
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod bad_releases;
mod blame;
mod bounds;
mod bug_classes;
mod chances;
mod damping;
mod freezing;
mod harness;
mod images;
mod judged_fleets;
mod judged_time;
mod judging;
mod lagging;
mod landing;
mod nonsense;
mod pace;
mod patience;
mod refusals;
mod releases;
mod restarts;
mod scaling;
mod settling;
mod sharing;
mod shortage;
mod sources;
mod steering;
mod strategies;
mod superseding;
mod telling;
mod throttling;
mod trouble;
mod way_back;
mod weather;
