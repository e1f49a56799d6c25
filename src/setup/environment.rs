//! Variables of the agent's environment that go before its settings.

use std::fs;
use std::path::{Path, PathBuf};

use crate::puppet::environment::Variables;

/// One that is set, and that Puppet heeds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable {
    /// The file that sets it; `None`: the environment of this command.
    pub file: Option<PathBuf>,
    /// Its name, as written.
    pub name: String,
    /// Of `no_proxy` its value, of `http_proxy` the proxy alone: a password may be in the rest.
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
    let mut found = heeded(None, &Variables::own());
    for file in files {
        let text = fs::read_to_string(file).unwrap_or_default();
        found.extend(heeded(Some(file), &Variables::of_service(&text)));
    }
    found
}

/// What Puppet takes from among these before its settings.
fn heeded(file: Option<&Path>, variables: &Variables) -> Vec<Variable> {
    let proxy = variables.http_proxy().map(|(name, proxy)| (name, proxy.to_string()));
    let no_proxy = variables.no_proxy().map(|(name, value)| (name, value.to_owned()));
    let variable =
        |(name, value): (&str, String)| Variable { file: file.map(Path::to_owned), name: name.into(), value };
    [proxy, no_proxy].into_iter().flatten().map(variable).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<(String, String)> {
        let found = heeded(Some(Path::new("/etc/default/puppet")), &Variables::of_service(text));
        assert!(found.iter().all(|one| one.place() == "/etc/default/puppet"));
        found.into_iter().map(|one| (one.name, one.value)).collect()
    }

    #[test]
    fn what_counts() {
        let both = found("HTTP_PROXY=\"http://u:secret@b:2\"\nNO_PROXY=a\nno_proxy='.example.com'\nhttps_proxy=x\n");
        assert_eq!(both, [("HTTP_PROXY", "b:2"), ("no_proxy", ".example.com")].map(|(n, v)| (n.into(), v.into())));
        // An empty one is set, and hides the other.
        let empty = found("http_proxy=\nHTTP_PROXY=http://b:2\nno_proxy=\nNO_PROXY=example.com\n");
        assert_eq!(empty, [("no_proxy".to_owned(), String::new())]);
        // To systemd that is no variable.
        assert_eq!(found("export http_proxy=http://b:2\n"), []);
    }
}
