//! The shim's log lines about connections, kept for tests to read.

use std::fmt;
use std::sync::{Arc, Mutex};

use tracing::field::{Field, Visit};
use tracing::subscriber::DefaultGuard;
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

/// The lines so far. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Journal(Arc<Mutex<Vec<Line>>>, Arc<Mutex<Vec<Line>>>);

/// One line: its fields in their order, the text among them as `message`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line(Vec<(&'static str, String)>);

impl Journal {
    /// Starts to listen on this thread, until the guard is dropped.
    pub fn listen(&self) -> DefaultGuard {
        tracing_subscriber::registry().with(self.clone()).set_default()
    }

    /// The lines so far.
    pub fn lines(&self) -> Vec<Line> {
        self.0.lock().unwrap().clone()
    }

    /// What was said of servers and of DNS so far, beside the lines of connections.
    pub fn notes(&self) -> Vec<Line> {
        self.1.lock().unwrap().clone()
    }

    /// Waits until there are `count` lines, and takes all there are.
    pub async fn take(&self, count: usize) -> Vec<Line> {
        super::eventually(&format!("{count} log lines"), || self.0.lock().unwrap().len() >= count).await;
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

impl Line {
    /// The value of a field.
    pub fn get(&self, field: &str) -> Option<&str> {
        self.0.iter().find(|(name, _)| *name == field).map(|(_, value)| value.as_str())
    }

    /// For how many seconds the records of `owner` had been past their TTL, and what DNS did; `None`: it says nothing of
    /// that.
    pub fn stale(&self, owner: &str) -> Option<(u64, &str)> {
        let (seconds, did) = self.get("dns")?.strip_prefix(owner)?.strip_prefix(" stale since ")?.split_once(" s: ")?;
        Some((seconds.parse().ok()?, did))
    }
}

impl fmt::Display for Line {
    /// As on a terminal: the text, then the fields.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.get("message").unwrap_or_default())?;
        for (name, value) in self.0.iter().filter(|(name, _)| *name != "message") {
            if value.is_empty() || value.contains([' ', '"']) {
                write!(f, " {name}={value:?}")?;
            } else {
                write!(f, " {name}={value}")?;
            }
        }
        Ok(())
    }
}

impl<S: Subscriber> Layer<S> for Journal {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let lines = match event.metadata().target() {
            "puppet_shim::connection" => &self.0,
            "puppet_shim::check" | "puppet_shim::health" => &self.1,
            discovery if discovery.starts_with("puppet_shim::discovery") => &self.1,
            _ => return,
        };
        let mut line = Line::default();
        event.record(&mut line);
        lines.lock().unwrap().push(line);
    }
}

impl Visit for Line {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.push((field.name(), value.into()));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.push((field.name(), format!("{value:?}")));
    }
}
