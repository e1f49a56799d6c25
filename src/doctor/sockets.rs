//! Who listens where on this host, and which process that is, from /proc.

use std::collections::HashMap;
use std::fs;
use std::net::{Ipv6Addr, SocketAddr};

use crate::socket_table;
pub(super) use crate::socket_table::Socket;

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
        let listening = socket_table::listening();
        let wanted: Vec<u64> =
            listening.iter().filter(|s| ports.contains(&s.address.port())).map(|s| s.inode).collect();
        let loopback = format!("{:032x} ", u128::from(Ipv6Addr::LOCALHOST));
        let addresses = fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
        let has_ipv6 = addresses.lines().any(|line| line.starts_with(&loopback));
        Sockets { listening, holders: if wanted.is_empty() { HashMap::new() } else { holders(&wanted) }, has_ipv6 }
    }

    /// The sockets that get what is sent to an address: those that are bound to it, else those bound to all.
    pub(super) fn at(&self, address: SocketAddr) -> Vec<&Socket> {
        socket_table::at(&self.listening, address)
    }

    /// Who holds a socket, as far as this process may know.
    pub(super) fn holders(&self, socket: &Socket) -> &[Holder] {
        self.holders.get(&socket.inode).map_or(&[], Vec::as_slice)
    }
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
}
