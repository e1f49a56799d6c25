//! Files of the host that others write too: read as a whole, replaced as a whole.

use std::fs::{self, DirBuilder, File, Metadata, OpenOptions, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{XattrFlags, fsetxattr, getxattr, listxattr};
use rustix::io::Errno;

/// Largest file that is taken for a configuration, in bytes.
const LARGEST: u64 = 1 << 20;

/// Of a file's extended attributes, the list of their names too, in bytes: `XATTR_SIZE_MAX` of Linux.
const LARGEST_ATTRIBUTE: usize = 1 << 16;

/// Mode of a file that was not there: the shim's own user and the agent read them.
pub const PUBLIC: u32 = 0o644;

/// Mode of a file that is root's alone.
pub const PRIVATE: u32 = 0o600;

/// Why a file could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("{} {what}: {why}", .path.display())]
pub struct FileError {
    path: PathBuf,
    what: &'static str,
    why: io::Error,
}

/// The text of a file; `None`: there is none.
///
/// # Errors
///
/// Where it cannot be read, is no regular file, is larger than 1 MiB, or is not UTF-8, which a change could not keep.
pub fn read(path: &Path) -> Result<Option<String>, FileError> {
    read_up_to(path, LARGEST)
}

/// The same of a file that may be larger, in bytes: whole MiB.
pub fn read_up_to(path: &Path, largest: u64) -> Result<Option<String>, FileError> {
    let error = |why| FileError { path: path.to_owned(), what: "cannot be read", why };
    let meta = match fs::metadata(path) {
        Ok(meta) => meta,
        Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(why) => return Err(error(why)),
    };
    if !meta.is_file() || meta.len() > largest {
        return Err(error(io::Error::other(format!("it is no regular file of {} MiB or less", largest >> 20))));
    }
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(largest).read_to_end(&mut bytes)).map_err(error)?;
    let not_utf8 = |why: std::string::FromUtf8Error| {
        let line = why.as_bytes()[..why.utf8_error().valid_up_to()].split(|b| *b == b'\n').count();
        error(io::Error::other(format!("line {line} is not UTF-8; save it as UTF-8, or make the change by hand")))
    };
    String::from_utf8(bytes).map(Some).map_err(not_utf8)
}

/// Gives a file this text, or none. It is replaced as a whole, so that a crash or a power cut leaves the old or the new;
/// owner, mode and extended attributes (the security context, access control lists) stay. A symbolic link stays one. Where
/// nothing can be renamed over the file, which is so where it is mounted by itself as in a container, or has other hard
/// links, it is written in place.
///
/// A file that was not there gets `mode`, whatever the umask. Its directory has to be there.
pub fn write(path: &Path, text: Option<&str>, mode: u32) -> Result<(), FileError> {
    let done = match text {
        Some(text) => replace(path, text, mode),
        None => remove(path),
    };
    let what = if text.is_some() { "cannot be written" } else { "cannot be removed" };
    done.map_err(|why| FileError { path: path.to_owned(), what, why })
}

/// Gives a file this text, or none, if it still holds what the new text was made from: between the two there are the
/// seconds that Puppet takes, and what somebody else writes meanwhile would be lost.
pub fn exchange(path: &Path, before: Option<&str>, text: Option<&str>, mode: u32) -> Result<(), FileError> {
    if read(path)?.as_deref() != before {
        let why = io::Error::other("somebody has changed it meanwhile; run the same again");
        return Err(FileError { path: path.to_owned(), what: "is left", why });
    }
    write(path, text, mode)
}

