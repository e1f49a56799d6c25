//! The agent's own choice of address (`sourceaddress`) is what the servers see.
//!
//! Firewalls and ACLs go by it. It takes an address that is not of loopback: each test runs again in a network
//! namespace of its own, which has 192.0.2.10 and `2001:db8::10` on `lo` and goes when the test ends.

// A test ends where its set-up fails.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::net::SocketAddr;
use std::process::Command;

use support::client::connect_request;
use support::shim::Bare;
use support::tcp::{PATIENCE, Raw, answer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

const INSIDE: &str = "PUPPET_SHIM_TEST_INSIDE";
const SET_UP: &str = "ip link set lo up && ip address add 192.0.2.10/32 dev lo && ip address add 2001:db8::10/128 dev lo nodad && exec \"$0\" \"$@\"";

/// Whether this is the namespace; if not, the test has been run in one, and has passed.
fn inside(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let output = Command::new("unshare")
        .args(["-n", "sh", "-c", SET_UP])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(output.status.success(), "in the namespace (root and iproute2 are needed):\n{said}");
    assert!(said.contains("1 passed"), "it did not run:\n{said}");
    false
}

const CA: &str = "_x-puppet-ca._tcp.lab.test";

/// A shim whose CA is this server, at the address that DNS is to say.
async fn site(server: &Raw, ip: &str) -> Bare {
    let bare = Bare::start().await;
    bare.dns.set_addresses("ca.lab.test", 60, &[ip.parse().unwrap()]).await;
    bare.dns.set_srv(CA, 60, &[(0, 0, server.address().port(), "ca.lab.test")]).await;
    bare
}

/// Asks for the CA from that address.
async fn ask_from(source: &str, shim: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(source.parse().unwrap(), 0)).unwrap();
    let mut client = socket.connect(shim).await.unwrap();
    client.write_all(connect_request("puppetca:8140").as_bytes()).await.unwrap();
    client
}

#[tokio::test]
async fn the_server_sees_the_agents_address() {
    if !inside("the_server_sees_the_agents_address") {
        return;
    }
    let server = Raw::start().await;
    let bare = site(&server, &server.address().ip().to_string()).await;
    for (source, seen) in [("192.0.2.10", "192.0.2.10"), ("127.0.0.1", "127.0.0.1"), ("127.0.0.7", "127.0.0.1")] {
        let client = ask_from(source, bare.shim()).await;
        let upstream = server.accept().await;
        assert_eq!(upstream.peer_addr().unwrap().ip().to_string(), seen, "for an agent at {source}");
        drop((client, upstream));
        let lines = bare.journal.take(1).await;
        assert!(lines[0].get("from").unwrap().starts_with(&format!("{source}:")), "{}", lines[0]);
    }
}

/// There is no way from an IPv4 address to an IPv6 server, and the agent is told so.
#[tokio::test]
async fn a_server_of_the_other_family_is_passed_over() {
    if !inside("a_server_of_the_other_family_is_passed_over") {
        return;
    }
    let server = Raw::start().await;
    let bare = site(&server, "2001:db8::10").await;
    let mut client = ask_from("192.0.2.10", bare.shim()).await;
    let mut bytes = Vec::new();
    timeout(PATIENCE, client.read_to_end(&mut bytes)).await.expect("no answer").unwrap();
    let reason = format!(
        "no ca server reachable: ca.lab.test:{} (2001:db8::10) cannot be reached from the agent's sourceaddress 192.0.2.10",
        server.address().port()
    );
    assert_eq!(answer(&bytes), support::tcp::Answer::Refused(502, reason));
}
