use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::*;
use crate::config::{Origin, RejectedReload};
use crate::dial::{Did, Try};
use crate::discovery::answer::Answer;
use crate::discovery::cache::Kept;
use crate::discovery::dns::Dns;
use crate::discovery::srv::Srv;
use crate::discovery::{Answers, Source};
use crate::host::HostPort;
use crate::listen::DoorState;
use crate::pin::Set;
use crate::report::{Outcome, Report};
use crate::role::{Asked, Role, Row, Via};
use crate::tunnel::End;
use crate::verdict::Verdict;

/// A daemon of which everything is made up.
pub(crate) struct Bench {
    pub(crate) config: Config,
    pub(crate) provenance: Provenance,
    pub(crate) discovery: Discovery,
    pub(crate) pool: Pool,
    pub(crate) counters: Counters,
    pub(crate) history: History,
    pub(crate) gauge: Arc<Gauge>,
    pub(crate) doors: Vec<Door>,
    pub(crate) runs: bool,
    pub(crate) clocks: Clocks,
}

impl Bench {
    /// In the domain `test`, at 1,000,000 seconds past 1970. The process has run for a minute.
    pub(crate) fn new(text: &str) -> Self {
        let config = Config::parse(text.as_bytes(), Path::new("f")).unwrap().config;
        // No nameserver is asked.
        let dns = Dns::new(&config.dns, Path::new("/nonexistent"));
        let discovery = Discovery::new(&config, dns, Some("test".into()));
        let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        Bench {
            pool: Pool::new(config.timeouts.pin).seeded(1),
            config,
            provenance: Provenance {
                origin: Some(Origin::File("/etc/shim.toml".into())),
                read: Some(wall - Duration::from_secs(60)),
                ..Provenance::default()
            },
            discovery,
            counters: Counters::default(),
            history: History::default(),
            gauge: Arc::default(),
            doors: vec![Door { addr: "127.0.0.1:8139".parse().unwrap(), state: DoorState::Inherited }],
            runs: true,
            clocks: Clocks { now: Instant::now(), wall },
        }
    }

    /// What DNS said `ago`.
    pub(crate) fn dns_said(&self, owner: &str, records: &[&str], ttl: u64, ago: u64) {
        let records = records.iter().map(|record| record.parse::<Srv>().ok().unwrap()).collect();
        let answer = Answer { records, ttl: Duration::from_secs(ttl), from: "192.0.2.53:53".into(), is_vague: false };
        let learnt = self.clocks.now.checked_sub(Duration::from_secs(ago));
        let kept = Kept { answer: Arc::new(answer), learnt };
        self.discovery.restore(Answers { services: vec![(owner.into(), kept)], ..Answers::default() }, false);
    }

    /// A connection of `compile` that tried these, and ended so.
    pub(crate) fn connected(&mut self, tries: &[(&str, Did)], end: End) {
        let tries: Vec<Try> = tries
            .iter()
            .map(|(server, did)| Try {
                server: server.parse().unwrap(),
                addr: "192.0.2.1:8140".parse().ok(),
                did: did.clone(),
                started: self.clocks.now,
                took: Duration::from_millis(7),
            })
            .collect();
        self.pool.learn(&tries, self.clocks.now);
        let mut report = Report::new(([127, 0, 0, 1], 1).into());
        report.asked = Some(Asked { via: Via::Connect, host: "puppet.test".parse().ok(), port: 8140 });
        (report.row, report.role) = (Some(Row::OfficialName), Some(Role::new("compile")));
        report.source = Some(Source::Srv("_x-puppet._tcp.test".into()));
        (report.carried.up, report.carried.down) = (30, 50);
        report.course.tries = tries;
        report.outcome = Some(Outcome::Tunnel(end));
        self.counters.count(&report);
        self.history.note_source("compile", report.source.as_ref(), None);
        self.history.note(&report, &self.clocks);
        report.hand_over();
    }

    pub(crate) fn status(&self) -> Status {
        let parts = Parts {
            config: &self.config,
            provenance: &self.provenance,
            table: &Table::new(&self.config, Some("test".into())),
            discovery: &self.discovery,
            pool: &self.pool,
            counters: &self.counters,
            history: &self.history,
            gauge: &self.gauge,
            doors: &self.doors,
            started: self.runs.then(|| self.clocks.now.checked_sub(Duration::from_secs(60)).unwrap()),
        };
        parts.status(&self.clocks)
    }

    /// Two compilers by SRV, of which the first refuses and the second has the run.
    pub(crate) fn with_a_compiler_down() -> Self {
        let mut bench = Bench::new("idle_exit = \"2min\"");
        bench.dns_said("_x-puppet._tcp.test", &["0 5 8140 a.test", "10 5 8140 b.test"], 300, 100);
        bench.connected(&[("a.test:8140", Did::Refuse), ("b.test:8140", Did::Answer)], End::ClientClosed);
        let set = Set::from_servers(vec!["a.test:8140".parse().unwrap(), "b.test:8140".parse().unwrap()]);
        let server: HostPort = "b.test:8140".parse().unwrap();
        bench.pool.open(&Role::new("compile"), &set, &server, false, bench.clocks.now);
        bench
    }
}

