//! What cannot be seen in one value alone: errors and warnings about several of them together.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use super::diagnostic::{Problem, quoted};
use super::draft::{Draft, RoleDraft};
use super::findings::{At, Findings, Span};
use super::unit::write_duration;
use super::{Balance, Dnssec, Foreign, Transport, keys};
use crate::host::Host;
use crate::pattern::Pattern;
use crate::role::Role;

/// The longest drain that `TimeoutStopSec=` in systemd/puppet-shim.service leaves time for, with what comes before and after.
const UNIT_DRAIN: Duration = Duration::from_secs(15 * 60);

/// Finds what makes the configuration unusable.
pub(super) fn errors(draft: &Draft, findings: &mut Findings<'_>) {
    listeners(draft, findings);
    remote_listeners(draft, findings);
    shared_names(draft, findings);
    shared_ports(draft, findings);
    own_listeners(draft, findings);
    compile_fallback(draft, findings);
    if let (Some(connect), Some(budget)) = (&draft.connect, &draft.budget)
        && connect.value > budget.value
        && let Some(span) = connect.span.as_ref().or(budget.span.as_ref())
    {
        let (connect, budget) = (write_duration(connect.value), write_duration(budget.value));
        findings.error(
            span,
            Problem::new(
                format!("connect, {connect}, is longer than budget, {budget}, which bounds all attempts together"),
                "write a longer budget or a shorter connect",
            ),
        );
    }
}

/// Finds what probably does not do what was meant, in a configuration that can be used.
pub(super) fn warnings(draft: &Draft, findings: &mut Findings<'_>) {
    repetitions(draft, findings);
    for role in &draft.roles {
        unreachable_role(role, draft, findings);
        if has_records(role, draft) {
            idle_preferences(role, draft, findings);
            idle_bounds(role, draft, findings);
        } else {
            without_records(role, findings);
        }
    }
    ca_fallback(draft, findings);
    if let Some(At { value: true, span: Some(span) }) = &draft.allow_remote_clients
        && draft.listen.iter().all(|listener| is_loopback(listener.value.ip()))
    {
        findings.warning(
            span,
            Problem::new("allow_remote_clients changes nothing: every listener is on loopback", "leave it out"),
        );
    }
    if let (Some(At { value: false, .. }), Some(At { span: Some(span), .. })) = (&draft.check, &draft.ca_file) {
        findings.warning(
            span,
            Problem::new(
                "ca_file changes nothing: check = false, so no certificate is looked at",
                "leave one of them out",
            ),
        );
    }
    unused_files(draft, findings);
    cut_drain(draft, findings);
    if let (Some(timeout), Some(budget)) = (&draft.dns_timeout, &draft.budget)
        && timeout.value >= budget.value
        && let Some(span) = timeout.span.as_ref().or(budget.span.as_ref())
    {
        findings.warning(
            span,
            Problem::new(
                format!(
                    "one slow DNS answer, {}, can use up the budget of {}",
                    write_duration(timeout.value),
                    write_duration(budget.value)
                ),
                "write a longer budget or a shorter DNS timeout",
            ),
        );
    }
}

/// No two may want the same socket.
fn listeners(draft: &Draft, findings: &mut Findings<'_>) {
    for (at, listener) in draft.listen.iter().enumerate() {
        // Port 0 is another port each time.
        let Some(earlier) = draft.listen[..at].iter().find(|e| e.value.port() != 0 && takes(e.value, listener.value))
        else {
            continue;
        };
        if let Some(span) = &listener.span {
            findings.error(
                span,
                Problem::new(
                    format!("{} and the listener {} need the same socket", listener.value, earlier.value),
                    "leave one of them out",
                ),
            );
        }
    }
}

/// Whether two listeners cannot both be bound: the same address, or one that stands for all of its family.
fn takes(a: SocketAddr, b: SocketAddr) -> bool {
    let (x, y) = (a.ip().to_canonical(), b.ip().to_canonical());
    a.port() == b.port() && x.is_ipv4() == y.is_ipv4() && (x == y || x.is_unspecified() || y.is_unspecified())
}

