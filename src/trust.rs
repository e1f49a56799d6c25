//! The agent's bundle of CA certificates: whom the agent on this host trusts.
//!
//! It is the agent's file, and appears with the agent's first run, changes when the agent refreshes it, and goes when
//! somebody starts anew. So it is looked at again when it is asked for, and never in between.

use std::env;
use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tokio::time::Instant;

/// Where agents keep it: the packages of Puppet and of `OpenVox`; Debian's.
pub const AGENTS: [&str; 2] = ["/etc/puppetlabs/puppet/ssl/certs/ca.pem", "/var/lib/puppet/ssl/certs/ca.pem"];

/// Where puppet-shim-ca.service copies Debian's, which only root may read.
pub const COPY: &str = "/run/puppet-shim-ca/ca.pem";

/// Its name as a credential: `LoadCredential=ca.pem:PATH` in the unit (systemd.exec(5)).
const CREDENTIAL: &str = "ca.pem";

/// It is looked at once in this time, however often it is asked for.
const LOOK: Duration = Duration::from_secs(1);

/// In bytes: some hundred certificates.
const LARGEST: u64 = 1 << 20;

/// The agent's bundle, wherever it is.
#[derive(Debug)]
pub struct Trust {
    places: Vec<Place>,
    state: Mutex<State>,
}

/// A bundle as it was read.
#[derive(Debug)]
pub struct Bundle {
    /// Where it is.
    pub path: PathBuf,
    /// Its certificates. As for the agent, each of them is trusted, intermediate ones too.
    pub roots: Arc<RootCertStore>,
    stamp: Stamp,
}

/// Why there is no bundle.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoBundle {
    /// It is not there.
    #[error("there is no {}; the agent's first run brings it", list(.0))]
    Absent(Vec<PathBuf>),
    /// It is where only root may look, and nothing has been handed on from there.
    #[error("there is nothing yet from {}, where only root may look; puppet-shim-ca.path hands on what comes there", .0.display())]
    Awaited(PathBuf),
    /// It is there, and cannot be read.
    #[error("{} cannot be read: {why}; make it readable for puppet-shim's user", .path.display())]
    Closed {
        /// Where.
        path: PathBuf,
        /// What the kernel says.
        why: String,
        /// The same for a program.
        kind: io::ErrorKind,
    },
    /// It is there, and is no bundle.
    #[error("{} {why}; it should be the agent's copy of the CA's certificates, in PEM", .path.display())]
    Broken {
        /// Where.
        path: PathBuf,
        /// `has no certificate in it`, say.
        why: String,
    },
}

#[derive(Debug)]
struct Place {
    path: PathBuf,
    /// Whether a blank file is as good as none: a unit that is to start without the file gives such a credential, and
    /// of a file without certificates there is such a copy.
    may_be_blank: bool,
}

#[derive(Debug, Default)]
struct State {
    looked: Option<Instant>,
    found: Option<Result<Arc<Bundle>, NoBundle>>,
}

/// Tells a file from what it was before.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl Trust {
    /// The bundle in the configured place, and nowhere else; without one, where it is found first: where agents keep
    /// it, then the copy of it that `puppet-shim-ca.service` makes, then `$CREDENTIALS_DIRECTORY/ca.pem`. Nothing is
    /// looked at yet.
    pub fn new(configured: Option<PathBuf>) -> Self {
        Trust { places: places(configured, env::var_os("CREDENTIALS_DIRECTORY")), state: Mutex::default() }
    }

    /// The bundle as it is now, or was less than a second ago. Reads the file if it is not the one read before, which
    /// blocks for as long as a local disk takes. What is wrong is logged here, once until something else is.
    pub fn bundle(&self) -> Result<Arc<Bundle>, NoBundle> {
        // A panic elsewhere leaves nothing half done in here.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if let (Some(looked), Some(found)) = (state.looked, &state.found)
            && now.duration_since(looked) < LOOK
        {
            return found.clone();
        }
        let found = self.look(state.found.as_ref().and_then(|found| found.as_ref().ok()));
        tell(state.found.as_ref(), &found);
        *state = State { looked: Some(now), found: Some(found.clone()) };
        found
    }

    /// The first place with a bundle. Without any: what is wrong with the first place that has something, one that may
    /// not be looked at only if no other has.
    fn look(&self, known: Option<&Arc<Bundle>>) -> Result<Arc<Bundle>, NoBundle> {
        let mut wrong = None;
        for place in &self.places {
            match place.read(known) {
                Ok(Some(bundle)) => return Ok(bundle),
                Ok(None) => {}
                Err(why) => wrong = Some(why.unless(wrong)),
            }
        }
        let originals = self.places.iter().filter(|place| !place.may_be_blank);
        Err(wrong.map_or_else(
            || NoBundle::Absent(originals.map(|place| place.path.clone()).collect()),
            |wrong| if self.has_copies() { wrong.awaiting_a_copy() } else { wrong },
        ))
    }

    /// Whether somebody would put a copy here of what only root may read: where it goes is there.
    fn has_copies(&self) -> bool {
        let mut copies = self.places.iter().filter(|place| place.may_be_blank);
        copies.any(|place| place.path.parent().is_some_and(Path::is_dir))
    }
}

