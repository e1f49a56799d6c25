//! Other programs that are asked, and not for long.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::exit;
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use futures_util::future::select_all;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::spawn_blocking;

/// The process groups of those that run. They are none of the terminal's, whose Ctrl-C they do not get.
static RUNNING: Mutex<Vec<Pid>> = Mutex::new(Vec::new());

/// Why there is no output.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// The kernel does not start it, or does not say what it has printed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It has not ended for so long.
    #[error("it did not end within {} s, and was killed", .0.as_secs_f32())]
    Slow(Duration),
}

/// Runs a command to its end, with nothing to read, in a process group of its own. Blocks for as long as `patience`.
///
/// # Errors
///
/// Where it cannot be started, or has not ended after `patience`: then its process group is killed, which is what it has
/// started itself, too.
pub fn run(mut command: Command, patience: Duration) -> Result<Output, ProcessError> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let (child, group) = {
        // So that a signal finds it.
        let mut running = running();
        let child = command.spawn()?;
        let group = Pid::from_child(&child);
        running.push(group);
        (child, group)
    };
    let (tell, told) = mpsc::channel();
    let waiter = thread::Builder::new().spawn(move || tell.send(child.wait_with_output()));
    let output = waiter.map(|_| told.recv_timeout(patience));
    running().retain(|other| *other != group);
    if let Ok(Ok(output)) = output {
        return Ok(output?);
    }
    // All of it may have ended just now.
    let _ = kill_process_group(group, Signal::KILL);
    Err(output.map_or_else(ProcessError::from, |_| ProcessError::Slow(patience)))
}

/// Has SIGINT, SIGTERM and SIGHUP end all that runs, and then this process, as they would if it had no process groups.
/// Where they cannot be listened to, they end this process alone.
pub fn end_with_us() {
    let Ok(runtime) = Builder::new_current_thread().enable_io().build() else { return };
    let signals = {
        let _context = runtime.enter();
        [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()].map(|kind| (kind, signal(kind)))
    };
    let wait = signals.into_iter().filter_map(|(kind, signal)| {
        let mut signal = signal.ok()?;
        Some(Box::pin(async move {
            signal.recv().await;
            kind.as_raw_value()
        }))
    });
    let wait: Vec<_> = wait.collect();
    if wait.is_empty() {
        return;
    }
    // Without a thread the signals have been taken, and nobody heeds them: it goes on to its end, which is bounded.
    let _ = thread::Builder::new().spawn(move || {
        let (number, ..) = runtime.block_on(select_all(wait));
        let running = running();
        for group in running.iter() {
            let _ = kill_process_group(*group, Signal::KILL);
        }
        // As a shell says it; and nothing more is started, for the list is held.
        exit(128 + number);
    });
}

fn running() -> MutexGuard<'static, Vec<Pid>> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// [`run`] beside other work; `None`: there is no such command, or it has not ended after `patience`, and was killed.
pub async fn output(command: Command, patience: Duration) -> Option<Output> {
    spawn_blocking(move || run(command, patience)).await.ok()?.ok()
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;
    use std::io::Read as _;
    use std::os::unix::fs::OpenOptionsExt as _;

    use rustix::fs::{OFlags, fcntl_setfl};

    use super::*;

    #[tokio::test]
    async fn what_a_command_says() {
        let output = output(Command::new("echo").tap(|c| c.arg("word")), Duration::from_secs(10)).await.unwrap();
        assert_eq!(output.stdout, b"word\n");
    }

    #[tokio::test]
    async fn one_that_does_not_end_is_ended() {
        let slow = Command::new("sleep").tap(|c| c.arg("60"));
        let began = tokio::time::Instant::now();
        assert!(output(slow, Duration::from_millis(50)).await.is_none());
        assert!(began.elapsed() < Duration::from_secs(30));
        assert!(output(Command::new("/nowhere/at/all"), Duration::from_secs(10)).await.is_none());
    }

    /// A wrapper's Ruby, say, which would go on by itself and keep what it prints into open.
    #[test]
    fn what_it_has_started_ends_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        let nonblocking = OFlags::NONBLOCK.bits().cast_signed();
        let mut pipe = OpenOptions::new().read(true).custom_flags(nonblocking).open(&path).unwrap();
        let began = tokio::time::Instant::now();
        let wrapper = Command::new("sh").tap(|c| c.args(["-c", "sleep 60 >\"$0\"; true"]).arg(&path));
        let error = run(wrapper, Duration::from_millis(500)).unwrap_err();
        assert_eq!(error.to_string(), "it did not end within 0.5 s, and was killed");
        // At its end once all have let go of it.
        fcntl_setfl(&pipe, OFlags::empty()).unwrap();
        pipe.read_to_end(&mut Vec::new()).unwrap();
        assert!(began.elapsed() < Duration::from_secs(30));
    }

    trait Tap: Sized {
        fn tap(self, change: impl FnOnce(&mut Self) -> &mut Self) -> Self;
    }

    impl Tap for Command {
        fn tap(mut self, change: impl FnOnce(&mut Self) -> &mut Self) -> Self {
            change(&mut self);
            self
        }
    }
}
