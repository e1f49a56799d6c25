//! What became of the last connections, and what each server has done, for who asks. No io.
//!
//! All of it is bounded, and kept in the state directory: where the daemon leaves when it is idle, there would be nothing
//! to see otherwise.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use crate::dial::{Did, Try};
use crate::discovery::Source;
use crate::error::Kind;
use crate::moment::{Clocks, Moment};
use crate::report::{Facts, Outcome, Report};
use crate::tunnel::End;

/// Connections remembered one by one.
pub const RECENT: usize = 32;

/// Roles and servers remembered at once. A host has a handful.
const ROLES: usize = 64;
const SERVERS: usize = 256;

/// Characters that are kept of a text. What goes into an agent's log is longer only where many servers have failed.
const WORDS: usize = 400;

/// How connections ended.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct History {
    /// The last of them, the newest in front.
    recent: VecDeque<Connection>,
    /// The last one of each role.
    roles: BTreeMap<String, Latest>,
    /// What each role's servers have done.
    servers: Vec<Served>,
}

/// One connection that has ended.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Connection {
    /// When it ended.
    pub at: Moment,
    /// From accept to end.
    pub duration_seconds: f64,
    /// How it ended.
    pub outcome: Ending,
    /// The role; absent: no role's, or nothing was known yet.
    pub role: Option<String>,
    /// What was asked for, `NAME:PORT`; absent where it never said.
    pub asked: Option<String>,
    /// How it came in: `connect`, `tls` or `http`.
    pub via: Option<String>,
    /// Which row of the table decided, as in the log.
    pub row: Option<String>,
    /// Who named the servers, as in the log.
    pub source: Option<String>,
    /// The server that got it, `NAME:PORT`.
    pub server: Option<String>,
    /// That server's address, `ADDRESS:PORT`.
    pub address: Option<String>,
    /// The servers tried, and what they did, as in the log.
    pub tried: Option<String>,
    /// What was wrong with DNS on the way.
    pub dns: Option<String>,
    /// Bytes to the server.
    pub bytes_up: u64,
    /// Bytes to the agent.
    pub bytes_down: u64,
    /// Why it ended, in words: as in the log, which is what the agent was told where it was refused.
    pub end: String,
}

/// How a connection ended, in a word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ending {
    /// A tunnel that ended as it should.
    Carried,
    /// A tunnel that the server broke, or that was silent for too long.
    Broken,
    /// There was no tunnel.
    #[default]
    Refused,
}

impl Ending {
    /// Each of them.
    pub const ALL: [Ending; 3] = [Ending::Carried, Ending::Broken, Ending::Refused];

    /// The word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Ending::Carried => "carried",
            Ending::Broken => "broken",
            Ending::Refused => "refused",
        }
    }
}

/// The last connection of a role, and its last fault.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Latest {
    /// When it ended; 1970: none has ended yet.
    pub at: Moment,
    /// What was asked for, `NAME:PORT`.
    pub asked: Option<String>,
    /// Who named the servers, as in the log.
    pub source: Option<String>,
    /// Since when the answer of DNS that they are from is past its TTL, and no newer one was to be had.
    pub stale_since: Option<Moment>,
    /// The server that got it; of one that came to nothing, that of the one before.
    pub server: Option<String>,
    /// The last one that did not end as it should.
    pub error: Option<Fault>,
    /// Whether that was this one; where this one says nothing of the role, as its client went away, or the daemon stopped, the one
    /// before.
    pub failed: bool,
}

/// Something that went wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Fault {
    /// When.
    pub at: Moment,
    /// In words.
    pub what: String,
    /// Of a connection that no server took the same without what differs from one to the next: each server once, in the order of
    /// names, and what it did, but not for how long.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plain: Option<String>,
}

impl Fault {
    fn new(at: Moment, what: String) -> Self {
        Fault { at, what, plain: None }
    }
}

/// What a server has done for a role, since the state directory was new.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Served {
    /// The role.
    pub role: String,
    /// `NAME:PORT`.
    pub server: String,
    /// When it was last tried.
    pub used: Moment,
    /// Tunnels to it that ended as they should.
    pub carried: u64,
    /// Tunnels that it broke, or that were silent for too long.
    pub broken: u64,
    /// Attempts that it refused, reset, closed, or answered with an alert. One that was merely slower than another server
    /// is not among them.
    pub failed: u64,
    /// Bytes to it.
    pub bytes_up: u64,
    /// Bytes from it.
    pub bytes_down: u64,
    /// What it did wrong last.
    pub error: Option<Fault>,
}

