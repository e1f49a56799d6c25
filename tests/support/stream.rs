//! A stream of bytes in which a lost, doubled or swapped piece shows, for as long as it is wanted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// A period that no buffer's size divides.
const PERIOD: usize = 100_003;

/// One stream of bytes; each seed has another.
#[derive(Clone)]
pub struct Stream {
    /// Twice, so that any piece is one slice.
    bytes: Arc<[u8]>,
}

impl Stream {
    /// That of this seed.
    pub fn new(seed: u32) -> Self {
        let mut state = seed.wrapping_mul(2_654_435_761) + 1;
        let next = |_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_be_bytes()[0]
        };
        let once: Vec<u8> = (0..PERIOD).map(next).collect();
        Stream { bytes: [once.as_slice(), &once].concat().into() }
    }

    /// So many bytes of it, from there on.
    fn piece(&self, at: usize, most: usize) -> &[u8] {
        let from = at % PERIOD;
        &self.bytes[from..from + most.min(PERIOD)]
    }

    /// Writes pieces of it, each after a pause, until told to stop; then ends. Gives how many bytes there were.
    pub async fn write(
        self,
        mut to: impl AsyncWrite + Unpin,
        piece: usize,
        pause: Duration,
        stop: Arc<AtomicBool>,
    ) -> usize {
        let mut at = 0;
        while !stop.load(Ordering::Relaxed) {
            to.write_all(self.piece(at, piece)).await.unwrap();
            at += piece;
            tokio::time::sleep(pause).await;
        }
        to.shutdown().await.unwrap();
        at
    }

    /// Writes as much as is taken within a moment. Gives how much that was.
    pub async fn fill(&self, to: &mut (impl AsyncWrite + Unpin)) -> usize {
        let mut at = 0;
        loop {
            match tokio::time::timeout(Duration::from_millis(200), to.write(self.piece(at, PERIOD))).await {
                Ok(written) => at += written.unwrap(),
                Err(_) => return at,
            }
        }
    }

    /// Reads to the end, and compares. Gives how many bytes there were.
    pub async fn read(self, mut from: impl AsyncRead + Unpin) -> usize {
        let (mut at, mut buffer) = (0, vec![0; 50_000]);
        loop {
            let read = from.read(&mut buffer).await.unwrap();
            if read == 0 {
                return at;
            }
            assert!(buffer[..read] == *self.piece(at, read), "not what was sent, from byte {at} on");
            at += read;
        }
    }
}
