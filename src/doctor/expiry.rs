//! How long a certificate is still good.

use super::finding::Verdict;
use crate::certificate::{Names, day};

/// In seconds. An agent of Puppet 8.2 or later has its certificate renewed when so much is left (`hostcert_renewal_interval`).
const SOON: i64 = 30 * DAY;

/// In seconds.
pub(super) const DAY: i64 = 24 * 60 * 60;

/// What allows that, on the CA; without it, it answers 404, and the agent goes on.
pub(super) const RENEWAL: &str = "`allow-auto-renewal: true` in its ca.conf";

/// How a certificate's dates stand, in words that follow `the certificate`. Times in seconds since 1970-01-01 UTC.
pub(super) fn judge(names: &Names, now: i64) -> (Verdict, String) {
    let (from, until) = (names.not_before(), names.not_after());
    if now > until {
        return (Verdict::Problem, format!("expired on {}", day(until)));
    }
    if now < from {
        return (Verdict::Problem, format!("is not valid before {}: one of the two clocks is wrong", day(from)));
    }
    let verdict = if until - now < SOON { Verdict::Warning } else { Verdict::Ok };
    (verdict, format!("is good until {}", day(until)))
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    #[test]
    fn by_the_day() {
        let mut params = CertificateParams::new(vec!["puppet".to_owned()]).unwrap();
        (params.not_before, params.not_after) = (date_time_ymd(2026, 1, 1), date_time_ymd(2027, 1, 1));
        let der = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let names = Names::of(der.der()).unwrap();
        let judged = |year, month, day| judge(&names, date_time_ymd(year, month, day).unix_timestamp());
        assert_eq!(judged(2026, 6, 1), (Verdict::Ok, "is good until 2027-01-01".into()));
        assert_eq!(judged(2026, 12, 3).0, Verdict::Warning);
        assert_eq!(judged(2027, 1, 2), (Verdict::Problem, "expired on 2027-01-01".into()));
        assert_eq!(judged(2025, 12, 31).0, Verdict::Problem);
    }
}