fn replace(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    let real = match fs::canonicalize(path) {
        Ok(real) => real,
        Err(why) if why.kind() == io::ErrorKind::NotFound => path.to_owned(),
        Err(why) => return Err(why),
    };
    let present = match fs::metadata(&real) {
        Ok(meta) => Some(meta),
        Err(why) if why.kind() == io::ErrorKind::NotFound => None,
        Err(why) => return Err(why),
    };
    if present.as_ref().is_some_and(|meta| meta.nlink() > 1) {
        return in_place(&real, text);
    }
    let directory = real.parent().unwrap_or(Path::new("/"));
    let mut file = tempfile::Builder::new().prefix(".puppet-shim.").tempfile_in(directory)?;
    file.write_all(text.as_bytes())?;
    match &present {
        Some(meta) => resemble(file.as_file(), &real, meta)?,
        None => file.as_file().set_permissions(Permissions::from_mode(mode))?,
    }
    file.as_file().sync_all()?;
    match file.persist(&real) {
        Ok(_) => File::open(directory)?.sync_all(),
        Err(failed) if present.is_some() && is_mount(&failed.error) => in_place(&real, text),
        Err(failed) => Err(failed.error),
    }
}

/// Whether a rename has failed because the file is a mount point, or on another file system than its directory.
fn is_mount(why: &io::Error) -> bool {
    let code = why.raw_os_error().map(Errno::from_raw_os_error);
    matches!(code, Some(Errno::BUSY | Errno::XDEV))
}

/// The new file is to be to others what the old one was.
fn resemble(new: &File, old: &Path, meta: &Metadata) -> io::Result<()> {
    let own = new.metadata()?;
    if (own.uid(), own.gid()) != (meta.uid(), meta.gid()) {
        std::os::unix::fs::fchown(new, Some(meta.uid()), Some(meta.gid()))?;
    }
    new.set_permissions(Permissions::from_mode(meta.mode() & 0o7777))?;
    // What cannot be copied, such as on a file system without them, is not worth the change.
    let _ = copy_attributes(new, old);
    Ok(())
}

fn copy_attributes(new: &File, old: &Path) -> io::Result<()> {
    let mut names = vec![0; LARGEST_ATTRIBUTE];
    let length = listxattr(old, names.as_mut_slice())?;
    let mut value = vec![0; LARGEST_ATTRIBUTE];
    for name in names[..length].split(|b| *b == 0).filter(|name| !name.is_empty()) {
        let length = getxattr(old, name, value.as_mut_slice())?;
        // One that the kernel keeps to itself does not keep the next from being copied.
        let _ = fsetxattr(new, name, &value[..length], XattrFlags::empty());
    }
    Ok(())
}

fn in_place(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).open(path)?;
    file.write_all(text.as_bytes())?;
    file.set_len(text.len() as u64)?;
    file.sync_all()
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(why) if why.kind() != io::ErrorKind::NotFound => Err(why),
        _ => Ok(()),
    }
}

/// Those of a path's directories that are not there, the outermost first.
pub fn lacking_directories(path: &Path) -> Vec<PathBuf> {
    let directories = path.ancestors().skip(1);
    let mut lacking: Vec<_> = directories.take_while(|dir| is_lacking(dir)).map(Path::to_owned).collect();
    lacking.reverse();
    lacking
}

/// Makes a directory, and those above, with this mode, whatever the umask, unless it is there.
pub fn make_directory(path: &Path, mode: u32) -> Result<(), FileError> {
    let make = |directory: &Path| match DirBuilder::new().mode(mode).create(directory) {
        // What the umask has taken from it: the shim's own user has to come through.
        Ok(()) => fs::set_permissions(directory, Permissions::from_mode(mode)),
        Err(why) if why.kind() == io::ErrorKind::AlreadyExists && directory.is_dir() => Ok(()),
        Err(why) => Err(why),
    };
    let mut lacking = lacking_directories(path);
    lacking.extend(is_lacking(path).then(|| path.to_owned()));
    let outcome = lacking.iter().try_for_each(|directory| make(directory));
    outcome.map_err(|why| FileError { path: path.to_owned(), what: "cannot be made", why })
}

