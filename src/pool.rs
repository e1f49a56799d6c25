//! What is known of the servers, and the order that follows from it. No io, and the clock is an argument.
//!
//! SRV says in which order servers are to be tried; what they did lately, whose certificate has the name, and where the
//! agent's run is already, say which of them go before others.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::time::Instant;

use crate::dial::{Did, Try};
use crate::discovery::srv::Srv;
use crate::health::{Flip, Health, Judgement, Rank};
use crate::host::{Host, HostPort};
use crate::pin::{Pins, Set};
use crate::role::Role;
use crate::verdict::{Verdict, Verdicts};

/// Everything that is remembered from one connection to the next.
#[derive(Clone, Debug)]
pub struct Pool {
    /// Servers, by the name that discovery gave them.
    pub servers: Health<HostPort>,
    /// Their addresses: one family may be dead where the other works.
    pub addresses: Health<SocketAddr>,
    /// Where runs stay.
    pub pins: Pins,
    /// Whose certificate has which name.
    pub verdicts: Verdicts,
    rng: fastrand::Rng,
    /// Whether something has changed that is worth writing down.
    changed: bool,
}

/// Who wants to go where.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// The role; `None`: one certain server is meant.
    pub role: Option<&'a Role>,
    /// The name that the agent will look for in the certificate; `None`: not known, or not to be looked at.
    pub name: Option<&'a Host>,
}

/// One server to try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Which.
    pub server: HostPort,
    /// Whether its certificate has to be looked at first.
    pub check: bool,
}

/// The servers to try, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lineup {
    /// In this order.
    pub candidates: VecDeque<Candidate>,
    /// Their certificates lack the name: only when all others have failed.
    pub last_resort: Vec<Candidate>,
    /// Its certificate is to be looked at while the connection goes elsewhere, or there without waiting for that.
    pub beside: Option<HostPort>,
    /// Whether a pin put the first in its place.
    pub is_pinned: bool,
    /// Whether the set is pinned to a server that this connection cannot use.
    pub keep_pin: bool,
}

impl Pool {
    /// Nothing is known yet. `pin`: how long a run stays with a server after its last tunnel.
    pub fn new(pin: Duration) -> Self {
        Pool {
            servers: Health::default(),
            addresses: Health::default(),
            pins: Pins::new(pin),
            verdicts: Verdicts::default(),
            rng: fastrand::Rng::new(),
            changed: false,
        }
    }

    /// The same with chosen luck, for tests.
    #[must_use]
    pub fn seeded(mut self, seed: u64) -> Self {
        self.rng = fastrand::Rng::with_seed(seed);
        self
    }

    /// The generator that everything here draws from.
    pub fn rng(&mut self) -> &mut fastrand::Rng {
        &mut self.rng
    }

    /// Whether the set's next connection starts a new run, as far as one can tell.
    pub fn is_unpinned(&mut self, role: &Role, set: &Set, now: Instant) -> bool {
        self.pinned(role, set, now).is_none()
    }

