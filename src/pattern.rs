//! Patterns for host names, as an admin writes them to say which servers are meant.

use std::fmt;
use std::str::FromStr;

use crate::host::{Host, HostError};

/// Which hosts are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// This host alone.
    Exact(Host),
    /// `*.DOMAIN`: every name under the domain, one or more labels below it, and not the domain itself. Lower case, no
    /// trailing dot.
    Under(String),
}

/// Why a text is no pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// `*` alone.
    #[error("it matches every server")]
    Everything,
    /// A `*` in another place than in front of a domain.
    #[error("'*' stands for whole labels, in front of a domain")]
    Wildcard,
    /// `*.192.0.2.1`.
    #[error("'*' goes in front of a domain, not of an address")]
    Address,
    /// The rest is no host.
    #[error(transparent)]
    Host(#[from] HostError),
}

impl Pattern {
    /// Whether it means this host.
    pub fn matches(&self, host: &Host) -> bool {
        match (self, host) {
            (Pattern::Exact(exact), host) => exact == host,
            (Pattern::Under(domain), Host::Name(name)) => is_under(name, domain),
            (Pattern::Under(_), Host::Ip(_)) => false,
        }
    }

    /// Whether it means every host that `other` means.
    pub fn covers(&self, other: &Pattern) -> bool {
        match (self, other) {
            (pattern, Pattern::Exact(host)) => pattern.matches(host),
            (Pattern::Under(domain), Pattern::Under(other)) => other == domain || is_under(other, domain),
            (Pattern::Exact(_), Pattern::Under(_)) => false,
        }
    }
}

fn is_under(name: &str, domain: &str) -> bool {
    name.strip_suffix(domain).is_some_and(|labels| labels.ends_with('.'))
}

impl FromStr for Pattern {
    type Err = PatternError;

    /// Reads a name, `*.` and a domain, or an address; IPv6 with or without brackets.
    fn from_str(text: &str) -> Result<Self, PatternError> {
        if matches!(text, "*" | "*.") {
            return Err(PatternError::Everything);
        }
        let domain = text.strip_prefix("*.");
        let host = domain.unwrap_or(text);
        if host.contains('*') {
            return Err(PatternError::Wildcard);
        }
        match (domain, host.parse()?) {
            (None, host) => Ok(Pattern::Exact(host)),
            (Some(_), Host::Name(domain)) => Ok(Pattern::Under(domain)),
            (Some(_), Host::Ip(_)) => Err(PatternError::Address),
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Pattern::Exact(host) => write!(f, "{host}"),
            Pattern::Under(domain) => write!(f, "*.{domain}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> Pattern {
        text.parse().unwrap()
    }

    #[test]
    fn reads_names_domains_and_addresses() {
        assert_eq!(pattern("Compiler3.Example.COM."), Pattern::Exact(Host::Name("compiler3.example.com".into())));
        assert_eq!(pattern("*.FRA.example.com."), Pattern::Under("fra.example.com".into()));
        assert_eq!(pattern("192.0.2.1"), Pattern::Exact(Host::Ip("192.0.2.1".parse().unwrap())));
        assert_eq!(pattern("[2001:DB8::1]"), pattern("2001:db8::1"));
        for text in ["*.fra.example.com", "compiler3.example.com", "2001:db8::1"] {
            assert_eq!(pattern(text).to_string(), text);
        }
    }

    #[test]
    fn refuses_every_other_wildcard() {
        for (text, why) in [
            ("*", PatternError::Everything),
            ("*.", PatternError::Everything),
            ("**", PatternError::Wildcard),
            ("*.*", PatternError::Wildcard),
            ("**.example.com", PatternError::Wildcard),
            ("*.*.example.com", PatternError::Wildcard),
            ("*example.com", PatternError::Wildcard),
            ("compiler*.example.com", PatternError::Wildcard),
            ("compiler.*.example.com", PatternError::Wildcard),
            ("192.0.2.*", PatternError::Wildcard),
            ("*.192.0.2.1", PatternError::Address),
            ("", PatternError::Host(HostError::Empty)),
            ("*..example.com", PatternError::Host(HostError::EmptyLabel)),
            ("192.0.2.0/24", PatternError::Host(HostError::Character('/'))),
        ] {
            assert_eq!(text.parse::<Pattern>(), Err(why), "{text:?}");
        }
    }

    #[test]
    fn matches_whole_labels_at_any_depth() {
        for (text, host, expected) in [
            ("*.fra.example.com", "compiler1.fra.example.com", true),
            ("*.fra.example.com", "Compiler1.Dmz.FRA.example.com.", true),
            ("*.fra.example.com", "fra.example.com", false),
            ("*.fra.example.com", "compiler1.xfra.example.com", false),
            ("*.fra.example.com", "compiler1.fra.example.com.other", false),
            ("*.1", "192.0.2.1", false),
            ("compiler3.example.com", "COMPILER3.example.com", true),
            ("compiler3.example.com", "a.compiler3.example.com", false),
            ("compiler3.example.com", "compiler3", false),
            ("192.0.2.1", "192.0.2.1", true),
            ("192.0.2.1", "192.0.2.11", false),
            ("2001:db8:0::1", "2001:db8::1", true),
        ] {
            assert_eq!(pattern(text).matches(&host.parse().unwrap()), expected, "{text} and {host}");
        }
    }

    #[test]
    fn covers_what_can_match_nothing_more() {
        for (text, other, expected) in [
            ("*.example.com", "*.example.com", true),
            ("*.example.com", "*.fra.example.com", true),
            ("*.example.com", "a.example.com", true),
            ("*.fra.example.com", "*.example.com", false),
            ("*.fra.example.com", "*.xfra.example.com", false),
            ("*.fra.example.com", "fra.example.com", false),
            ("a.example.com", "a.example.com", true),
            ("a.example.com", "*.a.example.com", false),
        ] {
            assert_eq!(pattern(text).covers(&pattern(other)), expected, "{text} and {other}");
        }
    }
}
