//! The status where no process runs: what the state directory knows. Under socket activation that is the ordinary case.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use super::{ListenerState, ListenerStatus, Parts, Problem, ProblemSeverity, Status};
use crate::config::{InForce, Provenance};
use crate::discovery::Discovery;
use crate::discovery::dns::Dns;
use crate::gauge::Gauge;
use crate::memory;
use crate::moment::Clocks;
use crate::pool::Pool;
use crate::role::Table;
use crate::state::StateDirectory;

/// The IPv6 addresses of this host (proc(5)). It is not there where the kernel has no IPv6.
const ADDRESSES: &str = "/proc/net/if_inet6";

/// Bytes of a table of a hundred sockets. A larger one takes more reads.
const TABLE: usize = 16 * 1024;

/// What is listened on, on this host (proc(5)).
const TABLES: [&str; 2] = ["/proc/net/tcp", "/proc/net/tcp6"];

/// Where systemd is who starts processes (`sd_booted(3)`).
const BOOTED: &str = "/run/systemd/system";

/// What is known without a process. `found`: the configuration with which the next one will run. `asked`: the socket on which
/// none has answered. Reads files, and asks nobody.
pub fn from_state(found: &InForce, state: &StateDirectory, asked: Option<&Path>) -> Status {
    let listening: Vec<Open> = TABLES.iter().flat_map(|path| listening(&table(path).unwrap_or_default())).collect();
    let clocks = Clocks::read();
    let mut pool = Pool::new(found.config.timeouts.pin);
    let (learnt, forgotten) = match memory::peek(state, &mut pool) {
        Ok(learnt) => (learnt, None),
        Err(forgotten) => (memory::Learnt::default(), Some(forgotten)),
    };
    // As it was found last: to find it anew may take seconds.
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let before = learnt.domain.filter(|before| before.host == host).and_then(|before| before.domain);
    let domain = found.config.domain.clone().or(before);
    // It is not asked.
    let dns = Dns::new(&found.config.dns, Path::new("/dev/null"));
    let discovery = Discovery::new(&found.config, dns, domain.clone());
    discovery.restore(learnt.answers, true);
    let provenance = Provenance { read: None, ..Provenance::of(found, clocks.wall) };
    let parts = Parts {
        config: &found.config,
        provenance: &provenance,
        table: &Table::new(&found.config, domain),
        discovery: &discovery,
        pool: &pool,
        counters: &learnt.counters,
        history: &learnt.history,
        gauge: &Arc::<Gauge>::default(),
        doors: &[],
        started: None,
    };
    let mut status = parts.status(&clocks);
    let addresses = fs::read_to_string(ADDRESSES).ok();
    let listeners = found.config.listen.iter().map(|addr| listener(*addr, &listening, addresses.as_deref()));
    status.listeners = listeners.collect();
    // systemd is root. A process of ours is, if at all, where nobody has set it up as a service.
    let may_be_systemd = Path::new(BOOTED).is_dir();
    let is_held = |addr: &SocketAddr| open(*addr, &listening).all(|open| may_be_systemd && open.uid == 0);
    status.unanswered =
        asked.filter(|_| !found.config.listen.iter().all(is_held)).map(|path| path.display().to_string());
    if !status.listeners.iter().any(|listener| listener.state.is_open()) {
        status.problems.push(Problem {
            severity: ProblemSeverity::Error,
            about: "listener".into(),
            message: "no process runs, and nobody listens: an agent that is told to come here cannot connect".into(),
            help: Some("`systemctl enable --now puppet-shim.socket`".into()),
        });
    }
    if let Some(forgotten) = forgotten {
        status.problems.push(Problem {
            severity: ProblemSeverity::Warning,
            about: "state directory".into(),
            message: forgotten.to_string(),
            help: Some("ask as root, or remove the file where it is damaged".into()),
        });
    }
    status.problems.sort_by_key(|problem| problem.severity);
    status
}

/// A listening socket of the host's.
struct Open {
    addr: SocketAddr,
    /// Whose it is.
    uid: u32,
}

/// Those by which an address is listened on.
fn open(addr: SocketAddr, listening: &[Open]) -> impl Iterator<Item = &Open> {
    let any: IpAddr = if addr.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    listening.iter().filter(move |open| open.addr.port() == addr.port() && [addr.ip(), any].contains(&open.addr.ip()))
}

fn listener(addr: SocketAddr, listening: &[Open], addresses: Option<&str>) -> ListenerStatus {
    let state = match open(addr, listening).next().is_some() {
        true => ListenerState::Waiting,
        false if is_absent(addr, addresses) => ListenerState::Absent,
        false => ListenerState::Closed,
    };
    ListenerStatus { address: addr.to_string(), state, error: None }
}

