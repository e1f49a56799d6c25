//! An answer, and its bytes. No io.

use std::borrow::Cow;
use std::fmt::Write as _;

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The HTTP status.
    pub status: u16,
    /// The content's type.
    pub content_type: &'static str,
    /// More fields of the head.
    pub fields: Vec<(&'static str, Cow<'static, str>)>,
    /// The content.
    pub body: Cow<'static, str>,
}

/// What holds for every answer. It is about this moment, is for who asked, is what it says it is, runs nothing, and
/// tells nobody where it was seen.
const FIELDS: &str = "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\n\
                      Cross-Origin-Resource-Policy: same-origin\r\nCross-Origin-Opener-Policy: same-origin\r\nConnection: close\r\n";

/// Where an answer brings no policy of its own: nothing is loaded, and nobody frames it.
const POLICY: (&str, &str) = ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'");

impl Response {
    /// One of this type.
    pub fn new(status: u16, content_type: &'static str, body: String) -> Self {
        Response { status, content_type, fields: Vec::new(), body: body.into() }
    }

    /// A sentence, without its full stop.
    pub fn text(status: u16, sentence: String) -> Self {
        Response::new(status, "text/plain; charset=utf-8", sentence + "\n")
    }

    /// 503 with this sentence.
    pub(super) const fn busy(sentence: &'static str) -> Self {
        let body = Cow::Borrowed(sentence);
        Response { status: 503, content_type: "text/plain; charset=utf-8", fields: Vec::new(), body }
    }

    /// The same with one more field.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<Cow<'static, str>>) -> Self {
        self.fields.push((name, value.into()));
        self
    }

    /// Head and content; of the latter nothing where only the head is asked for.
    pub fn to_bytes(&self, is_head: bool) -> Vec<u8> {
        let mut text = String::with_capacity(self.body.len() + 512);
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "HTTP/1.1 {} {}\r\nContent-Type: {}\r\nContent-Length: {}\r\n",
            self.status,
            reason(self.status),
            self.content_type,
            self.body.len()
        );
        let policy = (!self.fields.iter().any(|(name, _)| *name == POLICY.0)).then_some((POLICY.0, POLICY.1));
        let again = (self.status == 503).then_some(("Retry-After", "1"));
        let own = self.fields.iter().map(|(name, value)| (*name, value.as_ref()));
        for (name, value) in own.chain(policy).chain(again) {
            let _ = write!(text, "{name}: {value}\r\n");
        }
        text.push_str(FIELDS);
        text.push_str("\r\n");
        if !is_head {
            text.push_str(&self.body);
        }
        text.into_bytes()
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        431 => "Request Header Fields Too Large",
        503 => "Service Unavailable",
        _ => "Internal Server Error",
    }
}
