//! The service of the examples as a program of its own. The tests of this package build images from it, and find it beside
//! themselves as `target/<profile>/examples/service`, where `cargo test` has put it before it runs them.

#![allow(clippy::print_stdout, reason = "an example talks to people")]

mod support;

fn main() {
    support::service::run_if_asked();
    println!("usage: PORT=8080 IMAGE_DIR=<directory with release.json> service serve");
    println!("release.json: {{\"version\": \"4\", \"error_percent\": 0, \"healthy\": true}}");
}
