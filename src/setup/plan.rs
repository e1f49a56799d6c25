//! Present facts to what is to change, or to the reasons why it cannot. No io.

pub mod listeners;
mod roles;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;

use super::configuration::Wanted;
use super::facts::{Facts, Port};
use super::names::{self, Address};
use super::{Mode, hosts, puppet_conf};
use crate::config::{Config, Foreign};
use crate::discovery::Source;
use crate::host::{Host, HostPort};
use crate::no_proxy::{Effect, effect};
use crate::puppet::Settings;
use crate::role::{Role, Table};

/// What is to be so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Settings of `[main]` in `puppet.conf`.
    pub settings: Vec<puppet_conf::Wanted>,
    /// Keys of our own configuration.
    pub keys: Vec<(Vec<String>, Wanted)>,
    /// Lines of the hosts file; empty: none of ours.
    pub hosts: Vec<String>,
    /// Lines of the socket's drop-in; empty: no drop-in.
    pub drop_in: Vec<String>,
    /// Where puppet-shim has to listen once this is done.
    pub listens: Vec<SocketAddr>,
    /// For each role, where its connections will go and why.
    pub roles: Vec<String>,
    /// Why it cannot be done.
    pub refusals: Vec<String>,
    /// What the administrator should know.
    pub warnings: Vec<String>,
}

/// Decides.
pub fn plan(mode: Mode, facts: &Facts) -> Plan {
    let mut plan = Plan::default();
    if let Some(before) = facts.set_up.filter(|before| *before != mode) {
        plan.refusals
            .push(format!("this host is set up in {before} mode; put that back first: puppet-shim setup --undo"));
        return plan;
    }
    let config = facts.additions.applied(&facts.config);
    let table = Table::new(&config, facts.domain.clone());
    let Some(server) = facts.addresses.first() else { return plan };
    if !is_usable(server, &mut plan) {
        return plan;
    }
    plan.listen_to_dns(facts);
    plan.add_keys(facts);
    let asked = roles::decide(mode, facts, &table, &mut plan);
    plan.leave_the_choice(facts);
    match mode {
        Mode::Proxy | Mode::Port => plan.enter_by_proxy(facts, &asked),
        Mode::Alias => plan.enter_by_alias(facts, &asked),
    }
    // What is taken out last leaves Puppet a section to write the others into: in front of an empty one it would put them.
    plan.settings.sort_by_key(|(_, to)| to.is_none());
    plan
}

/// Whether the agent's server has a name that a certificate can have.
fn is_usable(server: &Address, plan: &mut Plan) -> bool {
    let is_local = matches!(&server.host, Host::Name(name) if name == "localhost" || name.ends_with(".localhost"));
    if is_local || matches!(server.host, Host::Ip(_)) {
        plan.refusals.push(format!(
            "server = {} in puppet.conf is no name that a server's certificate should have; name the site's official one: \
             puppet config set server puppet.example.com --section main",
            server.host
        ));
    }
    plan.refusals.is_empty()
}

impl Plan {
    /// What DNS has not said may be anything.
    fn listen_to_dns(&mut self, facts: &Facts) {
        for (role, of_role) in &facts.roles {
            let is_static = of_role.source == Some(Source::Static);
            if let Some(why) = of_role.unknown.as_ref().filter(|_| !is_static) {
                self.refusals.push(format!(
                    "DNS does not say which servers {role} has, {why}; what is set up now could be wrong: try again when it answers"
                ));
            }
            if let Some(trouble) = &of_role.trouble {
                self.warnings.push(format!("in DNS for role {role}: {trouble}"));
            }
        }
    }

    /// What our configuration has to know of the agent.
    fn add_keys(&mut self, facts: &Facts) {
        let additions = &facts.additions;
        for (key, value) in [("domain", &additions.domain), ("certname", &additions.certname)] {
            if let Some(value) = value {
                self.keys.push((vec![key.into()], Wanted::Text(value.clone())));
            }
        }
        let config = additions.applied(&facts.config);
        for role in &config.roles {
            if additions.names.iter().any(|(of, _)| *of == role.role) {
                let path = vec!["role".into(), role.role.to_string(), "names".into()];
                self.keys.push((path, Wanted::List(role.names.clone())));
            }
            if role.role.as_str() == Role::COMPILE && !additions.servers.is_empty() {
                let path = vec!["role".into(), role.role.to_string(), "servers".into()];
                self.keys.push((path, Wanted::List(role.servers.iter().map(names::written).collect())));
            }
            if additions.alone.contains(&role.role) {
                let path = vec!["role".into(), role.role.to_string(), "fallback".into()];
                self.keys.push((path, Wanted::Flag(false)));
            }
        }
    }

