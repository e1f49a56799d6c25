//! How the agent of this host comes here, as far as its files tell. No io.
//!
//! Puppet itself knows better ([`crate::puppet`]), but takes seconds to say so, and who asks for a fact is the agent, in each
//! of its runs. So this reads of its file what is written plainly, and says no more than a word.

use std::net::{IpAddr, SocketAddr};

use crate::config::Config;
use crate::host::split_port;
use crate::hosts_file;
use crate::listen::leads_back;
use crate::role::{Role, Table};

/// How the agent comes here, in a word: `proxy`: by `http_proxy_host`; `alias`: by a role's name that
/// the hosts file leads to a listener; either with `+port` where its settings have roles on ports of their own; `none`: it does not; `unknown`: there
/// is no puppet.conf to tell.
pub(super) fn mode(config: &Config, table: &Table, puppet_conf: Option<&str>, hosts: &str) -> String {
    let Some(puppet_conf) = puppet_conf else { return "unknown".into() };
    let settings = Settings::of(puppet_conf);
    let way = if is_proxy(config, &settings) {
        "proxy"
    } else if is_alias(config, table, &settings, hosts) {
        "alias"
    } else {
        return "none".into();
    };
    let is_of_other_role = |port: u16| {
        let mut roles = table.roles().iter().filter(|role| role.role.as_str() != Role::COMPILE);
        roles.any(|role| role.ports.contains(&port))
    };
    if settings.ports().any(is_of_other_role) { format!("{way}+port") } else { way.into() }
}

fn is_proxy(config: &Config, settings: &Settings<'_>) -> bool {
    let Some(host) = settings.get("http_proxy_host") else { return false };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let is_here = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    // Puppet's default.
    let port = settings.get("http_proxy_port").unwrap_or("3128");
    is_here && port.parse::<u16>().is_ok_and(|port| config.listen.iter().any(|listen| listen.port() == port))
}

/// A Puppet server's own host has its name there, too: Debian's installer writes 127.0.1.1. That leads to the server.
fn is_alias(config: &Config, table: &Table, settings: &Settings<'_>, hosts: &str) -> bool {
    let general = ["serverport", "masterport"].iter().filter_map(|key| settings.get(key)?.parse().ok());
    let usual = table.roles().iter().flat_map(|role| role.ports.iter().copied());
    let ports: Vec<u16> = general.chain(settings.ports()).chain(usual).collect();
    let leads_here = |ip: IpAddr| ports.iter().any(|port| leads_back(SocketAddr::new(ip, *port), &config.listen));
    hosts_file::lines(hosts).any(|mut line| {
        leads_here(line.ip) && line.names.any(|name| name.parse().is_ok_and(|host| table.owner(&host).is_some()))
    })
}

/// The settings of puppet.conf that count for an agent.
struct Settings<'t>(Vec<(&'t str, &'t str, &'t str)>);

impl<'t> Settings<'t> {
    fn of(text: &'t str) -> Self {
        let (mut settings, mut section) = (Vec::new(), "main");
        for line in text.lines().map(str::trim).filter(|line| !line.starts_with('#')) {
            if let Some(title) = line.strip_prefix('[').and_then(|rest| rest.split(']').next()) {
                section = title.trim();
            } else if let Some((key, value)) = line.split_once('=') {
                settings.push((section, key.trim(), value.trim()));
            }
        }
        Settings(settings)
    }

    /// The ports of single roles: the CA's, that of reports, and those in the sources of plugins, which name the file server.
    fn ports(&self) -> impl Iterator<Item = u16> {
        let of_settings = ["ca_port", "report_port"].iter().filter_map(|key| self.get(key)?.parse().ok());
        let of_sources = ["pluginsource", "pluginfactsource"].iter().filter_map(|key| source_port(self.get(key)?));
        of_settings.chain(of_sources)
    }

    /// `[agent]` goes before `[main]`, `none` is nothing.
    fn get(&self, key: &str) -> Option<&'t str> {
        let of = |section: &str| self.0.iter().rfind(|(of, name, _)| *of == section && *name == key);
        of("agent").or_else(|| of("main")).map(|(_, _, value)| *value).filter(|value| !["", "none"].contains(value))
    }
}

/// The port in a source, if there is one: `puppet://NAME:PORT/MOUNT`.
fn source_port(source: &str) -> Option<u16> {
    split_port(source.strip_prefix("puppet://")?.split('/').next()?).ok()?.1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(puppet_conf: Option<&str>, hosts: &str) -> String {
        let listen = ["127.0.0.1:8139", "127.0.0.1:8140", "[::1]:8140"].map(|addr| addr.parse().unwrap()).into();
        let config = Config { listen, ..Config::default() };
        mode(&config, &Table::new(&config, Some("test".into())), puppet_conf, hosts)
    }

    #[test]
    fn the_agents_files_tell_how_it_comes() {
        let proxy = "[main]\nhttp_proxy_host = 127.0.0.1\nhttp_proxy_port=8139\n";
        let hosts = "127.0.0.1 localhost\n::1 puppet.test puppet # ours\n";
        assert_eq!(told(None, hosts), "unknown");
        assert_eq!(told(Some(""), "127.0.0.1 localhost"), "none");
        assert_eq!(told(Some(proxy), ""), "proxy");
        assert_eq!(told(Some(&format!("{proxy}[agent]\nca_port = 8141\n")), ""), "proxy+port");
        assert_eq!(told(Some(&format!("{proxy}[agent]\nhttp_proxy_host = none\n")), ""), "none");
        assert_eq!(told(Some("[main]\nhttp_proxy_host = proxy.corp\nhttp_proxy_port = 8139"), ""), "none");
        assert_eq!(told(Some("[main]\nhttp_proxy_host = 127.0.0.1"), ""), "none", "on port 3128 is somebody else");
        assert_eq!(told(Some("# http_proxy_host = 127.0.0.1"), hosts), "alias");
        assert_eq!(told(Some("[agent]\nca_port=8140"), hosts), "alias");
        assert_eq!(told(Some("[agent]\nreport_port=8142"), hosts), "alias+port");
        assert_eq!(told(Some(""), "192.0.2.1 puppet"), "none");
        for key in ["pluginsource", "pluginfactsource"] {
            for (source, mode) in [
                ("puppet://puppet.test:8143/plugins", "proxy+port"),
                ("puppet://[2001:db8::1]:8143/plugins", "proxy+port"),
                ("puppet://puppet.test:8140/plugins", "proxy"),
                ("puppet://puppet.test/plugins:8143", "proxy"),
                ("puppet://[2001:db8::8143]/plugins", "proxy"),
                ("puppet:///plugins", "proxy"),
                ("/plugins:8143", "proxy"),
            ] {
                assert_eq!(told(Some(&format!("{proxy}[agent]\n{key} = {source}\n")), ""), mode, "{key} = {source}");
            }
        }
        assert_eq!(
            told(Some(""), "127.0.0.1 localhost\n127.0.1.1 puppet.test puppet"),
            "none",
            "the server's own host"
        );
    }
}
