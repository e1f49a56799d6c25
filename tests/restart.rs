//! A restart in the middle of it all: the tunnels go on in the next process, and neither side can tell.
//!
//! The agent upgrades and restarts the shim in its own run, through the shim. Not a byte may be lost, doubled or out of
//! order, whoever speaks, listens or does neither at that moment.

// A test ends where its set-up fails.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};
use support::command::{Host, Running, ending};
use support::eventually;
use support::stream::Stream;
use support::supervisor::Supervisor;
use support::tcp::{PATIENCE, Raw, begin, tunnel};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

const ASKED: &str = "puppetca:8140";

/// Of a role whose agents pause for less.
const OTHER: &str = "puppet:8140";

/// A host, its supervisor, and one server.
struct Site {
    server: Raw,
    host: Host,
    supervisor: Supervisor,
    address: SocketAddr,
    daemon: Option<Running>,
}

impl Site {
    async fn start(store: usize, more: &str) -> Self {
        // For both ends of everything, and what is kept between two processes.
        let limit = getrlimit(Resource::Nofile);
        setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).unwrap();
        let server = Raw::start().await;
        let mut supervisor = Supervisor::new();
        let address = supervisor.listen("puppet-shim.socket");
        supervisor.set("FDSTORE", &store.to_string());
        let host = Host::new(&format!(
            "listen = [\"{address}\"]\ndomain = \"lab.test\"\ndns.servers = [\"127.0.0.1:9\"]\n\
             certificates.check = false\n{more}\n[role.ca]\nsrv = false\nservers = [\"{0}\", \"127.0.0.1:9\"]\n\
             [role.compile]\nsrv = false\nservers = [\"{0}\"]\n",
            server.address()
        ));
        let daemon = Some(supervisor.start(&host).await);
        Site { server, host, supervisor, address, daemon }
    }

    /// A tunnel, both its ends. One byte has gone up.
    async fn open(&self) -> (TcpStream, TcpStream) {
        self.open_for(ASKED).await
    }

    async fn open_for(&self, target: &str) -> (TcpStream, TcpStream) {
        let mut client = tunnel(self.address, target).await;
        let mut upstream = self.server.accept().await;
        begin(&mut client, &mut upstream).await;
        (client, upstream)
    }

    fn daemon(&self) -> &Running {
        self.daemon.as_ref().unwrap()
    }

    /// Restarts it. Gives what the first process logged, and how long that took.
    async fn restart(&mut self) -> (Vec<String>, Duration) {
        let mut before = self.daemon.take().unwrap();
        let began = Instant::now();
        before.signal(Signal::TERM);
        let status = before.ended().await;
        let stopped = began.elapsed();
        self.daemon = Some(self.supervisor.start(&self.host).await);
        let took = began.elapsed();
        assert_eq!(ending(status), (Some(0), None), "{:#?}", before.lines());
        eventually("nothing is kept any more", || self.supervisor.stored().is_empty()).await;
        println!("stopped after {stopped:?}, ready after {took:?}");
        (before.lines(), took)
    }

    /// The same on a thread of its own, which has no tunnel's ends to look after.
    async fn restart_aside(self) -> (Self, Vec<String>, Duration) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let restart = async |mut site: Site| {
            let (lines, took) = site.restart().await;
            (site, lines, took)
        };
        tokio::task::spawn_blocking(move || runtime.block_on(restart(self))).await.unwrap()
    }

    /// The lines of the connections, once there are so many.
    async fn lines(&self, count: usize) -> Vec<String> {
        eventually("every connection has its line", || self.daemon().connections() == count).await;
        self.daemon().lines().into_iter().filter(|line| line.contains(" from=")).collect()
    }
}

/// The value of a field of a line.
fn field<'l>(line: &'l str, name: &str) -> &'l str {
    let from = line.find(&format!(" {name}=")).unwrap_or_else(|| panic!("no {name}: {line}")) + name.len() + 2;
    let rest = &line[from..];
    match rest.strip_prefix('"') {
        Some(quoted) => quoted.split('"').next().unwrap(),
        None => rest.split(' ').next().unwrap(),
    }
}

fn number(line: &str, name: &str) -> usize {
    field(line, name).parse().unwrap()
}

