//! The names in a server's certificate, compared as the agent compares them.
//!
//! The agent is Ruby, and who is let through is decided by `OpenSSL::SSL.verify_certificate_identity` (ruby/openssl
//! 3.0.1, `lib/openssl/ssl.rb`), from `SSLSocket#post_connection_check` and from OpenSSL's verify callback alike. What
//! it does is followed to the letter here, including where RFC 6125 would have it otherwise.

use std::fmt;
use std::net::IpAddr;

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::oid_registry::OID_X509_EXT_SUBJECT_ALT_NAME;
use x509_parser::prelude::FromDer;
use x509_parser::time::ASN1Time;

use crate::host::Host;

/// So many names a sentence can bear.
const LISTED: usize = 8;

/// No host name is longer; what is, is cut where it is shown.
const SHOWN: usize = 253;

/// Tags of a `GeneralName` (RFC 5280 §4.2.1.6) that put the CN out of force, even where their value cannot be read.
const DNS_NAME: u32 = 2;

/// The names in a certificate, and the time for which it is good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    dns: Vec<String>,
    ips: Vec<IpAddr>,
    /// Only where there is neither a DNS nor an IP name: else nobody looks at them. Usually one; Ruby takes any.
    common: Vec<String>,
    not_before: i64,
    not_after: i64,
}

/// A certificate that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("its certificate cannot be read: {0}")]
pub struct Unreadable(String);

impl Names {
    /// Reads a certificate in DER. Neither its signature nor its dates are looked at.
    ///
    /// # Errors
    /// Bytes that are no X.509 certificate, or a subject alternative name extension that cannot be read: Ruby raises
    /// there, so the agent does not connect.
    pub fn of(der: &[u8]) -> Result<Self, Unreadable> {
        let (_, certificate) = X509Certificate::from_der(der).map_err(|error| Unreadable(error.to_string()))?;
        let validity = certificate.validity();
        let mut names = Names {
            dns: Vec::new(),
            ips: Vec::new(),
            common: Vec::new(),
            not_before: validity.not_before.timestamp(),
            not_after: validity.not_after.timestamp(),
        };
        let mut common_name_counts = true;
        // Each of them: the parser's own accessor refuses a second extension of a kind, and Ruby does not.
        for extension in certificate.extensions().iter().filter(|e| e.oid == OID_X509_EXT_SUBJECT_ALT_NAME) {
            let ParsedExtension::SubjectAlternativeName(alternative) = extension.parsed_extension() else {
                return Err(Unreadable("broken subject alternative names".into()));
            };
            for name in &alternative.general_names {
                common_name_counts &= !names.add(name);
            }
        }
        if common_name_counts {
            // Whatever its string type, Ruby compares the bytes. Those beyond ASCII match nothing, so they may be lost.
            let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
            names.common = certificate.subject().iter_common_name().map(|cn| text(cn.as_slice())).collect();
        }
        Ok(names)
    }

    /// Takes a name over. Whether it is of a kind that puts the CN out of force, readable or not.
    fn add(&mut self, name: &GeneralName<'_>) -> bool {
        match name {
            GeneralName::DNSName(name) => self.dns.push((*name).to_string()),
            GeneralName::IPAddress(bytes) => self.ips.extend(address(bytes)),
            GeneralName::Invalid(tag, bytes) if tag.0 == DNS_NAME => {
                self.dns.push(String::from_utf8_lossy(bytes).into_owned());
            }
            _ => return false,
        }
        true
    }

    /// Whether an agent that asks for this host takes the certificate to be that host's.
    ///
    /// As in Ruby, an address is compared with the names as text, too, and a name of one label to its case; a [`Host`]
    /// is in lower case, so this is the answer for agents that write it so. Ruby 2.7 (Puppet 7) compares an IPv6
    /// address with its names of type IP in another notation, and finds none.
    pub fn covers(&self, asked: &Host) -> bool {
        let text = asked.to_string();
        self.dns.iter().chain(&self.common).any(|name| matches_name(name, &text))
            || matches!(asked, Host::Ip(ip) if self.ips.contains(ip))
    }

