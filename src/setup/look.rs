//! Finds out what is so: Puppet's settings, DNS, the servers' certificates, the files, the ports.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use futures_util::future::join_all;
use socket2::{Domain, Socket, Type};
use tokio::time::timeout;

use super::facts::{Additions, Facts, Port, RoleFacts, Shown};
use super::names::{self, Address, CA, FILES, REPORT};
use super::plan::listeners;
use super::puppet_conf::SECTION;
use super::{Mode, Places, SetupError, block, environment, file, units};
use crate::config::{Config, RoleConfig, StaticServer};
use crate::daemon::Site;
use crate::dial::Dialer;
use crate::discovery::{Source, Target};
use crate::doctor::owners::{Owner, Owners};
use crate::domain;
use crate::host::{Host, HostPort};
use crate::probe::{BOUND, Prober, Verdict};
use crate::puppet::{Puppet, Settings};
use crate::role::{Asked, Role, Table, Via};
use crate::trust::Trust;

/// The agent's settings that count here.
const SETTINGS: [&str; 15] = [
    "ca_port",
    "ca_server",
    "certname",
    "http_proxy_host",
    "http_proxy_port",
    "http_proxy_user",
    "no_proxy",
    "pluginfactsource",
    "pluginsource",
    "report_port",
    "report_server",
    "server",
    "server_list",
    "serverport",
    "use_srv_records",
];

/// The roles that the agent has settings for.
const ROLES: [&str; 4] = [Role::COMPILE, CA, FILES, REPORT];

/// Servers of a role that are asked for their certificates: those of a large site need not all be.
const ASKED: usize = 16;

/// The agent's settings, by Puppet. Blocks for as long as that takes.
pub fn settings(puppet: &Puppet) -> Result<Settings, SetupError> {
    Ok(puppet.settings("agent", &SETTINGS)?)
}

/// The path of `puppet.conf`.
pub fn puppet_conf(puppet: &Puppet) -> Result<PathBuf, SetupError> {
    let settings = puppet.settings(SECTION, &["config"])?;
    let silent = || SetupError::Settings("Puppet does not say where puppet.conf is".into());
    settings.get("config").map(PathBuf::from).ok_or_else(silent)
}

/// All of it but what has been set up before. Blocks for as long as DNS and the servers take.
pub fn look(places: &Places, config: &Config, agent: Settings, mode: Mode) -> Result<Facts, SetupError> {
    let addresses = names::addresses(&agent).map_err(SetupError::Settings)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build();
    let runtime = runtime.map_err(SetupError::Runtime)?;
    let mut facts = Facts { agent, addresses, config: config.clone(), ..Facts::default() };
    facts.has_systemd = units::is_booted(&places.systemd);
    runtime.block_on(look_around(&mut facts, mode));
    // No other mode has to do with it, whatever is in there.
    if mode == Mode::Alias {
        facts.hosts = file::read(&places.hosts)?.unwrap_or_default();
    }
    let drop_in = file::read(&places.drop_in)?.unwrap_or_default();
    facts.drop_in = block::lines(&drop_in).into_iter().map(str::to_owned).collect();
    facts.environment = environment::look(&places.environment);
    Ok(facts)
}

/// DNS, the servers, and the ports here.
async fn look_around(facts: &mut Facts, mode: Mode) {
    let (agent, addresses, config) = (&facts.agent, &facts.addresses, &facts.config);
    let mut site = site(config);
    let mut additions = Additions { domain: names::domain(agent, config, site.table.domain()), ..Additions::default() };
    if additions.domain.is_some() {
        site = self::site(&additions.applied(config));
    }
    let full_name = domain::full_name(site.table.domain());
    let certname = agent.get("certname").filter(|name| config.certname.is_none() && **name != full_name);
    additions.certname = certname.map(str::to_owned);
    let mut targets = BTreeMap::new();
    for unknown in names::unknown(addresses, &site.table) {
        if let Ok(Target::Server(role, _)) = site.discovery.target(&site.table, &unknown.asked()).await {
            targets.insert(unknown.host, role.role.clone());
        } else {
            additions.names.push((Role::new(unknown.role), unknown.host));
        }
    }
    additions.servers = listed(agent, &addresses[0], &self::site(&additions.applied(config))).await;
    additions.alone = alone(&additions, &self::site(&additions.applied(config))).await;
    let config = additions.applied(config);
    let site = self::site(&config);
    let roles = join_all(ROLES.map(|role| look_at(role, &site, &config, addresses, mode))).await;
    let candidates = listeners::candidates(&config, addresses);
    let numbers: Vec<_> = candidates.iter().map(SocketAddr::port).collect();
    let owners = Owners::ask(&numbers, facts.has_systemd).await;
    facts.ports = candidates.into_iter().map(|address| (address, who_has(address, &owners))).collect();
    facts.unit = owners.unit().map(<[SocketAddr]>::to_vec);
    facts.domain = site.table.domain().map(str::to_owned);
    facts.roles = ROLES.iter().map(|role| (*role).to_owned()).zip(roles).collect();
    (facts.additions, facts.targets) = (additions, targets);
}

/// The agent's own list of servers, where DNS says that there are no records of `compile`, and our configuration names none.
async fn listed(agent: &Settings, server: &Address, site: &Site) -> Vec<StaticServer> {
    let servers = names::server_list(agent).unwrap_or_default();
    let Some(compile) = site.table.role(Role::COMPILE).filter(|_| !servers.is_empty()) else { return Vec::new() };
    let found = site.discovery.servers(&site.table, compile, &server.asked()).await;
    let is_told = found.steps.iter().all(|step| step.failure().is_none());
    let is_nobodys = is_told && matches!(found.source, None | Some(Source::Name));
    if is_nobodys { servers } else { Vec::new() }
}

