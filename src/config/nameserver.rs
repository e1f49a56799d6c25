//! A nameserver as the configuration writes it: `192.0.2.53`, `192.0.2.53:5353`, `tls://192.0.2.53#dns.example.com`.

use std::net::{IpAddr, SocketAddr};

use rustls::pki_types::ServerName;

use super::diagnostic::{Problem, quoted};
use super::value::port_number;
use super::{Nameserver, Transport};
use crate::host::{Host, HostError, split_port};

/// Every form but those that only add a port to one.
pub(super) const EXAMPLE: &str = "\"192.0.2.53\", \"192.0.2.53:5353\" or \"tls://192.0.2.53#dns.example.com\"";

/// The port of DNS (RFC 1035 §4.2), and of DNS over TLS (RFC 7858 §3.1).
const PLAIN: u16 = 53;
const TLS: u16 = 853;

/// Reads one.
pub(super) fn read(text: &str) -> Result<Nameserver, Problem> {
    match text.split_once("://") {
        None => plain(text),
        Some(("tls", rest)) => tls(text, rest),
        Some((scheme, rest)) => Err(other_scheme(text, scheme, rest)),
    }
}

fn plain(text: &str) -> Result<Nameserver, Problem> {
    let Some((server, after)) = text.split_once('#') else { return Ok(address(text, text, PLAIN)?.into()) };
    let address = address(text, server, PLAIN)?;
    if let Some(port) = port_number(after) {
        return Err(port_after_hash(text, "", SocketAddr::new(address.ip(), port)));
    }
    let help = match tls(text, text) {
        Ok(_) => format!("write \"tls://{text}\" for DNS over TLS, or \"{server}\""),
        Err(_) => format!("write \"{server}\", or \"tls://{server}#dns.example.com\" for DNS over TLS"),
    };
    Err(Problem::new(
        format!("{} has a certificate's name, and without tls:// no certificate is asked for", quoted(text)),
        help,
    ))
}

/// `rest` is the `text` without its scheme.
fn tls(text: &str, rest: &str) -> Result<Nameserver, Problem> {
    let (server, name) = match rest.split_once('#') {
        Some((server, name)) => (server, Some(name)),
        None => (rest, None),
    };
    if let Ok((Host::Name(host), port)) = split_port(server)
        && let Some(host) = certificate_name(&host)
    {
        // It is what the certificate has, so there is a place for it.
        let name = name.and_then(certificate_name).unwrap_or(host);
        let port = port.map(|port| format!(":{port}")).unwrap_or_default();
        return Err(Problem::new(
            format!("{} has a name for its address, and a nameserver is needed to look it up", quoted(text)),
            format!("write its address and then the name, like \"tls://192.0.2.53{port}#{name}\""),
        ));
    }
    let address = address(text, server, TLS)?;
    let Some(name) = name else { return Ok(Nameserver { address, transport: Transport::Tls(None) }) };
    if let Some(name) = certificate_name(name) {
        return Ok(Nameserver { address, transport: Transport::Tls(Some(name)) });
    }
    if let Some(port) = port_number(name) {
        return Err(port_after_hash(text, "tls://", SocketAddr::new(address.ip(), port)));
    }
    Err(not_a_name(text, server, name))
}

/// As dnsmasq has it.
fn port_after_hash(text: &str, scheme: &str, address: SocketAddr) -> Problem {
    Problem::new(format!("{} has its port after a #", quoted(text)), format!("write \"{scheme}{address}\""))
}

/// What is wrong with the `name` of a certificate. `server` is what stands before it.
fn not_a_name(text: &str, server: &str, name: &str) -> Problem {
    let example = format!("\"tls://{server}#dns.example.com\"");
    let why = match name.parse::<Host>() {
        Ok(Host::Ip(_)) => {
            return Problem::new(
                format!("{} has an address where a certificate's name goes", quoted(text)),
                format!("write \"tls://{server}\": without a name the certificate has to have the address"),
            );
        }
        Err(HostError::Empty) => {
            return Problem::new(
                format!("{} has no name after its #", quoted(text)),
                format!("write one, such as {example}, or \"tls://{server}\""),
            );
        }
        Ok(Host::Name(_)) => "no certificate can have it".to_owned(),
        Err(why) => why.to_string(),
    };
    Problem::new(
        format!("{} is not the name of a nameserver's certificate: {why}", quoted(name)),
        format!("write the name that its certificate has, such as {example}"),
    )
}

