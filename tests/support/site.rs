//! One role whose servers fail in chosen ways, and agents that do not know it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use puppet_shim::config::Config;
use tempfile::TempDir;
use tracing::subscriber::DefaultGuard;

use super::client::{Agent, Way};
use super::dns::Dns;
use super::fault::Fault;
use super::journal::Journal;
use super::lab::{DOMAIN, TTL, fqdn};
use super::pki::Pki;
use super::server::Server;
use super::shim::{self, Shim};
use super::tcp::BlackHole;

/// How a server fails an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ill {
    /// Nobody listens.
    Refused,
    /// The connection is neither taken nor refused.
    BlackHole,
    /// It takes the connection and the hello, and says nothing.
    Mute,
    /// RST after the hello.
    Reset,
    /// It closes after the hello.
    Eof,
    /// It ends its own side after the hello, and goes on listening.
    HalfClosed,
    /// This alert after the hello.
    Alert(u8),
    /// Four of the five bytes with which any answer begins, then silence: the most that can be said without having
    /// answered.
    Stuck,
    /// A byte a second.
    Drip,
    /// Its certificate has its own name alone.
    Unnamed,
}

/// How agents get to the shim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// `http_proxy_host`.
    Proxy,
    /// The official name leads to the shim.
    Alias,
}

impl Mode {
    /// Both.
    pub const ALL: [Mode; 2] = [Mode::Proxy, Mode::Alias];
}

/// What agents ask for.
pub const ASKED: &str = "puppet.lab.test";

/// DNS, a CA and the servers of compile.
pub struct Site {
    pub dns: Dns,
    pub journal: Journal,
    pub seats: Vec<Seat>,
    agent: Agent,
    ca: TempDir,
    _listening: DefaultGuard,
}

/// One server, well or ill.
pub struct Seat {
    pub server: Server,
    /// How it fails; `None`: it does not.
    pub ill: Option<Ill>,
    hole: Option<BlackHole>,
}

impl Site {
    /// Starts these servers, `compile0` first; `None`: a well one. Nothing is announced yet.
    pub async fn start(ills: &[Option<Ill>]) -> Self {
        Self::start_for(&["puppet".into(), ASKED.into()], ills).await
    }

    /// The same with certificates for these names.
    pub async fn start_for(names: &[String], ills: &[Option<Ill>]) -> Self {
        let journal = Journal::default();
        let listening = journal.listen();
        let (dns, pki) = (Dns::start().await, Arc::new(Pki::new()));
        let mut seats = Vec::new();
        for (n, ill) in ills.iter().enumerate() {
            let seat = Seat::start(&pki, &fqdn(&format!("compile{n}")), names, *ill).await;
            dns.set_addresses(seat.server.name(), TTL, &[seat.address().ip()]).await;
            seats.push(seat);
        }
        let ca = TempDir::new().unwrap();
        std::fs::write(ca.path().join("ca.pem"), pki.ca_pem()).unwrap();
        let nowhere = Way::Proxy(SocketAddr::from(([127, 0, 0, 1], 0)));
        let agent = Agent::new(nowhere, &pki.trust(), Some(&pki.identity(&["agent01.lab.test"])));
        Site { dns, journal, seats, agent, ca, _listening: listening }
    }

    /// Makes these the servers of compile, in this order.
    pub async fn announce(&self, order: &[usize]) {
        let seats = order.iter().map(|n| &self.seats[*n]);
        let records: Vec<_> =
            (0..).zip(seats).map(|(p, seat)| (p, 0, seat.address().port(), seat.server.name())).collect();
        self.dns.set_srv(&format!("_x-puppet._tcp.{DOMAIN}"), TTL, &records).await;
    }

    /// A shim that knows nothing yet. `check`: whether it looks at certificates first.
    pub async fn shim(&self, check: bool, adjust: impl FnOnce(&mut Config)) -> Shim {
        let mut config = shim::config(&self.dns);
        config.certificates.check = check;
        config.certificates.ca_file = Some(self.ca_file());
        adjust(&mut config);
        Shim::start(config).await
    }

    /// An agent of this shim's.
    pub fn agent(&self, shim: &Shim, mode: Mode) -> Agent {
        let address = shim.addresses()[0];
        self.agent.by(match mode {
            Mode::Proxy => Way::Proxy(address),
            Mode::Alias => Way::Direct(address),
        })
    }

    fn ca_file(&self) -> PathBuf {
        self.ca.path().join("ca.pem")
    }
}

impl Seat {
    async fn start(pki: &Arc<Pki>, name: &str, names: &[String], ill: Option<Ill>) -> Self {
        let own = [name.to_string()];
        let names = if ill == Some(Ill::Unnamed) { &[] } else { names };
        let mut server = Server::start(pki, "compile", &[&own, names].concat()).await;
        let slowly = |piece, pause| Some(Fault::Drip { piece, pause });
        server.set_fault(match ill {
            None | Some(Ill::Refused | Ill::BlackHole | Ill::Unnamed) => None,
            Some(Ill::Mute) => Some(Fault::Mute),
            Some(Ill::Reset) => Some(Fault::Reset),
            Some(Ill::Eof) => Some(Fault::Eof),
            Some(Ill::HalfClosed) => Some(Fault::Fin),
            Some(Ill::Alert(description)) => Some(Fault::Alert(description)),
            Some(Ill::Stuck) => slowly(4, Duration::from_secs(24 * 60 * 60)),
            Some(Ill::Drip) => slowly(1, Duration::from_secs(1)),
        });
        if ill == Some(Ill::Refused) {
            server.stop().await;
        }
        let hole = (ill == Some(Ill::BlackHole)).then(BlackHole::new);
        Seat { server, ill, hole }
    }

    /// Where it is, or is not.
    pub fn address(&self) -> SocketAddr {
        self.hole.as_ref().map_or(self.server.address(), BlackHole::address)
    }

    /// As logs and reasons name it.
    pub fn written(&self) -> String {
        let address = self.address();
        format!("{}:{} ({})", self.server.name(), address.port(), address.ip())
    }
}
