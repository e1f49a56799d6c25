//! Whether an agent's run would succeed, and come here: the host, the agent's settings, every role's servers.
//!
//! What is is gathered by io, in small pieces; what it means is decided by functions of that; each comes to a
//! [`Finding`] with what to do. Nothing here disturbs: our own listeners are not connected to, for that would start the
//! daemon, and nothing is written.

mod access;
mod agent;
mod configuration;
mod environment;
mod expiry;
mod finding;
mod hosts_file;
mod identity;
mod listeners;
pub(crate) mod owners;
mod progress;
mod roles;
mod server;
mod set_up;
mod sockets;
mod units;
mod view;
mod way;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use futures_util::future::{join, join_all};
use tokio::time::{Instant, timeout_at};

use self::access::Reader;
use self::agent::Endpoint;
use self::environment::Environment;
use self::hosts_file::HostsFile;
use self::identity::Pem;
use self::listeners::Scene;
use self::roles::Plan;
use self::server::{Asker, Seen, Wants};
use self::set_up::SetUp;
use self::sockets::Sockets;
use self::units::Systemd;
use self::way::{Here, Way};
use crate::config::InForce;
use crate::daemon::Site;
use crate::dial::Dialer;
use crate::discovery::NoAddress;
use crate::domain::HostDomain;
use crate::host::{Host, HostPort};
use crate::probe::Prober;
use crate::process;
use crate::puppet::{Puppet, PuppetError, Settings};
use crate::socket_table;
use crate::state::StateDirectory;
use crate::trust::Trust;

pub use finding::{Count, Finding, Group, Verdict};
pub use progress::Progress;
pub use view::{Style, json};

/// Bounds everything.
const ALL: Duration = Duration::from_secs(15);

/// For Puppet to start and print its settings: a second or two, more on a host that is busy.
const PUPPET: Duration = Duration::from_secs(11);

/// For one address of a server, if the configuration allows more.
const CONNECT: Duration = Duration::from_secs(3);

/// Findings about a server that the daemon passes over while another one is good.
const PASSED_OVER: &str = "server";
/// The same, where it looks at certificates.
const MISNAMED: &str = "certificate-name";

/// What the host goes by.
pub struct Patient<'a> {
    /// The configuration in force.
    pub config: &'a InForce,
    /// Where the daemon keeps its state.
    pub state: &'a StateDirectory,
    /// The domain that the daemon found last.
    pub domain: Option<&'a HostDomain>,
    /// Seconds since 1970-01-01 UTC.
    pub now: i64,
}

/// What is known of the agent.
struct Agent {
    /// `None`: it could not be asked.
    settings: Option<Settings>,
    endpoints: Vec<Endpoint>,
    way: Way,
    /// Whether it comes here, or has been sent here.
    is_sent: bool,
    findings: Vec<Finding>,
}

/// Looks at everything, for fifteen seconds at most.
pub async fn examine(patient: &Patient<'_>, progress: &Progress) -> Vec<Group> {
    let deadline = Instant::now() + ALL;
    let config = &patient.config.config;
    let answers =
        join(progress.during("systemd".into(), Systemd::ask()), progress.during("Puppet".into(), ask_puppet()));
    let (systemd, puppet) = answers.await;
    let site = Site::new(config, patient.domain);
    let hosts = HostsFile::read();
    let listening = socket_table::listening();
    let here = Here { listeners: &config.listen, hosts: &hosts, listening: &listening };
    let mut agent = agent(puppet, &systemd, patient, &site, here);
    let mut host = host(patient, &systemd, &agent).await;

    let ca_file = ca_file(&agent, patient);
    let prober = Prober::new(Trust::new(ca_file.clone()));
    let dialer = Dialer {
        connect: config.timeouts.connect.min(CONNECT),
        listeners: &config.listen,
        source: source(&agent).map(|ip| SocketAddr::new(ip, 0)),
    };
    let (plans, names) = progress.during("DNS".into(), roles::plan(&site, &agent.endpoints, agent.way, deadline)).await;
    agent.findings.extend(names);
    let knows_agent = agent.settings.is_some();
    let asker = Asker { site: &site, dialer, prober: &prober };
    let seen = ask_servers(&plans, knows_agent, &asker, deadline, progress).await;
    let reflected = join_all(agent.endpoints.iter().map(|endpoint| reflects(&asker, endpoint, here, deadline))).await;

    let ca_file = ca_file.map(|path| path.display().to_string()).unwrap_or_default();
    let roles: Vec<Group> =
        plans.iter().map(|plan| role(plan, &seen, &site, &hosts, &ca_file, patient, knows_agent)).collect();
    if agent.way == Way::Alias {
        let loops = roles.iter().flat_map(|group| &group.findings).any(|finding| finding.check == "loop");
        host.push(judge_resolver(reflected.into_iter().flatten().next(), loops));
    }
    [Group::new("host", host), Group::new("agent", agent.findings)].into_iter().chain(roles).collect()
}

