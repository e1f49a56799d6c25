//! Moments and sizes as people read them. No io.

use std::fmt;

use crate::moment::Moment;

/// How long ago that was.
pub(super) fn ago(then: Moment, now: Moment) -> String {
    match then.before(now).as_secs() {
        0 => "now".into(),
        seconds => format!("{} ago", Span(seconds)),
    }
}

/// Seconds, in the unit that fits.
pub(super) struct Span(pub(super) u64);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Span(seconds) = *self;
        match seconds {
            0..120 => write!(f, "{seconds} s"),
            120..7200 => write!(f, "{} min", seconds / 60),
            7200..172_800 => write!(f, "{} h", seconds / 3600),
            _ => write!(f, "{} d", seconds / 86400),
        }
    }
}

/// Bytes, in the unit that fits.
pub(super) struct Size(pub(super) u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
        let Size(bytes) = *self;
        if bytes < 1024 {
            return write!(f, "{bytes} B");
        }
        // In tenths of the unit, which is exact enough for the eye.
        let (mut tenths, mut unit) = (bytes.saturating_mul(10) / 1024, 0);
        while tenths >= 10_240 && unit + 1 < UNITS.len() {
            (tenths, unit) = (tenths / 1024, unit + 1);
        }
        if tenths < 100 {
            write!(f, "{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
        } else {
            write!(f, "{} {}", tenths / 10, UNITS[unit])
        }
    }
}

/// A number with its thousands apart, by a space that does not break.
pub(super) struct Count(pub(super) u64);

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.0.to_string();
        for (nth, digit) in digits.chars().enumerate() {
            if nth > 0 && (digits.len() - nth).is_multiple_of(3) {
                f.write_str("\u{a0}")?;
            }
            write!(f, "{digit}")?;
        }
        Ok(())
    }
}

/// A latency of that many seconds.
pub(super) fn latency(seconds: f64) -> String {
    if seconds < 1.0 { format!("{:.0} ms", seconds * 1000.0) } else { format!("{seconds:.1} s") }
}

/// "1 server", "2 servers".
pub(super) fn many(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn are_read_at_a_glance() {
        let at = Moment::from_unix(1_000_000);
        for (seconds, text) in [
            (0, "now"),
            (1, "1 s ago"),
            (119, "119 s ago"),
            (120, "2 min ago"),
            (7200, "2 h ago"),
            (200_000, "2 d ago"),
        ] {
            assert_eq!(ago(Moment::from_unix(1_000_000 - seconds), at), text);
        }
        assert_eq!(ago(Moment::from_unix(1_000_001), at), "now", "another clock is a little ahead");
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (15_000, "14 KiB"),
            (1 << 20, "1.0 MiB"),
            (u64::MAX, "1638 PiB"),
        ] {
            assert_eq!(Size(bytes).to_string(), text);
        }
        for (count, text) in [(0, "0"), (999, "999"), (1000, "1\u{a0}000"), (1_234_567, "1\u{a0}234\u{a0}567")] {
            assert_eq!(Count(count).to_string(), text);
        }
        assert_eq!((latency(0.0071), latency(1.25)), ("7 ms".into(), "1.2 s".into()));
        assert_eq!((many(1, "role"), many(0, "role")), ("1 role".into(), "0 roles".into()));
    }
}
