//! Which configuration the daemon runs with.
//!
//! A bad file must not stop it: the repair can only arrive through the daemon, in the next run of the agent. So a file
//! that cannot be used is replaced by the last one that could, which is kept in the state directory, or by the
//! defaults.

use std::fmt;
use std::path::{Path, PathBuf};

use directories::ProjectDirs;

use super::diagnostic::{Diagnostic, Severity};
use super::file::{about_file, read_bytes};
use super::{Accepted, Config, Rejected};
use crate::state::StateDirectory;

/// The file that is read where none is named.
const SYSTEM: &str = "/etc/puppet-shim/puppet-shim.toml";

/// Name of the last accepted configuration in the state directory.
const ACCEPTED: &str = "accepted.toml";

/// The configuration that holds, and how it came to.
#[derive(Clone, Debug, PartialEq)]
pub struct InForce {
    /// What holds.
    pub config: Config,
    /// Where it came from.
    pub origin: Origin,
    /// What to tell the admin: the warnings of what holds, and the errors of what was passed over.
    pub diagnostics: Vec<Diagnostic>,
    /// The file's own text, where it is the file that holds.
    text: Vec<u8>,
}

impl InForce {
    /// Whether what was accepted last is something else: a daemon that runs since has not heard of this one.
    pub fn differs_from_accepted(&self, state: &StateDirectory) -> bool {
        let accepted = read_bytes(&state.file(ACCEPTED)).ok().flatten();
        match &self.origin {
            Origin::File(_) => accepted.is_none_or(|accepted| accepted != self.text),
            Origin::Defaults => accepted.is_some(),
            Origin::LastAccepted { .. } | Origin::DefaultsInstead { .. } => false,
        }
    }

    /// The daemon runs with it: it is kept for the day on which the next one is bad; where it is the defaults by
    /// decision, what was kept is forgotten. Gives the warning where that could not be done.
    pub fn accept(&self, state: &StateDirectory) -> Option<Diagnostic> {
        match &self.origin {
            Origin::File(_) => keep(&self.text, state),
            Origin::Defaults => state.remove(ACCEPTED).err().map(|why| not_kept(state, "removed", &why)),
            Origin::LastAccepted { .. } | Origin::DefaultsInstead { .. } => None,
        }
    }
}

/// Where a configuration came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The file.
    File(PathBuf),
    /// The one accepted last, because the file cannot be used.
    LastAccepted {
        /// The file that cannot be used.
        rejected: PathBuf,
        /// The one that is used instead.
        accepted: PathBuf,
    },
    /// The defaults, because there is no file.
    Defaults,
    /// The defaults, because the file cannot be used and no accepted one is left.
    DefaultsInstead {
        /// The file that cannot be used.
        rejected: PathBuf,
    },
}

impl Origin {
    /// Whether something else holds than what the admin wrote.
    pub fn is_fallback(&self) -> bool {
        matches!(self, Origin::LastAccepted { .. } | Origin::DefaultsInstead { .. })
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::File(file) => write!(f, "{}", file.display()),
            Origin::LastAccepted { rejected, accepted } => {
                write!(
                    f,
                    "the last accepted configuration, {}, because {} cannot be used",
                    accepted.display(),
                    rejected.display()
                )
            }
            Origin::Defaults => f.write_str("the defaults"),
            Origin::DefaultsInstead { rejected } => {
                write!(f, "the defaults, because {} cannot be used", rejected.display())
            }
        }
    }
}

/// The file that is read where none is named: `/etc/puppet-shim/puppet-shim.toml`, for a user other than root
/// `~/.config/puppet-shim/puppet-shim.toml` if there is one.
pub fn default_file() -> PathBuf {
    let user = ProjectDirs::from("", "", "puppet-shim").map(|dirs| dirs.config_dir().join("puppet-shim.toml"));
    match user {
        Some(file) if !rustix::process::geteuid().is_root() && file.exists() => file,
        _ => SYSTEM.into(),
    }
}

