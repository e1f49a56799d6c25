//! What is no Puppet agent's connection is told so, soon and understandably, and is one line in the log.
//!
//! Port scanners, health checks, browsers, broken clients and wrong settings all end here. TLS is answered with an
//! alert that its library prints, the rest with an HTTP status whose reason says what to write instead; never with a
//! bare close, and never with a reset that would lose the answer.

// A test ends where its set-up fails.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::time::Duration;

use puppet_shim::config::StaticServer;
use puppet_shim::host::Host;
use support::client::connect_request;
use support::hello::{OPENSSL, POST_QUANTUM, with_sni};
use support::journal::Line;
use support::raw::{self, Reply};
use support::shim::{Bare, role};
use support::tcp::{ANSWER, Raw, status_line};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, interval, timeout};

/// `timeouts.sniff` here.
const DEADLINE: Duration = Duration::from_millis(600);
/// Late for something that happens at the deadline, on a busy machine.
const LATE: Duration = Duration::from_secs(3);
/// `limits.hello` here.
const LIMIT: usize = 1024;

async fn shim() -> Bare {
    Bare::slow(|config| {
        config.timeouts.sniff = DEADLINE;
        config.limits.hello = LIMIT;
    })
    .await
}

/// The answer to these bytes, and the one log line about it.
async fn refused(bare: &Bare, bytes: &[u8]) -> (Vec<u8>, Line) {
    let reply = timeout(LATE, raw::exchange(bare.shim(), &[bytes])).await;
    let Reply { bytes: answer, closed } = reply.expect("no answer").unwrap();
    assert!(closed, "reset behind {:?}", String::from_utf8_lossy(&answer));
    (answer, line(bare).await)
}

async fn line(bare: &Bare) -> Line {
    let mut lines = bare.journal.take(1).await;
    assert_eq!(lines.len(), 1, "one connection, more than one line");
    let line = lines.remove(0);
    assert_eq!(line.get("message"), Some("refused"), "{line}");
    assert!(line.get("from").is_some_and(|from| from.starts_with("127.0.0.1:")), "{line}");
    line
}

/// These bytes are refused with this status; returns the reason and the log line.
async fn status(bare: &Bare, bytes: &[u8], expected: u16) -> (String, Line) {
    let (answer, line) = refused(bare, bytes).await;
    let text = String::from_utf8(answer).unwrap();
    let (status, reason) = status_line(&text);
    assert_eq!(status, expected, "{text}");
    assert!(text.ends_with(&format!("\r\n\r\n{reason}\n")), "for people with curl, the reason as the body: {text}");
    assert_eq!(line.get("status"), Some(expected.to_string().as_str()), "{line}");
    assert_eq!(line.get("end"), Some(reason.as_str()), "{line}");
    assert_eq!(line.get("alert"), None, "{line}");
    (reason, line)
}

/// These bytes are refused with this alert; returns the log line.
async fn alert(bare: &Bare, bytes: &[u8], expected: u8) -> Line {
    let (answer, line) = refused(bare, bytes).await;
    assert_eq!(answer, alert_record(expected), "{line}");
    assert_eq!(line.get("alert"), Some(expected.to_string().as_str()), "{line}");
    assert_eq!(line.get("status"), None, "{line}");
    line
}

/// RFC 8446 §5.1 and §6: an alert, TLS 1.2 as ever on the wire, two bytes, fatal, and which.
fn alert_record(description: u8) -> Vec<u8> {
    vec![21, 3, 3, 0, 2, 2, description]
}

#[tokio::test]
async fn what_is_neither_tls_nor_http() {
    let bare = shim().await;
    for garbage in [&b"\x00\x01\x02\x03"[..], b"\x80\x2e\x01\x00\x02", b"SSH-2.0-x\r\n\r\n", b"get / http/1.1\r\n\r\n"]
    {
        let (reason, line) = status(&bare, garbage, 400).await;
        assert_eq!(line.get("role"), None);
        if garbage[0] == 0 {
            assert_eq!(reason, "neither TLS nor HTTP: the first byte is 0x00; this port tunnels Puppet's connections");
        }
    }
    assert_eq!(bare.journal.lines(), []);
}

#[tokio::test]
async fn garbage_longer_than_is_read_is_answered_all_the_same() {
    let bare = shim().await;
    status(&bare, &vec![0; 200_000], 400).await;
}

#[tokio::test]
async fn a_browser_where_there_is_no_page() {
    let bare = Bare::slow(|config| config.status.page = false).await;
    let (reason, _) = status(&bare, b"GET / HTTP/1.1\r\nHost: localhost:8139\r\n\r\n", 404).await;
    assert_eq!(
        reason,
        "this is puppet-shim, which tunnels Puppet's connections; it answers CONNECT and absolute-form requests. \
         Its page would be had by page = true under [status] in puppet-shim.toml"
    );
    status(&bare, b"GET / HTTP/9.9\r\n\r\n", 400).await;
}

