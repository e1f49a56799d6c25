//! What became of a connection: one model, of which the log line is the first view.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::dial::{Did, Try, describe};
use crate::discovery::Source;
use crate::error::{Error, Kind};
use crate::race::Course;
use crate::role::{Asked, Role, Row};
use crate::tunnel::{Carried, End};

/// The story of one connection. Dropping it writes its one log line, so that no path through the code can forget to.
#[derive(Debug)]
pub struct Report {
    /// The client.
    pub from: SocketAddr,
    /// When it was accepted.
    pub started: Instant,
    /// How long it took to know what it wants.
    pub sniffed: Option<Duration>,
    /// What it asked for.
    pub asked: Option<Asked>,
    /// Which row of the table decided.
    pub row: Option<Row>,
    /// The role; `None`: a foreign name, or nothing was known yet.
    pub role: Option<Role>,
    /// Who named the candidates.
    pub source: Option<Source>,
    /// Which SRV records named nobody, in words that follow those on the servers tried instead.
    pub in_vain: String,
    /// What was wrong with DNS on the way.
    pub dns: Option<String>,
    /// How busy the two said they are of which the freer one was to be taken.
    pub load: Option<String>,
    /// The candidates tried.
    pub course: Course,
    /// From accept until a server had answered, where it had to.
    pub answered: Option<Duration>,
    /// What went through.
    pub carried: Carried,
    /// How it ended; `None`: the daemon stopped first.
    pub outcome: Option<Outcome>,
    /// What another process knew of its beginning, where that was there.
    pub before: Option<Box<Facts>>,
    /// Over how many restarts of the daemon it was carried.
    pub restarts: u32,
    /// Whether another process goes on with it, which will write the line.
    is_handed_over: bool,
}

/// What the log says of how a connection began, in its words: so the next process can say it too, be it of another
/// version.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "they are the fields of the log line")]
pub struct Facts {
    pub role: Option<String>,
    pub row: Option<String>,
    pub via: Option<String>,
    pub name: Option<String>,
    pub port: Option<u16>,
    pub sni: Option<String>,
    pub source: Option<String>,
    pub dns: Option<String>,
    pub load: Option<String>,
    pub tried: Option<String>,
    pub server: Option<String>,
    pub addr: Option<String>,
    pub sniff_ms: Option<String>,
    pub connect_ms: Option<String>,
    pub answer_ms: Option<String>,
}

/// How a connection ended.
#[derive(Debug)]
pub enum Outcome {
    /// A tunnel came about, and ended so.
    Tunnel(End),
    /// It was refused, or nothing could be reached.
    Refused {
        /// Why.
        error: Error,
        /// What the client was told.
        told: Told,
    },
}

/// What a refused client was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// An HTTP status, with the reason.
    Status(u16),
    /// A TLS alert.
    Alert(u8),
    /// Nothing: it had gone.
    Nothing,
}

impl Told {
    fn status(self) -> Option<u16> {
        if let Told::Status(status) = self { Some(status) } else { None }
    }

    fn alert(self) -> Option<u8> {
        if let Told::Alert(alert) = self { Some(alert) } else { None }
    }
}

impl Report {
    /// The story begins.
    pub fn new(from: SocketAddr) -> Self {
        Report {
            from,
            started: Instant::now(),
            sniffed: None,
            asked: None,
            row: None,
            role: None,
            source: None,
            in_vain: String::new(),
            dns: None,
            load: None,
            course: Course::default(),
            answered: None,
            carried: Carried::default(),
            outcome: None,
            before: None,
            restarts: 0,
            is_handed_over: false,
        }
    }

    /// Another process goes on with the connection, and with its story.
    pub fn hand_over(mut self) {
        self.is_handed_over = true;
    }