/// Roles that got a name, and whose servers would be the compilers: until now that name has led to a server of its own.
async fn alone(additions: &Additions, site: &Site) -> Vec<Role> {
    let mut alone = Vec::new();
    for (role, name) in &additions.names {
        let Some(of) = site.table.role(role.as_str()) else { continue };
        let port = of.ports.first().copied().unwrap_or_default();
        let asked = Asked { via: Via::Connect, host: Some(name.clone()), port };
        if matches!(site.discovery.servers(&site.table, of, &asked).await.source, Some(Source::Fallback(_))) {
            alone.push(role.clone());
        }
    }
    alone
}

/// With this configuration; who sets a host up would rather wait for DNS than have less.
fn site(config: &Config) -> Site {
    let mut site = Site::new(config, None);
    site.discovery = site.discovery.patient();
    site
}

/// One role's servers, and the names in their certificates.
async fn look_at(role: &str, site: &Site, config: &Config, addresses: &[Address], mode: Mode) -> RoleFacts {
    let Some(of) = site.table.role(role) else { return RoleFacts::default() };
    let (names, port) = asks_for(of, &site.table, addresses, mode);
    let Some(name) = names.first() else { return RoleFacts::default() };
    let asked = Asked { via: Via::Connect, host: Some(name.clone()), port };
    let found = site.discovery.servers(&site.table, of, &asked).await;
    let unknown = found.steps.iter().find_map(|step| Some(format!("{}: {}", step.owner, step.failure()?)));
    let trouble = found.trouble().filter(|_| unknown.is_none());
    let owners = found.steps.iter().map(|step| step.owner.clone()).collect();
    let servers = found.servers.iter().filter_map(|srv| Some(HostPort { host: srv.target.clone()?, port: srv.port }));
    let prober = Prober::new(Trust::new(config.certificates.ca_file.clone()));
    let dialer = Dialer { connect: config.timeouts.connect, listeners: &config.listen, source: None };
    let prober = config.certificates.check.then_some(&prober);
    let ask = async |server| ask(server, name, site, prober, &dialer).await;
    let servers = join_all(servers.take(ASKED).map(ask)).await;
    RoleFacts { source: found.source, owners, unknown, trouble, servers, names }
}

/// The names by which the agent may ask for the role, the best first, and the port.
fn asks_for(role: &RoleConfig, table: &Table, addresses: &[Address], mode: Mode) -> (Vec<Host>, u16) {
    let name = role.role.as_str();
    let present = addresses.iter().find(|address| address.role == name).unwrap_or(&addresses[0]);
    let is_told = table.classify(&present.asked()).1.is_some_and(|other| other.role == role.role);
    if name == Role::COMPILE || is_told {
        (vec![present.host.clone()], present.port)
    } else if mode == Mode::Port {
        (vec![present.host.clone()], role.ports.first().copied().unwrap_or(present.port))
    } else {
        (names::own(role, table.domain()), present.port)
    }
}

/// A server's certificate, from the first of its addresses that takes the connection; without a prober, whether it has one.
async fn ask(
    server: HostPort,
    name: &Host,
    site: &Site,
    prober: Option<&Prober>,
    dialer: &Dialer<'_>,
) -> (HostPort, Shown) {
    let addresses = match site.discovery.addresses(&server.host).await {
        Ok(addresses) => addresses.ips,
        Err(why) => return (server, Shown::Nowhere(why)),
    };
    let Some(prober) = prober else {
        return (server, Shown::Nothing("is not asked, by check = false under [certificates]".into()));
    };
    let mut why = String::new();
    for ip in addresses {
        match dialer.connect(SocketAddr::new(ip, server.port)).await {
            Ok(stream) => {
                let shown = match timeout(BOUND, prober.names(stream, name)).await {
                    Ok(Verdict::Named { .. }) => Shown::Name(name.clone()),
                    Ok(Verdict::Unnamed { has }) => Shown::Names(has),
                    Ok(Verdict::Unclear(why)) => Shown::Nothing(why),
                    Err(_) => Shown::Nothing(format!("said nothing within {BOUND:?}")),
                };
                return (server, shown);
            }
            Err(did) => why = did.to_string(),
        }
    }
    (server, Shown::Nothing(why))
}

/// Who has an address.
fn who_has(address: SocketAddr, owners: &Owners) -> Port {
    match bind(address) {
        Ok(()) => Port::Free,
        Err(why) if why.kind() == io::ErrorKind::AddrInUse => match owners.of(address) {
            Owner::Ours => Port::Ours,
            Owner::Stranger(who) => Port::Others(who),
            Owner::Nobody => Port::Others("a process that does not listen there".into()),
        },
        Err(_) => Port::Absent,
    }
}

/// Whether nobody has an address.
pub fn is_free(address: SocketAddr) -> bool {
    bind(address).is_ok()
}

/// Tries to have an address, without listening on it: to connect would start the daemon.
fn bind(address: SocketAddr) -> io::Result<()> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn knows_who_has_a_port() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let owners = Owners::ask(&[address.port()], false).await;
        let had = who_has(address, &owners);
        assert!(matches!(&had, Port::Others(who) if who.contains(&std::process::id().to_string())), "{had:?}");
        assert!(!is_free(address));
        drop(listener);
        assert_eq!(who_has(address, &owners), Port::Free);
        assert!(is_free(address));
        // TEST-NET-1 is nobody's.
        assert_eq!(who_has("192.0.2.1:8140".parse().unwrap(), &owners), Port::Absent);
    }
}
