//! The end of the daemon: nobody who is connected is to notice it.
//!
//! Where the service manager keeps descriptors for us, tunnels are left to the next process. Where it does not, or for
//! more tunnels than it keeps, they are waited for until closing them harms nobody ([`crate::drain`]).

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::visitors::Visitors;
use super::{BOUND, Connections, Order, Pulse, begin, until};
use crate::connection::{Left, Pinned, Rest, Shared};
use crate::handover::PARTS;
use crate::listen::{Listener, Listeners};
use crate::notify::Notifier;
use crate::stop::{self, Stage, Stop};

/// A connection that has said what it wants is waited for until it is a tunnel: to refuse it would fail the agent's run,
/// and all others go on meanwhile.
const OPENING: Duration = Duration::from_secs(5);

/// One that has said nothing yet. An agent does so at once.
const SNIFFING: Duration = Duration::from_secs(1);

/// What it takes to end.
pub(super) struct Ending<'a> {
    pub(super) manager: &'a Notifier,
    pub(super) stop: Arc<Stop>,
    pub(super) shared: &'a Arc<Shared>,
    pub(super) connections: Connections,
    pub(super) visitors: &'a mut Visitors,
    pub(super) orders: mpsc::Receiver<Order>,
    pub(super) pulse: Pulse<'a>,
    /// Whether there is a next process to leave something to.
    pub(super) leaves: bool,
    /// How many tunnels the service manager keeps for it.
    pub(super) room: usize,
}

/// What happened while we waited.
enum Event {
    /// Something, which may be what is waited for.
    Some,
    /// The time is over.
    TimeOut,
    /// It is to end at once.
    Now,
}

impl Ending<'_> {
    /// Ends it. What is still open when this returns is cut, and its lines say so. Gives what keeps the runs of those
    /// handed over where they are.
    pub(super) async fn run(mut self, listeners: &mut Listeners) -> Vec<Pinned> {
        let has_left_listeners = self.let_go(listeners).await;
        if self.connections.is_empty() {
            if has_left_listeners {
                self.be_heard().await;
            }
            return Vec::new();
        }
        let mut left = Vec::new();
        let ended = self.wait_for_the_young(&mut left).await && self.wait_for_tunnels(&mut left).await;
        if ended { self.hand_over(left).await } else { Vec::new() }
    }

    /// Accepts no more. What the service manager holds it goes on to hold, and what is ours alone it is to keep; failing
    /// that, who is in its queue is served before it goes. Gives whether any was left to the service manager.
    async fn let_go(&mut self, listeners: &mut Listeners) -> bool {
        let is_ours = |listener: &&Listener| !listener.is_held();
        let store = if self.leaves { self.manager.store() } else { 0 };
        let keeps = store > 0
            && listeners.iter().filter(is_ours).all(|listener| match listener.store(self.manager, BOUND) {
                Ok(()) => true,
                Err(error) => {
                    tracing::warn!(listener = %listener.addr(), %error, "cannot leave it to the next process");
                    false
                }
            });
        if !keeps {
            drop(listeners.remove(|listener| listener.is_held()));
            while let Some(accepted) = listeners.try_accept().await {
                begin(&mut self.connections, self.shared, &self.stop, accepted);
            }
        }
        let stored = if keeps { listeners.iter().filter(is_ours).count() } else { 0 };
        self.room = store.saturating_sub(stored) / PARTS;
        drop(listeners.remove(|_| true));
        stored > 0
    }

    /// Waits until every connection is a tunnel or has ended, as long as that is worth it. `false`: it is to end at once.
    async fn wait_for_the_young(&mut self, left: &mut Vec<Left>) -> bool {
        let began = Instant::now();
        loop {
            let bound = match Stage::ALL.map(|stage| self.stop.young(stage)) {
                [0, 0] => return true,
                [_, 0] => SNIFFING,
                _ => OPENING,
            };
            match self.event(Some(began + bound), left).await {
                Event::Some => {}
                Event::TimeOut => return true,
                Event::Now => return false,
            }
        }
    }

    /// Waits until all tunnels have ended, or the rest of them can be handed over. `false`: it is to end at once.
    async fn wait_for_tunnels(&mut self, left: &mut Vec<Left>) -> bool {
        let limit = self.shared.config.timeouts.drain;
        let until = Instant::now() + limit;
        if self.connections.len() > self.room {
            tracing::info!(tunnels = self.connections.len(), ?limit, "draining");
            // What fits is not cut with the rest.
            let spare = if self.room > 0 { OPENING } else { Duration::ZERO };
            self.stop.tell(stop::Order::Drain { until: until + spare });
            let (began, end) = (Instant::now(), (self.room > 0).then_some(until));
            while self.connections.len() > self.room {
                match self.event(end, left).await {
                    Event::Some => {}
                    Event::TimeOut => break,
                    Event::Now => return false,
                }
            }
            tracing::info!(took = ?began.elapsed(), tunnels = self.connections.len(), "drained");
        }
        self.stop.tell(stop::Order::HandOver);
        while !self.connections.is_empty() {
            if let Event::Now = self.event(None, left).await {
                return false;
            }
        }
        true
    }

    /// Leaves the tunnels to the next process.
    async fn hand_over(self, left: Vec<Left>) -> Vec<Pinned> {
        let (mut taken, mut pins) = (0, Vec::new());
        // Of what is over that the manager would say nothing, and close it.
        for (nth, left) in left.into_iter().take(self.room).enumerate() {
            match left.parcel().store(self.manager, nth) {
                Ok(()) => {
                    pins.extend(left.is_taken());
                    taken += 1;
                }
                // Dropping it says that it was cut.
                Err(error) => tracing::warn!(%error, "cannot leave a tunnel to the next process"),
            }
        }
        self.be_heard().await;
        if taken > 0 {
            tracing::info!(tunnels = taken, "left to the next process");
        }
        pins
    }

    /// Waits until the service manager has taken in what it was given: of a process that is gone it would not know whose
    /// that is.
    async fn be_heard(&self) {
        if let Err(error) = self.manager.wait().await {
            tracing::warn!(%error, "the service manager may not have got everything that is for the next process");
        }
    }

    async fn event(&mut self, end: Option<Instant>, left: &mut Vec<Left>) -> Event {
        tokio::select! {
            Some(ended) = self.connections.join_next() => {
                match ended.ok().flatten() {
                    Some(Rest::Tunnel(tunnel)) => left.push(*tunnel),
                    Some(Rest::Visit(visit)) => self.visitors.admit(visit, self.shared),
                    None => {}
                }
                Event::Some
            }
            () = self.stop.changed() => Event::Some,
            () = self.pulse.beat() => Event::Some,
            () = until(end) => Event::TimeOut,
            order = self.orders.recv() => match order {
                // There is nothing left for which it would hold.
                Some(Order::Change(_)) => Event::Some,
                Some(Order::Stop | Order::Drain) | None => Event::Now,
            },
        }
    }
}
