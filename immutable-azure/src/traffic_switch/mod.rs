//! Moving traffic.

pub(crate) mod application_gateway;
mod load_balancer;
mod removal;
mod traffic_manager;

pub use application_gateway::{GatewayPoolSwitch, RoutingRuleSwitch};
pub use load_balancer::LoadBalancerSwitch;
pub(crate) use removal::drop_fleet;
pub(crate) use traffic_manager::Turns;
pub use traffic_manager::{Slot, TrafficManagerSwitch};

const OBSERVE: &str = "observe route";
const APPLY: &str = "apply to route";
