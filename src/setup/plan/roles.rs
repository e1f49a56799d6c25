//! Which name or port takes the agent to each role, and whether the servers' certificates have that name.

use std::cmp::Reverse;

use super::{Plan, SERVER_SETTINGS, goes_to, is_default_source, role_port};
use crate::config::{Config, StaticServer};
use crate::discovery::{NoAddress, Source};
use crate::host::{Host, HostPort};
use crate::role::{Role, Table};
use crate::setup::Mode;
use crate::setup::facts::{Facts, RoleFacts, Shown};
use crate::setup::names::{self, Address, SOURCES};

/// Servers of one role that a sentence names.
const NAMED: usize = 3;

/// Decides for every role, and gives what the agent will ask for: names and ports.
pub(super) fn decide(mode: Mode, facts: &Facts, table: &Table, plan: &mut Plan) -> Vec<Address> {
    let mut asked: Vec<Address> = Vec::new();
    let none = RoleFacts::default();
    for (at, address) in facts.addresses.iter().enumerate() {
        let is_new = !facts.addresses[..at].iter().any(|other| other.host == address.host);
        if let Some(role) = facts.targets.get(&address.host).filter(|_| is_new) {
            plan.warnings.push(format!(
                "{} = {} names one of the servers of {role}: connections go to that one alone, with no other to go on to; better name \
                 the official name",
                address.setting, address.host
            ));
        }
    }
    let server = &facts.addresses[0];
    let compile = facts.roles.get(Role::COMPILE).unwrap_or(&none);
    if !facts.targets.contains_key(&server.host) {
        check(compile, Role::COMPILE, std::slice::from_ref(&server.host), mode, plan);
    }
    plan.roles.push(line(Role::COMPILE, &server.asked().to_string(), compile));
    asked.push(server.clone());
    for (role, server_setting, port_setting) in SERVER_SETTINGS {
        let Some(present) = facts.addresses.iter().find(|address| address.setting == server_setting) else { continue };
        let of_role = facts.roles.get(role).unwrap_or(&none);
        let mut address = present.clone();
        let is_target = facts.targets.get(&present.host).is_some_and(|of| of.as_str() == role);
        let is_told = is_target || goes_to(table, present, role);
        if is_told {
            check_told(of_role, &address, facts, mode, plan);
        } else if of_role.has_own() {
            if mode == Mode::Port {
                let Some(port) = usable_port(table, role, present, plan) else { continue };
                check(of_role, role, std::slice::from_ref(&address.host), mode, plan);
                plan.set(port_setting, &port.to_string());
                address.port = port;
            } else {
                let Some(name) = name_of(of_role, role, mode, plan) else { continue };
                plan.set(server_setting, &name.to_string());
                address.host = name;
            }
        } else {
            plan.roles.push(format!("{role}: no servers of its own, as compile"));
            continue;
        }
        plan.roles.push(line(role, &address.asked().to_string(), of_role));
        asked.push(address);
    }
    decide_files(mode, facts, table, &mut asked, plan);
    asked
}

/// Plugins, which two URLs name.
fn decide_files(mode: Mode, facts: &Facts, table: &Table, asked: &mut Vec<Address>, plan: &mut Plan) {
    let none = RoleFacts::default();
    let of_role = facts.roles.get(names::FILES).unwrap_or(&none);
    let server = &facts.addresses[0];
    let mut chosen = None;
    for (setting, path) in SOURCES {
        if let Some(present) = facts.addresses.iter().find(|address| address.setting == setting) {
            check_told(of_role, present, facts, mode, plan);
            asked.push(present.clone());
        } else if is_default_source(&facts.agent, setting, path) && of_role.has_own() {
            if chosen.is_none() {
                chosen = choose_files(mode, of_role, server, table, plan);
            }
            let Some(address) = &chosen else { return };
            let authority = if mode == Mode::Port { address.asked().to_string() } else { address.host.to_string() };
            plan.set(setting, &format!("puppet://{authority}/{path}"));
            asked.push(address.clone());
        }
    }
    match asked.iter().find(|address| address.role == names::FILES) {
        Some(address) => plan.roles.push(line(names::FILES, &address.asked().to_string(), of_role)),
        None => plan.roles.push(format!("{}: no servers of its own, as compile", names::FILES)),
    }
}

fn choose_files(mode: Mode, of_role: &RoleFacts, server: &Address, table: &Table, plan: &mut Plan) -> Option<Address> {
    let mut address = Address { setting: SOURCES[0].0, role: names::FILES, ..server.clone() };
    if mode == Mode::Port {
        address.port = usable_port(table, names::FILES, server, plan)?;
        check(of_role, names::FILES, std::slice::from_ref(&address.host), mode, plan);
    } else {
        address.host = name_of(of_role, names::FILES, mode, plan)?;
    }
    Some(address)
}

/// A name that is the agent's already.
fn check_told(of_role: &RoleFacts, address: &Address, facts: &Facts, mode: Mode, plan: &mut Plan) {
    if !facts.targets.contains_key(&address.host) {
        check(of_role, address.role, std::slice::from_ref(&address.host), mode, plan);
    }
}

