//! Zones that are trusted by a key of their own, which `dns.trust_anchor` has: knot with the keys that it makes by itself,
//! one that signs the zone's keys and one that signs the rest. The file has the first.
//!
//! Servers without TLS that say their name, and CONNECT, as in `sources.rs`.

// A test ends where its set-up fails.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use puppet_shim::config::{Dnssec, Nameserver, Transport};
use support::clock::let_time_pass;
use support::knot::{Knot, Zone};
use support::odd_dns::{Odd, OddDns};
use support::pki::Pki;
use support::shim::Bare;
use support::tcp::{Answer, Named, ask};
use support::unbound::Unbound;
use tempfile::TempDir;

const COMPILE: &str = "_x-puppet._tcp.lab.test";
const LOOKING: [Dnssec; 2] = [Dnssec::Prefer, Dnssec::Require];

/// A zone's records by which that server is the only one of its compile role, for so many seconds.
fn announced(server: SocketAddr, ttl: u32) -> String {
    let port = server.port();
    format!("_x-puppet._tcp {ttl} SRV 0 0 {port} server-{port}\nserver-{port} {ttl} A {}\n", server.ip())
}

async fn looking(nameserver: impl Into<Nameserver>, domain: &str, dnssec: Dnssec, anchor: &Path) -> Bare {
    Bare::with(|config| {
        config.dns.servers = vec![nameserver.into()];
        config.domain = Some(domain.into());
        config.dns.dnssec = dnssec;
        config.dns.trust_anchor = Some(anchor.into());
    })
    .await
}

async fn reaches(bare: &Bare) {
    assert_eq!(ask(bare.shim(), "puppet:8140").await, Answer::Tunnel("server".into()));
}

/// Why nobody was reached.
async fn refusal(bare: &Bare) -> String {
    let answer = ask(bare.shim(), "puppet:8140").await;
    let Answer::Refused(502 | 503, reason) = answer else { panic!("{answer:?}") };
    reason
}

/// A file with the keys of these zones.
fn anchor(folder: &TempDir, knot: &Knot, zones: &[&str]) -> PathBuf {
    let file = folder.path().join("anchor");
    fs::write(&file, zones.iter().map(|zone| knot.key(zone)).collect::<String>()).unwrap();
    file
}

#[tokio::test]
async fn the_key_signing_key_is_enough() {
    let server = Named::start("server").await;
    let knot = Knot::start(&[Zone::signed("lab.test", &announced(server.address(), 60)).with_two_keys()]).await;
    let unbound = Unbound::before(knot.address(), "lab.test").await;
    let anchor = knot.trust_anchor("lab.test");
    for nameserver in [knot.address(), unbound.address()] {
        for dnssec in LOOKING {
            reaches(&looking(nameserver, "lab.test", dnssec, &anchor).await).await;
        }
    }
}

#[tokio::test]
async fn the_key_signing_key_is_enough_over_tls() {
    let server = Named::start("server").await;
    let knot = Knot::start(&[Zone::signed("lab.test", &announced(server.address(), 60)).with_two_keys()]).await;
    let (pki, folder) = (Pki::new(), TempDir::new().unwrap());
    let ca = folder.path().join("ca.pem");
    fs::write(&ca, pki.ca_pem()).unwrap();
    let unbound = Unbound::with(knot.address(), "lab.test", |_| pki.pem(&["dns.lab.test"])).await;
    let transport = Transport::Tls(Some("dns.lab.test".parse().unwrap()));
    let bare = Bare::with(|config| {
        config.dns.servers = vec![Nameserver { address: unbound.tls(), transport }];
        config.dns.ca_file = Some(ca);
        config.dns.dnssec = Dnssec::Require;
        config.dns.trust_anchor = Some(knot.trust_anchor("lab.test"));
    })
    .await;
    reaches(&bare).await;
}

/// The zone's other key is replaced: while what was said of the keys still holds, and past that.
#[tokio::test]
async fn the_other_key_may_be_rolled() {
    let server = Named::start("server").await;
    for ttl in [10, 60] {
        for dnssec in LOOKING {
            let zone = Zone::signed("lab.test", &announced(server.address(), ttl)).with_two_keys();
            let knot = Knot::start(&[zone]).await;
            let bare = looking(knot.address(), "lab.test", dnssec, &knot.trust_anchor("lab.test")).await;
            reaches(&bare).await;
            bare.journal.take(1).await;
            // Each set has two signatures now.
            knot.add_zone_key("lab.test");
            let_time_pass(Duration::from_secs(u64::from(ttl) + 1)).await;
            reaches(&bare).await;
            knot.drop_zone_key("lab.test");
            let_time_pass(Duration::from_secs(u64::from(ttl) + 1)).await;
            reaches(&bare).await;
            for line in bare.journal.take(2).await {
                let dns = line.get("dns");
                // On a busy machine a connection may not have waited for so long.
                assert!(dns.is_none_or(|dns| dns.contains("slow")), "{ttl} {dnssec:?}: {line}");
            }
        }
    }
}

