//! Sends this host's agent through puppet-shim, and takes it off again.
//!
//! [`look`] finds out what is so, [`plan`] decides what has to change, [`draft`] works out the files' new texts, and
//! [`work`] makes the changes, after [`record`] has taken down what there was. [`undo`] puts that back.

pub mod block;
pub mod configuration;
pub mod diff;
pub mod draft;
pub mod environment;
pub mod facts;
pub mod file;
pub mod hosts;
pub mod look;
pub mod names;
pub mod plan;
pub mod puppet_conf;
pub mod record;
pub mod undo;
pub mod units;
pub mod work;

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::puppet::ENVIRONMENT_FILES;

/// How the agent comes to puppet-shim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// It has puppet-shim as its proxy, and asks for each role by a name of its own
    Proxy,
    /// The names lead to this host in the hosts file
    Alias,
    /// It has puppet-shim as its proxy, and asks for each role by a port under the one name in `server`
    Port,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Mode::Proxy => "proxy",
            Mode::Alias => "alias",
            Mode::Port => "port",
        })
    }
}

/// Where things are on this host.
#[derive(Clone, Debug)]
pub struct Places {
    /// The hosts file.
    pub hosts: PathBuf,
    /// The drop-in of the socket unit that is ours.
    pub drop_in: PathBuf,
    /// Our configuration.
    pub configuration: PathBuf,
    /// There while systemd runs the host (`sd_booted(3)`).
    pub systemd: PathBuf,
    /// What the agent's service reads into its environment.
    pub environment: Vec<PathBuf>,
}

impl Places {
    /// Those of every host, and this configuration.
    pub fn of_host(configuration: PathBuf) -> Self {
        Places {
            hosts: "/etc/hosts".into(),
            drop_in: "/etc/systemd/system/puppet-shim.socket.d/setup.conf".into(),
            configuration,
            systemd: "/run/systemd/system".into(),
            environment: ENVIRONMENT_FILES.map(PathBuf::from).to_vec(),
        }
    }
}

/// Why it came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// Puppet does not say what is so.
    #[error(transparent)]
    Puppet(#[from] crate::puppet::PuppetError),
    /// Nor what it would make of `puppet.conf`.
    #[error(transparent)]
    Edit(#[from] puppet_conf::EditError),
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] file::FileError),
    /// What has been changed cannot be taken down.
    #[error(transparent)]
    Record(#[from] record::RecordError),
    /// Our configuration cannot be changed.
    #[error("{}: {why}", .path.display())]
    Configuration {
        /// Where it is.
        path: PathBuf,
        /// Why.
        why: configuration::NotToml,
    },
    /// systemd did not do as it was told.
    #[error(transparent)]
    Unit(#[from] units::UnitError),
    /// The runtime for DNS and the servers could not be had.
    #[error("DNS cannot be asked: {0}")]
    Runtime(std::io::Error),
    /// Nobody listens where the agent was to be sent.
    #[error(
        "nobody listens on {0}, so the agent has not been sent there; `systemctl status puppet-shim.socket` and `journalctl -u \
         puppet-shim.socket` say why"
    )]
    Silent(String),
    /// It has ended in between.
    #[error(
        "{0}; some of it may have been changed: the same again completes it, `puppet-shim setup --undo` puts it back"
    )]
    Halfway(Box<SetupError>),
    /// A setting that everything else goes by says nothing that is understood.
    #[error("{0}")]
    Settings(String),
}
