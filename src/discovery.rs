//! Where a role's servers come from.
//!
//! In order: its own SRV records; those of `compile`, where the role allows it; the static list; last the requested
//! name itself. The first of them that names a server counts, so a site without any SRV record works as it did before.
//! What DNS said last holds while DNS is ill; after a week or so everything else goes before it, but for the name.

mod anchor;
pub mod answer;
pub mod bounds;
pub mod cache;
mod distrust;
pub mod dns;
mod file;
pub mod found;
mod lookup;
pub mod nameserver;
mod news;
mod secrecy;
pub mod srv;

use std::collections::HashMap;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{Instant, timeout};

use self::answer::{A, Aaaa, Answer, Failure};
use self::bounds::{Bounds, Refused, is_loopback};
use self::cache::{Cache, Kept, Known, Wait};
use self::dns::Dns;
use self::found::list;
use self::news::{tell_of_addresses, tell_of_service};
use self::srv::Srv;
use crate::config::{Config, RoleConfig};
use crate::host::Host;
use crate::role::{Asked, Role, Table, Via};

pub use self::found::{Addresses, Found, NoAddress, Source, Step, Target};

/// Once one family has addresses, the other may take this much longer.
const OTHER_FAMILY: Duration = Duration::from_millis(50);

/// Who has an answer that is past its TTL waits for so long for a newer one: for all of a role's records together, and for
/// a server's addresses.
const PATIENCE: Duration = Duration::from_millis(300);

/// So much longer than an inquiry may take is waited for it, so that it can say whom it has asked in vain.
const GRACE: Duration = Duration::from_millis(20);

/// What has been told of, and is not told of again. More is somebody's game.
const TOLD: usize = 256;

/// Finds servers, and remembers them for as long as DNS allows, and longer where it is ill.
pub struct Discovery {
    dns: Arc<Dns>,
    timeout: Duration,
    patience: Duration,
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
    told: Mutex<HashMap<String, String>>,
}

/// A role's servers while they are looked for.
#[derive(Default)]
struct Choice {
    found: Found,
    /// The first that were found so long ago that the static list goes before them.
    old: Option<(Source, Vec<Srv>)>,
}

impl Choice {
    /// None of the record sets decides.
    fn otherwise(self, table: &Table, role: &RoleConfig, asked: &Asked) -> Found {
        let Choice { mut found, old } = self;
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
}

/// Everything that DNS has said, as it is kept from one process to the next.
#[derive(Clone, Debug, Default)]
pub struct Answers {
    /// SRV records by owner.
    pub services: Vec<(String, Kept<Srv>)>,
    /// Addresses by name, one list for each family.
    pub addresses: [Vec<(String, Kept<IpAddr>)>; 2],
}

impl Answers {
    /// Nobody knows any more when they were given.
    pub fn expire(&mut self) {
        let [v6, v4] = &mut self.addresses;
        self.services.iter_mut().for_each(|(_, kept)| kept.learnt = None);
        v6.iter_mut().chain(v4).for_each(|(_, kept)| kept.learnt = None);
    }
}

impl Discovery {
    /// `domain`: of names without a dot, in front of what `resolv.conf` has for them.
    pub fn new(config: &Config, dns: Dns, domain: Option<String>) -> Self {
        let (max_stale, changed) = (config.dns.max_stale, Arc::<AtomicBool>::default());
        Discovery {
            dns: Arc::new(dns),
            timeout: config.dns.timeout,
            patience: PATIENCE,
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

    /// The same for somebody who would rather wait than take what is old.
    #[must_use]
    pub fn patient(mut self) -> Self {
        self.patience = self.timeout + GRACE;
        self
    }

    /// The servers of a role, for a client that asked for this. Where nothing is known that is new enough, all of it
    /// waits for DNS once, no longer than `dns.timeout`.
    pub async fn servers(&self, table: &Table, role: &RoleConfig, asked: &Asked) -> Found {
        self.look();
        let wait = self.wait();
        let owners = owners(table, role, asked);
        if let [(own, _), (fallback, _)] = owners.as_slice()
            && !self.services.has_records(own)
        {
            // What will probably be needed is not asked for one after the other.
            self.start_service(fallback);
        }
        let mut choice = Choice::default();
        for (owner, is_fallback) in owners {
            let result = self.service(&owner, wait).await;
            if self.take(&mut choice, role, owner, is_fallback, result) {
                return choice.found;
            }
        }
        choice.otherwise(table, role, asked)
    }

    /// The same as far as it is known without asking. Without a source: a record set that goes first has never been asked
    /// for.
    pub fn known_servers(&self, table: &Table, role: &RoleConfig, asked: &Asked) -> Found {
        let mut choice = Choice::default();
        for (owner, is_fallback) in owners(table, role, asked) {
            let Some(result) = self.services.peek(&owner) else { return choice.found };
            if self.take(&mut choice, role, owner, is_fallback, result) {
                return choice.found;
            }
        }
        choice.otherwise(table, role, asked)
    }

    /// Takes in what came of one of a role's record sets. Gives whether it decides.
    fn take(
        &self,
        choice: &mut Choice,
        role: &RoleConfig,
        owner: String,
        is_fallback: bool,
        result: Result<Known<Srv>, Failure>,
    ) -> bool {
        let is_too_old = result.as_ref().is_ok_and(|known| known.is_too_old);
        let records = result.as_ref().map(|known| known.answer.records.as_slice()).unwrap_or_default();
        let (servers, refused) = self.offered(&role.role, &owner, records);
        choice.found.steps.push(Step { owner: owner.clone(), result, refused });
        if servers.is_empty() {
            return false;
        }
        let source = if is_fallback { Source::Fallback(owner) } else { Source::Srv(owner) };
        if is_too_old {
            choice.old.get_or_insert((source, servers));
            return false;
        }
        (choice.found.source, choice.found.servers) = (Some(source), servers);
        true
    }

    /// The role that has this host as a current target, and the server that is meant: with the requested port where a
    /// record has it or no role does (a web server beside it, say), else with the record's own.
    ///
    /// # Errors
    ///
    /// When DNS gives no answer for a role, and no other role has the host: whether it is a target is not known.
    pub async fn target<'t>(&self, table: &'t Table, asked: &Asked) -> Result<Target<'t>, Failure> {
        let Some(host) = &asked.host else { return Ok(Target::None) };
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
            let refused = roles.iter().zip(&found).find_map(|(role, found)| {
                let mut refused = found.steps.iter().flat_map(|step| &step.refused);
                Some((*role, refused.find(|refused| refused.record.target.as_ref() == Some(host))?.clone()))
            });
            return match (refused, found.iter().find_map(Found::failure)) {
                (Some((role, refused)), _) => Ok(Target::Refused(role, refused)),
                (None, Some(failure)) => Err(failure.clone()),
                (None, None) => Ok(Target::None),
            };
        };
        // In alias mode the port is our own listener's, and says nothing of the server's.
        if asked.via == Via::Http || (asked.via == Via::Connect && !table.is_role_port(asked.port)) {
            server.port = asked.port;
        }
        Ok(Target::Server(role, server))
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

