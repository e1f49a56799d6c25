//! Nothing stays open: whatever a connection has been through, its descriptors are gone at its end.
//!
//! The daemon runs for months, and a leak of one descriptor per failed run would end it. One test alone in this file:
//! it counts those of the process.

// A test ends where its set-up fails.
#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use puppet_shim::config::StaticServer;
use puppet_shim::host::Host;
use support::eventually;
use support::hello::with_sni;
use support::raw;
use support::shim::{Bare, role};
use support::tcp::{Raw, ask, begin, refusing, tunnel};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Tunnels, refusals and clients that leave, of each kind a few.
async fn round(bare: &Bare, server: &Raw, tunnels: usize) {
    let mut open = Vec::new();
    for n in 0..tunnels {
        let mut client = tunnel(bare.shim(), "puppet:8140").await;
        let mut upstream = server.accept().await;
        if n % 2 == 0 {
            begin(&mut client, &mut upstream).await;
        }
        match n / 2 % 4 {
            0 => client.set_zero_linger().unwrap(),
            1 => upstream.set_zero_linger().unwrap(),
            2 => client.shutdown().await.unwrap(),
            _ => {}
        }
        open.push((client, upstream));
    }
    assert!(descriptors() >= 3 * tunnels, "a tunnel is four sockets of this process, two where one has left it");
    drop(open);
    for _ in 0..5 {
        ask(bare.shim(), "puppetca:8140").await;
        ask(bare.shim(), "puppetreport:8140").await;
        ask(bare.shim(), "www.example.org:443").await;
        raw::exchange(bare.shim(), &[b"\x00"]).await.unwrap();
        raw::exchange(bare.shim(), &[&with_sni(None)]).await.unwrap();
        drop(TcpStream::connect(bare.shim()).await.unwrap());
    }
    bare.journal.take(tunnels + 30).await;
}

#[tokio::test]
async fn every_descriptor_is_given_back() {
    let server = Raw::start().await;
    let (address, gone) = (server.address(), refusing());
    let bare = Bare::with(|config| {
        config.timeouts.sniff = Duration::from_millis(300);
        let fixed =
            |address: std::net::SocketAddr| StaticServer { host: Host::Ip(address.ip()), port: Some(address.port()) };
        role(config, "compile").servers = vec![fixed(gone), fixed(address)];
        role(config, "ca").servers = vec![fixed(gone)];
    })
    .await;
    let before = descriptors();
    round(&bare, &server, 8).await;
    eventually("as many descriptors as at first", || descriptors() == before).await;
    round(&bare, &server, 300).await;
    eventually("as many descriptors as at first", || descriptors() == before).await;
}
