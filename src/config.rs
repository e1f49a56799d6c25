//! What an admin may set, and what holds where nothing is set.

mod allowed;
mod diagnostic;
mod draft;
mod file;
mod findings;
mod keys;
mod nameserver;
mod provenance;
mod roles;
mod rules;
mod section;
mod source;
mod syntax;
mod unit;
mod value;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use crate::host::{Host, HostPort};
use crate::pattern::Pattern;
use crate::role::Role;

pub use diagnostic::{Diagnostic, Place, Severity};
pub use file::{Accepted, Rejected};
pub use keys::{TABLES, Table};
pub use provenance::{Provenance, RejectedReload};
pub(crate) use source::missing;
pub use source::{InForce, Origin, default_file, in_force};

/// A whole, valid configuration. `Config::default()` is what holds without any file.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Addresses to listen on. Default: 127.0.0.1:8139 and `[::1]:8139`. Port 0 takes a free port (tests).
    pub listen: Vec<SocketAddr>,
    /// After so long without a connection the process leaves, where systemd holds every listener and starts it again.
    /// Default 0 s: never; 1 s to 1 d.
    pub idle_exit: Duration,
    /// Whether a listener may be elsewhere than on loopback. Default: no. Anyone who can reach such a listener uses
    /// this host's way to the servers, its network position and its proxy; the servers still ask everyone for a
    /// certificate, but no firewall tells them apart.
    pub allow_remote_clients: bool,
    /// The domain of the short names and of the SRV records, lower case, without a trailing dot. `None`: found as
    /// Facter finds it ([`crate::domain`]), failing that the requested name's own.
    pub domain: Option<String>,
    /// The agent's certname: the key by which [`Balance::Hash`] tells hosts apart. Lower case, printable ASCII without
    /// `/` (`lib/puppet/ssl/base.rb`), not empty. `None`: the host's own full name, which is Puppet's default too.
    pub certname: Option<String>,
    /// What becomes of names that are not Puppet's, in proxy mode.
    pub foreign: Foreign,
    /// The roles: `ca`, `compile`, `files`, `report`, then the site's own in the order written.
    pub roles: Vec<RoleConfig>,
    /// Bounds in time.
    pub timeouts: Timeouts,
    /// Bounds in number and size.
    pub limits: Limits,
    /// How DNS is asked.
    pub dns: DnsConfig,
    /// Whether and how servers' certificates are looked at ahead of use.
    pub certificates: Certificates,
    /// Where the status is asked for.
    pub status: StatusConfig,
}

/// Where the status is asked for, and by whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusConfig {
    /// The Unix socket. Default: [`StatusSocket::Usual`].
    pub socket: StatusSocket,
    /// The group that may ask, beside root and the daemon's own user: its name in `/etc/group`, or its number. `None`: the
    /// process's own.
    pub group: Option<String>,
    /// Whether a browser or a scraper on this host gets it by HTTP, from any listener on loopback. Default: yes.
    pub page: bool,
}

impl Default for StatusConfig {
    fn default() -> Self {
        StatusConfig { socket: StatusSocket::default(), group: None, page: true }
    }
}

/// The Unix socket on which the status is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum StatusSocket {
    /// `status.socket` in the runtime directory: `/run/puppet-shim`, or what systemd says.
    #[default]
    Usual,
    /// There is none.
    Off,
    /// This one, an absolute path.
    At(PathBuf),
}

/// What becomes of a CONNECT or an absolute-form request for a name that is no role's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Foreign {
    /// 403, with a reason that names this setting.
    Refuse,
    /// Connect to the name itself.
    Direct,
    /// Hand the request to the site's own HTTP proxy.
    Proxy(HostPort),
}

