//! What systemd says of our units and of the agent's.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use futures_util::future::join;

use super::finding::Finding;
use crate::process::output;

/// It answers from memory.
const PATIENCE: Duration = Duration::from_secs(3);

/// The unit that holds the listeners.
pub(super) const SOCKET: &str = "puppet-shim.socket";
/// The unit of the daemon.
pub(super) const SERVICE: &str = "puppet-shim.service";
/// The unit of the agent's daemon.
const AGENT: &str = "puppet.service";

/// systemd, where it can be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Systemd {
    /// It cannot.
    Absent,
    /// What it says.
    Here(Units),
}

/// Units.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Units {
    /// systemd's own, `252`; `None`: it does not say.
    pub(super) version: Option<u32>,
    /// The socket.
    pub(super) socket: Unit,
    /// The service.
    pub(super) service: Unit,
    /// The environment in the agent's unit, as [`Variables::of_unit`](crate::puppet::environment::Variables::of_unit) reads
    /// it.
    pub(super) agent_environment: String,
    /// The files that the agent's unit reads its environment from.
    pub(super) agent_environment_files: Vec<String>,
}

/// One unit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Unit {
    /// Whether systemd knows it.
    pub(super) is_loaded: bool,
    /// Whether it is started.
    pub(super) state: State,
    /// Whether it is started at boot.
    pub(super) is_enabled: bool,
    /// Where a socket listens, for TCP.
    pub(super) listen: Vec<SocketAddr>,
}

/// What a unit does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum State {
    /// Nothing.
    #[default]
    Inactive,
    /// What it is for.
    Active,
    /// Nothing, after it came to a bad end.
    Failed,
}

impl Unit {
    /// Whether it is started.
    pub(super) fn is_active(&self) -> bool {
        self.state == State::Active
    }
}

impl Systemd {
    /// Asks.
    pub(super) async fn ask() -> Self {
        let mut command = Command::new("systemctl");
        command.args(["show", "--property=Id,LoadState,ActiveState,UnitFileState,Listen,Environment,EnvironmentFiles"]);
        command.args([SOCKET, SERVICE, AGENT]);
        let mut own = Command::new("systemctl");
        own.arg("--version");
        let (units, own) = join(output(command, PATIENCE), output(own, PATIENCE)).await;
        let version = own.and_then(|output| version(&String::from_utf8_lossy(&output.stdout)));
        match units {
            Some(output) if output.status.success() => {
                Systemd::Here(Units { version, ..parse(&String::from_utf8_lossy(&output.stdout)) })
            }
            // Not there, or, as in many a container, not what this host was started by.
            _ => Systemd::Absent,
        }
    }

    /// Our units, if they are installed.
    pub(super) fn socket(&self) -> Option<&Unit> {
        match self {
            Systemd::Here(units) if units.socket.is_loaded => Some(&units.socket),
            _ => None,
        }
    }

    /// The daemon's unit, if it is installed.
    pub(super) fn service(&self) -> Option<&Unit> {
        match self {
            Systemd::Here(units) if units.service.is_loaded => Some(&units.service),
            _ => None,
        }
    }
}

/// Judges our units; what is well is said of each listener.
pub(super) fn judge(systemd: &Systemd) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (name, unit) in [(SOCKET, systemd.socket()), (SERVICE, systemd.service())] {
        if unit.is_some_and(|unit| unit.state == State::Failed) {
            let mend = format!("`journalctl -u {name}` says why; then `systemctl restart {name}`");
            findings.push(Finding::problem("unit", name, "has failed", mend));
        }
    }
    let comes_with_boot = |unit: Option<&Unit>| unit.is_some_and(|unit| unit.is_enabled);
    if systemd.socket().is_some_and(Unit::is_active)
        && !comes_with_boot(systemd.socket())
        && !comes_with_boot(systemd.service())
    {
        let mend = format!("`systemctl enable {SOCKET}`");
        findings.push(Finding::warning("unit", SOCKET, "is not started at boot, and neither is the service", mend));
    }
    findings
}

