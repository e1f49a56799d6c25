//! A tunnel from one process to the next: both its sockets, and a file in memory that says what they are.
//!
//! The service manager keeps descriptors under a name each and says nothing of their order, so every part of a tunnel
//! has a name of its own. What is not whole, or not understood, is closed.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Duration;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use serde::{Deserialize, Serialize};

use crate::notify::{News, Notifier};
use crate::report::Facts;
use crate::tunnel::Parked;

/// Descriptors of one tunnel.
pub const PARTS: usize = 3;

/// Of the file's form. One of a later version is not understood.
const VERSION: u32 = 1;

/// Bytes of the longest file that is read: more than can wait in a tunnel.
const LIMIT: u64 = 4 * 1024 * 1024;

/// A tunnel that stands still.
#[derive(Debug)]
pub struct Parcel {
    /// To the client.
    pub client: OwnedFd,
    /// To the server.
    pub server: OwnedFd,
    /// What they are.
    pub label: Label,
    /// Bytes that have been read and not taken, up and down.
    pub held: [Vec<u8>; 2],
}

/// What is to be known of a tunnel. Times are on the clock that all processes of the host share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Label {
    /// Of its form.
    pub version: u32,
    /// Who had connected.
    pub from: SocketAddr,
    /// When.
    pub started: Duration,
    /// When something last went through.
    pub active: Duration,
    /// Over how many restarts it has come.
    pub restarts: u32,
    /// How it began.
    pub facts: Facts,
    /// Bytes to the server so far.
    pub up: u64,
    /// Bytes to the client so far.
    pub down: u64,
    /// The name in a hello within a CONNECT.
    pub sni: Option<String>,
    /// Where its run is to stay.
    pub pin: Option<Pin>,
    /// How far it has come.
    pub tunnel: Parked,
}

/// Where a tunnel's run is to stay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    /// For whose sake.
    pub role: String,
    /// The servers that there were.
    pub set: Vec<String>,
    /// The one.
    pub server: String,
}

impl Default for Label {
    fn default() -> Self {
        Label {
            version: VERSION,
            from: SocketAddr::from(([0; 4], 0)),
            started: Duration::ZERO,
            active: Duration::ZERO,
            restarts: 0,
            facts: Facts::default(),
            up: 0,
            down: 0,
            sni: None,
            pin: None,
            tunnel: Parked::default(),
        }
    }
}

/// What a part of a tunnel is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Client,
    Server,
    Label,
}

impl Part {
    const ALL: [(Part, char); PARTS] = [(Part::Client, 'c'), (Part::Server, 's'), (Part::Label, 'm')];
}

/// Which part of which tunnel has this name; `None`: it is no name of ours.
fn part(name: &str) -> Option<(u32, Part)> {
    let rest = name.strip_prefix('t')?;
    let (part, letter) = Part::ALL.into_iter().find(|(_, letter)| rest.ends_with(*letter))?;
    let number = rest.strip_suffix(letter)?;
    number.bytes().all(|b| b.is_ascii_digit()).then(|| number.parse().ok())?.map(|number| (number, part))
}

/// Whether this is the name of a part of a tunnel.
pub fn is_part(name: &str) -> bool {
    part(name).is_some()
}

impl Parcel {
    /// Gives it to the service manager, as the `nth`.
    pub fn store(&self, manager: &Notifier, nth: usize) -> io::Result<()> {
        let label = self.write()?;
        for (part, letter) in Part::ALL {
            let descriptor = match part {
                Part::Client => self.client.as_fd(),
                Part::Server => self.server.as_fd(),
                Part::Label => label.as_fd(),
            };
            manager.keep(&format!("t{nth}{letter}"), &[descriptor])?;
        }
        Ok(())
    }

    /// The label and the bytes that wait, in a file that nobody can change any more.
    fn write(&self) -> io::Result<File> {
        let file = memfd_create("puppet-shim-tunnel", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        let mut file = File::from(file);
        let mut contents = serde_json::to_vec(&self.label)?;
        contents.push(b'\n');
        self.held.iter().for_each(|held| contents.extend_from_slice(held));
        file.write_all(&contents)?;
        fcntl_add_seals(&file, SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        Ok(file)
    }

    fn read(client: OwnedFd, server: OwnedFd, label: OwnedFd) -> io::Result<Self> {
        let mut file = File::from(label);
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("its description is no file"));
        }
        file.rewind()?;
        let mut contents = Vec::new();
        file.take(LIMIT).read_to_end(&mut contents)?;
        let end = contents.iter().position(|byte| *byte == b'\n').unwrap_or(contents.len());
        let (label, rest) = contents.split_at(end);
        let label: Label = serde_json::from_slice(label)?;
        if label.version != VERSION {
            return Err(io::Error::other(format!("its description has the version {}", label.version)));
        }
        let rest = rest.get(1..).unwrap_or_default();
        let (up, down) = (label.tunnel.up.held, label.tunnel.down.held);
        if Some(rest.len()) != up.checked_add(down) {
            return Err(io::Error::other("its description lacks bytes that wait"));
        }
        let (up, down) = rest.split_at(up);
        Ok(Parcel { client, server, held: [up.to_vec(), down.to_vec()], label })
    }
}

