//! Wires the parts, and accepts connections until it is told to stop.

mod change;
mod ending;
mod status_desk;
mod visitors;

use std::future::pending;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

pub use self::change::{Change, Changed};
use self::ending::Ending;
use self::status_desk::StatusDesk;
use self::visitors::Visitors;
use crate::check::Checks;
use crate::config::{Config, Provenance};
use crate::connection::{Rest, Shared, resume, serve};
use crate::discovery::Discovery;
use crate::discovery::dns::Dns;
use crate::domain::{self, HostDomain};
use crate::handover::{Parcel, unpack};
use crate::inherited::{BOUND, Inherited, assign};
use crate::listen::{Accepted, BindError, Door, Listener, Listeners};
use crate::memory::{self, Keeper};
use crate::notify::{News, Notifier};
use crate::pool::Pool;
use crate::probe::Prober;
use crate::role::Table;
use crate::state::StateDirectory;
use crate::stop::Stop;
use crate::trust::Trust;

/// Where the C library, and with it the agent, finds its nameservers.
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// The whole daemon, bound and ready to run.
pub struct Daemon {
    listeners: Listeners,
    addresses: Vec<SocketAddr>,
    uses_default_listeners: bool,
    /// Whether to leave when nobody has connected for long.
    leaves: bool,
    shared: Arc<Shared>,
    keeper: Option<Arc<Keeper>>,
    manager: Arc<Notifier>,
    status: String,
    /// Tunnels of the last process.
    parcels: Vec<Parcel>,
    status_desk: StatusDesk,
}

/// The connections that are served; one that somebody else is to go on with is what its task ends with.
type Connections = JoinSet<Option<Rest>>;

/// What a running daemon is told.
pub enum Order {
    /// To go on with another configuration.
    Change(Box<Change>),
    /// To end, and leave the tunnels to the next process where there is a way. A second order to end: at once.
    Stop,
    /// To end, as there is no next process.
    Drain,
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
    /// The daemon without anything that a service manager has passed on.
    ///
    /// # Errors
    ///
    /// As [`Daemon::build_with`].
    pub async fn build(config: Config) -> Result<Self, BuildError> {
        Self::build_with(config, Inherited::default(), Arc::default(), None).await
    }

    /// Takes over what `manager`, the service manager, has passed on, and tells it from then on how it goes; and what the
    /// state directory has of DNS and of the servers, where it keeps what will be learnt of them. Without one, nothing
    /// outlives the daemon. Blocks for as long as the disk takes.
    ///
    /// Listens on every address that was passed on or can be bound, or on the default ones if there is none. One that
    /// cannot be bound is said loudly and left out, for a host is better served by the rest than by nothing; an IPv6
    /// address on a host without IPv6 is only worth a warning.
    ///
    /// # Errors
    ///
    /// When no address at all could be bound, the default ones included.
    #[allow(clippy::unused_async, reason = "needs a tokio runtime around it, which this makes plain")]
    pub async fn build_with(
        config: Config,
        mut inherited: Inherited,
        manager: Arc<Notifier>,
        state: Option<StateDirectory>,
    ) -> Result<Self, BuildError> {
        let parts = std::mem::take(&mut inherited.parts);
        let status_sockets = std::mem::take(&mut inherited.status);
        if !inherited.bound.is_empty() {
            manager.tell(News::Forget(BOUND));
        }
        let Bound { mut listeners, failed } = listen(&config, inherited);
        let uses_default_listeners = listeners.is_empty();
        if uses_default_listeners {
            // The repair of such a configuration can only arrive through us.
            listeners = Config::default().listen.into_iter().filter_map(|addr| Listener::bind(addr).ok()).collect();
            if listeners.is_empty() {
                return Err(BuildError::Bind(failed));
            }
            tracing::error!("none of the addresses in `listen` can be listened on; going on with the default ones");
        }
        tell_failed(&failed);
        let leaves = may_leave(&config, &listeners, &failed);
        if !config.idle_exit.is_zero() && !leaves {
            tracing::info!("not leaving when idle, whatever idle_exit says: systemd does not hold every listener");
        }
        let listeners = Listeners::new(listeners);
        let (addresses, doors) = (listeners.addresses(), Door::all(&listeners, &failed));
        let mut pool = Pool::new(config.timeouts.pin);
        let learnt = state.as_ref().map(|state| memory::recall(state, &mut pool)).unwrap_or_default();
        let Site { table, discovery, key, domain: found } = Site::new(&config, learnt.domain.as_ref());
        discovery.restore(learnt.answers, true);
        let checks = Arc::new(Checks::new(Prober::new(Trust::new(config.certificates.ca_file.clone()))));
        let shared = Arc::new(Shared {
            config,
            table,
            discovery: Arc::new(discovery),
            key,
            domain: found,
            pool: Arc::new(Mutex::new(pool)),
            counters: Arc::new(Mutex::new(learnt.counters)),
            checks,
            listeners: addresses.clone(),
            doors,
            history: Arc::new(Mutex::new(learnt.history)),
            gauge: Arc::default(),
            started: Instant::now(),
            provenance: Arc::default(),
        });
        let keeper = state.map(|state| Arc::new(Keeper::new(shared.clone(), state)));
        let (parcels, status) = (unpack(parts, &manager), String::new());
        let status_desk = StatusDesk::new(shared.clone(), status_sockets);
        Ok(Daemon {
            listeners,
            addresses,
            uses_default_listeners,
            leaves,
            shared,
            keeper,
            manager,
            status,
            parcels,
            status_desk,
        })
    }

