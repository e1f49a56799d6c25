//! Nameservers as sites have them: knot with the zones, unbound as the forwarder that most hosts ask. What their answers
//! come to, in a connection.
//!
//! Servers without TLS that say their name, and CONNECT, as in `sources.rs`.

// A test ends where its set-up fails.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::fs;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use hickory_server::proto::rr::RData;
use hickory_server::proto::rr::rdata::SRV;
use puppet_shim::config::{Config, Dnssec, Nameserver, Transport};
use support::clock::let_time_pass;
use support::journal::Line;
use support::knot::{Knot, Zone};
use support::loopback;
use support::nameserver::absolute;
use support::odd_dns::{Odd, OddDns};
use support::pki::Pki;
use support::shim::Bare;
use support::tap::Tap;
use support::tcp::{Answer, Named, PATIENCE, Raw, ask};
use support::unbound::Unbound;
use tempfile::TempDir;
use tokio::time::Instant;

const COMPILE: &str = "_x-puppet._tcp.lab.test";
const CA: &str = "_x-puppet-ca._tcp.lab.test";
const FILES: &str = "_x-puppet-fileserver._tcp.lab.test";

/// A zone's records by which that server is the only one of a service.
fn announced(service: &str, server: SocketAddr) -> String {
    let port = server.port();
    format!("{service} SRV 0 0 {port} server-{port}\nserver-{port} A {}\n", server.ip())
}

async fn shim(nameserver: impl Into<Nameserver>, adjust: impl FnOnce(&mut Config)) -> Bare {
    Bare::with(|config| {
        config.dns.servers = vec![nameserver.into()];
        adjust(config);
    })
    .await
}

fn reached(name: &str) -> Answer {
    Answer::Tunnel(name.into())
}

/// Why nobody was reached.
fn refused(answer: Answer) -> String {
    let Answer::Refused(502 | 503, reason) = answer else { panic!("{answer:?}") };
    reason
}

/// The one log line since the last call.
async fn line(bare: &Bare) -> Line {
    let mut lines = bare.journal.take(1).await;
    assert_eq!(lines.len(), 1);
    lines.remove(0)
}

/// Asks until that server is reached. Past the TTL a connection waits 300 ms for a newer answer; one that a busy machine
/// gives later counts for the next. Gives how many went elsewhere before.
async fn until(bare: &Bare, target: &str, name: &str) -> usize {
    let began = Instant::now();
    for late in 0.. {
        let answer = ask(bare.shim(), target).await;
        if answer == reached(name) {
            return late;
        }
        assert!(began.elapsed() < PATIENCE, "still {answer:?}");
    }
    unreachable!()
}

// === Answers ===

/// A name that does not exist, and one with other records only.
#[tokio::test]
async fn no_such_name_and_no_such_record() {
    let server = Named::start("server").await;
    let (target, address) = (format!("puppetca:{}", server.address().port()), server.address().ip());
    for records in [format!("puppetca A {address}\n"), format!("puppetca A {address}\n_x-puppet-ca._tcp TXT here\n")] {
        let knot = Knot::start(&[Zone::plain("lab.test", &records)]).await;
        let unbound = Unbound::before(knot.address(), "lab.test").await;
        for nameserver in [knot.address(), unbound.address()] {
            let bare = shim(nameserver, |_| ()).await;
            assert_eq!(ask(bare.shim(), &target).await, reached("server"));
            let line = line(&bare).await;
            assert_eq!((line.get("source"), line.get("dns")), (Some("the name itself"), None), "{line}");
        }
    }
}

/// knot refuses what is in none of its zones; a forwarder before it makes SERVFAIL of that.
#[tokio::test]
async fn refused_and_servfail() {
    let knot = Knot::start(&[Zone::plain("lab.test", "")]).await;
    let unbound = Unbound::before(knot.address(), "lab.test").await;
    for (nameserver, code) in [(knot.address(), "REFUSED"), (unbound.address(), "SERVFAIL")] {
        let bare = shim(nameserver, |config| config.domain = Some("nowhere.test".into())).await;
        let reason = refused(ask(bare.shim(), "puppet:8140").await);
        assert!(reason.contains(&format!("{nameserver} said {code}")), "{reason}");
        let line = line(&bare).await;
        let said = format!("_x-puppet._tcp.nowhere.test: {nameserver} said {code}");
        assert_eq!(line.get("dns"), Some(&*said));
    }
}