    /// The order in which to try the servers of a set. `order`: as SRV and the settings have it.
    ///
    /// What is down comes last, what is slow before it, what may be up again before that, and if all are, then nothing is
    /// left out all the same. One of those that may be up again is tried in its old place, by one connection at a time.
    /// The server of the run that is under way comes first, unless it is one of these.
    pub fn line_up(&mut self, order: Vec<Srv>, set: &Set, wanted: Wanted<'_>, now: Instant) -> Lineup {
        let mut servers: Vec<(HostPort, u16)> = order
            .into_iter()
            .filter_map(|record| Some((HostPort { host: record.target?, port: record.port }, record.priority)))
            .collect();
        // One server may have several records, or be written twice.
        for n in (1..servers.len()).rev() {
            if servers[..n].iter().any(|(server, _)| *server == servers[n].0) {
                servers.remove(n);
            }
        }
        if let [(server, _)] = servers.as_slice() {
            // There is nothing to choose: what is wrong with its certificate is worth knowing, but not waiting for.
            let unknown = wanted.name.is_some_and(|name| self.verdicts.get(server, name, now).is_none());
            let beside = unknown.then(|| server.clone());
            let candidates = [Candidate { server: server.clone(), check: false }].into();
            return Lineup { candidates, beside, ..Lineup::default() };
        }
        let pinned = wanted.role.and_then(|role| self.pinned(role, set, now));
        let trial = self.to_be_tried_again(&servers, now);
        let standing = |server: &HostPort| {
            let is_doubtful = trial.as_ref() != Some(server) && self.servers.doubtful(server, now).is_some();
            (self.servers.rank(server, now), is_doubtful)
        };
        servers.sort_by_key(|(server, _)| standing(server));
        let mut lineup = Lineup::default();
        if let Some(at) = pinned.and_then(|pinned| servers.iter().position(|(server, _)| *server == pinned)) {
            servers[..=at].rotate_right(1);
            lineup.is_pinned = true;
        }
        let verdict = |server: &HostPort| wanted.name.and_then(|name| self.verdicts.get(server, name, now));
        if wanted.name.is_some() {
            let is_named = |server: &HostPort| verdict(server) == Some(&Verdict::Named);
            if lineup.is_pinned && servers.first().is_some_and(|(server, _)| is_unnamed(verdict(server))) {
                (lineup.is_pinned, lineup.keep_pin) = (false, true);
            }
            servers.retain(|(server, _)| {
                let out = is_unnamed(verdict(server));
                if out {
                    lineup.last_resort.push(Candidate { server: server.clone(), check: false });
                }
                !out
            });
            if let Some((first, priority)) = servers.first().cloned().filter(|(server, _)| verdict(server).is_none()) {
                let is_as_good = |server| standing(server) == standing(&first);
                let instead = servers
                    .iter()
                    .position(|(server, other)| *other == priority && is_as_good(server) && is_named(server));
                if let Some(at) = instead.filter(|_| !lineup.is_pinned) {
                    servers[..=at].rotate_right(1);
                    lineup.beside = Some(first);
                }
            }
        }
        lineup.candidates = servers
            .into_iter()
            .map(|(server, _)| {
                let check = wanted.name.is_some() && verdict(&server).is_none();
                Candidate { server, check }
            })
            .collect();
        if let Some(trial) = trial.filter(|trial| lineup.candidates.front().is_some_and(|first| first.server == *trial))
        {
            self.servers.try_again(&trial, now);
        }
        lineup
    }

    /// How long to wait for a server's answer before another one is started too.
    pub fn stagger(&self, server: &HostPort) -> Duration {
        self.servers.stagger(server)
    }

    /// Puts the addresses of a server in the order in which to try them: those that have answered before those that
    /// are unknown, and those with anything against them last. `silent`: the family of an attempt that has not been
    /// answered yet; the other one goes before it, since it may be the family that is dead.
    pub fn sort_addresses(&self, ips: &mut [IpAddr], port: u16, silent: Option<IpAddr>, now: Instant) {
        if ips.len() < 2 {
            return;
        }
        let same_family = |ip: &IpAddr| silent.is_some_and(|silent| silent.is_ipv4() == ip.is_ipv4());
        ips.sort_by_key(|ip| {
            let addr = SocketAddr::new(*ip, port);
            (self.addresses.rank(&addr, now), same_family(ip), !self.addresses.has_answered(&addr))
        });
    }

    /// Learns from a connection's attempts. Gives the flips of servers, to be told once.
    pub fn learn(&mut self, tries: &[Try], now: Instant) -> Vec<Flip<HostPort>> {
        let winner = tries.iter().find(|t| matches!(t.did, Did::Accept | Did::Answer));
        let mut flips = Vec::new();
        for t in tries {
            let (Some(addr), Some(judgement)) = (t.addr, judge(t, winner)) else { continue };
            self.changed |= self.addresses.judge(&addr, judgement, now, &mut self.rng).is_some();
        }
        for (at, t) in tries.iter().enumerate() {
            if tries[..at].iter().any(|earlier| earlier.server == t.server) {
                continue;
            }
            let Some(judgement) = judge_server(&t.server, &tries[at..], winner) else { continue };
            flips.extend(self.servers.judge(&t.server, judgement, now, &mut self.rng));
        }
        self.changed |= !flips.is_empty();
        flips
    }

