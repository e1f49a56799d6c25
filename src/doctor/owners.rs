//! Whose addresses are, for who is about to lead the agent to them.

use std::net::SocketAddr;

use super::listeners::{Scene, ours, stranger};
use super::sockets::Sockets;
use super::units::Systemd;
use crate::state::StateDirectory;

/// Who has an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// Nobody listens there.
    Nobody,
    /// We do, or systemd or root for us.
    Ours,
    /// Somebody else, for a sentence.
    Stranger(String),
}

/// What is known of who listens, at one moment.
#[derive(Debug)]
pub(crate) struct Owners {
    sockets: Sockets,
    systemd: Systemd,
    ours: Vec<u32>,
}

impl Owners {
    /// Looks at these ports, and asks systemd where it runs the host.
    pub(crate) async fn ask(ports: &[u16], has_systemd: bool) -> Self {
        let systemd = if has_systemd { Systemd::ask().await } else { Systemd::Absent };
        Owners { sockets: Sockets::read(ports), systemd, ours: ours(&StateDirectory::find_to_look_at()) }
    }

    /// Who has this address.
    pub(crate) fn of(&self, address: SocketAddr) -> Owner {
        if self.sockets.at(address).is_empty() {
            return Owner::Nobody;
        }
        let scene = Scene {
            sockets: &self.sockets,
            systemd: &self.systemd,
            ours: &self.ours,
            is_expected: true,
            idle_exit: false,
        };
        match stranger(address, &scene) {
            None => Owner::Ours,
            Some((uid, Some(holder))) => {
                Owner::Stranger(format!("process {} ({}) of the user with the number {uid}", holder.pid, holder.name))
            }
            Some((uid, None)) => Owner::Stranger(format!("the user with the number {uid}")),
        }
    }

    /// Where the socket's unit listens; `None`: it is not installed, or cannot be asked.
    pub(crate) fn unit(&self) -> Option<&[SocketAddr]> {
        self.systemd.socket().map(|unit| unit.listen.as_slice())
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// This process is none of ours: it has another name.
    #[tokio::test]
    async fn knows_a_stranger() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let owner = Owners::ask(&[address.port()], false).await.of(address);
        let Owner::Stranger(who) = &owner else { panic!("{owner:?}") };
        assert!(who.starts_with(&format!("process {} (", std::process::id())), "{who}");
        drop(listener);
        let owners = Owners::ask(&[address.port()], false).await;
        assert_eq!((owners.of(address), owners.unit()), (Owner::Nobody, None));
    }
}
