//! An admin asks what the daemon does: while it carries, while it has hung, when the file was spoilt, and when it has left
//! because it was idle. To ask is no use, starts nothing, and holds nobody up.

// A test ends where its set-up fails.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use puppet_shim::status::{
    ConfigurationOrigin, Ending, Freshness, ListenerState, ProblemSeverity, RankStatus, RoleStatus, Status, query,
};
use rustix::process::{Pid, Signal, kill_process};
use support::command::{Host, Running, binary, ending, output, text};
use support::dns::Dns;
use support::eventually;
use support::supervisor::Supervisor;
use support::tcp::{Answer, Named, Raw, ask, begin, refusing, tunnel};
use tokio::time::timeout;

/// A CA, and two compilers of which the first refuses.
struct Site {
    host: Host,
    ca: Named,
    compiler: Raw,
    refusing: SocketAddr,
}

impl Site {
    async fn new(more: &str) -> Self {
        let (ca, compiler, refusing) = (Named::start("ca").await, Raw::start().await, refusing());
        let site = Site { host: Host::new(""), ca, compiler, refusing };
        site.configure("127.0.0.1:0", more);
        site
    }

    fn configure(&self, listen: &str, more: &str) {
        let (ca, refusing, compiler) = (self.ca.address(), self.refusing, self.compiler.address());
        self.host.configure(&format!(
            "listen = [\"{listen}\"]\ndomain = \"lab.test\"\ndns.servers = [\"127.0.0.1:9\"]\ncertificates.check = false\n{more}\n\
             [role.ca]\nsrv = false\nservers = [\"{ca}\"]\n\
             [role.compile]\nsrv = false\nservers = [\"{refusing}\", \"{compiler}\"]\n",
        ));
    }

    /// Starts the daemon, and waits until it can be asked.
    async fn run(&self) -> Running {
        let daemon = self.host.run().await;
        self.can_be_asked().await;
        daemon
    }

    async fn can_be_asked(&self) {
        eventually("the status socket is there", || UnixStream::connect(self.socket()).is_ok()).await;
    }

    fn socket(&self) -> PathBuf {
        self.host.file().with_file_name("status.socket")
    }

    /// What the daemon says.
    async fn asked(&self) -> Status {
        let socket = self.socket();
        tokio::task::spawn_blocking(move || query(&socket).unwrap()).await.unwrap()
    }

    /// What `status` prints, and its exit status.
    async fn status(&self, args: &[&str]) -> (Option<i32>, String, String) {
        let output = self.host.output(&[&["status"], args].concat()).await;
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    }

    /// What `status` prints to a user of no rights in this group, and its exit status. As root.
    async fn asked_by(&self, group: &str, args: &[&str]) -> (Option<i32>, String, String) {
        // Where anybody can reach it.
        let folder = self.socket().parent().unwrap().to_owned();
        fs::set_permissions(&folder, Permissions::from_mode(0o755)).unwrap();
        let command = folder.join("puppet-shim");
        if !command.exists() {
            fs::copy(binary(), &command).unwrap();
        }
        let mut asks = Command::new("setpriv");
        asks.args(["--reuid=65534", &format!("--regid={group}"), "--clear-groups"]).arg(&command).arg("status");
        asks.args(args).arg("--config").arg(self.host.file()).arg("--socket").arg(self.socket());
        asks.env("HOME", "/nonexistent").env("STATE_DIRECTORY", self.host.state());
        let output = output(asks).await;
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    }

    /// One connection to the CA that has ended, and one to the compiler that is open.
    async fn use_it(&self, daemon: &Running) -> (tokio::net::TcpStream, tokio::net::TcpStream) {
        assert_eq!(ask(daemon.address(), "puppetca:8140").await, Answer::Tunnel("ca".into()));
        let mut client = tunnel(daemon.address(), "puppet:8140").await;
        let mut upstream = self.compiler.accept().await;
        begin(&mut client, &mut upstream).await;
        eventually("the first has its line", || daemon.connections() == 1).await;
        (client, upstream)
    }
}

fn role<'s>(status: &'s Status, name: &str) -> &'s RoleStatus {
    status.roles.iter().find(|role| role.role == name).unwrap()
}

