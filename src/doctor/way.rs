//! By which way the agent comes here, if it does: by the proxy's settings, by /etc/hosts, or not at all; and what in
//! its environment goes before either.

use std::fmt;
use std::net::SocketAddr;

use super::agent::Endpoint;
use super::environment::Environment;
use super::finding::Finding;
use super::hosts_file::{HostsFile, PATH};
use crate::listen::leads_back;
use crate::puppet::Settings;

/// Puppet's `http_proxy_port`.
const PROXY_PORT: u16 = 3128;

/// Puppet's `no_proxy` where nothing is set.
const NO_PROXY: &str = "localhost, 127.0.0.1";

/// How the agent is led here by what is written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// By `http_proxy_host`.
    Proxy,
    /// By /etc/hosts.
    Alias,
    /// Not at all.
    Past,
}

/// What tells whether something leads here.
#[derive(Clone, Copy, Debug)]
pub(super) struct Here<'a> {
    /// The configured listeners.
    pub(super) listeners: &'a [SocketAddr],
    /// /etc/hosts.
    pub(super) hosts: &'a HostsFile,
}

/// A proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Proxy {
    host: String,
    port: u16,
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Proxy { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

impl Here<'_> {
    /// Whether this leads to a listener.
    fn leads(&self, host: &str, port: u16) -> bool {
        self.hosts.resolve(host).into_iter().any(|ip| leads_back(SocketAddr::new(ip, port), self.listeners))
    }

    /// Whether this leads to this host, whatever the port.
    fn is_near(&self, host: &str) -> bool {
        self.hosts.resolve(host).into_iter().any(|ip| ip.is_loopback() || ip.is_unspecified())
    }

    /// Where on this host that is.
    fn near(&self, endpoint: &Endpoint) -> String {
        let ip = self.hosts.resolve(&endpoint.written).into_iter().find(std::net::IpAddr::is_loopback);
        ip.map_or_else(String::new, |ip| SocketAddr::new(ip, endpoint.port).to_string())
    }

    /// A listener, for who has to write one down.
    fn example(&self) -> SocketAddr {
        let fallback = SocketAddr::from(([127, 0, 0, 1], 8139));
        self.listeners.iter().copied().min_by_key(|own| !own.ip().is_loopback()).unwrap_or(fallback)
    }
}

/// Judges what the settings and /etc/hosts come to.
pub(super) fn judge(settings: &Settings, endpoints: &[Endpoint], here: Here<'_>) -> (Way, Vec<Finding>) {
    let port = settings.number("http_proxy_port").and_then(|port| u16::try_from(port).ok()).unwrap_or(PROXY_PORT);
    match settings.get("http_proxy_host") {
        Some(host) => by_proxy(&Proxy { host: host.trim_matches(['[', ']']).into(), port }, settings, endpoints, here),
        None => by_hosts_file(endpoints, here),
    }
}

fn by_proxy(proxy: &Proxy, settings: &Settings, endpoints: &[Endpoint], here: Here<'_>) -> (Way, Vec<Finding>) {
    let own = here.example();
    let set = format!(
        "`puppet config set http_proxy_host {} --section main` and `puppet config set http_proxy_port {} --section main`",
        own.ip(),
        own.port()
    );
    if !here.leads(&proxy.host, proxy.port) {
        let (what, mend) = if here.is_near(&proxy.host) {
            (format!("{proxy} is no listener of puppet-shim's"), set)
        } else {
            let foreign = format!(
                "{set}; and `foreign = \"http://{proxy}\"` in puppet-shim's configuration for what is not Puppet's"
            );
            (format!("the agent goes past puppet-shim, to the proxy {proxy}"), foreign)
        };
        return (Way::Past, vec![Finding::problem("way", "http_proxy_host", what, mend)]);
    }
    let no_proxy = settings.get("no_proxy").unwrap_or_default();
    if let Some((entry, names)) = bypassed(no_proxy, endpoints) {
        let what = format!("the entry {entry} leads {names} past puppet-shim");
        let mend = format!("`puppet config set no_proxy '{NO_PROXY}' --section main`");
        return (Way::Proxy, vec![Finding::problem("way", "no_proxy", what, mend)]);
    }
    (Way::Proxy, vec![Finding::ok("way", "way in", format!("proxy mode, by http_proxy_host {proxy}"))])
}

