//! Which ports DNS may name.

use std::ops::RangeInclusive;

use super::{Config, RoleConfig};

/// Those of Puppet's services here: the servers' own, and those that tell a role.
const USUAL: RangeInclusive<u16> = 8140..=8143;

impl Config {
    /// The ports that an SRV record may name for this role: the role's `allow_ports`; where that is not written, 8140 to
    /// 8143 and every port in the configuration, be it one of any role's `ports` or that of one of any role's `servers`.
    pub fn allowed_ports(&self, role: &RoleConfig) -> Vec<RangeInclusive<u16>> {
        if let Some(ranges) = &role.allow_ports {
            return ranges.clone();
        }
        let of_role = |role: &RoleConfig| -> Vec<u16> {
            let servers = role.servers.iter().filter_map(|server| server.port);
            role.ports.iter().copied().chain(servers).collect()
        };
        let written = self.roles.iter().flat_map(of_role).map(|port| port..=port);
        std::iter::once(USUAL).chain(written).collect()
    }

    /// Whether an SRV record may name this port for this role.
    pub fn is_allowed_port(&self, role: &RoleConfig, port: u16) -> bool {
        self.allowed_ports(role).iter().any(|range| range.contains(&port))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// The ports that records of a role may name, by what is written.
    fn allowed(text: &str, role: &str) -> Vec<u16> {
        let config = Config::parse(text.as_bytes(), Path::new("f")).unwrap().config;
        let role = config.roles.iter().find(|of| of.role.as_str() == role).unwrap();
        (0..=u16::MAX).filter(|port| config.is_allowed_port(role, *port)).collect()
    }

    #[test]
    fn by_default_those_of_puppet() {
        assert_eq!(allowed("", "ca"), [8140, 8141, 8142, 8143]);
        assert_eq!(allowed("role.ca.ports = []\nrole.report.ports = [8142]", "ca"), [8140, 8141, 8142, 8143]);
    }

    #[test]
    fn and_all_that_are_written_for_any_role() {
        let text = "
            listen = [\"127.0.0.1:7001\"]
            dns.servers = [\"192.0.2.53:7002\"]
            foreign = \"http://proxy.example.com:7003\"
            role.ca.ports = [9141]
            role.compile.servers = [\"compiler1.example.com\", \"compiler2.example.com:9240\"]
            role.files.allow_ports = [443]
            role.artifacts.ports = [443]
            role.artifacts.servers = [\"192.0.2.1:8443\"]";
        for role in ["ca", "compile", "report", "artifacts"] {
            assert_eq!(allowed(text, role), [443, 8140, 8141, 8142, 8143, 8443, 9141, 9240], "{role}");
        }
    }

    #[test]
    fn what_is_written_for_a_role_replaces_them() {
        let text = "role.ca.ports = [8141]\nrole.ca.allow_ports = [443, \"9140-9142\"]";
        assert_eq!(allowed(text, "ca"), [443, 9140, 9141, 9142]);
        assert_eq!(allowed(text, "compile"), [8140, 8141, 8142, 8143]);
        assert_eq!(allowed("role.ca.allow_ports = [\"1-65535\"]", "ca").len(), 65535);
    }
}