    /// A server was silent where another one was not, without a connection of the agent's.
    pub fn outrun(&mut self, server: &HostPort, cause: &str, now: Instant) -> Option<Flip<HostPort>> {
        let flip = self.servers.judge(server, Judgement::Outrun(cause.into()), now, &mut self.rng);
        self.changed |= flip.is_some();
        flip
    }

    /// Remembers whether a server's certificate has a name. Gives whether that is news.
    pub fn conclude(&mut self, server: &HostPort, asked: &Host, verdict: Verdict, now: Instant) -> bool {
        self.changed = true;
        self.verdicts.put(server, asked, verdict, now)
    }

    /// A tunnel to this server has been opened.
    pub fn open(&mut self, role: &Role, set: &Set, server: &HostPort, keep_pin: bool, now: Instant) {
        self.changed |= self.pins.get(role, set, now) != Some(server);
        self.pins.open(role, set, server, keep_pin, now);
    }

    /// Whether there is something to write down, asked once.
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// The one server that may be up again and goes before those that have nothing against them, if there are any: a
    /// connection pays for one trial at most. The one that has waited longest, so that each has its turn.
    fn to_be_tried_again(&self, servers: &[(HostPort, u16)], now: Instant) -> Option<HostPort> {
        let free = servers.iter().position(|(server, _)| self.servers.trouble(server).is_none())?;
        let before =
            servers[..free].iter().filter_map(|(server, _)| Some((self.servers.doubtful(server, now)?, server)));
        before.min_by_key(|(since, _)| *since).map(|(_, server)| server.clone())
    }

    /// The server that a run is to stay with, if it is well.
    fn pinned(&mut self, role: &Role, set: &Set, now: Instant) -> Option<HostPort> {
        let server = self.pins.get(role, set, now)?;
        (self.servers.rank(server, now) == Rank::Good && self.servers.trouble(server).is_none()).then(|| server.clone())
    }
}

fn is_unnamed(verdict: Option<&Verdict>) -> bool {
    matches!(verdict, Some(Verdict::Unnamed { .. }))
}

/// What one attempt says of its address.
fn judge(t: &Try, winner: Option<&Try>) -> Option<Judgement> {
    match &t.did {
        Did::Answer => Some(Judgement::Answered(t.took)),
        // Nothing has been asked of it, or nothing that it could answer. DNS that is slow or ill is nothing against a
        // server, nor is what fails here.
        Did::Accept | Did::Wait | Did::Unnamed { .. } | Did::NotFound => None,
        did if did.is_local() => None,
        // A hello that nobody else has answered may be one that nobody can.
        Did::Alert(_) if winner.is_none_or(|winner| winner.did != Did::Answer) => None,
        did if did.is_pending() => match winner {
            // Who had less time than the one that answered took is not slow.
            Some(winner) => (t.took > winner.took).then(|| Judgement::Outrun(t.did.to_string())),
            None => is_long(t.took).then(|| unanswered(t)),
        },
        did => Some(Judgement::Failed(did.to_string())),
    }
}

/// What all attempts on a server say of it.
fn judge_server(server: &HostPort, tries: &[Try], winner: Option<&Try>) -> Option<Judgement> {
    if let Some(winner) = winner.filter(|winner| winner.server == *server) {
        return (winner.did == Did::Answer).then_some(Judgement::Answered(winner.took));
    }
    let mut worst = None;
    for t in tries.iter().filter(|t| t.server == *server) {
        match judge(t, winner) {
            // One address that may yet answer is hope enough.
            Some(Judgement::Outrun(cause)) => return Some(Judgement::Outrun(cause)),
            None if t.did.is_pending() => return None,
            other => worst = other.or(worst),
        }
    }
    worst
}

/// So long without an answer is a failure, where nobody else has answered either.
fn is_long(took: Duration) -> bool {
    took >= crate::race::SLOT
}

fn unanswered(t: &Try) -> Judgement {
    // Accepted and mute may be no more than busy.
    if t.did == Did::Mute { Judgement::Outrun(t.did.to_string()) } else { Judgement::Failed(t.did.to_string()) }
}

#[cfg(test)]
mod tests;