/// The port that tells the role, under the name of `address`.
fn usable_port(table: &Table, role: &str, address: &Address, plan: &mut Plan) -> Option<u16> {
    let Address { setting, host, .. } = address;
    if !goes_to(table, address, Role::COMPILE) {
        plan.refusals.push(format!(
            "{setting} = {host} in puppet.conf is not the site's official name, under which alone the port tells the role; name that one, or \
             use --mode proxy"
        ));
        return None;
    }
    let port = role_port(table, role);
    if port.is_none() {
        plan.refusals.push(format!(
            "role {role} has servers of its own and no port by which it could be told; give it one: role.{role}.ports"
        ));
    }
    port
}

/// The name of its own by which the role's servers can be asked.
fn name_of(of_role: &RoleFacts, role: &str, mode: Mode, plan: &mut Plan) -> Option<Host> {
    if of_role.names.is_empty() {
        plan.refusals.push(format!(
            "role {role} has servers of its own and no name by which it could be told; give it one: role.{role}.names"
        ));
    }
    check(of_role, role, &of_role.names, mode, plan)
}

/// The first of these names that the servers' certificates have; refuses where there is none, and warns where some lack
/// it, or that is not known.
fn check(of_role: &RoleFacts, role: &str, names: &[Host], mode: Mode, plan: &mut Plan) -> Option<Host> {
    let count = |name: &Host, has| of_role.servers.iter().filter(|(_, shown)| shown.has(name) == Some(has)).count();
    let score = |name: &Host| (count(name, true), Reverse(count(name, false)));
    let (first, others) = names.split_first()?;
    if let Some(why) = of_role.nowhere().filter(|_| !is_refused_already(of_role, role, mode)) {
        plan.refusals.push(nowhere(of_role, role, why));
        return None;
    }
    let best = others.iter().fold(first, |best, name| if score(name) > score(best) { name } else { best });
    let lacking: Vec<_> = of_role.servers.iter().filter(|(_, shown)| shown.has(best) == Some(false)).collect();
    let list = list(lacking.iter().map(|(server, _)| server));
    if !lacking.is_empty() && lacking.len() == of_role.servers.len() {
        let wanted = names.iter().map(ToString::to_string).collect::<Vec<_>>().join(" nor ");
        let way_out = if mode == Mode::Port || role == Role::COMPILE {
            "have the certificates made anew with it (dns_alt_names)"
        } else {
            "have the certificates made anew with it (dns_alt_names), or use --mode port, for which the name in `server` is enough"
        };
        let neither = if names.len() > 1 { "neither " } else { "" };
        plan.refusals.push(format!(
            "no server of {role} has {neither}{wanted} in its certificate ({list}), and every agent would refuse it; {way_out}"
        ));
        return None;
    }
    if !lacking.is_empty() {
        plan.warnings.push(format!("{list} of role {role} lacks {best} in its certificate, and will come last"));
    }
    let unclear = of_role.servers.iter().find_map(|(server, shown)| match shown {
        Shown::Nothing(why) => Some((server, why.clone())),
        Shown::Nowhere(why) => Some((server, why.to_string())),
        Shown::Name(_) | Shown::Names(_) => None,
    });
    if let Some((server, why)) = unclear {
        plan.warnings
            .push(format!("whether {server} of role {role} has {best} in its certificate is not known: it {why}"));
    }
    Some(best.clone())
}

/// Alias mode is refused for want of records or a list, whatever DNS has of the name.
fn is_refused_already(of_role: &RoleFacts, role: &str, mode: Mode) -> bool {
    mode == Mode::Alias && role == Role::COMPILE && of_role.source == Some(Source::Name)
}

/// The refusal where no server of a role has an address: every run would fail.
fn nowhere(of_role: &RoleFacts, role: &str, why: &NoAddress) -> String {
    let servers = list(of_role.servers.iter().map(|(server, _)| server));
    let way_out = match (why, &of_role.source) {
        (NoAddress::Failed(_), _) => "try again when DNS answers".to_owned(),
        (_, Some(Source::Name)) => {
            let owners = of_role.owners.join(", ");
            let records = if owners.is_empty() { String::new() } else { format!(" ({owners})") };
            format!(
                "add SRV records{records}, or its servers to our configuration (role.{role}.servers), or an address of that name to DNS"
            )
        }
        _ => "add their addresses to DNS, or name other servers".to_owned(),
    };
    format!(
        "role {role} has no server that the agent could be taken to: {servers} {why}, and the hosts file is not asked; {way_out}"
    )
}

/// The servers of `compile` in our configuration.
pub(super) fn of_compile(config: &Config) -> &[StaticServer] {
    let compile = config.roles.iter().find(|role| role.role.as_str() == Role::COMPILE);
    compile.map(|role| role.servers.as_slice()).unwrap_or_default()
}

/// What a role's connections will do, in a line.
fn line(role: &str, asked: &str, of_role: &RoleFacts) -> String {
    let source = of_role.source.as_ref().map_or_else(|| "nobody".to_owned(), ToString::to_string);
    let servers = if of_role.servers.is_empty() {
        "no server".into()
    } else {
        list(of_role.servers.iter().map(|(server, _)| server))
    };
    format!("{role}: {asked}, to {servers} (by {source})")
}

/// As many as a sentence has room for.
pub(super) fn list<'s>(servers: impl ExactSizeIterator<Item = &'s HostPort>) -> String {
    let others = servers.len().saturating_sub(NAMED);
    let list = servers.take(NAMED).map(ToString::to_string).collect::<Vec<_>>().join(", ");
    if others > 0 { format!("{list} and {others} more") } else { list }
}
