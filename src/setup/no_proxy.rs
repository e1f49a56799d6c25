//! What goes past the proxy, as Puppet decides it (`lib/puppet/http/proxy.rb`).

/// The first entry of `no_proxy` that takes a connection to this name and port past the proxy.
///
/// An entry counts at the end of the name, with a dot before it or without; `*` stands for anything; with a port it
/// counts for that port alone. Empty ones at the end are none: Ruby's `split` leaves them out.
pub fn covers<'n>(no_proxy: &'n str, name: &str, port: u16) -> Option<&'n str> {
    let entries = no_proxy.trim_end_matches(|c: char| c == ',' || c.is_whitespace());
    if entries.is_empty() {
        return None;
    }
    entries.split(',').map(str::trim).find(|entry| is_covered(entry, name, port))
}

fn is_covered(entry: &str, name: &str, port: u16) -> bool {
    let mut parts = entry.split(':');
    let host = parts.next().unwrap_or_default();
    match parts.next() {
        Some(of) => ends_with(&format!("{name}:{port}"), &format!("{host}:{of}")),
        None => ends_with(name, host),
    }
}

/// Whether the text ends in what the pattern describes.
fn ends_with(text: &str, pattern: &str) -> bool {
    let mut pieces = pattern.rsplit('*');
    let last = pieces.next().unwrap_or_default();
    let Some(mut rest) = text.strip_suffix(last) else { return false };
    for piece in pieces {
        let Some(at) = rest.rfind(piece) else { return false };
        rest = &rest[..at];
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Ruby's `Regexp` says to each.
    #[test]
    fn decides_as_puppet_does() {
        for (no_proxy, expected) in [
            ("localhost, 127.0.0.1", None),
            ("example.com", Some("example.com")),
            ("localhost ,.example.com", Some(".example.com")),
            ("*.example.com", Some("*.example.com")),
            ("t.example.com", Some("t.example.com")),
            ("puppet*com", Some("puppet*com")),
            ("p*e*m", Some("p*e*m")),
            ("q*com", None),
            ("puppet.example", None),
            ("puppet.example.com:8140", Some("puppet.example.com:8140")),
            ("puppet.example.com:443", None),
            ("xample.com:8140", Some("xample.com:8140")),
            ("*", Some("*")),
            ("localhost,", None),
            ("localhost, , ", None),
            ("", None),
            (",", None),
            ("PUPPET.example.com", None),
        ] {
            assert_eq!(covers(no_proxy, "puppet.example.com", 8140), expected, "{no_proxy:?}");
        }
    }
}