impl NoBundle {
    /// What it comes to where root copies what others may not read, and has not.
    fn awaiting_a_copy(self) -> Self {
        match self {
            NoBundle::Closed { path, kind: io::ErrorKind::PermissionDenied, .. } => NoBundle::Awaited(path),
            other => other,
        }
    }

    /// What was wrong before, unless that was only that this process may not look.
    fn unless(self, before: Option<NoBundle>) -> Self {
        match before {
            None | Some(NoBundle::Closed { kind: io::ErrorKind::PermissionDenied, .. }) => self,
            Some(before) => before,
        }
    }
}

impl Place {
    /// `None`: nothing is there.
    fn read(&self, known: Option<&Arc<Bundle>>) -> Result<Option<Arc<Bundle>>, NoBundle> {
        let closed = |error: &io::Error| NoBundle::Closed {
            path: self.path.clone(),
            why: error.to_string(),
            kind: error.kind(),
        };
        let broken = |why: String| NoBundle::Broken { path: self.path.clone(), why };
        let metadata = match fs::metadata(&self.path) {
            Ok(metadata) => metadata,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(None);
            }
            Err(error) => return Err(closed(&error)),
        };
        // Before it is opened: a pipe would block.
        if !metadata.is_file() {
            return Err(broken("is no file".into()));
        }
        if let Some(known) = known.filter(|known| known.path == self.path && known.stamp == Stamp::of(&metadata)) {
            return Ok(Some(known.clone()));
        }
        let (stamp, pem) = read(&self.path).map_err(|error| closed(&error))?;
        if self.may_be_blank && pem.trim_ascii().is_empty() {
            return Ok(None);
        }
        let roots = Arc::new(roots(&pem).map_err(broken)?);
        Ok(Some(Arc::new(Bundle { path: self.path.clone(), roots, stamp })))
    }
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Stamp {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }
}

fn places(configured: Option<PathBuf>, credentials: Option<OsString>) -> Vec<Place> {
    let place = |path| Place { path, may_be_blank: false };
    if let Some(path) = configured {
        return vec![place(path)];
    }
    let copy = |path| Place { path, may_be_blank: true };
    let credential = credentials
        .filter(|directory| !directory.is_empty())
        .map(|directory| copy(Path::new(&directory).join(CREDENTIAL)));
    // What can be read itself is never older than a copy of it, and a copy follows it while a credential does not.
    AGENTS.map(|path| place(path.into())).into_iter().chain([copy(COPY.into())]).chain(credential).collect()
}

/// At most one byte more than the largest.
fn read(path: &Path) -> io::Result<(Stamp, Vec<u8>)> {
    let file = File::open(path)?;
    let stamp = Stamp::of(&file.metadata()?);
    let mut pem = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut pem)?;
    Ok((stamp, pem))
}

fn roots(pem: &[u8]) -> Result<RootCertStore, String> {
    if pem.len() as u64 > LARGEST {
        return Err(format!("is larger than {LARGEST} bytes"));
    }
    let mut certificates = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        certificates.push(certificate.map_err(|error| format!("is broken: {error}"))?);
    }
    let mut roots = RootCertStore::empty();
    match roots.add_parsable_certificates(certificates) {
        (0, 0) => Err("has no certificate in it".into()),
        (0, _) => Err("has no certificate in it that can be read".into()),
        _ => Ok(roots),
    }
}

fn list(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(" nor ")
}

