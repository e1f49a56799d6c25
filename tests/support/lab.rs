//! A whole site with a running shim.

use std::net::SocketAddr;
use std::sync::Arc;

use puppet_shim::config::Config;
use tracing::subscriber::DefaultGuard;

use super::client::{Agent, Way};
use super::dns::Dns;
use super::journal::Journal;
use super::pki::Pki;
use super::server::Server;
use super::shim::{self, Shim};

/// The site's domain.
pub const DOMAIN: &str = "lab.test";

/// The TTL of the site's records, in seconds.
pub const TTL: u32 = 60;

/// A site: DNS with the SRV records of each role, a CA, its servers, and the shim. `compile1` goes before `compile2` by
/// its priority.
pub struct Lab {
    pub dns: Dns,
    pub pki: Arc<Pki>,
    pub ca: Server,
    pub compile1: Server,
    pub compile2: Server,
    pub files: Server,
    pub report: Server,
    pub journal: Journal,
    shim: Shim,
    _listening: DefaultGuard,
}

impl Lab {
    /// Starts everything; the shim listens on one port of 127.0.0.1.
    pub async fn start() -> Self {
        Self::with(|_| ()).await
    }

    /// Starts everything, the shim with what `adjust` makes of its configuration.
    pub async fn with(adjust: impl FnOnce(&mut Config)) -> Self {
        let journal = Journal::default();
        let listening = journal.listen();
        let dns = Dns::start().await;
        let pki = Arc::new(Pki::new());
        let ca = start_server(&dns, &pki, "ca", "ca", "puppetca").await;
        let compile1 = start_server(&dns, &pki, "compile", "compile1", "puppet").await;
        let compile2 = start_server(&dns, &pki, "compile", "compile2", "puppet").await;
        let files = start_server(&dns, &pki, "files", "files", "puppetfiles").await;
        let report = start_server(&dns, &pki, "report", "report", "puppetreport").await;
        for (service, servers) in
            [("ca", &[&ca][..]), ("", &[&compile1, &compile2]), ("fileserver", &[&files]), ("report", &[&report])]
        {
            announce(&dns, service, servers).await;
        }

        let mut config = shim::config(&dns);
        adjust(&mut config);
        let shim = Shim::start(config).await;
        Lab { dns, pki, ca, compile1, compile2, files, report, journal, shim, _listening: listening }
    }

    /// Where the shim listens: its first address.
    pub fn shim(&self) -> SocketAddr {
        self.shim.addresses()[0]
    }

    /// All its addresses, in the order of the configuration.
    pub fn shim_addresses(&self) -> &[SocketAddr] {
        self.shim.addresses()
    }

    /// Stops the shim and waits for its end.
    pub async fn stop_shim(&mut self) {
        self.shim.stop().await;
    }

    /// All servers.
    pub fn servers(&self) -> [&Server; 5] {
        [&self.ca, &self.compile1, &self.compile2, &self.files, &self.report]
    }

    /// An agent with a certificate, in proxy mode.
    pub fn agent(&self, certname: &str) -> Agent {
        Agent::new(Way::Proxy(self.shim()), &self.pki.trust(), Some(&self.pki.identity(&[certname])))
    }
}

/// Starts a server and gives it its address record. Its certificate has its own name, that of its role, and the
/// official one: an agent that tells roles apart by port asks for the latter everywhere.
async fn start_server(dns: &Dns, pki: &Arc<Pki>, role: &str, name: &str, alias: &str) -> Server {
    let mut names = vec![fqdn(name), alias.into(), fqdn(alias)];
    if alias != "puppet" {
        names.extend(["puppet".into(), fqdn("puppet")]);
    }
    let server = Server::start(pki, role, &names).await;
    dns.set_addresses(server.name(), TTL, &[server.address().ip()]).await;
    server
}

/// Gives a role its SRV records, the first server in front.
async fn announce(dns: &Dns, service: &str, servers: &[&Server]) {
    let dash = if service.is_empty() { "" } else { "-" };
    let owner = format!("_x-puppet{dash}{service}._tcp.{DOMAIN}");
    let records: Vec<_> =
        (0..).zip(servers).map(|(p, server)| (p, 0, server.address().port(), server.name())).collect();
    dns.set_srv(&owner, TTL, &records).await;
}

/// `name` in the site's domain.
pub fn fqdn(name: &str) -> String {
    format!("{name}.{DOMAIN}")
}
