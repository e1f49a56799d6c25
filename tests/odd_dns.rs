//! Nameservers that are silent, slow or broken, and answers that are none: what a connection makes of them.
//!
//! Servers without TLS that say their name, and CONNECT, as in `sources.rs`. Between the shim and its nameserver stands
//! one that mistreats what goes through. The clock is slow: what is told of time holds on a machine of any speed, and no
//! question is asked twice because the machine took long over the first.

// A test ends where its set-up fails.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use hickory_server::proto::op::ResponseCode;
use hickory_server::proto::rr::rdata::{A, SRV};
use hickory_server::proto::rr::{RData, RecordType};
use puppet_shim::config::{Config, StaticServer};
use puppet_shim::host::Host;
use support::clock::let_time_pass;
use support::dns::Dns;
use support::journal::Line;
use support::loopback;
use support::nameserver::absolute;
use support::odd_dns::{Junk, Odd, OddDns, Over, Tcp};
use support::shim::{Bare, role};
use support::tcp::{Answer, Named, PATIENCE, ask, refusing};
use tokio::time::Instant;

const CA: &str = "_x-puppet-ca._tcp.lab.test";
const COMPILE: &str = "_x-puppet._tcp.lab.test";
const FILES: &str = "_x-puppet-fileserver._tcp.lab.test";

/// Short, for what has to run out.
const SHORT: Duration = Duration::from_millis(300);

/// A shim and its nameservers.
struct Site {
    bare: Bare,
    /// The first or only one.
    odd: OddDns,
    /// The second one, which is well as long as nothing else is said.
    beside: OddDns,
    /// What both have their answers from.
    dns: Dns,
}

impl Site {
    /// With one nameserver.
    async fn start() -> Self {
        Self::with(|_| ()).await
    }

    /// The same with what `adjust` makes of the configuration.
    async fn with(adjust: impl FnOnce(&mut Config)) -> Self {
        Self::of(1, adjust).await
    }

    /// With two.
    async fn with_two() -> Self {
        Self::of(2, |_| ()).await
    }

    async fn of(count: usize, adjust: impl FnOnce(&mut Config)) -> Self {
        let dns = Dns::start().await;
        let (odd, beside) = (OddDns::before(dns.address()).await, OddDns::before(dns.address()).await);
        let bare = Bare::slow(|config| {
            config.dns.servers = [&odd, &beside][..count].iter().map(|server| server.address().into()).collect();
            adjust(config);
        })
        .await;
        Site { bare, odd, beside, dns }
    }

    async fn ask(&self, target: &str) -> Answer {
        ask(self.bare.shim(), target).await
    }

    /// The same, and how long it took.
    async fn time(&self, target: &str) -> (Answer, Duration) {
        let began = Instant::now();
        (self.ask(target).await, began.elapsed())
    }

    /// The one log line since the last call.
    async fn line(&self) -> Line {
        let mut lines = self.bare.journal.take(1).await;
        assert_eq!(lines.len(), 1);
        lines.remove(0)
    }
}

fn reached(name: &str) -> Answer {
    Answer::Tunnel(name.into())
}

/// Why nobody was reached.
fn refused(answer: Answer) -> String {
    let Answer::Refused(502 | 503, reason) = answer else { panic!("{answer:?}") };
    reason
}

fn short(config: &mut Config) {
    config.dns.timeout = SHORT;
}

// === Answers that are none ===

/// Whoever does not know the question can only guess the id: a wrong one is nobody's answer, and the right one may still
/// come.
#[tokio::test]
async fn what_is_no_answer_counts_as_silence() {
    for junk in [Junk::Garbage, Junk::Empty, Junk::WrongId, Junk::OtherQuestion] {
        let (site, server) = (Site::with(short).await, Named::start("server").await);
        site.dns.announce(COMPILE, 60, server.address()).await;
        site.odd.set_all(Some(Odd::Instead(junk)));
        let reason = refused(site.ask("puppet:8140").await);
        assert!(reason.contains(&format!("{} did not answer", site.odd.address())), "{junk:?}: {reason}");
        assert_eq!(server.accepted(), 0, "{junk:?}");
    }
}

