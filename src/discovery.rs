//! Where a role's servers come from.
//!
//! In order: its own SRV records; those of `compile`, where the role allows it; the static list; last the requested
//! name itself. The first of them that names a server counts, so a site without any SRV record works as it did before.

pub mod cache;
pub mod dns;
pub mod srv;

use std::fmt;
use std::net::IpAddr;
use std::pin::pin;
use std::time::Duration;

use futures_util::future::join_all;

use serde::Serialize;
use tokio::time::timeout;

use self::cache::{Cache, Freshness, Known};
use self::dns::{A, Aaaa, Dns, Failure};
use self::srv::Srv;
use crate::config::RoleConfig;
use crate::host::Host;
use crate::role::{Asked, Role, Table, Via};

/// Once one family has addresses, the other may take this much longer.
const OTHER_FAMILY: Duration = Duration::from_millis(50);

/// Finds servers, and remembers them for as long as DNS allows.
pub struct Discovery {
    dns: Dns,
    /// Suffixes for names without a dot.
    search: Vec<String>,
    services: Cache<Srv>,
    v4: Cache<A>,
    v6: Cache<Aaaa>,
}

/// Which source named a role's servers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", content = "owner", rename_all = "kebab-case")]
pub enum Source {
    /// SRV records of its own, of this owner name.
    Srv(String),
    /// The SRV records of `compile`, of this owner name.
    Fallback(String),
    /// The static list of the configuration.
    Static,
    /// The requested name itself.
    Name,
    /// The requested name is a current target: that very server.
    Target,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Srv(owner) => write!(f, "srv {owner}"),
            Source::Fallback(owner) => write!(f, "fallback srv {owner}"),
            Source::Static => f.write_str("static"),
            Source::Name => f.write_str("the name itself"),
            Source::Target => f.write_str("target"),
        }
    }
}

/// One record set that was asked for on the way.
#[derive(Clone, Debug)]
pub struct Step {
    /// Its owner name.
    pub owner: String,
    /// What came of it.
    pub result: Result<Known<Srv>, Failure>,
}

/// A role's servers.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Who named them; `None`: nobody did.
    pub source: Option<Source>,
    /// The servers, as records: a static list counts up in priority.
    pub servers: Vec<Srv>,
    /// What was asked for on the way, in order.
    pub steps: Vec<Step>,
}

impl Found {
    /// One sentence for a refusal: what was looked for in vain.
    pub fn why_none(&self, role: &Role) -> String {
        let mut text = format!("no {role} server is known{}", self.in_vain());
        if self.steps.is_empty() {
            text.push_str("; no SRV record could be asked for: set its `srv` or the `domain`, or its `servers`");
        }
        text
    }

    /// The record sets that named nobody, to follow a sentence; empty where servers are known all the same, and not by the
    /// requested name alone.
    pub fn in_vain(&self) -> String {
        if !matches!(self.source, None | Some(Source::Name)) {
            return String::new();
        }
        let steps = self.steps.iter().map(|step| match &step.result {
            Err(failure) | Ok(Known { freshness: Freshness::Stale(_, failure), .. }) => {
                format!("; SRV {}: {failure}", step.owner)
            }
            Ok(known) if known.answer.records.is_empty() => format!("; no SRV record {}", step.owner),
            Ok(_) => format!("; SRV {} says that the service is not offered", step.owner),
        });
        steps.collect()
    }

    /// What was wrong with DNS on the way, if anything was, though servers may have been found all the same.
    pub fn trouble(&self) -> Option<String> {
        self.steps.iter().find_map(|step| match &step.result {
            Err(failure) => Some(format!("{}: {failure}", step.owner)),
            Ok(Known { freshness: freshness @ Freshness::Stale(..), .. }) => {
                Some(format!("{} {}", step.owner, freshness.describe()))
            }
            Ok(_) => None,
        })
    }