/// A paragraph for each unit, in the order in which they were asked for; a line for each property, some repeated.
fn parse(text: &str) -> Units {
    let mut units = Units::default();
    for paragraph in text.split("\n\n") {
        let values = |key: &'static str| paragraph.lines().filter_map(move |line| line.strip_prefix(key));
        let is = |key, wanted: &str| values(key).any(|value| value == wanted);
        let unit = Unit {
            is_loaded: is("LoadState=", "loaded"),
            state: match values("ActiveState=").next() {
                Some("active") => State::Active,
                Some("failed") => State::Failed,
                _ => State::Inactive,
            },
            is_enabled: values("UnitFileState=").any(|value| value.starts_with("enabled")),
            // `Listen=127.0.0.1:8139 (Stream)`
            listen: values("Listen=")
                .filter_map(|value| value.strip_suffix(" (Stream)"))
                .filter_map(|value| value.parse().ok())
                .collect(),
        };
        match values("Id=").next() {
            Some(SOCKET) => units.socket = unit,
            Some(SERVICE) => units.service = unit,
            Some(AGENT) => {
                values("Environment=").next().unwrap_or_default().clone_into(&mut units.agent_environment);
                // `EnvironmentFiles=/etc/default/puppet (ignore_errors=yes)`
                let files = values("EnvironmentFiles=").filter_map(|value| value.split(" (").next());
                units.agent_environment_files = files.map(str::to_owned).collect();
            }
            _ => {}
        }
    }
    units
}

/// That in `systemd 252 (252.39-1~deb12u2)`.
fn version(text: &str) -> Option<u32> {
    let number = text.strip_prefix("systemd ")?.split(|c: char| !c.is_ascii_digit()).next()?;
    number.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version() {
        assert_eq!(version("systemd 252 (252.39-1~deb12u2)\n+PAM +AUDIT"), Some(252));
        assert_eq!(version("systemd 255~rc1 (x)"), Some(255));
        assert_eq!(version("Id=puppet-shim.socket"), None);
    }

    fn parse(text: &str) -> Systemd {
        Systemd::Here(super::parse(text))
    }

    #[test]
    fn reads_what_systemctl_shows() {
        let text = "Id=puppet-shim.socket
LoadState=loaded
ActiveState=active
UnitFileState=enabled
Listen=127.0.0.1:8139 (Stream)
Listen=[::1]:8139 (Stream)
Listen=/run/puppet-shim/status (Stream)

Id=puppet-shim.service
LoadState=loaded
ActiveState=inactive
UnitFileState=disabled

Environment=http_proxy=http://proxy:3128 LANG=C
EnvironmentFiles=/etc/sysconfig/puppet (ignore_errors=yes)
EnvironmentFiles=/etc/default/puppet (ignore_errors=yes)
Id=puppet.service
LoadState=loaded
";
        let systemd = parse(text);
        let socket = systemd.socket().unwrap();
        let listen: Vec<_> = socket.listen.iter().map(ToString::to_string).collect();
        assert_eq!((socket.is_active(), socket.is_enabled), (true, true));
        assert_eq!(listen, ["127.0.0.1:8139", "[::1]:8139"]);
        let service = systemd.service().unwrap();
        assert_eq!((service.is_active(), service.is_enabled), (false, false));
        let Systemd::Here(units) = systemd else { panic!() };
        assert_eq!(units.agent_environment, "http_proxy=http://proxy:3128 LANG=C");
        assert_eq!(units.agent_environment_files, ["/etc/sysconfig/puppet", "/etc/default/puppet"]);
    }

    #[test]
    fn what_is_wrong_with_them() {
        let judged = |text: &str| -> Vec<String> {
            judge(&parse(text)).into_iter().map(|f| format!("{} {}: {}", f.subject, f.what, f.mend.unwrap())).collect()
        };
        let unit = |id: &str, state: &str, file: &str| {
            format!("Id=puppet-shim.{id}\nLoadState=loaded\nActiveState={state}\nUnitFileState={file}\n\n")
        };
        assert_eq!(judged(&(unit("socket", "active", "enabled") + &unit("service", "inactive", "disabled"))), [""; 0]);
        assert_eq!(judged(&(unit("socket", "active", "disabled") + &unit("service", "active", "enabled"))), [""; 0]);
        assert_eq!(
            judged(&(unit("socket", "active", "disabled") + &unit("service", "failed", "disabled"))),
            [
                "puppet-shim.service has failed: `journalctl -u puppet-shim.service` says why; then `systemctl restart \
                 puppet-shim.service`",
                "puppet-shim.socket is not started at boot, and neither is the service: `systemctl enable puppet-shim.socket`"
            ]
        );
    }

    #[test]
    fn a_unit_that_is_not_installed() {
        let systemd = parse("Id=puppet-shim.socket\nLoadState=not-found\nActiveState=inactive\nUnitFileState=\n");
        assert_eq!((systemd.socket(), systemd.service()), (None, None));
    }
}
