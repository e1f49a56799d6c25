//! The status where no process runs: what the state directory knows. Under socket activation that is the ordinary case.

use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use super::{ListenerState, ListenerStatus, Parts, Problem, ProblemSeverity, Status, Unread};
use crate::config::{InForce, Provenance};
use crate::discovery::Discovery;
use crate::discovery::dns::Dns;
use crate::gauge::Gauge;
use crate::memory::{self, Forgotten, Why};
use crate::moment::Clocks;
use crate::pool::Pool;
use crate::role::Table;
use crate::socket_table::{self, Socket, at};
use crate::state::StateDirectory;

/// The IPv6 addresses of this host (proc(5)). It is not there where the kernel has no IPv6.
const ADDRESSES: &str = "/proc/net/if_inet6";

/// Where systemd is who starts processes (`sd_booted(3)`).
const BOOTED: &str = "/run/systemd/system";

/// What is known without a process. `found`: the configuration with which the next one will run. `asked`: the socket on which
/// none has answered. Reads files, and asks nobody.
pub fn from_state(found: &InForce, state: &StateDirectory, asked: Option<&Path>) -> Status {
    let listening = socket_table::listening();
    let mut status = recalled(found, state);
    let addresses = fs::read_to_string(ADDRESSES).ok();
    let listeners = found.config.listen.iter().map(|addr| listener(*addr, &listening, addresses.as_deref()));
    status.listeners = listeners.collect();
    // systemd is root. A process of ours is, if at all, where nobody has set it up as a service.
    let may_be_systemd = Path::new(BOOTED).is_dir();
    let is_held = |addr: &SocketAddr| at(&listening, *addr).iter().all(|socket| may_be_systemd && socket.uid == 0);
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
    status.problems.sort_by_key(|problem| problem.severity);
    status
}

/// The same without who listens, which takes the kernel tens of milliseconds to tell.
pub fn recalled(found: &InForce, state: &StateDirectory) -> Status {
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
    status.unread = forgotten.map(|forgotten| unread(&forgotten));
    if let Some(Unread { why, help }) = &status.unread {
        status.problems.push(Problem {
            severity: ProblemSeverity::Warning,
            about: "state directory".into(),
            message: format!("{why}; what was done, and how the servers stand, is not known"),
            help: Some(help.clone()),
        });
    }
    status
}

fn unread(forgotten: &Forgotten) -> Unread {
    let help = match &forgotten.why {
        Why::Unreadable(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            "ask as root: between two runs only root can read what is written down"
        }
        Why::Unreadable(_) => "let puppet-shim's user read it, or remove it",
        Why::Damaged(_) => "remove it, or leave that to the next process, which sets it aside",
    };
    Unread { why: forgotten.to_string(), help: help.into() }
}

fn listener(addr: SocketAddr, listening: &[Socket], addresses: Option<&str>) -> ListenerStatus {
    let state = match at(listening, addr).is_empty() {
        false => ListenerState::Waiting,
        true if is_absent(addr, addresses) => ListenerState::Absent,
        true => ListenerState::Closed,
    };
    ListenerStatus { address: addr.to_string(), state, error: None, help: None }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// `::1` on `lo`, as the kernel has it.
    const LOOPBACK: &str = "00000000000000000000000000000001 01 80 10 80       lo\n";

    #[test]
    fn a_wildcard_is_every_address_that_it_takes() {
        for (bound, addr, state) in [
            ("0.0.0.0:8139", "127.0.0.1:8139", ListenerState::Waiting),
            ("0.0.0.0:8139", "[::1]:8139", ListenerState::Closed),
            ("[::]:8139", "127.0.0.1:8139", ListenerState::Waiting),
            ("[::]:8139", "[::1]:8139", ListenerState::Waiting),
            ("[::]:8140", "[::1]:8139", ListenerState::Closed),
        ] {
            let listening = [Socket { address: bound.parse().unwrap(), uid: 0, inode: 1 }];
            assert_eq!(listener(addr.parse().unwrap(), &listening, Some(LOOPBACK)).state, state, "{addr} by {bound}");
        }
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
