//! What goes past a proxy, as Puppet decides it: `Puppet::HTTP::Proxy.no_proxy?` in `lib/puppet/http/proxy.rb`, which is
//! the same in Puppet 6.14 to 8.10 and in `OpenVox` 8.

/// What a `no_proxy` means for a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect<'n> {
    /// No entry counts for it: the proxy is asked.
    Proxied,
    /// It goes past the proxy, by this entry.
    Past(&'n str),
    /// Puppet raises a `TypeError` at this entry, which has no host, and the request fails.
    Fails(&'n str),
}

/// What `no_proxy` means for a connection to this name, as it is written, and this port.
///
/// The first entry that counts decides. One counts at the end of the name, with a dot before it or without; `*` stands for
/// anything; case counts; with a port it is for that port alone. Blanks around a comma belong to neither entry, those at
/// either end of the whole do. Empty entries at the end are none, for Ruby's `split` leaves them out; at one anywhere else
/// Puppet fails, unless an entry before it counts.
pub fn effect<'n>(no_proxy: &'n str, name: &str, port: u16) -> Effect<'n> {
    for entry in entries(no_proxy) {
        match is_covered(entry, name, port) {
            Some(false) => {}
            Some(true) => return Effect::Past(entry),
            None => return Effect::Fails(entry),
        }
    }
    Effect::Proxied
}

/// As `split(/\s*,\s*/)` has them.
fn entries(no_proxy: &str) -> Vec<&str> {
    let parts: Vec<_> = no_proxy.split(',').collect();
    let last = parts.len().saturating_sub(1);
    let trimmed = parts.into_iter().enumerate().map(|(n, part)| {
        let part = if n > 0 { part.trim_start_matches(is_blank) } else { part };
        if n < last { part.trim_end_matches(is_blank) } else { part }
    });
    let mut entries: Vec<_> = trimmed.collect();
    while entries.last().is_some_and(|entry| entry.is_empty()) {
        entries.pop();
    }
    entries
}

/// Ruby's `\s`.
fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n' | '\x0b' | '\x0c')
}

/// Whether an entry counts; `None`: it has no host, not even an empty one, as `split(':')` sees it.
fn is_covered(entry: &str, name: &str, port: u16) -> Option<bool> {
    // What is empty at the end is left out here, too.
    let mut parts = entry.trim_end_matches(':').split(':');
    let host = parts.next().unwrap_or_default();
    let of = parts.next();
    if host.is_empty() && of.is_none() {
        return None;
    }
    Some(match of {
        None => ends_with(name, host),
        // The port is no text to Puppet but a part of its expression, in which a `*` is any number of colons.
        Some("*") => ends_with(&format!("{name}:{port}"), host),
        Some(of) => ends_with(&format!("{name}:{port}"), &format!("{host}:{of}")),
    })
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
    use std::process::Command;

    use super::Effect::{Fails, Past, Proxied};
    use super::*;

    /// What is asked, and what it means for puppet.example.com:8140.
    const CASES: [(&str, Effect<'_>); 46] = [
        ("localhost, 127.0.0.1", Proxied),
        ("example.com", Past("example.com")),
        ("localhost ,.example.com", Past(".example.com")),
        ("*.example.com", Past("*.example.com")),
        ("t.example.com", Past("t.example.com")),
        ("other.test , uppet.example.com", Past("uppet.example.com")),
        ("m", Past("m")),
        ("puppet*com", Past("puppet*com")),
        ("p*e*m", Past("p*e*m")),
        ("q*com", Proxied),
        ("m*x*com", Proxied),
        ("puppet.example", Proxied),
        ("*.other.test", Proxied),
        ("puppetXexample.com", Proxied),
        ("PUPPET.example.com", Proxied),
        ("*", Past("*")),
        ("none", Proxied),
        ("puppet.example.com$", Proxied),
        // Ports.
        ("puppet.example.com:8140", Past("puppet.example.com:8140")),
        ("puppet.example.com:443", Proxied),
        ("xample.com:8140", Past("xample.com:8140")),
        ("xample.com:8140:7", Past("xample.com:8140:7")),
        ("example.com:", Past("example.com:")),
        ("*:8140", Past("*:8140")),
        ("*:*", Past("*:*")),
        ("*.example.com:*", Proxied),
        ("example.com::8140", Proxied),
        (":8140", Past(":8140")),
        (":443", Proxied),
        ("::1", Proxied),
        // Blanks.
        (" example.com", Proxied),
        ("example.com ", Proxied),
        ("x, example.com ", Proxied),
        (" example.com ,x", Proxied),
        ("x,\t example.com\t,y", Past("example.com")),
        ("x, example.com , y", Past("example.com")),
        ("", Proxied),
        (" ", Proxied),
        // Empty entries.
        (",", Proxied),
        ("localhost,", Proxied),
        ("localhost, , ", Proxied),
        ("example.com,,x", Past("example.com")),
        ("localhost,,x", Fails("")),
        ("localhost, ,example.com", Fails("")),
        (",example.com", Fails("")),
        ("x,:,y", Fails(":")),
    ];

    #[test]
    fn decides_as_puppet_does() {
        for (no_proxy, expected) in CASES {
            assert_eq!(effect(no_proxy, "puppet.example.com", 8140), expected, "{no_proxy:?}");
        }
    }

    /// Puppet itself, by the code of Debian's package.
    #[test]
    fn puppet_says_the_same() {
        let script = r#"
require "puppet"
require "puppet/http"
ARGV.each do |no_proxy|
  ENV["no_proxy"] = no_proxy
  begin
    puts Puppet::HTTP::Proxy.no_proxy?(URI("https://puppet.example.com:8140/"))
  rescue TypeError
    puts "fails"
  end
end
"#;
        let mut command = Command::new("/usr/bin/ruby");
        command.args(["-W0", "-e", script, "--"]).args(CASES.iter().map(|(no_proxy, _)| no_proxy));
        let output = command.output().expect("this test needs Debian's package puppet-agent");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let expected = CASES.map(|(_, effect)| match effect {
            Proxied => "false",
            Past(_) => "true",
            Fails(_) => "fails",
        });
        let said: Vec<_> = said.lines().collect();
        assert_eq!(said, expected, "{}", String::from_utf8_lossy(&output.stderr));
    }
}
