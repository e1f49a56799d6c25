//! Who gets the client's hello, when, and what becomes of the others.
//!
//! Both ends are plain sockets here. The clock stands still while anybody has something to do, and is fast while nobody
//! has: so every wait is exact, but for what the kernel needs to deliver on a busy machine.

// A test ends where its set-up fails.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use puppet_shim::config::Config;
use support::clock::Slow;
use support::hello::{with_extension, with_sni};
use support::journal::Line;
use support::shim::Bare;
use support::tcp::{ANSWER, BlackHole, Raw, tunnel};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep, timeout};

const COMPILE: &str = "_x-puppet._tcp.lab.test";
const TARGET: &str = "puppet:8140";
/// Longer than anything here waits for: what has not come by then never will.
const NEVER: Duration = Duration::from_secs(20);
/// The clock goes so many times as fast as the host's while nobody has anything to do.
const TIMES: u32 = 10;
/// RFC 8446 §4.2.10.
const EARLY_DATA: u16 = 42;

/// A site whose compile servers are these, in this order.
async fn site(servers: &[&Raw]) -> Bare {
    let addresses: Vec<_> =
        servers.iter().map(|server| (server.address().port(), vec![server.address().ip()])).collect();
    site_at(&addresses, |_| ()).await
}

/// The same for servers with these ports and addresses.
async fn site_at(servers: &[(u16, Vec<IpAddr>)], adjust: impl FnOnce(&mut Config)) -> Bare {
    let bare = Bare::with(adjust).await;
    let names: Vec<_> = (0..servers.len()).map(|n| format!("server{n}.lab.test")).collect();
    for (name, (_, ips)) in names.iter().zip(servers) {
        bare.dns.set_addresses(name, 24 * 60 * 60, ips).await;
    }
    let records: Vec<_> = (0..)
        .zip(&names)
        .zip(servers)
        .map(|((priority, name), (port, _))| (priority, 0, *port, name.as_str()))
        .collect();
    bare.dns.set_srv(COMPILE, 24 * 60 * 60, &records).await;
    bare
}

fn hello() -> Vec<u8> {
    with_sni(Some("puppet.lab.test"))
}

/// A client that has said this.
async fn say(bare: &Bare, bytes: &[u8]) -> TcpStream {
    let mut client = TcpStream::connect(bare.shim()).await.unwrap();
    client.set_nodelay(true).unwrap();
    client.write_all(bytes).await.unwrap();
    client
}

/// What was said must arrive.
async fn expect(stream: &mut TcpStream, bytes: &[u8]) {
    let mut read = vec![0; bytes.len()];
    timeout(NEVER, stream.read_exact(&mut read)).await.expect("nothing comes").unwrap();
    assert_eq!(read, bytes);
}

/// The other side must close now, without another word.
async fn expect_closed(stream: &mut TcpStream) {
    let now = Instant::now();
    let read = timeout(NEVER, stream.read(&mut [0])).await.expect("it stays open");
    assert!(matches!(read, Ok(0) | Err(_)), "another word");
    assert!(now.elapsed() < Duration::from_millis(100), "only after {:?}", now.elapsed());
}

async fn line(bare: &Bare) -> Line {
    let mut lines = bare.journal.take(1).await;
    assert_eq!(lines.len(), 1, "one connection, more than one line");
    lines.remove(0)
}

fn ms(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap()
}

/// The clock goes in whole milliseconds, and rounds up each time; what the kernel needs to deliver is in it, [`TIMES`]
/// over.
fn assert_ms(found: u64, expected: u64) {
    assert!(found.abs_diff(expected) <= 100, "{found} ms, not {expected} ms");
}

/// How long each server in the log line had been waited for.
fn waited(tried: &str) -> Vec<u64> {
    let ms = |one: &str| Some(one.rsplit_once(" within ")?.1.strip_suffix(" ms")?.parse().unwrap());
    tried.split("; ").filter_map(ms).collect()
}

/// When the nth of servers that all stay silent is started: three at a time, a quarter of a second apart, and each keeps
/// its place for a second and a half.
fn start(n: u64) -> u64 {
    n / 3 * 1500 + n % 3 * 250
}

