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

/// The note of who waits for members to be found good, with why the last question about them has no answer.
fn until_good(note: &str, why: Option<&str>) -> String {
    why.map_or_else(|| note.to_owned(), |why| format!("{note} (last: {why})"))
}
