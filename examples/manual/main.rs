//! Writes the manual pages and the shells' completions: `cargo run --example manual -- DIRECTORY`.
//!
//! They come from what the program itself goes by: the definitions behind `--help`, and the configuration file as
//! installed. `packaging/build` calls this; the daemon on every host does not carry it along.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::CommandFactory as _;
use clap_complete::Shell;
use clap_mangen::Man;
use puppet_shim::cli::Cli;

mod roff;
mod settings;

/// Pages beside those of the commands.
const SETTINGS: &str = "puppet-shim.toml.5";

/// The configuration file as installed.
const DEFAULT_FILE: &str = include_str!("../../packaging/puppet-shim.toml");

/// What `--help` has no place for.
const REST: &str = r#".SH FILES
.TP
\fI/etc/puppet\-shim/puppet\-shim.toml\fR
The configuration, see
.BR puppet\-shim.toml (5).
Every setting is optional, and so is the file.
.TP
\fI~/.config/puppet\-shim/puppet\-shim.toml\fR
Goes first for a user other than root, if it is there.
.TP
\fI/var/lib/puppet\-shim\fR
The configuration that was accepted last, and what is remembered of DNS and of the servers.
.TP
\fI/var/lib/puppet\-shim\-setup\fR
What
.B puppet\-shim setup
has changed, and what there was before. Root's alone.
.TP
\fI/run/puppet\-shim/status.socket\fR
Where the daemon says what it does, while it runs.
.TP
\fI/usr/share/puppet\-shim\fR
A dashboard for Grafana, and alerts for Prometheus.
.TP
\fI/etc/facter/facts.d/puppet_shim\fR
By which Facter finds the fact
.BR puppet_shim .
.SH ENVIRONMENT
.TP
.B STATE_DIRECTORY
Where state is kept instead, as systemd sets it.
.TP
.B RUNTIME_DIRECTORY
Where the status socket is instead, as systemd sets it.
.TP
.B NO_COLOR
If set, nothing on a terminal has a colour.
.TP
.B PUPPET_SHIM_PUPPET
The agent's
.B puppet
command, where it is neither
.I /opt/puppetlabs/bin/puppet
nor
.IR /usr/bin/puppet .
.TP
.B RUST_LOG
.BR error ,\~ warn ,\~ info ,\~ debug " or " trace :
which lines are logged, where
.B \-\-log
does not say. Unset:
.BR info .
.SH "EXIT STATUS"
.TP
.B 0
It did what it was told.
.TP
.B 1
There is no server to try; something needs a human;
.B check
has found what keeps an agent's run from succeeding; or what was to be set up is refused, or has failed.
.TP
.B 2
The command line is wrong.
.TP
.B 64
What was asked for is no name.
.TP
.B 69
There is nothing it can listen on, or the daemon does not answer.
.TP
.B 71
The system refused what it needs to start.
.TP
.B 74
What was found could not be written.
.TP
.B 77
You may not ask the daemon.
.TP
.B 78
The configuration has an error.
.SH "SEE ALSO"
.BR puppet\-shim\-run (1),
.BR puppet\-shim\-check (1),
.BR puppet\-shim\-resolve (1),
.BR puppet\-shim\-status (1),
.BR puppet\-shim\-setup (1),
.BR puppet\-shim\-fact (1),
.BR puppet\-shim.toml (5),
.BR puppet.conf (5)
"#;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(directory), None) = (arguments.next(), arguments.next()) else {
        let _ = writeln!(io::stderr(), "usage: manual DIRECTORY");
        return ExitCode::from(64);
    };
    match write(&PathBuf::from(directory)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "manual: {error}");
            ExitCode::FAILURE
        }
    }
}

fn write(directory: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    for shell in [Shell::Bash, Shell::Fish, Shell::Zsh] {
        clap_complete::generate_to(shell, &mut Cli::command(), "puppet-shim", directory)?;
    }
    // `puppet-shim help` needs no page.
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    for subcommand in command.get_subcommands() {
        let file = format!("puppet-shim-{}.1", subcommand.get_name());
        fs::write(directory.join(file), page(subcommand.clone())?)?;
    }
    let mut front = page(command)?;
    front.extend_from_slice(REST.as_bytes());
    fs::write(directory.join("puppet-shim.1"), front)?;
    fs::write(directory.join(SETTINGS), settings::page(DEFAULT_FILE))
}

fn page(command: clap::Command) -> io::Result<Vec<u8>> {
    let mut page = Vec::new();
    let source = concat!("puppet-shim ", env!("CARGO_PKG_VERSION"));
    // What a command's help ends with are examples, whose lines are not to be filled.
    let examples = command.get_after_help().map(ToString::to_string);
    let command = command.after_help(None::<&str>);
    Man::new(command).source(source).manual("puppet-shim").render(&mut page)?;
    if let Some(examples) = examples {
        writeln!(page, ".SH EXAMPLES\n.nf")?;
        for line in examples.lines().filter(|line| *line != "Examples:") {
            writeln!(page, "{}", roff::escaped(line.trim_start()))?;
        }
        writeln!(page, ".fi")?;
    }
    Ok(page)
}
