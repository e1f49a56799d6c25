//! Where the configuration in force came from, for who asks the daemon.

use std::time::SystemTime;

use super::{InForce, Origin};

/// Where the configuration in force came from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Provenance {
    /// The file, or what holds instead of it; `None`: nobody has said.
    pub origin: Option<Origin>,
    /// When it was read.
    pub read: Option<SystemTime>,
    /// What there is to say of it: its warnings, and the errors of a file that was passed over at the start.
    pub diagnostics: Vec<String>,
    /// A file that was to be read again since, and cannot be used.
    pub rejected: Option<RejectedReload>,
}

/// A file that was to be read again and cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RejectedReload {
    /// When that was.
    pub at: SystemTime,
    /// Its errors.
    pub diagnostics: Vec<String>,
}

impl Provenance {
    /// Of a configuration that was read just now.
    pub fn of(found: &InForce, now: SystemTime) -> Self {
        Provenance { origin: Some(found.origin.clone()), read: Some(now), diagnostics: texts(found), rejected: None }
    }

    /// What was read just now cannot be used, and it goes on as before.
    pub fn reject(&mut self, found: &InForce, now: SystemTime) {
        self.rejected = Some(RejectedReload { at: now, diagnostics: texts(found) });
    }
}

fn texts(found: &InForce) -> Vec<String> {
    found.diagnostics.iter().map(ToString::to_string).collect()
}
