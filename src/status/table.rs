//! The status for people. No io.

use std::fmt::{self, Write as _};
use std::time::Duration;

use super::{
    ConfigurationOrigin, Connection, Ending, Freshness, ListenerState, ListenerStatus, ProblemSeverity, RankStatus,
    RoleStatus, ServerStatus, Standing, Status,
};
use crate::moment::Moment;

/// What a terminal is told to show a text in a colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Colours(bool);

impl Colours {
    /// Those of a terminal.
    pub const ON: Colours = Colours(true);
    /// None.
    pub const OFF: Colours = Colours(false);

    fn paint(self, code: &str, text: &str) -> String {
        if self.0 && !text.is_empty() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.into() }
    }

    fn red(self, text: &str) -> String {
        self.paint("31", text)
    }

    fn yellow(self, text: &str) -> String {
        self.paint("33", text)
    }

    fn green(self, text: &str) -> String {
        self.paint("32", text)
    }

    fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }

    fn dim(self, text: &str) -> String {
        self.paint("2", text)
    }
}

/// A server that the role has no more is shown for so long after its last use.
const FORMER: Duration = Duration::from_secs(24 * 60 * 60);

/// How many of the last connections are shown; JSON has all.
const SHOWN: usize = 10;

/// The whole of it.
pub fn text(status: &Status, colours: Colours) -> String {
    let mut out = String::with_capacity(4096);
    // Writing to a String cannot fail.
    let _ = Page { status, colours, out: &mut out }.write();
    out
}

struct Page<'a> {
    status: &'a Status,
    colours: Colours,
    out: &'a mut String,
}

