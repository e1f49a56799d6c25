//! The daemon costs its host nothing while nobody connects: one thread, no system call; and its sockets wait for
//! nothing.
//!
//! A fleet is 100,000 of these. So the real binary is watched from outside, by strace and by way of /proc.

// A test ends where its set-up fails.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, Signal, kill_process, pidfd_getfd, pidfd_open};
use socket2::Socket;
use support::command::{Host, Running};
use support::dns::Dns;
use support::eventually;
use support::tcp::{Raw, ask, begin, refusing, tunnel};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// A binary on a port of its own, with DNS and one compile server.
struct Site {
    dns: Dns,
    server: Raw,
    host: Host,
    daemon: Running,
}

impl Site {
    async fn start() -> Self {
        let (dns, server) = (Dns::start().await, Raw::start().await);
        dns.set_addresses("compile1.lab.test", 60, &[server.address().ip()]).await;
        dns.set_srv("_x-puppet._tcp.lab.test", 60, &[(0, 0, server.address().port(), "compile1.lab.test")]).await;
        let host = Host::new(&format!(
            "listen = [\"127.0.0.1:0\"]
domain = \"lab.test\"
dns.servers = [\"{}\"]
dns.allow_loopback = true
role.compile.allow_ports = [\"1-65535\"]
certificates.check = false
",
            dns.address()
        ));
        let daemon = host.run().await;
        Site { dns, server, host, daemon }
    }

    /// Opens tunnels.
    async fn tunnels(&self, count: usize) -> Vec<(TcpStream, TcpStream)> {
        let mut open = Vec::new();
        for _ in 0..count {
            let mut client = tunnel(self.daemon.address(), "puppet:8140").await;
            let mut upstream = self.server.accept().await;
            begin(&mut client, &mut upstream).await;
            open.push((client, upstream));
        }
        open
    }

    fn threads(&self) -> usize {
        fs::read_dir(self.daemon.proc("task")).unwrap().count()
    }
}

/// strace on a process, until it is dropped.
struct Strace {
    child: Child,
    folder: TempDir,
}

impl Strace {
    /// Attaches, and waits until it has.
    async fn attach(pid: Pid) -> Self {
        let folder = TempDir::new().unwrap();
        let child = Command::new("strace")
            .args(["-f", "-p", &pid.as_raw_nonzero().to_string(), "-o"])
            .arg(folder.path().join("calls"))
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("strace is needed to see that there is no system call: apt install strace");
        let mut strace = Strace { child, folder };
        // Being attached to interrupts the wait for events, which is then begun again.
        eventually("strace sees the process wait", || {
            assert!(strace.child.try_wait().unwrap().is_none(), "strace cannot attach: is this root?");
            strace.calls().lines().last().is_some_and(|line| line.contains("epoll_") && !line.contains(" = "))
        })
        .await;
        strace
    }

    /// What it has seen so far.
    fn calls(&self) -> String {
        fs::read_to_string(self.file()).unwrap_or_default()
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("calls")
    }
}

impl Drop for Strace {
    fn drop(&mut self) {
        // So that it lets go of the process; a kill could leave that stopped.
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let _ = self.child.wait();
    }
}

/// Three seconds in which nothing may happen.
async fn assert_no_system_call(site: &Site) {
    let strace = Strace::attach(site.daemon.pid()).await;
    let before = strace.calls();
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(strace.calls(), before);
    // It would have been seen.
    ask(site.daemon.address(), "www.example.org:443").await;
    eventually("strace sees what a connection does", || strace.calls().contains("accept4(")).await;
}

#[tokio::test]
async fn no_system_call_before_the_first_connection() {
    assert_no_system_call(&Site::start().await).await;
}

#[tokio::test]
async fn no_system_call_after_the_last_connection() {
    let site = Site::start().await;
    drop(site.tunnels(20).await);
    for target in ["puppetca:8140", "www.example.org:443"] {
        ask(site.daemon.address(), target).await;
    }
    eventually("every connection has had its line", || site.daemon.connections() == 22).await;
    eventually("no socket is left but the listener", || sockets(site.daemon.pid()).len() == 1).await;
    // What DNS said has been written down by another.
    eventually("one thread is left", || site.threads() == 1).await;
    assert_no_system_call(&site).await;
}

/// What is learnt is written by a thread of its own, which does not stay.
#[tokio::test]
async fn one_thread_and_no_system_call_after_something_was_written() {
    let site = Site::start().await;
    let gone = refusing();
    site.dns.set_addresses("compile2.lab.test", 60, &[gone.ip()]).await;
    let port = site.server.address().port();
    let records = [(0, 0, gone.port(), "compile2.lab.test"), (1, 0, port, "compile1.lab.test")];
    site.dns.set_srv("_x-puppet._tcp.lab.test", 60, &records).await;
    drop(site.tunnels(5).await);
    eventually("every connection has had its line", || site.daemon.connections() == 5).await;
    let memory = site.host.state().join("memory.json");
    eventually("it is written", || fs::read_to_string(&memory).is_ok_and(|text| text.contains("refused"))).await;
    eventually("one thread is left", || site.threads() == 1).await;
    eventually("no socket is left but the listener", || sockets(site.daemon.pid()).len() == 1).await;
    assert_no_system_call(&site).await;
}

#[tokio::test]
async fn one_thread_idle_and_busy() {
    let site = Site::start().await;
    assert_eq!(site.threads(), 1);
    let open = site.tunnels(50).await;
    assert_eq!(site.threads(), 1);
    drop(open);
    eventually("the tunnels have ended", || site.daemon.connections() == 50).await;
    // What has been learnt is written down by another, which does not stay.
    eventually("one thread is left", || site.threads() == 1).await;
}

/// The daemon's own network sockets, by way of duplicates of its descriptors.
fn sockets(pid: Pid) -> Vec<Socket> {
    let process = pidfd_open(pid, PidfdFlags::empty()).unwrap();
    let descriptors = fs::read_dir(format!("/proc/{}/fd", pid.as_raw_nonzero())).unwrap();
    let sockets = descriptors.filter_map(|entry| {
        let entry = entry.unwrap();
        let is_socket = fs::read_link(entry.path()).is_ok_and(|to| to.to_string_lossy().starts_with("socket:"));
        let number = entry.file_name().to_str().unwrap().parse().unwrap();
        // It may have been closed since the folder was read.
        let duplicate = is_socket.then(|| pidfd_getfd(&process, number, PidfdGetfdFlags::empty()))?.ok();
        duplicate.map(Socket::from)
    });
    // Not the pair of sockets by which signals come.
    sockets.filter(|socket| socket.local_addr().is_ok_and(|address| address.as_socket().is_some())).collect()
}

/// With Nagle's algorithm a TLS handshake waits for a delayed acknowledgement, 40 ms.
#[tokio::test]
async fn no_delay_on_either_side() {
    let site = Site::start().await;
    let open = site.tunnels(1).await;
    let (client, server) = &open[0];
    let sockets = sockets(site.daemon.pid());
    let peer = |peer: SocketAddr| {
        let to = |socket: &&Socket| socket.peer_addr().is_ok_and(|address| address.as_socket() == Some(peer));
        sockets.iter().find(to).expect("no socket to one of the sides; is this root?")
    };
    let towards_client = peer(client.local_addr().unwrap());
    let towards_server = peer(site.server.address());
    assert_eq!(towards_server.local_addr().unwrap().as_socket(), server.peer_addr().ok());
    assert!(towards_client.tcp_nodelay().unwrap(), "towards the client");
    assert!(towards_server.tcp_nodelay().unwrap(), "towards the server");
    // A server that is gone without a word is noticed by the kernel.
    assert!(towards_server.keepalive().unwrap());
}

/// Of what comes in masses, the kernel moves nearly all from socket to socket; it is the memory of the host that is spared.
#[tokio::test]
async fn much_is_moved_and_not_copied() {
    const MUCH: u64 = 32 * 1024 * 1024;
    let site = Site::start().await;
    let (mut client, mut server) = site.tunnels(1).await.remove(0);
    let strace = Strace::attach(site.daemon.pid()).await;
    let send = async {
        let piece = vec![7; 1024 * 1024];
        for _ in 0..MUCH / piece.len() as u64 {
            server.write_all(&piece).await.unwrap();
        }
        server.shutdown().await.unwrap();
    };
    let (mut count, mut buffer) = (0, vec![0; 1024 * 1024]);
    let receive = async {
        loop {
            match client.read(&mut buffer).await.unwrap() {
                0 => break,
                read => count += read as u64,
            }
        }
    };
    tokio::join!(send, receive);
    drop(client);
    assert_eq!(count, MUCH);
    eventually("it has ended", || site.daemon.connections() == 1).await;
    let sum = |name: &str| -> u64 {
        let calls = strace.calls();
        let results =
            calls.lines().filter(|line| line.split_whitespace().nth(1).is_some_and(|call| call.starts_with(name)));
        results.filter_map(|line| line.rsplit_once(" = ")?.1.parse::<u64>().ok()).sum()
    };
    // Into the pipe and out of it.
    let (moved, copied) = (sum("splice(") / 2, sum("recvfrom("));
    assert!(moved > MUCH / 2 && copied < MUCH / 4, "moved {moved}, and copied {copied}");
}
