//! What `setup` has changed, so that it can be put back.
//!
//! It is root's alone, and not in the daemon's state directory: root writes what it says, and the daemon, which talks to
//! the network, must have no say in that. It is there before the first change is made.

use std::env;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use super::Mode;
use super::configuration::Key;
use super::file::{self, FileError, PRIVATE};
use super::puppet_conf::Setting;

/// Where it is. The packages' scripts know it by this name, too.
const DIRECTORY: &str = "/var/lib/puppet-shim-setup";

/// Its name in there, and in `$STATE_DIRECTORY`.
const FILE: &str = "setup.json";

/// Largest record, in bytes: it has the texts of four files of 1 MiB before and after, and JSON's escapes.
const LARGEST: u64 = 16 << 20;

/// The form of the file.
const VERSION: u32 = 1;

/// Everything that has been changed, or is just being.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    version: u32,
    /// The mode that was asked for.
    pub mode: Mode,
    /// Whether all of it has been done.
    pub is_done: bool,
    /// The files, in the order in which they are changed.
    pub changes: Vec<Change>,
}

/// One file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Which.
    pub path: PathBuf,
    /// What it held and what it holds; `None`: somebody else has changed it in between, so that there is no text to go back
    /// to.
    pub whole: Option<Whole>,
    /// Directories that were made for it, the outermost first.
    pub made: Vec<PathBuf>,
    /// What of it is ours.
    pub part: Part,
}

/// A file's text before and after; `None`: there was, or is, no file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Whole {
    /// Before the first change of ours.
    pub before: Option<String>,
    /// After the last one.
    pub after: String,
}

/// What is ours in a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// Settings of `[main]` in `puppet.conf`.
    Settings(Vec<Setting>),
    /// Keys of our own configuration.
    Keys(Vec<Key>),
    /// The lines between our marks.
    Block,
}

/// Why there is no telling what has been changed.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// It cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// It is not understood.
    #[error("{} is not understood: {why}; a newer puppet-shim may have written it, and can undo it", .path.display())]
    Form {
        /// Where it is.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// It would not be read again.
    #[error(
        "{} would be of {length} bytes, and one of more than {LARGEST} is not read again; so large are the files that are to be changed",
        .path.display()
    )]
    Large {
        /// Where it is.
        path: PathBuf,
        /// How long, in bytes.
        length: usize,
    },
    /// Two at a time.
    #[error("another `puppet-shim setup` is at work; wait for it")]
    Busy,
    /// The kernel does not say who is at work.
    #[error("{} cannot be locked: {why}", .path.display())]
    Lock {
        /// Where it is.
        path: PathBuf,
        /// What the kernel says.
        why: io::Error,
    },
}

/// Where the record is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Book {
    directory: PathBuf,
}

