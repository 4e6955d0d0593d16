//! The provider of `docs/writing-a-provider.md`: the guide shows parts of these files, and is held to them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod acme;
mod broken;
mod broken_requests;
mod guide;
mod harness;
mod provider;
mod rollout;

use harness::AcmeHarness;

immutable_core::conformance_suite!(AcmeHarness::new(), tokio(start_paused = true));