fn by_hosts_file(endpoints: &[Endpoint], here: Here<'_>) -> (Way, Vec<Finding>) {
    let aliased = |endpoint: &&Endpoint| here.is_near(&endpoint.written) && !endpoint.is_this_host();
    if !endpoints.iter().any(|endpoint| aliased(&endpoint)) {
        let own = here.example();
        let what = format!("the agent goes past puppet-shim: no http_proxy_host, and none of its names in {PATH}");
        let mend = format!(
            "`puppet config set http_proxy_host {} --section main` and `puppet config set http_proxy_port {} --section main`",
            own.ip(),
            own.port()
        );
        return (Way::Past, vec![Finding::warning("way", "way in", what, mend)]);
    }
    if !endpoints.iter().any(|endpoint| !endpoint.is_this_host() && here.leads(&endpoint.written, endpoint.port)) {
        return (Way::Past, elsewhere(endpoints.iter().filter(aliased), here));
    }
    let mut findings = Vec::new();
    let mut names = Vec::new();
    for endpoint in endpoints.iter().filter(|endpoint| !endpoint.is_this_host()) {
        let Endpoint { setting, written, port, .. } = endpoint;
        if here.leads(written, *port) {
            if !names.contains(written) {
                names.push(written.clone());
            }
        } else if aliased(&endpoint) {
            let at = here.near(endpoint);
            findings.push(Finding::problem(
                "way",
                *setting,
                format!("{PATH} leads {written} to {at}, which is not in `listen`"),
                format!("write `\"{at}\"` into `listen` of puppet-shim's configuration, and into puppet-shim.socket"),
            ));
        } else {
            let own = here.example().ip();
            findings.push(Finding::problem(
                "way",
                *setting,
                format!("{written} goes past puppet-shim: other names of the agent's are in {PATH}, and it is not"),
                format!("write `{own} {written}` into {PATH}"),
            ));
        }
    }
    if findings.is_empty() {
        findings.push(Finding::ok("way", "way in", format!("alias mode, by {PATH}: {}", names.join(", "))));
    }
    (Way::Alias, findings)
}

/// Of names that lead to this host, and none of them to a listener: a Puppet server's own host has its name in there, too,
/// as Debian's installer writes it.
fn elsewhere<'e>(aliased: impl Iterator<Item = &'e Endpoint>, here: Here<'_>) -> Vec<Finding> {
    let (mut findings, mut told) = (Vec::new(), Vec::new());
    for endpoint in aliased {
        let Endpoint { setting, written, port, .. } = endpoint;
        // It is often one for all.
        if told.contains(&(written, port)) {
            continue;
        }
        told.push((written, port));
        let at = here.near(endpoint);
        let what = format!(
            "the agent goes past puppet-shim: no http_proxy_host, and {PATH} leads {written} to {at}, which is not in `listen`"
        );
        let mend = format!(
            "nothing where this host is {written} itself; else write `\"{at}\"` into `listen` of puppet-shim's configuration, and into \
             puppet-shim.socket"
        );
        findings.push(Finding::warning("way", *setting, what, mend));
    }
    findings
}

/// Judges the agent's environments: what is in there goes before the settings.
pub(super) fn judge_environment(
    environments: &[Environment],
    way: Way,
    endpoints: &[Endpoint],
    here: Here<'_>,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    for environment in environments {
        let origin = &environment.origin;
        if let Some((name, value)) = environment.proxy()
            && let Some(proxy) = url(value)
            && !here.leads(&proxy.host, proxy.port)
        {
            // Not the value, which may have a password.
            let what =
                format!("{name} in {origin} goes before puppet.conf: the agent goes past puppet-shim, to {proxy}");
            let finding = Finding::problem("environment", name, what, environment.remove(name));
            findings.push(finding.unless(way == Way::Past));
        }
        // By the hosts file it is led here all the same.
        if way == Way::Proxy
            && let Some((name, value)) = environment.no_proxy()
            && let Some((entry, names)) = bypassed(value, endpoints)
        {
            let what = format!("the entry {entry} of {name} in {origin} leads {names} past puppet-shim");
            findings.push(Finding::problem("environment", name, what, environment.remove(name)));
        }
    }
    if findings.is_empty() {
        let origins: Vec<_> = environments.iter().map(|environment| environment.origin.as_str()).collect();
        let what = format!("no proxy but ours in {}", origins.join(", "));
        findings.push(Finding::ok("environment", "environment", what));
    }
    findings
}

