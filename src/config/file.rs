//! A configuration file, from its bytes to a [`Config`].
//!
//! The text is parsed into a tree that knows its places, the tree is walked into a [`Draft`], and rules about several
//! values at once look at the draft. Nothing stops at the first error.

use std::fs::File;
use std::io::{self, Read as _};
use std::ops::RangeInclusive;
use std::path::Path;
use std::str;
use std::time::Duration;

use toml::de::DeTable;

use super::diagnostic::{Diagnostic, Problem, Severity};
use super::draft::Draft;
use super::findings::Findings;
use super::section::Section;
use super::{Config, keys, roles, rules, syntax, value};

const SNIFF: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(10 * 60);
const CONNECT: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(2 * 60);
const BUDGET: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(10 * 60);
const IDLE: RangeInclusive<Duration> = Duration::from_secs(10 * 60)..=Duration::from_secs(7 * 24 * 60 * 60);
/// Zero is no pin between tunnels.
const PIN: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(24 * 60 * 60);
/// Zero is no waiting.
const DRAIN: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(60 * 60);
/// Zero is never.
const IDLE_EXIT: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(24 * 60 * 60);
const CONNECTIONS: RangeInclusive<usize> = 1..=1_000_000;
const HELLO: RangeInclusive<u64> = 1024..=64 * 1024;
const DNS_TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(60);
/// Zero is no longer than an answer's TTL.
const MAX_STALE: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(365 * 24 * 60 * 60);

/// Examples of the files that a configuration names.
const CA_FILE: &str = "/etc/puppetlabs/puppet/ssl/certs/ca.pem";
const DNS_CA_FILE: &str = "/etc/ssl/certs/dns-ca.pem";
const TRUST_ANCHOR: &str = "/etc/puppet-shim/trust-anchor.key";

/// Longest file that is read, in bytes. What is longer is no configuration: a log, a disk image, `/dev/zero`.
const LONGEST: u64 = 1024 * 1024;

/// A configuration that can be used.
#[derive(Clone, Debug, PartialEq)]
pub struct Accepted {
    /// What it says, with the defaults for all that it does not say.
    pub config: Config,
    /// What it says and probably does not mean, in the order of the text.
    pub warnings: Vec<Diagnostic>,
}

/// Every error of a configuration that cannot be used, at least one, in the order of the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// The errors. Warnings wait until there are none: they speak of the whole.
    pub errors: Vec<Diagnostic>,
}

impl Config {
    /// Reads a configuration. `file` is only what the diagnostics call it. Pure, and total: any bytes give one or the
    /// other.
    pub fn parse(bytes: &[u8], file: &Path) -> Result<Accepted, Rejected> {
        // With the broken bytes replaced the rest can still be read, so that every other error is found too.
        let text = String::from_utf8_lossy(bytes);
        // Windows editors write a byte order mark; TOML allows it, and it fills no column.
        let unmarked = text.strip_prefix('\u{feff}').unwrap_or(&text);
        let mut findings = Findings::new(file, unmarked);
        if str::from_utf8(bytes).is_err() {
            for (at, _) in unmarked.match_indices(char::REPLACEMENT_CHARACTER) {
                findings.syntax(&(at..at), Problem::new("this is not UTF-8", "save the file as UTF-8"));
            }
        }
        let (document, errors) = DeTable::parse_recoverable(unmarked);
        for error in &errors {
            // Without a span it would be about the whole text; the parser gives one with all it says today.
            findings.syntax(&error.span().unwrap_or_default(), syntax::problem(error, unmarked));
        }
        let draft = read(document.get_ref(), &mut findings);
        if !findings.has_syntax_errors() {
            // A syntax error may have swallowed values, and a rule would then speak of what is not there.
            rules::errors(&draft, &mut findings);
        }
        if findings.has_errors() {
            return Err(Rejected { errors: findings.into_diagnostics() });
        }
        rules::warnings(&draft, &mut findings);
        Ok(Accepted { config: draft.into_config(), warnings: findings.into_diagnostics() })
    }

    /// Reads a configuration file; `None` where there is none.
    pub fn load(file: &Path) -> Result<Option<Accepted>, Rejected> {
        match read_bytes(file) {
            Ok(Some(bytes)) => Config::parse(&bytes, file).map(Some),
            Ok(None) => Ok(None),
            Err(error) => Err(Rejected { errors: vec![error] }),
        }
    }
}

