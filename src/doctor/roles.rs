//! Each role: whom the agent asks it for, and where its servers come from.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{Instant, timeout_at};

use super::agent::Endpoint;
use super::finding::Finding;
use super::server::nameservers;
use super::way::Way;
use crate::config::RoleConfig;
use crate::daemon::Site;
use crate::discovery::{Found, Source, Target};
use crate::host::{Host, HostPort};
use crate::role::{Asked, Role, Row, Via};

/// For DNS to name a role's servers.
const PATIENCE: Duration = Duration::from_secs(4);

/// Puppet's `serverport`.
const SERVER_PORT: u16 = 8140;

/// The role whose servers sign certificates.
const CA: &str = "ca";

/// A name by which the agent asks for a role.
#[derive(Clone, Debug)]
pub(super) struct Asking {
    /// Whom.
    pub(super) endpoint: Endpoint,
    /// The one server that it means, where the name is a target's.
    pub(super) only: Option<HostPort>,
}

/// A role as it is to be looked at.
#[derive(Clone, Debug)]
pub(super) struct Plan<'t> {
    /// Which.
    pub(super) role: &'t RoleConfig,
    /// By which names the agent asks for it.
    pub(super) asked: Vec<Asking>,
    /// Its servers; `None`: DNS has kept us waiting.
    pub(super) found: Option<Found>,
}

/// Which roles the agent asks for, and their servers; and what is wrong with the names.
pub(super) async fn plan<'s>(
    site: &'s Site,
    endpoints: &[Endpoint],
    way: Way,
    deadline: Instant,
) -> (Vec<Plan<'s>>, Vec<Finding>) {
    let roles = site.table.roles();
    let mut asked: Vec<Vec<Asking>> = roles.iter().map(|_| Vec::new()).collect();
    let (mut findings, mut strangers) = (Vec::new(), Vec::new());
    let remote: Vec<&Endpoint> = endpoints.iter().filter(|endpoint| !endpoint.is_this_host()).collect();
    let until = deadline.min(Instant::now() + PATIENCE);
    let meant = join_all(remote.iter().map(|endpoint| role_of(site, endpoint, way, until))).await;
    for (endpoint, meant) in remote.into_iter().zip(meant) {
        match meant {
            Ok((role, only)) => {
                let mut all = roles.iter().zip(&mut asked);
                if let Some((_, asked)) = all.find(|(known, _)| known.role == role.role) {
                    asked.push(Asking { endpoint: endpoint.clone(), only });
                }
            }
            // The others may take it from `server`, which comes first.
            Err(_) if strangers.contains(&&endpoint.host) => {}
            Err(finding) => {
                strangers.push(&endpoint.host);
                findings.push(finding.unless(way == Way::Past));
            }
        }
    }
    let until = deadline.min(Instant::now() + PATIENCE);
    let plans = roles.iter().zip(asked).map(|(role, asked)| async move {
        let as_asked = as_asked(site, role, &asked);
        let found = timeout_at(until, site.discovery.servers(&site.table, role, &as_asked)).await.ok();
        Plan { role, asked, found }
    });
    (join_all(plans).await, findings)
}

/// As the agent asks for it, or would.
fn as_asked(site: &Site, role: &RoleConfig, asked: &[Asking]) -> Asked {
    let first = asked.iter().find(|asking| asking.only.is_none()).map(|asking| &asking.endpoint);
    let own = || role_names(role, site.table.domain()).into_iter().last();
    Asked {
        via: Via::Connect,
        host: first.map(|endpoint| endpoint.host.clone()).or_else(own),
        port: first.map_or(SERVER_PORT, |endpoint| endpoint.port),
    }
}

/// A role's names, each bare and, last, under the domain.
pub(super) fn role_names(role: &RoleConfig, domain: Option<&str>) -> Vec<Host> {
    let bare = role.names.iter().cloned().map(Host::Name);
    let short = role.names.iter().filter(|name| !name.contains('.'));
    let full = short.filter_map(|name| Some(Host::Name(format!("{name}.{}", domain?))));
    bare.chain(full).collect()
}

