//! Real processes on one machine.

mod traffic_switch;

pub use traffic_switch::{
    Clock, Exposure, FleetCounters, FleetDisclosure, LatencyHistogram, LocalSwitch, MemberLoad, Repeat, SwitchError,
    SwitchOptions,
};