/// As where each subdomain's records are aliases of one domain's, in another zone.
#[tokio::test]
async fn records_behind_aliases() {
    let server = Named::start("server").await;
    let zones = [
        Zone::plain("lab.test", "_x-puppet-ca._tcp CNAME alias\nalias CNAME _x-puppet-ca._tcp.other.test.\n"),
        Zone::plain("other.test", &announced("_x-puppet-ca._tcp", server.address())),
    ];
    let knot = Knot::start(&zones).await;
    let unbound = Unbound::before(knot.address(), "lab.test").await;
    for nameserver in [knot.address(), unbound.address()] {
        let bare = shim(nameserver, |_| ()).await;
        assert_eq!(ask(bare.shim(), "puppetca:8140").await, reached("server"));
        assert_eq!(line(&bare).await.get("source"), Some(&*format!("srv {CA}")));
    }
}

/// More than fits a packet. The file has them in the opposite order.
#[tokio::test]
async fn sixty_targets() {
    let server = Named::start("last").await;
    let gone = loopback::free_ports::<59>();
    let addresses: Vec<_> = gone.into_iter().chain([server.address()]).collect();
    let records: String =
        (1..).zip(&addresses).collect::<Vec<_>>().iter().rev().fold(String::new(), |text, (n, at)| {
            text + &format!("_x-puppet._tcp SRV {n} 0 {} compile{n}\ncompile{n} A {}\n", at.port(), at.ip())
        });
    let knot = Knot::start(&[Zone::plain("lab.test", &records)]).await;
    let unbound = Unbound::before(knot.address(), "lab.test").await;
    for nameserver in [knot.address(), unbound.address()] {
        let bare = shim(nameserver, |_| ()).await;
        assert_eq!(ask(bare.shim(), "puppet:8140").await, reached("last"));
        let line = line(&bare).await;
        let tried = line.get("tried").unwrap().split("; ").map(|server| server.split_once('.').unwrap().0.to_owned());
        assert_eq!(tried.collect::<Vec<_>>(), (1..=60).map(|n| format!("compile{n}")).collect::<Vec<_>>());
    }
}

// === Changes ===

/// A role moves to another server. Past the TTL connections go there, and then none to the old one.
#[tokio::test]
async fn records_that_change() {
    for is_forwarded in [false, true] {
        let (old, new) = (Named::start("old").await, Named::start("new").await);
        let mut knot = Knot::start(&[Zone::plain("lab.test", &announced("_x-puppet._tcp", old.address()))]).await;
        let unbound = Unbound::before(knot.address(), "lab.test").await;
        let bare = shim(if is_forwarded { unbound.address() } else { knot.address() }, |_| ()).await;
        assert_eq!(ask(bare.shim(), "puppet:8140").await, reached("old"));
        knot.set("lab.test", &announced("_x-puppet._tcp", new.address()));
        // Within the TTL nothing is asked; some of it may be left to chance.
        let_time_pass(Duration::from_secs(50)).await;
        assert_eq!(ask(bare.shim(), "puppet:8140").await, reached("old"));
        let_time_pass(Duration::from_secs(11)).await;
        let late = until(&bare, "puppet:8140", "new").await;
        for _ in 0..2 {
            assert_eq!(ask(bare.shim(), "puppet:8140").await, reached("new"));
        }
        assert_eq!(old.accepted(), 2 + late);
    }
}

