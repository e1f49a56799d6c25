//! The Puppet agent on this host, as `puppet config` tells of it.
//!
//! Its files are never parsed here: which of them count, in which section, with which defaults, is Puppet's to say, and
//! differs between packages and versions.

pub mod environment;
mod value;

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::Value;

use crate::process::{self, ProcessError};

/// Where packages put it: those of Puppet and of `OpenVox`, then Debian's. If both are there, the first is whose service
/// runs: Debian's cannot be installed beside it without a conflict over `puppet.service`.
const COMMANDS: [&str; 2] = ["/opt/puppetlabs/bin/puppet", "/usr/bin/puppet"];

/// Where its library is, from the directory of the command: in the same packages.
const LIBRARIES: [&str; 2] = ["../puppet/lib/ruby/vendor_ruby", "../lib/ruby/vendor_ruby"];

/// Names another one, for a host where neither of these is the agent's.
pub const COMMAND_VARIABLE: &str = "PUPPET_SHIM_PUPPET";

/// What the agent's service reads into its environment (`EnvironmentFile=` of `puppet.service`, and the init script of old).
pub const ENVIRONMENT_FILES: [&str; 3] = ["/etc/sysconfig/puppetagent", "/etc/sysconfig/puppet", "/etc/default/puppet"];

/// How long a command may take: Puppet starts in a second or two, in many more on a host that is busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// The `puppet` command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Puppet {
    command: PathBuf,
    /// Another `puppet.conf` than the agent's own.
    config: Option<PathBuf>,
    /// How long it is waited for.
    patience: Duration,
}

/// Values of Puppet's settings, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings(BTreeMap<String, String>);

/// Why Puppet could not be asked, or did not do as it was told.
#[derive(Debug, thiserror::Error)]
pub enum PuppetError {
    /// There is none.
    #[error("there is no puppet command: {} {}; install the agent, or name it in {COMMAND_VARIABLE}", .0.join(", "), if .0.len() == 1 { "is not there" } else { "are not there" })]
    Absent(Vec<String>),
    /// It cannot be started.
    #[error("{} cannot be started: {why}", .command.display())]
    NotStarted {
        /// Which command.
        command: PathBuf,
        /// What the kernel says.
        why: io::Error,
    },
    /// It hangs.
    #[error("`{call}`: {why}; call it by hand, and see what it waits for")]
    Slow {
        /// As typed.
        call: String,
        /// For how long it was waited for.
        why: ProcessError,
    },
    /// It says that something is wrong, in its own words.
    #[error("`{call}`: {said}")]
    Failed {
        /// As typed.
        call: String,
        /// Its error lines, without colours.
        said: String,
    },
}

impl Puppet {
    /// The one in [`COMMAND_VARIABLE`], else the agent's of this host.
    pub fn find() -> Result<Self, PuppetError> {
        if let Some(command) = env::var_os(COMMAND_VARIABLE).filter(|command| !command.is_empty()) {
            return Self::first([Path::new(&command)]);
        }
        Self::first(COMMANDS.map(Path::new))
    }

