//! What the agent's settings make it do: whom it asks, by which names, and what leads it past us.

use std::net::IpAddr;

use super::finding::Finding;
use super::set_up::SetUp;
use crate::config::{Balance, Config};
use crate::host::{Host, split_port};
use crate::puppet::Settings;

/// The settings that are looked at.
pub(super) const SETTINGS: [&str; 20] = [
    "server",
    "serverport",
    "ca_server",
    "ca_port",
    "report_server",
    "report_port",
    "pluginsource",
    "pluginfactsource",
    "http_proxy_host",
    "http_proxy_port",
    "no_proxy",
    "http_keepalive_timeout",
    "sourceaddress",
    "use_srv_records",
    "server_list",
    "certname",
    "hostcert",
    "hostcert_renewal_interval",
    "localcacert",
    "ca_fingerprint",
];

/// Puppet's `serverport`.
const SERVER_PORT: u16 = 8140;

/// Seconds that a stop of the daemon reckons with (`drain`).
const KEEP_ALIVE: u64 = 4;

/// Whom the agent asks for something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    /// The setting that says so.
    pub(super) setting: &'static str,
    /// The name as it is written, which is how it is compared with `no_proxy`.
    pub(super) written: String,
    /// The same as we know names.
    pub(super) host: Host,
    /// The port.
    pub(super) port: u16,
}

impl Endpoint {
    /// Whether it is this host itself: no server's certificate has such a name.
    pub(super) fn is_this_host(&self) -> bool {
        match &self.host {
            Host::Name(name) => name == "localhost" || name.starts_with("localhost.") || name.ends_with(".localhost"),
            Host::Ip(IpAddr::V4(ip)) => ip.is_loopback() || ip.is_unspecified(),
            Host::Ip(IpAddr::V6(ip)) => ip.is_loopback() || ip.is_unspecified(),
        }
    }
}

/// Whom the agent asks, and what is no name.
pub(super) fn endpoints(settings: &Settings) -> (Vec<Endpoint>, Vec<Finding>) {
    let (mut endpoints, mut findings) = (Vec::new(), Vec::new());
    let port = |name| settings.number(name).and_then(|port| u16::try_from(port).ok()).unwrap_or(SERVER_PORT);
    let serverport = port("serverport");
    for (setting, port) in
        [("server", serverport), ("ca_server", port("ca_port")), ("report_server", port("report_port"))]
    {
        let Some(written) = settings.get(setting) else { continue };
        match written.parse() {
            Ok(host) => endpoints.push(Endpoint { setting, written: written.to_owned(), host, port }),
            Err(why) => findings.push(no_name(setting, written, &why)),
        }
    }
    for setting in ["pluginsource", "pluginfactsource"] {
        // `puppet:///plugins` is `server`'s.
        let Some(url) = settings.get(setting).and_then(|url| url.strip_prefix("puppet://")) else { continue };
        let written = url.split('/').next().unwrap_or_default();
        if written.is_empty() {
            continue;
        }
        match split_port(written) {
            Ok((host, port)) => {
                let name = written.rsplit_once(':').filter(|_| port.is_some()).map_or(written, |(name, _)| name);
                let port = port.unwrap_or(serverport);
                endpoints.push(Endpoint { setting, written: name.to_owned(), host, port });
            }
            Err(why) => findings.push(no_name(setting, written, &why)),
        }
    }
    (endpoints, findings)
}

fn no_name(setting: &str, written: &str, why: &dyn std::fmt::Display) -> Finding {
    let mend = format!("`puppet config set {setting} NAME --section main`");
    Finding::problem("setting", setting, format!("{written:?} is no name: {why}"), mend)
}

/// What the settings are judged by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scene<'a> {
    /// The configuration in force.
    pub(super) config: &'a Config,
    /// The host's domain.
    pub(super) domain: Option<&'a str>,
    /// Whether this host has the address of `sourceaddress`.
    pub(super) can_bind: bool,
    /// Whether the agent comes here, or has been sent here.
    pub(super) is_sent: bool,
    /// By `setup`, or not.
    pub(super) set_up: SetUp,
}