/// The entry that leads names past the proxy, and these names.
fn bypassed<'n>(no_proxy: &'n str, endpoints: &[Endpoint]) -> Option<(&'n str, String)> {
    // This host's own name is judged elsewhere.
    let others = || endpoints.iter().filter(|endpoint| !endpoint.is_this_host());
    let entry = others().find_map(|endpoint| exempts(no_proxy, &endpoint.written, endpoint.port))?;
    let mut names: Vec<&str> = Vec::new();
    for endpoint in others().filter(|endpoint| exempts(entry, &endpoint.written, endpoint.port).is_some()) {
        if !names.contains(&endpoint.written.as_str()) {
            names.push(&endpoint.written);
        }
    }
    Some((entry, names.join(", ")))
}

/// The entry of a `no_proxy` that matches, as `Puppet::HTTP::Proxy.no_proxy?` does it (`lib/puppet/http/proxy.rb`): the
/// end of the host, `*` being anything, with the port where the entry has one.
fn exempts<'n>(no_proxy: &'n str, host: &str, port: u16) -> Option<&'n str> {
    let with_port = format!("{host}:{port}");
    no_proxy.split(',').map(str::trim).find(|entry| {
        let mut parts = entry.split(':');
        match (parts.next().unwrap_or_default(), parts.next()) {
            ("", _) => false,
            (name, Some(port)) => ends_with(&with_port, &format!("{name}:{port}")),
            (name, None) => ends_with(host, name),
        }
    })
}

/// Whether a text ends with a pattern in which `*` is anything.
fn ends_with(text: &str, pattern: &str) -> bool {
    let mut parts = pattern.rsplit('*');
    let Some(mut rest) = parts.next().and_then(|last| text.strip_suffix(last)) else { return false };
    for part in parts {
        let Some(at) = rest.rfind(part) else { return false };
        rest = &rest[..at];
    }
    true
}

