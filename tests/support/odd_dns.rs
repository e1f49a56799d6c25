//! A nameserver that answers as another one does, except where it is told to misbehave: in ways that no library for DNS
//! servers offers.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hickory_server::proto::op::{Message, Query, ResponseCode};
use hickory_server::proto::rr::{LowerName, RData, Record, RecordType};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;

use super::dns::bind_both;
use super::loopback;
use super::nameserver::{absolute, exchange, framed, read_framed};

/// How far [`Odd::Ahead`] is ahead.
const AHEAD: Duration = Duration::from_millis(50);

/// The nameserver.
pub struct OddDns {
    address: SocketAddr,
    desk: Arc<Desk>,
    tasks: [JoinHandle<()>; 2],
}

/// How a question is mistreated.
#[derive(Clone, Debug, PartialEq)]
pub enum Odd {
    /// No answer at all.
    Silent,
    /// The right answer, so much later.
    Late(Duration),
    /// This code and nothing else.
    Code(ResponseCode),
    /// Over UDP "too long" without a record, whatever its length; over TCP this.
    Truncated(Tcp),
    /// This, and never the answer.
    Instead(Junk),
    /// This, and 50 ms later the right answer.
    Ahead(Junk),
    /// The right answer, and these records behind it that nobody has asked for.
    Extra(Vec<(String, RData)>),
    /// The right answer, but for the port of the SRV records.
    Forged(u16),
    /// The right answer without its signatures.
    Unsigned,
    /// "No such name", without any proof.
    Denied,
}

/// What becomes of a question over TCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tcp {
    /// It is answered.
    Answer,
    /// It is read, and that is all.
    Mute,
    /// The connection is closed.
    Close,
}

/// What is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Junk {
    /// No DNS message.
    Garbage,
    /// No byte.
    Empty,
    /// The right answer with another id.
    WrongId,
    /// An answer to another question.
    OtherQuestion,
    /// The right answer, cut in the middle of its records.
    Cut,
}

impl Junk {
    /// All of them.
    pub const ALL: [Junk; 5] = [Junk::Garbage, Junk::Empty, Junk::WrongId, Junk::OtherQuestion, Junk::Cut];
}

/// The way of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    Udp,
    Tcp,
}

impl OddDns {
    /// Starts one, on a port of its own, that answers as `upstream` does.
    pub async fn before(upstream: SocketAddr) -> Self {
        let (udp, tcp) = bind_both(loopback::any_port()).await;
        let address = udp.local_addr().unwrap();
        let desk = Arc::new(Desk {
            upstream,
            odd: Mutex::default(),
            everything: Mutex::default(),
            lost: AtomicUsize::default(),
            packets: AtomicUsize::default(),
            asked: Mutex::default(),
        });
        let tasks = [tokio::spawn(serve_udp(udp, desk.clone())), tokio::spawn(serve_tcp(tcp, desk.clone()))];
        OddDns { address, desk, tasks }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Mistreats the questions for `name` from now on, or stops doing so.
    pub fn set(&self, name: &str, odd: Option<Odd>) {
        let name = LowerName::from(absolute(name));
        let mut all = self.desk.odd.lock().unwrap();
        match odd {
            Some(odd) => all.insert(name, odd),
            None => all.remove(&name),
        };
    }

    /// Mistreats all questions that [`OddDns::set`] says nothing of, or stops doing so.
    pub fn set_all(&self, odd: Option<Odd>) {
        *self.desk.everything.lock().unwrap() = odd;
    }

    /// Loses the next `count` UDP packets.
    pub fn lose(&self, count: usize) {
        self.desk.lost.store(count, Ordering::Relaxed);
    }

    /// How many UDP packets have come, those that were lost too.
    pub fn packets(&self) -> usize {
        self.desk.packets.load(Ordering::Relaxed)
    }

    /// How often `name` has been asked for with this type, in this way.
    pub fn queries(&self, name: &str, kind: RecordType, over: Over) -> usize {
        let name = LowerName::from(absolute(name));
        let asked = self.desk.asked.lock().unwrap();
        asked.iter().filter(|(query, way)| *way == over && query.0 == name && query.1 == kind).count()
    }

    /// How many questions there have been in all.
    pub fn all_queries(&self) -> usize {
        self.desk.asked.lock().unwrap().len()
    }
}

impl Drop for OddDns {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// What the tests tell the server, and what it tells them.
struct Desk {
    upstream: SocketAddr,
    odd: Mutex<HashMap<LowerName, Odd>>,
    everything: Mutex<Option<Odd>>,
    lost: AtomicUsize,
    packets: AtomicUsize,
    asked: Mutex<Vec<((LowerName, RecordType), Over)>>,
}

async fn serve_udp(socket: UdpSocket, desk: Arc<Desk>) {
    let socket = Arc::new(socket);
    let mut at_work = JoinSet::new();
    let mut packet = vec![0; usize::from(u16::MAX)];
    loop {
        // An earlier answer that nobody has waited for comes back as an error.
        let Ok((length, from)) = socket.recv_from(&mut packet).await else { continue };
        desk.packets.fetch_add(1, Ordering::Relaxed);
        let lost = desk.lost.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        if lost.is_ok() {
            continue;
        }
        let (question, desk, socket) = (packet[..length].to_vec(), desk.clone(), socket.clone());
        while at_work.try_join_next().is_some() {}
        at_work.spawn(async move {
            for (pause, answer) in desk.answers(&question, Over::Udp).await {
                sleep(pause).await;
                let _ = socket.send_to(&answer, from).await;
            }
        });
    }
}

async fn serve_tcp(listener: TcpListener, desk: Arc<Desk>) {
    let mut at_work = JoinSet::new();
    while let Ok((mut stream, _)) = listener.accept().await {
        let desk = desk.clone();
        while at_work.try_join_next().is_some() {}
        at_work.spawn(async move {
            while let Ok(question) = read_framed(&mut stream).await {
                if desk.odd(&question) == Some(Odd::Truncated(Tcp::Close)) {
                    break;
                }
                if answer_tcp(&mut stream, desk.answers(&question, Over::Tcp).await).await.is_err() {
                    break;
                }
            }
        });
    }
}

async fn answer_tcp(stream: &mut TcpStream, answers: Vec<(Duration, Vec<u8>)>) -> std::io::Result<()> {
    for (pause, answer) in answers {
        sleep(pause).await;
        stream.write_all(&framed(&answer)).await?;
    }
    Ok(())
}

impl Desk {
    /// How this question is to be mistreated.
    fn odd(&self, question: &[u8]) -> Option<Odd> {
        let question = Message::from_vec(question).ok()?;
        let name = LowerName::from(question.queries.first()?.name().clone());
        let own = self.odd.lock().unwrap().get(&name).cloned();
        own.or_else(|| self.everything.lock().unwrap().clone())
    }

