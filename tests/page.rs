//! The page and the metrics, from every listener of a real daemon: who gets them and who does not; that agents do not
//! notice; and that a daemon which leaves when it is idle is not kept by who only looks.

// A test ends where its set-up fails.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::Duration;

use puppet_shim::config::Foreign;
use puppet_shim::status::Status;
use support::clock::Slow;
use support::command::{Host, ending};
use support::eventually;
use support::hello::with_sni;
use support::lab::{Lab, fqdn};
use support::raw;
use support::shim::Bare;
use support::supervisor::Supervisor;
use support::tcp::{Answer, Named, PATIENCE, ask, status_line};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};

/// Visitors at once.
const PLACES: usize = 8;

/// One request as it is, and the whole answer.
async fn exchange(shim: SocketAddr, request: &str) -> String {
    let reply = timeout(PATIENCE, raw::exchange(shim, &[request.as_bytes()])).await.expect("no end").unwrap();
    assert!(reply.closed, "{request:?}: reset after {:?}", String::from_utf8_lossy(&reply.bytes));
    String::from_utf8(reply.bytes).unwrap()
}

/// A request for this path, with more lines in its head.
async fn get(shim: SocketAddr, path: &str, more: &str) -> String {
    exchange(shim, &format!("GET {path} HTTP/1.1\r\nHost: {shim}\r\n{more}\r\n")).await
}

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").unwrap().1
}

