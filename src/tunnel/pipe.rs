//! A pipe, through which the kernel moves bytes from one socket to another without copying them (splice(2)).
//!
//! There is one for the thread, made when it is first of use. It is empty whenever a tunnel is done with it for the
//! moment, so that all can share it, and a tunnel that waits has none.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::OwnedFd;

use rustix::io::{read, retry_on_intr};
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use tokio::net::TcpStream;

/// What it holds, if that is granted: the most that anybody may have (`/proc/sys/fs/pipe-max-size`), 16 times the usual, for
/// a page of it may have a few bytes only. It takes memory only while something is in it.
const SIZE: usize = 1024 * 1024;

const FLAGS: SpliceFlags = SpliceFlags::NONBLOCK.union(SpliceFlags::MOVE);

thread_local! {
    static PIPE: RefCell<Option<Pipe>> = const { RefCell::new(None) };
    /// Whether there is no use in trying.
    static IS_FORBIDDEN: Cell<bool> = const { Cell::new(false) };
}

/// Whether it is not the socket that is at fault, but that the kernel or a sandbox does not let it be spliced, or has no
/// memory for it.
pub(super) fn is_refusal(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::OutOfMemory || is_for_ever(error)
}

fn is_for_ever(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidInput, PermissionDenied, Unsupported};
    matches!(error.kind(), InvalidInput | PermissionDenied | Unsupported)
}

/// Its two ends, neither of which ever waits.
pub(super) struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
}

impl Pipe {
    /// Has it done with the thread's pipe, which is empty. What it leaves in there is thrown away.
    ///
    /// # Errors
    ///
    /// Where there is no pipe to be had: the descriptors may be used up, or it may be forbidden.
    pub(super) fn lend<T>(with: impl FnOnce(&Pipe) -> Lent<T>) -> io::Result<T> {
        if IS_FORBIDDEN.get() {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let pipe = match PIPE.take() {
            Some(pipe) => pipe,
            None => Pipe::open()?,
        };
        let Lent { value, is_empty } = with(&pipe);
        if is_empty {
            PIPE.set(Some(pipe));
        }
        Ok(value)
    }

    fn open() -> io::Result<Self> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        // A smaller one does, too.
        let _ = fcntl_setpipe_size(&write, SIZE);
        Ok(Pipe { read, write })
    }

    /// Takes in what has come from this socket, `most` bytes at most. 0: there is nothing that can be moved, as at the end.
    /// Where it is forbidden, no pipe is lent in this thread any more.
    pub(super) fn fill(&self, from: &TcpStream, most: usize) -> io::Result<usize> {
        let moved = retry_on_intr(|| splice(from, None, &self.write, None, most, FLAGS)).map_err(io::Error::from);
        if moved.as_ref().is_err_and(is_for_ever) {
            IS_FORBIDDEN.set(true);
        }
        moved
    }

    /// Lets this socket have `count` bytes, or as many of them as it takes.
    pub(super) fn drain(&self, to: &TcpStream, count: usize) -> io::Result<usize> {
        Ok(retry_on_intr(|| splice(&self.read, None, to, None, count, FLAGS))?)
    }

    /// Takes `count` bytes, which are in it, out again.
    pub(super) fn take(&self, count: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; count];
        let mut at = 0;
        while let Some(room) = bytes.get_mut(at..).filter(|room| !room.is_empty()) {
            match retry_on_intr(|| read(&self.read, &mut *room))? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                taken => at += taken,
            }
        }
        Ok(bytes)
    }
}

/// What was done with a pipe.
pub(super) struct Lent<T> {
    /// What came of it.
    pub(super) value: T,
    /// Whether all that went in has come out again.
    pub(super) is_empty: bool,
}