fn role<'s>(status: &'s Status, name: &str) -> &'s RoleStatus {
    status.roles.iter().find(|role| role.role == name).unwrap()
}

#[tokio::test]
async fn says_which_server_and_why() {
    let bench = Bench::with_a_compiler_down();
    let status = bench.status();
    let compile = role(&status, "compile");
    let source = compile.source.as_ref().unwrap();
    assert_eq!((source.kind.as_str(), source.owner.as_deref()), ("srv", Some("_x-puppet._tcp.test")));
    let left = compile.ttl_left_seconds.unwrap();
    assert!((100.0..=200.0).contains(&left), "{left}");
    let [a, b] = compile.servers.as_slice() else { panic!("{:?}", compile.servers) };
    assert_eq!((a.server.as_str(), a.rank, a.cause.as_deref()), ("a.test:8140", RankStatus::Down, Some("refused")));
    assert_eq!((a.since, a.totals.refused, a.priority), (Some(status.at), 1, 0));
    assert!(a.until > a.since && !a.is_pinned);
    assert_eq!((b.server.as_str(), b.rank, b.priority, b.is_pinned), ("b.test:8140", RankStatus::Good, 10, true));
    assert_eq!((b.usual_seconds, b.totals.carried, b.totals.bytes_down), (Some(0.007), 1, 50));
    assert_eq!(compile.last_server.as_deref(), Some("b.test:8140"));
    assert_eq!(
        status.recent[0].tried.as_deref(),
        Some("a.test:8140 (192.0.2.1) refused; b.test:8140 (192.0.2.1) answered")
    );
    let problem = &status.problems[0];
    assert_eq!((problem.severity, problem.about.as_str()), (ProblemSeverity::Warning, "role compile"));
    assert!(!status.has_errors());
}

#[tokio::test]
async fn a_role_that_nobody_has_asked_for_says_nothing() {
    let bench = Bench::new("");
    let status = bench.status();
    assert_eq!(
        status.roles.iter().map(|role| role.role.as_str()).collect::<Vec<_>>(),
        ["ca", "compile", "files", "report"]
    );
    assert!(status.roles.iter().all(|role| role.source.is_none() && role.servers.is_empty() && role.last.is_none()));
    assert_eq!(status.problems, []);
}

#[tokio::test]
async fn an_answer_whose_time_is_over_is_no_fault() {
    let bench = Bench::new("");
    bench.dns_said("_x-puppet._tcp.test", &["0 5 8140 a.test"], 300, 4000);
    let status = bench.status();
    let compile = role(&status, "compile");
    assert_eq!((compile.records[0].freshness, compile.stale_since), (Freshness::Expired, None));
    assert_eq!((compile.ttl_left_seconds, compile.servers.len()), (None, 1));
    assert_eq!(status.problems, []);
}

#[tokio::test]
async fn a_server_that_the_role_has_no_more_is_listed_last() {
    let mut bench = Bench::with_a_compiler_down();
    bench.connected(&[("old.test:8140", Did::Answer)], End::ClientClosed);
    let status = bench.status();
    let servers: Vec<_> = role(&status, "compile").servers.iter().map(|s| (s.server.as_str(), s.is_current)).collect();
    assert_eq!(servers, [("a.test:8140", true), ("b.test:8140", true), ("old.test:8140", false)]);
}

#[tokio::test]
async fn a_static_list_is_known_from_the_start() {
    let bench = Bench::new("[role.ca]\nsrv = false\nservers = [\"ca.test\", \"other.test:1\"]");
    let status = bench.status();
    let ca = role(&status, "ca");
    assert_eq!(ca.source.as_ref().unwrap().kind, "static");
    assert_eq!(ca.servers.iter().map(|s| s.server.as_str()).collect::<Vec<_>>(), ["ca.test:8141", "other.test:1"]);
}

#[tokio::test]
async fn a_bad_configuration_needs_a_human() {
    let mut bench = Bench::new("");
    let rejected: PathBuf = "/etc/shim.toml".into();
    bench.provenance.origin = Some(Origin::LastAccepted { rejected, accepted: "/var/lib/a.toml".into() });
    bench.provenance.diagnostics = vec!["/etc/shim.toml:1:1: error".into()];
    let status = bench.status();
    assert!(status.has_errors());
    assert_eq!(status.configuration.origin, ConfigurationOrigin::LastAccepted);
    assert_eq!(status.configuration.file.as_deref(), Some("/var/lib/a.toml"));
    assert!(status.problems[0].message.contains("/etc/shim.toml cannot be used"), "{:?}", status.problems);

    let at = bench.clocks.wall;
    bench.provenance = Provenance {
        origin: Some(Origin::Defaults),
        rejected: Some(RejectedReload { at, diagnostics: vec!["wrong".into()] }),
        ..Provenance::default()
    };
    let status = bench.status();
    assert_eq!((status.configuration.reload_failed, status.has_errors()), (Some(status.at), true));
}

