//! One way of a tunnel: what comes from one side goes to the other, and so does its end.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

use super::pipe::{Lent, Pipe, is_refusal};

/// Bytes copied by one system call at most.
pub(super) const SCRATCH: usize = 64 * 1024;

/// Bytes moved at once at most where the kernel moves them itself; at first as many as are copied at once.
const BULK: usize = 256 * 1024;

/// Less than that at once is copied faster than it is moved.
const LITTLE: usize = 16 * 1024;

/// Reads of one tunnel in a row before the others get a turn.
const TURN: usize = 16;

thread_local! {
    /// Borrowed within one poll only.
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// One way of a tunnel that stands still.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Way {
    /// How many bytes have been read and not taken.
    pub held: usize,
    /// How many may still come; `None`: any number.
    pub left: Option<u64>,
    /// Whether more may come.
    pub state: State,
    /// Whether the connection from which they come has been reset.
    pub reset: bool,
}

/// One way.
pub(super) struct Flow {
    /// Read, and not taken yet by the other side.
    held: Vec<u8>,
    /// How much of it has been taken.
    at: usize,
    left: Option<u64>,
    pub(super) state: State,
    /// What writing to `from`, the other way, has met: the kernel tells a reset once, and reading then sees a mere end.
    pub(super) source_broke: Option<io::ErrorKind>,
    /// How many bytes the kernel is to move at once, since much comes and is taken. 0: they are copied.
    stride: usize,
}

/// What a way has let through.
pub(super) enum Passed<'a> {
    /// These.
    Bytes(&'a [u8]),
    /// So many, which nobody has seen.
    Unseen(usize),
}

impl Passed<'_> {
    /// How many.
    pub(super) fn len(&self) -> u64 {
        match self {
            Passed::Bytes(bytes) => bytes.len() as u64,
            Passed::Unseen(count) => *count as u64,
        }
    }
}

/// How far one way has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// More may come.
    #[default]
    Open,
    /// No more will come; what is held has still to go.
    Ending,
    /// FIN has been passed on, or there is nobody to take anything.
    Done,
}

/// Which socket an error came from.
pub(super) enum Broken {
    Source(io::ErrorKind),
    Sink(io::ErrorKind),
}

/// What came of having the kernel move bytes.
enum Step {
    /// It has, or one side has broken.
    Done(Result<(), Broken>),
    /// There was nothing: that there would be is taken back.
    Stale,
    /// Nothing has been moved, and is to be copied.
    Refused,
}

impl Flow {
    pub(super) fn new(held: Vec<u8>, left: Option<u64>) -> Self {
        Flow { held, at: 0, left, state: State::Open, source_broke: None, stride: 0 }
    }

    pub(super) fn resume(way: &Way, held: Vec<u8>) -> Self {
        let source_broke = way.reset.then_some(io::ErrorKind::ConnectionReset);
        Flow { held, at: 0, left: way.left, state: way.state, source_broke, stride: 0 }
    }

    pub(super) fn into_way(mut self) -> (Way, Vec<u8>) {
        self.held.drain(..self.at);
        let reset = self.source_broke == Some(io::ErrorKind::ConnectionReset);
        (Way { held: self.held.len(), left: self.left, state: self.state, reset }, self.held)
    }

    /// Moves what can be moved. Ready: this way is done, or has broken. `seen` is told of every byte when it is read, and
    /// gets to see them if `looks`.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut TcpStream,
        to: &mut TcpStream,
        looks: bool,
        mut seen: impl FnMut(Passed<'_>),
    ) -> Poll<Result<(), Broken>> {
        for _ in 0..TURN {
            match self.state {
                State::Done => return Poll::Ready(Ok(())),
                State::Ending | State::Open if self.at < self.held.len() => ready!(self.flush(cx, to))?,
                State::Ending => {
                    self.state = State::Done;
                    if let Some(kind @ io::ErrorKind::ConnectionReset) = self.source_broke {
                        return Poll::Ready(Err(Broken::Source(kind)));
                    }
                    // A socket that cannot be shut down has been closed by its peer, which reading from it will tell.
                    return Pin::new(to).poll_shutdown(cx).map(|_| Ok(()));
                }
                State::Open => match self.left {
                    // All of a forwarded request has gone. The answer ends the tunnel; until then, watch for the
                    // client's going.
                    Some(0) => ready!(self.watch(cx, from))?,
                    _ if self.stride > 0 && !looks => {
                        ready!(self.pass(cx, from, to, &mut seen))?;
                    }
                    _ => ready!(self.fill(cx, from, to, &mut seen))?,
                },
            }
        }
        // There is more to do, but others wait.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn flush(&mut self, cx: &mut Context<'_>, to: &mut TcpStream) -> Poll<Result<(), Broken>> {
        let taken = ready!(Pin::new(to).poll_write(cx, self.held.get(self.at..).unwrap_or_default()));
        match taken {
            Ok(taken) => self.at += taken,
            Err(error) => return Poll::Ready(Err(self.unwanted(&error))),
        }
        if self.at >= self.held.len() {
            // Given back, not kept for next time: a tunnel waits longer than it carries.
            self.held = Vec::new();
            self.at = 0;
        }
        Poll::Ready(Ok(()))
    }

