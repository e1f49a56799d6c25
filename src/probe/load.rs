//! How busy a server is, from its status service.
//!
//! A catalog and a file's content are the work of one `JRuby` interpreter each, of which a server has a few; who finds
//! none free waits. The figures are those of puppetserver's `jruby-metrics` status at level debug
//! (`src/clj/puppetlabs/services/jruby/jruby_metrics_core.clj`, `v1-status`), open to clients without a certificate in
//! the `auth.conf` as packaged. The averages in it lag by minutes; these two are live.

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::http::{HttpError, LARGEST, Reply};

pub(super) const PATH: &str = "/status/v1/services/jruby-metrics?level=debug";

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

impl From<HttpError> for LoadError {
    fn from(error: HttpError) -> Self {
        match error {
            HttpError::Connection(did) => LoadError::Connection(did),
            HttpError::TooLong => LoadError::TooLong,
            HttpError::Broken(why) => LoadError::Http(why),
        }
    }
}

/// What an answer says.
pub(super) fn read(reply: &Reply) -> Result<Load, LoadError> {
    if reply.status == 200 { figures(&reply.body) } else { Err(LoadError::Status(reply.status)) }
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
    use super::super::http::{self, FIELDS};
    use super::*;

    const BODY: &str = r#"{"status":{"experimental":{"metrics":{"num-free-jrubies":2,"requested-instances":[{},7]}}}}"#;

    async fn reply(bytes: &[u8]) -> Result<Load, LoadError> {
        read(&http::read(&mut &bytes[..]).await?)
    }

    fn broken(why: &str) -> Result<Load, LoadError> {
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
        let off = broken("it breaks off");
        for (answer, expected) in [
            (String::new(), off.clone()),
            ("HTTP/1.1 200 OK\r\nA: b\r\n".into(), off.clone()),
            ("SSH-2.0-OpenSSH\r\n\r\n".into(), broken("invalid HTTP version")),
            ("HTTP/1.1 403 Forbidden\r\n\r\n".into(), Err(LoadError::Status(403))),
            (format!("HTTP/1.1 200 OK\r\n{}\r\n", "A: b\r\n".repeat(FIELDS + 1)), broken("too many headers")),
            (length("3"), off.clone()),
            (length("+2"), broken("its length is no number")),
            (length("-1"), broken("its length is no number")),
            (length(&"9".repeat(30)), broken("its length is no number")),
            (length("262145"), Err(LoadError::TooLong)),
            (length("18446744073709551615"), Err(LoadError::TooLong)),
            (chunked("2\r\n{}\r\n"), off.clone()),
            (chunked("5\r\n{}"), off.clone()),
            (chunked("x\r\n"), broken("a chunk has no length")),
            (chunked("fffffffffffffffff\r\n"), broken("a chunk has no length")),
            (chunked("40001\r\n"), Err(LoadError::TooLong)),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n".into(), broken("transfer encoding gzip")),
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
