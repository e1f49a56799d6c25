//! An authoritative DNS server, over UDP and TCP, whose records change while it runs.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hickory_server::Server;
use hickory_server::net::runtime::Time;
use hickory_server::proto::op::{Header, HeaderCounts, Metadata, ResponseCode};
use hickory_server::proto::rr::rdata::{A, AAAA, CNAME, SOA, SRV};
use hickory_server::proto::rr::{LowerName, Name, RData, Record, RecordSet, RecordType, RrKey};
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::store::in_memory::InMemoryZoneHandler;
use hickory_server::zone_handler::{AxfrPolicy, Catalog, MessageResponseBuilder, ZoneType};
use tokio::net::{TcpListener, UdpSocket};

use super::loopback;
use super::nameserver::absolute;

/// The server. It is authoritative for the root: every name that it has no record of does not exist.
pub struct Dns {
    address: SocketAddr,
    zone: Arc<InMemoryZoneHandler>,
    desk: Arc<Desk>,
    server: Option<Server<Front>>,
}

/// How the questions for one name are mistreated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DnsFault {
    /// SERVFAIL.
    ServFail,
    /// REFUSED.
    Refused,
    /// No answer at all.
    Silent,
}

/// One SRV record's data: priority, weight, port, target.
pub type Srv<'a> = (u16, u16, u16, &'a str);

impl Dns {
    /// Starts a server without any record.
    pub async fn start() -> Self {
        Self::at(loopback::any_port()).await
    }

    /// The same there.
    pub async fn at(address: SocketAddr) -> Self {
        let zone = InMemoryZoneHandler::empty(Name::root(), ZoneType::Primary, AxfrPolicy::Deny);
        // How long a resolver may remember that a name does not exist: not at all.
        let soa = SOA::new(Name::root(), Name::root(), 1, 3600, 600, 86400, 0);
        zone.upsert(Record::from_rdata(Name::root(), 0, RData::SOA(soa)), 1).await;
        let mut dns = Dns { address, zone: Arc::new(zone), desk: Arc::new(Desk::default()), server: None };
        dns.restart().await;
        dns
    }

