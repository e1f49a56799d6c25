//! `puppet-shim check`: says what is wrong with a host, or with a configuration alone, before an agent's run does.

use std::env;
use std::io::{self, IsTerminal as _, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use rustls::pki_types::UnixTime;

use super::output::{self, Output};
use crate::config::{self, Accepted, Config, Rejected, Severity};
use crate::doctor::{self, Count, Patient, Progress, Style};
use crate::memory;
use crate::pool::Pool;
use crate::process;
use crate::state::StateDirectory;

/// `EX_CONFIG` of sysexits.h.
const BAD_CONFIGURATION: u8 = 78;
/// `EX_IOERR` of sysexits.h: the verdict could not be told.
const NOT_TOLD: u8 = 74;

/// What `--help` ends with.
const MORE: &str = "\
It takes a few seconds, fifteen at most, whatever hangs. It changes nothing, does not start a daemon that is idle, and \
does not count as use. Run it as root: others may not see whose a port is, nor read the agent's certificates.

Examples:
  puppet-shim check                            this host, its agent, and every server
  puppet-shim check && puppet agent --test     run the agent where nothing is in its way
  puppet-shim check --json | jq -r '.groups[].findings[] | select(.mend) | [.subject, .mend] | @tsv'
  puppet-shim check --offline                  the configuration alone, after a change
  puppet-shim check --offline --config new.toml

In a manifest:
  validate_cmd => '/usr/bin/puppet-shim check --offline --config %'

Exit status:
  0   there is no cross, warnings or not; with --offline, the file can be used
  1   there is a cross
  74  the verdict could not be written
  78  the configuration has an error";

/// Find out whether an agent's run would succeed, and what is in its way
///
/// Looks at this host, the agent's settings, and each role's servers, and prints a line for each thing: a tick; a warning, where
/// an agent's run succeeds all the same; or a cross. Below the latter two stands what to do. That the agent goes past
/// puppet-shim is a cross where `puppet-shim setup` has sent it here, and a warning where nobody has yet, or where only runs
/// from a login or cron do.
///
/// The host: the configuration, and whether the daemon goes by it; whether each listener is there, held by systemd or by
/// puppet-shim and by nobody else. The agent, by `puppet config print`: its servers' names; which way leads here, and what
/// leads past, such as `no_proxy`, `http_proxy` in an environment, or `use_srv_records`; its certificates. Each role: SRV
/// records, servers, addresses; of each server its certificate, with the names that the agent asks for, its CA and its dates,
/// its status, and whether it runs a CA if it has to.
#[derive(Clone, Debug, clap::Args)]
#[command(after_long_help = MORE)]
pub struct CheckArgs {
    /// Look at the configuration file only, ask nobody, and print its errors and warnings to standard error as a compiler
    /// does: file, line, column, what is wrong and what to write instead
    #[arg(long)]
    pub offline: bool,

    /// Print JSON, for machines
    #[arg(long, conflicts_with = "offline")]
    pub json: bool,

    /// The file to look at instead of the one that `run` would read
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Runs the command.
pub fn check(args: &CheckArgs) -> ExitCode {
    if !args.offline {
        return online(args);
    }
    // The verdict is the output; the diagnostics go where a compiler's go.
    match report(args, &mut Output(io::stdout().lock()), &mut Output(io::stderr().lock())) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => BAD_CONFIGURATION.into(),
        Err(_) => NOT_TOLD.into(),
    }
}

/// Looks at everything.
fn online(args: &CheckArgs) -> ExitCode {
    process::end_with_us();
    let state = StateDirectory::find();
    let config = config::in_force(args.config.as_deref(), &state);
    // Of what the daemon remembers only the domain counts: DNS and the servers are asked anew.
    let learnt = memory::peek(&state, &mut Pool::new(config.config.timeouts.pin)).unwrap_or_default();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = writeln!(io::stderr(), "puppet-shim: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let now = i64::try_from(UnixTime::now().as_secs()).unwrap_or(i64::MAX);
    let patient = Patient { config: &config, state: &state, domain: learnt.domain.as_ref(), now };
    let var = |name| env::var(name).ok();
    let is_coloured = io::stdout().is_terminal() && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let style = Style::new(["LC_ALL", "LC_CTYPE", "LANG"].map(var), is_coloured);
    let groups = runtime.block_on(doctor::examine(&patient, &Progress::new(!args.json)));
    // A process that had to be ended may not have ended yet.
    runtime.shutdown_background();
    let count = Count::of(&groups);
    let text = if args.json {
        doctor::json(&groups)
    } else {
        groups.iter().map(|group| style.group(group)).collect::<String>() + &format!("{count}\n")
    };
    if output::print(&text).is_err() {
        return NOT_TOLD.into();
    }
    if config.diagnostics.iter().any(|diagnostic| diagnostic.severity == Severity::Error) {
        BAD_CONFIGURATION.into()
    } else if count.problems > 0 {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

/// Writes the verdict, and says whether the configuration can be used.
fn report(args: &CheckArgs, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<bool> {
    let file = args.config.clone().unwrap_or_else(config::default_file);
    match Config::load(&file) {
        Ok(Some(Accepted { warnings, .. })) => {
            for warning in &warnings {
                writeln!(err, "{warning}")?;
            }
            writeln!(out, "{}: ok", file.display())?;
            Ok(true)
        }
        // As in `run`: a file that is named should exist.
        Ok(None) if args.config.is_some() => {
            writeln!(err, "{}", config::missing(&file))?;
            Ok(false)
        }
        Ok(None) => {
            writeln!(out, "{}: no file, the defaults hold", file.display())?;
            Ok(true)
        }
        Err(Rejected { errors }) => {
            for error in &errors {
                writeln!(err, "{error}")?;
            }
            let plural = if errors.len() == 1 { "" } else { "s" };
            writeln!(err, "{}: {} error{plural}", file.display(), errors.len())?;
            Ok(false)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{CommandFactory as _, Parser};
    use std::fs;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        check: CheckArgs,
    }

    fn checked(args: &[&str]) -> (bool, String, String) {
        let args = Cli::try_parse_from([&["check"], args].concat()).unwrap().check;
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let good = report(&args, &mut out, &mut err).unwrap();
        (good, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
    }

    /// What `check --offline --config FILE` says of a file with this text, the file's path written as FILE.
    fn checked_text(text: &str) -> (bool, String, String) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("shim.toml");
        fs::write(&path, text).unwrap();
        let path = path.to_str().unwrap();
        let (good, out, err) = checked(&["--offline", "--config", path]);
        (good, out.replace(path, "FILE"), err.replace(path, "FILE"))
    }

    #[test]
    fn the_arguments_are_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn json_is_for_the_whole_host() {
        let refusal = Cli::try_parse_from(["check", "--offline", "--json"]).unwrap_err().to_string();
        assert!(refusal.contains("--json"), "{refusal}");
        assert!(Cli::try_parse_from(["check", "--json"]).is_ok());
    }

    #[test]
    fn a_good_file_is_ok() {
        assert_eq!(checked_text(""), (true, "FILE: ok\n".into(), String::new()));
    }

    #[test]
    fn warnings_leave_it_ok() {
        let (good, out, err) = checked_text("[role.ca]\nfallback = true");
        assert!(good);
        assert_eq!(out, "FILE: ok\n");
        assert!(err.starts_with("FILE:2:12: warning: "), "{err}");
    }

    #[test]
    fn every_error_is_told() {
        let (good, out, err) = checked_text("lisen = []\n[timeouts]\nidle = 2");
        assert!(!good);
        assert_eq!(out, "");
        let lines: Vec<_> = err.lines().collect();
        assert!(lines[0].starts_with("FILE:1:1: error: "), "{err}");
        assert!(lines[1].starts_with("FILE:3:8: error: "), "{err}");
        assert_eq!(lines[2..], ["FILE: 2 errors"]);
    }

    #[test]
    fn a_named_file_must_exist() {
        let (good, out, err) = checked(&["--offline", "--config", "/nonexistent/shim.toml"]);
        assert!(!good);
        assert_eq!(out, "");
        assert!(err.starts_with("/nonexistent/shim.toml: error: there is no such file; "), "{err}");
    }
}