/// Records that are removed, with their name or without, are no trouble: those of compile serve.
#[tokio::test]
async fn records_that_are_removed() {
    for left in ["", "_x-puppet-fileserver._tcp TXT moved\n"] {
        let (own, compile) = (Named::start("own").await, Named::start("compile").await);
        let (files, compiler) =
            (announced("_x-puppet-fileserver._tcp", own.address()), announced("_x-puppet._tcp", compile.address()));
        let mut knot = Knot::start(&[Zone::plain("lab.test", &(files + &compiler))]).await;
        let unbound = Unbound::before(knot.address(), "lab.test").await;
        let bare = shim(unbound.address(), |_| ()).await;
        assert_eq!(ask(bare.shim(), "puppetfiles:8140").await, reached("own"));
        assert_eq!(line(&bare).await.get("source"), Some(&*format!("srv {FILES}")));
        knot.set("lab.test", &(compiler + left));
        let_time_pass(Duration::from_secs(61)).await;
        let late = until(&bare, "puppetfiles:8140", "compile").await;
        let lines = bare.journal.take(late + 1).await;
        let line = lines.last().unwrap();
        let source = format!("fallback srv {COMPILE}");
        assert_eq!((line.get("source"), line.get("dns")), (Some(&*source), None), "{line}");
    }
}

// === Nameservers that are dead ===

/// So many seconds past a TTL of 60 s it is 70 s later: some of it may be left to chance, some is the machine's.
const SINCE: RangeInclusive<u64> = 10..=30;

/// `dns.timeout` where nobody answers. Whoever waits for that takes longer than [`SOON`].
const LONG: Duration = Duration::from_secs(20);
const SOON: Duration = Duration::from_secs(15);

/// Past the TTL DNS is asked, and its answer waited for, if it comes soon: on a busy machine not each time.
async fn prompt(bare: &Bare, name: &str) {
    for _ in 0..20 {
        let_time_pass(Duration::from_secs(61)).await;
        assert_eq!(ask(bare.shim(), "puppet:8140").await, reached(name));
        if line(bare).await.get("dns").is_none() {
            return;
        }
    }
    panic!("the answer never comes soon");
}

/// The nameserver hangs. Connections go on with the servers that it named last, and with what it says when it is back.
#[tokio::test]
async fn a_nameserver_that_hangs_past_the_ttl() {
    let (old, new) = (Named::start("old").await, Named::start("new").await);
    let mut knot = Knot::start(&[Zone::plain("lab.test", &announced("_x-puppet._tcp", old.address()))]).await;
    let bare = shim(knot.address(), |config| config.dns.timeout = LONG).await;
    assert_eq!(ask(bare.shim(), "puppet:8140").await, reached("old"));
    assert_eq!(line(&bare).await.get("dns"), None);

    knot.set("lab.test", &announced("_x-puppet._tcp", new.address()));
    knot.process().pause().await;
    let_time_pass(Duration::from_secs(70)).await;
    let began = Instant::now();
    assert_eq!(ask(bare.shim(), "puppet:8140").await, reached("old"));
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    let stale = line(&bare).await;
    assert!(stale.stale(COMPILE).is_some_and(|(seconds, _)| SINCE.contains(&seconds)), "{stale}");

    knot.process().resume();
    // An inquiry may still be under way, which the clock ends without an answer.
    let mut answers = Vec::new();
    while answers.last() != Some(&reached("new")) {
        assert!(answers.len() < 5, "{answers:?}");
        let_time_pass(Duration::from_secs(61)).await;
        answers.push(ask(bare.shim(), "puppet:8140").await);
        line(&bare).await;
    }
    prompt(&bare, "new").await;
}

/// The forwarder is well, and what it asks is not: it says nothing for a long time.
#[tokio::test]
async fn a_forwarder_without_anybody_to_ask_past_the_ttl() {
    let server = Named::start("server").await;
    let knot = Knot::start(&[Zone::plain("lab.test", &announced("_x-puppet._tcp", server.address()))]).await;
    let unbound = Unbound::before(knot.address(), "lab.test").await;
    let bare = shim(unbound.address(), |config| config.dns.timeout = LONG).await;
    assert_eq!(ask(bare.shim(), "puppet:8140").await, reached("server"));
    line(&bare).await;
    drop(knot);
    let_time_pass(Duration::from_secs(70)).await;
    let began = Instant::now();
    assert_eq!(ask(bare.shim(), "puppet:8140").await, reached("server"));
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    let line = line(&bare).await;
    assert!(line.stale(COMPILE).is_some_and(|(seconds, _)| SINCE.contains(&seconds)), "{line}");
}

