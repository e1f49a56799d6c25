//! Where a role's servers come from.
//!
//! In order: its own SRV records; those of `compile`, where the role allows it; the static list; last the requested
//! name itself. The first of them that names a server counts, so a site without any SRV record works as it did before.
//! What DNS said last holds while DNS is ill; after a week or so everything else goes before it, but for the name.

pub mod answer;
pub mod bounds;
pub mod cache;
mod distrust;
pub mod dns;
pub mod nameserver;
pub mod srv;

use std::fmt;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;

use serde::Serialize;
use tokio::time::{Instant, timeout};

use self::answer::{A, Aaaa, Answer, Failure};
use self::bounds::{Bounds, Refused, is_loopback};
use self::cache::{Cache, Freshness, Kept, Known, News};
use self::dns::Dns;
use self::srv::Srv;
use crate::config::{Config, RoleConfig};
use crate::host::{Host, HostPort};
use crate::role::{Asked, Role, Table, Via};

/// Once one family has addresses, the other may take this much longer.
const OTHER_FAMILY: Duration = Duration::from_millis(50);

/// So much longer than an inquiry may take is waited for it, so that it can say whom it has asked in vain.
const GRACE: Duration = Duration::from_millis(20);

/// Refused records that have been told of, and are not told of again. More is somebody's game.
const TOLD: usize = 256;

/// Finds servers, and remembers them for as long as DNS allows, and longer where it is ill.
pub struct Discovery {
    dns: Arc<Dns>,
    timeout: Duration,
    allow_loopback: bool,
    /// Of short names; goes before the search list.
    domain: Option<String>,
    /// What each role's records may name.
    bounds: Vec<(Role, Bounds)>,
    services: Cache<Srv>,
    v4: Cache<A>,
    v6: Cache<Aaaa>,
    /// Whether something has been learnt since it was last asked.
    changed: Arc<AtomicBool>,
    told: Mutex<Vec<Refused>>,
}

/// Everything that DNS has said, as it is kept from one process to the next.
#[derive(Clone, Debug, Default)]
pub struct Answers {
    /// SRV records by owner.
    pub services: Vec<(String, Kept<Srv>)>,
    /// Addresses by name, one list for each family.
    pub addresses: [Vec<(String, Kept<IpAddr>)>; 2],
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
    /// Its records that may not be used.
    pub refused: Vec<Refused>,
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
            Ok(_) if !step.refused.is_empty() => format!("; SRV {} names only {}", step.owner, list(&step.refused)),
            Ok(_) => format!("; SRV {} says that the service is not offered", step.owner),
        });
        steps.collect()
    }

    /// What was wrong with DNS on the way, if anything was, though servers may have been found all the same.
    pub fn trouble(&self) -> Option<String> {
        let troubles: Vec<_> = self.steps.iter().filter_map(Step::trouble).collect();
        (!troubles.is_empty()).then(|| troubles.join("; "))
    }

    /// The first failure of DNS on the way.
    fn failure(&self) -> Option<&Failure> {
        self.steps.iter().find_map(|step| step.result.as_ref().err())
    }
}

impl Step {
    fn trouble(&self) -> Option<String> {
        let refused = || (!self.refused.is_empty()).then(|| format!("{}: {}", self.owner, list(&self.refused)));
        match &self.result {
            Err(failure) => Some(format!("{}: {failure}", self.owner)),
            Ok(known) if known.freshness.is_stale() => Some(format!("{} {}", self.owner, known.describe())),
            Ok(_) => refused(),
        }
    }
}

fn list(refused: &[Refused]) -> String {
    refused.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

impl<T> Known<T> {
    /// How new it is and where it comes from, in words, for `resolve` and the log.
    pub fn describe(&self) -> String {
        let disk = if self.is_from_disk { "kept on disk, " } else { "" };
        format!("{disk}{}", self.freshness.describe())
    }
}

/// The addresses of one server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// In the order to try them.
    pub ips: Vec<IpAddr>,
    /// How long DNS lets them hold; `None`: they were written, not looked up.
    pub ttl: Option<Duration>,
    /// How new they are, in words; `None`: as new as they have to be.
    pub stale: Option<String>,
    /// Those of this very host, which are not used.
    pub refused: Vec<IpAddr>,
}

