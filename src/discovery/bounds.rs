//! What DNS may choose. Whoever can forge an answer could have this host connect anywhere; so a role's records may only
//! name certain targets and ports, and no name leads to loopback.

use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;

use super::srv::Srv;
use crate::config::{Config, RoleConfig};
use crate::host::Host;
use crate::pattern::Pattern;

/// What the records of one role may name.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// None: any name.
    targets: Vec<Pattern>,
    ports: Vec<RangeInclusive<u16>>,
    loopback: bool,
}

/// Why a record is passed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Its target matches none of the role's `allow_targets`.
    Target,
    /// Its port is none that the role's records may name.
    Port,
    /// Its target is an address of this host.
    Loopback,
}

/// A record that is passed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The owner name of its record set.
    pub owner: String,
    /// The record.
    pub record: Srv,
    /// Why.
    pub why: Refusal,
}

impl Bounds {
    /// Those of a role.
    pub fn of(config: &Config, role: &RoleConfig) -> Self {
        let ports = config.allowed_ports(role);
        Bounds { targets: role.allow_targets.clone(), ports, loopback: config.dns.allow_loopback }
    }

    /// Why a record is to be passed over, if it is. The target `.` offers nothing, and so nothing that could be refused.
    pub fn refusal(&self, record: &Srv) -> Option<Refusal> {
        let target = record.target.as_ref()?;
        if !self.targets.is_empty() && !self.targets.iter().any(|pattern| pattern.matches(target)) {
            return Some(Refusal::Target);
        }
        if !self.ports.iter().any(|range| range.contains(&record.port)) {
            return Some(Refusal::Port);
        }
        match target {
            Host::Ip(ip) if !self.loopback && is_loopback(*ip) => Some(Refusal::Loopback),
            _ => None,
        }
    }
}

/// Whether an address leads to this very host, whichever that is.
pub fn is_loopback(ip: IpAddr) -> bool {
    let ip = ip.to_canonical();
    ip.is_loopback() || ip.is_unspecified()
}

/// In words that follow the record, with what would allow it.
impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refusal::Target => "matches none of the role's allow_targets",
            Refusal::Port => "has a port that the role's allow_ports does not have",
            Refusal::Loopback => "is on loopback, which allow_loopback = true under [dns] would allow",
        })
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Srv { port, target, .. } = &self.record;
        let target = target.as_ref().map_or_else(|| ".".to_owned(), ToString::to_string);
        write!(f, "{target}:{port} {}", self.why)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::StaticServer;

    fn record(target: &str, port: u16) -> Srv {
        Srv { priority: 0, weight: 0, port, target: target.parse().ok() }
    }

    fn bounds(adjust: impl FnOnce(&mut Config)) -> Bounds {
        let mut config = Config::default();
        adjust(&mut config);
        Bounds::of(&config, &config.roles[1])
    }

    #[test]
    fn by_default_any_name_on_puppets_ports_and_the_configured_ones() {
        let bounds = bounds(|config| {
            config.roles[0].ports = vec![9141];
            config.roles[2].servers = vec![StaticServer { host: "files".parse().unwrap(), port: Some(9240) }];
        });
        for port in [8140, 8141, 8142, 8143, 9141, 9240] {
            assert_eq!(bounds.refusal(&record("anything.example.org", port)), None, "{port}");
        }
        for port in [0, 22, 443, 8139, 8144, 65535] {
            assert_eq!(bounds.refusal(&record("a.example.com", port)), Some(Refusal::Port), "{port}");
        }
        assert_eq!(bounds.refusal(&record(".", 0)), None, "it offers nothing");
    }

    #[test]
    fn what_is_written_counts_instead() {
        let bounds = bounds(|config| {
            config.roles[1].allow_ports = Some(vec![443..=443, 9000..=9009]);
            config.roles[1].allow_targets = vec!["*.example.com".parse().unwrap(), "192.0.2.1".parse().unwrap()];
        });
        for (target, port, expected) in [
            ("a.example.com", 443, None),
            ("b.a.example.com", 9009, None),
            ("192.0.2.1", 9000, None),
            ("a.example.com", 8140, Some(Refusal::Port)),
            ("a.example.com", 9010, Some(Refusal::Port)),
            ("a.example.org", 443, Some(Refusal::Target)),
            ("example.com", 443, Some(Refusal::Target)),
            ("192.0.2.2", 443, Some(Refusal::Target)),
        ] {
            assert_eq!(bounds.refusal(&record(target, port)), expected, "{target}:{port}");
        }
    }

    #[test]
    fn a_target_that_is_an_address_of_this_host_is_refused() {
        let (default, allowed) = (bounds(|_| ()), bounds(|config| config.dns.allow_loopback = true));
        for target in ["127.0.0.1", "127.1.2.3", "0.0.0.0", "::1", "::", "::ffff:127.0.0.1"] {
            assert_eq!(default.refusal(&record(target, 8140)), Some(Refusal::Loopback), "{target}");
            assert_eq!(allowed.refusal(&record(target, 8140)), None, "{target}");
        }
        assert_eq!(default.refusal(&record("192.0.2.1", 8140)), None);
    }
}
