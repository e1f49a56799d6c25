//! `puppet-shim setup`: sends the agent through puppet-shim, and takes it off again.

use std::io::{self, Write};
use std::path::{self, Path, PathBuf};
use std::process::ExitCode;

use crate::config::{self, Accepted, Config, Rejected};
use crate::process;
use crate::puppet::Puppet;
use crate::setup::draft::{Draft, draft};
use crate::setup::plan::{Plan, plan};
use crate::setup::record::Book;
use crate::setup::undo::{Undone, undo};
use crate::setup::work::apply;
use crate::setup::{Mode, Places, SetupError, look, units};

/// `EX_CONFIG` of sysexits.h.
const BAD_CONFIGURATION: u8 = 78;

/// What `--help` ends with.
const EXAMPLES: &str = "\
Examples:
  puppet-shim setup --mode proxy            what would change, and nothing is changed
  puppet-shim setup --mode proxy --apply    change it
  puppet agent --test                       and see that it works
  puppet-shim setup --undo                  put everything back";

/// Send this host's agent through puppet-shim, or take it off again
///
/// Reads the agent's settings by `puppet config print`, asks DNS for the servers of each role and the servers for their
/// certificates, and prints what has to change: the `puppet config set` commands, the lines of the hosts file, the
/// socket's drop-in, and the keys of our own configuration, as commands and as a diff. With --apply it makes the changes,
/// and remembers what there was. --undo puts that back: byte for byte where nobody else has touched a file since, otherwise our own
/// keys and lines and no more. A file that cannot be put back keeps none of the others from it; the same again goes on with it.
///
/// It refuses, with the reason, what could not work. A proxy that the agent has already becomes `foreign` in our
/// configuration, and its `server_list` the servers of compile, where there are no SRV records. --apply and --undo are for
/// root alone, whose agent it is. Exits with 0 where it is done or nothing has to be, with 1 where it is refused or has
/// failed, and with 78 where our configuration cannot be used.
#[derive(Clone, Debug, clap::Args)]
#[command(
    override_usage = "puppet-shim setup --mode <MODE> [--apply] [--config <FILE>]\n       puppet-shim setup --undo",
    after_help = EXAMPLES
)]
pub struct SetupArgs {
    /// How the agent is to come to puppet-shim
    #[arg(long, value_enum, required_unless_present = "undo", conflicts_with = "undo")]
    pub mode: Option<Mode>,

    /// Make the changes, rather than print them
    #[arg(long, conflicts_with = "undo")]
    pub apply: bool,

    /// Put back what --apply has changed
    #[arg(long)]
    pub undo: bool,

