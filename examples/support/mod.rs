//! What the examples and the tests of this package share: a small service, the images of its releases, a load of requests,
//! and the counts that a rollout is judged by.

#![allow(dead_code, reason = "each example uses a part of it")]
#![allow(clippy::print_stdout, reason = "the examples talk to a person")]

pub(crate) mod counts;
pub(crate) mod demo;
pub(crate) mod images;
pub(crate) mod load;
pub(crate) mod report;
pub(crate) mod service;
pub(crate) mod stand;
pub(crate) mod watch;
