//! Under a service manager that holds the listening sockets: they are used, the manager hears how it goes, and an idle
//! daemon leaves without losing anybody.

// A test ends where its set-up fails.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::net::{SocketAddr, UdpSocket};
use std::os::unix::net::UnixListener;
use std::time::Duration;

use rustix::process::Signal;
use support::command::{Host, ending};
use support::eventually;
use support::supervisor::Supervisor;
use support::tcp::{Answer, Named, Raw, ask, begin, tunnel};
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

/// A configuration with these listeners, in which `server` is the CA.
fn config(listen: &[SocketAddr], server: SocketAddr, more: &str) -> String {
    let listen: Vec<_> = listen.iter().map(|address| format!("\"{address}\"")).collect();
    format!(
        "listen = [{}]\ndomain = \"lab.test\"\ndns.servers = [\"127.0.0.1:9\"]\ncertificates.check = false\n{more}\n\
         [role.ca]\nsrv = false\nservers = [\"{server}\", \"127.0.0.1:9\"]\n",
        listen.join(", ")
    )
}

const ASKED: &str = "puppetca:8140";

#[tokio::test]
async fn sockets_that_are_passed_on_are_used_and_the_others_bound() {
    let server = Named::start("server").await;
    let mut supervisor = Supervisor::new();
    let (first, other) = (supervisor.listen("puppet-shim.socket"), supervisor.listen("puppet-shim.socket"));
    let folder = TempDir::new().unwrap();
    supervisor.hold("status", UnixListener::bind(folder.path().join("status")).unwrap().into());
    supervisor.hold("odd", UdpSocket::bind("127.0.0.1:0").unwrap().into());
    let host = Host::new(&config(&["127.0.0.1:0".parse().unwrap(), first], server.address(), ""));
    let running = supervisor.start(&host).await;
    let addresses = running.addresses().to_vec();
    assert_eq!(addresses.len(), 3, "{addresses:?}");
    assert_eq!(addresses[1..], [first, other]);
    for address in addresses {
        assert_eq!(ask(address, ASKED).await, Answer::Tunnel("server".into()));
    }
    let lines = running.lines();
    let said = |text: &str| lines.iter().filter(|line| line.contains(text)).count();
    assert_eq!(said(&format!("addr={other}")), 1, "{lines:#?}");
    assert_eq!((said("\"odd\""), said("\"status\""), said(" WARN ")), (1, 0, 1), "{lines:#?}");
    let ready = format!("READY=1\nSTATUS=listening on {}, {first}, {other}", running.address());
    eventually("it says that it is ready", || supervisor.told() == [ready.as_str()]).await;
    assert_eq!(ending(running.end(Signal::TERM).await), (Some(0), None));
    eventually("it says that it stops", || supervisor.count("STOPPING=1") == 1).await;
}

/// `systemctl status` is where an admin looks first.
#[tokio::test]
async fn a_configuration_that_cannot_be_used_shows_in_the_status() {
    let mut supervisor = Supervisor::new();
    let address = supervisor.listen("puppet-shim.socket");
    let host = Host::new(&config(&[address], "127.0.0.1:9".parse().unwrap(), ""));
    supervisor.start(&host).await.end(Signal::TERM).await;
    host.configure("listen = 7\n");
    let _running = supervisor.start(&host).await;
    let status = "STATUS=running with the last accepted configuration, ";
    eventually("the status says so", || supervisor.told().iter().any(|text| text.contains(status))).await;
}

// === the watchdog ===

/// It is the task that accepts which says that it is alive, also while it can take nobody more.
#[tokio::test]
async fn the_watchdog_hears_of_it_while_it_is_full_and_not_while_it_hangs() {
    let server = Raw::start().await;
    let mut supervisor = Supervisor::new();
    let address = supervisor.listen("puppet-shim.socket");
    supervisor.set("WATCHDOG_USEC", "40000");
    let host = Host::new(&config(&[address], server.address(), "limits.connections = 1"));
    let running = supervisor.start(&host).await;
    let mut client = tunnel(address, ASKED).await;
    begin(&mut client, &mut server.accept().await).await;
    let waiting = tokio::spawn(async move { tunnel(address, ASKED).await });
    eventually("one is over the cap", || running.line("all places are taken").is_some()).await;
    let before = supervisor.count("WATCHDOG=1");
    eventually("pings go on", || supervisor.count("WATCHDOG=1") > before + 10).await;
    running.signal(Signal::STOP);
    eventually("it stands still", || running.is_stopped()).await;
    // One may be on its way to the supervisor's thread.
    supervisor.catch_up().await;
    let before = supervisor.count("WATCHDOG=1");
    sleep(Duration::from_millis(400)).await;
    assert_eq!(supervisor.count("WATCHDOG=1"), before);
    running.signal(Signal::CONT);
    eventually("pings go on", || supervisor.count("WATCHDOG=1") > before).await;
    drop(client);
    drop((waiting.await.unwrap(), server.accept().await));
}

