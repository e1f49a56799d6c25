//! A stop where nobody takes the tunnels over: each is closed once that harms nobody, and the clock is slow to see when.
//!
//! A close of the shim's is abrupt. Less than 4 s after an answer the agent's next request fails by it, and while a
//! request is under way the whole run may.

// A test ends where its set-up fails.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::time::Duration;

use puppet_shim::config::{Config, StaticServer};
use puppet_shim::host::Host;
use rustix::process::Signal;
use support::clock::Slow;
use support::command::{self, ending};
use support::eventually;
use support::shim::{Bare, role};
use support::tcp::{Raw, begin, tunnel};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

const COMPILE: &str = "puppet:8140";
const CA: &str = "puppetca:8140";

/// The clock goes so many times as fast as the host's while nobody has anything to do.
const TIMES: u32 = 30;

/// A shim whose one server is this one, whatever the role.
async fn shim_for(server: &Raw, adjust: impl FnOnce(&mut Config)) -> Bare {
    let address = server.address();
    Bare::with(|config| {
        for name in ["ca", "compile"] {
            let role = role(config, name);
            role.srv = None;
            role.servers = vec![StaticServer { host: Host::Ip(address.ip()), port: Some(address.port()) }];
        }
        adjust(config);
    })
    .await
}

/// A tunnel in which the client has said something, and the server has answered if `answered`.
async fn open(bare: &Bare, server: &Raw, target: &str, answered: bool) -> (TcpStream, TcpStream) {
    let mut client = tunnel(bare.shim(), target).await;
    let mut upstream = server.accept().await;
    begin(&mut client, &mut upstream).await;
    if answered {
        upstream.write_all(b"!").await.unwrap();
        assert_eq!(client.read_u8().await.unwrap(), b'!');
    }
    (client, upstream)
}

/// When both sides see the end, in seconds.
async fn closed_after((mut client, mut upstream): (TcpStream, TcpStream), since: Instant) -> u64 {
    assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
    assert_eq!(upstream.read(&mut [0]).await.unwrap(), 0);
    // The last word was a moment before the stop.
    (since.elapsed() + Duration::from_millis(500)).as_secs()
}

#[tokio::test]
async fn each_is_closed_when_that_harms_nobody() {
    let _clock = Slow::by(TIMES);
    let server = Raw::start().await;
    let mut bare = shim_for(&server, |config| config.timeouts.drain = Duration::from_secs(60)).await;
    let answered = open(&bare, &server, COMPILE, true).await;
    let asking = open(&bare, &server, COMPILE, false).await;
    let first_run = open(&bare, &server, CA, true).await;
    let since = Instant::now();
    bare.begin_to_stop().await;
    let (answered, first_run, asking) =
        tokio::join!(closed_after(answered, since), closed_after(first_run, since), closed_after(asking, since));
    assert_eq!((answered, first_run, asking), (5, 31, 60));
    bare.stop_shim().await;
    let lines = bare.journal.take(3).await;
    let ends: Vec<_> = lines.iter().map(|line| (line.get("message").unwrap(), line.get("end").unwrap())).collect();
    let harmless = ("carried", "idle, and puppet-shim stopped");
    assert_eq!(ends, [harmless, harmless, ("cut", "puppet-shim stopped")]);
}

/// The request that is under way is answered, and the connection closed behind that.
#[tokio::test]
async fn what_is_said_meanwhile_is_carried() {
    let _clock = Slow::by(TIMES);
    let server = Raw::start().await;
    let mut bare = shim_for(&server, |_| ()).await;
    let (mut client, mut upstream) = open(&bare, &server, COMPILE, false).await;
    let since = Instant::now();
    bare.begin_to_stop().await;
    tokio::time::sleep(Duration::from_secs(300)).await;
    upstream.write_all(b"catalog").await.unwrap();
    let mut bytes = [0; 7];
    client.read_exact(&mut bytes).await.unwrap();
    assert_eq!(&bytes, b"catalog");
    tokio::time::sleep(Duration::from_secs(3)).await;
    client.write_all(b"report").await.unwrap();
    upstream.read_exact(&mut bytes[..6]).await.unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    upstream.write_all(b"!").await.unwrap();
    assert_eq!(client.read_u8().await.unwrap(), b'!');
    assert_eq!(closed_after((client, upstream), since).await, 300 + 3 + 2 + 5);
    bare.stop_shim().await;
}

/// The server's own close is what is waited for, and ends it.
#[tokio::test]
async fn the_last_tunnels_end_ends_the_stop() {
    let _clock = Slow::by(TIMES);
    let server = Raw::start().await;
    let mut bare = shim_for(&server, |_| ()).await;
    let (client, upstream) = open(&bare, &server, COMPILE, false).await;
    let since = Instant::now();
    bare.begin_to_stop().await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    drop((client, upstream));
    bare.stopped().await;
    assert_eq!(since.elapsed().as_secs(), 30);
}

#[tokio::test]
async fn without_a_limit_to_wait_for_it_ends_at_once() {
    let _clock = Slow::by(TIMES);
    let server = Raw::start().await;
    let mut bare = shim_for(&server, |config| config.timeouts.drain = Duration::ZERO).await;
    let asking = open(&bare, &server, COMPILE, false).await;
    let since = Instant::now();
    bare.begin_to_stop().await;
    assert_eq!(closed_after(asking, since).await, 0);
    bare.stopped().await;
}

/// The real thing, with signals: one begins to drain and says so, the second ends it.
#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let server = Raw::start().await;
    let host = command::Host::new(&format!(
        "listen = [\"127.0.0.1:0\"]\ndomain = \"lab.test\"\ndns.servers = [\"127.0.0.1:9\"]\ncertificates.check = false\n\
         [role.ca]\nsrv = false\nservers = [\"{}\"]\n",
        server.address()
    ));
    for (first, second) in [(Signal::TERM, Signal::TERM), (Signal::INT, Signal::TERM)] {
        let mut running = host.run().await;
        let mut client = tunnel(running.address(), CA).await;
        let mut upstream = server.accept().await;
        begin(&mut client, &mut upstream).await;
        running.signal(first);
        eventually("it drains", || running.line("draining tunnels=1 limit=900s").is_some()).await;
        // Nobody else is let in.
        assert!(TcpStream::connect(running.address()).await.is_err());
        client.write_all(b"x").await.unwrap();
        assert_eq!(upstream.read_u8().await.unwrap(), b'x');
        running.signal(second);
        assert_eq!(ending(running.ended().await), (Some(0), None));
        assert!(running.line("end=\"puppet-shim stopped\"").is_some(), "{:#?}", running.lines());
    }
}