/// The first of two nameservers hangs: the first question waits for it for 400 ms, and no other one at all.
#[tokio::test]
async fn a_dead_first_nameserver() {
    let server = Named::start("server").await;
    let records = announced("_x-puppet._tcp", server.address()) + &announced("_x-puppet-ca._tcp", server.address());
    let zones = [Zone::plain("lab.test", &records)];
    let (first, second) = (Knot::start(&zones).await, Knot::start(&zones).await);
    first.process().pause().await;
    let mut fastest = [Duration::MAX; 2];
    let are_fast =
        |fastest: &[Duration; 2]| fastest[0] < Duration::from_millis(500) && fastest[1] < Duration::from_millis(200);
    // The machine may be busy.
    for _ in 0..20 {
        let servers = vec![first.address().into(), second.address().into()];
        let bare = shim(first.address(), |config| config.dns.servers = servers).await;
        for (fastest, target) in fastest.iter_mut().zip(["puppet:8140", "puppetca:8140"]) {
            let began = Instant::now();
            assert_eq!(ask(bare.shim(), target).await, reached("server"));
            *fastest = began.elapsed().min(*fastest);
        }
        if are_fast(&fastest) {
            return;
        }
    }
    panic!("{fastest:?}");
}

// === Signatures ===

/// A root zone of the site's own that is signed, as the world's is, and below it a zone that is signed, one that is not,
/// and one whose records have been changed since it was signed.
struct Signed {
    knot: Knot,
    _tampered: Knot,
    unbound: Unbound,
    server: Named,
    impostor: Named,
}

impl Signed {
    async fn start() -> Self {
        let (server, impostor) = (Named::start("server").await, Named::start("impostor").await);
        let records = announced("_x-puppet._tcp", server.address());
        let zones = [
            Zone::signed(".", ""),
            Zone::signed("good.test", &records),
            Zone::plain("plain.test", &records),
            Zone::signed("bogus.test", &records),
        ];
        let knot = Knot::start(&zones).await;
        let tampered = knot.tampered("bogus.test", |text| redirected(text, &server, &impostor)).await;
        let unbound = Unbound::before(tampered.address(), "good.test").await;
        Signed { knot, _tampered: tampered, unbound, server, impostor }
    }
}

/// The zone with another server's port and address in place of the first one's.
fn redirected(zone: &str, from: &Named, to: &Named) -> String {
    let (from, to) = (from.address(), to.address());
    zone.replace(&format!("SRV\t0 0 {} ", from.port()), &format!("SRV\t0 0 {} ", to.port()))
        .replace(&format!("A\t{}", from.ip()), &format!("A\t{}", to.ip()))
}

/// A shim of that domain's, that looks at signatures.
async fn looking(nameserver: impl Into<Nameserver>, domain: &str, dnssec: Dnssec, anchor: &Path) -> Bare {
    shim(nameserver, |config| {
        config.domain = Some(domain.into());
        config.dns.dnssec = dnssec;
        config.dns.trust_anchor = Some(anchor.into());
    })
    .await
}

/// Whether the words have DNSSEC for a reason.
fn is_about_signatures(text: &str) -> bool {
    ["DNSSEC", "signature", "signed", "bogus"].iter().any(|word| text.contains(word))
}

#[tokio::test]
async fn a_signed_zone_is_good_whatever_is_asked_for() {
    let site = Signed::start().await;
    let anchor = site.knot.trust_anchor(".");
    for dnssec in Dnssec::ALL {
        let bare = looking(site.unbound.address(), "good.test", dnssec, &anchor).await;
        assert_eq!(ask(bare.shim(), "puppet:8140").await, reached("server"), "{dnssec:?}");
        let line = line(&bare).await;
        assert_eq!((line.get("source"), line.get("dns")), (Some("srv _x-puppet._tcp.good.test"), None), "{dnssec:?}");
    }
}