/// Both ways of 200 tunnels are busy through three restarts.
#[tokio::test]
async fn two_hundred_busy_tunnels_go_on() {
    const TUNNELS: u32 = 200;
    let mut site = Site::start(4096, "").await;
    // How long a restart takes this machine.
    let mut bare = Duration::MAX;
    for _ in 0..3 {
        let took;
        (site, _, took) = site.restart_aside().await;
        bare = bare.min(took);
    }
    let stop = Arc::new(AtomicBool::new(false));
    let mut flows = Vec::new();
    for n in 0..TUNNELS {
        let (client, upstream) = site.open().await;
        let ((from_shim, to_shim), (at_server, back)) = (client.into_split(), upstream.into_split());
        let (up, down) = (Stream::new(2 * n), Stream::new(2 * n + 1));
        let pause = Duration::from_millis(1 + u64::from(n % 10));
        flows.push((
            tokio::spawn(up.clone().write(to_shim, 20_011, pause, stop.clone())),
            tokio::spawn(up.read(at_server)),
            tokio::spawn(down.clone().write(back, 9_973, pause, stop.clone())),
            tokio::spawn(down.read(from_shim)),
        ));
    }
    let (began, mut times) = (Instant::now(), Vec::new());
    for _ in 0..3 {
        sleep(Duration::from_millis(300)).await;
        let (lines, took);
        (site, lines, took) = site.restart_aside().await;
        times.push(took);
        assert!(lines.iter().any(|line| line.contains("left to the next process tunnels=200")), "{lines:#?}");
        assert!(!lines.iter().any(|line| line.contains(" from=")), "a line too early: {lines:#?}");
    }
    // The machine may have had other work at one of them.
    let longest = 4 * bare + Duration::from_millis(500);
    assert!(times.iter().min().unwrap() < &longest, "{times:?}, and {bare:?} without a tunnel");
    sleep(Duration::from_millis(300)).await;
    let lived = began.elapsed();
    stop.store(true, Ordering::Relaxed);
    let (mut all_up, mut all_down) = (0, 0);
    for (sent_up, seen_up, sent_down, seen_down) in flows {
        let (up, down) = (sent_up.await.unwrap(), sent_down.await.unwrap());
        assert_eq!((up, down), (seen_up.await.unwrap(), seen_down.await.unwrap()));
        (all_up, all_down) = (all_up + up + 1, all_down + down);
    }
    println!("{} MB went through", (all_up + all_down) / 1_000_000);
    let lines = site.lines(TUNNELS as usize).await;
    assert_eq!(lines.iter().map(|line| number(line, "up")).sum::<usize>(), all_up);
    assert_eq!(lines.iter().map(|line| number(line, "down")).sum::<usize>(), all_down);
    for line in &lines {
        assert!(line.contains(" INFO carried role=ca row=own-name via=connect name=puppetca port=8140"), "{line}");
        assert_eq!(number(line, "restarts"), 3);
        let ms: f64 = field(line, "ms").parse().unwrap();
        assert!(ms > lived.as_secs_f64() * 1000.0, "{line}: since the accept, {lived:?} ago at least");
        for name in ["source", "tried", "server", "addr", "sniff_ms", "connect_ms"] {
            assert!(!field(line, name).is_empty(), "{line}");
        }
    }
}

/// Every buffer on the way is full, those of the shim included.
#[tokio::test]
async fn what_nobody_reads_waits_on() {
    let mut site = Site::start(64, "").await;
    let mut tunnels = Vec::new();
    for n in 0..8 {
        let (mut client, mut upstream) = site.open().await;
        let (up, down) = (Stream::new(n), Stream::new(100 + n));
        let (sent_up, sent_down) = (up.fill(&mut client).await, down.fill(&mut upstream).await);
        // Half of them end behind that.
        if n % 2 == 0 {
            client.shutdown().await.unwrap();
        }
        tunnels.push((client, upstream, up, down, sent_up, sent_down));
    }
    for _ in 0..2 {
        site.restart().await;
    }
    let (mut all_up, mut all_down) = (0, 0);
    for (client, upstream, up, down, sent_up, sent_down) in tunnels {
        let ((from_shim, mut to_shim), (at_server, mut back)) = (client.into_split(), upstream.into_split());
        let ended = async {
            to_shim.shutdown().await.unwrap();
            back.shutdown().await.unwrap();
        };
        let (seen_up, seen_down, ()) = tokio::join!(up.read(at_server), down.read(from_shim), ended);
        assert_eq!((seen_up, seen_down), (sent_up, sent_down));
        (all_up, all_down) = (all_up + sent_up + 1, all_down + sent_down);
    }
    let lines = site.lines(8).await;
    assert_eq!(lines.iter().map(|line| number(line, "up")).sum::<usize>(), all_up);
    assert_eq!(lines.iter().map(|line| number(line, "down")).sum::<usize>(), all_down);
    assert!(lines.iter().all(|line| line.contains(" carried ")), "{lines:#?}");
}

async fn read_all(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.expect("no end").unwrap();
    bytes
}

