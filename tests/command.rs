//! The commands as an admin, a manifest's `validate_cmd` or systemd meets them: what they print, where, and what they
//! exit with.

// A test ends where its set-up fails.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::process::Stdio;

use rustix::process::Signal;
use serde_json::{Value, json};
use support::command::{Host, Running, ending, output, text};
use support::dns::Dns;
use support::eventually;
use support::tcp::{Answer, Named, ask};

/// A configuration whose DNS is the test's, with a port that the kernel picks.
fn config(dns: &Dns) -> String {
    format!(
        "listen = [\"127.0.0.1:0\"]
domain = \"lab.test\"
dns.servers = [\"{}\"]
dns.allow_loopback = true
role.compile.allow_ports = [\"1-65535\"]
",
        dns.address()
    )
}

async fn status(host: &Host, args: &[&str]) -> (Option<i32>, String, String) {
    let output = host.output(args).await;
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

// === what is printed ===

/// `puppet-shim check | head` ends as `puppet-shim check` does.
#[tokio::test]
async fn a_reader_who_has_gone_is_no_error() {
    let (_dns, host) = site().await;
    for args in [&["check", "--offline"][..], &["check"], &["check", "--json"], &["resolve", "compile"], &["fact"]] {
        let command = || {
            let mut command = host.command(args);
            // None that would be waited for.
            command.env("PUPPET_SHIM_PUPPET", "/nonexistent/puppet");
            command
        };
        let expected = output(command()).await.status.code();
        assert!(matches!(expected, Some(0 | 1)), "{args:?}: {expected:?}");
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut unread = command();
        unread.stdout(writer).stderr(Stdio::null());
        let status = tokio::task::spawn_blocking(move || unread.status()).await.unwrap().unwrap();
        assert_eq!(status.code(), expected, "{args:?}");

        let mut full = command();
        full.stdout(fs::File::create("/dev/full").unwrap()).stderr(Stdio::null());
        let status = tokio::task::spawn_blocking(move || full.status()).await.unwrap().unwrap();
        assert_eq!(status.code(), Some(74), "{args:?}");
    }
}

/// Each command is taught by examples, and the program as a whole.
#[tokio::test]
async fn help_has_examples() {
    let host = Host::new("");
    for command in ["", "run", "check", "resolve", "setup", "status", "fact"] {
        let mut help = host.command(&[]);
        help = std::process::Command::new(help.get_program());
        help.args([command].into_iter().filter(|name| !name.is_empty())).arg("--help");
        let said = text(&output(help).await.stdout);
        assert!(said.contains("\nExamples"), "{command}: {said}");
        assert!(said.lines().any(|line| line.starts_with("  puppet-shim ") || line.starts_with("  facter ")), "{said}");
    }
}

// === check ===

#[tokio::test]
async fn check_exits_with_0_or_78() {
    let host = Host::new("domain = \"lab.test\"\n");
    let file = host.file().display().to_string();
    let check = ["check", "--offline"];
    assert_eq!(status(&host, &check).await, (Some(0), format!("{file}: ok\n"), String::new()));

    host.configure("domian = \"lab.test\"\n[timeouts]\nidle = 7\n");
    let (code, out, err) = status(&host, &check).await;
    assert_eq!((code, out.as_str()), (Some(78), ""));
    let lines: Vec<_> = err.lines().collect();
    assert!(lines[0].starts_with(&format!("{file}:1:1: error: ")) && lines[0].contains("domain"), "{err}");
    assert!(lines[1].starts_with(&format!("{file}:3:8: error: ")), "{err}");
    assert_eq!(lines[2..], [format!("{file}: 2 errors")]);

    fs::remove_file(host.file()).unwrap();
    let (code, _, err) = status(&host, &check).await;
    assert_eq!(code, Some(78), "{err}");
    assert!(!host.state().exists(), "check leaves nothing behind");
}

#[tokio::test]
async fn the_packaged_file_is_good() {
    let host = Host::new(include_str!("../packaging/puppet-shim.toml"));
    assert_eq!(status(&host, &["check", "--offline"]).await.0, Some(0));
}

// === resolve ===

async fn site() -> (Dns, Host) {
    let dns = Dns::start().await;
    let ip = |text: &str| -> [IpAddr; 1] { [text.parse().unwrap()] };
    dns.set_addresses("compile1.lab.test", 77, &["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()]).await;
    dns.set_addresses("compile2.lab.test", 60, &ip("192.0.2.2")).await;
    let compile =
        [(20, 5, 8240, "compile2.lab.test"), (10, 0, 8140, "compile1.lab.test"), (30, 0, 8140, "nowhere.lab.test")];
    dns.set_srv("_x-puppet._tcp.lab.test", 42, &compile).await;
    let host = Host::new(&config(&dns));
    (dns, host)
}

async fn resolve(host: &Host, what: &str) -> (Option<i32>, Value) {
    let (code, out, err) = status(host, &["resolve", what, "--json"]).await;
    assert_eq!(err, "");
    (code, serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {out}")))
}

#[tokio::test]
async fn resolve_a_name() {
    let (dns, host) = site().await;
    let (code, answer) = resolve(&host, "puppet").await;
    assert_eq!(code, Some(0));
    assert_eq!(answer["asked"], "puppet:8140");
    assert_eq!((&answer["row"], &answer["role"]), (&json!("official-name"), &json!("compile")));
    assert_eq!(answer["domain"], "lab.test");
    assert_eq!(answer["source"], json!({"kind": "srv", "owner": "_x-puppet._tcp.lab.test"}));
    let nameserver = dns.address().to_string();
    assert_eq!(
        answer["records"],
        json!([{"owner": "_x-puppet._tcp.lab.test", "records": 3, "ttl_seconds": 42, "nameserver": nameserver,
                "freshness": "live", "seconds": null, "from_disk": false, "refused": [], "error": null}])
    );
    let nothing = json!({"state": "good", "cause": null, "hold_seconds": null, "usual_ms": null, "pinned": false,
                         "certificates": []});
    let expected = json!([
        {"host": "compile1.lab.test", "port": 8140, "priority": 10, "weight": 0, "remembered": nothing,
         "addresses": ["2001:db8::1", "192.0.2.1"], "ttl_seconds": 77, "stale": null, "refused": [], "problem": null},
        {"host": "compile2.lab.test", "port": 8240, "priority": 20, "weight": 5, "remembered": nothing,
         "addresses": ["192.0.2.2"], "ttl_seconds": 60, "stale": null, "refused": [], "problem": null},
        {"host": "nowhere.lab.test", "port": 8140, "priority": 30, "weight": 0, "remembered": nothing,
         "addresses": [], "ttl_seconds": null, "stale": null, "refused": [],
         "problem": "has no address in DNS"},
    ]);
    assert_eq!(answer["servers"], expected);
}

#[tokio::test]
async fn resolve_says_which_row_decided() {
    let (_dns, host) = site().await;
    for (what, row, role, kind) in [
        ("puppetfiles", "own-name", json!("files"), json!("fallback")),
        ("puppet:8142", "official-port", json!("report"), json!("fallback")),
        ("puppet.lab.test:443", "official-name", json!("compile"), json!("srv")),
        ("compile2.lab.test", "target", json!("compile"), json!("target")),
        ("www.example.org:443", "foreign", Value::Null, Value::Null),
    ] {
        let (code, answer) = resolve(&host, what).await;
        let seen = (&answer["row"], &answer["role"], &answer["source"]["kind"]);
        assert_eq!(seen, (&json!(row), &role, &kind), "{what}");
        assert_eq!(code, Some(i32::from(row == "foreign")), "{what}");
    }
    let (_, answer) = resolve(&host, "compile2.lab.test").await;
    assert_eq!(answer["servers"].as_array().unwrap().len(), 1);
    assert_eq!(
        (&answer["servers"][0]["host"], &answer["servers"][0]["port"]),
        (&json!("compile2.lab.test"), &json!(8240))
    );
}

#[tokio::test]
async fn resolve_a_role() {
    let (_dns, host) = site().await;
    let (code, answer) = resolve(&host, "report").await;
    assert_eq!(code, Some(0));
    assert_eq!((&answer["row"], &answer["role"]), (&Value::Null, &json!("report")));
    let owners: Vec<_> = answer["records"].as_array().unwrap().iter().map(|set| &set["owner"]).collect();
    assert_eq!(owners, ["_x-puppet-report._tcp.lab.test", "_x-puppet._tcp.lab.test"]);
    assert_eq!(answer["records"][0]["records"], 0);

    // The CA does not fall back, and its name has no address: nobody to try.
    let (code, answer) = resolve(&host, "ca").await;
    assert_eq!(code, Some(1));
    assert_eq!(answer["servers"][0]["problem"], "has no address in DNS");
}

#[tokio::test]
async fn resolve_for_people() {
    let (dns, host) = site().await;
    let (code, out, _) = status(&host, &["resolve", "puppet:8140"]).await;
    assert_eq!(code, Some(0));
    let expected = format!(
        "puppet:8140
  role     compile (row official-name: puppet is an official name, and no other role has port 8140)
  domain   lab.test
  SRV      _x-puppet._tcp.lab.test: 3 records, TTL 42 s, from {}, live
  servers  by srv _x-puppet._tcp.lab.test, in the order tried if asked now:
      1  compile1.lab.test:8140   priority 10 weight 0  2001:db8::1, 192.0.2.1 (TTL 77 s)
      2  compile2.lab.test:8240   priority 20 weight 5  192.0.2.2 (TTL 60 s)
      3  nowhere.lab.test:8140    priority 30 weight 0  has no address in DNS
",
        dns.address()
    );
    assert_eq!(out, expected);
    assert_eq!(status(&host, &["resolve", "pup/pet"]).await.0, Some(64));
}

/// A mount namespace with a hosts file of its own, in which the names would lead elsewhere.
#[tokio::test]
async fn resolve_never_asks_the_hosts_file() {
    let (_dns, host) = site().await;
    let hosts = host.file().with_file_name("hosts");
    fs::write(&hosts, "192.0.2.99 puppetca puppetca.lab.test compile2.lab.test nowhere.lab.test\n").unwrap();
    let script = format!(
        "mount --bind {} /etc/hosts && getent hosts puppetca.lab.test >&2 && exec \"$0\" \"$@\"",
        hosts.display()
    );
    for (what, code) in [("puppet", 0), ("ca", 1)] {
        let command = host.prefixed(&["unshare", "-m", "sh", "-c", &script], &["resolve", what, "--json"]);
        let output = output(command).await;
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert!(err.contains("192.0.2.99"), "the hosts file is not in place: {err}");
        assert_eq!(output.status.code(), Some(code), "{out}{err}");
        assert!(!out.contains("192.0.2.99"), "{out}");
    }
}

// === run ===

#[tokio::test]
async fn run_stops_in_good_order() {
    let dns = Dns::start().await;
    for signal in [Signal::TERM, Signal::INT] {
        let host = Host::new(&config(&dns));
        let running = host.run().await;
        assert!(running.line("running with ").unwrap().contains(host.file().to_str().unwrap()));
        // With a connection open.
        let _open = tokio::net::TcpStream::connect(running.address()).await.unwrap();
        assert_eq!(ending(running.end(signal).await), (Some(0), None), "{signal:?}");
    }
}

/// The repair of a bad file can only arrive through the daemon.
#[tokio::test]
async fn run_goes_on_with_the_last_accepted_configuration() {
    let (dns, server) = (Dns::start().await, Named::start("server").await);
    let fixed = format!("[role.ca]\nservers = [\"{}\"]\n", server.address());
    let host = Host::new(&(config(&dns) + &fixed));
    let first = host.run().await;
    assert_eq!(ask(first.address(), "puppetca:8140").await, Answer::Tunnel("server".into()));
    first.end(Signal::TERM).await;
    assert!(host.state().join("accepted.toml").exists());

    host.configure("listen = 7\n");
    let second = host.run().await;
    let lines = second.lines();
    assert!(
        lines.iter().any(|line| line.contains(" ERROR ") && line.contains("puppet-shim.toml:1:10: error: ")),
        "{lines:#?}"
    );
    assert!(lines.iter().any(|line| line.contains("running with the last accepted configuration, ")), "{lines:#?}");
    assert_eq!(ask(second.address(), "puppetca:8140").await, Answer::Tunnel("server".into()));
    assert_eq!(ending(second.end(Signal::TERM).await), (Some(0), None));
}

/// In a network of its own, since the defaults have fixed ports.
#[tokio::test]
async fn run_goes_on_with_the_defaults_where_nothing_was_accepted() {
    let host = Host::new("domian = 7\n");
    let script = "ip link set lo up && exec \"$0\" \"$@\"";
    let running = Running::start(host.prefixed(&["unshare", "-n", "sh", "-c", script], &["run"])).await;
    let addresses: Vec<_> = running.addresses().iter().map(ToString::to_string).collect();
    assert_eq!(addresses, ["127.0.0.1:8139", "[::1]:8139"]);
    let said = running.line("running with the defaults, because ").expect("it does not say so");
    assert!(said.contains(" ERROR "), "{said}");
    assert_eq!(ending(running.end(Signal::TERM).await), (Some(0), None));
}

/// Well-formed, and nobody can listen there. In a network of its own, since the default listeners have fixed ports.
const ELSEWHERE: &str = "listen = [\"192.0.2.77:8140\"]\nallow_remote_clients = true\n";

#[tokio::test]
async fn run_goes_on_with_the_default_listeners_where_its_own_cannot_be_bound() {
    let host = Host::new(ELSEWHERE);
    let script = "ip link set lo up && exec \"$0\" \"$@\"";
    let running = Running::start(host.prefixed(&["unshare", "-n", "sh", "-c", script], &["run"])).await;
    let addresses: Vec<_> = running.addresses().iter().map(ToString::to_string).collect();
    assert_eq!(addresses, ["127.0.0.1:8139", "[::1]:8139"]);
    for said in ["none of the addresses in `listen`", "cannot listen on 192.0.2.77:8140: "] {
        let line = running.line(said).expect("it does not say so");
        assert!(line.contains(" ERROR "), "{line}");
    }
    assert_eq!(ending(running.end(Signal::TERM).await), (Some(0), None));
    assert!(!host.state().join("accepted.toml").exists(), "a configuration that nobody can listen with is no good one");
}

/// Where the default ones are taken too, there is nothing left to do.
#[tokio::test]
async fn run_exits_with_69_where_nothing_can_be_bound() {
    let first = Host::new("");
    let script = "ip link set lo up && exec \"$0\" \"$@\"";
    let first = Running::start(first.prefixed(&["unshare", "-n", "sh", "-c", script], &["run"])).await;
    let pid = first.pid().to_string();
    let host = Host::new(ELSEWHERE);
    let output = output(host.prefixed(&["nsenter", "-t", &pid, "-n", "timeout", "10"], &["run"])).await;
    let err = text(&output.stderr);
    assert_eq!(output.status.code(), Some(69), "{err}");
    assert!(err.contains("cannot listen on 192.0.2.77:8140: "), "{err}");
    assert!(!host.state().join("accepted.toml").exists(), "a configuration that nobody can listen with is no good one");
    assert_eq!(ending(first.end(Signal::TERM).await), (Some(0), None));
}

/// What goes to a file is plain, with a time.
#[tokio::test]
async fn a_log_that_is_no_journal_has_times_and_no_colour() {
    let dns = Dns::start().await;
    let host = Host::new(&config(&dns));
    let mut command = host.command(&["run"]);
    // As inherited by somebody who has redirected the output since.
    command.env("JOURNAL_STREAM", "1:2");
    let running = Running::start(command).await;
    for line in running.lines() {
        assert!(line.starts_with("20") && line.contains("Z  INFO "), "{line}");
        assert!(!line.contains('\x1b'), "{line}");
    }
}

/// Standard error is the journal's socket where `$JOURNAL_STREAM` says so.
#[tokio::test]
async fn a_log_to_the_journal_has_levels_and_no_times() {
    let dns = Dns::start().await;
    let host = Host::new(&config(&dns));
    let log = host.file().with_file_name("log");
    let stderr = fs::File::create(&log).unwrap();
    let meta = stderr.metadata().unwrap();
    let mut command = host.command(&["run"]);
    command.env("JOURNAL_STREAM", format!("{}:{}", meta.dev(), meta.ino())).stderr(stderr).stdout(Stdio::null());
    let mut child = command.spawn().unwrap();
    let read = || fs::read_to_string(&log).unwrap();
    eventually("it is ready", || read().contains("listen=")).await;
    let port = read().split_once("127.0.0.1:").unwrap().1.chars().take_while(char::is_ascii_digit).collect::<String>();
    ask(format!("127.0.0.1:{port}").parse().unwrap(), "www.example.org:443").await;
    eventually("the line of the connection", || read().contains("from=")).await;
    child.kill().unwrap();
    child.wait().unwrap();
    let lines = read();
    let starts: Vec<_> = lines.lines().map(|line| line.split_once(' ').unwrap().0).collect();
    assert_eq!(starts, ["<6>running", "<6>ready", "<4>refused"], "{lines}");
}