/// What `promtool check metrics` says.
fn promtool(metrics: &str) -> String {
    let mut child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is needed to judge the metrics: apt install prometheus");
    child.stdin.take().unwrap().write_all(metrics.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    format!("{}{}", String::from_utf8_lossy(&said), if output.status.success() { "" } else { "\nFAILED" })
}

#[tokio::test]
async fn the_same_status_in_each_form() {
    let lab = Lab::with(|config| config.listen.push("127.0.0.1:0".parse().unwrap())).await;
    lab.agent("agent01.lab.test").get(&fqdn("puppet"), 8140, "/puppet/v3/status").await.unwrap();
    eventually("the connection has had its line", || !lab.journal.lines().is_empty()).await;
    for shim in lab.shim_addresses() {
        let page = get(*shim, "/", "").await;
        assert!(page.starts_with("HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n"), "{page}");
        assert!(page.contains("\r\nContent-Security-Policy: default-src 'none'; style-src 'sha256-"), "{page}");
        assert!(page.contains("compile1.<wbr>lab.<wbr>test:"), "{page}");
        let status: Status = serde_json::from_str(body(&get(*shim, "/status", "").await)).unwrap();
        assert_eq!((status.recent.len(), status.connections_open), (1, 0), "to look is no connection");
        assert_eq!(status.foreign.refused, 0);
        let text = get(*shim, "/metrics", "").await;
        assert!(text.contains("\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n"), "{text}");
        assert!(
            body(&text).contains("puppet_shim_connections_total{role=\"compile\",outcome=\"carried\"} 1\n"),
            "{text}"
        );
        assert_eq!(promtool(body(&text)), "");
        let open = get(*shim, "/metrics", "Accept: application/openmetrics-text;version=1.0.0,*/*;q=0.1\r\n").await;
        assert!(
            open.contains("\r\nContent-Type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n"),
            "{open}"
        );
        assert!(open.ends_with("\n# EOF\n"), "{open}");
    }
    // Whoever has looked has no line.
    assert_eq!(lab.journal.lines().len(), 1);
}

/// promtool has something to say where there is something to be said.
#[test]
fn promtool_judges() {
    assert!(promtool("# TYPE x counter\nx 1\n").contains("_total"));
}

#[tokio::test]
async fn who_gets_nothing() {
    let bare = Bare::start().await;
    let shim = bare.shim();
    for (request, status, words) in [
        ("GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n", 403, "\"evil.example\" is no name of this page"),
        ("GET /metrics HTTP/1.1\r\nHost: evil.example:8139\r\n\r\n", 403, "http://127.0.0.1"),
        ("GET / HTTP/1.1\r\n\r\n", 400, "0 Host fields"),
        ("GET / HTTP/1.0\r\n\r\n", 400, "0 Host fields"),
        ("GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n", 400, "2 Host fields"),
        ("GET / HTTP/1.1\r\nHost: 192.0.2.1\r\n\r\n", 403, "no name of this page"),
        ("GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n", 404, "/metrics (for Prometheus)"),
        ("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc", 405, "\r\nAllow: GET, HEAD\r\n"),
        ("GET / HTTP/1.1\r\nbroken\r\n\r\n", 400, "broken HTTP head"),
    ] {
        let answer = exchange(shim, request).await;
        assert_eq!(status_line(&answer).0, status, "{request}");
        assert!(answer.contains(words) && !answer.contains("<html"), "{answer}");
        for field in ["Cache-Control: no-store", "Connection: close", "X-Content-Type-Options: nosniff"] {
            assert!(answer.contains(&format!("\r\n{field}\r\n")), "{answer}");
        }
    }
    let long = format!("GET / HTTP/1.1\r\nHost: localhost\r\nX: {}", "x".repeat(20_000));
    assert_eq!(status_line(&exchange(shim, &long).await).0, 431);
    let head = exchange(shim, "HEAD / HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.ends_with("\r\n\r\n"), "{head}");
    assert_eq!(bare.journal.lines(), []);
}

/// What a proxy is asked for goes the proxy's way, even where it names the page.
#[tokio::test]
async fn an_absolute_form_is_for_a_proxy() {
    let refusing = Bare::start().await;
    let shim = refusing.shim();
    let answer = exchange(shim, &format!("GET http://{shim}/ HTTP/1.1\r\nHost: {shim}\r\n\r\n")).await;
    let (status, reason) = status_line(&answer);
    assert_eq!(status, 403);
    assert!(reason.contains("is not a Puppet server of this site"), "{reason}");
    let direct = Bare::with(|config| config.foreign = Foreign::Direct).await;
    let shim = direct.shim();
    let answer = exchange(shim, &format!("GET http://{shim}/ HTTP/1.1\r\nHost: {shim}\r\n\r\n")).await;
    assert!(status_line(&answer).0 >= 500 && answer.contains("leads back to puppet-shim"), "{answer}");
    let (foreign, looping) = (refusing.journal.take(1).await, direct.journal.take(1).await);
    assert_eq!((foreign[0].get("via"), looping[0].get("via")), (Some("http"), Some("http")));
}

/// Lookers that say half of what they want, and wait: more than there are places for agents, and for lookers. The clock
/// is slow: by it agents take no time unless they wait for lookers.
#[tokio::test]
async fn agents_are_served_while_lookers_hang() {
    let _clock = Slow::start();
    let lab = Lab::with(|config| config.limits.connections = 2).await;
    let mut hanging = Vec::new();
    for _ in 0..3 * PLACES {
        let mut looker = TcpStream::connect(lab.shim()).await.unwrap();
        looker.write_all(b"GET / HTTP/1.1\r\nHost: loc").await.unwrap();
        hanging.push(looker);
    }
    let agent = lab.agent("agent01.lab.test");
    let began = Instant::now();
    for _ in 0..3 {
        agent.get(&fqdn("puppet"), 8140, "/puppet/v3/status").await.unwrap();
    }
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    // Those for whom there is no place are told so at once; the others when their time is over.
    let mut turned_away = 0;
    for mut looker in hanging {
        let mut answer = Vec::new();
        if timeout(PATIENCE, looker.read_to_end(&mut answer)).await.expect("it hangs for ever").is_ok()
            && answer.starts_with(b"HTTP/1.1 503 ")
        {
            let text = String::from_utf8(answer).unwrap();
            assert!(text.contains("\r\nRetry-After: 1\r\n") && text.contains("too many are looking"), "{text}");
            turned_away += 1;
        }
    }
    assert_eq!(turned_away, 2 * PLACES);
    // Then there is room again.
    assert_eq!(status_line(&get(lab.shim(), "/metrics", "").await).0, 200);
}

/// A TLS client and a CONNECT on the same port are what they were.
#[tokio::test]
async fn agents_come_in_as_before() {
    let lab = Lab::start().await;
    let hello = with_sni(Some("www.example.org"));
    let reply = timeout(PATIENCE, raw::exchange(lab.shim(), &[&hello])).await.unwrap().unwrap();
    assert_eq!(reply.bytes.first(), Some(&21), "an alert");
    assert!(matches!(ask(lab.shim(), "www.example.org:443").await, Answer::Refused(403, _)));
}

/// `idle_exit` is reckoned from the last agent, however often somebody looks; and what was counted is still there for the
/// next process's first scrape.
#[tokio::test]
async fn a_scraper_does_not_keep_it() {
    let server = Named::start("server").await;
    let mut supervisor = Supervisor::new();
    let address = supervisor.listen("puppet-shim.socket");
    let host = Host::new(&format!(
        "listen = [\"{address}\"]\nidle_exit = \"3s\"\ndomain = \"lab.test\"\ndns.servers = [\"127.0.0.1:9\"]\n\
         certificates.check = false\n[role.ca]\nsrv = false\nservers = [\"{}\", \"127.0.0.1:9\"]\n",
        server.address()
    ));
    let mut running = supervisor.start(&host).await;
    assert_eq!(ask(address, "puppetca:8140").await, Answer::Tunnel("server".into()));
    eventually("it has a line", || running.connections() == 1).await;
    let counted = "puppet_shim_connections_total{role=\"ca\",outcome=\"carried\"} 1\n";
    let began = Instant::now();
    let mut scrapes = 0_u64;
    while !running.has_ended() {
        assert!(began.elapsed() < PATIENCE, "a scrape each 100 ms keeps it");
        // The last one may find nobody, and then waits in the socket for the next process.
        if let Ok(answer) = timeout(Duration::from_secs(2), get(address, "/metrics", "")).await {
            assert!(answer.contains(counted), "{answer}");
            scrapes += 1;
        }
        sleep_until(began + Duration::from_millis(100 * (scrapes + 1))).await;
    }
    assert_eq!(ending(running.ended().await), (Some(0), None));
    assert!(scrapes >= 5, "{scrapes}");
    let memory = fs::read_to_string(host.state().join("memory.json")).unwrap().replace(' ', "");
    assert!(memory.contains("\"carried\":1"), "{memory}");

    // One that was started by a scrape leaves, too, as it would have.
    let scraping = tokio::spawn(async move { get(address, "/metrics", "").await });
    let mut next = supervisor.start(&host).await;
    assert!(scraping.await.unwrap().contains(counted));
    assert_eq!(ending(next.ended().await), (Some(0), None));
    assert_eq!((next.connections(), server.accepted()), (0, 1));
}
