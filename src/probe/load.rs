//! How busy a server is, from its status service: request, answer, figures.
//!
//! A catalog and a file's content are the work of one `JRuby` interpreter each, of which a server has a few; who finds
//! none free waits. The figures are those of puppetserver's `jruby-metrics` status at level debug
//! (`src/clj/puppetlabs/services/jruby/jruby_metrics_core.clj`, `v1-status`), open to clients without a certificate in
//! the `auth.conf` as packaged. The averages in it lag by minutes; these two are live.

use serde::Deserialize;
use serde::de::IgnoredAny;
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _};

use super::describe;
use crate::host::HostPort;

const PATH: &str = "/status/v1/services/jruby-metrics?level=debug";

/// In bytes, head and body. An idle server's answer has some thousand, and two hundred come with each request that
/// waits or is being worked on.
const LARGEST: u64 = 256 << 10;

/// Jetty sends ten fields.
const FIELDS: usize = 64;

/// How busy a server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Interpreters that have nothing to do.
    pub free: u32,
    /// Requests that wait for one.
    pub waiting: u32,
}

/// Why it is not known how busy a server is; for a sentence about the server.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// TLS or the connection failed; what the server did.
    #[error("{0}")]
    Connection(String),
    /// It answered with another HTTP status than 200.
    #[error("answered {0} to {PATH}{hint}", hint = hint(*.0))]
    Status(u16),
    /// The answer is longer than 256 KiB.
    #[error("answered with more than {LARGEST} bytes to {PATH}")]
    TooLong,
    /// The answer is no HTTP, or breaks off.
    #[error("answered {PATH} with broken HTTP: {0}")]
    Http(String),
    /// The answer has no such figures in it.
    #[error("answered {PATH} without the figures of its JRuby pool: {0}")]
    Figures(String),
}

impl Load {
    /// Free interpreters less those who wait for one: the more, the sooner a further request is served.
    pub fn spare(self) -> i64 {
        i64::from(self.free) - i64::from(self.waiting)
    }
}

fn hint(status: u16) -> &'static str {
    match status {
        401 | 403 => "; its auth.conf should allow /status/v1/services to unauthenticated clients",
        _ => "",
    }
}

