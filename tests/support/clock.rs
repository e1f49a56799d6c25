//! The tests' clock: moved, or slowed down so that a slow machine does not show in it.
//!
//! Sockets are real, and what the kernel is about to deliver on a busy machine must not look like hours of silence: a
//! clock that is only paused jumps ahead whenever nobody has anything to do.

use std::cell::Cell;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{advance, pause, resume, sleep};

/// The slow clock goes on by so much at a time.
const STEP: Duration = Duration::from_millis(1);

thread_local! {
    /// How many hold this thread's clock: a test's runtime is of one thread, and has the one clock.
    static HELD: Cell<usize> = const { Cell::new(0) };
}

/// While it lives, the clock stands still as long as anybody has something to do: work costs no time, however slow or
/// busy the machine is. While nobody has, it goes no faster than the host's own, or than so many times that.
pub struct Slow {
    pace: Option<JoinHandle<()>>,
}

impl Slow {
    /// No faster than the host's.
    pub fn start() -> Self {
        Self::by(1)
    }

    /// No faster than so many times the host's, for who waits for long. Another that is at work on this thread already
    /// goes on as it is.
    pub fn by(times: u32) -> Self {
        let held = HELD.get();
        HELD.set(held + 1);
        let pace = (held == 0).then(|| {
            pause();
            tokio::spawn(keep_pace(times))
        });
        Slow { pace }
    }
}

impl Drop for Slow {
    fn drop(&mut self) {
        let held = HELD.get() - 1;
        HELD.set(held);
        let Some(pace) = &self.pace else { return };
        pace.abort();
        // A test that has failed has no use for a clock.
        if !std::thread::panicking() {
            assert_eq!(held, 0, "the first to slow the clock down is the last to let it go");
            resume();
        }
    }
}

/// The clock does not go on by itself while something blocks.
async fn keep_pace(times: u32) {
    loop {
        #[allow(clippy::disallowed_methods, reason = "it is the kernel's time that is to pass, on another thread")]
        tokio::task::spawn_blocking(|| std::thread::sleep(STEP)).await.unwrap();
        sleep(STEP * times).await;
    }
}

/// The clock is moved; the sockets are real.
pub async fn let_time_pass(time: Duration) {
    let runs = HELD.get() == 0;
    if runs {
        pause();
    }
    advance(time).await;
    if runs {
        resume();
    }
}
