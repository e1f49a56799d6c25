//! One server, asked as an agent would ask it: addresses, TCP, TLS, certificate, status, and whether it runs a CA.

use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures_util::future::{join, join_all};
use tokio::time::timeout;

use super::expiry::{self, RENEWAL};
use super::finding::{Finding, Verdict};
use crate::daemon::Site;
use crate::dial::{Dialer, Did};
use crate::discovery::{Addresses, NoAddress};
use crate::host::{Host, HostPort};
use crate::probe::{BOUND, HttpError, Prober, Reply, Shown};

/// Open to everybody in the auth.conf as packaged.
const STATUS: &str = "/status/v1/simple";

/// What a new agent fetches first; only a CA has it.
const CA: &str = "/puppet-ca/v1/certificate/ca";

/// How it stands with one server.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    /// Where it is.
    pub(super) addresses: Result<Addresses, NoAddress>,
    /// What is behind each address.
    pub(super) doors: Vec<Door>,
    /// What it says of itself, and whether it runs a CA; `None`: not asked.
    pub(super) status: Option<Result<Reply, HttpError>>,
    /// The same for the CA's certificate.
    pub(super) ca: Option<Result<Reply, HttpError>>,
}

/// One address.
#[derive(Clone, Debug)]
pub(super) struct Door {
    /// Which.
    pub(super) ip: IpAddr,
    /// The certificate that was shown there.
    pub(super) shown: Result<Shown, Shut>,
}

/// Why none was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Shut {
    /// TCP did not come so far.
    Unreached(Did),
    /// It took the connection, and did this instead.
    NoTls(String),
}

/// What a server is asked by.
pub(super) struct Asker<'a> {
    /// Where names come from.
    pub(super) site: &'a Site,
    /// How connections are made.
    pub(super) dialer: Dialer<'a>,
    /// How questions are put.
    pub(super) prober: &'a Prober,
}

impl Asker<'_> {
    /// Asks one server, by this name. Bounded for each step; the caller bounds all of it.
    pub(super) async fn ask(&self, server: &HostPort, sni: &Host, needs_ca: bool) -> Seen {
        let addresses = self.site.discovery.addresses(&server.host).await;
        let ips = addresses.as_ref().map(|found| found.ips.clone()).unwrap_or_default();
        let doors = join_all(ips.iter().map(|ip| self.door(SocketAddr::new(*ip, server.port), sni))).await;
        let open = doors.iter().find(|door| door.shown.is_ok()).map(|door| SocketAddr::new(door.ip, server.port));
        let (status, ca) = match open {
            Some(at) => {
                let ca = async { if needs_ca { Some(self.get(at, sni, CA).await) } else { None } };
                let (status, ca) = join(self.get(at, sni, STATUS), ca).await;
                (Some(status), ca)
            }
            None => (None, None),
        };
        Seen { addresses, doors, status, ca }
    }

    async fn door(&self, at: SocketAddr, sni: &Host) -> Door {
        let shown = async {
            let stream = self.dialer.connect(at).await.map_err(Shut::Unreached)?;
            match timeout(BOUND, self.prober.certificate(stream, sni)).await {
                Ok(shown) => shown.map_err(Shut::NoTls),
                Err(_) => Err(Shut::NoTls(format!("says nothing for {} s", BOUND.as_secs()))),
            }
        };
        Door { ip: at.ip(), shown: shown.await }
    }

    async fn get(&self, at: SocketAddr, sni: &Host, path: &str) -> Result<Reply, HttpError> {
        let reply = async {
            let stream = self.dialer.connect(at).await.map_err(|did| HttpError::Connection(did.to_string()))?;
            self.prober.get(stream, sni, path).await
        };
        let silent = || HttpError::Connection(format!("says nothing for {} s", BOUND.as_secs()));
        timeout(BOUND, reply).await.unwrap_or_else(|_| Err(silent()))
    }
}

