//! Those who ask for the page. Their places are not those of agents, and they are few; to the daemon they are no
//! connections.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use crate::connection::Shared;
use crate::page::{self, Visit};

/// At once: some tabs of a browser and some scrapers. More are told to come back.
const PLACES: usize = 8;

/// How long the end of the daemon waits for those who are there. A page takes a millisecond.
const PATIENCE: Duration = Duration::from_secs(1);

/// Who is there.
pub(super) struct Visitors(JoinSet<()>);

impl Visitors {
    /// Nobody yet.
    pub(super) fn new() -> Self {
        Visitors(JoinSet::new())
    }

    /// Serves one more, or turns it away.
    pub(super) fn admit(&mut self, visit: Visit, shared: &Arc<Shared>) {
        while self.0.try_join_next().is_some() {}
        if self.0.len() < PLACES {
            self.0.spawn(visit.serve(shared.clone()));
        } else {
            visit.turn_away(&page::CROWDED);
        }
    }

    /// Lets go of one who has been served. May be dropped and called again; waits for ever where nobody is there.
    pub(super) async fn leave(&mut self) {
        if self.0.join_next().await.is_none() {
            std::future::pending::<()>().await;
        }
    }

    /// Waits until all have been served, as long as that is worth it.
    pub(super) async fn finish(mut self) {
        let _ = tokio::time::timeout(PATIENCE, async { while self.0.join_next().await.is_some() {} }).await;
    }
}
