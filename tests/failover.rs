//! A server that cannot be reached is passed over within a bound, and when none is left the agent is told what each
//! did.
//!
//! Puppet itself would give up on the first silent server for two minutes; and what it prints is the reason phrase of a
//! CONNECT, verbatim. The clock is slow: a bound in time holds on a machine of any speed.

// A test ends where its set-up fails.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::net::SocketAddr;
use std::time::Duration;

use puppet_shim::config::Config;
use support::clock::let_time_pass;
use support::dns::DnsFault;
use support::hello::with_sni;
use support::loopback;
use support::raw;
use support::shim::Bare;
use support::tcp::{Answer, BlackHole, Named, ask, refusing};
use tokio::time::Instant;

const COMPILE: &str = "_x-puppet._tcp.lab.test";
/// `timeouts.connect` here.
const CONNECT: Duration = Duration::from_millis(250);
/// What a wait may take beyond its bound.
const LATE: Duration = Duration::from_millis(200);

/// The servers of compile: `one`, `two`, … in this order; `None` has a record but no address.
async fn compile(bare: &Bare, servers: &[Option<SocketAddr>]) {
    let names = ["one", "two", "three", "four"].map(|name| format!("{name}.lab.test"));
    let mut records = Vec::new();
    for ((name, address), priority) in names.iter().zip(servers).zip(0..) {
        let ips: Vec<_> = address.iter().map(SocketAddr::ip).collect();
        bare.dns.set_addresses(name, 60, &ips).await;
        records.push((priority, 0, address.map_or(8140, |a| a.port()), name.as_str()));
    }
    bare.dns.set_srv(COMPILE, 60, &records).await;
}

async fn shim() -> Bare {
    Bare::slow(short).await
}

fn short(config: &mut Config) {
    config.timeouts.connect = CONNECT;
    config.dns.timeout = Duration::from_millis(300);
}

/// `two` must be reached, past what `one` does.
async fn assert_passed_over(bare: &Bare, one: &str) {
    assert_eq!(ask(bare.shim(), "puppet:8140").await, Answer::Tunnel("second".into()));
    let lines = bare.journal.take(1).await;
    let tried = lines[0].get("tried").unwrap();
    assert!(tried.starts_with(one), "{tried}");
    assert!(tried.ends_with(" answered"), "{tried}");
    assert!(lines[0].get("server").unwrap().starts_with("two.lab.test:"), "{}", lines[0]);
    assert_eq!(lines.len(), 1);
}

#[tokio::test]
async fn the_first_refuses() {
    let (bare, gone, second) = (shim().await, refusing(), Named::start("second").await);
    compile(&bare, &[Some(gone), Some(second.address())]).await;
    assert_passed_over(&bare, &format!("one.lab.test:{} ({}) refused; ", gone.port(), gone.ip())).await;
}

#[tokio::test]
async fn the_first_has_no_address() {
    let (bare, second) = (shim().await, Named::start("second").await);
    compile(&bare, &[None, Some(second.address())]).await;
    assert_passed_over(&bare, "one.lab.test:8140 has no address in DNS; ").await;
}

#[tokio::test]
async fn the_first_cannot_be_looked_up() {
    for fault in [DnsFault::ServFail, DnsFault::Silent] {
        let (bare, second) = (shim().await, Named::start("second").await);
        compile(&bare, &[None, Some(second.address())]).await;
        bare.dns.set_fault("one.lab.test", Some(fault));
        let did = if fault == DnsFault::Silent { "had no answer from DNS within " } else { "could not be looked up: " };
        assert_passed_over(&bare, &format!("one.lab.test:8140 {did}")).await;
    }
}

#[tokio::test]
async fn the_first_is_a_black_hole() {
    let (bare, hole, second) = (shim().await, BlackHole::new(), Named::start("second").await);
    compile(&bare, &[Some(hole.address()), Some(second.address())]).await;
    let began = Instant::now();
    assert_passed_over(&bare, &format!("one.lab.test:{} ({}) timed out; ", hole.address().port(), hole.address().ip()))
        .await;
    let took = began.elapsed();
    assert!(took >= CONNECT && took < CONNECT + LATE, "{took:?}, with a bound of {CONNECT:?}");
}

/// Every address of a name is tried.
#[tokio::test]
async fn the_first_address_refuses() {
    let (bare, second) = (shim().await, Named::start("second").await);
    let (other, address) = (loopback::any_port().ip(), second.address());
    bare.dns.set_addresses("two.lab.test", 60, &[other, address.ip()]).await;
    bare.dns.set_srv(COMPILE, 60, &[(0, 0, address.port(), "two.lab.test")]).await;
    assert_passed_over(&bare, &format!("two.lab.test:{} ({other}) refused; ", address.port())).await;
}

