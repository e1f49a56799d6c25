//! systemd's part: the socket listens where it should, and the service reads its configuration.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::process::{self, ProcessError};

/// How long systemd may take for one of them: a restart goes on with open tunnels, and does not wait for their end.
const PATIENCE: Duration = Duration::from_secs(60);

/// What systemd has to be told, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Units have changed.
    Reload,
    /// The socket is to listen elsewhere, or at all. The service goes along with it (`PartOf=` in its unit), for systemd
    /// refuses to start a socket whose service runs.
    RestartSocket,
    /// The configuration has changed.
    ReloadService,
}

/// systemd did not do it.
#[derive(Debug, thiserror::Error)]
#[error("`{call}`: {said}")]
pub struct UnitError {
    call: String,
    said: String,
}

impl Step {
    fn args(self) -> &'static [&'static str] {
        match self {
            Step::Reload => &["daemon-reload"],
            Step::RestartSocket => &["restart", "puppet-shim.socket"],
            Step::ReloadService => &["try-reload-or-restart", "puppet-shim.service"],
        }
    }

    /// The command as one would type it.
    pub fn call(self) -> String {
        format!("systemctl {}", self.args().join(" "))
    }

    /// Has systemd do it, and waits until it is done, at most for a minute.
    pub fn take(self) -> Result<(), UnitError> {
        let mut command = Command::new("systemctl");
        command.args(self.args());
        self.wait(command, PATIENCE)
    }

    fn wait(self, command: Command, patience: Duration) -> Result<(), UnitError> {
        let error = |said: String| UnitError { call: self.call(), said };
        let output = process::run(command, patience).map_err(|why| match why {
            ProcessError::Io(why) => error(why.to_string()),
            ProcessError::Slow(_) => error(format!("{why}; `systemctl list-jobs` says what systemd waits for")),
        })?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr).lines().map(str::trim).collect::<Vec<_>>().join("; ");
        Err(error(if said.is_empty() { output.status.to_string() } else { said }))
    }
}

/// The steps after these files have changed; `listens`: whether somebody listens wherever puppet-shim should.
pub fn steps(drop_in: bool, configuration: bool, listens: bool) -> Vec<Step> {
    let mut steps = Vec::new();
    if drop_in {
        steps.push(Step::Reload);
    }
    if drop_in || !listens {
        steps.push(Step::RestartSocket);
    }
    // A restart reads it too, if there is a process to be restarted at all.
    if configuration {
        steps.push(Step::ReloadService);
    }
    steps
}

/// Whether systemd runs this host.
pub fn is_booted(place: &Path) -> bool {
    place.is_dir()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_hangs_is_not_waited_for() {
        let mut hung = Command::new("sleep");
        hung.arg("60");
        let error = Step::RestartSocket.wait(hung, Duration::from_millis(100)).unwrap_err().to_string();
        let words = "`systemctl restart puppet-shim.socket`: it did not end within 0.1 s, and was killed; `systemctl list-jobs`";
        assert!(error.starts_with(words), "{error}");
    }

    #[test]
    fn no_more_than_is_needed() {
        assert_eq!(steps(false, false, true), []);
        assert_eq!(steps(false, true, true), [Step::ReloadService]);
        assert_eq!(steps(true, false, true), [Step::Reload, Step::RestartSocket]);
        assert_eq!(steps(false, false, false), [Step::RestartSocket]);
    }
}
