//! What an accepted connection says first.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::Poll;

use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;

use crate::dial::Did;

/// A TLS record's header, RFC 8446 §5.1.
const HEADER: usize = 5;
/// Its types.
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
/// A header, a level and a description.
const WHOLE_ALERT: usize = HEADER + 2;

/// A server's first word.
pub(super) enum Answer {
    /// Its handshake has begun. These bytes of it have been read, the others wait in the socket.
    Handshake(TcpStream, Vec<u8>),
    /// It sent an alert: this record, of a length that is the same for all.
    Alert([u8; WHOLE_ALERT]),
    /// It failed otherwise.
    Failed(Did),
}

/// Says the client's hello to a server, and waits for the whole header of the record with which it begins its answer.
pub(super) async fn answer(mut stream: TcpStream, hello: Arc<[u8]>) -> Answer {
    if let Err(error) = stream.write_all(&hello).await {
        return Answer::Failed(broke(&error));
    }
    // Most answers come in one piece, and then not one byte of them has to be kept here.
    let mut header = [0; HEADER];
    match stream.peek(&mut header).await {
        Ok(HEADER) if is_handshake(&header) => return Answer::Handshake(stream, Vec::new()),
        Ok(_) => {}
        Err(error) => return Answer::Failed(broke(&error)),
    }
    let mut bytes = Vec::with_capacity(WHOLE_ALERT);
    loop {
        let wanted = if bytes.first() == Some(&ALERT) { WHOLE_ALERT } else { HEADER };
        match (&mut stream).take((wanted - bytes.len()) as u64).read_buf(&mut bytes).await {
            Ok(0) => return Answer::Failed(Did::Close),
            Ok(_) => {}
            Err(error) => return Answer::Failed(broke(&error)),
        }
        match bytes.as_slice() {
            [ALERT, ..] => {
                if let Ok(record) = bytes.as_slice().try_into() {
                    return Answer::Alert(record);
                }
            }
            [HANDSHAKE, ..] if bytes.len() < HEADER => {}
            header if is_handshake(header) => return Answer::Handshake(stream, bytes),
            [first, ..] => return Answer::Failed(Did::NotTls(*first)),
            [] => {}
        }
    }
}

/// What an alert record says.
pub(super) fn description(record: [u8; WHOLE_ALERT]) -> u8 {
    record[WHOLE_ALERT - 1]
}

/// Every version's record says major version 3.
fn is_handshake(header: &[u8]) -> bool {
    matches!(header, [HANDSHAKE, 3, _, _, _])
}

fn broke(error: &io::Error) -> Did {
    match error.kind() {
        // The kernel's words for writing to a connection that the other side has reset.
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Did::Reset,
        _ => Did::Fail(error.to_string()),
    }
}

/// Waits until one of the servers that wait for the client's hello says something itself, or goes. Gives which, and
/// what it did if it has gone.
pub(super) async fn first_word(waiting: &[(usize, TcpStream)]) -> (usize, Option<Did>) {
    poll_fn(|cx| {
        for (at, (_, stream)) in waiting.iter().enumerate() {
            let mut byte = [0];
            match stream.poll_peek(cx, &mut ReadBuf::new(&mut byte)) {
                Poll::Pending => {}
                Poll::Ready(Ok(0)) => return Poll::Ready((at, Some(Did::Close))),
                Poll::Ready(Ok(_)) => return Poll::Ready((at, None)),
                Poll::Ready(Err(error)) => return Poll::Ready((at, Some(broke(&error)))),
            }
        }
        Poll::Pending
    })
    .await
}