/// The agent's settings, and that they are Puppet's own word.
async fn ask_puppet() -> Result<(Settings, Finding), Finding> {
    const SECTION: &str = "agent";
    const CHECK: &str = "puppet";
    let problem = |what: &str, mend: &str| Finding::problem(CHECK, CHECK, what, mend);
    let by_hand = |why: &PuppetError| match why {
        PuppetError::Absent(_) => {
            let text = why.to_string();
            let (what, mend) = text.split_once("; ").unwrap_or((&text, "install the agent"));
            problem(what, mend)
        }
        _ => problem(&why.to_string(), "run that command by hand, and mend what it says"),
    };
    let puppet = Puppet::find().map_err(|why| by_hand(&why))?;
    let settings = process::output(puppet.question(SECTION, &agent::SETTINGS), PUPPET).await;
    let command = puppet.command().display();
    let Some(settings) = settings else {
        let what = format!("{command} has not printed its settings within {} s", PUPPET.as_secs());
        return Err(problem(&what, "see how long `puppet config print server` takes, and why"));
    };
    let settings = puppet.answer(SECTION, &agent::SETTINGS, &settings).map_err(|why| by_hand(&why))?;
    let version = puppet.version().map(|version| format!(" {version}")).unwrap_or_default();
    let others = puppet.others();
    let beside =
        if others.is_empty() { String::new() } else { format!("; not {}, which is there too", others.join(", ")) };
    let asked = format!("{command}{version}{beside}");
    let finding = if rustix::process::geteuid().is_root() {
        Finding::ok(CHECK, CHECK, asked)
    } else {
        let what =
            format!("{asked}: asked by a user other than root, who has a puppet.conf and certificates of his own");
        Finding::warning(CHECK, CHECK, what, "`sudo puppet-shim check`")
    };
    Ok((settings, finding))
}

/// What the agent's settings come to.
fn agent(
    puppet: Result<(Settings, Finding), Finding>,
    systemd: &Systemd,
    patient: &Patient<'_>,
    site: &Site,
    here: Here<'_>,
) -> Agent {
    let config = &patient.config.config;
    let (settings, asked) = match puppet {
        Ok(answer) => answer,
        Err(finding) => {
            return Agent {
                settings: None,
                endpoints: Vec::new(),
                way: Way::Past,
                is_sent: true,
                findings: vec![finding],
            };
        }
    };
    let (endpoints, names) = agent::endpoints(&settings);
    let mut findings = vec![asked];
    findings.extend(names);
    let environments = Environment::all(systemd);
    let set_up = SetUp::of_host();
    let (way, ways) = way::judge(&settings, &endpoints, &environments, here, set_up);
    let is_sent = way != Way::Past || set_up.is_done();
    let can_bind = settings.get("sourceaddress").is_none_or(|address| bindable(address).is_some());
    let scene = agent::Scene { config, domain: site.table.domain(), can_bind, is_sent, set_up };
    findings.extend(agent::judge(&settings, &endpoints, scene));
    findings.extend(ways);
    findings.extend(way::judge_environment(&environments, way, &settings, &endpoints, here));
    if let Some(path) = settings.get("localcacert") {
        let (bundle, pem) = (Trust::new(Some(path.into())).bundle(), Pem::read(path.as_ref()));
        findings.push(identity::judge_bundle(&bundle, path, &pem, &settings, patient.now));
        let certificates = &config.certificates;
        if bundle.is_ok() {
            let reader = Reader::of_host(patient.state, systemd);
            findings.extend(identity::judge_place(path, certificates.ca_file.as_deref(), certificates.check, &reader));
        }
    }
    if let Some(path) = settings.get("hostcert") {
        findings.push(identity::judge_own(path, &Pem::read(path.as_ref()), &settings, patient.now));
    }
    Agent { settings: Some(settings), endpoints, way, is_sent, findings }
}

