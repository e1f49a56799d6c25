//! The candidates, in the order in which to try them; and what they did, for the next connection.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::time::Instant;

use super::Shared;
use super::way::{Servers, Way};
use crate::balance::Scales;
use crate::check::Checker;
use crate::config::{Balance, RoleConfig};
use crate::dial::{Dialer, Did};
use crate::health::{Flip, Rank};
use crate::host::{Host, HostPort};
use crate::pick;
use crate::pin::Set;
use crate::pool::{Lineup, Wanted};
use crate::race::Race;
use crate::report::Report;
use crate::role::Row;

/// The name that the agent will look for in the server's certificate, where that is our business.
pub(super) fn wanted_name(shared: &Shared, way: &Way, report: &Report) -> Option<Host> {
    let Servers::Role(..) = way.servers else { return None };
    if report.row == Some(Row::Target) {
        // That very server is meant, be its certificate what it may.
        return None;
    }
    report.asked.as_ref()?.host.clone().filter(|_| shared.config.certificates.check)
}

/// The candidates in the order in which to try them.
pub(super) fn line_up(shared: &Shared, servers: &Servers, name: Option<&Host>) -> (Set, Lineup) {
    let mut pool = shared.pool();
    match servers {
        Servers::Role(role, records) => {
            let set = Set::of(records);
            let order = pick::order_for(shared.table.role(role.as_str()), &shared.key, records, pool.rng());
            let lineup = pool.line_up(order, &set, Wanted { role: Some(role), name }, Instant::now());
            (set, lineup)
        }
        Servers::One(server) => {
            let set = Set::of(std::slice::from_ref(server));
            let lineup = pool.line_up(vec![server.clone()], &set, Wanted { role: None, name: None }, Instant::now());
            (set, lineup)
        }
    }
}

/// Where the load decides and a run begins: puts the freer one of the first two in front. Gives what they said.
pub(super) async fn weigh(
    shared: &Shared,
    race: &Race<'_>,
    servers: &Servers,
    set: &Set,
    lineup: &mut Lineup,
) -> Option<String> {
    let Servers::Role(role, records) = servers else { return None };
    let RoleConfig { balance: Balance::LeastLoaded, prefer, .. } = shared.table.role(role.as_str())? else {
        return None;
    };
    let (first, second) = (&lineup.candidates.front()?.server, &lineup.candidates.get(1)?.server);
    let now = Instant::now();
    let is_choice = {
        let mut pool = shared.pool();
        let is_well = |server| pool.servers.rank(server, now) == Rank::Good;
        is_well(first) && is_well(second) && pool.is_unpinned(role, set, now)
    };
    let record =
        |server: &HostPort| records.iter().find(|r| r.port == server.port && r.target.as_ref() == Some(&server.host));
    if !is_choice || !pick::are_equal(record(first)?, record(second)?, prefer) {
        return None;
    }
    let asked = race.checker.map(|checker| checker.asked);
    let scales = Scales { discovery: &shared.discovery, dialer: &race.dialer, prober: shared.checks.prober(), asked };
    let loads = scales.weigh(first, second, race.deadline).await;
    if let Some(silent) = loads.silent_first() {
        // The next run is not to wait for it again.
        let flip = shared.pool().outrun(silent, "did not say how busy it is", Instant::now());
        flip.iter().for_each(Flip::tell);
    }
    if loads.prefers_second() {
        lineup.candidates.swap(0, 1);
    }
    Some(loads.to_string())
}

/// Looks at a server's certificate without keeping this connection waiting.
pub(super) fn check_beside(shared: &Arc<Shared>, server: HostPort, asked: Host, source: Option<SocketAddr>) {
    let shared = shared.clone();
    tokio::spawn(async move {
        let checker = Checker { checks: &shared.checks, pool: &shared.pool, asked: &asked };
        let Some(turn) = checker.try_turn(&server) else { return };
        let dialer = Dialer { connect: shared.config.timeouts.connect, listeners: &shared.listeners, source };
        // Whatever keeps it from being seen is for a connection that goes there to find out.
        let Ok(addresses) = shared.discovery.addresses(&server.host).await else { return };
        for ip in addresses.ips {
            let addr = SocketAddr::new(ip, server.port);
            if matches!(checker.check_in_turn(&turn, &server, addr, &dialer).await, Ok(()) | Err(Did::Unnamed { .. })) {
                return;
            }
        }
    });
}

/// What the candidates did counts for the next connection, too.
pub(super) fn learn(shared: &Shared, report: &Report, servers: &Servers, set: &Set) {
    // Of a server that the client has named there is nothing to choose, and no end to the ports that it may name.
    if matches!(servers, Servers::One(_)) || report.row == Some(Row::Target) {
        return;
    }
    let flips = shared.pool().learn(&report.course.tries, Instant::now());
    // Where there is no other, nothing goes before it.
    for flip in flips.iter().filter(|_| set.servers().len() > 1) {
        flip.tell();
    }
}
