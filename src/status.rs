//! What the daemon does, for whoever wants to see it: one model, of which the table, JSON, the page, the metrics and the
//! fact are views.
//!
//! Moments are RFC 3339 in UTC, spans are seconds with a fraction, sizes are bytes. A field that an older puppet-shim does
//! not know of is its type's default; one that only a newer one knows is passed over.

mod configured;
pub mod fact;
mod idle;
mod mode;
mod of;
mod problem;
pub mod prometheus;
mod query;
mod roles;
mod socket;
mod standing;
pub mod table;

use serde::{Deserialize, Serialize};

use crate::config::{Config, Provenance};
use crate::connection::Shared;
use crate::counters::{Counters, Tally};
use crate::discovery::Discovery;
use crate::gauge::Gauge;
use crate::health::Rank;
use crate::history::History;
use crate::listen::Door;
use crate::moment::{Clocks, Moment};
use crate::pool::Pool;
use crate::role::Table;

pub use self::idle::{from_state, recalled};
pub use self::query::{PATIENCE, QueryError, query, query_within};
pub use self::socket::StatusSocket;
pub use self::standing::Standing;
pub use crate::history::{Connection, Ending, Fault};

/// Everything.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    /// The version of the puppet-shim that says so.
    pub version: String,
    /// When it was so.
    pub at: Moment,
    /// The daemon's process. Absent: none runs, and the rest is what the state directory knows.
    pub process: Option<Process>,
    /// Whether none could be asked, since there is to be no socket for it: then one may run all the same.
    pub is_unasked: bool,
    /// The socket on which no process answers, where somebody listens all the same and it cannot be told that it is systemd:
    /// then one may run that says nothing there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unanswered: Option<String>,
    /// Where no process says it: why what is written down could not be read either. Then nothing is known of what was done, and
    /// each count of it is 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unread: Option<Unread>,
    /// What needs a human, and what one might want to know; the worst first.
    pub problems: Vec<Problem>,
    /// Where it listens, or should.
    pub listeners: Vec<ListenerStatus>,
    /// Which configuration holds.
    pub configuration: ConfigurationStatus,
    /// The domain of the short names and of the SRV records; absent: none is known.
    pub domain: Option<String>,
    /// Connections that are open, tunnels included.
    pub connections_open: u64,
    /// How many there may be at once (`limits.connections`).
    pub connections_limit: u64,
    /// The roles, in the order of the configuration.
    pub roles: Vec<RoleStatus>,
    /// What became of connections that were no role's.
    pub foreign: Totals,
    /// The last connections that have ended, the newest first, 32 at most.
    pub recent: Vec<Connection>,
}

/// The daemon's process.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// Since when it serves.
    pub started: Moment,
    /// For how long it has.
    pub uptime_seconds: f64,
    /// After how long without a connection it leaves, and systemd's sockets start it again; absent: it does not.
    pub idle_exit_seconds: Option<f64>,
}

/// Why what is written down could not be read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Unread {
    /// What is wrong, a sentence without its full stop.
    pub why: String,
    /// What to do.
    pub help: String,
}

/// An address that is listened on, or should be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ListenerStatus {
    /// `ADDRESS:PORT`.
    pub address: String,
    /// What it is.
    pub state: ListenerState,
    /// Why it is not listened on.
    pub error: Option<String>,
    /// What to do about that.
    pub help: Option<String>,
}

/// What an address is that should be listened on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ListenerState {
    /// systemd holds it and has passed it on to the daemon.
    Inherited,
    /// The daemon has bound it itself.
    Bound,
    /// The daemon could not listen on it.
    Failed,
    /// It is of IPv6, which this host does not have, so that nobody comes there.
    Absent,
    /// No daemon runs, and somebody listens, such as systemd, which starts one for the next connection.
    Waiting,
    /// No daemon runs, and nobody listens.
    #[default]
    Closed,
}

impl ListenerState {
    /// Whether somebody listens there.
    pub fn is_open(self) -> bool {
        matches!(self, ListenerState::Inherited | ListenerState::Bound | ListenerState::Waiting)
    }
}

/// Which configuration holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ConfigurationStatus {
    /// Where it came from.
    pub origin: ConfigurationOrigin,
    /// The file that holds.
    pub file: Option<String>,
    /// The file that should, and cannot be used.
    pub rejected: Option<String>,
    /// When it was read.
    pub read: Option<Moment>,
    /// What there is to say of it, each as `check` has it: warnings, and the errors of a file that was passed over.
    pub diagnostics: Vec<String>,
    /// When the file was to be read again and could not be used, so that it went on as before.
    pub reload_failed: Option<Moment>,
    /// What was wrong with it then.
    pub reload_diagnostics: Vec<String>,
}