    /// Its names of type DNS, as they are written.
    pub fn dns(&self) -> &[String] {
        &self.dns
    }

    /// Its names of type IP.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.ips.iter().copied()
    }

    /// Since when it is good, in seconds since 1970-01-01 UTC.
    pub const fn not_before(&self) -> i64 {
        self.not_before
    }

    /// Until when it is good, that second included; in seconds since 1970-01-01 UTC.
    pub const fn not_after(&self) -> i64 {
        self.not_after
    }
}

impl fmt::Display for Names {
    /// As a sentence has them: `compiler2.example.com, puppet`, at most eight, then `and 12 more`. Printable ASCII, on
    /// one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ips: Vec<String> = self.ips.iter().map(ToString::to_string).collect();
        let mut names = self.dns.iter().chain(&ips).chain(&self.common);
        let Some(first) = names.next() else { return f.write_str("no name") };
        f.write_str(&printable(first))?;
        for name in names.by_ref().take(LISTED - 1) {
            write!(f, ", {}", printable(name))?;
        }
        match names.count() {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

/// A point in time as a day, `2026-01-31`, UTC.
pub fn day(seconds: i64) -> String {
    // Beyond the year 9999, which no certificate can say.
    ASN1Time::from_timestamp(seconds).map_or_else(|_| "?".into(), |time| time.to_datetime().date().to_string())
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Some(v4.into());
    }
    <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from)
}

fn printable(name: &str) -> String {
    name.chars().take(SHOWN).map(|c| if matches!(c, ' '..='~') { c } else { '?' }).collect()
}

/// `verify_hostname`: a name in a certificate against the one asked for.
fn matches_name(name: &str, asked: &str) -> bool {
    if !name.is_ascii() || !asked.is_ascii() {
        return false;
    }
    let (lower_name, lower_asked) = (name.to_ascii_lowercase(), asked.to_ascii_lowercase());
    let (name_labels, asked_labels) = (labels(&lower_name), labels(&lower_asked));
    if name_labels.len() < 2 {
        return name == asked;
    }
    match (name_labels.split_first(), asked_labels.split_first()) {
        (Some((first, rest)), Some((asked_first, asked_rest))) => {
            rest == asked_rest && matches_label(first, asked_first)
        }
        _ => false,
    }
}

/// As Ruby's `split(".")` has them: without the empty ones at the end.
fn labels(name: &str) -> Vec<&str> {
    name.trim_end_matches('.').split('.').filter(|_| !name.is_empty()).collect()
}

/// `verify_wildcard`: the leftmost label of each.
fn matches_label(pattern: &str, label: &str) -> bool {
    let Some((before, after)) = pattern.split_once('*') else {
        // An empty label makes Ruby raise, so it matches nothing.
        return !pattern.is_empty() && pattern == label;
    };
    if after.contains('*') {
        return false;
    }
    // RFC 6125 §6.4.3: no part of an internationalized label.
    if label.starts_with("xn--") && pattern != "*" {
        return false;
    }
    before.len() + after.len() < label.len() && label.starts_with(before) && label.ends_with(after)
}

#[cfg(test)]
mod tests {
    use rcgen::{
        CertificateParams, CustomExtension, DistinguishedName, DnType, KeyPair, SanType, date_time_ymd,
        string::Ia5String,
    };

    use super::*;

