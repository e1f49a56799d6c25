//! Writes down what is remembered when it has changed, beside the one thread that carries the tunnels.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::OwnedMutexGuard;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep};

use super::{FILE, LIMIT, Learnt, clock, to_json};
use crate::connection::Shared;
use crate::counters::Counters;
use crate::state::StateDirectory;

/// What was counted is written after so long, unless something else is before. A crash makes counts fall by no more.
const PACE: Duration = Duration::from_secs(60);

/// Keeps the file in the state directory up to date.
pub struct Keeper {
    shared: Mutex<Arc<Shared>>,
    state: StateDirectory,
    /// Held by who writes: there is one write at a time, and a later one never comes before an earlier.
    turn: Arc<tokio::sync::Mutex<()>>,
    progress: Mutex<Progress>,
}

/// What has become of the writes.
#[derive(Default)]
struct Progress {
    /// What the last one to succeed has written was remembered then; `None`: none has.
    written: Option<Instant>,
    /// Whether the last one failed, which has been said.
    failed: bool,
    /// The counts that were written last, or at the start.
    counted: Counters,
    /// Whether what was counted waits to be written.
    waits: bool,
}

/// What is to be written.
struct Memory {
    text: io::Result<Vec<u8>>,
    counted: Counters,
}

impl Keeper {
    /// Nothing is written yet.
    pub fn new(shared: Arc<Shared>, state: StateDirectory) -> Self {
        let progress = Progress { counted: shared.counters().clone(), ..Progress::default() };
        Keeper { shared: Mutex::new(shared), state, turn: Arc::default(), progress: Mutex::new(progress) }
    }

    /// Goes on with what is shared from now on.
    pub fn follow(&self, shared: Arc<Shared>) {
        *self.shared.lock().unwrap_or_else(PoisonError::into_inner) = shared;
    }

    /// Begins to write, if something has changed that is worth it, and does not wait for it. A disk may take seconds,
    /// so a thread of its own writes, which ends soon after. What was merely counted can wait for a minute.
    pub fn keep(self: &Arc<Self>) {
        // Who is writing looks for further changes afterwards.
        if let Ok(turn) = self.turn.clone().try_lock_owned()
            && let Some(memory) = self.changed()
        {
            tokio::spawn(self.clone().write(memory, turn));
        } else if self.has_counted() && !std::mem::replace(&mut self.progress().waits, true) {
            tokio::spawn(self.clone().write_later());
        }
    }

    /// One wait at a time, and none where nothing was counted since: who is idle has no timer.
    async fn write_later(self: Arc<Self>) {
        sleep(PACE).await;
        self.progress().waits = false;
        let turn = self.turn.clone().lock_owned().await;
        let memory = self.changed().or_else(|| self.has_counted().then(|| self.memory()));
        if let Some(memory) = memory {
            self.write(memory, turn).await;
        }
    }

    /// Writes for the last time, and waits for it: a pin lasts from the moment of its last use, which is no change that
    /// would have been written before, and a count may wait.
    pub async fn finish(&self) {
        let _turn = self.turn.lock().await;
        let Some(memory) = self.changed().or_else(|| self.used()) else { return };
        let at = Instant::now();
        let Memory { text, counted } = memory;
        let result = write(&self.state, text);
        self.note(result, at, counted);
    }

    async fn write(self: Arc<Self>, memory: Memory, _turn: OwnedMutexGuard<()>) {
        let mut next = Some(memory);
        while let Some(Memory { text, counted }) = next {
            let (state, at) = (self.state.clone(), Instant::now());
            let result = spawn_blocking(move || write(&state, text)).await.unwrap_or_else(|gone| Err(gone.into()));
            self.note(result, at, counted);
            next = self.changed();
        }
    }

    /// What is to be written, if something has changed.
    fn changed(&self) -> Option<Memory> {
        let shared = self.shared();
        let has_news = shared.discovery.take_changed();
        let has_changed = shared.pool().take_changed() || has_news;
        has_changed.then(|| self.memory())
    }

    /// What is to be written, if pins have been used since, or something was counted, or the last write failed.
    fn used(&self) -> Option<Memory> {
        let (written, failed) = {
            let progress = self.progress();
            (progress.written, progress.failed)
        };
        let is_newer = |used| written.is_none_or(|written| used > written);
        let used = {
            let (shared, now) = (self.shared(), Instant::now());
            let pool = shared.pool();
            pool.pins.live(now).any(|(_, pin)| pool.pins.is_open(&pin.server) || is_newer(pin.used))
        };
        (used || failed || self.has_counted()).then(|| self.memory())
    }