#[tokio::test]
async fn the_answer_behind_what_is_none_is_taken() {
    for junk in [Junk::Garbage, Junk::Empty, Junk::WrongId, Junk::OtherQuestion] {
        let (site, server) = (Site::start().await, Named::start("server").await);
        site.dns.announce(COMPILE, 60, server.address()).await;
        site.odd.set_all(Some(Odd::Ahead(junk)));
        assert_eq!(site.ask("puppet:8140").await, reached("server"), "{junk:?}");
        assert_eq!(site.line().await.get("dns"), None, "{junk:?}");
    }
}

/// Half an answer is not one with fewer servers.
#[tokio::test]
async fn an_answer_cut_short_is_none() {
    let (site, server) = (Site::with(short).await, Named::start("server").await);
    site.dns.announce(COMPILE, 60, server.address()).await;
    site.odd.set(COMPILE, Some(Odd::Instead(Junk::Cut)));
    let reason = refused(site.ask("puppet:8140").await);
    assert!(reason.contains(&format!("SRV {COMPILE}: {}", site.odd.address())), "{reason}");
    assert_eq!(server.accepted(), 0);
}

#[tokio::test]
async fn a_code_is_told_by_its_name() {
    let codes = [
        (ResponseCode::FormErr, "FORMERR"),
        (ResponseCode::NotImp, "NOTIMP"),
        (ResponseCode::ServFail, "SERVFAIL"),
        (ResponseCode::Refused, "REFUSED"),
    ];
    for (code, name) in codes {
        let (site, server) = (Site::start().await, Named::start("server").await);
        site.dns.announce(COMPILE, 60, server.address()).await;
        site.odd.set_all(Some(Odd::Code(code)));
        let reason = refused(site.ask("puppet:8140").await);
        assert!(reason.contains(&format!("{} said {name}", site.odd.address())), "{reason}");
        assert_eq!(server.accepted(), 0);
    }
}

/// Whatever the first nameserver does, the second one's answer counts.
#[tokio::test]
async fn the_next_nameserver_makes_up_for_it() {
    let junk = Junk::ALL.into_iter().map(Odd::Instead);
    let codes = [ResponseCode::FormErr, ResponseCode::NotImp, ResponseCode::ServFail, ResponseCode::Refused];
    let others = [Odd::Silent, Odd::Truncated(Tcp::Mute), Odd::Truncated(Tcp::Close)];
    for odd in junk.chain(codes.map(Odd::Code)).chain(others) {
        let (site, server) = (Site::with_two().await, Named::start("server").await);
        site.dns.announce(COMPILE, 60, server.address()).await;
        site.odd.set_all(Some(odd.clone()));
        assert_eq!(site.ask("puppet:8140").await, reached("server"), "{odd:?}");
        assert_eq!(site.line().await.get("source"), Some(&*format!("srv {COMPILE}")), "{odd:?}");
    }
}

// === Answers that are too long ===

#[tokio::test]
async fn a_truncated_answer_is_asked_for_again_over_tcp() {
    let (site, server) = (Site::start().await, Named::start("server").await);
    site.dns.announce(COMPILE, 60, server.address()).await;
    site.odd.set_all(Some(Odd::Truncated(Tcp::Answer)));
    assert_eq!(site.ask("puppet:8140").await, reached("server"));
    let asked = |over| site.odd.queries(COMPILE, RecordType::SRV, over);
    assert_eq!((asked(Over::Udp), asked(Over::Tcp)), (1, 1));
}

