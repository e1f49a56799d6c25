//! Descriptors that the service manager has passed on: listening sockets (`sd_listen_fds(3)`), and what the last process
//! has left in its store.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;

use rustix::io::{FdFlags, fcntl_setfd};
use socket2::{SockRef, Type};

use crate::handover::is_part;

/// The name of a socket on which the status is asked for.
const STATUS: &str = "status";

/// The name of a listening socket that a process has bound itself and left to the next.
pub const BOUND: &str = "bound";

/// What was passed on, by what it is.
#[derive(Debug, Default)]
pub struct Inherited {
    /// Listening sockets that the manager holds.
    pub listeners: Vec<TcpListener>,
    /// Listening sockets that the last process has bound.
    pub bound: Vec<TcpListener>,
    /// Parts of tunnels that the last process has left, with their names.
    pub parts: Vec<(String, OwnedFd)>,
    /// Sockets on which the status is asked for.
    pub status: Vec<OwnedFd>,
}

impl Inherited {
    /// Those of this process. To be asked once: each descriptor has one owner. The environment keeps the variables, which
    /// name the process that they are for, and this one starts no other.
    pub fn take() -> Self {
        match sd_listen_fds::get() {
            Ok(passed) => Self::sort(passed.into_iter().map(|(name, fd)| (name.unwrap_or_default(), fd.into_std()))),
            Err(error) => {
                tracing::warn!("cannot tell which descriptors were passed on: {error}");
                Inherited::default()
            }
        }
    }

    fn sort(passed: impl Iterator<Item = (String, OwnedFd)>) -> Self {
        let mut sorted = Inherited::default();
        for (name, descriptor) in passed {
            // It is nobody else's. A descriptor that cannot be told so is none, and will be found out below.
            let _ = fcntl_setfd(&descriptor, FdFlags::CLOEXEC);
            if name == STATUS {
                if is_unix_listener(&descriptor) {
                    sorted.status.push(descriptor);
                } else {
                    tracing::warn!("a descriptor that was passed on, {name:?}, is no listening Unix socket; closed");
                }
                continue;
            }
            if is_part(&name) {
                sorted.parts.push((name, descriptor));
                continue;
            }
            match listening(descriptor) {
                Some(listener) if name == BOUND => sorted.bound.push(listener),
                Some(listener) => sorted.listeners.push(listener),
                None => tracing::warn!("a descriptor that was passed on, {name:?}, is no listening TCP socket; closed"),
            }
        }
        sorted
    }
}

fn is_unix_listener(descriptor: &OwnedFd) -> bool {
    let socket = SockRef::from(descriptor);
    let is_unix = socket.local_addr().is_ok_and(|address| address.is_unix());
    let is_stream = socket.r#type().is_ok_and(|kind| kind == Type::STREAM);
    is_unix && is_stream && socket.is_listener().unwrap_or(false)
}

/// The descriptor as what it should be.
fn listening(descriptor: OwnedFd) -> Option<TcpListener> {
    let socket = SockRef::from(&descriptor);
    let is_inet = socket.local_addr().is_ok_and(|address| address.is_ipv4() || address.is_ipv6());
    let is_stream = socket.r#type().is_ok_and(|kind| kind == Type::STREAM);
    let is_listener = socket.is_listener().unwrap_or(false);
    (is_inet && is_stream && is_listener).then(|| descriptor.into())
}

/// Which of the sockets at hand serves each configured address; `None`: it has to be bound. Second, those that serve
/// none.
pub fn assign(configured: &[SocketAddr], at_hand: &[SocketAddr]) -> (Vec<Option<usize>>, Vec<usize>) {
    let mut left: Vec<usize> = (0..at_hand.len()).collect();
    let assigned = configured
        .iter()
        .map(|wanted| {
            let at = left.iter().position(|n| at_hand.get(*n).is_some_and(|have| is_same(*have, *wanted)))?;
            Some(left.remove(at))
        })
        .collect();
    (assigned, left)
}

/// Whatever the scope or flow.
fn is_same(one: SocketAddr, other: SocketAddr) -> bool {
    (one.ip(), one.port()) == (other.ip(), other.port())
}

#[cfg(test)]
mod tests {
    use std::net::{TcpStream, UdpSocket};
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn sockets_are_told_by_their_own_address() {
        let configured = addresses(&["127.0.0.1:8139", "[::1]:8139", "127.0.0.1:8140"]);
        let at_hand = addresses(&["127.0.0.1:9", "[::1]:8139", "127.0.0.1:8139", "[::1]:8139"]);
        assert_eq!(assign(&configured, &at_hand), (vec![Some(2), Some(1), None], vec![0, 3]));
        assert_eq!(assign(&configured, &[]), (vec![None, None, None], vec![]));
        assert_eq!(assign(&[], &at_hand), (vec![], vec![0, 1, 2, 3]));
    }

    #[test]
    fn what_is_no_listening_socket_is_closed_and_the_status_socket_kept_aside() {
        let folder = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let bound = TcpListener::bind("127.0.0.1:0").unwrap();
        let no_listener = UnixStream::pair().unwrap().0;
        let passed: [(&str, OwnedFd); 7] = [
            ("status", no_listener.into()),
            ("puppet-shim.socket", listener.into()),
            ("", TcpStream::connect(address).unwrap().into()),
            ("udp", UdpSocket::bind("127.0.0.1:0").unwrap().into()),
            ("file", tempfile::tempfile().unwrap().into()),
            ("status", UnixListener::bind(folder.path().join("status")).unwrap().into()),
            ("bound", bound.into()),
        ];
        let sorted = Inherited::sort(passed.into_iter().map(|(name, descriptor)| (name.to_owned(), descriptor)));
        let at: Vec<_> = sorted.listeners.iter().map(|listener| listener.local_addr().unwrap()).collect();
        assert_eq!((at, sorted.bound.len(), sorted.status.len()), (vec![address], 1, 1));
    }
}
