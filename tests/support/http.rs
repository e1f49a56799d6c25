//! Just enough HTTP/1.1 for a server and an agent of Puppet's: heads, bodies with a Content-Length, keep-alive.

use std::fmt::Write as _;
use std::io;

use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// A request.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    pub path: String,
    pub headers: Headers,
    pub body: Vec<u8>,
}

/// A response.
#[derive(Clone, Debug)]
pub struct Response {
    pub status: u16,
    pub reason: String,
    pub headers: Headers,
    pub body: Vec<u8>,
}

/// The header lines, in their order.
#[derive(Clone, Debug, Default)]
pub struct Headers(Vec<(String, String)>);

impl Headers {
    /// The value of the first line of that name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// Adds a line.
    pub fn push(&mut self, name: &str, value: &impl ToString) {
        self.0.push((name.to_string(), value.to_string()));
    }

    fn parsed(headers: &[httparse::Header<'_>]) -> Self {
        Headers(headers.iter().map(|h| (h.name.into(), String::from_utf8_lossy(h.value).into_owned())).collect())
    }

    fn body_length(&self) -> io::Result<usize> {
        self.get("content-length").map_or(Ok(0), |length| length.parse().map_err(invalid))
    }
}

/// Reads a request; `None` when the other side has closed instead.
pub async fn read_request(stream: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Option<Request>> {
    let Some(head) = read_head(stream).await? else { return Ok(None) };
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut parsed = httparse::Request::new(&mut headers);
    parsed.parse(&head).map_err(invalid)?;
    let mut request = Request {
        method: parsed.method.unwrap_or_default().into(),
        path: parsed.path.unwrap_or_default().into(),
        headers: Headers::parsed(parsed.headers),
        body: Vec::new(),
    };
    request.body = read_body(stream, request.headers.body_length()?).await?;
    Ok(Some(request))
}

/// Reads a response with its body.
pub async fn read_response(stream: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Response> {
    let mut response = read_response_head(stream).await?;
    response.body = read_body(stream, response.headers.body_length()?).await?;
    Ok(response)
}

/// Reads a response without its body: that of a CONNECT has none when it is good, and Puppet ignores it when it is not.
pub async fn read_response_head(stream: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Response> {
    let head = read_head(stream).await?.ok_or(io::ErrorKind::UnexpectedEof)?;
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut parsed = httparse::Response::new(&mut headers);
    parsed.parse(&head).map_err(invalid)?;
    Ok(Response {
        status: parsed.code.unwrap_or_default(),
        reason: parsed.reason.unwrap_or_default().into(),
        headers: Headers::parsed(parsed.headers),
        body: Vec::new(),
    })
}

/// Writes a request.
pub async fn write_request(stream: &mut (impl AsyncWrite + Unpin), request: &Request) -> io::Result<()> {
    let start = format!("{} {} HTTP/1.1\r\n", request.method, request.path);
    write_message(stream, start, &request.headers, &request.body).await
}

/// Writes a response.
pub async fn write_response(stream: &mut (impl AsyncWrite + Unpin), response: &Response) -> io::Result<()> {
    let start = format!("HTTP/1.1 {} {}\r\n", response.status, response.reason);
    write_message(stream, start, &response.headers, &response.body).await
}

async fn write_message(
    stream: &mut (impl AsyncWrite + Unpin),
    start: String,
    headers: &Headers,
    body: &[u8],
) -> io::Result<()> {
    let mut head = start;
    for (name, value) in &headers.0 {
        let _ = write!(head, "{name}: {value}\r\n");
    }
    let _ = write!(head, "Content-Length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body).await?;
    stream.flush().await
}

async fn read_head(stream: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Option<Vec<u8>>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read_until(b'\n', &mut head).await? == 0 {
            return if head.is_empty() { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
        }
    }
    Ok(Some(head))
}

async fn read_body(stream: &mut (impl AsyncBufRead + Unpin), length: usize) -> io::Result<Vec<u8>> {
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    Ok(body)
}

fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
