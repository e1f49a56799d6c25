//! Who says what the daemon does: a task for each socket on which that is asked for. To the daemon it is no connection:
//! it neither takes a place nor keeps an idle process there.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::config::StatusConfig;
use crate::connection::Shared;
use crate::runtime;
use crate::status::StatusSocket;

/// The sockets, served for as long as this is there.
pub(super) struct StatusDesk {
    shared: watch::Sender<Arc<Shared>>,
    /// Those that the service manager holds.
    held: JoinSet<()>,
    /// That of the configuration, with what that said of it.
    own: Option<(StatusConfig, JoinSet<()>)>,
}

impl StatusDesk {
    /// Serves those that the service manager has passed on.
    pub(super) fn new(shared: Arc<Shared>, passed: Vec<OwnedFd>) -> Self {
        let mut desk = StatusDesk { shared: watch::Sender::new(shared), held: JoinSet::new(), own: None };
        for socket in passed {
            match StatusSocket::adopt(socket) {
                Ok(socket) => {
                    desk.held.spawn(socket.serve(desk.shared.subscribe()));
                }
                Err(error) => tracing::warn!(%error, "a status socket that was passed on cannot be served"),
            }
        }
        desk
    }

    /// Serves that of the configuration. Where it cannot be had, it is said, and all else goes on.
    pub(super) fn open(&mut self, config: &StatusConfig) {
        let mut task = JoinSet::new();
        // Where the site has systemd hold one, that is the one.
        if let Some(path) = runtime::status_socket(config).filter(|_| self.held.is_empty()) {
            match StatusSocket::bind(&path, config.group.as_deref()) {
                Ok(socket) => {
                    task.spawn(socket.serve(self.shared.subscribe()));
                }
                Err(error) => tracing::warn!(
                    "cannot say on {} what it does: {error}; `puppet-shim status` will only know what is written down",
                    path.display()
                ),
            }
        }
        self.own = Some((config.clone(), task));
    }

    /// Goes on with what is shared from now on.
    pub(super) async fn follow(&mut self, shared: Arc<Shared>) {
        let config = shared.config.status.clone();
        self.shared.send_replace(shared);
        let has_changed = self.own.as_ref().is_some_and(|(before, _)| *before != config);
        if let Some((_, mut task)) = self.own.take_if(|_| has_changed) {
            // The new one may be at the same place.
            task.shutdown().await;
            self.open(&config);
        }
    }
}