/// Logs what is news.
fn tell(before: Option<&Result<Arc<Bundle>, NoBundle>>, now: &Result<Arc<Bundle>, NoBundle>) {
    let line = |why: &dyn fmt::Display| format!("servers' certificates are not checked against the CA: {why}");
    match (before, now) {
        (Some(Err(before)), Err(why)) if before == why => {}
        // A new host has none yet.
        (_, Err(why @ (NoBundle::Absent(_) | NoBundle::Awaited(_)))) => tracing::info!("{}", line(why)),
        (_, Err(why)) => tracing::warn!("{}", line(why)),
        (Some(Err(_)), Ok(bundle)) => {
            tracing::info!("servers' certificates are checked against {} from now on", bundle.path.display());
        }
        (None | Some(Ok(_)), Ok(_)) => {}
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::symlink;

    use rcgen::{CertificateParams, KeyPair};
    use tempfile::TempDir;
    use tokio::time::advance;
    use tracing::subscriber::DefaultGuard;

    use super::*;

    fn ca() -> String {
        CertificateParams::default().self_signed(&KeyPair::generate().unwrap()).unwrap().pem()
    }

    /// A bundle in a directory of its own, and the log.
    struct Site {
        directory: TempDir,
        trust: Trust,
        log: Log,
        _listening: DefaultGuard,
    }

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Site {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let log = Log::default();
            let writer = log.clone();
            let lines = tracing_subscriber::fmt().with_ansi(false).without_time().with_target(false);
            let lines = lines.with_writer(move || writer.clone()).finish();
            Site {
                trust: Trust::new(Some(directory.path().join("ca.pem"))),
                directory,
                log,
                _listening: tracing::subscriber::set_default(lines),
            }
        }

        fn path(&self) -> PathBuf {
            self.directory.path().join("ca.pem")
        }

        fn write(&self, text: &str) {
            fs::write(self.path(), text).unwrap();
        }

        /// How many certificates there are, once it is looked again.
        async fn count(&self) -> Result<usize, NoBundle> {
            advance(LOOK).await;
            self.trust.bundle().map(|bundle| bundle.roots.len())
        }

        /// What has been logged since the last time, without the path.
        fn told(&self) -> Vec<String> {
            let text = String::from_utf8(std::mem::take(&mut self.log.0.lock().unwrap())).unwrap();
            text.lines().map(|line| line.trim().replace(self.path().to_str().unwrap(), "FILE")).collect()
        }
    }

    const UNCHECKED: &str = "servers' certificates are not checked against the CA";
    const BUNDLE: &str = "it should be the agent's copy of the CA's certificates, in PEM";

    #[tokio::test(start_paused = true)]
    async fn it_comes_changes_and_goes() {
        let site = Site::new();
        let absent = NoBundle::Absent(vec![site.path()]);
        let absent_line = format!("INFO {UNCHECKED}: there is no FILE; the agent's first run brings it");
        assert_eq!(site.count().await, Err(absent.clone()));
        assert_eq!(site.count().await, Err(absent.clone()));
        assert_eq!(site.told(), [absent_line.as_str()]);

        site.write(&ca());
        assert_eq!(site.count().await, Ok(1));
        assert_eq!(site.told(), ["INFO servers' certificates are checked against FILE from now on"]);

        site.write(&(ca() + "a word in between\n" + &ca()));
        assert_eq!(site.count().await, Ok(2));
        assert_eq!(site.count().await, Ok(2));
        assert_eq!(site.told(), [""; 0]);

        fs::remove_file(site.path()).unwrap();
        assert_eq!(site.count().await, Err(absent));
        assert_eq!(site.told(), [absent_line.as_str()]);
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_looked_at_once_a_second_and_read_when_it_is_another() {
        let site = Site::new();
        site.write(&ca());
        let first = site.trust.bundle().unwrap();
        site.write("garbage");
        advance(LOOK.saturating_sub(Duration::from_millis(1))).await;
        assert!(Arc::ptr_eq(&first, &site.trust.bundle().unwrap()));
        advance(Duration::from_millis(1)).await;
        assert!(site.trust.bundle().is_err());

        site.write(&ca());
        advance(LOOK).await;
        let second = site.trust.bundle().unwrap();
        assert!(!Arc::ptr_eq(&first, &second));
        advance(LOOK).await;
        assert!(Arc::ptr_eq(&second, &site.trust.bundle().unwrap()));

        // As the agent does it: another file in its place, be it of the same size.
        let other = site.directory.path().join("new");
        fs::write(&other, fs::read(site.path()).unwrap()).unwrap();
        fs::rename(&other, site.path()).unwrap();
        advance(LOOK).await;
        assert!(!Arc::ptr_eq(&second, &site.trust.bundle().unwrap()));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_no_bundle_is_told_once() {
        let site = Site::new();
        let good = ca();
        let bad_der = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for (text, why) in [
            ("", "has no certificate in it"),
            ("garbage", "has no certificate in it"),
            (bad_der, "has no certificate in it that can be read"),
            ("-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n", "is broken: base64 decode error: "),
            (&good[..good.len() / 2], "is broken: "),
            (&"x".repeat(1 << 20).repeat(2), "is larger than 1048576 bytes"),
        ] {
            site.write(text);
            assert!(matches!(site.count().await, Err(NoBundle::Broken { .. })), "{why}");
            site.count().await.unwrap_err();
            let told = site.told();
            assert!(told.len() <= 1, "{told:?}");
            if text != "garbage" {
                assert!(told[0].starts_with(&format!("WARN {UNCHECKED}: FILE {why}")), "{told:?}");
                assert!(told[0].ends_with(BUNDLE), "{told:?}");
            }
        }
        // One that cannot be read does no harm beside one that can.
        site.write(&(good + bad_der));
        assert_eq!(site.count().await, Ok(1));
    }

    #[tokio::test(start_paused = true)]
    async fn what_cannot_be_read_is_told_once() {
        let site = Site::new();
        // Root may read everything, but follows no loop either.
        symlink("ca.pem", site.path()).unwrap();
        assert!(matches!(site.count().await, Err(NoBundle::Closed { .. })));
        site.count().await.unwrap_err();
        let told = site.told();
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].starts_with(&format!("WARN {UNCHECKED}: FILE cannot be read: ")), "{told:?}");
        assert!(told[0].ends_with("; make it readable for puppet-shim's user"), "{told:?}");

        fs::remove_file(site.path()).unwrap();
        fs::create_dir(site.path()).unwrap();
        assert_eq!(site.count().await, Err(NoBundle::Broken { path: site.path(), why: "is no file".into() }));
        // The file's own directory is none.
        fs::remove_dir(site.path()).unwrap();
        site.write("");
        let trust = Trust::new(Some(site.path().join("ca.pem")));
        assert!(matches!(trust.bundle(), Err(NoBundle::Absent(_))));
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_place_with_a_bundle_counts() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let place = |name, may_be_blank| Place { path: path(name), may_be_blank };
        let places = vec![place("credential", true), place("a", false), place("b", false)];
        let trust = Trust { places, state: Mutex::default() };
        assert!(trust.has_copies());
        let found = async || {
            advance(LOOK).await;
            trust.bundle().map(|bundle| bundle.path.clone())
        };

        assert_eq!(found().await, Err(NoBundle::Absent(vec![path("a"), path("b")])));
        for blank in ["", "\n"] {
            fs::write(path("credential"), blank).unwrap();
            assert!(matches!(found().await, Err(NoBundle::Absent(_))));
        }
        fs::write(path("a"), "").unwrap();
        assert!(matches!(found().await, Err(NoBundle::Broken { path: at, .. }) if at == path("a")));
        fs::write(path("b"), ca()).unwrap();
        assert_eq!(found().await, Ok(path("b")));
        fs::write(path("a"), ca()).unwrap();
        assert_eq!(found().await, Ok(path("a")));
        fs::write(path("credential"), ca()).unwrap();
        assert_eq!(found().await, Ok(path("credential")));
    }

    /// Root may read everything, so there is no file to show it with.
    #[test]
    fn what_root_has_not_copied_yet_is_awaited() {
        let closed = |kind| NoBundle::Closed { path: "/x".into(), why: String::new(), kind };
        let denied = || closed(io::ErrorKind::PermissionDenied);
        assert_eq!(denied().awaiting_a_copy(), NoBundle::Awaited("/x".into()));
        let other = || closed(io::ErrorKind::NotADirectory);
        assert_eq!(other().awaiting_a_copy(), other());
        // But what is wrong with a copy counts.
        assert_eq!(other().unless(Some(denied())), other());
        assert_eq!(denied().unless(Some(other())), other());
        assert_eq!(other().unless(None), other());
    }

    #[test]
    fn places_in_order() {
        let paths = |configured: Option<&str>, credentials: Option<&str>| -> Vec<(String, bool)> {
            let places = places(configured.map(PathBuf::from), credentials.map(OsString::from));
            places.iter().map(|place| (place.path.display().to_string(), place.may_be_blank)).collect()
        };
        let agents = AGENTS.map(|path| (path.to_string(), false));
        let copies = ["/run/puppet-shim-ca/ca.pem", "/run/credentials/puppet-shim.service/ca.pem"];
        let copies = copies.map(|path| (path.to_string(), true));
        assert_eq!(paths(None, None), [&agents[..], &copies[..1]].concat());
        assert_eq!(paths(None, Some("")), [&agents[..], &copies[..1]].concat());
        assert_eq!(paths(None, Some("/run/credentials/puppet-shim.service")), [&agents[..], &copies[..]].concat());
        assert_eq!(paths(Some("/x"), Some("/run/credentials/puppet-shim.service")), [("/x".to_string(), false)]);
    }
}
