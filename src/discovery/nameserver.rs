//! The nameservers: where they are, how each is asked, and which of them were silent lately.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ProtocolConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::dnssec::TrustAnchors;
use hickory_resolver::{NameServerPool, PoolContext, Resolver, TlsConfig, TokioResolver};
use resolv_conf::ScopedIp;
use rustls::ClientConfig;
use tokio::time::Instant;

use super::anchor::{Anchors, Trust};
use super::answer::Trouble;
use super::distrust::Distrust;
use super::file::{Read, Stamp, stamp};
use super::secrecy::Secrecy;
use crate::config::{DnsConfig, Dnssec, Nameserver, Transport};

/// One that was silent while another answered goes last for so long. Then it is asked beside another, once, so that a
/// dead one costs nobody any time.
const SILENCE: Duration = Duration::from_secs(60);

/// How often at most it is looked whether `resolv.conf` has changed; only ever when a name is needed.
const LOOK: Duration = Duration::from_secs(1);

/// The nameservers.
pub(super) struct Nameservers {
    config: DnsConfig,
    resolv_conf: PathBuf,
    now: Mutex<Now>,
}

/// The nameservers as they are just now.
struct Now {
    servers: Arc<[Server]>,
    search: Arc<[String]>,
    /// The file they are from: one replaced by rename has another inode.
    stamp: Option<Stamp>,
    looked: Instant,
}

/// What the files that the settings name have come to, for all nameservers of a list.
struct Files {
    none: Arc<Anchors>,
    anchors: Read<Arc<Anchors>>,
    secrecy: Secrecy,
}

/// One nameserver, and what is known of it.
pub(super) struct Server {
    /// As logs and `resolve` name it.
    pub(super) label: Arc<str>,
    at: Nameserver,
    config: DnsConfig,
    /// While somebody asks. Its connections end with it: a nameserver that closes one long after would be traffic in an
    /// idle hour.
    resolver: Mutex<(Weak<TokioResolver>, Option<Arc<TrustAnchors>>)>,
    files: Arc<Files>,
    /// Whose signatures are trusted. Held while the nameserver is asked for it, so that it is asked once.
    trust: tokio::sync::Mutex<Option<Arc<Trust>>>,
    /// Until when it goes last.
    silent_until: Mutex<Option<Instant>>,
    /// What was wrong with its certificate, which hickory does not pass on.
    distrust: Distrust,
}

/// Where a nameserver stands among the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Nothing is known against it.
    Well,
    /// It was silent, and may answer again.
    Due,
    /// It was silent just now.
    Silent,
}

/// What the system's `resolv.conf` says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResolvConf {
    /// Nameservers.
    pub servers: Vec<SocketAddr>,
    /// Suffixes for names without a dot.
    pub search: Vec<String>,
}

impl ResolvConf {
    /// Reads the file. One that is missing or broken means what it means to the C library: a nameserver on this host.
    pub fn read(path: &Path) -> Self {
        Self::parse(&fs::read(path).unwrap_or_default())
    }

    fn parse(text: &[u8]) -> Self {
        let (parsed, _) = resolv_conf::Config::parse_with_errors(text);
        let mut servers = Vec::new();
        for nameserver in &parsed.nameservers {
            if let ScopedIp::V6(_, Some(scope)) = nameserver {
                tracing::warn!(%nameserver, %scope, "a nameserver on one link only cannot be asked; left out");
            } else {
                servers.push(SocketAddr::new(nameserver.into(), 53));
            }
        }
        ResolvConf {
            servers: if servers.is_empty() { vec![(Ipv4Addr::LOCALHOST, 53).into()] } else { servers },
            search: parsed
                .get_last_search_or_domain()
                .map(|d| d.trim_end_matches('.').to_ascii_lowercase())
                .filter(|d| !d.is_empty())
                .collect(),
        }
    }
}