#[tokio::test]
async fn connect_that_is_wrong() {
    let bare = shim().await;
    let (reason, _) = status(&bare, connect_request("puppet").as_bytes(), 400).await;
    assert_eq!(
        reason,
        "CONNECT puppet: the port is missing; a CONNECT names HOST:PORT, such as puppet.example.com:8140"
    );
    for target in ["puppet:0", "puppet:65536", "puppet:x", "puppet:", "puppet:+1", "puppet:-1"] {
        let (reason, _) = status(&bare, connect_request(target).as_bytes(), 400).await;
        assert!(reason.starts_with(&format!("CONNECT {target}: the port is not a number from 1 to 65535")), "{reason}");
    }
    for target in [":8140", "a..b:8140", "[puppet]:8140", "pup/pet:8140"] {
        status(&bare, connect_request(target).as_bytes(), 400).await;
    }
    assert_eq!(bare.dns.all_queries(), 0);
}

#[tokio::test]
async fn a_head_over_the_limit() {
    let bare = shim().await;
    let long = format!("CONNECT puppet:8140 HTTP/1.1\r\nX: {}\r\n\r\n", "y".repeat(2 * LIMIT));
    let (reason, _) = status(&bare, long.as_bytes(), 431).await;
    assert_eq!(reason, "the HTTP head is over 1024 bytes; `limits.hello` sets the limit");
}

#[tokio::test]
async fn a_hello_over_the_limit() {
    let bare = shim().await;
    let line = alert(&bare, POST_QUANTUM, 50).await;
    assert_eq!(line.get("end"), Some("the ClientHello is over 1024 bytes; `limits.hello` sets the limit"));
    assert_eq!(bare.dns.all_queries(), 0);
}

#[tokio::test]
async fn a_hello_that_is_none() {
    let bare = shim().await;
    // A record of type handshake whose message is a ServerHello.
    let mut wrong = OPENSSL.to_vec();
    wrong[5] = 2;
    let (answer, line) = refused(&bare, &wrong).await;
    assert_eq!(answer.len(), 7, "an alert, whichever: {answer:?}");
    assert_eq!(answer[..6], alert_record(0)[..6]);
    assert_eq!(line.get("alert"), Some(answer[6].to_string().as_str()));
    assert!(line.get("end").unwrap().starts_with("broken ClientHello: "), "{line}");
}

#[tokio::test]
async fn names_that_are_nobodys() {
    let bare = shim().await;
    let (reason, line) = status(&bare, connect_request("www.example.org:443").as_bytes(), 403).await;
    assert_eq!(
        reason,
        "www.example.org:443 is not a Puppet server of this site; the setting foreign = direct (or the URL of a proxy) in \
         puppet-shim.toml would allow it"
    );
    let field = |line: &Line, name| line.get(name).map(str::to_owned);
    assert_eq!(field(&line, "name").as_deref(), Some("www.example.org"));
    assert_eq!(field(&line, "port").as_deref(), Some("443"));
    assert_eq!(field(&line, "row").as_deref(), Some("foreign"));

    let port = bare.shim().port();
    for (name, what) in [
        (Some("www.example.org"), "www.example.org is no role's name and no current target"),
        (None, "the connection carries no name (SNI)"),
        (Some("192.0.2.1"), "the connection carries no name (SNI)"),
    ] {
        let line = alert(&bare, &with_sni(name), 112).await;
        let end = format!("{what}, and the listener's port {port} is no role's");
        assert_eq!(line.get("end"), Some(end.as_str()));
        assert_eq!(line.get("row"), Some("foreign"));
        assert_eq!(line.get("via"), Some("tls"));
    }
    assert_eq!(bare.journal.lines(), []);
}

/// Something was refused when it should have been, not before and not much later.
fn assert_at_deadline(began: Instant) {
    let took = began.elapsed();
    assert!(took >= DEADLINE && took < DEADLINE + LATE, "{took:?}, with a deadline of {DEADLINE:?}");
}

#[tokio::test]
async fn nothing_at_all() {
    let bare = shim().await;
    let began = Instant::now();
    let (reason, line) = status(&bare, b"", 408).await;
    assert_at_deadline(began);
    assert_eq!(reason, "after 0 bytes nothing that says what the client wants, within 600ms (`timeouts.sniff`)");
    assert_eq!(line.get("sniff_ms"), None);
}

#[tokio::test]
async fn a_head_that_never_ends() {
    let bare = shim().await;
    let began = Instant::now();
    status(&bare, b"CONNECT puppet:8140 HTTP/1.1\r\n", 408).await;
    assert_at_deadline(began);
}