#[tokio::test]
async fn it_says_which_servers_got_the_connections_and_why() {
    let site = Site::new("").await;
    let daemon = site.run().await;
    let open = site.use_it(&daemon).await;

    let (code, json, err) = site.status(&["--json"]).await;
    assert_eq!((code, err.as_str()), (Some(0), ""), "{json}");
    let status: Status = serde_json::from_str(&json).unwrap();
    assert_eq!(status.process.as_ref().unwrap().pid, u32::try_from(daemon.pid().as_raw_nonzero().get()).unwrap());
    let listener = &status.listeners[0];
    assert_eq!((listener.address.clone(), listener.state), (daemon.address().to_string(), ListenerState::Bound));
    assert_eq!(status.configuration.origin, ConfigurationOrigin::File);
    assert_eq!(status.configuration.file.as_deref(), site.host.file().to_str());
    assert!(status.configuration.read.is_some());
    assert_eq!(status.connections_open, 1);

    let compile = role(&status, "compile");
    assert_eq!((compile.source.as_ref().unwrap().kind.as_str(), compile.tunnels_open), ("static", 1));
    let [first, second] = compile.servers.as_slice() else { panic!("{json}") };
    assert_eq!((first.server.clone(), first.rank), (site.refusing.to_string(), RankStatus::Down));
    assert_eq!((first.cause.as_deref(), first.is_pinned), (Some("refused"), false));
    assert!(first.since.is_some() && first.until > first.since);
    assert_eq!((second.server.clone(), second.rank), (site.compiler.address().to_string(), RankStatus::Good));
    assert_eq!((second.is_pinned, second.tunnels_open), (true, 1));

    let ca = role(&status, "ca");
    assert_eq!((ca.totals.carried, ca.last_server.clone()), (1, Some(site.ca.address().to_string())));
    assert!(ca.totals.bytes_up > 0 && ca.totals.bytes_down > 0);
    assert!(ca.servers[0].usual_seconds.is_some_and(|seconds| seconds < 10.0), "{json}");
    let last = &status.recent[0];
    assert_eq!((last.role.as_deref(), last.asked.as_deref()), (Some("ca"), Some("puppetca:8140")));
    assert_eq!((last.outcome, last.server.clone()), (Ending::Carried, ca.last_server.clone()));
    assert!(status.problems.iter().all(|problem| problem.severity == ProblemSeverity::Warning), "{json}");

    drop(open);
    eventually("the second has its line", || daemon.connections() == 2).await;
    let status = site.asked().await;
    assert_eq!((status.connections_open, role(&status, "compile").tunnels_open), (0, 0));
    assert_eq!(role(&status, "compile").servers[0].totals.refused, 1);

    let (code, table, _) = site.status(&[]).await;
    assert_eq!(code, Some(0));
    assert!(table.starts_with(&format!("puppet-shim {}  up for ", env!("CARGO_PKG_VERSION"))), "{table}");
    assert!(!table.contains('\x1b'), "this is no terminal");
    let (code, metrics, _) = site.status(&["--format", "prometheus"]).await;
    assert_eq!(code, Some(0));
    let carried = "puppet_shim_connections_total{role=\"ca\",outcome=\"carried\"} 1";
    assert!(metrics.lines().any(|line| line == carried), "{metrics}");
    let (_, metrics, _) = site.status(&["--format=openmetrics"]).await;
    assert!(metrics.ends_with("# EOF\n"));
}

#[tokio::test]
async fn clients_that_say_and_read_nothing_hold_up_nobody() {
    let site = Site::new("").await;
    let daemon = site.run().await;
    let mute: Vec<_> = (0..20).map(|_| UnixStream::connect(site.socket()).unwrap()).collect();
    assert!(site.asked().await.process.is_some());
    assert_eq!(ask(daemon.address(), "puppetca:8140").await, Answer::Tunnel("ca".into()));
    drop(mute);
    assert_eq!(ending(daemon.end(Signal::TERM).await), (Some(0), None));
    assert!(!site.socket().exists(), "nobody is to wait for an answer there");
}

