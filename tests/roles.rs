//! The (name, port) table over real connections, row by row, by each of the three ways in.
//!
//! A site with a server of its own for each role: whichever way the agent comes, the server that answers is one of the
//! role that the row says, it has seen the agent's own certificate, and the log line names the row.

// A test ends where its set-up fails.
#![allow(clippy::unwrap_used)]

mod support;

use std::net::SocketAddr;

use puppet_shim::host::HostPort;
use support::client::{Agent, Failure, Way, connect_request};
use support::journal::Line;
use support::lab::{Lab, fqdn};
use support::loopback;
use support::pki::Trust;
use support::raw;
use support::server::Server;
use support::shim::role;
use support::tcp;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const AGENT: &str = "web01.lab.test";

/// One request; it must be answered by a server of `role` that has seen the agent's certificate. Returns the shim's
/// line about it.
async fn answered_by(lab: &Lab, agent: &Agent, name: &str, port: u16, role: &str) -> Line {
    let answer = agent.get(name, port, "/status/v1/simple").await.unwrap_or_else(|e| panic!("{name}:{port}: {e}"));
    let witness = answer.witness;
    assert_eq!(witness.role, role, "{name}:{port} was answered by {}", witness.server);
    assert_eq!(witness.caller.certname.as_deref(), Some(AGENT));
    let lines = lab.journal.take(1).await;
    assert_eq!(lines.len(), 1);
    let line = lines.into_iter().next().unwrap();
    assert_eq!(line.get("message"), Some("carried"));
    assert_eq!(line.get("role"), Some(role), "{line}");
    let server: HostPort = line.get("server").unwrap().parse().unwrap();
    assert_eq!(server.host.to_string(), witness.server, "{line}");
    line
}

/// What a connection's line says of how it was classified.
fn assert_classified(line: &Line, row: &str, via: &str, name: &str, port: u16) {
    let seen = ["row", "via", "name", "port"].map(|field| line.get(field).unwrap_or_default());
    assert_eq!(seen, [row, via, name, &port.to_string()], "{line}");
}

#[tokio::test]
async fn proxy_mode() {
    let lab = Lab::start().await;
    let agent = lab.agent(AGENT);
    for (name, port, role, row) in [
        ("puppetca", 8140, "ca", "own-name"),
        ("puppetfiles", 8140, "files", "own-name"),
        ("puppetreport", 8140, "report", "own-name"),
        // Another role's port does not change what a name of one's own means.
        ("puppetca", 8142, "ca", "own-name"),
        ("puppetreport", 8141, "report", "own-name"),
        ("puppet", 8140, "compile", "official-name"),
        ("puppet", 443, "compile", "official-name"),
        ("puppet", 8141, "ca", "official-port"),
        ("puppet", 8142, "report", "official-port"),
        ("puppet", 8143, "files", "official-port"),
    ] {
        for name in [name.to_owned(), fqdn(name)] {
            let line = answered_by(&lab, &agent, &name, port, role).await;
            assert_classified(&line, row, "connect", &name, port);
        }
    }
}

#[tokio::test]
async fn alias_mode() {
    let lab = Lab::start().await;
    let agent = lab.agent(AGENT).by(Way::Direct(lab.shim()));
    let port = lab.shim().port();
    for (name, role, row) in [
        ("puppetca", "ca", "own-name"),
        ("puppet", "compile", "official-name"),
        ("puppetfiles", "files", "own-name"),
        ("puppetreport", "report", "own-name"),
    ] {
        for name in [name.to_owned(), fqdn(name)] {
            let line = answered_by(&lab, &agent, &name, port, role).await;
            assert_classified(&line, row, "tls", &name, port);
        }
    }
}

const ROLES: [&str; 4] = ["ca", "compile", "files", "report"];

/// A site whose shim listens on four more ports, which are the ports of the roles.
async fn with_ports() -> (Lab, [SocketAddr; 4]) {
    let ports = loopback::free_ports::<4>();
    let lab = Lab::with(|config| {
        for (name, address) in ROLES.into_iter().zip(ports) {
            role(config, name).ports = vec![address.port()];
            config.listen.push(address);
        }
    })
    .await;
    (lab, ports)
}

/// `ca_port`, `report_port` and `pluginsource` are all that changes in puppet.conf: one official name, and no new
/// certificate anywhere.
#[tokio::test]
async fn port_mode_under_one_official_name() {
    let (lab, ports) = with_ports().await;
    for (role, address) in ROLES.into_iter().zip(ports) {
        let row = if role == "compile" { "official-name" } else { "official-port" };
        let agent = lab.agent(AGENT).by(Way::Direct(address));
        for name in ["puppet".to_owned(), fqdn("puppet")] {
            let line = answered_by(&lab, &agent, &name, address.port(), role).await;
            assert_classified(&line, row, "tls", &name, address.port());
        }
        // The same within proxy mode.
        let line = answered_by(&lab, &lab.agent(AGENT), "puppet", address.port(), role).await;
        assert_classified(&line, row, "connect", "puppet", address.port());
        // A name of a role's own goes before the port.
        answered_by(&lab, &agent, "puppetreport", address.port(), "report").await;
    }
}

