//! The hosts file: which names lead to loopback in alias mode.

use std::net::IpAddr;

use super::block;
use crate::host::Host;
use crate::hosts_file;

/// A line of somebody else's that names one of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its number, from 1.
    pub line: usize,
    /// Where it leads.
    pub address: IpAddr,
    /// The name of ours.
    pub name: Host,
}

/// The lines that lead these names to these addresses.
pub fn lines(addresses: &[IpAddr], names: &[Host]) -> Vec<String> {
    let names = names.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    addresses.iter().map(|address| format!("{address} {names}")).collect()
}

/// Lines outside our block that name one of `names`: the C library takes the first of them, whatever comes later.
pub fn entries(text: &str, names: &[Host]) -> Vec<Entry> {
    let ours = block::lines(text);
    let mut entries = Vec::new();
    for line in hosts_file::lines(text).filter(|line| !ours.iter().any(|own| std::ptr::eq(*own, line.text))) {
        for name in line.names.filter_map(|word| word.parse::<Host>().ok()).filter(|name| names.contains(name)) {
            entries.push(Entry { line: line.number, address: line.ip, name });
        }
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Vec<Host> {
        vec!["puppet.example.com".parse().unwrap(), "puppetca.example.com".parse().unwrap()]
    }

    #[test]
    fn writes_a_line_for_each_address() {
        let addresses = ["127.0.0.1".parse().unwrap(), "::1".parse().unwrap()];
        assert_eq!(
            lines(&addresses, &names()),
            ["127.0.0.1 puppet.example.com puppetca.example.com", "::1 puppet.example.com puppetca.example.com"]
        );
    }

    #[test]
    fn finds_what_others_say() {
        let others =
            "# 192.0.2.9 puppet.example.com\n192.0.2.1\tother Puppet.Example.Com. # ours\nnonsense\n192.0.2.2 puppet\n";
        let text = block::put(others, &lines(&["127.0.0.1".parse().unwrap()], &names()));
        let expected = Entry { line: 2, address: "192.0.2.1".parse().unwrap(), name: names()[0].clone() };
        assert_eq!(entries(&text, &names()), [expected]);
    }
}
