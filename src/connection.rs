//! The life of one connection: sniff, role, candidates, dial, tunnel.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::config::{Config, Foreign, RoleConfig};
use crate::dial::{Dialer, describe};
use crate::discovery::srv::{self, Srv};
use crate::discovery::{Discovery, Found, Source};
use crate::error::{Error, Kind};
use crate::host::HostPort;
use crate::report::{Outcome, Report};
use crate::role::{Asked, Row, Table, Via};
use crate::sniff::{Hello, Refused, Request, Sniffed, Voice, sniff};
use crate::tunnel::{Plan, carry};

/// What all connections share.
pub struct Shared {
    /// The configuration in force.
    pub config: Config,
    /// (name, port) → role.
    pub table: Table,
    /// Where servers come from.
    pub discovery: Discovery,
    /// Our own listeners.
    pub listeners: Vec<SocketAddr>,
}

/// The answer to a CONNECT whose server has accepted. Any 2xx will do, and no body may follow.
const ESTABLISHED: &[u8] = b"HTTP/1.1 200 Connection established\r\n\r\n";

/// How long a refused client may take to read why. Closing at once, with bytes of its unread, would be a reset, and the
/// reason lost.
const LINGER: Duration = Duration::from_secs(1);

/// A connection to a server, and how to begin.
struct Opened {
    server: TcpStream,
    plan: Plan,
}

/// What has been asked for, and what a server is to be told first.
struct Wish {
    asked: Asked,
    bytes: Vec<u8>,
    request: Option<Request>,
}

/// Where a connection goes.
struct Way {
    servers: Vec<Srv>,
    first: Vec<u8>,
    /// Whether the client still waits for our word that there is a tunnel.
    announce: bool,
    most: Option<u64>,
}

/// Serves one connection from accept to its log line. `port`: the listener's.
pub async fn serve(shared: Arc<Shared>, mut client: TcpStream, from: SocketAddr, port: u16) {
    let mut report = Report::new(from);
    // In a box of its own, so that a tunnel does not keep room for what came before it.
    let opened = Box::pin(open(&shared, &mut client, port, &mut report)).await;
    match opened {
        Ok(Opened { mut server, plan }) => {
            let idle = shared.config.timeouts.idle;
            let end = carry(&mut client, &mut server, plan, idle, &mut report.carried).await;
            report.outcome = Some(Outcome::Tunnel(end));
            drop((client, server));
            // The line can wait for whoever has connected meanwhile.
            tokio::task::yield_now().await;
        }
        Err(refused) => {
            let answer = refused.answer();
            report.outcome = Some(Outcome::Refused { told: refused.told(), error: refused.error });
            drop(report);
            // The log has said it already; a client that does not listen is no news.
            let _ = tokio::time::timeout(LINGER, say(&mut client, &answer)).await;
        }
    }
}

/// Everything up to a connection to a server.
async fn open(shared: &Shared, client: &mut TcpStream, port: u16, report: &mut Report) -> Result<Opened, Refused> {
    let Config { limits, timeouts, .. } = &shared.config;
    let sniffed = sniff(client, limits.hello, timeouts.sniff).await?;
    report.sniffed = Some(report.started.elapsed());
    let wish = Wish::new(sniffed, port);
    report.asked = Some(wish.asked.clone());
    let voice = if wish.asked.via == Via::Tls { Voice::Alert } else { Voice::Http };
    let reached = tokio::time::timeout(timeouts.budget, reach(shared, wish, report)).await;
    let result = reached.unwrap_or_else(|_| Err(out_of_time(report, timeouts.budget)));
    let (server, way) = result.map_err(|error| Refused { error, voice })?;
    report.connected = Some(report.started.elapsed());
    if way.announce {
        client.write_all(ESTABLISHED).await.map_err(|error| Refused {
            error: Error::new(Kind::Silent, format_args!("the client went before its tunnel was there: {error}")),
            voice: Voice::Nobody,
        })?;
    }
    let plan = Plan { first: way.first, most: way.most, inspect: way.announce };
    Ok(Opened { server, plan })
}

