//! What connections are told when the daemon stops, and how far they have come until then.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{Notify, watch};
use tokio::time::Instant;

/// What a connection is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Nothing.
    GoOn,
    /// To end where that harms nobody, and in any case then.
    Drain {
        /// When.
        until: Instant,
    },
    /// To stand still, and be handed over to the next process.
    HandOver,
}

/// How far a connection that is no tunnel yet has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It is not known what the client wants.
    Sniffing,
    /// It is, and no server has answered.
    Opening,
}

impl Stage {
    /// Both, in their order.
    pub const ALL: [Stage; 2] = [Stage::Sniffing, Stage::Opening];
}

/// Who tells, and who counts.
#[derive(Debug)]
pub struct Stop {
    order: watch::Sender<Order>,
    sniffing: AtomicUsize,
    opening: AtomicUsize,
    changed: Notify,
}

/// Counts a connection as young until it is dropped.
#[derive(Debug)]
pub struct Young {
    stop: Arc<Stop>,
    stage: Stage,
}

impl Stop {
    /// Nobody is told anything yet.
    pub fn new() -> Arc<Self> {
        let (sniffing, opening) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Arc::new(Stop { order: watch::Sender::new(Order::GoOn), sniffing, opening, changed: Notify::new() })
    }

    /// Tells all connections.
    pub fn tell(&self, order: Order) {
        self.order.send_replace(order);
    }

    /// The orders, for one connection.
    pub fn orders(&self) -> watch::Receiver<Order> {
        self.order.subscribe()
    }

    /// Counts one that has just been accepted.
    pub fn enter(self: &Arc<Self>) -> Young {
        self.count(Stage::Sniffing).fetch_add(1, Ordering::Relaxed);
        Young { stop: self.clone(), stage: Stage::Sniffing }
    }

    /// How many there are at this stage.
    pub fn young(&self, stage: Stage) -> usize {
        self.count(stage).load(Ordering::Relaxed)
    }

    /// Waits until a connection has come to another stage.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    fn count(&self, stage: Stage) -> &AtomicUsize {
        match stage {
            Stage::Sniffing => &self.sniffing,
            Stage::Opening => &self.opening,
        }
    }
}

impl Young {
    /// It is known what the client wants.
    pub fn has_asked(&mut self) {
        self.stop.count(self.stage).fetch_sub(1, Ordering::Relaxed);
        self.stage = Stage::Opening;
        self.stop.count(self.stage).fetch_add(1, Ordering::Relaxed);
        self.stop.changed.notify_one();
    }
}

impl Drop for Young {
    fn drop(&mut self) {
        self.stop.count(self.stage).fetch_sub(1, Ordering::Relaxed);
        self.stop.changed.notify_one();
    }
}

/// Waits until there is an order other than to go on.
pub async fn told(orders: &mut watch::Receiver<Order>) {
    if orders.wait_for(|order| *order != Order::GoOn).await.is_err() {
        // Who would tell is gone, and this connection soon is, too.
        std::future::pending::<()>().await;
    }
}