    /// Takes over what was kept on disk, or by another that this one replaces.
    pub fn restore(&self, answers: Answers, is_from_disk: bool) {
        for (owner, kept) in answers.services {
            self.services.restore(&owner, kept, is_from_disk);
        }
        let [v6, v4] = answers.addresses;
        for (name, kept) in v6 {
            self.v6.restore(&name, map(&kept, Aaaa), is_from_disk);
        }
        for (name, kept) in v4 {
            self.v4.restore(&name, map(&kept, A), is_from_disk);
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

    /// How long to wait from now on. Where nobody has answered a moment ago, not for long.
    fn wait(&self) -> Wait {
        let now = Instant::now();
        let longest = if self.dns.is_dead() { self.patience } else { self.timeout + GRACE };
        Wait { soon: now + self.patience, until: now + longest }
    }

    async fn service(&self, owner: &str, wait: Wait) -> Result<Known<Srv>, Failure> {
        self.services.get(owner, wait, || self.ask_srv(owner), tell_of_service(owner)).await
    }

    fn start_service(&self, owner: &str) {
        self.services.start(owner, || self.ask_srv(owner), tell_of_service(owner));
    }

    fn ask_srv(&self, owner: &str) -> impl Future<Output = Result<Answer<Srv>, Failure>> + Send + 'static {
        let (dns, owner) = (self.dns.clone(), owner.to_owned());
        async move { dns.ask_srv(&owner).await }
    }

    async fn absolute(&self, name: &str) -> Result<Addresses, NoAddress> {
        let wait = self.wait();
        let v6 = self.v6.get(name, wait, || self.ask(name), tell_of_addresses(name));
        let v4 = self.v4.get(name, wait, || self.ask(name), tell_of_addresses(name));
        let (v6, v4) = both(v6, v4).await;
        let addresses = self.combine(v6, v4)?;
        if let Some(ip) = addresses.refused.first()
            && self.is_news(name.to_owned(), &ip.to_string())
        {
            tracing::warn!(name, %ip, "an address on loopback passed over; allow_loopback = true under [dns] would allow it");
        }
        Ok(addresses)
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
        if !refused.is_empty() {
            let what = list(&refused);
            if self.is_news(format!("{role} {owner}"), &what) {
                tracing::warn!(%role, owner, "SRV records passed over: {what}");
            }
        }
        (servers, refused)
    }

    /// Whether something else was told of this the last time, or nothing.
    fn is_news(&self, of: String, what: &str) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.get(&of).is_some_and(|before| before == what) || (told.len() >= TOLD && !told.contains_key(&of)) {
            return false;
        }
        told.insert(of, what.to_owned());
        true
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

fn into_ips<T: Copy + Into<IpAddr>>(kept: Vec<(String, Kept<T>)>) -> Vec<(String, Kept<IpAddr>)> {
    kept.into_iter().map(|(name, kept)| (name, map(&kept, Into::into))).collect()
}

fn map<T: Copy, U>(kept: &Kept<T>, into: impl Fn(T) -> U) -> Kept<U> {
    let Answer { records, ttl, from, is_vague } = &*kept.answer;
    let records = records.iter().copied().map(into).collect();
    Kept {
        answer: Arc::new(Answer { records, ttl: *ttl, from: from.clone(), is_vague: *is_vague }),
        learnt: kept.learnt,
    }
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

/// The record sets that a role's servers may be in, in order, and whether each is that of `compile`.
fn owners(table: &Table, role: &RoleConfig, asked: &Asked) -> Vec<(String, bool)> {
    let own = role.srv.as_deref().and_then(|srv| owner_name(srv, table, asked));
    let compile = || table.role(Role::COMPILE).and_then(|r| r.srv.as_deref());
    let fallback = if role.fallback { compile().and_then(|srv| owner_name(srv, table, asked)) } else { None };
    own.map(|own| (own, false)).into_iter().chain(fallback.map(|fallback| (fallback, true))).collect()
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
