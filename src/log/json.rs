//! A log line as JSON.

use std::fmt;

use serde::Serialize;
use serde_json::{Map, Value};
use tracing::Event;
use tracing::field::{Field, Visit};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};

/// The line, in this order.
#[derive(Serialize)]
struct Line<'a> {
    /// RFC 3339 in UTC.
    time: &'a str,
    /// `error`, `warn`, `info`, `debug` or `trace`.
    level: &'a str,
    /// Which part of the program says so.
    target: &'a str,
    message: &'a str,
    fields: &'a Map<String, Value>,
}

/// Writes an event.
pub(super) fn write(out: &mut Writer<'_>, event: &Event<'_>) -> fmt::Result {
    let mut time = String::new();
    SystemTime.format_time(&mut Writer::new(&mut time))?;
    let mut fields = Fields::default();
    event.record(&mut fields);
    let line = Line {
        time: &time,
        level: &event.metadata().level().as_str().to_ascii_lowercase(),
        target: event.metadata().target(),
        message: &fields.message,
        fields: &fields.rest,
    };
    writeln!(out, "{}", serde_json::to_string(&line).map_err(|_| fmt::Error)?)
}

#[derive(Default)]
struct Fields {
    message: String,
    rest: Map<String, Value>,
}

impl Fields {
    fn put(&mut self, field: &Field, value: impl Into<Value>) {
        self.rest.insert(field.name().to_owned(), value.into());
    }

    fn put_text(&mut self, field: &Field, text: String) {
        if field.name() == "message" {
            self.message = text;
            return;
        }
        // Spans are texts only so that they have one digit behind the point.
        let is_span = field.name() == "ms" || field.name().ends_with("_ms");
        let span = text.parse::<f64>().ok().filter(|_| is_span);
        match span {
            Some(span) => self.put(field, span),
            None => self.put(field, text),
        }
    }
}

impl Visit for Fields {
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put_text(field, value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put_text(field, format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::layer::SubscriberExt as _;

    use super::super::{Lines, Style};
    use super::*;

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_is_an_object() {
        let log = Log::default();
        let writer = log.clone();
        let lines = tracing_subscriber::fmt::layer().with_writer(move || writer.clone()).with_ansi(false);
        let lines = lines.event_format(Lines { style: Style::Json });
        tracing::subscriber::with_default(tracing_subscriber::registry().with(lines), || {
            let (ms, none) = (format_args!("{:.1}", 2205.6), None::<&str>);
            tracing::warn!(target: "puppet_shim::connection", role = "ca", none, port = 8140, %ms, end = "a\n\"b\"", "refused");
            tracing::info!("ready");
        });
        let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let [first, second] = lines.as_slice() else { panic!("{text}") };
        assert_eq!(first["fields"], serde_json::json!({"role": "ca", "port": 8140, "ms": 2205.6, "end": "a\n\"b\""}));
        assert_eq!((&first["level"], &first["message"]), (&"warn".into(), &"refused".into()));
        assert_eq!(first["target"], "puppet_shim::connection");
        assert!(first["time"].as_str().unwrap().parse::<crate::moment::Moment>().is_ok(), "{text}");
        assert_eq!((&second["message"], &second["fields"]), (&"ready".into(), &serde_json::json!({})));
    }
}
