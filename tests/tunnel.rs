//! Bytes, FIN and RST go through a tunnel as they came, each way for itself.
//!
//! A server's close that is held back turns the agent's clean reconnect into a failed request, and a half-close that
//! ends both ways loses an answer. Both ends are plain sockets here, so that what arrives is exactly what the shim has
//! sent.

// A test ends where its set-up fails.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::io::ErrorKind;
use std::time::Duration;

use puppet_shim::config::{Config, StaticServer};
use puppet_shim::host::Host;
use support::clock::Slow;
use support::journal::Line;
use support::raw;
use support::shim::{Bare, role};
use support::tcp::{BlackHole, PATIENCE, Raw, begin, tunnel};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, interval, timeout};

const TARGET: &str = "puppet:8140";

/// A shim whose compile server is this one.
async fn shim_for(server: &Raw, adjust: impl FnOnce(&mut Config)) -> Bare {
    let address = server.address();
    Bare::with(|config| {
        let compile = role(config, "compile");
        compile.srv = None;
        compile.servers = vec![StaticServer { host: Host::Ip(address.ip()), port: Some(address.port()) }];
        adjust(config);
    })
    .await
}

/// A tunnel and both its ends. One byte has gone up already.
async fn ends() -> (Bare, TcpStream, TcpStream) {
    let server = Raw::start().await;
    let bare = shim_for(&server, |_| ()).await;
    let mut client = tunnel(bare.shim(), TARGET).await;
    let mut server = server.accept().await;
    begin(&mut client, &mut server).await;
    (bare, client, server)
}

async fn line(bare: &Bare) -> Line {
    let mut lines = bare.journal.take(1).await;
    assert_eq!(lines.len(), 1, "one connection, more than one line");
    lines.remove(0)
}

/// `up`: without the byte that began the tunnel.
fn assert_line(line: &Line, message: &str, end: &str, up: usize, down: usize) {
    let up = up + 1;
    let seen = ["message", "end", "up", "down"].map(|field| line.get(field).unwrap_or_default());
    assert_eq!(seen, [message, end, &up.to_string(), &down.to_string()], "{line}");
}

async fn read_all(stream: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
    let mut bytes = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.expect("no end").unwrap();
    bytes
}

async fn read_exact(stream: &mut TcpStream, expected: &[u8]) {
    let mut bytes = vec![0; expected.len()];
    timeout(PATIENCE, stream.read_exact(&mut bytes)).await.expect("nothing comes").unwrap();
    assert_eq!(bytes, expected);
}

#[tokio::test]
async fn the_client_ends_first_and_still_gets_its_answer() {
    let (bare, mut client, mut server) = ends().await;
    client.write_all(b"request").await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(read_all(&mut server).await, b"request");
    // The server has seen the client's end, and goes on.
    for piece in [&b"an "[..], b"answer"] {
        server.write_all(piece).await.unwrap();
        read_exact(&mut client, piece).await;
    }
    assert_eq!(bare.journal.lines(), []);
    drop(server);
    assert_eq!(read_all(&mut client).await, b"");
    assert_line(&line(&bare).await, "carried", "client closed", 7, 9);
}

#[tokio::test]
async fn the_server_ends_first_and_still_gets_what_the_client_says() {
    let (bare, mut client, mut server) = ends().await;
    server.write_all(b"answer").await.unwrap();
    server.shutdown().await.unwrap();
    assert_eq!(read_all(&mut client).await, b"answer");
    for piece in [&b"late "[..], b"words"] {
        client.write_all(piece).await.unwrap();
        read_exact(&mut server, piece).await;
    }
    assert_eq!(bare.journal.lines(), []);
    drop(client);
    assert_eq!(read_all(&mut server).await, b"");
    assert_line(&line(&bare).await, "carried", "server closed", 10, 6);
}