    fn fill(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut TcpStream,
        to: &mut TcpStream,
        seen: &mut impl FnMut(Passed<'_>),
    ) -> Poll<Result<(), Broken>> {
        BUFFER.with_borrow_mut(|scratch| {
            scratch.resize(SCRATCH, 0);
            let room = self.left.map_or(SCRATCH, |left| SCRATCH.min(usize::try_from(left).unwrap_or(SCRATCH)));
            let mut buffer = ReadBuf::new(scratch.get_mut(..room).unwrap_or_default());
            if let Err(error) = ready!(Pin::new(from).poll_read(cx, &mut buffer)) {
                return Poll::Ready(Err(Broken::Source(error.kind())));
            }
            let bytes = buffer.filled();
            if bytes.is_empty() {
                self.state = State::Ending;
                return Poll::Ready(Ok(()));
            }
            if let Some(left) = &mut self.left {
                *left -= bytes.len() as u64;
            }
            self.stride = if bytes.len() == SCRATCH { SCRATCH } else { 0 };
            seen(Passed::Bytes(bytes));
            let taken = match Pin::new(to).poll_write(cx, bytes) {
                Poll::Ready(Ok(taken)) => taken,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(self.unwanted(&error))),
                Poll::Pending => 0,
            };
            self.held.extend_from_slice(bytes.get(taken..).unwrap_or_default());
            Poll::Ready(Ok(()))
        })
    }

    /// Has the kernel move bytes from one socket to the other. What the other side does not take at once is read after all.
    fn pass(
        &mut self,
        cx: &mut Context<'_>,
        from: &TcpStream,
        to: &TcpStream,
        seen: &mut impl FnMut(Passed<'_>),
    ) -> Poll<Result<(), Broken>> {
        if let Err(error) = ready!(to.poll_write_ready(cx)) {
            return Poll::Ready(Err(self.unwanted(&error)));
        }
        loop {
            if let Err(error) = ready!(from.poll_read_ready(cx)) {
                return Poll::Ready(Err(Broken::Source(error.kind())));
            }
            match Pipe::lend(|pipe| self.pass_through(pipe, from, to, seen)) {
                Ok(Step::Done(done)) => return Poll::Ready(done),
                Ok(Step::Stale) => {}
                Ok(Step::Refused) | Err(_) => {
                    self.stride = 0;
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }

    fn pass_through(
        &mut self,
        pipe: &Pipe,
        from: &TcpStream,
        to: &TcpStream,
        seen: &mut impl FnMut(Passed<'_>),
    ) -> Lent<Step> {
        let room = self.left.map_or(self.stride, |left| self.stride.min(usize::try_from(left).unwrap_or(usize::MAX)));
        let count = match from.try_io(Interest::READABLE, || pipe.fill(from, room)) {
            // That may be the end, or what only reading gets past, such as urgent data.
            Ok(0) => return Lent { value: Step::Refused, is_empty: true },
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Lent { value: Step::Stale, is_empty: true };
            }
            Err(error) if is_refusal(&error) => return Lent { value: Step::Refused, is_empty: true },
            Err(error) => return Lent { value: Step::Done(Err(Broken::Source(error.kind()))), is_empty: true },
        };
        if let Some(left) = &mut self.left {
            *left -= count as u64;
        }
        seen(Passed::Unseen(count));
        let mut rest = count;
        while rest > 0 {
            match to.try_io(Interest::WRITABLE, || pipe.drain(to, rest)) {
                Ok(0) => break,
                Ok(taken) => rest -= taken,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Lent { value: Step::Done(Err(self.unwanted(&error))), is_empty: false },
            }
        }
        self.stride = match count - rest {
            _ if count < LITTLE => 0,
            // So that little of the next has to be read after all.
            taken if rest > 0 => taken.max(SCRATCH),
            _ => BULK.min(2 * self.stride),
        };
        if rest > 0 {
            match pipe.take(rest) {
                Ok(bytes) => self.held = bytes,
                Err(error) => return Lent { value: Step::Done(Err(Broken::Source(error.kind()))), is_empty: false },
            }
        }
        Lent { value: Step::Done(Ok(())), is_empty: true }
    }

    /// Nobody takes this way's bytes any more. That ends this way only: what the other side still has to say may be in
    /// the kernel, and when reading from it fails or ends, that says why.
    fn unwanted(&mut self, error: &io::Error) -> Broken {
        self.held = Vec::new();
        self.at = 0;
        self.state = State::Done;
        Broken::Sink(error.kind())
    }

    /// Waits for the client to close. What it still sends is thrown away: another request belongs into a connection of
    /// its own, and bytes left unread would turn our closing into a reset.
    fn watch(&mut self, cx: &mut Context<'_>, from: &mut TcpStream) -> Poll<Result<(), Broken>> {
        BUFFER.with_borrow_mut(|scratch| {
            scratch.resize(SCRATCH, 0);
            let mut buffer = ReadBuf::new(scratch);
            match ready!(Pin::new(from).poll_read(cx, &mut buffer)) {
                Err(error) => return Poll::Ready(Err(Broken::Source(error.kind()))),
                Ok(()) if buffer.filled().is_empty() => self.state = State::Done,
                Ok(()) => {}
            }
            Poll::Ready(Ok(()))
        })
    }

    /// Whether this was a forwarded request, and all of it has gone.
    pub(super) fn has_sent_all(&self) -> bool {
        self.left == Some(0) && self.at >= self.held.len()
    }
}
