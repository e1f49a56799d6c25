//! Addresses for servers to listen on.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU8, Ordering};

/// An address of 127/8 with port 0, to bind to.
///
/// Not 127.0.0.1, since that is where every outgoing connection on loopback takes its port from: the port of a server
/// that a test has stopped could belong to somebody else by the time the server comes back, or be connected to itself.
/// The process id keeps two runs apart, the counter two servers. Only Linux answers on all of 127/8.
pub fn any_port() -> SocketAddr {
    static NEXT: AtomicU8 = AtomicU8::new(0);
    let ip = if cfg!(target_os = "linux") {
        let [.., high, low] = std::process::id().to_be_bytes();
        Ipv4Addr::new(127, 64 + high % 64, low, 1 + NEXT.fetch_add(1, Ordering::Relaxed) % 254)
    } else {
        Ipv4Addr::LOCALHOST
    };
    SocketAddr::new(IpAddr::V4(ip), 0)
}

/// Ports of one address that were free a moment ago, for what has to be written down before it is bound.
pub fn free_ports<const N: usize>() -> [SocketAddr; N] {
    let address = any_port();
    // All are held until the last is known, so that no two are the same.
    let held = [(); N].map(|()| std::net::TcpListener::bind(address).unwrap());
    held.map(|listener| listener.local_addr().unwrap())
}
