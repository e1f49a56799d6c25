//! Asking DNS. One resolver for each nameserver, so that the answer tells who gave it; no cache, no hosts file, no
//! search list.
//!
//! hickory does the protocol: retransmission, TCP after truncation, CNAME chains. What an answer means, how long it
//! holds and what to do without one is decided above it ([`super::cache`]).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ProtocolConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::{Resolver, TokioResolver};
use tokio::task::JoinSet;

use super::srv::Srv;
use crate::config::DnsConfig;

/// When a nameserver has said nothing for so long, the next one is asked beside it.
const STAGGER: Duration = Duration::from_millis(400);

/// How long "no such record" holds when the answer does not say (RFC 2308 §5 leaves it open).
const NEGATIVE_TTL: Duration = Duration::from_secs(60);

/// The nameservers.
pub struct Dns {
    servers: Vec<(SocketAddr, TokioResolver)>,
    timeout: Duration,
}

/// What the system's `resolv.conf` says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResolvConf {
    /// Nameservers.
    pub servers: Vec<SocketAddr>,
    /// Suffixes for names without a dot.
    pub search: Vec<String>,
}

/// A kind of record that a server's address is found by.
pub(super) trait Kind: Clone + Send + Sync + 'static {
    /// What to ask for.
    const TYPE: RecordType;

    /// The record, if this is one.
    fn read(data: &RData) -> Option<Self>;
}

/// An answer of DNS, an empty one included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer<T> {
    /// The records; none: the name or the type does not exist, and a nameserver said so.
    pub records: Vec<T>,
    /// How long it holds, by the records' TTL or the zone's SOA; neither floor nor ceiling applied.
    pub ttl: Duration,
    /// Which nameserver gave it.
    pub from: SocketAddr,
}