/// What a role wants of its servers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wants<'a> {
    /// Names that the agent asks for, each with the setting that says so.
    pub(super) asked: &'a [(&'static str, Host)],
    /// The role's own names, of which one should be there where the agent asks for none.
    pub(super) own: &'a [Host],
    /// What to do about a server that runs no CA; `None`: it needs none.
    pub(super) ca_mend: Option<&'a str>,
    /// How to take a server out of the role, in the imperative.
    pub(super) leave_out: &'a str,
    /// Whether /etc/hosts has its name.
    pub(super) is_in_hosts_file: bool,
    /// Where the agent's CA certificates are.
    pub(super) ca_file: &'a str,
    /// Seconds since 1970-01-01 UTC.
    pub(super) now: i64,
}

/// Judges what was seen of a server. One line where all is well, else one for each thing that is not.
pub(super) fn judge(server: &HostPort, seen: &Seen, wants: Wants<'_>) -> Vec<Finding> {
    let subject = server.to_string();
    let addresses = match &seen.addresses {
        Ok(addresses) => addresses,
        Err(why) => return vec![no_address(&subject, why, wants)],
    };
    let mut findings = Vec::new();
    let open: Vec<(&Door, &Shown)> =
        seen.doors.iter().filter_map(|door| Some((door, door.shown.as_ref().ok()?))).collect();
    let mut alike: Vec<(&Shut, Vec<IpAddr>)> = Vec::new();
    for (ip, shut) in seen.doors.iter().filter_map(|door| Some((door.ip, door.shown.as_ref().err()?))) {
        match alike.iter_mut().find(|(known, _)| *known == shut) {
            Some((_, ips)) => ips.push(ip),
            None => alike.push((shut, vec![ip])),
        }
    }
    for (shut, ips) in alike {
        findings.push(closed(&subject, &ips, shut, !open.is_empty(), wants));
    }
    // An address of a family that this host has not is nobody's fault.
    let is_beyond =
        |ip: IpAddr, did: &Did| matches!(did, Did::Fail(_)) && open.iter().any(|(o, _)| o.ip.is_ipv4() != ip.is_ipv4());
    let mut shut = seen.doors.iter().filter_map(|door| Some((door.ip, door.shown.as_ref().err()?)));
    if !open.is_empty() && shut.all(|(ip, shut)| matches!(shut, Shut::Unreached(did) if is_beyond(ip, did))) {
        findings.clear();
    }
    let runs_ca = matches!(&seen.ca, Some(Ok(Reply { status: 200, .. })));
    let mut good_until = String::new();
    for (door, shown) in &open {
        let (certificate, until) = certificate(server, door.ip, shown, wants, runs_ca);
        // Behind several addresses of one server there is mostly one certificate.
        findings.extend(certificate.into_iter().filter(|new| !findings.contains(new)).collect::<Vec<_>>());
        good_until = until;
    }
    let state = judge_status(&subject, seen.status.as_ref(), &mut findings);
    let ca = match (&seen.ca, wants.ca_mend) {
        (Some(answer), Some(mend)) => judge_ca(&subject, answer, mend, &mut findings),
        _ => "",
    };
    if findings.is_empty() {
        let ips: Vec<String> = addresses.ips.iter().map(ToString::to_string).collect();
        // A server known by its address has said it.
        let ips = if matches!(server.host, Host::Ip(_)) { String::new() } else { format!("{}: ", ips.join(", ")) };
        findings.push(Finding::ok("server", subject, format!("{ips}its certificate {good_until}{state}{ca}")));
    }
    findings
}

fn no_address(subject: &str, why: &NoAddress, wants: Wants<'_>) -> Finding {
    let mend = match why {
        NoAddress::None => format!("give it an address in DNS, or {}", wants.leave_out),
        NoAddress::Loopback(_) if wants.is_in_hosts_file => return loops(subject, &why.to_string()),
        NoAddress::Loopback(_) => {
            "mend its record in DNS; only where servers are behind a local proxy, `allow_loopback = true` \
                                   under `[dns]`"
                .to_owned()
        }
        NoAddress::Failed(_) => nameservers(),
    };
    Finding::problem("server", subject, why.to_string(), mend)
}

