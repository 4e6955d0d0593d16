//! Moving traffic.

mod load_balancer;
mod load_balancer_health;
mod load_balancer_members;
mod load_balancer_pool;
mod load_balancer_state;
#[cfg(test)]
mod load_balancer_tests;
mod traffic_manager;
mod traffic_manager_plan;
mod traffic_manager_profile;
mod traffic_manager_state;
mod traffic_manager_turns;

pub use load_balancer::LoadBalancerSwitch;
pub use traffic_manager::{Slot, TrafficManagerSwitch};
pub(crate) use traffic_manager_turns::Turns;

const OBSERVE: &str = "observe route";
const APPLY: &str = "apply to route";