impl Addresses {
    /// One that needs no DNS.
    fn written(ip: IpAddr) -> Self {
        Addresses { ips: vec![ip], ttl: None, stale: None, refused: Vec::new() }
    }
}

/// Why a server has none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoAddress {
    /// DNS says so.
    #[error("has no address in DNS")]
    None,
    /// DNS only has addresses of this very host.
    #[error("is on loopback by DNS ({0}), which allow_loopback = true under [dns] would allow")]
    Loopback(IpAddr),
    /// DNS did not say.
    #[error("could not be looked up: {0}")]
    Failed(Failure),
}

impl Discovery {
    /// `domain`: of names without a dot, in front of what `resolv.conf` has for them.
    pub fn new(config: &Config, dns: Dns, domain: Option<String>) -> Self {
        let (max_stale, changed) = (config.dns.max_stale, Arc::<AtomicBool>::default());
        Discovery {
            dns: Arc::new(dns),
            timeout: config.dns.timeout,
            allow_loopback: config.dns.allow_loopback,
            domain,
            bounds: config.roles.iter().map(|role| (role.role.clone(), Bounds::of(config, role))).collect(),
            services: Cache::new(max_stale, changed.clone()),
            v4: Cache::new(max_stale, changed.clone()),
            v6: Cache::new(max_stale, changed.clone()),
            changed,
            told: Mutex::default(),
        }
    }

    /// The servers of a role, for a client that asked for this. Where nothing is known that is new enough, all of it
    /// waits for DNS once, no longer than `dns.timeout`.
    pub async fn servers(&self, table: &Table, role: &RoleConfig, asked: &Asked) -> Found {
        self.look();
        let until = Instant::now() + self.timeout + GRACE;
        let own = role.srv.as_deref().and_then(|srv| owner_name(srv, table, asked));
        let compile = || table.role(Role::COMPILE).and_then(|r| r.srv.as_deref());
        let fallback = if role.fallback { compile().and_then(|srv| owner_name(srv, table, asked)) } else { None };
        if let (Some(own), Some(fallback)) = (&own, &fallback)
            && !self.services.has_records(own)
        {
            // What will probably be needed is not asked for one after the other.
            self.start_service(fallback);
        }
        let mut found = Found::default();
        let mut old = None;
        for (owner, is_fallback) in [(own, false), (fallback, true)] {
            let Some(owner) = owner else { continue };
            let result = self.service(&owner, until).await;
            let is_too_old = result.as_ref().is_ok_and(|known| known.is_too_old);
            let records = result.as_ref().map(|known| known.answer.records.as_slice()).unwrap_or_default();
            let (servers, refused) = self.offered(&role.role, &owner, records);
            found.steps.push(Step { owner: owner.clone(), result, refused });
            if servers.is_empty() {
                continue;
            }
            let source = if is_fallback { Source::Fallback(owner) } else { Source::Srv(owner) };
            if is_too_old {
                old.get_or_insert((source, servers));
                continue;
            }
            (found.source, found.servers) = (Some(source), servers);
            return found;
        }
        if !role.servers.is_empty() {
            found.source = Some(Source::Static);
            found.servers = static_servers(role, asked.port);
        } else if let Some((source, servers)) = old {
            (found.source, found.servers) = (Some(source), servers);
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
            Host::Ip(ip) => return Ok(Addresses::written(*ip)),
            Host::Name(name) => name,
        };
        self.look();
        if name.contains('.') {
            return self.absolute(name).await;
        }
        let search = self.dns.search();
        let others = search.iter().filter(|suffix| Some(*suffix) != self.domain.as_ref());
        for suffix in self.domain.iter().chain(others) {
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
            Host::Ip(ip) => return Some(Addresses::written(*ip)),
            Host::Name(name) => name,
        };
        if !name.contains('.') {
            return None;
        }
        let (v6, v4) = (self.v6.fresh(name)?, self.v4.fresh(name)?);
        self.combine(Some(Ok(v6)), Some(Ok(v4))).ok()
    }