    /// What to send, each after a pause.
    async fn answers(&self, question: &[u8], over: Over) -> Vec<(Duration, Vec<u8>)> {
        let Ok(asked) = Message::from_vec(question) else { return Vec::new() };
        for query in &asked.queries {
            let query = (LowerName::from(query.name().clone()), query.query_type());
            self.asked.lock().unwrap().push((query, over));
        }
        let odd = self.odd(question);
        if matches!(odd, Some(Odd::Silent)) || (odd == Some(Odd::Truncated(Tcp::Mute)) && over == Over::Tcp) {
            return Vec::new();
        }
        // It has nobody to answer for it: so be it.
        let Ok(right) = exchange(self.upstream, question).await else { return Vec::new() };
        let message = Message::from_vec(&right).unwrap();
        let fitting = |message: &Message, bytes: Vec<u8>| {
            let is_short = over == Over::Tcp || bytes.len() <= asked.max_payload().into();
            if is_short { bytes } else { truncated(message).to_vec().unwrap() }
        };
        let changed = |change: &dyn Fn(&mut Message)| {
            let mut message = message.clone();
            change(&mut message);
            fitting(&message, message.to_vec().unwrap())
        };
        let at_once = |bytes| vec![(Duration::ZERO, bytes)];
        let junk = |junk| match junk {
            Junk::Garbage => b"\x17garbage, and no DNS message".to_vec(),
            Junk::Empty => Vec::new(),
            Junk::WrongId => changed(&|message| message.metadata.id ^= 0x5555),
            Junk::OtherQuestion => changed(&|message| {
                let other = absolute("another.lab.test");
                message.queries = vec![Query::query(other.clone(), RecordType::A)];
                message.answers.iter_mut().for_each(|record| record.name = other.clone());
            }),
            Junk::Cut => right[..right.len() - right.len() / 4].to_vec(),
        };
        match odd {
            None | Some(Odd::Silent) => at_once(fitting(&message, right)),
            Some(Odd::Late(pause)) => vec![(pause, fitting(&message, right))],
            Some(Odd::Code(code)) => at_once(changed(&|message| {
                *message = emptied(message);
                message.metadata.response_code = code;
            })),
            Some(Odd::Truncated(_)) if over == Over::Udp => at_once(truncated(&message).to_vec().unwrap()),
            Some(Odd::Truncated(_)) => at_once(right),
            Some(Odd::Instead(wrong)) => at_once(junk(wrong)),
            Some(Odd::Ahead(wrong)) => vec![(Duration::ZERO, junk(wrong)), (AHEAD, fitting(&message, right))],
            Some(Odd::Extra(records)) => at_once(changed(&|message| {
                let extra = records.iter().map(|(owner, data)| Record::from_rdata(absolute(owner), 60, data.clone()));
                message.answers.extend(extra);
            })),
            Some(Odd::Forged(port)) => at_once(changed(&|message| {
                for record in &mut message.answers {
                    if let RData::SRV(srv) = &mut record.data {
                        srv.port = port;
                    }
                }
            })),
            Some(Odd::Unsigned) => at_once(changed(&|message| {
                message.answers.retain(|record| record.record_type() != RecordType::RRSIG);
                message.authorities.retain(|record| record.record_type() != RecordType::RRSIG);
            })),
            Some(Odd::Denied) => at_once(changed(&|message| {
                *message = emptied(message);
                message.metadata.response_code = ResponseCode::NXDomain;
            })),
        }
    }
}

/// The same answer with no record.
fn emptied(message: &Message) -> Message {
    let mut message = message.clone();
    message.answers.clear();
    message.authorities.clear();
    message.additionals.clear();
    message
}

fn truncated(message: &Message) -> Message {
    let mut message = emptied(message);
    message.metadata.truncation = true;
    message
}