/// Where a configuration came from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConfigurationOrigin {
    /// The file.
    File,
    /// The one accepted last, because the file cannot be used.
    LastAccepted,
    /// The defaults, because there is no file.
    #[default]
    Defaults,
    /// The defaults, because the file cannot be used and no accepted one is left.
    DefaultsInstead,
}

impl ConfigurationOrigin {
    /// Whether something else holds than what the admin wrote.
    pub fn is_fallback(self) -> bool {
        matches!(self, ConfigurationOrigin::LastAccepted | ConfigurationOrigin::DefaultsInstead)
    }
}

/// One role.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RoleStatus {
    /// Its name.
    pub role: String,
    /// The names that mean it.
    pub names: Vec<String>,
    /// The ports that mean it.
    pub ports: Vec<u16>,
    /// How its servers of one SRV priority are chosen among: `srv`, `hash` or `least-loaded`.
    pub balance: String,
    /// Who names its servers; absent: nobody has asked since anything is known, or nobody names any.
    pub source: Option<SourceStatus>,
    /// Since when the answer of DNS that they are from is past its TTL, and no newer one was to be had.
    pub stale_since: Option<Moment>,
    /// How long that answer still holds; absent: it does not come from DNS, or its time is over, and the next connection
    /// asks again.
    pub ttl_left_seconds: Option<f64>,
    /// The record sets looked at for it, in order.
    pub records: Vec<RecordSetStatus>,
    /// Its servers, by SRV priority; then those that it had earlier.
    pub servers: Vec<ServerStatus>,
    /// Tunnels that are open.
    pub tunnels_open: u64,
    /// What became of its connections since the state directory was new.
    pub totals: Totals,
    /// When its last connection ended.
    pub last: Option<Moment>,
    /// The server that its last tunnel went to, `NAME:PORT`.
    pub last_server: Option<String>,
    /// Whether its last connection did not end as it should; that is the last error then. One whose client went away before
    /// anything came of it, or that the daemon's own stop refused, says nothing and does not count.
    pub last_failed: bool,
    /// The last of its connections that did not end as they should.
    pub last_error: Option<Fault>,
}

/// Who names a role's servers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SourceStatus {
    /// `srv`: SRV records of its own; `fallback`: those of `compile`; `static`: the list in the configuration; `name`:
    /// there is none of these, so it is the name that the agent asks for.
    pub kind: String,
    /// The owner name of the SRV records.
    pub owner: Option<String>,
    /// In words, as the log has it.
    pub words: String,
}

/// A set of SRV records.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RecordSetStatus {
    /// Its owner name.
    pub owner: String,
    /// How many records it has.
    pub records: usize,
    /// How new it is.
    pub freshness: Freshness,
    /// How long it holds (cached), or has not held any longer (expired, stale).
    pub seconds: Option<f64>,
    /// The nameserver that gave it, as the configuration would write it.
    pub nameserver: Option<String>,
    /// Whether an earlier process asked for it.
    pub from_disk: bool,
    /// Records that may not be used, and why.
    pub refused: Vec<String>,
    /// Why there is no answer, or none that is newer.
    pub error: Option<String>,
}

/// How new an answer of DNS is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Freshness {
    /// Within its TTL.
    Cached,
    /// Past its TTL, and nobody has needed it since: the next connection asks.
    Expired,
    /// Past its TTL, and DNS has given no newer one.
    Stale,
    /// There is none.
    #[default]
    None,
}

/// One server of a role.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServerStatus {
    /// `NAME:PORT`, as discovery has it.
    pub server: String,
    /// Whether the role has it now; what it had earlier is listed as long as it is remembered.
    pub is_current: bool,
    /// SRV priority; of a static server its place in the list.
    pub priority: u16,
    /// SRV weight.
    pub weight: u16,
    /// Whether the agent's run is with it.
    pub is_pinned: bool,
    /// When it was last used by that run.
    pub pin_used: Option<Moment>,
    /// How it stands.
    pub rank: RankStatus,
    /// Whether its time is over and it has not answered since: one connection will try it.
    pub is_doubtful: bool,
    /// Since when something is against it.
    pub since: Option<Moment>,
    /// Until when others go first.
    pub until: Option<Moment>,
    /// What is against it.
    pub cause: Option<String>,
    /// How long it usually takes to answer; absent: it has not been seen to.
    pub usual_seconds: Option<f64>,
    /// What its certificate is worth.
    pub certificates: Vec<CertificateStatus>,
    /// Tunnels to it that are open.
    pub tunnels_open: u64,
    /// What it has done for the role since the state directory was new. `refused`: attempts that failed.
    pub totals: Totals,
    /// When it was last tried.
    pub used: Option<Moment>,
    /// What it did wrong last.
    pub last_error: Option<Fault>,
}

