//! A server is asked for its names and for its load before an agent stakes a run on it.
//!
//! What counts is what the agent would see: a verdict must not depend on whether the server wants a certificate of the
//! client's, of which the shim has none, nor on anything but the name. Servers notice nothing unusual.

// A test ends where its set-up fails.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use puppet_shim::certificate::Names;
use puppet_shim::host::Host;
use puppet_shim::probe::{Load, LoadError, Prober, Verdict};
use puppet_shim::trust::Trust;
use rcgen::{CertificateParams, SanType, date_time_ymd};
use rustls::version::{TLS12, TLS13};
use rustls::{ServerConfig, SupportedProtocolVersion};
use support::eventually;
use support::fault::{self, Fault};
use support::pki::{ClientCertificate, Identity, Pki};
use support::tcp::{Named, PATIENCE};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

const VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

/// A server that answers every connection with the same bytes, and tells how it ended.
struct Server {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    task: JoinHandle<()>,
}

/// How one connection went.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    sni: Option<String>,
    request: String,
    /// The end: in good order, or what failed.
    end: Result<(), String>,
}

impl Server {
    async fn start(tls: Arc<ServerConfig>, answer: &str) -> Self {
        Self::with(tls, answer, None).await
    }

    async fn with(tls: Arc<ServerConfig>, answer: &str, fault: Option<Fault>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (answer, list) = (answer.to_string(), seen.clone());
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let mut seen = Seen { sni: None, request: String::new(), end: Ok(()) };
                seen.end = serve(stream, &tls, &answer, fault, &mut seen).await.map_err(|error| error.to_string());
                list.lock().unwrap().push(seen);
            }
        });
        Server { address, seen, task }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// How its only connection went.
    async fn seen(&self) -> Seen {
        eventually("the connection ends", || !self.seen.lock().unwrap().is_empty()).await;
        let seen = self.seen.lock().unwrap();
        assert_eq!(seen.len(), 1, "{seen:?}");
        seen[0].clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(
    stream: TcpStream,
    tls: &Arc<ServerConfig>,
    answer: &str,
    fault: Option<Fault>,
    seen: &mut Seen,
) -> io::Result<()> {
    let Some(stream) = fault::play(fault, stream).await? else { return Ok(()) };
    let mut stream = TlsAcceptor::from(tls.clone()).accept(stream).await?;
    seen.sni = stream.get_ref().1.server_name().map(str::to_string);
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let mut piece = [0; 4096];
        match stream.read(&mut piece).await? {
            // Without close_notify this would be an error.
            0 => break,
            read => request.extend_from_slice(&piece[..read]),
        }
    }
    seen.request = String::from_utf8(request).unwrap();
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await?;
    // Not reset: the other side has read what came.
    stream.into_inner().0.read_to_end(&mut Vec::new()).await?;
    Ok(())
}

/// A CA, an agent's copy of its certificate, and who asks.
struct Site {
    pki: Arc<Pki>,
    prober: Prober,
    directory: TempDir,
}

impl Site {
    fn new() -> Self {
        let pki = Arc::new(Pki::new());
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ca.pem");
        std::fs::write(&path, pki.ca_pem()).unwrap();
        Site { pki, prober: Prober::new(Trust::new(Some(path))), directory }
    }

    fn config(&self, names: &[&str]) -> Arc<ServerConfig> {
        self.pki.server_config(self.pki.identity(names), ClientCertificate::Optional)
    }

    /// A server whose certificate is what `adjust` makes of one for `names`.
    async fn server(&self, names: &[&str], adjust: impl FnOnce(&mut CertificateParams)) -> Server {
        let identity = self.pki.identity_with(names, adjust);
        Server::start(self.pki.server_config(identity, ClientCertificate::Optional), "").await
    }

    async fn names(&self, server: &Server, asked: &str) -> Verdict {
        self.ask(server.connect().await, asked).await
    }

    async fn ask(&self, stream: TcpStream, asked: &str) -> Verdict {
        timeout(PATIENCE, self.prober.names(stream, &host(asked))).await.expect("no verdict")
    }

    /// What is heard of the load from a server that answers so.
    async fn load(&self, answer: &str) -> Result<Load, LoadError> {
        let server = Server::start(self.config(&["puppet"]), answer).await;
        self.load_of(&server).await
    }

    async fn load_of(&self, server: &Server) -> Result<Load, LoadError> {
        let asked = host("puppet");
        timeout(PATIENCE, self.prober.load(server.connect().await, &asked)).await.expect("no answer")
    }
}

fn host(text: &str) -> Host {
    text.parse().unwrap()
}

fn good() -> Verdict {
    Verdict::Named { chain: None }
}

fn unclear(why: &str) -> Verdict {
    Verdict::Unclear(why.into())
}