/// The request. The answer shall end with the connection.
pub(super) fn request(to: &HostPort) -> String {
    let version = env!("CARGO_PKG_VERSION");
    format!(
        "GET {PATH} HTTP/1.1\r\nHost: {to}\r\nUser-Agent: puppet-shim/{version}\r\nAccept: application/json\r\n\
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
pub(super) async fn read(stream: &mut (impl AsyncBufRead + Unpin)) -> Result<Load, LoadError> {
    let mut stream = stream.take(LARGEST);
    let result = match read_body(&mut stream).await {
        Ok(body) => figures(&body),
        Err(error) => Err(error),
    };
    // The end of what may be read looks like the server's end.
    if stream.limit() == 0 && !matches!(result, Ok(_) | Err(LoadError::Status(_))) {
        return Err(LoadError::TooLong);
    }
    result
}

async fn read_body(stream: &mut (impl AsyncBufRead + Unpin)) -> Result<Vec<u8>, LoadError> {
    let framing = framing(&read_head(stream).await?)?;
    let mut body = Vec::new();
    match framing {
        Framing::Length(length) if length > LARGEST => return Err(LoadError::TooLong),
        Framing::Length(length) => read_exactly(stream, length, &mut body).await?,
        Framing::Chunked => {
            while let length @ 1.. = read_chunk_size(stream).await? {
                if length > LARGEST {
                    return Err(LoadError::TooLong);
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
    Ok(body)
}

async fn read_head(stream: &mut (impl AsyncBufRead + Unpin)) -> Result<Vec<u8>, LoadError> {
    let mut head = Vec::new();
    loop {
        let line = read_line(stream, &mut head).await?;
        if matches!(&head[line..], b"\n" | b"\r\n") {
            return Ok(head);
        }
    }
}

/// Reads a line to the end of `into`; where it starts there.
async fn read_line(stream: &mut (impl AsyncBufRead + Unpin), into: &mut Vec<u8>) -> Result<usize, LoadError> {
    let start = into.len();
    stream.read_until(b'\n', into).await.map_err(|error| broken(&error))?;
    if into[start..].ends_with(b"\n") { Ok(start) } else { Err(breaks_off()) }
}

async fn read_exactly(stream: &mut (impl AsyncRead + Unpin), length: u64, into: &mut Vec<u8>) -> Result<(), LoadError> {
    let read = stream.take(length).read_to_end(into).await.map_err(|error| broken(&error))?;
    if read as u64 == length { Ok(()) } else { Err(breaks_off()) }
}

async fn read_chunk_size(stream: &mut (impl AsyncBufRead + Unpin)) -> Result<u64, LoadError> {
    let mut line = Vec::new();
    read_line(stream, &mut line).await?;
    match httparse::parse_chunk_size(&line) {
        Ok(httparse::Status::Complete((_, length))) => Ok(length),
        _ => Err(LoadError::Http("a chunk has no length".into())),
    }
}

/// Judges a whole head.
fn framing(head: &[u8]) -> Result<Framing, LoadError> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS];
    let mut parsed = httparse::Response::new(&mut fields);
    match parsed.parse(head) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) => return Err(breaks_off()),
        Err(error) => return Err(LoadError::Http(error.to_string())),
    }
    match parsed.code.unwrap_or_default() {
        200 => {}
        other => return Err(LoadError::Status(other)),
    }
    let field = |name: &str| parsed.headers.iter().find(|field| field.name.eq_ignore_ascii_case(name));
    // RFC 9112 §6.3: the length is not looked at beside an encoding.
    if let Some(encoding) = field("Transfer-Encoding") {
        return match encoding.value {
            value if value.eq_ignore_ascii_case(b"chunked") => Ok(Framing::Chunked),
            other => Err(LoadError::Http(format!("transfer encoding {}", other.escape_ascii()))),
        };
    }
    let Some(length) = field("Content-Length") else { return Ok(Framing::Close) };
    // `parse` alone would take a plus sign.
    let digits = std::str::from_utf8(length.value).ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
    let length = digits.and_then(|digits| digits.parse().ok());
    length.map(Framing::Length).ok_or_else(|| LoadError::Http("its length is no number".into()))
}

fn breaks_off() -> LoadError {
    LoadError::Http("it breaks off".into())
}

/// A server that wants a certificate of ours may say so only now.
fn broken(error: &std::io::Error) -> LoadError {
    match error.kind() {
        std::io::ErrorKind::UnexpectedEof => breaks_off(),
        _ => LoadError::Connection(describe(error)),
    }
}

#[derive(Deserialize)]
struct Service {
    status: Status,
}

#[derive(Deserialize)]
struct Status {
    experimental: Experimental,
}

#[derive(Deserialize)]
struct Experimental {
    metrics: Metrics,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Metrics {
    num_free_jrubies: u32,
    requested_instances: Vec<IgnoredAny>,
}

fn figures(body: &[u8]) -> Result<Load, LoadError> {
    let service: Service = serde_json::from_slice(body).map_err(|error| LoadError::Figures(error.to_string()))?;
    let metrics = service.status.experimental.metrics;
    let waiting = u32::try_from(metrics.requested_instances.len()).unwrap_or(u32::MAX);
    Ok(Load { free: metrics.num_free_jrubies, waiting })
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &str = r#"{"status":{"experimental":{"metrics":{"num-free-jrubies":2,"requested-instances":[{},7]}}}}"#;

    async fn reply(bytes: &[u8]) -> Result<Load, LoadError> {
        read(&mut &bytes[..]).await
    }

    fn http(why: &str) -> Result<Load, LoadError> {
        Err(LoadError::Http(why.into()))
    }

    #[test]
    fn more_is_freer() {
        assert_eq!(Load { free: 3, waiting: 0 }.spare(), 3);
        assert_eq!(Load { free: 0, waiting: u32::MAX }.spare(), -i64::from(u32::MAX));
    }

    #[tokio::test]
    async fn the_body_ends_in_three_ways() {
        let (first, second) = BODY.split_at(40);
        for (fields, body) in [
            ("", BODY.to_string()),
            (&format!("content-length: {}\r\n", BODY.len()), format!("{BODY}HTTP/1.1 400 more\r\n\r\n")),
            (
                "Transfer-Encoding: Chunked\r\nContent-Length: 1\r\n",
                format!("28\r\n{first}\r\n{:X};x=y\r\n{second}\r\n0\r\n\r\n", second.len()),
            ),
        ] {
            let answer = format!("HTTP/1.1 200 OK\r\n{fields}\r\n{body}");
            assert_eq!(reply(answer.as_bytes()).await, Ok(Load { free: 2, waiting: 2 }), "{answer}");
        }
    }

    #[tokio::test]
    async fn broken_answers() {
        let chunked = |body: &str| format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
        let length = |value: &str| format!("HTTP/1.1 200 OK\r\nContent-Length: {value}\r\n\r\n{{}}");
        let off = http("it breaks off");
        for (answer, expected) in [
            (String::new(), off.clone()),
            ("HTTP/1.1 200 OK\r\nA: b\r\n".into(), off.clone()),
            ("SSH-2.0-OpenSSH\r\n\r\n".into(), http("invalid HTTP version")),
            ("HTTP/1.1 403 Forbidden\r\n\r\n".into(), Err(LoadError::Status(403))),
            (format!("HTTP/1.1 200 OK\r\n{}\r\n", "A: b\r\n".repeat(FIELDS + 1)), http("too many headers")),
            (length("3"), off.clone()),
            (length("+2"), http("its length is no number")),
            (length("-1"), http("its length is no number")),
            (length(&"9".repeat(30)), http("its length is no number")),
            (length("262145"), Err(LoadError::TooLong)),
            (length("18446744073709551615"), Err(LoadError::TooLong)),
            (chunked("2\r\n{}\r\n"), off.clone()),
            (chunked("5\r\n{}"), off.clone()),
            (chunked("x\r\n"), http("a chunk has no length")),
            (chunked("fffffffffffffffff\r\n"), http("a chunk has no length")),
            (chunked("40001\r\n"), Err(LoadError::TooLong)),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n".into(), http("transfer encoding gzip")),
            (format!("HTTP/1.1 200 OK\r\n{}", "A: b\r\n".repeat(50_000)), Err(LoadError::TooLong)),
            (format!("HTTP/1.1 200 OK\r\n\r\n{}", " ".repeat(300_000)), Err(LoadError::TooLong)),
        ] {
            assert_eq!(reply(answer.as_bytes()).await, expected, "{:?}", answer.get(..80).unwrap_or(&answer));
        }
    }

    #[test]
    fn only_whole_figures_count() {
        for bad in [
            "",
            "[]",
            "{\"status\":null}",
            "{\"status\":{}}",
            &BODY.replace("2,", "-2,"),
            &BODY.replace("[{},7]", "7"),
            &BODY.replace("num-free", "free"),
            &BODY[..BODY.len() - 1],
        ] {
            assert!(matches!(figures(bad.as_bytes()), Err(LoadError::Figures(_))), "{bad}");
        }
    }

    #[tokio::test]
    async fn garbage_is_no_panic() {
        let good =
            format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{BODY}\r\n0\r\n\r\n", BODY.len());
        let good = good.as_bytes();
        assert!(reply(good).await.is_ok());
        for at in 0..good.len() {
            for bit in 0..8 {
                let mut flipped = good.to_vec();
                flipped[at] ^= 1 << bit;
                let _ = reply(&flipped).await;
            }
            // The line behind the last chunk is not waited for.
            if at < good.len() - 2 {
                assert!(reply(&good[..at]).await.is_err(), "the first {at} bytes");
            }
        }
    }
}
