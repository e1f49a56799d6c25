//! How a server stands, in a word: the same one wherever it is told. No io.

use super::{RankStatus, ServerStatus};

/// How a server stands, all that is known of it taken together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nothing is against it.
    Good,
    /// Something was, and it has not answered since.
    Doubtful,
    /// Its certificate lacks a name that agents ask for: it comes last.
    WrongName,
    /// Another one answered while it was still silent: others go first.
    Slow,
    /// It failed: others go first.
    Down,
}

impl Standing {
    /// All of them.
    pub const ALL: [Standing; 5] =
        [Standing::Good, Standing::Doubtful, Standing::WrongName, Standing::Slow, Standing::Down];

    /// The word for it in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Standing::Good => "good",
            Standing::Doubtful => "doubtful",
            Standing::WrongName => "wrong_name",
            Standing::Slow => "slow",
            Standing::Down => "down",
        }
    }
}

impl ServerStatus {
    /// How it stands.
    pub fn standing(&self) -> Standing {
        match self.rank {
            RankStatus::Down => Standing::Down,
            RankStatus::Slow => Standing::Slow,
            RankStatus::Good if self.is_doubtful => Standing::Doubtful,
            RankStatus::Good if self.certificates.iter().any(|certificate| certificate.verdict == "unnamed") => {
                Standing::WrongName
            }
            RankStatus::Good => Standing::Good,
        }
    }
}
