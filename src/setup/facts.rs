//! What is so on this host, and in DNS, before anything is decided.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::certificate::Names;
use crate::config::{Config, StaticServer};
use crate::discovery::{NoAddress, Source};
use crate::host::{Host, HostPort};
use crate::puppet::Settings;
use crate::role::Role;

use super::Mode;
use super::environment::Variable;
use super::names::Address;

/// All of it.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The agent's settings.
    pub agent: Settings,
    /// What the settings name.
    pub addresses: Vec<Address>,
    /// Our configuration as the file has it.
    pub config: Config,
    /// What it has to say besides, for the agent as it is.
    pub additions: Additions,
    /// The domain, with that.
    pub domain: Option<String>,
    /// The roles, by name.
    pub roles: BTreeMap<String, RoleFacts>,
    /// Names in the settings that are servers of a role just now, and by that mean those very servers.
    pub targets: BTreeMap<Host, Role>,
    /// The text of the hosts file.
    pub hosts: String,
    /// The lines that are ours in the socket's drop-in.
    pub drop_in: Vec<String>,
    /// Who has the addresses that may be listened on.
    pub ports: BTreeMap<SocketAddr, Port>,
    /// Where the socket's unit listens; `None`: there is none, or systemd does not say.
    pub unit: Option<Vec<SocketAddr>>,
    /// Whether systemd runs this host.
    pub has_systemd: bool,
    /// What goes before the settings.
    pub environment: Vec<Variable>,
    /// The mode that this host has been set up in.
    pub set_up: Option<Mode>,
}

/// What our configuration has to say beside what it does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Additions {
    /// The domain.
    pub domain: Option<String>,
    /// The agent's certname, where it is not the host's full name.
    pub certname: Option<String>,
    /// Names that mean a role.
    pub names: Vec<(Role, Host)>,
    /// Roles among these that the compilers are not to stand in for: the name is that of a server of its own, which has no
    /// records.
    pub alone: Vec<Role>,
    /// The agent's own list of servers, where nobody else names those of `compile`.
    pub servers: Vec<StaticServer>,
}

/// What is known of a role.
#[derive(Clone, Debug, Default)]
pub struct RoleFacts {
    /// Who names its servers.
    pub source: Option<Source>,
    /// The SRV records that were looked for, and are not there or have named them.
    pub owners: Vec<String>,
    /// DNS has not said whether they are there, and why.
    pub unknown: Option<String>,
    /// What else is wrong in DNS, such as records that may not be used.
    pub trouble: Option<String>,
    /// Its servers, and the names that they have shown.
    pub servers: Vec<(HostPort, Shown)>,
    /// The names that the agent may ask for, the best first.
    pub names: Vec<Host>,
}

/// What a server's certificate has shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shown {
    /// That it has this name; others were not looked at.
    Name(Host),
    /// Its names.
    Names(Names),
    /// Nothing, and why.
    Nothing(String),
    /// Nothing: it has no address.
    Nowhere(NoAddress),
}

/// Who has an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Port {
    /// Nobody has.
    Free,
    /// puppet-shim, or systemd for it.
    Ours,
    /// Somebody else: who, for a sentence.
    Others(String),
    /// This host has no such address: no IPv6.
    Absent,
}

impl RoleFacts {
    /// Why none of its servers can be reached at all; `None`: one has an address, or it has no servers.
    pub fn nowhere(&self) -> Option<&NoAddress> {
        let whys = self.servers.iter().map(|(_, shown)| if let Shown::Nowhere(why) = shown { Some(why) } else { None });
        whys.collect::<Option<Vec<_>>>()?.into_iter().next()
    }

    /// Whether it has servers of its own, and not those of `compile` or whoever has the name.
    pub fn has_own(&self) -> bool {
        matches!(self.source, Some(Source::Srv(_) | Source::Static)) && !self.servers.is_empty()
    }
}

impl Shown {
    /// Whether the certificate has the name; `None`: that is not known.
    pub fn has(&self, name: &Host) -> Option<bool> {
        match self {
            Shown::Name(one) => (one == name).then_some(true),
            Shown::Names(names) => Some(names.covers(name)),
            Shown::Nothing(_) | Shown::Nowhere(_) => None,
        }
    }
}

impl Additions {
    /// The configuration with them.
    pub fn applied(&self, config: &Config) -> Config {
        let mut config = config.clone();
        config.domain = self.domain.clone().or(config.domain);
        config.certname = self.certname.clone().or(config.certname);
        for (role, name) in &self.names {
            if let Some(of) = config.roles.iter_mut().find(|of| of.role == *role) {
                of.names.push(name.to_string());
            }
        }
        if let Some(compile) = config.roles.iter_mut().find(|of| of.role.as_str() == Role::COMPILE)
            && !self.servers.is_empty()
        {
            compile.servers.clone_from(&self.servers);
        }
        for of in config.roles.iter_mut().filter(|of| self.alone.contains(&of.role)) {
            of.fallback = false;
        }
        config
    }
}
