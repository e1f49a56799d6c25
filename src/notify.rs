//! What the service manager is told, and given to keep: `sd_notify(3)`, without its library.
//!
//! Without `$NOTIFY_SOCKET` nothing happens at all.

use std::ffi::OsString;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::time::Duration;

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
    sendmsg_addr, socket_with,
};
use rustix::time::{ClockId, clock_gettime};
use tokio::net::unix::pipe;
use tokio::time::timeout;

/// Descriptors of one message at most: those of one tunnel.
const DESCRIPTORS: usize = 3;

/// A manager that takes nothing for so long is not waited for: the one thread has others to serve.
const PATIENCE: Duration = Duration::from_secs(1);

/// How many descriptors the manager keeps for us: set by systemd from 254 on.
const STORE: &str = "FDSTORE";

/// The same, said by our own unit: no older systemd tells whether it has a store.
const OWN_STORE: &str = "PUPPET_SHIM_FDSTORE";

/// The way to the service manager, if there is one.
#[derive(Debug, Default)]
pub struct Notifier {
    manager: Option<(OwnedFd, SocketAddrUnix)>,
    watchdog: Option<Duration>,
    store: usize,
}

/// What the manager is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News<'a> {
    /// It can be connected to. A sentence for `systemctl status`.
    Ready(&'a str),
    /// The configuration is being read again; [`News::Ready`] follows.
    Reloading,
    /// It ends.
    Stopping(&'a str),
    /// It is alive.
    Alive,
    /// The descriptors of that name are not to be kept any more.
    Forget(&'a str),
}

impl Notifier {
    /// The one of this process's environment.
    pub fn find() -> Self {
        Self::from_env(|name| std::env::var_os(name), std::process::id())
    }

    fn from_env(env: impl Fn(&str) -> Option<OsString>, pid: u32) -> Self {
        let Some(path) = env("NOTIFY_SOCKET").filter(|path| !path.is_empty()) else { return Notifier::default() };
        let manager = match connect(path.as_bytes()) {
            Ok(manager) => manager,
            Err(error) => {
                tracing::warn!("$NOTIFY_SOCKET, {}, is of no use: {error}", path.display());
                return Notifier::default();
            }
        };
        let number = |name: &str| env(name)?.to_str()?.parse::<u64>().ok();
        let is_ours = env("WATCHDOG_PID").is_none() || number("WATCHDOG_PID") == Some(pid.into());
        let watchdog = number("WATCHDOG_USEC").filter(|usec| is_ours && *usec > 0).map(Duration::from_micros);
        let store = number(STORE).or_else(|| number(OWN_STORE)).unwrap_or(0);
        Notifier { manager: Some(manager), watchdog, store: usize::try_from(store).unwrap_or(usize::MAX) }
    }

    /// How often the manager wants to hear that the process is alive, if it does: twice within its own bound.
    pub fn pace(&self) -> Option<Duration> {
        self.watchdog.map(|bound| bound / 2)
    }

    /// How many descriptors the manager keeps from one process to the next.
    pub fn store(&self) -> usize {
        self.store
    }

    /// Tells it.
    pub fn tell(&self, news: News<'_>) {
        if self.manager.is_none() {
            return;
        }
        // Whom it cannot be told does without; that goes for the watchdog too, whose purpose it is.
        if let Err(error) = self.send(&news.text(), &[]) {
            tracing::warn!("cannot tell the service manager: {error}");
        }
    }

    /// Gives it descriptors to keep under this name for the next process, be their peers gone or not.
    pub fn keep(&self, name: &str, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        self.send(&format!("FDSTORE=1\nFDNAME={name}\nFDPOLL=0"), descriptors)
    }

    /// Waits until the manager has read everything so far: of a process that has ended it may not know any more whose
    /// the message was. One that has read it closes what came with it, be it old enough not to know what for.
    pub async fn wait(&self) -> io::Result<()> {
        if self.manager.is_none() {
            return Ok(());
        }
        let (ours, theirs) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        self.send("BARRIER=1", &[theirs.as_fd()])?;
        drop(theirs);
        let ours = pipe::Receiver::from_owned_fd(ours)?;
        let end = async {
            ours.readable().await?;
            Ok(())
        };
        timeout(PATIENCE, end).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    fn send(&self, text: &str, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let Some((socket, address)) = &self.manager else { return Ok(()) };
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        sendmsg_addr(socket, address, &[IoSlice::new(text.as_bytes())], &mut control, SendFlags::NOSIGNAL)?;
        Ok(())
    }
}

impl News<'_> {
    fn text(self) -> String {
        match self {
            News::Ready(status) => format!("READY=1\nSTATUS={status}"),
            News::Reloading => format!("RELOADING=1\nMONOTONIC_USEC={}", monotonic().as_micros()),
            News::Stopping(status) => format!("STOPPING=1\nSTATUS={status}"),
            News::Alive => "WATCHDOG=1".into(),
            News::Forget(name) => format!("FDSTOREREMOVE=1\nFDNAME={name}"),
        }
    }
}

/// The host's clock that is never set, which all its processes share.
pub fn monotonic() -> Duration {
    let now = clock_gettime(ClockId::Monotonic);
    Duration::new(now.tv_sec.try_into().unwrap_or(0), now.tv_nsec.try_into().unwrap_or(0))
}

/// A socket for messages, and where they go: a path, or behind `@` a name that is none.
fn connect(name: &[u8]) -> io::Result<(OwnedFd, SocketAddrUnix)> {
    let address = match name {
        [b'/', ..] => SocketAddrUnix::new(name)?,
        [b'@', rest @ ..] => SocketAddrUnix::new_abstract_name(rest)?,
        _ => return Err(io::Error::other("it is neither a path nor begins with @")),
    };
    let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    set_socket_timeout(&socket, Timeout::Send, Some(PATIENCE))?;
    Ok((socket, address))
}

#[cfg(test)]
mod tests {
    use std::os::linux::net::SocketAddrExt as _;
    use std::os::unix::net::{SocketAddr, UnixDatagram};

    use super::*;

    fn notifier(vars: &[(&str, &str)]) -> Notifier {
        let var = |name: &str| vars.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value));
        Notifier::from_env(var, 7)
    }

    fn heard(socket: &UnixDatagram) -> String {
        let mut bytes = [0; 1024];
        let read = socket.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..read].to_vec()).unwrap()
    }

    #[test]
    fn without_a_manager_nothing_is_wanted() {
        let set = [("WATCHDOG_USEC", "1000"), ("FDSTORE", "9")];
        for socket in [None, Some(""), Some("relative"), Some("vsock:2:1234")] {
            let vars: Vec<_> = socket.map(|socket| ("NOTIFY_SOCKET", socket)).into_iter().chain(set).collect();
            let notifier = notifier(&vars);
            assert_eq!((notifier.pace(), notifier.store()), (None, 0), "{socket:?}");
            notifier.tell(News::Alive);
        }
    }

    #[test]
    fn a_manager_at_a_path_or_a_name_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let name = format!("puppet-shim-test-{}", std::process::id());
        let at_path = UnixDatagram::bind(&path).unwrap();
        let at_name = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        for (socket, written) in [(at_path, path.to_str().unwrap().to_owned()), (at_name, format!("@{name}"))] {
            let notifier = notifier(&[("NOTIFY_SOCKET", &written)]);
            for (news, text) in [
                (News::Ready("listening"), "READY=1\nSTATUS=listening"),
                (News::Stopping("idle"), "STOPPING=1\nSTATUS=idle"),
                (News::Alive, "WATCHDOG=1"),
                (News::Forget("t1"), "FDSTOREREMOVE=1\nFDNAME=t1"),
            ] {
                notifier.tell(news);
                assert_eq!(heard(&socket), text);
            }
            notifier.tell(News::Reloading);
            let text = heard(&socket);
            let stamp = text.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap().parse::<u128>().unwrap();
            assert!(stamp > 0 && stamp <= monotonic().as_micros());
        }
    }

    #[test]
    fn the_watchdog_is_for_this_process_or_for_another() {
        let name = format!("@puppet-shim-watchdog-{}", std::process::id());
        let with = |vars: &[(&str, &str)]| notifier(&[&[("NOTIFY_SOCKET", name.as_str())], vars].concat()).pace();
        let half = Some(Duration::from_millis(15));
        assert_eq!(with(&[("WATCHDOG_USEC", "30000")]), half);
        assert_eq!(with(&[("WATCHDOG_USEC", "30000"), ("WATCHDOG_PID", "7")]), half);
        assert_eq!(with(&[("WATCHDOG_USEC", "30000"), ("WATCHDOG_PID", "8")]), None);
        assert_eq!(with(&[("WATCHDOG_USEC", "0")]), None);
        assert_eq!(with(&[("WATCHDOG_USEC", "soon")]), None);
    }

    #[test]
    fn the_store_is_as_large_as_systemd_says_or_else_the_unit() {
        let with =
            |vars: &[(&str, &str)]| notifier(&[&[("NOTIFY_SOCKET", "@puppet-shim-store")], vars].concat()).store();
        assert_eq!(with(&[]), 0);
        assert_eq!(with(&[("PUPPET_SHIM_FDSTORE", "64")]), 64);
        assert_eq!(with(&[("PUPPET_SHIM_FDSTORE", "64"), ("FDSTORE", "8")]), 8);
    }
}
