//! By which way the agent comes here, if it does: by the proxy's settings, by /etc/hosts, or not at all; and what in
//! its environment goes before either.

use std::net::SocketAddr;

use super::agent::Endpoint;
use super::environment::{Environment, Runs};
use super::finding::Finding;
use super::hosts_file::{HostsFile, PATH};
use super::set_up::SetUp;
use crate::listen::leads_back;
use crate::no_proxy::{Effect, effect};
use crate::puppet::Settings;
use crate::puppet::environment::{PROXY_PORT, Proxy};
use crate::setup::Mode;
use crate::socket_table::{Socket, at};

/// Puppet's `no_proxy` where nothing is set.
const NO_PROXY: &str = "localhost, 127.0.0.1";

/// How the agent is led here by what is written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// By `http_proxy_host`, or by `http_proxy` in an environment.
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
    /// Who listens on this host, puppet-shim or anybody else.
    pub(super) listening: &'a [Socket],
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

    /// Whether somebody listens there, on this host.
    fn is_served(&self, proxy: &Proxy) -> bool {
        let mut ips = self.hosts.resolve(&proxy.host).into_iter();
        ips.any(|ip| !at(self.listening, SocketAddr::new(ip, proxy.port)).is_empty())
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

/// The proxy of the settings.
fn proxy_of(settings: &Settings) -> Option<Proxy> {
    let port = settings.number("http_proxy_port").and_then(|port| u16::try_from(port).ok()).unwrap_or(PROXY_PORT);
    let host = settings.get("http_proxy_host")?;
    Some(Proxy { host: host.trim_matches(['[', ']']).into(), port })
}

/// Judges what the settings and /etc/hosts come to, and, where neither leads here, the environments.
pub(super) fn judge(
    settings: &Settings,
    endpoints: &[Endpoint],
    environments: &[Environment],
    here: Here<'_>,
    set_up: SetUp,
) -> (Way, Vec<Finding>) {
    let (way, findings) = match proxy_of(settings) {
        Some(proxy) => by_proxy(&proxy, settings, endpoints, here, set_up),
        None => by_hosts_file(endpoints, here, set_up),
    };
    match way {
        Way::Past => by_environment(environments, here, set_up).unwrap_or((way, findings)),
        Way::Proxy | Way::Alias => (way, findings),
    }
}

fn by_proxy(
    proxy: &Proxy,
    settings: &Settings,
    endpoints: &[Endpoint],
    here: Here<'_>,
    set_up: SetUp,
) -> (Way, Vec<Finding>) {
    if here.leads(&proxy.host, proxy.port) {
        if let Some(what) = amiss(settings.get("no_proxy").unwrap_or_default(), "", endpoints) {
            return (Way::Proxy, vec![no_proxy_setting(what)]);
        }
        let what = format!("proxy mode, by http_proxy_host {proxy}");
        return (Way::Proxy, vec![Finding::ok("way", "way in", what)]);
    }
    let finding = if here.is_near(&proxy.host) && !here.is_served(proxy) {
        let own = here.example();
        let mend = format!(
            "`puppet config set http_proxy_host {} --section main` and `puppet config set http_proxy_port {} --section main`",
            own.ip(),
            own.port()
        );
        Finding::problem(
            "way",
            "http_proxy_host",
            format!("{proxy} is no listener of puppet-shim's, and nobody's"),
            mend,
        )
    } else {
        // Alias mode is for an agent without a proxy.
        let (before, again) = match set_up {
            SetUp::Done(Some(Mode::Alias)) => ("`puppet-shim setup --undo`, then ", SetUp::Never),
            other => ("", other),
        };
        let mend = format!(
            "{before}{}, which keeps {proxy} as `foreign` for what is not Puppet's, or `puppet config set` by hand",
            again.command()
        );
        set_up.past("http_proxy_host", format!("the agent goes past puppet-shim, to the proxy {proxy}"), mend)
    };
    (Way::Past, vec![finding])
}

fn no_proxy_setting(what: String) -> Finding {
    let mend = format!("`puppet config set no_proxy '{NO_PROXY}' --section main`");
    Finding::problem("way", "no_proxy", what, mend)
}

/// The way of an agent that only its environment leads here; `None`: it does not.
fn by_environment(environments: &[Environment], here: Here<'_>, set_up: SetUp) -> Option<(Way, Vec<Finding>)> {
    let leading = |runs: Runs| {
        let environment = environments.iter().find(|environment| environment.runs == runs)?;
        let (name, proxy) = environment.http_proxy().filter(|(_, proxy)| here.leads(&proxy.host, proxy.port))?;
        Some(format!("{name} {proxy} in {}", environment.origin(name)))
    };
    let by_hand = leading(Runs::Own).or_else(|| leading(Runs::Login));
    let file = if set_up == SetUp::Done(Some(Mode::Alias)) { PATH } else { "puppet.conf" };
    let mend = || format!("{}, which has {file} lead all of them here", set_up.command());
    let finding = match (leading(Runs::Service), by_hand) {
        (Some(service), Some(_)) => Finding::ok("way", "way in", format!("proxy mode, by {service}")),
        (Some(service), None) => {
            let what = format!("proxy mode, by {service}: runs from elsewhere go past puppet-shim");
            Finding::warning("way", "way in", what, mend())
        }
        (None, Some(by_hand)) => {
            let what = format!("runs with {by_hand} come here, and the agent's service goes past puppet-shim");
            set_up.past("way in", what, mend())
        }
        (None, None) => return None,
    };
    Some((Way::Proxy, vec![finding]))
}

fn by_hosts_file(endpoints: &[Endpoint], here: Here<'_>, set_up: SetUp) -> (Way, Vec<Finding>) {
    let aliased = |endpoint: &&Endpoint| here.is_near(&endpoint.written) && !endpoint.is_this_host();
    if !endpoints.iter().any(|endpoint| aliased(&endpoint)) {
        let what = format!("the agent goes past puppet-shim: no http_proxy_host, and none of its names in {PATH}");
        return (Way::Past, vec![set_up.past("way in", what, set_up.command())]);
    }
    if !endpoints.iter().any(|endpoint| !endpoint.is_this_host() && here.leads(&endpoint.written, endpoint.port)) {
        return (Way::Past, elsewhere(endpoints.iter().filter(aliased), here, set_up));
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
fn elsewhere<'e>(aliased: impl Iterator<Item = &'e Endpoint>, here: Here<'_>, set_up: SetUp) -> Vec<Finding> {
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
            "nothing where this host is {written} itself; else {}; or, where that line is to lead here, write `\"{at}\"` into `listen` of puppet-shim's configuration, and into \
             puppet-shim.socket",
            set_up.command()
        );
        findings.push(set_up.past(*setting, what, mend));
    }
    findings
}

