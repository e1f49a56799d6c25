//! A hello is understood however it arrives, and only once it is whole.
//!
//! OpenSSL 3.5 offers a post-quantum key share, which makes the hello longer than a segment; a TLS client may also cut
//! it into as many records as it likes. Two captured hellos go through the sniffer in every such way, and then through
//! a daemon, whose server must get every byte as it was sent.

// A test ends where its set-up fails.
#![allow(clippy::unwrap_used)]

mod support;

use puppet_shim::config::StaticServer;
use puppet_shim::host::Host;
use puppet_shim::sniff::{Hello, Sniffer, Voice};
use support::hello::{OPENSSL, OPENSSL_NAME, POST_QUANTUM, POST_QUANTUM_NAME, in_records, with_sni};
use support::shim::{Bare, role};
use support::tcp::{ANSWER, Raw};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const LIMIT: usize = 16 * 1024;
const CAPTURED: [(&[u8], &str); 2] = [(OPENSSL, OPENSSL_NAME), (POST_QUANTUM, POST_QUANTUM_NAME)];
const RECORDS: [usize; 4] = [1, 2, 5, 100];

/// What the sniffer makes of these bytes, which it must not refuse.
fn sniffed(bytes: &[u8]) -> Option<Hello> {
    Sniffer::new(LIMIT).push(bytes).unwrap()
}

#[allow(clippy::unnecessary_wraps, reason = "as the sniffer answers")]
fn named(name: &str) -> Option<Hello> {
    Some(Hello::Tls { sni: Some(name.parse().unwrap()) })
}

#[test]
fn every_prefix_needs_more_and_the_whole_has_the_name() {
    for (hello, name) in CAPTURED {
        for length in 0..hello.len() {
            assert_eq!(sniffed(&hello[..length]), None, "{length} bytes of the hello for {name}");
        }
        assert_eq!(sniffed(hello), named(name));
    }
}

#[test]
fn every_prefix_of_a_hello_in_several_records_needs_more() {
    for (hello, name) in CAPTURED {
        for size in RECORDS {
            let hello = in_records(hello, size);
            // With records of one byte, there are ten thousand prefixes and as many records: every so many will do.
            for length in (0..hello.len()).step_by(if size < 5 { 97 } else { 1 }).chain([hello.len() - 1]) {
                assert_eq!(sniffed(&hello[..length]), None, "{length} bytes in records of {size}");
            }
            assert_eq!(sniffed(&hello), named(name), "in records of {size}");
        }
    }
}

#[test]
fn byte_by_byte_it_is_understood_with_the_last() {
    for (hello, name) in CAPTURED {
        let cut = RECORDS.map(|size| in_records(hello, size));
        for hello in cut.iter().map(Vec::as_slice).chain([hello]) {
            let mut sniffer = Sniffer::new(LIMIT);
            let (last, before) = hello.split_last().unwrap();
            for (at, byte) in before.iter().enumerate() {
                assert_eq!(sniffer.push(&[*byte]).unwrap(), None, "byte {at}");
            }
            assert_eq!(sniffer.push(&[*last]).unwrap(), named(name));
            assert_eq!(sniffer.into_bytes(), hello);
        }
    }
}

#[test]
fn what_follows_the_hello_is_kept() {
    let early = [OPENSSL, b"\x17\x03\x03\x00\x02hi and more"].concat();
    let mut sniffer = Sniffer::new(LIMIT);
    assert_eq!(sniffer.push(&early).unwrap(), named(OPENSSL_NAME));
    assert_eq!(sniffer.into_bytes(), early);
}

#[test]
fn a_hello_as_long_as_the_limit_is_taken_and_no_longer_one() {
    assert_eq!(Sniffer::new(OPENSSL.len()).push(OPENSSL).unwrap(), named(OPENSSL_NAME));
    let mut sniffer = Sniffer::new(OPENSSL.len() - 1);
    let refused = sniffer.push(&OPENSSL[..OPENSSL.len() - 1]).unwrap_err();
    assert_eq!((refused.voice.clone(), refused.answer()), (Voice::Alert, vec![21, 3, 3, 0, 2, 2, 50]));
}