impl Page<'_> {
    fn write(&mut self) -> fmt::Result {
        self.head()?;
        self.problems()?;
        self.roles()?;
        self.recent()
    }

    fn head(&mut self) -> fmt::Result {
        let (status, colours) = (self.status, self.colours);
        let title = colours.bold(&format!("puppet-shim {}", status.version));
        match &status.process {
            Some(process) => {
                let since = span(Duration::from_secs_f64(process.uptime_seconds.max(0.0)));
                let connections = count(status.connections_open, "connection");
                let leaves = process.idle_exit_seconds.map(|seconds| {
                    format!(", leaves after {} without one", span(Duration::from_secs_f64(seconds.max(0.0))))
                });
                let leaves = leaves.unwrap_or_default();
                writeln!(
                    self.out,
                    "{title}  {} for {since} (pid {}), {connections} open{leaves}",
                    colours.green("up"),
                    process.pid
                )?;
            }
            None => writeln!(self.out, "{title}  {}", self.idle())?,
        }
        let listeners: Vec<_> = status.listeners.iter().map(|listener| self.listener(listener)).collect();
        if !listeners.is_empty() {
            writeln!(self.out, "  listens on   {}", listeners.join(", "))?;
        }
        writeln!(self.out, "  runs with    {}", self.configuration())?;
        writeln!(
            self.out,
            "  domain       {}",
            status.domain.as_deref().unwrap_or("none known: each requested name's own")
        )
    }

    /// Why no process is nothing to worry about, or is.
    fn idle(&self) -> String {
        let (status, colours) = (self.status, self.colours);
        if status.is_unasked {
            let words = "status.socket is false, so no process is asked; this is what is written down";
            return format!("{}: {words}", colours.yellow("unknown"));
        }
        let waits = status.listeners.iter().any(|listener| listener.state == ListenerState::Waiting);
        if let Some(path) = status.unanswered.as_ref().filter(|_| waits) {
            return format!("{}: somebody listens, and no process answers on {path}", colours.yellow("unknown"));
        }
        if waits {
            let words = "no process runs; systemd holds the sockets, and the next connection starts one";
            return format!("{}: {words}", colours.green("idle"));
        }
        colours.red("stopped")
    }

    fn listener(&self, listener: &ListenerStatus) -> String {
        let ListenerStatus { address, state, .. } = listener;
        match state {
            ListenerState::Inherited => format!("{address} (systemd's)"),
            ListenerState::Bound => address.clone(),
            ListenerState::Waiting => format!("{address} (waiting)"),
            ListenerState::Absent => format!("{address} (this host has no IPv6)"),
            ListenerState::Closed => format!("{address} ({})", self.colours.red("closed")),
            ListenerState::Failed => format!("{address} ({})", self.colours.red("failed")),
        }
    }

    fn configuration(&self) -> String {
        let configuration = &self.status.configuration;
        let read = configuration.read.map(|read| format!(", read {}", self.ago(read))).unwrap_or_default();
        let file = configuration.file.as_deref().unwrap_or("?");
        let what = match configuration.origin {
            ConfigurationOrigin::File => file.to_owned(),
            ConfigurationOrigin::Defaults => "the defaults, there is no file".to_owned(),
            ConfigurationOrigin::LastAccepted => self.colours.red(&format!("the last accepted configuration, {file}")),
            ConfigurationOrigin::DefaultsInstead => self.colours.red("the defaults, the file cannot be used"),
        };
        format!("{what}{read}")
    }

    fn problems(&mut self) -> fmt::Result {
        for problem in &self.status.problems {
            let word = match problem.severity {
                ProblemSeverity::Error => self.colours.red("error"),
                ProblemSeverity::Warning => self.colours.yellow("warning"),
            };
            writeln!(self.out, "\n{word}: {}: {}", problem.about, problem.message)?;
            if let Some(help) = &problem.help {
                writeln!(self.out, "  to do: {help}")?;
            }
        }
        let configuration = &self.status.configuration;
        for diagnostic in configuration.diagnostics.iter().chain(&configuration.reload_diagnostics) {
            writeln!(self.out, "  {diagnostic}")?;
        }
        Ok(())
    }

    fn roles(&mut self) -> fmt::Result {
        let rows: Vec<_> = self.status.roles.iter().flat_map(|role| self.servers(role)).collect();
        let mut table =
            Table::new(["SERVER", "STATE", "PIN", "USUAL", "OPEN", "CARRIED", "FAILED", "UP", "DOWN", "LAST ERROR"]);
        for row in &rows {
            table.add(row.clone());
        }
        let mut lines = table.lines().into_iter();
        writeln!(self.out)?;
        if let Some(header) = lines.next().filter(|_| !rows.is_empty()) {
            writeln!(self.out, "{}", self.colours.dim(&format!("  {header}")))?;
        }
        for role in &self.status.roles {
            let source = self.source(role);
            writeln!(self.out, "{}  {source}", self.colours.bold(&format!("{:<8}", role.role)))?;
            for (server, _) in self.shown(role).zip(0..) {
                let line = lines.next().unwrap_or_default();
                let line = match server.rank {
                    _ if !server.is_current => self.colours.dim(&line),
                    RankStatus::Down => self.colours.red(&line),
                    RankStatus::Slow => self.colours.yellow(&line),
                    RankStatus::Good => line,
                };
                writeln!(self.out, "  {line}")?;
            }
        }
        Ok(())
    }

    /// Who names the role's servers, and how new that is.
    fn source(&self, role: &RoleStatus) -> String {
        let decisive = role.source.as_ref().and_then(|source| source.owner.as_ref());
        let set = role.records.iter().find(|set| Some(&set.owner) == decisive);
        let from = set.and_then(|set| set.nameserver.as_ref()).map(|from| format!(" from {from}")).unwrap_or_default();
        let age = match (role.stale_since, role.ttl_left_seconds, set.map(|set| set.freshness)) {
            (Some(since), ..) => self.colours.yellow(&format!(", stale since {since} ({})", self.ago(since))),
            (None, Some(left), _) => format!(", for another {}", span(Duration::from_secs_f64(left.max(0.0)))),
            (None, None, Some(Freshness::Expired)) => ", asked anew with the next connection".into(),
            _ => String::new(),
        };
        match &role.source {
            Some(source) => format!("by {}{from}{age}", source.words),
            None if role.last.is_some() => "no server is known".into(),
            None if self.status.unread.is_some() => self.colours.dim("not known"),
            None => self.colours.dim("nobody has asked yet"),
        }
    }

    fn shown<'r>(&self, role: &'r RoleStatus) -> impl Iterator<Item = &'r ServerStatus> + use<'r> {
        let at = self.status.at;
        let is_shown =
            move |server: &&ServerStatus| server.is_current || server.used.is_some_and(|used| used.before(at) < FORMER);
        role.servers.iter().filter(is_shown)
    }

    fn servers(&self, role: &RoleStatus) -> Vec<[String; 10]> {
        let row = |server: &ServerStatus| {
            let error = server.last_error.as_ref().map(|fault| format!("{} ({})", fault.what, self.ago(fault.at)));
            [
                server.server.clone(),
                self.state(server),
                if server.is_pinned { "pin".into() } else { String::new() },
                server.usual_seconds.map(|seconds| format!("{:.0} ms", seconds * 1000.0)).unwrap_or_default(),
                some(server.tunnels_open),
                some(server.totals.carried),
                some(server.totals.broken + server.totals.refused),
                size(server.totals.bytes_up),
                size(server.totals.bytes_down),
                error.unwrap_or_default(),
            ]
        };
        self.shown(role).map(row).collect()
    }

    fn state(&self, server: &ServerStatus) -> String {
        if !server.is_current {
            return "former".into();
        }
        let left = server.until.map(|until| format!(" for {}", span(self.status.at.before(until)))).unwrap_or_default();
        match server.standing() {
            Standing::Down => format!("down{left}"),
            Standing::Slow => format!("slow{left}"),
            Standing::Doubtful => "to be tried".into(),
            Standing::WrongName => "wrong name".into(),
            Standing::Good => "good".into(),
        }
    }

    fn recent(&mut self) -> fmt::Result {
        let mut table = Table::new(["WHEN", "ROLE", "ASKED FOR", "SERVER", "TOOK", "UP", "DOWN", "END"]);
        let recent: Vec<&Connection> = self.status.recent.iter().take(SHOWN).collect();
        for connection in &recent {
            table.add([
                self.ago(connection.at),
                connection.role.clone().unwrap_or_else(|| "-".into()),
                connection.asked.clone().unwrap_or_else(|| "-".into()),
                connection.server.clone().unwrap_or_else(|| "-".into()),
                format!("{:.1} s", connection.duration_seconds),
                size(connection.bytes_up),
                size(connection.bytes_down),
                connection.end.clone(),
            ]);
        }
        if self.status.unread.is_some() {
            return writeln!(self.out, "\nno connection is known of");
        }
        if recent.is_empty() {
            return writeln!(self.out, "\nno connection has ended yet");
        }
        writeln!(self.out, "\n{}", self.colours.bold("last connections"))?;
        let endings = recent.iter().map(|connection| Some(connection.outcome));
        for (line, outcome) in table.lines().into_iter().zip(std::iter::once(None).chain(endings)) {
            let line = match outcome {
                None => self.colours.dim(&line),
                Some(Ending::Carried) => line,
                Some(Ending::Broken | Ending::Refused) => self.colours.red(&line),
            };
            writeln!(self.out, "  {line}")?;
        }
        Ok(())
    }

    fn ago(&self, moment: Moment) -> String {
        format!("{} ago", span(moment.before(self.status.at)))
    }
}

