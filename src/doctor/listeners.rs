//! Whether each configured address is listened on, and by us: anybody else there would answer the agent's first run.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::MetadataExt as _;

use super::finding::Finding;
use super::sockets::{Holder, Sockets};
use super::units::{SOCKET, Systemd, Unit};
use crate::state::StateDirectory;

const CHECK: &str = "listener";

/// What a listener is judged by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scene<'a> {
    /// Who listens where.
    pub(super) sockets: &'a Sockets,
    /// What systemd says.
    pub(super) systemd: &'a Systemd,
    /// The users that may hold it: root, and who the daemon runs as.
    pub(super) ours: &'a [u32],
    /// Whether agents come here, or may: what is missing then is missed.
    pub(super) is_expected: bool,
    /// Whether the daemon is to leave when it is idle.
    pub(super) idle_exit: bool,
}

/// The users that may hold a listener of ours: root, this one, and who the daemon runs as.
pub(super) fn ours(state: &StateDirectory) -> Vec<u32> {
    let mut ours = vec![0, rustix::process::geteuid().as_raw()];
    // Who it belongs to is whom the unit lets the daemon be.
    ours.extend(fs::metadata(state).ok().map(|state| state.uid()));
    ours
}

/// Whether somebody else has an address: the user's number, and what is known of the process.
pub(super) fn stranger<'s>(address: SocketAddr, scene: &Scene<'s>) -> Option<(u32, Option<&'s Holder>)> {
    scene.sockets.at(address).into_iter().find_map(|socket| {
        let holders = scene.sockets.holders(socket);
        let ours = scene.ours.contains(&socket.uid) && (holders.is_empty() || holders.iter().any(is_ours));
        (!ours).then(|| (socket.uid, holders.first()))
    })
}

/// The daemon's process among those that have the address.
pub(super) fn daemon(address: SocketAddr, sockets: &Sockets) -> Option<&Holder> {
    let mut holders = sockets.at(address).into_iter().flat_map(|socket| sockets.holders(socket));
    holders.find(|holder| holder.name == "puppet-shim")
}

fn is_ours(holder: &Holder) -> bool {
    // Names are anybody's to choose; the user is not, and has been looked at.
    holder.name == "puppet-shim" || holder.pid == 1 || holder.name == "systemd"
}

/// Judges one address. `user`: the name of a user, where it has one.
pub(super) fn judge(address: SocketAddr, scene: &Scene<'_>, user: Option<&str>) -> Finding {
    let subject = address.to_string();
    let socket = scene.systemd.socket();
    if let Some((uid, holder)) = stranger(address, scene) {
        let user = user.map_or_else(|| format!("the user with the number {uid}"), |name| format!("the user {name}"));
        let process = holder.map(|holder| format!(", process {} ({})", holder.pid, holder.name)).unwrap_or_default();
        let what = format!("the port is taken by {user}{process}, who gets what agents send here");
        let stop = match holder {
            Some(holder) => format!("stop process {}", holder.pid),
            None => format!("stop who `ss -ltnp sport = :{}` shows", address.port()),
        };
        return Finding::problem(CHECK, subject, what, format!("{stop}, then {}", start(socket)));
    }
    let is_in_unit = socket.is_some_and(|unit| unit.listen.iter().any(|have| serves(*have, address)));
    if scene.sockets.at(address).is_empty() {
        if address.is_ipv6() && address.ip().is_loopback() && !scene.sockets.has_ipv6 {
            return Finding::ok(CHECK, subject, "this host has no IPv6, so nobody comes here");
        }
        let finding = match socket {
            Some(unit) if unit.is_active() && !is_in_unit => absent_from_unit(address, "nobody listens here: "),
            _ => Finding::problem(CHECK, subject, "nobody listens here, so agents are refused", start(socket)),
        };
        // No agent misses it yet.
        return finding.unless(!scene.is_expected);
    }
    let holder = match daemon(address, scene.sockets) {
        Some(holder) => format!("puppet-shim, process {}", holder.pid),
        None if is_in_unit => "systemd, until somebody connects".to_owned(),
        None => "a process of root's or of puppet-shim's own user".to_owned(),
    };
    match socket {
        Some(unit) if unit.is_active() && !is_in_unit => {
            let finding = absent_from_unit(address, "");
            if !scene.systemd.service().is_some_and(|service| service.is_enabled) {
                return finding;
            }
            // The daemon always runs, and binds it.
            if scene.idle_exit {
                return finding.unless(true);
            }
            Finding::ok(CHECK, subject, format!("held by {holder}, which is always to run"))
        }
        Some(unit) if unit.is_active() => Finding::ok(CHECK, subject, format!("in {SOCKET}, held by {holder}")),
        _ => Finding::ok(CHECK, subject, format!("held by {holder}")),
    }
}

fn absent_from_unit(address: SocketAddr, before: &str) -> Finding {
    let what = format!(
        "{before}it is in `listen`, and not in {SOCKET}: it is there only while the daemon runs, and keeps that from leaving \
         when it is idle"
    );
    let mend = format!(
        "`systemctl edit {SOCKET}`, write `[Socket]` and below it `ListenStream={address}`, then `systemctl restart {SOCKET} \
         puppet-shim.service`"
    );
    Finding::problem(CHECK, address.to_string(), what, mend)
}