    /// The agent must not choose servers itself.
    fn leave_the_choice(&mut self, facts: &Facts) {
        if facts.agent.is_on("use_srv_records") {
            self.set("use_srv_records", "false");
        }
        // With it the agent would ask for each server by its own name, which means that very server, with no other to go
        // on to.
        if let Some(list) = facts.agent.get("server_list") {
            self.settings.push(("server_list".into(), None));
            self.replace(list, facts);
        }
    }

    /// What becomes of the agent's own list of servers, where it is not carried over.
    fn replace(&mut self, list: &str, facts: &Facts) {
        let Some(compile) = facts.roles.get(Role::COMPILE).filter(|_| facts.additions.servers.is_empty()) else {
            return;
        };
        let listed = names::server_list(&facts.agent);
        let by = match (&compile.source, listed) {
            (Some(Source::Srv(owner)), _) => format!("the SRV records {owner}"),
            (Some(Source::Static), Ok(listed)) if *roles::of_compile(&facts.config) == listed => return,
            (Some(Source::Static), _) => "`servers` of role compile in our configuration".into(),
            (_, Ok(_)) => return,
            (_, Err(why)) => {
                self.refusals.push(format!(
                    "server_list in puppet.conf has {why}; write HOST or HOST:PORT there, with commas between, so that it can be carried \
                     over"
                ));
                return;
            }
        };
        let servers = roles::list(compile.servers.iter().map(|(server, _)| server));
        self.warnings.push(format!(
            "server_list = {list} is taken out of puppet.conf, and not carried over: {by} name the servers of compile, {servers}"
        ));
    }

    /// Proxy mode, and port mode within it.
    fn enter_by_proxy(&mut self, facts: &Facts, asked: &[Address]) {
        let Some(listener) = listeners::enter(facts, self) else { return };
        if let Some(present) = present_proxy(facts).filter(|proxy| !is_ours(proxy, &facts.config)) {
            self.carry_over(&present, facts);
        }
        self.set("http_proxy_host", &listener.ip().to_string());
        self.set("http_proxy_port", &listener.port().to_string());
        self.warn_of_silence(facts);
        self.look_at_no_proxy(facts, asked);
        for variable in &facts.environment {
            let leads_here = || variable.value.parse().is_ok_and(|proxy| is_ours(&proxy, &facts.config));
            if variable.is("http_proxy") && !leads_here() {
                // Not its value: a password may be in there.
                self.warnings.push(format!(
                    "{} in {} goes before puppet.conf: an agent that has it in its environment goes past puppet-shim",
                    variable.name,
                    variable.place()
                ));
            }
        }
    }

    /// The site's own proxy serves what is not Puppet's.
    fn carry_over(&mut self, present: &HostPort, facts: &Facts) {
        match &facts.config.foreign {
            Foreign::Refuse => {
                self.keys.push((vec!["foreign".into()], Wanted::Text(format!("http://{present}"))));
                if facts.agent.get("http_proxy_user").is_some() {
                    self.warnings.push(
                        "http_proxy_user and http_proxy_password stay in puppet.conf: puppet-shim hands what the agent says to the \
                         proxy on, and keeps no password itself"
                            .into(),
                    );
                }
            }
            Foreign::Proxy(proxy) if proxy == present => {}
            other => {
                let says = match other {
                    Foreign::Proxy(proxy) => format!("http://{proxy}"),
                    _ => "direct".into(),
                };
                self.warnings.push(format!(
                    "the agent's proxy, {present}, is not carried over: the configuration says foreign = \"{says}\""
                ));
            }
        }
    }

    fn look_at_no_proxy(&mut self, facts: &Facts, asked: &[Address]) {
        let amiss = |no_proxy: &str| {
            asked.iter().find_map(|Address { host, port, .. }| match effect(no_proxy, &host.to_string(), *port) {
                Effect::Proxied => None,
                Effect::Past(entry) => {
                    Some((format!("{entry:?}"), format!("takes connections to {host} past every proxy")))
                }
                Effect::Fails(entry) => Some((format!("an entry without a host, {entry:?}"), "Puppet fails at".into())),
            })
        };
        if let Some((entry, does)) = facts.agent.get("no_proxy").and_then(amiss) {
            self.refusals.push(format!(
                "no_proxy in puppet.conf has {entry}, which {does}; leave it out (puppet config set no_proxy …), or use --mode alias"
            ));
        }
        for variable in facts.environment.iter().filter(|variable| variable.is("no_proxy")) {
            if let Some((entry, does)) = amiss(&variable.value) {
                self.warnings.push(format!(
                    "{} in {} has {entry}, which {does}: that holds for an agent with it in its environment",
                    variable.name,
                    variable.place()
                ));
            }
        }
    }