/// What has been changed on the way is no answer, where anybody looks.
#[tokio::test]
async fn a_bogus_zone_is_used_only_where_nobody_looks() {
    let site = Signed::start().await;
    let anchor = site.knot.trust_anchor(".");
    let bare = looking(site.unbound.address(), "bogus.test", Dnssec::Off, &anchor).await;
    assert_eq!(ask(bare.shim(), "puppet:8140").await, reached("impostor"));
    line(&bare).await;
    for dnssec in [Dnssec::Prefer, Dnssec::Require] {
        let bare = looking(site.unbound.address(), "bogus.test", dnssec, &anchor).await;
        let reason = refused(ask(bare.shim(), "puppet:8140").await);
        assert!(is_about_signatures(&reason), "{dnssec:?}: {reason}");
        let line = line(&bare).await;
        let said = format!("_x-puppet._tcp.bogus.test: {} ", site.unbound.address());
        assert!(line.get("dns").is_some_and(|dns| dns.starts_with(&said) && is_about_signatures(dns)), "{line}");
    }
    assert_eq!((site.server.accepted(), site.impostor.accepted()), (0, 1));
}

/// The parent says, signed, that the zone is not.
#[tokio::test]
async fn an_unsigned_zone_is_used_unless_signatures_are_required() {
    let site = Signed::start().await;
    let anchor = site.knot.trust_anchor(".");
    for dnssec in [Dnssec::Off, Dnssec::Prefer] {
        let bare = looking(site.unbound.address(), "plain.test", dnssec, &anchor).await;
        assert_eq!(ask(bare.shim(), "puppet:8140").await, reached("server"), "{dnssec:?}");
        assert_eq!(line(&bare).await.get("dns"), None, "{dnssec:?}");
    }
    let bare = looking(site.unbound.address(), "plain.test", Dnssec::Require, &anchor).await;
    let reason = refused(ask(bare.shim(), "puppet:8140").await);
    assert!(is_about_signatures(&reason), "{reason}");
    assert_eq!(site.server.accepted(), 2);
}

/// "There are none" is an answer as any other: a signed zone proves it, that a child is not signed included.
#[tokio::test]
async fn a_signed_zone_says_that_there_is_none() {
    let server = Named::start("server").await;
    let (address, port) = (server.address().ip(), server.address().port());
    let records = format!("_x-puppet-ca._tcp TXT here\npuppetca A {address}\n");
    for signed in [Zone::signed, Zone::signed_with_nsec3] {
        // The root's is always NSEC, here as in the world: over an NSEC3 of the root hickory panics in a debug build.
        let plain = Zone::plain("plain.lab.test", &announced("_x-puppet._tcp", server.address()));
        let records = format!("{records}plain NS ns.lab.test.\n");
        let knot = Knot::start(&[Zone::signed(".", ""), signed("lab.test", &records), plain]).await;
        let unbound = Unbound::before(knot.address(), "lab.test").await;
        let anchor = knot.trust_anchor(".");
        for dnssec in Dnssec::ALL {
            let bare = looking(unbound.address(), "lab.test", dnssec, &anchor).await;
            // No such record, and then no such name.
            assert_eq!(ask(bare.shim(), &format!("puppetca:{port}")).await, reached("server"), "{dnssec:?}");
            assert_eq!(line(&bare).await.get("dns"), None, "{dnssec:?}");
            let reason = refused(ask(bare.shim(), "puppetreport:8140").await);
            assert!(reason.contains("has no address in DNS"), "{dnssec:?}: {reason}");
            line(&bare).await;
        }
        let bare = looking(unbound.address(), "plain.lab.test", Dnssec::Prefer, &anchor).await;
        assert_eq!(ask(bare.shim(), "puppet:8140").await, reached("server"));
        line(&bare).await;
    }
}