#[track_caller]
fn unnamed(verdict: Verdict) -> Names {
    match verdict {
        Verdict::Unnamed { has } => has,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn warning(verdict: Verdict) -> String {
    match verdict {
        Verdict::Named { chain: Some(why) } => why,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_server_with_the_name_sees_a_connection_that_ends_well() {
    let site = Site::new();
    for version in VERSIONS {
        let identity = site.pki.identity(&["compile1.lab.test", "puppet"]);
        let tls = site.pki.server_config_of(&[version], identity, ClientCertificate::Optional);
        let server = Server::start(tls, "").await;
        assert_eq!(site.names(&server, "puppet").await, good());
        assert_eq!(server.seen().await, Seen { sni: Some("puppet".into()), request: String::new(), end: Ok(()) });
    }
}

/// Nothing of one verdict is left for the next, be it a session to resume.
#[tokio::test]
async fn each_connection_sees_the_certificate_anew() {
    let site = Site::new();
    for version in VERSIONS {
        let identity = site.pki.identity(&["puppet"]);
        let server =
            Server::start(site.pki.server_config_of(&[version], identity, ClientCertificate::Optional), "").await;
        for _ in 0..3 {
            assert_eq!(site.names(&server, "puppet").await, good(), "{version:?}");
            unnamed(site.names(&server, "puppetca").await);
        }
    }
}

#[tokio::test]
async fn a_server_without_the_name_tells_which_it_has() {
    let site = Site::new();
    let server = site.server(&["compile1.lab.test", "puppet.lab.test"], |_| ()).await;
    let has = unnamed(site.names(&server, "puppet").await);
    assert_eq!(has.to_string(), "compile1.lab.test, puppet.lab.test");
    assert_eq!(server.seen().await.end, Ok(()));
}

/// In TLS 1.2 the handshake fails for that, in 1.3 the connection does after it.
#[tokio::test]
async fn a_server_that_wants_a_certificate_gives_the_same_verdict() {
    let site = Site::new();
    for version in VERSIONS {
        let identity = site.pki.identity(&["compile1.lab.test"]);
        let tls = site.pki.server_config_of(&[version], identity, ClientCertificate::Required);
        let server = Server::start(tls.clone(), "").await;
        assert_eq!(site.names(&server, "compile1.lab.test").await, good(), "{version:?}");
        assert_eq!(server.seen().await.end, Err("peer sent no certificates".into()), "{version:?}");
        let server = Server::start(tls, "").await;
        assert_eq!(unnamed(site.names(&server, "puppet").await).to_string(), "compile1.lab.test", "{version:?}");
    }
}

#[tokio::test]
async fn an_address_is_asked_for_without_sni() {
    let site = Site::new();
    let adjust = |params: &mut CertificateParams| {
        params.subject_alt_names.push(SanType::IpAddress("127.0.0.1".parse().unwrap()));
    };
    let server = site.server(&["puppet"], adjust).await;
    assert_eq!(site.names(&server, "127.0.0.1").await, good());
    assert_eq!(server.seen().await, Seen { sni: None, request: String::new(), end: Ok(()) });
    assert_eq!(unnamed(site.names(&server, "127.0.0.2").await).to_string(), "puppet, 127.0.0.1");
}

#[tokio::test]
async fn a_cn_alone_is_a_name_and_no_flaw() {
    let site = Site::new();
    let server = site.server(&["puppet"], |params| params.subject_alt_names.clear()).await;
    assert_eq!(site.names(&server, "puppet").await, good());
    assert_eq!(unnamed(site.names(&server, "puppetca").await).to_string(), "puppet");
}

#[tokio::test]
async fn dates_are_a_warning() {
    let site = Site::new();
    let expired = |params: &mut CertificateParams| params.not_after = date_time_ymd(2020, 2, 29);
    let server = site.server(&["puppet"], expired).await;
    assert_eq!(warning(site.names(&server, "puppet").await), "its certificate expired on 2020-02-29");
    unnamed(site.names(&server, "puppetca").await);

    let to_come = |params: &mut CertificateParams| params.not_before = date_time_ymd(2999, 1, 1);
    let server = site.server(&["puppet"], to_come).await;
    let expected = "its certificate is not valid before 2999-01-01: one of the two clocks is wrong";
    assert_eq!(warning(site.names(&server, "puppet").await), expected);
}

#[tokio::test]
async fn another_ca_is_a_warning() {
    let (site, other) = (Site::new(), Site::new());
    let server = Server::start(other.config(&["puppet"]), "").await;
    let path = site.directory.path().join("ca.pem");
    let expected = format!("its certificate is signed by no CA in {}", path.display());
    assert_eq!(warning(site.names(&server, "puppet").await), expected);

    // One of another name.
    let alone = CertificateParams::new(vec!["puppet".to_string()]).unwrap();
    let identity = Identity::self_signed(&alone);
    let stranger = Server::start(site.pki.server_config(identity, ClientCertificate::Optional), "").await;
    assert_eq!(warning(site.names(&stranger, "puppet").await), expected);

    // Two CAs, as while one is replaced by the other.
    std::fs::write(&path, site.pki.ca_pem() + &other.pki.ca_pem()).unwrap();
    let prober = Prober::new(Trust::new(Some(path)));
    assert_eq!(prober.names(server.connect().await, &host("puppet")).await, good());
}

#[tokio::test]
async fn a_purpose_that_is_another_is_a_warning() {
    let site = Site::new();
    let adjust = |params: &mut CertificateParams| {
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    };
    let server = site.server(&["puppet"], adjust).await;
    let path = site.directory.path().join("ca.pem");
    let why = warning(site.names(&server, "puppet").await);
    assert!(why.starts_with(&format!("its certificate does not stand up to {}: ", path.display())), "{why}");
}

#[tokio::test]
async fn without_a_ca_the_name_is_checked_all_the_same() {
    let site = Site::new();
    let server = Server::start(site.config(&["puppet"]), "").await;
    let prober = Prober::new(Trust::new(Some(site.directory.path().join("nothing"))));
    assert_eq!(prober.names(server.connect().await, &host("puppet")).await, good());
    assert!(matches!(prober.names(server.connect().await, &host("puppetca")).await, Verdict::Unnamed { .. }));
}

#[tokio::test]
async fn a_server_that_shows_no_certificate_is_unclear() {
    let site = Site::new();
    for (fault, why) in [
        (Fault::Eof, "closed the connection"),
        (Fault::Reset, "reset the connection"),
        (Fault::Alert(40), "answered with the TLS alert HandshakeFailure"),
    ] {
        let server = Server::with(site.config(&["puppet"]), "", Some(fault)).await;
        assert_eq!(site.names(&server, "puppet").await, unclear(why));
        assert_eq!(site.load_of(&server).await, Err(LoadError::Connection(why.into())));
    }
    let plain = Named::start("SSH-2.0-OpenSSH_9.2\r\n").await;
    let verdict = site.ask(TcpStream::connect(plain.address()).await.unwrap(), "puppet").await;
    assert_eq!(verdict, unclear("does not speak TLS"));
    // A label of digits at the end: no name of DNS for the TLS library.
    let server = Server::start(site.config(&["puppet"]), "").await;
    let expected = "cannot be asked: TLS has no way to ask for the name puppet.1";
    assert_eq!(site.names(&server, "puppet.1").await, unclear(expected));
}

/// Somebody else's certificate is public; who shows it must hold its key.
#[tokio::test]
async fn a_certificate_without_its_key_is_unclear() {
    let site = Site::new();
    let server = Server::start(site.pki.forged_config(&["puppet"]), "").await;
    for asked in ["puppet", "puppetca"] {
        let verdict = site.names(&server, asked).await;
        assert_eq!(verdict, unclear("failed in TLS: invalid peer certificate: BadSignature"), "{asked}");
    }
}

/// What puppetserver 7.9.5 says with its only interpreter at work and two catalogs waiting.
const BODY: &str = include_str!("probe/jruby-metrics.json");

#[tokio::test]
async fn the_load_of_a_server() {
    let site = Site::new();
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{BODY}");
    let server = Server::start(site.config(&["puppet"]), &answer).await;
    let load = site.load_of(&server).await.unwrap();
    assert_eq!((load, load.spare()), (Load { free: 0, waiting: 2 }, -2));
    let seen = server.seen().await;
    assert_eq!((seen.sni.as_deref(), seen.end), (Some("puppet"), Ok(())));
    let request: Vec<&str> = seen.request.split("\r\n").collect();
    assert_eq!(request[0], "GET /status/v1/services/jruby-metrics?level=debug HTTP/1.1");
    assert_eq!(request[1], format!("Host: puppet:{}", server.address.port()));
    assert!(request.contains(&"Connection: close"), "{request:?}");
}

#[tokio::test]
async fn no_load_from_a_server_that_does_not_tell() {
    let site = Site::new();
    let refused = site.load("HTTP/1.1 403 Forbidden\r\nContent-Length: 9\r\n\r\nForbidden").await;
    assert_eq!(refused, Err(LoadError::Status(403)));
    assert_eq!(
        refused.unwrap_err().to_string(),
        "answered 403 to /status/v1/services/jruby-metrics?level=debug; its auth.conf should allow \
         /status/v1/services to unauthenticated clients"
    );
    assert_eq!(site.load("garbage\r\n\r\n").await, Err(LoadError::Http("invalid HTTP version".into())));
    assert!(matches!(site.load("HTTP/1.1 200 OK\r\n\r\n{}").await, Err(LoadError::Figures(_))));
    assert_eq!(site.load("").await, Err(LoadError::Http("it breaks off".into())));
    let endless = format!("HTTP/1.1 200 OK\r\n\r\n{}", " ".repeat(300_000));
    assert_eq!(site.load(&endless).await, Err(LoadError::TooLong));
}

#[tokio::test]
async fn no_load_from_a_server_that_wants_a_certificate() {
    let site = Site::new();
    for version in VERSIONS {
        let identity = site.pki.identity(&["puppet"]);
        let tls = site.pki.server_config_of(&[version], identity, ClientCertificate::Required);
        let server = Server::start(tls, "").await;
        let expected = "answered with the TLS alert CertificateRequired";
        assert_eq!(site.load_of(&server).await, Err(LoadError::Connection(expected.into())), "{version:?}");
    }
}
