//! What the tests have in common: a project of the fake, and what a team has in it before it rolls anything out.

#![allow(dead_code, unused_imports, reason = "each test binary uses a part of it")]

mod credentials;
mod project;

pub(crate) use credentials::{TOKEN, credentials};
pub(crate) use project::{LOCATIONS, Project, proof};
