//! A role on the page: who names its servers, the way of its last connections, its servers. No io.

use maud::{Markup, html};

use super::drawing::drawing;
use super::html::{name, when};
use super::span::{Count, Size, Span, latency};
use super::way::Way;
use crate::moment::Moment;
use crate::status::{
    CertificateStatus, Freshness, RankStatus, RecordSetStatus, RoleStatus, ServerStatus, Standing, Status,
};

/// What the lines of the drawings mean.
pub(super) fn legend() -> Markup {
    html! {
        p class="legend" {
            @for (class, width, words) in [
                ("carried", 5, "carried"),
                ("broken", 5, "broken by the server"),
                ("refused", 5, "refused"),
                ("vain", 2, "tried in vain"),
                ("none", 2, "not lately"),
            ] {
                span {
                    svg viewBox="0 0 36 12" aria-hidden="true" { path class=(class) stroke-width=(width) d="M0 6 H36" {} }
                    " " (words)
                }
            }
        }
    }
}

/// The role.
pub(super) fn role(status: &Status, role: &RoleStatus) -> Markup {
    let way = Way::of(status, role);
    let (class, word) = stands(role);
    html! {
        article id={ "role-" (role.role) } aria-labelledby={ "name-" (role.role) } {
            div class="head" {
                h3 id={ "name-" (role.role) } { (role.role) }
                span class={ "badge " (class) } { (word) }
                span class="means" { (names(role)) }
            }
            p class="source" { (source(role, status.at)) }
            @if way.counts.all() > 0 || !way.goals.is_empty() { (drawing(&way, &listener(status))) }
            @if !role.servers.is_empty() { (servers(role, status.at)) }
            @if !role.records.is_empty() { (records(&role.records)) }
        }
    }
}

fn stands(role: &RoleStatus) -> (&'static str, &'static str) {
    let current = || role.servers.iter().filter(|server| server.is_current);
    let down = current().filter(|server| server.rank == RankStatus::Down).count();
    match current().count() {
        0 if role.last.is_none() => ("idle", "not used yet"),
        0 => ("idle", "no server known"),
        all if down == all => ("error", "no server up"),
        _ if role.last_failed => ("error", "last connection failed"),
        _ if down > 0 => ("warning", "one server less"),
        _ if role.stale_since.is_some() => ("warning", "DNS is stale"),
        _ => ("good", "well"),
    }
}

fn names(role: &RoleStatus) -> String {
    let ports: Vec<_> = role.ports.iter().map(ToString::to_string).collect();
    let mut words = Vec::new();
    if !role.names.is_empty() {
        words.push(role.names.join(", "));
    }
    if !ports.is_empty() {
        words.push(format!("port {}", ports.join(", ")));
    }
    words.join("; ")
}

fn source(role: &RoleStatus, now: Moment) -> Markup {
    html! {
        @match &role.source {
            None => "Nobody has asked for it yet, so nothing is known of its servers.",
            Some(source) => {
                @match source.kind.as_str() {
                    "srv" => { "Its servers are named by the SRV records of " code { (source.owner.as_deref().unwrap_or_default()) } },
                    "fallback" => { "It has no SRV records of its own; those of compile serve, " code { (source.owner.as_deref().unwrap_or_default()) } },
                    "static" => "Its servers are those of the configuration",
                    "name" => "Nobody names servers, so it is the name that the agent asks for",
                    _ => { "Its servers: " (source.words) },
                }
                @if let Some(since) = role.stale_since {
                    ", " span class="bad" { "which DNS does not renew; stale since " (when(since, now)) }
                } @else if let Some(seconds) = role.ttl_left_seconds {
                    ", good for " (whole(seconds))
                }
                ". Chosen by " code { (role.balance) } "."
            },
        }
        @if let Some(last) = role.last {
            " Last connection " (when(last, now))
            @if let Some(server) = &role.last_server { ", to " code { (server) } }
            "; " (Count(role.totals.carried)) " carried, " (Count(role.totals.broken)) " broken, " (Count(role.totals.refused)) " refused, "
            (Size(role.totals.bytes_up)) " up, " (Size(role.totals.bytes_down)) " down."
        }
        @if let Some(fault) = &role.last_error {
            br;
            span class=(if role.last_failed { "bad" } else { "past" }) {
                (if role.last_failed { "Its last connection failed " } else { "Its last fault was " }) (when(fault.at, now)) ": " (fault.what) "."
            }
        }
    }
}

