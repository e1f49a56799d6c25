//! A site and its clock, without a socket: servers that do what a schedule says, connections that are raced over them
//! as `src/race.rs` does it, and the pool that learns from that.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::ControlFlow;
use std::time::{Duration, SystemTime};

use puppet_shim::config::Balance;
use puppet_shim::dial::{Did, Try};
use puppet_shim::discovery::srv::Srv;
use puppet_shim::host::HostPort;
use puppet_shim::memory;
use puppet_shim::pick::{self, Pick};
use puppet_shim::pin::Set;
use puppet_shim::pool::{Candidate, Lineup, Pool, Wanted};
use puppet_shim::race::SLOT;
use puppet_shim::role::Role;
use tokio::time::Instant;

/// `WIDTH` of `src/race.rs`.
const WIDTH: usize = 3;
/// `timeouts.budget`, `timeouts.connect` and `timeouts.pin`, as they are by default.
pub(crate) const BUDGET: Duration = Duration::from_secs(15);
const CONNECT: Duration = Duration::from_secs(2);
pub(crate) const PIN: Duration = Duration::from_secs(300);

/// What a server does, from some moment on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum State {
    /// It answers, in its usual time or a little more or less.
    Up,
    /// It answers, in this time.
    Slow(Duration),
    /// It refuses.
    Refusing,
    /// Nothing comes from it: packets are dropped.
    Silent,
    /// It accepts and says nothing.
    Mute,
    /// It answers with an alert.
    Alerting,
    /// It is up for so long, then refuses for so long, and so on.
    Flapping(Duration),
}

/// A server.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub(crate) name: HostPort,
    pub(crate) ips: Vec<IpAddr>,
    pub(crate) priority: u16,
    pub(crate) weight: u16,
    /// How long it takes to answer when it is up.
    pub(crate) usual: Duration,
    /// What it does from which moment on, in order; before the first, it is up.
    pub(crate) schedule: Vec<(Duration, State)>,
}

impl Server {
    pub(crate) fn new(n: u8, priority: u16, weight: u16, usual: Duration) -> Self {
        Server {
            name: HostPort { host: format!("s{n}.test").parse().unwrap(), port: 8140 },
            ips: vec![Ipv4Addr::new(192, 0, 2, n).into()],
            priority,
            weight,
            usual,
            schedule: Vec::new(),
        }
    }

    /// The same with an IPv6 address in front.
    pub(crate) fn with_ipv6(mut self) -> Self {
        let IpAddr::V4(v4) = self.ips[0] else { panic!("it has one already") };
        self.ips.insert(0, Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, v4.octets()[3].into()).into());
        self
    }

    /// What it does at a moment, flapping resolved.
    pub(crate) fn state(&self, at: Duration) -> State {
        match self.schedule.iter().rev().find(|(from, _)| *from <= at) {
            None => State::Up,
            Some((from, State::Flapping(period))) => {
                let nth = at.saturating_sub(*from).as_millis() / period.as_millis();
                if nth.is_multiple_of(2) { State::Up } else { State::Refusing }
            }
            Some((_, state)) => *state,
        }
    }

    /// Whether it is in this state from one moment to another.
    pub(crate) fn stays(&self, state: State, from: Duration, to: Duration) -> bool {
        let changes = self.schedule.iter().any(|(at, _)| (from..=to).contains(at));
        let flaps = |at| {
            let last = self.schedule.iter().rev().find(|(from, _)| *from <= at);
            last.is_some_and(|(_, state)| matches!(state, State::Flapping(_)))
        };
        !changes && !flaps(from) && self.state(from) == state
    }

    fn record(&self) -> Srv {
        let Server { name, priority, weight, .. } = self;
        Srv { priority: *priority, weight: *weight, port: name.port, target: Some(name.host.clone()) }
    }
}

