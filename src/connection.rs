//! The life of one connection: sniff, role, candidates, race, tunnel.

mod passage;

use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

use self::passage::go_through;
pub use self::passage::{Left, resume};
use crate::balance::Scales;
use crate::check::{Checker, Checks};
use crate::config::{Balance, Config, Foreign, Provenance, RoleConfig};
use crate::counters::Counters;
use crate::dial::{Dialer, Did, Try, describe};
use crate::discovery::bounds::is_loopback;
use crate::discovery::srv::Srv;
use crate::discovery::{Discovery, Found, Source, Target};
use crate::domain::HostDomain;
use crate::error::{Error, Kind};
use crate::gauge::Gauge;
use crate::health::{Flip, Rank};
use crate::history::History;
use crate::host::{Host, HostPort};
use crate::listen::Door;
use crate::moment::Clocks;
use crate::page::Visit;
use crate::pick;
use crate::pin::Set;
use crate::pool::{Lineup, Pool, Wanted};
use crate::race::{Lost, Opening, Race, Why};
use crate::report::{Outcome, Report};
use crate::role::{Asked, Role, Row, Table, Via};
use crate::sniff::{Hello, Refused, Request, Sniffed, Sniffer, Voice, sniff};
use crate::stop::{Stop, Young, told};
use crate::tunnel::{Plan, Tunnel};

/// What all connections share that begin under the same configuration.
pub struct Shared {
    /// The configuration in force.
    pub config: Config,
    /// (name, port) → role.
    pub table: Table,
    /// Where servers come from.
    pub discovery: Arc<Discovery>,
    /// Which host this is to `balance = "hash"`.
    pub key: String,
    /// This host's domain, where it had to be found.
    pub domain: Option<HostDomain>,
    /// What is known of the servers.
    pub pool: Arc<Mutex<Pool>>,
    /// What was done.
    pub counters: Arc<Mutex<Counters>>,
    /// Looks at their certificates.
    pub checks: Arc<Checks>,
    /// Our own listeners.
    pub listeners: Vec<SocketAddr>,
    /// The same with what became of each, those that could not be bound included.
    pub doors: Vec<Door>,
    /// What became of the last connections, and what each server has done.
    pub history: Arc<Mutex<History>>,
    /// Connections that are open.
    pub gauge: Arc<Gauge>,
    /// Since when the process serves.
    pub started: Instant,
    /// Where the configuration came from.
    pub provenance: Arc<Mutex<Provenance>>,
}

/// How long a refused client may take to read why. Closing at once, with bytes of its unread, would be a reset, and the
/// reason lost.
const LINGER: Duration = Duration::from_secs(1);

/// What a connection has come to.
enum Opened {
    /// A connection to a server, and how to begin.
    Server {
        server: TcpStream,
        plan: Box<Plan>,
        /// Keeps the run with this server while the tunnel is open.
        pin: Option<Pinned>,
    },
    /// It asks for the page, with these bytes so far.
    Page(Vec<u8>),
}

/// What is left to do where a connection's own task ends.
pub enum Rest {
    /// A tunnel that the next process is to go on with.
    Tunnel(Box<Left>),
    /// Somebody who asks for the page, which is nothing to wait for with a place that an agent could have.
    Visit(Visit),
}

/// What has been asked for, and what a server is to be told first.
struct Wish {
    asked: Asked,
    bytes: Vec<u8>,
    request: Option<Request>,
}

/// Where a connection goes.
struct Way {
    servers: Servers,
    opening: Opening,
    most: Option<u64>,
}

/// Who may get it.
enum Servers {
    /// Those of a role: any will do.
    Role(Role, Vec<Srv>),
    /// This one.
    One(Srv),
}

/// A tunnel that is open, by which a run is known to go on.
pub struct Pinned {
    shared: Arc<Shared>,
    role: Role,
    set: Set,
    server: HostPort,
}

impl Drop for Pinned {
    fn drop(&mut self) {
        self.shared.pool().pins.close(&self.server, Instant::now());
    }
}

