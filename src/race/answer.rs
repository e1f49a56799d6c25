//! What an accepted connection says first.

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;

use crate::dial::Did;

/// A TLS record's header, RFC 8446 §5.1.
const HEADER: usize = 5;
/// Its types.
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
/// An alert's level that ends nothing, RFC 5246 §7.2. TLS 1.3 has no such alert but for the end of a connection.
const WARNING: u8 = 1;
/// A header, a level and a description.
const WHOLE_ALERT: usize = HEADER + 2;

/// A server's first word.
pub(super) enum Answer {
    /// Its handshake has begun. These bytes of it have been read, the others wait in the socket.
    Handshake(TcpStream, Vec<u8>),
    /// It has not answered, but the client does not wait for that. These bytes of it have been read.
    Unawaited(TcpStream, Vec<u8>),
    /// It sent an alert: this record, of a length that is the same for all.
    Alert([u8; WHOLE_ALERT]),
    /// It failed otherwise.
    Failed(Did),
}

/// Says the client's hello to a server, and waits for the whole header of the record with which it begins its answer;
/// or for `unawaited` to become true, which is looked at whenever this is polled.
pub(super) async fn answer(mut stream: TcpStream, hello: Arc<[u8]>, unawaited: Arc<AtomicBool>) -> Answer {
    if let Err(error) = stream.write_all(&hello).await {
        return Answer::Failed(broke(&error));
    }
    // Most answers come in one piece, and then not one byte of them has to be kept here.
    let mut header = [0; HEADER];
    let peeked = poll_fn(|cx| {
        if unawaited.load(Ordering::Relaxed) {
            return Poll::Ready(None);
        }
        stream.poll_peek(cx, &mut ReadBuf::new(&mut header)).map(Some)
    });
    match peeked.await {
        None => return Answer::Unawaited(stream, Vec::new()),
        Some(Ok(HEADER)) if is_handshake(&header) => return Answer::Handshake(stream, Vec::new()),
        Some(Ok(_)) => {}
        Some(Err(error)) => return Answer::Failed(broke(&error)),
    }
    let (mut bytes, mut at) = (Vec::with_capacity(WHOLE_ALERT), 0);
    loop {
        let record = bytes.get(at..).unwrap_or_default();
        let wanted = if is_short_alert(record) { WHOLE_ALERT } else { HEADER };
        let read = {
            let mut rest = (&mut stream).take(wanted.saturating_sub(record.len()) as u64);
            let mut read = pin!(rest.read_buf(&mut bytes));
            poll_fn(|cx| {
                if unawaited.load(Ordering::Relaxed) {
                    return Poll::Ready(None);
                }
                read.as_mut().poll(cx).map(Some)
            })
            .await
        };
        match read {
            None => return Answer::Unawaited(stream, bytes),
            Some(Ok(0)) => return Answer::Failed(Did::Close),
            Some(Ok(_)) => {}
            Some(Err(error)) => return Answer::Failed(broke(&error)),
        }
        let record = bytes.get(at..).unwrap_or_default();
        match record {
            [ALERT | HANDSHAKE, ..] if record.len() < HEADER => {}
            record if is_handshake(record) => return Answer::Handshake(stream, bytes),
            [.., level, _] if is_short_alert(record) && record.len() == WHOLE_ALERT => {
                if *level == WARNING {
                    // Such as TLS 1.2's "unrecognized name": the client is to see it, and the handshake goes on.
                    at = bytes.len();
                } else if let Ok(record) = record.try_into() {
                    return Answer::Alert(record);
                }
            }
            record if is_short_alert(record) => {}
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

/// An alert in the clear has two bytes; behind an encrypted handshake there would be no reading it.
fn is_short_alert(record: &[u8]) -> bool {
    matches!(record, [ALERT, 3, _, 0, 2, ..])
}

fn broke(error: &io::Error) -> Did {
    match error.kind() {
        // The kernel's words for writing to a connection that the other side has reset.
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Did::Reset,
        _ => Did::Fail(error.to_string()),
    }
}

/// Waits until one of the servers that wait for the client's hello says something itself, or goes. Gives which, and
/// what it did.
pub(super) async fn first_word(waiting: &[(usize, TcpStream)]) -> (usize, Did) {
    poll_fn(|cx| {
        for (at, (_, stream)) in waiting.iter().enumerate() {
            let mut byte = [0];
            match stream.poll_peek(cx, &mut ReadBuf::new(&mut byte)) {
                Poll::Pending => {}
                Poll::Ready(Ok(0)) => return Poll::Ready((at, Did::Close)),
                Poll::Ready(Ok(_)) => return Poll::Ready((at, Did::NotTls(byte[0]))),
                Poll::Ready(Err(error)) => return Poll::Ready((at, broke(&error))),
            }
        }
        Poll::Pending
    })
    .await
}
