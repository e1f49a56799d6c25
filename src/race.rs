//! From candidates to a server that has answered.
//!
//! A TLS client says nothing after its hello until the server answers, so as long as nothing of a server's has been
//! forwarded the same hello can go to another one. Candidates are started one after the other, the next as soon as one
//! fails, or when one keeps us waiting (RFC 8305 in spirit); the first that has begun its handshake has won. A refusal,
//! a reset, an alert, silence before or after the connection is taken: all are but a candidate that is late or out.

mod answer;
mod listening;

use std::collections::VecDeque;
use std::future::poll_fn;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until};

use self::answer::{Answer, answer, first_word};
use self::listening::{Heard, Listening, has_gone};
use crate::check::Checker;
use crate::dial::{Dialer, Did, Try};
use crate::discovery::{Addresses, Discovery, NoAddress};
use crate::host::{Host, HostPort};
use crate::pool::{Candidate, Lineup, Pool};
use crate::sniff::is_replayable;

/// Attempts in flight at most, those older than [`SLOT`] not counted.
const WIDTH: usize = 3;

/// After so long an attempt goes on, but no longer keeps another from starting.
pub const SLOT: Duration = Duration::from_millis(1500);

/// Attempts in all, however many addresses DNS may have to offer.
const MOST: usize = 64;

/// Addresses of one server.
const ADDRESSES: usize = 8;

/// The answer to a CONNECT whose server has accepted. Any 2xx will do, and no body may follow.
const ESTABLISHED: &[u8] = b"HTTP/1.1 200 Connection established\r\n\r\n";

/// What it takes to find out who answers.
pub struct Race<'a> {
    /// Finds addresses.
    pub discovery: &'a Discovery,
    /// Connects.
    pub dialer: Dialer<'a>,
    /// Looks at the certificates of candidates that ask for it.
    pub checker: Option<Checker<'a>>,
    /// What is known of the servers.
    pub pool: &'a Mutex<Pool>,
    /// When to give up.
    pub deadline: Instant,
    /// How long a client that has been told of its tunnel may take to begin.
    pub sniff: Duration,
    /// Bytes of a `ClientHello` before it is taken for something else.
    pub limit: usize,
}

/// What is to be said to a server.
pub enum Opening {
    /// This hello, to as many as it takes.
    Hello(Vec<u8>),
    /// These bytes, to the first that accepts.
    Once(Vec<u8>),
    /// What the client says once it has been told that there is a tunnel.
    Connect {
        /// What it has said already.
        early: Vec<u8>,
        /// Whether a server that accepts must answer, too. Otherwise what follows is nobody's business.
        is_raced: bool,
    },
}

/// What became of the candidates.
#[derive(Debug, Default)]
pub struct Course {
    /// All that were tried, in the order in which they were started.
    pub tries: Vec<Try>,
    /// When the first of them accepted.
    pub accepted: Option<Instant>,
    /// The first whose addresses were older than they should be, and how old.
    pub stale: Option<String>,
}

/// A server, and where to go on with it.
pub struct Won {
    /// The connection.
    pub stream: TcpStream,
    /// Its place in [`Course::tries`].
    pub at: usize,
    /// What the server still has to be told.
    pub first: Vec<u8>,
    /// How many of the client's bytes it has been told already.
    pub sent: usize,
    /// What it has said already.
    pub answer: Vec<u8>,
    /// The name in the hello within a CONNECT.
    pub sni: Option<Host>,
}

/// Why there is none.
#[derive(Debug)]
pub struct Lost {
    /// What came to an end.
    pub why: Why,
    /// Whether the client has been told that there is a tunnel.
    pub announced: bool,
    /// The first alert, where a server sent one.
    pub alert: Option<[u8; 7]>,
}

/// What came to an end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// The candidates.
    NoneLeft,
    /// The time.
    OutOfTime,
    /// The client's patience.
    ClientGone(String),
}

/// What is known of what the client has to say.
enum Word {
    Awaited(Box<Listening>),
    Hello(Arc<[u8]>),
    Once(Vec<u8>),
}

/// What to start next.
enum Step {
    /// A server whose addresses have to be looked up.
    Server(Candidate),
    /// One more address of a server.
    Address(Candidate, IpAddr),
}