async fn role_of<'s>(
    site: &'s Site,
    endpoint: &Endpoint,
    way: Way,
    until: Instant,
) -> Result<(&'s RoleConfig, Option<HostPort>), Finding> {
    let via = if way == Way::Alias { Via::Tls } else { Via::Connect };
    let asked = Asked { via, host: Some(endpoint.host.clone()), port: endpoint.port };
    let (row, role) = site.table.classify(&asked);
    if let Some(role) = role.filter(|_| !matches!(row, Row::ListenerPort | Row::Foreign)) {
        return Ok((role, None));
    }
    let target = timeout_at(until, site.discovery.target(&site.table, &asked)).await;
    let unsure = match target {
        Ok(Ok(Target::Server(role, server))) => {
            let only = server.target.map(|host| HostPort { host, port: server.port });
            return Ok((role, only));
        }
        Ok(Ok(Target::Refused(role, refused))) => {
            format!(", and as a server of {} it is passed over: {refused}", role.role)
        }
        Ok(Ok(Target::None)) => String::new(),
        Ok(Err(failure)) => format!(", as far as DNS tells ({failure})"),
        Err(_) => ", as far as DNS tells".to_owned(),
    };
    if let Some(role) = role {
        return Ok((role, None));
    }
    let Endpoint { setting, written, .. } = endpoint;
    let owner = match *setting {
        "ca_server" => CA,
        "report_server" => "report",
        "pluginsource" | "pluginfactsource" => "files",
        _ => Role::COMPILE,
    };
    let what = format!("is {written}, which is no name of any role{unsure}: agents are refused");
    let have: Vec<String> = site
        .table
        .role(owner)
        .map(|role| role.names.iter().map(|name| format!("\"{name}\"")).collect())
        .unwrap_or_default();
    let names = have.into_iter().chain([format!("\"{}\"", endpoint.host)]).collect::<Vec<_>>().join(", ");
    let mend = format!("write `names = [{names}]` under `[role.{owner}]`, if it is one of its names");
    Err(Finding::problem("name", *setting, what, mend))
}