impl Nameservers {
    /// The configured ones, else those of `resolv.conf`, which is read again when it has changed: a host may get its
    /// network after us. The search list is the file's, whoever the nameservers are.
    pub(super) fn new(config: &DnsConfig, resolv_conf: &Path) -> Self {
        let stamp = stamp(resolv_conf);
        let ResolvConf { servers, search } = ResolvConf::read(resolv_conf);
        let servers = if config.servers.is_empty() {
            servers.into_iter().map(Nameserver::from).collect()
        } else {
            config.servers.clone()
        };
        let now = Now { servers: all(&servers, config), search: search.into(), stamp, looked: Instant::now() };
        Nameservers { config: config.clone(), resolv_conf: resolv_conf.to_owned(), now: Mutex::new(now) }
    }

    /// Those to ask now.
    pub(super) fn servers(&self) -> Arc<[Server]> {
        self.lock().servers.clone()
    }

    /// Suffixes for names without a dot.
    pub(super) fn search(&self) -> Arc<[String]> {
        self.lock().search.clone()
    }

    /// Reads `resolv.conf` again where it has changed. Gives whether others are to be asked from now on: what one
    /// nameserver did says nothing of another.
    pub(super) fn look(&self) -> bool {
        let path = &self.resolv_conf;
        let mut now = self.lock();
        if now.looked.elapsed() < LOOK {
            return false;
        }
        now.looked = Instant::now();
        let stamp = stamp(path);
        if stamp == now.stamp {
            return false;
        }
        let ResolvConf { servers, search } = ResolvConf::read(path);
        now.stamp = stamp;
        if !self.config.servers.is_empty() {
            tracing::info!(file = %path.display(), ?search, "read again; the nameservers are configured");
            now.search = search.into();
            return false;
        }
        tracing::info!(file = %path.display(), nameservers = ?servers, ?search, "read again");
        let servers: Vec<Nameserver> = servers.into_iter().map(Nameserver::from).collect();
        now.servers = all(&servers, &self.config);
        now.search = search.into();
        true
    }