/// From one signed zone to another.
#[tokio::test]
async fn signed_records_behind_aliases() {
    let server = Named::start("server").await;
    let zones = [
        Zone::signed(".", ""),
        Zone::signed("lab.test", "_x-puppet-ca._tcp CNAME alias\nalias CNAME _x-puppet-ca._tcp.other.test.\n"),
        Zone::signed("other.test", &announced("_x-puppet-ca._tcp", server.address())),
    ];
    let knot = Knot::start(&zones).await;
    let unbound = Unbound::before(knot.address(), "lab.test").await;
    for nameserver in [knot.address(), unbound.address()] {
        let bare = looking(nameserver, "lab.test", Dnssec::Require, &knot.trust_anchor(".")).await;
        assert_eq!(ask(bare.shim(), "puppetca:8140").await, reached("server"));
        assert_eq!(line(&bare).await.get("source"), Some(&*format!("srv {CA}")));
    }
}

/// A zone's own key, where no zone above it is signed, as in a network that does not see the world's root.
#[tokio::test]
async fn a_zone_may_be_trusted_by_its_own_key() {
    let (server, impostor) = (Named::start("server").await, Named::start("impostor").await);
    let records = announced("_x-puppet._tcp", server.address());
    let knot = Knot::start(&[Zone::signed("lab.test", &records)]).await;
    let tampered = knot.tampered("lab.test", |text| redirected(text, &server, &impostor)).await;
    let anchor = knot.trust_anchor("lab.test");
    for dnssec in [Dnssec::Prefer, Dnssec::Require] {
        let bare = looking(knot.address(), "lab.test", dnssec, &anchor).await;
        assert_eq!(ask(bare.shim(), "puppet:8140").await, reached("server"), "{dnssec:?}");
        let bare = looking(tampered.address(), "lab.test", dnssec, &anchor).await;
        refused(ask(bare.shim(), "puppet:8140").await);
    }
    assert_eq!(impostor.accepted(), 0);
}

/// As knot's own `keymgr` prints it: in a zone file neither TTL nor class has to be there.
#[tokio::test]
async fn a_trust_anchor_is_taken_as_keymgr_prints_it() {
    let server = Named::start("server").await;
    let knot = Knot::start(&[Zone::signed("lab.test", &announced("_x-puppet._tcp", server.address()))]).await;
    let folder = TempDir::new().unwrap();
    let anchor = folder.path().join("anchor");
    fs::write(&anchor, format!("; The zone's key.\n{}", knot.key("lab.test"))).unwrap();
    let bare = looking(knot.address(), "lab.test", Dnssec::Require, &anchor).await;
    assert_eq!(ask(bare.shim(), "puppet:8140").await, reached("server"));
}

/// What somebody on the way may do to the answers: for the role's records alone, or for whatever is asked.
fn forgeries(impostor: &Named) -> Vec<(Odd, Option<&'static str>)> {
    let port = impostor.address().port();
    let another = RData::SRV(SRV::new(0, 0, port, absolute("impostor.lab.test")));
    vec![
        (Odd::Forged(port), Some(COMPILE)),
        (Odd::Extra(vec![(COMPILE.into(), another)]), Some(COMPILE)),
        (Odd::Unsigned, Some(COMPILE)),
        (Odd::Unsigned, None),
        (Odd::Denied, Some(COMPILE)),
        (Odd::Denied, None),
    ]
}

fn forge(odd: &OddDns, (forgery, name): &(Odd, Option<&str>)) {
    match name {
        Some(name) => odd.set(name, Some(forgery.clone())),
        None => odd.set_all(Some(forgery.clone())),
    }
}

/// None of it is an answer, not even "there is none".
#[tokio::test]
async fn forgeries_are_no_answer() {
    let (server, impostor) = (Named::start("server").await, Named::start("impostor").await);
    let records = announced("_x-puppet._tcp", server.address());
    let knot = Knot::start(&[Zone::signed(".", ""), Zone::signed("lab.test", &records)]).await;
    let anchor = knot.trust_anchor(".");
    for forgery in forgeries(&impostor) {
        let odd = OddDns::before(knot.address()).await;
        forge(&odd, &forgery);
        let bare = looking(odd.address(), "lab.test", Dnssec::Prefer, &anchor).await;
        refused(ask(bare.shim(), "puppet:8140").await);
        let line = line(&bare).await;
        let said = format!("{COMPILE}: {} ", odd.address());
        let is_told = line.get("dns").is_some_and(|dns| dns.starts_with(&said) && is_about_signatures(dns));
        assert!(is_told, "{forgery:?}: {line}");
    }
    assert_eq!((server.accepted(), impostor.accepted()), (0, 0));
}