    fn der(adjust: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        adjust(&mut params);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    fn dns(name: &str) -> SanType {
        SanType::DnsName(Ia5String::try_from(name).unwrap())
    }

    fn ip(address: &str) -> SanType {
        SanType::IpAddress(address.parse().unwrap())
    }

    fn names(common: &str, alternative: Vec<SanType>) -> Names {
        let der = der(|params| {
            params.distinguished_name.push(DnType::CommonName, common);
            params.subject_alt_names = alternative;
        });
        Names::of(&der).unwrap()
    }

    fn covers(names: &Names, asked: &str) -> bool {
        names.covers(&asked.parse().unwrap())
    }

    /// What `OpenSSL::SSL.verify_hostname(asked, name)` of Ruby 3.1.2 says to each of these.
    #[test]
    fn matches_as_ruby_does() {
        for (name, asked, expected) in [
            ("puppet", "puppet", true),
            ("Puppet", "puppet", false),
            ("Puppet.example.com", "puppet.example.com", true),
            ("puppet.example.com", "puppet", false),
            ("puppet", "puppet.example.com", false),
            ("puppet.example.com.", "puppet.example.com", true),
            ("puppet.", "puppet", false),
            ("", "puppet", false),
            (".", "puppet", false),
            (".example.com", "puppet.example.com", false),
            ("puppet..com", "puppet.example.com", false),
            ("*.example.com", "puppet.example.com", true),
            ("*.EXAMPLE.com", "puppet.example.com", true),
            ("*.example.com", "a.puppet.example.com", false),
            ("*.example.com", "example.com", false),
            ("*.com", "example.com", true),
            ("*", "puppet", false),
            ("p*.example.com", "puppet.example.com", true),
            ("*t.example.com", "puppet.example.com", true),
            ("p*t.example.com", "puppet.example.com", true),
            ("puppet*.example.com", "puppet.example.com", false),
            ("pup*ppet.example.com", "puppet.example.com", false),
            ("pup*pet.example.com", "puppet.example.com", false),
            ("p*p*t.example.com", "puppet.example.com", false),
            ("**.example.com", "puppet.example.com", false),
            ("puppet.*.com", "puppet.example.com", false),
            ("puppet.example.*", "puppet.example.com", false),
            ("*.example.com", "xn--puppet.example.com", true),
            ("xn--*.example.com", "xn--puppet.example.com", false),
            ("x*.example.com", "xn--puppet.example.com", false),
            ("p\u{fc}ppet.example.com", "puppet.example.com", false),
            ("192.0.2.1", "192.0.2.1", true),
            ("*.0.2.1", "192.0.2.1", true),
            ("::1", "::1", true),
        ] {
            assert_eq!(matches_name(name, asked), expected, "{name:?} for {asked:?}");
        }
    }

    #[test]
    fn an_alternative_name_puts_the_cn_out_of_force() {
        let both = names("puppet", vec![dns("compiler1.example.com")]);
        assert!(covers(&both, "compiler1.example.com"));
        assert!(!covers(&both, "puppet"));
        assert_eq!(both.to_string(), "compiler1.example.com");

        let by_address = names("puppet", vec![ip("192.0.2.1")]);
        assert!(!covers(&by_address, "puppet"));

        let alone = names("puppet", Vec::new());
        assert!(covers(&alone, "puppet"));
        assert_eq!(alone.to_string(), "puppet");

        // Neither of a kind that names a host.
        let mail = SanType::Rfc822Name(Ia5String::try_from("root@example.com").unwrap());
        assert!(covers(&names("puppet", vec![mail]), "puppet"));
    }

    #[test]
    fn any_cn_will_do() {
        let der = der(|params| {
            params.distinguished_name.push(DnType::CommonName, "compiler1");
            params.distinguished_name.push(DnType::CustomDnType(vec![2, 5, 4, 3]), "puppet");
        });
        let names = Names::of(&der).unwrap();
        assert!(covers(&names, "compiler1") && covers(&names, "puppet"));
    }

    #[test]
    fn addresses_match_addresses() {
        let names = names("a", vec![ip("192.0.2.1"), ip("2001:db8::1"), dns("192.0.2.9")]);
        for (asked, expected) in [
            ("192.0.2.1", true),
            ("192.0.2.2", false),
            ("2001:db8::1", true),
            ("2001:db8::2", false),
            // Sixteen bytes are not four.
            ("::ffff:192.0.2.1", false),
            // A name that looks like one.
            ("192.0.2.9", true),
        ] {
            assert_eq!(covers(&names, asked), expected, "{asked}");
        }
        assert_eq!(names.to_string(), "192.0.2.9, 192.0.2.1, 2001:db8::1");
    }

    #[test]
    fn an_alternative_name_that_is_no_text_still_counts() {
        let mut der = der(|params| {
            params.distinguished_name.push(DnType::CommonName, "puppet");
            params.subject_alt_names = vec![dns("compiler\x01\n")];
        });
        let at = der.windows(8).position(|bytes| bytes == b"compiler").unwrap();
        der[at] = 0xff;
        let names = Names::of(&der).unwrap();
        assert!(!covers(&names, "puppet"));
        assert_eq!(names.to_string(), "?ompiler??");
    }

    #[test]
    fn all_extensions_are_looked_at() {
        // SEQUENCE { [2] "other" }
        let second = CustomExtension::from_oid_content(&[2, 5, 29, 17], b"\x30\x07\x82\x05other".to_vec());
        let der = der(|params| {
            params.subject_alt_names = vec![dns("puppet")];
            params.custom_extensions = vec![second];
        });
        let names = Names::of(&der).unwrap();
        assert!(covers(&names, "puppet") && covers(&names, "other"));
    }

    #[test]
    fn broken_alternative_names_are_no_names() {
        let der = der(|params| {
            params.distinguished_name.push(DnType::CommonName, "puppet");
            params.custom_extensions = vec![CustomExtension::from_oid_content(&[2, 5, 29, 17], b"\x30\x7fx".to_vec())];
        });
        assert!(Names::of(&der).is_err());
    }

    #[test]
    fn a_sentence_has_room_for_eight() {
        let many = |count| names("x", (1..=count).map(|n| dns(&format!("c{n}"))).collect()).to_string();
        assert_eq!(many(8), "c1, c2, c3, c4, c5, c6, c7, c8");
        assert_eq!(many(20), "c1, c2, c3, c4, c5, c6, c7, c8 and 12 more");
        assert_eq!(names("x", vec![dns(&"y".repeat(1000))]).to_string().len(), SHOWN);
        assert_eq!(Names::of(&der(|_| ())).unwrap().to_string(), "no name");
    }

    #[test]
    fn dates() {
        let der = der(|params| {
            params.not_before = date_time_ymd(1969, 12, 31);
            params.not_after = date_time_ymd(2020, 2, 29);
        });
        let names = Names::of(&der).unwrap();
        assert_eq!((names.not_before(), names.not_after()), (-86_400, 1_582_934_400));
        assert_eq!((day(names.not_before()).as_str(), day(names.not_after()).as_str()), ("1969-12-31", "2020-02-29"));
        assert_eq!(day(i64::MAX), "?");
    }

    #[test]
    fn garbage_is_no_panic() {
        let der = der(|params| {
            params.distinguished_name.push(DnType::CommonName, "puppet");
            params.subject_alt_names = vec![dns("*.example.com"), ip("2001:db8::1")];
        });
        let look = |der: &[u8]| {
            if let Ok(names) = Names::of(der) {
                let shown = names.to_string();
                assert!(shown.bytes().all(|b| matches!(b, b' '..=b'~')), "{shown:?}");
                covers(&names, "puppet.example.com");
                let _ = (day(names.not_before()), day(names.not_after()));
            }
        };
        for end in 0..der.len() {
            assert!(Names::of(&der[..end]).is_err(), "the first {end} bytes");
        }
        for at in 0..der.len() {
            for bit in 0..8 {
                let mut flipped = der.clone();
                flipped[at] ^= 1 << bit;
                look(&flipped);
            }
        }
    }
}
