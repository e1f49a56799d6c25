//! Printing the status again and again.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use rustix::termios::tcgetwinsize;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, sleep_until};

use super::{Format, NOT_WRITTEN, refuse, render, verdict};
use crate::status::table::Colours;
use crate::status::{QueryError, Status};

/// `EX_OSERR` of sysexits.h.
const NO_RUNTIME: u8 = 71;

/// To another screen, without cursor; lines are cut, not folded (xterm's control sequences, which all terminals have).
const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[?7l";
/// And back.
const LEAVE: &str = "\x1b[?7h\x1b[?25h\x1b[?1049l";

/// Prints it every `pace` until Ctrl-C, SIGTERM, or the end of who reads. On a terminal each one takes the place of the one
/// before.
pub(super) fn watch(
    pace: Duration,
    format: Format,
    colours: Colours,
    found: impl Fn() -> Result<Status, QueryError>,
) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = writeln!(io::stderr(), "puppet-shim: cannot start: {error}");
            return NO_RUNTIME.into();
        }
    };
    runtime.block_on(repeat(pace, format, colours, found))
}

async fn repeat(
    pace: Duration,
    format: Format,
    colours: Colours,
    found: impl Fn() -> Result<Status, QueryError>,
) -> ExitCode {
    let mut ends =
        [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()].map(|kind| signal(kind).ok());
    let screen = io::stdout().is_terminal().then(Screen::enter);
    let mut next = Instant::now();
    loop {
        let status = match found() {
            Ok(status) => status,
            Err(error) if screen.is_some() && !matches!(error, QueryError::Denied(_) | QueryError::Unread(_)) => {
                // It may be there again in a moment.
                draw(&format!("puppet-shim: {error}\n"));
                next = after(next, pace, Instant::now());
                if wait(next, &mut ends).await {
                    return ExitCode::SUCCESS;
                }
                continue;
            }
            Err(error) => {
                drop(screen);
                return refuse(&error);
            }
        };
        let text = match format {
            // A line for each, which is what reads a stream of them.
            Format::Json => serde_json::to_string(&status).unwrap_or_default() + "\n",
            format => render(&status, format, colours),
        };
        if screen.is_some() {
            draw(&text);
        } else if let Err(error) = io::stdout().lock().write_all(text.as_bytes()) {
            return if error.kind() == io::ErrorKind::BrokenPipe { ExitCode::SUCCESS } else { NOT_WRITTEN.into() };
        }
        next = after(next, pace, Instant::now());
        if wait(next, &mut ends).await {
            drop(screen);
            return verdict(&status).into();
        }
    }
}

/// When to look again. What was missed, stopped by Ctrl-Z, is not made up for.
fn after(last: Instant, pace: Duration, now: Instant) -> Instant {
    (last + pace).max(now)
}

/// Waits until then. Gives whether it is to end.
async fn wait(then: Instant, ends: &mut [Option<Signal>; 3]) -> bool {
    let [interrupt, terminate, hangup] = ends;
    tokio::select! {
        biased;
        () = heard(interrupt) => true,
        () = heard(terminate) => true,
        () = heard(hangup) => true,
        () = sleep_until(then) => false,
    }
}

async fn heard(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => {
            signal.recv().await;
        }
        None => std::future::pending().await,
    }
}

/// The terminal, until it is dropped: then it is as it was.
struct Screen;

impl Screen {
    fn enter() -> Self {
        put(ENTER);
        Screen
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        put(LEAVE);
    }
}

/// Puts a text in the place of what is there, line by line and in one go, so that nothing flickers. What there is no row
/// for is left out.
fn draw(text: &str) {
    // A terminal that does not know has none.
    let rows = tcgetwinsize(io::stdout()).ok().map(|size| size.ws_row).filter(|rows| *rows > 2).unwrap_or(24);
    let mut frame = String::with_capacity(text.len() + 1024);
    frame.push_str("\x1b[H");
    let (lines, fit): (Vec<_>, usize) = (text.lines().collect(), usize::from(rows) - 1);
    let shown = if lines.len() > fit { fit.saturating_sub(1) } else { lines.len() };
    for line in lines.iter().take(shown) {
        // Writing to a String cannot fail.
        let _ = write!(frame, "{line}\x1b[K\r\n");
    }
    if shown < lines.len() {
        let _ = write!(frame, "... {} more\x1b[K\r\n", lines.len() - shown);
    }
    frame.push_str("\x1b[J");
    put(&frame);
}

/// A terminal that is gone will be told of by a signal.
fn put(text: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_missed_is_not_made_up_for() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        assert_eq!(after(start, 2 * second, start + second), start + 2 * second);
        let woken = start + 100 * second;
        assert_eq!(after(start, 2 * second, woken), woken);
        assert_eq!(after(woken, 2 * second, woken), woken + 2 * second);
    }
}