/// A truncated answer without a record does not say that there is none.
#[tokio::test]
async fn a_truncated_answer_without_tcp_is_none() {
    for tcp in [Tcp::Mute, Tcp::Close] {
        let (own, compile) = (Named::start("own").await, Named::start("compile").await);
        let site = Site::with(short).await;
        site.dns.announce(FILES, 60, own.address()).await;
        site.dns.announce(COMPILE, 60, compile.address()).await;
        site.odd.set(FILES, Some(Odd::Truncated(tcp)));
        let (answer, took) = site.time("puppetfiles:8140").await;
        let line = site.line().await;
        assert!(
            line.get("dns").is_some_and(|dns| dns.starts_with(&format!("{FILES}: {}", site.odd.address()))),
            "{line}"
        );
        assert_eq!(own.accepted(), 0);
        // Those of compile are known at once, or not asked for any more: the time is up.
        assert!(answer == reached("compile") || line.get("side") == Some("discovery"), "{tcp:?}: {answer:?}");
        assert!(took < 4 * SHORT, "{tcp:?}: {took:?}");
    }
}

/// The records come in the opposite order, and over TCP: neither changes whose turn it is.
#[tokio::test]
async fn sixty_targets_are_tried_in_their_order() {
    let (site, server) = (Site::start().await, Named::start("last").await);
    let gone = loopback::free_ports::<59>();
    let addresses: Vec<_> = gone.into_iter().chain([server.address()]).collect();
    let names: Vec<_> = (1..=60).map(|n| format!("compile{n}.lab.test")).collect();
    for (name, address) in names.iter().zip(&addresses) {
        site.dns.set_addresses(name, 60, &[address.ip()]).await;
    }
    let records: Vec<_> = (1..).zip(&names).zip(&addresses).map(|((n, name), at)| (n, 0, at.port(), &**name)).collect();
    site.dns.set_srv(COMPILE, 60, &records.iter().rev().copied().collect::<Vec<_>>()).await;

    assert_eq!(site.ask("puppet:8140").await, reached("last"));
    assert_eq!(site.odd.queries(COMPILE, RecordType::SRV, Over::Tcp), 1);
    let line = site.line().await;
    let tried: Vec<_> =
        line.get("tried").unwrap().split("; ").map(|server| server.split_once(':').unwrap().0).collect();
    assert_eq!(tried, names);
}

#[tokio::test]
async fn three_hundred_records_are_nothing_special() {
    let (site, server) = (Site::start().await, Named::start("first").await);
    let names: Vec<_> = (0..300).map(|n| format!("compile{n}.lab.test")).collect();
    let port = server.address().port();
    let records: Vec<_> = (0..).zip(&names).map(|(n, name)| (n, 0, port, &**name)).collect();
    site.dns.set_srv(COMPILE, 60, &records).await;
    site.dns.set_addresses(&names[0], 60, &[server.address().ip()]).await;
    assert_eq!(site.ask("puppet:8140").await, reached("first"));
    assert_eq!(site.odd.queries(COMPILE, RecordType::SRV, Over::Tcp), 1);
}

// === Answers that say too much, or go in circles ===

/// What an answer has of other names is nobody's word: not even a nameserver that is well has been asked for it.
#[tokio::test]
async fn records_that_nobody_has_asked_for_are_no_servers() {
    let (site, server, other) = (Site::start().await, Named::start("server").await, Named::start("other").await);
    let target = format!("server-{}.lab.test", server.address().port());
    site.dns.set_addresses(&target, 60, &[server.address().ip()]).await;
    site.dns.set_addresses("other.lab.test", 60, &[other.address().ip()]).await;
    site.dns.set_srv(COMPILE, 60, &[(10, 0, server.address().port(), &target)]).await;
    let srv = RData::SRV(SRV::new(0, 0, other.address().port(), absolute("other.lab.test")));
    site.odd.set(COMPILE, Some(Odd::Extra(vec![("_other._tcp.lab.test".into(), srv)])));
    assert_eq!(site.ask("puppet:8140").await, reached("server"));
    assert_eq!(other.accepted(), 0);
}

