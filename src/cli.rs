//! The command line: one file per command.

pub mod check;
pub mod fact;
pub mod output;
pub mod resolve;
pub mod run;
pub mod setup;
pub mod status;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// What `--help` ends with.
const EXAMPLES: &str = "\
Examples, in the order of a host's life:
  puppet-shim setup --mode proxy           what would send this host's agent here
  puppet-shim setup --mode proxy --apply   send it
  puppet-shim check                        would its run succeed, and what is in the way
  puppet-shim resolve puppet               where would it go, and why
  puppet agent --test                      go
  puppet-shim status                       where it went
  puppet-shim check --offline              is the configuration good, after a change
  puppet-shim setup --undo                 take the agent off again";

/// Sends each connection of a Puppet agent to the right server of its role
///
/// A layer 4 load balancer on the agent's own host: works out by SNI, port or CONNECT target which role a connection is
/// for, finds that role's servers by DNS SRV, and tunnels the agent's own TLS to one of them.
#[derive(Debug, Parser)]
#[command(name = "puppet-shim", version, max_term_width = 100, after_long_help = EXAMPLES)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::RunArgs),
    Check(check::CheckArgs),
    Resolve(resolve::ResolveArgs),
    Setup(setup::SetupArgs),
    Status(status::StatusArgs),
    Fact(fact::FactArgs),
}

#[cfg(test)]
mod advice;

impl Cli {
    /// Carries out the command.
    pub fn execute(&self) -> ExitCode {
        match &self.command {
            Command::Run(args) => run::run(args),
            Command::Check(args) => check::check(args),
            Command::Resolve(args) => resolve::resolve(args),
            Command::Setup(args) => setup::setup(args),
            Command::Status(args) => status::status(args),
            Command::Fact(args) => fact::fact(args),
        }
    }
}
