//! IPv6 is used where the host has it, and missed by nobody where it has not.
//!
//! The agent's `localhost` is `::1` first, so the shim listens there too; a host whose kernel has no IPv6 must start
//! all the same.

// A test ends where its set-up fails.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use rustix::process::Signal;
use support::command::{Host, Running, ending};
use support::shim::Bare;
use support::tcp::{Answer, Named, ask};

const LOOPBACK: SocketAddr = SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), 0);

#[tokio::test]
async fn a_connection_over_ipv6_on_both_sides() {
    std::net::TcpListener::bind(LOOPBACK).expect("this machine has no ::1, so IPv6 cannot be tested on it");
    let server = Named::at("server", LOOPBACK).await;
    let bare = Bare::with(|config| config.listen = vec![LOOPBACK]).await;
    bare.dns.set_addresses("ca6.lab.test", 60, &[server.address().ip()]).await;
    bare.dns.set_srv("_x-puppet-ca._tcp.lab.test", 60, &[(0, 0, server.address().port(), "ca6.lab.test")]).await;
    assert!(bare.shim().is_ipv6());
    assert_eq!(ask(bare.shim(), "puppetca:8140").await, Answer::Tunnel("server".into()));
    let lines = bare.journal.take(1).await;
    assert_eq!(lines[0].get("addr"), Some(server.address().to_string().as_str()));
    assert!(lines[0].get("from").unwrap().starts_with("[::1]:"), "{}", lines[0]);
}

/// Both families of one name: IPv6 first, IPv4 when that refuses.
#[tokio::test]
async fn the_other_family_is_tried() {
    let server = Named::start("server").await;
    let address = server.address();
    let bare = Bare::start().await;
    bare.dns.set_addresses("ca.lab.test", 60, &[LOOPBACK.ip(), address.ip()]).await;
    bare.dns.set_srv("_x-puppet-ca._tcp.lab.test", 60, &[(0, 0, address.port(), "ca.lab.test")]).await;
    assert_eq!(ask(bare.shim(), "puppetca:8140").await, Answer::Tunnel("server".into()));
    let port = address.port();
    let tried = format!("ca.lab.test:{port} (::1) refused; ca.lab.test:{port} ({}) answered", address.ip());
    assert_eq!(bare.journal.take(1).await[0].get("tried"), Some(tried.as_str()));
}

/// The defaults in a network namespace of its own, without IPv6.
#[tokio::test]
async fn a_host_without_ipv6_starts_with_a_warning() {
    let host = Host::new("");
    let script = "echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6 && ip link set lo up && exec \"$0\" \"$@\"";
    let running = Running::start(host.prefixed(&["unshare", "-n", "sh", "-c", script], &["run"])).await;
    let addresses: Vec<_> = running.addresses().iter().map(ToString::to_string).collect();
    assert_eq!(addresses, ["127.0.0.1:8139"]);
    let warning = running.line("this host has no IPv6").expect("it does not say so");
    assert!(warning.contains(" WARN ") && warning.contains("addr=[::1]:8139"), "{warning}");
    assert_eq!(running.lines().iter().filter(|line| line.contains(" ERROR ")).count(), 0);
    let output = host.output(&["status"]).await;
    let status = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{status}");
    assert!(status.contains("[::1]:8139 (this host has no IPv6)") && !status.contains("error"), "{status}");
    assert_eq!(ending(running.end(Signal::TERM).await), (Some(0), None));
}