#[tokio::test]
async fn many_dead_servers_are_all_tried_within_the_budget() {
    let _clock = Slow::by(TIMES);
    let mut servers = Vec::new();
    for _ in 0..16 {
        servers.push(Raw::start().await);
    }
    let bare = site(&servers.iter().collect::<Vec<_>>()).await;
    let (mut client, began) = (say(&bare, &hello()).await, Instant::now());
    let mut open = Vec::new();
    for (n, server) in (0..).zip(&servers) {
        let mut stream = server.accept().await;
        assert_ms(ms(began), start(n));
        expect(&mut stream, &hello()).await;
        open.push(stream);
    }
    expect(&mut client, &[21, 3, 3, 0, 2, 2, 80]).await;
    assert_ms(ms(began), 15_000);
    for stream in &mut open {
        expect_closed(stream).await;
    }
    let line = line(&bare).await;
    let waited = waited(line.get("tried").unwrap());
    assert_eq!(waited.len(), 16, "{line}");
    for (n, found) in (0..).zip(waited) {
        assert_ms(found, 15_000 - start(n));
    }
}

#[tokio::test]
async fn the_losers_are_closed_at_once() {
    let _clock = Slow::by(TIMES);
    let servers = [Raw::start().await, Raw::start().await, Raw::start().await];
    let bare = site(&servers.each_ref()).await;
    let mut client = say(&bare, &hello()).await;
    let [mut one, mut two, mut three] =
        [servers[0].accept().await, servers[1].accept().await, servers[2].accept().await];
    for stream in [&mut one, &mut two, &mut three] {
        expect(stream, &hello()).await;
    }
    // Less than a header is no answer, and a whole one is the client's with all that follows it.
    one.write_all(&ANSWER[..4]).await.unwrap();
    two.write_all(ANSWER).await.unwrap();
    expect(&mut client, ANSWER).await;
    expect_closed(&mut one).await;
    expect_closed(&mut three).await;
    client.write_all(b"up").await.unwrap();
    expect(&mut two, b"up").await;
    two.write_all(b"down").await.unwrap();
    expect(&mut client, b"down").await;
}

/// What was said in pieces arrives whole, and once.
#[tokio::test]
async fn an_answer_in_pieces_arrives_whole() {
    let _clock = Slow::by(TIMES);
    let servers = [Raw::start().await, Raw::start().await];
    let bare = site(&servers.each_ref()).await;
    let mut client = say(&bare, &hello()).await;
    let mut one = servers[0].accept().await;
    expect(&mut one, &hello()).await;
    for piece in ANSWER.chunks(2) {
        one.write_all(piece).await.unwrap();
        sleep(Duration::from_millis(20)).await;
    }
    expect(&mut client, ANSWER).await;
    assert!(servers[1].is_left_alone(NEVER).await);
}

/// Early data is a request: two servers must not both get it. Nor may they get anything else behind the hello.
#[tokio::test]
async fn what_may_not_be_said_twice_is_said_to_one_server() {
    let _clock = Slow::by(TIMES);
    for bytes in [with_extension(&hello(), EARLY_DATA), [hello(), b"\x17\x03\x03\x00\x01x".to_vec()].concat()] {
        for in_connect in [false, true] {
            let servers = [Raw::start().await, Raw::start().await];
            let bare = site(&servers.each_ref()).await;
            let mut client = if in_connect { tunnel(bare.shim(), TARGET).await } else { say(&bare, b"").await };
            client.write_all(&bytes).await.unwrap();
            let mut one = servers[0].accept().await;
            expect(&mut one, &bytes).await;
            assert!(servers[1].is_left_alone(NEVER).await, "{in_connect}");
            // Neither when the first then fails.
            drop(one);
            expect_closed(&mut client).await;
            assert!(servers[1].is_left_alone(NEVER).await, "{in_connect}");
            drop(client);
            assert!(!line(&bare).await.get("tried").unwrap().contains("; "));
        }
    }
}

/// But one that has not even accepted has been told nothing.
/// A TLS client waits for an answer to its hello. One that does not is none, and its words are for the first that took it.
#[tokio::test]
async fn a_client_that_goes_on_without_an_answer_has_its_tunnel() {
    let _clock = Slow::by(TIMES);
    let (first, second) = (Raw::start().await, Raw::start().await);
    let bare = site(&[&first, &second]).await;
    let hello = with_sni(Some("puppet.lab.test"));
    let mut client = say(&bare, &hello).await;
    let mut upstream = first.accept().await;
    expect(&mut upstream, &hello).await;
    client.write_all(b"more").await.unwrap();
    expect(&mut upstream, b"more").await;
    upstream.write_all(b"k").await.unwrap();
    expect(&mut client, b"k").await;
    drop((client, upstream));
    let line = line(&bare).await;
    assert_eq!(line.get("message"), Some("carried"), "{line}");
    assert_eq!(line.get("up"), Some((hello.len() + 4).to_string().as_str()), "{line}");
}

