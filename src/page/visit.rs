//! The talk with who asks for the page: one request, one answer, and the end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{Request, Response, answer};
use crate::connection::Shared;
use crate::moment::Clocks;
use crate::sniff::head_end;
use crate::status::Status;

/// For the rest of a head, and for an answer to be taken. Both are on this host.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long the other side may take to close. To close first, with bytes of its unread, would be a reset, and the answer
/// lost.
const LINGER: Duration = Duration::from_secs(1);

/// Somebody who asks for the page, and has begun to say so.
#[derive(Debug)]
pub struct Visit {
    /// The connection.
    pub client: TcpStream,
    /// Who.
    pub from: SocketAddr,
    /// What has been said so far.
    pub said: Vec<u8>,
}

impl Visit {
    /// Hears the rest, and answers.
    pub async fn serve(mut self, shared: Arc<Shared>) {
        let limit = shared.config.limits.hello;
        let (response, is_head) = match timeout(PATIENCE, self.head(limit)).await {
            Ok(Ok(Some(end))) => match Request::parse(self.said.get(..end).unwrap_or_default()) {
                Ok(request) => {
                    let response = answer(&request, self.from, || Status::of(&shared, &Clocks::read()));
                    tracing::debug!(from = %self.from, target = request.target, status = response.status, "looked at");
                    (response, request.method == "HEAD")
                }
                Err(response) => (response, false),
            },
            Ok(Ok(None)) => {
                let why = format!("the HTTP head is over {limit} bytes; `limits.hello` sets the limit");
                (Response::text(431, why), false)
            }
            // It has gone, or has not come to the point.
            Ok(Err(_)) | Err(_) => return,
        };
        // Who does not listen has not asked.
        let _ = timeout(PATIENCE, self.client.write_all(&response.to_bytes(is_head))).await;
        let _ = timeout(LINGER, self.see_off()).await;
    }

    /// Says so without waiting for anything.
    pub fn turn_away(self, response: &Response) {
        // What fits into the socket's buffer arrives, if nothing is left unread.
        let _ = self.client.try_write(&response.to_bytes(false));
        let mut sink = [0; 4096];
        while self.client.try_read(&mut sink).is_ok_and(|read| read > 0) {}
    }

    /// Reads until the head is whole: where it ends. `None`: it is too long.
    async fn head(&mut self, limit: usize) -> std::io::Result<Option<usize>> {
        loop {
            if let Some(end) = head_end(&self.said) {
                return Ok(Some(end));
            }
            if self.said.len() >= limit {
                return Ok(None);
            }
            let room = limit - self.said.len();
            if (&mut self.client).take(room as u64).read_buf(&mut self.said).await? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Reads away what still comes, until the other side closes.
    async fn see_off(&mut self) -> std::io::Result<()> {
        self.client.shutdown().await?;
        let mut sink = [0; 1024];
        while self.client.read(&mut sink).await? > 0 {}
        Ok(())
    }
}
