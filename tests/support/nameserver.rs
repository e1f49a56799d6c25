//! Nameservers as processes: what Debian's have in common. Each has its configuration and its data in a folder of its
//! own, and needs neither its service nor anything in /etc.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use hickory_server::proto::op::{Message, Query, ResponseCode};
use hickory_server::proto::rr::{Name, RecordType};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::command::is_stopped;
use super::tcp::PATIENCE;
use super::{eventually, loopback};

/// A running nameserver. Dropping it kills it.
pub struct Process {
    child: Child,
    folder: TempDir,
}

impl Process {
    /// Starts a program in a folder made for it.
    pub fn start(folder: TempDir, command: &mut Command) -> Self {
        let log = fs::File::create(folder.path().join("log")).unwrap();
        let child = command.current_dir(folder.path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        Process { child: child.unwrap(), folder }
    }

    /// Waits until it answers for all of these names, with records.
    pub async fn answers(&mut self, address: SocketAddr, names: &[(&str, RecordType)]) {
        let ready = async {
            for (name, kind) in names {
                while !has_records(address, name, *kind).await {
                    let ended = self.child.try_wait().unwrap();
                    assert!(ended.is_none(), "the nameserver has ended, {}:\n{}", ended.unwrap(), self.log());
                    sleep(Duration::from_millis(5)).await;
                }
            }
        };
        assert!(timeout(PATIENCE, ready).await.is_ok(), "{address} does not answer for {names:?}:\n{}", self.log());
    }

    /// Holds it: packets still arrive, and nobody answers.
    pub async fn pause(&self) {
        kill_process(Pid::from_child(&self.child), Signal::STOP).unwrap();
        // A thread may have been at work just then.
        eventually("each of its threads has stopped", || is_stopped(&self.child)).await;
    }

    /// Lets it go on.
    pub fn resume(&self) {
        kill_process(Pid::from_child(&self.child), Signal::CONT).unwrap();
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What it has said.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where Debian has a program of this package.
pub fn program(name: &str, package: &str) -> PathBuf {
    // A user's own path may lack the second.
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    let found = folders.map(|folder| folder.join(name)).find(|program| program.is_file());
    found.unwrap_or_else(|| panic!("{name} is missing: apt-get install {package} (its service need not run)"))
}

/// Runs a command to its end, and gives what it has printed.
pub fn run(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{out}{err}", output.status);
    out.into_owned()
}

/// An address of loopback where nobody listens, neither by UDP nor by TCP.
pub fn free_address() -> SocketAddr {
    for _ in 0..16 {
        let udp = std::net::UdpSocket::bind(loopback::any_port()).unwrap();
        let address = udp.local_addr().unwrap();
        if std::net::TcpListener::bind(address).is_ok() {
            return address;
        }
    }
    panic!("no port is free for both UDP and TCP");
}

/// A question.
fn question(name: &str, kind: RecordType) -> Message {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(absolute(name), kind));
    message
}

/// The same name as a whole one.
pub fn absolute(name: &str) -> Name {
    let mut name = Name::from_ascii(name).unwrap();
    name.set_fqdn(true);
    name
}

/// Asks a nameserver over TCP, bytes for bytes.
pub async fn exchange(address: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(&framed(question)).await?;
    read_framed(&mut stream).await
}

/// A message as it goes over TCP.
pub fn framed(message: &[u8]) -> Vec<u8> {
    let length = u16::try_from(message.len()).unwrap().to_be_bytes();
    [&length, message].concat()
}

/// The next message from a TCP stream.
pub async fn read_framed(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut message = vec![0; stream.read_u16().await?.into()];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

async fn has_records(address: SocketAddr, name: &str, kind: RecordType) -> bool {
    let question = question(name, kind).to_vec().unwrap();
    let Ok(Ok(answer)) = timeout(Duration::from_secs(1), exchange(address, &question)).await else { return false };
    let answer = Message::from_vec(&answer).unwrap();
    answer.metadata.response_code == ResponseCode::NoError && !answer.answers.is_empty()
}
