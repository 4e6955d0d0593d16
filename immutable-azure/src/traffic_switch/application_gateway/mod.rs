//! Moving traffic with an application gateway (v2): by the members of a backend pool, or by the pool that a rule leads to.
//!
//! # One document
//! A gateway is [read and written as a whole](document::Document), and each change takes it a while. So what belongs together is changed in one request, which
//! Azure carries out only if nobody has changed the gateway since it was read. Who changes another route of the same gateway meanwhile makes
//! this one wait or begin anew; nothing is lost by that.
//!
//! # What is ours
//! Addresses have no names. Whose they are is in pools of ours, one for each fleet and route, and in [their names](names): who leaves a fleet is in another one that tells
//! since when. What else has to be remembered is in tags of the gateway; all of them begin with `immutable-`:
//!
//! | tag | says |
//! |---|---|
//! | `immutable-route-<route>` | [who changed the route](claim::Claim) the last time, and for which version |
//! | `immutable-before-<route>` | the pool that a rule led to before a change that may not be in effect yet |
//! | `immutable-original-<route>` | the pool that a rule led to before it led to one of ours |
//!
//! # What the vendor says
//! * At most [100 pools](https://learn.microsoft.com/azure/azure-resource-manager/management/azure-subscription-service-limits#azure-application-gateway-limits),
//!   with 1,200 addresses each.
//! * Who is taken out of a pool gets [no new request](https://learn.microsoft.com/azure/application-gateway/configuration-http-settings#connection-draining) and has
//!   the time that the settings say to finish, or 30 seconds; only sessions that a cookie binds still reach it. Every change of the gateway, whatever it
//!   changes, ends connections that last longer than that.
//! * A gateway that was stopped [is started](https://learn.microsoft.com/azure/application-gateway/application-gateway-faq) by any write.
//! * A pool is probed [as soon as a rule leads to it](https://learn.microsoft.com/azure/application-gateway/application-gateway-probe-overview#probe-operations), and a member
//!   is bad until it was found good.

mod call;
mod claim;
mod document;
mod health;
mod memory;
mod names;
mod plan;
mod pool_switch;
mod removal;
mod route;
mod rule_switch;
mod state;

use super::{APPLY, OBSERVE};
pub(crate) use document::uses;
pub(crate) use health::{Seen, ask_all, pool_looks};
pub use pool_switch::GatewayPoolSwitch;
pub(super) use removal::drop_fleet;
pub(super) use route::Route;
pub(crate) use route::gateway_of;
pub use rule_switch::RoutingRuleSwitch;
