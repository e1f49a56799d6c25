//! Where puppet-shim listens, and where it has to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::Plan;
use crate::config::Config;
use crate::setup::configuration::Wanted;
use crate::setup::facts::{Facts, Port};
use crate::setup::names::Address;

/// Whom the names lead to in alias mode.
const LOOPBACK: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

/// Where the agent finds its proxy: on loopback, by IPv4 if it can.
fn proxy(config: &Config) -> Option<Proxy> {
    let reached = |listener: &SocketAddr| {
        let at = match listener.ip() {
            ip if ip.is_loopback() => ip,
            ip if ip.is_unspecified() && ip.is_ipv4() => LOOPBACK[0],
            ip if ip.is_unspecified() => LOOPBACK[1],
            _ => return None,
        };
        Some(Proxy { listener: *listener, reached: SocketAddr::new(at, listener.port()) })
    };
    let mut all: Vec<_> = config.listen.iter().filter_map(reached).collect();
    all.sort_by_key(|proxy| proxy.reached.is_ipv6());
    all.into_iter().next()
}

/// A listener that the agent can have as its proxy.
struct Proxy {
    /// As in `listen`.
    listener: SocketAddr,
    /// Where the agent reaches it.
    reached: SocketAddr,
}

/// Has puppet-shim listen where the agent finds its proxy, and gives that; `None`: it cannot.
pub fn enter(facts: &Facts, plan: &mut Plan) -> Option<SocketAddr> {
    let Some(Proxy { listener, reached }) = proxy(&facts.config) else {
        let why = "puppet-shim listens nowhere that the agent could have as its proxy; give it \"127.0.0.1:8139\" in `listen`";
        plan.refusals.push(why.into());
        return None;
    };
    if let Some(Port::Others(who)) = facts.ports.get(&reached) {
        plan.refusals.push(format!(
            "{reached} is taken by {who}, who would get what the agent sends its proxy; stop that, or give puppet-shim another address \
             in `listen`"
        ));
    }
    let is_in_unit = facts.unit.as_ref().is_none_or(|unit| unit.iter().any(|have| covers(have, &listener)));
    if facts.has_systemd && (!is_in_unit || facts.drop_in.contains(&stream(&listener))) {
        plan.drop_in = drop_in([&listener]);
    }
    plan.listens.push(reached);
    Some(reached)
}

/// All addresses that either way in may need, for the facts.
pub fn candidates(config: &Config, asked: &[Address]) -> Vec<SocketAddr> {
    let ports = ports(asked);
    let alias = LOOPBACK.iter().flat_map(|ip| ports.iter().map(|port| SocketAddr::new(*ip, *port)));
    proxy(config).map(|proxy| proxy.reached).into_iter().chain(alias).collect()
}

/// Has puppet-shim listen where the names lead, on every port that is asked for there. Gives the addresses for the hosts
/// file.
pub fn alias(facts: &Facts, asked: &[Address], plan: &mut Plan) -> Vec<IpAddr> {
    let config = &facts.config;
    let is_in_drop_in = |address: &SocketAddr| facts.drop_in.contains(&stream(address));
    let is_listener = |address: &SocketAddr| config.listen.iter().any(|own| covers(own, address));
    let mut addresses = Vec::new();
    let mut ours = Vec::new();
    for ip in LOOPBACK {
        let all: Vec<_> = ports(asked).into_iter().map(|port| SocketAddr::new(ip, port)).collect();
        if all.iter().any(|address| facts.ports.get(address) == Some(&Port::Absent)) {
            continue;
        }
        for address in &all {
            const NEEDED: &str = "alias mode needs that port";
            match facts.ports.get(address) {
                Some(Port::Others(who)) => plan.refusals.push(format!(
                    "{address} is taken by {who}, as where a Puppet server runs on this host; {NEEDED}: stop that, or use --mode proxy"
                )),
                Some(Port::Ours) if !is_listener(address) && !is_in_drop_in(address) => plan.refusals.push(format!(
                    "{address} is taken by root, by systemd for another unit, or by a puppet-shim that has not read its configuration \
                     again; {NEEDED}: stop what has it, or use --mode proxy"
                )),
                _ => {}
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
        plan.drop_in = drop_in(&ours);
    }
    addresses
}

/// Whether a listener gets what is sent to an address.
fn covers(listener: &SocketAddr, address: &SocketAddr) -> bool {
    let is_same = listener.ip() == address.ip();
    // One of IPv6 takes IPv6 alone, in our unit and of our making.
    let is_all = listener.ip().is_unspecified() && listener.is_ipv4() == address.is_ipv4();
    listener.port() == address.port() && (is_same || is_all)
}

/// The socket unit listens on these besides.
fn drop_in<'a>(addresses: impl IntoIterator<Item = &'a SocketAddr>) -> Vec<String> {
    std::iter::once("[Socket]".to_owned()).chain(addresses.into_iter().map(stream)).collect()
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