/// The CA's certificates as the agent has them, else where the daemon is told to look.
fn ca_file(agent: &Agent, patient: &Patient<'_>) -> Option<PathBuf> {
    let agents = agent.settings.as_ref().and_then(|settings| settings.get("localcacert")).map(PathBuf::from);
    agents.or_else(|| patient.config.config.certificates.ca_file.clone())
}

/// Where the agent connects from, which the daemon then does too.
fn source(agent: &Agent) -> Option<IpAddr> {
    bindable(agent.settings.as_ref()?.get("sourceaddress")?)
}

/// An address, if it is one of this host's.
fn bindable(address: &str) -> Option<IpAddr> {
    address.parse().ok().filter(|ip| UdpSocket::bind(SocketAddr::new(*ip, 0)).is_ok())
}

/// The configuration and the listeners.
async fn host(patient: &Patient<'_>, systemd: &Systemd, agent: &Agent) -> Vec<Finding> {
    let config = &patient.config.config;
    let ports: Vec<u16> = config.listen.iter().map(SocketAddr::port).collect();
    let sockets = Sockets::read(&ports);
    let daemon = config.listen.iter().find_map(|address| listeners::daemon(*address, &sockets));
    let is_older = daemon.is_some() && patient.config.differs_from_accepted(patient.state);
    let mut findings = configuration::judge(patient.config, is_older);
    findings.extend(units::judge(systemd));
    let ours = listeners::ours(patient.state);
    let scene = Scene {
        sockets: &sockets,
        systemd,
        ours: &ours,
        is_expected: agent.is_sent,
        idle_exit: !config.idle_exit.is_zero(),
    };
    for address in &config.listen {
        let user = match listeners::stranger(*address, &scene) {
            Some((uid, _)) => user(uid).await,
            None => None,
        };
        findings.push(listeners::judge(*address, &scene, user.as_deref()));
    }
    findings
}