fn start(socket: Option<&Unit>) -> String {
    match socket {
        Some(unit) if unit.is_active() => format!("`systemctl restart {SOCKET} puppet-shim.service`"),
        Some(_) => format!("`systemctl enable --now {SOCKET}`"),
        None => "start `puppet-shim run` by the host's service manager".into(),
    }
}

/// Whether a socket of the unit's gets what is sent to an address.
fn serves(have: SocketAddr, wanted: SocketAddr) -> bool {
    let covers = |ip: IpAddr| ip == wanted.ip() || (ip.is_unspecified() && (ip.is_ipv6() || wanted.is_ipv4()));
    have.port() == wanted.port() && covers(have.ip())
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::super::sockets::Socket;
    use super::super::units::{State, Units};
    use super::*;

    const ADDRESS: &str = "127.0.0.1:8139";

    /// Somebody who listens on [`ADDRESS`].
    fn held(uid: u32, holder: Option<(u32, &str)>) -> Sockets {
        let mut sockets = Sockets { has_ipv6: true, ..Sockets::default() };
        sockets.listening.push(Socket { address: ADDRESS.parse().unwrap(), uid, inode: 7 });
        let holder = holder.map(|(pid, name)| Holder { pid, name: name.into() });
        sockets.holders.insert(7, holder.into_iter().collect());
        sockets
    }

    fn units(listen: &[&str], is_active: bool, service_is_enabled: bool) -> Systemd {
        let listen = listen.iter().map(|text| text.parse().unwrap()).collect();
        let state = if is_active { State::Active } else { State::Inactive };
        Systemd::Here(Units {
            socket: Unit { is_loaded: true, state, is_enabled: true, listen },
            service: Unit { is_loaded: true, is_enabled: service_is_enabled, ..Unit::default() },
            ..Units::default()
        })
    }

    fn judged(sockets: &Sockets, systemd: &Systemd, idle_exit: bool) -> Finding {
        let scene = Scene { sockets, systemd, ours: &[0, 997], is_expected: true, idle_exit };
        judge(ADDRESS.parse().unwrap(), &scene, Some("mallory"))
    }

    #[test]
    fn ours() {
        let in_unit = units(&[ADDRESS], true, false);
        for (sockets, systemd, what) in [
            (
                held(0, Some((1, "systemd"))),
                &in_unit,
                "in puppet-shim.socket, held by systemd, until somebody connects",
            ),
            (held(0, Some((9, "puppet-shim"))), &in_unit, "in puppet-shim.socket, held by puppet-shim, process 9"),
            (held(997, Some((9, "puppet-shim"))), &Systemd::Absent, "held by puppet-shim, process 9"),
            (held(997, None), &Systemd::Absent, "held by a process of root's or of puppet-shim's own user"),
        ] {
            let finding = judged(&sockets, systemd, true);
            assert_eq!((finding.verdict, finding.what.as_str()), (Verdict::Ok, what));
        }
    }

    #[test]
    fn somebody_elses() {
        let finding = judged(&held(1000, Some((66, "nc"))), &Systemd::Absent, false);
        assert_eq!(finding.verdict, Verdict::Problem);
        assert!(finding.what.starts_with("the port is taken by the user mallory, process 66 (nc)"), "{}", finding.what);
        assert!(finding.mend.unwrap().starts_with("stop process 66, then start `puppet-shim run`"));
        // Neither is root's own who is not we.
        assert_eq!(judged(&held(0, Some((66, "nc"))), &Systemd::Absent, false).verdict, Verdict::Problem);
        // Nor one who took our name.
        assert_eq!(judged(&held(1000, Some((66, "puppet-shim"))), &Systemd::Absent, false).verdict, Verdict::Problem);
    }

    #[test]
    fn nobodys() {
        let none = Sockets { has_ipv6: true, ..Sockets::default() };
        for (systemd, mend) in [
            (Systemd::Absent, "start `puppet-shim run` by the host's service manager"),
            (units(&[ADDRESS], false, false), "`systemctl enable --now puppet-shim.socket`"),
        ] {
            let finding = judged(&none, &systemd, false);
            assert_eq!((finding.verdict, finding.mend.as_deref()), (Verdict::Problem, Some(mend)));
        }
        let scene =
            Scene { sockets: &none, systemd: &Systemd::Absent, ours: &[0], is_expected: false, idle_exit: false };
        assert_eq!(judge(ADDRESS.parse().unwrap(), &scene, None).verdict, Verdict::Warning);
        let no_ipv6 = Sockets::default();
        let scene = Scene { sockets: &no_ipv6, is_expected: true, ..scene };
        assert_eq!(judge("[::1]:8139".parse().unwrap(), &scene, None).verdict, Verdict::Ok);
    }

    #[test]
    fn not_in_the_unit() {
        let ours = held(997, Some((9, "puppet-shim")));
        for (sockets, is_enabled, idle_exit, verdict) in [
            (&ours, false, false, Verdict::Problem),
            (&ours, true, true, Verdict::Warning),
            (&ours, true, false, Verdict::Ok),
            (&Sockets::default(), false, true, Verdict::Problem),
        ] {
            let finding = judged(sockets, &units(&["127.0.0.1:9"], true, is_enabled), idle_exit);
            assert_eq!(finding.verdict, verdict, "{finding:?}");
            if verdict != Verdict::Ok {
                assert!(finding.what.contains("not in puppet-shim.socket"), "{finding:?}");
                assert!(finding.mend.unwrap().contains("`ListenStream=127.0.0.1:8139`"));
            }
        }
    }
}
