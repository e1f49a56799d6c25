//! Durations and sizes with their units: `250ms`, `2s`, `5min`, `1h`, `7d`; `16KiB`, `64KB`, `1MiB`.
//!
//! The unit is required. A bare number is read as seconds by one tool and as milliseconds by the next, and Puppet
//! itself has settings of both kinds.

use std::fmt::Write as _;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::diagnostic::{Problem, quoted};

/// One kind of quantity: its name, and its units from small to large, each with its worth in the smallest.
struct Scale {
    /// With its article.
    noun: &'static str,
    /// The units that may be written.
    units: &'static [(&'static str, u64)],
    /// What people write instead of a unit, and the unit they mean.
    aliases: &'static [(&'static str, &'static str)],
    /// The unit proposed for a bare number.
    usual: &'static str,
    /// Opposites for the error about the range.
    too_low: &'static str,
    too_high: &'static str,
}

const DURATION: Scale = Scale {
    noun: "a duration",
    units: &[("ms", 1), ("s", 1000), ("min", 60_000), ("h", 3_600_000), ("d", 86_400_000)],
    aliases: &[
        ("m", "min"),
        ("msec", "ms"),
        ("millis", "ms"),
        ("sec", "s"),
        ("secs", "s"),
        ("second", "s"),
        ("seconds", "s"),
        ("mins", "min"),
        ("minute", "min"),
        ("minutes", "min"),
        ("hr", "h"),
        ("hour", "h"),
        ("hours", "h"),
        ("day", "d"),
        ("days", "d"),
    ],
    usual: "s",
    too_low: "short",
    too_high: "long",
};

const SIZE: Scale = Scale {
    noun: "a size",
    units: &[("B", 1), ("KB", 1000), ("KiB", 1024), ("MB", 1_000_000), ("MiB", 1_048_576)],
    aliases: &[("b", "B"), ("bytes", "B"), ("k", "KiB"), ("kb", "KB"), ("kib", "KiB"), ("m", "MiB"), ("mib", "MiB")],
    usual: "KiB",
    too_low: "small",
    too_high: "large",
};

/// Reads a duration, such as `2s`, and checks that it lies in `range`.
pub(super) fn duration(text: &str, range: &RangeInclusive<Duration>) -> Result<Duration, Problem> {
    // Every range ends below 2^64 ms.
    let millis = |d: &Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
    DURATION.read(text, &(millis(range.start())..=millis(range.end()))).map(Duration::from_millis)
}

/// Reads a size in bytes, such as `16KiB`, and checks that it lies in `range`.
pub(super) fn size(text: &str, range: &RangeInclusive<u64>) -> Result<u64, Problem> {
    SIZE.read(text, range)
}

/// What to say of a number where a duration belongs.
pub(super) fn bare_duration(number: &str) -> Problem {
    DURATION.bare(number)
}

/// What to say of a number where a size belongs.
pub(super) fn bare_size(number: &str) -> Problem {
    SIZE.bare(number)
}