    /// What is to be kept.
    pub fn answers(&self) -> Answers {
        Answers { services: self.services.kept(), addresses: [into_ips(self.v6.kept()), into_ips(self.v4.kept())] }
    }

    /// Takes over what was kept.
    pub fn restore(&self, answers: Answers) {
        for (owner, kept) in answers.services {
            self.services.restore(&owner, kept);
        }
        let [v6, v4] = answers.addresses;
        for (name, kept) in v6 {
            self.v6.restore(&name, map(&kept, Aaaa));
        }
        for (name, kept) in v4 {
            self.v4.restore(&name, map(&kept, A));
        }
    }

    /// Whether there is something new to be kept, asked once.
    pub fn take_changed(&self) -> bool {
        self.changed.swap(false, Ordering::Relaxed)
    }

    /// Where the nameservers have changed, what the old ones did not know counts no longer.
    fn look(&self) {
        if self.dns.look() {
            self.services.retry();
            self.v4.retry();
            self.v6.retry();
        }
    }

    async fn service(&self, owner: &str, until: Instant) -> Result<Known<Srv>, Failure> {
        self.services.get(owner, until, || self.ask_srv(owner), tell_of_service(owner)).await
    }

    fn start_service(&self, owner: &str) {
        self.services.start(owner, || self.ask_srv(owner), tell_of_service(owner));
    }

    fn ask_srv(&self, owner: &str) -> impl Future<Output = Result<Answer<Srv>, Failure>> + Send + 'static {
        let (dns, owner) = (self.dns.clone(), owner.to_owned());
        async move { dns.ask_srv(&owner).await }
    }

    async fn absolute(&self, name: &str) -> Result<Addresses, NoAddress> {
        let until = Instant::now() + self.timeout + GRACE;
        let v6 = self.v6.get(name, until, || self.ask(name), tell_of_addresses(name));
        let v4 = self.v4.get(name, until, || self.ask(name), tell_of_addresses(name));
        let (v6, v4) = both(v6, v4).await;
        self.combine(v6, v4)
    }

    fn ask<T: answer::Kind>(&self, name: &str) -> impl Future<Output = Result<Answer<T>, Failure>> + Send + 'static {
        let (dns, name) = (self.dns.clone(), name.to_owned());
        async move { dns.ask(&name).await }
    }

    /// The records that offer a server, not the target `.`; and those that the role's may not name, which are told of once.
    fn offered(&self, role: &Role, owner: &str, records: &[Srv]) -> (Vec<Srv>, Vec<Refused>) {
        let bounds = self.bounds.iter().find(|(of, _)| of == role).map(|(_, bounds)| bounds);
        let (mut servers, mut refused) = (Vec::with_capacity(records.len()), Vec::new());
        for record in records.iter().filter(|record| record.target.is_some()) {
            match bounds.and_then(|bounds| bounds.refusal(record)) {
                None => servers.push(record.clone()),
                Some(why) => refused.push(Refused { owner: owner.to_owned(), record: record.clone(), why }),
            }
        }
        for record in &refused {
            let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
            if !told.contains(record) {
                if told.len() >= TOLD {
                    told.clear();
                }
                told.push(record.clone());
                tracing::warn!(%role, owner, "SRV record passed over: {record}");
            }
        }
        (servers, refused)
    }

    /// What both families together come to.
    fn combine(&self, v6: Option<Family<Aaaa>>, v4: Option<Family<A>>) -> Result<Addresses, NoAddress> {
        let ttls = [v6.as_ref().and_then(held), v4.as_ref().and_then(held)];
        let stale = [v6.as_ref().and_then(staleness), v4.as_ref().and_then(staleness)];
        let failure = [v6.as_ref().and_then(|k| k.as_ref().err()), v4.as_ref().and_then(|k| k.as_ref().err())];
        let failure = failure.into_iter().flatten().next().cloned();
        let (v6, v4) = (ips(v6), ips(v4));
        let (refused, ips): (Vec<_>, Vec<_>) =
            interleave(&v6, &v4).into_iter().partition(|ip| !self.allow_loopback && is_loopback(*ip));
        match (failure, refused.first()) {
            // One family is enough, whatever became of the other.
            _ if !ips.is_empty() => {
                let (ttl, stale) = (ttls.into_iter().flatten().min(), stale.into_iter().flatten().next());
                Ok(Addresses { ips, ttl, stale, refused })
            }
            (_, Some(ip)) => Err(NoAddress::Loopback(*ip)),
            (Some(failure), None) => Err(NoAddress::Failed(failure)),
            (None, None) => Err(NoAddress::None),
        }
    }
}

