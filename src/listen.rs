//! The listening sockets, bound or passed on, and the accepting of connections.

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd as _;
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep_until};

use crate::notify::Notifier;

/// Connections that the kernel holds for us while all our places are taken.
const BACKLOG: i32 = 1024;

/// After a failed accept (no descriptors left, say): first wait, doubled up to the last.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(5), Duration::from_secs(1));

/// A listening socket.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    addr: SocketAddr,
    /// What the configuration calls it: with port 0, say.
    configured: SocketAddr,
    /// Whether the service manager holds it, too.
    is_held: bool,
}

/// What became of an address that was to be listened on, for who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Door {
    /// Where it really listens; where it does not, what was wanted.
    pub addr: SocketAddr,
    /// What it is.
    pub state: DoorState,
}

/// What an address is that was to be listened on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DoorState {
    /// The service manager holds it and has passed it on.
    Inherited,
    /// This process has it alone.
    Bound,
    /// It is of IPv6, which this host does not have: nobody comes there.
    Absent,
    /// It could not be listened on.
    Failed {
        /// Why.
        why: String,
        /// What to do.
        mend: String,
    },
}

impl Door {
    /// Those that are open, and those that are not.
    pub fn all(listeners: &Listeners, failed: &[BindError]) -> Vec<Self> {
        let open = listeners.iter().map(|listener| {
            let state = if listener.is_held() { DoorState::Inherited } else { DoorState::Bound };
            Door { addr: listener.addr(), state }
        });
        let failed = failed.iter().map(|error| {
            let (addr, why) = (error.addr, format!("cannot listen on {}: {}", error.addr, wrong(&error.cause)));
            let is_absent = error.is_missing_ipv6();
            let state =
                if is_absent { DoorState::Absent } else { DoorState::Failed { why, mend: mend(addr, &error.cause) } };
            Door { addr, state }
        });
        open.chain(failed).collect()
    }
}

/// All of them, served by turns.
#[derive(Debug)]
pub struct Listeners {
    all: Vec<Listener>,
    /// Whose turn it is.
    next: usize,
    /// Accepting has failed: when to go on, and how long to wait if it fails again.
    resume: Option<Instant>,
    wait: Duration,
}

/// A connection that has been accepted.
#[derive(Debug)]
pub struct Accepted {
    /// The connection.
    pub client: TcpStream,
    /// Who has connected.
    pub from: SocketAddr,
    /// The listener's port.
    pub port: u16,
    /// The listener.
    pub listener: SocketAddr,
}

/// An address that could not be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {addr}: {}; {}", wrong(.cause), mend(*.addr, .cause))]
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

/// The least port that any user may have (`net.ipv4.ip_unprivileged_port_start`, ip-sysctl.rst), unless the host says otherwise.
const UNPRIVILEGED: u16 = 1024;

/// What is wrong.
fn wrong(cause: &io::Error) -> String {
    match cause.kind() {
        io::ErrorKind::AddrInUse => "the port is taken".into(),
        io::ErrorKind::AddrNotAvailable => format!("{cause}: no interface of this host has the address"),
        _ => cause.to_string(),
    }
}

/// What to do.
fn mend(addr: SocketAddr, cause: &io::Error) -> String {
    let port = addr.port();
    match cause.kind() {
        io::ErrorKind::AddrInUse => {
            format!("see who has it, `ss -ltnp sport = :{port}`, and stop that, or set another one in `listen`")
        }
        io::ErrorKind::PermissionDenied if port < UNPRIVILEGED => {
            format!(
                "have systemd hold it, by ListenStream={addr} in puppet-shim.socket, or set a port from {UNPRIVILEGED} on in `listen`"
            )
        }
        io::ErrorKind::PermissionDenied => {
            "see what forbids it, SELinux or the service's sandbox, or set another port in `listen`".into()
        }
        io::ErrorKind::AddrNotAvailable => "give the address to an interface, or take it out of `listen`".into(),
        _ => "mend that, or set another address in `listen`".into(),
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
        socket.bind(&addr.into())?;
        socket.listen(BACKLOG)?;
        let listener = Self::adopt(socket.into(), false)?;
        Ok(Listener { configured: addr, ..listener })
    }

    /// Takes over a socket that listens already. `is_held`: the service manager has it, too.
    pub fn adopt(socket: std::net::TcpListener, is_held: bool) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        // Accepted sockets inherit it: one system call for all of them. With Nagle's algorithm a TLS handshake waits 40
        // ms.
        SockRef::from(&socket).set_tcp_nodelay(true)?;
        let addr = socket.local_addr()?;
        Ok(Listener { socket: TcpListener::from_std(socket)?, addr, configured: addr, is_held })
    }

    /// Where it really listens, the port that the kernel chose included.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// What the configuration calls it.
    pub fn configured(&self) -> SocketAddr {
        self.configured
    }

    /// Whether the service manager holds it, too.
    pub fn is_held(&self) -> bool {
        self.is_held
    }

    /// Gives it to the service manager, to keep it for the next process.
    pub fn store(&self, manager: &Notifier, name: &str) -> io::Result<()> {
        manager.keep(name, &[self.socket.as_fd()])
    }
}