#[tokio::test]
async fn what_may_not_be_said_twice_passes_over_who_refuses() {
    let _clock = Slow::by(TIMES);
    let bytes = with_extension(&hello(), EARLY_DATA);
    let (gone, server) = (support::tcp::refusing(), Raw::start().await);
    let addresses = [gone, server.address()].map(|address| (address.port(), vec![address.ip()]));
    let bare = site_at(&addresses, |_| ()).await;
    let mut client = say(&bare, &bytes).await;
    let mut two = server.accept().await;
    expect(&mut two, &bytes).await;
    two.write_all(ANSWER).await.unwrap();
    expect(&mut client, ANSWER).await;
}

/// What is named by a URL and is there alone may be anything.
#[tokio::test]
async fn a_lone_server_that_speaks_first_within_connect_gets_the_tunnel() {
    let _clock = Slow::by(TIMES);
    let server = Raw::start().await;
    let bare = site(&[&server]).await;
    let mut client = tunnel(bare.shim(), TARGET).await;
    let mut one = server.accept().await;
    sleep(Duration::from_secs(3)).await;
    one.write_all(b"220 ready\r\n").await.unwrap();
    expect(&mut client, b"220 ready\r\n").await;
    client.write_all(b"EHLO").await.unwrap();
    expect(&mut one, b"EHLO").await;
}

/// But no Puppet server speaks first.
#[tokio::test]
async fn a_server_that_speaks_first_within_connect_is_passed_over() {
    let _clock = Slow::by(TIMES);
    let servers = [Raw::start().await, Raw::start().await];
    let bare = site(&servers.each_ref()).await;
    let mut client = tunnel(bare.shim(), TARGET).await;
    let mut one = servers[0].accept().await;
    one.write_all(b"220 ready\r\n").await.unwrap();
    let mut two = servers[1].accept().await;
    client.write_all(&hello()).await.unwrap();
    expect(&mut two, &hello()).await;
    two.write_all(ANSWER).await.unwrap();
    expect(&mut client, ANSWER).await;
    let tried = line_after_close(&bare, client, two).await;
    assert!(tried.contains("does not speak TLS (its first byte is 0x32)"), "{tried}");
}

/// The servers are not to blame for the time that a client takes, and nobody but the first waits with it.
#[tokio::test]
async fn a_client_may_take_its_time_within_connect() {
    let _clock = Slow::by(TIMES);
    let servers = [Raw::start().await, Raw::start().await];
    let bare = site(&servers.each_ref()).await;
    let mut client = tunnel(bare.shim(), TARGET).await;
    let mut one = servers[0].accept().await;
    assert!(servers[1].is_left_alone(Duration::from_secs(9)).await, "there is nothing to race for yet");
    client.write_all(&hello()).await.unwrap();
    let began = Instant::now();
    expect(&mut one, &hello()).await;
    let mut two = servers[1].accept().await;
    assert_ms(ms(began), 250);
    expect(&mut two, &hello()).await;
    // The budget, too, has waited.
    sleep(Duration::from_secs(12)).await;
    two.write_all(ANSWER).await.unwrap();
    expect(&mut client, ANSWER).await;
    expect_closed(&mut one).await;
    let tried = line_after_close(&bare, client, two).await;
    assert_ms(waited(&tried)[0], 12_250);
}

/// Closes both ends, and gives what was tried.
async fn line_after_close(bare: &Bare, client: TcpStream, server: TcpStream) -> String {
    drop((client, server));
    line(bare).await.get("tried").unwrap().to_string()
}

/// It may be waiting for the server to begin.
#[tokio::test]
async fn a_client_that_stays_silent_within_connect_is_handed_to_the_first_that_accepted() {
    let _clock = Slow::by(TIMES);
    let servers = [Raw::start().await, Raw::start().await];
    let bare = site(&servers.each_ref()).await;
    let mut client = tunnel(bare.shim(), TARGET).await;
    let mut one = servers[0].accept().await;
    sleep(Duration::from_secs(11)).await;
    client.write_all(&hello()).await.unwrap();
    expect(&mut one, &hello()).await;
    assert!(servers[1].is_left_alone(NEVER).await);
    one.write_all(b"anything").await.unwrap();
    expect(&mut client, b"anything").await;
}

