//! An agent's run stays with one server, for as long as that server is well; and who failed is used again.
//!
//! Plugins of one environment and a catalog of another are a broken run. The clock is slow, and minutes of silence
//! are jumped over.

// A test ends where its set-up fails.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::collections::HashSet;
use std::net::SocketAddr;
use std::time::Duration;

use puppet_shim::config::Config;
use support::clock::Slow;
use support::fault::Fault;
use support::shim::{Bare, Shim};
use support::site::{ASKED, Ill, Mode, Site};
use support::tcp::{Answer, Named, ask, tunnel};
use tokio::time::{Instant, advance, sleep};

/// Milliseconds by which a wait may be off: what the kernel needs to deliver on a busy machine is in it.
const CLOSE: u64 = 20;
/// `timeouts.pin` here.
const PIN: Duration = Duration::from_secs(60);
/// A run may take no longer (Puppet's `runtimeout`).
const LONGEST_RUN: Duration = Duration::from_secs(60 * 60);
/// Nobody is held down for longer.
const LONGEST: Duration = Duration::from_secs(5 * 60);

/// A shim whose compile servers are these, and those of files and report with them; `priority` of the nth.
async fn site(servers: &[SocketAddr], priority: impl Fn(u16) -> u16) -> Bare {
    let bare = Bare::with(|config| config.timeouts.pin = PIN).await;
    let names: Vec<_> = (0..servers.len()).map(|n| format!("server{n}.lab.test")).collect();
    let mut records = Vec::new();
    for ((name, address), n) in names.iter().zip(servers).zip(0..) {
        bare.dns.set_addresses(name, 60, &[address.ip()]).await;
        records.push((priority(n), 1, address.port(), name.as_str()));
    }
    bare.dns.set_srv("_x-puppet._tcp.lab.test", 60, &records).await;
    bare
}

async fn servers<const N: usize>() -> [Named; N] {
    let mut servers = Vec::new();
    for n in 0..N {
        servers.push(Named::start(&n.to_string()).await);
    }
    servers.try_into().ok().unwrap()
}

/// Who answers for this role. The tunnel has ended.
async fn who(bare: &Bare, name: &str) -> String {
    let answer = ask(bare.shim(), &format!("{name}:8140")).await;
    bare.journal.take(1).await;
    match answer {
        Answer::Tunnel(name) => name,
        Answer::Refused(status, reason) => panic!("{status} {reason}"),
    }
}

/// Roles that have the same records are one run's, whichever comes first; the next run draws anew.
#[tokio::test]
async fn plugins_and_catalog_come_from_one_server() {
    let _clock = Slow::start();
    let servers = servers::<4>().await;
    let bare = site(&servers.each_ref().map(Named::address), |_| 0).await;
    let mut chosen = HashSet::new();
    for _ in 0..24 {
        let server = who(&bare, "puppetfiles").await;
        for role in ["puppet", "puppetfiles", "puppet", "puppetreport"] {
            // Each a little later, and in all longer than the pin would last by itself.
            advance(PIN / 2).await;
            assert_eq!(who(&bare, role).await, server, "{role}");
        }
        chosen.insert(server);
        advance(PIN + Duration::from_secs(1)).await;
    }
    assert!(chosen.len() > 1, "24 runs have all drawn {chosen:?}");
}

/// Whatever its priority: a run that has begun elsewhere goes on there, until nothing has been heard of it for long.
#[tokio::test]
async fn a_pin_falls_with_its_server_and_lapses_in_silence() {
    let _clock = Slow::start();
    let [one, two, three] = servers::<3>().await;
    let bare = site(&[one.address(), two.address(), three.address()], |n| n).await;
    assert_eq!(who(&bare, "puppet").await, "0");
    let address = one.address();
    drop(one);
    // Its listener goes with its task.
    tokio::task::yield_now().await;
    assert_eq!(who(&bare, "puppet").await, "1");
    let _one = Named::at("0", address).await;
    for _ in 0..20 {
        advance(PIN * 3 / 4).await;
        assert_eq!(who(&bare, "puppet").await, "1", "the first is back, but this run is with the second");
    }
    advance(PIN + Duration::from_secs(1)).await;
    assert_eq!(who(&bare, "puppet").await, "0");
}

