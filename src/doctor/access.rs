//! Whether the daemon's user may read a file that root, who asks, may read in any case.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::units::Systemd;
use crate::state::StateDirectory;

/// The first systemd with `LoadCredential=`, by which the unit hands on what only root may read (systemd.exec(5)).
const CREDENTIALS: u32 = 247;

/// The daemon, as one that reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reader {
    /// Its user; `None`: one that owns nothing.
    pub(super) user: Option<(u32, u32)>,
    /// Whether its unit hands on to it what only root may read.
    pub(super) has_credentials: bool,
}

/// What is in the way: a file or a directory, and its mode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bar {
    /// Which.
    pub(super) path: PathBuf,
    /// Its permissions, as `chmod` takes them.
    pub(super) mode: u32,
}

impl Reader {
    /// The daemon of this host. Whom the state directory belongs to is whom its unit lets it be.
    pub(super) fn of_host(state: &StateDirectory, systemd: &Systemd) -> Self {
        let user = fs::metadata(state).ok().map(|state| (state.uid(), state.gid()));
        let has_credentials = match systemd {
            // Of one that does not tell its version, the newest is supposed.
            Systemd::Here(units) => systemd.service().is_some() && units.version.is_none_or(|v| v >= CREDENTIALS),
            Systemd::Absent => false,
        };
        Reader { user, has_credentials }
    }

    /// What keeps it from a file, by the mode bits of that and of its directories. Access control lists are not looked at.
    pub(super) fn bar(&self, file: &Path) -> Option<Bar> {
        // Behind links, of which the modes say nothing. What is not there is judged elsewhere.
        let file = file.canonicalize().ok()?;
        let mut all: Vec<_> = file.ancestors().map(|path| (path, if path == file { 0o4 } else { 0o1 })).collect();
        // As the kernel goes.
        all.reverse();
        all.into_iter().find_map(|(path, needs)| {
            let meta = fs::metadata(path).ok()?;
            let mode = meta.mode() & 0o7777;
            (!self.may(mode, meta.uid(), meta.gid(), needs)).then(|| Bar { path: path.to_owned(), mode })
        })
    }

    /// As `path_resolution(7)` has it: the owner's bits for the owner, and no others then. `needs`: of the last three bits.
    fn may(&self, mode: u32, owner: u32, group: u32, needs: u32) -> bool {
        match self.user {
            Some((0, _)) => true,
            Some((uid, _)) if uid == owner => (mode >> 6) & needs == needs,
            Some((_, gid)) if gid == group => (mode >> 3) & needs == needs,
            _ => mode & needs == needs,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{DirBuilder, Permissions};
    use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _, symlink};

    use super::super::units::Units;
    use super::*;

    fn reader(user: Option<(u32, u32)>) -> Reader {
        Reader { user, has_credentials: false }
    }

    #[test]
    fn bits() {
        let other = reader(None);
        assert!(other.may(0o644, 0, 0, 0o4) && other.may(0o711, 0, 0, 0o1));
        assert!(!other.may(0o640, 0, 0, 0o4) && !other.may(0o750, 0, 0, 0o1));
        assert!(reader(Some((0, 0))).may(0, 1, 1, 0o4));
        assert!(reader(Some((7, 8))).may(0o400, 7, 0, 0o4) && !reader(Some((7, 8))).may(0o044, 7, 8, 0o4));
        assert!(reader(Some((7, 8))).may(0o040, 1, 8, 0o4) && !reader(Some((7, 8))).may(0o404, 1, 8, 0o4));
    }

    #[test]
    fn a_file_and_its_directories() {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
        let closed = folder.path().canonicalize().unwrap().join("closed");
        DirBuilder::new().mode(0o750).create(&closed).unwrap();
        let file = closed.join("ca.pem");
        fs::write(&file, "").unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
        let link = folder.path().join("link");
        symlink(&file, &link).unwrap();
        let other = reader(None);
        for path in [&file, &link] {
            assert_eq!(other.bar(path), Some(Bar { path: closed.clone(), mode: 0o750 }), "{path:?}");
        }
        fs::set_permissions(&closed, Permissions::from_mode(0o755)).unwrap();
        assert_eq!(other.bar(&file), None);
        fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
        assert_eq!(other.bar(&file), Some(Bar { path: file.clone(), mode: 0o600 }));
        assert_eq!(reader(Some((0, 0))).bar(&file), None);
        assert_eq!(other.bar(&folder.path().join("absent")), None);
    }

    #[test]
    fn credentials_come_with_systemd_247() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDirectory::at(folder.path());
        let has = |version, is_loaded| {
            let mut units = Units { version, ..Units::default() };
            units.service.is_loaded = is_loaded;
            Reader::of_host(&state, &Systemd::Here(units)).has_credentials
        };
        assert!(has(Some(247), true) && has(None, true));
        assert!(!has(Some(246), true) && !has(Some(252), false));
        let meta = fs::metadata(folder.path()).unwrap();
        let absent = Reader { user: Some((meta.uid(), meta.gid())), has_credentials: false };
        assert_eq!(Reader::of_host(&state, &Systemd::Absent), absent);
    }
}
