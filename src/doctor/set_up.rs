//! Whether this host's agent has been sent here: what goes past puppet-shim is a fault from then on.

use super::finding::Finding;
use crate::setup::Mode;
use crate::setup::record::Book;

/// Whether `puppet-shim setup --apply` has been at work, and has not been undone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum SetUp {
    /// It has not, as far as can be told: the agent may have been sent here by other means.
    #[default]
    Never,
    /// It has, with this mode; `None`: its record cannot be read.
    Done(Option<Mode>),
}

impl SetUp {
    /// By the record, which is root's alone, as the agent is: another user has a puppet.conf of his own, which `setup` does
    /// not change.
    pub(super) fn of_host() -> Self {
        if !rustix::process::geteuid().is_root() {
            return SetUp::Never;
        }
        match Book::find().read() {
            Ok(None) => SetUp::Never,
            Ok(Some(record)) => SetUp::Done(Some(record.mode)),
            Err(_) => SetUp::Done(None),
        }
    }

    /// Whether the agent has been sent here.
    pub(super) fn is_done(self) -> bool {
        self != SetUp::Never
    }

    /// What sends the agent here, or does so again.
    pub(super) fn command(self) -> String {
        let mode = match self {
            SetUp::Done(Some(mode)) => mode,
            SetUp::Never => Mode::Proxy,
            SetUp::Done(None) => return "`puppet-shim setup --undo`, which says why its record cannot be read".into(),
        };
        format!("`puppet-shim setup --mode {mode} --apply`")
    }

    /// That the agent goes past puppet-shim: a problem where it has been sent here, else a warning.
    pub(super) fn past(self, subject: impl Into<String>, what: impl Into<String>, mend: impl Into<String>) -> Finding {
        Finding::problem("way", subject, what, mend).unless(!self.is_done())
    }
}