/// Nothing but the listener's port is known of a client without SNI, or with a name that is nobody's.
#[tokio::test]
async fn the_bare_port_of_a_listener() {
    let (lab, ports) = with_ports().await;
    for (role, address) in ROLES.into_iter().zip(ports) {
        for (name, sni) in [("127.0.0.1", None), ("somebody.example.org", Some("somebody.example.org"))] {
            let identity = lab.pki.identity(&[AGENT]);
            let agent = Agent::new(Way::Direct(address), &Trust::Anybody, Some(&identity));
            let line = answered_by(&lab, &agent, name, address.port(), role).await;
            assert_eq!(line.get("row"), Some("listener-port"), "{line}");
            assert_eq!(line.get("name"), sni, "{line}");
        }
    }
    // CONNECT names a host, and means it.
    let failure = lab.agent(AGENT).connect("somebody.example.org", ports[0].port()).await.unwrap_err();
    assert!(matches!(failure, Failure::Refused { status: 403, .. }), "{failure}");
}

fn accepted(servers: [&Server; 5]) -> [usize; 5] {
    servers.map(Server::accepted)
}

/// `puppet://compile2.lab.test/…` in a manifest means compile2, though compile1 goes first for everything else.
#[tokio::test]
async fn a_targets_own_name_reaches_that_server_and_no_other() {
    let mut lab = Lab::start().await;
    let agent = lab.agent(AGENT);
    for (name, role) in [("compile2", "compile"), ("compile1", "compile"), ("files", "files"), ("ca", "ca")] {
        let before = accepted(lab.servers());
        let line = answered_by(&lab, &agent, &fqdn(name), 8140, role).await;
        assert_classified(&line, "target", "connect", &fqdn(name), 8140);
        assert!(line.get("server").unwrap().starts_with(&fqdn(name)), "{line}");
        assert_eq!(accepted(lab.servers()).iter().sum::<usize>(), before.iter().sum::<usize>() + 1);
    }
    // By SNI as well.
    let direct = agent.by(Way::Direct(lab.shim()));
    let line = answered_by(&lab, &direct, &fqdn("compile2"), lab.shim().port(), "compile").await;
    assert_eq!(line.get("row"), Some("target"), "{line}");

    // That very server: another one is no replacement.
    lab.compile2.stop().await;
    let before = accepted(lab.servers());
    let failure = agent.connect(&fqdn("compile2"), 8140).await.unwrap_err();
    let Failure::Refused { status: 502, reason } = &failure else { panic!("{failure}") };
    assert!(reason.contains("compile2.lab.test") && !reason.contains("compile1"), "{reason}");
    assert_eq!(accepted(lab.servers()), before);

    // Once it is a target no longer, it is a name like any other.
    drop(lab);
    let lab = Lab::start().await;
    let compile1 = lab.compile1.address().port();
    lab.dns.set_srv("_x-puppet._tcp.lab.test", 60, &[(0, 0, compile1, "compile1.lab.test")]).await;
    let failure = lab.agent(AGENT).connect(&fqdn("compile2"), 8140).await.unwrap_err();
    assert!(matches!(failure, Failure::Refused { status: 403, .. }), "{failure}");
}

/// CONNECT's name decides; a different name inside is the client's affair, and worth a word in the log.
#[tokio::test]
async fn another_name_inside_is_only_logged() {
    let lab = Lab::start().await;
    for (inside, sni) in [("puppet.lab.test", Some("puppet.lab.test")), ("puppetca.lab.test", None)] {
        let mut client = tcp::tunnel(lab.shim(), "puppetca.lab.test:8140").await;
        client.write_all(&raw::client_hello(inside)).await.unwrap();
        // The server's answer: a handshake.
        assert_eq!(client.read_u8().await.unwrap(), 22);
        drop(client);
        let lines = lab.journal.take(1).await;
        assert_classified(&lines[0], "own-name", "connect", "puppetca.lab.test", 8140);
        assert_eq!(lines[0].get("role"), Some("ca"));
        assert_eq!(lines[0].get("sni"), sni, "{}", lines[0]);
    }
    assert_eq!(accepted(lab.servers()), [2, 0, 0, 0, 0]);
}

/// A client that does not wait for the 200 loses nothing.
#[tokio::test]
async fn a_hello_right_behind_the_connect_is_carried() {
    let lab = Lab::start().await;
    let mut client = tokio::net::TcpStream::connect(lab.shim()).await.unwrap();
    let glued = [connect_request("puppetca:8140").as_bytes(), &raw::client_hello("puppet.lab.test")].concat();
    client.write_all(&glued).await.unwrap();
    let mut answer = [0; 40];
    client.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer[..39], *b"HTTP/1.1 200 Connection established\r\n\r\n");
    assert_eq!(answer[39], 22);
    drop(client);
    let lines = lab.journal.take(1).await;
    assert_eq!(lines[0].get("role"), Some("ca"));
    assert_eq!(lines[0].get("sni"), Some("puppet.lab.test"), "{}", lines[0]);
}
