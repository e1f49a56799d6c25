//! What is asked for → who may get it.

use super::Shared;
use crate::config::{Config, Foreign, RoleConfig};
use crate::discovery::bounds::is_loopback;
use crate::discovery::srv::Srv;
use crate::discovery::{Found, Source, Target};
use crate::error::{Error, Kind};
use crate::host::{Host, HostPort};
use crate::moment::Clocks;
use crate::race::Opening;
use crate::report::Report;
use crate::role::{Asked, Role, Row, Via};
use crate::sniff::{Hello, Request, Sniffed};

/// What has been asked for, and what a server is to be told first.
pub(super) struct Wish {
    pub(super) asked: Asked,
    bytes: Vec<u8>,
    request: Option<Request>,
}

/// Where a connection goes.
pub(super) struct Way {
    pub(super) servers: Servers,
    pub(super) opening: Opening,
    pub(super) most: Option<u64>,
}

/// Who may get it.
pub(super) enum Servers {
    /// Those of a role: any will do.
    Role(Role, Vec<Srv>),
    /// This one.
    One(Srv),
}

/// Classifies, and finds the candidates in the order in which to try them.
pub(super) async fn find_way(shared: &Shared, wish: Wish, report: &mut Report) -> Result<Way, Error> {
    let Shared { table, discovery, .. } = shared;
    let (row, role) = table.classify(&wish.asked);
    let by_name = matches!(row, Row::OwnName | Row::OfficialPort | Row::OfficialName);
    report.row = Some(row);
    if !by_name {
        match discovery.target(table, &wish.asked).await {
            Ok(Target::Refused(role, refused)) if row == Row::Foreign && shared.config.foreign == Foreign::Refuse => {
                let (asked, role) = (&wish.asked, &role.role);
                let reason = format_args!("{asked} is no {role} server: SRV {} names it, but {refused}", refused.owner);
                return Err(Error::new(Kind::Foreign, reason));
            }
            Ok(Target::None | Target::Refused(..)) => {}
            Ok(Target::Server(role, server)) => {
                report.row = Some(Row::Target);
                (report.role, report.source) = (Some(role.role.clone()), Some(Source::Target));
                return Ok(wish.into_way_to(role.role.clone(), vec![server]));
            }
            // To refuse it as foreign, and to advise to let it through, takes knowing that it is.
            Err(failure) if row == Row::Foreign && shared.config.foreign == Foreign::Refuse => {
                let asked = &wish.asked;
                let reason = format_args!("cannot tell whether {asked} is a Puppet server of this site: {failure}");
                return Err(Error::new(Kind::NoServers, reason));
            }
            Err(failure) => report.note_dns(Some(failure.to_string())),
        }
    }
    let Some(role) = role else { return foreign(&shared.config, wish, report) };
    report.role = Some(role.role.clone());
    if wish.asked.via == Via::Http {
        // Plain HTTP is never Puppet's own; it is for a web server of that name.
        let HostPort { host, port } = wish.host_port()?;
        report.source = Some(Source::Name);
        return Ok(wish.to(Srv { priority: 0, weight: 0, port, target: Some(host) }));
    }
    let found = discovery.servers(table, role, &wish.asked).await;
    report.source.clone_from(&found.source);
    note_source(shared, role, &found);
    report.note_dns(found.trouble());
    report.in_vain = found.in_vain();
    if found.servers.is_empty() {
        return Err(Error::new(Kind::NoServers, found.why_none(&role.role)));
    }
    Ok(wish.into_way_to(role.role.clone(), found.servers))
}

/// For who asks where the role's servers are from, after the process too.
fn note_source(shared: &Shared, role: &RoleConfig, found: &Found) {
    let stale_since = found.stale_for().map(|span| {
        let clocks = Clocks::read();
        clocks.at(clocks.now.checked_sub(span).unwrap_or(clocks.now))
    });
    shared.history().note_source(role.role.as_str(), found.source.as_ref(), stale_since);
}