#[tokio::test]
async fn all_refuse() {
    let (bare, one, two) = (shim().await, refusing(), refusing());
    compile(&bare, &[Some(one), Some(two), None]).await;
    let reason = format!(
        "no compile server reachable: one.lab.test:{} ({}) refused; two.lab.test:{} ({}) refused; three.lab.test:8140 has no address in DNS",
        one.port(),
        one.ip(),
        two.port(),
        two.ip()
    );
    assert_eq!(ask(bare.shim(), "puppet:8140").await, Answer::Refused(502, reason.clone()));
    let lines = bare.journal.take(1).await;
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0].get("end"), Some(reason.as_str()));
    assert_eq!((lines[0].get("status"), lines[0].get("server")), (Some("502"), None));

    // To TLS there is nothing to be said but an alert; the log has the rest.
    let reply = raw::exchange(bare.shim(), &[&with_sni(Some("puppet.lab.test"))]).await.unwrap();
    assert_eq!(reply, raw::Reply { bytes: vec![21, 3, 3, 0, 2, 2, 80], closed: true });
    let lines = bare.journal.take(1).await;
    assert_eq!(lines[0].get("alert"), Some("80"));
    for did in reason.strip_prefix("no compile server reachable: ").unwrap().split("; ") {
        assert!(lines[0].get("end").unwrap().contains(did), "{}", lines[0]);
    }
}

#[tokio::test]
async fn all_are_silent() {
    let (bare, one, two) = (shim().await, BlackHole::new(), BlackHole::new());
    compile(&bare, &[Some(one.address()), Some(two.address())]).await;
    let began = Instant::now();
    let Answer::Refused(504, reason) = ask(bare.shim(), "puppet:8140").await else { panic!("reached somebody") };
    let took = began.elapsed();
    assert!(took >= 2 * CONNECT && took < 2 * CONNECT + LATE, "{took:?}");
    assert_eq!(reason.matches("timed out").count(), 2, "{reason}");
    assert!(reason.contains("one.lab.test") && reason.contains("two.lab.test"), "{reason}");
}

/// One that refused and one that said nothing: the first has been heard.
#[tokio::test]
async fn some_are_silent() {
    let (bare, one, two) = (shim().await, BlackHole::new(), refusing());
    compile(&bare, &[Some(one.address()), Some(two)]).await;
    let Answer::Refused(502, reason) = ask(bare.shim(), "puppet:8140").await else { panic!("not a 502") };
    assert!(reason.contains("timed out; ") && reason.ends_with("refused"), "{reason}");
}

#[tokio::test]
async fn the_budget_ends_it_all() {
    let budget = Duration::from_millis(400);
    let bare = Bare::slow(|config| {
        config.timeouts.connect = Duration::from_secs(300);
        config.timeouts.budget = budget;
    })
    .await;
    let (gone, hole) = (refusing(), BlackHole::new());
    compile(&bare, &[Some(gone), Some(hole.address())]).await;
    let began = Instant::now();
    let Answer::Refused(504, reason) = ask(bare.shim(), "puppet:8140").await else { panic!("reached somebody") };
    let took = began.elapsed();
    assert!(took >= budget && took < budget + LATE, "{took:?}");
    let expected = format!(
        "no compile server reachable within 400ms: one.lab.test:{} ({}) refused; two.lab.test:{} ({}) did not answer within ",
        gone.port(),
        gone.ip(),
        hole.address().port(),
        hole.address().ip()
    );
    assert!(reason.starts_with(&expected) && reason.ends_with(" ms"), "{reason}");
    assert_eq!(bare.journal.take(1).await[0].get("status"), Some("504"));
}

/// DNS is part of the budget.
#[tokio::test]
async fn the_budget_ends_a_lookup() {
    let bare = Bare::slow(|config| {
        config.timeouts.budget = Duration::from_millis(300);
        config.dns.timeout = Duration::from_secs(300);
    })
    .await;
    bare.dns.set_fault(COMPILE, Some(DnsFault::Silent));
    let reason = "no compile server reachable within 300ms: DNS did not answer";
    assert_eq!(ask(bare.shim(), "puppet:8140").await, Answer::Refused(504, reason.into()));
}

/// A failure is remembered, but keeps no server out for longer than its hold-down.
#[tokio::test]
async fn a_server_that_is_back_is_used() {
    let (bare, gone, second) = (shim().await, refusing(), Named::start("second").await);
    compile(&bare, &[Some(gone), Some(second.address())]).await;
    assert_eq!(ask(bare.shim(), "puppet:8140").await, Answer::Tunnel("second".into()));
    let _first = Named::at("first", gone).await;
    assert_eq!(ask(bare.shim(), "puppet:8140").await, Answer::Tunnel("second".into()));
    bare.journal.take(2).await;
    let_time_pass(Duration::from_secs(10 * 60)).await;
    assert_eq!(ask(bare.shim(), "puppet:8140").await, Answer::Tunnel("first".into()));
}
