//! HTTP as a proxy is spoken to: CONNECT (RFC 9110 §9.3.6) and the absolute form (RFC 9112 §3.2.2).

use std::fmt::Write;

use super::Hello;
use crate::error::{Error, Kind};
use crate::host::{self, Host, HostError, HostPort};

/// Puppet sends two header lines; a browser some twenty.
const HEADERS: usize = 64;

/// The head of a request, as far as it has to be passed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The method.
    pub method: String,
    /// Path and query of an absolute-form request; empty for CONNECT.
    pub path: String,
    /// Header fields in order, without those that concern this hop alone.
    pub headers: Vec<(String, Vec<u8>)>,
    /// `Proxy-Authorization`, which only a further proxy may see.
    pub proxy_authorization: Option<Vec<u8>>,
    /// Bytes of body that follow the head, if it says so.
    pub body: Option<u64>,
}

/// Fields that end at the next hop, RFC 9110 §7.6.1.
const HOP_BY_HOP: [&str; 7] =
    ["connection", "keep-alive", "proxy-connection", "proxy-authorization", "te", "trailer", "upgrade"];

/// Where the head ends: behind the first empty line.
pub(crate) fn head_end(bytes: &[u8]) -> Option<usize> {
    // A line ends with LF, with or without CR before it (RFC 9112 §2.2).
    let ends = |n: usize| match bytes.get(n + 1..) {
        Some([b'\n', ..]) => Some(n + 2),
        Some([b'\r', b'\n', ..]) => Some(n + 3),
        _ => None,
    };
    bytes.iter().enumerate().filter(|(_, b)| **b == b'\n').find_map(|(n, _)| ends(n))
}

/// Whether this begins a request for a page of this very host: in origin form (RFC 9112 §3.2.1). `None`: that is not yet
/// to be seen.
pub(super) fn is_visit(bytes: &[u8]) -> Option<bool> {
    let space = bytes.iter().position(|b| !b.is_ascii_alphabetic())?;
    match (bytes.get(..space)?, &bytes[space..]) {
        (b"CONNECT", _) => Some(false),
        (_, [b' ']) => None,
        (_, [b' ', b'/', ..]) => Some(true),
        _ => Some(false),
    }
}

/// Reads a whole head.
pub(super) fn parse(head: &[u8]) -> Result<Hello, Error> {
    let mut fields = [httparse::EMPTY_HEADER; HEADERS];
    let mut parsed = httparse::Request::new(&mut fields);
    match parsed.parse(head) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) => return Err(malformed("the HTTP head breaks off")),
        Err(error) => return Err(malformed(format_args!("broken HTTP head: {error}"))),
    }
    let (method, target) = (parsed.method.unwrap_or_default(), parsed.path.unwrap_or_default());
    let request = |path: &str| request(method, path, parsed.headers);
    if method == "CONNECT" {
        let to = target.parse::<HostPort>().map_err(|error| not_host_port(target, error))?;
        return Ok(Hello::Connect(to, request("")?));
    }
    let Some((scheme, rest)) = target.split_once("://") else {
        return Err(Error::new(
            Kind::NotAProxyRequest,
            "this is puppet-shim, which tunnels Puppet's connections; it answers CONNECT and absolute-form requests. \
             Its page would be had by page = true under [status] in puppet-shim.toml",
        ));
    };
    if !scheme.eq_ignore_ascii_case("http") {
        return Err(Error::new(
            Kind::Unsupported,
            format_args!("{method} with {scheme}:// is not carried; {scheme} goes by CONNECT"),
        ));
    }
    let (authority, path) = match rest.find(['/', '?']) {
        Some(at) if rest[at..].starts_with('?') => (&rest[..at], format!("/{}", &rest[at..])),
        Some(at) => (&rest[..at], rest[at..].to_owned()),
        None => (rest, "/".to_owned()),
    };
    let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let (host, port) =
        host::split_port(authority).map_err(|error| malformed(format_args!("{method} for {authority:?}: {error}")))?;
    Ok(Hello::Forward(HostPort { host, port: port.unwrap_or(80) }, request(&path)?))
}

