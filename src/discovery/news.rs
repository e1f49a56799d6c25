//! What has changed in DNS, as the log tells it.

use std::net::IpAddr;

use super::answer::Answer;
use super::cache::News;
use super::srv::Srv;
use crate::host::HostPort;

/// Logs what has become of a role's records.
pub(super) fn tell_of_service(owner: &str) -> impl FnOnce(News<Srv>) + Send + 'static {
    let owner = owner.to_owned();
    move |news| match news {
        News::Changed { before, now, is_well_again } => {
            if is_well_again {
                tracing::info!(owner, "DNS answers again");
            }
            let (before, now) = (servers_of(&before.records), servers_of(&now.records));
            let (added, removed) = (without(&now, &before), without(&before, &now));
            // Weights and priorities are not worth a line.
            if !(added.is_empty() && removed.is_empty()) {
                tracing::info!(owner, added, removed, "the servers have changed");
            }
        }
        News::WellAgain => tracing::info!(owner, "DNS answers again"),
        News::Ill(failure) => tracing::warn!(owner, %failure, "DNS gives no answer; going on with the last one"),
    }
}

/// Logs what has become of a server's addresses. That DNS is ill has been said of the records that name the server.
pub(super) fn tell_of_addresses<T: Copy + Into<IpAddr>>(name: &str) -> impl FnOnce(News<T>) + Send + 'static {
    let name = name.to_owned();
    move |news| {
        if let News::Changed { before, now, .. } = news {
            let list = |answer: &Answer<T>| -> Vec<IpAddr> { answer.records.iter().map(|ip| (*ip).into()).collect() };
            tracing::info!(name, before = ?list(&before), now = ?list(&now), "its addresses have changed");
        }
    }
}

fn servers_of(records: &[Srv]) -> Vec<HostPort> {
    let server = |record: &Srv| Some(HostPort { host: record.target.clone()?, port: record.port });
    let mut servers: Vec<_> = records.iter().filter_map(server).collect();
    servers.sort_unstable();
    servers.dedup();
    servers
}

/// Those of the first that the second lacks, in words.
fn without(servers: &[HostPort], others: &[HostPort]) -> String {
    let lacking = servers.iter().filter(|server| !others.contains(server)).map(ToString::to_string);
    lacking.collect::<Vec<_>>().join(", ")
}
