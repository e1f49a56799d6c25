//! Which names the agent asks for, and what of them our own configuration has to know.

use crate::config::{Config, RoleConfig, StaticServer};
use crate::host::{Host, HostPort, split_port};
use crate::puppet::Settings;
use crate::role::{Asked, Role, Table, Via};

/// Puppet's `serverport` where it says nothing that is a port.
const SERVER_PORT: u16 = 8140;

/// The roles that the agent has settings for.
pub const CA: &str = "ca";
/// Reports.
pub const REPORT: &str = "report";
/// Files; the agent names a server of them in URLs only.
pub const FILES: &str = "files";

/// The settings that name where plugins come from, and their paths.
pub const SOURCES: [(&str, &str); 2] = [("pluginsource", "plugins"), ("pluginfactsource", "pluginfacts")];

/// A name and port that the agent asks for, and for which role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// The setting that names it.
    pub setting: &'static str,
    /// What it should lead to.
    pub role: &'static str,
    /// The name.
    pub host: Host,
    /// The port.
    pub port: u16,
}

impl Address {
    /// As CONNECT asks for it.
    pub fn asked(&self) -> Asked {
        Asked { via: Via::Connect, host: Some(self.host.clone()), port: self.port }
    }
}

/// All that the settings name, that of `compile` first; what is no name is left out, save `server`, which comes back as
/// the error.
pub fn addresses(agent: &Settings) -> Result<Vec<Address>, String> {
    let port = |setting: &str| agent.number(setting).and_then(|port| u16::try_from(port).ok()).unwrap_or(SERVER_PORT);
    let server = agent.get("server").unwrap_or_default();
    let host = server.parse().map_err(|why| format!("server = {server:?} in puppet.conf is no name: {why}"))?;
    let mut all = vec![Address { setting: "server", role: Role::COMPILE, host, port: port("serverport") }];
    for (setting, port_setting, role) in [("ca_server", "ca_port", CA), ("report_server", "report_port", REPORT)] {
        let Some(host) = agent.get(setting).and_then(|host| host.parse().ok()) else { continue };
        all.push(Address { setting, role, host, port: port(port_setting) });
    }
    for (setting, _) in SOURCES {
        let Some((host, own)) = agent.get(setting).and_then(authority) else { continue };
        all.push(Address { setting, role: FILES, host, port: own.unwrap_or_else(|| port("serverport")) });
    }
    Ok(all)
}

/// The servers of `server_list`, each once, as Puppet takes it apart (`lib/puppet/settings/server_list_setting.rb`): at the
/// commas, with the blanks around them. One without a port is asked on `serverport`, as `server` is.
///
/// # Errors
///
/// With what is no server, and why.
pub fn server_list(agent: &Settings) -> Result<Vec<StaticServer>, String> {
    let mut servers = Vec::new();
    for entry in agent.get("server_list").unwrap_or_default().split(',').map(str::trim).filter(|one| !one.is_empty()) {
        let (host, port) = split_port(entry).map_err(|why| format!("{entry:?}, which is no server: {why}"))?;
        let server = StaticServer { host, port };
        if !servers.contains(&server) {
            servers.push(server);
        }
    }
    Ok(servers)
}

/// A server as our configuration has it.
pub fn written(server: &StaticServer) -> String {
    let host = server.host.clone();
    server.port.map_or_else(|| server.host.to_string(), |port| HostPort { host, port }.to_string())
}

/// The host and port of `puppet://HOST:PORT/…`; `puppet:///…` has none.
fn authority(url: &str) -> Option<(Host, Option<u16>)> {
    let rest = url.strip_prefix("puppet://")?;
    let authority = rest.split('/').next().filter(|authority| !authority.is_empty())?;
    split_port(authority).ok()
}

/// The domain that our configuration has to name, where it names none: that of `server`, if its first label is an official
/// name and the host's own domain is another.
pub fn domain(agent: &Settings, config: &Config, found: Option<&str>) -> Option<String> {
    if config.domain.is_some() {
        return None;
    }
    let server: Host = agent.get("server")?.parse().ok()?;
    let compile = config.roles.iter().find(|role| role.role.as_str() == Role::COMPILE)?;
    let (first, rest) = server.split_domain()?;
    let is_official = compile.names.iter().any(|name| name == first);
    let is_written = compile.names.contains(&server.to_string());
    (is_official && !is_written && Some(rest) != found).then(|| rest.to_owned())
}