/// From what is asked for to a server that has accepted.
async fn reach(shared: &Shared, wish: Wish, report: &mut Report) -> Result<(TcpStream, Way), Error> {
    let way = find_way(shared, wish, report).await?;
    let dialer = Dialer {
        discovery: &shared.discovery,
        connect: shared.config.timeouts.connect,
        listeners: &shared.listeners,
        source: source_address(report.from),
    };
    match dialer.dial(&way.servers, &mut report.tries).await {
        Some(server) => Ok((server, way)),
        None => Err(unreachable(report)),
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
            Ok(None) => {}
            Ok(Some((role, server))) => {
                report.row = Some(Row::Target);
                (report.role, report.source) = (Some(role.role.clone()), Some(Source::Target));
                return Ok(wish.to(server));
            }
            // To refuse it as foreign, and to advise to let it through, takes knowing that it is.
            Err(failure) if row == Row::Foreign && shared.config.foreign == Foreign::Refuse => {
                let asked = &wish.asked;
                let reason = format_args!("cannot tell whether {asked} is a Puppet server of this site: {failure}");
                return Err(Error::new(Kind::NoServers, reason));
            }
            Err(failure) => report.dns = Some(failure.to_string()),
        }
    }
    let Some(role) = role else { return foreign(&shared.config.foreign, wish, report) };
    report.role = Some(role.role.clone());
    if wish.asked.via == Via::Http {
        // Plain HTTP is never Puppet's own; it is for a web server of that name.
        let HostPort { host, port } = wish.host_port()?;
        report.source = Some(Source::Name);
        return Ok(wish.to(Srv { priority: 0, weight: 0, port, target: Some(host) }));
    }
    let found = discovery.servers(table, role, &wish.asked).await;
    report.source.clone_from(&found.source);
    report.dns = found.trouble();
    report.in_vain = found.in_vain();
    let servers = candidates(&found, role)?;
    Ok(wish.through(servers))
}

/// The servers of a role in the order in which to try them.
fn candidates(found: &Found, role: &RoleConfig) -> Result<Vec<Srv>, Error> {
    let servers = srv::order(&found.servers, &mut fastrand::Rng::new());
    if servers.is_empty() { Err(Error::new(Kind::NoServers, found.why_none(&role.role))) } else { Ok(servers) }
}

/// A name that is nobody's: by policy.
fn foreign(policy: &Foreign, wish: Wish, report: &mut Report) -> Result<Way, Error> {
    if wish.asked.via == Via::Tls {
        let Asked { host, port, .. } = &wish.asked;
        let what = match host {
            Some(host) => format!("{host} is no role's name and no current target"),
            None => "the connection carries no name (SNI)".into(),
        };
        return Err(Error::new(Kind::NoRoute, format_args!("{what}, and the listener's port {port} is no role's")));
    }
    let to = wish.host_port()?;
    match policy {
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
            Ok(Way { servers: vec![server], first, announce: false, most })
        }
    }
}

impl Wish {
    fn new(sniffed: Sniffed, port: u16) -> Self {
        let Sniffed { hello, bytes } = sniffed;
        let (via, host, port, request) = match hello {
            Hello::Tls { sni } => (Via::Tls, sni, port, None),
            Hello::Connect(to, request) => (Via::Connect, Some(to.host), to.port, Some(request)),
            Hello::Forward(to, request) => (Via::Http, Some(to.host), to.port, Some(request)),
        };
        let mut wish = Wish { asked: Asked { via, host, port }, bytes, request };
        if let (Via::Http, Some(request)) = (via, &wish.request) {
            // What follows the body is another request, and belongs into a connection of its own.
            wish.bytes.truncate(usize::try_from(request.body.unwrap_or(0)).unwrap_or(usize::MAX));
        }
        wish
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

    fn to(self, server: Srv) -> Way {
        self.through(vec![server])
    }

    fn through(mut self, servers: Vec<Srv>) -> Way {
        let most = self.most();
        let announce = self.asked.via == Via::Connect;
        let first = match (&self.request, self.host_port()) {
            (Some(request), Ok(to)) if self.asked.via == Via::Http => {
                let mut first = request.to_origin(&to);
                first.append(&mut self.bytes);
                first
            }
            _ => self.bytes,
        };
        Way { servers, first, announce, most }
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
    let kind = if !report.tries.is_empty() && report.tries.iter().all(|t| t.did.is_silence()) {
        Kind::TimedOut
    } else {
        Kind::Unreachable
    };
    let tried = describe(&report.tries);
    Error::new(kind, format_args!("no {} reachable: {tried}{}", what(report), report.in_vain))
}

fn out_of_time(report: &Report, budget: Duration) -> Error {
    let tried = describe(&report.tries);
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
