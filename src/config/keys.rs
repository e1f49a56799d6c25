//! The keys that a configuration may have.

/// The keys of one table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Table {
    /// Its header, `NAME` standing for any role; empty for the top level.
    pub header: &'static str,
    /// What may be written in it.
    pub keys: &'static [&'static str],
}

/// The keys above the first table, and the tables.
pub(super) const TOP: Table = Table {
    header: "",
    keys: &[
        "listen",
        "idle_exit",
        "allow_remote_clients",
        "domain",
        "certname",
        "foreign",
        "role",
        "timeouts",
        "limits",
        "dns",
        "certificates",
        "status",
    ],
};
/// The keys of a role.
pub(super) const ROLE: Table = Table {
    header: "role.NAME",
    keys: &["names", "ports", "srv", "fallback", "servers", "balance", "prefer", "allow_targets", "allow_ports"],
};
/// Bounds in time.
pub(super) const TIMEOUTS: Table =
    Table { header: "timeouts", keys: &["sniff", "connect", "budget", "idle", "pin", "drain"] };
/// Bounds in number and size.
pub(super) const LIMITS: Table = Table { header: "limits", keys: &["connections", "hello"] };
/// How DNS is asked, and what it may say.
pub(super) const DNS: Table = Table {
    header: "dns",
    keys: &["servers", "timeout", "max_stale", "allow_loopback", "dnssec", "trust_anchor", "ca_file"],
};
/// How servers' certificates are looked at.
pub(super) const CERTIFICATES: Table = Table { header: "certificates", keys: &["check", "ca_file"] };

/// Where the status is asked for.
pub(super) const STATUS: Table = Table { header: "status", keys: &["socket", "group", "page"] };

/// Every table.
pub const TABLES: [Table; 7] = [TOP, ROLE, TIMEOUTS, LIMITS, DNS, CERTIFICATES, STATUS];

impl Table {
    /// The key that was probably meant by one that is not known here.
    pub(super) fn nearest(&self, unknown: &str) -> Option<&'static str> {
        nearest(unknown, self.keys.iter().copied())
    }
}

/// The candidate that was probably meant: the one with the fewest typing errors, at most one in three characters.
pub(super) fn nearest<'a>(written: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let written = written.to_lowercase().replace('-', "_");
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&written, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= (written.len().min(candidate.len()) / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suggests_what_is_near() {
        assert_eq!(TIMEOUTS.nearest("conect"), Some("connect"));
        assert_eq!(TIMEOUTS.nearest("Idle"), Some("idle"));
        assert_eq!(TOP.nearest("allow-remote-clients"), Some("allow_remote_clients"));
        assert_eq!(TOP.nearest("listne"), Some("listen"));
        assert_eq!(TOP.nearest("server"), None);
        assert_eq!(TOP.nearest("main"), None);
    }
}
