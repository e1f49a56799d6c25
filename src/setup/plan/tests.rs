use std::net::SocketAddr;

use rcgen::{CertificateParams, KeyPair};

use super::*;
use crate::certificate::Names;
use crate::discovery::NoAddress;
use crate::setup::environment::Variable;
use crate::setup::facts::{Additions, RoleFacts, Shown};

const DEFAULTS: [(&str, &str); 11] = [
    ("server", "puppet.example.com"),
    ("serverport", "8140"),
    ("ca_server", "puppet.example.com"),
    ("ca_port", "8140"),
    ("report_server", "puppet.example.com"),
    ("report_port", "8140"),
    ("pluginsource", "puppet:///plugins"),
    ("pluginfactsource", "puppet:///pluginfacts"),
    ("http_proxy_host", "none"),
    ("http_proxy_port", "3128"),
    ("no_proxy", "localhost, 127.0.0.1"),
];

fn host(name: &str) -> Host {
    name.parse().unwrap()
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// A server whose certificate has these names.
fn server(name: &str, names: &[&str]) -> (HostPort, Shown) {
    let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    let der = CertificateParams::new(names).unwrap().self_signed(&KeyPair::generate().unwrap()).unwrap();
    (format!("{name}:8140").parse().unwrap(), Shown::Names(Names::of(der.der()).unwrap()))
}

fn role(source: Source, servers: Vec<(HostPort, Shown)>, names: &[&str]) -> RoleFacts {
    RoleFacts {
        source: Some(source),
        servers,
        names: names.iter().map(|name| host(name)).collect(),
        ..RoleFacts::default()
    }
}

fn srv(owner: &str) -> Source {
    Source::Srv(format!("_x-{owner}._tcp.example.com"))
}

/// A site with a CA of its own, whose compilers do the rest, and an agent with a stock `puppet.conf`.
fn site() -> Facts {
    site_with(&[])
}

/// With these settings.
fn site_with(settings: &[(&str, &str)]) -> Facts {
    let agent: Settings = DEFAULTS.iter().chain(settings).copied().collect();
    let compilers = || {
        let names = ["puppet.example.com"];
        vec![server("compiler1.example.com", &names), server("compiler2.example.com", &names)]
    };
    let fallback = Source::Fallback("_x-puppet._tcp.example.com".into());
    let ca = vec![server("ca1.example.com", &["ca1.example.com", "puppet.example.com", "puppetca.example.com"])];
    let roles = [
        ("ca", role(srv("puppet-ca"), ca, &["puppetca.example.com", "puppetca"])),
        ("compile", role(srv("puppet"), compilers(), &["puppet.example.com"])),
        ("files", role(fallback.clone(), compilers(), &["puppetfiles.example.com", "puppetfiles"])),
        ("report", role(fallback, compilers(), &["puppetreport.example.com", "puppetreport"])),
    ];
    let free = ["127.0.0.1:8139", "127.0.0.1:8140", "[::1]:8140"].map(|free| (address(free), Port::Free));
    Facts {
        addresses: names::addresses(&agent).unwrap(),
        agent,
        domain: Some("example.com".into()),
        roles: roles.into_iter().map(|(name, role)| (name.to_owned(), role)).collect(),
        ports: free.into(),
        has_systemd: true,
        hosts: "127.0.0.1 localhost\n".into(),
        ..Facts::default()
    }
}

/// The settings, `NAME=VALUE`, or `NAME` where it is taken out.
fn settings(plan: &Plan) -> Vec<String> {
    let text = |(name, value): &puppet_conf::Wanted| value.as_ref().map_or(name.clone(), |v| format!("{name}={v}"));
    plan.settings.iter().map(text).collect()
}

/// The keys, `PATH=VALUE`.
fn keys(plan: &Plan) -> Vec<String> {
    let text = |value: &Wanted| match value {
        Wanted::Flag(flag) => flag.to_string(),
        Wanted::Text(text) => text.clone(),
        Wanted::List(list) => list.join(" "),
    };
    plan.keys.iter().map(|(path, value)| format!("{}={}", path.join("."), text(value))).collect()
}

/// The plan of a host on which the mode works.
fn good(mode: Mode, facts: &Facts) -> Plan {
    let plan = plan(mode, facts);
    assert_eq!(plan.refusals, Vec::<String>::new());
    plan
}

/// The one reason against it.
fn refusal(mode: Mode, facts: &Facts) -> String {
    let plan = plan(mode, facts);
    assert_eq!(plan.refusals.len(), 1, "{:?}", plan.refusals);
    plan.refusals[0].clone()
}

fn warns(plan: &Plan, words: &str) {
    assert!(plan.warnings.iter().any(|warning| warning.contains(words)), "{:?}", plan.warnings);
}

#[test]
fn proxy_mode() {
    let plan = good(Mode::Proxy, &site());
    let expected = ["ca_server=puppetca.example.com", "http_proxy_host=127.0.0.1", "http_proxy_port=8139"];
    assert_eq!(settings(&plan), expected);
    assert_eq!((keys(&plan), plan.warnings.len()), (vec![], 0));
    assert_eq!((plan.hosts.len(), plan.drop_in.len(), plan.listens), (0, 0, vec![address("127.0.0.1:8139")]));
    assert_eq!(
        plan.roles[0],
        "compile: puppet.example.com:8140, to compiler1.example.com:8140, compiler2.example.com:8140 (by srv _x-puppet._tcp.example.com)"
    );
    assert_eq!(plan.roles[2], "report: no servers of its own, as compile");
}

#[test]
fn port_mode() {
    let mut facts = site();
    for (name, source) in [("report", Source::Static), ("files", srv("puppet-fileserver"))] {
        facts.roles.get_mut(name).unwrap().source = Some(source);
    }
    facts.roles.values_mut().for_each(|role| role.names = vec![host("puppet.example.com")]);
    let plan = good(Mode::Port, &facts);
    let expected = [
        "ca_port=8141",
        "report_port=8142",
        "pluginsource=puppet://puppet.example.com:8143/plugins",
        "pluginfactsource=puppet://puppet.example.com:8143/pluginfacts",
        "http_proxy_host=127.0.0.1",
        "http_proxy_port=8139",
    ];
    assert_eq!(settings(&plan), expected);
}

#[test]
fn alias_mode() {
    let plan = good(Mode::Alias, &site());
    assert_eq!(settings(&plan), ["ca_server=puppetca.example.com"]);
    assert_eq!(keys(&plan), ["listen=127.0.0.1:8139 [::1]:8139 127.0.0.1:8140 [::1]:8140"]);
    let names = "puppet.example.com puppetca.example.com";
    assert_eq!(plan.hosts, [format!("127.0.0.1 {names}"), format!("::1 {names}")]);
    assert_eq!(plan.drop_in, ["[Socket]", "ListenStream=127.0.0.1:8140", "ListenStream=[::1]:8140"]);
}

#[test]
fn alias_mode_without_ipv6() {
    let mut facts = site();
    facts.ports.insert(address("[::1]:8140"), Port::Absent);
    let plan = good(Mode::Alias, &facts);
    assert_eq!(plan.hosts, ["127.0.0.1 puppet.example.com puppetca.example.com"]);
    assert_eq!(plan.drop_in, ["[Socket]", "ListenStream=127.0.0.1:8140"]);
}

#[test]
fn alias_mode_without_systemd() {
    let facts = Facts { has_systemd: false, ..site() };
    let plan = good(Mode::Alias, &facts);
    assert_eq!(plan.drop_in, Vec::<String>::new());
    warns(&plan, "nobody listens on 127.0.0.1:8140, [::1]:8140 yet");
}

/// Alias mode listens wherever the names are asked for.
#[test]
fn alias_mode_on_other_ports() {
    let plan = good(Mode::Alias, &site_with(&[("ca_port", "8141")]));
    assert_eq!(settings(&plan), Vec::<String>::new(), "the port tells the role already");
    assert!(plan.drop_in.contains(&"ListenStream=127.0.0.1:8141".to_owned()), "{:?}", plan.drop_in);
}

/// What has been done is found, and listens by now.
#[test]
fn the_second_time_wants_the_same() {
    let mut facts = site();
    let first = good(Mode::Alias, &facts);
    facts.set_up = Some(Mode::Alias);
    facts.config.listen.extend([address("127.0.0.1:8140"), address("[::1]:8140")]);
    facts.drop_in = first.drop_in.clone();
    facts.hosts = crate::setup::block::put(&facts.hosts, &first.hosts);
    facts.ports.values_mut().for_each(|port| *port = Port::Ours);
    let second = good(Mode::Alias, &facts);
    assert_eq!(
        (second.hosts, second.drop_in, keys(&Plan { keys: second.keys, ..Plan::default() })),
        (first.hosts, first.drop_in, vec![])
    );
}

#[test]
fn what_the_administrator_has_written_is_not_done_again() {
    let mut facts = site();
    facts.config.listen = vec![address("127.0.0.1:8140"), address("[::]:8140")];
    facts.ports.values_mut().for_each(|port| *port = Port::Ours);
    facts.hosts.push_str("127.0.0.1 puppet.example.com\n");
    let plan = good(Mode::Alias, &facts);
    assert_eq!((keys(&plan), plan.drop_in.len()), (vec![], 0));
    assert_eq!(plan.hosts, ["127.0.0.1 puppetca.example.com", "::1 puppetca.example.com"]);
}

#[test]
fn a_server_on_this_host_has_the_port() {
    let mut facts = site();
    let java = || Port::Others("process 66 (java) of the user with the number 52".into());
    facts.ports.insert(address("127.0.0.1:8140"), java());
    let words = "127.0.0.1:8140 is taken by process 66 (java) of the user with the number 52, as where";
    assert!(refusal(Mode::Alias, &facts).starts_with(words));
    good(Mode::Proxy, &facts);
    // What our configuration says of it does not make it ours.
    facts.config.listen.push(address("127.0.0.1:8140"));
    assert!(refusal(Mode::Alias, &facts).starts_with(words));
    // Neither does the unit, while somebody else has the port.
    facts.ports.insert(address("127.0.0.1:8139"), java());
    facts.unit = Some(vec![address("127.0.0.1:8139")]);
    let why = refusal(Mode::Proxy, &facts);
    assert!(why.starts_with("127.0.0.1:8139 is taken by process 66 (java)"), "{why}");
}

#[test]
fn a_port_that_is_held_for_nothing_we_know_of() {
    let mut facts = site();
    facts.ports.insert(address("127.0.0.1:8140"), Port::Ours);
    assert!(refusal(Mode::Alias, &facts).starts_with("127.0.0.1:8140 is taken by root, by systemd"));
    facts.config.listen.push(address("127.0.0.1:8140"));
    good(Mode::Alias, &facts);
}

/// The service would bind it, but nobody starts that before somebody connects.
#[test]
fn a_proxy_that_the_unit_does_not_listen_on() {
    let mut facts = site();
    facts.unit = Some(vec![address("127.0.0.1:8139"), address("[::1]:8139")]);
    for mode in [Mode::Proxy, Mode::Port] {
        for (listen, reached, drop_in) in [
            ("127.0.0.1:8139", "127.0.0.1:8139", &[][..]),
            ("127.0.0.1:9000", "127.0.0.1:9000", &["[Socket]", "ListenStream=127.0.0.1:9000"]),
            ("0.0.0.0:9000", "127.0.0.1:9000", &["[Socket]", "ListenStream=0.0.0.0:9000"]),
        ] {
            let listen = address(listen);
            let mut facts = Facts { config: Config { listen: vec![listen], ..Config::default() }, ..facts.clone() };
            facts.roles.values_mut().for_each(|role| role.names = vec![host("puppet.example.com")]);
            let first = good(mode, &facts);
            assert_eq!(first.drop_in, drop_in);
            assert_eq!(first.listens, [address(reached)]);
            // The second time the unit listens there too.
            facts.unit.as_mut().unwrap().push(listen);
            facts.drop_in.clone_from(&first.drop_in);
            assert_eq!(good(mode, &facts).drop_in, first.drop_in);
            facts.has_systemd = false;
            assert!(good(mode, &facts).drop_in.is_empty());
        }
    }
    // One that is not installed: whoever started the daemon sees to it.
    facts.unit = None;
    facts.config.listen = vec![address("127.0.0.1:9000")];
    assert!(good(Mode::Proxy, &facts).drop_in.is_empty());
}

#[test]
fn alias_mode_needs_records_or_a_list() {
    let mut facts = site();
    let compile = facts.roles.get_mut("compile").unwrap();
    compile.source = Some(Source::Name);
    compile.owners = vec!["_x-puppet._tcp.example.com".into()];
    let why = refusal(Mode::Alias, &facts);
    assert!(why.contains("needs SRV records") && why.contains("_x-puppet._tcp.example.com"), "{why}");
    good(Mode::Proxy, &facts);
    facts.roles.get_mut("compile").unwrap().source = Some(Source::Static);
    good(Mode::Alias, &facts);
}

#[test]
fn what_dns_has_not_said_may_be_anything() {
    let mut facts = site();
    let ca = facts.roles.get_mut("ca").unwrap();
    ca.source = Some(Source::Name);
    ca.unknown = Some("_x-puppet-ca._tcp.example.com: SERVFAIL".into());
    assert!(
        refusal(Mode::Proxy, &facts)
            .contains("does not say which servers ca has, _x-puppet-ca._tcp.example.com: SERVFAIL")
    );
    facts.roles.get_mut("ca").unwrap().source = Some(Source::Static);
    good(Mode::Proxy, &facts);
    facts.roles.get_mut("report").unwrap().trouble = Some("port 22 is not allowed".into());
    warns(&good(Mode::Proxy, &facts), "in DNS for role report: port 22");
}

#[test]
fn a_name_that_no_certificate_has() {
    let mut facts = site();
    facts.roles.get_mut("ca").unwrap().servers = vec![server("ca1.example.com", &["puppet.example.com"])];
    let why = refusal(Mode::Proxy, &facts);
    assert!(why.contains("no server of ca has neither puppetca.example.com nor puppetca"), "{why}");
    assert!(why.contains("--mode port"), "{why}");
    // For which the name is enough that it has.
    facts.roles.get_mut("ca").unwrap().names = vec![host("puppet.example.com")];
    good(Mode::Port, &facts);
    facts.roles.get_mut("compile").unwrap().servers = vec![server("c", &["c.example.com"])];
    assert!(refusal(Mode::Port, &facts).contains("no server of compile has puppet.example.com"));
}

#[test]
fn the_name_that_the_certificates_have() {
    let mut facts = site();
    facts.roles.get_mut("ca").unwrap().servers = vec![server("ca1.example.com", &["puppetca"])];
    assert_eq!(settings(&good(Mode::Proxy, &facts))[0], "ca_server=puppetca");
}

#[test]
fn some_servers_lack_it_or_do_not_tell() {
    let mut facts = site();
    let ca = &mut facts.roles.get_mut("ca").unwrap().servers;
    ca.push(server("ca2.example.com", &["ca2.example.com"]));
    ca.push(("ca3.example.com:8140".parse().unwrap(), Shown::Nothing("refused".into())));
    let plan = good(Mode::Proxy, &facts);
    assert_eq!(settings(&plan)[0], "ca_server=puppetca.example.com");
    warns(&plan, "ca2.example.com:8140 of role ca lacks puppetca.example.com");
    warns(
        &plan,
        "whether ca3.example.com:8140 of role ca has puppetca.example.com in its certificate is not known: it refused",
    );
}

#[test]
fn names_that_our_configuration_has_to_know() {
    let mut facts = site_with(&[
        ("server", "primary.corp.example"),
        ("ca_server", "primary.corp.example"),
        ("report_server", "primary.corp.example"),
    ]);
    facts.additions = Additions {
        certname: Some("agent01".into()),
        names: vec![(Role::new("compile"), host("primary.corp.example"))],
        ..Additions::default()
    };
    facts.roles.get_mut("compile").unwrap().servers = vec![server("c", &["primary.corp.example"])];
    let plan = good(Mode::Proxy, &facts);
    assert_eq!(keys(&plan), ["certname=agent01", "role.compile.names=puppet primary.corp.example"]);
}

/// A report server of its own, for which there are no records.
#[test]
fn the_compilers_do_not_stand_in_for_a_server_that_is_named() {
    let mut facts = site_with(&[("report_server", "reports.example.com")]);
    let report = Role::new("report");
    facts.additions.names = vec![(report.clone(), host("reports.example.com"))];
    facts.additions.alone = vec![report];
    let reports = vec![server("reports.example.com", &["reports.example.com"])];
    facts.roles.insert("report".into(), role(Source::Name, reports, &["reports.example.com"]));
    let plan = good(Mode::Proxy, &facts);
    assert_eq!(settings(&plan)[1..], ["http_proxy_host=127.0.0.1", "http_proxy_port=8139"]);
    let text = crate::setup::configuration::set("", &plan.keys).unwrap().0;
    assert_eq!(text, "role.report.names = [\"puppetreport\", \"reports.example.com\"]\nrole.report.fallback = false\n");
}

#[test]
fn a_name_that_is_one_of_the_servers() {
    let mut facts = site_with(&[("ca_server", "ca1.example.com")]);
    facts.targets.insert(host("ca1.example.com"), Role::new("ca"));
    let plan = good(Mode::Proxy, &facts);
    assert_eq!(settings(&plan), ["http_proxy_host=127.0.0.1", "http_proxy_port=8139"]);
    warns(&plan, "ca_server = ca1.example.com names one of the servers of ca");
    assert!(!good(Mode::Alias, &facts).hosts[0].contains("ca1"), "what is asked for there goes past puppet-shim");
}

/// What is asked of `server` by default is not what that server is for.
#[test]
fn a_server_that_is_one_of_the_compilers() {
    let name = "compiler1.example.com";
    let mut facts = site_with(&[("server", name), ("ca_server", name), ("report_server", name)]);
    facts.targets.insert(host(name), Role::new("compile"));
    let plan = good(Mode::Proxy, &facts);
    assert_eq!(settings(&plan)[0], "ca_server=puppetca.example.com");
    assert_eq!(plan.warnings.len(), 1, "{:?}", plan.warnings);
    assert!(
        refusal(Mode::Port, &facts)
            .contains("ca_server = compiler1.example.com in puppet.conf is not the site's official name")
    );
}

#[test]
fn a_server_that_no_certificate_should_name() {
    for name in ["localhost", "127.0.0.1", "::1"] {
        assert!(refusal(Mode::Proxy, &site_with(&[("server", name)])).contains("official one"), "{name}");
    }
}

#[test]
fn the_agents_own_choice_is_taken_off_it() {
    let plan = good(Mode::Proxy, &site_with(&[("use_srv_records", "true"), ("server_list", "a:8140,b:8140")]));
    assert_eq!(
        settings(&plan)[1..],
        ["use_srv_records=false", "http_proxy_host=127.0.0.1", "http_proxy_port=8139", "server_list"]
    );
    assert_eq!(keys(&plan), Vec::<String>::new());
    warns(
        &plan,
        "server_list = a:8140,b:8140 is taken out of puppet.conf, and not carried over: the SRV records _x-puppet._tcp.example.com name \
         the servers of compile, compiler1.example.com:8140, compiler2.example.com:8140",
    );
}

/// A site that lives by the agent's own list.
fn site_by_list(list: &str) -> Facts {
    let mut facts = site_with(&[("server", "puppet"), ("server_list", list)]);
    facts.additions.servers = names::server_list(&facts.agent).unwrap();
    let servers = vec![server("a.example.com", &["puppet"]), server("b.example.com", &["puppet"])];
    facts.roles.insert("compile".into(), role(Source::Static, servers, &["puppet"]));
    facts
}

#[test]
fn the_agents_own_list_is_carried_over() {
    let mut facts = site_by_list("b.example.com:8141 , a.example.com");
    for mode in [Mode::Proxy, Mode::Port, Mode::Alias] {
        facts.roles.get_mut("ca").unwrap().names = vec![host("puppetca.example.com"), host("puppet.example.com")];
        let plan = good(mode, &facts);
        assert!(settings(&plan).contains(&"server_list".to_owned()), "{:?}", plan.settings);
        assert_eq!(keys(&plan)[0], "role.compile.servers=b.example.com:8141 a.example.com");
        assert_eq!(plan.warnings, Vec::<String>::new());
    }
    let text = crate::setup::configuration::set("", &good(Mode::Proxy, &facts).keys).unwrap().0;
    assert_eq!(text, "role.compile.servers = [\"b.example.com:8141\", \"a.example.com\"]\n");

    // It is there already, from a call that was cut short, or the administrator has written another.
    let compile = facts.config.roles.iter_mut().find(|role| role.role.as_str() == Role::COMPILE).unwrap();
    compile.servers = std::mem::take(&mut facts.additions.servers);
    let plan = good(Mode::Proxy, &facts);
    assert_eq!((keys(&plan).len(), plan.warnings.len()), (0, 0));
    let compile = facts.config.roles.iter_mut().find(|role| role.role.as_str() == Role::COMPILE).unwrap();
    compile.servers.pop();
    warns(&good(Mode::Proxy, &facts), "not carried over: `servers` of role compile in our configuration name");
}

#[test]
fn a_list_that_is_no_list_of_servers() {
    let mut facts = site_with(&[("server_list", "a,b c")]);
    warns(&good(Mode::Proxy, &facts), "server_list = a,b c is taken out");
    facts.roles.get_mut("compile").unwrap().source = Some(Source::Name);
    let why = refusal(Mode::Proxy, &facts);
    assert!(why.starts_with("server_list in puppet.conf has \"b c\", which is no server: ' ' is"), "{why}");
}

/// Each run would get 502.
#[test]
fn a_role_without_a_server() {
    let nowhere = |name: &str| (format!("{name}:8140").parse().unwrap(), Shown::Nowhere(NoAddress::None));
    let mut facts = site_with(&[("server", "puppet")]);
    let mut compile = role(Source::Name, vec![nowhere("puppet")], &["puppet"]);
    compile.owners = vec!["_x-puppet._tcp.example.com".into()];
    facts.roles.insert("compile".into(), compile);
    for mode in [Mode::Proxy, Mode::Port] {
        facts.roles.get_mut("ca").unwrap().names = vec![host("puppet.example.com")];
        let why = refusal(mode, &facts);
        assert_eq!(
            why,
            "role compile has no server that the agent could be taken to: puppet:8140 has no address in DNS, and the hosts file is not \
             asked; add SRV records (_x-puppet._tcp.example.com), or its servers to our configuration (role.compile.servers), or an address \
             of that name to DNS"
        );
    }
    assert!(refusal(Mode::Alias, &facts).starts_with("alias mode needs SRV records"));

    // A list is no better where none of it is anywhere, and as good as any where one is.
    let mut facts = site_by_list("a.example.com,b.example.com");
    let servers = &mut facts.roles.get_mut("compile").unwrap().servers;
    *servers = vec![nowhere("a.example.com"), nowhere("b.example.com")];
    let why = refusal(Mode::Proxy, &facts);
    assert!(why.contains("a.example.com:8140, b.example.com:8140 has no address in DNS"), "{why}");
    assert!(why.ends_with("; add their addresses to DNS, or name other servers"), "{why}");
    facts.roles.get_mut("compile").unwrap().servers[1] = server("b.example.com", &["puppet"]);
    warns(
        &good(Mode::Proxy, &facts),
        "whether a.example.com:8140 of role compile has puppet in its certificate is not known",
    );
}

#[test]
fn a_proxy_becomes_foreign() {
    let facts = site_with(&[("http_proxy_host", "proxy.example.net"), ("http_proxy_user", "me")]);
    let plan = good(Mode::Proxy, &facts);
    assert_eq!(keys(&plan), ["foreign=http://proxy.example.net:3128"]);
    warns(&plan, "http_proxy_user and http_proxy_password stay");
    assert!(refusal(Mode::Alias, &facts).contains("the agent has a proxy, proxy.example.net:3128"));

    // It is so already, or the administrator wants it otherwise.
    let mut facts = facts;
    facts.config.foreign = Foreign::Proxy("proxy.example.net:3128".parse().unwrap());
    assert_eq!(keys(&good(Mode::Proxy, &facts)), Vec::<String>::new());
    facts.config.foreign = Foreign::Direct;
    let plan = good(Mode::Proxy, &facts);
    assert_eq!(keys(&plan), Vec::<String>::new());
    warns(&plan, "foreign = \"direct\"");
}

#[test]
fn our_own_proxy_is_not_carried_over() {
    for host in ["127.0.0.1", "localhost", "::1"] {
        let plan = good(Mode::Proxy, &site_with(&[("http_proxy_host", host), ("http_proxy_port", "8139")]));
        assert_eq!(keys(&plan), Vec::<String>::new(), "{host}");
    }
    let squid = good(Mode::Proxy, &site_with(&[("http_proxy_host", "localhost")]));
    assert_eq!(keys(&squid), ["foreign=http://localhost:3128"]);
}

#[test]
fn the_proxy_is_where_we_listen() {
    for (listen, expected) in [
        (&["[::1]:9000", "127.0.0.1:9001"][..], ["http_proxy_host=127.0.0.1", "http_proxy_port=9001"]),
        (&["[::1]:9000"], ["http_proxy_host=::1", "http_proxy_port=9000"]),
        (&["192.0.2.1:1", "0.0.0.0:9000"], ["http_proxy_host=127.0.0.1", "http_proxy_port=9000"]),
    ] {
        let mut facts = site();
        facts.config.listen = listen.iter().map(|listen| address(listen)).collect();
        assert_eq!(settings(&good(Mode::Proxy, &facts))[1..], expected);
    }
    let mut facts = site();
    facts.config.listen = vec![address("192.0.2.1:8139")];
    assert!(refusal(Mode::Proxy, &facts).contains("listens nowhere"));
}

#[test]
fn what_goes_past_every_proxy() {
    for (no_proxy, name) in
        [("localhost,.example.com", "puppet.example.com"), ("puppetca.example.com", "puppetca.example.com")]
    {
        let why = refusal(Mode::Proxy, &site_with(&[("no_proxy", no_proxy)]));
        assert!(why.contains(&format!("takes connections to {name} past every proxy")), "{why}");
    }
    good(Mode::Alias, &site_with(&[("no_proxy", ".example.com")]));
    let why = refusal(Mode::Proxy, &site_with(&[("no_proxy", "localhost,,x")]));
    assert!(why.contains("no_proxy in puppet.conf has an entry without a host, \"\", which Puppet fails at"), "{why}");
}

#[test]
fn what_goes_before_the_settings() {
    let variable = |name: &str, value: &str| Variable {
        file: Some("/etc/default/puppet".into()),
        name: name.into(),
        value: value.into(),
    };
    let environment = vec![variable("HTTP_PROXY", "http://u:secret@x:1"), variable("no_proxy", "example.com")];
    let facts = Facts { environment, ..site() };
    let plan = good(Mode::Proxy, &facts);
    warns(&plan, "HTTP_PROXY in /etc/default/puppet goes before puppet.conf");
    warns(&plan, "no_proxy in /etc/default/puppet has \"example.com\"");
    assert_eq!(good(Mode::Alias, &facts).warnings, Vec::<String>::new());
}

#[test]
fn a_line_of_the_hosts_file_that_goes_first() {
    let mut facts = site();
    facts.hosts = "192.0.2.7 puppet.example.com\n".into();
    let why = refusal(Mode::Alias, &facts);
    assert!(why.starts_with("line 1 of the hosts file takes puppet.example.com to 192.0.2.7"), "{why}");
    // As Debian's installer has it for the host's own name.
    facts.hosts = "127.0.1.1 puppet.example.com\n".into();
    let why = refusal(Mode::Alias, &facts);
    assert!(why.contains("to 127.0.1.1, where puppet-shim does not listen"), "{why}");
    facts.hosts = "127.0.0.1 puppet.example.com\n::1 puppet.example.com\n".into();
    good(Mode::Alias, &facts);
    facts.ports.insert(address("[::1]:8140"), Port::Absent);
    assert!(refusal(Mode::Alias, &facts).starts_with("line 2 of the hosts file takes puppet.example.com to ::1"));
}

#[test]
fn one_mode_at_a_time() {
    let facts = Facts { set_up: Some(Mode::Port), ..site() };
    assert!(refusal(Mode::Alias, &facts).contains("is set up in port mode"));
}