/// Those addresses whose name is no role's, each name once.
pub fn unknown(addresses: &[Address], table: &Table) -> Vec<Address> {
    let mut unknown: Vec<Address> = Vec::new();
    for address in addresses {
        let is_name = matches!(address.host, Host::Name(_));
        let is_new = !unknown.iter().any(|other| other.host == address.host);
        if is_name && is_new && table.owner(&address.host).is_none() {
            unknown.push(address.clone());
        }
    }
    unknown
}

/// The name that a role goes by, under the domain and bare: whichever of the two the certificates have.
pub fn own(role: &RoleConfig, domain: Option<&str>) -> Vec<Host> {
    let Some(name) = role.names.first() else { return Vec::new() };
    let full = domain.filter(|_| !name.contains('.')).map(|domain| format!("{name}.{domain}"));
    full.iter().chain([name]).filter_map(|name| name.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(pairs: &[(&str, &str)]) -> Settings {
        let defaults = [
            ("server", "puppet"),
            ("serverport", "8140"),
            ("ca_server", "puppet"),
            ("ca_port", "8140"),
            ("report_server", "puppet"),
            ("report_port", "8140"),
            ("pluginsource", "puppet:///plugins"),
            ("pluginfactsource", "puppet:///pluginfacts"),
        ];
        defaults.iter().chain(pairs).copied().collect()
    }

    fn shown(pairs: &[(&str, &str)]) -> Vec<String> {
        let addresses = addresses(&settings(pairs)).unwrap();
        addresses.iter().map(|a| format!("{} {} {}", a.setting, a.role, a.asked())).collect()
    }

    #[test]
    fn what_the_agent_asks_for() {
        assert_eq!(
            shown(&[]),
            ["server compile puppet:8140", "ca_server ca puppet:8140", "report_server report puppet:8140"]
        );
        let all = shown(&[
            ("ca_port", "8141"),
            ("pluginsource", "puppet://files:8143/plugins"),
            ("pluginfactsource", "puppet://F/x"),
        ]);
        assert_eq!(all[1..2], ["ca_server ca puppet:8141"]);
        assert_eq!(all[3..], ["pluginsource files files:8143", "pluginfactsource files f:8140"]);
        assert!(addresses(&settings(&[("server", "a b")])).unwrap_err().contains("is no name"));
    }

    /// As Puppet 7 prints what stands in puppet.conf, and as [`crate::puppet`] writes a list of lists.
    #[test]
    fn the_list_of_servers() {
        let list = |list| -> Vec<String> {
            let servers = server_list(&settings(&[("server_list", list)])).unwrap();
            servers.iter().map(written).collect()
        };
        assert_eq!(list("b.example.com:8141 , A.example.com,c,"), ["b.example.com:8141", "a.example.com", "c"]);
        assert_eq!(list("b:8140,b,b:8140"), ["b:8140", "b"]);
        assert_eq!(list(""), Vec::<String>::new());
        for (bad, words) in
            [("a b", "\"a b\", which is no server: ' ' is"), ("b,a:x", "\"a:x\", which is no server: the port")]
        {
            let why = server_list(&settings(&[("server_list", bad)])).unwrap_err();
            assert!(why.starts_with(words), "{why}");
        }
    }

    #[test]
    fn the_domain_of_the_server_counts_where_it_is_another() {
        let domain = |server: &str, found| domain(&settings(&[("server", server)]), &Config::default(), found);
        assert_eq!(domain("puppet.example.com", Some("fra.example.com")).as_deref(), Some("example.com"));
        assert_eq!(domain("puppet.example.com", None).as_deref(), Some("example.com"));
        assert_eq!(domain("puppet.example.com", Some("example.com")), None);
        assert_eq!(domain("primary.example.com", Some("fra.example.com")), None);
        assert_eq!(domain("puppet", Some("example.com")), None);
    }

    #[test]
    fn names_that_are_nobodys() {
        let table = Table::new(&Config::default(), Some("example.com".into()));
        let of = |pairs: &[(&str, &str)]| -> Vec<String> {
            let unknown = unknown(&addresses(&settings(pairs)).unwrap(), &table);
            unknown.iter().map(|a| format!("{} {}", a.role, a.host)).collect()
        };
        assert_eq!(of(&[("ca_server", "puppetca.example.com")]), Vec::<String>::new());
        let one = [("server", "primary"), ("ca_server", "primary"), ("report_server", "reports.example.org")];
        assert_eq!(of(&one), ["compile primary", "report reports.example.org"]);
    }
}