#[tokio::test]
async fn a_listener_that_could_not_be_had_needs_a_human() {
    let mut bench = Bench::new("idle_exit = \"1min\"");
    assert_eq!(bench.status().process.unwrap().idle_exit_seconds, Some(60.0));
    let why = "cannot listen on 127.0.0.1:1: the port is taken".into();
    let state = DoorState::Failed { why, mend: "see who has it".into() };
    bench.doors.push(Door { addr: "127.0.0.1:1".parse().unwrap(), state });
    let status = bench.status();
    assert!(status.has_errors() && status.problems[0].message.contains("the port is taken"));
    let help = status.problems[0].help.as_deref();
    assert_eq!(help, Some("see who has it; then `systemctl restart puppet-shim`"));
    assert_eq!(status.process.unwrap().idle_exit_seconds, None);
}

#[tokio::test]
async fn where_there_is_no_ipv6_nothing_is_wrong() {
    let mut bench = Bench::new("idle_exit = \"1min\"");
    bench.doors.push(Door { addr: "[::1]:8139".parse().unwrap(), state: DoorState::Absent });
    let status = bench.status();
    assert_eq!((&status.problems, status.listeners[1].state), (&Vec::new(), ListenerState::Absent));
    assert_eq!(status.process.as_ref().unwrap().idle_exit_seconds, Some(60.0));
    let metrics = prometheus::text(&status);
    assert!(metrics.contains("puppet_shim_listener_up{address=\"127.0.0.1:8139\"} 1"), "{metrics}");
    assert!(!metrics.contains("[::1]"), "{metrics}");
    assert!(table::text(&status, table::Colours::OFF).contains("[::1]:8139 (this host has no IPv6)"));
}

#[tokio::test]
async fn no_server_up_is_worse_than_one_down() {
    let mut bench = Bench::with_a_compiler_down();
    bench.connected(&[("b.test:8140", Did::Reset)], End::ClientClosed);
    let status = bench.status();
    let first = &status.problems[0];
    assert_eq!(first.severity, ProblemSeverity::Error);
    assert!(first.message.starts_with("no server is up: a.test:8140 refused; b.test:8140"), "{}", first.message);
}

/// Each says what to do, and first of all that.
#[test]
fn what_dns_has_not_answered_is_to_be_asked_for_by_the_roles_name() {
    let role = |freshness| {
        let error = Some("192.0.2.53:53 did not answer".into());
        let records = vec![RecordSetStatus { freshness, error, ..RecordSetStatus::default() }];
        let stale_since = (freshness == Freshness::Stale).then(Moment::default);
        RoleStatus { role: "artifacts".into(), records, stale_since, ..RoleStatus::default() }
    };
    for freshness in [Freshness::Stale, Freshness::None] {
        let problems = problem::all(&Status { roles: vec![role(freshness)], ..Status::default() });
        let [Problem { help: Some(help), .. }] = &problems[..] else { panic!("{problems:?}") };
        assert!(help.contains("`puppet-shim resolve --fresh artifacts`"), "{help}");
    }
}

/// Nobody may have asked for the role since.
#[tokio::test]
async fn a_fault_of_long_ago_is_no_error() {
    let mut bench = Bench::new("");
    bench.connected(&[("b.test:8140", Did::Answer)], End::ServerBroke(std::io::ErrorKind::ConnectionReset));
    assert!(bench.status().has_errors());
    bench.clocks.wall += Duration::from_secs(66 * 60);
    let status = bench.status();
    let problem = &status.problems[0];
    assert_eq!(problem.severity, ProblemSeverity::Warning, "{:?}", status.problems);
    assert!(problem.message.starts_with("its last connection failed, at 1970-01-12T13:46:40Z: server"), "{problem:?}");
    assert!(!status.has_errors());
}

#[tokio::test]
async fn a_certificate_without_the_name_is_told_of() {
    let mut bench = Bench::with_a_compiler_down();
    let (server, asked) = ("b.test:8140".parse().unwrap(), "puppet.test".parse().unwrap());
    bench.pool.conclude(&server, &asked, Verdict::Unnamed { has: "b.test".into() }, bench.clocks.now);
    let status = bench.status();
    assert!(status.problems.iter().any(|p| p.message.contains("its certificate is for b.test, not for puppet.test")));
}

#[tokio::test]
async fn is_the_same_after_json() {
    let mut bench = Bench::with_a_compiler_down();
    let _open = bench.gauge.tunnel(Some("compile"), Some("b.test:8140"));
    bench.connected(&[("b.test:8140", Did::Answer)], End::ClientClosed);
    let status = bench.status();
    assert_eq!(role(&status, "compile").tunnels_open, 1);
    let json = serde_json::to_string(&status).unwrap();
    assert_eq!(serde_json::from_str::<Status>(&json).unwrap(), status);
    // An older one knows less, a newer one more.
    assert_eq!(serde_json::from_str::<Status>("{\"version\":\"9\",\"later\":1}").unwrap().version, "9");
}
