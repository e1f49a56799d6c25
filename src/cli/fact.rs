//! `puppet-shim fact`: what Facter is to know.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use super::output;
use crate::config;
use crate::hosts_file;
use crate::runtime;
use crate::state::StateDirectory;
use crate::status::fact::Fact;
use crate::status::{query_within, recalled};

/// `EX_IOERR` of sysexits.h.
const NOT_WRITTEN: u8 = 74;

/// Every run of the agent waits for its facts, and is to have this one within 20 ms. A daemon that is well takes one or two;
/// failing that, what is written down will do, of a minute ago at most.
const PATIENCE: Duration = Duration::from_millis(10);

/// Where agents have their configuration: those of AIO and `OpenVox` packages, and Debian's.
const PUPPET_CONF: [&str; 2] = ["/etc/puppetlabs/puppet/puppet.conf", "/etc/puppet/puppet.conf"];

/// Longest of these files that is looked at.
const LONGEST: u64 = 1024 * 1024;

/// What `--help` ends with.
const MORE: &str = "\
The packages put /etc/facter/facts.d/puppet_shim there, by which Debian's Facter, AIO's and OpenVox's find it; and so \
PuppetDB can tell which hosts are with which server, or in trouble. Nothing in it changes with every run but \
`server`, where a role has several servers of one priority: `balance` = srv and least-loaded draw one for each run; with \
hash it stays.

Examples:
  facter puppet_shim.roles.compile.server
  puppet query 'inventory[certname] { facts.puppet_shim.roles.compile.stale = true }'
  puppet query 'inventory[certname] { facts.puppet_shim.configuration != \"file\" }'";

/// Print the fact `puppet_shim` for Facter
///
/// A hash as JSON: the version; how the agent comes here, as its puppet.conf and the hosts file tell (`mode`: proxy, alias,
/// either with +port, none, unknown); where the configuration came from; and for each role the server of its last tunnel, who
/// names its servers, whether DNS is stale, whether the last connection failed, and the last error. Without a process it says
/// what the daemon has written down.
#[derive(Clone, Debug, clap::Args)]
#[command(after_long_help = MORE)]
pub struct FactArgs {
    /// The configuration to use instead of /etc/puppet-shim/puppet-shim.toml
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Runs the command.
pub fn fact(args: &FactArgs) -> ExitCode {
    let state = StateDirectory::find_to_look_at();
    let found = config::in_force(args.config.as_deref(), &state);
    let socket = runtime::status_socket_to_ask(&found.config.status);
    let status = socket.and_then(|socket| query_within(&socket, PATIENCE).ok());
    let status = status.unwrap_or_else(|| recalled(&found, &state));
    let puppet_conf = PUPPET_CONF.iter().find_map(|path| read(Path::new(path)));
    let hosts = read(Path::new(hosts_file::PATH)).unwrap_or_default();
    let fact = Fact::of(&status, &found.config, puppet_conf.as_deref(), &hosts);
    match output::print(&fact.to_json()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => NOT_WRITTEN.into(),
    }
}

/// A file's text; `None`: there is none that can be read.
fn read(path: &Path) -> Option<String> {
    let meta = fs::metadata(path).ok()?;
    (meta.is_file() && meta.len() <= LONGEST)
        .then(|| fs::read(path).ok())?
        .map(|bytes| String::from_utf8_lossy(&bytes).into())
}
