//! Why a connection was refused or failed: whose fault it was, what the agent is told, and whether another server may
//! be tried.

use std::fmt;

/// Which side failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// What the client sent, or did not send.
    Client,
    /// A rule of ours or of the admin's.
    Policy,
    /// DNS, or a configuration that names no server.
    Discovery,
    /// The servers.
    Upstream,
    /// Ourselves.
    Shim,
}

/// What went wrong. Each kind has one HTTP status, for a client that said CONNECT, and one TLS alert, for one that said
/// `ClientHello`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Bytes that are neither TLS nor HTTP, or are broken TLS or HTTP.
    Malformed,
    /// A `ClientHello` or an HTTP head over the limit.
    TooLong,
    /// The client did not say in time what it wants.
    Silent,
    /// An HTTP request that is meant for a web server.
    NotAProxyRequest,
    /// A forward request that we do not carry.
    Unsupported,
    /// A name that is nobody's, and `foreign = "refuse"`.
    Foreign,
    /// A name that is nobody's, where there is no setting that would carry it.
    NoRoute,
    /// A role of which no server is known.
    NoServers,
    /// No candidate accepted.
    Unreachable,
    /// No candidate accepted, and the last ones did not even refuse.
    TimedOut,
    /// The daemon stops.
    Stopping,
}

/// TLS `AlertDescription`s, RFC 8446 §6.
pub mod alert {
    /// `unexpected_message`.
    pub const UNEXPECTED_MESSAGE: u8 = 10;
    /// `access_denied`: refused by policy.
    pub const ACCESS_DENIED: u8 = 49;
    /// `decode_error`.
    pub const DECODE_ERROR: u8 = 50;
    /// `internal_error`: nothing reachable.
    pub const INTERNAL_ERROR: u8 = 80;
    /// `unrecognized_name`: no route for this name.
    pub const UNRECOGNIZED_NAME: u8 = 112;
}

impl Side {
    /// As the log writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Side::Client => "client",
            Side::Policy => "policy",
            Side::Discovery => "discovery",
            Side::Upstream => "upstream",
            Side::Shim => "shim",
        }
    }
}

impl Kind {
    /// Which side failed.
    pub const fn side(self) -> Side {
        match self {
            Kind::Malformed | Kind::TooLong | Kind::Silent | Kind::NotAProxyRequest | Kind::Unsupported => Side::Client,
            Kind::Foreign | Kind::NoRoute => Side::Policy,
            Kind::NoServers => Side::Discovery,
            Kind::Unreachable | Kind::TimedOut => Side::Upstream,
            Kind::Stopping => Side::Shim,
        }
    }

    /// Whether the same connection, made again, may succeed without anybody changing anything.
    pub const fn retry_is_safe(self) -> bool {
        matches!(self.side(), Side::Discovery | Side::Upstream | Side::Shim)
    }

    /// HTTP status.
    pub const fn status(self) -> u16 {
        match self {
            Kind::Malformed => 400,
            Kind::TooLong => 431,
            Kind::Silent => 408,
            Kind::NotAProxyRequest => 404,
            Kind::Unsupported => 501,
            Kind::Foreign => 403,
            Kind::NoRoute | Kind::NoServers | Kind::Stopping => 503,
            Kind::Unreachable => 502,
            Kind::TimedOut => 504,
        }
    }

    /// TLS alert. The agent prints its name, in OpenSSL's words.
    pub const fn alert(self) -> u8 {
        match self {
            Kind::Malformed | Kind::TooLong => alert::DECODE_ERROR,
            Kind::NotAProxyRequest | Kind::Unsupported => alert::UNEXPECTED_MESSAGE,
            Kind::Foreign => alert::ACCESS_DENIED,
            Kind::NoRoute => alert::UNRECOGNIZED_NAME,
            Kind::Silent | Kind::NoServers | Kind::Unreachable | Kind::TimedOut | Kind::Stopping => {
                alert::INTERNAL_ERROR
            }
        }
    }
}

/// A connection that came to nothing, and the one sentence that says why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Error {
    /// What went wrong.
    pub kind: Kind,
    /// One sentence for the agent, the log and the admin: printable ASCII, one line, see [`Error::new`].
    pub reason: String,
}

/// The agent prints the reason as part of one log line: room for what each of some thirty servers did.
const REASON_LIMIT: usize = 4000;

impl Error {
    /// An error whose reason is made fit for an HTTP status line: what is not printable ASCII becomes `?`, the rest of
    /// an overlong one is cut.
    pub fn new(kind: Kind, reason: impl fmt::Display) -> Self {
        let mut reason: String =
            reason.to_string().chars().map(|c| if matches!(c, ' '..='~') { c } else { '?' }).collect();
        if reason.len() > REASON_LIMIT {
            reason.truncate(REASON_LIMIT - 3);
            reason.push_str("...");
        }
        Error { kind, reason }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_fits_a_status_line() {
        assert_eq!(Error::new(Kind::Malformed, "a\r\nb\u{e9}").reason, "a??b?");
        let long = Error::new(Kind::Malformed, "x".repeat(5000)).reason;
        assert_eq!(long.len(), REASON_LIMIT);
        assert!(long.ends_with("..."));
    }

    #[test]
    fn only_what_may_pass_by_itself_is_worth_a_retry() {
        assert!(Kind::Unreachable.retry_is_safe());
        assert!(Kind::NoServers.retry_is_safe());
        assert!(!Kind::Foreign.retry_is_safe());
        assert!(!Kind::Malformed.retry_is_safe());
    }
}
