//! The site's CA, and what it signs.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertificateRevocationListParams, CertificateSigningRequestParams,
    CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose,
    SerialNumber, date_time_ymd,
};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    ALL_VERSIONS, ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme,
    SupportedProtocolVersion,
};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// The CA.
pub struct Pki {
    ca: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate and its key.
#[derive(Debug)]
pub struct Identity {
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

/// A certificate and its key, for a server that reads them from files.
pub struct Pem {
    pub certificate: String,
    pub key: String,
}

/// A key that waits for its certificate.
pub struct Request {
    key: KeyPair,
    /// The signing request, as the agent puts it to the CA.
    pub pem: String,
}

/// What a server wants to see of its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientCertificate {
    /// No certificate, no handshake.
    Required,
    /// As on a CA: an agent has none when it first comes.
    Optional,
}

/// Whom an agent believes to be a server of its site.
#[derive(Clone, Debug)]
pub enum Trust {
    /// Anybody, as when a new agent fetches the CA's certificate.
    Anybody,
    /// Whoever has a certificate of this CA for the name asked for.
    Ca(CertificateDer<'static>),
}

impl Pki {
    /// A CA of its own.
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name = common_name("Puppet CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Pki { ca: CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap() }
    }

    /// The CA's certificate, as an agent stores it.
    pub fn ca_pem(&self) -> String {
        self.ca.pem()
    }

    /// For agents that have the CA's certificate.
    pub fn trust(&self) -> Trust {
        Trust::Ca(self.ca.der().clone())
    }

    /// A list of revoked certificates: none.
    pub fn crl_pem(&self) -> String {
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2020, 1, 1),
            next_update: date_time_ymd(4096, 1, 1),
            crl_number: SerialNumber::from(0),
            issuing_distribution_point: None,
            revoked_certs: Vec::new(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.ca).unwrap().pem().unwrap()
    }

    /// A certificate for `names`, and its key. As Puppet's CA makes them, it serves for either side, and the first name
    /// is its CN too.
    pub fn identity<N: AsRef<str>>(&self, names: &[N]) -> Identity {
        self.identity_with(names, |_| ())
    }

    /// The same with what `adjust` makes of it.
    pub fn identity_with<N: AsRef<str>>(&self, names: &[N], adjust: impl FnOnce(&mut CertificateParams)) -> Identity {
        let (certificate, key) = self.issue(names, adjust);
        Identity::new(certificate.der().clone(), &key)
    }

    /// The same for a server that is no part of this process.
    pub fn pem<N: AsRef<str>>(&self, names: &[N]) -> Pem {
        let (certificate, key) = self.issue(names, |_| ());
        Pem { certificate: certificate.pem(), key: key.serialize_pem() }
    }

    fn issue<N: AsRef<str>>(&self, names: &[N], adjust: impl FnOnce(&mut CertificateParams)) -> (Certificate, KeyPair) {
        let names: Vec<String> = names.iter().map(|name| name.as_ref().to_string()).collect();
        let mut params = CertificateParams::new(names.clone()).unwrap();
        params.distinguished_name = common_name(&names[0]);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        adjust(&mut params);
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.ca).unwrap(), key)
    }

    /// What somebody needs who shows a certificate for `names` without having its key.
    pub fn forged_config<N: AsRef<str>>(&self, names: &[N]) -> Arc<ServerConfig> {
        let (shown, own) = (self.identity(names), self.identity(&["forger"]));
        let key = ring::sign::any_supported_type(&own.key).unwrap();
        let resolver = SingleCertAndKey::from(CertifiedKey::new(vec![shown.certificate], key));
        let config = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().unwrap();
        Arc::new(config.with_no_client_auth().with_cert_resolver(Arc::new(resolver)))
    }

    /// Signs an agent's request, as a CA with autosign does. `None`: it is no request.
    pub fn sign(&self, request: &str) -> Option<String> {
        let mut request = CertificateSigningRequestParams::from_pem(request).ok()?;
        request.params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        Some(request.signed_by(&self.ca).ok()?.pem())
    }

    /// What a server with this identity needs.
    pub fn server_config(&self, identity: Identity, client: ClientCertificate) -> Arc<ServerConfig> {
        self.server_config_of(ALL_VERSIONS, identity, client)
    }

    /// The same for these versions of TLS alone.
    pub fn server_config_of(
        &self,
        versions: &[&'static SupportedProtocolVersion],
        identity: Identity,
        client: ClientCertificate,
    ) -> Arc<ServerConfig> {
        let verifier = WebPkiClientVerifier::builder_with_provider(roots(self.ca.der()), provider());
        let verifier = match client {
            ClientCertificate::Required => verifier,
            ClientCertificate::Optional => verifier.allow_unauthenticated(),
        };
        let config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(versions)
            .unwrap()
            .with_client_cert_verifier(verifier.build().unwrap())
            .with_single_cert(vec![identity.certificate], identity.key)
            .unwrap();
        Arc::new(config)
    }
}

impl Identity {
    /// One that no CA has signed.
    pub fn self_signed(params: &CertificateParams) -> Self {
        let key = KeyPair::generate().unwrap();
        Identity::new(params.self_signed(&key).unwrap().der().clone(), &key)
    }

    fn new(certificate: CertificateDer<'static>, key: &KeyPair) -> Self {
        Identity { certificate, key: PrivatePkcs8KeyDer::from(key.serialize_der()).into() }
    }
}

impl Clone for Identity {
    fn clone(&self) -> Self {
        Identity { certificate: self.certificate.clone(), key: self.key.clone_key() }
    }
}

impl Request {
    /// A new key, and the request to have it certified as `certname`.
    pub fn new(certname: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![certname.to_string()]).unwrap();
        params.distinguished_name = common_name(certname);
        let pem = params.serialize_request(&key).unwrap().pem().unwrap();
        Request { key, pem }
    }

    /// The identity, once the CA has answered. `None`: that is no certificate.
    pub fn signed(&self, certificate: &[u8]) -> Option<Identity> {
        Some(Identity::new(CertificateDer::from_pem_slice(certificate).ok()?, &self.key))
    }
}

impl Trust {
    /// Trust in a CA's certificate, as it came from the wire. `None`: that is no certificate.
    pub fn from_pem(ca: &[u8]) -> Option<Self> {
        CertificateDer::from_pem_slice(ca).ok().map(Trust::Ca)
    }
}

/// What an agent needs to connect.
pub fn client_config(trust: &Trust, identity: Option<&Identity>) -> Arc<ClientConfig> {
    let verifier: Arc<dyn ServerCertVerifier> = match trust {
        Trust::Anybody => Arc::new(Anybody(provider())),
        Trust::Ca(ca) => WebPkiServerVerifier::builder_with_provider(roots(ca), provider()).build().unwrap(),
    };
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match identity.cloned() {
        Some(Identity { certificate, key }) => config.with_client_auth_cert(vec![certificate], key).unwrap(),
        None => config.with_no_client_auth(),
    };
    // Puppet starts each connection anew, so that its certificate is shown each time.
    config.resumption = Resumption::disabled();
    Arc::new(config)
}

/// Whose certificate this is: its first DNS name, which on those of Puppet's CA is the certname.
pub fn certname(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let names = certificate.subject_alternative_name().ok()??;
    names.value.general_names.iter().find_map(|name| match name {
        GeneralName::DNSName(name) => Some((*name).to_string()),
        _ => None,
    })
}

fn common_name(name: &str) -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, name);
    subject
}

fn roots(ca: &CertificateDer<'static>) -> Arc<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add(ca.clone()).unwrap();
    Arc::new(roots)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// Believes everybody who holds the key of the certificate shown.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