/// What to do where DNS does not answer.
pub(super) fn nameservers() -> String {
    "mend the nameservers in /etc/resolv.conf, or name others in `servers` under `[dns]`".into()
}

fn loops(subject: &str, what: &str) -> Finding {
    let mend = "name the site's nameservers in `servers` under `[dns]`: this host's resolver answers from /etc/hosts";
    Finding::problem("loop", subject, what, mend)
}

/// `ips`: addresses of which this is so. `others`: whether another one is well.
fn closed(subject: &str, ips: &[IpAddr], shut: &Shut, others: bool, wants: Wants<'_>) -> Finding {
    let listed = ips.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let first = listed.split(',').next().unwrap_or_default();
    let what = |did: &dyn Display| format!("{listed} {did}");
    let or = wants.leave_out;
    let finding = match shut {
        Shut::Unreached(Did::LeadBack) if wants.is_in_hosts_file => {
            return loops(subject, &format!("{listed} is puppet-shim's own listener, by the hosts file"));
        }
        Shut::Unreached(did @ Did::LeadBack) => {
            Finding::problem("loop", subject, what(did), format!("mend its record in DNS, or {or}"))
        }
        Shut::Unreached(did @ Did::Refuse) => {
            let mend = format!("start it there, `systemctl start puppetserver`, or {or}");
            Finding::problem("server", subject, what(did), mend)
        }
        Shut::Unreached(did) => {
            let mend =
                format!("see whether that host is up, and what is between: `ip route get {first}`, firewalls; or {or}");
            Finding::problem("server", subject, what(did), mend)
        }
        Shut::NoTls(did) => {
            let mend = format!("see there what listens and how it is, `systemctl status puppetserver`, or {or}");
            Finding::problem("server", subject, what(did), mend)
        }
    };
    // The next address is tried.
    finding.unless(others)
}

/// What is wrong with a certificate, and until when it is good. `runs_ca`: whether the server is the CA's.
fn certificate(
    server: &HostPort,
    ip: IpAddr,
    shown: &Shown,
    wants: Wants<'_>,
    runs_ca: bool,
) -> (Vec<Finding>, String) {
    let subject = server.to_string();
    let mut findings = Vec::new();
    let anew = || anew(server, shown, wants, runs_ca);
    let missing: Vec<String> = wants
        .asked
        .iter()
        .filter(|(_, name)| !shown.names.covers(name))
        .map(|(setting, name)| format!("{name} ({setting})"))
        .collect();
    if !missing.is_empty() {
        let what = format!("its certificate is for {}, and not for {}", shown.names, missing.join(", "));
        let mend = format!(
            "let the agent ask for another name, {}, or have its certificate made anew: {}",
            wants.leave_out,
            anew()
        );
        findings.push(Finding::problem("certificate-name", &subject, what, mend));
    } else if wants.asked.is_empty() && !wants.own.is_empty() && !wants.own.iter().any(|name| shown.names.covers(name))
    {
        let own: Vec<_> = wants.own.iter().map(ToString::to_string).collect();
        let what =
            format!("its certificate is for {}, and for none of the role's names, {}", shown.names, own.join(", "));
        let mend = format!("before agents ask for these, have its certificate made anew: {}", anew());
        findings.push(Finding::warning("certificate-name", &subject, what, mend));
    }
    let (verdict, words) = expiry::judge(&shown.names, wants.now);
    if verdict != Verdict::Ok {
        let mend = if shown.names.not_before() > wants.now {
            "set the clocks of both hosts: `timedatectl`".to_owned()
        } else if verdict == Verdict::Warning && !runs_ca {
            format!(
                "where the CA renews certificates ({RENEWAL}), that host's own agent of Puppet 8.2 or later has it renewed in a run, names \
                 and all, and `systemctl restart puppetserver` there takes it up; else have it made anew: {}",
                anew()
            )
        } else {
            format!("have its certificate made anew: {}", anew())
        };
        findings.push(Finding {
            verdict,
            ..Finding::problem("certificate", &subject, format!("its certificate {words}"), mend)
        });
    } else if let Some(why) = &shown.untrusted {
        let mend = format!(
            "if the CA was made anew, `rm {}`, and the next run fetches its certificates; else {ip} is no server of this site",
            wants.ca_file
        );
        findings.push(Finding::problem("certificate", &subject, why.clone(), mend));
    }
    (findings, words)
}

