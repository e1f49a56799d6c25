//! What is remembered of the servers, kept in the state directory from one run of the daemon to the next.
//!
//! The process's own clock ends with it, so what is kept carries wall-clock stamps. A stamp from the future, or all of
//! them where the clock was set back since, says nothing any more: what it belongs to counts as expired.

mod answers;
mod clock;
mod file;
mod keeper;
mod text;

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::SystemTime;

use tokio::time::Instant;

use crate::counters::Counters;
use crate::discovery::Answers;
use crate::domain::HostDomain;
use crate::history::History;
use crate::pool::Pool;
use crate::state::StateDirectory;

pub use file::{Damage, restore, to_json};
pub use keeper::Keeper;

/// The file's name in the state directory.
pub const FILE: &str = "memory.json";

/// The name of one that could not be used.
pub const DAMAGED: &str = "memory.json.bad";

/// Bytes of the largest file that is read or written. What is remembered is bounded, and of a usual host a thousandth.
pub const LIMIT: u64 = 4 * 1024 * 1024;

/// What outlives the process beside what the pool knows of the servers.
#[derive(Clone, Debug, Default)]
pub struct Learnt {
    /// What DNS said.
    pub answers: Answers,
    /// The host's domain, as it was found last.
    pub domain: Option<HostDomain>,
    /// What was done.
    pub counters: Counters,
    /// What became of the last connections, and what each server has done.
    pub history: History,
}

/// Why nothing could be recalled.
#[derive(Debug)]
pub struct Forgotten {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub why: Why,
}

/// What is wrong with the file.
#[derive(Debug)]
pub enum Why {
    /// It cannot be read.
    Unreadable(io::Error),
    /// It can, but not understood.
    Damaged(Damage),
}

impl fmt::Display for Forgotten {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        match &self.why {
            Why::Unreadable(error) => write!(f, "cannot read {path}: {error}"),
            Why::Damaged(damage) => write!(f, "cannot use {path}: {damage}"),
        }
    }
}

impl std::error::Error for Forgotten {}

/// Recalls what the state directory has, and changes nothing there. No file is no error.
pub fn peek(state: &StateDirectory, pool: &mut Pool) -> Result<Learnt, Forgotten> {
    let forgotten = |why| Forgotten { path: state.file(FILE), why };
    let contents = match state.read(FILE, LIMIT) {
        Ok(None) => return Ok(Learnt::default()),
        Ok(Some(contents)) => contents,
        Err(error) => return Err(forgotten(Why::Unreadable(error))),
    };
    restore(&contents, pool, Instant::now(), clock()).map_err(|damage| forgotten(Why::Damaged(damage)))
}

/// Recalls what the state directory has, as the daemon does when it starts: a file that is of no use is set aside, and
/// what writes left behind when the process was killed is removed.
pub fn recall(state: &StateDirectory, pool: &mut Pool) -> Learnt {
    state.sweep(FILE);
    let forgotten = match peek(state, pool) {
        Ok(learnt) => return learnt,
        Err(forgotten) => forgotten,
    };
    let without = "starting without what was remembered of DNS and of the servers";
    match &forgotten.why {
        Why::Unreadable(_) => {
            tracing::warn!("{forgotten}; {without}; let puppet-shim's user read it, or remove it");
        }
        Why::Damaged(_) => match state.rename(FILE, DAMAGED) {
            Ok(()) => tracing::warn!("{forgotten}; {without}; the file is now {DAMAGED}, and may be removed"),
            Err(error) => tracing::warn!("{forgotten}; {without}; it could not be renamed to {DAMAGED} ({error})"),
        },
    }
    Learnt::default()
}