    /// The configuration to use instead of /etc/puppet-shim/puppet-shim.toml
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Where there is no systemd to be told.
const READ_AGAIN: &str =
    "there is no systemd: have puppet-shim read its configuration again (`kill -HUP` its process), or start it anew";

/// Why others cannot do it.
const NOT_ROOT: &str = "only root can change this host's agent, whose settings are root's: run this as root";

/// What comes of it, with an error for what did not work.
type Outcome = Result<ExitCode, SetupError>;

/// Runs the command.
pub fn setup(args: &SetupArgs) -> ExitCode {
    let configuration = args.config.clone().unwrap_or_else(config::default_file);
    // Whoever undoes it may be in another directory.
    let places = Places::of_host(path::absolute(&configuration).unwrap_or(configuration));
    let (mut out, mut err) = (io::stdout(), io::stderr());
    if (args.apply || args.undo) && !rustix::process::geteuid().is_root() {
        let _ = writeln!(err, "puppet-shim: {NOT_ROOT}");
        return ExitCode::FAILURE;
    }
    process::end_with_us();
    let outcome = match args.mode {
        Some(mode) => set_up(args, mode, &places, &mut out, &mut err),
        None => take_off(&places, &mut out),
    };
    outcome.unwrap_or_else(|error| {
        let _ = writeln!(err, "puppet-shim: {error}");
        ExitCode::FAILURE
    })
}

fn set_up(args: &SetupArgs, mode: Mode, places: &Places, out: &mut dyn Write, err: &mut dyn Write) -> Outcome {
    let config = match Config::load(&places.configuration) {
        Ok(found) => found.map_or_else(Config::default, |Accepted { config, .. }| config),
        Err(Rejected { errors }) => {
            for error in errors {
                let _ = writeln!(err, "{error}");
            }
            return Ok(BAD_CONFIGURATION.into());
        }
    };
    let book = Book::find();
    // Before anything is read that somebody else could be changing.
    let lock = if args.apply { Some(book.lock()?) } else { None };
    let puppet = Puppet::find()?;
    let mut facts = look::look(places, &config, look::settings(&puppet)?, mode)?;
    let record = book.read()?;
    facts.set_up = record.as_ref().map(|record| record.mode);
    let unfinished = record.filter(|record| !record.is_done);
    let mut plan = plan(mode, &facts);
    let drafted = if plan.refusals.is_empty() {
        Some(draft(&puppet, &look::puppet_conf(&puppet)?, places, &facts, unfinished.as_ref(), &mut plan)?)
    } else {
        None
    };
    if !rustix::process::geteuid().is_root() {
        let _ = writeln!(
            err,
            "warning: for a user other than root, Puppet has other settings than for the agent; run this as root"
        );
    }
    if facts.has_systemd
        && let Some(warning) = past_the_service(&places.configuration, &config::default_file())
    {
        let _ = writeln!(err, "warning: {warning}");
    }
    for warning in &plan.warnings {
        let _ = writeln!(err, "warning: {warning}");
    }
    let Some(drafted) = drafted.filter(|_| plan.refusals.is_empty()) else {
        for refusal in &plan.refusals {
            let _ = writeln!(err, "refused: {refusal}");
        }
        book.tidy();
        return Ok(ExitCode::FAILURE);
    };
    if drafted.is_empty() && unfinished.is_none() {
        book.tidy();
        let _ = writeln!(out, "nothing to do: the agent comes to puppet-shim in {mode} mode");
        return Ok(ExitCode::SUCCESS);
    }
    show(mode, args.apply, &plan, &drafted, &puppet, out);
    if !drafted.ours.is_empty() && !facts.has_systemd {
        let _ = writeln!(out, "# {READ_AGAIN}");
    }
    if args.apply {
        apply(&book, mode, &drafted)?;
        let _ = writeln!(out, "# done; `puppet-shim setup --undo` puts it back");
    }
    drop(lock);
    Ok(ExitCode::SUCCESS)
}

/// A file that the packages' service does not read changes nothing for it.
fn past_the_service(named: &Path, service: &Path) -> Option<String> {
    let what = "what is changed in there holds for a puppet-shim that is started with --config";
    let (named_file, service_file) = (named.display(), service.display());
    (named != service).then(|| format!("puppet-shim.service reads {service_file}, and not {named_file}: {what}"))
}

/// Everything that is to be done, as commands and diffs: what is not a command is a comment to a shell.
fn show(mode: Mode, applies: bool, plan: &Plan, drafted: &Draft, puppet: &Puppet, out: &mut dyn Write) {
    let part = |title: &str, lines: Vec<String>| {
        if lines.is_empty() { String::new() } else { format!("\n# {title}:\n{}\n", lines.join("\n")) }
    };
    let files = drafted.files().map(|change| change.diff().trim_end_matches('\n').to_owned());
    let text = [
        format!("# {mode} mode\n#   {}\n", plan.roles.join("\n#   ")),
        part("puppet.conf, by Puppet", drafted.commands(puppet)),
        part("The files", files.collect()),
        part("systemd", drafted.steps.iter().map(|step| step.call()).collect()),
        if applies { String::new() } else { "\n# Nothing has been changed; --apply does.\n".into() },
    ];
    let _ = out.write_all(text.concat().as_bytes());
}

fn take_off(places: &Places, out: &mut dyn Write) -> Outcome {
    let book = Book::find();
    // So that asking leaves no directory behind.
    let lock = if book.read()?.is_some() { Some(book.lock()?) } else { None };
    let Some(record) = book.read()? else {
        let _ = writeln!(out, "nothing to undo: setup has changed nothing on this host");
        return Ok(ExitCode::SUCCESS);
    };
    let mut is_ours_changed = false;
    let outcome = undo(&book, places, record, Puppet::find, |undone| {
        is_ours_changed |= undone.path == places.configuration && !undone.diff.is_empty();
        tell(undone, out);
    });
    if is_ours_changed && !units::is_booted(&places.systemd) {
        let _ = writeln!(out, "{READ_AGAIN}");
    }
    drop(lock);
    outcome.map(|()| ExitCode::SUCCESS)
}

fn tell(undone: &Undone, out: &mut dyn Write) {
    let path = undone.path.display();
    let said = match (undone.is_whole, undone.diff.is_empty()) {
        (true, true) => format!("{path} is as it was\n"),
        (true, false) => format!("{path} is as it was, byte for byte\n"),
        (false, true) => format!("{path} has been changed since, and nothing of ours is left in it\n"),
        (false, false) => format!("{path} has been changed since; what was ours is taken out:\n{}", undone.diff),
    };
    let _ = out.write_all(said.as_bytes());
    for left in &undone.left {
        let _ = writeln!(out, "{path}: {left} is not what setup made it, and is left");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{CommandFactory as _, Parser};

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        setup: SetupArgs,
    }

    #[test]
    fn a_file_that_the_service_does_not_read() {
        let (service, other) = (Path::new("/etc/puppet-shim/puppet-shim.toml"), Path::new("/root/shim.toml"));
        assert_eq!(past_the_service(service, service), None);
        let warning = past_the_service(other, service).unwrap();
        assert!(
            warning.starts_with("puppet-shim.service reads /etc/puppet-shim/puppet-shim.toml, and not /root/shim.toml")
        );
    }

    #[test]
    fn the_arguments_are_well_formed() {
        Cli::command().debug_assert();
        for bad in [&[][..], &["--apply"], &["--undo", "--apply"], &["--undo", "--mode", "proxy"], &["--mode", "x"]] {
            Cli::try_parse_from([&["setup"], bad].concat()).unwrap_err();
        }
        for good in [&["--mode", "port"][..], &["--mode", "alias", "--apply"], &["--undo"]] {
            Cli::try_parse_from([&["setup"], good].concat()).unwrap();
        }
    }
}