#[tokio::test]
async fn a_server_that_leaves_before_the_hello_is_replaced() {
    let _clock = Slow::by(TIMES);
    let servers = [Raw::start().await, Raw::start().await];
    let bare = site(&servers.each_ref()).await;
    let mut client = tunnel(bare.shim(), TARGET).await;
    drop(servers[0].accept().await);
    let mut two = servers[1].accept().await;
    client.write_all(&hello()).await.unwrap();
    expect(&mut two, &hello()).await;
    two.write_all(ANSWER).await.unwrap();
    expect(&mut client, ANSWER).await;
    let tried = line_after_close(&bare, client, two).await;
    assert!(tried.contains("accepted and closed the connection; server1.lab.test"), "{tried}");
}

#[tokio::test]
async fn a_client_that_leaves_ends_the_race_and_blames_nobody() {
    let _clock = Slow::by(TIMES);
    for in_connect in [false, true] {
        let servers = [Raw::start().await, Raw::start().await, Raw::start().await];
        let bare = site(&servers.each_ref()).await;
        let mut client = if in_connect { tunnel(bare.shim(), TARGET).await } else { say(&bare, b"").await };
        client.write_all(&hello()).await.unwrap();
        let mut open = Vec::new();
        for server in &servers {
            let mut stream = server.accept().await;
            expect(&mut stream, &hello()).await;
            open.push(stream);
        }
        sleep(Duration::from_millis(500)).await;
        drop(client);
        for stream in &mut open {
            expect_closed(stream).await;
        }
        let line = line(&bare).await;
        assert_eq!(line.get("end"), Some("the client went before a server had answered: it closed"));
        assert_eq!((line.get("side"), line.get("status"), line.get("alert")), (Some("client"), None, None));

        // The next one gets the first, and its whole quarter of a second.
        let (mut client, began) = (say(&bare, &hello()).await, Instant::now());
        let mut one = servers[0].accept().await;
        assert_ms(ms(began), 0);
        sleep(Duration::from_millis(240)).await;
        one.write_all(ANSWER).await.unwrap();
        expect(&mut client, ANSWER).await;
        assert!(servers[1].is_left_alone(NEVER).await);
        line_after_close(&bare, client, one).await;
    }
}

/// A site whose servers are all slow must not get twice the handshakes because of us.
#[tokio::test]
async fn slow_servers_are_given_their_usual_time() {
    const USUAL: Duration = Duration::from_millis(400);
    let _clock = Slow::by(TIMES);
    let servers = [Raw::start().await, Raw::start().await];
    let bare = site(&servers.each_ref()).await;
    for n in 0..8 {
        let mut client = say(&bare, &hello()).await;
        let mut one = servers[0].accept().await;
        sleep(USUAL).await;
        one.write_all(ANSWER).await.unwrap();
        expect(&mut client, ANSWER).await;
        if n == 0 {
            // Nothing was known of it, and what it took is not held against it.
            let mut two = servers[1].accept().await;
            expect(&mut two, &hello()).await;
            expect_closed(&mut two).await;
        }
        let tried = line_after_close(&bare, client, one).await;
        assert_eq!(waited(&tried).len(), usize::from(n == 0), "{tried}");
    }
    assert!(servers[1].is_left_alone(NEVER).await);
}

/// A dead family costs a quarter of a second once, whichever server it shows at: the next attempt takes the other.
#[tokio::test]
async fn a_dead_family_is_found_out_once() {
    let _clock = Slow::by(TIMES);
    let any = SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), 0);
    TcpListener::bind(any).await.expect("this test needs IPv6 on loopback: sysctl net.ipv6.conf.lo.disable_ipv6=0");
    let dead = || BlackHole::at(any);
    let holes = [dead(), dead()];
    let mut servers = Vec::new();
    let mut addresses = Vec::new();
    for hole in &holes {
        let port = hole.address().port();
        let server = Raw::at(SocketAddr::new(support::loopback::any_port().ip(), port)).await;
        addresses.push((port, vec![hole.address().ip(), server.address().ip()]));
        servers.push(server);
    }
    for count in [1, 2] {
        let bare = site_at(&addresses[..count], |config| config.timeouts.pin = Duration::ZERO).await;
        for expected in [250, 0, 0] {
            let (mut client, began) = (say(&bare, &hello()).await, Instant::now());
            let mut server = servers[count - 1].accept().await;
            server.write_all(ANSWER).await.unwrap();
            expect(&mut client, ANSWER).await;
            assert_ms(ms(began), expected);
            line_after_close(&bare, client, server).await;
        }
    }
}