/// How a server gets another certificate with every name that it has, or has to have. The CA's own host cannot ask itself:
/// its certificate is signed offline, as when it was set up, and may use the CA's API.
fn anew(server: &HostPort, shown: &Shown, wants: Wants<'_>, runs_ca: bool) -> String {
    // Puppet adds the certname, which is mostly the host's own name.
    let has_own = shown.names.dns().iter().any(|name| *name == server.host.to_string());
    let certname = if has_own { server.host.to_string() } else { "CERTNAME".to_owned() };
    // For a command line: what is in a certificate is anybody's to choose.
    let is_plain = |name: &&String| name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'));
    let mut names: Vec<String> = shown.names.dns().iter().filter(is_plain).cloned().collect();
    let asked = wants.asked.iter().map(|(_, name)| name);
    let own = wants.own.last().filter(|_| wants.asked.is_empty());
    names.extend(asked.chain(own).filter(|name| !shown.names.covers(name)).map(ToString::to_string));
    names.retain(|name| *name != certname);
    names.extend(shown.names.addresses().map(|ip| format!("IP:{ip}")));
    let option = |option: &str| if names.is_empty() { String::new() } else { format!(" {option} {}", names.join(",")) };
    if runs_ca {
        let names = option("--subject-alt-names");
        format!(
            "there `systemctl stop puppetserver`; move {certname}.pem out of `certs`, `private_keys` and `public_keys` in what `puppet \
             config print ssldir` says, and out of `signed` in `puppet config print cadir --section server`; `puppetserver ca generate \
             --ca-client --certname {certname}{names}`; `systemctl start puppetserver`"
        )
    } else {
        let names = option("--dns_alt_names");
        format!(
            "on the CA, with `allow-subject-alt-names: true` in its ca.conf, `puppetserver ca clean --certname {certname}`; there \
             `systemctl stop puppetserver`, `puppet ssl clean` and `puppet ssl bootstrap{names}`, which waits while the \
             CA does `puppetserver ca sign --certname {certname}`; there `systemctl start puppetserver`"
        )
    }
}

/// Gives the words for a server that is well.
fn judge_status(subject: &str, status: Option<&Result<Reply, HttpError>>, findings: &mut Vec<Finding>) -> String {
    let log = "see its log there: `journalctl -u puppetserver`, /var/log/puppetlabs/puppetserver/puppetserver.log";
    match status {
        None => return String::new(),
        Some(Ok(Reply { status: 200, body })) => {
            let state: String = String::from_utf8_lossy(body).trim().chars().take(20).collect();
            if state == "running" {
                return ", running".into();
            }
            findings.push(Finding::problem("status", subject, format!("says that it is {state:?}"), log));
        }
        // Its auth.conf is not the packaged one; that is for its admin to choose.
        Some(Ok(Reply { status: status @ (401 | 403), .. })) => {
            return format!(", its status is not for all ({status})");
        }
        Some(Ok(Reply { status: 404, .. })) => {
            let what = format!("has no {STATUS}: it is no Puppet server, or one that hides its status");
            findings.push(Finding::warning("status", subject, what, "see what listens there"));
        }
        Some(Ok(Reply { status, .. })) => {
            findings.push(Finding::problem(
                "status",
                subject,
                format!("answers {status} to {STATUS}: it is not ready"),
                log,
            ));
        }
        // It wants a certificate of the client's, which is not ours to show.
        Some(Err(HttpError::Connection(did))) if did.contains("Certificate") || did.contains("HandshakeFailure") => {
            return ", its status is for clients with a certificate".into();
        }
        Some(Err(why)) => findings.push(Finding::warning("status", subject, format!("{STATUS}: {why}"), log)),
    }
    String::new()
}