/// One role.
#[derive(Clone, Debug, PartialEq)]
pub struct RoleConfig {
    /// Which one.
    pub role: Role,
    /// Names that mean this role, lower case, without a trailing dot. One without a dot counts bare and under the
    /// domain. Those of `compile` are the *official* names: with another role's port they mean that role.
    pub names: Vec<String>,
    /// Ports that mean this role: with an official name, or as a listener's own port.
    pub ports: Vec<u16>,
    /// Owner name of its SRV records. `_service._proto` alone is looked for under the domain, anything longer is
    /// absolute. `None`: no SRV records of its own, in a file `srv = false`.
    pub srv: Option<String>,
    /// Whether the records of `compile` serve when it has none of its own.
    pub fallback: bool,
    /// Static servers, tried in this order when there is no SRV record. Without a port: the requested one.
    pub servers: Vec<StaticServer>,
    /// Which of the servers of one SRV priority is tried first. Default: [`Balance::Srv`].
    pub balance: Balance,
    /// Inside an SRV priority, servers that match are tried before those that do not, and an earlier pattern goes
    /// before a later one. Default: none.
    pub prefer: Vec<Pattern>,
    /// Targets that SRV records may name for this role; a record with another one is passed over. Default: none, which
    /// allows every name. The static list is the admin's own word and is not held against this.
    pub allow_targets: Vec<Pattern>,
    /// Ports that SRV records may name. `None`: 8140 to 8143 and every port in the configuration, see
    /// [`Config::is_allowed_port`].
    pub allow_ports: Option<Vec<RangeInclusive<u16>>>,
}

/// How a role's servers of one SRV priority are chosen among.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Balance {
    /// A draw by weight, anew each time, as Puppet does it.
    #[default]
    Srv,
    /// By a hash of the certname, in proportion to the weights: a host keeps its server.
    Hash,
    /// The one that is least busy by its own account, where that is known; among equals, and where it is not known, a
    /// draw by weight.
    LeastLoaded,
}

impl Balance {
    /// All of them.
    pub const ALL: [Balance; 3] = [Balance::Srv, Balance::Hash, Balance::LeastLoaded];

    /// The word for it in a configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Balance::Srv => "srv",
            Balance::Hash => "hash",
            Balance::LeastLoaded => "least-loaded",
        }
    }
}

/// A server named in the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StaticServer {
    /// Its name or address.
    pub host: Host,
    /// Its port; `None`: the requested one.
    pub port: Option<u16>,
}

/// Bounds in time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// From accept until it is known what the connection wants. Default 10 s, 100 ms to 10 min.
    pub sniff: Duration,
    /// For one candidate to accept. Default 2 s, 10 ms to 2 min.
    pub connect: Duration,
    /// For all candidates together, lookups included. Default 15 s, 100 ms to 10 min. The agent itself waits 2 min.
    pub budget: Duration,
    /// A tunnel in which neither side has said anything for so long is closed. Default 1 h, 10 min (Puppet's
    /// `http_read_timeout`: a catalog compiles in silence) to 7 d.
    pub idle: Duration,
    /// For how long after the close of its last tunnel a host stays with the server that it used. Default 5 min, 0 s
    /// (no longer than a tunnel is open) to 1 d. Agents run every 30 min, and a run's connections are seconds to a few
    /// minutes apart.
    pub pin: Duration,
    /// For how long a stop waits for open tunnels to come to where closing them harms nobody, if nobody takes them over.
    /// Default 15 min, 0 s to 1 h.
    pub drain: Duration,
}

/// Bounds in number and size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections at once; more wait in the kernel's queue. Default 1024, 1 to 1,000,000.
    pub connections: usize,
    /// Bytes of a `ClientHello`, or of an HTTP head, before it is refused. Default 16 KiB, 1 KiB to 64 KiB.
    pub hello: usize,
}

/// How DNS is asked, and what it may say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsConfig {
    /// Nameservers; empty: those of resolv.conf.
    pub servers: Vec<Nameserver>,
    /// How long a connection of which nothing is known waits for DNS to name a role's servers, all nameservers and all
    /// of the role's record sets included; and longest for any one answer. Default 2 s, 100 ms to 1 min.
    pub timeout: Duration,
    /// A last good answer older than this is used only where there is nothing else. Default 7 d, 0 s (no longer than
    /// its TTL) to 365 d.
    pub max_stale: Duration,
    /// Whether a name that DNS takes to loopback may be connected to. Default: no.
    pub allow_loopback: bool,
    /// Whether signatures are looked at. Default: [`Dnssec::Off`].
    pub dnssec: Dnssec,
    /// DNSKEY records in zone file form that are trusted in addition to the root's, an absolute path. Of a zone's keys the
    /// key-signing key is enough. `None`: only the root's.
    pub trust_anchor: Option<PathBuf>,
    /// Whom a nameserver that is asked over TLS is trusted by, an absolute path to a PEM file. `None`: the system's
    /// certificates.
    pub ca_file: Option<PathBuf>,
}

