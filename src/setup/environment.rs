//! Variables of the agent's environment that go before its settings.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

/// Those that Puppet heeds (`lib/puppet/http/proxy.rb`), in both spellings.
const VARIABLES: [&str; 2] = ["http_proxy", "no_proxy"];

/// One that is set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable {
    /// The file that sets it; `None`: the environment of this command.
    pub file: Option<PathBuf>,
    /// Its name, as written.
    pub name: String,
    /// What it is set to.
    pub value: String,
}

impl Variable {
    /// Whether it is the one of this name, in either spelling.
    pub fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }

    /// Where it is set, for a sentence.
    pub fn place(&self) -> String {
        self.file.as_ref().map_or_else(|| "the environment of this command".into(), |file| file.display().to_string())
    }
}

/// Those that are set for this command, and in these files, which the agent's service reads.
pub fn look(files: &[PathBuf]) -> Vec<Variable> {
    let mut found: Vec<_> = env::vars()
        .filter(|(name, value)| is_one(name) && !value.is_empty())
        .map(|(name, value)| Variable { file: None, name, value })
        .collect();
    for file in files {
        found.extend(fs::read_to_string(file).map(|text| read(file, &text)).unwrap_or_default());
    }
    found
}

/// `NAME=VALUE` lines, as a shell and systemd's `EnvironmentFile=` both have them.
fn read(file: &Path, text: &str) -> Vec<Variable> {
    let assignment = |line: &str| {
        let line = line.trim();
        let (name, value) = line.strip_prefix("export ").unwrap_or(line).trim_start().split_once('=')?;
        let value = value.trim().trim_matches(['"', '\'']);
        let one = || Variable { file: Some(file.to_owned()), name: name.to_owned(), value: value.to_owned() };
        (is_one(name) && !value.is_empty()).then(one)
    };
    text.lines().filter_map(assignment).collect()
}

fn is_one(name: &str) -> bool {
    VARIABLES.iter().any(|one| name == *one || name == one.to_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_assignments() {
        let text = "# HTTP_PROXY=http://a:1\nHTTP_PROXY=\"http://b:2\"\n export no_proxy='.example.com'\nhttps_proxy=x\nhttp_proxy=\nHttp_Proxy=y\n";
        let found = read(Path::new("/etc/default/puppet"), text);
        let found: Vec<_> = found.iter().map(|one| (one.name.as_str(), one.value.as_str())).collect();
        assert_eq!(found, [("HTTP_PROXY", "http://b:2"), ("no_proxy", ".example.com")]);
    }
}