/// The proxy in a variable, as Ruby reads it: what is no URL with a host is none.
fn url(text: &str) -> Option<Proxy> {
    let (scheme, rest) = text.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let address = authority.rsplit_once('@').map_or(authority, |(_, address)| address);
    let default = if scheme.eq_ignore_ascii_case("https") { 443 } else { 80 };
    let (host, port) = match address.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port.parse().unwrap_or(default)),
        _ => (address, default),
    };
    let host = host.trim_matches(['[', ']']);
    (!host.is_empty()).then(|| Proxy { host: host.into(), port })
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::*;

    fn endpoint(setting: &'static str, name: &str, port: u16) -> Endpoint {
        Endpoint { setting, written: name.into(), host: name.parse().unwrap(), port }
    }

    fn endpoints() -> Vec<Endpoint> {
        vec![endpoint("server", "puppet.lab.test", 8140), endpoint("ca_server", "puppetca.lab.test", 8141)]
    }

    fn judged(settings: &[(&'static str, &'static str)], listen: &[&str], hosts: &str) -> (Way, Vec<Finding>) {
        let listeners: Vec<_> = listen.iter().map(|text| text.parse().unwrap()).collect();
        let hosts = HostsFile::parse(hosts);
        judge(&settings.iter().copied().collect(), &endpoints(), Here { listeners: &listeners, hosts: &hosts })
    }

    #[test]
    fn by_proxy() {
        let listen = ["127.0.0.1:8139", "[::1]:8139"];
        for (host, port, no_proxy, verdict, subject) in [
            ("127.0.0.1", "8139", NO_PROXY, Verdict::Ok, "way in"),
            ("localhost", "8139", "none", Verdict::Ok, "way in"),
            ("::1", "8139", "other.test", Verdict::Ok, "way in"),
            ("127.0.0.1", "3128", NO_PROXY, Verdict::Problem, "http_proxy_host"),
            ("127.0.0.2", "8139", NO_PROXY, Verdict::Problem, "http_proxy_host"),
            ("proxy.lab.test", "8139", NO_PROXY, Verdict::Problem, "http_proxy_host"),
            ("127.0.0.1", "8139", "localhost,.lab.test", Verdict::Problem, "no_proxy"),
        ] {
            let settings = [("http_proxy_host", host), ("http_proxy_port", port), ("no_proxy", no_proxy)];
            let (_, findings) = judged(&settings, &listen, "");
            let [finding] = &findings[..] else { panic!("{findings:?}") };
            assert_eq!((finding.verdict, finding.subject.as_str()), (verdict, subject), "{host} {port} {no_proxy}");
        }
    }

    #[test]
    fn by_the_hosts_file() {
        let both = "127.0.0.1 puppet.lab.test puppetca.lab.test";
        let listen = ["127.0.0.1:8140", "127.0.0.1:8141"];
        assert_eq!(judged(&[], &listen, both).1[0].verdict, Verdict::Ok);
        let (way, findings) = judged(&[], &listen[..1], both);
        assert_eq!((way, findings[0].subject.as_str()), (Way::Alias, "ca_server"));
        assert!(findings[0].mend.as_ref().unwrap().contains("\"127.0.0.1:8141\""));
        let (_, findings) = judged(&[], &listen, "127.0.0.1 puppet.lab.test");
        assert_eq!(findings[0].mend.as_deref(), Some("write `127.0.0.1 puppetca.lab.test` into /etc/hosts"));
        let hosts = HostsFile::parse("127.0.1.1 puppet.lab.test");
        let listeners = listen.map(|text| text.parse().unwrap());
        let one_for_all = ["server", "ca_server"].map(|setting| endpoint(setting, "puppet.lab.test", 8140));
        let here = Here { listeners: &listeners, hosts: &hosts };
        let (way, findings) = judge(&Settings::default(), &one_for_all, here);
        assert_eq!((way, findings.len(), findings[0].verdict), (Way::Past, 1, Verdict::Warning), "a server's own host");
        assert!(findings[0].what.contains("leads puppet.lab.test to 127.0.1.1:8140"), "{findings:?}");
        let (way, findings) = judged(&[], &listen, "192.0.2.1 puppet.lab.test");
        assert_eq!((way, findings[0].verdict), (Way::Past, Verdict::Warning));
    }

    #[test]
    fn the_environment_goes_first() {
        let listeners = ["127.0.0.1:8139".parse().unwrap()];
        let here = Here { listeners: &listeners, hosts: &HostsFile::default() };
        let judged = |text: &str, way| {
            let environment = Environment::file("/etc/default/puppet", text);
            judge_environment(&[environment], way, &endpoints(), here)[0].clone()
        };
        for (text, way, verdict) in [
            ("", Way::Proxy, Verdict::Ok),
            ("http_proxy=http://127.0.0.1:8139/", Way::Proxy, Verdict::Ok),
            ("https_proxy=http://proxy:3128", Way::Proxy, Verdict::Ok),
            ("http_proxy=proxy:3128", Way::Proxy, Verdict::Ok),
            ("http_proxy=http://user:secret@proxy:3128/secret", Way::Proxy, Verdict::Problem),
            ("HTTP_PROXY=http://proxy", Way::Alias, Verdict::Problem),
            ("HTTP_PROXY=http://proxy", Way::Past, Verdict::Warning),
            ("http_proxy=\nHTTP_PROXY=http://proxy", Way::Proxy, Verdict::Ok),
            ("no_proxy=lab.test", Way::Proxy, Verdict::Problem),
            ("no_proxy=lab.test", Way::Alias, Verdict::Ok),
        ] {
            let finding = judged(text, way);
            assert_eq!(finding.verdict, verdict, "{text} {way:?}: {finding:?}");
            assert!(!format!("{finding:?}").contains("secret"), "{finding:?}");
            if verdict != Verdict::Ok {
                assert!(finding.mend.unwrap().contains("/etc/default/puppet"));
            }
        }
    }

    /// What `Puppet::HTTP::Proxy.no_proxy?` of Puppet 7.23 says to each of these.
    #[test]
    fn no_proxy_as_puppet_does() {
        for (no_proxy, expected) in [
            ("lab.test", true),
            (".lab.test", true),
            ("*.lab.test", true),
            ("t", true),
            ("other.test , uppet.lab.test", true),
            ("puppet.lab.test:8140", true),
            ("*:8140", true),
            ("pup*test", true),
            ("p*b.t*t", true),
            ("PUPPET.lab.test", false),
            ("puppet.lab.test:443", false),
            ("puppet.lab", false),
            ("*.other.test", false),
            ("t*x*test", false),
            ("", false),
        ] {
            assert_eq!(exempts(no_proxy, "puppet.lab.test", 8140).is_some(), expected, "{no_proxy}");
        }
    }

    #[test]
    fn proxies_in_variables() {
        let proxy = |text: &str| url(text).map(|proxy| proxy.to_string());
        assert_eq!(proxy("http://proxy.test:3128/").as_deref(), Some("proxy.test:3128"));
        assert_eq!(proxy("http://u:p@[::1]:8139").as_deref(), Some("[::1]:8139"));
        assert_eq!(proxy("http://[::1]").as_deref(), Some("[::1]:80"));
        assert_eq!(proxy("proxy.test:3128"), None);
        assert_eq!(proxy("http:///x"), None);
    }
}
