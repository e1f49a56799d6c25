//! `puppet-shim status`: what the daemon does, and how its servers stand.

mod watch;

use std::io::{self, IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::ValueEnum;

use crate::config::{self, InForce};
use crate::runtime;
use crate::state::StateDirectory;
use crate::status::table::Colours;
use crate::status::{QueryError, Status, from_state, prometheus, query, table};

/// Something needs a human.
const WRONG: u8 = 1;
/// `EX_UNAVAILABLE` of sysexits.h: a process runs and does not answer.
const MUTE: u8 = 69;
/// `EX_IOERR`: what was found could not be written.
const NOT_WRITTEN: u8 = 74;
/// `EX_NOPERM`.
const DENIED: u8 = 77;
/// `EX_CONFIG`: another configuration holds than what was written.
const CONFIGURATION: u8 = 78;

/// What `--help` ends with.
const MORE: &str = "\
Where no process runs, it says what the daemon has written down. With socket activation and idle_exit that is the \
ordinary case: the next connection starts one. To ask neither starts a daemon, nor keeps an idle one from leaving.

A browser on this host gets the same at http://127.0.0.1:8139/, with the way of the last connections drawn, and \
Prometheus at /metrics; see `page` under [status].

Examples:
  puppet-shim status           which server did I get, and why
  puppet-shim status --watch   the same, every two seconds
  puppet-shim status --json | jq -r '.roles[] | [.role, .last_server] | @tsv'
  puppet-shim status --json | jq '.recent[] | select(.outcome != \"carried\")'
  puppet-shim status --format prometheus > .new && mv .new puppet-shim.prom

Exit status:
  0   all is well, or goes on without a human; with metrics whenever they were
      written
  1   something needs a human: no server of a role is up, its last connection
      failed within the last hour, an address cannot be listened on, or nobody
      listens at all
  69  a process runs, and does not answer
  77  you may not ask; root may, and the service's group. With metrics also
      where no process runs and what is written down cannot be read, which
      root alone may: nothing is written then, for it would count from 0
  78  the configuration cannot be used, so that another one holds";

/// Show what the daemon does, and how its servers stand
///
/// Prints since when it runs, where it listens, which configuration holds, and what needs a human, each with what to do; for
/// each role, who names its servers, and for how long that still holds; for each server, how it stands, for how long, and why,
/// whether the agent's run is with it (PIN), how long it usually takes to answer, what went through, and what it did wrong
/// last; and the last connections.
#[derive(Clone, Debug, clap::Args)]
#[command(after_long_help = MORE)]
pub struct StatusArgs {
    /// Print JSON, for machines: times are RFC 3339 in UTC, spans are seconds, sizes are bytes
    #[arg(long, conflicts_with = "format")]
    pub json: bool,

    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,

    /// Print it again every so many seconds, in place on a terminal, until Ctrl-C
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, require_equals = true, default_missing_value = "2", value_parser = seconds)]
    pub watch: Option<Duration>,

    /// The daemon's socket instead of the configured one
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,

    /// The configuration to use instead of /etc/puppet-shim/puppet-shim.toml
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// How to print it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    #[default]
    Table,
    /// For machines
    Json,
    /// For the textfile collector of Prometheus' node exporter
    Prometheus,
    /// The same in the other form that Prometheus reads
    Openmetrics,
}