/// Puts together what the last process has left. The service manager is to keep none of it any longer: who takes it
/// twice says everything twice.
pub fn unpack(parts: Vec<(String, OwnedFd)>, manager: &Notifier) -> Vec<Parcel> {
    let mut tunnels: BTreeMap<u32, BTreeMap<Part, OwnedFd>> = BTreeMap::new();
    for (name, descriptor) in parts {
        manager.tell(News::Forget(&name));
        if let Some((number, part)) = part(&name) {
            tunnels.entry(number).or_default().insert(part, descriptor);
        }
    }
    let (mut whole, mut lost, mut why) = (Vec::new(), 0, String::new());
    for mut parts in tunnels.into_values() {
        let mut take = |part| parts.remove(&part);
        let parcel = match (take(Part::Client), take(Part::Server), take(Part::Label)) {
            (Some(client), Some(server), Some(label)) => Parcel::read(client, server, label),
            _ => Err(io::Error::other("a part of it is missing")),
        };
        match parcel {
            Ok(parcel) => whole.push(parcel),
            Err(error) => {
                lost += 1;
                why = error.to_string();
            }
        }
    }
    if lost > 0 {
        tracing::warn!(tunnels = lost, "the last process has left tunnels that cannot be gone on with; closed: {why}");
    }
    whole
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::tunnel::{State, Way};

    fn parcel() -> (Parcel, [UnixStream; 2]) {
        let ((client, ours), (server, theirs)) = (UnixStream::pair().unwrap(), UnixStream::pair().unwrap());
        let up = Way { held: 3, left: Some(9), state: State::Ending, reset: true };
        let down = Way { held: 2, ..Way::default() };
        let label = Label {
            from: "127.0.0.1:7".parse().unwrap(),
            started: Duration::from_millis(1500),
            active: Duration::new(7, 9),
            restarts: 1,
            facts: Facts { name: Some("puppet".into()), port: Some(8140), ..Facts::default() },
            up: 17,
            down: 1 << 40,
            sni: Some("puppet.test".into()),
            pin: Some(Pin { role: "compile".into(), set: vec!["a:1".into(), "b:2".into()], server: "b:2".into() }),
            tunnel: Parked { up, down, client_closed_first: Some(true), client_spoke: true },
            ..Label::default()
        };
        let held = [b"a\nb".to_vec(), b"\n\0".to_vec()];
        (Parcel { client: client.into(), server: server.into(), label, held }, [ours, theirs])
    }

    /// As the service manager passes it on.
    fn parts(number: u32, parcel: Parcel) -> Vec<(String, OwnedFd)> {
        let label = parcel.write().unwrap();
        let part = |letter, descriptor| (format!("t{number}{letter}"), descriptor);
        vec![part('m', label.into()), part('s', parcel.server), part('c', parcel.client)]
    }

    #[test]
    fn what_was_packed_is_unpacked() {
        let (mut packed, mut others) = (Vec::new(), Vec::new());
        for number in [3, 11, 0] {
            let (mut parcel, other) = parcel();
            parcel.label.up = number.into();
            packed.extend(parts(number, parcel));
            others.push(other);
        }
        packed.rotate_left(4);
        let unpacked = unpack(packed, &Notifier::default());
        let (expected, _others) = parcel();
        assert_eq!(unpacked.iter().map(|parcel| parcel.label.up).collect::<Vec<_>>(), [0, 3, 11]);
        for parcel in unpacked {
            assert_eq!(parcel.label, Label { up: parcel.label.up, ..expected.label.clone() });
            assert_eq!(parcel.held, expected.held);
            let mut client = UnixStream::from(parcel.client);
            client.write_all(b"x").unwrap();
        }
        let mut said = [0];
        others[0][0].read_exact(&mut said).unwrap();
        assert_eq!(said, *b"x", "the client's is the client's");
    }

    #[test]
    fn what_is_not_whole_or_not_understood_is_closed() {
        let without = |letter: char| {
            let (parcel, others) = parcel();
            let parts: Vec<_> = parts(1, parcel).into_iter().filter(|(name, _)| !name.ends_with(letter)).collect();
            (parts, others)
        };
        let with = |spoil: &dyn Fn(&mut Parcel)| {
            let (mut parcel, others) = parcel();
            spoil(&mut parcel);
            (parts(1, parcel), others)
        };
        for (parts, others) in [
            without('c'),
            without('s'),
            without('m'),
            with(&|parcel| parcel.label.version = 2),
            with(&|parcel| parcel.held[0].clear()),
            with(&|parcel| parcel.held[1].push(0)),
            with(&|parcel| parcel.label.tunnel.up.held = usize::MAX),
        ] {
            assert_eq!(unpack(parts, &Notifier::default()).len(), 0);
            for mut other in others {
                assert_eq!(other.read(&mut [0]).unwrap(), 0);
            }
        }
        let (socket, _other) = UnixStream::pair().unwrap();
        let (parcel, _others) = parcel();
        let mut odd = parts(1, parcel);
        odd[0].1 = socket.into();
        assert_eq!(unpack(odd, &Notifier::default()).len(), 0);
    }

    #[test]
    fn names() {
        assert_eq!(part("t0c"), Some((0, Part::Client)));
        assert_eq!(part("t4294967295m"), Some((u32::MAX, Part::Label)));
        for name in ["", "t", "tc", "t1", "t1x", "t-1c", "t+1c", "t 1c", "x1c", "t4294967296c", "t1cc", "status"] {
            assert_eq!(part(name), None, "{name:?}");
        }
    }
}
