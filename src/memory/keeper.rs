//! Writes down what is remembered when it has changed, beside the one thread that carries the tunnels.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::OwnedMutexGuard;
use tokio::task::spawn_blocking;
use tokio::time::Instant;

use super::{FILE, LIMIT, Learnt, clock, to_json};
use crate::connection::Shared;
use crate::counters::Counters;
use crate::state::StateDirectory;

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
    /// The counts at the start.
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
    /// so a thread of its own writes, which ends soon after.
    pub fn keep(self: &Arc<Self>) {
        // Who is writing looks for further changes afterwards.
        let Ok(turn) = self.turn.clone().try_lock_owned() else { return };
        if let Some(memory) = self.changed() {
            tokio::spawn(self.clone().write(memory, turn));
        }
    }

    /// Writes for the last time, and waits for it: a pin lasts from the moment of its last use, which is no change that
    /// would have been written before, and nor is a count.
    pub async fn finish(&self) {
        let _turn = self.turn.lock().await;
        let Some(memory) = self.changed().or_else(|| self.used()) else { return };
        let at = Instant::now();
        let result = write(&self.state, memory);
        self.note(result, at);
    }

    async fn write(self: Arc<Self>, memory: io::Result<Vec<u8>>, _turn: OwnedMutexGuard<()>) {
        let mut next = Some(memory);
        while let Some(memory) = next {
            let (state, at) = (self.state.clone(), Instant::now());
            let result = spawn_blocking(move || write(&state, memory)).await.unwrap_or_else(|gone| Err(gone.into()));
            self.note(result, at);
            next = self.changed();
        }
    }

    /// What is to be written, if something has changed.
    fn changed(&self) -> Option<io::Result<Vec<u8>>> {
        let shared = self.shared();
        let has_news = shared.discovery.take_changed();
        let mut pool = shared.pool();
        (pool.take_changed() || has_news).then(|| Ok(to_json(&pool, &learnt(&shared), Instant::now(), clock())?))
    }

    /// What is to be written, if pins have been used since, or something was counted, or the last write failed.
    fn used(&self) -> Option<io::Result<Vec<u8>>> {
        let shared = self.shared();
        let (pool, progress, now) = (shared.pool(), self.progress(), Instant::now());
        let is_newer = |used| progress.written.is_none_or(|written| used > written);
        let used = pool.pins.live(now).any(|(_, pin)| pool.pins.is_open(&pin.server) || is_newer(pin.used));
        let has_counted = *shared.counters() != progress.counted;
        (used || has_counted || progress.failed).then(|| Ok(to_json(&pool, &learnt(&shared), now, clock())?))
    }

    /// One warning, not one for each connection.
    fn note(&self, result: io::Result<()>, at: Instant) {
        let mut progress = self.progress();
        match result {
            Ok(()) => (progress.written, progress.failed) = (Some(at), false),
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
