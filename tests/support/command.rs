//! The real binary, as a process of its own.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::eventually;

/// The binary: `$PUPPET_SHIM` (a release build, say), else the one of this build.
pub fn binary() -> PathBuf {
    // Cargo knows it in integration tests; an example, which is built from this file too, has none.
    let built = option_env!("CARGO_BIN_EXE_puppet-shim").map(PathBuf::from);
    std::env::var_os("PUPPET_SHIM").map(PathBuf::from).or(built).expect("no binary has been built")
}

/// A host to run it on: a configuration file, a state directory.
pub struct Host {
    folder: TempDir,
}

impl Host {
    /// One with this configuration file.
    pub fn new(config: &str) -> Self {
        let host = Host { folder: TempDir::new().unwrap() };
        host.configure(config);
        host
    }

    /// Replaces the configuration file.
    pub fn configure(&self, config: &str) {
        fs::write(self.file(), config).unwrap();
    }

    /// The configuration file.
    pub fn file(&self) -> PathBuf {
        self.folder.path().join("puppet-shim.toml")
    }

    /// The state directory.
    pub fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    /// The command with these arguments and `--config`.
    pub fn command(&self, args: &[&str]) -> Command {
        self.prefixed(&[], args)
    }

    /// The same by way of another command, such as `unshare -n`, that replaces itself by its arguments.
    pub fn prefixed(&self, prefix: &[&str], args: &[&str]) -> Command {
        self.with_file(&self.file(), prefix, args)
    }

    /// The same with another configuration file.
    pub fn with_file(&self, file: &Path, prefix: &[&str], args: &[&str]) -> Command {
        let binary = binary();
        let words = prefix.iter().map(OsStr::new).chain([binary.as_os_str()]).chain(args.iter().map(OsStr::new));
        let mut words = words.collect::<Vec<_>>().into_iter();
        let mut command = Command::new(words.next().unwrap());
        command.args(words).arg("--config").arg(file);
        command.env_remove("RUST_LOG").env_remove("JOURNAL_STREAM").env("STATE_DIRECTORY", self.state());
        command.env("RUNTIME_DIRECTORY", self.folder.path());
        command
    }

    /// Runs the command to its end, beside what the test's own runtime serves.
    pub async fn output(&self, args: &[&str]) -> Output {
        output(self.command(args)).await
    }

    /// Starts `run`, and waits until it is ready.
    pub async fn run(&self) -> Running {
        Running::start(self.command(&["run"])).await
    }
}

/// Runs a command to its end.
pub async fn output(mut command: Command) -> Output {
    tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap()
}

/// What a command has printed.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A running daemon. Dropping it kills it.
pub struct Running {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
    reader: Option<JoinHandle<()>>,
    addresses: Vec<SocketAddr>,
}

impl Running {
    /// Starts it, and waits until it says what it has bound.
    pub async fn start(mut command: Command) -> Self {
        command.stdin(Stdio::null());
        let mut running = Running::spawn(command);
        running.ready().await;
        running
    }

    /// Starts it with its standard input as it is set.
    pub fn spawn(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (stderr, kept) = (child.stderr.take().unwrap(), lines.clone());
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                kept.lock().unwrap().push(line);
            }
        });
        Running { child, lines, reader: Some(reader), addresses: Vec::new() }
    }

    /// Waits until it says what it has bound.
    pub async fn ready(&mut self) {
        eventually("the daemon is ready, or has ended", || self.line(" listen=").is_some() || self.has_ended()).await;
        let ready = self.line("listen=").unwrap_or_else(|| panic!("never ready: {:#?}", self.lines()));
        let list = ready.split_once('[').unwrap().1.rsplit_once(']').unwrap().0;
        self.addresses = list.split(", ").map(|address| address.trim_matches('"').parse().unwrap()).collect();
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Where it listens: its first address.
    pub fn address(&self) -> SocketAddr {
        self.addresses[0]
    }

    /// All its addresses.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Its process.
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// What it has logged so far.
    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }

    /// The first line with this text.
    pub fn line(&self, text: &str) -> Option<String> {
        self.lines().into_iter().find(|line| line.contains(text))
    }

    /// How many lines about connections there are.
    pub fn connections(&self) -> usize {
        self.lines().iter().filter(|line| line.contains(" from=")).count()
    }

    /// A file of its in /proc.
    pub fn proc(&self, file: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{file}", self.child.id()))
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Whether it stands still: a signal takes a moment to reach each of its threads.
    pub fn is_stopped(&self) -> bool {
        is_stopped(&self.child)
    }

    /// Sends a signal, and waits for the end.
    pub async fn end(mut self, signal: Signal) -> ExitStatus {
        self.signal(signal);
        self.ended().await
    }

    /// Waits for the end, and for its last line.
    pub async fn ended(&mut self) -> ExitStatus {
        let mut status = None;
        eventually("the daemon has ended", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        })
        .await;
        eventually("its log has ended", || self.reader.as_ref().is_none_or(JoinHandle::is_finished)).await;
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
        status.unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether each thread of a process has stopped.
pub fn is_stopped(child: &Child) -> bool {
    let threads = fs::read_dir(format!("/proc/{}/task", child.id())).unwrap();
    let stat = |thread: io::Result<fs::DirEntry>| fs::read_to_string(thread.unwrap().path().join("stat")).unwrap();
    threads.map(stat).all(|stat| stat.rsplit_once(") ").unwrap().1.starts_with('T'))
}

/// Code or signal.
pub fn ending(status: ExitStatus) -> (Option<i32>, Option<i32>) {
    (status.code(), status.signal())
}
