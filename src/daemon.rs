//! Wires the parts, and accepts connections until it is told to stop.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::check::Checks;
use crate::config::Config;
use crate::connection::{Shared, serve};
use crate::discovery::Discovery;
use crate::discovery::dns::Dns;
use crate::domain::{self, HostDomain};
use crate::listen::{BindError, Listener};
use crate::memory::{self, Keeper};
use crate::pool::Pool;
use crate::probe::Prober;
use crate::role::Table;
use crate::state::StateDirectory;
use crate::trust::Trust;

/// Where the C library, and with it the agent, finds its nameservers.
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// The whole daemon, bound and ready to run.
pub struct Daemon {
    listeners: Vec<Listener>,
    addresses: Vec<SocketAddr>,
    uses_default_listeners: bool,
    shared: Arc<Shared>,
    keeper: Option<Arc<Keeper>>,
}

/// Why there is no daemon.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// Not one of the addresses could be listened on.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Bind(Vec<BindError>),
}

/// What a configuration means on this host: names, nameservers, domain.
pub struct Site {
    /// (name, port) → role.
    pub table: Table,
    /// Where servers come from.
    pub discovery: Discovery,
    /// Which host this is to `balance = "hash"`: the certname, else the full name.
    pub key: String,
    /// The domain, where it had to be found.
    pub domain: Option<HostDomain>,
}

impl Site {
    /// Looks at the host. Blocks for two seconds at most, where the domain is not configured and the host's own DNS is
    /// dead. `before`: the domain that was found earlier.
    pub fn new(config: &Config, before: Option<&HostDomain>) -> Self {
        let path = Path::new(RESOLV_CONF);
        let found = config.domain.is_none().then(|| domain::find(path, before));
        let domain = config.domain.clone().or_else(|| found.as_ref().and_then(|found| found.domain.clone()));
        let key = config.certname.clone().unwrap_or_else(|| domain::full_name(domain.as_deref()));
        let discovery = Discovery::new(config, Dns::new(&config.dns, path), domain.clone());
        Site { table: Table::new(config, domain), discovery, key, domain: found }
    }
}

impl Daemon {
    /// Binds every address that can be bound, or the default ones if none can. One that cannot is said loudly and left
    /// out, for a host is better served by the rest than by nothing; an IPv6 address on a host without IPv6 is only
    /// worth a warning.
    ///
    /// # Errors
    ///
    /// When no address at all could be bound, the default ones included.
    pub async fn build(config: Config) -> Result<Self, BuildError> {
        Self::build_with(config, None).await
    }

    /// The same with what the state directory has of DNS and of the servers, where it keeps what will be learnt of them.
    /// Without one, nothing outlives the daemon. Blocks for as long as the disk takes.
    #[allow(clippy::unused_async, reason = "needs a tokio runtime around it, which this makes plain")]
    pub async fn build_with(config: Config, state: Option<StateDirectory>) -> Result<Self, BuildError> {
        let mut listeners = Vec::new();
        let mut failed = Vec::new();
        for addr in &config.listen {
            match Listener::bind(*addr) {
                Ok(listener) => listeners.push(listener),
                Err(error) => failed.push(error),
            }
        }
        let uses_default_listeners = listeners.is_empty();
        if uses_default_listeners {
            // The repair of such a configuration can only arrive through us.
            listeners = Config::default().listen.into_iter().filter_map(|addr| Listener::bind(addr).ok()).collect();
            if listeners.is_empty() {
                return Err(BuildError::Bind(failed));
            }
            tracing::error!("none of the addresses in `listen` can be listened on; going on with the default ones");
        }
        for error in failed {
            if error.is_missing_ipv6() {
                tracing::warn!(addr = %error.addr, "this host has no IPv6; going on without that listener");
            } else {
                tracing::error!("{error}; going on without it");
            }
        }
        let addresses: Vec<_> = listeners.iter().map(Listener::addr).collect();
        let mut pool = Pool::new(config.timeouts.pin);
        let learnt = state.as_ref().map(|state| memory::recall(state, &mut pool)).unwrap_or_default();
        let Site { table, discovery, key, domain: found } = Site::new(&config, learnt.domain.as_ref());
        discovery.restore(learnt.answers);
        let domain = table.domain().unwrap_or("(none: each requested name's own)");
        tracing::info!(listen = ?addresses, domain, version = env!("CARGO_PKG_VERSION"), "ready");
        let checks = Checks::new(Prober::new(Trust::new(config.certificates.ca_file.clone())));
        let shared = Arc::new(Shared {
            config,
            table,
            discovery,
            key,
            domain: found,
            pool: Mutex::new(pool),
            counters: Mutex::new(learnt.counters),
            checks,
            listeners: addresses.clone(),
        });
        let keeper = state.map(|state| Arc::new(Keeper::new(shared.clone(), state)));
        Ok(Daemon { listeners, addresses, uses_default_listeners, shared, keeper })
    }

    /// What was really bound.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Whether none of the configured addresses could be listened on, so that it listens on the default ones.
    pub fn uses_default_listeners(&self) -> bool {
        self.uses_default_listeners
    }

    /// Serves until `stop` is done. Tunnels that are open then end with it.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let places = Arc::new(Semaphore::new(self.shared.config.limits.connections));
        let mut accepting = JoinSet::new();
        for listener in self.listeners {
            accepting.spawn(accept(listener, self.shared.clone(), self.keeper.clone(), places.clone()));
        }
        stop.await;
        tracing::info!("stopping");
        if let Some(keeper) = self.keeper {
            keeper.finish().await;
        }
    }
}

/// Accepts and never waits for a connection to end, but for a place: each has a task of its own. Of what is over the
/// cap one waits here, the others stay in the kernel's queue.
async fn accept(listener: Listener, shared: Arc<Shared>, keeper: Option<Arc<Keeper>>, places: Arc<Semaphore>) {
    let mut connections = JoinSet::new();
    loop {
        let (client, from) = loop {
            tokio::select! {
                accepted = listener.accept() => break accepted,
                // Ended ones are let go as they end, not kept until the next comes.
                Some(_) = connections.join_next() => {}
            }
        };
        // A place taken before there is somebody for it would be taken from the other listeners.
        if places.available_permits() == 0 {
            tracing::warn!(listener = %listener.addr(), "all places are taken, others wait; see limits.connections");
        }
        // The semaphore is never closed.
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let (shared, keeper, port) = (shared.clone(), keeper.clone(), listener.addr().port());
        connections.spawn(async move {
            serve(shared, client, from, port).await;
            drop(place);
            if let Some(keeper) = keeper {
                keeper.keep();
            }
        });
    }
}
