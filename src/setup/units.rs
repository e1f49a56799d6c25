//! systemd's part: the socket listens where it should, and the service reads its configuration.

use std::path::Path;
use std::process::{Command, Stdio};

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

    /// Has systemd do it, and waits until it is done.
    pub fn take(self) -> Result<(), UnitError> {
        let error = |said: String| UnitError { call: self.call(), said };
        let output = Command::new("systemctl").args(self.args()).stdin(Stdio::null()).output();
        let output = output.map_err(|why| error(why.to_string()))?;
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
    fn no_more_than_is_needed() {
        assert_eq!(steps(false, false, true), []);
        assert_eq!(steps(false, true, true), [Step::ReloadService]);
        assert_eq!(steps(true, false, true), [Step::Reload, Step::RestartSocket]);
        assert_eq!(steps(false, false, false), [Step::RestartSocket]);
    }
}