#[tokio::test]
async fn a_daemon_that_hangs_is_told_of() {
    let site = Site::new("").await;
    let daemon = site.run().await;
    daemon.signal(Signal::STOP);
    let (code, out, err) = site.status(&[]).await;
    daemon.signal(Signal::CONT);
    assert_eq!((code, out.as_str()), (Some(69), ""), "{err}");
    assert!(err.contains("does not answer within 2 s"), "{err}");
}

#[tokio::test]
async fn a_file_that_cannot_be_used_is_told_of_until_it_can() {
    let site = Site::new("").await;
    let daemon = site.run().await;
    assert_eq!(site.status(&[]).await.0, Some(0));
    let good = fs::read_to_string(site.host.file()).unwrap();
    site.host.configure("listen = 7\n");
    daemon.signal(Signal::HUP);
    eventually("it is said", || daemon.line("cannot be used").is_some()).await;
    let (code, table, _) = site.status(&[]).await;
    assert_eq!(code, Some(78), "{table}");
    assert!(table.contains("error: configuration: the file was to be read again and cannot be used"), "{table}");
    assert!(table.contains(":1:10: error: "), "{table}");
    assert_eq!(site.status(&["--format=prometheus"]).await.0, Some(0), "metrics are written all the same");
    site.host.configure(&good);
    daemon.signal(Signal::HUP);
    eventually("it is read", || daemon.line("reloaded").is_some()).await;
    assert_eq!(site.status(&[]).await.0, Some(0));
}

#[tokio::test]
async fn the_socket_follows_the_configuration() {
    let site = Site::new("").await;
    let daemon = site.run().await;
    assert!(site.socket().exists());
    let other = site.host.file().with_file_name("other.socket");
    site.configure("127.0.0.1:0", &format!("status.socket = \"{}\"", other.display()));
    daemon.signal(Signal::HUP);
    eventually("the new one is there, and the old one not", || other.exists() && !site.socket().exists()).await;
    assert_eq!(site.status(&["--json"]).await.0, Some(0));
    site.configure("127.0.0.1:0", "status.socket = false");
    daemon.signal(Signal::HUP);
    eventually("there is none", || !other.exists()).await;
    let (_, table, _) = site.status(&[]).await;
    assert!(table.contains("unknown: status.socket is false"), "{table}");
}

/// As root, who may give it to any group.
#[tokio::test]
async fn a_group_may_ask_and_nobody_else() {
    let site = Site::new("status.group = \"no-such-group\"").await;
    let daemon = site.run().await;
    eventually("it is said", || daemon.line("there is no group \"no-such-group\"").is_some()).await;
    assert!(site.asked().await.process.is_some(), "root may");
    assert_eq!(fs::metadata(site.socket()).unwrap().mode() & 0o777, 0o660);
    daemon.end(Signal::TERM).await;

    if !rustix::process::geteuid().is_root() {
        return;
    }
    site.configure("127.0.0.1:0", "status.group = \"12345\"");
    let _daemon = site.run().await;
    eventually("it is the group's", || fs::metadata(site.socket()).unwrap().gid() == 12345).await;
    let (code, out, err) = site.asked_by("12345", &["--json"]).await;
    assert_eq!(code, Some(0), "{out}{err}");
    let (code, out, err) = site.asked_by("65534", &["--json"]).await;
    assert_eq!(code, Some(77), "{out}");
    assert!(err.contains("you may not ask"), "{err}");
}

