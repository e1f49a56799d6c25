//! One address of one server to a connection, and what became of an attempt.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use rustls::AlertDescription;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::Instant;

use crate::discovery::NoAddress;
use crate::host::{Host, HostPort};
use crate::listen::{is_wildcard_port, leads_back};

/// Silence after which the kernel asks whether the server is still there. No process wakes for it.
const KEEPALIVE: Duration = Duration::from_secs(5 * 60);

/// What it takes to connect.
pub struct Dialer<'a> {
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
    /// When it was started.
    pub started: Instant,
    /// How long it took to do so. The time that a client took to begin is not in it.
    pub took: Duration,
}

/// What a candidate did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Did {
    /// DNS had not said where it is when another one was faster, or time ran out.
    NotFound,
    /// Nothing: another one was faster, or time ran out.
    NotAnswer,
    /// It took the connection, and is to be asked once the client has said what it wants.
    Wait,
    /// It took the connection, and did not answer what it was asked.
    Mute,
    /// It took the connection, and nothing else was asked of it.
    Accept,
    /// It began a TLS handshake.
    Answer,
    /// It refused the connection.
    Refuse,
    /// It did not take it within the bound for one address.
    TimeOut,
    /// It took the connection, and reset it instead of answering.
    Reset,
    /// It took the connection, and closed it instead of answering.
    Close,
    /// It answered the hello with this alert (RFC 8446 §6).
    Alert(u8),
    /// It answered the hello with this byte, which begins no TLS record.
    NotTls(u8),
    /// The kernel had another reason: no route, say.
    Fail(String),
    /// It was not even tried, for want of something on this host: a descriptor, a port.
    Local(String),
    /// DNS has no address for it.
    NoAddress(NoAddress),
    /// It is ourselves.
    LeadBack,
    /// It has no address of the family of the agent's `sourceaddress`.
    OtherFamily(IpAddr),
    /// Its certificate lacks the name that the agent asked for.
    Unnamed {
        /// That name.
        asked: Host,
        /// The names that it has, in words.
        has: String,
    },
}

impl fmt::Display for Did {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Did::NotFound => f.write_str("had no answer from DNS"),
            Did::NotAnswer => f.write_str("did not answer"),
            Did::Wait => f.write_str("accepted, and was not asked anything"),
            Did::Mute => f.write_str("accepted and said nothing"),
            Did::Accept => f.write_str("accepted"),
            Did::Answer => f.write_str("answered"),
            Did::Refuse => f.write_str("refused"),
            Did::TimeOut => f.write_str("timed out"),
            Did::Reset => f.write_str("accepted and reset the connection"),
            Did::Close => f.write_str("accepted and closed the connection"),
            Did::Alert(description) => {
                write!(f, "sent the TLS alert {description} ({:?})", AlertDescription::from(*description))
            }
            Did::NotTls(byte) => write!(f, "does not speak TLS (its first byte is {byte:#04x})"),
            Did::Fail(why) => f.write_str(why),
            Did::Local(why) => write!(f, "could not be tried: {why}"),
            Did::NoAddress(why) => write!(f, "{why}"),
            Did::LeadBack => f.write_str("leads back to puppet-shim"),
            Did::OtherFamily(ip) => write!(f, "cannot be reached from the agent's sourceaddress {ip}"),
            Did::Unnamed { asked, has } => write!(f, "has a certificate for {has}, not for {asked}"),
        }
    }
}

impl Did {
    /// Whether the candidate has not been heard out: somebody else was faster, or time ran out.
    pub fn is_pending(&self) -> bool {
        matches!(self, Did::NotFound | Did::NotAnswer | Did::Mute)
    }

    /// Whether the candidate did not even say no.
    pub fn is_silence(&self) -> bool {
        self.is_pending() || *self == Did::TimeOut
    }

    /// Whether the candidate itself had no part in it.
    pub fn is_local(&self) -> bool {
        matches!(self, Did::Local(_) | Did::LeadBack | Did::OtherFamily(_) | Did::NoAddress(_))
    }
}

impl Dialer<'_> {
    /// Connects to one address, within the bound for one.
    pub async fn connect(&self, addr: SocketAddr) -> Result<TcpStream, Did> {
        tokio::time::timeout(self.connect, self.open(addr)).await.unwrap_or(Err(Did::TimeOut))
    }

    /// Connects to one address, for as long as the kernel likes to try: the caller bounds it.
    pub async fn open(&self, addr: SocketAddr) -> Result<TcpStream, Did> {
        if leads_back(addr, self.listeners) {
            return Err(Did::LeadBack);
        }
        if let Some(source) = self.source.filter(|source| source.is_ipv4() != addr.is_ipv4()) {
            return Err(Did::OtherFamily(source.ip()));
        }
        let socket = self.socket(addr).map_err(|error| Did::Local(error.to_string()))?;
        match socket.connect(addr).await {
            // The kernel connects to an address of this host from the same address.
            Ok(stream)
                if is_wildcard_port(addr.port(), self.listeners)
                    && stream.local_addr().is_ok_and(|own| own.ip() == addr.ip()) =>
            {
                Err(Did::LeadBack)
            }
            Ok(stream) => Ok(stream),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Err(Did::Refuse),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => Err(Did::TimeOut),
            Err(error) if is_local(&error) => Err(Did::Local(error.to_string())),
            Err(error) => Err(Did::Fail(error.to_string())),
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

/// Whether this host could not do its part: no port is left, or its own firewall forbids it.
fn is_local(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let code = error.raw_os_error().map(Errno::from_raw_os_error);
    let is_one = |codes: &[Errno]| code.is_some_and(|code| codes.contains(&code));
    is_one(&[Errno::ADDRNOTAVAIL, Errno::NOBUFS, Errno::NOMEM, Errno::MFILE, Errno::NFILE, Errno::PERM, Errno::ACCESS])
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
            let within =
                if first.did.is_pending() { format!(" within {} ms", first.took.as_millis()) } else { String::new() };
            Some(format!("{}{addresses} {}{within}", first.server, first.did))
        })
        .collect();
    servers.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tried(server: &str, addr: &str, did: Did) -> Try {
        Try {
            server: server.parse().unwrap(),
            addr: addr.parse().ok(),
            did,
            started: Instant::now(),
            took: Duration::from_millis(251),
        }
    }

    #[test]
    fn a_sentence_of_what_was_tried() {
        let tries = [
            tried("a.test:8140", "[2001:db8::1]:8140", Did::Refuse),
            tried("a.test:8140", "192.0.2.1:8140", Did::Refuse),
            tried("b.test:8140", "192.0.2.2:8140", Did::Refuse),
            tried("b.test:8140", "192.0.2.3:8140", Did::TimeOut),
            tried("c.test:8140", "", Did::NoAddress(NoAddress::None)),
            tried("d.test:8140", "192.0.2.5:8140", Did::Mute),
            tried("e.test:8140", "192.0.2.6:8140", Did::Alert(40)),
            tried("192.0.2.4:8140", "192.0.2.4:8140", Did::Answer),
        ];
        assert_eq!(
            describe(&tries),
            "a.test:8140 (2001:db8::1, 192.0.2.1) refused; b.test:8140 (192.0.2.2) refused; \
             b.test:8140 (192.0.2.3) timed out; c.test:8140 has no address in DNS; \
             d.test:8140 (192.0.2.5) accepted and said nothing within 251 ms; \
             e.test:8140 (192.0.2.6) sent the TLS alert 40 (HandshakeFailure); 192.0.2.4:8140 answered"
        );
    }
}
