//! The environments in which an agent may run, as far as they name proxies.

use std::env;
use std::fs;

use super::units::Systemd;
use crate::puppet::ENVIRONMENT_FILES;

/// What a login, or cron, gives to all (`pam_env(7)`).
const EVERYBODYS: &str = "/etc/environment";

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Environment {
    /// Where it comes from, for a sentence: `/etc/default/puppet`.
    pub(super) origin: String,
    is_file: bool,
    variables: Vec<(String, String)>,
}

impl Environment {
    /// This process's own, that of the agent's service, and the files that either is made from.
    pub(super) fn all(systemd: &Systemd) -> Vec<Self> {
        let own =
            env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        let own = Environment { origin: "this environment".into(), is_file: false, variables: own.collect() };
        let mut all = vec![own];
        let mut files: Vec<String> = ENVIRONMENT_FILES.iter().chain([&EVERYBODYS]).map(ToString::to_string).collect();
        if let Systemd::Here(units) = systemd {
            let text = units.agent_environment.split(' ').collect::<Vec<_>>().join("\n");
            if !text.is_empty() {
                all.push(Self { is_file: false, ..Self::file("puppet.service", &text) });
            }
            let more = units.agent_environment_files.iter().filter(|file| !ENVIRONMENT_FILES.contains(&file.as_str()));
            files.extend(more.cloned());
        }
        let read = files.iter().filter_map(|path| Some(Self::file(path, &fs::read_to_string(path).ok()?)));
        all.extend(read);
        all
    }

    /// That in a file's text: `NAME=VALUE`, perhaps after `export`, perhaps in quotes (systemd.exec(5)).
    pub(super) fn file(path: &str, text: &str) -> Self {
        let variable = |line: &str| {
            let line = line.trim();
            let (name, value) = line.strip_prefix("export ").unwrap_or(line).split_once('=')?;
            let value = value.trim();
            let bare = ['"', '\''].iter().find_map(|quote| value.strip_prefix(*quote)?.strip_suffix(*quote));
            Some((name.trim().trim_start_matches('"').to_owned(), bare.unwrap_or(value).to_owned()))
        };
        let lines = text.lines().filter(|line| !line.trim_start().starts_with(['#', ';']));
        Environment { origin: path.into(), is_file: true, variables: lines.filter_map(variable).collect() }
    }

    /// The proxy that Puppet takes before that of its settings.
    pub(super) fn proxy(&self) -> Option<(&'static str, &str)> {
        self.first(["http_proxy", "HTTP_PROXY"])
    }

    /// What Puppet takes in place of its setting `no_proxy`.
    pub(super) fn no_proxy(&self) -> Option<(&'static str, &str)> {
        self.first(["no_proxy", "NO_PROXY"])
    }

    /// How a variable is got rid of.
    pub(super) fn remove(&self, name: &str) -> String {
        let origin = &self.origin;
        if self.is_file {
            format!("take {name} out of {origin}, then `systemctl restart puppet`")
        } else if origin == "puppet.service" {
            "`systemctl edit --full puppet.service`, take it out of `Environment=`, then `systemctl restart puppet`"
                .into()
        } else {
            format!("`unset {name}`, and take it out of what sets it: root's profile, or the crontab's head")
        }
    }

    /// As Ruby's `ENV[a] || ENV[b]`: one that is empty counts. Of one that is set twice the last.
    fn first<const N: usize>(&self, names: [&'static str; N]) -> Option<(&'static str, &str)> {
        names.into_iter().find_map(|name| {
            let (_, value) = self.variables.iter().rev().find(|(known, _)| known == name)?;
            Some((name, value.as_str()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::units::Units;
    use super::*;

    #[test]
    fn reads_files() {
        let text = "# http_proxy=a\nexport http_proxy=\"http://b:1\"\nNO_PROXY='x, y'\n HTTP_PROXY = c\nno\n";
        let file = Environment::file("/etc/default/puppet", text);
        assert_eq!(file.proxy(), Some(("http_proxy", "http://b:1")));
        assert_eq!(file.no_proxy(), Some(("NO_PROXY", "x, y")));
        assert_eq!(Environment::file("x", "HTTP_PROXY=1\nHTTP_PROXY=2").proxy(), Some(("HTTP_PROXY", "2")));
        assert_eq!(Environment::file("x", "http_proxy=\nHTTP_PROXY=2").proxy(), Some(("http_proxy", "")));
    }

    #[test]
    fn reads_a_unit() {
        let units = Units { agent_environment: "LANG=C http_proxy=http://b:1".into(), ..Units::default() };
        let all = Environment::all(&Systemd::Here(units));
        let unit = all.iter().find(|environment| environment.origin == "puppet.service").unwrap();
        assert_eq!(unit.proxy(), Some(("http_proxy", "http://b:1")));
        assert!(unit.remove("http_proxy").starts_with("`systemctl edit"));
    }
}
