//! A request for the page, out of the bytes of its head. No io.

use super::Response;

/// A browser sends some twenty.
const HEADERS: usize = 64;

/// As much of a request as counts here. A body is not looked at: nothing here takes one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// The method.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// Each `Host`.
    pub hosts: Vec<String>,
    /// All of `Accept`, comma-separated.
    pub accept: String,
}

impl Request {
    /// Reads a whole head.
    ///
    /// # Errors
    ///
    /// What to answer where it is none.
    pub fn parse(head: &[u8]) -> Result<Self, Response> {
        let mut fields = [httparse::EMPTY_HEADER; HEADERS];
        let mut parsed = httparse::Request::new(&mut fields);
        match parsed.parse(head) {
            Ok(httparse::Status::Complete(_)) => {}
            Ok(httparse::Status::Partial) => return Err(Response::text(400, "the HTTP head breaks off".into())),
            Err(error) => return Err(Response::text(400, format!("broken HTTP head: {error}"))),
        }
        let all = |name: &str| -> Vec<String> {
            let named = parsed.headers.iter().filter(|field| field.name.eq_ignore_ascii_case(name));
            named.map(|field| String::from_utf8_lossy(field.value).trim().to_owned()).collect()
        };
        Ok(Request {
            method: parsed.method.unwrap_or_default().into(),
            target: parsed.path.unwrap_or_default().into(),
            hosts: all("host"),
            accept: all("accept").join(","),
        })
    }

    /// Without the query.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// What is behind the question mark; empty where there is none.
    pub fn query(&self) -> &str {
        self.target.split_once('?').map_or("", |(_, query)| query)
    }
}