/// Judges the agent's environments: what is in there goes before the settings.
pub(super) fn judge_environment(
    environments: &[Environment],
    way: Way,
    settings: &Settings,
    endpoints: &[Endpoint],
    here: Here<'_>,
) -> Vec<Finding> {
    let setting = settings.get("no_proxy").unwrap_or_default();
    let leads = |proxy: &Proxy| here.leads(&proxy.host, proxy.port);
    let is_set = proxy_of(settings).is_some_and(|proxy| leads(&proxy));
    let login = environments.iter().find(|environment| environment.runs == Runs::Login);
    let mut findings = Vec::new();
    for environment in environments {
        // What a login has given to this very process is told of the login.
        let is_told =
            |name| environment.runs == Runs::Own && login.is_some_and(|login| environment.shares(name, login));
        let (proxy, no_proxy) = (environment.http_proxy(), environment.no_proxy());
        if let Some((name, proxy)) = &proxy
            && !leads(proxy)
            && !is_told(name)
        {
            let exempt = no_proxy.map_or(setting, |(_, value)| value);
            let goes_by_hosts_file = |endpoint| matches!(put(exempt, endpoint), Effect::Past(_));
            // What that proxy is not asked for is led here by the hosts file.
            if way != Way::Alias || !others(endpoints).all(goes_by_hosts_file) {
                let origin = environment.origin(name);
                // Not the value, which may have a password.
                let to = format!("{name} in {origin} goes before puppet.conf: ");
                let what = match environment.runs {
                    Runs::Login => {
                        format!("{to}runs from a login or cron go past puppet-shim, to {proxy}; the service's do not")
                    }
                    Runs::Own | Runs::Service => format!("{to}the agent goes past puppet-shim, to {proxy}"),
                };
                findings.push(found(environment, name, what, way));
            }
        }
        let by_variable = proxy.is_some_and(|(_, proxy)| leads(&proxy));
        if by_variable || (is_set && environment.http_proxy().is_none()) {
            match no_proxy {
                Some((name, _)) if is_told(name) => {}
                Some((name, value)) => {
                    let of = format!(" of {name} in {}", environment.origin(name));
                    findings.extend(amiss(value, &of, endpoints).map(|what| found(environment, name, what, way)));
                }
                None if is_set => {}
                None => findings.extend(amiss(setting, "", endpoints).map(no_proxy_setting)),
            }
        }
        if environment.unshown > 0 {
            let what = "has a variable with a blank in its value, which this systemd does not show: it may be no_proxy";
            let mend =
                "`systemctl cat puppet.service`: see that `Environment=` leads no name of a server past puppet-shim";
            findings.push(Finding::warning("environment", "puppet.service", what, mend));
        }
    }
    if findings.is_empty() {
        let origins: Vec<_> = environments.iter().flat_map(Environment::origins).collect();
        let what = format!("no proxy but ours in {}", origins.join(", "));
        findings.push(Finding::ok("environment", "environment", what));
    }
    findings
}

