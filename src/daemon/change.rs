//! Another configuration for a daemon that runs. Connections keep the one that they began with.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::{Connections, Daemon, Site, begin, may_leave, tell_failed};
use crate::check::Checks;
use crate::config::{Config, Provenance};
use crate::connection::Shared;
use crate::listen::{BindError, Door, Listener, Listeners};
use crate::probe::Prober;
use crate::reload::{changed, plan};
use crate::stop::Stop;
use crate::trust::Trust;

/// What is to hold from now on.
pub struct Change {
    /// The configuration.
    pub config: Config,
    /// What it means on this host.
    pub site: Site,
    /// Where it came from.
    pub provenance: Provenance,
    /// Gets what came of it.
    pub done: oneshot::Sender<Changed>,
}

/// What came of a change.
#[derive(Debug)]
pub struct Changed {
    /// Where the daemon listens now.
    pub addresses: Vec<SocketAddr>,
    /// Whether none of the configured addresses could be listened on, so that it listens where it did.
    pub keeps_listeners: bool,
}

impl Daemon {
    /// Lets it hold for the next connection.
    pub(super) async fn change(&mut self, change: Change, connections: &mut Connections, stop: &Arc<Stop>) {
        let Change { config, site, provenance, done } = change;
        let (keeps_listeners, failed) = self.listen_anew(&config, connections, stop).await;
        let old = &self.shared;
        let mut names = changed(&old.config, &config);
        if old.table.domain() != site.table.domain() && !names.iter().any(|name| name == "domain") {
            names.push("domain".into());
        }
        // What DNS has said holds. Where others are asked from now on, or in another way, its TTL is over.
        let mut answers = old.discovery.answers();
        if old.config.dns != config.dns {
            answers.expire();
        }
        site.discovery.restore(answers, false);
        let keeps_trust = old.config.certificates.ca_file == config.certificates.ca_file;
        let trust = || Trust::new(config.certificates.ca_file.clone());
        let checks = if keeps_trust { old.checks.clone() } else { Arc::new(Checks::new(Prober::new(trust()))) };
        old.pool().pins.set_hold(config.timeouts.pin);
        self.addresses = self.listeners.addresses();
        let shared = Shared {
            config,
            table: site.table,
            discovery: Arc::new(site.discovery),
            key: site.key,
            domain: site.domain,
            pool: old.pool.clone(),
            counters: old.counters.clone(),
            checks,
            listeners: self.addresses.clone(),
            doors: Door::all(&self.listeners, &failed),
            history: old.history.clone(),
            gauge: old.gauge.clone(),
            started: old.started,
            provenance: old.provenance.clone(),
        };
        self.shared = Arc::new(shared);
        *self.shared.provenance() = provenance;
        if let Some(keeper) = &self.keeper {
            keeper.follow(self.shared.clone());
        }
        self.status_desk.follow(self.shared.clone()).await;
        let names = if names.is_empty() { "nothing".to_owned() } else { names.join(", ") };
        let domain = self.shared.table.domain().unwrap_or("(none: each requested name's own)");
        tracing::info!(changed = names, listen = ?self.addresses, domain, "reloaded");
        // Who wanted to know may have gone.
        let _ = done.send(Changed { addresses: self.addresses.clone(), keeps_listeners });
    }

    /// Binds what is new, and lets go of what is not wanted any more. Gives whether nothing of what is wanted could be
    /// had: then it stays as it was, for the repair can only arrive through us. Second, what could not be had.
    async fn listen_anew(
        &mut self,
        config: &Config,
        connections: &mut Connections,
        stop: &Arc<Stop>,
    ) -> (bool, Vec<BindError>) {
        let current: Vec<_> = self.listeners.iter().map(|l| (l.configured(), l.is_held())).collect();
        let plan = plan(&current, &config.listen);
        let mut stays = plan.stays.iter();
        let gone = self.listeners.remove(|_| !stays.next().copied().unwrap_or(true));
        let (mut bound, failed) = bind(&plan.bind);
        // It may be one that has to go which is in the way.
        let (in_the_way, gone): (Vec<_>, Vec<_>) =
            gone.into_iter().partition(|l| failed.iter().any(|error| error.addr.port() == l.addr().port()));
        let old: Vec<_> = in_the_way.iter().map(Listener::configured).collect();
        self.close(in_the_way, connections, stop).await;
        let (more, failed) = bind(&failed.iter().map(|error| error.addr).collect::<Vec<_>>());
        bound.extend(more);
        tell_failed(&failed);
        let nothing = bound.is_empty() && self.listeners.iter().next().is_none();
        if nothing {
            tracing::error!("none of the addresses in `listen` can be listened on; going on with those of before");
            let (again, _) = bind(&old);
            self.listeners.extend(gone.into_iter().chain(again));
        } else {
            self.listeners.extend(bound);
            self.close(gone, connections, stop).await;
        }
        self.leaves = may_leave(config, self.listeners.iter(), &failed);
        (nothing, failed)
    }

    /// Closes listeners. Who waits in their queues is served.
    async fn close(&self, listeners: Vec<Listener>, connections: &mut Connections, stop: &Arc<Stop>) {
        let mut listeners = Listeners::new(listeners);
        while let Some(accepted) = listeners.try_accept().await {
            begin(connections, &self.shared, stop, accepted);
        }
    }
}

fn bind(addresses: &[SocketAddr]) -> (Vec<Listener>, Vec<BindError>) {
    let (mut bound, mut failed) = (Vec::new(), Vec::new());
    for addr in addresses {
        match Listener::bind(*addr) {
            Ok(listener) => bound.push(listener),
            Err(error) => failed.push(error),
        }
    }
    (bound, failed)
}