#[tokio::test]
async fn nor_are_they_addresses() {
    let (site, gone) = (Site::start().await, refusing());
    let other = Named::at("other", SocketAddr::new(loopback::any_port().ip(), gone.port())).await;
    site.dns.announce(COMPILE, 60, gone).await;
    let SocketAddr::V4(address) = other.address() else { unreachable!("it listens in 127/8") };
    let a = RData::A(A(*address.ip()));
    let target = format!("server-{}.lab.test", gone.port());
    site.odd.set(&target, Some(Odd::Extra(vec![("other.lab.test".into(), a)])));
    let reason = refused(site.ask("puppet:8140").await);
    assert_eq!(reason, format!("no compile server reachable: {target}:{} ({}) refused", gone.port(), gone.ip()));
    assert_eq!(other.accepted(), 0);
}

#[tokio::test]
async fn a_target_whose_aliases_go_in_circles_is_passed_over() {
    let (site, server) = (Site::start().await, Named::start("server").await);
    site.dns.set_alias("round.lab.test", 60, "and-round.lab.test").await;
    site.dns.set_alias("and-round.lab.test", 60, "round.lab.test").await;
    site.dns.set_addresses("server.lab.test", 60, &[server.address().ip()]).await;
    let records = [(0, 0, 8140, "round.lab.test"), (1, 0, server.address().port(), "server.lab.test")];
    site.dns.set_srv(COMPILE, 60, &records).await;
    let (answer, took) = site.time("puppet:8140").await;
    assert_eq!(answer, reached("server"));
    assert!(took < Duration::from_secs(1), "{took:?}");
}

// === Time ===

/// A run is several connections within seconds: a TTL of 0 does not make each of them ask.
#[tokio::test]
async fn a_ttl_of_0_holds_for_five_seconds() {
    let (site, server) = (Site::start().await, Named::start("server").await);
    site.dns.announce(CA, 0, server.address()).await;
    let target = format!("server-{}.lab.test", server.address().port());
    let asked = || {
        [(CA, RecordType::SRV), (&target, RecordType::A)].map(|(name, kind)| site.odd.queries(name, kind, Over::Udp))
    };
    let (one, other) = tokio::join!(site.ask("puppetca:8140"), site.ask("puppetca:8140"));
    assert_eq!((one, other), (reached("server"), reached("server")));
    assert_eq!(asked(), [1, 1]);
    let_time_pass(Duration::from_secs(4)).await;
    assert_eq!(site.ask("puppetca:8140").await, reached("server"));
    assert_eq!(asked(), [1, 1]);
    let_time_pass(Duration::from_secs(2)).await;
    assert_eq!(site.ask("puppetca:8140").await, reached("server"));
    assert_eq!(asked(), [2, 2]);
}

/// Packets get lost. It is sent again long before the time is up.
#[tokio::test]
async fn a_lost_packet_is_sent_again() {
    for lost in [1, 2] {
        let (site, server) = (Site::start().await, Named::start("server").await);
        site.dns.announce(COMPILE, 60, server.address()).await;
        site.odd.lose(lost);
        let (answer, took) = site.time("puppet:8140").await;
        assert_eq!(answer, reached("server"), "{lost} lost");
        assert!(took < Duration::from_millis(1500), "{lost} lost: {took:?}");
        assert_eq!(site.line().await.get("dns"), None);
    }
}

/// As a nameserver does that has to ask others: slow is not dead.
#[tokio::test]
async fn a_late_answer_is_waited_for() {
    let (site, server) = (Site::start().await, Named::start("server").await);
    site.dns.announce(COMPILE, 60, server.address()).await;
    site.odd.set(COMPILE, Some(Odd::Late(Duration::from_millis(900))));
    assert_eq!(site.ask("puppet:8140").await, reached("server"));
    assert_eq!(site.line().await.get("dns"), None);
}