impl History {
    /// Remembers a connection that has ended. One that the daemon's own end cut short has not.
    pub fn note(&mut self, report: &Report, clocks: &Clocks) {
        let Some(outcome) = &report.outcome else { return };
        let (ending, facts) = (Ending::of(outcome), report.facts());
        let at = clocks.at(clocks.now);
        let end = cut(outcome.to_string());
        if let Some(role) = &facts.role {
            self.note_tries(role, &report.course.tries, at);
            if let Some(server) = &facts.server {
                let served = self.served(role, server, at);
                match ending {
                    Ending::Carried => served.carried = served.carried.saturating_add(1),
                    Ending::Broken => {
                        served.broken = served.broken.saturating_add(1);
                        served.error = Some(Fault::new(at, end.clone()));
                    }
                    Ending::Refused => {}
                }
                served.bytes_up = served.bytes_up.saturating_add(report.carried.up);
                served.bytes_down = served.bytes_down.saturating_add(report.carried.down);
            }
            self.note_role(role, &facts, verdict(outcome), at, &end, plain(role, report));
        }
        let connection = Connection {
            at,
            duration_seconds: (report.started.elapsed().as_secs_f64() * 1000.0).round() / 1000.0,
            outcome: ending,
            asked: asked(&facts),
            role: facts.role,
            via: facts.via,
            row: facts.row,
            source: facts.source.map(cut),
            server: facts.server,
            address: facts.addr,
            tried: facts.tried.map(cut),
            dns: facts.dns.map(cut),
            bytes_up: report.carried.up,
            bytes_down: report.carried.down,
            end,
        };
        self.recent.truncate(RECENT - 1);
        self.recent.push_front(connection);
    }

    /// Remembers where the servers of a role were found to be named, for a connection that has begun.
    pub fn note_source(&mut self, role: &str, source: Option<&Source>, stale_since: Option<Moment>) {
        let latest = self.role(role);
        latest.source = source.map(|source| cut(source.to_string()));
        latest.stale_since = stale_since;
    }

    /// The last connections, the newest first.
    pub fn recent(&self) -> impl Iterator<Item = &Connection> {
        self.recent.iter().take(RECENT)
    }

    /// The last connection of a role.
    pub fn latest(&self, role: &str) -> Option<&Latest> {
        self.roles.get(role)
    }

    /// What the servers of a role have done.
    pub fn servers<'h>(&'h self, role: &'h str) -> impl Iterator<Item = &'h Served> {
        self.servers.iter().filter(move |served| served.role == role)
    }

    fn note_tries(&mut self, role: &str, tries: &[Try], at: Moment) {
        for tried in tries.iter().filter(|tried| has_failed(&tried.did)) {
            let served = self.served(role, &tried.server.to_string(), at);
            served.failed = served.failed.saturating_add(1);
            served.error = Some(Fault::new(at, cut(tried.did.to_string())));
        }
    }

    /// `failed`: whether the role did; `None`: it had no chance. `plain`: see [`Fault::plain`].
    fn note_role(
        &mut self,
        role: &str,
        facts: &Facts,
        failed: Option<bool>,
        at: Moment,
        end: &str,
        plain: Option<String>,
    ) {
        let latest = self.role(role);
        latest.at = at;
        latest.asked = asked(facts);
        if facts.server.is_some() {
            latest.server.clone_from(&facts.server);
        }
        latest.failed = failed.unwrap_or(latest.failed);
        if failed == Some(true) {
            latest.error = Some(Fault { plain, ..Fault::new(at, end.to_owned()) });
        }
    }

    fn role(&mut self, role: &str) -> &mut Latest {
        if self.roles.len() >= ROLES && !self.roles.contains_key(role) {
            let oldest = self.roles.iter().min_by_key(|(_, latest)| latest.at).map(|(role, _)| role.clone());
            oldest.and_then(|role| self.roles.remove(&role));
        }
        self.roles.entry(role.to_owned()).or_default()
    }

    fn served(&mut self, role: &str, name: &str, at: Moment) -> &mut Served {
        let at_hand = self.servers.iter().position(|known| known.role == role && known.server == name);
        let index = at_hand.unwrap_or_else(|| {
            if self.servers.len() >= SERVERS
                && let Some((oldest, _)) = self.servers.iter().enumerate().min_by_key(|(_, known)| known.used)
            {
                self.servers.swap_remove(oldest);
            }
            self.servers.push(Served { role: role.into(), server: name.into(), ..Served::default() });
            self.servers.len() - 1
        });
        let known = &mut self.servers[index];
        known.used = at;
        known
    }
}