    fn has_counted(&self) -> bool {
        *self.shared().counters() != self.progress().counted
    }

    /// All that is known now.
    fn memory(&self) -> Memory {
        let shared = self.shared();
        let learnt = learnt(&shared);
        let text = to_json(&shared.pool(), &learnt, Instant::now(), clock()).map_err(io::Error::from);
        Memory { text, counted: learnt.counters }
    }

    /// One warning, not one for each connection.
    fn note(&self, result: io::Result<()>, at: Instant, counted: Counters) {
        let mut progress = self.progress();
        match result {
            Ok(()) => (progress.written, progress.failed, progress.counted) = (Some(at), false, counted),
            Err(error) if !progress.failed => {
                let path = self.state.file(FILE);
                tracing::warn!(
                    "cannot write {}: {error}; a restart will forget what is known of DNS and of the servers; let puppet-shim's user write there",
                    path.display()
                );
                progress.failed = true;
            }
            Err(_) => {}
        }
    }

    fn shared(&self) -> Arc<Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn learnt(shared: &Shared) -> Learnt {
    Learnt {
        answers: shared.discovery.answers(),
        domain: shared.domain.clone(),
        counters: shared.counters().clone(),
        history: shared.history().clone(),
    }
}

/// What could not be read again is not written.
fn write(state: &StateDirectory, memory: io::Result<Vec<u8>>) -> io::Result<()> {
    let memory = memory?;
    if memory.len() as u64 > LIMIT {
        return Err(io::Error::other(format!("it would have {} bytes, more than {LIMIT}", memory.len())));
    }
    state.write(FILE, &memory)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::check::Checks;
    use crate::config::Config;
    use crate::discovery::Discovery;
    use crate::discovery::dns::Dns;
    use crate::memory::peek;
    use crate::pool::Pool;
    use crate::probe::Prober;
    use crate::report::{Outcome, Report};
    use crate::role::Table;
    use crate::trust::Trust;
    use crate::tunnel::End;

    fn keeper(state: StateDirectory) -> Arc<Keeper> {
        let config = Config::default();
        let dns = Dns::new(&config.dns, Path::new("/nonexistent"));
        let shared = Shared {
            table: Table::new(&config, None),
            discovery: Arc::new(Discovery::new(&config, dns, None)),
            key: String::new(),
            domain: None,
            pool: Arc::new(Mutex::new(Pool::new(config.timeouts.pin))),
            counters: Arc::default(),
            checks: Arc::new(Checks::new(Prober::new(Trust::new(None)))),
            listeners: Vec::new(),
            doors: Vec::new(),
            history: Arc::default(),
            gauge: Arc::default(),
            started: Instant::now(),
            provenance: Arc::default(),
            config,
        };
        Arc::new(Keeper::new(Arc::new(shared), state))
    }

    fn count(keeper: &Arc<Keeper>) {
        let mut report = Report::new(([127, 0, 0, 1], 1).into());
        report.outcome = Some(Outcome::Tunnel(End::ClientClosed));
        keeper.shared().counters().count(&report);
        report.hand_over();
        keeper.keep();
    }

    fn written(state: &StateDirectory) -> u64 {
        let learnt = peek(state, &mut Pool::new(Duration::ZERO)).unwrap();
        learnt.counters.roles().map(|(_, tally)| tally.carried).sum()
    }

    /// So that a crash makes no counter fall that was seen more than a minute before.
    #[tokio::test(start_paused = true)]
    async fn what_was_counted_is_written_once_within_a_minute_and_then_nothing_waits() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDirectory::at(folder.path());
        let keeper = keeper(state.clone());
        for _ in 0..3 {
            count(&keeper);
            sleep(Duration::from_secs(10)).await;
        }
        assert_eq!(written(&state), 0, "not with each connection");
        sleep(PACE).await;
        assert_eq!(written(&state), 3);
        assert!(!keeper.progress().waits, "who is idle has no timer");
        count(&keeper);
        sleep(2 * PACE).await;
        assert_eq!(written(&state), 4);
    }
}
