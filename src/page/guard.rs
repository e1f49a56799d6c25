//! Who may look. No io.

use std::net::SocketAddr;

use super::{Request, Response};
use crate::host::{self, Host};

/// Why somebody may not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    #[error("this page is for this host only, and {0} is another; log in here, or forward a port of loopback (ssh -L)")]
    Remote(SocketAddr),
    #[error("the request has {0} Host fields in place of one, so it cannot be told whom it is for")]
    Hosts(usize),
    #[error(
        "{0:?} is no name of this page, which is only to be had as http://127.0.0.1, http://[::1] or http://localhost"
    )]
    Foreign(String),
}

impl From<Refused> for Response {
    fn from(refused: Refused) -> Self {
        let status = if matches!(refused, Refused::Hosts(_)) { 400 } else { 403 };
        Response::text(status, refused.to_string())
    }
}

/// Whether that is somebody on this host who means this host. Of names only one cannot be made to lead here from
/// elsewhere: `localhost` (RFC 6761 §6.3). The port may be any, for it may have been forwarded.
pub(super) fn admit(request: &Request, from: SocketAddr) -> Result<(), Refused> {
    if !from.ip().to_canonical().is_loopback() {
        return Err(Refused::Remote(from));
    }
    let [host] = request.hosts.as_slice() else { return Err(Refused::Hosts(request.hosts.len())) };
    match host::split_port(host) {
        Ok((Host::Ip(ip), _)) if ip.to_canonical().is_loopback() => Ok(()),
        Ok((Host::Name(name), _)) if name == "localhost" => Ok(()),
        _ => Err(Refused::Foreign(host.chars().take(100).collect())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(hosts: &[&str], from: &str) -> Result<(), Refused> {
        let hosts = hosts.iter().map(ToString::to_string).collect();
        admit(&Request { hosts, ..Request::default() }, from.parse().unwrap())
    }

    #[test]
    fn only_loopback_by_only_its_own_names() {
        for host in ["127.0.0.1", "127.0.0.1:8139", "127.9.9.9:1", "[::1]:8139", "[::1]", "localhost:8139", "LocalHost"]
        {
            assert_eq!(asked(&[host], "127.0.0.1:1"), Ok(()), "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:8139",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "192.0.2.1:8139",
            "[2001:db8::1]",
            "0.0.0.0:8139",
            "127.1",
            "2130706433",
            "evil.example@127.0.0.1",
            "127.0.0.1, evil.example",
            "",
        ] {
            assert!(matches!(asked(&[host], "127.0.0.1:1"), Err(Refused::Foreign(_))), "{host}");
        }
        assert_eq!(asked(&[], "127.0.0.1:1"), Err(Refused::Hosts(0)));
        assert_eq!(asked(&["127.0.0.1", "127.0.0.1"], "127.0.0.1:1"), Err(Refused::Hosts(2)));
    }

    #[test]
    fn a_listener_that_others_reach_shows_them_nothing() {
        assert!(matches!(asked(&["127.0.0.1"], "192.0.2.1:1"), Err(Refused::Remote(_))));
        assert!(matches!(asked(&["localhost"], "[2001:db8::1]:1"), Err(Refused::Remote(_))));
        assert_eq!(asked(&["localhost"], "[::ffff:127.0.0.1]:1"), Ok(()));
    }
}