    /// Says what it does on the Unix socket of the configuration, too, and of any that it is given later.
    #[must_use]
    pub fn with_status_socket(mut self) -> Self {
        self.status_desk.open(&self.shared.config.status);
        self
    }

    /// Where it says that its configuration came from. To be told, and again whenever that changes.
    pub fn provenance(&self) -> Arc<Mutex<Provenance>> {
        self.shared.provenance.clone()
    }

    /// What `systemctl status` is to show.
    #[must_use]
    pub fn with_status(mut self, status: String) -> Self {
        self.status = status;
        self
    }

    /// Says that it serves, to the log and to the service manager: only now, for from then on it is asked how it goes, too.
    fn tell_ready(&self) {
        let domain = self.shared.table.domain().unwrap_or("(none: each requested name's own)");
        tracing::info!(listen = ?self.addresses, domain, version = env!("CARGO_PKG_VERSION"), "ready");
        self.manager.tell(News::Ready(&self.status));
    }

    /// Where it really listens.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Whether none of the configured addresses could be listened on, so that it listens on the default ones.
    pub fn uses_default_listeners(&self) -> bool {
        self.uses_default_listeners
    }

    /// Goes on with the tunnels of the last process, and serves until it is told to stop. Those that are open then are
    /// left to the next process, or drained. Ends at once when nobody is left to give orders.
    ///
    /// One task accepts for all listeners and hears the orders. It never waits for a connection to end, but for a
    /// place: each has a task of its own. Of what is over the cap one waits here, the others stay in the kernel's queue.
    pub async fn run(mut self, mut orders: mpsc::Receiver<Order>) {
        let stop = Stop::new();
        let mut connections = Connections::new();
        for parcel in std::mem::take(&mut self.parcels) {
            connections.spawn(resume(self.shared.clone(), stop.clone(), parcel));
        }
        let mut visitors = Visitors::new();
        let mut waiting = None;
        let mut idle_since = Instant::now();
        let manager = self.manager.clone();
        let mut pulse = Pulse::new(&manager);
        self.tell_ready();
        let end = loop {
            let cap = self.shared.config.limits.connections;
            let quiet = self.leaves && connections.is_empty();
            let leave = quiet.then(|| idle_since + self.shared.config.idle_exit);
            tokio::select! {
                accepted = self.listeners.accept(), if waiting.is_none() => {
                    if connections.len() >= cap {
                        let listener = accepted.listener;
                        tracing::warn!(%listener, "all places are taken, others wait; see limits.connections");
                    }
                    waiting = Some(accepted);
                }
                // Ended ones are let go as they end, not kept until the next comes.
                Some(ended) = connections.join_next() => {
                    if let Ok(Some(Rest::Visit(visit))) = ended {
                        // To look is not to use it: who scrapes the metrics all the time would keep it from leaving.
                        visitors.admit(visit, &self.shared);
                    } else {
                        idle_since = Instant::now();
                        if let Some(keeper) = &self.keeper {
                            keeper.keep();
                        }
                    }
                }
                () = visitors.leave() => {}
                order = orders.recv() => match order {
                    Some(end @ (Order::Stop | Order::Drain)) => break Some(end),
                    Some(Order::Change(change)) => self.change(*change, &mut connections, &stop).await,
                    None => {
                        tracing::info!("stopping");
                        return self.finish().await;
                    }
                },
                // From the task that accepts: where that hangs, there is no ping.
                () = pulse.beat() => {}
                () = until(leave) => match self.listeners.try_accept().await {
                    None => break None,
                    accepted => waiting = accepted,
                },
            }
            if connections.len() < cap
                && let Some(accepted) = waiting.take()
            {
                begin(&mut connections, &self.shared, &stop, accepted);
            }
        };
        let said = if end.is_some() { "stopping" } else { "idle; the next connection starts it again" };
        tracing::info!("{said}");
        manager.tell(News::Stopping(said));
        if let Some(accepted) = waiting {
            begin(&mut connections, &self.shared, &stop, accepted);
        }
        let leaves = !matches!(end, Some(Order::Drain));
        let ending = Ending {
            manager: &manager,
            stop,
            shared: &self.shared,
            connections,
            visitors: &mut visitors,
            orders,
            pulse,
            leaves,
            room: 0,
        };
        let pins = ending.run(&mut self.listeners).await;
        visitors.finish().await;
        self.finish().await;
        // What is written of a run whose tunnels go on has to say that they are open.
        drop(pins);
    }

