//! First bytes → what the client wants.
//!
//! Every listener understands everything: a TLS `ClientHello` (first byte `0x16`), an HTTP CONNECT, an absolute-form
//! request, and one in origin form, by which a browser asks for the page. The parsers are rustls's [`Acceptor`], which copes with a hello in several segments and in several records,
//! and `httparse`.

mod hello;
mod http;

use std::time::Duration;

use rustls::server::{AcceptedAlert, Acceptor};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::error::{Error, Kind, alert};
use crate::host::{Host, HostPort};
use crate::report::Told;

pub(crate) use self::hello::is_replayable;
pub use self::http::Request;
pub(crate) use self::http::head_end;

/// First byte of a TLS record of type handshake, RFC 8446 §5.1.
const HANDSHAKE: u8 = 22;

/// What the client wants, and every byte that it has sent so far.
#[derive(Debug)]
pub struct Sniffed {
    /// What it wants.
    pub hello: Hello,
    /// The bytes that a server is to get: all of them for TLS, those behind the head for HTTP. Of a visit, all.
    pub bytes: Vec<u8>,
}

/// What a client wants.
#[derive(Debug, PartialEq, Eq)]
pub enum Hello {
    /// TLS. `sni` is `None` where the hello has none, or one that is no name (an address, say).
    Tls {
        /// The name asked for.
        sni: Option<Host>,
    },
    /// A tunnel to there.
    Connect(HostPort, Request),
    /// A plain HTTP request, to be forwarded there.
    Forward(HostPort, Request),
    /// A request for the page. Its head need not be whole yet: this much says that it is no agent.
    Visit,
}

/// A refusal, and how it has to be spoken so that the client understands it.
#[derive(Debug)]
pub struct Refused {
    /// Why.
    pub error: Error,
    /// How.
    pub voice: Voice,
}

/// How a client can be told something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Voice {
    /// An HTTP status with a reason.
    Http,
    /// The alert of the error's kind.
    Alert,
    /// An alert that rustls has chosen.
    ReadyAlert(Vec<u8>),
    /// Not at all: it has gone.
    Nobody,
}

/// Collects bytes until it is known what they are. No io: that is [`sniff`].
pub struct Sniffer {
    bytes: Vec<u8>,
    limit: usize,
    acceptor: Option<Acceptor>,
    /// Whether there is a page to ask for.
    has_page: bool,
    /// How much of `bytes` the acceptor has been fed, or the search for the end of an HTTP head has passed.
    seen: usize,
}

impl Sniffer {
    /// `limit`: bytes of a hello or head before it is refused.
    pub fn new(limit: usize) -> Self {
        Sniffer { bytes: Vec::new(), limit, acceptor: None, has_page: false, seen: 0 }
    }

    /// The same where there is a page to ask for, or not.
    #[must_use]
    pub fn with_page(self, has_page: bool) -> Self {
        Sniffer { has_page, ..self }
    }

    /// Takes the next bytes. `None`: more are needed.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Option<Hello>, Refused> {
        self.bytes.extend_from_slice(bytes);
        self.look()
    }

    /// The bytes for the server.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    fn look(&mut self) -> Result<Option<Hello>, Refused> {
        let found = match self.bytes.first() {
            None => None,
            Some(&HANDSHAKE) => self.tls()?,
            Some(b'A'..=b'Z') => self.http()?,
            Some(other) => {
                let error = Error::new(
                    Kind::Malformed,
                    format_args!(
                        "neither TLS nor HTTP: the first byte is {other:#04x}; this port tunnels Puppet's connections"
                    ),
                );
                return Err(Refused { error, voice: Voice::Http });
            }
        };
        if found.is_none() && self.bytes.len() >= self.limit {
            let what = if self.acceptor.is_some() { "ClientHello" } else { "HTTP head" };
            let error = Error::new(
                Kind::TooLong,
                format_args!("the {what} is over {} bytes; `limits.hello` sets the limit", self.limit),
            );
            return Err(Refused { error, voice: self.voice() });
        }
        Ok(found)
    }

    fn tls(&mut self) -> Result<Option<Hello>, Refused> {
        let acceptor = self.acceptor.get_or_insert_default();
        loop {
            let mut rest = self.bytes.get(self.seen..).unwrap_or_default();
            // Reading from memory fails only if rustls's own buffer is full, and `accept` empties it.
            let read = acceptor.read_tls(&mut rest).unwrap_or(0);
            self.seen += read;
            match acceptor.accept() {
                Ok(Some(accepted)) => {
                    let sni = accepted.client_hello().server_name().and_then(|name| name.parse().ok());
                    return Ok(Some(Hello::Tls { sni }));
                }
                Ok(None) if read == 0 => return Ok(None),
                Ok(None) => {}
                Err((error, alert)) => {
                    let error = Error::new(Kind::Malformed, format_args!("broken ClientHello: {error}"));
                    return Err(Refused { error, voice: ready(alert) });
                }
            }
        }
    }

    fn http(&mut self) -> Result<Option<Hello>, Refused> {
        if self.has_page {
            match http::is_visit(&self.bytes) {
                None => return Ok(None),
                Some(true) => return Ok(Some(Hello::Visit)),
                Some(false) => {}
            }
        }
        // Parsed once, when the head is whole: a client that drips bytes costs one look at each.
        let from = self.seen.saturating_sub(3);
        self.seen = self.bytes.len();
        let Some(end) = http::head_end(self.bytes.get(from..).unwrap_or_default()) else { return Ok(None) };
        let rest = self.bytes.split_off(from + end);
        let head = std::mem::replace(&mut self.bytes, rest);
        http::parse(&head).map(Some).map_err(|error| Refused { error, voice: Voice::Http })
    }

    /// How a client is told something, by what it has said so far.
    fn voice(&self) -> Voice {
        if self.acceptor.is_some() { Voice::Alert } else { Voice::Http }
    }
}

