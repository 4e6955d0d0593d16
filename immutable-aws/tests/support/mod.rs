//! What the tests have instead of AWS: moto, a proxy in front of it that supplies what moto lacks, and accounts of their own.

#![allow(dead_code, unused_imports, reason = "each test program uses a part of it")]

mod account;
mod moto;
mod proxy;

pub(crate) use account::{Account, REGION, SECRET, clients, credentials};
pub(crate) use moto::{Moto, python, script};
pub(crate) use proxy::{Options, Proxy};