/// The site and the host.
pub(crate) struct World {
    pub(crate) servers: Vec<Server>,
    /// From when to when no packet of IPv6 gets through.
    pub(crate) ipv6_is_dead: std::ops::Range<Duration>,
    pub(crate) pool: Pool,
    pub(crate) now: Duration,
    pub(crate) rng: fastrand::Rng,
    set: Set,
    role: Role,
    start: Instant,
    pin: Duration,
    active: Vec<Connection>,
    /// When which tunnel is closed.
    closing: Vec<(Duration, HostPort)>,
}

/// What there is to say of a connection at its end.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    pub(crate) started: Duration,
    pub(crate) ended: Duration,
    /// Who got it; `None`: nobody.
    pub(crate) server: Option<HostPort>,
    /// How much longer it took than that server alone.
    pub(crate) added: Duration,
    pub(crate) before: Before,
    pub(crate) tries: Vec<Try>,
}

/// What was known when it began.
#[derive(Clone, Debug)]
pub(crate) struct Before {
    /// The server of the run, if it had one that was well.
    pub(crate) pinned: Option<HostPort>,
    /// In the order in which they were to be tried.
    pub(crate) lineup: Vec<HostPort>,
    /// Of those, the ones with something against them, and whether that still counted.
    pub(crate) trouble: Vec<(HostPort, bool)>,
    /// The head start of the first.
    pub(crate) stagger: Duration,
}

impl Before {
    /// Whether there is nothing against it.
    pub(crate) fn is_free(&self, server: &HostPort) -> bool {
        self.trouble.iter().all(|(other, _)| other != server)
    }
}

impl World {
    pub(crate) fn new(servers: Vec<Server>, pin: Duration, seed: u64) -> Self {
        let set = Set::from_servers(servers.iter().map(|server| server.name.clone()).collect());
        World {
            servers,
            ipv6_is_dead: Duration::ZERO..Duration::ZERO,
            pool: Pool::new(pin).seeded(seed),
            now: Duration::ZERO,
            rng: fastrand::Rng::with_seed(!seed),
            set,
            role: Role::new("compile"),
            start: Instant::now(),
            pin,
            active: Vec::new(),
            closing: Vec::new(),
        }
    }

    pub(crate) fn instant(&self) -> Instant {
        self.start + self.now
    }

    pub(crate) fn server(&self, name: &HostPort) -> &Server {
        self.servers.iter().find(|server| server.name == *name).unwrap()
    }

