//! The environments in which an agent may run, as far as they name proxies.

use std::fs;

use super::units::Systemd;
use crate::puppet::ENVIRONMENT_FILES;
use crate::puppet::environment::{Proxy, Variables};

/// What a login, or cron, gives to all (`pam_env(7)`); systemd gives its units none of it.
const EVERYBODYS: &str = "/etc/environment";

/// The agent's unit, as a place where variables are set.
const UNIT: &str = "puppet.service";

/// Which runs of the agent have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Runs {
    /// Those that who runs `check` would start.
    Own,
    /// Those of the agent's service.
    Service,
    /// Those from a login or cron.
    Login,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Environment {
    /// Which runs have it.
    pub(super) runs: Runs,
    /// How many variables in the agent's unit systemd has not shown.
    pub(super) unshown: usize,
    /// Where it comes from, for a sentence, and what is set there. What is later goes before what is earlier.
    layers: Vec<(String, Variables)>,
    all: Variables,
}

impl Environment {
    /// This process's own, that of the agent's service, and that of everybody.
    pub(super) fn all(systemd: &Systemd) -> Vec<Self> {
        let mut service = Self::new(Runs::Service);
        match systemd {
            Systemd::Here(units) => {
                let (unit, unshown) = Variables::of_unit(&units.agent_environment);
                if !units.agent_environment.is_empty() {
                    service.add(UNIT, unit);
                }
                service.unshown = unshown;
                service.read(units.agent_environment_files.iter().map(String::as_str), Variables::of_service);
            }
            // A script starts it then, and a shell reads them.
            Systemd::Absent => service.read(ENVIRONMENT_FILES, Variables::of_login),
        }
        let mut own = Self::new(Runs::Own);
        own.add("this environment", Variables::own());
        let mut login = Self::new(Runs::Login);
        login.read([EVERYBODYS], Variables::of_login);
        [own, service, login].into_iter().filter(|environment| !environment.layers.is_empty()).collect()
    }

    fn new(runs: Runs) -> Self {
        Environment { runs, unshown: 0, layers: Vec::new(), all: Variables::default() }
    }

    /// One that one file makes.
    #[cfg(test)]
    pub(super) fn of_file(runs: Runs, path: &str, text: &str) -> Self {
        let mut environment = Self::new(runs);
        environment.add(path, Variables::of_login(text));
        environment
    }

    fn add(&mut self, origin: &str, variables: Variables) {
        self.all.extend(variables.clone());
        self.layers.push((origin.to_owned(), variables));
    }

    fn read<'f>(&mut self, files: impl IntoIterator<Item = &'f str>, parse: fn(&str) -> Variables) {
        for file in files {
            if let Ok(text) = fs::read_to_string(file) {
                self.add(file, parse(&text));
            }
        }
    }

    /// The proxy that Puppet takes before that of its settings.
    pub(super) fn http_proxy(&self) -> Option<(&'static str, Proxy)> {
        self.all.http_proxy()
    }

    /// What Puppet takes in place of its setting `no_proxy`.
    pub(super) fn no_proxy(&self) -> Option<(&'static str, &str)> {
        self.all.no_proxy()
    }

    /// Whether both have this variable with the same value.
    pub(super) fn shares(&self, name: &str, other: &Self) -> bool {
        self.all.get(name).is_some() && self.all.get(name) == other.all.get(name)
    }

    /// Where all of it comes from.
    pub(super) fn origins(&self) -> impl Iterator<Item = &str> {
        self.layers.iter().map(|(origin, _)| origin.as_str())
    }

    /// Where a variable comes from.
    pub(super) fn origin(&self, name: &str) -> &str {
        let sets = |layer: &&(String, Variables)| layer.1.get(name).is_some();
        self.layers.iter().rev().find(sets).map(|(origin, _)| origin.as_str()).unwrap_or_default()
    }

    /// How a variable is got rid of.
    pub(super) fn remove(&self, name: &str) -> String {
        match self.runs {
            Runs::Own => format!("`unset {name}`, and take it out of what sets it: root's profile, or the crontab's head"),
            Runs::Service if self.origin(name) == UNIT => format!(
                "`systemctl cat {UNIT}` shows which file sets it, the unit or a drop-in: take it out of `Environment=` there, then \
                 `systemctl daemon-reload` and `systemctl restart puppet`"
            ),
            Runs::Service => format!("take {name} out of {}, then `systemctl restart puppet`", self.origin(name)),
            // What else goes through that proxy stays as it is. All four, for each of them goes before a setting.
            Runs::Login => "start such runs with `env -u http_proxy -u HTTP_PROXY -u no_proxy -u NO_PROXY puppet agent --test`, in a \
                            crontab too; others may need it"
                .into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::units::Units;
    use super::*;

    fn service(units: Units) -> Environment {
        let all = Environment::all(&Systemd::Here(units));
        all.into_iter().find(|environment| environment.runs == Runs::Service).unwrap()
    }

    #[test]
    fn a_unit() {
        let shown = "LANG=C \"no_proxy=localhost, .example.com\" http_proxy=http://b:1";
        let unit = service(Units { agent_environment: shown.into(), ..Units::default() });
        assert_eq!(unit.no_proxy(), Some(("no_proxy", "localhost, .example.com")));
        assert_eq!(unit.http_proxy().unwrap().1.to_string(), "b:1");
        assert_eq!(unit.origins().collect::<Vec<_>>(), ["puppet.service"]);
        assert!(unit.remove("http_proxy").starts_with("`systemctl cat puppet.service` shows which file"));
        let unit = service(Units { agent_environment: "A=b [unprintable]".into(), ..Units::default() });
        assert_eq!(unit.unshown, 1);
    }

    #[test]
    fn files_go_before_the_unit() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        fs::write(path("a"), "export HTTP_PROXY=http://a\nNO_PROXY=a\n").unwrap();
        fs::write(path("b"), "http_proxy=http://b\n").unwrap();
        let units = Units {
            agent_environment: "http_proxy=http://unit NO_PROXY=unit".into(),
            agent_environment_files: ["a", "absent", "b"].map(path).to_vec(),
            ..Units::default()
        };
        let service = service(units);
        assert_eq!(service.http_proxy().unwrap().1.to_string(), "b:80");
        assert_eq!((service.origin("http_proxy"), service.origin("NO_PROXY")), (&*path("b"), &*path("a")));
        assert_eq!(service.origins().collect::<Vec<_>>(), ["puppet.service", &path("a"), &path("b")]);
        assert_eq!(
            service.remove("NO_PROXY"),
            format!("take NO_PROXY out of {}, then `systemctl restart puppet`", path("a"))
        );
    }

    #[test]
    fn what_two_share() {
        let of = |text: &str| Environment::of_file(Runs::Login, "/etc/environment", text);
        assert!(of("a=1\nb=2").shares("a", &of("a=1")));
        assert!(!of("a=1").shares("a", &of("a=2")));
        assert!(!of("a=1").shares("b", &of("a=1")));
    }
}