    /// The first failure of DNS on the way.
    fn failure(&self) -> Option<&Failure> {
        self.steps.iter().find_map(|step| step.result.as_ref().err())
    }
}

/// The addresses of one server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// In the order to try them.
    pub ips: Vec<IpAddr>,
    /// How long DNS lets them hold; `None`: they were written, not looked up.
    pub ttl: Option<Duration>,
}

/// Why a server has none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoAddress {
    /// DNS says so.
    #[error("has no address in DNS")]
    None,
    /// DNS did not say.
    #[error("could not be looked up: {0}")]
    Failed(Failure),
}

impl Discovery {
    /// `search`: suffixes for names without a dot, in the order tried.
    pub fn new(dns: Dns, search: Vec<String>) -> Self {
        Discovery { dns, search, services: Cache::new(), v4: Cache::new(), v6: Cache::new() }
    }

    /// The suffixes for names without a dot.
    pub fn search(&self) -> &[String] {
        &self.search
    }

    /// The servers of a role, for a client that asked for this.
    pub async fn servers(&self, table: &Table, role: &RoleConfig, asked: &Asked) -> Found {
        let mut found = Found::default();
        let mut owners = vec![(role.srv.as_deref(), false)];
        if role.fallback {
            owners.push((table.role(Role::COMPILE).and_then(|r| r.srv.as_deref()), true));
        }
        for (srv, is_fallback) in owners {
            let Some(owner) = srv.and_then(|srv| owner_name(srv, table, asked)) else { continue };
            let result = self.services.get(&owner, || self.dns.ask_srv(&owner)).await;
            let servers = result.as_ref().map(|known| offered(&known.answer.records)).unwrap_or_default();
            found.steps.push(Step { owner: owner.clone(), result });
            if !servers.is_empty() {
                found.servers = servers;
                found.source = Some(if is_fallback { Source::Fallback(owner) } else { Source::Srv(owner) });
                return found;
            }
        }
        if !role.servers.is_empty() {
            found.source = Some(Source::Static);
            found.servers = static_servers(role, asked.port);
        } else if let Some(host) = asked.host.as_ref().filter(|host| !is_risky(table, role, host, &found)) {
            found.source = Some(Source::Name);
            found.servers = vec![Srv { priority: 0, weight: 0, port: asked.port, target: Some(host.clone()) }];
        }
        found
    }

