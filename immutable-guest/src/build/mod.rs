//! The script that makes an image.

mod install;
mod recipe;
mod script;

pub use recipe::Build;
pub use script::{Attempt, Signal};
