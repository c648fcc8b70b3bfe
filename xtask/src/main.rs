//! xtask (placeholder while the skeleton is laid)
fn main() {}