/// A counter that is 0 for once would be counted twice. As root, who may become somebody else.
#[tokio::test]
async fn without_a_process_a_group_gets_no_metrics_instead_of_false_ones() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let carried = "puppet_shim_connections_total{role=\"ca\",outcome=\"carried\"} 1";
    let site = Site::new("status.group = \"12345\"").await;
    let daemon = site.run().await;
    assert_eq!(ask(daemon.address(), "puppetca:8140").await, Answer::Tunnel("ca".into()));
    eventually("it has its line", || daemon.connections() == 1).await;
    for form in ["--format=prometheus", "--format=openmetrics"] {
        let (code, metrics, err) = site.asked_by("12345", &[form]).await;
        assert_eq!((code, err.as_str()), (Some(0), ""));
        assert!(metrics.lines().any(|line| line == carried), "{metrics}");
    }
    daemon.end(Signal::TERM).await;
    // As systemd has it for a service whose user it makes.
    fs::set_permissions(site.host.state(), Permissions::from_mode(0o700)).unwrap();
    let forms: [&[&str]; 3] =
        [&["--format=prometheus"], &["--format=openmetrics"], &["--format=prometheus", "--watch=0.1"]];
    for form in forms {
        let (code, out, err) = site.asked_by("12345", form).await;
        assert_eq!((code, out.as_str()), (Some(77), ""), "{form:?}: {err}");
        assert!(err.contains("Permission denied") && err.contains("ask as root"), "{err}");
    }
    let (_, table, err) = site.asked_by("12345", &[]).await;
    assert_eq!(err, "");
    assert!(
        table.contains("warning: state directory: cannot read ") && table.contains("to do: ask as root"),
        "{table}"
    );
    assert!(table.contains("\nfiles     not known\n") && !table.contains("nobody has asked yet"), "{table}");
    assert!(table.contains("no connection is known of") && !table.contains("no connection has ended yet"), "{table}");
    let (_, json, _) = site.asked_by("12345", &["--json"]).await;
    let status: Status = serde_json::from_str(&json).unwrap();
    assert!(status.unread.is_some_and(|unread| unread.why.contains("memory.json")), "{json}");
    let (code, metrics, _) = site.status(&["--format=prometheus"]).await;
    assert_eq!(code, Some(0));
    assert!(metrics.lines().any(|line| line == carried), "root may: {metrics}");
}

// === without a process ===

#[tokio::test]
async fn where_it_has_left_it_says_what_is_written_down_and_starts_nothing() {
    let site = Site::new("").await;
    let mut supervisor = Supervisor::new();
    let address = supervisor.listen("agent");
    site.configure(&address.to_string(), "idle_exit = \"1s\"");
    let mut daemon = supervisor.start(&site.host).await;
    site.can_be_asked().await;
    assert_eq!(site.asked().await.process.unwrap().idle_exit_seconds, Some(1.0));
    assert_eq!(site.asked().await.listeners[0].state, ListenerState::Inherited);
    drop(site.use_it(&daemon).await);
    // To ask all the time is no use.
    let socket = site.socket();
    let asking = tokio::task::spawn_blocking(move || {
        let mut answers = 0;
        while query(&socket).is_ok() {
            answers += 1;
        }
        answers
    });
    let status = timeout(Duration::from_secs(5), daemon.ended()).await.expect("it does not leave");
    assert_eq!(ending(status), (Some(0), None));
    assert!(asking.await.unwrap() > 10);

    let (code, table, _) = site.status(&[]).await;
    assert_eq!(code, Some(0), "{table}");
    let nobody = format!("unknown: somebody listens, and no process answers on {}", site.socket().display());
    let is_systemds = std::path::Path::new("/run/systemd/system").is_dir() && rustix::process::geteuid().is_root();
    let words = if is_systemds { "idle: no process runs; systemd holds the sockets" } else { nobody.as_str() };
    assert!(table.contains(words), "{table}");
    assert!(table.contains(&site.compiler.address().to_string()) && table.contains("puppetca:8140"), "{table}");
    let (_, json, _) = site.status(&["--json"]).await;
    let status: Status = serde_json::from_str(&json).unwrap();
    assert_eq!((status.process.clone(), status.listeners[0].state), (None, ListenerState::Waiting));
    assert_eq!(role(&status, "ca").totals.carried, 1);
    assert_eq!(status.recent.len(), 2);
    // Whoever had connected to the held socket would be found by the next process.
    let next = supervisor.start(&site.host).await;
    site.can_be_asked().await;
    assert!(site.asked().await.process.is_some());
    assert_eq!(next.connections(), 0);

    next.end(Signal::TERM).await;
    drop(supervisor);
    let (code, table, _) = site.status(&[]).await;
    assert_eq!(code, Some(1), "{table}");
    assert!(table.contains("no process runs, and nobody listens"), "{table}");
}