    fn first<'a>(commands: impl IntoIterator<Item = &'a Path>) -> Result<Self, PuppetError> {
        let mut absent = Vec::new();
        for command in commands {
            if command.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0) {
                return Ok(Puppet { command: command.to_owned(), config: None, patience: PATIENCE });
            }
            absent.push(command.display().to_string());
        }
        Err(PuppetError::Absent(absent))
    }

    /// The command's path.
    pub fn command(&self) -> &Path {
        &self.command
    }

    /// Other agents' commands that are installed beside it, and are not asked. One that is a link to it is none.
    pub fn others(&self) -> Vec<&'static str> {
        let own = self.command.canonicalize().ok();
        let is_other = |command: &&str| Path::new(command).canonicalize().is_ok_and(|other| Some(other) != own);
        COMMANDS.into_iter().filter(is_other).collect()
    }

    /// Its version, `8.10.0`, as the package's library has it: to start Puppet for that takes a second. `None`: it is none of
    /// a package.
    pub fn version(&self) -> Option<String> {
        let directory = self.command.parent()?;
        let read = |library| fs::read_to_string(directory.join(library).join("puppet/version.rb")).ok();
        LIBRARIES.into_iter().find_map(read).as_deref().and_then(version)
    }

    /// The same command with this file in the place of the agent's `puppet.conf`: what it would make of a copy.
    #[must_use]
    pub fn with_config(&self, file: &Path) -> Self {
        Puppet { config: Some(file.to_owned()), ..self.clone() }
    }

    /// What these settings are for `section` (`main`, or `agent`, which has what `main` says unless it says otherwise).
    /// Blocks for the seconds that Puppet takes to start, at most for a minute.
    pub fn settings(&self, section: &str, names: &[&str]) -> Result<Settings, PuppetError> {
        let output = self.output(&print(section, names))?;
        self.answer(section, names, &output)
    }

    /// The command that prints these settings, for who waits for it himself.
    pub fn question(&self, section: &str, names: &[&str]) -> Command {
        self.calling(&print(section, names))
    }

    /// What it has printed.
    pub fn answer(&self, section: &str, names: &[&str], output: &Output) -> Result<Settings, PuppetError> {
        let args = print(section, names);
        self.ended_well(&args, output)?;
        let Ok(Value::Object(object)) = serde_json::from_slice(&output.stdout) else {
            return Err(self.failed(&args, output));
        };
        Ok(Settings(object.iter().map(|(name, value)| (name.clone(), value::text(value))).collect()))
    }

    /// Writes a setting to `puppet.conf`, as an administrator would. Blocks likewise.
    pub fn set(&self, section: &str, name: &str, value: &str) -> Result<(), PuppetError> {
        self.run(&["config", "set", "--section", section, name, value])
    }

    /// Takes a setting out of `puppet.conf`; one that is not there is no error. Blocks likewise.
    pub fn delete(&self, section: &str, name: &str) -> Result<(), PuppetError> {
        self.run(&["config", "delete", "--section", section, name])
    }

    fn run(&self, args: &[&str]) -> Result<(), PuppetError> {
        self.ended_well(args, &self.output(args)?)
    }

    fn calling(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.command);
        command.args(args);
        if let Some(file) = &self.config {
            command.arg("--config").arg(file);
        }
        command
    }

    fn output(&self, args: &[&str]) -> Result<Output, PuppetError> {
        process::run(self.calling(args), self.patience).map_err(|why| match why {
            ProcessError::Io(why) => PuppetError::NotStarted { command: self.command.clone(), why },
            why @ ProcessError::Slow(_) => PuppetError::Slow { call: self.call(args), why },
        })
    }

    fn ended_well(&self, args: &[&str], output: &Output) -> Result<(), PuppetError> {
        // It ends with 0 even where it could not read puppet.conf, and goes on with its defaults.
        if output.status.success() && value::errors(&output.stderr).is_empty() {
            Ok(())
        } else {
            Err(self.failed(args, output))
        }
    }

    fn failed(&self, args: &[&str], output: &Output) -> PuppetError {
        let mut said = value::errors(&output.stderr);
        if said.is_empty() {
            said = format!("it ended with {} and said nothing that is understood", output.status);
        }
        PuppetError::Failed { call: self.call(args), said }
    }

    /// The command as one would type it.
    pub fn call(&self, args: &[impl AsRef<OsStr>]) -> String {
        let command = self.command.display().to_string();
        let mut words = vec![value::quoted(&command)];
        words.extend(args.iter().map(|arg| value::quoted(&arg.as_ref().to_string_lossy())));
        words.join(" ")
    }
}

/// That in `PUPPETVERSION = '8.10.0'`.
fn version(library: &str) -> Option<String> {
    let quoted = library.lines().find_map(|line| line.trim().strip_prefix("PUPPETVERSION = "))?;
    let version = quoted.trim_matches(['\'', '"']);
    version.starts_with(|c: char| c.is_ascii_digit()).then(|| version.to_owned())
}

