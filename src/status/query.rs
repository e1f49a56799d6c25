//! Asking a daemon for its status. Blocks, for a bounded time.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use socket2::{Domain, SockAddr, Socket, Type};

use super::{Status, Unread};

/// For a daemon that runs it takes a millisecond.
pub const PATIENCE: Duration = Duration::from_secs(2);

/// Between two looks whether there is an answer.
const PAUSE: Duration = Duration::from_micros(500);

/// Bytes of the longest status that is read. A usual one has a thousandth.
const LONGEST: u64 = 16 * 1024 * 1024;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// No process runs, or none that says anything here.
    #[error("no puppet-shim answers on {}", .0.display())]
    Nobody(PathBuf),
    /// Who asks may not.
    #[error("you may not ask on {}; ask as root, or as a member of its group (`group` under [status] in puppet-shim.toml sets it)", .0.display())]
    Denied(PathBuf),
    /// It does not answer.
    #[error("puppet-shim accepts on {} and does not answer within {} s; `systemctl status puppet-shim` may say why", .0.display(), PATIENCE.as_secs())]
    Mute(PathBuf),
    /// No process runs, and what is written down cannot be read.
    #[error("{}, and no process says it: no metrics are written, for they would count from 0; {}", .0.why, .0.help)]
    Unread(Unread),
    /// It cannot be asked, or says what is not understood.
    #[error("cannot ask on {}: {}", .0.display(), .1)]
    Failed(PathBuf, io::Error),
}

impl QueryError {
    /// Whether that merely says that no process runs.
    pub fn is_nobody(&self) -> bool {
        matches!(self, QueryError::Nobody(_))
    }
}

/// What the daemon at this socket says, waiting for [`PATIENCE`] at most.
///
/// # Errors
///
/// See [`QueryError`].
pub fn query(path: &Path) -> Result<Status, QueryError> {
    query_within(path, PATIENCE)
}

/// The same, waiting as long as that.
pub fn query_within(path: &Path, patience: Duration) -> Result<Status, QueryError> {
    ask(path, patience).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused | io::ErrorKind::NotADirectory => {
            QueryError::Nobody(path.to_owned())
        }
        io::ErrorKind::PermissionDenied => QueryError::Denied(path.to_owned()),
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => QueryError::Mute(path.to_owned()),
        _ => QueryError::Failed(path.to_owned(), error),
    })
}

#[allow(clippy::disallowed_methods, reason = "no runtime, and so no clock of one, is here")]
fn ask(path: &Path, patience: Duration) -> io::Result<Status> {
    let end = Instant::now() + patience;
    let mut socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
    let address = SockAddr::unix(path)?;
    // Of a daemon that hangs the queue may be full (connect(2)).
    retry(end, || socket.connect(&address))?;
    let (mut text, mut chunk) = (Vec::new(), [0; 16 * 1024]);
    loop {
        match retry(end, || socket.read(&mut chunk))? {
            0 => break,
            count => text.extend_from_slice(chunk.get(..count).unwrap_or_default()),
        }
        if text.len() as u64 > LONGEST {
            return Err(io::Error::other("it says too much"));
        }
    }
    Ok(serde_json::from_slice(&text)?)
}

/// Tries until then. A socket's own timeouts are counted in ticks of the kernel, which can be 10 ms long, and rounded up.
#[allow(clippy::disallowed_methods, reason = "no runtime, and so no clock of one, is here")]
fn retry<T>(end: Instant, mut attempt: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match attempt() {
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                if Instant::now() >= end {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                std::thread::sleep(PAUSE);
            }
            done => return done,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn who_is_not_there_is_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        assert!(query(&path).unwrap_err().is_nobody());
        assert!(query(&path.join("below")).unwrap_err().is_nobody());
        drop(UnixListener::bind(&path).unwrap());
        assert!(query(&path).unwrap_err().is_nobody(), "a process was killed");
    }

    #[test]
    fn who_says_nothing_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let _listener = UnixListener::bind(&path).unwrap();
        let error = query_within(&path, Duration::from_millis(50)).unwrap_err();
        assert!(matches!(error, QueryError::Mute(_)), "{error}");
    }

    #[test]
    fn who_says_something_else_is_not_understood() {
        use std::io::Write as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let listener = UnixListener::bind(&path).unwrap();
        let server = std::thread::spawn(move || listener.accept().unwrap().0.write_all(b"{\"version\":"));
        let error = query(&path).unwrap_err();
        assert!(matches!(error, QueryError::Failed(..)), "{error}");
        server.join().unwrap().unwrap();
    }
}