/// Whoever reaches a listener uses this host's way to the servers, so others on the network must be let in
/// deliberately.
fn remote_listeners(draft: &Draft, findings: &mut Findings<'_>) {
    if draft.allow_remote_clients.as_ref().is_none_or(|allowed| allowed.value) {
        return;
    }
    for At { value, span } in &draft.listen {
        if let Some(span) = span
            && !is_loopback(value.ip())
        {
            findings.error(
                span,
                Problem::new(
                    format!("{value} is not on loopback: anyone who can reach it could use this host's way to the servers"),
                    "write a loopback address such as 127.0.0.1 or, if that is meant, allow_remote_clients = true at the top level",
                ),
            );
        }
    }
}

fn is_loopback(ip: IpAddr) -> bool {
    // `::ffff:127.0.0.1` is loopback too.
    ip.to_canonical().is_loopback()
}

/// A name leads to one role.
fn shared_names(draft: &Draft, findings: &mut Findings<'_>) {
    let domain = draft.domain.as_ref().map(|at| at.value.as_str());
    let same = |a: &String, b: &String| bare(a, domain) == bare(b, domain);
    clashes(&rows(draft, |role| &role.names), "name", same, |name| quoted(name), findings);
}

/// A port leads to one role.
fn shared_ports(draft: &Draft, findings: &mut Findings<'_>) {
    clashes(&rows(draft, |role| &role.ports), "port", u16::eq, u16::to_string, findings);
}

/// Every value of one kind with its role, what is written last at the end: there an error about two of them belongs.
fn rows<'d, T>(draft: &'d Draft, of: impl Fn(&'d RoleDraft) -> &'d Vec<At<T>>) -> Vec<(&'d str, &'d At<T>)> {
    let mut rows: Vec<_> =
        draft.roles.iter().flat_map(|role| of(role).iter().map(|at| (role.role.as_str(), at))).collect();
    rows.sort_by_key(|(_, at)| at.span.as_ref().map(|span| span.start));
    rows
}

/// Reports each value that another role has had before.
fn clashes<T>(
    rows: &[(&str, &At<T>)],
    noun: &str,
    same: impl Fn(&T, &T) -> bool,
    show: impl Fn(&T) -> String,
    findings: &mut Findings<'_>,
) {
    for (index, (role, At { value, span })) in rows.iter().enumerate() {
        let mut earlier = rows[..index].iter();
        let Some((other, first)) = earlier.find(|(other, at)| other != role && same(&at.value, value)) else {
            continue;
        };
        let Some(span) = span else { continue };
        let origin = match &first.span {
            Some(span) => format!("line {}", findings.place(span.start).line),
            None => "a default".to_owned(),
        };
        let message = format!("{} is already a {noun} of the role {other} ({origin})", show(value));
        findings.error(span, Problem::new(message, format!("write a {noun} that only {role} has")));
    }
}

/// The name without the domain: one without a dot counts under the domain too.
fn bare<'n>(name: &'n str, domain: Option<&str>) -> &'n str {
    domain
        .and_then(|domain| name.strip_suffix(domain)?.strip_suffix('.'))
        .filter(|short| !short.contains('.'))
        .unwrap_or(name)
}

/// A connection sent to one of our own listeners would come back to us for ever.
fn own_listeners(draft: &Draft, findings: &mut Findings<'_>) {
    for role in &draft.roles {
        for At { value: server, span } in &role.servers {
            // Without a port the requested one is dialled, which may be any of the role's.
            let ports: Vec<_> = match server.port {
                Some(port) => vec![port],
                None => role.ports.iter().map(|at| at.value).collect(),
            };
            if let Some((listener, span)) = own(draft, &server.host, &ports).zip(span.as_ref()) {
                findings.error(
                    span,
                    Problem::new(
                        format!("this server is our own listener {listener}: the connection would come back for ever"),
                        "write the server's own address, or leave it out",
                    ),
                );
            }
        }
    }
    if let Some(At { value: Foreign::Proxy(proxy), span: Some(span) }) = &draft.foreign
        && let Some(listener) = own(draft, &proxy.host, &[proxy.port])
    {
        findings.error(
            span,
            Problem::new(
                format!("this proxy is our own listener {listener}: the connection would come back for ever"),
                "write the address of another proxy, \"direct\" or \"refuse\"",
            ),
        );
    }
}