/// What happened to an attempt.
enum Event {
    Addresses(Candidate, Result<Addresses, NoAddress>),
    /// Its certificate lacks the name, or there was no looking at it.
    Checked(Candidate, IpAddr, Result<(), Did>),
    Connected(Result<TcpStream, Did>),
    Answer(Answer),
}

/// One attempt in flight; its place in [`Course::tries`].
struct Flight<'a> {
    at: usize,
    /// When it is given up, where it does not see to that itself. One timer for all costs less than one for each.
    until: Option<Instant>,
    future: Pin<Box<dyn Future<Output = Event> + Send + 'a>>,
}

impl Race<'_> {
    /// Runs it. `course` is kept up to date, so that whoever drops this knows what has been done.
    ///
    /// # Errors
    ///
    /// When no candidate has answered before the deadline, or the client has gone.
    pub async fn run(
        &self,
        client: &mut TcpStream,
        lineup: Lineup,
        opening: Opening,
        course: &mut Course,
    ) -> Result<Won, Lost> {
        let to_announce = matches!(opening, Opening::Connect { .. });
        let word = match opening {
            Opening::Hello(bytes) if is_replayable(&bytes) => Word::Hello(bytes.into()),
            Opening::Connect { early, is_raced: true } => Word::Awaited(Box::new(Listening::new(early, self.limit))),
            Opening::Hello(bytes) | Opening::Once(bytes) | Opening::Connect { early: bytes, .. } => Word::Once(bytes),
        };
        let mut run = Run {
            race: self,
            course,
            flights: Vec::new(),
            steps: lineup.candidates.into_iter().map(Step::Server).collect(),
            last_resort: lineup.last_resort,
            waiting: Vec::new(),
            word,
            to_announce,
            announced: false,
            next_at: Instant::now(),
            deadline: self.deadline,
            failed: None,
            alert: None,
            sni: None,
            unawaited: Arc::default(),
        };
        let result = run.go(client).await;
        run.settle();
        result.map_err(|why| Lost { why, announced: run.announced, alert: run.alert })
    }

    fn pool(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A race that is on.
struct Run<'r, 'a> {
    race: &'r Race<'a>,
    course: &'r mut Course,
    /// A handful, so all are looked at when one may have something to say.
    flights: Vec<Flight<'r>>,
    steps: VecDeque<Step>,
    last_resort: Vec<Candidate>,
    /// Servers that have accepted, while the client has not said its hello.
    waiting: Vec<(usize, TcpStream)>,
    word: Word,
    to_announce: bool,
    announced: bool,
    /// When the next one is started, if nothing happens before.
    next_at: Instant,
    deadline: Instant,
    /// Whose attempt failed last: its other addresses go next.
    failed: Option<HostPort>,
    alert: Option<[u8; 7]>,
    sni: Option<Host>,
    /// Whether the client has gone on without an answer to its hello.
    unawaited: Arc<AtomicBool>,
}

impl<'r> Run<'r, '_> {
    async fn go(&mut self, client: &mut TcpStream) -> Result<Won, Why> {
        let mut timer = pin!(sleep_until(self.deadline));
        let mut is_watched = true;
        loop {
            self.start_what_is_due();
            if self.is_at_its_end() {
                return Err(Why::NoneLeft);
            }
            let is_clients_turn = self.announced && matches!(self.word, Word::Awaited(_));
            let end = if is_clients_turn { self.silence_ends() } else { self.deadline };
            let bound = self.flights.iter().filter_map(|flight| flight.until).min();
            let wake = [self.next_start(), bound].into_iter().flatten().fold(end, Instant::min);
            if timer.deadline() != wake {
                timer.as_mut().reset(wake);
            }
            let watches = is_watched && matches!(self.word, Word::Hello(_));
            let won = tokio::select! {
                (at, event) = next(&mut self.flights), if !self.flights.is_empty() => self.land(at, event, client).await?,
                (nth, gone) = first_word(&self.waiting), if !self.waiting.is_empty() => self.waiting_has_spoken(nth, gone),
                heard = hear(&mut self.word, client), if is_clients_turn => match heard {
                    Heard::Gone(how) => return Err(Why::ClientGone(how)),
                    Heard::Hello(sni) => {
                        self.sni = sni;
                        self.client_has_spoken(true)
                    }
                    Heard::Other => self.client_has_spoken(false),
                },
                gone = has_gone(client), if watches => {
                    if gone {
                        return Err(Why::ClientGone("it closed".into()));
                    }
                    // A TLS client waits here. What does not is none, and has to do with the first that takes it.
                    is_watched = false;
                    self.unawaited.store(true, Ordering::Relaxed);
                    None
                }
                () = &mut timer => match wake {
                    wake if wake < end => {
                        self.give_up(wake);
                        None
                    }
                    // It may be waiting for the server to begin.
                    _ if is_clients_turn => self.client_has_spoken(false),
                    _ => return Err(Why::OutOfTime),
                },
            };
            if let Some(won) = won {
                return Ok(won);
            }
        }
    }

    /// Starts the next candidate, if it is time for it; those of last resort once nothing else is left.
    fn start_what_is_due(&mut self) {
        self.start_steps();
        if self.is_at_its_end() && !self.last_resort.is_empty() {
            self.steps.extend(self.last_resort.drain(..).map(Step::Server));
            self.start_steps();
        }
    }

    fn is_at_its_end(&self) -> bool {
        self.flights.is_empty() && self.waiting.is_empty() && self.steps.is_empty()
    }

    fn start_steps(&mut self) {
        if self.course.tries.len() >= MOST {
            self.steps.clear();
        }
        while self.next_start().is_some_and(|at| at <= Instant::now()) {
            let own = self.failed.take().and_then(|failed| {
                self.steps.iter().position(|step| matches!(step, Step::Address(c, _) if c.server == failed))
            });
            let Some(step) = self.steps.remove(own.unwrap_or(0)) else { return };
            let at = self.course.tries.len();
            let (Step::Server(candidate) | Step::Address(candidate, _)) = &step;
            let (server, now) = (candidate.server.clone(), Instant::now());
            self.course.tries.push(Try { server, addr: None, did: Did::NotFound, started: now, took: Duration::ZERO });
            match step {
                Step::Server(candidate) => self.look_up(at, candidate),
                Step::Address(candidate, ip) => self.connect(at, &candidate, ip),
            }
        }
    }

    /// When the next candidate may be started; `None`: there is none, or it is the client's turn.
    fn next_start(&self) -> Option<Instant> {
        if self.steps.is_empty() || matches!(self.word, Word::Awaited(_)) && !self.waiting.is_empty() {
            return None;
        }
        let now = Instant::now();
        let slots = self.course.tries.iter().filter(|t| t.did.is_pending()).map(|t| t.started + SLOT);
        let (taken, first_free) =
            slots.filter(|free| *free > now).fold((0, None), |(n, first): (usize, Option<Instant>), free| {
                (n + 1, Some(first.map_or(free, |f| f.min(free))))
            });
        match first_free {
            Some(free) if taken >= WIDTH => Some(self.next_at.max(free)),
            _ => Some(self.next_at),
        }
    }

    fn look_up(&mut self, at: usize, candidate: Candidate) {
        self.next_at = Instant::now() + self.race.pool().stagger(&candidate.server);
        let discovery = self.race.discovery;
        if let Some(addresses) = discovery.known_addresses(&candidate.server.host) {
            return self.addresses(at, &candidate, addresses.ips);
        }
        self.fly(at, None, async move {
            let addresses = discovery.addresses(&candidate.server.host).await;
            Event::Addresses(candidate, addresses)
        });
    }

    fn connect(&mut self, at: usize, candidate: &Candidate, ip: IpAddr) {
        let addr = SocketAddr::new(ip, candidate.server.port);
        let now = Instant::now();
        self.next_at = now + self.race.pool().stagger(&candidate.server);
        if let Some(entry) = self.course.tries.get_mut(at) {
            (entry.addr, entry.did, entry.started) = (Some(addr), Did::NotAnswer, now);
        }
        let race = self.race;
        match race.checker.filter(|_| candidate.check) {
            None => {
                let until = Some(now + race.dialer.connect);
                self.fly(at, until, async move { Event::Connected(race.dialer.open(addr).await) });
            }
            Some(checker) => {
                let candidate = candidate.clone();
                self.fly(at, None, async move {
                    let verdict = checker.check(&candidate.server, addr, &race.dialer).await;
                    Event::Checked(candidate, ip, verdict)
                });
            }
        }
    }

    /// Takes in what happened to an attempt. Gives the winner, if this is it.
    async fn land(&mut self, at: usize, event: Event, client: &mut TcpStream) -> Result<Option<Won>, Why> {
        match event {
            Event::Addresses(candidate, Ok(addresses)) => {
                if let Some(stale) = addresses.stale {
                    self.course.stale.get_or_insert_with(|| format!("{} {stale}", candidate.server.host));
                }
                self.addresses(at, &candidate, addresses.ips);
            }
            Event::Addresses(_, Err(why)) => self.fail(at, Did::NoAddress(why)),
            // Its own time begins now: what came before was for us to know.
            Event::Checked(candidate, ip, Ok(())) => self.connect(at, &Candidate { check: false, ..candidate }, ip),
            Event::Checked(candidate, _, Err(did)) => {
                if matches!(did, Did::Unnamed { .. }) {
                    // Worse than a dead one, but better than none.
                    self.steps.retain(|step| !matches!(step, Step::Address(c, _) if c.server == candidate.server));
                    self.last_resort.push(Candidate { check: false, ..candidate });
                }
                self.fail(at, did);
            }
            Event::Connected(Ok(stream)) => return self.accepted(at, stream, client).await,
            Event::Answer(Answer::Handshake(stream, answer)) => {
                return Ok(Some(self.win(at, Did::Answer, stream, answer)));
            }
            Event::Answer(Answer::Unawaited(stream, answer)) => {
                return Ok(Some(self.win(at, Did::Accept, stream, answer)));
            }
            Event::Answer(Answer::Alert(record)) => {
                self.alert.get_or_insert(record);
                self.fail(at, Did::Alert(answer::description(record)));
            }
            Event::Connected(Err(did)) | Event::Answer(Answer::Failed(did)) => self.fail(at, did),
        }
        Ok(None)
    }

    /// The first address of a server is tried at once. The others come after the next server's first where this one
    /// keeps us waiting, and before it where it fails.
    fn addresses(&mut self, at: usize, candidate: &Candidate, mut ips: Vec<IpAddr>) {
        let mut pending = self.course.tries.iter().rev().filter(|t| t.did.is_pending());
        let silent = pending.find_map(|t| t.addr).map(|addr| addr.ip());
        self.race.pool().sort_addresses(&mut ips, candidate.server.port, silent, Instant::now());
        let mut ips = ips.into_iter().take(ADDRESSES);
        let Some(first) = ips.next() else { return self.fail(at, Did::NoAddress(NoAddress::None)) };
        let behind = self.steps.len().min(1);
        for (n, ip) in ips.enumerate() {
            self.steps.insert(behind + n, Step::Address(candidate.clone(), ip));
        }
        self.connect(at, candidate, first);
    }

    async fn accepted(&mut self, at: usize, stream: TcpStream, client: &mut TcpStream) -> Result<Option<Won>, Why> {
        self.course.accepted.get_or_insert_with(Instant::now);
        if let Some(entry) = self.course.tries.get_mut(at) {
            (entry.did, entry.took) = (Did::Wait, entry.started.elapsed());
        }
        if std::mem::take(&mut self.to_announce) {
            client.write_all(ESTABLISHED).await.map_err(|error| Why::ClientGone(error.to_string()))?;
            self.announced = true;
            if let Word::Awaited(listening) = &mut self.word {
                listening.since = Instant::now();
            }
        }
        match &self.word {
            Word::Awaited(_) => self.waiting.push((at, stream)),
            Word::Once(_) => return Ok(Some(self.win(at, Did::Accept, stream, Vec::new()))),
            Word::Hello(hello) => self.ask(at, stream, hello.clone()),
        }
        Ok(None)
    }

    fn ask(&mut self, at: usize, stream: TcpStream, hello: Arc<[u8]>) {
        if let Some(entry) = self.course.tries.get_mut(at) {
            // What the client took to begin is not the server's time.
            entry.started = Instant::now().checked_sub(entry.took).unwrap_or(entry.started);
            entry.did = Did::Mute;
        }
        let unawaited = self.unawaited.clone();
        self.fly(at, None, async move { Event::Answer(answer(stream, hello, unawaited).await) });
    }

    fn fly(&mut self, at: usize, until: Option<Instant>, future: impl Future<Output = Event> + Send + 'r) {
        self.flights.push(Flight { at, until, future: Box::pin(future) });
    }

    /// Ends the attempts that have had their time.
    fn give_up(&mut self, now: Instant) {
        while let Some(n) = self.flights.iter().position(|flight| flight.until.is_some_and(|until| until <= now)) {
            let Flight { at, .. } = self.flights.swap_remove(n);
            self.fail(at, Did::TimeOut);
        }
    }

    /// A server that waits for the client's hello has said something itself, or done this.
    fn waiting_has_spoken(&mut self, nth: usize, did: Did) -> Option<Won> {
        let (at, stream) = self.waiting.remove(nth);
        let is_alone = self.course.tries.len() == 1 && self.steps.is_empty() && self.last_resort.is_empty();
        if matches!(did, Did::NotTls(_)) && is_alone {
            // No Puppet server speaks first. What is named by a URL, and is there alone, may be anything.
            return Some(self.win(at, Did::Accept, stream, Vec::new()));
        }
        self.fail(at, did);
        None
    }

    /// The client has said what it has to say within its CONNECT, or nothing for as long as it may.
    fn client_has_spoken(&mut self, is_hello: bool) -> Option<Won> {
        let Word::Awaited(listening) = &mut self.word else { return None };
        // It is not the servers that took this long.
        self.deadline += listening.since.elapsed();
        let bytes = std::mem::take(&mut listening.bytes);
        if is_hello && is_replayable(&bytes) {
            let hello: Arc<[u8]> = bytes.into();
            self.word = Word::Hello(hello.clone());
            for (at, stream) in std::mem::take(&mut self.waiting) {
                if let Some(entry) = self.course.tries.get_mut(at) {
                    self.next_at = Instant::now() + self.race.pool().stagger(&entry.server);
                }
                self.ask(at, stream, hello.clone());
            }
            return None;
        }
        self.word = Word::Once(bytes);
        let (at, stream) = (!self.waiting.is_empty()).then(|| self.waiting.remove(0))?;
        Some(self.win(at, Did::Accept, stream, Vec::new()))
    }

    /// The connection is this server's. A hello has been said to it; anything else is still to be, and to nobody but it.
    fn win(&mut self, at: usize, did: Did, stream: TcpStream, answer: Vec<u8>) -> Won {
        self.close(at, did);
        let (first, sent) = match &mut self.word {
            Word::Hello(hello) => (Vec::new(), hello.len()),
            Word::Once(bytes) => (std::mem::take(bytes), 0),
            Word::Awaited(listening) => (std::mem::take(&mut listening.bytes), 0),
        };
        Won { stream, at, first, sent, answer, sni: self.sni.take() }
    }

    fn fail(&mut self, at: usize, did: Did) {
        self.close(at, did);
        self.failed = self.course.tries.get(at).map(|t| t.server.clone());
        self.next_at = Instant::now();
    }

    fn close(&mut self, at: usize, did: Did) {
        if let Some(entry) = self.course.tries.get_mut(at) {
            if entry.did != Did::Wait {
                entry.took = entry.started.elapsed();
            }
            entry.did = did;
        }
    }

    /// Until when a client that has its tunnel may be silent.
    fn silence_ends(&self) -> Instant {
        match &self.word {
            Word::Awaited(listening) => listening.since + self.race.sniff,
            _ => self.deadline,
        }
    }

    /// What is still in flight has had so long.
    fn settle(&mut self) {
        for entry in self.course.tries.iter_mut().filter(|t| t.did.is_pending()) {
            entry.took = entry.started.elapsed();
        }
    }
}

/// Waits for the first of the attempts to which something happens.
async fn next(flights: &mut Vec<Flight<'_>>) -> (usize, Event) {
    poll_fn(|cx| {
        for n in 0..flights.len() {
            let Some(Flight { at, future, .. }) = flights.get_mut(n) else { break };
            if let Poll::Ready(event) = future.as_mut().poll(cx) {
                let at = *at;
                flights.swap_remove(n);
                return Poll::Ready((at, event));
            }
        }
        Poll::Pending
    })
    .await
}

/// Listens to a client whose turn it is.
async fn hear(word: &mut Word, client: &TcpStream) -> Heard {
    match word {
        Word::Awaited(listening) => listening.hear(client).await,
        _ => std::future::pending().await,
    }
}
