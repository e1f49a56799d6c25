//! Other programs that are asked, and not for long.

use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

/// Runs a command to its end; `None`: there is no such command, or it has not ended after `patience`, and was killed.
pub(super) async fn output(mut command: Command, patience: Duration) -> Option<Output> {
    let running: Arc<Mutex<Option<Pid>>> = Arc::default();
    let pid = running.clone();
    let hold = move |held: &Mutex<Option<Pid>>, value| *held.lock().unwrap_or_else(PoisonError::into_inner) = value;
    let ended = spawn_blocking(move || {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child: Child = command.spawn().ok()?;
        hold(&pid, Some(Pid::from_child(&child)));
        let output = child.wait_with_output().ok();
        hold(&pid, None);
        output
    });
    if let Ok(output) = timeout(patience, ended).await {
        return output.ok().flatten();
    }
    if let Some(pid) = *running.lock().unwrap_or_else(PoisonError::into_inner) {
        // It may have ended just now.
        let _ = kill_process(pid, Signal::KILL);
    }
    None
}

#[cfg(test)]
mod tests {
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
