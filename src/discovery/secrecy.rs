//! Whom to trust as a nameserver over TLS.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::client::WebPkiServerVerifier;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use tokio::time::Instant;

use super::distrust::{Distrust, Wary};
use super::file::Read;

/// The system's certificates are in many files, so they are read again after so long rather than when one has changed.
const SYSTEM: Duration = Duration::from_secs(60);

/// What certificates are verified by, for all nameservers of a list.
#[derive(Debug, Default)]
pub(super) struct Secrecy {
    file: Read<Arc<WebPkiServerVerifier>>,
    system: Mutex<Option<(Instant, Arc<WebPkiServerVerifier>)>>,
}

impl Secrecy {
    /// For one nameserver. `ca_file`: none: the system's certificates. `distrust`: where the reason goes if the
    /// nameserver's is not trusted.
    pub(super) fn tls(&self, ca_file: Option<&Path>, distrust: &Distrust) -> Result<ClientConfig, String> {
        let verifier = match ca_file {
            Some(path) => self.file.get(path, of_file)?,
            None => self.of_system()?,
        };
        let verifier = Wary { verifier, distrust: distrust.clone() };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let versions = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config =
            versions.map_err(|why| why.to_string())?.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
        Ok(config.with_no_client_auth())
    }

    fn of_system(&self) -> Result<Arc<WebPkiServerVerifier>, String> {
        let mut held = self.system.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((read, verifier)) = &*held
            && read.elapsed() < SYSTEM
        {
            return Ok(verifier.clone());
        }
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            return Err("this host has no CA certificates; set [dns] ca_file".into());
        }
        let verifier = verifier(roots)?;
        *held = Some((Instant::now(), verifier.clone()));
        Ok(verifier)
    }
}

fn of_file(path: &Path) -> Result<Arc<WebPkiServerVerifier>, String> {
    let unread = |why: &dyn std::fmt::Display| format!("ca_file {} cannot be read: {why}", path.display());
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|why| unread(&why))? {
        let certificate = certificate.map_err(|why| unread(&why))?;
        roots.add(certificate).map_err(|why| unread(&why))?;
    }
    if roots.is_empty() {
        return Err(format!("ca_file {} has no certificate in it", path.display()));
    }
    verifier(roots)
}

fn verifier(roots: RootCertStore) -> Result<Arc<WebPkiServerVerifier>, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().map_err(|why| why.to_string())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_file_that_is_of_no_use_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let why = || Secrecy::default().tls(Some(&path), &Distrust::default()).unwrap_err();
        assert!(why().contains("cannot be read"));
        fs::write(&path, "; nothing\n").unwrap();
        assert!(why().contains("has no certificate in it"));
    }
}