/// One side has ended, and listens on.
#[tokio::test]
async fn half_closed_ones_stay_so() {
    let mut site = Site::start(64, "").await;
    let (mut client, mut server) = site.open().await;
    let (mut other_client, mut other_server) = site.open().await;
    client.shutdown().await.unwrap();
    assert_eq!(read_all(&mut server).await, b"");
    other_server.shutdown().await.unwrap();
    assert_eq!(read_all(&mut other_client).await, b"");
    site.restart().await;
    // No end comes twice, and none too early.
    server.write_all(b"answer").await.unwrap();
    other_client.write_all(b"more").await.unwrap();
    let mut bytes = [0; 6];
    client.read_exact(&mut bytes).await.unwrap();
    assert_eq!(&bytes, b"answer");
    other_server.read_exact(&mut bytes[..4]).await.unwrap();
    assert_eq!(&bytes[..4], b"more");
    assert_eq!(site.daemon().connections(), 0);
    drop((server, other_client));
    assert_eq!(read_all(&mut client).await, b"");
    assert_eq!(read_all(&mut other_server).await, b"");
    let lines = site.lines(2).await;
    let ends = ["client closed", "server closed"];
    assert!(ends.iter().all(|end| lines.iter().any(|line| field(line, "end") == *end)), "{lines:#?}");
}

/// What ends between the two processes has ended for both sides.
#[tokio::test]
async fn what_ends_between_the_two_has_ended() {
    let mut site = Site::start(64, "").await;
    let (client, mut server) = site.open().await;
    let (mut other_client, other_server) = site.open().await;
    let mut before = site.daemon.take().unwrap();
    before.signal(Signal::TERM);
    before.ended().await;
    client.set_zero_linger().unwrap();
    drop((client, other_server));
    site.daemon = Some(site.supervisor.start(&site.host).await);
    let error = timeout(PATIENCE, server.read_u8()).await.expect("nothing comes").unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    assert_eq!(read_all(&mut other_client).await, b"");
    drop(other_client);
    let lines = site.lines(2).await;
    let ends = ["client closed (reset)", "server closed"];
    assert!(ends.iter().all(|end| lines.iter().any(|line| field(line, "end") == *end)), "{lines:#?}");
}

/// A run stays with its server while one of its tunnels is open, restart or not.
#[tokio::test]
async fn the_run_stays_where_it_is() {
    let mut site = Site::start(64, "timeouts.pin = \"0s\"").await;
    let memory = |site: &Site| std::fs::read_to_string(site.host.state().join("memory.json")).unwrap_or_default();
    let open = site.open().await;
    site.restart().await;
    site.restart().await;
    let again = site.open().await;
    drop(again);
    eventually("its end is written", || site.daemon().connections() == 1).await;
    site.restart().await;
    assert!(memory(&site).contains(&site.server.address().to_string()), "{}", memory(&site));
    drop(open);
    site.lines(1).await;
}

/// A client that has asked, and whose server is slow, is not refused: it becomes a tunnel first.
#[tokio::test]
async fn who_waits_for_a_server_is_handed_over_too() {
    let mut site = Site::start(64, "").await;
    let mut client = TcpStream::connect(site.address).await.unwrap();
    client.write_all(&support::hello::with_sni(Some("puppetca.lab.test"))).await.unwrap();
    let mut upstream = site.server.accept().await;
    let mut before = site.daemon.take().unwrap();
    before.signal(Signal::TERM);
    sleep(Duration::from_millis(1500)).await;
    assert!(!before.has_ended(), "it does not wait: {:#?}", before.lines());
    upstream.write_all(support::tcp::ANSWER).await.unwrap();
    assert_eq!(ending(before.ended().await), (Some(0), None));
    site.daemon = Some(site.supervisor.start(&site.host).await);
    upstream.write_all(b"and more").await.unwrap();
    upstream.shutdown().await.unwrap();
    let said = read_all(&mut client).await;
    assert_eq!(said, [support::tcp::ANSWER, b"and more"].concat());
    drop(client);
    site.lines(1).await;
}

/// Who says nothing is told so after a second; a run that has not begun is not hurt.
#[tokio::test]
async fn who_has_said_nothing_is_not_waited_for_long() {
    let mut site = Site::start(64, "").await;
    let mut silent = TcpStream::connect(site.address).await.unwrap();
    let open = site.open().await;
    let (lines, took) = site.restart().await;
    assert!(took > Duration::from_millis(900) && took < Duration::from_millis(4500), "{took:?}");
    assert_eq!(read_all(&mut silent).await, b"");
    let refused: Vec<_> = lines.iter().filter(|line| line.contains(" from=")).collect();
    assert_eq!(refused.len(), 1, "{lines:#?}");
    assert_eq!(field(refused[0], "end"), "puppet-shim stops; try again");
    drop(open);
    site.lines(1).await;
}

