//! `puppet-shim run`: the daemon.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_blocking;

use crate::config::{self, Config, Diagnostic, InForce, Provenance, Severity};
use crate::daemon::{BuildError, Change, Changed, Daemon, Order, Site};
use crate::inherited::Inherited;
use crate::log::{self, Format, Style};
use crate::memory;
use crate::notify::{News, Notifier};
use crate::pool::Pool;
use crate::state::StateDirectory;

/// `EX_OSERR` of sysexits.h.
const NO_RUNTIME: u8 = 71;
/// `EX_UNAVAILABLE` of sysexits.h: nothing to listen on.
const NOT_BOUND: u8 = 69;

/// Descriptors beside those of the connections: listeners, log, DNS.
const SPARE_DESCRIPTORS: u64 = 64;

/// The state directory is written by a thread of its own, which ends so long after.
const WRITER_LINGERS: Duration = Duration::from_millis(100);

/// Carry the agent's connections, until SIGTERM or SIGINT
///
/// A configuration that cannot be used never stops it: the one accepted last holds instead, or the defaults, and the
/// log says so. SIGHUP has it read again. SIGTERM leaves open connections to the next process where systemd keeps them;
/// SIGINT, like SIGTERM elsewhere, waits until closing them harms no run. A second signal ends it at once.
#[derive(Clone, Debug, clap::Args)]
#[command(after_long_help = MORE)]
pub struct RunArgs {
    /// The configuration to use instead of /etc/puppet-shim/puppet-shim.toml
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// How a log line is written
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t)]
    pub log_format: Format,

    /// What is logged: a level, for all or for a part; without it what the environment says, else info
    ///
    /// The levels are off, error, warn, info, debug and trace. A part is a module of puppet-shim's or of a library's, and the
    /// longest name that fits counts: `warn,puppet_shim=debug`, `puppet_shim::connection=off`.
    #[arg(long, value_name = "FILTER")]
    pub log: Option<String>,
}

/// What `--help` ends with.
const MORE: &str = "\
Examples:
  puppet-shim run                                as systemd starts it
  puppet-shim run --config ./shim.toml           to try a configuration; it may listen on other ports
  puppet-shim run --log puppet_shim=debug        with what is otherwise not worth a line
  puppet-shim run --log-format json 2>&1 | jq .  an object for each line

Environment:
  RUST_LOG           what is logged, where --log does not say
  NO_COLOR           no colour on a terminal
  STATE_DIRECTORY    where state is kept, as systemd sets it
  RUNTIME_DIRECTORY  where the status socket is, as systemd sets it";

/// Runs the command.
pub fn run(args: &RunArgs) -> ExitCode {
    let env = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let style = Style::of(args.log_format, env("JOURNAL_STREAM").as_deref(), env("NO_COLOR").is_some());
    log::init(style, args.log.clone().or_else(|| env("RUST_LOG")).as_deref());
    let inherited = Inherited::take();
    let state = StateDirectory::find();
    let found = configure(args, &state);
    raise_descriptor_limit(&found.config);
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_io().enable_time().max_blocking_threads(1).thread_keep_alive(WRITER_LINGERS);
    let runtime = match runtime.build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "cannot start");
            return NO_RUNTIME.into();
        }
    };
    match runtime.block_on(serve(args, &found, &state, inherited)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            NOT_BOUND.into()
        }
    }
}

/// The configuration in force, with everything that is to be said of it said.
fn configure(args: &RunArgs, state: &StateDirectory) -> InForce {
    let found = config::in_force(args.config.as_deref(), state);
    found.diagnostics.iter().for_each(say);
    if found.origin.is_fallback() {
        tracing::error!("running with {}", found.origin);
    } else {
        tracing::info!("running with {}", found.origin);
    }
    found
}

fn say(diagnostic: &Diagnostic) {
    match diagnostic.severity {
        Severity::Error => tracing::error!("{diagnostic}"),
        Severity::Warning => tracing::warn!("{diagnostic}"),
    }
}

