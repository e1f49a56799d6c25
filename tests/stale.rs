//! What DNS said outlives the daemon, and DNS itself.
//!
//! After a reboot with DNS dead a run works: the daemon has written down what DNS said last. The real binary, whose
//! memory is made older by changing its stamps.

// A test ends where its set-up fails.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use hickory_server::proto::rr::RecordType;
use rustix::process::Signal;
use serde_json::Value;
use support::command::{Host, Running, text};
use support::dns::Dns;
use support::eventually;
use support::tcp::{Answer, Named, PATIENCE, ask};
use tokio::time::Instant;

const CA: &str = "_x-puppet-ca._tcp.lab.test";

const HOUR: i64 = 60 * 60 * 1000;
const DAY: i64 = 24 * HOUR;

/// `dns.timeout` where somebody is to answer, or is not waited for until then.
const LONG: Duration = Duration::from_secs(10);
/// The same where nobody answers, and that is waited for.
const SHORT: Duration = Duration::from_secs(1);

fn config(dns: &Dns, timeout: Duration, more: &str) -> String {
    format!(
        "listen = [\"127.0.0.1:0\"]
domain = \"lab.test\"
dns.servers = [\"{}\"]
dns.timeout = \"{}s\"
dns.allow_loopback = true
role.ca.allow_ports = [\"1-65535\"]
certificates.check = false
{more}",
        dns.address(),
        timeout.as_secs()
    )
}

/// A host whose CA is this server by SRV, and what DNS says of it is known on disk.
async fn taught(dns: &Dns, server: &Named, more: &str) -> Host {
    let address = server.address();
    dns.set_addresses("ca1.lab.test", 60, &[address.ip()]).await;
    dns.set_srv(CA, 60, &[(0, 0, address.port(), "ca1.lab.test")]).await;
    let host = Host::new(&config(dns, LONG, more));
    let running = host.run().await;
    assert_eq!(ask(running.address(), "puppetca:8140").await, reached("server"));
    running.end(Signal::TERM).await;
    host
}

fn reached(name: &str) -> Answer {
    Answer::Tunnel(name.into())
}

fn file(host: &Host) -> PathBuf {
    host.state().join("memory.json")
}

/// Makes all that DNS said older by so many milliseconds.
fn age(host: &Host, by: i64) {
    let mut memory: Value = serde_json::from_slice(&fs::read(file(host)).unwrap()).unwrap();
    let mut aged = 0;
    for kind in ["srv", "a", "aaaa"] {
        for entry in memory["dns"][kind].as_array_mut().unwrap() {
            let learnt = entry["learnt"].as_i64().unwrap();
            entry["learnt"] = (learnt - by).into();
            aged += 1;
        }
    }
    assert_eq!(aged, 3, "{memory}");
    fs::write(file(host), memory.to_string()).unwrap();
}

/// The connection that goes to the server, its line in the log, and how long it took.
async fn served(running: &Running, name: &str) -> (String, Duration) {
    let began = Instant::now();
    assert_eq!(ask(running.address(), "puppetca:8140").await, reached(name));
    let took = began.elapsed();
    eventually("its line", || running.line(" from=").is_some()).await;
    (running.line(" from=").unwrap(), took)
}

/// The line of the first connection that goes by what DNS says now: the answer is waited for 300 ms, and one that a busy
/// machine gives later counts for the next.
async fn heard(running: &Running, old: &str, new: &str) -> String {
    let began = Instant::now();
    for count in 1.. {
        let answer = ask(running.address(), "puppetca:8140").await;
        eventually("its line", || running.connections() == count).await;
        if answer == reached(new) {
            return running.lines().into_iter().rfind(|line| line.contains(" from=")).unwrap();
        }
        assert_eq!(answer, reached(old));
        assert!(began.elapsed() < PATIENCE, "DNS is never heard");
    }
    unreachable!()
}

async fn resolve(host: &Host, more: &[&str]) -> String {
    text(&host.output(&[&["resolve", "ca"], more].concat()).await.stdout)
}

#[tokio::test]
async fn within_the_ttl_nothing_is_asked_after_a_restart() {
    let (dns, server) = (Dns::start().await, Named::start("server").await);
    let host = taught(&dns, &server, "").await;
    let before = dns.all_queries();
    let running = host.run().await;
    let (line, _) = served(&running, "server").await;
    assert!(!line.contains(" dns="), "{line}");
    assert_eq!(dns.all_queries(), before);
    let shown = resolve(&host, &[]).await;
    assert!(shown.contains(&format!("SRV      {CA}: 1 record, TTL 60 s, from {}", dns.address())), "{shown}");
    assert!(shown.contains(", kept on disk, cached for another "), "{shown}");
    assert_eq!(dns.all_queries(), before);
    // Once; but a question that a busy machine has not answered after a third of a second is sent again.
    let mut asked = Vec::new();
    while asked.last() != Some(&1) {
        assert!(asked.len() < 20, "{asked:?}");
        let before = dns.queries(CA, RecordType::SRV);
        let shown = resolve(&host, &["--fresh"]).await;
        assert!(shown.contains(&format!("from {}, live\n", dns.address())), "{shown}");
        asked.push(dns.queries(CA, RecordType::SRV) - before);
    }
}

#[tokio::test]
async fn past_it_the_last_answer_holds_while_dns_is_dead() {
    let (mut dns, server) = (Dns::start().await, Named::start("server").await);
    let host = taught(&dns, &server, "").await;
    dns.stop().await;
    age(&host, DAY);
    let running = host.run().await;
    let (line, took) = served(&running, "server").await;
    assert!(line.contains(&format!("{CA} kept on disk, stale since ")), "{line}");
    // DNS is waited for a moment for the records, and a moment for the addresses, and for neither until the time is up.
    assert!(took < LONG * 3 / 4, "{took:?}");
    let told = running.lines().into_iter().filter(|line| line.contains("DNS gives no answer")).count();
    assert!(told <= 1, "{:#?}", running.lines());
    let shown = resolve(&host, &[]).await;
    assert!(
        shown.contains("kept on disk, stale since ") && shown.contains("its addresses: kept on disk, stale"),
        "{shown}"
    );

    // When it is back, what it says counts.
    let other = Named::start("other").await;
    dns.set_addresses("ca2.lab.test", 60, &[other.address().ip()]).await;
    dns.set_srv(CA, 60, &[(0, 0, other.address().port(), "ca2.lab.test")]).await;
    dns.restart().await;
    running.end(Signal::TERM).await;
    age(&host, DAY);
    let running = host.run().await;
    let line = heard(&running, "server", "other").await;
    assert!(!line.contains("stale"), "{line}");
    let changed = running.line("the servers have changed").expect("it does not say so");
    let (new, old) = (other.address().port(), server.address().port());
    assert!(changed.contains(&format!("added=ca2.lab.test:{new} removed=ca1.lab.test:{old}")), "{changed}");
}

/// After a week anything else goes before it, but for the name itself.
#[tokio::test]
async fn what_is_too_old_comes_last() {
    for (more, expected) in [("", "server"), ("written", "static")] {
        let (mut dns, server, written) =
            (Dns::start().await, Named::start("server").await, Named::start("static").await);
        let list = format!("role.ca.servers = [\"{}\"]\n", written.address());
        let more = if more.is_empty() { "" } else { &list };
        let host = taught(&dns, &server, more).await;
        host.configure(&config(&dns, SHORT, more));
        dns.stop().await;
        age(&host, 8 * DAY);
        let running = host.run().await;
        let (line, took) = served(&running, expected).await;
        assert!(took >= SHORT, "DNS is waited for, {took:?}: {line}");
        assert!(line.contains("stale since 6"), "{line}");
    }
}

#[tokio::test]
async fn how_old_is_too_old_is_a_setting() {
    let (mut dns, server, written) = (Dns::start().await, Named::start("server").await, Named::start("static").await);
    let more = format!("role.ca.servers = [\"{}\"]\ndns.max_stale = \"2h\"\n", written.address());
    let host = taught(&dns, &server, &more).await;
    host.configure(&config(&dns, SHORT, &more));
    dns.stop().await;
    age(&host, HOUR);
    let running = host.run().await;
    served(&running, "server").await;
    running.end(Signal::TERM).await;
    age(&host, HOUR + 1);
    served(&host.run().await, "static").await;
}

/// How long ago it was can no longer be told; what it was can.
#[tokio::test]
async fn an_answer_from_the_future_is_stale() {
    let (mut dns, server) = (Dns::start().await, Named::start("server").await);
    let host = taught(&dns, &server, "").await;
    dns.stop().await;
    age(&host, -DAY);
    let (line, _) = served(&host.run().await, "server").await;
    assert!(line.contains("kept on disk, stale since 0 s"), "{line}");
}

/// NXDOMAIN is an answer: the admin has removed it, and DNS is well.
#[tokio::test]
async fn what_was_removed_meanwhile_is_gone() {
    let (dns, server, written) = (Dns::start().await, Named::start("server").await, Named::start("static").await);
    let host = taught(&dns, &server, &format!("role.ca.servers = [\"{}\"]\n", written.address())).await;
    dns.set_srv(CA, 60, &[]).await;
    age(&host, HOUR);
    let running = host.run().await;
    let line = heard(&running, "server", "static").await;
    assert!(!line.contains("stale"), "{line}");
    assert_eq!(server.accepted(), running.connections());
}