impl Ending {
    fn of(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Tunnel(End::ServerBroke(_) | End::Idle(_)) => Ending::Broken,
            Outcome::Tunnel(_) => Ending::Carried,
            Outcome::Refused { .. } => Ending::Refused,
        }
    }
}

/// Whether the role failed its client; `None`: the client went away before, or the daemon itself did, which says nothing of
/// the role.
fn verdict(outcome: &Outcome) -> Option<bool> {
    match outcome {
        Outcome::Refused { error, .. } if matches!(error.kind, Kind::Silent | Kind::Stopping) => None,
        outcome => Some(Ending::of(outcome) != Ending::Carried),
    }
}

/// See [`Fault::plain`].
fn plain(role: &str, report: &Report) -> Option<String> {
    let Some(Outcome::Refused { error, .. }) = &report.outcome else { return None };
    let mut each: Vec<String> =
        report.course.tries.iter().map(|tried| format!("{} {}", tried.server, tried.did)).collect();
    if each.is_empty() || !matches!(error.kind, Kind::Unreachable | Kind::TimedOut) {
        return None;
    }
    each.sort();
    each.dedup();
    Some(cut(format!("no {role} server reachable: {}", each.join("; "))))
}

/// Whether that is the server's failure, and not its slowness or this host's own fault.
fn has_failed(did: &Did) -> bool {
    !did.is_pending() && !did.is_local() && !matches!(did, Did::Accept | Did::Answer | Did::Wait)
}

fn asked(facts: &Facts) -> Option<String> {
    let name = facts.name.as_deref()?;
    let port = facts.port?;
    Some(if name.contains(':') { format!("[{name}]:{port}") } else { format!("{name}:{port}") })
}

