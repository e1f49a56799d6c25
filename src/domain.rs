//! The host's domain, as Facter finds it (`lib/facter/resolvers/linux/hostname.rb`), since that is what Puppet's
//! `srv_domain` defaults to: of the host name, of the canonical name that `getaddrinfo` gives for it, or
//! `resolv.conf`'s.

use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

/// `AI_CANONNAME` of `netdb.h`, the same in glibc and musl.
const AI_CANONNAME: i32 = 0x0002;

/// `getaddrinfo` waits for dead nameservers longer than anybody should wait for us.
const PATIENCE: Duration = Duration::from_secs(2);

/// Finds the domain; `None`: this host has none. Blocks, for two seconds at most.
pub fn find(resolv_conf: &Path) -> Option<String> {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let canonical = |host: &str| canonical_name(host.to_owned());
    decide(&host, canonical, || std::fs::read_to_string(resolv_conf).unwrap_or_default())
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

/// In a thread of its own, for the call cannot be given a bound; one that outlives its use ends by itself.
fn canonical_name(host: String) -> Option<String> {
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        let hints = dns_lookup::AddrInfoHints { flags: AI_CANONNAME, ..Default::default() };
        let name = dns_lookup::getaddrinfo(Some(&host), None, Some(hints))
            .ok()
            .and_then(|mut found| found.find_map(|entry| entry.ok()?.canonname));
        // Nobody may be waiting any more.
        let _ = tell.send(name);
    });
    told.recv_timeout(PATIENCE).ok().flatten()
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
}
