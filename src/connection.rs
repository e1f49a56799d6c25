//! The life of one connection: sniff, role, candidates, race, tunnel.

mod lineup;
mod passage;
mod refusal;
mod way;

use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

use self::lineup::{check_beside, learn, line_up, wanted_name, weigh};
use self::passage::go_through;
pub use self::passage::{Left, resume};
use self::refusal::{out_of_time, refuse, stopping};
use self::way::{Servers, Wish, find_way};
use crate::check::{Checker, Checks};
use crate::config::{Config, Provenance};
use crate::counters::Counters;
use crate::dial::{Dialer, Did, Try};
use crate::discovery::Discovery;
use crate::domain::HostDomain;
use crate::gauge::Gauge;
use crate::history::History;
use crate::host::HostPort;
use crate::listen::Door;
use crate::moment::Clocks;
use crate::page::Visit;
use crate::pin::Set;
use crate::pool::Pool;
use crate::race::{Opening, Race};
use crate::report::{Outcome, Report};
use crate::role::{Role, Table, Via};
use crate::sniff::{Refused, Sniffer, Voice, sniff};
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

fn pin(shared: &Arc<Shared>, role: &Role, set: &Set, server: &HostPort, keep_pin: bool) -> Pinned {
    shared.pool().open(role, set, server, keep_pin, Instant::now());
    Pinned { shared: shared.clone(), role: role.clone(), set: set.clone(), server: server.clone() }
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

/// Tells the client and lets it read: what it still sends is read away until it closes.
async fn say(client: &mut TcpStream, answer: &[u8]) -> std::io::Result<()> {
    client.write_all(answer).await?;
    client.shutdown().await?;
    let mut sink = [0u8; 1024];
    while client.read(&mut sink).await? > 0 {}
    Ok(())
}
