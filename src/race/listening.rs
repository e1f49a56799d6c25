//! What a client says once it has its tunnel.

use std::io;

use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::host::Host;
use crate::sniff::{Hello, Sniffer};

/// The client's first bytes within a CONNECT, as they come.
pub(super) struct Listening {
    /// All of them.
    pub(super) bytes: Vec<u8>,
    /// Since when it is the client's turn.
    pub(super) since: Instant,
    sniffer: Sniffer,
    seen: usize,
}

/// What a client said.
pub(super) enum Heard {
    /// A hello, for this name.
    Hello(Option<Host>),
    /// What is no TLS, or no hello within the limit.
    Other,
    /// It has gone.
    Gone(String),
}

impl Listening {
    /// `early`: what came behind the CONNECT.
    pub(super) fn new(early: Vec<u8>, limit: usize) -> Self {
        Listening { bytes: early, since: Instant::now(), sniffer: Sniffer::new(limit), seen: 0 }
    }

    /// Waits until it is clear what the client says. May be dropped and called again: nothing is lost.
    pub(super) async fn hear(&mut self, client: &TcpStream) -> Heard {
        loop {
            if self.seen < self.bytes.len() {
                let news = self.bytes.get(self.seen..).unwrap_or_default();
                let found = self.sniffer.push(news);
                self.seen = self.bytes.len();
                match found {
                    Ok(None) => {}
                    Ok(Some(Hello::Tls { sni })) => return Heard::Hello(sni),
                    Ok(Some(_)) | Err(_) => return Heard::Other,
                }
            }
            if let Err(error) = client.readable().await {
                return Heard::Gone(error.to_string());
            }
            // Room for a post-quantum hello at once.
            self.bytes.reserve(2048);
            match client.try_read_buf(&mut self.bytes) {
                Ok(0) => return Heard::Gone("it closed".into()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Heard::Gone(error.to_string()),
            }
        }
    }
}

/// Waits until a client that has said its hello closes, or says more: `true` if it has gone.
pub(super) async fn has_gone(client: &TcpStream) -> bool {
    !matches!(client.peek(&mut [0]).await, Ok(1..))
}
