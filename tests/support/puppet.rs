//! What a Puppet server answers, as far as an agent's run goes.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use super::http::{Headers, Request, Response};
use super::pki::Pki;

/// The application behind one server's TLS.
pub struct Puppet {
    name: String,
    role: String,
    pki: Arc<Pki>,
    signed: Mutex<HashMap<String, String>>,
    load: Mutex<Option<(usize, usize)>>,
}

/// Whom the server has before it, as it sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The certname of its certificate, if it has shown one.
    pub certname: Option<String>,
    /// Its address.
    pub peer: SocketAddr,
}

/// Who answered, and whom it saw. Every response carries this in its header, so that an agent can tell what happened
/// behind its back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Witness {
    /// The server's name.
    pub server: String,
    /// What it is there for.
    pub role: String,
    /// Whom it saw.
    pub caller: Caller,
}

impl Puppet {
    /// The application of server `name`, there for `role`.
    pub fn new(name: &str, role: &str, pki: Arc<Pki>) -> Self {
        Puppet { name: name.into(), role: role.into(), pki, signed: Mutex::default(), load: Mutex::default() }
    }

    /// Says so many `JRuby`s free and requests waiting from now on; `None`: nothing.
    pub fn set_load(&self, load: Option<(usize, usize)>) {
        *self.load.lock().unwrap() = load;
    }

    /// Answers a request.
    pub fn answer(&self, request: &Request, caller: &Caller) -> Response {
        let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
        let body = match path.strip_prefix("/puppet-ca/v1/") {
            // Only the CA service mounts these; elsewhere they do not exist.
            Some(resource) if self.role == "ca" => self.answer_as_ca(request, resource),
            Some(_) => None,
            None if path == "/status/v1/services/jruby-metrics" => self.answer_on_load(),
            None if path == "/status/v1/simple" => Some("running".into()),
            None => Some(self.answer_as_any(request, query)),
        };
        let (status, reason) = if body.is_some() { (200, "OK") } else { (404, "Not Found") };
        let mut headers = Headers::default();
        headers.push("X-Server", &self.name);
        headers.push("X-Role", &self.role);
        headers.push("X-Peer", &caller.peer);
        if let Some(certname) = &caller.certname {
            headers.push("X-Certname", certname);
        }
        Response { status, reason: reason.into(), headers, body: body.unwrap_or_default() }
    }

    fn answer_as_ca(&self, request: &Request, resource: &str) -> Option<Vec<u8>> {
        let signed = || self.signed.lock().unwrap();
        match (request.method.as_str(), resource.split_once('/')?) {
            ("GET", ("certificate", "ca")) => Some(self.pki.ca_pem().into()),
            ("GET", ("certificate_revocation_list", "ca")) => Some(self.pki.crl_pem().into()),
            ("GET", ("certificate", certname)) => signed().get(certname).map(|pem| pem.clone().into()),
            ("PUT", ("certificate_request", certname)) => {
                let pem = self.pki.sign(std::str::from_utf8(&request.body).ok()?)?;
                signed().insert(certname.into(), pem);
                Some(Vec::new())
            }
            _ => None,
        }
    }

    /// As puppetserver does at `level=debug`, what matters of it.
    fn answer_on_load(&self) -> Option<Vec<u8>> {
        let (free, waiting) = (*self.load.lock().unwrap())?;
        let waiting = vec!["{}"; waiting].join(",");
        let metrics = format!(r#"{{"num-free-jrubies":{free},"requested-instances":[{waiting}]}}"#);
        Some(format!(r#"{{"state":"running","status":{{"experimental":{{"metrics":{metrics}}}}}}}"#).into())
    }

    /// `?bytes=N` asks for a body of that size.
    fn answer_as_any(&self, request: &Request, query: &str) -> Vec<u8> {
        match query.strip_prefix("bytes=").and_then(|bytes| bytes.parse().ok()) {
            Some(bytes) => vec![b'x'; bytes],
            None => format!("{} has taken {} bytes\n", self.name, request.body.len()).into(),
        }
    }
}

impl Witness {
    /// Reads it from a response. `None`: that response is not from one of our servers.
    pub fn of(response: &Response) -> Option<Self> {
        let header = |name| response.headers.get(name).map(str::to_string);
        Some(Witness {
            server: header("X-Server")?,
            role: header("X-Role")?,
            caller: Caller { certname: header("X-Certname"), peer: header("X-Peer")?.parse().ok()? },
        })
    }
}
