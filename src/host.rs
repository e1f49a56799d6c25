//! Host names and addresses as they come from an agent, from DNS, or from an admin.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use serde::{Serialize, Serializer};

/// A name or an address.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Host {
    /// An IP literal.
    Ip(IpAddr),
    /// A DNS name: lower case, no trailing dot, at most 253 bytes of letters, digits, `-`, `_` and `.`.
    Name(String),
}

/// A host and its port.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostPort {
    /// The host.
    pub host: Host,
    /// The port, 1 to 65535.
    pub port: u16,
}

/// Why a text is no host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// Nothing there.
    #[error("the name is empty")]
    Empty,
    /// RFC 1035 §2.3.4.
    #[error("the name is longer than 253 characters, or one of its labels than 63")]
    TooLong,
    /// Two dots in a row, or one in front.
    #[error("the name has an empty label")]
    EmptyLabel,
    /// A character that no host name has.
    #[error("{0:?} is not allowed in a host name")]
    Character(char),
    /// `[` without `]`, or no IPv6 address in between.
    #[error("the text in brackets is no IPv6 address")]
    Brackets,
    /// Not 1 to 65535.
    #[error("the port is not a number from 1 to 65535")]
    Port,
    /// `HOST` alone.
    #[error("the port is missing")]
    NoPort,
}

impl Host {
    /// The name without its domain, if it is a name with one: `puppet` of `puppet.example.com`, and `example.com`.
    pub fn split_domain(&self) -> Option<(&str, &str)> {
        match self {
            Host::Name(name) => name.split_once('.'),
            Host::Ip(_) => None,
        }
    }
}

impl FromStr for Host {
    type Err = HostError;

    /// Reads a name or an address; IPv6 with or without brackets.
    fn from_str(text: &str) -> Result<Self, HostError> {
        if let Some(inner) = text.strip_prefix('[') {
            let inner = inner.strip_suffix(']').ok_or(HostError::Brackets)?;
            return inner.parse::<Ipv6Addr>().map(|ip| Host::Ip(ip.into())).map_err(|_| HostError::Brackets);
        }
        if let Ok(ip) = text.parse::<IpAddr>() {
            return Ok(Host::Ip(ip));
        }
        let name = text.strip_suffix('.').unwrap_or(text);
        if name.is_empty() {
            return Err(HostError::Empty);
        }
        if name.len() > 253 {
            return Err(HostError::TooLong);
        }
        for label in name.split('.') {
            match label.len() {
                0 => return Err(HostError::EmptyLabel),
                1..=63 => {}
                _ => return Err(HostError::TooLong),
            }
            if let Some(c) = label.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))) {
                return Err(HostError::Character(c));
            }
        }
        Ok(Host::Name(name.to_ascii_lowercase()))
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Ip(ip) => write!(f, "{ip}"),
            Host::Name(name) => f.write_str(name),
        }
    }
}

impl Serialize for Host {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Splits `HOST`, `HOST:PORT`, `ADDR`, `[V6]:PORT` into host and port.
pub fn split_port(text: &str) -> Result<(Host, Option<u16>), HostError> {
    let (host, port) = match text.rfind(':') {
        // A bare IPv6 address has more than one colon and no brackets.
        Some(at) if text.starts_with('[') && !text[..at].ends_with(']') => (text, None),
        Some(at) if text.starts_with('[') || !text[..at].contains(':') => (&text[..at], Some(&text[at + 1..])),
        _ => (text, None),
    };
    let port = match port {
        None => None,
        // `parse` alone would take a plus sign.
        Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => {
            Some(digits.parse().ok().filter(|p| *p != 0).ok_or(HostError::Port)?)
        }
        Some(_) => return Err(HostError::Port),
    };
    Ok((host.parse()?, port))
}

impl FromStr for HostPort {
    type Err = HostError;

    fn from_str(text: &str) -> Result<Self, HostError> {
        let (host, port) = split_port(text)?;
        Ok(HostPort { host, port: port.ok_or(HostError::NoPort)? })
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]:{}", self.port),
            host => write!(f, "{host}:{}", self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_names_and_addresses() {
        assert_eq!("PUPPET.Lab.Test.".parse(), Ok(Host::Name("puppet.lab.test".into())));
        assert_eq!("[::1]".parse(), Ok(Host::Ip("::1".parse().unwrap())));
        assert_eq!("::1".parse(), Ok(Host::Ip("::1".parse().unwrap())));
        assert_eq!("127.0.0.1".parse(), Ok(Host::Ip("127.0.0.1".parse().unwrap())));
        for (bad, why) in [
            ("", HostError::Empty),
            (".", HostError::Empty),
            ("a..b", HostError::EmptyLabel),
            (".a", HostError::EmptyLabel),
            ("a b", HostError::Character(' ')),
            ("a/b", HostError::Character('/')),
            ("[::1", HostError::Brackets),
            ("[puppet]", HostError::Brackets),
        ] {
            assert_eq!(bad.parse::<Host>(), Err(why), "{bad:?}");
        }
        assert_eq!("a".repeat(64).parse::<Host>(), Err(HostError::TooLong));
    }

    #[test]
    fn splits_ports() {
        let name = |n: &str| Host::Name(n.into());
        assert_eq!(split_port("puppet:8140"), Ok((name("puppet"), Some(8140))));
        assert_eq!(split_port("puppet"), Ok((name("puppet"), None)));
        assert_eq!(split_port("[::1]:8140"), Ok((Host::Ip("::1".parse().unwrap()), Some(8140))));
        assert_eq!(split_port("[::1]"), Ok((Host::Ip("::1".parse().unwrap()), None)));
        assert_eq!(split_port("fe80::1"), Ok((Host::Ip("fe80::1".parse().unwrap()), None)));
        for bad in ["puppet:", "puppet:0", "puppet:65536", "puppet:+1", "puppet:x"] {
            assert_eq!(split_port(bad), Err(HostError::Port), "{bad:?}");
        }
        assert_eq!("puppet".parse::<HostPort>(), Err(HostError::NoPort));
        assert_eq!("[::1]:1".parse::<HostPort>().unwrap().to_string(), "[::1]:1");
    }
}