impl Format {
    fn is_for_metrics(self) -> bool {
        matches!(self, Format::Prometheus | Format::Openmetrics)
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().ok().filter(|seconds| (0.1..=86_400.0).contains(seconds));
    seconds.map(Duration::from_secs_f64).ok_or_else(|| "write seconds from 0.1 to 86400".into())
}

/// Runs the command.
pub fn status(args: &StatusArgs) -> ExitCode {
    let format = if args.json { Format::Json } else { args.format };
    let found = || find(args, format);
    match args.watch {
        Some(pace) => watch::watch(pace, format, colours(), found),
        None => match found() {
            Ok(status) => print(&status, format),
            Err(error) => refuse(&error),
        },
    }
}

/// The daemon's own word, or what it has written down. Of what cannot be read people get the rest. A counter that is 0 for
/// once, though, is a restart to Prometheus, and the next one counts twice: then there are no metrics.
fn find(args: &StatusArgs, format: Format) -> Result<Status, QueryError> {
    let state = StateDirectory::find_to_look_at();
    // Whatever is wrong with the file is in the status.
    let found: InForce = config::in_force(args.config.as_deref(), &state);
    let socket = args.socket.clone().or_else(|| runtime::status_socket_to_ask(&found.config.status));
    let mut status = match socket.as_deref().map(query) {
        Some(Ok(status)) => status,
        Some(Err(error)) if !error.is_nobody() => return Err(error),
        Some(Err(_)) => from_state(&found, &state, socket.as_deref()),
        None => Status { is_unasked: true, ..from_state(&found, &state, None) },
    };
    match status.unread.take_if(|_| format.is_for_metrics()) {
        Some(unread) => Err(QueryError::Unread(unread)),
        None => Ok(status),
    }
}

fn print(status: &Status, format: Format) -> ExitCode {
    let text = render(status, format, colours());
    if let Err(error) = io::stdout().lock().write_all(text.as_bytes()) {
        // Who reads the first lines only has seen what was wanted.
        if error.kind() != io::ErrorKind::BrokenPipe {
            let _ = writeln!(io::stderr(), "puppet-shim: cannot write: {error}");
            return NOT_WRITTEN.into();
        }
    }
    if format.is_for_metrics() { ExitCode::SUCCESS } else { verdict(status).into() }
}

fn render(status: &Status, format: Format, colours: Colours) -> String {
    match format {
        Format::Table => table::text(status, colours),
        Format::Json => serde_json::to_string_pretty(status).unwrap_or_default() + "\n",
        Format::Prometheus => prometheus::text(status),
        Format::Openmetrics => prometheus::openmetrics(status),
    }
}

fn colours() -> Colours {
    let is_unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    if io::stdout().is_terminal() && !is_unwanted { Colours::ON } else { Colours::OFF }
}

fn verdict(status: &Status) -> u8 {
    let configuration = &status.configuration;
    if configuration.origin.is_fallback() || configuration.reload_failed.is_some() {
        return CONFIGURATION;
    }
    if status.has_errors() { WRONG } else { 0 }
}

fn refuse(error: &QueryError) -> ExitCode {
    let _ = writeln!(io::stderr(), "puppet-shim: {error}");
    match error {
        QueryError::Denied(_) | QueryError::Unread(_) => DENIED.into(),
        _ => MUTE.into(),
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser};

    use super::*;
    use crate::status::{ConfigurationOrigin, Problem, ProblemSeverity};

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        status: StatusArgs,
    }

    fn parsed(args: &[&str]) -> Result<StatusArgs, clap::Error> {
        Cli::try_parse_from([&["status"], args].concat()).map(|cli| cli.status)
    }

    #[test]
    fn the_arguments_are_well_formed() {
        Cli::command().debug_assert();
        assert_eq!(parsed(&[]).unwrap().watch, None);
        assert_eq!(parsed(&["--watch"]).unwrap().watch, Some(Duration::from_secs(2)));
        assert_eq!(parsed(&["--watch=0.5"]).unwrap().watch, Some(Duration::from_millis(500)));
        for wrong in [["--watch=0", "--json"], ["--watch=never", "--json"], ["--json", "--format=table"]] {
            assert!(parsed(&wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn the_exit_status_tells_what_is_wrong() {
        let mut status = Status::default();
        assert_eq!(verdict(&status), 0);
        status.problems.push(Problem { severity: ProblemSeverity::Warning, ..Problem::default() });
        assert_eq!(verdict(&status), 0);
        status.problems.push(Problem { severity: ProblemSeverity::Error, ..Problem::default() });
        assert_eq!(verdict(&status), WRONG);
        status.configuration.origin = ConfigurationOrigin::DefaultsInstead;
        assert_eq!(verdict(&status), CONFIGURATION);
    }
}
