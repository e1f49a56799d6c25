//! One TOML value to what it means, or to a problem that says what to write instead.
//!
//! Each function here has one shape, value in, meaning or [`Problem`] out, and knows neither its key nor its place.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use toml::de::DeValue;

use super::diagnostic::{Problem, quoted};
use super::unit;
use super::{Balance, Dnssec, Foreign, Nameserver, StaticServer, StatusSocket, keys, nameserver};
use crate::host::{Host, HostError, HostPort, split_port};
use crate::pattern::{Pattern, PatternError};

/// The problem of a value of the wrong type.
pub(super) fn mistyped(value: &DeValue<'_>, wanted: &str, example: &str) -> Problem {
    let found = match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    };
    Problem::new(format!("expected {wanted}, found {found}"), format!("write {example}"))
}

/// `true` or `false`.
pub(super) fn boolean(value: &DeValue<'_>) -> Result<bool, Problem> {
    value.as_bool().ok_or_else(|| match value.as_str() {
        Some(text @ ("true" | "false")) => mistyped(value, "a boolean", &format!("{text} without quotes")),
        _ => mistyped(value, "a boolean", "true or false"),
    })
}

/// A duration with its unit, within a range.
pub(super) fn duration(value: &DeValue<'_>, range: &RangeInclusive<Duration>) -> Result<Duration, Problem> {
    match value {
        DeValue::String(text) => unit::duration(text, range),
        DeValue::Integer(number) => Err(unit::bare_duration(&number.to_string())),
        _ => Err(mistyped(value, "a duration", "a number and its unit in quotes, such as \"2s\"")),
    }
}

/// A duration within a range, or nothing, which has a unit too.
pub(super) fn duration_or_zero(value: &DeValue<'_>, range: &RangeInclusive<Duration>) -> Result<Duration, Problem> {
    let longest = Duration::ZERO..=*range.end();
    match duration(value, &longest) {
        Ok(short) if !short.is_zero() && short < *range.start() => duration(value, range),
        other => other,
    }
}

/// A size in bytes with its unit, within a range.
pub(super) fn size(value: &DeValue<'_>, range: &RangeInclusive<u64>) -> Result<usize, Problem> {
    let bytes = match value {
        DeValue::String(text) => unit::size(text, range)?,
        DeValue::Integer(number) => return Err(unit::bare_size(&number.to_string())),
        _ => return Err(mistyped(value, "a size", "a number and its unit in quotes, such as \"16KiB\"")),
    };
    // The ranges of the settings fit any pointer width.
    Ok(usize::try_from(bytes).unwrap_or(usize::MAX))
}

/// A whole number within a range.
pub(super) fn count(value: &DeValue<'_>, range: &RangeInclusive<usize>) -> Result<usize, Problem> {
    let help = || format!("write a number from {} to {}", range.start(), range.end());
    match value {
        DeValue::Integer(number) => usize::from_str_radix(number.as_str(), number.radix())
            .ok()
            .filter(|n| range.contains(n))
            .ok_or_else(|| Problem::new(format!("{number} is out of range"), help())),
        _ => Err(mistyped(value, "an integer", &format!("{} without quotes", &help()["write ".len()..]))),
    }
}

/// A port from 1 to 65535.
pub(super) fn port(value: &DeValue<'_>) -> Result<u16, Problem> {
    match value {
        DeValue::Integer(number) => u16::from_str_radix(number.as_str(), number.radix())
            .ok()
            .filter(|port| *port != 0)
            .ok_or_else(|| Problem::new(format!("{number} is not a port"), "write a number from 1 to 65535")),
        _ => Err(mistyped(value, "a port", "a number from 1 to 65535 without quotes, such as 8140")),
    }
}

