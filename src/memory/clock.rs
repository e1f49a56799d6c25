//! Moments on the clock of this process and on that of the host, which outlives it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

/// Milliseconds since 1970.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Stamp(u64);

/// One moment on both clocks.
pub(super) struct Clocks {
    pub(super) now: Instant,
    pub(super) wall: SystemTime,
}

impl Clocks {
    pub(super) fn stamp(&self, at: Instant) -> Stamp {
        let wall = match at.checked_duration_since(self.now) {
            Some(ahead) => self.wall.checked_add(ahead),
            None => self.wall.checked_sub(self.now.saturating_duration_since(at)),
        };
        let since_1970 = wall.and_then(|wall| wall.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
        Stamp(u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX))
    }

    /// A moment that has been; `None`: it is still to come, or too long ago for this process's clock.
    pub(super) fn past(&self, stamp: Stamp) -> Option<Instant> {
        let then = UNIX_EPOCH.checked_add(Duration::from_millis(stamp.0))?;
        self.now.checked_sub(self.wall.duration_since(then).ok()?)
    }

    /// How long until then; zero where it has been. `longest`: where it cannot be told.
    pub(super) fn left(&self, stamp: Stamp, longest: Duration) -> Duration {
        let Some(then) = UNIX_EPOCH.checked_add(Duration::from_millis(stamp.0)) else { return longest };
        then.duration_since(self.wall).unwrap_or_default()
    }
}
