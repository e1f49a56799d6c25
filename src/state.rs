//! The state directory: what is kept from one run to the next.

use std::env;
use std::ffi::OsString;
use std::fs::{self, File, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use directories::ProjectDirs;

/// Where root keeps its state; the unit's `StateDirectory=` names the same one.
const SYSTEM: &str = "/var/lib/puppet-shim";

/// A directory of small files, each replaced as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateDirectory(PathBuf);

impl StateDirectory {
    /// The one of this process: `$STATE_DIRECTORY` under systemd, else `/var/lib/puppet-shim` for root, else the user's
    /// (`~/.local/state/puppet-shim` on Linux).
    pub fn find() -> Self {
        let user = ProjectDirs::from("", "", "puppet-shim")
            .map(|dirs| dirs.state_dir().unwrap_or_else(|| dirs.data_local_dir()).to_owned());
        StateDirectory(choose(env::var_os("STATE_DIRECTORY"), rustix::process::geteuid().is_root(), user))
    }

    /// The one to look at, as somebody else's process has it: that of this process, but for a user who has none of his own,
    /// who means the host's.
    pub fn find_to_look_at() -> Self {
        let own = Self::find();
        if env::var_os("STATE_DIRECTORY").is_none() && !own.0.exists() { StateDirectory(SYSTEM.into()) } else { own }
    }

    /// The one at this path. It is made when something is first written.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        StateDirectory(path.into())
    }

    /// The path of a file in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Replaces a file: after a crash or a power cut at any moment it holds either what it held or all of `contents`.
    ///
    /// Blocks for as long as the disk takes to make it lasting, typically milliseconds.
    pub fn write(&self, name: &str, contents: &[u8]) -> io::Result<()> {
        fs::create_dir_all(&self.0)?;
        // In the same directory, since a rename is atomic only within one file system.
        let mut file = tempfile::Builder::new().prefix(&format!(".{name}.")).tempfile_in(&self.0)?;
        file.write_all(contents)?;
        // Nothing in it is secret, and who runs it by hand is not who the unit runs it as.
        file.as_file().set_permissions(Permissions::from_mode(0o644))?;
        // Before the rename: else the new name could come to lead to an empty file.
        file.as_file().sync_all()?;
        file.persist(self.file(name)).map_err(|failed| failed.error)?;
        self.sync()
    }

    /// Reads a file; `None`: there is none. Of one that is larger than `limit`, in bytes, the first `limit` and one more.
    pub fn read(&self, name: &str, limit: u64) -> io::Result<Option<Vec<u8>>> {
        let path = self.file(name);
        let meta = match fs::metadata(&path) {
            Ok(meta) => meta,
            Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(why) => return Err(why),
        };
        if !meta.is_file() {
            // A pipe would be waited for.
            return Err(io::Error::other("it is no regular file"));
        }
        let mut contents = Vec::new();
        File::open(path)?.take(limit.saturating_add(1)).read_to_end(&mut contents)?;
        Ok(Some(contents))
    }

    /// Renames a file, over another one if need be.
    pub fn rename(&self, name: &str, to: &str) -> io::Result<()> {
        fs::rename(self.file(name), self.file(to))?;
        self.sync()
    }

    /// Removes what [`write`](Self::write) left behind where the process was killed in it. What cannot be removed stays.
    pub fn sweep(&self, name: &str) {
        let prefix = format!(".{name}.");
        for entry in fs::read_dir(&self.0).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(&prefix) {
                // It is in nobody's way.
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    /// Removes a file; one that is not there is no error.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        match fs::remove_file(self.file(name)) {
            Ok(()) => self.sync(),
            Err(why) if why.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(why) => Err(why),
        }
    }

    /// Makes renames and removals lasting: they are changes of the directory, not of the file.
    fn sync(&self) -> io::Result<()> {
        File::open(&self.0)?.sync_all()
    }
}

impl AsRef<Path> for StateDirectory {
    fn as_ref(&self) -> &Path {
        &self.0
    }
}

/// `systemd` is `$STATE_DIRECTORY`: absolute paths with `:` between them, one for each name in `StateDirectory=`
/// (systemd.exec(5)). The first is ours.
fn choose(systemd: Option<OsString>, root: bool, user: Option<PathBuf>) -> PathBuf {
    let given = systemd.and_then(|paths| env::split_paths(&paths).find(|path| path.is_absolute()));
    let system = || PathBuf::from(SYSTEM);
    given.unwrap_or_else(|| if root { system() } else { user.unwrap_or_else(system) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chooses_in_order() {
        let user = || Some(PathBuf::from("/home/a/.local/state/puppet-shim"));
        let systemd = |text: &str| Some(OsString::from(text));
        for (given, root, expected) in [
            (systemd("/var/lib/shim"), true, "/var/lib/shim"),
            (systemd("/var/lib/shim:/var/lib/other"), false, "/var/lib/shim"),
            (systemd(""), true, SYSTEM),
            (systemd("relative"), true, SYSTEM),
            (None, true, SYSTEM),
            (None, false, "/home/a/.local/state/puppet-shim"),
        ] {
            assert_eq!(choose(given.clone(), root, user()), Path::new(expected), "{given:?}");
        }
        assert_eq!(choose(None, false, None), Path::new(SYSTEM));
    }

    #[test]
    fn replaces_a_file_and_leaves_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDirectory::at(folder.path().join("made/when/needed"));
        state.write("x", b"one").unwrap();
        state.write("x", b"two").unwrap();
        assert_eq!(fs::read(state.file("x")).unwrap(), b"two");
        let names: Vec<_> = fs::read_dir(&state).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["x"]);
    }

    #[test]
    fn removes_what_is_there_or_not() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDirectory::at(folder.path());
        state.write("x", b"").unwrap();
        state.remove("x").unwrap();
        state.remove("x").unwrap();
        assert!(!state.file("x").exists());
    }

    #[test]
    fn keeps_the_old_file_where_the_new_one_cannot_be_written() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDirectory::at(folder.path());
        // A directory in the way: the rename fails after the temporary file has been written.
        fs::create_dir_all(state.file("x").join("y")).unwrap();
        assert!(state.write("x", b"new").is_err());
        assert_eq!(fs::read_dir(&state).unwrap().count(), 1);
    }
}