#[test]
fn without_a_name_it_is_still_a_hello() {
    assert_eq!(sniffed(&with_sni(None)), Some(Hello::Tls { sni: None }));
}

/// Ruby 3.1 does so for `server = 192.0.2.1`, against RFC 6066 §3. rustls passes over it, as Jetty does.
#[test]
fn an_address_in_the_sni_is_no_name() {
    assert_eq!(sniffed(&with_sni(Some("192.0.2.1"))), Some(Hello::Tls { sni: None }));
}

/// The agent puts the name there as the admin wrote it.
#[test]
fn case_does_not_matter() {
    assert_eq!(sniffed(&with_sni(Some("PUPPET.Lab.Test"))), named("puppet.lab.test"));
    assert_eq!(sniffed(&with_sni(Some("p"))), named("p"));
    assert_eq!(sniffed(&with_sni(Some("puppet_1.lab.test"))), named("puppet_1.lab.test"));
}

#[test]
fn a_trailing_dot_is_taken_away() {
    assert_eq!(sniffed(&with_sni(Some("PUPPET.Lab.Test."))), named("puppet.lab.test"));
}

/// The name of a role without its domain.
fn domain(name: &str) -> String {
    match name.parse().unwrap() {
        Host::Name(name) => name.split_once('.').unwrap().1.to_owned(),
        Host::Ip(_) => panic!("no name"),
    }
}

/// Sends the pieces, each by itself, and reads at the server what the shim makes of them; then more, once the server
/// has answered.
async fn carried(pieces: &[&[u8]], behind: &[u8], name: &str) {
    let server = Raw::start().await;
    let address = server.address();
    let bare = Bare::with(|config| {
        config.domain = Some(domain(name));
        let compile = role(config, "compile");
        compile.srv = None;
        compile.servers = vec![StaticServer { host: Host::Ip(address.ip()), port: Some(address.port()) }];
    })
    .await;

    let mut client = TcpStream::connect(bare.shim()).await.unwrap();
    client.set_nodelay(true).unwrap();
    for piece in pieces {
        client.write_all(piece).await.unwrap();
        // The shim runs on this very thread: only so does it see the pieces one by one.
        tokio::task::yield_now().await;
    }
    let mut server = server.accept().await;
    let sent = pieces.concat();
    let mut received = vec![0; sent.len()];
    server.read_exact(&mut received).await.unwrap();
    server.write_all(ANSWER).await.unwrap();
    let mut answer = vec![0; ANSWER.len()];
    client.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, ANSWER);
    client.write_all(behind).await.unwrap();
    client.shutdown().await.unwrap();
    server.read_to_end(&mut received).await.unwrap();
    assert!(
        received == [&sent, behind].concat(),
        "{} bytes arrived of {} sent",
        received.len(),
        sent.len() + behind.len()
    );
    server.write_all(b"more of it").await.unwrap();
    drop(server);
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, "more of it");
    drop(client);

    let lines = bare.journal.take(1).await;
    assert_eq!(lines.len(), 1);
    let line = &lines[0];
    assert_eq!((line.get("name"), line.get("role"), line.get("via")), (Some(name), Some("compile"), Some("tls")));
    assert_eq!(line.get("up"), Some(received.len().to_string().as_str()), "{line}");
}

#[tokio::test]
async fn segments_reach_the_server_unchanged() {
    for (hello, name) in CAPTURED {
        for size in [1, 7, 1000, 4000] {
            carried(&hello.chunks(size).collect::<Vec<_>>(), b"", name).await;
        }
    }
}

#[tokio::test]
async fn records_reach_the_server_unchanged() {
    for (hello, name) in CAPTURED {
        for size in RECORDS {
            let hello = in_records(hello, size);
            carried(&hello.chunks(1200).collect::<Vec<_>>(), b"", name).await;
        }
    }
}

#[tokio::test]
async fn what_follows_the_hello_reaches_the_server() {
    let early = vec![0x5a; 100_000];
    let glued = [OPENSSL, &early].concat();
    carried(&[&glued], b"", OPENSSL_NAME).await;
    carried(&[OPENSSL], &early, OPENSSL_NAME).await;
}