fn servers(role: &RoleStatus, now: Moment) -> Markup {
    html! {
        table class="servers" {
            caption { "Servers of " (role.role) }
            thead {
                tr {
                    th scope="col" { "Server" }
                    th scope="col" { "Stands" }
                    th scope="col" { abbr title="SRV priority, lowest first; weight within it" { "Priority" } }
                    th scope="col" { "Answers in" }
                    th scope="col" { "Carried" }
                    th scope="col" { "Failed" }
                    th scope="col" { "Last tried" }
                    th scope="col" { "Last error" }
                }
            }
            tbody {
                @for server in &role.servers { (server_row(server, now)) }
            }
        }
    }
}

fn server_row(server: &ServerStatus, now: Moment) -> Markup {
    let (class, word) = match server.standing() {
        _ if !server.is_current => ("idle", "earlier"),
        Standing::Good | Standing::Doubtful => ("good", "good"),
        Standing::WrongName => ("warning", "wrong name"),
        Standing::Slow => ("warning", "slow"),
        Standing::Down => ("error", "down"),
    };
    html! {
        tr class=(class) {
            th scope="row" class="name-of" {
                (name(&server.server))
                @if server.is_pinned { " " span class="pin" title="The agent's run stays with it" { "has the run" } }
                @if server.tunnels_open > 0 { " " span class="pin" { (server.tunnels_open) " open" } }
                @for certificate in &server.certificates { (certificate_note(certificate)) }
            }
            td data-label="Stands" {
                span class={ "badge " (class) } { (word) }
                @if let (Some(cause), true) = (&server.cause, server.rank != RankStatus::Good) {
                    " " (cause)
                    @if let Some(until) = server.until.filter(|until| *until > now) {
                        ", others go first for " (Span(now.before(until).as_secs()))
                    }
                } @else if server.is_doubtful { " and to be tried again" }
            }
            td data-label="Priority" class="number" {
                @if server.is_current { (server.priority) small { " weight " (server.weight) } } @else { (dash()) }
            }
            td data-label="Answers in" class="number" {
                @match server.usual_seconds { Some(seconds) => (latency(seconds)), None => (dash()) }
            }
            td data-label="Carried" class="number" { (Count(server.totals.carried)) }
            td data-label="Failed" class="number" { (Count(server.totals.refused + server.totals.broken)) }
            td data-label="Last tried" { @match server.used { Some(used) => (when(used, now)), None => (dash()) } }
            td data-label="Last error" {
                @match &server.last_error {
                    Some(fault) => { (fault.what) ", " (when(fault.at, now)) },
                    None => (dash()),
                }
            }
        }
    }
}

fn certificate_note(certificate: &CertificateStatus) -> Markup {
    html! {
        @match certificate.verdict.as_str() {
            "unnamed" => p class="bad" {
                "its certificate is for " (certificate.detail.as_deref().unwrap_or("other names")) ", not for " (certificate.asked)
            },
            "unclear" => p class="past" {
                "its certificate could not be seen: " (certificate.detail.as_deref().unwrap_or("no reason known"))
            },
            _ => {}
        }
    }
}

fn records(records: &[RecordSetStatus]) -> Markup {
    html! {
        details {
            summary { "What DNS says" }
            ul {
                @for set in records {
                    li {
                        code { (set.owner) } ": "
                        @match set.freshness {
                            Freshness::None => "no answer",
                            _ => (super::span::many(set.records, "record")),
                        }
                        @let span = whole(set.seconds.unwrap_or_default());
                        @match set.freshness {
                            Freshness::Cached => { ", holds for " (span) },
                            Freshness::Expired => { ", over for " (span) "; the next connection asks" },
                            Freshness::Stale => { ", " span class="bad" { "stale for " (span) } },
                            Freshness::None => {}
                        }
                        @if let Some(from) = &set.nameserver { ", from " (from) }
                        @if set.from_disk { ", by an earlier process" }
                        @if let Some(error) = &set.error { ". " span class="bad" { (error) } }
                        @for refused in &set.refused { p class="bad" { "passed over: " (refused) } }
                    }
                }
            }
        }
    }
}

/// Where there is nothing, for the eye and for the ear.
pub(super) fn dash() -> Markup {
    html! { span class="nothing" aria-label="none" { "\u{2013}" } }
}

/// Seconds without their fraction.
fn whole(seconds: f64) -> Span {
    Span(std::time::Duration::try_from_secs_f64(seconds).unwrap_or_default().as_secs())
}

/// Where agents come in. That of each connection is not known.
fn listener(status: &Status) -> String {
    let mut open = status.listeners.iter().filter(|listener| listener.state.is_open());
    match (open.next(), open.count()) {
        (None, _) => "listens nowhere".into(),
        (Some(first), 0) => first.address.clone(),
        (Some(first), more) => format!("{} +{more}", first.address),
    }
}
