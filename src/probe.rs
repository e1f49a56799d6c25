//! Asks a server itself: which names are in its certificate, how busy it is, and what else it tells everybody.
//!
//! The agent verifies the name that it asked for against the certificate of whoever it was tunnelled to. A server
//! without that name is worse than a dead one, since the agent does not go on to another; so it is asked beforehand, on
//! a connection of our own, without any key of the agent's.
//!
//! Callers connect and bound the time: a future dropped here closes its connection.

mod http;
mod load;

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::{WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::io::{AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::certificate::{Names, day};
use crate::host::{Host, HostPort};
use crate::trust::{Bundle, Trust};

pub use http::{HttpError, Reply};
pub use load::{Load, LoadError};

/// How long to wait for an answer, connecting included. A server that is well needs a tenth of a second, nearly all of
/// it for TLS.
pub const BOUND: Duration = Duration::from_secs(3);

/// How long a connection that has served its purpose waits for the server's close.
const FAREWELL: Duration = Duration::from_secs(2);

/// Asks servers.
#[derive(Debug)]
pub struct Prober {
    trust: Trust,
    /// Made when it is first used: most of the time there is nobody to be asked.
    base: OnceLock<Arc<ClientConfig>>,
}

/// Whether a server has the name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It has.
    Named {
        /// What is wrong otherwise, as a warning: `its certificate expired on 2026-01-31`. The agent is stricter, and
        /// may know better: its clock, its list of revoked certificates.
        chain: Option<String>,
    },
    /// It has not: the agent's run would end here.
    Unnamed {
        /// The names it has.
        has: Names,
    },
    /// It has shown no certificate, or has not proven that it is its own. What it did instead: `does not speak TLS`.
    Unclear(String),
}

/// A certificate that a server has shown, and has proven to be its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Its names and dates.
    pub names: Names,
    /// What is wrong with its dates, in words that follow the server's name: `its certificate expired on 2026-01-31`.
    pub out_of_date: Option<String>,
    /// Why the agent's CA certificates do not vouch for it, likewise; `None` also where there are none.
    pub untrusted: Option<String>,
}

impl Shown {
    /// What is wrong with it whatever name is asked for.
    pub fn trouble(&self) -> Option<String> {
        self.out_of_date.clone().or_else(|| self.untrusted.clone())
    }
}

impl Prober {
    /// Asks for nothing yet.
    pub fn new(trust: Trust) -> Self {
        Prober { trust, base: OnceLock::new() }
    }

    /// Whether the server at the other end of `stream` has a certificate for `asked`, in the eyes of an agent.
    ///
    /// The verdict stands once the server has shown its certificate and proven that it holds the key, whether or not it
    /// then wants to see a certificate of ours. It is there as soon as our half of the connection is closed; a task
    /// waits for the server's, for two seconds at most.
    pub async fn names(&self, stream: TcpStream, asked: &Host) -> Verdict {
        match self.certificate(stream, asked).await {
            Err(did) => Verdict::Unclear(did),
            Ok(shown) if shown.names.covers(asked) => Verdict::Named { chain: shown.trouble() },
            Ok(shown) => Verdict::Unnamed { has: shown.names },
        }
    }

    /// The certificate that the server at the other end of `stream` shows to who asks for `asked`; in the error, what it
    /// did instead: `does not speak TLS`. It stands as a verdict of [`names`](Self::names) does.
    pub async fn certificate(&self, stream: TcpStream, asked: &Host) -> Result<Shown, String> {
        let verifier = Arc::new(Verifier::new(self.trust.bundle().ok()));
        let ended = match self.connect(stream, asked, verifier.clone()).await {
            Ok(stream) => {
                part(stream).await;
                None
            }
            Err(why) => Some(why),
        };
        verifier.shown().unwrap_or_else(|| Err(ended.unwrap_or_else(|| "has no certificate".into())))
    }

    /// How busy the server at the other end of `stream` is. `asked` goes into SNI and `Host`; its certificate is not
    /// looked at.
    pub async fn load(&self, stream: TcpStream, asked: &Host) -> Result<Load, LoadError> {
        load::read(&self.get(stream, asked, load::PATH).await?)
    }

    /// What the server at the other end of `stream` has at `path` for who shows no certificate. `asked` goes into SNI and
    /// `Host`; the server's own certificate is not looked at.
    pub async fn get(&self, stream: TcpStream, asked: &Host, path: &str) -> Result<Reply, HttpError> {
        let port = stream.peer_addr().map_err(|error| HttpError::Connection(describe(&error)))?.port();
        let to = HostPort { host: asked.clone(), port };
        let verifier = Arc::new(Verifier::new(None));
        let mut stream = self.connect(stream, asked, verifier).await.map_err(HttpError::Connection)?;
        let request = http::request(&to, path);
        let sent = async {
            stream.write_all(request.as_bytes()).await?;
            stream.flush().await
        };
        sent.await.map_err(|error| HttpError::Connection(describe(&error)))?;
        let mut stream = BufReader::new(stream);
        let reply = http::read(&mut stream).await;
        part(stream.into_inner()).await;
        reply
    }