/// A duration as it would be written in the file, in the largest unit that needs no fraction.
pub(super) fn write_duration(duration: Duration) -> String {
    DURATION.write(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

impl Scale {
    fn read(&self, text: &str, range: &RangeInclusive<u64>) -> Result<u64, Problem> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        if number.is_empty() {
            return Err(self.not_one(text, range));
        }
        if unit.is_empty() {
            return Err(self.bare(number));
        }
        let Some((_, worth)) = self.units.iter().find(|(name, _)| *name == unit) else {
            return Err(self.unknown_unit(text, number, unit, range));
        };
        // Digits alone can fail to parse only by being too many.
        let amount = number.parse::<u64>().ok().and_then(|n| n.checked_mul(*worth)).unwrap_or(u64::MAX);
        let how = if amount < *range.start() {
            self.too_low
        } else if amount > *range.end() {
            self.too_high
        } else {
            return Ok(amount);
        };
        Err(Problem::new(format!("{} is too {how}", quoted(text)), self.allowed(range)))
    }

    fn bare(&self, number: &str) -> Problem {
        Problem::new(
            format!("{} has no unit", quoted(number)),
            format!("write \"{number}{}\", or another of the units {}", self.usual, self.unit_names()),
        )
    }

    fn unknown_unit(&self, text: &str, number: &str, unit: &str, range: &RangeInclusive<u64>) -> Problem {
        let meant = unit.trim();
        let known = self.units.iter().map(|(name, _)| *name).find(|name| *name == meant);
        let alias =
            || self.aliases.iter().find(|(alias, _)| *alias == meant.to_ascii_lowercase()).map(|(_, unit)| *unit);
        if let Some(unit) = known.or_else(alias) {
            return Problem::new(format!("{} is not {}", quoted(text), self.noun), format!("write \"{number}{unit}\""));
        }
        if unit.starts_with(|c: char| c.is_alphabetic()) && unit.chars().all(char::is_alphabetic) {
            return Problem::new(
                format!("{} is not a unit of {}", quoted(unit), self.noun),
                format!("write one of {}", self.unit_names()),
            );
        }
        self.not_one(text, range)
    }

    fn not_one(&self, text: &str, range: &RangeInclusive<u64>) -> Problem {
        Problem::new(
            format!("{} is not {}", quoted(text), self.noun),
            format!(
                "write a whole number and one of the units {}, such as \"{}\"",
                self.unit_names(),
                // Nothing at all is no good example.
                self.write(if *range.start() == 0 { *range.end() } else { *range.start() })
            ),
        )
    }

    fn allowed(&self, range: &RangeInclusive<u64>) -> String {
        format!("write {} from {} to {}", self.noun, self.write(*range.start()), self.write(*range.end()))
    }

    fn write(&self, amount: u64) -> String {
        if amount == 0 {
            // Every unit would do; this is the one that people write.
            return format!("0{}", self.usual);
        }
        let whole = self.units.iter().rev().find(|(_, worth)| amount.is_multiple_of(*worth));
        let (name, worth) = whole.unwrap_or(&self.units[0]);
        format!("{}{name}", amount / worth)
    }

    fn unit_names(&self) -> String {
        let mut names = String::new();
        for (at, (name, _)) in self.units.iter().enumerate() {
            let gap = if at == 0 { "" } else { ", " };
            // Writing to a String cannot fail.
            let _ = write!(names, "{gap}{name}");
        }
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);

    fn said(problem: Result<impl std::fmt::Debug, Problem>) -> String {
        let problem = problem.unwrap_err();
        format!("{}; {}", problem.message, problem.help.unwrap())
    }

    fn any_duration(text: &str) -> Result<Duration, Problem> {
        duration(text, &(Duration::from_millis(10)..=WEEK))
    }

    #[test]
    fn reads_durations() {
        for (text, millis) in [
            ("250ms", 250),
            ("2s", 2000),
            ("5min", 300_000),
            ("1h", 3_600_000),
            ("7d", 604_800_000),
            ("007s", 7000),
            ("10ms", 10),
        ] {
            assert_eq!(any_duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn zero_is_a_duration_where_the_range_begins_with_it() {
        let day = Duration::ZERO..=Duration::from_secs(24 * 3600);
        for text in ["0s", "0ms", "0d"] {
            assert_eq!(duration(text, &day), Ok(Duration::ZERO), "{text}");
        }
        assert_eq!(
            said(duration("0", &day)),
            r#""0" has no unit; write "0s", or another of the units ms, s, min, h, d"#
        );
        assert_eq!(said(duration("2d", &day)), r#""2d" is too long; write a duration from 0s to 1d"#);
        assert_eq!(
            said(duration("never", &day)),
            r#""never" is not a duration; write a whole number and one of the units ms, s, min, h, d, such as "1d""#
        );
    }

    #[test]
    fn reads_sizes() {
        for (text, bytes) in
            [("512B", 512), ("64KB", 64_000), ("16KiB", 16_384), ("2MB", 2_000_000), ("1MiB", 1_048_576)]
        {
            assert_eq!(size(text, &(1..=u64::MAX)), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn says_what_to_write_instead() {
        for (text, expected) in [
            ("2", r#""2" has no unit; write "2s", or another of the units ms, s, min, h, d"#),
            ("5m", r#""5m" is not a duration; write "5min""#),
            ("2 s", r#""2 s" is not a duration; write "2s""#),
            ("2 Seconds", r#""2 Seconds" is not a duration; write "2s""#),
            ("2parsecs", r#""parsecs" is not a unit of a duration; write one of ms, s, min, h, d"#),
            (
                "1.5s",
                r#""1.5s" is not a duration; write a whole number and one of the units ms, s, min, h, d, such as "10ms""#,
            ),
            (
                "-1s",
                r#""-1s" is not a duration; write a whole number and one of the units ms, s, min, h, d, such as "10ms""#,
            ),
            ("", r#""" is not a duration; write a whole number and one of the units ms, s, min, h, d, such as "10ms""#),
            (
                "1h30min",
                r#""1h30min" is not a duration; write a whole number and one of the units ms, s, min, h, d, such as "10ms""#,
            ),
            ("9ms", r#""9ms" is too short; write a duration from 10ms to 7d"#),
            ("0s", r#""0s" is too short; write a duration from 10ms to 7d"#),
            ("8d", r#""8d" is too long; write a duration from 10ms to 7d"#),
            ("99999999999999999999d", r#""99999999999999999999d" is too long; write a duration from 10ms to 7d"#),
        ] {
            assert_eq!(said(any_duration(text)), expected);
        }
        let hello = 1024..=65536;
        assert_eq!(said(size("16k", &hello)), r#""16k" is not a size; write "16KiB""#);
        assert_eq!(said(size("1KB", &hello)), r#""1KB" is too small; write a size from 1KiB to 64KiB"#);
        assert_eq!(
            said(size("16", &hello)),
            r#""16" has no unit; write "16KiB", or another of the units B, KB, KiB, MB, MiB"#
        );
    }

    #[test]
    fn writes_the_largest_whole_unit() {
        assert_eq!(write_duration(Duration::from_secs(600)), "10min");
        assert_eq!(write_duration(Duration::from_millis(1500)), "1500ms");
        assert_eq!(write_duration(WEEK), "7d");
        assert_eq!(write_duration(Duration::ZERO), "0s");
    }
}
