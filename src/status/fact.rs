//! The status as a fact: what `PuppetDB` is to answer for the fleet. Nothing in it changes from one run to the next but what
//! a human would call a change, and the server where `balance` draws another one for each run.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::mode::mode;
use super::{ConfigurationOrigin, RoleStatus, Status};
use crate::config::Config;
use crate::role::Table;

/// The fact.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Fact {
    /// The version that is installed.
    pub version: String,
    /// How the agent comes here: `proxy`, `alias`, either with `+port`, `none`, or `unknown`.
    pub mode: String,
    /// Where the configuration came from.
    pub configuration: ConfigurationOrigin,
    /// The roles by name.
    pub roles: BTreeMap<String, RoleFact>,
}

/// One role.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RoleFact {
    /// The server that its last tunnel went to, `NAME:PORT`. Where servers of one priority are drawn anew for each run, that is a
    /// change.
    pub server: Option<String>,
    /// Who names its servers, as the log has it.
    pub source: Option<String>,
    /// Whether DNS gives no newer answer than one that is past its TTL.
    pub stale: bool,
    /// Whether its last connection did not end as it should.
    pub failed: bool,
    /// Why the last one that did not, did not; without what differs from one to the next.
    pub last_error: Option<String>,
}

impl Fact {
    /// Of a status. `puppet_conf`: what it says; `None`: there is none. `hosts`: what the hosts file says.
    pub fn of(status: &Status, config: &Config, puppet_conf: Option<&str>, hosts: &str) -> Self {
        Fact {
            version: env!("CARGO_PKG_VERSION").into(),
            mode: mode(config, &Table::new(config, status.domain.clone()), puppet_conf, hosts),
            configuration: status.configuration.origin,
            roles: status.roles.iter().map(|role| (role.role.clone(), role.into())).collect(),
        }
    }

    /// As Facter reads it from an executable: a hash of facts by name, of which this is the one.
    pub fn to_json(&self) -> String {
        serde_json::to_string(&BTreeMap::from([("puppet_shim", self)])).unwrap_or_default() + "\n"
    }
}

impl From<&RoleStatus> for RoleFact {
    fn from(role: &RoleStatus) -> Self {
        RoleFact {
            server: role.last_server.clone(),
            source: role.source.as_ref().map(|source| source.words.clone()),
            stale: role.stale_since.is_some(),
            failed: role.last_failed,
            last_error: role.last_error.as_ref().map(|fault| fault.plain.as_ref().unwrap_or(&fault.what).clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::Bench;
    use super::*;
    use crate::dial::Did;
    use crate::tunnel::End;

    #[tokio::test]
    async fn says_where_the_host_is() {
        let bench = Bench::with_a_compiler_down();
        let fact = Fact::of(&bench.status(), &bench.config, None, "");
        let json: serde_json::Value = serde_json::from_str(&fact.to_json()).unwrap();
        let compile = &json["puppet_shim"]["roles"]["compile"];
        assert_eq!(compile["server"], "b.test:8140");
        assert_eq!(compile["source"], "srv _x-puppet._tcp.test");
        assert_eq!((&compile["stale"], &compile["failed"]), (&false.into(), &false.into()));
        assert_eq!(json["puppet_shim"]["configuration"], "file");
        assert_eq!(json["puppet_shim"]["mode"], "unknown");
    }

    /// A fact that is new with each run would be stored with each run, for each host.
    #[tokio::test]
    async fn the_same_again_is_the_same_fact() {
        let mut bench = Bench::with_a_compiler_down();
        let fact = |bench: &Bench| Fact::of(&bench.status(), &bench.config, None, "").to_json();
        let before = fact(&bench);
        bench.clocks.wall += std::time::Duration::from_secs(1800);
        bench.connected(&[("a.test:8140", Did::Refuse), ("b.test:8140", Did::Answer)], End::ClientClosed);
        assert_eq!(fact(&bench), before);
        bench.runs = false;
        assert_eq!(fact(&bench), before, "nor does it depend on whether a process runs");
    }
}