impl Listeners {
    /// These.
    pub fn new(all: Vec<Listener>) -> Self {
        Listeners { all, next: 0, resume: None, wait: BACK_OFF.0 }
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &Listener> {
        self.all.iter()
    }

    /// Takes these out.
    pub fn remove(&mut self, is_one: impl FnMut(&mut Listener) -> bool) -> Vec<Listener> {
        self.all.extract_if(.., is_one).collect()
    }

    /// Adds these.
    pub fn extend(&mut self, more: impl IntoIterator<Item = Listener>) {
        self.all.extend(more);
    }

    /// Where they listen.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.iter().map(Listener::addr).collect()
    }

    /// The next connection. What fails is waited out: it is the host that is short of something, and other connections'
    /// ends mend it. May be dropped and called again: nothing is lost.
    pub async fn accept(&mut self) -> Accepted {
        loop {
            if let Some(at) = self.resume {
                sleep_until(at).await;
                self.resume = None;
            }
            match poll_fn(|cx| self.poll_accept(cx)).await {
                Ok(accepted) => {
                    self.wait = BACK_OFF.0;
                    return accepted;
                }
                Err(error) => {
                    tracing::warn!(%error, wait = ?self.wait, "cannot accept; waiting");
                    self.resume = Some(Instant::now() + self.wait);
                    self.wait = (self.wait * 2).min(BACK_OFF.1);
                }
            }
        }
    }

    /// A connection that is there already.
    pub async fn try_accept(&mut self) -> Option<Accepted> {
        // What the kernel knows is seen when the runtime next asks it.
        tokio::task::yield_now().await;
        poll_fn(|cx| match self.poll_accept(cx) {
            Poll::Ready(Ok(accepted)) => Poll::Ready(Some(accepted)),
            Poll::Ready(Err(_)) | Poll::Pending => Poll::Ready(None),
        })
        .await
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Accepted>> {
        for n in 0..self.all.len() {
            let at = (self.next + n) % self.all.len();
            let Some(listener) = self.all.get(at) else { break };
            loop {
                match listener.socket.poll_accept(cx) {
                    Poll::Pending => break,
                    Poll::Ready(Ok((client, from))) => {
                        self.next = at + 1;
                        let (port, listener) = (listener.addr.port(), listener.addr);
                        return Poll::Ready(Ok(Accepted { client, from, port, listener }));
                    }
                    // The client left before we came to it.
                    Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                }
            }
        }
        Poll::Pending
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

    fn refused(addr: &str, kind: rustix::io::Errno) -> BindError {
        BindError { addr: addr.parse().unwrap(), cause: io::Error::from_raw_os_error(kind.raw_os_error()) }
    }

    #[test]
    fn a_door_that_is_shut_says_what_to_do() {
        use rustix::io::Errno;
        for (addr, kind, first, then) in [
            ("127.0.0.1:8139", Errno::ADDRINUSE, "the port is taken", "see who has it, `ss -ltnp sport = :8139`, and"),
            (
                "127.0.0.1:443",
                Errno::ACCESS,
                "Permission denied",
                "have systemd hold it, by ListenStream=127.0.0.1:443",
            ),
            ("127.0.0.1:8139", Errno::ACCESS, "Permission denied", "see what forbids it"),
            ("192.0.2.1:8139", Errno::ADDRNOTAVAIL, "Cannot assign", "give the address to an interface"),
            ("127.0.0.1:8139", Errno::MFILE, "Too many open files", "mend that"),
        ] {
            let error = refused(addr, kind);
            let doors = Door::all(&Listeners::new(Vec::new()), std::slice::from_ref(&error));
            let [Door { state: DoorState::Failed { why, mend }, .. }] = &doors[..] else { panic!("{doors:?}") };
            assert!(why.starts_with(&format!("cannot listen on {addr}: {first}")), "{why}");
            assert!(mend.starts_with(then), "{mend}");
            assert_eq!(error.to_string(), format!("{why}; {mend}"));
        }
    }

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
