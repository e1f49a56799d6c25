//! The roles and their servers, as the status has them. No io, and the clock is an argument.

use tokio::time::Instant;

use super::of::seconds;
use super::{
    CertificateStatus, Freshness, Parts, RankStatus, RecordSetStatus, RoleStatus, ServerStatus, SourceStatus, Totals,
};
use crate::config::RoleConfig;
use crate::discovery::srv::Srv;
use crate::discovery::{Found, Source, Step, cache};
use crate::history::{Latest, Served};
use crate::host::{Host, HostPort};
use crate::moment::{Clocks, Moment};
use crate::pin::{Pin, Set};
use crate::role::{Asked, Via};
use crate::verdict::{Known, Verdict};

impl Parts<'_> {
    pub(super) fn role(&self, role: &RoleConfig, clocks: &Clocks) -> RoleStatus {
        let name = role.role.as_str();
        let nothing = Latest::default();
        let latest = self.history.latest(name).unwrap_or(&nothing);
        let mut found = self.discovery.known_servers(self.table, role, &self.asked(role, latest));
        if found.source == Some(Source::Name) && latest.source.is_none() {
            // Nobody has asked yet, and nothing is known but what would be a guess.
            (found.source, found.servers) = (None, Vec::new());
        }
        let set = Set::of(&found.servers);
        let pin = self.pool.pins.live(clocks.now).find(|(pinned, _)| **pinned == set).map(|(_, pin)| pin);
        let servers = self.servers(name, found.servers.clone(), pin, clocks);
        RoleStatus {
            role: name.into(),
            names: role.names.clone(),
            ports: role.ports.clone(),
            balance: role.balance.as_str().into(),
            source: found.source.as_ref().map(SourceStatus::from),
            stale_since: stale_since(&found, latest, clocks),
            ttl_left_seconds: ttl_left(&found),
            records: found.steps.iter().map(RecordSetStatus::from).collect(),
            servers,
            tunnels_open: self.gauge.tunnels(name, None),
            totals: self.totals(name),
            last: Some(latest.at).filter(|at| at.unix() > 0),
            last_server: latest.server.clone(),
            last_failed: latest.failed,
            last_error: latest.error.clone(),
        }
    }

    /// What a client of the role asks for: what the last one did, else the first of its names.
    fn asked(&self, role: &RoleConfig, latest: &Latest) -> Asked {
        let usual = role.ports.first().copied().unwrap_or(8140);
        let last = latest.asked.as_deref().and_then(|asked| asked.parse::<HostPort>().ok());
        let last = last.filter(|last| self.table.owner(&last.host).is_some_and(|owner| owner.role == role.role));
        if let Some(HostPort { host, port }) = last {
            return Asked { via: Via::Connect, host: Some(host), port };
        }
        let first = role.names.first().map(|name| match self.table.domain() {
            Some(domain) if !name.contains('.') => format!("{name}.{domain}"),
            _ => name.clone(),
        });
        Asked { via: Via::Connect, host: first.and_then(|name| name.parse::<Host>().ok()), port: usual }
    }

    fn servers(&self, role: &str, current: Vec<Srv>, pin: Option<&Pin>, clocks: &Clocks) -> Vec<ServerStatus> {
        let mut servers: Vec<ServerStatus> = Vec::new();
        for record in current {
            let Some(host) = record.target else { continue };
            let server = HostPort { host, port: record.port };
            let name = server.to_string();
            // One server may have several records.
            if servers.iter().any(|known| known.server == name) {
                continue;
            }
            let (priority, weight) = (record.priority, record.weight);
            let status = ServerStatus { server: name, is_current: true, priority, weight, ..ServerStatus::default() };
            servers.push(self.server(role, &server, pin, status, clocks));
        }
        servers.sort_by_key(|server| server.priority);
        let mut earlier: Vec<&Served> = self.history.servers(role).collect();
        earlier.sort_by(|a, b| b.used.cmp(&a.used).then_with(|| a.server.cmp(&b.server)));
        for served in earlier {
            if servers.iter().any(|known| known.server == served.server) {
                continue;
            }
            let Ok(server) = served.server.parse() else { continue };
            let status = ServerStatus { server: served.server.clone(), ..ServerStatus::default() };
            servers.push(self.server(role, &server, None, status, clocks));
        }
        servers
    }

    /// What is known of a server beside what discovery says.
    fn server(
        &self,
        role: &str,
        server: &HostPort,
        pin: Option<&Pin>,
        status: ServerStatus,
        clocks: &Clocks,
    ) -> ServerStatus {
        let (health, now) = (&self.pool.servers, clocks.now);
        let pin = pin.filter(|pin| pin.server == *server);
        let trouble = health.trouble(server);
        let rank = health.rank(server, now);
        let usual = health.records().find(|(known, _)| *known == server).and_then(|(_, record)| record.usual);
        let done = self.history.servers(role).find(|done| done.server == status.server);
        let mut certificates: Vec<_> = self
            .pool
            .verdicts
            .all()
            .filter(|(of, _, known)| *of == server && now < known.until())
            .map(|(_, asked, known)| certificate(asked, known))
            .collect();
        certificates.sort_by(|a, b| a.asked.cmp(&b.asked));
        ServerStatus {
            is_pinned: pin.is_some(),
            pin_used: pin
                .map(|pin| if self.pool.pins.is_open(server) { now } else { pin.used })
                .map(|at| clocks.at(at)),
            rank: RankStatus::from(rank),
            is_doubtful: health.doubtful(server, now).is_some(),
            since: trouble.map(|trouble| clocks.at(trouble.since)),
            until: trouble
                .map(|trouble| clocks.at(trouble.until))
                .filter(|_| RankStatus::from(rank) != RankStatus::Good),
            cause: trouble.map(|trouble| trouble.cause.clone()),
            usual_seconds: usual.map(seconds),
            certificates,
            tunnels_open: self.gauge.tunnels(role, Some(&status.server)),
            totals: done.map(Totals::from).unwrap_or_default(),
            used: done.map(|done| done.used),
            last_error: done.and_then(|done| done.error.clone()),
            ..status
        }
    }
}

