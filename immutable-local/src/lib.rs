//! Real processes on one machine.

mod metric_source;
mod traffic_switch;

pub use metric_source::LocalMetrics;
pub use traffic_switch::{
    Clock, Exposure, FleetCounters, FleetDisclosure, LatencyHistogram, LocalSwitch, MemberLoad, Repeat, SwitchError,
    SwitchOptions,
};
