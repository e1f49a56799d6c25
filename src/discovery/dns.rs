//! Asking DNS. One resolver for each nameserver, so that the answer tells who gave it; no cache, no hosts file, no
//! search list.
//!
//! hickory does the protocol: retransmission, TCP after truncation, CNAME chains. What an answer means, how long it
//! holds and what to do without one is decided above it ([`super::cache`]).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ProtocolConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::{Resolver, TokioResolver};
use resolv_conf::ScopedIp;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::srv::Srv;
use crate::config::DnsConfig;

/// When a nameserver has said nothing for so long, the next one is asked beside it.
const STAGGER: Duration = Duration::from_millis(400);

/// How long "no such record" holds when the answer does not say (RFC 2308 §5 leaves it open).
const NEGATIVE_TTL: Duration = Duration::from_secs(60);

/// Aliases in a row that are followed. More is a loop.
const ALIASES: usize = 8;

/// How often at most it is looked whether `resolv.conf` has changed; only ever when something is to be asked.
const LOOK: Duration = Duration::from_secs(1);

/// The nameservers.
pub struct Dns {
    timeout: Duration,
    /// `resolv.conf`, where the nameservers are not configured.
    system: Option<PathBuf>,
    servers: Mutex<Servers>,
}

/// The nameservers as they are just now.
struct Servers {
    resolvers: Arc<[(SocketAddr, TokioResolver)]>,
    /// The file they are from: one replaced by rename has another inode.
    stamp: Option<Stamp>,
    looked: Instant,
}

type Stamp = (SystemTime, u64, u64);

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

/// Where an alias leads.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Cname(String);

impl Kind for Cname {
    const TYPE: RecordType = RecordType::CNAME;

    fn read(data: &RData) -> Option<Self> {
        let RData::CNAME(name) = data else { return None };
        Some(Cname(name.to_ascii().trim_end_matches('.').to_ascii_lowercase()))
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
        let mut servers = Vec::new();
        for nameserver in &parsed.nameservers {
            if let ScopedIp::V6(_, Some(scope)) = nameserver {
                tracing::warn!(%nameserver, %scope, "a nameserver on one link only cannot be asked; left out");
            } else {
                servers.push(SocketAddr::new(nameserver.into(), 53));
            }
        }
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
    /// Resolvers for the configured nameservers, else for those of `resolv.conf`, which is read again when it has
    /// changed: a host may get its network after us.
    pub fn new(config: &DnsConfig, resolv_conf: &Path) -> Self {
        let system = config.servers.is_empty().then(|| resolv_conf.to_owned());
        let stamp = system.as_deref().and_then(stamp);
        let servers = if system.is_some() {
            ResolvConf::read(resolv_conf).servers
        } else {
            config.servers.iter().map(|server| server.address).collect()
        };
        let resolvers = resolvers(&servers, config.timeout);
        let servers = Mutex::new(Servers { resolvers, stamp, looked: Instant::now() });
        Dns { timeout: config.timeout, system, servers }
    }

    /// The nameservers to ask now.
    fn servers(&self) -> Arc<[(SocketAddr, TokioResolver)]> {
        let mut servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(path) = &self.system
            && servers.looked.elapsed() >= LOOK
        {
            servers.looked = Instant::now();
            let now = stamp(path);
            if now != servers.stamp {
                let addresses = ResolvConf::read(path).servers;
                tracing::info!(file = %path.display(), nameservers = ?addresses, "read again");
                servers.stamp = now;
                servers.resolvers = resolvers(&addresses, self.timeout);
            }
        }
        servers.resolvers.clone()
    }

    /// Asks for SRV records, behind an alias too: hickory follows CNAMEs for addresses, but loses SRV records behind
    /// one.
    pub(super) async fn ask_srv(&self, name: &str) -> Result<Answer<Srv>, Failure> {
        let mut answer = self.ask::<Srv>(name).await?;
        let mut at = name.to_owned();
        for _ in 0..ALIASES {
            if !answer.records.is_empty() {
                break;
            }
            let Ok(alias) = self.ask::<Cname>(&at).await else { break };
            let Some(Cname(next)) = alias.records.into_iter().next() else { break };
            let behind = self.ask::<Srv>(&next).await?;
            // The chain holds as long as its shortest link.
            answer = Answer { ttl: behind.ttl.min(alias.ttl), ..behind };
            at = next;
        }
        Ok(answer)
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
        let servers = self.servers();
        let mut left = servers.iter();
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
                for (addr, _) in servers.iter() {
                    if !tried.iter().any(|(t, _)| t == addr) {
                        tried.push((*addr, "did not answer".into()));
                    }
                }
                Err(Failure { tried })
            }
        }
    }
}

/// What tells one version of a file from the next.
fn stamp(path: &Path) -> Option<Stamp> {
    let meta = std::fs::metadata(path).ok()?;
    Some((meta.modified().ok()?, meta.ino(), meta.len()))
}

fn resolvers(servers: &[SocketAddr], timeout: Duration) -> Arc<[(SocketAddr, TokioResolver)]> {
    servers.iter().filter_map(|addr| Some((*addr, resolver(*addr, timeout)?))).collect()
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
    // Below this hickory sends a UDP packet again by itself; a server that has said SERVFAIL need not be asked thrice.
    options.timeout = timeout;
    options.attempts = 0;
    options.cache_size = 0;
    options.use_hosts_file = ResolveHosts::Never;
    Resolver::builder_with_config(config, TokioRuntimeProvider::default()).with_options(options).build().ok()
}

impl From<A> for IpAddr {
    fn from(a: A) -> Self {
        a.0
    }
}

impl From<Aaaa> for IpAddr {
    fn from(a: Aaaa) -> Self {
        a.0
    }
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

    #[tokio::test(start_paused = true)]
    async fn a_replaced_resolv_conf_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("resolv.conf");
        let dns = Dns::new(&DnsConfig::default(), &path);
        let asked = || dns.servers().iter().map(|(addr, _)| addr.to_string()).collect::<Vec<_>>();
        assert_eq!(asked(), ["127.0.0.1:53"]);
        for ip in ["192.0.2.1", "192.0.2.2"] {
            let new = folder.path().join("new");
            std::fs::write(&new, format!("nameserver {ip}\n")).unwrap();
            std::fs::rename(&new, &path).unwrap();
            tokio::time::advance(LOOK).await;
            assert_eq!(asked(), [format!("{ip}:53")]);
        }
        let config = DnsConfig { servers: vec![SocketAddr::from(([192, 0, 2, 9], 53)).into()], ..DnsConfig::default() };
        let dns = Dns::new(&config, &path);
        std::fs::write(&path, "nameserver 192.0.2.3\n").unwrap();
        tokio::time::advance(LOOK).await;
        assert_eq!(dns.servers()[0].0.to_string(), "192.0.2.9:53", "configured ones stay");
    }

    #[test]
    fn no_resolv_conf_means_this_host() {
        assert_eq!(ResolvConf::read(Path::new("/nonexistent/resolv.conf")).servers, ["127.0.0.1:53".parse().unwrap()]);
    }
}
