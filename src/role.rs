//! (name, port) → role: one table, the most specific row wins.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use serde::Serialize;

use crate::config::{Config, RoleConfig};
use crate::host::Host;

/// What a server is for: `ca`, `compile`, `files`, `report`, or a role that the site adds.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Role(Arc<str>);

impl Role {
    /// The role whose names are the official ones, and whose records are the fallback: Puppet's own default for
    /// everything.
    pub const COMPILE: &'static str = "compile";

    /// The role of that name.
    pub fn new(name: &str) -> Self {
        Role(name.into())
    }

    /// Its name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How a client came in, which decides what its port is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Via {
    /// It spoke TLS at once (alias mode, port mode): the name is the SNI, the port the listener's.
    Tls,
    /// It said CONNECT (proxy mode): name and port are what it asked for.
    Connect,
    /// It sent an absolute-form HTTP request (a file source with `http://`).
    Http,
}

impl Via {
    /// As the log writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Via::Tls => "tls",
            Via::Connect => "connect",
            Via::Http => "http",
        }
    }
}

/// Which row of the table decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Row {
    /// A name that belongs to one role only: `puppetca`, on any port.
    OwnName,
    /// An official name with another role's port: `puppet:8141`.
    OfficialPort,
    /// An official name alone: `puppet`.
    OfficialName,
    /// A name or address that is a current target of a role: that very server.
    Target,
    /// Nothing but the port of the listener.
    ListenerPort,
    /// None of them.
    Foreign,
}

impl Row {
    /// As the log writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Row::OwnName => "own-name",
            Row::OfficialPort => "official-port",
            Row::OfficialName => "official-name",
            Row::Target => "target",
            Row::ListenerPort => "listener-port",
            Row::Foreign => "foreign",
        }
    }
}

/// What a client asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// How it came in.
    pub via: Via,
    /// The name or address. `None`: TLS without SNI.
    pub host: Option<Host>,
    /// The port that CONNECT or the URL named, else the listener's own.
    pub port: u16,
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Some(Host::Ip(IpAddr::V6(ip))) => write!(f, "[{ip}]:{}", self.port),
            Some(host) => write!(f, "{host}:{}", self.port),
            None => write!(f, "no name on port {}", self.port),
        }
    }
}

/// The (name, port) table.
#[derive(Debug)]
pub struct Table {
    /// Names to the index of their role.
    names: HashMap<String, usize>,
    /// Ports to the index of their role.
    ports: HashMap<u16, usize>,
    roles: Vec<RoleConfig>,
    compile: Option<usize>,
    domain: Option<String>,
}

impl Table {
    /// Builds the table. `domain`: the configured one, else the one found on the host.
    pub fn new(config: &Config, domain: Option<String>) -> Self {
        let mut names = HashMap::new();
        let mut ports = HashMap::new();
        for (index, role) in config.roles.iter().enumerate() {
            // The configuration's checks leave no name or port in two roles; were there one, the first would keep it.
            for name in &role.names {
                names.entry(name.clone()).or_insert(index);
            }
            for port in &role.ports {
                ports.entry(*port).or_insert(index);
            }
        }
        let compile = config.roles.iter().position(|r| r.role.as_str() == Role::COMPILE);
        Table { names, ports, roles: config.roles.clone(), compile, domain }
    }

    /// The roles, in order.
    pub fn roles(&self) -> &[RoleConfig] {
        &self.roles
    }

    /// A role's configuration by its name.
    pub fn role(&self, name: &str) -> Option<&RoleConfig> {
        self.roles.iter().find(|r| r.role.as_str() == name)
    }

    /// Whether a port is any role's.
    pub fn is_role_port(&self, port: u16) -> bool {
        self.ports.contains_key(&port)
    }

    /// The role that a name alone means.
    pub fn owner(&self, host: &Host) -> Option<&RoleConfig> {
        self.roles.get(self.by_name(host)?)
    }

    /// The domain of short names, if known.
    pub fn domain(&self) -> Option<&str> {
        self.domain.as_deref()
    }

    /// The role that the name or the port alone decides, without looking at what DNS holds just now.
    /// [`Row::ListenerPort`] and [`Row::Foreign`] are provisional: a current target goes before them.
    pub fn classify(&self, asked: &Asked) -> (Row, Option<&RoleConfig>) {
        let by_port = self.ports.get(&asked.port).copied();
        if let Some(index) = asked.host.as_ref().and_then(|host| self.by_name(host)) {
            if Some(index) != self.compile {
                return (Row::OwnName, self.roles.get(index));
            }
            return match by_port {
                Some(other) if other != index => (Row::OfficialPort, self.roles.get(other)),
                _ => (Row::OfficialName, self.roles.get(index)),
            };
        }
        match by_port {
            // A client that named a host in CONNECT or in a URL means that host; only a bare TLS connection is sorted
            // by its port.
            Some(index) if asked.via == Via::Tls => (Row::ListenerPort, self.roles.get(index)),
            _ => (Row::Foreign, None),
        }
    }

