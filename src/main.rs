//! The `puppet-shim` command.
fn main() {}