/// A host that is never silent for long enough is not kept from its first server for ever.
#[tokio::test]
async fn a_pin_that_is_in_use_all_the_time_ends_too() {
    let _clock = Slow::start();
    let [one, two] = servers::<2>().await;
    let bare = site(&[one.address(), two.address()], |n| n).await;
    let address = one.address();
    drop(one);
    tokio::task::yield_now().await;
    let began = Instant::now();
    assert_eq!(who(&bare, "puppet").await, "1");
    let _one = Named::at("0", address).await;
    while who(&bare, "puppet").await == "1" {
        assert!(began.elapsed() < LONGEST_RUN + PIN, "still with the second");
        advance(PIN / 2).await;
    }
    assert!(began.elapsed() >= LONGEST_RUN, "after {:?} already", began.elapsed());
}

/// A catalog may compile for longer than a pin lasts.
#[tokio::test]
async fn a_tunnel_that_is_open_holds_the_pin() {
    let _clock = Slow::start();
    let [one, two] = [support::tcp::Raw::start().await, support::tcp::Raw::start().await];
    let bare = site(&[one.address(), two.address()], |_| 0).await;
    let mut client = tunnel(bare.shim(), "puppet:8140").await;
    let (pinned, mut server) = tokio::select! {
        server = one.accept() => (&one, server),
        server = two.accept() => (&two, server),
    };
    support::tcp::begin(&mut client, &mut server).await;
    for _ in 0..10 {
        advance(5 * PIN).await;
        let mut client = tunnel(bare.shim(), "puppet:8140").await;
        let mut server = pinned.accept().await;
        support::tcp::begin(&mut client, &mut server).await;
    }
}

/// A site of two compile servers, the first ill. Runs are not kept with their server.
async fn ill_site(ill: Ill) -> (Site, Shim) {
    let site = Site::start(&[Some(ill), None]).await;
    site.announce(&[0, 1]).await;
    let shim = site.shim(false, |config: &mut Config| config.timeouts.pin = Duration::ZERO).await;
    (site, shim)
}

/// Who answered, and after how many milliseconds of the paused clock.
async fn get(site: &Site, shim: &Shim) -> (usize, u64) {
    let began = Instant::now();
    let answer = site.agent(shim, Mode::Proxy).get(ASKED, 8140, "/").await.unwrap();
    let ms = u64::try_from(began.elapsed().as_millis()).unwrap();
    (site.seats.iter().position(|seat| seat.server.name() == answer.witness.server).unwrap(), ms)
}

#[tokio::test]
async fn whoever_is_well_again_is_used_again() {
    let _clock = Slow::start();
    let ills = [Ill::Refused, Ill::Mute, Ill::Reset, Ill::Eof, Ill::HalfClosed, Ill::Alert(40), Ill::Stuck, Ill::Drip];
    for ill in ills {
        let (mut site, shim) = ill_site(ill).await;
        assert_eq!(get(&site, &shim).await.0, 1, "{ill:?}");
        site.seats[0].server.set_fault(None);
        site.seats[0].server.restart().await;
        assert_eq!(get(&site, &shim).await.0, 1, "{ill:?}: it is to be left alone for a while");
        advance(LONGEST).await;
        let (server, ms) = get(&site, &shim).await;
        assert!(server == 0 && ms <= CLOSE, "{ill:?}: {ms} ms");
        // And is trusted again: it has not only a trial's head start.
        site.seats[0].server.set_fault(Some(Fault::Mute));
        let (server, ms) = get(&site, &shim).await;
        assert!(server == 1 && ms.abs_diff(250) <= CLOSE, "{ill:?}: {ms} ms");
    }
}

/// One that is still silent when it is tried again costs little, and ever more rarely.
#[tokio::test]
async fn a_trial_is_cheap() {
    let _clock = Slow::start();
    for ill in [Ill::BlackHole, Ill::Mute, Ill::Stuck] {
        let (site, shim) = ill_site(ill).await;
        for expected in [250, 50, 100, 200, 250, 250] {
            let (server, ms) = get(&site, &shim).await;
            assert!(server == 1 && ms.abs_diff(expected) <= CLOSE, "{ill:?}: {ms} ms, not {expected}");
            let (server, ms) = get(&site, &shim).await;
            assert!(server == 1 && ms <= CLOSE, "{ill:?}: {ms} ms, though it is known");
            advance(LONGEST).await;
            sleep(Duration::from_millis(1)).await;
        }
    }
}
