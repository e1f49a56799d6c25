//! `puppet-shim check`: says what is wrong with a configuration before the daemon has to.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use crate::config::{self, Accepted, Config, Rejected};

/// `EX_CONFIG` of sysexits.h.
const BAD_CONFIGURATION: u8 = 78;
/// `EX_IOERR` of sysexits.h: the verdict could not be told.
const NOT_TOLD: u8 = 74;

/// Validate the configuration
///
/// Prints every error and warning to standard error, one a line: file, line, column, what is wrong and what to write
/// instead. Exits with 78 if there is an error.
#[derive(Clone, Debug, clap::Args)]
pub struct CheckArgs {
    /// Look at the file only; ask neither DNS nor a server
    // Required until there is a check that does ask, so that its coming changes nobody's exit code.
    #[arg(long, required = true)]
    pub offline: bool,

    /// The file to validate instead of the one that `run` would read
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Runs the command.
pub fn check(args: &CheckArgs) -> ExitCode {
    // The verdict is the output; the diagnostics go where a compiler's go.
    match report(args, &mut io::stdout().lock(), &mut io::stderr().lock()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => BAD_CONFIGURATION.into(),
        Err(_) => NOT_TOLD.into(),
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
    fn offline_is_required_for_now() {
        let refusal = Cli::try_parse_from(["check"]).unwrap_err().to_string();
        assert!(refusal.contains("--offline"), "{refusal}");
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
