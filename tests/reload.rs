//! The configuration is read again while the daemon carries on: tunnels stay, the next connection goes by what holds now,
//! and a file that cannot be used changes nothing.

// A test ends where its set-up fails.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use rustix::process::Signal;
use support::client::connect_request;
use support::command::{Host, Running, ending};
use support::dns::Dns;
use support::eventually;
use support::hello::with_sni;
use support::loopback::free_ports;
use support::supervisor::Supervisor;
use support::tcp::{Answer, Named, PATIENCE, Raw, answer, ask, begin, refusing, tunnel};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

const ASKED: &str = "puppetca:8140";

/// A configuration with these listeners, in which `servers` are the CA's.
fn config(listen: &[SocketAddr], servers: &[SocketAddr], more: &str) -> String {
    let list = |addresses: &[SocketAddr]| {
        addresses.iter().map(|address| format!("\"{address}\"")).collect::<Vec<_>>().join(", ")
    };
    format!(
        "listen = [{}]\ndomain = \"lab.test\"\ndns.servers = [\"127.0.0.1:9\"]\ncertificates.check = false\n{more}\n\
         [role.ca]\nsrv = false\nservers = [{}]\n",
        list(listen),
        list(servers)
    )
}

/// Lets it read its configuration again. Gives what it says of that.
async fn reload(running: &Running) -> String {
    let lines = |running: &Running| -> Vec<String> {
        let said = |line: &String| line.contains(" reloaded changed=") || line.contains("going on as before");
        running.lines().into_iter().filter(said).collect()
    };
    let before = lines(running).len();
    running.signal(Signal::HUP);
    eventually("it says what came of it", || lines(running).len() > before).await;
    lines(running).pop().unwrap()
}

#[tokio::test]
async fn the_next_connection_goes_by_what_holds_now_and_tunnels_stay() {
    let (first, second) = (Raw::start().await, Named::start("second").await);
    let any = "127.0.0.1:0".parse().unwrap();
    let host = Host::new(&config(&[any], &[first.address()], ""));
    let running = host.run().await;
    let address = running.address();
    let mut client = tunnel(address, ASKED).await;
    let mut upstream = first.accept().await;
    begin(&mut client, &mut upstream).await;

    host.configure(&config(&[any], &[second.address()], "timeouts.pin = \"1s\""));
    let said = reload(&running).await;
    assert!(said.contains(" INFO reloaded changed=\"timeouts, role.ca\" "), "{said}");
    assert!(said.contains(&format!("listen=[{address}]")), "the port that the kernel chose stays: {said}");
    assert_eq!(ask(address, ASKED).await, Answer::Tunnel("second".into()));
    client.write_all(b"still").await.unwrap();
    let mut bytes = [0; 5];
    upstream.read_exact(&mut bytes).await.unwrap();
    assert_eq!(&bytes, b"still");
    assert!(reload(&running).await.contains(" changed=nothing "));
    let good = config(&[any], &[second.address()], "timeouts.pin = \"1s\"");
    let kept = || std::fs::read_to_string(host.state().join("accepted.toml")).is_ok_and(|text| text == good);
    eventually("it is kept for the day on which the next one is bad", kept).await;
}

#[tokio::test]
async fn a_bad_file_changes_nothing() {
    let server = Named::start("server").await;
    let mut supervisor = Supervisor::new();
    let address = supervisor.listen("puppet-shim.socket");
    let host = Host::new(&config(&[address], &[server.address()], ""));
    let running = supervisor.start(&host).await;
    eventually("it is kept", || host.state().join("accepted.toml").exists()).await;
    let good = std::fs::read_to_string(host.state().join("accepted.toml")).unwrap();
    host.configure("listen = 7\ndomian = \"x\"\n");
    assert!(reload(&running).await.contains(" ERROR "));
    let errors = running.lines().iter().filter(|line| line.contains("puppet-shim.toml:")).count();
    assert_eq!(errors, 2, "{:#?}", running.lines());
    assert_eq!(ask(address, ASKED).await, Answer::Tunnel("server".into()));
    assert_eq!(std::fs::read_to_string(host.state().join("accepted.toml")).unwrap(), good);
    eventually("systemd hears of it", || supervisor.told().len() == 3).await;
    let told = supervisor.told();
    assert!(told[1].starts_with("RELOADING=1\nMONOTONIC_USEC="), "{told:#?}");
    assert!(told[2].starts_with("READY=1\nSTATUS=") && told[2].contains("going on as before"), "{told:#?}");

    host.configure(&config(&[address], &[server.address()], ""));
    reload(&running).await;
    let status = format!("READY=1\nSTATUS=listening on {address}");
    eventually("and that it is well again", || supervisor.told().last() == Some(&status)).await;
}

#[tokio::test]
async fn listeners_come_and_go() {
    let server = Named::start("server").await;
    let [a, c] = free_ports();
    // To be had for all addresses, too.
    let b = loop {
        let [b] = free_ports();
        if std::net::TcpListener::bind(SocketAddr::from(([0; 4], b.port()))).is_ok() {
            break b;
        }
    };
    let mut supervisor = Supervisor::new();
    let held = supervisor.listen("puppet-shim.socket");
    let with = |listen: &[SocketAddr]| config(listen, &[server.address()], "");
    let host = Host::new(&with(&[a, b]));
    let running = supervisor.start(&host).await;
    host.configure(&with(&[b, c]));
    reload(&running).await;
    assert!(TcpStream::connect(a).await.is_err(), "it is not wanted any more");
    for address in [b, c, held] {
        assert_eq!(ask(address, ASKED).await, Answer::Tunnel("server".into()));
    }
    // One for all addresses takes the place of one for a single address, which is in its way.
    let wildcard = SocketAddr::from(([0; 4], b.port()));
    host.configure(&format!("allow_remote_clients = true\n{}", with(&[wildcard])));
    reload(&running).await;
    assert_eq!(ask(b, ASKED).await, Answer::Tunnel("server".into()));
    assert!(TcpStream::connect(c).await.is_err(), "it is not wanted any more");
}