/// Judges the settings.
pub(super) fn judge(settings: &Settings, endpoints: &[Endpoint], scene: Scene<'_>) -> Vec<Finding> {
    let Scene { config, domain, can_bind, is_sent, set_up } = scene;
    let mut findings = Vec::new();
    if settings.is_on("use_srv_records") {
        let finding = Finding::problem(
            "setting",
            "use_srv_records",
            "is on: the agent chooses servers by itself, goes to them by their own names, and waits minutes for a dead one",
            // Before it is sent here, it may have no other way to its servers.
            if is_sent { "`puppet config set use_srv_records false --section main`".into() } else { set_up.command() },
        );
        findings.push(finding.unless(!is_sent));
    }
    if let Some(list) = settings.get("server_list") {
        findings.push(Finding::warning(
            "setting",
            "server_list",
            format!("is {list}: the agent chooses by itself among these, and `server` is not asked for"),
            format!("{}, which takes the list over where DNS has no SRV records", set_up.command()),
        ));
    }
    let at_home: Vec<_> = endpoints.iter().filter(|endpoint| endpoint.is_this_host()).collect();
    if let Some(first) = at_home.first() {
        let official = config.roles.iter().find(|role| role.role.as_str() == crate::role::Role::COMPILE);
        let name = official.and_then(|role| role.names.first()).map_or("puppet", String::as_str);
        let name = match domain {
            Some(domain) if !name.contains('.') => format!("{name}.{domain}"),
            _ => name.to_owned(),
        };
        // The others take it from `server`.
        let set = if first.setting.starts_with("plugin") { format!("puppet://{name}/plugins") } else { name };
        findings.push(Finding::problem(
            "setting",
            first.setting,
            format!(
                "is {}: no server's certificate has that name, so every server is refused, and no proxy is asked for it",
                first.written
            ),
            format!("`puppet config set {} {set} --section main`; the proxy's settings lead here", first.setting),
        ));
    }
    if let Some(seconds) = settings.get("http_keepalive_timeout").and_then(seconds).filter(|s| *s > KEEP_ALIVE) {
        findings.push(Finding::warning(
            "setting",
            "http_keepalive_timeout",
            format!(
                "is {seconds} s: where puppet-shim stops, it closes connections after {} s of silence, and the agent may still \
                 count on them",
                KEEP_ALIVE + 1
            ),
            "`puppet config delete http_keepalive_timeout --section main`: its default is 4 s",
        ));
    }
    if let Some(address) = settings.get("sourceaddress").filter(|_| !can_bind) {
        findings.push(Finding::problem(
            "setting",
            "sourceaddress",
            format!("is {address}, which no interface of this host has: neither the agent nor puppet-shim can connect from there"),
            "`puppet config set sourceaddress ADDRESS --section main` with an address that `ip address` shows",
        ));
    }
    if let (Some(theirs), Some(ours)) = (settings.get("certname"), config.certname.as_deref())
        && theirs != ours
        && config.roles.iter().any(|role| role.balance == Balance::Hash)
    {
        findings.push(Finding::warning(
            "setting",
            "certname",
            format!("is {theirs}, and {ours} in puppet-shim's configuration, which chooses servers by it"),
            format!("write `certname = \"{theirs}\"` there, or leave it out"),
        ));
    }
    if findings.is_empty() {
        let mut said: Vec<String> = Vec::new();
        for Endpoint { setting, written, port, .. } in endpoints {
            said.push(format!("{setting} {written}:{port}"));
        }
        findings.push(Finding::ok("setting", "settings", said.join(", ")));
    }
    findings
}