/// A port, or a range of them.
pub(super) fn ports(value: &DeValue<'_>) -> Result<RangeInclusive<u16>, Problem> {
    let text = match value {
        DeValue::Integer(_) => return port(value).map(|port| port..=port),
        DeValue::String(text) => text,
        _ => {
            const EXAMPLE: &str = "a port such as 8140, or a range such as \"8140-8149\"";
            return Err(mistyped(value, "a port or a range of ports", EXAMPLE));
        }
    };
    if let Some(port) = port_number(text) {
        return Err(Problem::new(
            format!("{} is a port in quotes", quoted(text)),
            format!("write {port} without quotes"),
        ));
    }
    let written = text.split_once('-').and_then(|(first, last)| port_number(first).zip(port_number(last)));
    if let Some((first, last)) = written.filter(|(first, last)| first <= last) {
        return Ok(first..=last);
    }
    // "8140 - 8149", "8140:8149", "8140..8149".
    let numbers: Vec<_> = text.split(|c: char| !c.is_alphanumeric()).filter(|digits| !digits.is_empty()).collect();
    let meant = match numbers[..] {
        [a, b] => port_number(a).zip(port_number(b)),
        _ => None,
    };
    let help = match meant {
        Some((a, b)) => format!("write \"{}-{}\"", a.min(b), a.max(b)),
        None => "write a port from 1 to 65535, or a range of them such as \"8140-8149\"".to_owned(),
    };
    let wrong = if written.is_some() { "ends before it begins" } else { "is not a range of ports" };
    Err(Problem::new(format!("{} {wrong}", quoted(text)), help))
}

/// A port from 1 to 65535 in digits.
pub(super) fn port_number(text: &str) -> Option<u16> {
    // `parse` alone would take a plus sign.
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten().filter(|port| *port != 0)
}

/// An address and port to listen on.
pub(super) fn listener(value: &DeValue<'_>) -> Result<SocketAddr, Problem> {
    let text = value.as_str().ok_or_else(|| mistyped(value, "an address and port", "\"127.0.0.1:8139\""))?;
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    Err(match split_port(text) {
        Ok((Host::Name(name), port)) => Problem::new(
            format!("{} is a name, and a listener needs an address", quoted(&name)),
            format!("write \"127.0.0.1:{}\"", port.unwrap_or(8139)),
        ),
        Ok((Host::Ip(IpAddr::V6(ip)), _)) => {
            Problem::new(format!("{} has no port", quoted(text)), format!("write \"[{ip}]:8139\""))
        }
        Ok((Host::Ip(ip), _)) => Problem::new(format!("{} has no port", quoted(text)), format!("write \"{ip}:8139\"")),
        Err(_) => Problem::new(
            format!("{} is not an address and port", quoted(text)),
            "write it like \"127.0.0.1:8139\" or \"[::1]:8139\"",
        ),
    })
}

/// The domain, lower case and without a trailing dot.
pub(super) fn domain(value: &DeValue<'_>) -> Result<String, Problem> {
    const EXAMPLE: &str = "\"example.com\"";
    let text = value.as_str().ok_or_else(|| mistyped(value, "a domain", EXAMPLE))?;
    match text.parse() {
        Ok(Host::Name(name)) => Ok(name),
        Ok(Host::Ip(_)) => Err(Problem::new(
            format!("{} is an address, not a domain", quoted(text)),
            format!("write a name such as {EXAMPLE}"),
        )),
        Err(HostError::Empty) => Err(Problem::new(
            "the domain is empty",
            "write a name, or leave the key out: the host's own domain is found then",
        )),
        Err(why) => Err(Problem::new(
            format!("{} is not a domain: {why}", quoted(text)),
            format!("write a name such as {EXAMPLE}"),
        )),
    }
}

