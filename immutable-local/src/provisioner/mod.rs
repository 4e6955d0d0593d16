//! Starts and ends instances: processes of this machine.

mod process;
mod registry;

pub(crate) use self::registry::Registry;