/// Finds the configuration to run with; `named` is `--config`. Whatever it meets, there is one. Nothing is written:
/// that is [`InForce::accept`].
///
/// No file at all is a decision too, namely for the defaults; a *named* file that is missing is a mistake.
pub fn in_force(named: Option<&Path>, state: &StateDirectory) -> InForce {
    match named {
        Some(file) => from_file(file.to_owned(), true, state),
        None => from_file(default_file(), false, state),
    }
}

fn from_file(file: PathBuf, must_exist: bool, state: &StateDirectory) -> InForce {
    let bytes = match read_bytes(&file) {
        Ok(Some(bytes)) => bytes,
        Ok(None) if must_exist => return instead(file.clone(), vec![missing(&file)], state),
        Ok(None) => {
            return InForce {
                config: Config::default(),
                origin: Origin::Defaults,
                diagnostics: Vec::new(),
                text: Vec::new(),
            };
        }
        Err(error) => return instead(file, vec![error], state),
    };
    match Config::parse(&bytes, &file) {
        Ok(Accepted { config, warnings: diagnostics }) => {
            InForce { config, origin: Origin::File(file), diagnostics, text: bytes }
        }
        Err(Rejected { errors }) => instead(file, errors, state),
    }
}

/// The error of a named file that is not there.
pub(crate) fn missing(file: &Path) -> Diagnostic {
    about_file(file, "there is no such file", "name one that exists, or none for the default")
}

/// What holds instead of a file that cannot be used.
fn instead(rejected: PathBuf, mut diagnostics: Vec<Diagnostic>, state: &StateDirectory) -> InForce {
    let accepted = state.file(ACCEPTED);
    match Config::load(&accepted) {
        Ok(Some(Accepted { config, warnings })) => {
            diagnostics.extend(warnings);
            let origin = Origin::LastAccepted { rejected, accepted };
            return InForce { config, origin, diagnostics, text: Vec::new() };
        }
        Ok(None) => {}
        // Such as one that a newer version had accepted.
        Err(Rejected { errors }) => diagnostics.extend(errors),
    }
    let origin = Origin::DefaultsInstead { rejected };
    InForce { config: Config::default(), origin, diagnostics, text: Vec::new() }
}

/// Keeps an accepted file. Nothing is written where nothing has changed: a
/// daemon that starts with every agent run should not wear out a disk.
fn keep(bytes: &[u8], state: &StateDirectory) -> Option<Diagnostic> {
    if read_bytes(&state.file(ACCEPTED)).is_ok_and(|kept| kept.as_deref() == Some(bytes)) {
        return None;
    }
    state.write(ACCEPTED, bytes).err().map(|why| not_kept(state, "written", &why))
}

