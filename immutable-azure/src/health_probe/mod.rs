//! Looking at instances.

mod scale_set;

pub use scale_set::ScaleSetHealthProbe;