/// That a variable leads past.
fn found(environment: &Environment, name: &'static str, what: String, way: Way) -> Finding {
    let finding = Finding::problem("environment", name, what, environment.remove(name));
    finding.unless(way == Way::Past || environment.runs == Runs::Login)
}

/// Whom the agent asks elsewhere than on this host, whose own name is judged by itself.
fn others(endpoints: &[Endpoint]) -> impl Iterator<Item = &Endpoint> {
    endpoints.iter().filter(|endpoint| !endpoint.is_this_host())
}

fn put<'n>(no_proxy: &'n str, endpoint: &Endpoint) -> Effect<'n> {
    effect(no_proxy, &endpoint.written, endpoint.port)
}

/// What is wrong with a `no_proxy` while a proxy leads here; `of`: which it is.
fn amiss(no_proxy: &str, of: &str, endpoints: &[Endpoint]) -> Option<String> {
    match others(endpoints).map(|endpoint| put(no_proxy, endpoint)).find(|effect| *effect != Effect::Proxied)? {
        Effect::Proxied => None,
        Effect::Fails(entry) => Some(format!(
            "the entry {entry:?}{of} has no host, and Puppet fails at it (`no implicit conversion of nil into String`)"
        )),
        Effect::Past(entry) => {
            let mut names: Vec<&str> = Vec::new();
            for endpoint in others(endpoints).filter(|endpoint| put(entry, endpoint) != Effect::Proxied) {
                if !names.contains(&endpoint.written.as_str()) {
                    names.push(&endpoint.written);
                }
            }
            Some(format!("the entry {entry}{of} leads {} past puppet-shim", names.join(", ")))
        }
    }
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

    fn judged_where(
        settings: &[(&'static str, &'static str)],
        listen: &[&str],
        hosts: &str,
        environments: &[Environment],
        set_up: SetUp,
    ) -> (Way, Vec<Finding>) {
        let listeners: Vec<_> = listen.iter().map(|text| text.parse().unwrap()).collect();
        let hosts = HostsFile::parse(hosts);
        let here = Here { listeners: &listeners, hosts: &hosts, listening: &[] };
        judge(&settings.iter().copied().collect(), &endpoints(), environments, here, set_up)
    }

    fn judged(settings: &[(&'static str, &'static str)], listen: &[&str], hosts: &str) -> (Way, Vec<Finding>) {
        judged_where(settings, listen, hosts, &[], SetUp::Never)
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
            ("proxy.lab.test", "8139", NO_PROXY, Verdict::Warning, "http_proxy_host"),
            ("127.0.0.1", "8139", "localhost,.lab.test", Verdict::Problem, "no_proxy"),
            ("127.0.0.1", "8139", "localhost,,x", Verdict::Problem, "no_proxy"),
        ] {
            let settings = [("http_proxy_host", host), ("http_proxy_port", port), ("no_proxy", no_proxy)];
            let (_, findings) = judged(&settings, &listen, "");
            let [finding] = &findings[..] else { panic!("{findings:?}") };
            assert_eq!((finding.verdict, finding.subject.as_str()), (verdict, subject), "{host} {port} {no_proxy}");
        }
    }

    /// Another program of this host's, which `setup` keeps for what is not Puppet's.
    #[test]
    fn a_proxy_of_somebody_elses_on_this_host() {
        let socket = Socket { address: "127.0.0.1:3128".parse().unwrap(), uid: 13, inode: 1 };
        let listeners = ["127.0.0.1:8139".parse().unwrap()];
        let here = Here { listeners: &listeners, hosts: &HostsFile::default(), listening: &[socket] };
        let settings = [("http_proxy_host", "127.0.0.1"), ("http_proxy_port", "3128")].into_iter().collect();
        for (set_up, verdict) in [(SetUp::Never, Verdict::Warning), (SetUp::Done(Some(Mode::Proxy)), Verdict::Problem)]
        {
            let (_, findings) = judge(&settings, &endpoints(), &[], here, set_up);
            let mend = findings[0].mend.as_ref().unwrap();
            assert_eq!(findings[0].verdict, verdict);
            assert!(mend.contains("--apply`, which keeps 127.0.0.1:3128 as `foreign`"), "{mend}");
        }
    }

    /// What leads past is a fault where the agent has been sent here.
    #[test]
    fn past_before_setup_and_after_it() {
        let foreign = [("http_proxy_host", "proxy.lab.test"), ("http_proxy_port", "3128")];
        let elsewhere = "127.0.1.1 puppet.lab.test";
        for (settings, hosts) in [(&[][..], ""), (&foreign[..], ""), (&[][..], elsewhere)] {
            let complaint = |set_up| {
                let (way, findings) = judged_where(settings, &["127.0.0.1:8139"], hosts, &[], set_up);
                assert_eq!((way, findings.len()), (Way::Past, 1), "{findings:?}");
                (findings[0].verdict, findings[0].mend.clone().unwrap())
            };
            let (verdict, mend) = complaint(SetUp::Never);
            assert_eq!(verdict, Verdict::Warning);
            assert!(mend.contains("`puppet-shim setup --mode proxy --apply`"), "{mend}");
            let (verdict, mend) = complaint(SetUp::Done(Some(Mode::Port)));
            assert_eq!(verdict, Verdict::Problem);
            assert!(mend.contains("`puppet-shim setup --mode port --apply`"), "{mend}");
            assert_eq!(complaint(SetUp::Done(None)).0, Verdict::Problem);
        }
        let (_, findings) = judged_where(&foreign, &["127.0.0.1:8139"], "", &[], SetUp::Done(Some(Mode::Alias)));
        let mend = findings[0].mend.as_ref().unwrap();
        assert!(
            mend.starts_with("`puppet-shim setup --undo`, then `puppet-shim setup --mode proxy --apply`"),
            "{mend}"
        );
    }

    #[test]
    fn by_the_environment_alone() {
        let with = |set: &[Runs]| {
            let text = "HTTP_PROXY=http://127.0.0.1:8139";
            let environments: Vec<_> = set.iter().map(|runs| Environment::of_file(*runs, "FILE", text)).collect();
            let (way, mut findings) = judged_where(&[], &["127.0.0.1:8139"], "", &environments, SetUp::Never);
            assert_eq!(findings.len(), 1, "{findings:?}");
            let finding = findings.remove(0);
            (way, finding.verdict, finding.what)
        };
        let (way, verdict, what) = with(&[Runs::Service, Runs::Own]);
        assert_eq!((way, verdict), (Way::Proxy, Verdict::Ok));
        assert_eq!(what, "proxy mode, by HTTP_PROXY 127.0.0.1:8139 in FILE");
        let (way, verdict, what) = with(&[Runs::Service]);
        assert_eq!((way, verdict), (Way::Proxy, Verdict::Warning));
        assert!(what.ends_with("runs from elsewhere go past puppet-shim"), "{what}");
        let (way, verdict, what) = with(&[Runs::Own]);
        assert_eq!((way, verdict), (Way::Proxy, Verdict::Warning));
        assert!(what.ends_with("and the agent's service goes past puppet-shim"), "{what}");
        assert_eq!(with(&[]).0, Way::Past);
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
        let here = Here { listeners: &listeners, hosts: &hosts, listening: &[] };
        let (way, findings) = judge(&Settings::default(), &one_for_all, &[], here, SetUp::Never);
        assert_eq!((way, findings.len(), findings[0].verdict), (Way::Past, 1, Verdict::Warning), "a server's own host");
        assert!(findings[0].what.contains("leads puppet.lab.test to 127.0.1.1:8140"), "{findings:?}");
        let (way, findings) = judged(&[], &listen, "192.0.2.1 puppet.lab.test");
        assert_eq!((way, findings[0].verdict), (Way::Past, Verdict::Warning));
    }

    /// What is said of one environment, made by this text.
    fn judged_in(runs: Runs, text: &str, way: Way, settings: &[(&'static str, &'static str)]) -> Finding {
        let listeners = ["127.0.0.1:8139".parse().unwrap()];
        let here = Here { listeners: &listeners, hosts: &HostsFile::default(), listening: &[] };
        let environment = Environment::of_file(runs, "/etc/default/puppet", text);
        let settings = settings.iter().copied().collect();
        let mut findings = judge_environment(&[environment], way, &settings, &endpoints(), here);
        assert!(!format!("{findings:?}").contains("secret"), "{findings:?}");
        findings.remove(0)
    }

    const OURS: [(&str, &str); 2] = [("http_proxy_host", "127.0.0.1"), ("http_proxy_port", "8139")];

    #[test]
    fn the_environment_goes_first() {
        for (text, way, verdict) in [
            ("", Way::Proxy, Verdict::Ok),
            ("http_proxy=http://127.0.0.1:8139/", Way::Proxy, Verdict::Ok),
            ("https_proxy=http://proxy:3128", Way::Proxy, Verdict::Ok),
            ("http_proxy=proxy:3128", Way::Proxy, Verdict::Ok),
            ("http_proxy=http://user:secret@proxy:3128/secret", Way::Proxy, Verdict::Problem),
            ("HTTP_PROXY=http://proxy", Way::Alias, Verdict::Problem),
            ("HTTP_PROXY=http://proxy\nno_proxy=puppet.lab.test", Way::Alias, Verdict::Problem),
            ("HTTP_PROXY=http://proxy\nno_proxy=.lab.test", Way::Alias, Verdict::Ok),
            ("HTTP_PROXY=http://proxy", Way::Past, Verdict::Warning),
            ("http_proxy=\nHTTP_PROXY=http://proxy", Way::Proxy, Verdict::Ok),
            ("no_proxy=lab.test", Way::Proxy, Verdict::Problem),
            ("no_proxy=localhost,,x", Way::Proxy, Verdict::Problem),
            ("no_proxy=\nNO_PROXY=lab.test", Way::Proxy, Verdict::Ok),
            ("no_proxy=lab.test", Way::Alias, Verdict::Ok),
        ] {
            let settings = if way == Way::Proxy { &OURS[..] } else { &[] };
            let finding = judged_in(Runs::Service, text, way, settings);
            assert_eq!(finding.verdict, verdict, "{text} {way:?}: {finding:?}");
            if verdict != Verdict::Ok {
                assert!(finding.mend.unwrap().contains("/etc/default/puppet"));
            }
        }
    }

    /// The setting counts where the environment has no `no_proxy`, and is told of once.
    #[test]
    fn the_setting_of_who_comes_by_the_environment() {
        let here = "http_proxy=http://127.0.0.1:8139";
        let past = ("no_proxy", ".lab.test");
        let found = judged_in(Runs::Service, here, Way::Proxy, &[past]);
        assert_eq!((found.verdict, found.subject.as_str()), (Verdict::Problem, "no_proxy"));
        let found = judged_in(Runs::Service, here, Way::Proxy, &[OURS[0], OURS[1], past]);
        assert_eq!(found.verdict, Verdict::Ok);
        let found = judged_in(Runs::Service, &format!("{here}\nno_proxy=x"), Way::Proxy, &[past]);
        assert_eq!(found.verdict, Verdict::Ok);
    }

    /// The service does not read it, and others need it.
    #[test]
    fn everybodys_proxy() {
        for text in ["http_proxy=http://proxy", "NO_PROXY=lab.test"] {
            let finding = judged_in(Runs::Login, text, Way::Proxy, &OURS);
            assert_eq!(finding.verdict, Verdict::Warning, "{finding:?}");
            let mend = finding.mend.unwrap();
            assert!(
                mend.contains("`env -u http_proxy -u HTTP_PROXY -u no_proxy -u NO_PROXY puppet agent --test`"),
                "{mend}"
            );
        }
        let what = judged_in(Runs::Login, "http_proxy=http://proxy", Way::Proxy, &OURS).what;
        assert!(what.contains("runs from a login or cron") && what.contains("the service's do not"), "{what}");

        // Of who has logged in it is told once.
        let listeners = ["127.0.0.1:8139".parse().unwrap()];
        let here = Here { listeners: &listeners, hosts: &HostsFile::default(), listening: &[] };
        let count = |own: &str, login: &str| {
            let environments = [Environment::of_file(Runs::Own, "", own), Environment::of_file(Runs::Login, "", login)];
            let settings = OURS.into_iter().collect();
            let findings = judge_environment(&environments, Way::Proxy, &settings, &endpoints(), here);
            findings.into_iter().map(|finding| finding.verdict).collect::<Vec<_>>()
        };
        let proxy = "http_proxy=http://proxy\nno_proxy=lab.test";
        assert_eq!(count(proxy, proxy), [Verdict::Warning]);
        assert_eq!(count("http_proxy=http://other", proxy), [Verdict::Problem, Verdict::Warning]);
    }

    #[test]
    fn what_systemd_does_not_show() {
        let mut environment = Environment::of_file(Runs::Service, "puppet.service", "");
        environment.unshown = 1;
        let here = Here { listeners: &[], hosts: &HostsFile::default(), listening: &[] };
        let findings = judge_environment(&[environment], Way::Past, &Settings::default(), &endpoints(), here);
        assert_eq!((findings.len(), findings[0].verdict), (1, Verdict::Warning));
        assert!(findings[0].mend.as_ref().unwrap().starts_with("`systemctl cat puppet.service`"));
    }
}
