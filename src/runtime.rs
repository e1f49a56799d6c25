//! The runtime directory: what is there while the daemon runs.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use directories::ProjectDirs;

use crate::config::{StatusConfig, StatusSocket};

/// That of the daemon that the host's own unit starts; its `RuntimeDirectory=` names the same one.
const SYSTEM: &str = "/run/puppet-shim";

/// The status socket's name in it.
const STATUS: &str = "status.socket";

/// Where the daemon of this process listens for who asks for the status; `None`: nowhere, for it is switched off, or there
/// is no directory. `$RUNTIME_DIRECTORY` under systemd, else `/run/puppet-shim` for root, else the user's own.
pub fn status_socket(config: &StatusConfig) -> Option<PathBuf> {
    let given = env::var_os("RUNTIME_DIRECTORY");
    choose(config, given, rustix::process::geteuid().is_root(), users_own())
}

/// Where somebody else's daemon would: the same, but for a user who has none of his own, who means the host's.
pub fn status_socket_to_ask(config: &StatusConfig) -> Option<PathBuf> {
    let own = status_socket(config);
    match (&config.socket, own) {
        (StatusSocket::Usual, own) if own.as_deref().is_none_or(|own| !own.exists()) => {
            let system = Path::new(SYSTEM).join(STATUS);
            Some(own.filter(|_| env::var_os("RUNTIME_DIRECTORY").is_some()).unwrap_or(system))
        }
        (_, own) => own,
    }
}

fn users_own() -> Option<PathBuf> {
    ProjectDirs::from("", "", "puppet-shim").and_then(|dirs| dirs.runtime_dir().map(Path::to_owned))
}

/// `systemd` is `$RUNTIME_DIRECTORY`: absolute paths with `:` between them (systemd.exec(5)). The first is ours.
fn choose(config: &StatusConfig, systemd: Option<OsString>, root: bool, user: Option<PathBuf>) -> Option<PathBuf> {
    match &config.socket {
        StatusSocket::Off => return None,
        StatusSocket::At(path) => return Some(path.clone()),
        StatusSocket::Usual => {}
    }
    let given = systemd.and_then(|paths| env::split_paths(&paths).find(|path| path.is_absolute()));
    let directory = given.or_else(|| if root { Some(SYSTEM.into()) } else { user })?;
    Some(directory.join(STATUS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chooses_in_order() {
        let user = || Some(PathBuf::from("/run/user/1000/puppet-shim"));
        let systemd = |text: &str| Some(OsString::from(text));
        let usual = StatusConfig::default();
        for (given, root, expected) in [
            (systemd("/run/shim:/run/other"), false, "/run/shim/status.socket"),
            (systemd(""), true, "/run/puppet-shim/status.socket"),
            (None, true, "/run/puppet-shim/status.socket"),
            (None, false, "/run/user/1000/puppet-shim/status.socket"),
        ] {
            assert_eq!(choose(&usual, given.clone(), root, user()).as_deref(), Some(Path::new(expected)), "{given:?}");
        }
        assert_eq!(choose(&usual, None, false, None), None);
        let at = StatusConfig { socket: StatusSocket::At("/x".into()), ..usual.clone() };
        assert_eq!(choose(&at, systemd("/run/shim"), true, user()), Some("/x".into()));
        let off = StatusConfig { socket: StatusSocket::Off, ..usual.clone() };
        assert_eq!(choose(&off, systemd("/run/shim"), true, user()), None);
    }
}