    /// The role of a name: as written, or a short name under the domain (under any domain while none is known).
    fn by_name(&self, host: &Host) -> Option<usize> {
        let Host::Name(name) = host else { return None };
        if let Some(index) = self.names.get(name) {
            return Some(*index);
        }
        let (first, rest) = host.split_domain()?;
        match &self.domain {
            Some(domain) if domain != rest => None,
            _ => self.names.get(first).copied(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Balance;

    fn asked(via: Via, host: &str, port: u16) -> Asked {
        Asked { via, host: (!host.is_empty()).then(|| host.parse().unwrap()), port }
    }

    fn classify(table: &Table, via: Via, host: &str, port: u16) -> (Row, Option<String>) {
        let (row, role) = table.classify(&asked(via, host, port));
        (row, role.map(|r| r.role.to_string()))
    }

    #[allow(clippy::unnecessary_wraps, reason = "reads better in the tables below")]
    fn some(role: &str) -> Option<String> {
        Some(role.into())
    }

    #[test]
    fn row_by_row() {
        let table = Table::new(&Config::default(), Some("example.com".into()));
        for via in [Via::Tls, Via::Connect] {
            for domain in ["", ".example.com", ".Example.COM."] {
                let name = |n: &str| format!("{n}{domain}");
                // A name of one role's own, whatever the port, another role's included.
                for port in [8140, 8141, 8142, 8143, 443, 8139] {
                    assert_eq!(classify(&table, via, &name("puppetca"), port), (Row::OwnName, some("ca")));
                    assert_eq!(classify(&table, via, &name("puppetfiles"), port), (Row::OwnName, some("files")));
                    assert_eq!(classify(&table, via, &name("puppetreport"), port), (Row::OwnName, some("report")));
                }
                // Port mode: the official name with another role's port.
                assert_eq!(classify(&table, via, &name("puppet"), 8141), (Row::OfficialPort, some("ca")));
                assert_eq!(classify(&table, via, &name("puppet"), 8142), (Row::OfficialPort, some("report")));
                assert_eq!(classify(&table, via, &name("puppet"), 8143), (Row::OfficialPort, some("files")));
                // The bare official name.
                assert_eq!(classify(&table, via, &name("puppet"), 8140), (Row::OfficialName, some("compile")));
                assert_eq!(classify(&table, via, &name("puppet"), 8139), (Row::OfficialName, some("compile")));
                assert_eq!(classify(&table, via, &name("puppet"), 443), (Row::OfficialName, some("compile")));
            }
        }
        // The bare port of a listener: any other name, or none, but only where the client did not name a host to
        // connect to.
        for (port, role) in [(8140, "compile"), (8141, "ca"), (8142, "report"), (8143, "files")] {
            for host in ["", "other.example.org", "192.0.2.1"] {
                assert_eq!(classify(&table, Via::Tls, host, port), (Row::ListenerPort, some(role)));
            }
            assert_eq!(classify(&table, Via::Connect, "other.example.org", port), (Row::Foreign, None));
        }
        assert_eq!(classify(&table, Via::Tls, "other.example.org", 8139), (Row::Foreign, None));
        assert_eq!(classify(&table, Via::Tls, "", 8139), (Row::Foreign, None));
        assert_eq!(classify(&table, Via::Http, "www.example.com", 8140), (Row::Foreign, None));
    }

    #[test]
    fn a_short_name_is_not_anybodys_elsewhere() {
        let table = Table::new(&Config::default(), Some("example.com".into()));
        assert_eq!(classify(&table, Via::Connect, "puppet.example.org", 8140), (Row::Foreign, None));
        assert_eq!(classify(&table, Via::Connect, "puppet.sub.example.com", 8140), (Row::Foreign, None));
        assert_eq!(classify(&table, Via::Connect, "example.com", 8140), (Row::Foreign, None));
    }

    #[test]
    fn without_a_domain_a_short_name_counts_under_any() {
        let table = Table::new(&Config::default(), None);
        assert_eq!(classify(&table, Via::Connect, "puppet.lab.test", 8140), (Row::OfficialName, some("compile")));
        assert_eq!(classify(&table, Via::Connect, "puppetca.lab.test", 8140), (Row::OwnName, some("ca")));
        assert_eq!(classify(&table, Via::Connect, "www.lab.test", 8140), (Row::Foreign, None));
    }

    #[test]
    fn a_long_name_is_meant_as_written() {
        let mut config = Config::default();
        config.roles[0].names = vec!["ca.corp.example".into()];
        let table = Table::new(&config, Some("example.com".into()));
        assert_eq!(classify(&table, Via::Connect, "CA.corp.example", 8140), (Row::OwnName, some("ca")));
        assert_eq!(classify(&table, Via::Connect, "ca.corp.example.example.com", 8140), (Row::Foreign, None));
        assert_eq!(classify(&table, Via::Connect, "puppetca", 8140), (Row::Foreign, None));
    }

    #[test]
    fn a_role_of_the_sites_own() {
        let mut config = Config::default();
        config.roles.push(RoleConfig {
            role: Role::new("puppetdb"),
            names: vec!["puppetdb".into()],
            ports: vec![8081],
            srv: Some("_x-puppetdb._tcp".into()),
            fallback: false,
            servers: Vec::new(),
            balance: Balance::default(),
            prefer: Vec::new(),
            allow_targets: Vec::new(),
            allow_ports: None,
        });
        let table = Table::new(&config, Some("example.com".into()));
        assert_eq!(classify(&table, Via::Connect, "puppetdb", 8081), (Row::OwnName, some("puppetdb")));
        assert_eq!(classify(&table, Via::Connect, "puppet", 8081), (Row::OfficialPort, some("puppetdb")));
        assert_eq!(classify(&table, Via::Tls, "", 8081), (Row::ListenerPort, some("puppetdb")));
    }
}
