//! From candidates to a connection: one after the other until one accepts.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::Instant;

use crate::discovery::srv::Srv;
use crate::discovery::{Discovery, NoAddress};
use crate::host::{Host, HostPort};
use crate::listen::{is_wildcard_port, leads_back};

/// Silence after which the kernel asks whether the server is still there. No process wakes for it.
const KEEPALIVE: Duration = Duration::from_secs(5 * 60);

/// What it takes to connect.
pub struct Dialer<'a> {
    /// Finds addresses.
    pub discovery: &'a Discovery,
    /// For one address to accept.
    pub connect: Duration,
    /// Our own listeners, which are never a server.
    pub listeners: &'a [SocketAddr],
    /// The agent's own address, where it has set one (`sourceaddress`); port 0.
    pub source: Option<SocketAddr>,
}

/// One candidate, and what became of it.
#[derive(Clone, Debug)]
pub struct Try {
    /// The server as discovery named it.
    pub server: HostPort,
    /// The address, once it was known.
    pub addr: Option<SocketAddr>,
    /// What it did.
    pub did: Did,
    /// How long it took to do so.
    pub took: Duration,
}

/// What a candidate did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Did {
    /// Nothing yet: the connection's whole budget ran out on it.
    NotAnswer,
    /// It took the connection.
    Accept,
    /// It refused it.
    Refuse,
    /// It did not answer within the bound for one candidate.
    TimeOut,
    /// The kernel had another reason: no route, say.
    Fail(String),
    /// DNS has no address for it.
    NoAddress(NoAddress),
    /// It is ourselves.
    LeadBack,
    /// It has no address of the family of the agent's `sourceaddress`.
    OtherFamily(IpAddr),
}

impl fmt::Display for Did {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Did::NotAnswer => f.write_str("did not answer in time"),
            Did::Accept => f.write_str("accepted"),
            Did::Refuse => f.write_str("refused"),
            Did::TimeOut => f.write_str("timed out"),
            Did::Fail(why) => f.write_str(why),
            Did::NoAddress(why) => write!(f, "{why}"),
            Did::LeadBack => f.write_str("leads back to puppet-shim"),
            Did::OtherFamily(ip) => write!(f, "cannot be reached from the agent's sourceaddress {ip}"),
        }
    }
}

impl Did {
    /// Whether the candidate did not even say no.
    pub fn is_silence(&self) -> bool {
        matches!(self, Did::NotAnswer | Did::TimeOut)
    }
}

impl Dialer<'_> {
    /// Tries the servers in order, each address of each, until one accepts. Every attempt is entered in `tries` as it
    /// starts, so that whoever gives up on the whole still knows what was done.
    pub async fn dial(&self, servers: &[Srv], tries: &mut Vec<Try>) -> Option<TcpStream> {
        for server in servers {
            let Some(host) = &server.target else { continue };
            let named = HostPort { host: host.clone(), port: server.port };
            let started = Instant::now();
            let at = tries.len();
            tries.push(Try { server: named.clone(), addr: None, did: Did::NotAnswer, took: Duration::ZERO });
            let addresses = match self.discovery.addresses(host).await {
                Ok(addresses) => addresses,
                Err(why) => {
                    close(tries, at, Did::NoAddress(why), started);
                    continue;
                }
            };
            tries.truncate(at);
            for ip in addresses.ips {
                let (addr, started, at) = (SocketAddr::new(ip, server.port), Instant::now(), tries.len());
                tries.push(Try { server: named.clone(), addr: Some(addr), did: Did::NotAnswer, took: Duration::ZERO });
                match self.connect(addr).await {
                    Ok(stream) => {
                        close(tries, at, Did::Accept, started);
                        return Some(stream);
                    }
                    Err(did) => close(tries, at, did, started),
                }
            }
        }
        None
    }

    async fn connect(&self, addr: SocketAddr) -> Result<TcpStream, Did> {
        if leads_back(addr, self.listeners) {
            return Err(Did::LeadBack);
        }
        if let Some(source) = self.source.filter(|source| source.is_ipv4() != addr.is_ipv4()) {
            return Err(Did::OtherFamily(source.ip()));
        }
        let socket = self.socket(addr).map_err(|error| Did::Fail(error.to_string()))?;
        match tokio::time::timeout(self.connect, socket.connect(addr)).await {
            // The kernel connects to an address of this host from the same address.
            Ok(Ok(stream))
                if is_wildcard_port(addr.port(), self.listeners)
                    && stream.local_addr().is_ok_and(|own| own.ip() == addr.ip()) =>
            {
                Err(Did::LeadBack)
            }
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => Err(Did::Refuse),
            Ok(Err(error)) if error.kind() == io::ErrorKind::TimedOut => Err(Did::TimeOut),
            Ok(Err(error)) => Err(Did::Fail(error.to_string())),
            Err(_) => Err(Did::TimeOut),
        }
    }

    /// A socket for that address: all options of upstream sockets in one place.
    fn socket(&self, addr: SocketAddr) -> io::Result<TcpSocket> {
        let socket = if addr.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.set_nodelay(true)?;
        SockRef::from(&socket).set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE))?;
        if let Some(source) = self.source {
            socket.bind(source)?;
        }
        Ok(socket)
    }
}

fn close(tries: &mut [Try], at: usize, did: Did, started: Instant) {
    if let Some(entry) = tries.get_mut(at) {
        entry.did = did;
        entry.took = started.elapsed();
    }
}

/// The attempts as a sentence has them: each server, its addresses, what they did. Addresses that did the same share
/// their words.
pub fn describe(tries: &[Try]) -> String {
    let same = |a: &Try, b: &Try| a.server == b.server && a.did == b.did;
    let servers: Vec<String> = tries
        .chunk_by(same)
        .filter_map(|group| {
            let first = group.first()?;
            // An address that is the name says nothing new.
            let named = |addr: &&SocketAddr| first.server.host != Host::Ip(addr.ip());
            let addresses: Vec<String> =
                group.iter().filter_map(|t| t.addr.as_ref()).filter(named).map(|addr| addr.ip().to_string()).collect();
            let addresses = if addresses.is_empty() { String::new() } else { format!(" ({})", addresses.join(", ")) };
            Some(format!("{}{addresses} {}", first.server, first.did))
        })
        .collect();
    servers.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tried(server: &str, addr: &str, did: Did) -> Try {
        Try { server: server.parse().unwrap(), addr: addr.parse().ok(), did, took: Duration::ZERO }
    }

    #[test]
    fn a_sentence_of_what_was_tried() {
        let tries = [
            tried("a.test:8140", "[2001:db8::1]:8140", Did::Refuse),
            tried("a.test:8140", "192.0.2.1:8140", Did::Refuse),
            tried("b.test:8140", "192.0.2.2:8140", Did::Refuse),
            tried("b.test:8140", "192.0.2.3:8140", Did::TimeOut),
            tried("c.test:8140", "", Did::NoAddress(NoAddress::None)),
            tried("192.0.2.4:8140", "192.0.2.4:8140", Did::Accept),
        ];
        assert_eq!(
            describe(&tries),
            "a.test:8140 (2001:db8::1, 192.0.2.1) refused; b.test:8140 (192.0.2.2) refused; \
             b.test:8140 (192.0.2.3) timed out; c.test:8140 has no address in DNS; 192.0.2.4:8140 accepted"
        );
    }
}
