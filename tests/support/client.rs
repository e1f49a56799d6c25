//! An agent, as its connections look from outside.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{AlertDescription, ClientConfig};
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::http::{self, Headers, Request, Response};
use super::pki::{self, Identity, Trust};
use super::puppet::Witness;

/// An agent: how it reaches its servers, whom it trusts, and who it is.
#[derive(Clone, Debug)]
pub struct Agent {
    way: Way,
    tls: Arc<ClientConfig>,
}

/// How an agent reaches a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// `http_proxy_host` and `http_proxy_port`.
    Proxy(SocketAddr),
    /// The name or the port leads here.
    Direct(SocketAddr),
}

/// One connection of an agent's, its TLS set up.
#[derive(Debug)]
pub struct Connection {
    /// `BufReader` outside for the responses, inside for what may come right behind the answer to a CONNECT.
    stream: BufReader<TlsStream<BufReader<TcpStream>>>,
    host: String,
}

/// What an agent got.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The response.
    pub response: Response,
    /// Who answered, and whom it saw.
    pub witness: Witness,
}

/// Why an agent got nothing.
#[derive(Debug)]
pub enum Failure {
    /// No TCP connection.
    Connect(io::Error),
    /// CONNECT was refused.
    Refused { status: u16, reason: String },
    /// The connection ended during CONNECT.
    Proxy(io::Error),
    /// No TLS session.
    Tls(io::Error),
    /// No response, or one from elsewhere. What a TLS 1.3 server holds against a client's certificate shows only here.
    Http(io::Error),
}

impl Agent {
    /// An agent that goes this way, with this trust, and with a certificate or without.
    pub fn new(way: Way, trust: &Trust, identity: Option<&Identity>) -> Self {
        Agent { way, tls: pki::client_config(trust, identity) }
    }

    /// The same agent by another way.
    #[must_use]
    pub fn by(&self, way: Way) -> Self {
        Agent { way, tls: self.tls.clone() }
    }

    /// Connects to the server it knows as `host`, and checks that it is.
    pub async fn connect(&self, host: &str, port: u16) -> Result<Connection, Failure> {
        let (Way::Proxy(address) | Way::Direct(address)) = self.way;
        let stream = TcpStream::connect(address).await.map_err(Failure::Connect)?;
        stream.set_nodelay(true).map_err(Failure::Connect)?;
        let mut stream = BufReader::new(stream);
        if let Way::Proxy(_) = self.way {
            let response = ask_for_tunnel(&mut stream, &format!("{host}:{port}")).await.map_err(Failure::Proxy)?;
            if !(200..300).contains(&response.status) {
                return Err(Failure::Refused { status: response.status, reason: response.reason });
            }
        }
        let name = ServerName::try_from(host.to_string()).map_err(|e| Failure::Tls(io::Error::other(e)))?;
        let stream = TlsConnector::from(self.tls.clone()).connect(name, stream).await.map_err(Failure::Tls)?;
        Ok(Connection { stream: BufReader::new(stream), host: host.into() })
    }

    /// One GET over a connection of its own.
    pub async fn get(&self, host: &str, port: u16, path: &str) -> Result<Answer, Failure> {
        let mut connection = self.connect(host, port).await?;
        let answer = connection.request("GET", path, b"").await?;
        connection.close().await;
        Ok(answer)
    }
}

impl Connection {
    /// Sends a request and waits for the response.
    pub async fn request(&mut self, method: &str, path: &str, body: &[u8]) -> Result<Answer, Failure> {
        self.send(method, path, body).await?;
        self.receive().await
    }

    /// Sends a request.
    pub async fn send(&mut self, method: &str, path: &str, body: &[u8]) -> Result<(), Failure> {
        let mut headers = Headers::default();
        headers.push("Host", &self.host);
        let request = Request { method: method.into(), path: path.into(), headers, body: body.into() };
        http::write_request(&mut self.stream, &request).await.map_err(Failure::Http)
    }

    /// Waits for the response to the oldest request without one.
    pub async fn receive(&mut self) -> Result<Answer, Failure> {
        let response = http::read_response(&mut self.stream).await.map_err(Failure::Http)?;
        let witness = Witness::of(&response)
            .ok_or_else(|| Failure::Http(io::Error::other("the response is from none of our servers")))?;
        Ok(Answer { response, witness })
    }

    /// Ends the agent's own side, in good order; it can still receive.
    pub async fn finish_sending(&mut self) -> io::Result<()> {
        self.stream.shutdown().await
    }

    /// Closes in good order. The server's own close is waited for, so that what either side has counted is final.
    pub async fn close(mut self) {
        // It may be gone already.
        let _ = self.stream.shutdown().await;
        let _ = tokio::io::copy(&mut self.stream, &mut tokio::io::sink()).await;
    }
}

/// Puppet's request, byte for byte: no User-Agent, no Proxy-Connection.
pub fn connect_request(target: &str) -> String {
    format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n")
}

async fn ask_for_tunnel(stream: &mut BufReader<TcpStream>, target: &str) -> io::Result<Response> {
    stream.write_all(connect_request(target).as_bytes()).await?;
    http::read_response_head(stream).await
}

impl Failure {
    /// The TLS alert that caused it, if one did.
    pub fn alert(&self) -> Option<AlertDescription> {
        let (Failure::Tls(error) | Failure::Http(error)) = self else { return None };
        match error.get_ref()?.downcast_ref()? {
            rustls::Error::AlertReceived(alert) => Some(*alert),
            _ => None,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Connect(error) => write!(f, "no connection: {error}"),
            Failure::Refused { status, reason } => write!(f, "{status} {reason:?}"),
            Failure::Proxy(error) => write!(f, "no answer to CONNECT: {error}"),
            Failure::Tls(error) => write!(f, "no TLS session: {error}"),
            Failure::Http(error) => write!(f, "no response: {error}"),
        }
    }
}

impl std::error::Error for Failure {}
