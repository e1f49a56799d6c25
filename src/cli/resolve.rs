//! `puppet-shim resolve`: where a name would go, and why.

mod remembered;

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use serde::Serialize;
use tokio::time::Instant;

use self::remembered::Remembered;
use super::output;
use crate::config::{self, Config, Foreign};
use crate::daemon::Site;
use crate::discovery::cache::Known;
use crate::discovery::srv::Srv;
use crate::discovery::{Answers, Found, Source, Target};
use crate::host::{Host, HostError, HostPort, split_port};
use crate::listen::leads_back;
use crate::memory::{self, Learnt};
use crate::pick;
use crate::pin::Set;
use crate::pool::{Pool, Wanted};
use crate::role::{Asked, Role, Row, Via};
use crate::state::StateDirectory;

/// Puppet's `serverport`.
const SERVER_PORT: u16 = 8140;

/// `EX_USAGE` of sysexits.h.
const NO_NAME: u8 = 64;
/// `EX_IOERR`: the answer could not be told.
const NOT_TOLD: u8 = 74;

/// What `--help` ends with.
const MORE: &str = "\
Examples:
  puppet-shim resolve puppet        where `server = puppet` leads, on port 8140
  puppet-shim resolve puppet:8141   the same name with the port of another role
  puppet-shim resolve ca --fresh    a role, with what DNS says just now
  puppet-shim resolve compile --json | jq -r '.servers[] | [.host, .port, .problem] | @tsv'

Exit status:
  0   there is a server to try
  1   there is none
  64  what was asked for is no name
  74  the answer could not be written";

/// Show where a name or role would go, and why
///
/// Does what the daemon would do now and prints how the name is classified and by which row of the (name, port) table,
/// the records asked for, with the nameserver that gave them, how new they are, and which of them are passed over, the
/// targets with priority, weight, addresses and TTL, what the daemon has written down of each, and the order in which
/// they would be tried. What the daemon knows within its TTL is not asked for again, unless --fresh says so. What is
/// drawn by weight is drawn anew each time.
#[derive(Clone, Debug, clap::Args)]
#[command(after_long_help = MORE)]
pub struct ResolveArgs {
    /// A server's name as the agent would ask for it, or a role: ca, compile, files, report
    #[arg(value_name = "NAME[:PORT]|ROLE")]
    pub what: String,

    /// Print JSON, for machines
    #[arg(long)]
    pub json: bool,

    /// Ask DNS anew, whatever the daemon has written down of its answers
    #[arg(long)]
    pub fresh: bool,