/// The bytes of a file; `None` where there is none.
pub(super) fn read_bytes(path: &Path) -> Result<Option<Vec<u8>>, Diagnostic> {
    let mut bytes = Vec::new();
    match File::open(path).and_then(|file| file.take(LONGEST + 1).read_to_end(&mut bytes)) {
        Ok(_) if bytes.len() as u64 > LONGEST => {
            Err(about_file(path, "the file is longer than 1 MiB", "name a configuration file"))
        }
        Ok(_) => Ok(Some(bytes)),
        Err(why) => match why.kind() {
            io::ErrorKind::NotFound => Ok(None),
            io::ErrorKind::IsADirectory => Err(about_file(path, "this is a directory", "name a file in it")),
            io::ErrorKind::PermissionDenied => Err(about_file(
                path,
                "the file cannot be read: permission denied",
                "let the user that puppet-shim runs as read it",
            )),
            _ => Err(about_file(path, &format!("the file cannot be read: {why}"), "name a file that can be read")),
        },
    }
}

/// An error about a file as a whole.
pub(super) fn about_file(file: &Path, message: &str, help: &str) -> Diagnostic {
    Diagnostic {
        file: file.to_owned(),
        place: None,
        severity: Severity::Error,
        message: message.into(),
        help: Some(help.into()),
    }
}

/// Walks the tree.
fn read<'t>(document: &DeTable<'t>, findings: &mut Findings<'t>) -> Draft {
    let mut draft = Draft::default();
    let mut top = Section::top(document, findings);
    top.read_list("listen", &mut draft.listen, "\"127.0.0.1:8139\"", value::listener);
    if let Some(span) = top.empty_list("listen") {
        top.error(
            &span,
            Problem::new("there is no listener", "write an address and port, or leave the key out for the default"),
        );
    }
    top.read("idle_exit", &mut draft.idle_exit, |v| value::duration_or_zero(v, &IDLE_EXIT));
    top.read("allow_remote_clients", &mut draft.allow_remote_clients, value::boolean);
    top.read("domain", &mut draft.domain, value::domain);
    top.read("certname", &mut draft.certname, value::certname);
    top.read("foreign", &mut draft.foreign, value::foreign);
    if let Some(mut table) = top.table("role", "role.NAME", None) {
        roles::read(&mut table, &mut draft.roles);
    }
    if let Some(mut timeouts) = top.table("timeouts", "timeouts", Some(&keys::TIMEOUTS)) {
        timeouts.read("sniff", &mut draft.sniff, |v| value::duration(v, &SNIFF));
        timeouts.read("connect", &mut draft.connect, |v| value::duration(v, &CONNECT));
        timeouts.read("budget", &mut draft.budget, |v| value::duration(v, &BUDGET));
        timeouts.read("idle", &mut draft.idle, |v| value::duration(v, &IDLE));
        timeouts.read("pin", &mut draft.pin, |v| value::duration(v, &PIN));
        timeouts.read("drain", &mut draft.drain, |v| value::duration(v, &DRAIN));
    }
    if let Some(mut limits) = top.table("limits", "limits", Some(&keys::LIMITS)) {
        limits.read("connections", &mut draft.connections, |v| value::count(v, &CONNECTIONS));
        limits.read("hello", &mut draft.hello, |v| value::size(v, &HELLO));
    }
    if let Some(mut dns) = top.table("dns", "dns", Some(&keys::DNS)) {
        dns.read_list("servers", &mut draft.nameservers, "\"192.0.2.53\"", value::nameserver);
        dns.read("timeout", &mut draft.dns_timeout, |v| value::duration(v, &DNS_TIMEOUT));
        dns.read("max_stale", &mut draft.max_stale, |v| value::duration(v, &MAX_STALE));
        dns.read("allow_loopback", &mut draft.allow_loopback, value::boolean);
        dns.read("dnssec", &mut draft.dnssec, value::dnssec);
        dns.read("trust_anchor", &mut draft.trust_anchor, |v| value::file(v, TRUST_ANCHOR));
        dns.read("ca_file", &mut draft.dns_ca_file, |v| value::file(v, DNS_CA_FILE));
    }
    if let Some(mut certificates) = top.table("certificates", "certificates", Some(&keys::CERTIFICATES)) {
        certificates.read("check", &mut draft.check, value::boolean);
        certificates.read("ca_file", &mut draft.ca_file, |v| value::file(v, CA_FILE));
    }
    if let Some(mut status) = top.table("status", "status", Some(&keys::STATUS)) {
        status.read("socket", &mut draft.status_socket, value::status_socket);
        status.read("group", &mut draft.status_group, value::group);
        status.read("page", &mut draft.status_page, value::boolean);
    }
    draft
}