/// `dns.timeout` is for all of a role's record sets together.
#[tokio::test]
async fn a_silent_dns_costs_its_time_once() {
    let second = Duration::from_secs(1);
    let server = Named::start("static").await;
    let list = vec![StaticServer { host: Host::Ip(server.address().ip()), port: Some(server.address().port()) }];
    let site = Site::with(|config| {
        config.dns.timeout = second;
        role(config, "files").servers = list;
    })
    .await;
    site.odd.set_all(Some(Odd::Silent));
    let (answer, took) = site.time("puppetfiles:8140").await;
    assert_eq!(answer, reached("static"));
    assert!(took < second * 3 / 2, "{took:?}");
    let line = site.line().await;
    assert!(line.get("dns").is_some_and(|dns| dns.contains("did not answer")), "{line}");
}

/// The first of two nameservers is dead: the first question waits for it for 400 ms, and no other one at all.
#[tokio::test]
async fn a_dead_first_nameserver_costs_its_time_once() {
    let (site, server) = (Site::with_two().await, Named::start("server").await);
    site.dns.announce(COMPILE, 60, server.address()).await;
    site.dns.announce(CA, 60, server.address()).await;
    site.odd.set_all(Some(Odd::Silent));
    let (answer, first) = site.time("puppet:8140").await;
    assert_eq!(answer, reached("server"));
    let asked = site.odd.queries(CA, RecordType::SRV, Over::Udp);
    let (answer, second) = site.time("puppetca:8140").await;
    assert_eq!(answer, reached("server"));
    assert_eq!(site.odd.queries(CA, RecordType::SRV, Over::Udp), asked, "it is not asked where the other answers");
    assert!(first < Duration::from_millis(500), "{first:?}");
    assert!(second < Duration::from_millis(200), "{second:?}");
}

/// It goes last, and is not forgotten: where the other dies too, it is asked.
#[tokio::test]
async fn a_nameserver_that_is_back_is_asked_when_the_other_dies() {
    let (site, server) = (Site::with_two().await, Named::start("server").await);
    site.dns.announce(COMPILE, 60, server.address()).await;
    site.dns.announce(CA, 60, server.address()).await;
    site.odd.set_all(Some(Odd::Silent));
    assert_eq!(site.ask("puppet:8140").await, reached("server"));
    site.odd.set_all(None);
    site.beside.set_all(Some(Odd::Silent));
    assert_eq!(site.ask("puppetca:8140").await, reached("server"));
}

// === Past the TTL ===

/// So many seconds past a TTL of 60 s it is 70 s later: some of it may be left to chance.
const SINCE: RangeInclusive<u64> = 10..=17;

/// DNS dies after it has named the servers: connections go on with them, hardly later, and say so.
#[tokio::test]
async fn a_silent_dns_past_the_ttl_costs_a_moment() {
    let (site, server) = (Site::start().await, Named::start("server").await);
    site.dns.announce(CA, 60, server.address()).await;
    assert_eq!(site.ask("puppetca:8140").await, reached("server"));
    assert_eq!(site.line().await.get("dns"), None);
    site.odd.set_all(Some(Odd::Silent));
    let_time_pass(Duration::from_secs(70)).await;
    let (answer, took) = site.time("puppetca:8140").await;
    assert_eq!(answer, reached("server"));
    // 300 ms for the records, the same for the addresses; `dns.timeout` is 2 s.
    assert!(took < Duration::from_secs(1), "{took:?}");
    let line = site.line().await;
    assert_eq!(line.get("source"), Some(&*format!("srv {CA}")));
    assert!(line.stale(CA).is_some_and(|(seconds, _)| SINCE.contains(&seconds)), "{line}");
}