/// Likewise.
fn judge_ca(subject: &str, answer: &Result<Reply, HttpError>, mend: &str, findings: &mut Vec<Finding>) -> &'static str {
    match answer {
        Ok(Reply { status: 200, .. }) => return ", runs the CA",
        Ok(Reply { status: 404, .. }) => {
            let what = "runs no CA, so no new agent gets a certificate there";
            findings.push(Finding::problem("ca", subject, what, mend));
        }
        Ok(Reply { status, .. }) => {
            let what = format!("answers {status} to {CA}, which a CA has for everybody");
            findings.push(Finding::warning("ca", subject, what, "see its auth.conf there"));
        }
        Err(HttpError::Connection(did)) if did.contains("Certificate") || did.contains("HandshakeFailure") => {
            let what = "wants a certificate of every client, so no new agent can ask it for one";
            findings.push(Finding::problem("ca", subject, what, "`client-auth: want` in its webserver.conf"));
        }
        Err(why) => {
            let what = format!("{CA}: {why}");
            findings.push(Finding::warning("ca", subject, what, "see its log there: `journalctl -u puppetserver`"));
        }
    }
    ""
}

/// For a server that time ran out on.
pub(super) fn late(server: &HostPort, after: Duration, leave_out: &str) -> Finding {
    let what = format!("has not been heard out after {} s", after.as_secs());
    let mend = format!("see whether that host is up, and whether DNS is quick; or {leave_out}");
    Finding::problem("server", server.to_string(), what, mend)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;
    use crate::certificate::Names;
    use crate::discovery::answer::Failure;

    /// A certificate for these names that is good from 2026 to 2027.
    fn shown(names: &[&str]) -> Shown {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names).unwrap();
        (params.not_before, params.not_after) = (date_time_ymd(2026, 1, 1), date_time_ymd(2027, 1, 1));
        let der = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        Shown { names: Names::of(der.der()).unwrap(), out_of_date: None, untrusted: None }
    }

    #[allow(clippy::unnecessary_wraps, reason = "reads better in the tables below")]
    fn reply(status: u16, body: &str) -> Result<Reply, HttpError> {
        Ok(Reply { status, body: body.into() })
    }

    /// A server in good health with these addresses, the first of which has this certificate; the others are shut.
    fn seen(ips: &[&str], shown: &Shown, shut: &Shut) -> Seen {
        let ips: Vec<IpAddr> = ips.iter().map(|ip| ip.parse().unwrap()).collect();
        let door = |(n, ip): (usize, &IpAddr)| Door {
            ip: *ip,
            shown: if n == 0 { Ok(shown.clone()) } else { Err(shut.clone()) },
        };
        let doors = ips.iter().enumerate().map(door).collect();
        let addresses = Ok(Addresses { ips, ttl: None, stale: None, refused: Vec::new() });
        Seen { addresses, doors, status: Some(reply(200, "running")), ca: None }
    }

    fn well() -> Seen {
        seen(&["192.0.2.1"], &shown(&["a.test", "puppet.test"]), &Shut::NoTls("closed".into()))
    }

    /// `verdict check: what | mend` of each finding.
    fn judged(seen: &Seen, adjust: impl FnOnce(&mut Wants<'_>)) -> Vec<String> {
        let asked = [("server", "puppet.test".parse().unwrap())];
        let mut wants = Wants {
            asked: &asked,
            own: &[],
            ca_mend: None,
            leave_out: "LEAVE IT OUT",
            is_in_hosts_file: false,
            ca_file: "CA.PEM",
            now: date_time_ymd(2026, 6, 1).unix_timestamp(),
        };
        adjust(&mut wants);
        let findings = judge(&"a.test:8140".parse().unwrap(), seen, wants);
        let line = |f: Finding| format!("{:?} {}: {} | {}", f.verdict, f.check, f.what, f.mend.unwrap_or_default());
        findings.into_iter().map(line).collect()
    }

    fn one(seen: &Seen, adjust: impl FnOnce(&mut Wants<'_>)) -> String {
        let mut found = judged(seen, adjust);
        assert_eq!(found.len(), 1, "{found:?}");
        found.remove(0)
    }

    #[test]
    fn all_is_well() {
        assert_eq!(one(&well(), |_| ()), "Ok server: 192.0.2.1: its certificate is good until 2027-01-01, running | ");
        let ca = Seen { ca: Some(reply(200, "PEM")), ..well() };
        assert!(one(&ca, |wants| wants.ca_mend = Some("MEND")).ends_with("running, runs the CA | "));
        let closed = Seen { status: Some(reply(403, "")), ..well() };
        assert!(one(&closed, |_| ()).starts_with("Ok server"));
    }

    #[test]
    fn addresses() {
        let nowhere = |why| Seen { addresses: Err(why), doors: Vec::new(), status: None, ca: None };
        let loopback = || nowhere(NoAddress::Loopback([127, 0, 0, 1].into()));
        assert!(one(&nowhere(NoAddress::None), |_| ()).ends_with("or LEAVE IT OUT"));
        assert!(one(&nowhere(NoAddress::Failed(Failure::default())), |_| ()).contains("mend the nameservers"));
        assert!(one(&loopback(), |_| ()).starts_with("Problem server"));
        assert!(one(&loopback(), |wants| wants.is_in_hosts_file = true).starts_with("Problem loop"));
    }

    #[test]
    fn one_address_of_two() {
        let both = |other: &str, shut: Shut| seen(&["192.0.2.1", other], &shown(&["puppet.test"]), &shut);
        // The next one is tried, and a family that the host has not is no fault.
        assert!(
            one(&both("192.0.2.2", Shut::Unreached(Did::Refuse)), |_| ())
                .starts_with("Warning server: 192.0.2.2 refused")
        );
        let mut down = both("2001:db8::1", Shut::Unreached(Did::Refuse));
        (down.doors[0].shown, down.status) = (Err(Shut::Unreached(Did::Refuse)), None);
        assert!(one(&down, |_| ()).starts_with("Problem server: 192.0.2.1, 2001:db8::1 refused"));
        let unreachable = || Shut::Unreached(Did::Fail("Network is unreachable".into()));
        assert!(one(&both("2001:db8::1", unreachable()), |_| ()).starts_with("Ok server"));
        assert!(one(&both("192.0.2.2", unreachable()), |_| ()).starts_with("Warning server"));
        let mut dead = both("192.0.2.2", Shut::Unreached(Did::TimeOut));
        dead.doors.remove(0);
        dead.status = None;
        assert!(one(&dead, |_| ()).starts_with("Problem server: 192.0.2.2 timed out"));
    }

    #[test]
    fn certificates() {
        let other = seen(&["192.0.2.1"], &shown(&["a.test"]), &Shut::NoTls(String::new()));
        assert!(
            one(&other, |_| ()).starts_with(
                "Problem certificate-name: its certificate is for a.test, and not for puppet.test (server)"
            )
        );
        let own = ["puppetfiles".parse().unwrap()];
        let unasked = |wants: &mut Wants<'_>| wants.asked = &[];
        assert!(one(&other, unasked).starts_with("Ok server"));
        let found = judge(&"a.test:8140".parse().unwrap(), &other, Wants { asked: &[], own: &own, ..wants() });
        assert_eq!((found[0].check, found[0].verdict), ("certificate-name", Verdict::Warning));

        let at = |year, month| move |wants: &mut Wants<'_>| wants.now = date_time_ymd(year, month, 15).unix_timestamp();
        assert!(
            one(&well(), at(2026, 12)).starts_with("Warning certificate: its certificate is good until 2027-01-01")
        );
        let soon = one(&well(), at(2026, 12));
        assert!(
            soon.contains("`allow-auto-renewal: true`") && soon.contains("`systemctl restart puppetserver`"),
            "{soon}"
        );
        assert!(one(&well(), at(2027, 1)).starts_with("Problem certificate: its certificate expired on 2027-01-01"));
        assert!(one(&well(), at(2025, 1)).ends_with("`timedatectl`"));
        let untrusted = Some("its certificate is signed by no CA in CA.PEM".to_owned());
        let foreign =
            seen(&["192.0.2.1"], &Shown { untrusted, ..shown(&["puppet.test"]) }, &Shut::NoTls(String::new()));
        assert!(one(&foreign, |_| ()).contains("`rm CA.PEM`"));
    }

    /// What is followed to the letter gives a certificate with every name that it had, and those that are asked for.
    #[test]
    fn another_certificate_has_the_names() {
        let expired = |wants: &mut Wants<'_>| wants.now = date_time_ymd(2027, 1, 15).unix_timestamp();
        let compiler = one(&well(), expired);
        for part in [
            "`allow-subject-alt-names: true`",
            "`puppetserver ca clean --certname a.test`",
            "`puppet ssl bootstrap --dns_alt_names puppet.test`",
            "`puppetserver ca sign --certname a.test`",
        ] {
            assert!(compiler.contains(part), "{part}: {compiler}");
        }
        assert!(!compiler.contains("renew"), "it is too late for that: {compiler}");

        let ca = Seen { ca: Some(reply(200, "PEM")), ..well() };
        let mend = one(&ca, expired);
        let command = "`puppetserver ca generate --ca-client --certname a.test --subject-alt-names puppet.test`";
        assert!(mend.contains(command) && !mend.contains("ca clean"), "{mend}");
        let soon = one(&ca, |wants| wants.now = date_time_ymd(2026, 12, 15).unix_timestamp());
        assert!(soon.contains(command), "{soon}");

        // Names that are missing, and one that is no name.
        let other = seen(&["192.0.2.1"], &shown(&["b.test", "x;reboot"]), &Shut::NoTls(String::new()));
        let mend = one(&other, |_| ());
        assert!(mend.contains("--certname CERTNAME") && mend.contains("--dns_alt_names b.test,puppet.test`"), "{mend}");
        let own = ["puppetfiles".parse().unwrap(), "puppetfiles.test".parse().unwrap()];
        let found = judge(&"b.test:8140".parse().unwrap(), &other, Wants { asked: &[], own: &own, ..wants() });
        let mend = found[0].mend.as_ref().unwrap();
        assert!(mend.contains("--certname b.test") && mend.contains("--dns_alt_names puppetfiles.test`"), "{mend}");
    }

    fn wants<'a>() -> Wants<'a> {
        let now = date_time_ymd(2026, 6, 1).unix_timestamp();
        Wants { asked: &[], own: &[], ca_mend: None, leave_out: "", is_in_hosts_file: false, ca_file: "", now }
    }

    #[test]
    fn what_it_says_of_itself() {
        for (status, expected) in [
            (reply(503, ""), "Problem status: answers 503"),
            (reply(200, "starting"), "Problem status: says that it is \"starting\""),
            (reply(404, ""), "Warning status: has no /status/v1/simple"),
            (Err(HttpError::TooLong), "Warning status: /status/v1/simple: answered with more"),
            (Err(HttpError::Connection("answered with the TLS alert CertificateRequired".into())), "Ok server"),
        ] {
            let found = one(&Seen { status: Some(status), ..well() }, |_| ());
            assert!(found.starts_with(expected), "{found}");
        }
        for (ca, expected) in [
            (reply(404, ""), "Problem ca: runs no CA, so no new agent gets a certificate there | MEND"),
            (reply(403, ""), "Warning ca: answers 403"),
            (
                Err(HttpError::Connection("answered with the TLS alert CertificateRequired".into())),
                "Problem ca: wants a certificate",
            ),
            (Err(HttpError::Broken("x".into())), "Warning ca: "),
        ] {
            let found = one(&Seen { ca: Some(ca), ..well() }, |wants| wants.ca_mend = Some("MEND"));
            assert!(found.starts_with(expected), "{found}");
        }
    }
}