impl Shared {
    /// What is known of the servers.
    pub fn pool(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was done.
    pub fn counters(&self) -> MutexGuard<'_, Counters> {
        self.counters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What became of the last connections, and what each server has done.
    pub fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the configuration came from.
    pub fn provenance(&self) -> MutexGuard<'_, Provenance> {
        self.provenance.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection has ended.
    fn count(&self, report: &Report) {
        self.counters().count(report);
        self.history().note(report, &Clocks::read());
    }
}

/// Serves one connection from accept to its log line, or to where somebody else is to go on with it. `port`: the
/// listener's.
pub async fn serve(
    shared: Arc<Shared>,
    stop: Arc<Stop>,
    mut client: TcpStream,
    from: SocketAddr,
    port: u16,
) -> Option<Rest> {
    let mut report = Report::new(from);
    let _open = shared.gauge.connection();
    let mut orders = stop.orders();
    let mut young = stop.enter();
    let opened = {
        // In a box of its own, so that a tunnel does not keep room for what came before it.
        let opening = Box::pin(open(&shared, &mut client, port, &mut report, &mut young));
        tokio::select! {
            biased;
            opened = opening => Some(opened),
            () = told(&mut orders) => None,
        }
    };
    drop(young);
    match opened.unwrap_or_else(|| Err(stopping(&report))) {
        Ok(Opened::Server { server, plan, pin }) => {
            let tunnel = Tunnel::new(client, server, *plan, &mut report.carried);
            go_through(shared, tunnel, pin, report, orders).await.map(Rest::Tunnel)
        }
        Ok(Opened::Page(said)) => {
            // Nothing of it is to be counted, or to be in the log.
            report.hand_over();
            Some(Rest::Visit(Visit { client, from, said }))
        }
        Err(refused) => {
            let answer = refused.answer();
            report.outcome = Some(Outcome::Refused { told: refused.told(), error: refused.error });
            shared.count(&report);
            drop(report);
            if !answer.is_empty() {
                // The log has said it already; a client that does not listen is no news.
                let _ = tokio::time::timeout(LINGER, say(&mut client, &answer)).await;
            }
            None
        }
    }
}

/// Everything up to a server that has answered.
async fn open(
    shared: &Arc<Shared>,
    client: &mut TcpStream,
    port: u16,
    report: &mut Report,
    young: &mut Young,
) -> Result<Opened, Refused> {
    let Config { limits, timeouts, .. } = &shared.config;
    let sniffer = Sniffer::new(limits.hello).with_page(shared.config.status.page);
    let wish = match Wish::new(sniff(client, sniffer, timeouts.sniff).await?, port) {
        Ok(wish) => wish,
        Err(said) => return Ok(Opened::Page(said)),
    };
    report.sniffed = Some(report.started.elapsed());
    young.has_asked();
    let deadline = Instant::now() + timeouts.budget;
    report.asked = Some(wish.asked.clone());
    let voice = if wish.asked.via == Via::Tls { Voice::Alert } else { Voice::Http };
    let found = tokio::time::timeout_at(deadline, find_way(shared, wish, report)).await;
    let way = match found.unwrap_or_else(|_| Err(out_of_time(report, timeouts.budget))) {
        Ok(way) => way,
        Err(error) => return Err(Refused { error, voice }),
    };
    let asked = wanted_name(shared, &way, report);
    let checker = asked.as_ref().map(|asked| Checker { checks: &shared.checks, pool: &shared.pool, asked });
    let dialer =
        Dialer { connect: timeouts.connect, listeners: &shared.listeners, source: source_address(report.from) };
    let race = Race {
        discovery: &shared.discovery,
        dialer,
        checker,
        pool: &shared.pool,
        deadline,
        sniff: timeouts.sniff,
        limit: limits.hello,
    };
    let is_tunnel = matches!(way.opening, Opening::Connect { .. });
    let (set, mut lineup) = line_up(shared, &way.servers, asked.as_ref());
    report.load = weigh(shared, &race, &way.servers, &set, &mut lineup).await;
    if let (Some(server), Some(asked)) = (lineup.beside.take(), &asked) {
        check_beside(shared, server, asked.clone(), race.dialer.source);
    }
    let (keep_pin, is_pinned) = (lineup.keep_pin, lineup.is_pinned);
    let result = race.run(client, lineup, way.opening, &mut report.course).await;
    let stale = report.course.stale.take();
    report.note_dns(stale);
    learn(shared, report, &way.servers, &set);
    let won = match result {
        Ok(won) => won,
        Err(lost) => return Err(refuse(lost, voice, report, timeouts.budget)),
    };
    // For as long as the tunnel is open it is only there for its log line.
    report.course.tries.shrink_to_fit();
    report.answered = won.sent.ne(&0).then(|| report.started.elapsed());
    report.carried.up += won.sent as u64;
    report.carried.sni = won.sni;
    // A server that cannot have this connection for its name alone can still have the others of the run.
    let first = report.course.tries.first();
    let keep_pin = keep_pin || is_pinned && first.is_some_and(|t| matches!(t.did, Did::Unnamed { .. }));
    let pin = match (way.servers, report.course.tries.get(won.at)) {
        (Servers::Role(role, _), Some(Try { server, .. })) if set.servers().len() > 1 => {
            Some(pin(shared, &role, &set, server, keep_pin))
        }
        _ => None,
    };
    // A hello that was sent from here has been looked into already.
    let inspect = is_tunnel && won.sent == 0;
    let plan = Plan { first: won.first, answer: won.answer, most: way.most, inspect };
    Ok(Opened::Server { server: won.stream, plan: Box::new(plan), pin })
}

/// The name that the agent will look for in the server's certificate, where that is our business.
fn wanted_name(shared: &Shared, way: &Way, report: &Report) -> Option<Host> {
    let Servers::Role(..) = way.servers else { return None };
    if report.row == Some(Row::Target) {
        // That very server is meant, be its certificate what it may.
        return None;
    }
    report.asked.as_ref()?.host.clone().filter(|_| shared.config.certificates.check)
}

/// The candidates in the order in which to try them.
fn line_up(shared: &Shared, servers: &Servers, name: Option<&Host>) -> (Set, Lineup) {
    let mut pool = shared.pool();
    match servers {
        Servers::Role(role, records) => {
            let set = Set::of(records);
            let order = pick::order_for(shared.table.role(role.as_str()), &shared.key, records, pool.rng());
            let lineup = pool.line_up(order, &set, Wanted { role: Some(role), name }, Instant::now());
            (set, lineup)
        }
        Servers::One(server) => {
            let set = Set::of(std::slice::from_ref(server));
            let lineup = pool.line_up(vec![server.clone()], &set, Wanted { role: None, name: None }, Instant::now());
            (set, lineup)
        }
    }
}

/// Where the load decides and a run begins: puts the freer one of the first two in front. Gives what they said.
async fn weigh(shared: &Shared, race: &Race<'_>, servers: &Servers, set: &Set, lineup: &mut Lineup) -> Option<String> {
    let Servers::Role(role, records) = servers else { return None };
    let RoleConfig { balance: Balance::LeastLoaded, prefer, .. } = shared.table.role(role.as_str())? else {
        return None;
    };
    let (first, second) = (&lineup.candidates.front()?.server, &lineup.candidates.get(1)?.server);
    let now = Instant::now();
    let is_choice = {
        let mut pool = shared.pool();
        let is_well = |server| pool.servers.rank(server, now) == Rank::Good;
        is_well(first) && is_well(second) && pool.is_unpinned(role, set, now)
    };
    let record =
        |server: &HostPort| records.iter().find(|r| r.port == server.port && r.target.as_ref() == Some(&server.host));
    if !is_choice || !pick::are_equal(record(first)?, record(second)?, prefer) {
        return None;
    }
    let asked = race.checker.map(|checker| checker.asked);
    let scales = Scales { discovery: &shared.discovery, dialer: &race.dialer, prober: shared.checks.prober(), asked };
    let loads = scales.weigh(first, second, race.deadline).await;
    if let Some(silent) = loads.silent_first() {
        // The next run is not to wait for it again.
        let flip = shared.pool().outrun(silent, "did not say how busy it is", Instant::now());
        flip.iter().for_each(Flip::tell);
    }
    if loads.prefers_second() {
        lineup.candidates.swap(0, 1);
    }
    Some(loads.to_string())
}

/// Looks at a server's certificate without keeping this connection waiting.
fn check_beside(shared: &Arc<Shared>, server: HostPort, asked: Host, source: Option<SocketAddr>) {
    let shared = shared.clone();
    tokio::spawn(async move {
        let checker = Checker { checks: &shared.checks, pool: &shared.pool, asked: &asked };
        let Some(turn) = checker.try_turn(&server) else { return };
        let dialer = Dialer { connect: shared.config.timeouts.connect, listeners: &shared.listeners, source };
        // Whatever keeps it from being seen is for a connection that goes there to find out.
        let Ok(addresses) = shared.discovery.addresses(&server.host).await else { return };
        for ip in addresses.ips {
            let addr = SocketAddr::new(ip, server.port);
            if matches!(checker.check_in_turn(&turn, &server, addr, &dialer).await, Ok(()) | Err(Did::Unnamed { .. })) {
                return;
            }
        }
    });
}

/// What the candidates did counts for the next connection, too.
fn learn(shared: &Shared, report: &Report, servers: &Servers, set: &Set) {
    // Of a server that the client has named there is nothing to choose, and no end to the ports that it may name.
    if matches!(servers, Servers::One(_)) || report.row == Some(Row::Target) {
        return;
    }
    let flips = shared.pool().learn(&report.course.tries, Instant::now());
    // Where there is no other, nothing goes before it.
    for flip in flips.iter().filter(|_| set.servers().len() > 1) {
        flip.tell();
    }
}

fn pin(shared: &Arc<Shared>, role: &Role, set: &Set, server: &HostPort, keep_pin: bool) -> Pinned {
    shared.pool().open(role, set, server, keep_pin, Instant::now());
    Pinned { shared: shared.clone(), role: role.clone(), set: set.clone(), server: server.clone() }
}

/// The daemon stops, and this connection is nobody's yet.
fn stopping(report: &Report) -> Refused {
    let voice = match &report.asked {
        None => Voice::Nobody,
        Some(asked) if asked.via == Via::Tls => Voice::Alert,
        // A server has accepted, which the client has been told.
        Some(asked) if asked.via == Via::Connect && report.course.accepted.is_some() => Voice::Alert,
        Some(_) => Voice::Http,
    };
    Refused { error: Error::new(Kind::Stopping, "puppet-shim stops; try again"), voice }
}

/// A lost race, as the client is to hear of it.
fn refuse(lost: Lost, voice: Voice, report: &Report, budget: Duration) -> Refused {
    // Behind the word that there is a tunnel, only TLS is understood.
    let voice = if lost.announced { Voice::Alert } else { voice };
    match lost.why {
        Why::ClientGone(how) => Refused {
            error: Error::new(Kind::Silent, format_args!("the client went before a server had answered: {how}")),
            voice: Voice::Nobody,
        },
        Why::OutOfTime => Refused { error: out_of_time(report, budget), voice },
        Why::NoneLeft => {
            let voice = match lost.alert {
                // What the servers have against this hello is better known to them.
                Some(record) if voice == Voice::Alert => Voice::ReadyAlert(record.into()),
                _ => voice,
            };
            Refused { error: unreachable(report), voice }
        }
    }
}

/// Classifies, and finds the candidates in the order in which to try them.
async fn find_way(shared: &Shared, wish: Wish, report: &mut Report) -> Result<Way, Error> {
    let Shared { table, discovery, .. } = shared;
    let (row, role) = table.classify(&wish.asked);
    let by_name = matches!(row, Row::OwnName | Row::OfficialPort | Row::OfficialName);
    report.row = Some(row);
    if !by_name {
        match discovery.target(table, &wish.asked).await {
            Ok(Target::Refused(role, refused)) if row == Row::Foreign && shared.config.foreign == Foreign::Refuse => {
                let (asked, role) = (&wish.asked, &role.role);
                let reason = format_args!("{asked} is no {role} server: SRV {} names it, but {refused}", refused.owner);
                return Err(Error::new(Kind::Foreign, reason));
            }
            Ok(Target::None | Target::Refused(..)) => {}
            Ok(Target::Server(role, server)) => {
                report.row = Some(Row::Target);
                (report.role, report.source) = (Some(role.role.clone()), Some(Source::Target));
                return Ok(wish.into_way_to(role.role.clone(), vec![server]));
            }
            // To refuse it as foreign, and to advise to let it through, takes knowing that it is.
            Err(failure) if row == Row::Foreign && shared.config.foreign == Foreign::Refuse => {
                let asked = &wish.asked;
                let reason = format_args!("cannot tell whether {asked} is a Puppet server of this site: {failure}");
                return Err(Error::new(Kind::NoServers, reason));
            }
            Err(failure) => report.note_dns(Some(failure.to_string())),
        }
    }
    let Some(role) = role else { return foreign(&shared.config, wish, report) };
    report.role = Some(role.role.clone());
    if wish.asked.via == Via::Http {
        // Plain HTTP is never Puppet's own; it is for a web server of that name.
        let HostPort { host, port } = wish.host_port()?;
        report.source = Some(Source::Name);
        return Ok(wish.to(Srv { priority: 0, weight: 0, port, target: Some(host) }));
    }
    let found = discovery.servers(table, role, &wish.asked).await;
    report.source.clone_from(&found.source);
    note_source(shared, role, &found);
    report.note_dns(found.trouble());
    report.in_vain = found.in_vain();
    if found.servers.is_empty() {
        return Err(Error::new(Kind::NoServers, found.why_none(&role.role)));
    }
    Ok(wish.into_way_to(role.role.clone(), found.servers))
}

/// For who asks where the role's servers are from, after the process too.
fn note_source(shared: &Shared, role: &RoleConfig, found: &Found) {
    let stale_since = found.stale_for().map(|span| {
        let clocks = Clocks::read();
        clocks.at(clocks.now.checked_sub(span).unwrap_or(clocks.now))
    });
    shared.history().note_source(role.role.as_str(), found.source.as_ref(), stale_since);
}

/// A name that is nobody's: by policy.
fn foreign(config: &Config, wish: Wish, report: &mut Report) -> Result<Way, Error> {
    if wish.asked.via == Via::Tls {
        let Asked { host, port, .. } = &wish.asked;
        let what = match host {
            Some(host) => format!("{host} is no role's name and no current target"),
            None => "the connection carries no name (SNI)".into(),
        };
        return Err(Error::new(Kind::NoRoute, format_args!("{what}, and the listener's port {port} is no role's")));
    }
    let to = wish.host_port()?;
    match &config.foreign {
        // Names are looked at when DNS has told what they lead to.
        Foreign::Direct if !config.dns.allow_loopback && matches!(to.host, Host::Ip(ip) if is_loopback(ip)) => {
            let what = "is on loopback, which allow_loopback = true under [dns] in puppet-shim.toml would allow";
            Err(Error::new(Kind::Foreign, format_args!("{to} {what}")))
        }
        Foreign::Refuse => Err(Error::new(
            Kind::Foreign,
            format_args!(
                "{to} is not a Puppet server of this site; the setting foreign = direct (or the URL of a proxy) in puppet-shim.toml would allow it"
            ),
        )),
        Foreign::Direct => {
            report.source = Some(Source::Name);
            Ok(wish.to(Srv { priority: 0, weight: 0, port: to.port, target: Some(to.host) }))
        }
        Foreign::Proxy(proxy) => {
            let server = Srv { priority: 0, weight: 0, port: proxy.port, target: Some(proxy.host.clone()) };
            let Some(request) = &wish.request else { return Ok(wish.to(server)) };
            let mut first = request.to_proxy(&to);
            first.extend_from_slice(&wish.bytes);
            let most = wish.most();
            // The proxy's own answer is the client's: nothing to announce.
            Ok(Way { servers: Servers::One(server), opening: Opening::Once(first), most })
        }
    }
}

impl Wish {
    /// Of who asks for the page, what it has said.
    fn new(sniffed: Sniffed, port: u16) -> Result<Self, Vec<u8>> {
        let Sniffed { hello, bytes } = sniffed;
        let (via, host, port, request) = match hello {
            Hello::Tls { sni } => (Via::Tls, sni, port, None),
            Hello::Connect(to, request) => (Via::Connect, Some(to.host), to.port, Some(request)),
            Hello::Forward(to, request) => (Via::Http, Some(to.host), to.port, Some(request)),
            Hello::Visit => return Err(bytes),
        };
        let mut wish = Wish { asked: Asked { via, host, port }, bytes, request };
        if let (Via::Http, Some(request)) = (via, &wish.request) {
            // What follows the body is another request, and belongs into a connection of its own.
            wish.bytes.truncate(usize::try_from(request.body.unwrap_or(0)).unwrap_or(usize::MAX));
        }
        Ok(wish)
    }

