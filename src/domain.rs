//! The host's domain, as Facter finds it (`lib/facter/resolvers/linux/hostname.rb`), since that is what Puppet's
//! `srv_domain` defaults to: of the host name, of the canonical name that `getaddrinfo` gives for it, or
//! `resolv.conf`'s.

use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use dns_lookup::LookupErrorKind;
use serde::{Deserialize, Serialize};

/// `AI_CANONNAME` of `netdb.h`, the same in glibc and musl.
const AI_CANONNAME: i32 = 0x0002;

/// `getaddrinfo` waits for dead nameservers longer than anybody should wait for us.
const PATIENCE: Duration = Duration::from_secs(2);

/// The domain that a host was found to have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostDomain {
    /// The host's own name, as it was then.
    pub host: String,
    /// Its domain; `None`: it had none.
    pub domain: Option<String>,
}

/// Finds the domain. Blocks, for two seconds at most. Where the host's name has none in it, DNS has to be asked; and
/// where DNS says nothing, `before` counts, if it was this host's: what `resolv.conf` says instead may be another
/// domain, in which nothing is known of the servers.
pub fn find(resolv_conf: &Path, before: Option<&HostDomain>) -> HostDomain {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let canonical = |host: &str| canonical_name(host.to_owned());
    settle(host, canonical, || std::fs::read_to_string(resolv_conf).unwrap_or_default(), before)
}

/// What is found, or what was found before.
fn settle(
    host: String,
    canonical: impl FnOnce(&str) -> Result<Option<String>, Unanswered>,
    resolv_conf: impl FnOnce() -> String,
    before: Option<&HostDomain>,
) -> HostDomain {
    let mut is_unanswered = false;
    let canonical = |host: &str| {
        canonical(host).unwrap_or_else(|Unanswered| {
            is_unanswered = true;
            None
        })
    };
    let domain = decide(&host, canonical, resolv_conf);
    match before {
        Some(before) if is_unanswered && before.host == host => before.clone(),
        _ => HostDomain { host, domain },
    }
}

/// The host's full name, lower case: its own, under `domain` where that has no dot.
pub fn full_name(domain: Option<&str>) -> String {
    let host = rustix::system::uname().nodename().to_string_lossy().to_ascii_lowercase();
    match domain {
        Some(domain) if !host.contains('.') => format!("{host}.{domain}"),
        _ => host,
    }
}

/// Facter's decision.
fn decide(
    host: &str,
    canonical: impl FnOnce(&str) -> Option<String>,
    resolv_conf: impl FnOnce() -> String,
) -> Option<String> {
    let domain = match host.split_once('.') {
        Some((_, domain)) => Some(domain.to_owned()),
        None if host.is_empty() => None,
        None => canonical(host).and_then(|name| Some(name.strip_prefix(host)?.strip_prefix('.')?.to_owned())),
    };
    domain
        .filter(|d| !d.is_empty())
        .or_else(|| of_resolv_conf(&resolv_conf()))
        .map(|d| d.trim_end_matches('.').to_ascii_lowercase())
        .filter(|d| !d.is_empty())
}

/// The first `domain` line, else the first name of the first `search` line.
fn of_resolv_conf(text: &str) -> Option<String> {
    let first = |keyword: &str| {
        text.lines().find_map(|line| {
            let mut words = line.strip_prefix(keyword)?.split_whitespace();
            line[keyword.len()..].starts_with(char::is_whitespace).then(|| words.next().map(str::to_owned))?
        })
    };
    first("domain").or_else(|| first("search"))
}

/// The host's own name could not be looked up: neither an answer, nor that there is none.
struct Unanswered;

/// In a thread of its own, for the call cannot be given a bound; one that outlives its use ends by itself.
fn canonical_name(host: String) -> Result<Option<String>, Unanswered> {
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        let hints = dns_lookup::AddrInfoHints { flags: AI_CANONNAME, ..Default::default() };
        let name = match dns_lookup::getaddrinfo(Some(&host), None, Some(hints)) {
            Ok(mut found) => match found.find_map(|entry| entry.ok()?.canonname) {
                // nss-myhostname's answer to everything that DNS does not know, or does not say.
                Some(name) if !name.contains('.') => Err(Unanswered),
                name => Ok(name),
            },
            Err(error) if matches!(error.kind(), LookupErrorKind::Again | LookupErrorKind::Fail) => Err(Unanswered),
            Err(_) => Ok(None),
        };
        // Nobody may be waiting any more.
        let _ = tell.send(name);
    });
    told.recv_timeout(PATIENCE).unwrap_or(Err(Unanswered))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(host: &str, canonical: Option<&str>, resolv_conf: &str) -> Option<String> {
        decide(host, |_| canonical.map(str::to_owned), || resolv_conf.to_owned())
    }

    #[test]
    fn the_host_name_goes_first() {
        assert_eq!(
            found("web1.Example.com", Some("web1.other.test"), "domain third.test").as_deref(),
            Some("example.com")
        );
    }

    #[test]
    fn then_the_canonical_name_if_it_is_this_hosts() {
        assert_eq!(found("web1", Some("web1.example.com"), "domain third.test").as_deref(), Some("example.com"));
        assert_eq!(found("web1", Some("localhost.example.com"), "domain third.test").as_deref(), Some("third.test"));
        assert_eq!(found("web1", Some("web1"), "domain third.test").as_deref(), Some("third.test"));
        assert_eq!(found("web", Some("web1.example.com"), "").as_deref(), None);
    }

    #[test]
    fn then_resolv_conf() {
        assert_eq!(found("web1", None, "search a.test b.test\ndomain c.test\n").as_deref(), Some("c.test"));
        assert_eq!(found("web1", None, "nameserver 192.0.2.1\nsearch\ta.test. b.test\n").as_deref(), Some("a.test"));
        assert_eq!(found("web1", None, "# search a.test\nsearchx b.test\n"), None);
        assert_eq!(found("", None, ""), None);
    }

    /// DNS is dead after a reboot, and `resolv.conf` names another domain than DNS did.
    #[test]
    fn what_was_found_before_counts_where_dns_says_nothing() {
        let domain = |domain: &str| HostDomain { host: "web1".into(), domain: Some(domain.into()) };
        let before = domain("example.com");
        let settle = |host: &str, canonical: Result<Option<String>, Unanswered>, before| {
            settle(host.into(), |_| canonical, || "search corp.example".into(), before)
        };
        assert_eq!(settle("web1", Err(Unanswered), Some(&before)), before);
        assert_eq!(settle("web1", Err(Unanswered), None), domain("corp.example"));
        assert_eq!(settle("web1", Ok(None), Some(&before)), domain("corp.example"), "an answer is an answer");
        assert_eq!(settle("web1", Ok(Some("web1.other.test".into())), Some(&before)), domain("other.test"));
        let renamed = settle("web2", Err(Unanswered), Some(&before));
        assert_eq!(renamed, HostDomain { host: "web2".into(), ..domain("corp.example") });
        let own = settle("web1.own.test", Err(Unanswered), Some(&before));
        assert_eq!(own.domain.as_deref(), Some("own.test"));
    }
}
