//! The daemon, in the test's own process.

use std::net::SocketAddr;
use std::ops::RangeInclusive;

use puppet_shim::config::{Config, RoleConfig};
use puppet_shim::daemon::{Daemon, Order};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tracing::subscriber::DefaultGuard;

use super::clock::Slow;
use super::dns::Dns;
use super::journal::Journal;
use super::lab::DOMAIN;

/// The running daemon.
pub struct Shim {
    addresses: Vec<SocketAddr>,
    orders: Option<mpsc::Sender<Order>>,
    task: JoinHandle<()>,
}

impl Shim {
    /// Starts it.
    pub async fn start(config: Config) -> Self {
        let daemon = Daemon::build(config).await.unwrap();
        let addresses = daemon.addresses().to_vec();
        // Dropping the sender ends the daemon at once.
        let (orders, heard) = mpsc::channel(1);
        let task = tokio::spawn(daemon.run(heard));
        Shim { addresses, orders: Some(orders), task }
    }

    /// Where it listens, in the order of the configuration.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Tells it to stop in good order.
    pub async fn begin_to_stop(&self) {
        self.orders.as_ref().unwrap().send(Order::Stop).await.unwrap();
    }

    /// Waits for its end.
    pub async fn stopped(&mut self) {
        (&mut self.task).await.unwrap();
    }

    /// Ends it without further ado, and waits for that.
    pub async fn stop(&mut self) {
        self.orders.take();
        if !self.task.is_finished() {
            (&mut self.task).await.unwrap();
        }
    }
}

/// The configuration that tests start from: one port of 127.0.0.1, the tests' domain and DNS.
pub fn config(dns: &Dns) -> Config {
    let mut config = Config {
        listen: vec![SocketAddr::from(([127, 0, 0, 1], 0))],
        domain: Some(DOMAIN.into()),
        ..Config::default()
    };
    config.dns.servers = vec![dns.address().into()];
    // What servers count here are the agent's own connections. Tests about certificates switch it on.
    config.certificates.check = false;
    // Servers listen on loopback, on ports that the kernel picks.
    config.dns.allow_loopback = true;
    for role in &mut config.roles {
        role.allow_ports = Some(any_port());
    }
    config
}

/// Every port, for a role whose SRV records name what the kernel picks.
pub fn any_port() -> Vec<RangeInclusive<u16>> {
    vec![1..=u16::MAX]
}

/// A role of a configuration, to be changed.
pub fn role<'c>(config: &'c mut Config, name: &str) -> &'c mut RoleConfig {
    config.roles.iter_mut().find(|role| role.role.as_str() == name).unwrap()
}

/// A shim and its DNS without any Puppet server: for tests that bring servers of their own.
pub struct Bare {
    pub dns: Dns,
    pub journal: Journal,
    shim: Shim,
    _listening: DefaultGuard,
    _clock: Option<Slow>,
}

impl Bare {
    /// Starts DNS without a record, and the shim.
    pub async fn start() -> Self {
        Self::with(|_| ()).await
    }

    /// The same with what `adjust` makes of the configuration.
    pub async fn with(adjust: impl FnOnce(&mut Config)) -> Self {
        let journal = Journal::default();
        let listening = journal.listen();
        let dns = Dns::start().await;
        let mut config = config(&dns);
        adjust(&mut config);
        let shim = Shim::start(config).await;
        Bare { dns, journal, shim, _listening: listening, _clock: None }
    }

    /// The same by a slow clock, see [`Slow`]: what the machine takes for the test's own work is not in any time.
    pub async fn slow(adjust: impl FnOnce(&mut Config)) -> Self {
        let clock = Slow::start();
        Bare { _clock: Some(clock), ..Self::with(adjust).await }
    }

    /// Where the shim listens: its first address.
    pub fn shim(&self) -> SocketAddr {
        self.shim.addresses()[0]
    }

    /// All its addresses, in the order of the configuration.
    pub fn shim_addresses(&self) -> &[SocketAddr] {
        self.shim.addresses()
    }

    /// Tells the shim to stop in good order.
    pub async fn begin_to_stop(&self) {
        self.shim.begin_to_stop().await;
    }

    /// Waits for its end.
    pub async fn stopped(&mut self) {
        self.shim.stopped().await;
    }

    /// Stops the shim and waits for its end.
    pub async fn stop_shim(&mut self) {
        self.shim.stop().await;
    }
}
