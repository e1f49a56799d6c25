//! The ways in which a server can go wrong.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;

/// One way to go wrong. It concerns the connections accepted while it is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Accepts, takes what comes, never says a word.
    Mute,
    /// Reads the `ClientHello`, then resets the connection.
    Reset,
    /// Reads the `ClientHello`, then closes without a word.
    Eof,
    /// Reads the `ClientHello`, then ends its own side without a word, and goes on listening.
    Fin,
    /// Reads the `ClientHello`, then sends this fatal alert and closes.
    Alert(u8),
    /// Works, but sends `piece` bytes at a time and pauses before each further piece.
    Drip { piece: usize, pause: Duration },
    /// Answers one request, ends its own side in good order, and goes on reading requests until the agent ends too.
    HalfClose,
}

/// Plays the faults that need no TLS. The others leave `stream` untouched and return it.
pub async fn play(fault: Option<Fault>, mut stream: TcpStream) -> io::Result<Option<TcpStream>> {
    match fault {
        None | Some(Fault::Drip { .. } | Fault::HalfClose) => return Ok(Some(stream)),
        Some(Fault::Mute) => {
            tokio::io::copy(&mut stream, &mut tokio::io::sink()).await?;
        }
        Some(Fault::Reset) => {
            read_record(&mut stream).await?;
            stream.set_zero_linger()?;
        }
        Some(Fault::Eof) => read_record(&mut stream).await?,
        Some(Fault::Fin) => {
            read_record(&mut stream).await?;
            stream.shutdown().await?;
            tokio::io::copy(&mut stream, &mut tokio::io::sink()).await?;
        }
        Some(Fault::Alert(description)) => {
            read_record(&mut stream).await?;
            // Type alert, TLS 1.2 as ever on the wire, two bytes: fatal, and which.
            stream.write_all(&[21, 3, 3, 0, 2, 2, description]).await?;
        }
    }
    Ok(None)
}

/// Reads one TLS record: bytes left unread would turn the close that follows into a reset.
async fn read_record(stream: &mut TcpStream) -> io::Result<()> {
    let mut header = [0; 5];
    stream.read_exact(&mut header).await?;
    let mut body = vec![0; usize::from(u16::from_be_bytes([header[3], header[4]]))];
    stream.read_exact(&mut body).await?;
    Ok(())
}

/// A stream that writes in small pieces with pauses between them, if told to.
pub struct Paced<S> {
    stream: S,
    drip: Option<(usize, Duration)>,
    pause: Option<Pin<Box<Sleep>>>,
}

impl<S> Paced<S> {
    /// Paces `stream` if the fault is a drip.
    pub fn new(stream: S, fault: Option<Fault>) -> Self {
        let drip = match fault {
            Some(Fault::Drip { piece, pause }) => Some((piece, pause)),
            _ => None,
        };
        Paced { stream, drip, pause: None }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let Some((piece, pause)) = self.drip else { return Pin::new(&mut self.stream).poll_write(cx, buf) };
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(cx));
            self.pause = None;
        }
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &buf[..buf.len().min(piece)]))?;
        self.pause = Some(Box::pin(tokio::time::sleep(pause)));
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