/// The address and port of the `server`, which is the `text` or a part of it.
fn address(text: &str, server: &str, port: u16) -> Result<SocketAddr, Problem> {
    let wrong = match split_port(server) {
        Ok((Host::Ip(ip), written)) => return Ok(SocketAddr::new(ip, written.unwrap_or(port))),
        Ok((Host::Name(name), _)) if certificate_name(&name).is_some() => {
            return Err(Problem::new(
                format!("{} is a name, and a nameserver is needed to look it up", quoted(text)),
                format!("write its address, like {EXAMPLE}"),
            ));
        }
        // `192.0.2.256`.
        Ok((Host::Name(_), _)) => "is not an address".to_owned(),
        Err(_) if is_scoped(server) => {
            return Err(Problem::new(
                format!("{} has a scope, the part after its %, which is not supported", quoted(text)),
                "write an address that needs none",
            ));
        }
        Err(HostError::Empty) => "has no address".to_owned(),
        Err(why) => format!("is not an address: {why}"),
    };
    Err(Problem::new(format!("{} {wrong}", quoted(text)), format!("write it like {EXAMPLE}")))
}

fn other_scheme(text: &str, scheme: &str, rest: &str) -> Problem {
    let help = if scheme.eq_ignore_ascii_case("tls") && tls(text, rest).is_ok() {
        format!("write \"tls://{rest}\"")
    } else if matches!(scheme, "udp" | "tcp" | "dns") && plain(rest).is_ok() {
        format!("write \"{rest}\": it is asked over UDP, and over TCP where an answer does not fit")
    } else {
        format!("write it like {EXAMPLE}")
    };
    Problem::new(format!("{} has another scheme than tls://, and no other is supported", quoted(text)), help)
}

/// A name that a certificate can have, by the rules of the library that will compare them: the last label is no number,
/// and none begins or ends with a hyphen.
fn certificate_name(text: &str) -> Option<Host> {
    match text.parse().ok()? {
        Host::Name(name) if matches!(ServerName::try_from(name.as_str()), Ok(ServerName::DnsName(_))) => {
            Some(Host::Name(name))
        }
        _ => None,
    }
}

/// Whether it is an address with a `%` and what RFC 4007 §11 lets follow.
fn is_scoped(server: &str) -> bool {
    server.split_once('%').is_some_and(|(address, _)| address.trim_start_matches('[').parse::<IpAddr>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_addresses_ports_and_names() {
        for (text, address, transport) in [
            ("192.0.2.53", "192.0.2.53:53", Transport::Plain),
            ("192.0.2.53:5353", "192.0.2.53:5353", Transport::Plain),
            ("2001:db8::53", "[2001:db8::53]:53", Transport::Plain),
            ("[2001:db8::53]", "[2001:db8::53]:53", Transport::Plain),
            ("[2001:db8::53]:853", "[2001:db8::53]:853", Transport::Plain),
            ("tls://192.0.2.53", "192.0.2.53:853", Transport::Tls(None)),
            ("tls://192.0.2.53:8853", "192.0.2.53:8853", Transport::Tls(None)),
            ("tls://2001:db8::53", "[2001:db8::53]:853", Transport::Tls(None)),
            ("tls://192.0.2.53#DNS.Example.com.", "192.0.2.53:853", of_name("dns.example.com")),
            ("tls://192.0.2.53:8853#dns", "192.0.2.53:8853", of_name("dns")),
            ("tls://[2001:db8::53]:8853#dns_1.example.com", "[2001:db8::53]:8853", of_name("dns_1.example.com")),
        ] {
            let expected = Nameserver { address: address.parse().unwrap(), transport };
            assert_eq!(read(text), Ok(expected.clone()), "{text}");
            assert_eq!(read(&expected.to_string()), Ok(expected), "{text}");
        }
    }

    fn of_name(name: &str) -> Transport {
        Transport::Tls(Some(Host::Name(name.into())))
    }

    /// What an error proposes can be written, but for the examples.
    #[test]
    fn proposes_what_can_be_read() {
        for text in [
            "192.0.2.53#5353",
            "2001:db8::53#5353",
            "192.0.2.53#dns.example.com",
            "192.0.2.53:853#dns.example.com",
            "192.0.2.53#-",
            "tls://192.0.2.53#",
            "tls://[::1]:8853#::1",
            "tls://[::1]#853",
            "tls://dns.example.com",
            "tls://dns:8853#other",
            "TLS://192.0.2.53#dns.example.com",
            "udp://192.0.2.53:53",
        ] {
            let help = read(text).unwrap_err().help.unwrap();
            let proposals: Vec<_> = help.split('"').skip(1).step_by(2).collect();
            assert!(!proposals.is_empty(), "{text}: {help}");
            for proposal in proposals {
                assert!(read(proposal).is_ok(), "{text}: {proposal}");
            }
        }
    }
}