/// Columns as wide as what is in them.
struct Table<const N: usize> {
    rows: Vec<[String; N]>,
}

impl<const N: usize> Table<N> {
    fn new(header: [&str; N]) -> Self {
        Table { rows: vec![header.map(str::to_owned)] }
    }

    fn add(&mut self, row: [String; N]) {
        self.rows.push(row);
    }

    /// The header, and each row.
    fn lines(&self) -> Vec<String> {
        let width = |column: usize| self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: [usize; N] = std::array::from_fn(width);
        let line = |row: &[String; N]| {
            let cells: Vec<_> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
            cells.join("  ").trim_end().to_owned()
        };
        self.rows.iter().map(line).collect()
    }
}

fn some(count: u64) -> String {
    if count == 0 { "-".into() } else { count.to_string() }
}

fn count(count: u64, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

/// A span of time in its largest unit, rounded down.
fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..86_400 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// Bytes in the unit that leaves a digit or three.
fn size(bytes: u64) -> String {
    let mut unit = "B";
    #[allow(clippy::cast_precision_loss, reason = "three digits are shown")]
    let mut value = bytes as f64;
    for larger in ["KiB", "MiB", "GiB", "TiB"] {
        if value < 1024.0 {
            break;
        }
        (value, unit) = (value / 1024.0, larger);
    }
    match unit {
        _ if bytes == 0 => "-".into(),
        "B" => format!("{bytes} B"),
        _ if value < 10.0 => format!("{value:.1} {unit}"),
        _ => format!("{value:.0} {unit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::Bench;
    use super::*;

    #[tokio::test]
    async fn one_glance_tells_which_server_and_why() {
        let status = Bench::with_a_compiler_down().status();
        let text = text(&status, Colours::OFF);
        let line = |words: &str| {
            text.lines().find(|line| line.contains(words)).unwrap_or_else(|| panic!("{words:?} in\n{text}"))
        };
        assert!(line("puppet-shim ").contains("up for 1 min"), "{text}");
        assert!(line("listens on").contains("127.0.0.1:8139 (systemd's)"));
        assert!(line("runs with").ends_with("/etc/shim.toml, read 1 min ago"));
        assert!(line("compile ").contains("by srv _x-puppet._tcp.test from 192.0.2.53:53, for another"), "{text}");
        let [a, b] = ["  a.test:8140", "  b.test:8140"].map(line);
        assert!(a.contains("down for") && a.ends_with("refused (0 s ago)"), "{text}");
        assert!(b.contains("good") && b.contains("pin") && b.contains("7 ms"), "{text}");
        assert_eq!(a.find("down"), b.find("good"), "aligned\n{text}");
        assert!(line("puppet.test:8140").contains("b.test:8140"), "{text}");
        assert!(line("ca ").contains("nobody has asked yet"));
        assert!(text.contains("warning: role compile: a.test:8140 refused; the others go first\n  to do: "), "{text}");
        assert!(text.is_ascii() && !text.contains('\x1b'));
    }

    #[tokio::test]
    async fn colours_are_for_terminals() {
        let text = text(&Bench::with_a_compiler_down().status(), Colours::ON);
        let down = text.lines().find(|line| line.contains("a.test:8140  down")).unwrap();
        assert!(down.trim_start().starts_with("\x1b[31m") && down.ends_with("\x1b[0m"), "{down:?}");
    }

    #[tokio::test]
    async fn no_process_is_the_ordinary_case_where_somebody_listens() {
        let mut bench = Bench::with_a_compiler_down();
        bench.runs = false;
        let mut status = bench.status();
        status.listeners[0].state = ListenerState::Waiting;
        let waiting = text(&status, Colours::OFF);
        assert!(waiting.contains("idle: no process runs; systemd holds the sockets"), "{waiting}");
        assert!(!waiting.contains("error"));
        status.unanswered = Some("/run/s".into());
        let unknown = text(&status, Colours::OFF);
        assert!(unknown.contains("unknown: somebody listens, and no process answers on /run/s"), "{unknown}");
        assert!(!unknown.contains("systemd holds"));
        status.unanswered = None;
        status.listeners[0].state = ListenerState::Closed;
        let closed = text(&status, Colours::OFF);
        assert!(
            closed.starts_with("puppet-shim ") && closed.lines().next().unwrap().ends_with("  stopped"),
            "{closed}"
        );
    }

    #[test]
    fn spans_and_sizes_are_short() {
        for (seconds, words) in [(0, "0 s"), (59, "59 s"), (61, "1 min"), (7199, "1 h"), (200_000, "2 d")] {
            assert_eq!(span(Duration::from_secs(seconds)), words);
        }
        for (bytes, words) in
            [(0, "-"), (1023, "1023 B"), (1536, "1.5 KiB"), (15_000_000, "14 MiB"), (u64::MAX, "16777216 TiB")]
        {
            assert_eq!(size(bytes), words);
        }
    }
}