#[tokio::test]
async fn a_hello_that_never_ends() {
    let bare = shim().await;
    let began = Instant::now();
    let line = alert(&bare, &OPENSSL[..100], 80).await;
    assert_at_deadline(began);
    assert_eq!(
        line.get("end"),
        Some("after 100 bytes nothing that says what the client wants, within 600ms (`timeouts.sniff`)")
    );
}

/// The deadline is for the whole hello, not for each of its bytes.
#[tokio::test]
async fn a_hello_that_drips_is_given_up_at_the_same_deadline() {
    let bare = shim().await;
    let began = Instant::now();
    let client = TcpStream::connect(bare.shim()).await.unwrap();
    client.set_nodelay(true).unwrap();
    let (mut from_shim, mut to_shim) = client.into_split();
    let drip = async {
        let mut beat = interval(Duration::from_millis(20));
        for byte in OPENSSL {
            beat.tick().await;
            if to_shim.write_all(&[*byte]).await.is_err() {
                return;
            }
        }
    };
    let mut answer = [0; 7];
    tokio::select! {
        () = drip => panic!("all of the hello was taken"),
        read = timeout(DEADLINE + LATE, from_shim.read_exact(&mut answer)) => { read.expect("no answer").unwrap(); }
    }
    assert_at_deadline(began);
    assert_eq!(answer.to_vec(), alert_record(80));
    assert_eq!(line(&bare).await.get("alert"), Some("80"));
}

#[tokio::test]
async fn a_hello_that_is_merely_slow_is_carried() {
    let server = Raw::start().await;
    let address = server.address();
    let bare = Bare::slow(|config| {
        config.domain = Some("example.test".into());
        config.limits.hello = LIMIT;
        let compile = role(config, "compile");
        compile.srv = None;
        compile.servers = vec![StaticServer { host: Host::Ip(address.ip()), port: Some(address.port()) }];
    })
    .await;
    let mut client = TcpStream::connect(bare.shim()).await.unwrap();
    client.set_nodelay(true).unwrap();
    let mut beat = interval(Duration::from_millis(1));
    for byte in OPENSSL {
        beat.tick().await;
        client.write_all(&[*byte]).await.unwrap();
    }
    let mut received = vec![0; OPENSSL.len()];
    let mut upstream = server.accept().await;
    upstream.read_exact(&mut received).await.unwrap();
    assert!(received == OPENSSL);
    upstream.write_all(ANSWER).await.unwrap();
    let mut answer = vec![0; ANSWER.len()];
    client.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, ANSWER);
    drop((client, upstream));
    let lines = bare.journal.take(1).await;
    assert_eq!((lines.len(), lines[0].get("message")), (1, Some("carried")));
}

/// A port check: no failure of anybody's.
#[tokio::test]
async fn connect_and_close_at_once() {
    let bare = shim().await;
    drop(TcpStream::connect(bare.shim()).await.unwrap());
    let line = line(&bare).await;
    assert_eq!(line.get("end"), Some("the client closed after 0 bytes"));
    assert_eq!((line.get("alert"), line.get("role")), (None, None));
}

/// The client has ended its own side, and still reads.
#[tokio::test]
async fn half_a_hello_and_its_end() {
    let bare = shim().await;
    let mut client = TcpStream::connect(bare.shim()).await.unwrap();
    client.write_all(&OPENSSL[..300]).await.unwrap();
    client.shutdown().await.unwrap();
    let mut answer = Vec::new();
    timeout(LATE, client.read_to_end(&mut answer)).await.expect("no answer").unwrap();
    assert_eq!(answer, alert_record(80));
    assert_eq!(line(&bare).await.get("end"), Some("the client closed after 300 bytes"));
}

/// A reset is no answer's reader.
#[tokio::test]
async fn connect_and_reset_at_once() {
    let bare = shim().await;
    let client = TcpStream::connect(bare.shim()).await.unwrap();
    client.set_zero_linger().unwrap();
    drop(client);
    let line = line(&bare).await;
    assert!(line.get("end").unwrap().starts_with("the client's connection broke: "), "{line}");
}

/// Closing at once would be a reset to a client that is still sending, and with some systems the answer would be lost
/// to it.
#[tokio::test]
async fn a_client_that_is_still_sending_is_not_reset() {
    let bare = shim().await;
    let mut client = TcpStream::connect(bare.shim()).await.unwrap();
    client.write_all(&[0; 2000]).await.unwrap();
    let mut answer = Vec::new();
    timeout(LATE, client.read_to_end(&mut answer)).await.expect("no answer").unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 400 "));
    let mut beat = interval(Duration::from_millis(10));
    for _ in 0..10 {
        beat.tick().await;
        client.write_all(&[0; 2000]).await.expect("reset");
    }
}