/// The listener that a connection to this host on one of these ports would reach.
fn own(draft: &Draft, host: &Host, ports: &[u16]) -> Option<SocketAddr> {
    let reaches = |listener: IpAddr| match host {
        Host::Ip(ip) => {
            listener.to_canonical() == ip.to_canonical()
                || listener.is_unspecified() && (is_loopback(*ip) || ip.is_unspecified())
        }
        Host::Name(name) => name == "localhost" && (is_loopback(listener) || listener.is_unspecified()),
    };
    draft.listen.iter().map(|at| at.value).find(|listener| ports.contains(&listener.port()) && reaches(listener.ip()))
}

/// The records of compile are what others fall back to.
fn compile_fallback(draft: &Draft, findings: &mut Findings<'_>) {
    for role in draft.roles.iter().filter(|role| role.role.as_str() == "compile") {
        if let Some(At { span: Some(span), .. }) = &role.fallback {
            findings.error(
                span,
                Problem::new(
                    "compile has no fallback: its own records are what the other roles fall back to",
                    "leave this line out",
                ),
            );
        }
    }
}

/// Allowed, for a site whose compilers are all CAs too.
fn ca_fallback(draft: &Draft, findings: &mut Findings<'_>) {
    for role in draft.roles.iter().filter(|role| role.role.as_str() == "ca") {
        if let Some(At { value: true, span: Some(span) }) = &role.fallback {
            findings.warning(
                span,
                Problem::new(
                    "certificate requests and the request for the CA's own certificate could go to a compiler that is no CA",
                    "leave it out unless every compiler is a CA",
                ),
            );
        }
    }
}

/// Values that are written twice in one list.
fn repetitions(draft: &Draft, findings: &mut Findings<'_>) {
    let domain = draft.domain.as_ref().map(|at| at.value.as_str());
    for role in &draft.roles {
        repeated(
            &role.names,
            |a, b| bare(a, domain) == bare(b, domain),
            |name, first| {
                if name == first {
                    format!("{} is written twice", quoted(name))
                } else {
                    format!(
                        "{} says the same as {}: a name without a dot counts under the domain too",
                        quoted(name),
                        quoted(first)
                    )
                }
            },
            findings,
        );
        repeated(&role.ports, |a, b| a == b, |port, _| format!("{port} is written twice"), findings);
        repeated(&role.servers, |a, b| a == b, |_, _| "this server is written twice".into(), findings);
        for patterns in [&role.prefer, &role.allow_targets] {
            repeated(patterns, |a, b| a == b, |pattern, _| format!("\"{pattern}\" is written twice"), findings);
        }
        let ranges = role.allow_ports.as_deref().unwrap_or_default();
        repeated(ranges, |a, b| a == b, |range, _| format!("{} is written twice", write_ports(range)), findings);
    }
    repeated(
        &draft.nameservers,
        |a, b| a.address == b.address,
        |server, first| {
            if server == first {
                format!("the nameserver {server} is written twice")
            } else {
                format!("the nameserver {server} has the same address and port as {first}")
            }
        },
        findings,
    );
}

fn repeated<T>(
    items: &[At<T>],
    same: impl Fn(&T, &T) -> bool,
    say: impl Fn(&T, &T) -> String,
    findings: &mut Findings<'_>,
) {
    for (index, At { value, span }) in items.iter().enumerate() {
        if let Some(first) = items[..index].iter().find(|first| same(&first.value, value))
            && let Some(span) = span
        {
            findings.warning(span, Problem::new(say(value, &first.value), "leave one of them out"));
        }
    }
}

/// Whether the role has SRV records, its own or those of compile.
fn has_records(role: &RoleDraft, draft: &Draft) -> bool {
    let own = |role: &RoleDraft| role.srv.as_ref().is_some_and(|at| at.value.is_some());
    let falls_back = role.fallback.as_ref().is_some_and(|at| at.value);
    own(role) || falls_back && draft.roles.iter().any(|role| role.role.as_str() == Role::COMPILE && own(role))
}

