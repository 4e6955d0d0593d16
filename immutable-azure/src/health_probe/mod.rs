//! Looking at instances.

mod gateway;
mod scale_set;

pub use gateway::GatewayHealthProbe;
pub use scale_set::ScaleSetHealthProbe;