/// Whether this host has no IPv6 for a listener, as [`crate::listen::BindError::is_missing_ipv6`] has it. `addresses`: those of
/// the kernel's table; `None`: it has none.
fn is_absent(addr: SocketAddr, addresses: Option<&str>) -> bool {
    let IpAddr::V6(ip) = addr.ip() else { return false };
    let digits = format!("{:032x}", ip.to_bits());
    match addresses {
        None => ip.is_loopback() || ip.is_unspecified(),
        Some(table) => ip.is_loopback() && !table.lines().any(|line| line.starts_with(&digits)),
    }
}

/// One of the tables. The kernel goes through all its sockets at every read, some milliseconds long: so few of them, though
/// the file has no size that tells how much there is.
fn table(path: &str) -> io::Result<String> {
    let mut text = String::with_capacity(TABLE);
    File::open(path)?.read_to_string(&mut text)?;
    Ok(text)
}

/// The listening sockets of one of the kernel's tables. To look there starts no daemon, which to connect would.
fn listening(table: &str) -> Vec<Open> {
    /// `TCP_LISTEN` of the kernel's `net/tcp_states.h`.
    const LISTEN: &str = "0A";
    let socket = |line: &str| {
        let mut fields = line.split_whitespace().skip(1);
        let (local, state, uid) = (fields.next()?, fields.nth(1)?, fields.nth(3)?);
        let (ip, port) = local.split_once(':')?;
        (state == LISTEN).then_some(())?;
        let addr = SocketAddr::new(address(ip)?, u16::from_str_radix(port, 16).ok()?);
        Some(Open { addr, uid: uid.parse().ok()? })
    };
    table.lines().skip(1).filter_map(socket).collect()
}

/// An address as the kernel writes it: 32 bits at a time, each in the order of this machine's bytes.
fn address(hex: &str) -> Option<IpAddr> {
    let mut bytes = Vec::new();
    for at in (0..hex.len()).step_by(8) {
        bytes.extend(u32::from_str_radix(hex.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
    }
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// `::1` on `lo`, as the kernel has it.
    const LOOPBACK: &str = "00000000000000000000000000000001 01 80 10 80       lo\n";

    #[test]
    fn what_listens_is_seen_without_connecting() {
        for local in ["127.0.0.1:0", "[::1]:0"] {
            let socket = TcpListener::bind(local).unwrap();
            socket.set_nonblocking(true).unwrap();
            let addr = socket.local_addr().unwrap();
            let now = || {
                let tables = TABLES.iter().flat_map(|path| listening(&fs::read_to_string(path).unwrap()));
                listener(addr, &tables.collect::<Vec<_>>(), Some(LOOPBACK)).state
            };
            assert_eq!(now(), ListenerState::Waiting, "{addr}");
            assert!(socket.accept().is_err(), "nobody has connected");
            drop(socket);
            assert_eq!(now(), ListenerState::Closed, "{addr}");
        }
    }

    #[test]
    fn whose_a_socket_is_is_seen() {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let all = listening(&fs::read_to_string(TABLES[0]).unwrap());
        let uids: Vec<_> = open(socket.local_addr().unwrap(), &all).map(|open| open.uid).collect();
        assert_eq!(uids, [rustix::process::geteuid().as_raw()]);
    }

    #[test]
    fn a_wildcard_is_every_address_of_its_family() {
        let open = [Open { addr: "0.0.0.0:8139".parse().unwrap(), uid: 0 }];
        let state = |addr: &str| listener(addr.parse().unwrap(), &open, Some(LOOPBACK)).state;
        assert_eq!(state("127.0.0.1:8139"), ListenerState::Waiting);
        assert_eq!(state("[::1]:8139"), ListenerState::Closed);
    }

    #[test]
    fn without_ipv6_nobody_is_missed_there() {
        use ListenerState::{Absent, Closed};
        for (addr, addresses, state) in [
            ("[::1]:8139", None, Absent),
            ("[::1]:8139", Some(""), Absent),
            ("[::1]:8139", Some(LOOPBACK), Closed),
            ("[::]:8139", None, Absent),
            ("[::]:8139", Some(""), Closed),
            ("[2001:db8::1]:8139", None, Closed),
            ("127.0.0.1:8139", None, Closed),
        ] {
            assert_eq!(listener(addr.parse().unwrap(), &[], addresses).state, state, "{addr} {addresses:?}");
        }
    }
}