// === leaving when idle ===

#[tokio::test]
async fn an_idle_daemon_leaves_and_the_next_connection_finds_the_next_one() {
    let server = Raw::start().await;
    let mut supervisor = Supervisor::new();
    let address = supervisor.listen("puppet-shim.socket");
    let host = Host::new(&config(&[address], server.address(), "idle_exit = \"3s\""));
    let mut running = supervisor.start(&host).await;
    let mut client = tunnel(address, ASKED).await;
    let mut upstream = server.accept().await;
    begin(&mut client, &mut upstream).await;
    // A tunnel in which nothing is said is not idle: a catalog compiles in silence.
    sleep(Duration::from_secs(4)).await;
    assert!(!running.has_ended());
    drop((client, upstream));
    eventually("it has a log line", || running.connections() == 1).await;
    assert_eq!(ending(running.ended().await), (Some(0), None));
    let is_idle = || supervisor.told().last().unwrap().starts_with("STOPPING=1\nSTATUS=idle");
    eventually("it says that it was idle", is_idle).await;
    assert!(host.state().join("memory.json").exists());

    let mut waiting = tokio::spawn(async move { tunnel(address, ASKED).await });
    assert!(timeout(Duration::from_millis(200), &mut waiting).await.is_err(), "who answers?");
    let _running = supervisor.start(&host).await;
    drop((waiting.await.unwrap(), server.accept().await));
}

/// Before, at, and after the moment at which it leaves: who has connected is served, by this process or the next. When
/// that moment is, as seen from here, shows in who serves them: the next come later or earlier.
#[tokio::test]
async fn nobody_is_lost_who_connects_at_the_moment_of_leaving() {
    let server = Named::start("server").await;
    let mut supervisor = Supervisor::new();
    let address = supervisor.listen("puppet-shim.socket");
    let host = Host::new(&config(&[address], server.address(), "idle_exit = \"1s\""));
    let (mut served_by_first, mut served_by_next) = (0, 0);
    // Milliseconds.
    let (mut offset, mut step, mut was_late) = (1000_u64, 16, None);
    for round in 1..=30 {
        let mut running = supervisor.start(&host).await;
        let began = tokio::time::Instant::now();
        let asking: Vec<_> = (0..5_u64)
            .map(|n| {
                tokio::spawn(async move {
                    tokio::time::sleep_until(began + Duration::from_millis(offset) + Duration::from_micros(n * 300))
                        .await;
                    ask(address, ASKED).await
                })
            })
            .collect();
        assert_eq!(ending(running.ended().await), (Some(0), None));
        let by_first = running.connections();
        served_by_first += by_first;
        let mut next = supervisor.start(&host).await;
        for asked in asking {
            assert_eq!(asked.await.unwrap(), Answer::Tunnel("server".into()), "{offset}");
        }
        eventually("each has a line", || next.connections() + by_first == 5).await;
        served_by_next += next.connections();
        assert_eq!(ending(next.ended().await), (Some(0), None));
        assert_eq!(served_by_first + served_by_next, 5 * round);
        if round >= 9 && served_by_first > 0 && served_by_next > 0 {
            break;
        }
        let is_late = by_first == 0;
        if was_late.replace(is_late) == Some(!is_late) {
            step = (step / 2).max(1);
        }
        offset = if is_late { offset - step } else { offset + step };
    }
    assert!(served_by_first > 0 && served_by_next > 0, "{served_by_first} {served_by_next}: the moment was missed");
}

/// Where a listener is its own, there would be nobody to start it again.
#[tokio::test]
async fn a_daemon_with_a_listener_of_its_own_stays() {
    let mut supervisor = Supervisor::new();
    let address = supervisor.listen("puppet-shim.socket");
    let own = "127.0.0.1:0".parse().unwrap();
    let host = Host::new(&config(&[address, own], "127.0.0.1:9".parse().unwrap(), "idle_exit = \"1s\""));
    let mut running = supervisor.start(&host).await;
    let said = running.line("not leaving when idle").expect("it does not say so");
    assert!(said.contains(" INFO "), "{said}");
    sleep(Duration::from_millis(1500)).await;
    assert!(!running.has_ended());
}