/// Logs what has become of a role's records.
fn tell_of_service(owner: &str) -> impl FnOnce(News<Srv>) + Send + 'static {
    let owner = owner.to_owned();
    move |news| match news {
        News::Changed { before, now, .. } => {
            let (before, now) = (servers_of(&before.records), servers_of(&now.records));
            let (added, removed) = (without(&now, &before), without(&before, &now));
            // Weights and priorities are not worth a line.
            if !(added.is_empty() && removed.is_empty()) {
                tracing::info!(owner, added, removed, "the servers have changed");
            }
        }
        News::WellAgain => tracing::info!(owner, "DNS answers again"),
        News::Ill(failure) => tracing::warn!(owner, %failure, "DNS gives no answer; going on with the last one"),
    }
}

/// Logs what has become of a server's addresses. That DNS is ill has been said of the records that name the server.
fn tell_of_addresses<T: Copy + Into<IpAddr>>(name: &str) -> impl FnOnce(News<T>) + Send + 'static {
    let name = name.to_owned();
    move |news| {
        if let News::Changed { before, now, .. } = news {
            let list = |answer: &Answer<T>| -> Vec<IpAddr> { answer.records.iter().map(|ip| (*ip).into()).collect() };
            tracing::info!(name, before = ?list(&before), now = ?list(&now), "its addresses have changed");
        }
    }
}

fn servers_of(records: &[Srv]) -> Vec<HostPort> {
    let server = |record: &Srv| Some(HostPort { host: record.target.clone()?, port: record.port });
    let mut servers: Vec<_> = records.iter().filter_map(server).collect();
    servers.sort_unstable();
    servers.dedup();
    servers
}

/// Those of the first that the second lacks, in words.
fn without(servers: &[HostPort], others: &[HostPort]) -> String {
    let lacking = servers.iter().filter(|server| !others.contains(server)).map(ToString::to_string);
    lacking.collect::<Vec<_>>().join(", ")
}

fn into_ips<T: Copy + Into<IpAddr>>(kept: Vec<(String, Kept<T>)>) -> Vec<(String, Kept<IpAddr>)> {
    kept.into_iter().map(|(name, kept)| (name, map(&kept, Into::into))).collect()
}

fn map<T: Copy, U>(kept: &Kept<T>, into: impl Fn(T) -> U) -> Kept<U> {
    let Answer { records, ttl, from } = &*kept.answer;
    let records = records.iter().copied().map(into).collect();
    Kept { answer: Arc::new(Answer { records, ttl: *ttl, from: from.clone() }), learnt: kept.learnt }
}

/// How old an answer that has records is, where it is older than it should be.
fn staleness<T>(known: &Family<T>) -> Option<String> {
    let known = known.as_ref().ok().filter(|known| !known.answer.records.is_empty())?;
    known.freshness.is_stale().then(|| known.describe())
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