/// A way to choose, where nothing is to be chosen or nothing can be, and what records may say, where there are none.
fn without_records(role: &RoleDraft, findings: &mut Findings<'_>) {
    let nothing_to_choose = match role.servers.len() {
        0 => "so there is nothing to choose from",
        1 => "and one server is nothing to choose from",
        _ => "and its servers are tried in the order written",
    };
    let mut warn = |key: &str, span: Option<&Span>, why: &str| {
        let Some(span) = span else { return };
        let message = format!("{key} changes nothing: the role {} has no SRV records, {why}", role.role);
        findings.warning(span, Problem::new(message, "leave it out"));
    };
    if let Some(At { value: Balance::Hash | Balance::LeastLoaded, span }) = &role.balance {
        warn("balance", span.as_ref(), nothing_to_choose);
    }
    warn("prefer", first_span(&role.prefer), nothing_to_choose);
    warn("allow_targets", first_span(&role.allow_targets), "and it bounds nothing else");
    warn("allow_ports", role.allow_ports.as_deref().and_then(first_span), "and it bounds nothing else");
}

/// Where a list is written: its first item.
fn first_span<T>(items: &[At<T>]) -> Option<&Span> {
    items.first()?.span.as_ref()
}

/// Patterns in `prefer` that no server matches, or none that an earlier one has not matched.
fn idle_preferences(role: &RoleDraft, draft: &Draft, findings: &mut Findings<'_>) {
    for (index, At { value: pattern, span }) in role.prefer.iter().enumerate() {
        let Some(span) = span else { continue };
        let mut earlier = role.prefer[..index].iter().map(|at| &at.value);
        let problem = if let Some(problem) = without_domain(pattern, draft) {
            problem
        } else if !may_be_allowed(pattern, role) {
            Problem::new(
                format!("\"{pattern}\" changes nothing: allow_targets allows no server that it matches"),
                "leave it out, or write it in allow_targets too",
            )
        } else if let Some(wider) = earlier.find(|earlier| earlier.covers(pattern) && *earlier != pattern) {
            Problem::new(
                format!("\"{pattern}\" changes nothing: \"{wider}\" before it has matched the same servers"),
                "write it before that one, or leave it out",
            )
        } else {
            continue;
        };
        findings.warning(span, problem);
    }
}

/// Whether there can be a server that the pattern matches and `allow_targets` allows. Of two patterns with a server in
/// common one covers the other.
fn may_be_allowed(pattern: &Pattern, role: &RoleDraft) -> bool {
    let mut allowed = role.allow_targets.iter().map(|at| &at.value);
    role.allow_targets.is_empty() || allowed.any(|allowed| allowed.covers(pattern) || pattern.covers(allowed))
}

/// Patterns in `allow_targets`, and ranges in `allow_ports`, that allow nothing, or nothing that another one does not.
/// Unlike with `prefer`, the order does not matter.
fn idle_bounds(role: &RoleDraft, draft: &Draft, findings: &mut Findings<'_>) {
    for At { value: pattern, span } in &role.allow_targets {
        let Some(span) = span else { continue };
        let mut others = role.allow_targets.iter().map(|at| &at.value);
        if let Some(problem) = without_domain(pattern, draft) {
            findings.warning(span, problem);
        } else if let Some(wider) = others.find(|other| other.covers(pattern) && *other != pattern) {
            findings.warning(span, allowed_anyway(&format!("\"{pattern}\""), &format!("\"{wider}\"")));
        }
    }
    let ranges = role.allow_ports.as_deref().unwrap_or_default();
    for At { value: range, span } in ranges {
        let covers = |other: &RangeInclusive<u16>| other.contains(range.start()) && other.contains(range.end());
        let mut others = ranges.iter().map(|at| &at.value);
        if let Some(wider) = others.find(|other| covers(other) && *other != range)
            && let Some(span) = span
        {
            findings.warning(span, allowed_anyway(&write_ports(range), &write_ports(wider)));
        }
    }
}