/// The right to change things, until dropped.
#[derive(Debug)]
pub struct Lock(#[allow(dead_code, reason = "held, and let go of by being dropped")] File);

impl Record {
    /// That nothing has been changed so far.
    pub fn new(mode: Mode) -> Self {
        Record { version: VERSION, mode, is_done: false, changes: Vec::new() }
    }

    /// The record of a file.
    pub fn change(&self, path: &Path) -> Option<&Change> {
        self.changes.iter().find(|change| change.path == path)
    }

    /// Takes in what is about to be changed, and what was changed before still stands. `present` is what the file holds just
    /// now.
    pub fn add(&mut self, new: Change, present: Option<&str>) {
        let Some(old) = self.changes.iter_mut().find(|change| change.path == new.path) else {
            self.changes.push(new);
            return;
        };
        old.whole = match (old.whole.take(), new.whole) {
            (Some(old), Some(new)) if old.is_as_left(present) => Some(Whole { before: old.before, after: new.after }),
            _ => None,
        };
        old.made.extend(new.made);
        match (&mut old.part, new.part) {
            (Part::Settings(old), Part::Settings(new)) => {
                merge(old, new, |one| &one.name, |old, new| old.to = new.to);
            }
            (Part::Keys(old), Part::Keys(new)) => {
                merge(old, new, |one| &one.path, |old, new| old.to = new.to);
            }
            (part, new) => *part = new,
        }
    }
}

/// What was before our first change stays, and what we have made of it is the new.
fn merge<T, K: PartialEq>(old: &mut Vec<T>, new: Vec<T>, key: impl Fn(&T) -> &K, update: impl Fn(&mut T, T)) {
    for new in new {
        match old.iter_mut().find(|old| key(old) == key(&new)) {
            Some(old) => update(old, new),
            None => old.push(new),
        }
    }
}

impl Whole {
    /// Whether the file holds what we have left, be it that we did not come to it.
    pub fn is_as_left(&self, present: Option<&str>) -> bool {
        present == Some(&self.after) || present == self.before.as_deref()
    }
}

impl Book {
    /// The one of this host: `/var/lib/puppet-shim-setup`, or `$STATE_DIRECTORY` where that is set.
    pub fn find() -> Self {
        let directory = env::var_os("STATE_DIRECTORY").filter(|directory| !directory.is_empty());
        directory.map_or_else(Self::of_host, Self::at)
    }

    /// `/var/lib/puppet-shim-setup`.
    pub fn of_host() -> Self {
        Self::at(DIRECTORY)
    }

    /// The one in this directory.
    pub fn at(directory: impl Into<PathBuf>) -> Self {
        Book { directory: directory.into() }
    }

    /// The path of the record.
    pub fn file(&self) -> PathBuf {
        self.directory.join(FILE)
    }

    /// Keeps others out.
    pub fn lock(&self) -> Result<Lock, RecordError> {
        file::make_directory(&self.directory, 0o700)?;
        let error = |why| RecordError::Lock { path: self.directory.clone(), why };
        let directory = File::open(&self.directory).map_err(error)?;
        match flock(&directory, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Lock(directory)),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(RecordError::Busy),
            Err(why) => Err(error(why.into())),
        }
    }

    /// What has been changed; `None`: nothing.
    pub fn read(&self) -> Result<Option<Record>, RecordError> {
        let path = self.file();
        let Some(text) = file::read_up_to(&path, LARGEST)? else { return Ok(None) };
        let form = |why| RecordError::Form { path: path.clone(), why };
        let record: Record = serde_json::from_str(&text).map_err(|why| form(why.to_string()))?;
        if record.version != VERSION {
            return Err(form(format!("it is of version {}, and this puppet-shim knows {VERSION}", record.version)));
        }
        Ok(Some(record))
    }

    /// Replaces it.
    pub fn write(&self, record: &Record) -> Result<(), RecordError> {
        let path = self.file();
        let text = serde_json::to_string_pretty(record);
        let text = text.map_err(|why| RecordError::Form { path: path.clone(), why: why.to_string() })?;
        if text.len() as u64 > LARGEST {
            return Err(RecordError::Large { path, length: text.len() });
        }
        Ok(file::write(&path, Some(&text), PRIVATE)?)
    }

    /// All of it has been put back.
    pub fn remove(&self) -> Result<(), RecordError> {
        file::write(&self.file(), None, PRIVATE)?;
        self.tidy();
        Ok(())
    }

    /// Removes the directory, unless something is in it.
    pub fn tidy(&self) {
        let _ = fs::remove_dir(&self.directory);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setting(name: &str, to: &str, was: Option<&str>) -> Setting {
        Setting { name: name.into(), to: Some(to.into()), was: was.map(str::to_owned) }
    }

    fn change(before: Option<&str>, after: &str, settings: Vec<Setting>) -> Change {
        let whole = Some(Whole { before: before.map(str::to_owned), after: after.into() });
        Change { path: "/etc/puppet/puppet.conf".into(), whole, made: Vec::new(), part: Part::Settings(settings) }
    }

    #[test]
    fn is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let book = Book::at(folder.path().join("setup"));
        assert_eq!(book.read().unwrap(), None);
        let lock = book.lock().unwrap();
        assert!(matches!(book.lock(), Err(RecordError::Busy)));
        let mut record = Record::new(Mode::Alias);
        record.add(change(None, "a", vec![setting("server", "a", None)]), None);
        book.write(&record).unwrap();
        assert_eq!(book.read().unwrap(), Some(record));
        book.remove().unwrap();
        assert!(!folder.path().join("setup").exists());
        drop(lock);
    }

    #[test]
    fn what_is_written_can_be_read() {
        let folder = tempfile::tempdir().unwrap();
        let book = Book::at(folder.path());
        let large = |bytes| {
            let mut record = Record::new(Mode::Alias);
            record.add(change(None, &"a".repeat(bytes), Vec::new()), None);
            record
        };
        let record = large(2 << 20);
        book.write(&record).unwrap();
        assert_eq!(book.read().unwrap().as_ref(), Some(&record));
        let why = book.write(&large(16 << 20)).unwrap_err().to_string();
        assert!(why.contains("is not read again"), "{why}");
        assert_eq!(book.read().unwrap(), Some(record), "what was there stays");
    }

    #[test]
    fn one_of_another_version_is_not_guessed_at() {
        let folder = tempfile::tempdir().unwrap();
        let book = Book::at(folder.path());
        for text in ["nonsense", r#"{"version":2,"mode":"proxy","is_done":true,"changes":[]}"#] {
            fs::write(book.file(), text).unwrap();
            assert!(book.read().unwrap_err().to_string().contains("is not understood"), "{text}");
        }
    }

    #[test]
    fn what_was_first_stays() {
        let mut record = Record::new(Mode::Proxy);
        record.add(change(Some("0"), "1", vec![setting("server", "a", Some("x"))]), Some("0"));
        let more = vec![setting("server", "b", Some("a")), setting("ca_server", "c", None)];
        record.add(change(Some("1"), "2", more), Some("1"));
        let all = vec![setting("server", "b", Some("x")), setting("ca_server", "c", None)];
        assert_eq!(record.changes, [change(Some("0"), "2", all)]);
    }

    #[test]
    fn with_somebody_elses_change_in_between_there_is_no_way_back_to_the_text() {
        let mut record = Record::new(Mode::Proxy);
        record.add(change(Some("0"), "1", vec![setting("server", "a", None)]), Some("0"));
        record.add(change(Some("else"), "2", vec![setting("ca_server", "c", None)]), Some("else"));
        assert_eq!(record.changes[0].whole, None);
        record.add(change(Some("2"), "3", Vec::new()), Some("2"));
        assert_eq!(record.changes[0].whole, None);
    }
}