/// The repair can only arrive through us.
#[tokio::test]
async fn listeners_stay_where_no_new_one_can_be_had() {
    let server = Named::start("server").await;
    let [a] = free_ports();
    let host = Host::new(&config(&[a], &[server.address()], ""));
    let running = host.run().await;
    let taken = Raw::start().await;
    host.configure(&config(&[taken.address()], &[server.address()], ""));
    reload(&running).await;
    assert_eq!(ask(a, ASKED).await, Answer::Tunnel("server".into()));
    assert!(running.line("going on with those of before").is_some());
    assert!(std::fs::read_to_string(host.state().join("accepted.toml")).unwrap().contains(&a.to_string()));
}

/// What is known of the servers is known on.
#[tokio::test]
async fn what_was_learnt_is_kept() {
    let (gone, server) = (refusing(), Named::start("server").await);
    let any = "127.0.0.1:0".parse().unwrap();
    let host = Host::new(&config(&[any], &[gone, server.address()], ""));
    let running = host.run().await;
    assert_eq!(ask(running.address(), ASKED).await, Answer::Tunnel("server".into()));
    host.configure(&config(&[any], &[gone, server.address()], "timeouts.connect = \"1s\""));
    reload(&running).await;
    assert_eq!(ask(running.address(), ASKED).await, Answer::Tunnel("server".into()));
    eventually("both have their lines", || running.connections() == 2).await;
    let tried: Vec<_> = running.lines().into_iter().filter(|line| line.contains(" from=")).collect();
    assert!(tried[0].contains("refused") && !tried[1].contains("refused"), "{tried:#?}");
}

/// What DNS has said is known on too, unless others are to be asked.
#[tokio::test]
async fn dns_is_asked_anew_where_that_is_set_anew() {
    let (dns, server) = (Dns::start().await, Named::start("server").await);
    dns.set_addresses("ca.lab.test", 300, &[server.address().ip()]).await;
    dns.set_srv("_x-puppet-ca._tcp.lab.test", 300, &[(0, 0, server.address().port(), "ca.lab.test")]).await;
    let with = |more: &str| {
        format!(
            "listen = [\"127.0.0.1:0\"]
domain = \"lab.test\"
dns.servers = [\"{}\"]
dns.allow_loopback = true
role.ca.allow_ports = [\"1-65535\"]
certificates.check = false
{more}",
            dns.address()
        )
    };
    let host = Host::new(&with(""));
    let running = host.run().await;
    let asked = || dns.all_queries();
    assert_eq!(ask(running.address(), ASKED).await, Answer::Tunnel("server".into()));
    let first = asked();
    host.configure(&with("timeouts.connect = \"1s\"\n"));
    reload(&running).await;
    assert_eq!(ask(running.address(), ASKED).await, Answer::Tunnel("server".into()));
    assert_eq!(asked(), first);
    host.configure(&with("dns.timeout = \"1s\"\n"));
    reload(&running).await;
    assert_eq!(ask(running.address(), ASKED).await, Answer::Tunnel("server".into()));
    assert!(asked() > first);
}

/// As `ask`, but from the first moment on nothing is left to be said: whoever is slow to say what it wants is refused by
/// a process that stops, and this thread may have to wait for its processor.
async fn ask_at_once(address: SocketAddr) -> Answer {
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    stream.write_all(&[connect_request(ASKED).as_bytes(), &with_sni(None)].concat()).unwrap();
    stream.set_nonblocking(true).unwrap();
    let (mut stream, mut bytes) = (TcpStream::from_std(stream).unwrap(), Vec::new());
    timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.expect("the shim never closes").unwrap();
    answer(&bytes)
}

/// 64 clients in a loop, ten reloads with other listeners each, ten restarts: not one connection fails.
#[tokio::test]
async fn nobody_notices_ten_reloads_and_ten_restarts() {
    let server = Named::start("server").await;
    let mut supervisor = Supervisor::new();
    supervisor.set("FDSTORE", "4096");
    let address = supervisor.listen("puppet-shim.socket");
    let [other] = free_ports();
    let host = Host::new(&config(&[address], &[server.address()], ""));
    let mut running = supervisor.start(&host).await;
    let (stop, times) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = (0..64)
        .map(|_| {
            let (stop, times) = (stop.clone(), times.clone());
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    assert_eq!(ask_at_once(address).await, Answer::Tunnel("server".into()));
                    times.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for n in 0..10 {
        let listen: &[SocketAddr] = if n % 2 == 0 { &[address, other] } else { &[address] };
        host.configure(&config(listen, &[server.address()], ""));
        reload(&running).await;
        sleep(Duration::from_millis(50)).await;
        running.signal(Signal::TERM);
        assert_eq!(ending(running.ended().await), (Some(0), None));
        running = supervisor.start(&host).await;
        sleep(Duration::from_millis(50)).await;
    }
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.unwrap();
    }
    println!("{} connections", times.load(Ordering::Relaxed));
    assert!(times.load(Ordering::Relaxed) > 640);
}