/// Of several signatures one is enough.
#[tokio::test]
async fn two_signatures_on_each_set() {
    let server = Named::start("server").await;
    let knot = Knot::start(&[Zone::signed("lab.test", &announced(server.address(), 60)).with_two_keys()]).await;
    knot.add_zone_key("lab.test");
    reaches(&looking(knot.address(), "lab.test", Dnssec::Require, &knot.trust_anchor("lab.test")).await).await;
}

/// What is wrong and what to do stands in the log and in the agent's.
#[tokio::test]
async fn the_key_of_another_zone() {
    let server = Named::start("server").await;
    let records = announced(server.address(), 60);
    let zones = [Zone::signed("lab.test", &records).with_two_keys(), Zone::signed("other.test", "")];
    let knot = Knot::start(&zones).await;
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("anchor");
    fs::write(&file, knot.key("other.test").replace("other.test", "lab.test")).unwrap();
    for dnssec in LOOKING {
        let bare = looking(knot.address(), "lab.test", dnssec, &file).await;
        let told = |text: &str| {
            let words = ["DNSSEC", "the key of lab.test in", "none of the zone's", "dig DNSKEY lab.test"];
            words.iter().all(|word| text.contains(word)) && text.contains(file.to_str().unwrap())
        };
        let reason = refusal(&bare).await;
        assert!(told(&reason), "{reason}");
        let lines = bare.journal.take(1).await;
        assert!(lines[0].get("dns").is_some_and(told), "{}", lines[0]);
        // The file is read again.
        fs::write(&file, knot.key("lab.test")).unwrap();
        let_time_pass(Duration::from_secs(60)).await;
        reaches(&bare).await;
        bare.journal.take(1).await;
        fs::write(&file, knot.key("other.test").replace("other.test", "lab.test")).unwrap();
    }
    assert_eq!(server.accepted(), 2);
}

/// Nobody vouches for the zone's other key, though the first is right.
#[tokio::test]
async fn keys_without_a_signature() {
    let server = Named::start("server").await;
    let knot = Knot::start(&[Zone::signed("lab.test", &announced(server.address(), 60)).with_two_keys()]).await;
    let anchor = knot.trust_anchor("lab.test");
    for dnssec in LOOKING {
        let odd = OddDns::before(knot.address()).await;
        odd.set("lab.test", Some(Odd::Unsigned));
        let bare = looking(odd.address(), "lab.test", dnssec, &anchor).await;
        let reason = refusal(&bare).await;
        assert!(reason.contains("the key of lab.test in") && reason.contains("no signature over them"), "{reason}");
        bare.journal.take(1).await;
        odd.set("lab.test", None);
        let_time_pass(Duration::from_secs(60)).await;
        reaches(&bare).await;
        bare.journal.take(1).await;
    }
}

/// A root that says, signed, that neither zone is: with the root's key and that of one of them the other one is used as
/// it would be without.
#[tokio::test]
async fn zones_beside_it_are_as_they_were() {
    let server = Named::start("server").await;
    let records = announced(server.address(), 60);
    let zones = [
        Zone::signed(".", ""),
        Zone::signed("lab.test", &format!("{records}plain NS ns.lab.test.\n")).with_two_keys().without_ds(),
        Zone::plain("plain.lab.test", &records),
        Zone::plain("plain.test", &records),
        Zone::signed("good.test", &records).with_two_keys(),
    ];
    let knot = Knot::start(&zones).await;
    let unbound = Unbound::before(knot.address(), "lab.test").await;
    let folder = TempDir::new().unwrap();
    let anchor = anchor(&folder, &knot, &[".", "lab.test"]);
    for dnssec in LOOKING {
        for signed in ["lab.test", "good.test"] {
            reaches(&looking(unbound.address(), signed, dnssec, &anchor).await).await;
        }
    }
    for plain in ["plain.test", "plain.lab.test"] {
        reaches(&looking(unbound.address(), plain, Dnssec::Prefer, &anchor).await).await;
        refusal(&looking(unbound.address(), plain, Dnssec::Require, &anchor).await).await;
    }
}

/// The root says that the zone is not signed, which is why its key is in the file: so nobody may take the signatures away.
#[tokio::test]
async fn signatures_that_were_taken_away() {
    let server = Named::start("server").await;
    let lab = Zone::signed("lab.test", &announced(server.address(), 60)).with_two_keys().without_ds();
    let knot = Knot::start(&[Zone::signed(".", ""), lab]).await;
    let folder = TempDir::new().unwrap();
    let anchor = anchor(&folder, &knot, &[".", "lab.test"]);
    for forgery in [Odd::Unsigned, Odd::Denied] {
        for name in [Some(COMPILE), None] {
            let odd = OddDns::before(knot.address()).await;
            match name {
                Some(name) => odd.set(name, Some(forgery.clone())),
                None => odd.set_all(Some(forgery.clone())),
            }
            let bare = looking(odd.address(), "lab.test", Dnssec::Prefer, &anchor).await;
            let reason = refusal(&bare).await;
            assert!(reason.contains("DNSSEC"), "{forgery:?} {name:?}: {reason}");
        }
    }
    assert_eq!(server.accepted(), 0);
}