    /// The daemon is restarted: only what it has written down is left. Whoever was connected is not.
    pub(crate) fn restart(&mut self, seed: u64) {
        let (now, wall) = (self.instant(), SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000) + self.now);
        let json = memory::to_json(&self.pool, &memory::Learnt::default(), now, wall).unwrap();
        self.pool = Pool::new(self.pin).seeded(seed);
        memory::restore(&json, &mut self.pool, now, wall).unwrap();
        self.active.clear();
        self.closing.clear();
    }

    /// A connection comes at that moment, and its tunnel is open for so long. Gives what has ended before.
    pub(crate) fn connect(&mut self, at: Duration, open: Duration) -> Vec<Outcome> {
        let ended = self.run_until(at);
        let now = self.instant();
        let records: Vec<_> = self.servers.iter().map(Server::record).collect();
        let pick = Pick { balance: Balance::Srv, prefer: &[], key: "" };
        let order = pick::order(&records, &pick, self.pool.rng());
        let is_in_trouble = |server: &HostPort| self.pool.servers.trouble(server).is_some();
        let pinned = self.pool.pins.get(&self.role, &self.set, now).filter(|pinned| {
            // As the pool has it.
            self.pool.servers.trouble(pinned).is_none()
        });
        let pinned = pinned.cloned();
        let trouble = self.servers.iter().map(|server| &server.name).filter(|name| is_in_trouble(name));
        let rank = |name: &HostPort| self.pool.servers.rank(name, now) != puppet_shim::health::Rank::Good;
        let trouble = trouble.map(|name| (name.clone(), rank(name))).collect();
        let wanted = Wanted { role: Some(&self.role), name: None };
        let Lineup { candidates, last_resort, .. } = self.pool.line_up(order, &self.set, wanted, now);
        assert!(last_resort.is_empty());
        let lineup: Vec<_> = candidates.iter().map(|candidate| candidate.server.clone()).collect();
        let stagger = self.pool.stagger(&lineup[0]);
        self.active.push(Connection {
            started: self.now,
            steps: candidates.into_iter().map(Step::Server).collect(),
            flights: Vec::new(),
            next_at: self.now,
            failed: None,
            open,
            before: Before { pinned, lineup, trouble, stagger },
        });
        ended
    }

    /// Lets time pass. Gives the connections that have ended.
    pub(crate) fn run_until(&mut self, end: Duration) -> Vec<Outcome> {
        let mut ended = Vec::new();
        loop {
            let closing = self.closing.iter().map(|(at, _)| *at);
            let waking = self.active.iter().map(Connection::wake);
            let Some(next) = closing.chain(waking).min().filter(|next| *next <= end) else { break };
            assert!(next >= self.now, "time goes back");
            self.now = next;
            if let Some(at) = self.closing.iter().position(|(at, _)| *at == next) {
                let (_, server) = self.closing.swap_remove(at);
                let now = self.instant();
                self.pool.pins.close(&server, now);
            } else if let Some(at) = self.active.iter().position(|connection| connection.wake() == next) {
                let mut connection = self.active.remove(at);
                match self.advance(&mut connection) {
                    ControlFlow::Break(won) => ended.push(self.end(connection, won)),
                    ControlFlow::Continue(()) => self.active.push(connection),
                }
            }
        }
        self.now = end;
        ended
    }

    /// All that is due of one connection. Breaks with the place of the winner, or with none where there is none.
    fn advance(&mut self, connection: &mut Connection) -> ControlFlow<Option<usize>> {
        let now = self.now;
        for (at, flight) in connection.flights.iter_mut().enumerate() {
            if flight.accepts.take_if(|accepts| *accepts <= now).is_some() {
                flight.tried.did = Did::Mute;
            }
            let Some((_, did)) = flight.ends.take_if(|(ends, _)| *ends <= now) else { continue };
            flight.tried.took = now.saturating_sub(flight.started);
            flight.tried.did = did.clone();
            if did == Did::Answer {
                return ControlFlow::Break(Some(at));
            }
            connection.failed = Some(flight.tried.server.clone());
            connection.next_at = now;
        }
        while connection.next_start(now).is_some_and(|at| at <= now) {
            let failed = connection.failed.take();
            let own = connection
                .steps
                .iter()
                .position(|step| matches!(step, Step::Address(s, _) if Some(s) == failed.as_ref()));
            let Some(step) = connection.steps.remove(own.unwrap_or(0)) else { break };
            let (server, ip) = match step {
                Step::Server(candidate) => {
                    let mut ips = self.server(&candidate.server).ips.clone();
                    let pending = connection.flights.iter().rev().find(|flight| flight.tried.did.is_pending());
                    let silent = pending.and_then(|flight| flight.tried.addr).map(|addr| addr.ip());
                    self.pool.sort_addresses(&mut ips, candidate.server.port, silent, self.instant());
                    let behind = connection.steps.len().min(1);
                    for (n, ip) in ips[1..].iter().enumerate() {
                        connection.steps.insert(behind + n, Step::Address(candidate.server.clone(), *ip));
                    }
                    (candidate.server, ips[0])
                }
                Step::Address(server, ip) => (server, ip),
            };
            connection.next_at = now + self.pool.stagger(&server);
            let flight = self.attempt(server, ip);
            connection.flights.push(flight);
        }
        let none_left = connection.steps.is_empty() && connection.flights.iter().all(|f| !f.tried.did.is_pending());
        if none_left || now >= connection.started + BUDGET {
            ControlFlow::Break(None)
        } else {
            ControlFlow::Continue(())
        }
    }

    /// What will become of an attempt that starts now.
    fn attempt(&mut self, server: HostPort, ip: IpAddr) -> Flight {
        let of = self.server(&server).clone();
        let (now, ms) = (self.now, Duration::from_millis(1));
        let is_dead = ip.is_ipv6() && self.ipv6_is_dead.contains(&now);
        let (accepts, ends) = match of.state(now) {
            _ if is_dead => (None, Some((CONNECT, Did::TimeOut))),
            State::Up => (Some(of.usual / 3), Some((of.usual.mul_f64(0.9 + 0.2 * self.rng.f64()), Did::Answer))),
            State::Slow(took) => (Some(ms), Some((took, Did::Answer))),
            State::Refusing => (None, Some((ms, Did::Refuse))),
            State::Silent => (None, Some((CONNECT, Did::TimeOut))),
            State::Mute => (Some(ms), None),
            State::Alerting => (Some(ms), Some((5 * ms, Did::Alert(40)))),
            State::Flapping(_) => unreachable!("it is up, or refuses"),
        };
        let addr = Some(SocketAddr::new(ip, server.port));
        let tried = Try { server, addr, did: Did::NotAnswer, started: self.instant(), took: Duration::ZERO };
        Flight { started: now, tried, accepts: accepts.map(|a| now + a), ends: ends.map(|(at, did)| (now + at, did)) }
    }

    /// What was done is learnt, and a tunnel is opened.
    fn end(&mut self, connection: Connection, won: Option<usize>) -> Outcome {
        let Connection { started, flights, open, before, .. } = connection;
        let now = self.instant();
        let tries: Vec<_> = flights
            .into_iter()
            .map(|Flight { mut tried, started, .. }| {
                if tried.did.is_pending() {
                    tried.took = self.now.saturating_sub(started);
                }
                tried
            })
            .collect();
        self.pool.learn(&tries, now);
        let won = won.map(|at| tries[at].clone());
        if let Some(won) = &won
            && self.servers.len() > 1
        {
            self.pool.open(&self.role, &self.set, &won.server, false, now);
            self.closing.push((self.now + open, won.server.clone()));
        }
        let added = won.as_ref().map_or(BUDGET, |won| self.now.saturating_sub(started + won.took));
        Outcome { started, ended: self.now, server: won.map(|won| won.server), added, before, tries }
    }
}