#[tokio::test]
async fn a_socket_of_systemds_is_served_in_place_of_its_own() {
    let site = Site::new("").await;
    let mut supervisor = Supervisor::new();
    let held = site.socket().with_file_name("held.socket");
    supervisor.hold("status", UnixListener::bind(&held).unwrap().into());
    let daemon = supervisor.start(&site.host).await;
    let (code, json, _) = site.status(&["--json", "--socket", held.to_str().unwrap()]).await;
    assert_eq!(code, Some(0));
    assert!(serde_json::from_str::<Status>(&json).unwrap().process.is_some());
    assert!(!site.socket().exists());
    daemon.end(Signal::TERM).await;
    assert!(held.exists(), "it is not ours to remove");
}

#[tokio::test]
async fn the_state_directory_alone_is_never_changed() {
    let site = Site::new("").await;
    let (code, _, err) = site.status(&[]).await;
    assert_eq!((code, err.as_str()), (Some(1), ""));
    assert!(!site.host.state().exists());
}

// === --watch ===

#[tokio::test]
async fn watch_goes_on_until_it_is_interrupted() {
    let site = Site::new("").await;
    let _daemon = site.run().await;
    let mut watch = site.host.command(&["status", "--json", "--watch=0.1"]).stdout(Stdio::piped()).spawn().unwrap();
    let out = watch.stdout.take().unwrap();
    let (first, last) = tokio::task::spawn_blocking(move || {
        let mut lines = BufReader::new(out).lines().map(|line| serde_json::from_str::<Status>(&line.unwrap()).unwrap());
        let first = lines.next().unwrap().process.unwrap();
        kill_process(Pid::from_child(&watch), Signal::HUP).err();
        (first, watch.wait().unwrap())
    })
    .await
    .unwrap();
    assert!(first.uptime_seconds >= 0.0);
    assert_eq!(ending(last), (Some(0), None));
}

/// In a terminal of script(1), until timeout(1) interrupts it as Ctrl-C does.
#[tokio::test]
async fn on_a_terminal_watch_draws_in_place_and_leaves_it_as_it_was() {
    let site = Site::new("").await;
    let _daemon = site.run().await;
    let watch = site.host.command(&["status", "--watch=0.2"]);
    let words: Vec<_> = std::iter::once(watch.get_program()).chain(watch.get_args()).collect();
    let words: Vec<_> = words.iter().map(|word| format!("'{}'", word.to_str().unwrap())).collect();
    let mut script = Command::new("script");
    script.args(["-qec", &format!("timeout --foreground --preserve-status -s INT 1.5 {}", words.join(" "))]);
    script.arg("/dev/null").env("RUNTIME_DIRECTORY", site.socket().parent().unwrap()).stdin(Stdio::null());
    script.env("STATE_DIRECTORY", site.host.state()).env_remove("NO_COLOR");
    let output = output(script).await;
    let screen = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{screen:?}");
    assert!(screen.starts_with("\x1b[?1049h"), "{screen:?}");
    assert!(screen.trim_end().ends_with("\x1b[?1049l"), "{screen:?}");
    assert!(screen.contains("\x1b[?25h"), "the cursor is back");
    assert!(screen.matches("\x1b[H").count() >= 3, "{screen:?}");
    assert!(screen.contains("\x1b[32mup\x1b[0m") && !screen.contains("\x1b[2J"), "{screen:?}");
}

// === the log ===

#[tokio::test]
async fn the_log_can_be_json() {
    let site = Site::new("").await;
    let mut daemon = Running::spawn(site.host.command(&["run", "--log-format=json", "--log=puppet_shim=info"]));
    eventually("it is ready", || daemon.line("\"message\":\"ready\"").is_some()).await;
    site.can_be_asked().await;
    let status = site.asked().await;
    let address = status.listeners[0].address.parse().unwrap();
    assert_eq!(ask(address, "puppetca:8140").await, Answer::Tunnel("ca".into()));
    eventually("the connection has its line", || daemon.line("\"message\":\"carried\"").is_some()).await;
    daemon.signal(Signal::TERM);
    daemon.ended().await;
    let lines: Vec<serde_json::Value> = daemon
        .lines()
        .iter()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
        .collect();
    let carried = lines.iter().find(|line| line["message"] == "carried").unwrap();
    assert_eq!((&carried["level"], &carried["target"]), (&"info".into(), &"puppet_shim::connection".into()));
    assert_eq!(carried["fields"]["role"], "ca");
    assert!(carried["fields"]["ms"].is_f64() && carried["fields"]["up"].is_u64(), "{carried}");
}

