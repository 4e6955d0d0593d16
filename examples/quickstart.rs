//! Placeholder of the first commit; replaced by the real program.
fn main() {}