/// What the store had no room for, or lost, is closed with one warning.
#[tokio::test]
async fn what_is_not_whole_is_closed() {
    let mut site = Site::start(64, "").await;
    let (mut client, mut server) = site.open().await;
    let (mut other_client, mut other_server) = site.open().await;
    let mut before = site.daemon.take().unwrap();
    before.signal(Signal::TERM);
    before.ended().await;
    eventually("all of it is kept", || site.supervisor.stored().len() == 6).await;
    site.supervisor.lose("t1m");
    let daemon = site.supervisor.start(&site.host).await;
    let pairs = [(&mut client, &mut server), (&mut other_client, &mut other_server)];
    let mut lost = 0;
    for (client, server) in pairs {
        // It goes on, or has ended.
        let _ = client.write_all(b"x").await;
        match timeout(PATIENCE, server.read_u8()).await.expect("nothing comes") {
            Ok(byte) => assert_eq!(byte, b'x'),
            Err(_) => lost += 1,
        }
    }
    assert_eq!(lost, 1);
    let lines = daemon.lines();
    let warnings: Vec<_> = lines.iter().filter(|line| line.contains(" WARN ")).collect();
    assert_eq!(warnings.len(), 1, "{lines:#?}");
    assert!(warnings[0].contains("tunnels=1"), "{warnings:#?}");
    eventually("nothing is kept any more", || site.supervisor.stored().is_empty()).await;
}

/// A listener that systemd does not hold is kept, too: who connects between the two waits.
#[tokio::test]
async fn a_listener_of_its_own_is_left_to_the_next_process() {
    let server = Raw::start().await;
    let [address] = support::loopback::free_ports();
    let mut supervisor = Supervisor::new();
    supervisor.set("PUPPET_SHIM_FDSTORE", "9");
    let host = Host::new(&format!(
        "listen = [\"{address}\"]\ndomain = \"lab.test\"\ndns.servers = [\"127.0.0.1:9\"]\n\
         [role.ca]\nsrv = false\nservers = [\"{}\"]\n",
        server.address()
    ));
    let first = supervisor.start(&host).await;
    assert_eq!(ending(first.end(Signal::TERM).await), (Some(0), None));
    eventually("it is kept", || supervisor.stored() == ["bound"]).await;
    let waiting = tokio::spawn(async move { tunnel(address, ASKED).await });
    sleep(Duration::from_millis(100)).await;
    let next = supervisor.start(&host).await;
    assert_eq!(next.addresses(), [address]);
    drop((timeout(PATIENCE, waiting).await.unwrap().unwrap(), server.accept().await));
    eventually("it is kept no longer", || supervisor.stored().is_empty()).await;
}

/// Where there is no next process, nothing is left to it.
#[tokio::test]
async fn a_real_stop_drains_whatever_the_store() {
    let mut site = Site::start(64, "").await;
    let (mut client, mut server) = site.open().await;
    let mut daemon = site.daemon.take().unwrap();
    daemon.signal(Signal::INT);
    eventually("it drains", || daemon.line("draining tunnels=1").is_some()).await;
    server.write_all(b"catalog").await.unwrap();
    let mut bytes = [0; 7];
    client.read_exact(&mut bytes).await.unwrap();
    drop((client, server));
    assert_eq!(ending(daemon.ended().await), (Some(0), None));
    assert_eq!(site.supervisor.stored(), [""; 0]);
}

/// Of four tunnels the store has room for two. The other two are those that need no more.
#[tokio::test]
async fn those_over_the_stores_room_are_drained_first() {
    let mut site = Site::start(7, "").await;
    let (mut asking, mut answered) = (Vec::new(), Vec::new());
    for n in 0..4 {
        let (mut client, mut server) = site.open_for(if n < 2 { ASKED } else { OTHER }).await;
        if n >= 2 {
            server.write_all(b"!").await.unwrap();
            assert_eq!(client.read_u8().await.unwrap(), b'!');
            answered.push((client, server));
        } else {
            asking.push((client, server));
        }
    }
    let (lines, took) = site.restart().await;
    assert!(took > Duration::from_secs(4) && took < Duration::from_secs(20), "{took:?}");
    assert!(lines.iter().any(|line| line.contains("draining tunnels=4")), "{lines:#?}");
    let ends: Vec<_> = lines.iter().filter(|line| line.contains(" from=")).map(|line| field(line, "end")).collect();
    assert_eq!(ends, ["idle, and puppet-shim stopped"; 2]);
    for (client, server) in &mut answered {
        assert_eq!((read_all(client).await, read_all(server).await), (vec![], vec![]));
    }
    for (client, server) in &mut asking {
        server.write_all(b"!").await.unwrap();
        assert_eq!(client.read_u8().await.unwrap(), b'!');
    }
}
