//! A request to a server's own services, and the answer.

use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _};

use super::describe;
use crate::host::HostPort;

/// In bytes, head and body. An idle server's status at level debug has some thousand, and two hundred come with each
/// request that waits or is being worked on.
pub(super) const LARGEST: u64 = 256 << 10;

/// Jetty sends ten fields.
pub(super) const FIELDS: usize = 64;

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// The body, where the status is 200; of any other it is not read.
    pub body: Vec<u8>,
}

/// Why there is no answer; for a sentence about the server.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HttpError {
    /// TLS or the connection failed; what the server did.
    #[error("{0}")]
    Connection(String),
    /// The answer is longer than 256 KiB.
    #[error("answered with more than {LARGEST} bytes")]
    TooLong,
    /// The answer is no HTTP, or breaks off.
    #[error("answered with broken HTTP: {0}")]
    Broken(String),
}

/// The request. The answer shall end with the connection.
pub(super) fn request(to: &HostPort, path: &str) -> String {
    let version = env!("CARGO_PKG_VERSION");
    format!(
        "GET {path} HTTP/1.1\r\nHost: {to}\r\nUser-Agent: puppet-shim/{version}\r\nAccept: application/json\r\n\
         Connection: close\r\n\r\n"
    )
}

/// Where the body of an answer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    Length(u64),
    Chunked,
    Close,
}

/// Reads the answer.
pub(super) async fn read(stream: &mut (impl AsyncBufRead + Unpin)) -> Result<Reply, HttpError> {
    let mut stream = stream.take(LARGEST);
    let result = read_reply(&mut stream).await;
    // The end of what may be read looks like the server's end.
    match result {
        Ok(Reply { status: 200, .. }) | Err(_) if stream.limit() == 0 => Err(HttpError::TooLong),
        result => result,
    }
}

async fn read_reply(stream: &mut (impl AsyncBufRead + Unpin)) -> Result<Reply, HttpError> {
    let (status, framing) = framing(&read_head(stream).await?)?;
    let mut body = Vec::new();
    match framing {
        Framing::Length(length) if length > LARGEST => return Err(HttpError::TooLong),
        Framing::Length(length) => read_exactly(stream, length, &mut body).await?,
        Framing::Chunked => {
            while let length @ 1.. = read_chunk_size(stream).await? {
                if length > LARGEST {
                    return Err(HttpError::TooLong);
                }
                read_exactly(stream, length, &mut body).await?;
                // Behind each chunk there is an empty line.
                read_line(stream, &mut Vec::new()).await?;
            }
        }
        // Without close_notify too: JSON that breaks off is noticed.
        Framing::Close => match stream.read_to_end(&mut body).await {
            Err(error) if error.kind() != std::io::ErrorKind::UnexpectedEof => return Err(broken(&error)),
            _ => {}
        },
    }
    Ok(Reply { status, body })
}

async fn read_head(stream: &mut (impl AsyncBufRead + Unpin)) -> Result<Vec<u8>, HttpError> {
    let mut head = Vec::new();
    loop {
        let line = read_line(stream, &mut head).await?;
        if matches!(&head[line..], b"\n" | b"\r\n") {
            return Ok(head);
        }
    }
}

/// Reads a line to the end of `into`; where it starts there.
async fn read_line(stream: &mut (impl AsyncBufRead + Unpin), into: &mut Vec<u8>) -> Result<usize, HttpError> {
    let start = into.len();
    stream.read_until(b'\n', into).await.map_err(|error| broken(&error))?;
    if into[start..].ends_with(b"\n") { Ok(start) } else { Err(breaks_off()) }
}

async fn read_exactly(stream: &mut (impl AsyncRead + Unpin), length: u64, into: &mut Vec<u8>) -> Result<(), HttpError> {
    let read = stream.take(length).read_to_end(into).await.map_err(|error| broken(&error))?;
    if read as u64 == length { Ok(()) } else { Err(breaks_off()) }
}

async fn read_chunk_size(stream: &mut (impl AsyncBufRead + Unpin)) -> Result<u64, HttpError> {
    let mut line = Vec::new();
    read_line(stream, &mut line).await?;
    match httparse::parse_chunk_size(&line) {
        Ok(httparse::Status::Complete((_, length))) => Ok(length),
        _ => Err(HttpError::Broken("a chunk has no length".into())),
    }
}

/// The status in a whole head, and where the body ends.
fn framing(head: &[u8]) -> Result<(u16, Framing), HttpError> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS];
    let mut parsed = httparse::Response::new(&mut fields);
    match parsed.parse(head) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) => return Err(breaks_off()),
        Err(error) => return Err(HttpError::Broken(error.to_string())),
    }
    let status = parsed.code.unwrap_or_default();
    if status != 200 {
        // Nobody reads on.
        return Ok((status, Framing::Length(0)));
    }
    let field = |name: &str| parsed.headers.iter().find(|field| field.name.eq_ignore_ascii_case(name));
    // RFC 9112 §6.3: the length is not looked at beside an encoding.
    if let Some(encoding) = field("Transfer-Encoding") {
        return match encoding.value {
            value if value.eq_ignore_ascii_case(b"chunked") => Ok((status, Framing::Chunked)),
            other => Err(HttpError::Broken(format!("transfer encoding {}", other.escape_ascii()))),
        };
    }
    let Some(length) = field("Content-Length") else { return Ok((status, Framing::Close)) };
    // `parse` alone would take a plus sign.
    let digits = std::str::from_utf8(length.value).ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
    let length = digits.and_then(|digits| digits.parse().ok());
    length
        .map(|length| (status, Framing::Length(length)))
        .ok_or_else(|| HttpError::Broken("its length is no number".into()))
}

fn breaks_off() -> HttpError {
    HttpError::Broken("it breaks off".into())
}

/// A server that wants a certificate of ours may say so only now.
fn broken(error: &std::io::Error) -> HttpError {
    match error.kind() {
        std::io::ErrorKind::UnexpectedEof => breaks_off(),
        _ => HttpError::Connection(describe(error)),
    }
}
