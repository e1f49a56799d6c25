//! Who listens where on this host, from /proc: to connect would start the daemon.

use std::collections::HashMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// `TCP_LISTEN` of the kernel's `tcp_states.h`, as /proc/net/tcp writes it.
const LISTEN: &str = "0A";

/// A listening socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Socket {
    /// Where.
    pub(super) address: SocketAddr,
    /// The user whose it is.
    pub(super) uid: u32,
    /// Its inode.
    pub(super) inode: u64,
}

/// A process that has a socket open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Holder {
    /// Its id.
    pub(super) pid: u32,
    /// Its name, cut to fifteen bytes by the kernel.
    pub(super) name: String,
}

/// What the kernel says.
#[derive(Clone, Debug, Default)]
pub(super) struct Sockets {
    /// Everything that listens.
    pub(super) listening: Vec<Socket>,
    /// Who holds what, by inode; only processes that this one may look at.
    pub(super) holders: HashMap<u64, Vec<Holder>>,
    /// Whether loopback has its IPv6 address.
    pub(super) has_ipv6: bool,
}

impl Sockets {
    /// Reads it. Only holders of sockets on `ports` are looked for.
    pub(super) fn read(ports: &[u16]) -> Self {
        let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let mut listening = parse(&text("/proc/net/tcp"));
        listening.extend(parse(&text("/proc/net/tcp6")));
        let wanted: Vec<u64> =
            listening.iter().filter(|s| ports.contains(&s.address.port())).map(|s| s.inode).collect();
        let loopback = format!("{:032x} ", u128::from(Ipv6Addr::LOCALHOST));
        let has_ipv6 = text("/proc/net/if_inet6").lines().any(|line| line.starts_with(&loopback));
        Sockets { listening, holders: if wanted.is_empty() { HashMap::new() } else { holders(&wanted) }, has_ipv6 }
    }

    /// The sockets that get what is sent to an address: those that are bound to it, else those bound to all.
    pub(super) fn at(&self, address: SocketAddr) -> Vec<&Socket> {
        let on_port = || self.listening.iter().filter(|socket| socket.address.port() == address.port());
        let exact: Vec<_> = on_port().filter(|socket| socket.address.ip() == address.ip()).collect();
        if !exact.is_empty() {
            return exact;
        }
        // One bound to [::] takes IPv4 too, unless it was told not to, which /proc does not tell.
        let takes = |ip: IpAddr| ip.is_unspecified() && (ip.is_ipv6() || address.is_ipv4());
        on_port().filter(|socket| takes(socket.address.ip())).collect()
    }

    /// Who holds a socket, as far as this process may know.
    pub(super) fn holders(&self, socket: &Socket) -> &[Holder] {
        self.holders.get(&socket.inode).map_or(&[], Vec::as_slice)
    }
}

/// /proc/net/tcp and tcp6, `proc_net_tcp(5)`.
fn parse(text: &str) -> Vec<Socket> {
    let socket = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [_, local, _, state, _, _, _, uid, _, inode, ..] = words[..] else { return None };
        let address = address(local)?;
        (state == LISTEN).then_some(Socket { address, uid: uid.parse().ok()?, inode: inode.parse().ok()? })
    };
    text.lines().filter_map(socket).collect()
}

/// `0100007F:1FCB`: words of 32 bits in the order of this machine, then the port.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |n: usize| Some(u32::from_str_radix(ip.get(8 * n..8 * n + 8)?, 16).ok()?.to_ne_bytes());
    let ip = match ip.len() {
        8 => Ipv4Addr::from(word(0)?).into(),
        32 => {
            let words = [word(0)?, word(1)?, word(2)?, word(3)?];
            let bytes: [u8; 16] = words.concat().try_into().ok()?;
            Ipv6Addr::from(bytes).into()
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

/// The processes that have these inodes open.
fn holders(wanted: &[u64]) -> HashMap<u64, Vec<Holder>> {
    let mut holders: HashMap<u64, Vec<Holder>> = HashMap::new();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    for (process, pid) in processes.filter_map(|e| Some((e.path(), e.file_name().to_str()?.parse::<u32>().ok()?))) {
        // Not this process's business, or gone.
        let Ok(descriptors) = fs::read_dir(process.join("fd")) else { continue };
        for link in descriptors.flatten().filter_map(|entry| fs::read_link(entry.path()).ok()) {
            let inode = link.to_str().and_then(|l| l.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok());
            let Some(inode) = inode.filter(|inode| wanted.contains(inode)) else { continue };
            let name = fs::read_to_string(process.join("comm")).unwrap_or_default().trim_end().to_owned();
            let holder = Holder { pid, name };
            let known = holders.entry(inode).or_default();
            if !known.contains(&holder) {
                known.push(holder);
            }
        }
    }
    holders
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn sockets(addresses: &[&str]) -> Sockets {
        let socket = |text: &&str| Socket { address: text.parse().unwrap(), uid: 0, inode: 1 };
        Sockets { listening: addresses.iter().map(socket).collect(), ..Sockets::default() }
    }

    #[test]
    fn finds_a_listener_of_this_process() {
        let one = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = one.local_addr().unwrap();
        let sockets = Sockets::read(&[address.port()]);
        let [socket] = sockets.at(address)[..] else { panic!("{sockets:?}") };
        assert_eq!(socket.uid, rustix::process::geteuid().as_raw());
        let pids: Vec<_> = sockets.holders(socket).iter().map(|holder| holder.pid).collect();
        assert!(pids.contains(&std::process::id()), "{pids:?}");
        drop(one);
        assert!(Sockets::read(&[]).at(address).is_empty());
    }

    #[test]
    fn the_address_goes_before_all_addresses() {
        let at = |have: &[&str], wanted: &str| -> Vec<String> {
            sockets(have).at(wanted.parse().unwrap()).iter().map(|socket| socket.address.to_string()).collect()
        };
        assert_eq!(at(&["0.0.0.0:1", "127.0.0.1:1", "127.0.0.1:2"], "127.0.0.1:1"), ["127.0.0.1:1"]);
        assert_eq!(at(&["0.0.0.0:1", "[::]:1"], "127.0.0.1:1"), ["0.0.0.0:1", "[::]:1"]);
        assert_eq!(at(&["0.0.0.0:1", "[::]:1"], "[::1]:1"), ["[::]:1"]);
        assert_eq!(at(&["127.0.0.2:1"], "127.0.0.1:1"), [""; 0]);
    }

    #[cfg(target_endian = "little")]
    #[test]
    fn reads_what_the_kernel_writes() {
        let text = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1FCB 00000000:0000 0A 00000000:00000000 00:00000000 00000000   997        0 4711 1 0 100 0 0 10 0
   1: 0100007F:1FCB 0100007F:A2C4 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0 20 4 1 68 146
   2: 00000000000000000000000001000000:1FCB 00000000000000000000000000000000:0000 0A 0:0 00:0 0     0        0 9 1 0
   3: rubbish
";
        let found: Vec<_> = parse(text).iter().map(|s| (s.address.to_string(), s.uid, s.inode)).collect();
        assert_eq!(found, [("127.0.0.1:8139".into(), 997, 4711), ("[::1]:8139".into(), 0, 9)]);
    }
}