/// A connection that is not answered yet: `Run` of `src/race.rs`.
struct Connection {
    started: Duration,
    steps: VecDeque<Step>,
    flights: Vec<Flight>,
    next_at: Duration,
    failed: Option<HostPort>,
    open: Duration,
    before: Before,
}

enum Step {
    Server(Candidate),
    Address(HostPort, IpAddr),
}

struct Flight {
    started: Duration,
    tried: Try,
    accepts: Option<Duration>,
    ends: Option<(Duration, Did)>,
}

impl Connection {
    /// When something is due.
    fn wake(&self) -> Duration {
        let flights = self.flights.iter().flat_map(|f| f.accepts.into_iter().chain(f.ends.iter().map(|(at, _)| *at)));
        let next = self.next_start(Duration::MAX).map(|_| self.next_at_most());
        flights.chain(next).chain([self.started + BUDGET]).min().unwrap()
    }

    /// When the next one would be started, were nothing to happen before.
    fn next_at_most(&self) -> Duration {
        let mut at = self.next_at;
        loop {
            match self.next_start(at) {
                Some(later) if later > at => at = later,
                _ => return at,
            }
        }
    }

    fn next_start(&self, now: Duration) -> Option<Duration> {
        if self.steps.is_empty() {
            return None;
        }
        let pending = self.flights.iter().filter(|flight| flight.tried.did.is_pending());
        let taken: Vec<_> =
            pending.map(|flight| flight.started.saturating_add(SLOT)).filter(|free| *free > now).collect();
        match taken.iter().min() {
            Some(free) if taken.len() >= WIDTH => Some(self.next_at.max(*free)),
            _ => Some(self.next_at),
        }
    }
}
