//! A wire to a nameserver, with somebody on it who takes notes.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::TcpStream;
use tokio::task::{JoinHandle, JoinSet};

use super::dns::bind_both;
use super::loopback;

/// What comes by TCP goes on to the server; what comes by UDP is only counted.
pub struct Tap {
    address: SocketAddr,
    notes: Arc<Notes>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Notes {
    /// The first byte of each connection.
    first: Mutex<Vec<u8>>,
    packets: AtomicUsize,
}

impl Tap {
    /// Listens on a port of its own for what is meant for `server`.
    pub async fn on(server: SocketAddr) -> Self {
        let (udp, tcp) = bind_both(loopback::any_port()).await;
        let (address, notes) = (udp.local_addr().unwrap(), Arc::new(Notes::default()));
        let kept = notes.clone();
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            let mut packet = [0; 1];
            loop {
                tokio::select! {
                    Ok(_) = udp.recv_from(&mut packet) => {
                        kept.packets.fetch_add(1, Ordering::Relaxed);
                    }
                    Ok((client, _)) = tcp.accept() => {
                        connections.spawn(carry(client, server, kept.clone()));
                    }
                }
            }
        });
        Tap { address, notes, task }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The first byte of each connection that has sent one.
    pub fn first_bytes(&self) -> Vec<u8> {
        self.notes.first.lock().unwrap().clone()
    }

    /// How many UDP packets have come.
    pub fn packets(&self) -> usize {
        self.notes.packets.load(Ordering::Relaxed)
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn carry(mut client: TcpStream, server: SocketAddr, notes: Arc<Notes>) {
    let Ok(first) = client.read_u8().await else { return };
    notes.first.lock().unwrap().push(first);
    let Ok(mut server) = TcpStream::connect(server).await else { return };
    if server.write_u8(first).await.is_ok() {
        // Whoever closes first: both have had what there was.
        let _ = copy_bidirectional(&mut client, &mut server).await;
    }
}
