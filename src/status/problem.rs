//! What needs a human, out of the rest of the status. No io.

use std::time::Duration;

use super::{
    ConfigurationOrigin, Freshness, ListenerState, Problem, ProblemSeverity, RankStatus, RoleStatus, ServerStatus,
    Status,
};
use crate::moment::Moment;
use crate::verdict::REMEDY;

/// A fault of a role's last connection needs a human for so long, two runs of the agent; then it may be over, and is told all the
/// same.
const FRESH: Duration = Duration::from_secs(65 * 60);

/// All of it, the worst first.
pub(super) fn all(status: &Status) -> Vec<Problem> {
    let mut problems = Vec::new();
    configuration(status, &mut problems);
    for listener in &status.listeners {
        if listener.state == ListenerState::Failed {
            let why = listener.error.clone().unwrap_or_else(|| format!("cannot listen on {}", listener.address));
            let first = listener.help.as_deref().unwrap_or("see why, `journalctl -u puppet-shim`, and mend that");
            problems.push(error("listener", why, &format!("{first}; then `systemctl restart puppet-shim`")));
        }
    }
    for role in &status.roles {
        servers(role, status.at, &mut problems);
        dns(role, &mut problems);
    }
    problems.sort_by_key(|problem| problem.severity);
    problems
}

fn configuration(status: &Status, problems: &mut Vec<Problem>) {
    let configuration = &status.configuration;
    let what = match configuration.origin {
        ConfigurationOrigin::LastAccepted => Some("the last accepted configuration holds"),
        ConfigurationOrigin::DefaultsInstead => Some("the defaults hold"),
        ConfigurationOrigin::File | ConfigurationOrigin::Defaults => None,
    };
    let mend = "`puppet-shim check --offline` says what to write instead; then `systemctl reload puppet-shim`";
    if let Some(what) = what {
        let file = configuration.rejected.as_deref().unwrap_or("the file");
        problems.push(error("configuration", format!("{what}, since {file} cannot be used"), mend));
    } else if configuration.reload_failed.is_some() {
        let message = "the file was to be read again and cannot be used; what was read before holds".to_owned();
        problems.push(error("configuration", message, mend));
    }
}

fn servers(role: &RoleStatus, now: Moment, problems: &mut Vec<Problem>) {
    let about = format!("role {}", role.role);
    let current: Vec<&ServerStatus> = role.servers.iter().filter(|server| server.is_current).collect();
    let down: Vec<&ServerStatus> = current.iter().copied().filter(|server| server.rank == RankStatus::Down).collect();
    let list = |servers: &[&ServerStatus]| {
        let each = servers.iter().map(|server| {
            let cause = server.cause.as_deref().unwrap_or("failed");
            format!("{} {cause}", server.server)
        });
        each.collect::<Vec<_>>().join("; ")
    };
    if !down.is_empty() && down.len() == current.len() {
        let message = format!("no server is up: {}", list(&down));
        problems.push(error(&about, message, "see that one of them runs and can be reached from here"));
    } else if !down.is_empty() {
        let message = format!("{}; the others go first", list(&down));
        problems.push(warning(&about, message, "nothing on this host; it is tried again by itself"));
    } else if role.last_failed
        && let Some(fault) = &role.last_error
    {
        let is_fresh = fault.at.before(now) <= FRESH;
        let (problem, since): (fn(&str, String, &str) -> Problem, _) =
            if is_fresh { (error, String::new()) } else { (warning, format!(", at {}", fault.at)) };
        let message = format!("its last connection failed{since}: {}", fault.what);
        problems.push(problem(&about, message, "see its line in the log, `journalctl -u puppet-shim`"));
    }
    for server in current {
        for certificate in server.certificates.iter().filter(|certificate| certificate.verdict == "unnamed") {
            let has = certificate.detail.as_deref().unwrap_or("other names");
            let message = format!(
                "{}: its certificate is for {has}, not for {}; it is passed over",
                server.server, certificate.asked
            );
            problems.push(warning(&about, message, REMEDY));
        }
    }
}

fn dns(role: &RoleStatus, problems: &mut Vec<Problem>) {
    let about = format!("role {}", role.role);
    let ask_each = format!("see that a nameserver answers: `puppet-shim resolve --fresh {}` asks each", role.role);
    if let Some(since) = role.stale_since {
        let failure =
            role.records.iter().filter(|set| set.freshness == Freshness::Stale).find_map(|set| set.error.as_ref());
        let failure = failure.map(|failure| format!(" ({failure})")).unwrap_or_default();
        let message = format!("DNS gives no newer answer{failure}; what it said last is used, stale since {since}");
        problems.push(warning(&about, message, &ask_each));
    }
    for set in &role.records {
        if let (Freshness::None, Some(failure)) = (set.freshness, &set.error) {
            let message = format!("DNS gives no answer for {}: {failure}", set.owner);
            problems.push(warning(&about, message, &ask_each));
        }
        if let Some(first) = set.refused.first() {
            let more =
                if set.refused.len() > 1 { format!(" and {} more", set.refused.len() - 1) } else { String::new() };
            let message = format!("SRV records of {} passed over: {first}{more}", set.owner);
            problems.push(warning(&about, message, "see allow_targets and allow_ports, or correct the records"));
        }
    }
}

fn error(about: &str, message: String, help: &str) -> Problem {
    Problem { severity: ProblemSeverity::Error, about: about.into(), message, help: Some(help.into()) }
}

fn warning(about: &str, message: String, help: &str) -> Problem {
    Problem { severity: ProblemSeverity::Warning, about: about.into(), message, help: Some(help.into()) }
}