    /// The role that has this host as a current target, and the server that is meant: with the requested port where a
    /// record has it or no role does (a web server beside it, say), else with the record's own.
    ///
    /// # Errors
    ///
    /// When DNS gives no answer for a role, and no other role has the host: whether it is a target is not known.
    pub async fn target<'t>(&self, table: &'t Table, asked: &Asked) -> Result<Option<(&'t RoleConfig, Srv)>, Failure> {
        let Some(host) = &asked.host else { return Ok(None) };
        // Only what the roles' own records and lists say. The requested name must have no part in it: in a domain of
        // his own, anybody can publish records that make any name a target.
        let without_name = Asked { host: None, ..asked.clone() };
        let (compile, others): (Vec<_>, Vec<_>) = table.roles().iter().partition(|r| r.role.as_str() == Role::COMPILE);
        // A server that several roles name is most likely meant as a compiler: `puppet://NAME/…` in a manifest.
        let roles: Vec<_> = compile.into_iter().chain(others).collect();
        let found = join_all(roles.iter().map(|role| self.servers(table, role, &without_name))).await;
        let mut best: Option<(&RoleConfig, Srv)> = None;
        for (role, found) in roles.iter().zip(&found) {
            for server in found.servers.iter().filter(|server| server.target.as_ref() == Some(host)) {
                if best.is_none() || server.port == asked.port {
                    best = Some((role, server.clone()));
                }
            }
        }
        let Some((role, mut server)) = best else {
            return found.iter().find_map(Found::failure).map_or(Ok(None), |failure| Err(failure.clone()));
        };
        // In alias mode the port is our own listener's, and says nothing of the server's.
        if asked.via == Via::Http || (asked.via == Via::Connect && !table.is_role_port(asked.port)) {
            server.port = asked.port;
        }
        Ok(Some((role, server)))
    }

    /// The addresses of a server, both families interleaved, IPv6 first as RFC 8305 §4 has it. A name without a dot is
    /// looked for under the domain and the search list; one with a dot is absolute.
    pub async fn addresses(&self, host: &Host) -> Result<Addresses, NoAddress> {
        let name = match host {
            Host::Ip(ip) => return Ok(Addresses { ips: vec![*ip], ttl: None }),
            Host::Name(name) => name,
        };
        if name.contains('.') {
            return self.absolute(name).await;
        }
        for suffix in &self.search {
            match self.absolute(&format!("{name}.{suffix}")).await {
                // Not there: the next one may have it. No answer: the next one's might be another host's.
                Err(NoAddress::None) => {}
                verdict => return verdict,
            }
        }
        self.absolute(name).await
    }

    /// The same where nothing has to be asked for: an address, or a name with a dot both of whose families are
    /// remembered.
    pub fn known_addresses(&self, host: &Host) -> Option<Addresses> {
        let name = match host {
            Host::Ip(ip) => return Some(Addresses { ips: vec![*ip], ttl: None }),
            Host::Name(name) => name,
        };
        if !name.contains('.') {
            return None;
        }
        let (v6, v4) = (self.v6.fresh(name)?, self.v4.fresh(name)?);
        combine(Some(Ok(v6)), Some(Ok(v4))).ok()
    }

    async fn absolute(&self, name: &str) -> Result<Addresses, NoAddress> {
        let v6 = self.v6.get(name, || self.dns.ask(name));
        let v4 = self.v4.get(name, || self.dns.ask(name));
        let (v6, v4) = both(v6, v4).await;
        combine(v6, v4)
    }
}

/// What both families together come to.
fn combine(v6: Option<Family<Aaaa>>, v4: Option<Family<A>>) -> Result<Addresses, NoAddress> {
    let ttls = [v6.as_ref().and_then(held), v4.as_ref().and_then(held)];
    let failure = [v6.as_ref().and_then(|k| k.as_ref().err()), v4.as_ref().and_then(|k| k.as_ref().err())];
    let failure = failure.into_iter().flatten().next().cloned();
    let v6 = ips(v6);
    let v4 = ips(v4);
    let ips = interleave(&v6, &v4);
    match failure {
        // One family is enough, whatever became of the other.
        _ if !ips.is_empty() => Ok(Addresses { ips, ttl: ttls.into_iter().flatten().min() }),
        Some(failure) => Err(NoAddress::Failed(failure)),
        None => Err(NoAddress::None),
    }
}

/// What the cache has for one family.
type Family<T> = Result<Known<T>, Failure>;

/// Both families, or one where it has addresses and the other keeps it waiting (RFC 8305 §3): many a nameserver never
/// answers for AAAA.
async fn both<A, B>(
    first: impl Future<Output = Family<A>>,
    second: impl Future<Output = Family<B>>,
) -> (Option<Family<A>>, Option<Family<B>>) {
    let (mut first, mut second) = (pin!(first), pin!(second));
    tokio::select! {
        a = &mut first => {
            let b = other(held(&a).is_some(), second).await;
            (Some(a), b)
        }
        b = &mut second => {
            let a = other(held(&b).is_some(), first).await;
            (a, Some(b))
        }
    }
}

async fn other<T>(is_dispensable: bool, family: impl Future<Output = T>) -> Option<T> {
    if is_dispensable { timeout(OTHER_FAMILY, family).await.ok() } else { Some(family.await) }
}

/// The TTL of an answer that has records.
fn held<T>(known: &Family<T>) -> Option<Duration> {
    known.as_ref().ok().filter(|known| !known.answer.records.is_empty()).map(|known| known.answer.ttl)
}