fn cut(mut words: String) -> String {
    if let Some((at, _)) = words.char_indices().nth(WORDS) {
        words.truncate(at);
        words.push_str("...");
    }
    words
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::time::{Duration, SystemTime};

    use tokio::time::Instant;

    use super::*;
    use crate::error::Error;
    use crate::report::Told;
    use crate::role::{Asked, Role, Row, Via};

    fn clocks(second: u64) -> Clocks {
        Clocks { now: Instant::now(), wall: SystemTime::UNIX_EPOCH + Duration::from_secs(second) }
    }

    fn tried(server: &str, did: Did) -> Try {
        let server = server.parse().unwrap();
        Try { server, addr: "192.0.2.1:8140".parse().ok(), did, started: Instant::now(), took: Duration::ZERO }
    }

    /// A connection that asked for `puppet.test:8140`.
    fn ended(tries: Vec<Try>, outcome: Outcome) -> Report {
        let mut report = Report::new(([127, 0, 0, 1], 1).into());
        let host = "puppet.test".parse().ok();
        report.asked = Some(Asked { via: Via::Connect, host, port: 8140 });
        (report.row, report.role) = (Some(Row::OfficialName), Some(Role::new("compile")));
        (report.carried.up, report.carried.down) = (3, 5);
        report.course.tries = tries;
        report.outcome = Some(outcome);
        report
    }

    fn refused(why: &str) -> Outcome {
        Outcome::Refused { error: Error::new(Kind::Unreachable, why), told: Told::Status(502) }
    }

    impl History {
        /// One in which there is no room left.
        pub(crate) fn full() -> Self {
            let mut history = History::default();
            for n in 0..2 * SERVERS {
                let tries = vec![tried(&format!("s{n}.test:1"), Did::Answer)];
                let mut report = ended(tries, refused(&"x".repeat(5000)));
                report.role = Some(Role::new(&format!("r{n}")));
                report.dns = Some("d".repeat(5000));
                history.note(&report, &clocks(n as u64));
            }
            history
        }
    }

    #[test]
    fn a_connection_says_who_got_it_and_what_the_others_did() {
        let mut history = History::default();
        let tries = || vec![tried("a.test:8140", Did::Refuse), tried("b.test:8140", Did::Answer)];
        history.note(&ended(tries(), Outcome::Tunnel(End::ClientClosed)), &clocks(10));
        let connection = history.recent().next().unwrap();
        assert_eq!(connection.asked.as_deref(), Some("puppet.test:8140"));
        assert_eq!(connection.server.as_deref(), Some("b.test:8140"));
        assert_eq!((connection.bytes_up, connection.bytes_down, connection.outcome), (3, 5, Ending::Carried));
        assert_eq!((connection.at, connection.end.as_str()), (Moment::from_unix(10), "client closed"));
        let servers: Vec<_> = history.servers("compile").collect();
        let fault = Fault::new(Moment::from_unix(10), "refused".into());
        assert_eq!(
            (servers[0].server.as_str(), servers[0].failed, &servers[0].error),
            ("a.test:8140", 1, &Some(fault))
        );
        assert_eq!((servers[1].carried, servers[1].bytes_down, &servers[1].error), (1, 5, &None));
        assert_eq!(history.servers("ca").count(), 0);
    }

    #[test]
    fn who_was_only_slower_has_not_failed() {
        let mut history = History::default();
        let tries = vec![tried("a.test:8140", Did::Mute), tried("b.test:8140", Did::Answer)];
        history.note(&ended(tries, Outcome::Tunnel(End::ClientClosed)), &clocks(10));
        assert_eq!(history.servers("compile").map(|s| s.server.as_str()).collect::<Vec<_>>(), ["b.test:8140"]);
    }

    #[test]
    fn a_fault_of_a_role_stays_known_and_its_end_too() {
        let mut history = History::default();
        let good = || ended(vec![tried("a.test:8140", Did::Answer)], Outcome::Tunnel(End::ClientClosed));
        history.note(&good(), &clocks(1));
        history.note(&ended(vec![tried("a.test:8140", Did::Refuse)], refused("none reachable")), &clocks(2));
        let latest = history.latest("compile").unwrap();
        assert_eq!((latest.failed, latest.server.as_deref()), (true, Some("a.test:8140")));
        history.note(&good(), &clocks(3));
        let latest = history.latest("compile").unwrap();
        assert!(!latest.failed);
        assert_eq!(latest.error.as_ref().unwrap().at, Moment::from_unix(2));
        assert!(latest.error.as_ref().unwrap().what.contains("none reachable"));
    }

    /// For who compares it with that of the last run.
    #[test]
    fn a_fault_is_told_without_order_and_time_too() {
        let mut history = History::default();
        let plain = |tries, history: &mut History| {
            history.note(&ended(tries, refused("none within 251 ms")), &clocks(1));
            history.latest("compile").unwrap().error.clone().unwrap().plain.unwrap()
        };
        let (a, b) = (|| tried("a.test:8140", Did::Refuse), || tried("b.test:8140", Did::Mute));
        let one = plain(vec![b(), a(), a()], &mut history);
        assert_eq!(one, "no compile server reachable: a.test:8140 refused; b.test:8140 accepted and said nothing");
        assert_eq!(plain(vec![a(), b()], &mut history), one);
    }

    #[test]
    fn a_client_that_goes_away_says_nothing_of_the_role() {
        let mut history = History::default();
        for (second, kind) in [(1, Kind::Silent), (2, Kind::Stopping)] {
            let outcome = Outcome::Refused { error: Error::new(kind, "gone"), told: Told::Nothing };
            history.note(&ended(vec![], outcome), &clocks(second));
            let latest = history.latest("compile").unwrap();
            assert_eq!((latest.failed, &latest.error), (false, &None), "{kind:?}");
        }
        history.note(&ended(vec![], refused("none reachable")), &clocks(3));
        let outcome = Outcome::Refused { error: Error::new(Kind::Silent, "gone"), told: Told::Nothing };
        history.note(&ended(vec![], outcome), &clocks(4));
        let latest = history.latest("compile").unwrap();
        assert!(
            latest.failed && latest.error.as_ref().unwrap().at == Moment::from_unix(3),
            "nor that it is well again"
        );
    }

    #[test]
    fn a_server_that_breaks_a_tunnel_is_told_of() {
        let mut history = History::default();
        let broke = Outcome::Tunnel(End::ServerBroke(ErrorKind::ConnectionReset));
        history.note(&ended(vec![tried("a.test:8140", Did::Answer)], broke), &clocks(4));
        let served = history.servers("compile").next().unwrap();
        assert_eq!((served.broken, served.carried), (1, 0));
        assert_eq!(served.error.as_ref().unwrap().what, "server: connection reset");
    }

    #[test]
    fn nothing_piles_up() {
        let history = History::full();
        assert_eq!((history.recent().count(), history.roles.len(), history.servers.len()), (RECENT, ROLES, SERVERS));
        assert!(history.latest("r0").is_none() && history.latest(&format!("r{}", 2 * SERVERS - 1)).is_some());
        assert!(history.recent().all(|connection| connection.end.chars().count() <= WORDS + 3));
        assert!(serde_json::to_vec(&history).unwrap().len() < 256 * 1024);
    }

    #[test]
    fn what_was_cut_short_has_not_ended() {
        let mut history = History::default();
        let mut report = ended(vec![], refused(""));
        report.outcome = None;
        history.note(&report, &clocks(1));
        assert_eq!(history, History::default());
    }
}