fn print<'a>(section: &'a str, names: &[&'a str]) -> Vec<&'a str> {
    [&["config", "print", "--section", section, "--render-as", "json"], names].concat()
}

impl Settings {
    /// The setting's value; `None` where it has none, which Puppet writes as nothing or, for the proxy's, `none`.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty() && *value != "none")
    }

    /// The setting's value where that is a number.
    pub fn number(&self, name: &str) -> Option<u64> {
        self.get(name)?.parse().ok()
    }

    /// Whether it is on.
    pub fn is_on(&self, name: &str) -> bool {
        self.get(name) == Some("true")
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Settings {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(settings: I) -> Self {
        Settings(settings.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, MutexGuard, PoisonError};

    use super::*;

    /// While one test writes its command no other may start one: the child would have the file open, and "text file busy"
    /// would be the end of the first.
    static ONE: Mutex<()> = Mutex::new(());

    /// A command that does as told by `script`.
    fn fake(script: &str) -> ((MutexGuard<'static, ()>, tempfile::TempDir), Puppet) {
        let turn = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = tempfile::tempdir().unwrap();
        let command = folder.path().join("puppet");
        fs::write(&command, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&command, fs::Permissions::from_mode(0o755)).unwrap();
        ((turn, folder), Puppet { command, config: None, patience: PATIENCE })
    }

    #[test]
    fn reads_settings() {
        let (_folder, puppet) = fake(
            r#"[ "$*" = "config print --section agent --render-as json server server_list" ] || exit 9
echo '{"server":"puppet","ca_port":8140,"use_srv_records":true,"sourceaddress":null,"http_proxy_host":"none","server_list":[["a","1"],["b"]]}'"#,
        );
        let settings = puppet.settings("agent", &["server", "server_list"]).unwrap();
        assert_eq!(settings.get("server"), Some("puppet"));
        assert_eq!(settings.number("ca_port"), Some(8140));
        assert!(settings.is_on("use_srv_records"));
        assert_eq!(settings.get("server_list"), Some("a:1,b"));
        for name in ["sourceaddress", "http_proxy_host", "never_asked_for"] {
            assert_eq!(settings.get(name), None, "{name}");
        }
    }

    /// As Puppet 7.23 does with a puppet.conf that it cannot read.
    #[test]
    fn an_error_counts_even_with_exit_code_0() {
        let (_folder, puppet) =
            fake(r#"printf '\033[1;31mError: Could not parse x\033[0m\n' >&2; echo '{"server":"puppet"}'"#);
        let error = puppet.settings("main", &["server"]).unwrap_err().to_string();
        assert!(error.ends_with(": Could not parse x"), "{error}");
        assert!(!error.contains('\x1b'));
    }

    #[test]
    fn tells_its_version() {
        let folder = tempfile::tempdir().unwrap();
        let puppet = Puppet { command: folder.path().join("bin/puppet"), config: None, patience: PATIENCE };
        fs::create_dir(folder.path().join("bin")).unwrap();
        assert_eq!(puppet.version(), None);
        for (library, version) in [("lib/ruby/vendor_ruby", "7.23.0"), ("puppet/lib/ruby/vendor_ruby", "8.10.0")] {
            let library = folder.path().join(library).join("puppet");
            fs::create_dir_all(&library).unwrap();
            fs::write(library.join("version.rb"), format!("module Puppet\n  PUPPETVERSION = '{version}'\n")).unwrap();
            assert_eq!(puppet.version().as_deref(), Some(version));
        }
        // Debian's, of which the other tests speak.
        let debians = Puppet { command: COMMANDS[1].into(), config: None, patience: PATIENCE };
        assert!(debians.version().is_some_and(|version| version.starts_with("7.")));
    }

    #[test]
    fn what_is_not_understood_is_an_error() {
        for script in ["echo nonsense", "exit 3"] {
            let (_folder, puppet) = fake(script);
            let error = puppet.settings("main", &["server"]).unwrap_err().to_string();
            assert!(error.contains("config print --section main --render-as json server"), "{error}");
        }
    }

    #[test]
    fn one_that_hangs_is_not_waited_for() {
        let (_folder, puppet) = fake("sleep 60; true");
        let puppet = Puppet { patience: Duration::from_millis(100), ..puppet };
        let began = tokio::time::Instant::now();
        for error in [puppet.settings("main", &["server"]).unwrap_err(), puppet.delete("main", "server").unwrap_err()] {
            let (error, command) = (error.to_string(), puppet.command().display());
            assert!(error.starts_with(&format!("`{command} config ")), "{error}");
            assert!(error.contains("server`: it did not end within 0.1 s, and was killed; call it by hand"), "{error}");
        }
        assert!(began.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn takes_another_file() {
        let (_folder, puppet) = fake(r#"[ "$*" = "config set --section main a b --config /x/puppet.conf" ]"#);
        puppet.with_config(Path::new("/x/puppet.conf")).set("main", "a", "b").unwrap();
        puppet.set("main", "a", "b").unwrap_err();
    }

    #[test]
    fn says_what_is_not_there() {
        let error = Puppet::first(["/nowhere/puppet", "/"].map(Path::new)).unwrap_err().to_string();
        assert!(error.starts_with("there is no puppet command: /nowhere/puppet, / are not there"), "{error}");
    }
}
