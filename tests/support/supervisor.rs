//! What systemd is to a service: it holds listening sockets, hears how the service is, and keeps descriptors from one
//! process to the next.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use tempfile::TempDir;

use super::command::{Host, Running};
use super::{eventually, loopback};

/// Puts descriptors that come over standard input, one by one, at 3 and above, where a service finds them, and becomes
/// the service. Between fork and exec nothing but unsafe code could do that here; and a descriptor that some other
/// child of this process inherits would never be closed.
const LAUNCHER: &str = "
import os, socket, sys
names = sys.argv[1].split(':') if sys.argv[1] else []
here = socket.socket(fileno=0)
os.closerange(3, 256)  # such as cargo's
for n in range(len(names)):
    _, passed, _, _ = socket.recv_fds(here, 1, 1)
    assert passed == [3 + n], passed
    os.set_inheritable(3 + n, True)
here.detach()
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(names)), LISTEN_FDNAMES=sys.argv[1])
null = os.open('/dev/null', os.O_RDONLY)
os.dup2(null, 0)
os.close(null)
os.execv(sys.argv[2], sys.argv[2:])
";

/// What it sends to itself.
const MARK: &str = "X_MARK=1";

/// Descriptors as they are passed on, by name.
type Named = Vec<(String, OwnedFd)>;

/// The supervisor of one service.
pub struct Supervisor {
    folder: TempDir,
    held: Named,
    told: Arc<Mutex<Vec<String>>>,
    store: Arc<Mutex<Named>>,
    vars: Vec<(String, String)>,
}

impl Supervisor {
    /// One that holds no socket, has no store and no watchdog.
    pub fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let socket = UnixDatagram::bind(folder.path().join("notify")).unwrap();
        let supervisor =
            Supervisor { folder, held: Vec::new(), told: Arc::default(), store: Arc::default(), vars: Vec::new() };
        let (told, store) = (supervisor.told.clone(), supervisor.store.clone());
        std::thread::spawn(move || {
            while let Some((text, passed)) = receive(&socket) {
                let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
                let name = value("FDNAME").unwrap_or_default().to_owned();
                if value("FDSTORE").is_some() {
                    assert_eq!(value("FDPOLL"), Some("0"), "what has hung up would be dropped");
                    store.lock().unwrap().extend(passed.into_iter().map(|descriptor| (name.clone(), descriptor)));
                } else if value("FDSTOREREMOVE").is_some() {
                    store.lock().unwrap().retain(|(stored, _)| *stored != name);
                }
                told.lock().unwrap().push(text);
            }
        });
        supervisor
    }

    /// Holds a socket of its own, under this name. Gives its address.
    pub fn listen(&mut self, name: &str) -> SocketAddr {
        let listener = TcpListener::bind(loopback::any_port()).unwrap();
        let address = listener.local_addr().unwrap();
        self.hold(name, listener.into());
        address
    }

    /// Holds any descriptor.
    pub fn hold(&mut self, name: &str, descriptor: OwnedFd) {
        self.held.push((name.into(), descriptor));
    }

    /// A variable for the service.
    pub fn set(&mut self, key: &str, value: &str) {
        self.vars.push((key.into(), value.into()));
    }

    /// Starts the service.
    pub fn spawn(&self, host: &Host) -> Running {
        let mut passed: Vec<(String, OwnedFd)> = Vec::new();
        let stored = self.store.lock().unwrap();
        // In no fixed order.
        for (name, descriptor) in stored.iter().rev().chain(&self.held) {
            passed.push((name.clone(), descriptor.try_clone().unwrap()));
        }
        drop(stored);
        let names: Vec<_> = passed.iter().map(|(name, _)| name.as_str()).collect();
        let mut command = host.prefixed(&["python3", "-ISc", LAUNCHER, &names.join(":")], &["run"]);
        command.env("NOTIFY_SOCKET", self.folder.path().join("notify"));
        command.envs(self.vars.iter().map(|(key, value)| (key, value)));
        let (ours, theirs) = UnixStream::pair().unwrap();
        command.stdin(Stdio::from(OwnedFd::from(theirs)));
        let running = Running::spawn(command);
        for (_, descriptor) in &passed {
            send(&ours, descriptor.as_fd());
        }
        running
    }

    /// Starts the service, and waits until it is ready.
    pub async fn start(&self, host: &Host) -> Running {
        let mut running = self.spawn(host);
        running.ready().await;
        running
    }

    /// All it has been told.
    pub fn told(&self) -> Vec<String> {
        self.told.lock().unwrap().clone()
    }

    /// How often it was told something that begins so.
    pub fn count(&self, beginning: &str) -> usize {
        self.told().iter().filter(|text| text.starts_with(beginning)).count()
    }

    /// Waits until it has heard all that has been sent to it so far.
    pub async fn catch_up(&self) {
        let before = self.count(MARK);
        let socket = UnixDatagram::unbound().unwrap();
        socket.send_to(MARK.as_bytes(), self.folder.path().join("notify")).unwrap();
        eventually("the supervisor has heard all", || self.count(MARK) > before).await;
    }

    /// The names of what it keeps.
    pub fn stored(&self) -> Vec<String> {
        self.store.lock().unwrap().iter().map(|(name, _)| name.clone()).collect()
    }

    /// Loses what it keeps under this name.
    pub fn lose(&self, name: &str) {
        self.store.lock().unwrap().retain(|(stored, _)| stored != name);
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        // An empty message ends the thread.
        let _ = UnixDatagram::unbound().and_then(|socket| socket.send_to(b"", self.folder.path().join("notify")));
    }
}

fn send(socket: &UnixStream, descriptor: BorrowedFd<'_>) {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let rights = [descriptor];
    assert!(control.push(SendAncillaryMessage::ScmRights(&rights)));
    // One that cannot be sent will be missed on the other side.
    let _ = sendmsg(socket, &[IoSlice::new(b".")], &mut control, SendFlags::NOSIGNAL);
}

fn receive(socket: &UnixDatagram) -> Option<(String, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(16))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut bytes = [0; 4096];
    let message = recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::CMSG_CLOEXEC).unwrap();
    let passed = control.drain().flat_map(|message| match message {
        RecvAncillaryMessage::ScmRights(rights) => rights.collect(),
        _ => Vec::new(),
    });
    let passed = passed.collect();
    (message.bytes > 0).then(|| (String::from_utf8(bytes[..message.bytes].to_vec()).unwrap(), passed))
}
