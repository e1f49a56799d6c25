//! Bytes by hand, for what no agent would send.

use std::io;
use std::net::SocketAddr;

use rustls::ClientConnection;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::pki::{self, Trust};

/// What came back, and how it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Everything the other side sent.
    pub bytes: Vec<u8>,
    /// Whether it then closed, rather than reset.
    pub closed: bool,
}

/// Sends the pieces, each in a segment of its own, and reads until the other side ends. Our own side stays open.
pub async fn exchange(address: SocketAddr, pieces: &[&[u8]]) -> io::Result<Reply> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    for piece in pieces {
        // The other side may have heard enough.
        if stream.write_all(piece).await.is_err() {
            break;
        }
        // It runs on the same thread: without this it would find the pieces glued together.
        tokio::task::yield_now().await;
    }
    let mut bytes = Vec::new();
    let closed = stream.read_to_end(&mut bytes).await.is_ok();
    Ok(Reply { bytes, closed })
}

/// A `ClientHello` in one record, as it goes over the wire. No SNI for an address.
pub fn client_hello(host: &str) -> Vec<u8> {
    let name = ServerName::try_from(host.to_string()).unwrap();
    let mut client = ClientConnection::new(pki::client_config(&Trust::Anybody, None), name).unwrap();
    let mut hello = Vec::new();
    client.write_tls(&mut hello).unwrap();
    hello
}
