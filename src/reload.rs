//! What is different in a configuration that has been read again. No io.

use std::net::SocketAddr;

use crate::config::Config;

/// What becomes of the listeners.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Whether each of those that are there stays.
    pub stays: Vec<bool>,
    /// What is to be bound.
    pub bind: Vec<SocketAddr>,
}

/// Compares what is listened on with what is wanted now. `current`: each listener by the name that the configuration had
/// for it, and whether the service manager holds it: what it holds stays, since its unit is the admin's word too.
pub fn plan(current: &[(SocketAddr, bool)], wanted: &[SocketAddr]) -> Plan {
    let mut bind = wanted.to_vec();
    let stays = current
        .iter()
        .map(|(addr, is_held)| {
            let at = bind.iter().position(|wanted| wanted == addr);
            if let Some(at) = at {
                bind.remove(at);
            }
            at.is_some() || *is_held
        })
        .collect();
    Plan { stays, bind }
}

/// The settings that are different, as the log names them: a key at the top level, else its table.
pub fn changed(old: &Config, new: &Config) -> Vec<String> {
    let Config {
        listen,
        idle_exit,
        allow_remote_clients,
        domain,
        certname,
        foreign,
        roles,
        timeouts,
        limits,
        dns,
        certificates,
        status,
    } = old;
    let settings = [
        ("listen", *listen != new.listen),
        ("idle_exit", *idle_exit != new.idle_exit),
        ("allow_remote_clients", *allow_remote_clients != new.allow_remote_clients),
        ("domain", *domain != new.domain),
        ("certname", *certname != new.certname),
        ("foreign", *foreign != new.foreign),
        ("timeouts", *timeouts != new.timeouts),
        ("limits", *limits != new.limits),
        ("dns", *dns != new.dns),
        ("certificates", *certificates != new.certificates),
        ("status", *status != new.status),
    ];
    let settings = settings.into_iter().filter(|(_, is_different)| *is_different).map(|(name, _)| name.to_owned());
    let mut named: Vec<String> = roles
        .iter()
        .filter(|role| !new.roles.contains(role))
        .chain(new.roles.iter().filter(|role| !roles.contains(role)))
        .map(|role| format!("role.{}", role.role))
        .collect();
    named.sort();
    named.dedup();
    settings.chain(named).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn config(text: &str) -> Config {
        Config::parse(text.as_bytes(), Path::new("f")).unwrap().config
    }

    #[test]
    fn listeners_that_are_wanted_still_stay() {
        let [a, b, c, any] = addresses(&["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3", "127.0.0.1:0"])[..] else {
            unreachable!()
        };
        let current = [(a, false), (b, true), (any, false), (any, false)];
        let expected = Plan { stays: vec![false, true, true, false], bind: vec![c] };
        assert_eq!(plan(&current, &[c, any]), expected);
        let expected = Plan { stays: vec![true, true, true, true], bind: vec![] };
        assert_eq!(plan(&current, &[any, b, a, any]), expected);
        assert_eq!(plan(&[], &[a]), Plan { stays: vec![], bind: vec![a] });
    }

    #[test]
    fn what_is_different_is_named() {
        let old = config("[role.compile]\nservers = [\"a\"]\n[role.x]\nports = [1]\n[timeouts]\npin = \"1s\"\n");
        assert_eq!(changed(&old, &old), [""; 0]);
        let new = config(
            "listen = [\"127.0.0.1:1\"]\nforeign = \"direct\"\n[role.compile]\nservers = [\"b\"]\n[role.y]\nports = [1]\n\
             [dns]\ntimeout = \"1s\"\n",
        );
        let names = ["listen", "foreign", "timeouts", "dns", "role.compile", "role.x", "role.y"];
        assert_eq!(changed(&old, &new), names);
    }

    /// No setting may be forgotten here: each of a file that has them all shows.
    #[test]
    fn every_setting_is_compared() {
        let everything = config(include_str!("../tests/config/valid/everything.toml"));
        let names = changed(&Config::default(), &everything);
        let expected = [
            "listen",
            "idle_exit",
            "allow_remote_clients",
            "domain",
            "certname",
            "foreign",
            "timeouts",
            "limits",
            "dns",
            "certificates",
            "status",
            "role.artifacts-2",
            "role.ca",
            "role.compile",
        ];
        assert_eq!(names, expected);
    }
}
