//! Carries bytes both ways, as they come.
//!
//! A tunnel that waits holds no buffer: all of them read into one scratch buffer of the thread, or where much comes at once
//! have the kernel move it through one pipe of the thread. Only what the other side does not take at once is kept. FIN and RST are passed on at once, each way for itself: a withheld one turns the
//! agent's clean reconnect into a failed request.

mod flow;
mod pipe;

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::task::{Context, Poll};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use self::flow::{Broken, Flow, Passed, SCRATCH};
pub use self::flow::{State, Way};
use crate::drain::{Speaker, Verdict, judge};
use crate::host::Host;
use crate::sniff::{Hello, Sniffer};
use crate::stop::Order;

/// Why a tunnel ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The client closed first, the server after it.
    ClientClosed,
    /// The server closed first, the client after it.
    ServerClosed,
    /// The client's connection broke.
    ClientBroke(io::ErrorKind),
    /// The server's connection broke.
    ServerBroke(io::ErrorKind),
    /// Neither said anything for so long.
    Idle(Duration),
    /// The daemon stops, and neither needs it any more.
    Stopped,
}

/// Why a tunnel carries no more, here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pause {
    /// It has ended.
    Ended(End),
    /// The daemon stops, and cannot wait for it any longer.
    Cut,
    /// It stands still, to go on in the next process.
    Parked,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End::ClientClosed => f.write_str("client closed"),
            End::ServerClosed => f.write_str("server closed"),
            // The agent closes with a session ticket unread: to the kernel that is a reset, to everybody else an
            // ordinary end.
            End::ClientBroke(io::ErrorKind::ConnectionReset) => f.write_str("client closed (reset)"),
            End::ClientBroke(kind) => write!(f, "client: {kind}"),
            End::ServerBroke(kind) => write!(f, "server: {kind}"),
            End::Idle(limit) => write!(f, "idle for {} s", limit.as_secs()),
            End::Stopped => f.write_str("idle, and puppet-shim stopped"),
        }
    }
}

/// What is known of a tunnel while it lives, and after.
#[derive(Debug, Default)]
pub struct Carried {
    /// Bytes that went to the server.
    pub up: u64,
    /// Bytes that went to the client.
    pub down: u64,
    /// The name in the client's hello inside the tunnel, once it has been seen (only where [`Plan::inspect`] asks for
    /// it).
    pub sni: Option<Host>,
}

/// How to begin.
#[derive(Debug, Default)]
pub struct Plan {
    /// For the server, ahead of everything else.
    pub first: Vec<u8>,
    /// For the client, ahead of everything else.
    pub answer: Vec<u8>,
    /// How many of the client's bytes still go to the server; `None`: all. A forwarded HTTP request ends, the
    /// connection does not.
    pub most: Option<u64>,
    /// Whether to look into the client's first bytes for a name.
    pub inspect: bool,
}

/// Both connections, and what is on its way between them.
pub struct Tunnel {
    client: TcpStream,
    server: TcpStream,
    up: Flow,
    down: Flow,
    sniffer: Option<Box<Sniffer>>,
    first_to_close: Option<End>,
    /// When something last went through.
    active: Instant,
    /// Who had said it.
    spoke: Speaker,
}

/// What is to be known of a tunnel that stands still, beside its sockets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parked {
    /// From the client to the server.
    pub up: Way,
    /// From the server to the client.
    pub down: Way,
    /// Whether the client closed first; `None`: nobody has.
    pub client_closed_first: Option<bool>,
    /// Whether the client said something last.
    pub client_spoke: bool,
}

impl Tunnel {
    /// Between these two.
    pub fn new(client: TcpStream, server: TcpStream, plan: Plan, carried: &mut Carried) -> Self {
        carried.up += plan.first.len() as u64;
        carried.down += plan.answer.len() as u64;
        let mut sniffer = plan.inspect.then(|| Box::new(Sniffer::new(SCRATCH)));
        carried.inspect(&mut sniffer, &plan.first);
        let spoke = if plan.answer.is_empty() { Speaker::Client } else { Speaker::Server };
        let (up, down) = (Flow::new(plan.first, plan.most), Flow::new(plan.answer, None));
        Tunnel { client, server, up, down, sniffer, first_to_close: None, active: Instant::now(), spoke }
    }

    /// One that has stood still. `held`: the bytes of each way, up and down.
    pub fn resume(
        client: TcpStream,
        server: TcpStream,
        parked: &Parked,
        held: (Vec<u8>, Vec<u8>),
        active: Instant,
    ) -> Self {
        let closed_first = |client| if client { End::ClientClosed } else { End::ServerClosed };
        Tunnel {
            client,
            server,
            up: Flow::resume(&parked.up, held.0),
            down: Flow::resume(&parked.down, held.1),
            // It was only for the log, which may do without.
            sniffer: None,
            first_to_close: parked.client_closed_first.map(closed_first),
            active,
            spoke: if parked.client_spoke { Speaker::Client } else { Speaker::Server },
        }
    }

    /// When something last went through.
    pub fn active(&self) -> Instant {
        self.active
    }