    /// The configuration to use instead of /etc/puppet-shim/puppet-shim.toml
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// The whole answer.
#[derive(Debug, Serialize)]
pub struct Resolution {
    /// What was asked, as it was understood.
    pub asked: String,
    /// The row that decided; absent where a role was asked for.
    pub row: Option<Row>,
    /// The role, if it is one's.
    pub role: Option<Role>,
    /// What that means, in a sentence.
    pub because: String,
    /// The domain of short names and SRV records.
    pub domain: Option<String>,
    /// The record sets asked for, in order.
    pub records: Vec<RecordSet>,
    /// Who named the servers.
    pub source: Option<Source>,
    /// In the order in which they would be tried.
    pub servers: Vec<Candidate>,
}

/// One record set.
#[derive(Debug, Serialize)]
pub struct RecordSet {
    /// Its owner name.
    pub owner: String,
    /// How many records it has.
    pub records: usize,
    /// How long they hold.
    pub ttl_seconds: Option<u64>,
    /// `live`, `cached`, or `stale`.
    pub freshness: Option<&'static str>,
    /// Seconds for which a cached one holds, or since when a stale one does no longer.
    pub seconds: Option<u64>,
    /// Whether the daemon had it written down.
    pub from_disk: bool,
    /// The same in words, with the reason.
    #[serde(skip)]
    pub words: String,
    /// The nameserver that answered.
    pub nameserver: Option<String>,
    /// Its records that may not be used, and why.
    pub refused: Vec<String>,
    /// Why there is no answer, or none that is newer.
    pub error: Option<String>,
}

/// One server to try.
#[derive(Debug, Serialize)]
pub struct Candidate {
    /// Its name or address.
    pub host: String,
    /// The port that would be dialled.
    pub port: u16,
    /// SRV priority (of a static server: its place in the list).
    pub priority: u16,
    /// SRV weight.
    pub weight: u16,
    /// Its addresses, in the order in which they would be tried.
    pub addresses: Vec<IpAddr>,
    /// How long DNS lets the addresses hold.
    pub ttl_seconds: Option<u64>,
    /// Since when the addresses are stale, and why.
    pub stale: Option<String>,
    /// Addresses that may not be used, for they lead to this host.
    pub refused: Vec<IpAddr>,
    /// Why it would not be tried, or could not.
    pub problem: Option<String>,
    /// What the daemon has written down of it.
    pub remembered: Remembered,
}

/// Runs the command.
pub fn resolve(args: &ResolveArgs) -> ExitCode {
    let state = StateDirectory::find();
    let config = config::in_force(args.config.as_deref(), &state);
    let mut err = io::stderr().lock();
    for diagnostic in &config.diagnostics {
        let _ = writeln!(err, "{diagnostic}");
    }
    if config.origin.is_fallback() {
        let _ = writeln!(err, "resolving with {}", config.origin);
    }
    let mut pool = Pool::new(config.config.timeouts.pin);
    let mut learnt = memory::peek(&state, &mut pool).unwrap_or_else(|forgotten| {
        let _ =
            writeln!(err, "puppet-shim: {forgotten}; resolving without what is remembered of DNS and of the servers");
        Learnt::default()
    });
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = writeln!(err, "puppet-shim: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    if args.fresh {
        learnt.answers = Answers::default();
    }
    let resolution = match runtime.block_on(answer(&config.config, &args.what, &mut pool, learnt)) {
        Ok(resolution) => resolution,
        Err(error) => {
            let _ = writeln!(
                err,
                "puppet-shim: {:?} is no name: {error}; write NAME, NAME:PORT or a role, such as puppet:8140 or ca",
                args.what
            );
            return NO_NAME.into();
        }
    };
    let text = if args.json {
        serde_json::to_string_pretty(&resolution).unwrap_or_default() + "\n"
    } else {
        resolution.to_text()
    };
    if output::print(&text).is_err() {
        return NOT_TOLD.into();
    }
    let usable = resolution.servers.iter().any(|s| s.problem.is_none());
    if usable { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Looks everything up as a connection would. `pool`: what is remembered of the servers; `learnt`: what of DNS.
pub async fn answer(config: &Config, what: &str, pool: &mut Pool, learnt: Learnt) -> Result<Resolution, HostError> {
    let mut site = Site::new(config, learnt.domain.as_ref());
    // Who asks this would rather know which nameserver is silent than go on with what is old.
    site.discovery = site.discovery.patient();
    site.discovery.restore(learnt.answers, true);
    let mut name = None;
    let mut resolution = Resolution {
        asked: what.into(),
        row: None,
        role: None,
        because: String::new(),
        domain: site.table.domain().map(str::to_owned),
        records: Vec::new(),
        source: None,
        servers: Vec::new(),
    };
    let found = if let Some(role) = site.table.role(what) {
        let nobody = Asked { via: Via::Tls, host: None, port: SERVER_PORT };
        let mut asked = nobody.clone();
        // A role is asked for by the first of its own names.
        asked.host = role.names.first().and_then(|name| name.parse().ok());
        resolution.because = "the role itself was asked for".into();
        resolution.role = Some(role.role.clone());
        site.discovery.servers(&site.table, role, &asked).await
    } else {
        let (host, port) = split_port(what)?;
        name = Some(host.clone());
        by_name(config, &site, host, port, &mut resolution).await?
    };
    for step in &found.steps {
        let known = step.result.as_ref().ok();
        resolution.records.push(RecordSet {
            owner: step.owner.clone(),
            records: known.map_or(0, |known| known.answer.records.len()),
            ttl_seconds: known.map(|known| known.answer.ttl.as_secs()),
            freshness: known.map(|known| known.freshness.word()),
            seconds: known.and_then(|known| known.freshness.span()).map(|span| span.as_secs()),
            from_disk: known.is_some_and(|known| known.is_from_disk),
            words: known.map(Known::describe).unwrap_or_default(),
            nameserver: known.map(|known| known.answer.from.to_string()),
            refused: step.refused.iter().map(ToString::to_string).collect(),
            error: step.failure().map(ToString::to_string),
        });
    }
    resolution.source = found.source;
    let role = resolution.role.as_ref();
    let set = Set::of(&found.servers);
    let pinned = role.and_then(|role| pool.pins.get(role, &set, Instant::now()).cloned());
    let wanted = Wanted { role, name: name.as_ref().filter(|_| role.is_some() && config.certificates.check) };
    for server in order(&site, &found.servers, &set, wanted, pool) {
        let Some(host) = &server.target else { continue };
        let known = HostPort { host: host.clone(), port: server.port };
        let remembered = Remembered::of(pool, &known, name.as_ref(), pinned.as_ref(), Instant::now());
        resolution.servers.push(candidate(config, &site, &server, pool, remembered).await);
    }
    Ok(resolution)
}

/// As a connection would try them.
fn order(site: &Site, servers: &[Srv], set: &Set, wanted: Wanted<'_>, pool: &mut Pool) -> Vec<Srv> {
    let role = wanted.role.and_then(|role| site.table.role(role.as_str()));
    let mut left = pick::order_for(role, &site.key, servers, pool.rng());
    let lineup = pool.line_up(left.clone(), set, wanted, Instant::now());
    let candidates = lineup.candidates.into_iter().chain(lineup.last_resort);
    let record = candidates.filter_map(|candidate| {
        let HostPort { host, port } = candidate.server;
        let at = left.iter().position(|srv| srv.port == port && srv.target.as_ref() == Some(&host))?;
        Some(left.remove(at))
    });
    record.collect()
}

/// A name goes through the table, as CONNECT would take it.
async fn by_name(
    config: &Config,
    site: &Site,
    host: Host,
    port: Option<u16>,
    resolution: &mut Resolution,
) -> Result<Found, HostError> {
    let asked = Asked { via: Via::Connect, host: Some(host.clone()), port: port.unwrap_or(SERVER_PORT) };
    resolution.asked = asked.to_string();
    let (row, role) = site.table.classify(&asked);
    resolution.row = Some(row);
    let mut unsure = String::new();
    if row == Row::Foreign {
        match site.discovery.target(&site.table, &asked).await {
            Ok(Target::None) => {}
            Ok(Target::Refused(role, refused)) => {
                unsure = format!("; SRV {} names it for {}, but {refused}", refused.owner, role.role);
            }
            Ok(Target::Server(role, server)) => {
                resolution.row = Some(Row::Target);
                resolution.role = Some(role.role.clone());
                resolution.because = format!("{host} is a current target of {}: it means that very server", role.role);
                return Ok(Found { source: Some(Source::Target), servers: vec![server], steps: Vec::new() });
            }
            Err(failure) => unsure = format!(" as far as DNS tells ({failure})"),
        }
    }
    resolution.role = role.map(|r| r.role.clone());
    let Some(role) = role else {
        let itself = |host, port| Srv { priority: 0, weight: 0, port, target: Some(host) };
        let (because, servers) = match &config.foreign {
            Foreign::Refuse => ("it is refused: foreign = \"refuse\"".to_owned(), Vec::new()),
            Foreign::Direct => {
                ("it is connected to directly: foreign = \"direct\"".to_owned(), vec![itself(host, asked.port)])
            }
            Foreign::Proxy(HostPort { host, port }) => {
                (format!("it is handed to the proxy {host}:{port}"), vec![itself(host.clone(), *port)])
            }
        };
        resolution.because = format!("no role has this name, and no role has it as a target{unsure}; {because}");
        return Ok(Found { source: None, servers, steps: Vec::new() });
    };
    resolution.because = match row {
        Row::OwnName => format!("{host} belongs to {} alone, on any port", role.role),
        Row::OfficialPort => format!("{host} is an official name, and {} is the port of {}", asked.port, role.role),
        _ => format!("{host} is an official name, and no other role has port {}", asked.port),
    };
    Ok(site.discovery.servers(&site.table, role, &asked).await)
}

/// One server, with its addresses and what is remembered of it.
async fn candidate(config: &Config, site: &Site, server: &Srv, pool: &Pool, remembered: Remembered) -> Candidate {
    let mut candidate = Candidate {
        host: server.target.as_ref().map(ToString::to_string).unwrap_or_default(),
        port: server.port,
        priority: server.priority,
        weight: server.weight,
        addresses: Vec::new(),
        ttl_seconds: None,
        stale: None,
        refused: Vec::new(),
        problem: None,
        remembered,
    };
    let Some(host) = &server.target else { return candidate };
    match site.discovery.addresses(host).await {
        Ok(mut found) => {
            pool.sort_addresses(&mut found.ips, server.port, None, Instant::now());
            if found.ips.iter().all(|ip| leads_back((*ip, server.port).into(), &config.listen)) {
                candidate.problem = Some("leads back to puppet-shim's own listener".into());
            }
            candidate.addresses = found.ips;
            candidate.ttl_seconds = found.ttl.map(|ttl| ttl.as_secs());
            (candidate.stale, candidate.refused) = (found.stale, found.refused);
        }
        Err(why) => candidate.problem = Some(why.to_string()),
    }
    candidate
}

impl Resolution {
    /// For people.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = self.write(&mut text);
        text
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out, "{}", self.asked)?;
        match (&self.role, self.row) {
            (Some(role), Some(row)) => writeln!(out, "  role     {role} (row {}: {})", row.as_str(), self.because)?,
            (Some(role), None) => writeln!(out, "  role     {role} ({})", self.because)?,
            (None, _) => writeln!(out, "  role     none ({})", self.because)?,
        }
        writeln!(out, "  domain   {}", self.domain.as_deref().unwrap_or("none known: each requested name's own"))?;
        for set in &self.records {
            write!(out, "  SRV      {}: ", set.owner)?;
            match (&set.error, &set.nameserver) {
                (Some(error), None) => writeln!(out, "no answer: {error}")?,
                (_, from) => {
                    let (from, ttl) = (from.as_deref().unwrap_or("?"), set.ttl_seconds.unwrap_or(0));
                    let noun = if set.records == 1 { "record" } else { "records" };
                    write!(out, "{} {noun}, TTL {ttl} s, from {from}", set.records)?;
                    writeln!(out, ", {}", set.words)?;
                }
            }
            for refused in &set.refused {
                writeln!(out, "           passed over: {refused}")?;
            }
        }
        let Some(widest) = self.servers.iter().map(|s| s.host.len() + 6).max() else {
            return writeln!(out, "  servers  none");
        };
        let source = self.source.as_ref().map_or_else(|| "foreign".to_owned(), ToString::to_string);
        writeln!(out, "  servers  by {source}, in the order tried if asked now:")?;
        for (n, server) in self.servers.iter().enumerate() {
            let named = format!("{}:{}", server.host, server.port);
            write!(out, "  {:>5}  {named:<widest$}  priority {} weight {}", n + 1, server.priority, server.weight)?;
            let addresses: Vec<_> = server.addresses.iter().map(ToString::to_string).collect();
            if !addresses.is_empty() {
                write!(out, "  {}", addresses.join(", "))?;
            }
            if let Some(ttl) = server.ttl_seconds {
                write!(out, " (TTL {ttl} s)")?;
            }
            match &server.problem {
                Some(problem) => writeln!(out, "  {problem}")?,
                None => writeln!(out)?,
            }
            if let Some(stale) = &server.stale {
                writeln!(out, "         its addresses: {stale}")?;
            }
            for ip in &server.refused {
                writeln!(
                    out,
                    "         passed over: {ip} is on loopback, which allow_loopback = true under [dns] would allow"
                )?;
            }
            for line in server.remembered.lines() {
                writeln!(out, "         {line}")?;
            }
        }
        Ok(())
    }
}