/// A certname, lower case as Puppet makes it. What it may hold is Puppet's rule (`lib/puppet/ssl/base.rb`): printable
/// ASCII without `/`.
pub(super) fn certname(value: &DeValue<'_>) -> Result<String, Problem> {
    let text = value.as_str().ok_or_else(|| mistyped(value, "a certname", "\"agent01.example.com\""))?;
    if text.is_empty() {
        return Err(Problem::new(
            "the certname is empty",
            "write a name, or leave the key out: the host's own full name is taken then",
        ));
    }
    match text.chars().find(|c| *c == '/' || !matches!(c, ' '..='~')) {
        None => Ok(text.to_ascii_lowercase()),
        Some(c) => Err(Problem::new(
            format!("{} is not a certname: {c:?} is not allowed in it", quoted(text)),
            "write what `puppet config print certname` prints",
        )),
    }
}

/// A name that means a role.
pub(super) fn name(value: &DeValue<'_>) -> Result<String, Problem> {
    const EXAMPLE: &str = "\"puppet\" or \"puppet.example.com\"";
    let text = value.as_str().ok_or_else(|| mistyped(value, "a host name", EXAMPLE))?;
    let problem = |message: String| Problem::new(message, format!("write a host name such as {EXAMPLE}"));
    match text.parse() {
        // Puppet's default `no_proxy` is "localhost, 127.0.0.1" and matches the end of a name.
        Ok(Host::Name(name)) if name == "localhost" || name.ends_with(".localhost") => Err(problem(format!(
            "{} cannot be a role's name: no server's certificate should carry it, and Puppet's default no_proxy skips the \
             proxy for it",
            quoted(text)
        ))),
        Ok(Host::Name(name)) => Ok(name),
        Ok(Host::Ip(_)) => Err(problem(format!("{} is an address, and a role is told by a name", quoted(text)))),
        Err(why) => Err(match split_port(text) {
            Ok((Host::Name(host), Some(port))) => Problem::new(
                format!("{} has a port", quoted(text)),
                format!("write \"{host}\" here, and {port} in the role's ports"),
            ),
            _ => problem(format!("{} is not a host name: {why}", quoted(text))),
        }),
    }
}

/// The owner name of a role's SRV records; `false` for none.
pub(super) fn srv(value: &DeValue<'_>) -> Result<Option<String>, Problem> {
    const EXAMPLE: &str = "a name such as \"_x-puppet._tcp\", or false for no SRV records";
    let text = match value {
        DeValue::Boolean(false) => return Ok(None),
        DeValue::String(text) => text,
        _ => return Err(mistyped(value, "the name of SRV records", EXAMPLE)),
    };
    let problem = |why: &str| {
        Problem::new(format!("{} is not the name of SRV records: {why}", quoted(text)), format!("write {EXAMPLE}"))
    };
    match text.parse() {
        Ok(Host::Name(name)) if name.split('.').take_while(|label| label.starts_with('_')).count() >= 2 => {
            Ok(Some(name))
        }
        Ok(_) => Err(problem("it does not begin with _SERVICE._PROTOCOL")),
        Err(why) => Err(problem(&why.to_string())),
    }
}

/// A server, with or without a port.
pub(super) fn static_server(value: &DeValue<'_>) -> Result<StaticServer, Problem> {
    const EXAMPLE: &str = "\"compiler1.example.com\" or \"compiler1.example.com:8140\"";
    let text = value.as_str().ok_or_else(|| mistyped(value, "a server", EXAMPLE))?;
    match split_port(text) {
        Ok((host, port)) => Ok(StaticServer { host, port }),
        Err(why) => {
            Err(Problem::new(format!("{} is not a server: {why}", quoted(text)), format!("write it like {EXAMPLE}")))
        }
    }
}

/// How servers are chosen among.
pub(super) fn balance(value: &DeValue<'_>) -> Result<Balance, Problem> {
    const WORDS: &str = "\"srv\", \"hash\" or \"least-loaded\"";
    let text = value.as_str().ok_or_else(|| mistyped(value, "a way to balance", WORDS))?;
    Balance::ALL.into_iter().find(|balance| balance.as_str() == text).ok_or_else(|| {
        let help = match keys::nearest(text, Balance::ALL.map(Balance::as_str)) {
            Some(near) => format!("write \"{near}\""),
            None => format!("write {WORDS}"),
        };
        Problem::new(format!("{} is not a way to balance", quoted(text)), help)
    })
}

