//! The test support itself, without the shim: what the other tests rest on.

// A test ends where its set-up fails.
#![allow(clippy::unwrap_used)]

mod support;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{RData, RecordType};
use rustls::AlertDescription;
use support::client::{Agent, Failure, Way};
use support::clock::Slow;
use support::dns::{Dns, DnsFault};
use support::fault::Fault;
use support::pki::{Pki, Request, Trust};
use support::raw;
use support::server::Server;
use support::tcp::PATIENCE;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

const SRV: &str = "_x-puppet._tcp.lab.test";

/// A resolver that asks one server over one protocol, once, waits for so long, and remembers nothing.
fn resolver(dns: &Dns, mut connection: ConnectionConfig, timeout: Duration) -> TokioResolver {
    connection.port = dns.address().port();
    let server = NameServerConfig::new(dns.address().ip(), true, vec![connection]);
    let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    let options = builder.options_mut();
    options.cache_size = 0;
    options.attempts = 0;
    options.timeout = timeout;
    builder.build().unwrap()
}

/// One for who does not answer.
fn brief(dns: &Dns) -> TokioResolver {
    resolver(dns, ConnectionConfig::udp(), Duration::from_millis(500))
}

/// The SRV records of [`SRV`], as text, with their TTL.
async fn ask(resolver: &TokioResolver) -> Result<Vec<String>, String> {
    let answer = resolver.srv_lookup(format!("{SRV}.")).await.map_err(|e| e.to_string())?;
    let mut records: Vec<_> = answer
        .answers()
        .iter()
        .filter_map(|record| match &record.data {
            RData::SRV(srv) => {
                Some(format!("{} {} {} {} {}", record.ttl, srv.priority, srv.weight, srv.port, srv.target))
            }
            _ => None,
        })
        .collect();
    records.sort();
    Ok(records)
}

#[tokio::test]
async fn dns_answers_over_udp_and_tcp() {
    // No question is sent again because the machine takes long.
    let _clock = Slow::start();
    let mut dns = Dns::start().await;
    dns.set_srv(SRV, 30, &[(0, 5, 8140, "compile1.lab.test"), (1, 0, 8141, "compile2.lab.test")]).await;
    let ips: [IpAddr; 2] = ["127.0.0.2".parse().unwrap(), "::1".parse().unwrap()];
    dns.set_addresses("compile1.lab.test", 30, &ips).await;

    for connection in [ConnectionConfig::udp(), ConnectionConfig::tcp()] {
        let resolver = resolver(&dns, connection, PATIENCE);
        let records = ["30 0 5 8140 compile1.lab.test.", "30 1 0 8141 compile2.lab.test."];
        assert_eq!(ask(&resolver).await.unwrap(), records);
        for (ip, kind) in ips.iter().zip([RecordType::A, RecordType::AAAA]) {
            let answer = resolver.lookup("compile1.lab.test.", kind).await.unwrap();
            assert_eq!(answer.answers()[0].data.ip_addr(), Some(*ip));
        }
        assert!(resolver.lookup_ip("nobody.lab.test.").await.is_err());
    }
    assert_eq!(dns.queries(SRV, RecordType::SRV), 2);
    assert_eq!(dns.queries("compile1.lab.test", RecordType::A), 2);

    let resolver = resolver(&dns, ConnectionConfig::udp(), PATIENCE);
    dns.set_srv(SRV, 1, &[(0, 0, 8140, ".")]).await;
    assert_eq!(ask(&resolver).await.unwrap(), ["1 0 0 8140 ."]);
    dns.set_srv(SRV, 1, &[]).await;
    assert!(ask(&resolver).await.is_err());

    dns.stop().await;
    dns.set_srv(SRV, 1, &[(0, 0, 8140, "compile1.lab.test")]).await;
    assert!(ask(&brief(&dns)).await.is_err());
    dns.restart().await;
    assert_eq!(ask(&resolver).await.unwrap(), ["1 0 0 8140 compile1.lab.test."]);
}

#[tokio::test]
async fn dns_misbehaves_when_told_to() {
    let dns = Dns::start().await;
    dns.set_srv(SRV, 30, &[(0, 5, 8140, "compile1.lab.test")]).await;
    let patient = resolver(&dns, ConnectionConfig::udp(), PATIENCE);
    for (fault, text) in [(DnsFault::ServFail, "Server Failure"), (DnsFault::Refused, "Query Refused")] {
        dns.set_fault(SRV, Some(fault));
        let error = ask(&patient).await.unwrap_err();
        assert!(error.contains(text), "{fault:?}: {error}");
    }
    dns.set_fault(SRV, Some(DnsFault::Silent));
    let error = ask(&brief(&dns)).await.unwrap_err();
    assert!(error.contains("timed out"), "{error}");
    dns.set_fault(SRV, None);
    assert_eq!(ask(&patient).await.unwrap().len(), 1);
}