/// A record of a zone that is not signed, put into the answer of one that is: it is true enough, and nobody has asked for
/// it.
#[tokio::test]
async fn a_strangers_record_in_a_signed_answer_is_no_server() {
    let (server, impostor) = (Named::start("server").await, Named::start("impostor").await);
    let (at, port) = (server.address(), impostor.address().port());
    let records = format!("_x-puppet._tcp SRV 10 0 {} server\nserver A {}\n", at.port(), at.ip());
    let plain = Zone::plain("plain.test", &format!("impostor A {}\n", impostor.address().ip()));
    let knot = Knot::start(&[Zone::signed(".", ""), Zone::signed("lab.test", &records), plain]).await;
    let odd = OddDns::before(knot.address()).await;
    let srv = RData::SRV(SRV::new(0, 0, port, absolute("impostor.plain.test")));
    odd.set(COMPILE, Some(Odd::Extra(vec![("_x-puppet._tcp.plain.test".into(), srv)])));
    for dnssec in [Dnssec::Prefer, Dnssec::Require] {
        let bare = looking(odd.address(), "lab.test", dnssec, &knot.trust_anchor(".")).await;
        let answer = ask(bare.shim(), "puppet:8140").await;
        assert!(answer == reached("server") || matches!(answer, Answer::Refused(..)), "{dnssec:?}: {answer:?}");
        line(&bare).await;
    }
    assert_eq!(impostor.accepted(), 0);
}

/// Past the TTL the servers that were known hold, and the line says why.
#[tokio::test]
async fn forgeries_past_the_ttl_change_nothing() {
    let (server, impostor) = (Named::start("server").await, Named::start("impostor").await);
    let records = announced("_x-puppet._tcp", server.address());
    let knot = Knot::start(&[Zone::signed(".", ""), Zone::signed("lab.test", &records)]).await;
    let anchor = knot.trust_anchor(".");
    for forgery in forgeries(&impostor) {
        let odd = OddDns::before(knot.address()).await;
        let bare = looking(odd.address(), "lab.test", Dnssec::Prefer, &anchor).await;
        assert_eq!(ask(bare.shim(), "puppet:8140").await, reached("server"));
        line(&bare).await;
        forge(&odd, &forgery);
        let_time_pass(Duration::from_secs(70)).await;
        let began = Instant::now();
        loop {
            assert_eq!(ask(bare.shim(), "puppet:8140").await, reached("server"), "{forgery:?}");
            let line = line(&bare).await;
            let (_, did) = line.stale(COMPILE).unwrap_or_else(|| panic!("{forgery:?}: {line}"));
            // On a busy machine the first connection may not have waited for so long.
            if did.starts_with(&format!("{} ", odd.address())) && is_about_signatures(did) {
                break;
            }
            assert!(began.elapsed() < PATIENCE, "{forgery:?}: {line}");
        }
    }
    assert_eq!(impostor.accepted(), 0);
}

// === DNS over TLS ===

/// A CA, its file, and who is found by DNS.
struct Secret {
    pki: Pki,
    folder: TempDir,
    server: Named,
    knot: Knot,
}

impl Secret {
    async fn start() -> Self {
        let server = Named::start("server").await;
        let knot = Knot::start(&[Zone::plain("lab.test", &announced("_x-puppet._tcp", server.address()))]).await;
        let (pki, folder) = (Pki::new(), TempDir::new().unwrap());
        fs::write(folder.path().join("ca.pem"), pki.ca_pem()).unwrap();
        Secret { pki, folder, server, knot }
    }

    /// A forwarder over TLS whose certificate has its address and the name `dns.lab.test`.
    async fn forwarder(&self) -> Unbound {
        let certificate = |at: SocketAddr| self.pki.pem(&["dns.lab.test", &at.ip().to_string()]);
        Unbound::with(self.knot.address(), "lab.test", certificate).await
    }

