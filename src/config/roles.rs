//! The `[role.NAME]` tables.

use super::diagnostic::{Problem, quoted};
use super::draft::RoleDraft;
use super::section::Section;
use super::{keys, value};

/// Reads them all: a known role keeps what its table does not say, another NAME adds a role.
pub(super) fn read(tables: &mut Section<'_, '_>, roles: &mut Vec<RoleDraft>) {
    for (name, span) in tables.written_keys() {
        if !is_role_name(&name) {
            let message = format!("{} is not a name for a role", quoted(&name));
            tables.error(&span, Problem::new(message, "write a lower-case letter, then letters, digits, - or _"));
            continue;
        }
        let Some(mut table) = tables.table(&name, &format!("role.{name}"), Some(&keys::ROLE)) else { continue };
        let known = roles.iter().position(|draft| draft.role.as_str() == name);
        let mut role = known.map_or_else(|| RoleDraft::new(&name), |at| roles.remove(at));
        role.header = Some(span);
        read_one(&mut table, &mut role);
        roles.insert(known.unwrap_or(roles.len()), role);
    }
}

fn read_one(table: &mut Section<'_, '_>, role: &mut RoleDraft) {
    table.read_list("names", &mut role.names, "\"puppet\"", value::name);
    table.read_list("ports", &mut role.ports, "8140", value::port);
    table.read("srv", &mut role.srv, value::srv);
    table.read("fallback", &mut role.fallback, value::boolean);
    table.read_list("servers", &mut role.servers, "\"compiler1.example.com\"", value::static_server);
    table.read("balance", &mut role.balance, value::balance);
    table.read_list("prefer", &mut role.prefer, "\"*.fra.example.com\"", value::preferred);
    table.read_list("allow_targets", &mut role.allow_targets, "\"*.example.com\"", value::target);
    let mut ports = Vec::new();
    table.read_list("allow_ports", &mut ports, "8140, \"9140-9149\"", value::ports);
    role.allow_ports = (!ports.is_empty()).then_some(ports);
    if let Some(span) = table.empty_list("allow_ports") {
        let message = "no port is allowed, so no record could be used";
        table.error(&span, Problem::new(message, "write ports, or leave the key out for the default"));
    }
}

/// `[a-z][a-z0-9_-]*`: it is a word in logs, in metrics and on the command line.
fn is_role_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-'))
}