/// What is made of DNSSEC.
pub(super) fn dnssec(value: &DeValue<'_>) -> Result<Dnssec, Problem> {
    const NOUN: &str = "a way to use DNSSEC";
    const WORDS: &str = "\"off\", \"prefer\" or \"require\"";
    const ON: &str = "\"prefer\", or \"require\" to refuse what is not signed too";
    let text = match value {
        DeValue::Boolean(true) => return Err(mistyped(value, NOUN, ON)),
        DeValue::Boolean(false) => return Err(mistyped(value, NOUN, "\"off\"")),
        DeValue::String(text) => text.as_ref(),
        _ => return Err(mistyped(value, NOUN, WORDS)),
    };
    Dnssec::ALL.into_iter().find(|dnssec| dnssec.as_str() == text).ok_or_else(|| {
        let help = match (text, keys::nearest(text, Dnssec::ALL.map(Dnssec::as_str))) {
            ("true" | "on" | "yes", _) => format!("write {ON}"),
            ("false" | "no", _) => "write \"off\"".to_owned(),
            (_, Some(near)) => format!("write \"{near}\""),
            (_, None) => format!("write {WORDS}"),
        };
        Problem::new(format!("{} is not {NOUN}", quoted(text)), help)
    })
}

/// Which servers to prefer.
pub(super) fn preferred(value: &DeValue<'_>) -> Result<Pattern, Problem> {
    let everything = "leave it out: the servers that match no pattern come last anyway";
    pattern(value, everything, "a server is preferred whatever its port")
}

/// Which servers SRV records may name.
pub(super) fn target(value: &DeValue<'_>) -> Result<Pattern, Problem> {
    let everything = "leave the whole key out: without it every server is allowed";
    pattern(value, everything, "which ports are allowed is what allow_ports says")
}

/// Which servers are meant. What to do about `*`, and why there is no port in it, depends on the key.
fn pattern(value: &DeValue<'_>, everything: &str, portless: &str) -> Result<Pattern, Problem> {
    const EXAMPLE: &str = "\"compiler1.example.com\", or \"*.fra.example.com\" for every server under a domain";
    let text = value.as_str().ok_or_else(|| mistyped(value, "a server's name", EXAMPLE))?;
    let why = match text.parse::<Pattern>() {
        Ok(pattern) => return Ok(pattern),
        Err(why) => why,
    };
    if let Some((host, port)) = text.rsplit_once(':')
        && let Ok(pattern) = host.parse::<Pattern>()
        && port.bytes().all(|b| b.is_ascii_digit())
    {
        return Err(Problem::new(format!("{} has a port", quoted(text)), format!("write \"{pattern}\": {portless}")));
    }
    let help = match (why, meant_domain(text)) {
        (PatternError::Everything, _) => everything.to_owned(),
        (PatternError::Wildcard, Some(domain)) => {
            format!("write \"*.{domain}\" for every server under {domain}, or each server's whole name")
        }
        _ => format!("write {EXAMPLE}"),
    };
    Err(Problem::new(format!("{} is no pattern for servers: {why}", quoted(text)), help))
}

/// The domain of which a wrong pattern meant the servers: what follows the last label with a `*`, or the `*` in front.
fn meant_domain(text: &str) -> Option<Host> {
    let after = &text[text.rfind('*')? + 1..];
    let domain = match text.strip_prefix('*') {
        Some(rest) if rest == after => rest,
        _ => after.split_once('.')?.1,
    };
    domain.parse().ok().filter(|host| matches!(host, Host::Name(_)))
}

