//! The corpus of configuration files: every valid one is accepted, every invalid one says exactly what its `.expected`
//! says.
//!
//! After a change of wording, `BLESS=1 cargo test --test config` writes the `.expected` files anew; read the
//! difference.

#![allow(clippy::unwrap_used)] // clippy.toml allows it in test functions, not in what they call.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use puppet_shim::config::{
    Accepted, Balance, Certificates, Config, Diagnostic, DnsConfig, Dnssec, Foreign, Limits, Nameserver, Rejected,
    RoleConfig, StaticServer, StatusConfig, StatusSocket, TABLES, Timeouts, Transport,
};
use puppet_shim::role::Role;

const DEFAULT_FILE: &str = include_str!("../packaging/puppet-shim.toml");

/// The `.toml` files of one half of the corpus, in order.
fn corpus(half: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config").join(half);
    let mut files: Vec<_> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{} is empty", folder.display());
    files
}

/// Parses a file under its bare name, so that what is said does not depend on where the sources lie.
fn parse(path: &Path) -> Result<Accepted, Rejected> {
    Config::parse(&fs::read(path).unwrap(), Path::new(path.file_name().unwrap()))
}

fn lines(diagnostics: &[Diagnostic]) -> String {
    diagnostics.iter().flat_map(|diagnostic| [diagnostic.to_string(), "\n".into()]).collect()
}

/// Compares what is said of a file with what should be; `None` where there is no `.expected` for it.
fn expected(path: &Path, said: &str) -> Option<String> {
    let expected = path.with_extension("expected");
    if std::env::var_os("BLESS").is_some() && !said.is_empty() {
        fs::write(&expected, said).unwrap();
    }
    expected.exists().then(|| fs::read_to_string(&expected).unwrap())
}

#[test]
fn valid_files_are_accepted() {
    for path in corpus("valid") {
        let accepted =
            parse(&path).unwrap_or_else(|rejected| panic!("{}:\n{}", path.display(), lines(&rejected.errors)));
        let said = lines(&accepted.warnings);
        assert_eq!(said, expected(&path, &said).unwrap_or_default(), "{}", path.display());
    }
}

/// The warning names what the unit has.
#[test]
fn the_unit_leaves_time_for_the_longest_drain_that_is_not_warned_of() {
    let unit = include_str!("../systemd/puppet-shim.service");
    assert!(unit.lines().any(|line| line == "TimeoutStopSec=16min"));
    assert_eq!(Timeouts::default().drain, Duration::from_secs(15 * 60));
    let said =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config/valid/drain-over-unit.expected"));
    assert!(said.unwrap().contains("TimeoutStopSec=16min"));
}

#[test]
fn invalid_files_are_rejected_with_every_error() {
    for path in corpus("invalid") {
        let Err(rejected) = parse(&path) else { panic!("{} was accepted", path.display()) };
        let said = lines(&rejected.errors);
        let expected = expected(&path, &said).unwrap_or_else(|| panic!("{} has no .expected", path.display()));
        assert_eq!(said, expected, "{}", path.display());
    }
}