/// A server of that role, named `server.lab.test` and `puppet`.
async fn server(pki: &Arc<Pki>, role: &str) -> Server {
    Server::start(pki, role, &["server.lab.test".into(), "puppet".into()]).await
}

fn agent(server: &Server, pki: &Pki) -> Agent {
    Agent::new(Way::Direct(server.address()), &pki.trust(), Some(&pki.identity(&["agent.lab.test"])))
}

#[tokio::test]
async fn server_sees_the_agents_certificate() {
    let pki = Arc::new(Pki::new());
    let server = server(&pki, "compile").await;
    let mut connection = agent(&server, &pki).connect("puppet", 8140).await.unwrap();
    // Twice over one connection.
    for path in ["/puppet/v3/node/agent.lab.test", "/puppet/v3/file_content/x?bytes=70000"] {
        let answer = connection.request("GET", path, b"").await.unwrap();
        assert_eq!(answer.response.status, 200);
        assert_eq!(answer.witness.server, "server.lab.test");
        assert_eq!(answer.witness.role, "compile");
        assert_eq!(answer.witness.caller.certname.as_deref(), Some("agent.lab.test"));
    }
    let answer = connection.request("PUT", "/puppet/v3/report/agent.lab.test", &vec![b'x'; 80_000]).await.unwrap();
    assert_eq!(answer.response.body, b"server.lab.test has taken 80000 bytes\n");
    connection.close().await;

    let seen = server.seen();
    assert_eq!(seen.len(), 3);
    assert_eq!(seen[2].sni.as_deref(), Some("puppet"));
    assert_eq!((seen[2].method.as_str(), seen[2].bytes), ("PUT", 80_000));
    assert_eq!(server.accepted(), 1);
    support::eventually("the connection is closed", || server.open() == 0).await;
}

#[tokio::test]
async fn both_sides_check_certificates() {
    let pki = Arc::new(Pki::new());
    let server = server(&pki, "compile").await;

    let failure = agent(&server, &pki).get("elsewhere.lab.test", 8140, "/").await.unwrap_err();
    assert!(failure.to_string().contains("not valid for name"), "{failure}");
    let stranger = Agent::new(Way::Direct(server.address()), &Pki::new().trust(), None);
    let failure = stranger.get("puppet", 8140, "/").await.unwrap_err();
    assert!(failure.to_string().contains("invalid peer certificate"), "{failure}");
    let nameless = Agent::new(Way::Direct(server.address()), &pki.trust(), None);
    let failure = nameless.get("puppet", 8140, "/").await.unwrap_err();
    assert_eq!(failure.alert(), Some(AlertDescription::CertificateRequired), "{failure}");
}

#[tokio::test]
async fn ca_takes_in_a_new_agent() {
    let pki = Arc::new(Pki::new());
    let server = server(&pki, "ca").await;
    let way = Way::Direct(server.address());

    let bundle =
        Agent::new(way, &Trust::Anybody, None).get("puppet", 8140, "/puppet-ca/v1/certificate/ca").await.unwrap();
    assert_eq!(bundle.witness.caller.certname, None);
    let trust = Trust::from_pem(&bundle.response.body).unwrap();
    let mut ca = Agent::new(way, &trust, None).connect("puppet", 8140).await.unwrap();
    let path = "/puppet-ca/v1/certificate/agent.lab.test";
    assert_eq!(ca.request("GET", path, b"").await.unwrap().response.status, 404);
    let request = Request::new("agent.lab.test");
    let put = "/puppet-ca/v1/certificate_request/agent.lab.test";
    assert_eq!(ca.request("PUT", put, b"garbage").await.unwrap().response.status, 404);
    assert_eq!(ca.request("PUT", put, request.pem.as_bytes()).await.unwrap().response.status, 200);
    let certificate = ca.request("GET", path, b"").await.unwrap().response.body;

    let identity = request.signed(&certificate).unwrap();
    let answer = Agent::new(way, &trust, Some(&identity)).get("puppet", 8140, "/").await.unwrap();
    assert_eq!(answer.witness.caller.certname.as_deref(), Some("agent.lab.test"));
}