/// The same where DNS says that it is ill, and of what.
#[tokio::test]
async fn an_ill_dns_past_the_ttl_keeps_the_servers() {
    for (code, name) in [(ResponseCode::ServFail, "SERVFAIL"), (ResponseCode::Refused, "REFUSED")] {
        let (site, server) = (Site::start().await, Named::start("server").await);
        site.dns.announce(CA, 60, server.address()).await;
        assert_eq!(site.ask("puppetca:8140").await, reached("server"));
        site.line().await;
        site.odd.set_all(Some(Odd::Code(code)));
        let_time_pass(Duration::from_secs(70)).await;
        assert_eq!(site.ask("puppetca:8140").await, reached("server"));
        let line = site.line().await;
        let (seconds, did) = line.stale(CA).unwrap_or_else(|| panic!("{line}"));
        assert!(SINCE.contains(&seconds), "{line}");
        // So are the addresses that were known.
        assert!(did.starts_with(&format!("{} said {name}; server-", site.odd.address())), "{line}");
        assert!(did.contains(".lab.test stale since "), "{line}");
    }
}

/// Past the TTL the first connection waits for the answer, if it comes soon.
#[tokio::test]
async fn a_prompt_answer_past_the_ttl_counts_at_once() {
    let (old, new) = (Named::start("old").await, Named::start("new").await);
    let site = Site::start().await;
    site.dns.announce(CA, 60, old.address()).await;
    assert_eq!(site.ask("puppetca:8140").await, reached("old"));
    site.dns.announce(CA, 60, new.address()).await;
    site.odd.set(CA, Some(Odd::Late(Duration::from_millis(50))));
    let_time_pass(Duration::from_secs(61)).await;
    assert_eq!(site.ask("puppetca:8140").await, reached("new"));
    assert_eq!(old.accepted(), 1);
}

/// If it does not, the connection goes on with the last servers; the answer counts for the next one.
#[tokio::test]
async fn a_late_answer_past_the_ttl_counts_for_the_next_connection() {
    let (old, new) = (Named::start("old").await, Named::start("new").await);
    let site = Site::start().await;
    site.dns.announce(CA, 60, old.address()).await;
    assert_eq!(site.ask("puppetca:8140").await, reached("old"));
    site.line().await;
    site.dns.announce(CA, 60, new.address()).await;
    site.odd.set(CA, Some(Odd::Late(Duration::from_millis(800))));
    let_time_pass(Duration::from_secs(61)).await;
    let began = Instant::now();
    let (answer, took) = site.time("puppetca:8140").await;
    assert_eq!(answer, reached("old"));
    assert!(took < Duration::from_millis(700), "it has waited for the answer: {took:?}");
    let line = site.line().await;
    assert!(line.stale(CA).is_some(), "{line}");
    while site.ask("puppetca:8140").await == reached("old") {
        assert!(began.elapsed() < PATIENCE, "the answer never counts");
    }
    assert_eq!(new.accepted(), 1);
    // Before, and the one that was late; it may have been sent again.
    let asked = site.odd.queries(CA, RecordType::SRV, Over::Udp);
    assert!(asked <= 5, "asked {asked} times");
}

/// "No such name" is an answer: what was known is over, and no failure.
#[tokio::test]
async fn a_name_that_is_gone_is_gone() {
    let (own, compile) = (Named::start("own").await, Named::start("compile").await);
    let site = Site::start().await;
    site.dns.announce(FILES, 60, own.address()).await;
    site.dns.announce(COMPILE, 60, compile.address()).await;
    assert_eq!(site.ask("puppetfiles:8140").await, reached("own"));
    site.line().await;
    site.odd.set(FILES, Some(Odd::Denied));
    let_time_pass(Duration::from_secs(61)).await;
    assert_eq!(site.ask("puppetfiles:8140").await, reached("compile"));
    let line = site.line().await;
    assert_eq!((line.get("source"), line.get("dns")), (Some(&*format!("fallback srv {COMPILE}")), None));
    // And DNS that then dies does not bring it back.
    site.odd.set_all(Some(Odd::Silent));
    site.odd.set(FILES, None);
    let_time_pass(Duration::from_secs(61)).await;
    assert_eq!(site.ask("puppetfiles:8140").await, reached("compile"));
    assert_eq!(own.accepted(), 1);
}
