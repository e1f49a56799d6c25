//! A Puppet server: TLS, and an application behind it that tells whom it saw.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use rustls::ServerConfig;
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

use super::fault::{self, Fault, Paced};
use super::http;
use super::loopback;
use super::pki::{self, ClientCertificate, Identity, Pki};
use super::puppet::{Caller, Puppet};

/// A server, until it is dropped.
pub struct Server {
    name: String,
    role: String,
    address: SocketAddr,
    state: Arc<State>,
    running: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

/// One request, as the server saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Who asked.
    pub caller: Caller,
    /// The name it asked for, in the `ClientHello`.
    pub sni: Option<String>,
    /// What it asked for.
    pub method: String,
    pub path: String,
    /// The size of what it sent along.
    pub bytes: usize,
}

struct State {
    tls: Arc<ServerConfig>,
    puppet: Puppet,
    fault: Mutex<Option<Fault>>,
    seen: Mutex<Vec<Seen>>,
    accepted: AtomicUsize,
    open: AtomicUsize,
}

impl Server {
    /// Starts the server `names[0]`, there for `role`, with a certificate for all of `names`. Every role but the CA
    /// wants to see the agent's certificate.
    pub async fn start(pki: &Arc<Pki>, role: &str, names: &[String]) -> Self {
        let client = if role == "ca" { ClientCertificate::Optional } else { ClientCertificate::Required };
        Self::start_asking(pki, role, names, client).await
    }

    /// The same, with what it thinks of clients without a certificate.
    pub async fn start_asking(pki: &Arc<Pki>, role: &str, names: &[String], client: ClientCertificate) -> Self {
        Self::start_as(pki, role, &names[0], pki.identity(names), client).await
    }

    /// Starts the server `name` with a certificate that may be for anybody.
    pub async fn start_as(
        pki: &Arc<Pki>,
        role: &str,
        name: &str,
        identity: Identity,
        client: ClientCertificate,
    ) -> Self {
        let state = State {
            tls: pki.server_config(identity, client),
            puppet: Puppet::new(name, role, pki.clone()),
            fault: Mutex::default(),
            seen: Mutex::default(),
            accepted: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
        };
        let mut server = Server {
            name: name.into(),
            role: role.into(),
            address: loopback::any_port(),
            state: Arc::new(state),
            running: None,
        };
        server.restart().await;
        server
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it is there for.
    pub fn role(&self) -> &str {
        &self.role
    }

    /// Where it listens, or did before it was stopped.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops as when the process ends: connections are closed, new ones refused.
    pub async fn stop(&mut self) {
        if let Some((stop, task)) = self.running.take() {
            drop(stop);
            task.await.unwrap();
        }
    }

    /// Listens on the same port again.
    pub async fn restart(&mut self) {
        self.stop().await;
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        self.running = Some((stop, tokio::spawn(accept(listener, self.state.clone(), stopped))));
    }

    /// Goes wrong in this way from the next connection on; `None` mends it.
    pub fn set_fault(&self, fault: Option<Fault>) {
        *self.state.fault.lock().unwrap() = fault;
    }

    /// How busy it says it is; `None`: it does not say.
    pub fn set_load(&self, load: Option<(usize, usize)>) {
        self.state.puppet.set_load(load);
    }

    /// The requests so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.state.seen.lock().unwrap().clone()
    }

    /// How many connections it has accepted so far.
    pub fn accepted(&self) -> usize {
        self.state.accepted.load(Ordering::Relaxed)
    }

    /// How many of them are open.
    pub fn open(&self) -> usize {
        self.state.open.load(Ordering::Relaxed)
    }
}

/// Accepts until `stopped` resolves, which it does when the [`Server`] is dropped, too.
async fn accept(listener: TcpListener, state: Arc<State>, mut stopped: oneshot::Receiver<()>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            _ = &mut stopped => break,
            Some(_) = connections.join_next() => {}
            Ok((stream, peer)) = listener.accept() => {
                state.accepted.fetch_add(1, Ordering::Relaxed);
                connections.spawn(serve(stream, peer, Open::new(&state)));
            }
        }
    }
    drop(listener);
    connections.shutdown().await;
}

/// Serves one connection. How it ends is the agent's to judge.
async fn serve(stream: TcpStream, peer: SocketAddr, open: Open) -> io::Result<()> {
    let state = &open.0;
    let fault = *state.fault.lock().unwrap();
    stream.set_nodelay(true)?;
    let Some(stream) = fault::play(fault, stream).await? else { return Ok(()) };
    let stream = TlsAcceptor::from(state.tls.clone()).accept(Paced::new(stream, fault)).await?;
    let (_, tls) = stream.get_ref();
    let certname = tls.peer_certificates().and_then(|chain| pki::certname(&chain[0]));
    let sni = tls.server_name().map(str::to_string);
    let caller = Caller { certname, peer };

    let mut stream = BufReader::new(stream);
    let mut sending = true;
    while let Some(request) = http::read_request(&mut stream).await? {
        state.seen.lock().unwrap().push(Seen {
            caller: caller.clone(),
            sni: sni.clone(),
            method: request.method.clone(),
            path: request.path.clone(),
            bytes: request.body.len(),
        });
        if sending {
            http::write_response(&mut stream, &state.puppet.answer(&request, &caller)).await?;
        }
        if sending && fault == Some(Fault::HalfClose) {
            sending = false;
            stream.shutdown().await?;
        }
    }
    // The agent has closed in good order: so does the server.
    stream.shutdown().await
}

/// Counts a connection as open while it lives.
struct Open(Arc<State>);

impl Open {
    fn new(state: &Arc<State>) -> Self {
        state.open.fetch_add(1, Ordering::Relaxed);
        Open(state.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}
