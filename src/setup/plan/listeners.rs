//! Where puppet-shim listens, and where it has to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::Plan;
use crate::config::Config;
use crate::setup::configuration::Wanted;
use crate::setup::facts::{Facts, Port};
use crate::setup::names::Address;

/// Whom the names lead to in alias mode.
const LOOPBACK: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

/// The listener that the agent can have as its proxy: on loopback, IPv4 if there is one.
pub fn proxy(config: &Config) -> Option<SocketAddr> {
    let reachable = |address: &SocketAddr| match address.ip() {
        ip if ip.is_loopback() => Some(*address),
        ip if ip.is_unspecified() && ip.is_ipv4() => Some(SocketAddr::new(LOOPBACK[0], address.port())),
        ip if ip.is_unspecified() => Some(SocketAddr::new(LOOPBACK[1], address.port())),
        _ => None,
    };
    let mut all: Vec<_> = config.listen.iter().filter_map(reachable).collect();
    all.sort_by_key(SocketAddr::is_ipv6);
    all.first().copied()
}

/// All addresses that either way in may need, for the facts.
pub fn candidates(config: &Config, asked: &[Address]) -> Vec<SocketAddr> {
    let ports = ports(asked);
    let alias = LOOPBACK.iter().flat_map(|ip| ports.iter().map(|port| SocketAddr::new(*ip, *port)));
    proxy(config).into_iter().chain(alias).collect()
}

/// Has puppet-shim listen where the names lead, on every port that is asked for there. Gives the addresses for the hosts
/// file.
pub fn alias(facts: &Facts, asked: &[Address], plan: &mut Plan) -> Vec<IpAddr> {
    let config = &facts.config;
    let is_in_drop_in = |address: &SocketAddr| facts.drop_in.contains(&stream(address));
    let is_listener = |address: &SocketAddr| {
        let covers = |own: &SocketAddr| {
            own.port() == address.port()
                && (own.ip() == address.ip() || own.ip().is_unspecified() && own.is_ipv4() == address.is_ipv4())
        };
        config.listen.iter().any(covers)
    };
    let mut addresses = Vec::new();
    let mut ours = Vec::new();
    for ip in LOOPBACK {
        let all: Vec<_> = ports(asked).into_iter().map(|port| SocketAddr::new(ip, port)).collect();
        if all.iter().any(|address| facts.ports.get(address) == Some(&Port::Absent)) {
            continue;
        }
        for address in &all {
            if facts.ports.get(address) == Some(&Port::Taken) && !is_listener(address) && !is_in_drop_in(address) {
                plan.refusals.push(format!(
                    "{address} is taken by another process, as where a Puppet server runs on this host, or a puppet-shim that has not read its \
                     configuration again; alias mode needs that port: stop it, or use --mode proxy"
                ));
            }
        }
        addresses.push(ip);
        // Those that the administrator has written are seen to already.
        ours.extend(all.iter().filter(|address| is_in_drop_in(address) || !is_listener(address)));
        plan.listens.extend(all);
    }
    let mut listen = config.listen.clone();
    listen.extend(ours.iter().filter(|address| !config.listen.contains(address)));
    if listen != config.listen {
        let list = listen.iter().map(ToString::to_string).collect();
        plan.keys.push((vec!["listen".into()], Wanted::List(list)));
    }
    if facts.has_systemd && !ours.is_empty() {
        plan.drop_in = std::iter::once("[Socket]".to_owned()).chain(ours.iter().map(stream)).collect();
    }
    addresses
}

/// The line of a socket unit.
fn stream(address: &SocketAddr) -> String {
    format!("ListenStream={address}")
}

fn ports(asked: &[Address]) -> Vec<u16> {
    let mut ports: Vec<_> = asked.iter().map(|address| address.port).collect();
    ports.sort_unstable();
    ports.dedup();
    ports
}
