//! What the daemon has learnt of its servers outlives it, be it stopped or killed; and a file that is of no use never
//! keeps it from serving.

// A test ends where its set-up fails.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use puppet_shim::memory::{Learnt, restore, to_json};
use puppet_shim::pool::Pool;
use rustix::process::Signal;
use serde_json::Value;
use support::command::{Host, Running, ending, text};
use support::dns::Dns;
use support::eventually;
use support::hello::with_sni;
use support::raw;
use support::tcp::{Answer, Named, ask, refusing};
use tokio::time::Instant;

const COMPILE: &str = "_x-puppet._tcp.lab.test";

/// A host whose compile servers are these, by priority and address: `one`, `two`, …
async fn host(dns: &Dns, servers: &[(u16, SocketAddr)], more: &str) -> Host {
    let names = ["one", "two", "three", "four"].map(|name| format!("{name}.lab.test"));
    let mut records = Vec::new();
    for (name, (priority, address)) in names.iter().zip(servers) {
        dns.set_addresses(name, 60, &[address.ip()]).await;
        records.push((*priority, 10, address.port(), name.as_str()));
    }
    dns.set_srv(COMPILE, 60, &records).await;
    Host::new(&format!(
        "listen = [\"127.0.0.1:0\"]
domain = \"lab.test\"
dns.servers = [\"{}\"]
dns.allow_loopback = true
role.compile.allow_ports = [\"1-65535\"]
certificates.check = false
{more}",
        dns.address()
    ))
}

fn file(host: &Host) -> PathBuf {
    host.state().join("memory.json")
}

fn read(host: &Host) -> String {
    fs::read_to_string(file(host)).unwrap_or_default()
}

/// Whose tunnel it gets.
async fn tunnel(running: &Running) -> String {
    match ask(running.address(), "puppet:8140").await {
        Answer::Tunnel(server) => server,
        refused @ Answer::Refused(..) => panic!("{refused:?}: {:#?}", running.lines()),
    }
}

/// How many lines have all of these texts.
fn count(running: &Running, texts: &[&str]) -> usize {
    running.lines().iter().filter(|line| texts.iter().all(|text| line.contains(text))).count()
}

/// The servers as `resolve` shows them.
async fn resolve(host: &Host) -> Vec<Value> {
    let output = host.output(&["resolve", "puppet", "--json"]).await;
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    answer["servers"].as_array().unwrap().clone()
}

#[tokio::test]
async fn a_server_that_refused_is_known_to_be_down_after_a_restart() {
    for signal in [Signal::TERM, Signal::KILL] {
        let (dns, second) = (Dns::start().await, Named::start("second").await);
        let host = host(&dns, &[(0, refusing()), (1, second.address())], "").await;
        let first = host.run().await;
        assert_eq!(tunnel(&first).await, "second");
        eventually("it is written down", || read(&host).contains("refused")).await;
        first.end(signal).await;

        let servers = resolve(&host).await;
        let of = |n: usize, key: &str| servers[n][key].clone();
        assert_eq!((of(0, "host"), of(1, "host")), ("two.lab.test".into(), "one.lab.test".into()), "{signal:?}");
        assert_eq!(of(0, "remembered")["pinned"], true, "{signal:?}");
        let down = of(1, "remembered");
        assert_eq!((&down["state"], &down["cause"]), (&"down".into(), &"refused".into()), "{signal:?}");
        assert!((1..=10).contains(&down["hold_seconds"].as_u64().unwrap()), "{down}");
        let shown = text(&host.output(&["resolve", "puppet"]).await.stdout);
        assert!(shown.contains("\n         pinned: the host's run is with it\n"), "{shown}");
        assert!(shown.contains("\n         down for another ") && shown.contains(" s: refused\n"), "{shown}");

        let second = host.run().await;
        assert_eq!(tunnel(&second).await, "second");
        eventually("its line", || second.connections() == 1).await;
        assert_eq!(count(&second, &["refused"]), 0, "{signal:?}: {:#?}", second.lines());
        assert_eq!(ending(second.end(Signal::TERM).await), (Some(0), None));
    }
}

#[tokio::test]
async fn a_run_stays_with_its_server_over_restarts() {
    let (dns, names) = (Dns::start().await, ["a", "b", "c", "d"]);
    let mut servers = Vec::new();
    for name in names {
        servers.push(Named::start(name).await);
    }
    let addresses: Vec<_> = servers.iter().map(|server| (0, server.address())).collect();
    let host = host(&dns, &addresses, "").await;
    let mut running = host.run().await;
    let pinned = tunnel(&running).await;
    eventually("it is written down", || read(&host).contains("\"used\"")).await;
    for signal in [Signal::KILL, Signal::TERM, Signal::KILL, Signal::TERM, Signal::TERM, Signal::TERM] {
        running.end(signal).await;
        running = host.run().await;
        assert_eq!(tunnel(&running).await, pinned, "{signal:?}");
    }
}

/// What counts is when it was last used, not when the pin came about, and nothing else has changed since.
#[tokio::test]
async fn a_stop_writes_when_a_pin_was_last_used() {
    let (dns, a, b) = (Dns::start().await, Named::start("a").await, Named::start("b").await);
    let host = host(&dns, &[(0, a.address()), (1, b.address())], "").await;
    let running = host.run().await;
    tunnel(&running).await;
    eventually("it is written down", || read(&host).contains("\"used\"")).await;
    let before = read(&host);
    tunnel(&running).await;
    eventually("the second line", || running.connections() == 2).await;
    assert_eq!(read(&host), before, "the same pin again is no change");
    assert_eq!(ending(running.end(Signal::TERM).await), (Some(0), None));
    let used = |text: &str| serde_json::from_str::<Value>(text).unwrap()["pins"][0]["used"].as_u64().unwrap();
    assert!(used(&read(&host)) > used(&before));
}

#[tokio::test]
async fn a_file_that_is_of_no_use_is_set_aside() {
    let (dns, a, b) = (Dns::start().await, Named::start("a").await, Named::start("b").await);
    for contents in ["{\"version\": 1, \"saved\"", "\u{0}\u{0}", "{\"version\": 2}", "[1, 2, 3]"] {
        let host = host(&dns, &[(0, a.address()), (1, b.address())], "").await;
        fs::create_dir_all(host.state()).unwrap();
        fs::write(file(&host), contents).unwrap();
        let bad = host.state().join("memory.json.bad");
        fs::write(&bad, "older").unwrap();

        // Who only looks leaves it there.
        let output = host.output(&["resolve", "puppet"]).await;
        let said = text(&output.stderr);
        assert!(said.contains("memory.json: ") && said.lines().count() == 1, "{said}");
        assert_eq!((output.status.code(), read(&host).as_str()), (Some(0), contents));

        let running = host.run().await;
        assert_eq!(tunnel(&running).await, "a");
        assert_eq!(count(&running, &[" WARN ", "memory.json"]), 1, "{:#?}", running.lines());
        assert_eq!(count(&running, &[" WARN "]), 1, "{:#?}", running.lines());
        assert_eq!(fs::read_to_string(&bad).unwrap(), contents);
        eventually("a good one is written", || read(&host).contains("\"used\"")).await;
        assert_eq!(ending(running.end(Signal::TERM).await), (Some(0), None));
        let again = host.run().await;
        assert_eq!(count(&again, &[" WARN "]), 0, "{:#?}", again.lines());
    }
}

/// A directory in the file's place can neither be read nor replaced.
#[tokio::test]
async fn a_file_that_cannot_be_written_is_told_once() {
    let (dns, a, b) = (Dns::start().await, Named::start("a").await, Named::start("b").await);
    let host = host(&dns, &[(0, a.address()), (0, b.address())], "timeouts.pin = \"0s\"\n").await;
    fs::create_dir_all(file(&host).join("x")).unwrap();
    let running = host.run().await;
    let seen = |what: &str| count(&running, &[" WARN ", what, "memory.json"]);
    for n in 1..=5 {
        tunnel(&running).await;
        eventually("the line", || running.connections() == n).await;
    }
    eventually("it is told", || seen("cannot write") == 1).await;
    for n in 6..=10 {
        tunnel(&running).await;
        eventually("the line", || running.connections() == n).await;
    }
    assert_eq!((seen("cannot read"), seen("cannot write")), (1, 1), "{:#?}", running.lines());
    assert_eq!(ending(running.end(Signal::TERM).await), (Some(0), None));
    let names: Vec<_> = fs::read_dir(host.state()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "accepted.toml and the directory: {names:?}");
}

#[tokio::test]
async fn nothing_is_written_where_nothing_happens() {
    let (dns, only) = (Dns::start().await, Named::start("only").await);
    let host = host(&dns, &[(0, only.address())], "").await;
    assert_eq!(ending(host.run().await.end(Signal::TERM).await), (Some(0), None));
    assert!(!file(&host).exists(), "{}", read(&host));
    // Neither is anything lost.
    let kept = to_json(&Pool::new(Duration::ZERO), &Learnt::default(), Instant::now(), SystemTime::UNIX_EPOCH).unwrap();
    fs::write(file(&host), &kept).unwrap();
    assert_eq!(ending(host.run().await.end(Signal::TERM).await), (Some(0), None));
    assert_eq!(fs::read(file(&host)).unwrap(), kept);
}

/// Of one server that is written down in the configuration there is nothing to learn; a count is written all the same,
/// but not for each connection.
#[tokio::test]
async fn counts_go_on_over_restarts() {
    let (dns, only) = (Dns::start().await, Named::start("only").await);
    let written = format!("role.compile.srv = false\nrole.compile.servers = [\"{}\"]\n", only.address());
    let host = host(&dns, &[], &written).await;
    for round in 1..=3 {
        let running = host.run().await;
        for n in 1..=2 {
            assert_eq!(tunnel(&running).await, "only");
            eventually("its line", || running.connections() == n).await;
        }
        assert!(round > 1 || !file(&host).exists(), "{}", read(&host));
        assert_eq!(ending(running.end(Signal::TERM).await), (Some(0), None));
        let memory: Value = serde_json::from_str(&read(&host)).unwrap();
        let compile = &memory["counters"]["compile"];
        assert_eq!((compile["carried"].as_u64(), compile["refused"].as_u64()), (Some(2 * round), Some(0)), "{memory}");
        assert!(compile["down"].as_u64().unwrap() > 0, "{memory}");
    }
}

/// Killed while it writes, over and over.
#[tokio::test]
async fn a_kill_leaves_a_whole_file() {
    let (dns, a, b) = (Dns::start().await, Named::start("a").await, Named::start("b").await);
    // Without a hold each connection makes a new pin, which is written.
    let host = host(&dns, &[(0, a.address()), (0, b.address())], "timeouts.pin = \"0s\"\n").await;
    let mut rng = fastrand::Rng::with_seed(5);
    let (mut round, mut left, mut contents) = (0, 0, Vec::new());
    // A write that was cut short has left its temporary file.
    while round < 300 || left < 3 {
        assert!(round < 1000, "it is never killed in the middle of a write");
        round += 1;
        let running = host.run().await;
        assert_eq!(count(&running, &["memory.json"]), 0, "{round}: {:#?}", running.lines());
        let address = running.address();
        let crowd: Vec<_> = (0..4)
            .map(|_| {
                tokio::spawn(async move {
                    let connect = support::client::connect_request("puppet:8140");
                    loop {
                        // It is killed in the middle.
                        let _ = raw::exchange(address, &[connect.as_bytes(), &with_sni(None)]).await;
                    }
                })
            })
            .collect();
        let read = || fs::read(file(&host)).unwrap_or_default();
        eventually("it writes", || read() != contents).await;
        tokio::time::sleep(Duration::from_micros(rng.u64(..20_000))).await;
        running.end(Signal::KILL).await;
        crowd.iter().for_each(tokio::task::JoinHandle::abort);
        contents = read();
        let mut pool = Pool::new(Duration::ZERO);
        let result = restore(&contents, &mut pool, Instant::now(), SystemTime::UNIX_EPOCH);
        let shown = || format!("{round}: {}", String::from_utf8_lossy(&contents));
        let learnt = result.unwrap_or_else(|damage| panic!("{damage}: {}", shown()));
        // What had been learnt before is there, whichever write was the last.
        assert_eq!(learnt.answers.services.len(), 1, "{}", shown());
        let names = fs::read_dir(host.state()).unwrap().map(|entry| entry.unwrap().file_name());
        left += names.filter(|name| name.to_string_lossy().starts_with(".memory.json.")).count();
    }
    // What they left has been removed by the next, up to the last.
    let last = host.run().await;
    assert_eq!(ending(last.end(Signal::TERM).await), (Some(0), None));
    let names: Vec<_> = fs::read_dir(host.state()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(names.iter().all(|name| !name.to_string_lossy().starts_with(".memory")), "{names:?}");
}