impl Plan<'_> {
    /// Whether anybody would miss it: the agent asks for it, or it has servers of its own.
    pub(super) fn is_used(&self, knows_agent: bool) -> bool {
        let own = |found: &Found| match &found.source {
            Some(Source::Srv(_) | Source::Static) => true,
            // Whether it has records is not known.
            _ => found.steps.first().is_some_and(|step| step.result.is_err()) && !knows_agent,
        };
        let is_puppets = [CA, Role::COMPILE].contains(&self.role.role.as_str());
        !self.asked.is_empty() || (is_puppets && !knows_agent) || self.found.as_ref().is_some_and(own)
    }

    /// Whether its servers have to run a CA.
    pub(super) fn needs_ca(&self) -> bool {
        self.role.role.as_str() == CA || self.asked.iter().any(|asking| asking.endpoint.setting == "ca_server")
    }

    /// What to do about a server of its that runs none.
    pub(super) fn ca_mend(&self, site: &Site) -> String {
        if self.role.role.as_str() == CA {
            return format!("{}, or switch its CA on, in services.d/ca.cfg there", self.leave_out());
        }
        let ca = site.table.role(CA).map(|role| role_names(role, site.table.domain())).unwrap_or_default();
        let name = ca.last().map_or_else(|| "NAME".to_owned(), ToString::to_string);
        format!(
            "`puppet config set ca_server {name} --section main`: by ca_server as it is, the CA is asked for among the servers of {}",
            self.role.role
        )
    }

    /// How to take a server out of it.
    pub(super) fn leave_out(&self) -> String {
        match self.found.as_ref().and_then(|found| found.source.as_ref()) {
            Some(Source::Srv(owner) | Source::Fallback(owner)) => format!("take it out of {owner}"),
            Some(Source::Static) => format!("take it out of `servers` under `[role.{}]`", self.role.role),
            _ => format!("give {} its servers: {}", self.role.role, self.publish()),
        }
    }

    /// How to give it one.
    fn publish(&self) -> String {
        let written = format!("`servers = [\"SERVER\"]` under `[role.{}]`", self.role.role);
        match self.found.as_ref().and_then(|found| found.steps.first()) {
            Some(step) => format!("publish `{}. SRV 0 0 {SERVER_PORT} SERVER`, or write {written}", step.owner),
            None => format!("write {written}"),
        }
    }

    /// What the group is called.
    pub(super) fn title(&self) -> String {
        let mut names: Vec<String> = Vec::new();
        for Asking { endpoint, .. } in &self.asked {
            let name = format!("{}:{}", endpoint.written, endpoint.port);
            if !names.contains(&name) {
                names.push(name);
            }
        }
        if names.is_empty() {
            self.role.role.to_string()
        } else {
            format!("{}, asked for as {}", self.role.role, names.join(", "))
        }
    }

    /// Judges where its servers come from. `has_address`: whether the requested name, where it is its own server, is
    /// somewhere.
    pub(super) fn judge(&self, has_address: bool) -> Vec<Finding> {
        const CHECK: &str = "records";
        let role = &self.role.role;
        let Some(found) = &self.found else {
            let what =
                format!("DNS has not answered within {} s, or there was no time left to ask it", PATIENCE.as_secs());
            return vec![Finding::problem(CHECK, CHECK, what, nameservers())];
        };
        let mut findings = Vec::new();
        for step in &found.steps {
            if let Some(failure) = step.failure() {
                // The rest of what is wrong follows from it.
                let mend =
                    format!("{}; the daemon goes on with what it knows: `puppet-shim resolve {role}`", nameservers());
                return vec![Finding::problem(CHECK, CHECK, format!("{}: {failure}", step.owner), mend)];
            }
            for refused in &step.refused {
                let mend = "mend the record, or allow it by `allow_targets` or `allow_ports` of the role";
                let what = format!("{}: passed over: {refused}", step.owner);
                findings.push(Finding::problem(CHECK, CHECK, what, mend).unless(!found.servers.is_empty()));
            }
        }
        let nobody = |why: String| Finding::problem(CHECK, CHECK, why, self.publish());
        findings.push(match &found.source {
            None => nobody(found.why_none(role)),
            Some(Source::Name) if !has_address => {
                let name = found.servers.first().and_then(|server| server.target.as_ref());
                let name = name.map(ToString::to_string).unwrap_or_default();
                nobody(format!("nothing names a server{}; {name} itself has no address in DNS", found.in_vain()))
            }
            Some(Source::Srv(owner) | Source::Fallback(owner)) => {
                let known = found
                    .steps
                    .iter()
                    .rev()
                    .find_map(|step| step.result.as_ref().ok().filter(|_| step.owner == *owner));
                let words = known.map_or_else(String::new, |known| {
                    let answer = &known.answer;
                    let many = answer.records.len();
                    let plural = if many == 1 { "" } else { "s" };
                    format!(": {many} record{plural}, TTL {} s, from {}", answer.ttl.as_secs(), answer.from)
                });
                Finding::ok(CHECK, CHECK, format!("{owner}{words}"))
            }
            Some(Source::Static) => Finding::ok(CHECK, CHECK, format!("none; `servers` under `[role.{role}]`")),
            Some(Source::Name | Source::Target) => Finding::ok(CHECK, CHECK, "none; the name itself is the server's"),
        });
        findings
    }

    /// Its servers.
    pub(super) fn servers(&self) -> Vec<HostPort> {
        let mut servers: Vec<HostPort> = Vec::new();
        for srv in self.found.iter().flat_map(|found| &found.servers) {
            let Some(host) = &srv.target else { continue };
            let server = HostPort { host: host.clone(), port: srv.port };
            if !servers.contains(&server) {
                servers.push(server);
            }
        }
        for only in self.asked.iter().filter_map(|asking| asking.only.as_ref()) {
            if !servers.contains(only) {
                servers.push(only.clone());
            }
        }
        servers
    }

    /// The names that one of its servers is asked for by.
    pub(super) fn names_for(&self, server: &HostPort) -> Vec<(&'static str, Host)> {
        let concerned = self.asked.iter().filter(|asking| asking.only.as_ref().is_none_or(|only| only == server));
        let mut names: Vec<(&'static str, Host)> = Vec::new();
        for Asking { endpoint, .. } in concerned {
            if !names.iter().any(|(_, name)| *name == endpoint.host) {
                names.push((endpoint.setting, endpoint.host.clone()));
            }
        }
        names
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::finding::Verdict;
    use super::*;
    use crate::config::Config;
    use crate::discovery::Step;
    use crate::discovery::answer::{Answer, Failure};
    use crate::discovery::bounds::Bounds;
    use crate::discovery::cache::{Freshness, Known};
    use crate::discovery::srv::Srv;

    const OWNER: &str = "_x-puppet._tcp.lab.test";

    fn srv(target: &str, port: u16) -> Srv {
        Srv { priority: 0, weight: 0, port, target: target.parse().ok() }
    }

    fn known(records: Vec<Srv>) -> Known<Srv> {
        let answer =
            Answer { records, ttl: Duration::from_secs(60), from: Arc::from("192.0.2.53:53"), is_vague: false };
        Known { answer: Arc::new(answer), freshness: Freshness::Live, is_from_disk: false, is_too_old: false }
    }

    /// How it stands with compile's records, and what is to be done.
    fn judged(
        result: Result<Known<Srv>, Failure>,
        source: Option<Source>,
        has_address: bool,
    ) -> Vec<(Verdict, String, String)> {
        let config = Config::default();
        let role = &config.roles[1];
        let bounds = Bounds::of(&config, role);
        let records = result.as_ref().map(|known| known.answer.records.clone()).unwrap_or_default();
        let (refused, servers): (Vec<_>, Vec<_>) =
            records.into_iter().partition(|record| bounds.refusal(record).is_some());
        let refused = refused.into_iter().filter_map(|record| {
            let why = bounds.refusal(&record)?;
            Some(crate::discovery::bounds::Refused { owner: OWNER.into(), record, why })
        });
        let servers = match source {
            Some(Source::Name) => vec![srv("puppet.lab.test", 8140)],
            _ => servers,
        };
        let steps = vec![Step { owner: OWNER.into(), result, refused: refused.collect() }];
        let plan = Plan { role, asked: Vec::new(), found: Some(Found { source, servers, steps }) };
        let findings = plan.judge(has_address).into_iter();
        findings.map(|finding| (finding.verdict, finding.what, finding.mend.unwrap_or_default())).collect()
    }

    #[test]
    fn records() {
        let own = || Some(Source::Srv(OWNER.into()));
        let two = known(vec![srv("a.lab.test", 8140), srv("b.lab.test", 8140)]);
        let (verdict, what, _) = &judged(Ok(two), own(), true)[0];
        assert_eq!(
            (*verdict, what.as_str()),
            (Verdict::Ok, "_x-puppet._tcp.lab.test: 2 records, TTL 60 s, from 192.0.2.53:53")
        );

        let found = judged(Ok(known(vec![srv("a.lab.test", 22), srv("b.lab.test", 8140)])), own(), true);
        assert_eq!((found[0].0, found[1].0), (Verdict::Warning, Verdict::Ok));
        assert!(found[0].1.contains("passed over: a.lab.test:22") && found[0].2.contains("`allow_ports`"), "{found:?}");

        let found = judged(Ok(known(vec![srv("a.lab.test", 22)])), None, true);
        assert!(found.iter().all(|(verdict, ..)| *verdict == Verdict::Problem), "{found:?}");

        let found = judged(Ok(known(Vec::new())), Some(Source::Name), true);
        assert_eq!(found[0].0, Verdict::Ok);
        let found = judged(Ok(known(Vec::new())), Some(Source::Name), false);
        assert_eq!(found[0].0, Verdict::Problem);
        assert!(found[0].2.starts_with("publish `_x-puppet._tcp.lab.test. SRV 0 0 8140 SERVER`"), "{found:?}");
    }

    #[test]
    fn dns_that_does_not_answer_is_said_once() {
        let failure = Failure { tried: vec![(Arc::from("192.0.2.53:53"), "did not answer".into())] };
        let found = judged(Err(failure), Some(Source::Name), false);
        let [(verdict, what, mend)] = &found[..] else { panic!("{found:?}") };
        assert_eq!(
            (*verdict, what.as_str()),
            (Verdict::Problem, "_x-puppet._tcp.lab.test: 192.0.2.53:53 did not answer")
        );
        assert!(mend.contains("`puppet-shim resolve compile`"), "{mend}");
    }
}