    /// Its sockets, client and server, and what it takes to go on with them: with the bytes that wait, up and down.
    pub fn into_parts(self) -> io::Result<(OwnedFd, OwnedFd, Parked, [Vec<u8>; 2])> {
        let (up, up_held) = self.up.into_way();
        let (down, down_held) = self.down.into_way();
        let client_closed_first = self.first_to_close.map(|end| end == End::ClientClosed);
        let parked = Parked { up, down, client_closed_first, client_spoke: self.spoke == Speaker::Client };
        Ok((self.client.into_std()?.into(), self.server.into_std()?.into(), parked, [up_held, down_held]))
    }

    /// Carries bytes until both sides have closed, one has broken, neither has said anything for `idle`, or there is
    /// another order than to go on. `patience`: how long it has to be silent before closing it harms nobody.
    pub async fn carry(
        &mut self,
        idle: Duration,
        patience: Duration,
        orders: &mut watch::Receiver<Order>,
        carried: &mut Carried,
    ) -> Pause {
        let mut timer = pin!(sleep_until(self.active + idle));
        loop {
            let order = *orders.borrow_and_update();
            let news = orders.clone();
            let mut wake = pin!(orders.changed());
            let mut is_known = false;
            let step = poll_fn(|cx| {
                if !is_known {
                    // Once is enough: it is always the same task that is woken. From here on a flag tells of news, which
                    // costs a read nothing.
                    is_known = wake.as_mut().poll(cx).is_pending();
                }
                if let Poll::Ready(end) = self.copy(cx, carried) {
                    return Poll::Ready(Some(Pause::Ended(end)));
                }
                if order == Order::HandOver {
                    return Poll::Ready(Some(Pause::Parked));
                }
                if !is_known || news.has_changed().unwrap_or(false) {
                    return Poll::Ready(None);
                }
                let mut deadline = self.active + idle;
                if let Order::Drain { until } = order {
                    let now = Instant::now();
                    match judge(self.spoke, now - self.active, patience, until - now) {
                        Verdict::Close => return Poll::Ready(Some(Pause::Ended(End::Stopped))),
                        Verdict::Cut => return Poll::Ready(Some(Pause::Cut)),
                        Verdict::Wait(rest) => deadline = deadline.min(now + rest),
                    }
                    timer.as_mut().reset(deadline);
                }
                while timer.as_mut().poll(cx).is_ready() {
                    if self.active + idle <= Instant::now() {
                        return Poll::Ready(Some(Pause::Ended(End::Idle(idle))));
                    }
                    if order != Order::GoOn {
                        // It is to be judged again.
                        cx.waker().wake_by_ref();
                        break;
                    }
                    timer.as_mut().reset(self.active + idle);
                }
                Poll::Pending
            });
            if let Some(pause) = step.await {
                return pause;
            }
        }
    }

    /// Moves what can be moved. Ready: that was all.
    fn copy(&mut self, cx: &mut Context<'_>, carried: &mut Carried) -> Poll<End> {
        let Tunnel { client, server, up, down, sniffer, first_to_close, .. } = self;
        let before = (carried.up, carried.down);
        let upward = up.poll(cx, client, server, sniffer.is_some(), |passed| {
            carried.up += passed.len();
            if let Passed::Bytes(bytes) = passed {
                carried.inspect(sniffer, bytes);
            }
        });
        match upward {
            Poll::Ready(Err(Broken::Source(kind))) => {
                reset(server);
                return Poll::Ready(End::ClientBroke(kind));
            }
            Poll::Ready(Err(Broken::Sink(kind))) => {
                down.source_broke = Some(kind);
                *first_to_close = first_to_close.or(Some(End::ServerClosed));
            }
            _ if up.state != State::Open => *first_to_close = first_to_close.or(Some(End::ClientClosed)),
            _ => {}
        }
        let downward = down.poll(cx, server, client, false, |passed| carried.down += passed.len());
        match downward {
            Poll::Ready(Err(Broken::Source(kind))) => {
                reset(client);
                return Poll::Ready(End::ServerBroke(kind));
            }
            Poll::Ready(Err(Broken::Sink(kind))) => {
                up.source_broke = Some(kind);
                *first_to_close = first_to_close.or(Some(End::ClientClosed));
                // It may have been waiting for a source that will say no more.
                cx.waker().wake_by_ref();
            }
            _ if down.state != State::Open => *first_to_close = first_to_close.or(Some(End::ServerClosed)),
            _ => {}
        }
        let up_done = up.state == State::Done || up.has_sent_all();
        if let (true, true, Some(end)) = (up_done, down.state == State::Done, *first_to_close) {
            return Poll::Ready(end);
        }
        if (carried.up, carried.down) != before {
            // Where both did, what the client said may be a request.
            self.spoke = if carried.up == before.0 { Speaker::Server } else { Speaker::Client };
            self.active = Instant::now();
        }
        Poll::Pending
    }
}

impl Carried {
    /// Shows the client's next bytes to the sniffer, until it has seen enough.
    fn inspect(&mut self, sniffer: &mut Option<Box<Sniffer>>, bytes: &[u8]) {
        let Some(mut looking) = sniffer.take() else { return };
        match looking.push(bytes) {
            Ok(None) => *sniffer = Some(looking),
            Ok(Some(Hello::Tls { sni })) => self.sni = sni,
            Ok(Some(_)) | Err(_) => {}
        }
    }
}

/// Makes the coming close a reset: the peer is to see what we have seen.
fn reset(socket: &TcpStream) {
    // A socket that is gone already needs no reset.
    let _ = socket.set_zero_linger();
}