fn ips<T: Copy + Into<IpAddr>>(family: Option<Family<T>>) -> Vec<IpAddr> {
    let Some(Ok(known)) = family else { return Vec::new() };
    known.answer.records.iter().map(|record| (*record).into()).collect()
}

/// Whether the requested name itself is no safe guess: the role's own records could not be asked for, it has no
/// fallback, and the name is another role's. A CSR or a CA bundle must never go to a server that is no CA, and DNS
/// being ill is no reason.
fn is_risky(table: &Table, role: &RoleConfig, host: &Host, found: &Found) -> bool {
    found.failure().is_some() && !role.fallback && table.owner(host).is_some_and(|owner| owner.role != role.role)
}

/// `_service._proto` alone is looked for under the domain, the configured or found one, failing that the requested
/// name's own. Anything longer is a whole name, such as Consul's `_puppet._tcp.service.consul`.
fn owner_name(srv: &str, table: &Table, asked: &Asked) -> Option<String> {
    if is_absolute(srv) {
        return Some(srv.into());
    }
    let own = || asked.host.as_ref().and_then(Host::split_domain).map(|(_, domain)| domain);
    Some(format!("{srv}.{}", table.domain().or_else(own)?))
}

fn is_absolute(srv: &str) -> bool {
    srv.split('.').count() > 2
}

/// The records that offer a server: not the target `.`.
fn offered(records: &[Srv]) -> Vec<Srv> {
    records.iter().filter(|record| record.target.is_some()).cloned().collect()
}

fn static_servers(role: &RoleConfig, port: u16) -> Vec<Srv> {
    let numbered = role.servers.iter().zip(0u16..);
    numbered
        .map(|(server, priority)| Srv {
            priority,
            weight: 0,
            port: server.port.unwrap_or(port),
            target: Some(server.host.clone()),
        })
        .collect()
}

/// One of each in turn, then the rest.
fn interleave(first: &[IpAddr], second: &[IpAddr]) -> Vec<IpAddr> {
    let mut all = Vec::with_capacity(first.len() + second.len());
    for n in 0..first.len().max(second.len()) {
        all.extend(first.get(n));
        all.extend(second.get(n));
    }
    all
}

impl Freshness {
    /// In words, for `resolve` and the log.
    pub fn describe(&self) -> String {
        match self {
            Freshness::Live => "live".into(),
            Freshness::Cached(left) => format!("cached for another {} s", left.as_secs()),
            Freshness::Stale(since, failure) => format!("stale since {} s: {failure}", since.as_secs()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::role::Via;

    fn asked(host: &str) -> Asked {
        Asked { via: Via::Connect, host: host.parse().ok(), port: 8140 }
    }

    #[test]
    fn owner_names() {
        let known = Table::new(&Config::default(), Some("example.com".into()));
        let unknown = Table::new(&Config::default(), None);
        let own = |table, host| owner_name("_x-puppet._tcp", table, &asked(host));
        assert_eq!(own(&known, "puppet").as_deref(), Some("_x-puppet._tcp.example.com"));
        assert_eq!(own(&unknown, "puppet.lab.test").as_deref(), Some("_x-puppet._tcp.lab.test"));
        assert_eq!(own(&unknown, "puppet"), None);
        let consul = "_puppet._tcp.service.consul";
        assert_eq!(owner_name(consul, &unknown, &asked("puppet")).as_deref(), Some(consul));
    }

    #[test]
    fn families_take_turns() {
        let ip = |t: &str| t.parse::<IpAddr>().unwrap();
        let (v6, v4) = ([ip("::1"), ip("::2"), ip("::3")], [ip("127.0.0.1")]);
        assert_eq!(interleave(&v6, &v4), [ip("::1"), ip("127.0.0.1"), ip("::2"), ip("::3")]);
    }
}
