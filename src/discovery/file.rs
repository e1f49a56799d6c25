//! A file that the settings name, read again only when it has changed.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

/// What tells one version of a file from the next: one replaced by rename has another inode.
pub(super) type Stamp = (SystemTime, u64, u64);

pub(super) fn stamp(path: &Path) -> Option<Stamp> {
    let meta = fs::metadata(path).ok()?;
    Some((meta.modified().ok()?, meta.ino(), meta.len()))
}

/// What a file has come to, while it stays as it is. A file that is of no use is read each time.
#[derive(Debug)]
pub(super) struct Read<T>(Mutex<Option<(Stamp, T)>>);

impl<T> Default for Read<T> {
    fn default() -> Self {
        Read(Mutex::default())
    }
}

impl<T: Clone> Read<T> {
    pub(super) fn get(&self, path: &Path, read: impl FnOnce(&Path) -> Result<T, String>) -> Result<T, String> {
        // Ahead of reading: what is written meanwhile is read the next time.
        let stamp = stamp(path);
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, value)) = &*held
            && stamp == Some(*of)
        {
            return Ok(value.clone());
        }
        *held = None;
        let value = read(path)?;
        *held = stamp.map(|stamp| (stamp, value.clone()));
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_read_when_it_has_changed() {
        let folder = tempfile::tempdir().unwrap();
        let (path, new) = (folder.path().join("file"), folder.path().join("new"));
        let (held, times) = (Read::default(), std::cell::Cell::new(0));
        let get = || {
            held.get(&path, |path| {
                times.set(times.get() + 1);
                fs::read_to_string(path).map_err(|why| why.to_string())
            })
        };
        assert!(get().is_err() && get().is_err());
        for text in ["one", "two"] {
            fs::write(&new, text).unwrap();
            fs::rename(&new, &path).unwrap();
            for _ in 0..3 {
                assert_eq!(get().as_deref(), Ok(text));
            }
        }
        assert_eq!(times.get(), 4);
        fs::remove_file(&path).unwrap();
        assert!(get().is_err());
    }
}