#[tokio::test]
async fn stopped_server_refuses_and_comes_back() {
    let pki = Arc::new(Pki::new());
    let mut server = server(&pki, "compile").await;
    let agent = agent(&server, &pki);
    let mut connection = agent.connect("puppet", 8140).await.unwrap();
    connection.request("GET", "/", b"").await.unwrap();

    server.stop().await;
    let failure = agent.connect("puppet", 8140).await.unwrap_err();
    assert!(matches!(&failure, Failure::Connect(e) if e.kind() == io::ErrorKind::ConnectionRefused), "{failure}");
    assert!(connection.request("GET", "/", b"").await.is_err());

    server.restart().await;
    agent.get("puppet", 8140, "/").await.unwrap();
}

#[tokio::test]
async fn faults_show_on_the_wire() {
    let pki = Arc::new(Pki::new());
    let server = server(&pki, "compile").await;
    let hello = raw::client_hello("puppet");
    let pieces = [hello.as_slice()];
    let exchange = || raw::exchange(server.address(), &pieces);

    server.set_fault(Some(Fault::Eof));
    assert_eq!(exchange().await.unwrap(), raw::Reply { bytes: Vec::new(), closed: true });
    server.set_fault(Some(Fault::Reset));
    assert_eq!(exchange().await.unwrap(), raw::Reply { bytes: Vec::new(), closed: false });
    server.set_fault(Some(Fault::Alert(112)));
    assert_eq!(exchange().await.unwrap(), raw::Reply { bytes: vec![21, 3, 3, 0, 2, 2, 112], closed: true });
    let failure = agent(&server, &pki).connect("puppet", 8140).await.unwrap_err();
    assert_eq!(failure.alert(), Some(AlertDescription::UnrecognisedName), "{failure}");
    // Nothing comes: only a bound in time can tell.
    server.set_fault(Some(Fault::Mute));
    assert!(timeout(Duration::from_millis(50), exchange()).await.is_err());

    server.set_fault(None);
    assert_eq!(agent(&server, &pki).get("puppet", 8140, "/").await.unwrap().response.status, 200);
}

#[tokio::test]
async fn dripping_server_works_slowly() {
    let pki = Arc::new(Pki::new());
    let server = server(&pki, "compile").await;
    let pause = Duration::from_millis(5);
    server.set_fault(Some(Fault::Drip { piece: 100, pause }));

    let began = Instant::now();
    agent(&server, &pki).get("puppet", 8140, "/puppet/v3/file_content/x?bytes=1000").await.unwrap();
    assert!(began.elapsed() > 10 * pause, "{:?} for more than 1000 bytes, 100 at a time", began.elapsed());
}

#[tokio::test]
async fn each_side_can_end_alone() {
    let pki = Arc::new(Pki::new());
    let server = server(&pki, "compile").await;

    // The agent ends first, and still gets its answer.
    let mut connection = agent(&server, &pki).connect("puppet", 8140).await.unwrap();
    connection.send("GET", "/first", b"").await.unwrap();
    connection.finish_sending().await.unwrap();
    assert_eq!(connection.receive().await.unwrap().response.status, 200);

    // The server ends first, and still takes in what the agent says.
    server.set_fault(Some(Fault::HalfClose));
    let mut connection = agent(&server, &pki).connect("puppet", 8140).await.unwrap();
    connection.request("GET", "/second", b"").await.unwrap();
    connection.send("PUT", "/third", b"late").await.unwrap();
    assert!(connection.receive().await.is_err());
    connection.close().await;
    support::eventually("the late request has arrived", || server.seen().len() == 3).await;
    assert_eq!(server.seen()[2].path, "/third");
}

#[tokio::test]
async fn hello_is_one_record() {
    let hello = raw::client_hello("puppet");
    assert_eq!(hello[0], 22);
    assert_eq!(usize::from(u16::from_be_bytes([hello[3], hello[4]])), hello.len() - 5);
    assert!(hello.windows(6).any(|bytes| bytes == b"puppet"));
    assert!(!raw::client_hello("127.0.0.1").windows(9).any(|bytes| bytes == b"127.0.0.1"));
}

#[tokio::test]
async fn stopped_listener_is_gone_at_once() {
    let pki = Arc::new(Pki::new());
    let server = server(&pki, "compile").await;
    let address: SocketAddr = server.address();
    let mut idle = TcpStream::connect(address).await.unwrap();
    support::eventually("the server has the connection", || server.open() == 1).await;
    drop(server);
    assert_eq!(idle.read(&mut [0]).await.unwrap(), 0);
}
