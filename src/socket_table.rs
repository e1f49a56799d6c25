//! Who listens where on this host, by the kernel's tables: to connect would start the daemon.

use std::fs::File;
use std::io::{self, Read as _};
use std::net::{IpAddr, SocketAddr};

/// What the kernel has of TCP, listening or not (`proc_net_tcp(5)`). The second is not there where it has no IPv6.
const TABLES: [&str; 2] = ["/proc/net/tcp", "/proc/net/tcp6"];

/// Bytes of a table of a hundred sockets. A larger one takes more reads.
const TABLE: usize = 16 * 1024;

/// `TCP_LISTEN` of the kernel's `net/tcp_states.h`, as the tables write it.
const LISTEN: &str = "0A";

/// A listening socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Socket {
    /// Where. IPv4 is IPv4, by whichever family's socket it is listened on: Java, for one, has `::ffff:127.0.0.1`.
    pub(crate) address: SocketAddr,
    /// The user whose it is.
    pub(crate) uid: u32,
    /// Its inode.
    pub(crate) inode: u64,
}

/// Everything that listens. Of a table that cannot be read, nothing.
pub(crate) fn listening() -> Vec<Socket> {
    TABLES.iter().flat_map(|path| parse(&table(path).unwrap_or_default())).collect()
}

/// The sockets that get what is sent to an address: those that are bound to it, else those bound to all.
pub(crate) fn at(listening: &[Socket], address: SocketAddr) -> Vec<&Socket> {
    let ip = address.ip().to_canonical();
    let on_port = || listening.iter().filter(|socket| socket.address.port() == address.port());
    let exact: Vec<_> = on_port().filter(|socket| socket.address.ip() == ip).collect();
    if !exact.is_empty() {
        return exact;
    }
    // One bound to [::] takes IPv4 too, unless it was told not to (IPV6_V6ONLY), which the tables do not tell.
    let takes = |bound: IpAddr| bound.is_unspecified() && (bound.is_ipv6() || ip.is_ipv4());
    on_port().filter(|socket| takes(socket.address.ip())).collect()
}

/// One of the tables. The kernel goes through all its sockets at every read, some milliseconds long: so few of them, though
/// the file has no size that tells how much there is.
fn table(path: &str) -> io::Result<String> {
    let mut text = String::with_capacity(TABLE);
    File::open(path)?.read_to_string(&mut text)?;
    Ok(text)
}

/// The listening sockets of a table.
fn parse(text: &str) -> Vec<Socket> {
    let socket = |line: &str| {
        let mut fields = line.split_whitespace().skip(1);
        let (local, state) = (fields.next()?, fields.nth(1)?);
        // Nearly all of a busy server's.
        (state == LISTEN).then_some(())?;
        let (uid, inode) = (fields.nth(3)?, fields.nth(1)?);
        Some(Socket { address: address(local)?, uid: uid.parse().ok()?, inode: inode.parse().ok()? })
    };
    text.lines().filter_map(socket).collect()
}

/// `0100007F:1FCB`: words of 32 bits, each in the order of this machine's bytes, then the port.
fn address(text: &str) -> Option<SocketAddr> {
    let (hex, port) = text.split_once(':')?;
    let mut bytes = Vec::with_capacity(16);
    for at in (0..hex.len()).step_by(8) {
        bytes.extend(u32::from_str_radix(hex.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
    }
    let ip: IpAddr = match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok()?.into(),
        16 => <[u8; 16]>::try_from(bytes).ok()?.into(),
        _ => return None,
    };
    Some(SocketAddr::new(ip.to_canonical(), u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use socket2::{Domain, Socket as RawSocket, Type};

    use super::*;

    fn among(have: &[&str], wanted: &str) -> Vec<String> {
        let socket = |text: &&str| Socket { address: text.parse().unwrap(), uid: 0, inode: 1 };
        let have: Vec<_> = have.iter().map(socket).collect();
        at(&have, wanted.parse().unwrap()).iter().map(|socket| socket.address.to_string()).collect()
    }

    /// One of IPv6 that takes IPv4 too, as Java makes all of its.
    fn dual(address: &str) -> (RawSocket, u16) {
        let socket = RawSocket::new(Domain::IPV6, Type::STREAM, None).unwrap();
        socket.set_only_v6(false).unwrap();
        socket.bind(&address.parse::<SocketAddr>().unwrap().into()).unwrap();
        socket.listen(1).unwrap();
        let port = socket.local_addr().unwrap().as_socket().unwrap().port();
        (socket, port)
    }

    fn found(ip: &str, port: u16) -> usize {
        at(&listening(), SocketAddr::new(ip.parse().unwrap(), port)).len()
    }

    #[test]
    fn finds_a_listener_without_connecting_and_whose_it_is() {
        for local in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(local).unwrap();
            listener.set_nonblocking(true).unwrap();
            let address = listener.local_addr().unwrap();
            let all = listening();
            let [socket] = at(&all, address)[..] else { panic!("{all:?}") };
            assert_eq!((socket.address, socket.uid), (address, rustix::process::geteuid().as_raw()));
            assert!(listener.accept().is_err(), "nobody has connected");
            drop(listener);
            assert!(at(&listening(), address).is_empty(), "{address}");
        }
    }

    #[test]
    fn finds_ipv4_on_a_socket_of_ipv6() {
        let (mapped, port) = dual("[::ffff:127.0.0.1]:0");
        assert_eq!((found("127.0.0.1", port), found("::ffff:127.0.0.1", port), found("::1", port)), (1, 1, 0));
        drop(mapped);
        let (_all, port) = dual("[::]:0");
        assert_eq!((found("127.0.0.1", port), found("::1", port)), (1, 1));
    }

    #[test]
    fn the_address_goes_before_all_addresses() {
        assert_eq!(among(&["0.0.0.0:1", "127.0.0.1:1", "127.0.0.1:2"], "127.0.0.1:1"), ["127.0.0.1:1"]);
        assert_eq!(among(&["0.0.0.0:1", "[::]:1"], "127.0.0.1:1"), ["0.0.0.0:1", "[::]:1"]);
        assert_eq!(among(&["0.0.0.0:1", "[::]:1"], "[::ffff:127.0.0.1]:1"), ["0.0.0.0:1", "[::]:1"]);
        assert_eq!(among(&["0.0.0.0:1", "[::]:1"], "[::1]:1"), ["[::]:1"]);
        assert_eq!(among(&["127.0.0.2:1"], "127.0.0.1:1"), [""; 0]);
    }

    #[cfg(target_endian = "little")]
    #[test]
    fn reads_what_the_kernel_writes() {
        let text = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1FCB 00000000:0000 0A 00000000:00000000 00:00000000 00000000   997        0 4711 1 0 100 0 0 10 0
   1: 0100007F:1FCB 0100007F:A2C4 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0 20 4 1 68 146
   2: 00000000000000000000000001000000:1FCB 00000000000000000000000000000000:0000 0A 0:0 00:0 0     0        0 9 1 0
   3: 0000000000000000FFFF00000100007F:1FCC 00000000000000000000000000000000:0000 0A 0:0 00:0 0  1000       0 8 1 0
   4: rubbish
";
        let found: Vec<_> = parse(text).iter().map(|s| (s.address.to_string(), s.uid, s.inode)).collect();
        let expected = [("127.0.0.1:8139", 997, 4711), ("[::1]:8139", 0, 9), ("127.0.0.1:8140", 1000, 8)];
        assert_eq!(found, expected.map(|(address, uid, inode)| (address.to_owned(), uid, inode)));
    }
}
