//! /etc/hosts: by it the agent comes here in alias mode.

use std::fs;
use std::net::IpAddr;

use crate::hosts_file;
pub(super) use crate::hosts_file::PATH;

/// Its lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct HostsFile {
    lines: Vec<(IpAddr, Vec<String>)>,
}

impl HostsFile {
    /// Reads it; one that cannot be read has no lines.
    pub(super) fn read() -> Self {
        Self::parse(&fs::read_to_string(PATH).unwrap_or_default())
    }

    /// Its text.
    pub(super) fn parse(text: &str) -> Self {
        let lines = hosts_file::lines(text);
        HostsFile { lines: lines.map(|line| (line.ip, line.names.map(str::to_ascii_lowercase).collect())).collect() }
    }

    /// The addresses of a name. What `localhost` means needs no file.
    pub(super) fn addresses(&self, name: &str) -> Vec<IpAddr> {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        let found = self.lines.iter().filter(|(_, names)| names.contains(&name)).map(|(ip, _)| *ip);
        let found: Vec<IpAddr> = found.collect();
        if found.is_empty() && name == "localhost" {
            return vec![IpAddr::from([127, 0, 0, 1]), std::net::Ipv6Addr::LOCALHOST.into()];
        }
        found
    }

    /// The addresses that a text means without DNS: itself, or those of its lines.
    pub(super) fn resolve(&self, host: &str) -> Vec<IpAddr> {
        match host.trim_matches(['[', ']']).parse() {
            Ok(ip) => vec![ip],
            Err(_) => self.addresses(host),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_names() {
        let file = HostsFile::parse(
            "127.0.0.1\tlocalhost # and\n#127.0.0.9 puppet\n::1 Puppet.example.com puppet\n127.0.0.2 puppet\nx y\n",
        );
        let found = |name: &str| file.resolve(name).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(found("puppet"), ["::1", "127.0.0.2"]);
        assert_eq!(found("PUPPET.example.com."), ["::1"]);
        assert_eq!(found("[::7]"), ["::7"]);
        assert_eq!(found("localhost"), ["127.0.0.1"]);
        assert_eq!(found("and"), [""; 0]);
        assert_eq!(HostsFile::default().addresses("localhost").len(), 2);
    }
}