/// Reading fails with the reset that the other end has sent.
async fn assert_reset(stream: &mut TcpStream) {
    let error = timeout(PATIENCE, stream.read_u8()).await.expect("nothing comes").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn the_clients_reset_is_passed_on() {
    let (bare, client, mut server) = ends().await;
    client.set_zero_linger().unwrap();
    drop(client);
    assert_reset(&mut server).await;
    assert_line(&line(&bare).await, "carried", "client closed (reset)", 0, 0);
}

#[tokio::test]
async fn the_servers_reset_is_passed_on() {
    let (bare, mut client, server) = ends().await;
    server.set_zero_linger().unwrap();
    drop(server);
    assert_reset(&mut client).await;
    assert_line(&line(&bare).await, "broken", "server: connection reset", 0, 0);
}

/// A reset behind a half-close, too: the one way that is left breaks.
#[tokio::test]
async fn the_servers_reset_after_the_clients_end_is_passed_on() {
    let (bare, mut client, mut server) = ends().await;
    client.shutdown().await.unwrap();
    assert_eq!(read_all(&mut server).await, b"");
    server.set_zero_linger().unwrap();
    drop(server);
    assert_reset(&mut client).await;
    assert_eq!(line(&bare).await.get("message"), Some("broken"));
}

/// The last words before an end arrive before it.
#[tokio::test]
async fn what_was_said_before_the_end_arrives() {
    let words = vec![0x77; 3_000_000];
    let (bare, mut client, mut server) = ends().await;
    let speak = async {
        server.write_all(&words).await.unwrap();
        drop(server);
    };
    let (received, ()) = tokio::join!(read_all(&mut client), speak);
    assert!(received == words, "{} bytes arrived", received.len());
    drop(client);
    assert_line(&line(&bare).await, "carried", "server closed", 0, words.len());
}

/// Bytes for each way, large enough for every buffer on the way to have been full many times.
const MUCH: usize = 64 * 1024 * 1024;

/// A period that no buffer's size divides, so that a lost, doubled or swapped block shows.
fn pattern(seed: u8) -> Vec<u8> {
    let mut state = u32::from(seed) + 1;
    let next = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    (0..100_003).map(next).collect()
}

async fn write_pattern(stream: &mut (impl AsyncWrite + Unpin), seed: u8) {
    let pattern = pattern(seed);
    let mut left = MUCH;
    while left > 0 {
        let now = left.min(pattern.len());
        stream.write_all(&pattern[..now]).await.unwrap();
        left -= now;
    }
    stream.shutdown().await.unwrap();
}

/// Reads to the end, now and then taking a rest if told to, and compares.
async fn read_pattern(stream: &mut (impl AsyncRead + Unpin), seed: u8, slow: bool) {
    // Twice, so that any piece from anywhere in it is one slice.
    let period = pattern(seed);
    let twice = [period.as_slice(), &period].concat();
    let mut beat = interval(Duration::from_millis(1));
    let (mut at, mut buffer) = (0, vec![0; 50_000]);
    loop {
        let read = stream.read(&mut buffer).await.unwrap();
        if read == 0 {
            break;
        }
        let from = at % period.len();
        assert!(buffer[..read] == twice[from..from + read], "not what was sent, from byte {at} on");
        at += read;
        if slow {
            beat.tick().await;
        }
    }
    assert_eq!(at, MUCH);
}

#[tokio::test]
async fn much_goes_both_ways_at_once_past_a_slow_reader() {
    let (bare, client, server) = ends().await;
    let ((mut from_shim, mut to_shim), (mut at_server, mut back)) = (client.into_split(), server.into_split());
    let all = async {
        tokio::join!(
            write_pattern(&mut to_shim, 1),
            read_pattern(&mut at_server, 1, true),
            write_pattern(&mut back, 2),
            read_pattern(&mut from_shim, 2, false),
        )
    };
    timeout(Duration::from_secs(300), all).await.expect("it does not end");
    drop((from_shim, to_shim));
    let line = line(&bare).await;
    let counted = ["up", "down"].map(|field| line.get(field).unwrap().parse::<usize>().unwrap());
    assert_eq!(counted, [MUCH + 1, MUCH], "{line}");
}

/// The kernel moves bytes through a pipe that all tunnels share: what is in there when one breaks is nobody else's.
#[tokio::test]
async fn one_that_breaks_in_the_middle_leaves_nothing_to_the_others() {
    let server = Raw::start().await;
    let bare = shim_for(&server, |_| ()).await;
    let mut client = tunnel(bare.shim(), TARGET).await;
    let mut upstream = server.accept().await;
    begin(&mut client, &mut upstream).await;
    let well = async { tokio::join!(write_pattern(&mut upstream, 3), read_pattern(&mut client, 3, false)) };
    let broken = async {
        for _ in 0..20 {
            let mut client = tunnel(bare.shim(), TARGET).await;
            let mut upstream = server.accept().await;
            begin(&mut client, &mut upstream).await;
            let send = async {
                // Until the shim has nobody to give it to.
                let piece = vec![0xee; 1024 * 1024];
                while upstream.write_all(&piece).await.is_ok() {}
            };
            let leave = async {
                let mut bytes = vec![0; 2 * 1024 * 1024];
                client.read_exact(&mut bytes).await.unwrap();
                client.set_zero_linger().unwrap();
                drop(client);
            };
            tokio::join!(send, leave);
        }
    };
    timeout(Duration::from_secs(300), async { tokio::join!(well, broken) }).await.expect("it does not end");
}

/// A reader that reads nothing holds up its own way, not the other, and not the shim.
#[tokio::test]
async fn who_does_not_read_holds_up_nobody_else() {
    let server = Raw::start().await;
    let bare = shim_for(&server, |_| ()).await;
    let client = tunnel(bare.shim(), TARGET).await;
    let stuck = server.accept().await;
    let (mut from_shim, mut to_shim) = client.into_split();
    // Until every buffer is full.
    let (mut sent, piece) = (0, vec![0; 65536]);
    while let Ok(written) = timeout(Duration::from_millis(100), to_shim.write(&piece)).await {
        sent += written.unwrap();
        assert!(sent < 256 * 1024 * 1024, "the shim takes in what nobody reads");
    }
    let (_, mut back) = stuck.into_split();
    back.write_all(b"still here").await.unwrap();
    let mut bytes = [0; 10];
    timeout(PATIENCE, from_shim.read_exact(&mut bytes)).await.expect("the other way is held up").unwrap();
    let _other = tunnel(bare.shim(), TARGET).await;
}

#[tokio::test]
async fn an_idle_tunnel_is_closed_and_a_busy_one_is_not() {
    const IDLE: Duration = Duration::from_millis(400);
    let server = Raw::start().await;
    let _clock = Slow::start();
    let bare = shim_for(&server, |config| config.timeouts.idle = IDLE).await;
    let mut client = tunnel(bare.shim(), TARGET).await;
    let mut upstream = server.accept().await;
    // Twice the limit with a word now and then, by turns from either side.
    let began = Instant::now();
    let mut beat = interval(IDLE / 8);
    for turn in 0..16 {
        beat.tick().await;
        let (from, to) = if turn % 2 == 0 { (&mut client, &mut upstream) } else { (&mut upstream, &mut client) };
        from.write_all(b".").await.unwrap();
        read_exact(to, b".").await;
    }
    assert!(began.elapsed() > IDLE);
    let silent = Instant::now();
    client.write_all(b".").await.unwrap();
    read_exact(&mut upstream, b".").await;
    assert_eq!(read_all(&mut client).await, b"");
    assert!(silent.elapsed() >= IDLE, "{:?}", silent.elapsed());
    assert_eq!(read_all(&mut upstream).await, b"");
    let line = line(&bare).await;
    assert_eq!(line.get("message"), Some("broken"));
    assert!(line.get("end").unwrap().starts_with("idle for "), "{line}");
}

/// The agent has given up. The server is not bothered, or sees its end at once; the place is free again.
#[tokio::test]
async fn a_client_that_leaves_while_we_dial() {
    let (hole, server) = (BlackHole::new(), Raw::start().await);
    let bare = shim_for(&server, |config| {
        config.timeouts.connect = Duration::from_millis(300);
        let compile = role(config, "compile");
        let address = hole.address();
        compile.servers.insert(0, StaticServer { host: Host::Ip(address.ip()), port: Some(address.port()) });
    })
    .await;
    let hello = raw::client_hello("puppet.lab.test");
    let mut client = TcpStream::connect(bare.shim()).await.unwrap();
    client.write_all(&hello).await.unwrap();
    client.set_zero_linger().unwrap();
    // The shim has the hello once it asks the first server, which is at once, and never answered.
    tokio::task::yield_now().await;
    drop(client);
    let line = line(&bare).await;
    assert_eq!(line.get("role"), Some("compile"), "{line}");
    assert_eq!(line.get("down"), Some("0"), "{line}");
}

#[tokio::test]
async fn many_at_once() {
    let server = Raw::start().await;
    let bare = shim_for(&server, |_| ()).await;
    let mut pairs = Vec::new();
    for n in 0..300_u32 {
        let client = tunnel(bare.shim(), TARGET).await;
        let mut upstream = server.accept().await;
        upstream.write_all(&n.to_be_bytes()).await.unwrap();
        pairs.push((client, upstream, n));
    }
    for (client, upstream, n) in &mut pairs {
        read_exact(client, &n.to_be_bytes()).await;
        client.write_all(&n.to_le_bytes()).await.unwrap();
        read_exact(upstream, &n.to_le_bytes()).await;
    }
    drop(pairs);
    let lines = bare.journal.take(300).await;
    assert_eq!(lines.len(), 300);
    assert!(lines.iter().all(|line| line.get("message") == Some("carried") && line.get("up") == Some("4")));
}

#[tokio::test]
async fn one_over_the_cap_waits_until_another_ends() {
    let server = Raw::start().await;
    let bare = shim_for(&server, |config| config.limits.connections = 2).await;
    let first = tunnel(bare.shim(), TARGET).await;
    let first_upstream = server.accept().await;
    let _second = tunnel(bare.shim(), TARGET).await;
    let _second_upstream = server.accept().await;

    let waiting = tunnel(bare.shim(), TARGET);
    tokio::pin!(waiting);
    let early = timeout(Duration::from_millis(300), &mut waiting).await;
    assert!(early.is_err(), "a third of two was served");
    drop((first, first_upstream));
    timeout(PATIENCE, waiting).await.expect("the place of the one that ended was not given on");
    server.accept().await;
}

/// A place is for a connection, not for a listener: one that nobody comes to must not take what another needs.
#[tokio::test]
async fn the_cap_is_for_all_listeners_together() {
    let server = Raw::start().await;
    let bare = shim_for(&server, |config| {
        config.limits.connections = 1;
        config.listen.push(config.listen[0]);
        config.listen.push(config.listen[0]);
    })
    .await;
    // In an order that no queue among the listeners would have.
    let [a, b, c] = bare.shim_addresses().try_into().unwrap();
    for address in [c, a, a, b, c] {
        let client = timeout(PATIENCE, tunnel(address, TARGET)).await.expect("a listener that nobody serves");
        let upstream = server.accept().await;
        drop((client, upstream));
        bare.journal.take(1).await;
    }
}

/// Stopping ends the tunnels, and says so in their lines.
#[tokio::test]
async fn a_stop_ends_what_is_open() {
    let server = Raw::start().await;
    let mut bare = shim_for(&server, |_| ()).await;
    let mut client = tunnel(bare.shim(), TARGET).await;
    let mut upstream = server.accept().await;
    begin(&mut client, &mut upstream).await;
    bare.stop_shim().await;
    assert_eq!(read_all(&mut client).await, b"");
    assert_eq!(read_all(&mut upstream).await, b"");
    let line = line(&bare).await;
    assert_line(&line, "cut", "puppet-shim stopped", 0, 0);
    let refused = TcpStream::connect(bare.shim()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
}