/// Wall time: the one place where it is read.
#[allow(clippy::disallowed_methods, reason = "a stamp has to outlive the process, with which the other clock ends")]
pub(crate) fn clock() -> SystemTime {
    SystemTime::now()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::net::SocketAddr;
    use std::os::unix::fs::symlink;
    use std::time::Duration;

    use super::*;
    use crate::dial::{Did, Try};
    use crate::health::Rank;
    use crate::host::HostPort;

    fn pool() -> Pool {
        Pool::new(Duration::from_secs(300)).seeded(1)
    }

    fn server() -> HostPort {
        "a.test:8140".parse().unwrap()
    }

    /// One in which a server is down.
    fn taught() -> Pool {
        let (mut pool, now) = (pool(), Instant::now());
        let addr: SocketAddr = "192.0.2.1:8140".parse().unwrap();
        let did = Did::Refuse;
        pool.learn(&[Try { server: server(), addr: Some(addr), did, started: now, took: Duration::ZERO }], now);
        pool
    }

    fn folder() -> (tempfile::TempDir, StateDirectory) {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDirectory::at(folder.path());
        (folder, state)
    }

    fn names(state: &StateDirectory) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(state).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn what_was_written_is_recalled() {
        let (_folder, state) = folder();
        state.write(FILE, &to_json(&taught(), &Learnt::default(), Instant::now(), clock()).unwrap()).unwrap();
        let mut pool = pool();
        recall(&state, &mut pool);
        assert_eq!(pool.servers.rank(&server(), Instant::now()), Rank::Down);
        assert_eq!(names(&state), [FILE]);
    }

    #[test]
    fn no_file_and_no_directory_is_no_error() {
        let (folder, state) = folder();
        peek(&state, &mut pool()).unwrap();
        peek(&StateDirectory::at(folder.path().join("none")), &mut pool()).unwrap();
        assert_eq!(names(&state), [""; 0]);
    }

    #[test]
    fn what_is_of_no_use_is_set_aside_over_an_older_one() {
        for contents in [b"{\"version\":1,".to_vec(), b"{\"version\":2}".to_vec(), vec![b' '; 4 * 1024 * 1024 + 1]] {
            let (_folder, state) = folder();
            fs::write(state.file(DAMAGED), "older").unwrap();
            fs::write(state.file(FILE), &contents).unwrap();
            assert!(matches!(peek(&state, &mut pool()), Err(Forgotten { why: Why::Damaged(_), .. })));
            assert_eq!(names(&state), [FILE, DAMAGED], "who only looks changes nothing");
            recall(&state, &mut pool());
            assert_eq!(names(&state), [DAMAGED]);
            assert_eq!(fs::read(state.file(DAMAGED)).unwrap(), contents);
        }
    }

    /// Nor one that would be waited for: a pipe, say.
    #[test]
    fn what_is_no_file_is_left_alone() {
        let (_folder, state) = folder();
        fs::create_dir(state.file(FILE)).unwrap();
        let forgotten = peek(&state, &mut pool()).unwrap_err();
        assert!(matches!(forgotten.why, Why::Unreadable(_)), "{forgotten}");
        recall(&state, &mut pool());
        assert_eq!(names(&state), [FILE]);
        fs::remove_dir(state.file(FILE)).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, state.file(FILE), rustix::fs::Mode::RWXU).unwrap();
        let forgotten = peek(&state, &mut pool()).unwrap_err();
        assert!(matches!(forgotten.why, Why::Unreadable(_)), "{forgotten}");
        fs::remove_file(state.file(FILE)).unwrap();
        symlink("/dev/zero", state.file(FILE)).unwrap();
        let forgotten = peek(&state, &mut pool()).unwrap_err();
        assert!(matches!(forgotten.why, Why::Unreadable(_)), "{forgotten}");
    }

    #[test]
    fn what_a_killed_write_has_left_is_removed() {
        let (_folder, state) = folder();
        fs::write(state.file(".memory.json.aBcDeF"), "{").unwrap();
        fs::write(state.file(".accepted.toml.aBcDeF"), "").unwrap();
        recall(&state, &mut pool());
        assert_eq!(names(&state), [".accepted.toml.aBcDeF"]);
    }
}
