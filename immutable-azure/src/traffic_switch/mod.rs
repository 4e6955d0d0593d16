//! Moving traffic.

mod load_balancer;
mod load_balancer_health;
mod load_balancer_members;
mod load_balancer_pool;

pub use load_balancer::LoadBalancerSwitch;

const OBSERVE: &str = "observe route";
const APPLY: &str = "apply to route";