/// How a server stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RankStatus {
    /// Nothing against it, or its time is over.
    #[default]
    Good,
    /// Another one answered while it was still silent: others go first.
    Slow,
    /// It failed: others go first.
    Down,
}

impl From<Rank> for RankStatus {
    fn from(rank: Rank) -> Self {
        match rank {
            Rank::Good => RankStatus::Good,
            Rank::Slow => RankStatus::Slow,
            Rank::Down => RankStatus::Down,
        }
    }
}

/// What a server's certificate is worth to who asks for a name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CertificateStatus {
    /// The name asked for.
    pub asked: String,
    /// `named`: it has it; `unnamed`: it does not; `unclear`: it could not be seen.
    pub verdict: String,
    /// The names that it has, or why it could not be seen.
    pub detail: Option<String>,
}

/// Counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Totals {
    /// Tunnels that ended as they should.
    pub carried: u64,
    /// Tunnels that the server broke, or that were silent for too long.
    pub broken: u64,
    /// Connections that came to nothing.
    pub refused: u64,
    /// Bytes to servers.
    pub bytes_up: u64,
    /// Bytes to agents.
    pub bytes_down: u64,
}

impl Totals {
    /// How many ended so.
    pub fn of(&self, ending: Ending) -> u64 {
        match ending {
            Ending::Carried => self.carried,
            Ending::Broken => self.broken,
            Ending::Refused => self.refused,
        }
    }
}

impl From<&Tally> for Totals {
    fn from(tally: &Tally) -> Self {
        let Tally { carried, broken, refused, up, down } = *tally;
        Totals { carried, broken, refused, bytes_up: up, bytes_down: down }
    }
}

/// Something that somebody should know.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Problem {
    /// How bad it is.
    pub severity: ProblemSeverity,
    /// What it is about, such as `configuration`, `listener`, `role compile`.
    pub about: String,
    /// What is wrong, a sentence without its full stop.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
}

/// How bad a problem is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProblemSeverity {
    /// Somebody has to do something.
    Error,
    /// It goes on without.
    #[default]
    Warning,
}

/// What a status is made of.
pub struct Parts<'a> {
    /// The configuration that holds.
    pub config: &'a Config,
    /// Where it came from.
    pub provenance: &'a Provenance,
    /// (name, port) → role.
    pub table: &'a Table,
    /// Where servers come from. It is not asked.
    pub discovery: &'a Discovery,
    /// What is known of the servers.
    pub pool: &'a Pool,
    /// What was done, by role.
    pub counters: &'a Counters,
    /// What was done last, and by which server.
    pub history: &'a History,
    /// What is open.
    pub gauge: &'a Gauge,
    /// Where it is listened.
    pub doors: &'a [Door],
    /// Since when the process serves; `None`: none runs.
    pub started: Option<tokio::time::Instant>,
}

impl Status {
    /// That of a daemon. Its own process is meant.
    pub fn of(shared: &Shared, clocks: &Clocks) -> Self {
        // One after the other, as they are taken elsewhere too: whoever has the pool may want what was done, not reversed.
        let pool = shared.pool();
        let (counters, history) = (shared.counters().clone(), shared.history().clone());
        let provenance = shared.provenance().clone();
        let parts = Parts {
            config: &shared.config,
            provenance: &provenance,
            table: &shared.table,
            discovery: &shared.discovery,
            pool: &pool,
            counters: &counters,
            history: &history,
            gauge: &shared.gauge,
            doors: &shared.doors,
            started: Some(shared.started),
        };
        parts.status(clocks)
    }

    /// Whether somebody has to do something.
    pub fn has_errors(&self) -> bool {
        self.problems.iter().any(|problem| problem.severity == ProblemSeverity::Error)
    }
}

#[cfg(test)]
pub(crate) mod tests;
