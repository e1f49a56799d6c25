//! Servers without TLS: tests that look at the bytes themselves, or only at who was reached.

use std::io;
use std::net::{SocketAddr, TcpStream as BlockingStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::client::connect_request;
use super::hello::with_sni;
use super::{loopback, raw};

/// Longer than anything that works takes, on a machine that is busy with much else too; a test that waits for it has
/// failed.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// What begins like a TLS server's answer.
pub const ANSWER: &[u8] = b"\x16\x03\x03\x00\x05hello";

/// The same, with nothing in it.
const BEGINNING: &[u8] = b"\x16\x03\x03\x00\x00";

/// A listener whose connections are the test's to handle.
pub struct Raw {
    listener: TcpListener,
}

impl Raw {
    /// Listens on a port of its own.
    pub async fn start() -> Self {
        Self::at(loopback::any_port()).await
    }

    /// Listens there.
    pub async fn at(address: SocketAddr) -> Self {
        Raw { listener: TcpListener::bind(address).await.unwrap() }
    }

    /// Where.
    pub fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    /// The next connection.
    pub async fn accept(&self) -> TcpStream {
        let (stream, _) = timeout(PATIENCE, self.listener.accept()).await.expect("nobody connects").unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }

    /// Whether nobody connects for so long, and nobody has.
    pub async fn is_left_alone(&self, during: Duration) -> bool {
        timeout(during, self.listener.accept()).await.is_err()
    }
}

/// A server that says its name to everyone who says something, behind what begins like a TLS server's answer if it was
/// TLS, and closes.
pub struct Named {
    address: SocketAddr,
    accepted: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Named {
    /// Starts it on a port of its own.
    pub async fn start(name: &str) -> Self {
        Self::at(name, loopback::any_port()).await
    }

    /// Starts it there.
    pub async fn at(name: &str, address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let (name, accepted) = (name.to_owned(), Arc::new(AtomicUsize::new(0)));
        let (address, count) = (listener.local_addr().unwrap(), accepted.clone());
        let task = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::Relaxed);
                let name = name.clone();
                tokio::spawn(async move {
                    let mut first = [0; 1];
                    if stream.read(&mut first).await? == 1 && first == *b"\x16" {
                        stream.write_all(BEGINNING).await?;
                    }
                    stream.write_all(name.as_bytes()).await?;
                    stream.shutdown().await?;
                    // What it is sent is read, or the closing would be a reset.
                    tokio::io::copy(&mut stream, &mut tokio::io::sink()).await
                });
            }
        });
        Named { address, accepted, task }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections it has had.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::Relaxed)
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// An address where connections are refused: somebody has listened there, and does no more.
pub fn refusing() -> SocketAddr {
    loopback::free_ports::<1>()[0]
}

/// An address where the kernel neither takes nor refuses a connection, until it is dropped: its accept queue is full.
pub struct BlackHole {
    socket: Socket,
    _queue: Vec<BlockingStream>,
}

impl BlackHole {
    /// Listens on a port of its own, and fills its own queue.
    pub fn new() -> Self {
        Self::at(loopback::any_port())
    }

    /// The same there.
    pub fn at(address: SocketAddr) -> Self {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
        socket.bind(&address.into()).unwrap();
        socket.listen(0).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        let mut queue = Vec::new();
        while let Ok(stream) = BlockingStream::connect_timeout(&address, Duration::from_millis(100)) {
            queue.push(stream);
            assert!(queue.len() < 100, "the queue of a listener does not fill");
        }
        BlackHole { socket, _queue: queue }
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.socket.local_addr().unwrap().as_socket().unwrap()
    }
}

/// What became of a CONNECT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// There was a tunnel, and this came through it until the server closed.
    Tunnel(String),
    /// Status and reason.
    Refused(u16, String),
}

/// Asks for a tunnel to `target`, says a hello through it, and listens until the other side closes.
pub async fn ask(shim: SocketAddr, target: &str) -> Answer {
    let reply = timeout(PATIENCE, raw::exchange(shim, &[connect_request(target).as_bytes(), &with_sni(None)])).await;
    let reply = reply.expect("the shim never closes").unwrap();
    assert!(reply.closed, "{target}: reset after {:?}", String::from_utf8_lossy(&reply.bytes));
    answer(&reply.bytes)
}

/// Reads a CONNECT's answer.
pub fn answer(bytes: &[u8]) -> Answer {
    let text = String::from_utf8_lossy(bytes).into_owned();
    if let Some(through) = text.strip_prefix("HTTP/1.1 200 Connection established\r\n\r\n") {
        let beginning = String::from_utf8_lossy(BEGINNING);
        return Answer::Tunnel(through.strip_prefix(&*beginning).unwrap_or(through).into());
    }
    let (status, reason) = status_line(&text);
    Answer::Refused(status, reason)
}

/// Status and reason of an HTTP response.
pub fn status_line(text: &str) -> (u16, String) {
    let line = text.split("\r\n").next().unwrap_or_default();
    let mut parts = line.splitn(3, ' ');
    assert_eq!(parts.next(), Some("HTTP/1.1"), "{text:?} is no HTTP response");
    (parts.next().unwrap().parse().unwrap(), parts.next().unwrap_or_default().into())
}

/// Says the first word through a tunnel. Until then the shim does not know what the tunnel is for, and watches over it.
pub async fn begin(client: &mut TcpStream, upstream: &mut TcpStream) {
    client.write_all(b".").await.unwrap();
    let word = timeout(PATIENCE, upstream.read_u8()).await.expect("nothing comes").unwrap();
    assert_eq!(word, b'.');
}

/// Opens a tunnel to `target` by CONNECT; the answer has been read.
pub async fn tunnel(shim: SocketAddr, target: &str) -> TcpStream {
    try_tunnel(shim, target).await.unwrap()
}

/// The same, for a shim that may not answer.
pub async fn try_tunnel(shim: SocketAddr, target: &str) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(shim).await?;
    stream.set_nodelay(true)?;
    stream.write_all(connect_request(target).as_bytes()).await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match timeout(PATIENCE, stream.read_u8()).await {
            Ok(byte) => head.push(byte?),
            Err(_) => return Err(io::ErrorKind::TimedOut.into()),
        }
    }
    assert!(head.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&head));
    Ok(stream)
}