fn ready(mut alert: AcceptedAlert) -> Voice {
    let mut bytes = Vec::new();
    match alert.write_all(&mut bytes) {
        Ok(()) if !bytes.is_empty() => Voice::ReadyAlert(bytes),
        _ => Voice::Alert,
    }
}

/// Reads from the client until `sniffer` knows what it wants, within one limit of time over the whole of it.
pub async fn sniff(client: &mut TcpStream, mut sniffer: Sniffer, within: Duration) -> Result<Sniffed, Refused> {
    let result = tokio::time::timeout(within, read(client, &mut sniffer)).await;
    match result {
        Ok(Ok(hello)) => Ok(Sniffed { hello, bytes: sniffer.into_bytes() }),
        Ok(Err(refused)) => Err(refused),
        Err(_) => {
            let error = Error::new(
                Kind::Silent,
                format_args!(
                    "after {} bytes nothing that says what the client wants, within {within:?} (`timeouts.sniff`)",
                    sniffer.bytes.len()
                ),
            );
            Err(Refused { error, voice: sniffer.voice() })
        }
    }
}

async fn read(client: &mut TcpStream, sniffer: &mut Sniffer) -> Result<Hello, Refused> {
    loop {
        // A hello is one read. Room for a post-quantum one at once; what comes beyond the limit is looked at no more.
        let room = (sniffer.limit.saturating_sub(sniffer.bytes.len())).clamp(1, 2048);
        sniffer.bytes.reserve(room);
        let read = (&mut *client).take(room as u64).read_buf(&mut sniffer.bytes).await;
        match read {
            Ok(0) => {
                let said = sniffer.bytes.len();
                let error = Error::new(Kind::Silent, format_args!("the client closed after {said} bytes"));
                return Err(Refused { error, voice: if said == 0 { Voice::Nobody } else { sniffer.voice() } });
            }
            Ok(_) => {
                if let Some(hello) = sniffer.look()? {
                    return Ok(hello);
                }
            }
            Err(error) => {
                let error = Error::new(Kind::Silent, format_args!("the client's connection broke: {error}"));
                return Err(Refused { error, voice: Voice::Nobody });
            }
        }
    }
}

/// A fatal alert in a record of its own, RFC 8446 §5.1 and §6.
pub fn alert_record(description: u8) -> [u8; 7] {
    const ALERT: u8 = 21;
    const FATAL: u8 = 2;
    [ALERT, 3, 3, 0, 2, FATAL, description]
}

impl Refused {
    /// The bytes that tell the client.
    pub fn answer(&self) -> Vec<u8> {
        match &self.voice {
            Voice::Http => http::response(&self.error),
            Voice::Alert => alert_record(self.error.kind.alert()).to_vec(),
            Voice::ReadyAlert(bytes) => bytes.clone(),
            Voice::Nobody => Vec::new(),
        }
    }

    /// The same for the log.
    pub fn told(&self) -> Told {
        match &self.voice {
            Voice::Http => Told::Status(self.error.kind.status()),
            Voice::Alert => Told::Alert(self.error.kind.alert()),
            Voice::ReadyAlert(bytes) => Told::Alert(bytes.last().copied().unwrap_or(alert::INTERNAL_ERROR)),
            Voice::Nobody => Told::Nothing,
        }
    }
}