    fn host_port(&self) -> Result<HostPort, Error> {
        match &self.asked.host {
            Some(host) => Ok(HostPort { host: host.clone(), port: self.asked.port }),
            None => Err(Error::new(Kind::NoRoute, "the connection names no server")),
        }
    }

    /// How many of the client's bytes behind those already here belong to a forwarded request; `None`: it is a tunnel.
    fn most(&self) -> Option<u64> {
        let request = self.request.as_ref().filter(|_| self.asked.via == Via::Http)?;
        Some(request.body.unwrap_or(0).saturating_sub(self.bytes.len() as u64))
    }

    /// To a server that may be anything.
    fn to(mut self, server: Srv) -> Way {
        let most = self.most();
        let opening = match (&self.request, self.host_port()) {
            (Some(request), Ok(to)) if self.asked.via == Via::Http => {
                let mut first = request.to_origin(&to);
                first.append(&mut self.bytes);
                Opening::Once(first)
            }
            _ if self.asked.via == Via::Connect => Opening::Connect { early: self.bytes, is_raced: false },
            _ => Opening::Once(self.bytes),
        };
        Way { servers: Servers::One(server), opening, most }
    }

    /// To Puppet servers, which speak TLS: whoever accepts has to answer, too.
    fn into_way_to(self, role: Role, servers: Vec<Srv>) -> Way {
        match (self.asked.via, <[Srv; 1]>::try_from(servers)) {
            (Via::Http, Ok([server])) => self.to(server),
            (via, servers) => {
                let servers = servers.map_or_else(|many| many, Vec::from);
                let opening = match via {
                    Via::Connect => Opening::Connect { early: self.bytes, is_raced: true },
                    _ => Opening::Hello(self.bytes),
                };
                Way { servers: Servers::Role(role, servers), opening, most: None }
            }
        }
    }
}

/// The agent's own choice of address (`sourceaddress`): the servers are to see it.
fn source_address(mut from: SocketAddr) -> Option<SocketAddr> {
    if from.ip().is_loopback() {
        return None;
    }
    from.set_port(0);
    // A client on another host (`allow_remote_clients`) has an address that is not ours to use.
    UdpSocket::bind(from).is_ok().then_some(from)
}

/// What was tried, in the agent's line: each server and what it did.
fn unreachable(report: &Report) -> Error {
    let all = &report.course.tries;
    let is_silent = !all.is_empty() && all.iter().all(|t| t.did.is_silence());
    let kind = if is_silent { Kind::TimedOut } else { Kind::Unreachable };
    let tried = describe(&report.course.tries);
    Error::new(kind, format_args!("no {} reachable: {tried}{}", what(report), report.in_vain))
}

fn out_of_time(report: &Report, budget: Duration) -> Error {
    let tried = describe(&report.course.tries);
    let tried = if tried.is_empty() { "DNS did not answer" } else { &tried };
    Error::new(Kind::TimedOut, format_args!("no {} reachable within {budget:?}: {tried}", what(report)))
}

fn what(report: &Report) -> String {
    match (&report.role, &report.asked) {
        (Some(role), _) => format!("{role} server"),
        (None, Some(asked)) => asked.to_string(),
        (None, None) => "server".into(),
    }
}

/// Tells the client and lets it read: what it still sends is read away until it closes.
async fn say(client: &mut TcpStream, answer: &[u8]) -> std::io::Result<()> {
    client.write_all(answer).await?;
    client.shutdown().await?;
    let mut sink = [0u8; 1024];
    while client.read(&mut sink).await? > 0 {}
    Ok(())
}