fn request(method: &str, path: &str, fields: &[httparse::Header<'_>]) -> Result<Request, Error> {
    let mut kept = Request {
        method: method.into(),
        path: path.into(),
        headers: Vec::new(),
        proxy_authorization: None,
        body: None,
    };
    // RFC 9110 §7.6.1: a field that Connection names ends here too.
    let connection: Vec<&str> = fields
        .iter()
        .filter(|field| field.name.eq_ignore_ascii_case("connection"))
        .filter_map(|field| std::str::from_utf8(field.value).ok())
        .flat_map(|names| names.split(',').map(str::trim))
        .collect();
    for field in fields.iter().filter(|f| !f.name.is_empty()) {
        let is = |name: &str| field.name.eq_ignore_ascii_case(name);
        let concerns_this_hop = HOP_BY_HOP.iter().any(|name| is(name)) || connection.iter().any(|name| is(name));
        if is("proxy-authorization") {
            kept.proxy_authorization = Some(field.value.to_vec());
        } else if is("transfer-encoding") {
            // Puppet only ever asks for files this way; a body of unknown length would need a reader of its own.
            return Err(Error::new(Kind::Unsupported, "a forwarded request with Transfer-Encoding is not carried"));
        } else if is("content-length") {
            let length = length(field.value).ok_or_else(|| malformed("Content-Length is no number"))?;
            // Two that differ would let the server see another request than we do (RFC 9112 §6.3).
            if kept.body.is_some_and(|other| other != length) {
                return Err(malformed("Content-Length is there twice"));
            }
            kept.body = Some(length);
        } else if !concerns_this_hop && !is("host") {
            kept.headers.push((field.name.into(), field.value.to_vec()));
        }
    }
    Ok(kept)
}

/// Digits and nothing else: `parse` alone would take a plus sign.
fn length(value: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(value).ok()?.trim();
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?
}

fn malformed(reason: impl std::fmt::Display) -> Error {
    Error::new(Kind::Malformed, reason)
}

fn not_host_port(target: &str, error: HostError) -> Error {
    malformed(format_args!("CONNECT {target}: {error}; a CONNECT names HOST:PORT, such as puppet.example.com:8140"))
}

impl Request {
    /// The head as a server gets it: origin form, closing after one answer, so that the next request comes back to us
    /// and is sorted anew.
    pub fn to_origin(&self, to: &HostPort) -> Vec<u8> {
        self.head(&self.path, "Connection: close", None, to)
    }

    /// The head as a further proxy gets it.
    pub fn to_proxy(&self, to: &HostPort) -> Vec<u8> {
        let (target, connection) = if self.method == "CONNECT" {
            (to.to_string(), "Proxy-Connection: keep-alive")
        } else {
            (format!("http://{}{}", authority(to), self.path), "Connection: close")
        };
        self.head(&target, connection, self.proxy_authorization.as_deref(), to)
    }

    fn head(&self, target: &str, connection: &str, authorization: Option<&[u8]>, to: &HostPort) -> Vec<u8> {
        let mut head = format!("{} {target} HTTP/1.1\r\n", self.method).into_bytes();
        // The client's own Host may name another server than the one that was looked at (RFC 9112 §3.2.2).
        head.extend_from_slice(format!("Host: {}\r\n", authority(to)).as_bytes());
        if let Some(length) = self.body {
            head.extend_from_slice(format!("Content-Length: {length}\r\n").as_bytes());
        }
        for (name, value) in &self.headers {
            line(&mut head, name, value);
        }
        if let Some(value) = authorization {
            line(&mut head, "Proxy-Authorization", value);
        }
        head.extend_from_slice(connection.as_bytes());
        head.extend_from_slice(b"\r\n\r\n");
        head
    }
}

fn line(head: &mut Vec<u8>, name: &str, value: &[u8]) {
    head.extend_from_slice(name.as_bytes());
    head.extend_from_slice(b": ");
    head.extend_from_slice(value);
    head.extend_from_slice(b"\r\n");
}

/// As a URL writes it: without the port of plain HTTP.
fn authority(to: &HostPort) -> String {
    match (&to.host, to.port) {
        (Host::Name(name), 80) => name.clone(),
        _ => to.to_string(),
    }
}

/// A refusal. The agent prints status and reason phrase as they are and ignores the body, which is for people with
/// curl.
pub(super) fn response(error: &Error) -> Vec<u8> {
    let (status, reason) = (error.kind.status(), &error.reason);
    let mut text = String::with_capacity(2 * reason.len() + 128);
    // Writing to a String cannot fail.
    let _ = write!(
        text,
        "HTTP/1.1 {status} {reason}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{reason}\n",
        reason.len() + 1
    );
    text.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(head: &str) -> Result<Hello, Error> {
        assert_eq!(head_end(head.as_bytes()), Some(head.len()), "{head:?}");
        parse(head.as_bytes())
    }

    fn refused(head: &str) -> (Kind, String) {
        let error = parsed(head).unwrap_err();
        (error.kind, error.reason)
    }

    #[test]
    fn the_agents_connect_to_the_byte() {
        let head = "CONNECT puppetca.example.test:8140 HTTP/1.1\r\nHost: puppetca.example.test:8140\r\n\r\n";
        let Ok(Hello::Connect(to, request)) = parsed(head) else { panic!("not understood") };
        assert_eq!(to.to_string(), "puppetca.example.test:8140");
        assert_eq!(request.proxy_authorization, None);
    }

    #[test]
    fn bad_connects_say_what_to_write() {
        let (kind, reason) = refused("CONNECT puppet HTTP/1.1\r\n\r\n");
        assert_eq!(kind, Kind::Malformed);
        assert_eq!(
            reason,
            "CONNECT puppet: the port is missing; a CONNECT names HOST:PORT, such as puppet.example.com:8140"
        );
        assert_eq!(refused("CONNECT puppet:99999 HTTP/1.1\r\n\r\n").0, Kind::Malformed);
        assert_eq!(refused("CONNECT  HTTP/1.1\r\n\r\n").0, Kind::Malformed);
        assert_eq!(refused("CONNECT puppet:8140\r\n\r\n").0, Kind::Malformed);
    }

    #[test]
    fn absolute_form() {
        let head = "GET http://user:pw@web.example.test:8080/a?b HTTP/1.1\nhost: web.example.test:8080\r\nRange: bytes=0-\r\n\
                    Connection: keep-alive\r\nProxy-Connection: close\r\nProxy-Authorization: Basic eDp5\r\n\r\n";
        let Ok(Hello::Forward(to, request)) = parsed(head) else { panic!("not understood") };
        assert_eq!(to.to_string(), "web.example.test:8080");
        assert_eq!(
            String::from_utf8(request.to_origin(&to)).unwrap(),
            "GET /a?b HTTP/1.1\r\nHost: web.example.test:8080\r\nRange: bytes=0-\r\nConnection: close\r\n\r\n"
        );
        assert_eq!(
            String::from_utf8(request.to_proxy(&to)).unwrap(),
            "GET http://web.example.test:8080/a?b HTTP/1.1\r\nHost: web.example.test:8080\r\nRange: bytes=0-\r\n\
             Proxy-Authorization: Basic eDp5\r\nConnection: close\r\n\r\n"
        );
        let Ok(Hello::Forward(to, request)) = parsed("HEAD http://web?x HTTP/1.1\r\n\r\n") else {
            panic!("not understood")
        };
        assert_eq!((to.port, request.path.as_str()), (80, "/?x"));
        assert!(String::from_utf8(request.to_origin(&to)).unwrap().contains("\r\nHost: web\r\n"));
    }

    /// What a server makes of a request must be what we have looked at.
    #[test]
    fn one_request_stays_one_request_to_one_host() {
        let head = "POST http://web.example.test/ HTTP/1.1\r\nHost: other\r\nHost: third\r\nContent-Length: 3\r\n\
                    content-length: 3\r\nConnection: close, X-Mine\r\nX-Mine: 1\r\nX-Yours: 2\r\n\r\n";
        let Ok(Hello::Forward(to, request)) = parsed(head) else { panic!("not understood") };
        assert_eq!(
            String::from_utf8(request.to_origin(&to)).unwrap(),
            "POST / HTTP/1.1\r\nHost: web.example.test\r\nContent-Length: 3\r\nX-Yours: 2\r\nConnection: close\r\n\r\n"
        );
        let two = "POST http://web/ HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n";
        assert_eq!(refused(two).0, Kind::Malformed);
        assert_eq!(refused("POST http://web/ HTTP/1.1\r\nContent-Length: +3\r\n\r\n").0, Kind::Malformed);
    }

    #[test]
    fn what_is_not_carried() {
        assert_eq!(refused("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").0, Kind::NotAProxyRequest);
        assert_eq!(refused("GET https://web/ HTTP/1.1\r\n\r\n").0, Kind::Unsupported);
        assert_eq!(refused("PUT http://web/ HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n").0, Kind::Unsupported);
        assert_eq!(refused("PUT http://web/ HTTP/1.1\r\nContent-Length: -1\r\n\r\n").0, Kind::Malformed);
        assert_eq!(
            refused(&format!("GET http://web/ HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(HEADERS + 1))).0,
            Kind::Malformed
        );
    }

    #[test]
    fn a_refusal_is_one_whole_answer() {
        let text = String::from_utf8(response(&Error::new(Kind::Foreign, "no \"foreign\" names"))).unwrap();
        assert_eq!(
            text,
            "HTTP/1.1 403 no \"foreign\" names\r\nContent-Type: text/plain\r\nContent-Length: 19\r\nConnection: close\r\n\r\n\
             no \"foreign\" names\n"
        );
    }

    #[test]
    fn a_visit_is_seen_by_its_first_bytes() {
        for visit in ["GET /", "POST /x HTTP/1.1", "HEAD //web/"] {
            assert_eq!(is_visit(visit.as_bytes()), Some(true), "{visit}");
        }
        for other in ["GET http://web/", "CONNECT /", "OPTIONS * HTTP/1.1", "GET\t/", "G-T /"] {
            assert_eq!(is_visit(other.as_bytes()), Some(false), "{other}");
        }
        for unclear in ["G", "GET", "GET "] {
            assert_eq!(is_visit(unclear.as_bytes()), None, "{unclear}");
        }
    }

    #[test]
    fn the_end_of_a_head() {
        assert_eq!(head_end(b"a\r\n\r\nrest"), Some(5));
        assert_eq!(head_end(b"a\n\nrest"), Some(3));
        assert_eq!(head_end(b"a\r\nb\r\n"), None);
        assert_eq!(head_end(b"a\r\n\r"), None);
    }
}
