//! The `puppet-shim` command.

use std::process::ExitCode;

use clap::Parser;
use puppet_shim::cli::Cli;

fn main() -> ExitCode {
    Cli::parse().execute()
}