/// A name that is nobody's: by policy.
fn foreign(config: &Config, wish: Wish, report: &mut Report) -> Result<Way, Error> {
    if wish.asked.via == Via::Tls {
        let Asked { host, port, .. } = &wish.asked;
        let what = match host {
            Some(host) => format!("{host} is no role's name and no current target"),
            None => "the connection carries no name (SNI)".into(),
        };
        return Err(Error::new(Kind::NoRoute, format_args!("{what}, and the listener's port {port} is no role's")));
    }
    let to = wish.host_port()?;
    match &config.foreign {
        // Names are looked at when DNS has told what they lead to.
        Foreign::Direct if !config.dns.allow_loopback && matches!(to.host, Host::Ip(ip) if is_loopback(ip)) => {
            let what = "is on loopback, which allow_loopback = true under [dns] in puppet-shim.toml would allow";
            Err(Error::new(Kind::Foreign, format_args!("{to} {what}")))
        }
        Foreign::Refuse => Err(Error::new(
            Kind::Foreign,
            format_args!(
                "{to} is not a Puppet server of this site; the setting foreign = direct (or the URL of a proxy) in puppet-shim.toml would allow it"
            ),
        )),
        Foreign::Direct => {
            report.source = Some(Source::Name);
            Ok(wish.to(Srv { priority: 0, weight: 0, port: to.port, target: Some(to.host) }))
        }
        Foreign::Proxy(proxy) => {
            let server = Srv { priority: 0, weight: 0, port: proxy.port, target: Some(proxy.host.clone()) };
            let Some(request) = &wish.request else { return Ok(wish.to(server)) };
            let mut first = request.to_proxy(&to);
            first.extend_from_slice(&wish.bytes);
            let most = wish.most();
            // The proxy's own answer is the client's: nothing to announce.
            Ok(Way { servers: Servers::One(server), opening: Opening::Once(first), most })
        }
    }
}

impl Wish {
    /// Of who asks for the page, what it has said.
    pub(super) fn new(sniffed: Sniffed, port: u16) -> Result<Self, Vec<u8>> {
        let Sniffed { hello, bytes } = sniffed;
        let (via, host, port, request) = match hello {
            Hello::Tls { sni } => (Via::Tls, sni, port, None),
            Hello::Connect(to, request) => (Via::Connect, Some(to.host), to.port, Some(request)),
            Hello::Forward(to, request) => (Via::Http, Some(to.host), to.port, Some(request)),
            Hello::Visit => return Err(bytes),
        };
        let mut wish = Wish { asked: Asked { via, host, port }, bytes, request };
        if let (Via::Http, Some(request)) = (via, &wish.request) {
            // What follows the body is another request, and belongs into a connection of its own.
            wish.bytes.truncate(usize::try_from(request.body.unwrap_or(0)).unwrap_or(usize::MAX));
        }
        Ok(wish)
    }

    fn host_port(&self) -> Result<HostPort, Error> {
        match &self.asked.host {
            Some(host) => Ok(HostPort { host: host.clone(), port: self.asked.port }),
            None => Err(Error::new(Kind::NoRoute, "the connection names no server")),
        }
    }

    /// How many of the client's bytes behind those already here belong to a forwarded request; `None`: it is a tunnel.
    fn most(&self) -> Option<u64> {
        let request = self.request.as_ref().filter(|_| self.asked.via == Via::Http)?;
        Some(request.body.unwrap_or(0).saturating_sub(self.bytes.len() as u64))
    }

    /// To a server that may be anything.
    fn to(mut self, server: Srv) -> Way {
        let most = self.most();
        let opening = match (&self.request, self.host_port()) {
            (Some(request), Ok(to)) if self.asked.via == Via::Http => {
                let mut first = request.to_origin(&to);
                first.append(&mut self.bytes);
                Opening::Once(first)
            }
            _ if self.asked.via == Via::Connect => Opening::Connect { early: self.bytes, is_raced: false },
            _ => Opening::Once(self.bytes),
        };
        Way { servers: Servers::One(server), opening, most }
    }

    /// To Puppet servers, which speak TLS: whoever accepts has to answer, too.
    fn into_way_to(self, role: Role, servers: Vec<Srv>) -> Way {
        match (self.asked.via, <[Srv; 1]>::try_from(servers)) {
            (Via::Http, Ok([server])) => self.to(server),
            (via, servers) => {
                let servers = servers.map_or_else(|many| many, Vec::from);
                let opening = match via {
                    Via::Connect => Opening::Connect { early: self.bytes, is_raced: true },
                    _ => Opening::Hello(self.bytes),
                };
                Way { servers: Servers::Role(role, servers), opening, most: None }
            }
        }
    }
}
