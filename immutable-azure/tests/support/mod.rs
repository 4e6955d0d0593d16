//! What the tests have in common: a resource group of the fake, and what a team has in it before it rolls anything out.

#![allow(dead_code, unused_imports, reason = "each test binary uses a part of it")]

mod balancers;
pub(crate) mod builders;
mod credential;
mod group;
mod instances;
mod role;
mod traffic;

pub(crate) use balancers::{GATEWAY, LOAD_BALANCER, PROFILE, SLOTS, place as place_balancers};
pub(crate) use credential::{Fixed, TOKEN};
pub(crate) use group::{Group, proof};
pub(crate) use instances::{instance, machine, machines};
pub(crate) use role::{actions, without};
pub(crate) use traffic::Traffic;
