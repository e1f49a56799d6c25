//! Looks at a server's certificate before an agent's run is staked on it.
//!
//! A server whose certificate lacks the name that the agent asks for is worse than a dead one: the agent does not go on
//! to the next, and on the CA role the run aborts.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::net::TcpStream;
use tokio::sync::OwnedMutexGuard;
use tokio::time::{Instant, timeout};

use crate::dial::{Dialer, Did};
use crate::host::{Host, HostPort};
use crate::pool::Pool;
use crate::probe::{self, BOUND, Prober};
use crate::verdict::{REMEDY, Verdict};

/// What servers have been asked for their certificates, and are being asked just now.
#[derive(Debug)]
pub struct Checks {
    prober: Prober,
    /// Held by who is asking; the others wait for the verdict, so that a server is asked once and not by each connection
    /// of a crowd.
    asking: Mutex<HashMap<(HostPort, Host), Turn>>,
}

/// Whose turn it is to ask a server.
type Turn = Arc<tokio::sync::Mutex<()>>;

/// Looks at certificates on behalf of one connection.
#[derive(Clone, Copy)]
pub struct Checker<'a> {
    /// Those of the daemon.
    pub checks: &'a Checks,
    /// Where verdicts are kept.
    pub pool: &'a Mutex<Pool>,
    /// The name that the agent asked for.
    pub asked: &'a Host,
}

impl Checks {
    /// None so far.
    pub fn new(prober: Prober) -> Self {
        Checks { prober, asking: Mutex::default() }
    }

    /// Asks servers other things, too.
    pub fn prober(&self) -> &Prober {
        &self.prober
    }

    /// The turn to ask, which who has it gives back by dropping it.
    fn turn(&self, key: &(HostPort, Host)) -> Turn {
        let mut asking = self.asking.lock().unwrap_or_else(PoisonError::into_inner);
        // Those that nobody holds are of no use to anybody.
        asking.retain(|_, turn| Arc::strong_count(turn) > 1);
        asking.entry(key.clone()).or_default().clone()
    }
}

impl Checker<'_> {
    /// Whether this server may have the connection, as far as its certificate goes. What is known already is not asked
    /// again.
    ///
    /// # Errors
    ///
    /// With what the server did, where it cannot be connected to or its certificate lacks the name. One that shows none
    /// is not out: its answer to the agent's own hello will tell.
    pub async fn check(&self, server: &HostPort, addr: SocketAddr, dialer: &Dialer<'_>) -> Result<(), Did> {
        let turn = self.checks.turn(&(server.clone(), self.asked.clone())).lock_owned().await;
        self.check_in_turn(&turn, server, addr, dialer).await
    }

    /// The right to ask this server, unless somebody is asking it just now.
    pub fn try_turn(&self, server: &HostPort) -> Option<OwnedMutexGuard<()>> {
        self.checks.turn(&(server.clone(), self.asked.clone())).try_lock_owned().ok()
    }

    /// The same for who has the turn.
    pub async fn check_in_turn(
        &self,
        _turn: &OwnedMutexGuard<()>,
        server: &HostPort,
        addr: SocketAddr,
        dialer: &Dialer<'_>,
    ) -> Result<(), Did> {
        let verdict = self.pool().verdicts.get(server, self.asked, Instant::now()).cloned();
        let verdict = match verdict {
            Some(verdict) => verdict,
            None => self.ask(server, addr, dialer.connect(addr).await?).await,
        };
        match verdict {
            Verdict::Unnamed { has } => Err(Did::Unnamed { asked: self.asked.clone(), has }),
            Verdict::Named | Verdict::Unclear { .. } => Ok(()),
        }
    }

    async fn ask(&self, server: &HostPort, addr: SocketAddr, stream: TcpStream) -> Verdict {
        let seen = timeout(BOUND, self.checks.prober.names(stream, self.asked)).await;
        let (verdict, chain) = match seen {
            Ok(probe::Verdict::Named { chain }) => (Verdict::Named, chain),
            Ok(probe::Verdict::Unnamed { has }) => (Verdict::Unnamed { has: has.to_string() }, None),
            Ok(probe::Verdict::Unclear(why)) => (Verdict::Unclear { why }, None),
            Err(_) => (Verdict::Unclear { why: format!("said nothing within {BOUND:?}") }, None),
        };
        let is_news = self.pool().conclude(server, self.asked, verdict.clone(), Instant::now());
        if is_news {
            self.tell(server, addr, &verdict);
        }
        if let Some(chain) = chain {
            tracing::warn!(%server, "{chain}; the agent may refuse this server");
        }
        verdict
    }

    /// The one log line of a verdict.
    fn tell(&self, server: &HostPort, addr: SocketAddr, verdict: &Verdict) {
        let asked = self.asked;
        match verdict {
            Verdict::Named => tracing::debug!(%server, %addr, %asked, "its certificate has the name"),
            Verdict::Unnamed { has } => tracing::warn!(
                %server, %addr, %asked, %has,
                "its certificate is not for the name that the agent asks for, so it comes after all others; {REMEDY}"
            ),
            Verdict::Unclear { why } => {
                tracing::info!(%server, %addr, %asked, %why, "its certificate could not be looked at; used all the same");
            }
        }
    }

    fn pool(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