async fn serve(
    args: &RunArgs,
    found: &InForce,
    state: &StateDirectory,
    inherited: Inherited,
) -> Result<(), BuildError> {
    // Before the first connection, so that no signal is missed from the moment on that somebody can use the port.
    let (terminate, interrupt) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
    let hangup = signal(SignalKind::hangup());
    let manager = Arc::new(Notifier::find());
    let (config, state_of) = (found.config.clone(), Some(state.clone()));
    let daemon = Daemon::build_with(config, inherited, manager.clone(), state_of).await?;
    // Only now: one with which nothing can be listened on is no good one.
    if !daemon.uses_default_listeners() {
        found.accept(state).iter().for_each(say);
    }
    let provenance = daemon.provenance();
    tell(&provenance, |told| *told = Provenance::of(found, memory::clock()));
    let (order, orders) = mpsc::channel(1);
    for (signal, end) in [(terminate, (|| Order::Stop) as fn() -> Order), (interrupt, || Order::Drain)] {
        if let Ok(signal) = signal {
            tokio::spawn(end_at(signal, end, order.clone()));
        }
    }
    if let Ok(hangup) = hangup {
        tokio::spawn(reload_at(hangup, order.clone(), args.clone(), state.clone(), provenance, manager));
    }
    let status = status(found, daemon.addresses());
    daemon.with_status(status).with_status_socket().run(orders).await;
    // Until here, so that a host on which no signal can be listened to has a daemon all the same.
    drop(order);
    Ok(())
}

/// What `systemctl status` shows.
fn status(found: &InForce, addresses: &[SocketAddr]) -> String {
    let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
    let addresses = addresses.join(", ");
    if found.origin.is_fallback() {
        format!("running with {}; listening on {addresses}", found.origin)
    } else {
        format!("listening on {addresses}")
    }
}

/// Passes on the wish to end.
async fn end_at(mut signal: Signal, end: fn() -> Order, order: mpsc::Sender<Order>) {
    while signal.recv().await.is_some() && order.send(end()).await.is_ok() {}
}

/// Reads the configuration again whenever that is wanted. One that cannot be used changes nothing.
async fn reload_at(
    mut hangup: Signal,
    order: mpsc::Sender<Order>,
    args: RunArgs,
    state: StateDirectory,
    provenance: Arc<Mutex<Provenance>>,
    manager: Arc<Notifier>,
) {
    while hangup.recv().await.is_some() {
        manager.tell(News::Reloading);
        // Otherwise it stops, and has said so.
        if let Some(status) = reload(&order, &args, &state, &provenance).await {
            manager.tell(News::Ready(&status));
        }
    }
}

/// Does so. Gives what `systemctl status` is to show.
async fn reload(
    order: &mpsc::Sender<Order>,
    args: &RunArgs,
    state: &StateDirectory,
    provenance: &Mutex<Provenance>,
) -> Option<String> {
    // A disk may be slow, and the host's own DNS is asked for the domain: not on the thread that carries the tunnels.
    let (file, kept) = (args.config.clone(), state.clone());
    let read = spawn_blocking(move || {
        let found = config::in_force(file.as_deref(), &kept);
        let before = memory::peek(&kept, &mut Pool::new(Duration::ZERO)).ok().and_then(|learnt| learnt.domain);
        let site = (!found.origin.is_fallback()).then(|| Site::new(&found.config, before.as_ref()));
        (found, site)
    });
    let Ok((found, site)) = read.await else { return Some("the configuration could not be read again".into()) };
    found.diagnostics.iter().for_each(say);
    let Some(site) = site else {
        let why = "the configuration that was to be read again cannot be used; going on as before";
        tell(provenance, |told| told.reject(&found, memory::clock()));
        tracing::error!("{why}");
        return Some(why.into());
    };
    raise_descriptor_limit(&found.config);
    let (done, changed) = oneshot::channel();
    let provenance = Provenance::of(&found, memory::clock());
    let change = Change { config: found.config.clone(), site, provenance, done };
    order.send(Order::Change(Box::new(change))).await.ok()?;
    let Changed { addresses, keeps_listeners } = changed.await.ok()?;
    let status = status(&found, &addresses);
    if !keeps_listeners {
        let state = state.clone();
        let kept = spawn_blocking(move || found.accept(&state)).await;
        kept.ok().flatten().iter().for_each(say);
    }
    Some(status)
}

/// For who asks for the status.
fn tell(provenance: &Mutex<Provenance>, what: impl FnOnce(&mut Provenance)) {
    what(&mut provenance.lock().unwrap_or_else(PoisonError::into_inner));
}

/// Two descriptors for each connection, more while it is not decided which server gets it; the usual soft limit of 1024
/// would end at half of what is configured.
fn raise_descriptor_limit(config: &Config) {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let connections = config.limits.connections as u64;
    let (needed, wanted) = (2 * connections + SPARE_DESCRIPTORS, 8 * connections + SPARE_DESCRIPTORS);
    if current.is_none_or(|current| current >= wanted) {
        return;
    }
    let allowed = maximum.map_or(wanted, |maximum| maximum.min(wanted));
    if setrlimit(Resource::Nofile, Rlimit { current: Some(allowed), maximum }).is_err() || allowed < needed {
        tracing::warn!(
            allowed,
            needed,
            "fewer descriptors than limits.connections may need; raise LimitNOFILE or lower limits.connections"
        );
    }
}
