//! Log lines: to the journal in its own way, to a terminal in colour, as JSON, or plain.

mod json;

use std::fmt::{self, Write};
use std::io::IsTerminal;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

/// What is logged unless the environment says otherwise. DNS failures are told by us, in our words.
const FILTER: &str = "warn,puppet_shim=info,hickory_resolver=off,hickory_proto=off,hickory_net=off";

/// How a line is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// `<6>message key=value`: journald reads the level from the front (sd-daemon(3)) and has a clock of its own.
    Journal,
    /// Time, level in colour, message, fields.
    Terminal,
    /// The same without colour.
    Plain,
    /// An object for each line: `time`, `level`, `target`, `message`, `fields`.
    Json,
}

/// What an admin may want for a style.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// `journal` where standard error is the journal, else `plain`, in colour on a terminal
    #[default]
    Auto,
    /// The level as the journal and systemd-cat read it, `<6>` in front; no time, which they have themselves
    Journal,
    /// Time, level, message, key=value
    Plain,
    /// An object for each line: time, level, target, message, fields
    Json,
}

impl Style {
    /// The one that is wanted. See [`Style::detect`].
    pub fn of(format: Format, journal_stream: Option<&str>, no_color: bool) -> Self {
        match format {
            Format::Auto => Style::detect(journal_stream, no_color),
            Format::Journal => Style::Journal,
            Format::Plain => Style::Plain,
            Format::Json => Style::Json,
        }
    }

    /// By where standard error goes. `journal_stream`: `$JOURNAL_STREAM`, device and inode of the journal's socket
    /// (systemd.exec(5)), which a process that redirects its output inherits wrongly; so they are compared.
    pub fn detect(journal_stream: Option<&str>, no_color: bool) -> Self {
        let stderr = rustix::fs::fstat(std::io::stderr()).ok();
        if let (Some(stream), Some(stat)) = (journal_stream, stderr)
            && stream == format!("{}:{}", stat.st_dev, stat.st_ino)
        {
            return Style::Journal;
        }
        if std::io::stderr().is_terminal() && !no_color { Style::Terminal } else { Style::Plain }
    }
}

/// Sends the log to standard error from now on. `filter`: what is logged, such as `debug` or `warn,puppet_shim=debug`; a
/// broken one is reported, and the default holds.
pub fn init(style: Style, filter: Option<&str>) {
    let parsed = filter.map(str::parse::<Targets>);
    let targets = match &parsed {
        Some(Ok(targets)) => targets.clone(),
        _ => FILTER.parse().unwrap_or_default(),
    };
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(style == Style::Terminal)
        .event_format(Lines { style });
    tracing_subscriber::registry().with(lines).with(targets).init();
    if let Some(Err(error)) = parsed {
        tracing::warn!(%error, "what --log or RUST_LOG says is not understood; write for example puppet_shim=debug");
    }
}

struct Lines {
    style: Style,
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let level = *event.metadata().level();
        match self.style {
            Style::Json => return json::write(&mut writer, event),
            Style::Journal => write!(writer, "<{}>", priority(level))?,
            Style::Plain | Style::Terminal => {
                SystemTime.format_time(&mut writer)?;
                let (on, off) = if self.style == Style::Terminal { (colour(level), "\x1b[0m") } else { ("", "") };
                write!(writer, " {on}{level:>5}{off} ")?;
            }
        }
        let mut fields = Fields { message: String::new(), rest: String::with_capacity(LINE), value: String::new() };
        event.record(&mut fields);
        writeln!(writer, "{}{}", fields.message, fields.rest)
    }
}

/// Room for the line of a connection, so that it does not grow bit by bit.
const LINE: usize = 512;

/// syslog(3).
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}

fn colour(level: Level) -> &'static str {
    match level {
        Level::ERROR => "\x1b[31m",
        Level::WARN => "\x1b[33m",
        Level::INFO => "\x1b[32m",
        Level::DEBUG | Level::TRACE => "\x1b[2m",
    }
}

/// `key=value`, quoted where a reader would lose his place.
struct Fields {
    message: String,
    rest: String,
    /// The value just being written, kept for the next one.
    value: String,
}

impl Fields {
    fn put(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        // Writing to a String cannot fail.
        if field.name() == "message" {
            let _ = self.message.write_fmt(value);
            return;
        }
        self.rest.push(' ');
        self.rest.push_str(field.name());
        self.rest.push('=');
        self.value.clear();
        let _ = self.value.write_fmt(value);
        let plain = |b: u8| b.is_ascii_graphic() && !matches!(b, b'"' | b'=' | b'\\');
        if !self.value.is_empty() && self.value.bytes().all(plain) {
            self.rest.push_str(&self.value);
        } else {
            let _ = write!(self.rest, "{:?}", self.value);
        }
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format_args!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_filter_is_understood() {
        let targets: Targets = FILTER.parse().unwrap();
        assert!(targets.would_enable("puppet_shim::connection", &Level::INFO));
        assert!(!targets.would_enable("puppet_shim::connection", &Level::DEBUG));
        assert!(!targets.would_enable("hickory_net::udp", &Level::ERROR));
    }
}