/// The record set that names the servers.
fn decisive(found: &Found) -> Option<&Step> {
    match &found.source {
        Some(Source::Srv(owner) | Source::Fallback(owner)) => found.steps.iter().find(|step| step.owner == *owner),
        _ => None,
    }
}

fn stale_since(found: &Found, latest: &Latest, clocks: &Clocks) -> Option<Moment> {
    match decisive(found)?.result.as_ref().ok()?.freshness {
        cache::Freshness::Stale(span, _) => Some(clocks.at(before(clocks.now, span))),
        // Nobody has needed it since; or the last who did could not wait any longer for a newer one.
        cache::Freshness::Late(_) => latest.stale_since,
        cache::Freshness::Live | cache::Freshness::Cached(_) => None,
    }
}

fn ttl_left(found: &Found) -> Option<f64> {
    match decisive(found)?.result.as_ref().ok()?.freshness {
        cache::Freshness::Cached(left) => Some(seconds(left)),
        _ => None,
    }
}

fn before(now: Instant, span: std::time::Duration) -> Instant {
    now.checked_sub(span).unwrap_or(now)
}

fn certificate(asked: &Host, known: &Known) -> CertificateStatus {
    let (verdict, detail) = match &known.verdict {
        Verdict::Named => ("named", None),
        Verdict::Unnamed { has } => ("unnamed", Some(has.clone())),
        Verdict::Unclear { why } => ("unclear", Some(why.clone())),
    };
    CertificateStatus { asked: asked.to_string(), verdict: verdict.into(), detail }
}

impl From<&Served> for Totals {
    fn from(served: &Served) -> Self {
        let Served { carried, broken, failed, bytes_up, bytes_down, .. } = *served;
        Totals { carried, broken, refused: failed, bytes_up, bytes_down }
    }
}

impl From<&Source> for SourceStatus {
    fn from(source: &Source) -> Self {
        let (kind, owner) = match source {
            Source::Srv(owner) => ("srv", Some(owner.clone())),
            Source::Fallback(owner) => ("fallback", Some(owner.clone())),
            Source::Static => ("static", None),
            Source::Name => ("name", None),
            Source::Target => ("target", None),
        };
        SourceStatus { kind: kind.into(), owner, words: source.to_string() }
    }
}

impl From<&Step> for RecordSetStatus {
    fn from(step: &Step) -> Self {
        let known = step.result.as_ref().ok();
        let freshness = match known.map(|known| &known.freshness) {
            None => Freshness::None,
            Some(cache::Freshness::Live | cache::Freshness::Cached(_)) => Freshness::Cached,
            Some(cache::Freshness::Stale(..)) => Freshness::Stale,
            // Nobody waits for it here.
            Some(cache::Freshness::Late(_)) => Freshness::Expired,
        };
        RecordSetStatus {
            owner: step.owner.clone(),
            records: known.map_or(0, |known| known.answer.records.len()),
            freshness,
            seconds: known.and_then(|known| known.freshness.span()).map(seconds),
            nameserver: known.map(|known| known.answer.from.to_string()),
            from_disk: known.is_some_and(|known| known.is_from_disk),
            refused: step.refused.iter().map(ToString::to_string).collect(),
            error: step.failure().map(ToString::to_string),
        }
    }
}