/// A file, by its absolute path; `example` is one.
pub(super) fn file(value: &DeValue<'_>, example: &str) -> Result<PathBuf, Problem> {
    let text = value.as_str().ok_or_else(|| mistyped(value, "a file", &format!("\"{example}\"")))?;
    if text.is_empty() {
        return Err(Problem::new("the file's name is empty", format!("write a path such as \"{example}\"")));
    }
    let why = if !text.starts_with('/') {
        "is not an absolute path"
    } else if text.ends_with('/') {
        "is the path of a directory"
    } else if text.contains('\0') {
        "is not a path: there is a NUL in it"
    } else {
        return Ok(text.into());
    };
    Err(Problem::new(
        format!("{} {why}", quoted(text)),
        format!("write the whole path of a file, such as \"{example}\""),
    ))
}

/// The Unix socket on which the status is asked for.
pub(super) fn status_socket(value: &DeValue<'_>) -> Result<StatusSocket, Problem> {
    const EXAMPLE: &str = "/run/puppet-shim/status.socket";
    /// `sun_path` of unix(7), and the NUL that ends it.
    const LONGEST: usize = 107;
    match value {
        DeValue::Boolean(false) => Ok(StatusSocket::Off),
        DeValue::String(text) if text.len() > LONGEST => Err(Problem::new(
            format!("the path of the socket is longer than {LONGEST} bytes, which no Unix socket's can be"),
            format!("write a shorter one, such as \"{EXAMPLE}\""),
        )),
        DeValue::String(_) => file(value, EXAMPLE).map(StatusSocket::At),
        _ => Err(mistyped(value, "the path of a socket", &format!("\"{EXAMPLE}\", or false for none"))),
    }
}

/// A group, by its name or number.
pub(super) fn group(value: &DeValue<'_>) -> Result<String, Problem> {
    const EXAMPLE: &str = "the name of a group, such as \"adm\"";
    let text = value.as_str().ok_or_else(|| mistyped(value, "a group", EXAMPLE))?;
    // What ends a field of group(5), and what no name has.
    if text.is_empty() || text.contains(|c: char| c == ':' || c == ',' || c.is_whitespace() || c.is_control()) {
        return Err(Problem::new(format!("{} is no group", quoted(text)), format!("write {EXAMPLE}")));
    }
    Ok(text.to_owned())
}

/// A nameserver, by its address, and how it is asked.
pub(super) fn nameserver(value: &DeValue<'_>) -> Result<Nameserver, Problem> {
    nameserver::read(value.as_str().ok_or_else(|| mistyped(value, "a nameserver's address", nameserver::EXAMPLE))?)
}

/// What becomes of foreign names.
pub(super) fn foreign(value: &DeValue<'_>) -> Result<Foreign, Problem> {
    const EXAMPLE: &str = "\"refuse\", \"direct\" or \"http://proxy.example.com:3128\"";
    let text = value.as_str().ok_or_else(|| mistyped(value, "a policy or a proxy", EXAMPLE))?;
    match text {
        "refuse" => return Ok(Foreign::Refuse),
        "direct" => return Ok(Foreign::Direct),
        _ => {}
    }
    let problem = |why: &str| Problem::new(format!("{} {why}", quoted(text)), format!("write {EXAMPLE}"));
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err(problem("is neither a policy nor a proxy"));
    };
    if scheme != "http" {
        return Err(problem("is not a proxy reached by http://"));
    }
    if rest.contains('@') {
        // Not quoted: this line goes to logs.
        return Err(Problem::new("a proxy with a user name or password is not supported", format!("write {EXAMPLE}")));
    }
    match rest.strip_suffix('/').unwrap_or(rest).parse::<HostPort>() {
        Ok(proxy) => Ok(Foreign::Proxy(proxy)),
        Err(HostError::NoPort) => Err(Problem::new(
            format!("{} has no port", quoted(text)),
            format!("write the proxy's port too, such as \"{}:3128\"", text.trim_end_matches('/')),
        )),
        Err(why) => Err(problem(&format!("is not a proxy: {why}"))),
    }
}