    /// Where it listens, or did before it was stopped.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Makes `records` the SRV records of `owner`, in one go; none removes them.
    pub async fn set_srv(&self, owner: &str, ttl: u32, records: &[Srv<'_>]) {
        let srv = |&(priority, weight, port, target): &Srv<'_>| SRV::new(priority, weight, port, absolute(target));
        self.set(owner, RecordType::SRV, ttl, records.iter().map(srv).map(RData::SRV)).await;
    }

    /// Makes this server the only one of `owner`, under a name of its own.
    pub async fn announce(&self, owner: &str, ttl: u32, server: SocketAddr) {
        let target = format!("server-{}.lab.test", server.port());
        self.set_addresses(&target, ttl, &[server.ip()]).await;
        self.set_srv(owner, ttl, &[(0, 0, server.port(), &target)]).await;
    }

    /// Makes `addresses` the A and AAAA records of `owner`; none removes them.
    pub async fn set_addresses(&self, owner: &str, ttl: u32, addresses: &[IpAddr]) {
        let v4 = addresses.iter().filter_map(|ip| if let IpAddr::V4(ip) = ip { Some(RData::A(A(*ip))) } else { None });
        self.set(owner, RecordType::A, ttl, v4).await;
        let v6 =
            addresses.iter().filter_map(|ip| if let IpAddr::V6(ip) = ip { Some(RData::AAAA(AAAA(*ip))) } else { None });
        self.set(owner, RecordType::AAAA, ttl, v6).await;
    }

    /// Makes `owner` another name for `target`.
    pub async fn set_alias(&self, owner: &str, ttl: u32, target: &str) {
        let alias = RData::CNAME(CNAME(absolute(target)));
        self.set(owner, RecordType::CNAME, ttl, std::iter::once(alias)).await;
    }

    async fn set(&self, owner: &str, kind: RecordType, ttl: u32, data: impl Iterator<Item = RData>) {
        let owner = absolute(owner);
        let mut set = RecordSet::with_ttl(owner.clone(), kind, ttl);
        for data in data {
            set.insert(Record::from_rdata(owner.clone(), ttl, data), 1);
        }
        let key = RrKey::new(LowerName::from(owner), kind);
        let mut records = self.zone.records_mut().await;
        if set.is_empty() {
            records.remove(&key);
        } else {
            records.insert(key, Arc::new(set));
        }
    }

    /// Mistreats the questions for `name` from now on, or stops doing so.
    pub fn set_fault(&self, name: &str, fault: Option<DnsFault>) {
        let name = LowerName::from(absolute(name));
        let mut faults = self.desk.faults.lock().unwrap();
        match fault {
            Some(fault) => faults.insert(name, fault),
            None => faults.remove(&name),
        };
    }

    /// How often `name` has been asked for with this type.
    pub fn queries(&self, name: &str, kind: RecordType) -> usize {
        let key = (LowerName::from(absolute(name)), kind);
        self.desk.queries.lock().unwrap().get(&key).copied().unwrap_or(0)
    }

    /// The names asked for, each once, in their order.
    pub fn names(&self) -> Vec<String> {
        let queries = self.desk.queries.lock().unwrap();
        let names: BTreeSet<_> =
            queries.keys().map(|(name, _)| name.to_string().trim_end_matches('.').to_owned()).collect();
        names.into_iter().collect()
    }

    /// How many questions there have been in all.
    pub fn all_queries(&self) -> usize {
        self.desk.queries.lock().unwrap().values().sum()
    }

    /// Closes the sockets: questions are refused by the host from now on. The records stay.
    pub async fn stop(&mut self) {
        if let Some(mut server) = self.server.take() {
            // It fails only with what went wrong on a connection, which is over now anyway.
            let _ = server.shutdown_gracefully().await;
        }
    }

    /// Listens on the same port again, with the same records.
    pub async fn restart(&mut self) {
        self.stop().await;
        let (udp, tcp) = bind_both(self.address).await;
        self.address = udp.local_addr().unwrap();
        let mut catalog = Catalog::new();
        catalog.upsert(LowerName::from(Name::root()), vec![self.zone.clone()]);
        let mut server = Server::new(Front { catalog, desk: self.desk.clone() });
        server.register_socket(udp);
        server.register_listener(tcp, Duration::from_secs(5), 16);
        self.server = Some(server);
    }
}

/// A UDP and a TCP socket on the same port. The kernel picks it for UDP; for TCP it may be taken.
pub(super) async fn bind_both(address: SocketAddr) -> (UdpSocket, TcpListener) {
    for _ in 0..16 {
        let udp = UdpSocket::bind(address).await.unwrap();
        if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
            return (udp, tcp);
        }
    }
    panic!("no port of {address} is free for both UDP and TCP");
}

/// What the tests tell the server, and what it tells them.
#[derive(Default)]
struct Desk {
    faults: Mutex<HashMap<LowerName, DnsFault>>,
    queries: Mutex<HashMap<(LowerName, RecordType), usize>>,
}

/// Counts the questions and mistreats them where told to; the others go to the zone.
struct Front {
    catalog: Catalog,
    desk: Arc<Desk>,
}

#[async_trait::async_trait]
impl RequestHandler for Front {
    async fn handle_request<R: ResponseHandler, T: Time>(&self, request: &Request, mut reply: R) -> ResponseInfo {
        let mut fault = None;
        for query in request.queries.queries() {
            let name = query.name().clone();
            fault = fault.or_else(|| self.desk.faults.lock().unwrap().get(&name).copied());
            *self.desk.queries.lock().unwrap().entry((name, query.query_type())).or_default() += 1;
        }
        let code = match fault {
            None => return self.catalog.handle_request::<R, T>(request, reply).await,
            Some(DnsFault::ServFail) => ResponseCode::ServFail,
            Some(DnsFault::Refused) => ResponseCode::Refused,
            Some(DnsFault::Silent) => return unsent(request),
        };
        let response = MessageResponseBuilder::from_message_request(request).error_msg(&request.metadata, code);
        // The asker may have gone: its loss.
        reply.send_response(response).await.unwrap_or_else(|_| unsent(request))
    }
}

/// What the trait wants to be told of an answer, when there was none.
fn unsent(request: &Request) -> ResponseInfo {
    let metadata = Metadata::response_from_request(&request.metadata);
    ResponseInfo::from(Header { metadata, counts: HeaderCounts::default() })
}