fn not_kept(state: &StateDirectory, done: &str, why: &std::io::Error) -> Diagnostic {
    let message = format!("the copy of the last accepted configuration cannot be {done}: {why}");
    let help = "let the user that puppet-shim runs as write there; until then a bad file is replaced by an older one or the defaults";
    Diagnostic { severity: Severity::Warning, ..about_file(&state.file(ACCEPTED), &message, help) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    struct Host {
        folder: tempfile::TempDir,
    }

    impl Host {
        fn new() -> Self {
            Host { folder: tempfile::tempdir().unwrap() }
        }

        fn file(&self) -> PathBuf {
            self.folder.path().join("shim.toml")
        }

        fn state(&self) -> StateDirectory {
            StateDirectory::at(self.folder.path().join("state"))
        }

        fn accepted(&self) -> Option<String> {
            fs::read_to_string(self.state().file(ACCEPTED)).ok()
        }

        fn start_with(&self, text: &str) -> InForce {
            fs::write(self.file(), text).unwrap();
            self.start()
        }

        fn start(&self) -> InForce {
            self.accepting(in_force(Some(&self.file()), &self.state()))
        }

        /// As `run` does once it listens.
        fn accepting(&self, mut start: InForce) -> InForce {
            start.diagnostics.extend(start.accept(&self.state()));
            start
        }
    }

    #[test]
    fn a_good_file_holds_and_is_kept() {
        let host = Host::new();
        let start = host.start_with("domain = \"one.test\"");
        assert_eq!(start.config.domain.as_deref(), Some("one.test"));
        assert_eq!(start.origin, Origin::File(host.file()));
        assert_eq!(start.diagnostics, []);
        assert_eq!(host.accepted().as_deref(), Some("domain = \"one.test\""));
    }

    #[test]
    fn a_bad_file_gives_way_to_the_last_accepted_one() {
        let host = Host::new();
        host.start_with("domain = \"one.test\"");
        host.start_with("domain = \"two.test\"");
        let start = host.start_with("domian = \"three.test\"");
        assert_eq!(start.config.domain.as_deref(), Some("two.test"));
        assert!(start.origin.is_fallback());
        assert_eq!(start.origin, Origin::LastAccepted { rejected: host.file(), accepted: host.state().file(ACCEPTED) });
        assert_eq!(start.diagnostics.len(), 1);
        assert_eq!(host.accepted().as_deref(), Some("domain = \"two.test\""));
    }

    #[test]
    fn a_bad_file_gives_way_to_the_defaults_where_none_was_accepted() {
        let host = Host::new();
        let start = host.start_with("listen = 7");
        assert_eq!(start.config, Config::default());
        assert_eq!(start.origin, Origin::DefaultsInstead { rejected: host.file() });
        assert_eq!(host.accepted(), None);
    }

    #[test]
    fn what_was_accepted_may_have_become_bad_too() {
        let host = Host::new();
        host.state().write(ACCEPTED, b"from_the_future = true").unwrap();
        let start = host.start_with("listen = 7");
        assert_eq!(start.origin, Origin::DefaultsInstead { rejected: host.file() });
        let files: Vec<_> = start.diagnostics.iter().map(|d| d.file.clone()).collect();
        assert_eq!(files, [host.file(), host.state().file(ACCEPTED)]);
    }

    #[test]
    fn a_named_file_that_is_missing_is_a_mistake() {
        let host = Host::new();
        host.start_with("domain = \"one.test\"");
        fs::remove_file(host.file()).unwrap();
        let start = host.start();
        assert_eq!(start.config.domain.as_deref(), Some("one.test"));
        assert!(start.diagnostics[0].message.contains("no such file"));
    }

    #[test]
    fn no_file_at_all_means_the_defaults_and_forgets_what_was_before() {
        let host = Host::new();
        host.start_with("domain = \"one.test\"");
        fs::remove_file(host.file()).unwrap();
        let start = host.accepting(from_file(host.file(), false, &host.state()));
        assert_eq!((start.config, start.origin, start.diagnostics), (Config::default(), Origin::Defaults, vec![]));
        assert_eq!(host.accepted(), None);
    }

    /// `resolve` looks too, and must not put what somebody tries out in the place of what is known to be good.
    #[test]
    fn to_look_changes_nothing() {
        let host = Host::new();
        host.start_with("domain = \"one.test\"");
        fs::write(host.file(), "domain = \"two.test\"").unwrap();
        assert_eq!(in_force(Some(&host.file()), &host.state()).config.domain.as_deref(), Some("two.test"));
        assert_eq!(host.accepted().as_deref(), Some("domain = \"one.test\""));
    }

    #[test]
    fn a_directory_is_no_file() {
        let host = Host::new();
        fs::create_dir(host.file()).unwrap();
        let start = host.start();
        assert_eq!(start.config, Config::default());
        assert!(start.diagnostics[0].message.contains("directory"));
    }

    #[test]
    fn an_unchanged_file_is_not_written_again() {
        use std::os::unix::fs::MetadataExt as _;
        let host = Host::new();
        let inode = || fs::metadata(host.state().file(ACCEPTED)).unwrap().ino();
        host.start_with("domain = \"one.test\"");
        let first = inode();
        host.start();
        assert_eq!(inode(), first);
    }

    #[test]
    fn a_state_directory_that_cannot_be_written_is_a_warning() {
        let host = Host::new();
        fs::write(host.state(), "a file in its place").unwrap();
        let start = host.start_with("domain = \"one.test\"");
        assert_eq!(start.origin, Origin::File(host.file()));
        assert_eq!(start.diagnostics.len(), 1);
        assert_eq!(start.diagnostics[0].severity, Severity::Warning);
    }
}