    /// A shim that asks there over TLS.
    async fn shim(&self, address: SocketAddr, name: Option<&str>, adjust: impl FnOnce(&mut Config)) -> Bare {
        let transport = Transport::Tls(name.map(|name| name.parse().unwrap()));
        shim(Nameserver { address, transport }, |config| {
            config.dns.ca_file = Some(self.folder.path().join("ca.pem"));
            adjust(config);
        })
        .await
    }
}

/// What begins a TLS connection: a handshake record.
const HANDSHAKE: u8 = 22;

/// By the name or by the address that the certificate has. Nothing is ever said there without TLS.
#[tokio::test]
async fn dns_over_tls() {
    let site = Secret::start().await;
    let unbound = site.forwarder().await;
    let tap = Tap::on(unbound.tls()).await;
    let bare = site.shim(tap.address(), Some("dns.lab.test"), |_| ()).await;
    assert_eq!(ask(bare.shim(), "puppet:8140").await, reached("server"));
    assert_eq!(line(&bare).await.get("source"), Some(&*format!("srv {COMPILE}")));
    assert!(!tap.first_bytes().is_empty() && tap.first_bytes().iter().all(|byte| *byte == HANDSHAKE));
    assert_eq!(tap.packets(), 0);
    // Again, when the forwarder may have closed the connection.
    prompt(&bare, "server").await;

    let bare = site.shim(unbound.tls(), None, |_| ()).await;
    assert_eq!(ask(bare.shim(), "puppet:8140").await, reached("server"));
}

/// Whoever cannot prove to be the nameserver is not asked, nor is anybody asked without TLS.
#[tokio::test]
async fn dns_over_tls_with_the_wrong_certificate() {
    let site = Secret::start().await;
    let unbound = site.forwarder().await;
    let tap = Tap::on(unbound.tls()).await;
    let other = TempDir::new().unwrap();
    fs::write(other.path().join("ca.pem"), Pki::new().ca_pem()).unwrap();
    let unknown_ca = other.path().join("ca.pem");
    let bares = [
        site.shim(tap.address(), Some("other.lab.test"), |_| ()).await,
        site.shim(tap.address(), None, |_| ()).await,
        site.shim(tap.address(), Some("dns.lab.test"), |config| config.dns.ca_file = Some(unknown_ca)).await,
    ];
    for bare in bares {
        let reason = refused(ask(bare.shim(), "puppet:8140").await);
        assert!(reason.contains("certificate") && reason.contains(&tap.address().to_string()), "{reason}");
    }
    assert_eq!(site.server.accepted(), 0);
    assert_eq!(tap.packets(), 0);
    assert!(tap.first_bytes().iter().all(|byte| *byte == HANDSHAKE), "{:?}", tap.first_bytes());
}

/// A server on that port without TLS hears nothing but a handshake.
#[tokio::test]
async fn dns_over_tls_where_nobody_speaks_it() {
    let site = Secret::start().await;
    let plain = OddDns::before(site.knot.address()).await;
    let bare = site.shim(plain.address(), Some("dns.lab.test"), |_| ()).await;
    let reason = refused(ask(bare.shim(), "puppet:8140").await);
    assert!(reason.contains(&plain.address().to_string()), "{reason}");
    assert_eq!((plain.all_queries(), plain.packets()), (0, 0));
}

/// A server that takes the connection and says nothing is as good as dead: the next one is asked.
#[tokio::test]
async fn dns_over_tls_where_nobody_says_anything() {
    let site = Secret::start().await;
    // The kernel accepts, and that is all.
    let mute = Raw::start().await;
    let second = site.knot.address();
    let bare = site
        .shim(mute.address(), Some("dns.lab.test"), |config| {
            config.dns.servers.push(second.into());
            config.dns.timeout = LONG;
        })
        .await;
    let began = Instant::now();
    assert_eq!(ask(bare.shim(), "puppet:8140").await, reached("server"));
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
}