#[test]
fn everything_is_read() {
    let role = |role, names: &[&str], ports: &[u16], srv: Option<&str>, fallback, servers: &[(&str, Option<u16>)]| {
        RoleConfig {
            role: Role::new(role),
            names: names.iter().map(ToString::to_string).collect(),
            ports: ports.to_vec(),
            srv: srv.map(Into::into),
            fallback,
            servers: servers
                .iter()
                .map(|(host, port)| StaticServer { host: host.parse().unwrap(), port: *port })
                .collect(),
            balance: Balance::Srv,
            prefer: vec![],
            allow_targets: vec![],
            allow_ports: None,
        }
    };
    let patterns = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
    let addresses = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
    let nameserver = |address: &str, transport| Nameserver { address: address.parse().unwrap(), transport };
    let expected = Config {
        listen: addresses(&["127.0.0.1:8139", "[::1]:8139", "192.0.2.10:8140"]),
        idle_exit: Duration::from_secs(120),
        allow_remote_clients: true,
        domain: Some("example.com".into()),
        certname: Some("agent01.example.com".into()),
        foreign: Foreign::Proxy("proxy.example.com:3128".parse().unwrap()),
        roles: vec![
            RoleConfig {
                balance: Balance::LeastLoaded,
                prefer: patterns(&["*.fra.example.com", "compiler3.example.com", "192.0.2.1", "2001:db8::1"]),
                allow_targets: patterns(&["*.example.com", "192.0.2.1", "2001:db8::1"]),
                allow_ports: Some(vec![9141..=9141, 8140..=8149, 1..=1]),
                ..role(
                    "ca",
                    &["puppet-ca", "ca.other.example"],
                    &[9141],
                    Some("_x-puppet-ca._tcp.other.example"),
                    false,
                    &[
                        ("ca1.example.com", None),
                        ("ca2.example.com", Some(8140)),
                        ("2001:db8::1", Some(8140)),
                        ("192.0.2.1", None),
                    ],
                )
            },
            role("compile", &["puppet", "puppet-test"], &[8140, 9140], None, false, &[("compiler1.example.com", None)]),
            role("files", &["puppetfiles"], &[8143], Some("_x-puppet-fileserver._tcp"), true, &[]),
            role("report", &["puppetreport"], &[8142], Some("_x-puppet-report._tcp"), true, &[]),
            RoleConfig {
                balance: Balance::Hash,
                ..role("artifacts-2", &["artifacts"], &[], Some("_artifacts._tcp"), false, &[])
            },
        ],
        timeouts: Timeouts {
            sniff: Duration::from_millis(100),
            connect: Duration::from_millis(500),
            budget: Duration::from_secs(600),
            idle: Duration::from_secs(7 * 24 * 3600),
            pin: Duration::ZERO,
            drain: Duration::ZERO,
        },
        limits: Limits { connections: 1_000_000, hello: 64 * 1024 },
        dns: DnsConfig {
            servers: vec![
                nameserver("192.0.2.53:53", Transport::Plain),
                nameserver("192.0.2.54:5353", Transport::Plain),
                nameserver("[2001:db8::53]:53", Transport::Plain),
                nameserver("[2001:db8::54]:53", Transport::Plain),
                nameserver("192.0.2.53:853", Transport::Tls(None)),
                nameserver("[2001:db8::54]:8853", Transport::Tls(Some("dns.example.com".parse().unwrap()))),
            ],
            timeout: Duration::from_secs(60),
            max_stale: Duration::from_secs(365 * 24 * 3600),
            allow_loopback: true,
            dnssec: Dnssec::Require,
            trust_anchor: Some("/etc/puppet-shim/trust anchor.key".into()),
            ca_file: Some("/etc/ssl/dns ca.pem".into()),
        },
        certificates: Certificates { check: false, ca_file: Some("/etc/ssl/puppet ca.pem".into()) },
        status: StatusConfig {
            socket: StatusSocket::At("/run/puppet shim/status.socket".into()),
            group: Some("adm".into()),
            page: false,
        },
    };
    let everything = corpus("valid").into_iter().find(|path| path.ends_with("everything.toml")).unwrap();
    assert_eq!(parse(&everything).unwrap().config, expected);
}

#[test]
fn roles_are_added_in_the_order_written() {
    let text = b"[role.zebra]\nports = [1]\n[role.report]\n[role.ape]\nports = [2]\n[role.ca]\n";
    let config = Config::parse(text, Path::new("f")).unwrap().config;
    let roles: Vec<_> = config.roles.iter().map(|role| role.role.as_str()).collect();
    assert_eq!(roles, ["ca", "compile", "files", "report", "zebra", "ape"]);
}

#[test]
fn every_expectation_has_its_file() {
    for half in ["valid", "invalid"] {
        let files: BTreeSet<_> = corpus(half).into_iter().collect();
        for entry in fs::read_dir(files.first().unwrap().parent().unwrap()).unwrap() {
            let path = entry.unwrap().path();
            assert!(files.contains(&path.with_extension("toml")), "{} belongs to no file", path.display());
        }
    }
}

/// The keys of a text that has one on each line, each with the header of its table.
fn keys(text: &str) -> BTreeSet<(&str, &str)> {
    let (mut keys, mut header) = (BTreeSet::new(), "");
    for line in text.lines() {
        if let Some(title) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            header = title;
            keys.insert(("", title.split('.').next().unwrap()));
        } else if let Some((key, _)) = line.split_once(" = ") {
            keys.insert((header, key));
        }
    }
    keys
}