    fn lock(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn all(servers: &[Nameserver], config: &DnsConfig) -> Arc<[Server]> {
    let files = Files { none: Arc::new(Anchors::none()), anchors: Read::default(), secrecy: Secrecy::default() };
    let files = Arc::new(files);
    let server = |at: &Nameserver| Server {
        label: match at.transport {
            // As people know it from resolv.conf and from dig.
            Transport::Plain => at.address.to_string().into(),
            Transport::Tls(_) => at.to_string().into(),
        },
        at: at.clone(),
        config: config.clone(),
        resolver: Mutex::default(),
        files: files.clone(),
        trust: tokio::sync::Mutex::default(),
        silent_until: Mutex::default(),
        distrust: Distrust::default(),
    };
    servers.iter().map(server).collect()
}

impl Server {
    /// What is made of signatures.
    pub(super) fn dnssec(&self) -> Dnssec {
        self.config.dnssec
    }

    /// What asks it, and trusts signatures by these keys; none: looks at no signature. Whoever asks at the same time
    /// shares it, and with it a connection.
    ///
    /// # Errors
    ///
    /// Why it cannot be asked, in words that follow its name: a file that the settings name is of no use.
    pub(super) fn resolver(&self, anchors: Option<&Arc<TrustAnchors>>) -> Result<Arc<TokioResolver>, String> {
        let mut shared = self.resolver.lock().unwrap_or_else(PoisonError::into_inner);
        let is_same = match (&shared.1, anchors) {
            (Some(its), Some(anchors)) => Arc::ptr_eq(its, anchors),
            (its, anchors) => its.is_none() && anchors.is_none(),
        };
        if is_same && let Some(resolver) = shared.0.upgrade() {
            return Ok(resolver);
        }
        let resolver = Arc::new(self.build(anchors)?);
        *shared = (Arc::downgrade(&resolver), anchors.cloned());
        Ok(resolver)
    }

    /// The same for one question.
    pub(super) fn build(&self, anchors: Option<&Arc<TrustAnchors>>) -> Result<TokioResolver, String> {
        let (server, mut options) = self.parts();
        let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
        let mut builder = Resolver::builder_with_config(config, TokioRuntimeProvider::default());
        if let Some(tls) = self.tls()? {
            builder = builder.with_tls_config(tls);
        }
        if let Some(anchors) = anchors {
            builder = builder.with_trust_anchor(anchors.clone());
            options.validate = true;
        }
        builder.with_options(options).build().map_err(|error| unusable(&error))
    }

    /// Whose signatures are trusted, as the nameserver has shown no longer ago than that.
    ///
    /// # Errors
    ///
    /// As above.
    pub(super) async fn trust(&self, oldest: Duration) -> Result<Arc<Trust>, String> {
        let file = match &self.config.trust_anchor {
            Some(path) => {
                let read = |path: &Path| Anchors::read(path).map(Arc::new);
                self.files.anchors.get(path, read).map_err(|why| unusable(&why))?
            }
            None => self.files.none.clone(),
        };
        let mut held = self.trust.lock().await;
        if let Some(trust) = held.as_ref().filter(|trust| trust.holds(&file, oldest)) {
            return Ok(trust.clone());
        }
        let (server, options) = self.parts();
        let tls = match self.tls()? {
            Some(config) => TlsConfig { config },
            None => TlsConfig::new().map_err(|why| unusable(&why))?,
        };
        let context = Arc::new(PoolContext::new(options, tls));
        let pool = NameServerPool::from_config([server], context, TokioRuntimeProvider::default());
        // Names outside of these zones wait for that too: some of the time is theirs.
        let trust = Trust::ask(file, &pool, held.as_deref(), self.config.timeout / 2).await;
        let trust = Arc::new(trust);
        *held = Some(trust.clone());
        Ok(trust)
    }

    fn tls(&self) -> Result<Option<ClientConfig>, String> {
        if self.at.transport == Transport::Plain {
            return Ok(None);
        }
        let tls = self.files.secrecy.tls(self.config.ca_file.as_deref(), &self.distrust);
        tls.map(Some).map_err(|why| unusable(&why))
    }

    fn parts(&self) -> (NameServerConfig, ResolverOpts) {
        let Nameserver { address, transport } = &self.at;
        let protocols = match transport {
            Transport::Plain => vec![ProtocolConfig::Udp, ProtocolConfig::Tcp],
            Transport::Tls(name) => {
                let server_name = name.as_ref().map_or_else(|| address.ip().to_string(), ToString::to_string);
                vec![ProtocolConfig::Tls { server_name: server_name.into() }]
            }
        };
        let connections = protocols.into_iter().map(|protocol| {
            let mut connection = ConnectionConfig::new(protocol);
            connection.port = address.port();
            connection
        });
        let mut options = ResolverOpts::default();
        options.timeout = self.config.timeout;
        // A packet that is lost is sent again by itself, after a third of a second; a server that has said SERVFAIL need
        // not be asked thrice.
        options.attempts = 0;
        options.cache_size = 0;
        options.edns0 = true;
        // What an alias leads to counts only if it is seen to.
        options.preserve_intermediates = true;
        options.use_hosts_file = ResolveHosts::Never;
        (NameServerConfig::new(address.ip(), true, connections.collect()), options)
    }

    /// Why it gave no answer, where its certificate is the reason; otherwise as it is said already.
    pub(super) fn why(&self, trouble: Trouble) -> Trouble {
        match self.distrust.take() {
            Some(distrust) => Trouble::Spoke(format!("has a certificate that is not trusted: {distrust}")),
            None => trouble,
        }
    }

    pub(super) fn standing(&self, now: Instant) -> Standing {
        match *self.silence() {
            None => Standing::Well,
            Some(until) if until <= now => Standing::Due,
            Some(_) => Standing::Silent,
        }
    }

    /// It has said something, whatever it was. Gives whether that is news.
    pub(super) fn has_spoken(&self) -> bool {
        self.silence().take().is_some()
    }

    /// It has said nothing where another one has. Gives whether that is news.
    pub(super) fn was_silent(&self, now: Instant) -> bool {
        self.silence().replace(now + SILENCE).is_none()
    }

    fn silence(&self) -> MutexGuard<'_, Option<Instant>> {
        self.silent_until.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn unusable(why: &dyn std::fmt::Display) -> String {
    format!("cannot be asked: {why}")
}

/// In which order to ask nameservers: those that are well first, and those that were silent last. One that may answer
/// again is asked together with the one in front of it (`true`), so that it costs no time to find out.
pub(super) fn order(standings: impl Iterator<Item = Standing>) -> Vec<(usize, bool)> {
    let all: Vec<(usize, Standing)> = standings.enumerate().collect();
    let of = |wanted: Standing| all.iter().filter(move |(_, standing)| *standing == wanted).map(|(at, _)| *at);
    let mut order: Vec<(usize, bool)> = of(Standing::Well).map(|at| (at, false)).collect();
    let due: Vec<(usize, bool)> = of(Standing::Due).map(|at| (at, true)).collect();
    let behind = order.len().min(1);
    order.splice(behind..behind, due);
    order.extend(of(Standing::Silent).map(|at| (at, false)));
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_resolv_conf() {
        let conf =
            ResolvConf::parse(b"# x\nsearch Example.COM. corp.example\nnameserver 192.0.2.1\nnameserver 2001:db8::1\n");
        assert_eq!(conf.servers, ["192.0.2.1:53".parse().unwrap(), "[2001:db8::1]:53".parse().unwrap()]);
        assert_eq!(conf.search, ["example.com", "corp.example"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_replaced_resolv_conf_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("resolv.conf");
        let nameservers = Nameservers::new(&DnsConfig::default(), &path);
        let labels = |n: &Nameservers| n.servers().iter().map(|server| server.label.to_string()).collect::<Vec<_>>();
        assert_eq!(labels(&nameservers), ["127.0.0.1:53"]);
        for ip in ["192.0.2.1", "192.0.2.2"] {
            let new = folder.path().join("new");
            fs::write(&new, format!("nameserver {ip}\nsearch {ip}.test\n")).unwrap();
            fs::rename(&new, &path).unwrap();
            assert!(!nameservers.look(), "not more than once a second");
            tokio::time::advance(LOOK).await;
            assert!(nameservers.look());
            assert_eq!(labels(&nameservers), [format!("{ip}:53")]);
            assert_eq!(*nameservers.search(), [format!("{ip}.test")]);
            tokio::time::advance(LOOK).await;
            assert!(!nameservers.look(), "nothing has changed");
        }
        let own = SocketAddr::from(([192, 0, 2, 9], 53)).into();
        let nameservers = Nameservers::new(&DnsConfig { servers: vec![own], ..DnsConfig::default() }, &path);
        fs::write(&path, "nameserver 192.0.2.3\nsearch other.test\n").unwrap();
        tokio::time::advance(LOOK).await;
        assert!(!nameservers.look());
        assert_eq!(*nameservers.search(), ["other.test"], "the search list is the file's all the same");
        assert_eq!(labels(&nameservers), ["192.0.2.9:53"], "configured ones stay");
    }

    #[test]
    fn no_resolv_conf_means_this_host() {
        assert_eq!(ResolvConf::read(Path::new("/nonexistent/resolv.conf")).servers, ["127.0.0.1:53".parse().unwrap()]);
    }

    #[test]
    fn who_was_silent_goes_last_and_is_tried_beside() {
        use Standing::{Due, Silent, Well};
        let of = |standings: &[Standing]| order(standings.iter().copied());
        assert_eq!(of(&[Well, Well]), [(0, false), (1, false)]);
        assert_eq!(of(&[Silent, Well, Well]), [(1, false), (2, false), (0, false)]);
        assert_eq!(of(&[Due, Well, Silent, Well]), [(1, false), (0, true), (3, false), (2, false)]);
        assert_eq!(of(&[Silent, Silent]), [(0, false), (1, false)]);
        assert_eq!(of(&[Due, Silent]), [(0, true), (1, false)]);
        assert_eq!(of(&[]), []);
    }

    #[tokio::test(start_paused = true)]
    async fn a_silence_ends() {
        let config = DnsConfig { servers: vec![SocketAddr::from(([192, 0, 2, 9], 53)).into()], ..DnsConfig::default() };
        let servers = all(&config.servers, &config);
        let server = &servers[0];
        assert_eq!(server.standing(Instant::now()), Standing::Well);
        assert!(server.was_silent(Instant::now()) && !server.was_silent(Instant::now()));
        assert_eq!(server.standing(Instant::now()), Standing::Silent);
        tokio::time::advance(SILENCE).await;
        assert_eq!(server.standing(Instant::now()), Standing::Due);
        assert!(server.has_spoken() && !server.has_spoken());
        assert_eq!(server.standing(Instant::now()), Standing::Well);
    }
}