    /// The handshake; in the error, what the server did.
    async fn connect(
        &self,
        stream: TcpStream,
        asked: &Host,
        verifier: Arc<Verifier>,
    ) -> Result<TlsStream<TcpStream>, String> {
        let name = match asked {
            Host::Ip(ip) => ServerName::from(*ip),
            Host::Name(name) => ServerName::try_from(name.clone())
                .map_err(|_| format!("cannot be asked: TLS has no way to ask for the name {name}"))?,
        };
        let mut config = ClientConfig::clone(self.base()?);
        config.dangerous().set_certificate_verifier(verifier);
        TlsConnector::from(Arc::new(config)).connect(name, stream).await.map_err(|error| describe(&error))
    }

    /// What all handshakes have in common. TLS 1.2 and 1.3, as the agent.
    fn base(&self) -> Result<&Arc<ClientConfig>, String> {
        if let Some(base) = self.base.get() {
            return Ok(base);
        }
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| format!("cannot be asked: {error}"))?;
        // This one believes nobody; each handshake gets a verifier of its own.
        let mut config = config.with_root_certificates(RootCertStore::empty()).with_no_client_auth();
        // A resumed session shows no certificate.
        config.resumption = Resumption::disabled();
        Ok(self.base.get_or_init(|| Arc::new(config)))
    }
}

/// Ends our side in good order, and leaves a task behind that reads what the server has still to say, such as tickets:
/// closing with bytes unread would reset the connection.
async fn part(mut stream: TlsStream<TcpStream>) {
    // Whatever fails here, it is over.
    let parting = async move {
        stream.shutdown().await?;
        Ok::<_, io::Error>(stream.into_inner().0)
    };
    if let Ok(Ok(mut stream)) = tokio::time::timeout(FAREWELL, parting).await {
        tokio::spawn(tokio::time::timeout(FAREWELL, async move {
            tokio::io::copy(&mut stream, &mut tokio::io::sink()).await
        }));
    }
}

/// What the server did, for a sentence about it.
fn describe(error: &io::Error) -> String {
    use rustls::Error;
    if let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        return match error {
            Error::AlertReceived(alert) => format!("answered with the TLS alert {alert:?}"),
            Error::InvalidMessage(_) => "does not speak TLS".into(),
            other => format!("failed in TLS: {other}"),
        };
    }
    match error.kind() {
        io::ErrorKind::UnexpectedEof => "closed the connection".into(),
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => "reset the connection".into(),
        _ => error.to_string(),
    }
}

/// Takes every certificate, so that the handshake goes on to its end, and remembers what is to be said of it.
#[derive(Debug)]
struct Verifier {
    bundle: Option<Arc<Bundle>>,
    algorithms: WebPkiSupportedAlgorithms,
    shown: OnceLock<Result<Shown, String>>,
    proven: AtomicBool,
}

impl Verifier {
    fn new(bundle: Option<Arc<Bundle>>) -> Self {
        Verifier {
            bundle,
            algorithms: ring::default_provider().signature_verification_algorithms,
            shown: OnceLock::new(),
            proven: AtomicBool::new(false),
        }
    }

    /// `None`: the server has not come so far as to show a certificate and that it is its own.
    fn shown(&self) -> Option<Result<Shown, String>> {
        self.shown.get().filter(|_| self.proven.load(Ordering::Relaxed)).cloned()
    }

    fn read(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<Shown, String> {
        let names = Names::of(certificate).map_err(|why| why.to_string())?;
        let out_of_date = out_of_date(&names, now);
        let untrusted = self.untrusted(certificate, intermediates, now);
        Ok(Shown { names, out_of_date, untrusted })
    }

    /// What is wrong with the chain, where there is a bundle to say so. The name is not its business.
    fn untrusted(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Option<String> {
        let bundle = self.bundle.as_ref()?;
        let verified = ParsedCertificate::try_from(certificate).and_then(|certificate| {
            let algorithms = self.algorithms.all;
            verify_server_cert_signed_by_trust_anchor(&certificate, &bundle.roots, intermediates, now, algorithms)
        });
        match verified {
            Ok(()) => None,
            // A CA that was made anew has the name of the old one.
            Err(rustls::Error::InvalidCertificate(
                CertificateError::UnknownIssuer | CertificateError::BadSignature,
            )) => Some(format!("its certificate is signed by no CA in {}", bundle.path.display())),
            Err(error) => Some(format!("its certificate does not stand up to {}: {error}", bundle.path.display())),
        }
    }

    fn prove(
        &self,
        proof: Result<HandshakeSignatureValid, rustls::Error>,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.proven.store(proof.is_ok(), Ordering::Relaxed);
        proof
    }
}

/// What is wrong with the certificate's dates.
fn out_of_date(names: &Names, now: UnixTime) -> Option<String> {
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    if now > names.not_after() {
        return Some(format!("its certificate expired on {}", day(names.not_after())));
    }
    (now < names.not_before()).then(|| {
        format!("its certificate is not valid before {}: one of the two clocks is wrong", day(names.not_before()))
    })
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.shown.get_or_init(|| self.read(end_entity, intermediates, now));
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.prove(verify_tls12_signature(message, cert, dss, &self.algorithms))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.prove(verify_tls13_signature(message, cert, dss, &self.algorithms))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