/// One nameserver.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Nameserver {
    /// Where it is. Port 53 unless written, 853 over TLS.
    pub address: SocketAddr,
    /// How it is asked.
    pub transport: Transport,
}

/// How a nameserver is asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// Over UDP, and over TCP where an answer does not fit.
    Plain,
    /// Over TLS (RFC 7858); the certificate has to have this name or, without one, the address.
    Tls(Option<Host>),
}

impl From<SocketAddr> for Nameserver {
    fn from(address: SocketAddr) -> Self {
        Nameserver { address, transport: Transport::Plain }
    }
}

/// As the configuration writes it, the port always.
impl fmt::Display for Nameserver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.transport {
            Transport::Plain => write!(f, "{}", self.address),
            Transport::Tls(None) => write!(f, "tls://{}", self.address),
            Transport::Tls(Some(name)) => write!(f, "tls://{}#{name}", self.address),
        }
    }
}

/// What is made of DNSSEC (RFC 4033).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dnssec {
    /// Nothing.
    #[default]
    Off,
    /// An answer whose signature is wrong, or missing where there has to be one, is not used. One from a zone that is
    /// not signed is.
    Prefer,
    /// Nor is that.
    Require,
}

impl Dnssec {
    /// All of them.
    pub const ALL: [Dnssec; 3] = [Dnssec::Off, Dnssec::Prefer, Dnssec::Require];

    /// The word for it in a configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Dnssec::Off => "off",
            Dnssec::Prefer => "prefer",
            Dnssec::Require => "require",
        }
    }
}

/// Whether and how servers' certificates are looked at ahead of use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificates {
    /// Whether a server is asked for its certificate before an agent is sent to it. Default: yes.
    pub check: bool,
    /// The CA's certificates, an absolute path to a PEM file. `None`: where the agent keeps them, that of Puppet's and
    /// `OpenVox`'s own packages in `/etc/puppetlabs/puppet/ssl/certs/ca.pem`, Debian's in
    /// `/var/lib/puppet/ssl/certs/ca.pem`.
    pub ca_file: Option<PathBuf>,
}

impl Default for Config {
    fn default() -> Self {
        let port = 8139;
        Config {
            listen: vec![
                SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port),
                SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), port),
            ],
            idle_exit: Duration::ZERO,
            allow_remote_clients: false,
            domain: None,
            certname: None,
            foreign: Foreign::Refuse,
            roles: vec![
                RoleConfig::builtin("ca", "puppetca", 8141, "_x-puppet-ca._tcp", false),
                RoleConfig::builtin("compile", "puppet", 8140, "_x-puppet._tcp", false),
                RoleConfig::builtin("files", "puppetfiles", 8143, "_x-puppet-fileserver._tcp", true),
                RoleConfig::builtin("report", "puppetreport", 8142, "_x-puppet-report._tcp", true),
            ],
            timeouts: Timeouts::default(),
            limits: Limits::default(),
            dns: DnsConfig::default(),
            certificates: Certificates::default(),
            status: StatusConfig::default(),
        }
    }
}

impl RoleConfig {
    /// A role as it is without any file. SRV names: `lib/puppet/http/dns.rb`.
    fn builtin(role: &str, name: &str, port: u16, srv: &str, fallback: bool) -> Self {
        RoleConfig {
            role: Role::new(role),
            names: vec![name.into()],
            ports: vec![port],
            srv: Some(srv.into()),
            fallback,
            servers: Vec::new(),
            balance: Balance::default(),
            prefer: Vec::new(),
            allow_targets: Vec::new(),
            allow_ports: None,
        }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Timeouts {
            sniff: Duration::from_secs(10),
            connect: Duration::from_secs(2),
            budget: Duration::from_secs(15),
            idle: Duration::from_secs(60 * 60),
            pin: Duration::from_secs(5 * 60),
            drain: Duration::from_secs(15 * 60),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Limits { connections: 1024, hello: 16 * 1024 }
    }
}

impl Default for DnsConfig {
    fn default() -> Self {
        DnsConfig {
            servers: Vec::new(),
            timeout: Duration::from_secs(2),
            max_stale: Duration::from_secs(7 * 24 * 60 * 60),
            allow_loopback: false,
            dnssec: Dnssec::default(),
            trust_anchor: None,
            ca_file: None,
        }
    }
}

impl Default for Certificates {
    fn default() -> Self {
        Certificates { check: true, ca_file: None }
    }
}