/// DNS gave no answer: neither records nor "there are none".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Failure {
    /// Each nameserver asked, and what it did.
    pub tried: Vec<(SocketAddr, String)>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.tried.is_empty() {
            return f.write_str("no nameserver is known");
        }
        for (n, (addr, what)) in self.tried.iter().enumerate() {
            write!(f, "{}{addr} {what}", if n == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

impl Kind for Srv {
    const TYPE: RecordType = RecordType::SRV;

    fn read(data: &RData) -> Option<Self> {
        let RData::SRV(srv) = data else { return None };
        let target = if srv.target.is_root() { None } else { Some(srv.target.to_ascii().parse().ok()?) };
        Some(Srv { priority: srv.priority, weight: srv.weight, port: srv.port, target })
    }
}

/// An IPv4 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct A(pub(super) IpAddr);

/// An IPv6 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Aaaa(pub(super) IpAddr);

impl Kind for A {
    const TYPE: RecordType = RecordType::A;

    fn read(data: &RData) -> Option<Self> {
        if let RData::A(a) = data { Some(A(IpAddr::V4(a.0))) } else { None }
    }
}

impl Kind for Aaaa {
    const TYPE: RecordType = RecordType::AAAA;

    fn read(data: &RData) -> Option<Self> {
        if let RData::AAAA(a) = data { Some(Aaaa(IpAddr::V6(a.0))) } else { None }
    }
}

impl ResolvConf {
    /// Reads the file. One that is missing or broken means what it means to the C library: a nameserver on this host.
    pub fn read(path: &Path) -> Self {
        Self::parse(&std::fs::read(path).unwrap_or_default())
    }

    fn parse(text: &[u8]) -> Self {
        let (parsed, _) = resolv_conf::Config::parse_with_errors(text);
        let servers = parsed.nameservers.iter().map(|ip| SocketAddr::new(ip.into(), 53)).collect::<Vec<_>>();
        ResolvConf {
            servers: if servers.is_empty() { vec![(Ipv4Addr::LOCALHOST, 53).into()] } else { servers },
            search: parsed
                .get_last_search_or_domain()
                .map(|d| d.trim_end_matches('.').to_ascii_lowercase())
                .filter(|d| !d.is_empty())
                .collect(),
        }
    }
}

impl Dns {
    /// Resolvers for the configured nameservers, else for the system's.
    pub fn new(config: &DnsConfig, system: &ResolvConf) -> Self {
        let servers = if config.servers.is_empty() { &system.servers } else { &config.servers };
        let servers = servers.iter().filter_map(|addr| Some((*addr, resolver(*addr, config.timeout)?))).collect();
        Dns { servers, timeout: config.timeout }
    }

    /// Asks for the records of an absolute name (without the trailing dot). The nameservers are asked in order, the
    /// next one when one has failed or said nothing for a while; the first answer counts, and all of it is bounded by
    /// the configured timeout.
    pub(super) async fn ask<T: Kind>(&self, name: &str) -> Result<Answer<T>, Failure> {
        let Ok(name) = Name::from_ascii(format!("{name}.")) else {
            return Err(Failure { tried: vec![((Ipv4Addr::UNSPECIFIED, 0).into(), format!("{name:?} is no name"))] });
        };
        let mut tried: Vec<(SocketAddr, String)> = Vec::new();
        let mut asked = JoinSet::new();
        let mut left = self.servers.iter();
        let race = async {
            loop {
                if let Some((addr, resolver)) = left.next() {
                    let (addr, resolver, name) = (*addr, resolver.clone(), name.clone());
                    asked.spawn(async move { (addr, resolver.lookup(name, T::TYPE).await) });
                }
                let next = if left.len() == 0 {
                    asked.join_next().await
                } else {
                    match tokio::time::timeout(STAGGER, asked.join_next()).await {
                        Ok(next) => next,
                        Err(_) => continue,
                    }
                };
                match next {
                    Some(Ok((addr, result))) => match read(addr, result) {
                        Ok(answer) => return Some(answer),
                        Err(what) => tried.push((addr, what)),
                    },
                    None if left.len() == 0 => return None,
                    // An inquiry that panicked is as good as silent.
                    Some(Err(_)) | None => {}
                }
            }
        };
        match tokio::time::timeout(self.timeout, race).await {
            Ok(Some(answer)) => Ok(answer),
            Ok(None) => Err(Failure { tried }),
            Err(_) => {
                for (addr, _) in &self.servers {
                    if !tried.iter().any(|(t, _)| t == addr) {
                        tried.push((*addr, "did not answer".into()));
                    }
                }
                Err(Failure { tried })
            }
        }
    }
}

fn resolver(addr: SocketAddr, timeout: Duration) -> Option<TokioResolver> {
    let connections = [ProtocolConfig::Udp, ProtocolConfig::Tcp]
        .into_iter()
        .map(|protocol| {
            let mut connection = ConnectionConfig::new(protocol);
            connection.port = addr.port();
            connection
        })
        .collect();
    let config =
        ResolverConfig::from_parts(None, Vec::new(), vec![NameServerConfig::new(addr.ip(), true, connections)]);
    let mut options = ResolverOpts::default();
    // One lost packet is made good within the whole timeout.
    options.timeout = timeout / 2;
    options.attempts = 2;
    options.cache_size = 0;
    options.use_hosts_file = ResolveHosts::Never;
    Resolver::builder_with_config(config, TokioRuntimeProvider::default()).with_options(options).build().ok()
}

/// Tells an answer, an empty one included, from a failure.
fn read<T: Kind>(
    from: SocketAddr,
    result: Result<hickory_resolver::lookup::Lookup, NetError>,
) -> Result<Answer<T>, String> {
    match result {
        Ok(lookup) => {
            let records = lookup.answers().iter().filter_map(|r| T::read(&r.data)).collect();
            // The whole chain: a CNAME that moves sooner than the record behind it counts too.
            let ttl = lookup.answers().iter().map(|r| r.ttl).min().unwrap_or(0);
            Ok(Answer { records, ttl: Duration::from_secs(ttl.into()), from })
        }
        Err(NetError::Dns(DnsError::NoRecordsFound(none)))
            if matches!(none.response_code, ResponseCode::NXDomain | ResponseCode::NoError) =>
        {
            let ttl = none.negative_ttl.map_or(NEGATIVE_TTL, |s| Duration::from_secs(s.into()));
            Ok(Answer { records: Vec::new(), ttl, from })
        }
        Err(NetError::Dns(DnsError::NoRecordsFound(none))) => Err(code(none.response_code)),
        Err(NetError::Dns(DnsError::ResponseCode(other))) => Err(code(other)),
        Err(NetError::Timeout) => Err("did not answer".into()),
        Err(NetError::Io(error)) => Err(format!("could not be reached: {error}")),
        Err(other) => Err(other.to_string()),
    }
}

/// A response code by the name admins know.
fn code(code: ResponseCode) -> String {
    match code {
        ResponseCode::ServFail => "said SERVFAIL".into(),
        ResponseCode::Refused => "said REFUSED".into(),
        ResponseCode::FormErr => "said FORMERR".into(),
        ResponseCode::NotImp => "said NOTIMP".into(),
        other => format!("said {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_resolv_conf() {
        let conf =
            ResolvConf::parse(b"# x\nsearch Example.COM. corp.example\nnameserver 192.0.2.1\nnameserver 2001:db8::1\n");
        assert_eq!(conf.servers, ["192.0.2.1:53".parse().unwrap(), "[2001:db8::1]:53".parse().unwrap()]);
        assert_eq!(conf.search, ["example.com", "corp.example"]);
    }

    #[test]
    fn no_resolv_conf_means_this_host() {
        assert_eq!(ResolvConf::read(Path::new("/nonexistent/resolv.conf")).servers, ["127.0.0.1:53".parse().unwrap()]);
    }
}
