//! The status as metrics, in the two forms that Prometheus reads: its own text, which its node exporter's textfile collector
//! takes too, and `OpenMetrics` 1.0. No io.
//!
//! Written here, since the crates for it have one of the two forms each, and keep counts of their own beside ours.

use std::fmt::{self, Write};

use super::{Ending, ListenerState, ProblemSeverity, RoleStatus, ServerStatus, Standing, Status, Totals};
use crate::counters::FOREIGN;

/// What a web server calls [`text`].
pub const TEXT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What a web server calls [`openmetrics`].
pub const OPENMETRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// In Prometheus' own text form.
pub fn text(status: &Status) -> String {
    write_all(&families(status), Form::Text)
}

/// As `OpenMetrics`.
pub fn openmetrics(status: &Status) -> String {
    write_all(&families(status), Form::OpenMetrics)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Text,
    OpenMetrics,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Gauge,
    /// Its samples end in `_total`.
    Counter,
    /// Its samples end in `_info`, and are 1.
    Info,
}

/// One metric.
struct Family {
    /// Without the ending of its samples.
    name: &'static str,
    kind: Kind,
    help: &'static str,
    samples: Vec<Sample>,
}

struct Sample {
    labels: Vec<(&'static str, String)>,
    value: f64,
}

fn gauge(name: &'static str, help: &'static str, samples: Vec<Sample>) -> Family {
    Family { name, kind: Kind::Gauge, help, samples }
}

fn counter(name: &'static str, help: &'static str, samples: Vec<Sample>) -> Family {
    Family { name, kind: Kind::Counter, help, samples }
}

fn sample<const N: usize>(labels: [(&'static str, &str); N], value: f64) -> Sample {
    Sample { labels: labels.map(|(name, value)| (name, value.to_owned())).into(), value }
}

/// Above 2^53 it is no longer exact, which no counter here comes to.
#[allow(clippy::cast_precision_loss)]
fn number(count: u64) -> f64 {
    count as f64
}

fn truth(is_so: bool) -> f64 {
    f64::from(u8::from(is_so))
}

fn families(status: &Status) -> Vec<Family> {
    let mut families = process(status);
    families.extend(roles(status));
    families.extend(servers(status));
    // What has nothing to say is not spoken of.
    families.retain(|family| !family.samples.is_empty());
    families
}

fn process(status: &Status) -> Vec<Family> {
    let Status { process, configuration, listeners, problems, .. } = status;
    let started = process.iter().map(|process| sample([], number(process.started.unix()))).collect();
    // Nobody was asked, so nobody knows.
    let running = if status.is_unasked { Vec::new() } else { vec![sample([], truth(process.is_some()))] };
    let read = configuration.read.iter().map(|read| sample([], number(read.unix()))).collect();
    // Where there is no IPv6 nothing is down.
    let there = listeners.iter().filter(|listener| listener.state != ListenerState::Absent);
    let listeners = there.map(|listener| sample([("address", &listener.address)], truth(listener.state.is_open())));
    let count = |severity, word| {
        let count = problems.iter().filter(|problem| problem.severity == severity).count();
        sample([("severity", word)], number(count as u64))
    };
    let problems = vec![count(ProblemSeverity::Error, "error"), count(ProblemSeverity::Warning, "warning")];
    let version = Family {
        name: "puppet_shim_build",
        kind: Kind::Info,
        help: "Which puppet-shim says so.",
        samples: vec![sample([("version", &status.version)], 1.0)],
    };
    let fallback = truth(configuration.origin.is_fallback());
    let reloaded = truth(configuration.reload_failed.is_none());
    vec![
        version,
        gauge("puppet_shim_running", "Whether a process runs. Where systemd holds the sockets, none has to.", running),
        gauge("puppet_shim_start_time_seconds", "Since when it does, in seconds since 1970.", started),
        gauge("puppet_shim_problems", "What puppet-shim status says is wrong.", problems),
        gauge("puppet_shim_listener_up", "Whether the address is listened on.", listeners.collect()),
        gauge(
            "puppet_shim_config_fallback",
            "Whether another configuration than the file holds, since that cannot be used.",
            vec![sample([], fallback)],
        ),
        gauge("puppet_shim_config_read_timestamp_seconds", "When the configuration was read.", read),
        gauge(
            "puppet_shim_config_last_reload_successful",
            "Whether the configuration could be used when it was last to be read again.",
            vec![sample([], reloaded)],
        ),
        gauge(
            "puppet_shim_connections_open",
            "Connections that are open, tunnels or not yet.",
            vec![sample([], number(status.connections_open))],
        ),
        gauge(
            "puppet_shim_connections_limit",
            "How many may be open at once.",
            vec![sample([], number(status.connections_limit))],
        ),
    ]
}

fn roles(status: &Status) -> Vec<Family> {
    let all = || status.roles.iter().map(|role| (role.role.as_str(), &role.totals)).chain([(FOREIGN, &status.foreign)]);
    let ended = |(role, totals): (&str, &Totals)| {
        Ending::ALL.map(|end| sample([("role", role), ("outcome", end.as_str())], number(totals.of(end))))
    };
    let of_roles = |value: fn(&RoleStatus) -> Option<f64>| {
        status.roles.iter().filter_map(|role| Some(sample([("role", &role.role)], value(role)?))).collect()
    };
    vec![
        counter(
            "puppet_shim_connections",
            "Connections that have ended, by role (-: none) and outcome (carried, broken by the server, refused).",
            all().flat_map(ended).collect(),
        ),
        counter(
            "puppet_shim_bytes",
            "Bytes carried in connections that have ended.",
            all().flat_map(|(role, totals)| bytes([("role", role)], totals)).collect(),
        ),
        gauge("puppet_shim_tunnels_open", "Tunnels that are open.", of_roles(|role| Some(number(role.tunnels_open)))),
        gauge(
            "puppet_shim_role_servers",
            "Servers that the role has now, as far as it is known.",
            of_roles(|role| Some(number(role.servers.iter().filter(|server| server.is_current).count() as u64))),
        ),
        gauge(
            "puppet_shim_dns_stale",
            "Whether DNS gives no newer answer than one that is past its TTL.",
            of_roles(|role| Some(truth(role.stale_since.is_some()))),
        ),
        gauge(
            "puppet_shim_last_connection_timestamp_seconds",
            "When the role's last connection ended.",
            of_roles(|role| role.last.map(|last| number(last.unix()))),
        ),
        gauge(
            "puppet_shim_last_connection_failed",
            "Whether that did not end as it should.",
            of_roles(|role| role.last.map(|_| truth(role.last_failed))),
        ),
    ]
}

/// Those that a role has now: a server that is gone would stay in the graphs for ever.
fn servers(status: &Status) -> Vec<Family> {
    let all = || {
        status.roles.iter().flat_map(|role| {
            role.servers.iter().filter(|server| server.is_current).map(|server| (role.role.as_str(), server))
        })
    };
    let each = |value: fn(&ServerStatus) -> Option<f64>| {
        all().filter_map(|(role, server)| Some(sample(labels(role, server), value(server)?))).collect()
    };
    let ranked = |(role, server): (&str, &ServerStatus)| {
        Standing::ALL.map(|state| {
            let [role, name] = labels(role, server);
            sample([role, name, ("state", state.as_str())], truth(state == server.standing()))
        })
    };
    let ended = |(role, server): (&str, &ServerStatus)| {
        let Totals { carried, broken, refused, .. } = server.totals;
        [("carried", carried), ("broken", broken), ("failed", refused)].map(|(word, count)| {
            let [role, server] = labels(role, server);
            sample([role, server, ("outcome", word)], number(count))
        })
    };
    vec![
        gauge(
            "puppet_shim_server_state",
            "How the server stands; others go before it unless good.",
            all().flat_map(ranked).collect(),
        ),
        gauge("puppet_shim_server_pinned", "Whether the agent's run is with it.", each(|s| Some(truth(s.is_pinned)))),
        gauge("puppet_shim_server_answer_seconds", "How long it usually takes to answer.", each(|s| s.usual_seconds)),
        gauge(
            "puppet_shim_server_tunnels_open",
            "Tunnels to it that are open.",
            each(|s| Some(number(s.tunnels_open))),
        ),
        counter(
            "puppet_shim_server_connections",
            "Tunnels to it (carried, or broken by it), and attempts that failed.",
            all().flat_map(ended).collect(),
        ),
        counter(
            "puppet_shim_server_bytes",
            "Bytes carried in tunnels to it that have ended.",
            all().flat_map(|(role, server)| bytes(labels(role, server), &server.totals)).collect(),
        ),
    ]
}

fn labels<'a>(role: &'a str, server: &'a ServerStatus) -> [(&'static str, &'a str); 2] {
    [("role", role), ("server", &server.server)]
}

fn bytes<const N: usize>(labels: [(&'static str, &str); N], totals: &Totals) -> [Sample; 2] {
    [("to_server", totals.bytes_up), ("to_agent", totals.bytes_down)].map(|(direction, count)| {
        let mut sample = sample(labels, number(count));
        sample.labels.push(("direction", direction.into()));
        sample
    })
}

fn write_all(families: &[Family], form: Form) -> String {
    let mut out = String::with_capacity(8 * 1024);
    for family in families {
        // Writing to a String cannot fail.
        let _ = family.write(&mut out, form);
    }
    if form == Form::OpenMetrics {
        out.push_str("# EOF\n");
    }
    out
}

impl Family {
    fn write(&self, out: &mut String, form: Form) -> fmt::Result {
        let ending = match self.kind {
            Kind::Gauge => "",
            Kind::Counter => "_total",
            Kind::Info => "_info",
        };
        // OpenMetrics speaks of the family, Prometheus' own form of its samples, and knows no info.
        let (of, kind) = match (form, self.kind) {
            (Form::OpenMetrics, Kind::Info) => ("", "info"),
            (Form::OpenMetrics, Kind::Counter) => ("", "counter"),
            (Form::Text, Kind::Counter) => (ending, "counter"),
            (Form::Text, Kind::Info) => (ending, "gauge"),
            (_, Kind::Gauge) => ("", "gauge"),
        };
        let name = self.name;
        writeln!(out, "# TYPE {name}{of} {kind}")?;
        if form == Form::OpenMetrics
            && let Some(unit) = ["seconds", "bytes"].into_iter().find(|unit| name.ends_with(&format!("_{unit}")))
        {
            writeln!(out, "# UNIT {name} {unit}")?;
        }
        writeln!(out, "# HELP {name}{of} {}", self.help)?;
        for Sample { labels, value } in &self.samples {
            write!(out, "{name}{ending}")?;
            for (nth, (label, value)) in labels.iter().enumerate() {
                write!(out, "{}{label}=\"{}\"", if nth == 0 { '{' } else { ',' }, Escaped(value))?;
            }
            writeln!(out, "{} {value}", if labels.is_empty() { "" } else { "}" })?;
        }
        Ok(())
    }
}

/// A label's value.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '\\' => f.write_str("\\\\")?,
                '"' => f.write_str("\\\"")?,
                '\n' => f.write_str("\\n")?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::Bench;
    use super::*;

    #[tokio::test]
    async fn has_the_names_that_prometheus_expects() {
        let text = text(&Bench::with_a_compiler_down().status());
        for line in [
            "# TYPE puppet_shim_build_info gauge",
            concat!("puppet_shim_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
            "puppet_shim_running 1",
            "puppet_shim_start_time_seconds 999940",
            "puppet_shim_problems{severity=\"warning\"} 1",
            "# TYPE puppet_shim_connections_total counter",
            "puppet_shim_connections_total{role=\"compile\",outcome=\"carried\"} 1",
            "puppet_shim_connections_total{role=\"-\",outcome=\"refused\"} 0",
            "puppet_shim_bytes_total{role=\"compile\",direction=\"to_agent\"} 50",
            "puppet_shim_server_state{role=\"compile\",server=\"a.test:8140\",state=\"down\"} 1",
            "puppet_shim_server_state{role=\"compile\",server=\"b.test:8140\",state=\"down\"} 0",
            "puppet_shim_server_pinned{role=\"compile\",server=\"b.test:8140\"} 1",
            "puppet_shim_server_answer_seconds{role=\"compile\",server=\"b.test:8140\"} 0.007",
            "puppet_shim_server_connections_total{role=\"compile\",server=\"a.test:8140\",outcome=\"failed\"} 1",
        ] {
            assert!(text.lines().any(|l| l == line), "{line:?} is not in\n{text}");
        }
        assert!(!text.contains("# EOF") && !text.contains("# UNIT"));
    }

    /// What holds for seconds is seen by no scrape: an agent comes every half hour.
    #[tokio::test]
    async fn who_has_not_answered_since_is_not_good() {
        let mut bench = Bench::with_a_compiler_down();
        bench.clocks.now += std::time::Duration::from_secs(600);
        let text = text(&bench.status());
        for (state, value) in [("doubtful", 1), ("good", 0), ("slow", 0), ("down", 0)] {
            let line = format!(
                "puppet_shim_server_state{{role=\"compile\",server=\"a.test:8140\",state=\"{state}\"}} {value}"
            );
            assert!(text.lines().any(|l| l == line), "{line:?} is not in\n{text}");
        }
    }

    /// As `status` and the page say.
    #[tokio::test]
    async fn whose_certificate_lacks_the_name_is_not_good() {
        let mut bench = Bench::with_a_compiler_down();
        let (server, asked) = ("b.test:8140".parse().unwrap(), "puppet.test".parse().unwrap());
        let unnamed = crate::verdict::Verdict::Unnamed { has: "b.test".into() };
        bench.pool.conclude(&server, &asked, unnamed, bench.clocks.now);
        let text = text(&bench.status());
        for (server, state, value) in
            [("b.test", "wrong_name", 1), ("b.test", "good", 0), ("a.test", "wrong_name", 0), ("a.test", "down", 1)]
        {
            let line = format!(
                "puppet_shim_server_state{{role=\"compile\",server=\"{server}:8140\",state=\"{state}\"}} {value}"
            );
            assert!(text.lines().any(|l| l == line), "{line:?} is not in\n{text}");
        }
    }

    #[tokio::test]
    async fn openmetrics_names_the_family_and_ends() {
        let text = openmetrics(&Bench::with_a_compiler_down().status());
        for line in [
            "# TYPE puppet_shim_build info",
            "# TYPE puppet_shim_bytes counter",
            "# UNIT puppet_shim_bytes bytes",
            "# UNIT puppet_shim_start_time_seconds seconds",
            "puppet_shim_bytes_total{role=\"compile\",direction=\"to_server\"} 30",
        ] {
            assert!(text.lines().any(|l| l == line), "{line:?} is not in\n{text}");
        }
        assert!(text.ends_with("\n# EOF\n"));
        assert!(!text.contains("# TYPE puppet_shim_bytes_total"));
    }

    /// Each sample belongs to the family told of last, and no sample is there twice.
    #[tokio::test]
    async fn every_sample_has_its_family_and_comes_once() {
        for text in
            [text(&Bench::with_a_compiler_down().status()), openmetrics(&Bench::with_a_compiler_down().status())]
        {
            let (mut family, mut seen) = (String::new(), std::collections::HashSet::new());
            for line in text.lines() {
                if let Some(rest) = line.strip_prefix("# TYPE ") {
                    family = rest.split(' ').next().unwrap().to_owned();
                    assert!(seen.insert(family.clone()), "{line}");
                } else if !line.starts_with('#') {
                    let (series, value) = line.rsplit_once(' ').unwrap();
                    let name = series.split('{').next().unwrap();
                    let ending = name.strip_prefix(&family).unwrap_or_else(|| panic!("{line} in {family}"));
                    assert!(["", "_total", "_info"].contains(&ending), "{line} in {family}");
                    value.parse::<f64>().unwrap();
                    assert!(seen.insert(series.to_owned() + "{}"), "{line}");
                }
            }
        }
    }

    #[tokio::test]
    async fn nothing_is_said_of_what_is_not_known() {
        let mut bench = Bench::new("");
        bench.runs = false;
        let text = text(&bench.status());
        assert!(
            text.contains("puppet_shim_running 0\n") && !text.contains("start_time") && !text.contains("server_state")
        );
        assert!(!text.contains("last_connection"), "{text}");
    }

    #[tokio::test]
    async fn who_was_not_asked_is_not_said_to_run_or_not() {
        let mut bench = Bench::new("");
        bench.runs = false;
        let status = Status { is_unasked: true, ..bench.status() };
        assert!(!text(&status).contains("puppet_shim_running"));
    }

    #[test]
    fn labels_are_escaped() {
        assert_eq!(Escaped("a\"b\\c\nd").to_string(), "a\\\"b\\\\c\\nd");
    }
}