/// `4`, `4s`, `1m`: as Puppet writes durations.
fn seconds(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "" | "s" => 1,
        "m" => 60,
        "h" => 60 * 60,
        "d" => 24 * 60 * 60,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::*;

    fn settings(more: &[(&'static str, &'static str)]) -> Settings {
        let usual = [("server", "puppet.lab.test"), ("ca_server", "puppetca.lab.test"), ("ca_port", "8140")];
        usual.iter().chain(more).copied().collect()
    }

    fn judged(more: &[(&'static str, &'static str)], can_bind: bool) -> Vec<Finding> {
        judged_where(more, can_bind, true)
    }

    fn judged_where(more: &[(&'static str, &'static str)], can_bind: bool, is_sent: bool) -> Vec<Finding> {
        let settings = settings(more);
        let (endpoints, findings) = endpoints(&settings);
        assert_eq!(findings, []);
        let config = Config::default();
        judge(
            &settings,
            &endpoints,
            Scene { config: &config, domain: Some("lab.test"), can_bind, is_sent, set_up: SetUp::Never },
        )
    }

    /// Nobody has sent it here yet: it goes as it went.
    #[test]
    fn an_agent_that_goes_by_its_own_records() {
        let judged = |is_sent| judged_where(&[("use_srv_records", "true")], true, is_sent).swap_remove(0);
        let (sent, before) = (judged(true), judged(false));
        assert_eq!((sent.verdict, before.verdict), (Verdict::Problem, Verdict::Warning));
        assert_eq!(sent.mend.as_deref(), Some("`puppet config set use_srv_records false --section main`"));
        // Switched off alone, it would leave the agent with `server`, which may have no address.
        assert_eq!(before.mend.as_deref(), Some("`puppet-shim setup --mode proxy --apply`"));
    }

    #[test]
    fn whom_it_asks() {
        let settings = settings(&[
            ("serverport", "8240"),
            ("report_server", "Reports"),
            ("report_port", "8142"),
            ("pluginsource", "puppet://files.lab.test:8143/plugins"),
            ("pluginfactsource", "puppet:///pluginfacts"),
        ]);
        let (endpoints, findings) = endpoints(&settings);
        let found: Vec<_> = endpoints.iter().map(|e| (e.setting, e.written.as_str(), e.port)).collect();
        let expected = [
            ("server", "puppet.lab.test", 8240),
            ("ca_server", "puppetca.lab.test", 8140),
            ("report_server", "Reports", 8142),
            ("pluginsource", "files.lab.test", 8143),
        ];
        assert_eq!((found, findings), (expected.to_vec(), vec![]));
        let bad: Settings = [("server", "pup/pet")].into_iter().collect();
        assert_eq!(super::endpoints(&bad).1[0].verdict, Verdict::Problem);
    }

    #[test]
    fn all_is_well() {
        let findings = judged(&[("http_keepalive_timeout", "4s"), ("sourceaddress", "192.0.2.1")], true);
        assert_eq!(
            findings,
            [Finding::ok("setting", "settings", "server puppet.lab.test:8140, ca_server puppetca.lab.test:8140")]
        );
    }

    #[test]
    fn each_by_itself() {
        for (setting, value, verdict) in [
            ("use_srv_records", "true", Verdict::Problem),
            ("server_list", "a:8140,b", Verdict::Warning),
            ("server", "localhost", Verdict::Problem),
            ("server", "127.0.0.1", Verdict::Problem),
            ("server", "::1", Verdict::Problem),
            ("http_keepalive_timeout", "30", Verdict::Warning),
            ("http_keepalive_timeout", "1m", Verdict::Warning),
            ("sourceaddress", "192.0.2.1", Verdict::Problem),
        ] {
            let findings = judged(&[(setting, value)], false);
            let [finding] = &findings[..] else { panic!("{findings:?}") };
            assert_eq!((finding.subject.as_str(), finding.verdict), (setting, verdict));
            // The list is not to be lost: it may be all that the agent has.
            let command = if setting == "server_list" { "puppet-shim setup " } else { "puppet config " };
            assert!(finding.mend.as_ref().unwrap().contains(command), "{finding:?}");
        }
        let mend = judged(&[("server", "localhost")], false)[0].mend.clone().unwrap();
        assert!(mend.starts_with("`puppet config set server puppet.lab.test --section main`"), "{mend}");
    }
}
