//! A moment on the host's clock, as it is told to others: in seconds, written as RFC 3339 in UTC.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::time::Instant;

/// The last second that RFC 3339 can write: the end of the year 9999.
const LAST: u64 = 253_402_300_799;

/// Whole seconds since 1970, of a year not beyond 9999.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(u64);

impl Moment {
    /// That many seconds after 1970 began.
    pub fn from_unix(seconds: u64) -> Self {
        Moment(seconds.min(LAST))
    }

    /// Seconds since 1970.
    pub fn unix(self) -> u64 {
        self.0
    }

    /// How long ago it was; zero where it is still to come.
    pub fn before(self, later: Moment) -> Duration {
        Duration::from_secs(later.0.saturating_sub(self.0))
    }
}

impl From<SystemTime> for Moment {
    fn from(time: SystemTime) -> Self {
        Moment::from_unix(time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs())
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = i64::try_from(self.0).map_err(|_| fmt::Error)?;
        let time = OffsetDateTime::from_unix_timestamp(seconds).map_err(|_| fmt::Error)?;
        f.write_str(&time.format(&Rfc3339).map_err(|_| fmt::Error)?)
    }
}

/// The text is no moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is no time in the form of 2026-01-31T12:00:00Z")]
pub struct NoMoment;

impl FromStr for Moment {
    type Err = NoMoment;

    fn from_str(text: &str) -> Result<Self, NoMoment> {
        let time = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| NoMoment)?;
        u64::try_from(time.unix_timestamp()).map(Moment::from_unix).map_err(|_| NoMoment)
    }
}

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// One moment on both clocks: on this process's own, which nobody sets, and on the host's, which others can read.
#[derive(Clone, Copy, Debug)]
pub struct Clocks {
    /// On the process's.
    pub now: Instant,
    /// On the host's.
    pub wall: SystemTime,
}

impl Clocks {
    /// This one.
    pub fn read() -> Self {
        Clocks { now: Instant::now(), wall: crate::memory::clock() }
    }

    /// What the host's clock shows then, as far as it goes on as it does now.
    pub fn at(&self, then: Instant) -> Moment {
        let wall = match then.checked_duration_since(self.now) {
            Some(ahead) => self.wall.checked_add(ahead),
            None => self.wall.checked_sub(self.now.saturating_duration_since(then)),
        };
        wall.unwrap_or(UNIX_EPOCH).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_written_as_others_read_it() {
        let moment = Moment::from_unix(1_764_097_240);
        assert_eq!(serde_json::to_string(&moment).unwrap(), "\"2025-11-25T19:00:40Z\"");
        assert_eq!(serde_json::from_str::<Moment>("\"2025-11-25T20:00:40.9+01:00\"").unwrap(), moment);
        assert_eq!(Moment::from_unix(u64::MAX).to_string(), "9999-12-31T23:59:59Z");
        for text in ["", "yesterday", "1969-12-31T23:59:59Z", "2025-11-25"] {
            assert_eq!(text.parse::<Moment>(), Err(NoMoment), "{text}");
        }
    }

    #[test]
    fn both_clocks_go_on_together() {
        let clocks = Clocks { now: Instant::now(), wall: UNIX_EPOCH + Duration::from_secs(1000) };
        let second = Duration::from_secs(1);
        assert_eq!(clocks.at(clocks.now + 60 * second), Moment::from_unix(1060));
        assert_eq!(clocks.at(clocks.now.checked_sub(second).unwrap()), Moment::from_unix(999));
        assert_eq!(Moment::from_unix(1060).before(Moment::from_unix(1000)), Duration::ZERO);
    }
}
