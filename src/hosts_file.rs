//! The hosts file, hosts(5): an address and its names on each line. No io.

use std::net::IpAddr;
use std::str::SplitWhitespace;

/// Where it is.
pub const PATH: &str = "/etc/hosts";

/// A line that leads somewhere.
#[derive(Clone, Debug)]
pub struct Line<'t> {
    /// Its number, from 1.
    pub number: usize,
    /// The whole of it, as it stands in the text.
    pub text: &'t str,
    /// Where it leads.
    pub ip: IpAddr,
    /// What leads there, as written.
    pub names: SplitWhitespace<'t>,
}

/// The lines of a file that have an address; what is none, and what is behind a `#`, is passed over.
pub fn lines(text: &str) -> impl Iterator<Item = Line<'_>> {
    text.lines().zip(1..).filter_map(|(text, number)| {
        let mut names = text.split('#').next()?.split_whitespace();
        let ip = names.next()?.parse().ok()?;
        Some(Line { number, text, ip, names })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passes_over_what_leads_nowhere() {
        let text = "# 192.0.2.9 a\n\n192.0.2.1\tB c # d\nnonsense e\n::1\n";
        let found = lines(text).map(|line| (line.number, line.ip.to_string(), line.names.collect::<Vec<_>>()));
        assert_eq!(found.collect::<Vec<_>>(), [(3, "192.0.2.1".into(), vec!["B", "c"]), (5, "::1".into(), vec![])]);
    }
}