#[test]
fn every_key_occurs_in_a_valid_file() {
    let mut missing: BTreeSet<_> =
        TABLES.iter().flat_map(|table| table.keys.iter().map(|key| (table.header, *key))).collect();
    for path in corpus("valid") {
        let text = fs::read_to_string(&path).unwrap();
        let written: BTreeSet<_> = keys(&text)
            .into_iter()
            .map(|(header, key)| (if header.starts_with("role.") { "role.NAME" } else { header }, key))
            .collect();
        missing.retain(|at| !written.contains(at));
    }
    assert_eq!(missing, BTreeSet::new());
}

#[test]
fn no_bytes_make_the_parser_panic() {
    for path in corpus("valid").into_iter().chain(corpus("invalid")) {
        let bytes = fs::read(&path).unwrap();
        // Cut off at every byte, and with every byte replaced by one that means something elsewhere.
        for at in 0..bytes.len() {
            let _ = Config::parse(&bytes[..at], &path);
            let mut bytes = bytes.clone();
            bytes[at] = b"\"[]=\n\xff\0"[at % 7];
            if let Err(rejected) = Config::parse(&bytes, &path) {
                assert!(!rejected.errors.is_empty(), "{} at {at}", path.display());
            }
        }
    }
}

#[test]
fn the_default_file_changes_one_setting() {
    let accepted = Config::parse(DEFAULT_FILE.as_bytes(), Path::new("puppet-shim.toml")).unwrap();
    // Whom it is installed for has the sockets, too, and need not carry an idle process.
    let config = Config { idle_exit: Duration::from_secs(120), ..Config::default() };
    assert_eq!(accepted, Accepted { config, warnings: vec![] });
}

#[test]
fn the_default_file_states_the_defaults() {
    let uncommented: String = DEFAULT_FILE
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(setting) if !setting.is_empty() && !setting.starts_with(' ') => setting,
            _ => line,
        })
        .collect::<Vec<_>>()
        .join("\n");
    let Accepted { mut config, warnings } =
        Config::parse(uncommented.as_bytes(), Path::new("puppet-shim.toml")).unwrap();
    // There is no way to write the default of these, which is to find them.
    assert_eq!(config.domain.take().as_deref(), Some("example.com"));
    assert_eq!(config.certname.take().as_deref(), Some("agent01.example.com"));
    let file = |file: &mut Option<PathBuf>| file.take().unwrap().into_os_string().into_string().unwrap();
    assert_eq!(file(&mut config.certificates.ca_file), "/etc/puppetlabs/puppet/ssl/certs/ca.pem");
    assert_eq!(file(&mut config.dns.trust_anchor), "/etc/puppet-shim/trust-anchor.key");
    assert_eq!(file(&mut config.dns.ca_file), "/etc/ssl/certs/dns-ca.pem");
    // Nor of these, which are whatever systemd says.
    let socket = std::mem::take(&mut config.status.socket);
    assert_eq!(socket, StatusSocket::At("/run/puppet-shim/status.socket".into()));
    assert_eq!(config.status.group.take().as_deref(), Some("adm"));
    // The one line that is no comment.
    assert_eq!(std::mem::take(&mut config.idle_exit), Duration::from_secs(120));
    // Nor of these, which depends on what else is written. While that is the default, they are the same.
    let default = Config::default();
    for (role, of_default) in config.roles.iter().zip(&default.roles) {
        assert!(role.allow_ports.is_some(), "{}", role.role);
        for port in 0..=u16::MAX {
            let allowed = (config.is_allowed_port(role, port), default.is_allowed_port(of_default, port));
            assert_eq!(allowed.0, allowed.1, "{} {port}", role.role);
        }
    }
    config.roles.iter_mut().for_each(|role| role.allow_ports = None);
    assert_eq!(config, default);
    // Alone, the examples of [dns] do nothing.
    let said: Vec<_> = warnings.iter().map(|warning| warning.message.split(':').next().unwrap()).collect();
    assert_eq!(said, ["trust_anchor changes nothing", "ca_file changes nothing"]);

    let stated = keys(&uncommented);
    for table in TABLES {
        let headers = match table.header {
            "role.NAME" => vec!["role.ca", "role.compile", "role.files", "role.report"],
            header => vec![header],
        };
        for at in headers.into_iter().flat_map(|header| table.keys.iter().map(move |key| (header, *key))) {
            // compile has no fallback.
            assert_eq!(stated.contains(&at), at != ("role.compile", "fallback"), "{at:?}");
        }
    }
}