/// The working directory, which a bare file name has for its directory, is there.
fn is_lacking(directory: &Path) -> bool {
    !directory.as_os_str().is_empty() && !directory.exists()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn a_new_file_has_its_mode() {
        let folder = folder();
        let path = folder.path().join("new");
        assert_eq!(read(&path).unwrap(), None);
        write(&path, Some("text"), PUBLIC).unwrap();
        assert_eq!(read(&path).unwrap().as_deref(), Some("text"));
        assert_eq!(mode(&path), 0o644);
        write(&path, None, PUBLIC).unwrap();
        write(&path, None, PUBLIC).unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn what_was_written_meanwhile_is_not_lost() {
        let folder = folder();
        let path = folder.path().join("file");
        exchange(&path, None, Some("ours"), PUBLIC).unwrap();
        for (before, text) in [(None, Some("new")), (Some("old"), Some("new")), (Some("old"), None)] {
            let why = exchange(&path, before, text, PUBLIC).unwrap_err().to_string();
            assert!(why.ends_with("file is left: somebody has changed it meanwhile; run the same again"), "{why}");
            assert_eq!(fs::read_to_string(&path).unwrap(), "ours");
        }
        exchange(&path, Some("ours"), None, PUBLIC).unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn mode_and_attributes_stay_and_the_file_is_another() {
        let folder = folder();
        let path = folder.path().join("kept");
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        let has_attributes = rustix::fs::setxattr(&path, "user.note", b"mine", XattrFlags::empty()).is_ok();
        let inode = fs::metadata(&path).unwrap().ino();
        write(&path, Some("new"), PUBLIC).unwrap();
        assert_eq!((fs::read_to_string(&path).unwrap().as_str(), mode(&path)), ("new", 0o640));
        assert_ne!(fs::metadata(&path).unwrap().ino(), inode);
        if has_attributes {
            let mut value = [0; 16];
            let length = getxattr(&path, "user.note", &mut value[..]).unwrap();
            assert_eq!(&value[..length], b"mine");
        }
    }

    #[test]
    fn a_link_stays_a_link() {
        let folder = folder();
        let (real, link) = (folder.path().join("real"), folder.path().join("link"));
        fs::write(&real, "old").unwrap();
        symlink("real", &link).unwrap();
        write(&link, Some("new"), PUBLIC).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_to_string(&real).unwrap(), "new");
    }

    #[test]
    fn a_file_with_two_names_keeps_them() {
        let folder = folder();
        let (one, two) = (folder.path().join("one"), folder.path().join("two"));
        fs::write(&one, "a longer text").unwrap();
        fs::hard_link(&one, &two).unwrap();
        write(&one, Some("short"), PUBLIC).unwrap();
        assert_eq!(fs::read_to_string(&two).unwrap(), "short");
    }

    #[test]
    fn says_what_it_cannot_read() {
        let folder = folder();
        let path = folder.path().join("latin1");
        fs::write(&path, b"a\nb \xe4\n").unwrap();
        let why = read(&path).unwrap_err().to_string();
        assert!(why.contains("latin1 cannot be read: line 2 is not UTF-8"), "{why}");
        assert!(read(folder.path()).unwrap_err().to_string().contains("no regular file"));
    }

    #[test]
    fn tells_which_directories_lack() {
        let folder = folder();
        let path = folder.path().join("a/b/file");
        assert_eq!(lacking_directories(&path), [folder.path().join("a"), folder.path().join("a/b")]);
        make_directory(&folder.path().join("a/b"), 0o755).unwrap();
        make_directory(&folder.path().join("a/b"), 0o700).unwrap();
        assert_eq!((mode(&folder.path().join("a")), mode(&folder.path().join("a/b"))), (0o755, 0o755));
        assert_eq!(lacking_directories(&path), Vec::<PathBuf>::new());
        assert_eq!(lacking_directories(Path::new("file")), Vec::<PathBuf>::new());
        make_directory(Path::new(""), 0o755).unwrap();
        fs::write(&path, "").unwrap();
        assert!(make_directory(&path.join("c"), 0o755).unwrap_err().to_string().contains("cannot be made"));
    }
}