    /// What is left to do when nothing is served any more.
    async fn finish(self) {
        if let Some(keeper) = self.keeper {
            keeper.finish().await;
        }
    }
}

/// Serves a connection, in a task of its own.
fn begin(connections: &mut Connections, shared: &Arc<Shared>, stop: &Arc<Stop>, accepted: Accepted) {
    let Accepted { client, from, port, .. } = accepted;
    connections.spawn(serve(shared.clone(), stop.clone(), client, from, port));
}

/// Tells the service manager that the process is alive, as often as it wants to hear of it.
struct Pulse<'a> {
    manager: &'a Notifier,
    next: Option<Instant>,
}

impl<'a> Pulse<'a> {
    fn new(manager: &'a Notifier) -> Self {
        Pulse { manager, next: manager.pace().map(|pace| Instant::now() + pace) }
    }

    /// Waits until it is time, and tells it. May be dropped and called again. Without a watchdog, it waits for ever.
    async fn beat(&mut self) {
        until(self.next).await;
        self.manager.tell(News::Alive);
        self.next = self.manager.pace().map(|pace| Instant::now() + pace);
    }
}

/// What came of listening.
struct Bound {
    listeners: Vec<Listener>,
    failed: Vec<BindError>,
}

/// Takes what was passed on, and binds the rest of what is configured. A socket that is not configured is used too where
/// the service manager holds it: its unit is the admin's word as much.
fn listen(config: &Config, inherited: Inherited) -> Bound {
    let held = inherited.listeners.into_iter().map(|socket| (socket, true));
    let at_hand: Vec<_> = held.chain(inherited.bound.into_iter().map(|socket| (socket, false))).collect();
    let adopt = |(socket, is_held)| match Listener::adopt(socket, is_held) {
        Ok(listener) => Some(listener),
        Err(error) => {
            tracing::warn!(%error, "a socket that was passed on cannot be listened on");
            None
        }
    };
    let at_hand: Vec<Listener> = at_hand.into_iter().filter_map(adopt).collect();
    let addresses: Vec<_> = at_hand.iter().map(Listener::addr).collect();
    let (assigned, _) = assign(&config.listen, &addresses);
    let mut at_hand: Vec<Option<Listener>> = at_hand.into_iter().map(Some).collect();
    let (mut listeners, mut failed) = (Vec::new(), Vec::new());
    for (addr, at) in config.listen.iter().zip(assigned) {
        match at.and_then(|at| at_hand.get_mut(at)?.take()).map_or_else(|| Listener::bind(*addr), Ok) {
            Ok(listener) => listeners.push(listener),
            Err(error) => failed.push(error),
        }
    }
    for listener in at_hand.into_iter().flatten().filter(Listener::is_held) {
        tracing::info!(addr = %listener.addr(), "systemd has a socket that is not in `listen`; listening there too");
        listeners.push(listener);
    }
    Bound { listeners, failed }
}

/// Whether to leave when nobody has connected for long: where all that this host can have is held by the service manager,
/// which starts the next process.
fn may_leave<'l>(config: &Config, listeners: impl IntoIterator<Item = &'l Listener>, failed: &[BindError]) -> bool {
    !config.idle_exit.is_zero()
        && failed.iter().all(BindError::is_missing_ipv6)
        && listeners.into_iter().all(Listener::is_held)
}

fn tell_failed(failed: &[BindError]) {
    for error in failed {
        if error.is_missing_ipv6() {
            tracing::warn!(addr = %error.addr, "this host has no IPv6; going on without that listener");
        } else {
            tracing::error!("{error}; going on without it");
        }
    }
}

/// Waits until then; `None`: for ever, and without a timer.
async fn until(then: Option<Instant>) {
    match then {
        Some(then) => sleep_until(then).await,
        None => pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn an_address_that_the_host_cannot_have_keeps_nobody() {
        let failed = |addr: &str, kind: rustix::io::Errno| BindError {
            addr: addr.parse().unwrap(),
            cause: io::Error::from_raw_os_error(kind.raw_os_error()),
        };
        let missing = failed("[::1]:8139", rustix::io::Errno::ADDRNOTAVAIL);
        let taken = failed("127.0.0.1:8139", rustix::io::Errno::ADDRINUSE);
        let config = Config { idle_exit: std::time::Duration::from_secs(60), ..Config::default() };
        assert!(may_leave(&config, [], &[missing]));
        assert!(!may_leave(&config, [], &[taken]));
    }
}