// === DNS ===

/// Makes what DNS said of SRV records an hour older.
fn age(host: &Host) {
    let file = host.state().join("memory.json");
    let mut memory: serde_json::Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    for answer in memory["dns"]["srv"].as_array_mut().unwrap() {
        answer["learnt"] = (answer["learnt"].as_u64().unwrap() - 3_600_000).into();
    }
    fs::write(&file, serde_json::to_vec(&memory).unwrap()).unwrap();
}

#[tokio::test]
async fn an_answer_that_is_stale_is_told_of_with_a_process_and_without() {
    let (mut dns, ca) = (Dns::start().await, Named::start("ca").await);
    dns.set_addresses("ca1.lab.test", 86400, &[ca.address().ip()]).await;
    dns.set_srv("_x-puppet-ca._tcp.lab.test", 60, &[(0, 0, ca.address().port(), "ca1.lab.test")]).await;
    let site = Site::new("").await;
    site.host.configure(&format!(
        "listen = [\"127.0.0.1:0\"]\ndomain = \"lab.test\"\ndns.servers = [\"{}\"]\ndns.allow_loopback = true\n\
         role.ca.allow_ports = [\"1-65535\"]\ncertificates.check = false\n",
        dns.address()
    ));
    let daemon = site.run().await;
    assert_eq!(ask(daemon.address(), "puppetca:8140").await, Answer::Tunnel("ca".into()));
    eventually("it has its line", || daemon.connections() == 1).await;
    let status = site.asked().await;
    let of_ca = role(&status, "ca");
    assert_eq!(of_ca.source.as_ref().unwrap().owner.as_deref(), Some("_x-puppet-ca._tcp.lab.test"));
    assert_eq!(of_ca.records[0].nameserver, Some(dns.address().to_string()));
    assert!(of_ca.ttl_left_seconds.is_some_and(|left| left <= 60.0) && of_ca.stale_since.is_none());
    daemon.end(Signal::TERM).await;

    age(&site.host);
    dns.stop().await;
    let daemon = site.run().await;
    let status = site.asked().await;
    assert_eq!(role(&status, "ca").records[0].freshness, Freshness::Expired, "nobody has asked since");
    assert_eq!(ask(daemon.address(), "puppetca:8140").await, Answer::Tunnel("ca".into()));
    eventually("it has its line", || daemon.connections() == 1).await;
    let with = site.asked().await;
    let socket = site.socket();
    let said = || query(&socket).is_ok_and(|status| role(&status, "ca").records[0].freshness == Freshness::Stale);
    eventually("the inquiry has ended, too", said).await;
    assert!(role(&site.asked().await, "ca").records[0].error.is_some());
    daemon.end(Signal::TERM).await;
    let (_, json, _) = site.status(&["--json"]).await;
    let without: Status = serde_json::from_str(&json).unwrap();
    for status in [with, without] {
        let of_ca = role(&status, "ca");
        let stale = of_ca.stale_since.expect("it is not told of").before(status.at).as_secs();
        assert!((3530..3600).contains(&stale), "{stale}");
        let problem = status.problems.iter().find(|problem| problem.about == "role ca").expect("no problem");
        assert_eq!(problem.severity, ProblemSeverity::Warning);
        assert!(problem.message.starts_with("DNS gives no newer answer"), "{}", problem.message);
    }
    let fact = text(&site.host.output(&["fact"]).await.stdout);
    let fact: serde_json::Value = serde_json::from_str(&fact).unwrap();
    assert_eq!(fact["puppet_shim"]["roles"]["ca"]["stale"], true);
}