    /// Alias mode.
    fn enter_by_alias(&mut self, facts: &Facts, asked: &[Address]) {
        if let Some(proxy) = present_proxy(facts) {
            self.refusals.push(format!(
                "the agent has a proxy, {proxy}, and does not look at the hosts file for what it asks a proxy for; use --mode proxy"
            ));
        }
        let compile = facts.roles.get(Role::COMPILE);
        if !compile.is_some_and(|role| matches!(role.source, Some(Source::Srv(_) | Source::Static))) {
            let owners = compile.map(|role| role.owners.join(", ")).unwrap_or_default();
            self.refusals.push(format!(
                "alias mode needs SRV records ({owners}) or `servers`, for the hosts file takes the servers' name itself to this host; add \
                 them, or use --mode proxy"
            ));
        }
        let names = aliases(facts, asked);
        let addresses = listeners::alias(facts, asked, self);
        let others = hosts::entries(&facts.hosts, &names);
        for entry in &others {
            if !addresses.contains(&entry.address) {
                self.refusals.push(format!(
                    "line {} of the hosts file takes {} to {}, where puppet-shim does not listen, and goes before what is added; take \
                     it out",
                    entry.line, entry.name, entry.address
                ));
            }
        }
        let lacking: Vec<_> =
            names.iter().filter(|name| !others.iter().any(|entry| entry.name == **name)).cloned().collect();
        if !lacking.is_empty() {
            self.hosts = hosts::lines(&addresses, &lacking);
        }
        self.warn_of_silence(facts);
    }

    /// Where systemd is not there to be told, somebody else has to see to it.
    fn warn_of_silence(&mut self, facts: &Facts) {
        let silent: Vec<_> =
            self.listens.iter().filter(|address| facts.ports.get(address) == Some(&Port::Free)).collect();
        if !silent.is_empty() && !facts.has_systemd {
            let list = silent.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            self.warnings.push(format!(
                "nobody listens on {list} yet, and there is no systemd to see to it: until `puppet-shim run` has been started (anew) \
                 the agent reaches no server"
            ));
        }
    }

    fn set(&mut self, name: &str, value: &str) {
        self.settings.push((name.to_owned(), Some(value.to_owned())));
    }
}

/// The names that are to lead to loopback.
fn aliases(facts: &Facts, asked: &[Address]) -> Vec<Host> {
    let mut names: Vec<Host> = Vec::new();
    for address in asked {
        let is_name = matches!(address.host, Host::Name(_));
        if is_name && !facts.targets.contains_key(&address.host) && !names.contains(&address.host) {
            names.push(address.host.clone());
        }
    }
    names
}

/// The proxy that the agent has now, by its settings.
fn present_proxy(facts: &Facts) -> Option<HostPort> {
    let host = facts.agent.get("http_proxy_host")?.parse().ok()?;
    let port = facts.agent.number("http_proxy_port").and_then(|port| u16::try_from(port).ok())?;
    Some(HostPort { host, port })
}

/// Whether that is puppet-shim.
fn is_ours(proxy: &HostPort, config: &Config) -> bool {
    let is_here = match &proxy.host {
        Host::Ip(ip) => ip.is_loopback(),
        Host::Name(name) => name == "localhost",
    };
    is_here && config.listen.iter().any(|own| own.port() == proxy.port)
}

/// Whether plugins come from wherever `server` is.
fn is_default_source(agent: &Settings, setting: &str, path: &str) -> bool {
    agent.get(setting).is_none_or(|value| value == format!("puppet:///{path}"))
}

/// The port by which a role is told.
fn role_port(table: &Table, role: &str) -> Option<u16> {
    table.role(role)?.ports.first().copied()
}

/// Whether an address goes where it should.
fn goes_to(table: &Table, address: &Address, role: &str) -> bool {
    table.classify(&address.asked()).1.is_some_and(|of| of.role.as_str() == role)
}

/// Of each role that the agent has settings for: the setting's name.
const SERVER_SETTINGS: [(&str, &str, &str); 2] =
    [(names::CA, "ca_server", "ca_port"), (names::REPORT, "report_server", "report_port")];
