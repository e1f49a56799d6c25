//! The listening sockets, and the accepting of connections.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};

/// Connections that the kernel holds for us while all our places are taken.
const BACKLOG: i32 = 1024;

/// After a failed accept (no descriptors left, say): first wait, doubled up to the last.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(5), Duration::from_secs(1));

/// A bound socket.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    addr: SocketAddr,
}

/// An address that could not be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {addr}: {}", advice(*.addr, .cause))]
pub struct BindError {
    /// Which.
    pub addr: SocketAddr,
    /// Why.
    pub cause: io::Error,
}

impl BindError {
    /// Whether the host merely has no IPv6.
    pub fn is_missing_ipv6(&self) -> bool {
        let code = self.cause.raw_os_error().map(rustix::io::Errno::from_raw_os_error);
        let local = self.addr.ip().is_loopback() || self.addr.ip().is_unspecified();
        self.addr.is_ipv6()
            && local
            && matches!(code, Some(rustix::io::Errno::AFNOSUPPORT | rustix::io::Errno::ADDRNOTAVAIL))
    }
}

/// What is wrong and what to do.
fn advice(addr: SocketAddr, cause: &io::Error) -> String {
    match cause.kind() {
        io::ErrorKind::AddrInUse => {
            format!("the port is taken; `ss -ltnp sport = :{}` tells by whom, `listen` sets another", addr.port())
        }
        io::ErrorKind::PermissionDenied => format!("{cause}; a port below 1024 needs root or CAP_NET_BIND_SERVICE"),
        io::ErrorKind::AddrNotAvailable => format!("{cause}: no interface of this host has the address"),
        _ => cause.to_string(),
    }
}

impl Listener {
    /// Binds.
    pub fn bind(addr: SocketAddr) -> Result<Self, BindError> {
        Self::try_bind(addr).map_err(|cause| BindError { addr, cause })
    }

    fn try_bind(addr: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM.nonblocking().cloexec(), Some(Protocol::TCP))?;
        if addr.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        // A restart must not wait for the last run's connections to be forgotten.
        socket.set_reuse_address(true)?;
        // Accepted sockets inherit it: one system call for all of them. With Nagle's algorithm a TLS handshake waits 40
        // ms.
        socket.set_tcp_nodelay(true)?;
        socket.bind(&addr.into())?;
        socket.listen(BACKLOG)?;
        let socket = TcpListener::from_std(socket.into())?;
        let addr = socket.local_addr()?;
        Ok(Listener { socket, addr })
    }

    /// Where it really listens, the port that the kernel chose included.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The next connection. What fails is waited out: it is the host that is short of something, and other connections'
    /// ends mend it.
    pub async fn accept(&self) -> (TcpStream, SocketAddr) {
        let (mut wait, longest) = BACK_OFF;
        loop {
            match self.socket.accept().await {
                Ok(accepted) => return accepted,
                // The client left before we came to it.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    tracing::warn!(listener = %self.addr, %error, wait = ?wait, "cannot accept; waiting");
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(longest);
                }
            }
        }
    }
}

/// Whether somebody on this host listens on all addresses with that port: then a connection from an address to itself
/// is one to us, whichever it is.
pub fn is_wildcard_port(port: u16, listeners: &[SocketAddr]) -> bool {
    listeners.iter().any(|own| own.port() == port && own.ip().is_unspecified())
}

/// Whether a connection to `to` would come back to one of our own listeners.
pub fn leads_back(to: SocketAddr, listeners: &[SocketAddr]) -> bool {
    let ip = here(to.ip());
    listeners.iter().any(|own| {
        let bound = own.ip().to_canonical();
        own.port() == to.port() && (bound == ip || (bound.is_unspecified() && ip.is_loopback()))
    })
}

/// Connecting to the unspecified address reaches this host.
fn here(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(v4) if v4.is_unspecified() => std::net::Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(v6) if v6.is_unspecified() => std::net::Ipv6Addr::LOCALHOST.into(),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn back(to: &str, listener: &str) -> bool {
        leads_back(to.parse().unwrap(), &[listener.parse().unwrap()])
    }

    #[test]
    fn loops() {
        assert!(back("127.0.0.1:8140", "127.0.0.1:8140"));
        assert!(back("0.0.0.0:8140", "127.0.0.1:8140"));
        assert!(back("[::ffff:127.0.0.1]:8140", "127.0.0.1:8140"));
        assert!(back("[::]:8140", "[::1]:8140"));
        assert!(back("127.0.0.9:8140", "0.0.0.0:8140"));
        assert!(!back("127.0.0.1:8141", "127.0.0.1:8140"));
        assert!(!back("127.0.0.2:8140", "127.0.0.1:8140"));
        assert!(!back("[::1]:8140", "127.0.0.1:8140"));
    }
}
