//! Where the daemon says what it does: a Unix socket, on which whoever connects gets the whole status as JSON, and the end.
//!
//! The daemon binds it itself, in its runtime directory, so that there is none where no process runs: behind a socket of
//! systemd's, every question would start a daemon that leaves when it is idle, to say that it has just been started. A
//! site may have such a socket all the same, with `FileDescriptorName=status`; it is served too.

use std::fs::{self, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::Mode;
use rustix::process::umask;
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::Status;
use crate::connection::Shared;
use crate::moment::Clocks;

/// Who is served at once; others wait in the kernel's queue.
const CLIENTS: usize = 8;

/// For one of them to take what it has asked for.
const PATIENCE: Duration = Duration::from_secs(5);

/// After a failed accept.
const BACK_OFF: Duration = Duration::from_secs(1);

/// Who may do what with the socket: its owner and its group may ask.
const MODE: u32 = 0o660;

/// The groups of this host.
const GROUPS: &str = "/etc/group";

/// A socket on which the status is asked for.
#[derive(Debug)]
pub struct StatusSocket {
    listener: UnixListener,
    /// One that this process has bound, to be removed.
    bound: Option<Bound>,
}

/// A socket in the file system.
#[derive(Debug)]
struct Bound {
    path: PathBuf,
    /// Device and inode: what another process puts in its place is not ours to remove.
    file: (u64, u64),
}

impl Drop for Bound {
    fn drop(&mut self) {
        if fs::metadata(&self.path).is_ok_and(|meta| (meta.dev(), meta.ino()) == self.file) {
            // It is in nobody's way: the next one takes its place.
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl StatusSocket {
    /// Binds it. Its directory is made, if it is not there and its parent is. `group`: see
    /// [`crate::config::StatusConfig::group`]; what is wrong with it is logged, and then nobody but root and this process's
    /// own user may ask.
    ///
    /// # Errors
    ///
    /// When it cannot be bound, or somebody else answers there.
    pub fn bind(path: &Path, group: Option<&str>) -> io::Result<Self> {
        if let Some(directory) = path.parent()
            && !directory.exists()
        {
            fs::create_dir(directory)?;
            fs::set_permissions(directory, Permissions::from_mode(0o755))?;
        }
        make_room(path)?;
        // From the first moment on nobody else may ask. There is one thread, so nothing else is made meanwhile.
        let before = umask(Mode::from_raw_mode(0o777 & !MODE));
        let listener = UnixListener::bind(path);
        umask(before);
        let listener = listener?;
        let meta = fs::metadata(path)?;
        let bound = Some(Bound { path: path.to_owned(), file: (meta.dev(), meta.ino()) });
        if let Some(group) = group
            && let Err(why) = give(path, group)
        {
            tracing::warn!("nobody but root can ask for the status on {}: {why}", path.display());
        }
        Ok(StatusSocket { listener, bound })
    }

    /// Takes over one that the service manager holds.
    pub fn adopt(socket: OwnedFd) -> io::Result<Self> {
        let socket = std::os::unix::net::UnixListener::from(socket);
        socket.set_nonblocking(true)?;
        Ok(StatusSocket { listener: UnixListener::from_std(socket)?, bound: None })
    }

    /// Serves whoever connects, for as long as this runs. Never waits for any of them.
    pub async fn serve(self, shared: watch::Receiver<Arc<Shared>>) {
        let StatusSocket { listener, bound: _bound } = self;
        let places = Arc::new(Semaphore::new(CLIENTS));
        // They end with it.
        let mut clients = JoinSet::new();
        loop {
            let Ok(place) = places.clone().acquire_owned().await else { return };
            match listener.accept().await {
                Ok((client, _)) => {
                    let status = shared.borrow().clone();
                    clients.spawn(async move {
                        // Who does not listen will see that it is not all.
                        let _ = timeout(PATIENCE, say(client, &status)).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::debug!(%error, "cannot accept a question for the status; waiting");
                    sleep(BACK_OFF).await;
                }
            }
            while clients.try_join_next().is_some() {}
        }
    }
}

async fn say(mut client: UnixStream, shared: &Shared) -> io::Result<()> {
    let mut text = serde_json::to_vec(&Status::of(shared, &Clocks::read()))?;
    text.push(b'\n');
    client.write_all(&text).await?;
    client.shutdown().await
}

/// Removes a socket that a process has left when it was killed.
fn make_room(path: &Path) -> io::Result<()> {
    let meta = match fs::symlink_metadata(path) {
        Ok(meta) => meta,
        Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(why) => return Err(why),
    };
    if !meta.file_type().is_socket() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is something else, which is no socket"));
    }
    // It never waits, for nothing else would be served meanwhile.
    let probe = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
    let is_there = match probe.connect(&SockAddr::unix(path)?) {
        Ok(()) => true,
        // Of who hangs the queue may be full (connect(2)).
        Err(why) => why.kind() == io::ErrorKind::WouldBlock,
    };
    if is_there {
        return Err(io::Error::new(io::ErrorKind::AddrInUse, "another puppet-shim answers there"));
    }
    fs::remove_file(path)
}

/// Gives it to a group.
fn give(path: &Path, group: &str) -> Result<(), String> {
    let text = fs::read_to_string(GROUPS).unwrap_or_default();
    let id = find(&text, group).ok_or_else(|| {
        format!("there is no group {group:?} in {GROUPS}; see `group` under [status] in puppet-shim.toml")
    })?;
    if fs::metadata(path).is_ok_and(|meta| meta.gid() == id) {
        // The service's own, and under the unit's sandbox it could give it to no other.
        return Ok(());
    }
    chown(path, None, Some(id)).map_err(|why| {
        format!(
            "cannot give it to the group {group}: {why}; have the service be of it: `systemctl edit puppet-shim.service`, and write Group={group} under [Service]"
        )
    })
}

/// The number of a group, by its name or number (group(5)). Groups that only a directory service knows are not looked for:
/// that may be what is ill.
fn find(text: &str, group: &str) -> Option<u32> {
    let fields = |line: &str| -> Option<(String, u32)> {
        let mut fields = line.split(':');
        Some((fields.next()?.to_owned(), fields.nth(1)?.parse().ok()?))
    };
    let by_name = text.lines().filter_map(fields).find(|(name, _)| name == group).map(|(_, id)| id);
    by_name.or_else(|| group.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_found_by_name_or_number() {
        let text = "root:x:0:\nadm:x:4:syslog\n# \nbroken\n7:x:70:\n";
        for (group, id) in [("adm", Some(4)), ("root", Some(0)), ("118", Some(118)), ("7", Some(70)), ("nobody", None)]
        {
            assert_eq!(find(text, group), id, "{group}");
        }
    }

    #[tokio::test]
    async fn is_there_for_owner_and_group_while_it_is_served() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("made/status.socket");
        let socket = StatusSocket::bind(&path, None).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, MODE);
        let why = StatusSocket::bind(&path, None).unwrap_err();
        assert_eq!((why.kind(), path.exists()), (io::ErrorKind::AddrInUse, true));
        drop(socket);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn one_that_was_left_behind_is_replaced_and_anything_else_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("status.socket");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let socket = StatusSocket::bind(&path, None).unwrap();
        // Somebody else's is not removed.
        fs::remove_file(&path).unwrap();
        fs::write(&path, "a file").unwrap();
        drop(socket);
        assert!(path.exists());
        assert_eq!(StatusSocket::bind(&path, None).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert!(path.exists());
    }

    #[test]
    fn who_hangs_with_a_full_queue_is_there_and_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("status.socket");
        let address = SockAddr::unix(&path).unwrap();
        let socket = || Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None).unwrap();
        let hung = socket();
        hung.bind(&address).unwrap();
        hung.listen(1).unwrap();
        let mut queue = Vec::new();
        loop {
            let client = socket();
            match client.connect(&address) {
                Ok(()) => queue.push(client),
                Err(why) => break assert_eq!(why.kind(), io::ErrorKind::WouldBlock),
            }
        }
        let (done, result) = std::sync::mpsc::channel();
        let asked = path.clone();
        std::thread::spawn(move || done.send(make_room(&asked).unwrap_err().kind()));
        assert_eq!(result.recv_timeout(Duration::from_secs(10)), Ok(io::ErrorKind::AddrInUse));
        assert!(path.exists());
    }

    #[tokio::test]
    async fn a_group_that_is_none_does_not_keep_it_from_being_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("status.socket");
        let _socket = StatusSocket::bind(&path, Some("no-such-group-here")).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, MODE);
    }

    #[tokio::test]
    async fn the_group_of_the_service_itself_needs_no_right() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("status.socket");
        let own = rustix::process::getegid().as_raw();
        let _socket = StatusSocket::bind(&path, None).unwrap();
        assert_eq!(give(&path, &own.to_string()), Ok(()));
        assert_eq!(fs::metadata(&path).unwrap().gid(), own);
    }
}