fn allowed_anyway(what: &str, wider: &str) -> Problem {
    Problem::new(format!("{what} changes nothing: {wider} allows it too"), "leave one of them out")
}

/// As the file has it: `8140`, `"8140-8149"`.
fn write_ports(range: &RangeInclusive<u16>) -> String {
    let (first, last) = (range.start(), range.end());
    if first == last { first.to_string() } else { format!("\"{first}-{last}\"") }
}

/// What to say of a pattern that is a name without a dot.
fn without_domain(pattern: &Pattern, draft: &Draft) -> Option<Problem> {
    let Pattern::Exact(Host::Name(name)) = pattern else { return None };
    let domain = draft.domain.as_ref().map_or("example.com", |at| &at.value);
    (!name.contains('.')).then(|| {
        Problem::new(
            format!("{} matches no server: the targets of SRV records are whole names", quoted(name)),
            format!("write its domain too, such as \"{name}.{domain}\""),
        )
    })
}

/// Files of `[dns]` that nobody reads.
fn unused_files(draft: &Draft, findings: &mut Findings<'_>) {
    if let (Some(At { value: Dnssec::Off, .. }), Some(At { span: Some(span), .. })) =
        (&draft.dnssec, &draft.trust_anchor)
    {
        findings.warning(
            span,
            Problem::new(
                "trust_anchor changes nothing: dnssec is \"off\", so no signature is looked at",
                "write dnssec = \"prefer\" or \"require\", or leave it out",
            ),
        );
    }
    if let Some(At { span: Some(span), .. }) = &draft.dns_ca_file
        && draft.nameservers.iter().all(|server| server.value.transport == Transport::Plain)
    {
        findings.warning(
            span,
            Problem::new(
                "ca_file changes nothing: no nameserver in servers is asked over TLS",
                "write one as \"tls://ADDRESS\", or leave it out",
            ),
        );
    }
}

/// A stop that systemd ends before it is over.
fn cut_drain(draft: &Draft, findings: &mut Findings<'_>) {
    let Some(At { value: drain, span: Some(span) }) = &draft.drain else { return };
    if *drain > UNIT_DRAIN {
        let minutes = drain.as_secs().div_ceil(60) + 1;
        findings.warning(
            span,
            Problem::new(
                format!(
                    "drain, {}, is longer than {}: puppet-shim.service has TimeoutStopSec=16min, and what is open then is cut",
                    write_duration(*drain),
                    write_duration(UNIT_DRAIN)
                ),
                format!(
                    "write a shorter drain, or with `systemctl edit puppet-shim.service` TimeoutStopSec={minutes}min under [Service], \
                     which is not looked at here"
                ),
            ),
        );
    }
}

/// A role that no connection can have: its rows of the table (name, port) are missing or cannot be reached.
fn unreachable_role(role: &RoleDraft, draft: &Draft, findings: &mut Findings<'_>) {
    let Some(span) = &role.header else { return };
    if !role.names.is_empty() {
        return;
    }
    let name = role.role.as_str();
    if role.ports.is_empty() {
        let builtin = ["ca", "compile", "files", "report"];
        let message = format!("nothing leads to the role {name}: it has neither names nor ports");
        let help = match keys::nearest(name, builtin).filter(|near| *near != name) {
            Some(near) => format!("write names or ports, or [role.{near}] if that role is meant"),
            None => "write names or ports".to_owned(),
        };
        findings.warning(span, Problem::new(message, help));
        return;
    }
    // A port tells the role with an official name, or as a listener's own.
    let official = draft.roles.iter().any(|role| role.role.as_str() == "compile" && !role.names.is_empty());
    let listening =
        draft.listen.iter().any(|listener| role.ports.iter().any(|port| port.value == listener.value.port()));
    if !official && !listening {
        findings.warning(
            span,
            Problem::new(
                format!("nothing leads to the role {name}: its ports count with a name of compile, or on a listener of theirs"),
                "write names for it or for compile",
            ),
        );
    }
}