    /// How it began.
    pub fn facts(&self) -> Facts {
        if let Some(before) = &self.before {
            return (**before).clone();
        }
        let asked = self.asked.as_ref();
        let chosen = self.chosen();
        let name = asked.and_then(|a| a.host.as_ref());
        // CONNECT's name has decided; a different one inside is only told.
        let other_sni = self.carried.sni.as_ref().filter(|sni| name != Some(*sni));
        let ms = |duration: Duration| Millis(duration).to_string();
        Facts {
            role: self.role.as_ref().map(ToString::to_string),
            row: self.row.map(|row| row.as_str().into()),
            via: asked.map(|a| a.via.as_str().into()),
            name: name.map(ToString::to_string),
            port: asked.map(|a| a.port),
            sni: other_sni.map(ToString::to_string),
            source: self.source.as_ref().map(ToString::to_string),
            dns: self.dns.clone(),
            load: self.load.clone(),
            tried: (!self.course.tries.is_empty()).then(|| describe(&self.course.tries)),
            server: chosen.map(|t| t.server.to_string()),
            addr: chosen.and_then(|t| t.addr).map(|addr| addr.to_string()),
            sniff_ms: self.sniffed.map(ms),
            connect_ms: self.course.accepted.map(|at| ms(at - self.started)),
            answer_ms: self.answered.map(ms),
        }
    }

    /// Adds what was wrong with DNS.
    pub fn note_dns(&mut self, what: Option<String>) {
        match (&mut self.dns, what) {
            (Some(dns), Some(what)) => {
                dns.push_str("; ");
                dns.push_str(&what);
            }
            (None, what) => self.dns = what,
            (Some(_), None) => {}
        }
    }

    /// The candidate that got the connection.
    pub fn chosen(&self) -> Option<&Try> {
        self.course.tries.iter().find(|t| matches!(t.did, Did::Accept | Did::Answer))
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Tunnel(end) => write!(f, "{end}"),
            Outcome::Refused { error, .. } => write!(f, "{error}"),
        }
    }
}

/// Milliseconds as the log writes them.
struct Millis(Duration);

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1}", self.0.as_secs_f64() * 1000.0)
    }
}

/// The log line, at a level that tells a connection of no consequence from one that failed.
macro_rules! line {
    ($level:ident, $report:expr, $message:literal) => {{
        let report: &Report = $report;
        let facts = report.facts();
        let Facts { role, row, via, name, port, sni, source, dns, load, tried, server, addr, .. } = &facts;
        let Facts { sniff_ms, connect_ms, answer_ms, .. } = &facts;
        let (refused, told) = match &report.outcome {
            Some(Outcome::Refused { error, told }) => (Some(error), Some(told)),
            _ => (None, None),
        };
        let end: &dyn fmt::Display = match &report.outcome {
            Some(outcome) => outcome,
            None if std::thread::panicking() => &"an error in puppet-shim",
            None => &"puppet-shim stopped",
        };
        tracing::$level!(
            target: "puppet_shim::connection",
            role = role.as_deref(),
            row = row.as_deref(),
            via = via.as_deref(),
            name = name.as_deref(),
            port,
            sni = sni.as_deref(),
            source = source.as_deref(),
            dns = dns.as_deref(),
            load = load.as_deref(),
            tried = tried.as_deref(),
            server = server.as_deref(),
            addr = addr.as_deref(),
            from = %report.from,
            up = report.carried.up,
            down = report.carried.down,
            sniff_ms = sniff_ms.as_deref(),
            connect_ms = connect_ms.as_deref(),
            answer_ms = answer_ms.as_deref(),
            ms = %Millis(report.started.elapsed()),
            status = told.and_then(|told| told.status()),
            alert = told.and_then(|told| told.alert()),
            side = refused.map(|error| error.kind.side().as_str()),
            restarts = (report.restarts > 0).then_some(report.restarts),
            end = %end,
            $message
        );
    }};
}

impl Drop for Report {
    fn drop(&mut self) {
        if self.is_handed_over {
            return;
        }
        match &self.outcome {
            Some(Outcome::Tunnel(End::ServerBroke(_) | End::Idle(_))) => line!(warn, self, "broken"),
            Some(Outcome::Tunnel(_)) => line!(info, self, "carried"),
            // A port check, or a browser's spare connection: nobody was refused anything.
            Some(Outcome::Refused { error, .. }) if error.kind == Kind::Silent => line!(info, self, "refused"),
            Some(Outcome::Refused { .. }) => line!(warn, self, "refused"),
            None => line!(warn, self, "cut"),
        }
    }
}