/// The name of a user, those of systemd's making included.
async fn user(uid: u32) -> Option<String> {
    let mut command = Command::new("id");
    command.args(["-nu", &uid.to_string()]);
    let output = process::output(command, Duration::from_secs(2)).await?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Asks each server of each role that is in use, side by side, once whatever number of roles it has.
async fn ask_servers(
    plans: &[Plan<'_>],
    knows_agent: bool,
    asker: &Asker<'_>,
    deadline: Instant,
    progress: &Progress,
) -> HashMap<HostPort, Option<Seen>> {
    let mut questions: Vec<(HostPort, Host, bool)> = Vec::new();
    for plan in plans.iter().filter(|plan| plan.is_used(knows_agent)) {
        for server in plan.servers() {
            let own = roles::role_names(plan.role, asker.site.table.domain());
            let sni = plan.names_for(&server).first().map(|(_, name)| name.clone()).or_else(|| own.last().cloned());
            let sni = sni.unwrap_or_else(|| server.host.clone());
            match questions.iter_mut().find(|(known, ..)| *known == server) {
                Some((_, _, needs_ca)) => *needs_ca |= plan.needs_ca(),
                None => questions.push((server, sni, plan.needs_ca())),
            }
        }
    }
    let answers = questions.into_iter().map(|(server, sni, needs_ca)| async move {
        let seen = timeout_at(deadline, asker.ask(&server, &sni, needs_ca));
        let seen = Box::pin(progress.during(server.to_string(), seen)).await.ok();
        (server, seen)
    });
    join_all(answers).await.into_iter().collect()
}

/// Whether DNS says of a name what /etc/hosts says, which is that it is here.
async fn reflects(
    asker: &Asker<'_>,
    endpoint: &Endpoint,
    here: Here<'_>,
    deadline: Instant,
) -> Option<(String, IpAddr)> {
    let near = here.hosts.addresses(&endpoint.written);
    if endpoint.is_this_host() || !near.iter().any(IpAddr::is_loopback) {
        return None;
    }
    let ips = match timeout_at(deadline, asker.site.discovery.addresses(&endpoint.host)).await.ok()? {
        Ok(found) => [found.ips, found.refused].concat(),
        Err(NoAddress::Loopback(ip)) => vec![ip],
        Err(NoAddress::None | NoAddress::Failed(_)) => return None,
    };
    ips.into_iter().find(|ip| near.contains(ip)).map(|ip| (endpoint.written.clone(), ip))
}

fn judge_resolver(reflected: Option<(String, IpAddr)>, loops: bool) -> Finding {
    const CHECK: &str = "resolver";
    match reflected {
        None => Finding::ok(CHECK, CHECK, "does not answer from /etc/hosts"),
        Some((name, ip)) => Finding::problem(
            CHECK,
            CHECK,
            format!(
                "answers {ip} for {name}, as /etc/hosts has it: puppet-shim, which asks it for servers, finds itself"
            ),
            "name the site's nameservers in `servers` under `[dns]`",
        )
        // While records name the servers, it does not ask for that name.
        .unless(!loops),
    }
}

/// Judges a role.
fn role(
    plan: &Plan<'_>,
    seen: &HashMap<HostPort, Option<Seen>>,
    site: &Site,
    hosts: &HostsFile,
    ca_file: &str,
    patient: &Patient<'_>,
    knows_agent: bool,
) -> Group {
    let name = format!("role {}", plan.role.role);
    if !plan.is_used(knows_agent) {
        let what = "not used: no setting of the agent's leads to it, and it has no servers of its own";
        let findings = vec![Finding::ok("records", "records", what)];
        return Group { name, title: plan.title(), findings };
    }
    let servers = plan.servers();
    let why_nowhere = |server: &HostPort| seen.get(server)?.as_ref()?.addresses.as_ref().err();
    let is_absent = |server: &HostPort| matches!(why_nowhere(server), Some(NoAddress::None));
    let mut findings = plan.judge(!servers.iter().all(is_absent));
    let has_problem = findings.iter().any(|finding| finding.verdict == Verdict::Problem);
    if has_problem && servers.iter().all(|server| why_nowhere(server).is_some()) {
        // That follows from it.
        return Group { name, title: plan.title(), findings };
    }
    let (own, ca_mend, leave_out) =
        (roles::role_names(plan.role, site.table.domain()), plan.ca_mend(site), plan.leave_out());
    let each: Vec<Vec<Finding>> = servers
        .iter()
        .map(|server| {
            let Some(Some(seen)) = seen.get(server) else { return vec![server::late(server, ALL, &leave_out)] };
            let asked = plan.names_for(server);
            let wants = Wants {
                asked: &asked,
                own: &own,
                ca_mend: plan.needs_ca().then_some(ca_mend.as_str()),
                leave_out: &leave_out,
                is_in_hosts_file: !hosts.addresses(&server.host.to_string()).is_empty(),
                ca_file,
                now: patient.now,
            };
            server::judge(server, seen, wants)
        })
        .collect();
    let is_good = |findings: &Vec<Finding>| findings.iter().all(|finding| finding.verdict != Verdict::Problem);
    let has_good = each.iter().any(is_good);
    let checks = patient.config.config.certificates.check;
    findings.extend(each.into_iter().flatten().map(|finding| {
        let is_passed_over = finding.check == PASSED_OVER || (finding.check == MISNAMED && checks);
        finding.unless(is_passed_over && has_good)
    }));
    Group { name, title: plan.title(), findings }
}
