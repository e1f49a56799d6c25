//! Broken hosts, and what the doctor says of each.
//!
//! Every one begins as a healthy host, of which `check` has nothing to complain. Then one thing breaks, and `check` has
//! one complaint: what broke, and how to mend it.

// A test ends where its set-up fails.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt, chown};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rcgen::date_time_ymd;
use support::lab::{TTL, fqdn};
use support::loopback;
use support::patient::{Finding, Kind, Opinion, Patient, official_names, owner};
use support::tcp::BlackHole;
use tokio::time::Instant;

/// A host in good health, by the doctor's own word.
async fn healthy(puppet: Kind) -> Patient {
    let mut patient = Patient::start().await;
    patient.puppet = puppet;
    patient.ask().await.is_healthy();
    patient
}

/// The one complaint about a host on which this has changed.
async fn problem(patient: &Patient) -> Finding {
    patient.ask().await.problem()
}

/// With Debian's own `puppet config print`.
#[tokio::test]
async fn a_healthy_host_has_a_short_list_of_ticks_and_is_left_alone() {
    let mut patient = Patient::start().await;
    patient.puppet = Kind::Real;
    let before = patient.state();
    let (code, out, err) = patient.said(&[]).await;
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
    let lines: Vec<_> = out.lines().collect();
    let ticks = lines.iter().filter(|line| line.starts_with("  ✓ ")).count();
    assert!((13..=25).contains(&ticks), "{out}");
    assert_eq!(lines.last(), Some(&format!("{ticks} checks: {ticks} ok, 0 warnings, 0 problems").as_str()));
    let puppet = lines.iter().find(|line| line.starts_with("  ✓ puppet ")).expect("whom it has asked");
    assert!(puppet.contains(&patient.file("puppet").display().to_string()), "{puppet}");
    // Titles, ticks and the sum: nothing else.
    assert_eq!(lines.iter().filter(|line| line.starts_with("  ")).count(), ticks, "{out}");
    patient.ask().await.is_healthy();
    let running = patient.running.as_ref().unwrap();
    assert_eq!(running.connections(), 0, "it has connected to our own listener: {:?}", running.lines());
    assert_eq!(patient.state(), before, "it has written something");
}

#[tokio::test]
async fn a_wrong_name_in_a_certificate() {
    let mut patient = healthy(Kind::Scripted).await;
    let names: Vec<_> = official_names().into_iter().filter(|name| !name.starts_with("puppet.")).collect();
    let other = patient.compiler("compile2", patient.pki.identity(&[&[fqdn("compile2")], &names[..]].concat())).await;
    patient.compile = vec![other];
    patient.announce().await;
    let server = format!("compile2.lab.test:{}", patient.compile[0].address().port());
    let found = problem(&patient).await;
    assert_eq!((found.group.as_str(), found.check.as_str()), ("role compile", "certificate-name"));
    found.says(&server, "not for puppet.lab.test (server)", "dns_alt_names");
    assert!(found.what.contains("its certificate is for compile2.lab.test, puppetca.lab.test"), "{found:?}");
}

#[tokio::test]
async fn an_expired_certificate() {
    let mut patient = healthy(Kind::Scripted).await;
    let names = [&[fqdn("ca")], &official_names()[..]].concat();
    let identity = patient.pki.identity_with(&names, |params| {
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2021, 1, 31);
    });
    let ca = support::server::Server::start_as(
        &patient.pki,
        "ca",
        &fqdn("ca"),
        identity,
        support::pki::ClientCertificate::Optional,
    )
    .await;
    patient.dns.set_addresses(ca.name(), TTL, &[ca.address().ip()]).await;
    patient.dns.set_srv(&owner("-ca"), TTL, &[(0, 0, ca.address().port(), ca.name())]).await;
    patient.ca = ca;
    let server = format!("ca.lab.test:{}", patient.ca.address().port());
    let mend = "`puppetserver ca generate --ca-client --certname ca.lab.test --subject-alt-names puppet.lab.test,puppetca.lab.test";
    problem(&patient).await.says(&server, "its certificate expired on 2021-01-31", mend);
}

#[tokio::test]
async fn a_server_that_is_down() {
    let mut patient = healthy(Kind::Scripted).await;
    let server = format!("ca.lab.test:{}", patient.ca.address().port());
    patient.ca.stop().await;
    problem(&patient).await.says(&server, "refused", "`systemctl start puppetserver`");
}

#[tokio::test]
async fn dns_that_is_down() {
    let mut patient = healthy(Kind::Scripted).await;
    patient.dns.stop().await;
    let opinion = patient.ask().await;
    assert_eq!(opinion.code, Some(1));
    let complaints = opinion.complaints();
    // Each role is concerned, and says so once.
    assert_eq!(complaints.len(), 4, "{complaints:#?}");
    let nameserver = patient.dns.address().to_string();
    for complaint in &complaints {
        assert_eq!(complaint.verdict, "problem");
        complaint.says("records", &nameserver, "mend the nameservers in /etc/resolv.conf");
    }
}

#[tokio::test]
async fn no_records() {
    let patient = healthy(Kind::Scripted).await;
    patient.dns.set_srv(&owner("-ca"), TTL, &[]).await;
    let found = problem(&patient).await;
    assert_eq!(found.group, "role ca");
    found.says(
        "records",
        "no SRV record _x-puppet-ca._tcp.lab.test; puppetca.lab.test itself has no address",
        "publish `_x-puppet-ca._tcp.lab.test. SRV 0 0 8140 SERVER`",
    );
}

#[tokio::test]
async fn a_no_proxy_that_leads_past() {
    let mut patient = healthy(Kind::Real).await;
    patient.settings.insert("no_proxy", "localhost, 127.0.0.1, .lab.test".into());
    let found = problem(&patient).await;
    found.says(
        "no_proxy",
        "the entry .lab.test leads puppet.lab.test, puppetca.lab.test",
        "`puppet config set no_proxy ",
    );

    // The same in the environment, which goes before the setting.
    patient.settings.remove("no_proxy");
    patient.variables = vec![("NO_PROXY", "puppetca.lab.test".into())];
    let found = problem(&patient).await;
    found.says("NO_PROXY", "leads puppetca.lab.test past puppet-shim", "`unset NO_PROXY`");
}

#[tokio::test]
async fn an_http_proxy_in_the_environment() {
    let mut patient = healthy(Kind::Scripted).await;
    patient.variables = vec![("http_proxy", "http://proxy.lab.test:3128".into())];
    let found = problem(&patient).await;
    found.says("http_proxy", "goes past puppet-shim, to proxy.lab.test:3128", "`unset http_proxy`");

    // That of the agent's service.
    patient.variables = Vec::new();
    patient.set_variables("/etc/default/puppet", "HTTP_PROXY=\"http://proxy.lab.test\"\n");
    let found = problem(&patient).await;
    let mend = "take HTTP_PROXY out of /etc/default/puppet, then `systemctl restart puppet`";
    found.says("HTTP_PROXY", "HTTP_PROXY in /etc/default/puppet goes before puppet.conf", mend);

    // Of its unit, whose files are not those.
    let unit = "Id=puppet.service\nLoadState=loaded\nEnvironment=LANG=C \"no_proxy=localhost, .lab.test\"\n";
    patient.systemd(unit);
    let found = problem(&patient).await;
    found.says(
        "no_proxy",
        "the entry .lab.test of no_proxy in puppet.service leads puppet.lab.test",
        "`systemctl cat puppet.service`",
    );
}

/// What a corporate host gives to every login: the agent's service has none of it, and others need it.
#[tokio::test]
async fn everybodys_http_proxy() {
    let mut patient = healthy(Kind::Scripted).await;
    patient.set_variables("/etc/environment", "http_proxy=http://proxy.lab.test:3128\nno_proxy=localhost,.lab.test\n");
    let first = patient.ask().await;
    // And who asks has logged in.
    patient.variables =
        vec![("http_proxy", "http://proxy.lab.test:3128".into()), ("no_proxy", "localhost,.lab.test".into())];
    for opinion in [first, patient.ask().await] {
        assert_eq!((opinion.code, opinion.complaints().len()), (Some(0), 1), "{:#?}", opinion.complaints());
        let what =
            "http_proxy in /etc/environment goes before puppet.conf: runs from a login or cron go past puppet-shim";
        opinion.complaints()[0].says("http_proxy", what, "`env -u http_proxy -u HTTP_PROXY");
    }
}

/// An agent that nobody has sent here is no ill one; one that has been is.
#[tokio::test]
async fn an_agent_that_goes_past() {
    let mut patient = healthy(Kind::Scripted).await;
    patient.settings.remove("http_proxy_host");
    let opinion = patient.ask().await;
    assert_eq!((opinion.code, opinion.complaints().len()), (Some(0), 1), "{:#?}", opinion.complaints());
    let mend = "`puppet-shim setup --mode proxy --apply`";
    opinion.complaints()[0].says("way in", "the agent goes past puppet-shim: no http_proxy_host", mend);

    patient.set_up("port");
    let mend = "`puppet-shim setup --mode port --apply`";
    problem(&patient).await.says("way in", "the agent goes past puppet-shim: no http_proxy_host", mend);

    // The environment of who asks leads here, and not that of the service.
    patient.variables = vec![("http_proxy", format!("http://{}", patient.listen[0]))];
    let what = "in this environment come here, and the agent's service goes past puppet-shim";
    problem(&patient).await.says("way in", what, mend);
    patient.set_variables("/etc/default/puppet", &format!("http_proxy=http://{}\n", patient.listen[0]));
    patient.ask().await.is_healthy();
}

/// Root, who asks, may read what the daemon's user may not.
#[tokio::test]
async fn a_ca_bundle_that_the_daemon_may_not_read() {
    let patient = healthy(Kind::Scripted).await;
    let state = patient.state_directory();
    fs::set_permissions(patient.file("ca.pem"), fs::Permissions::from_mode(0o600)).unwrap();
    patient.ask().await.is_healthy();
    chown(&state, Some(65534), Some(65534)).unwrap();
    let opinion = patient.ask().await;
    let complaints = opinion.complaints();
    assert_eq!((opinion.code, complaints.len()), (Some(0), 1), "{complaints:#?}");
    complaints[0].says("ca_file", "puppet-shim's user may not read ", "`ca_file = \"/etc/puppet-shim/ca.pem\"`");
}

#[tokio::test]
async fn use_srv_records_that_are_on() {
    let mut patient = healthy(Kind::Real).await;
    patient.settings.insert("use_srv_records", "true".into());
    let mend = "`puppet config set use_srv_records false --section main`";
    problem(&patient).await.says("use_srv_records", "is on: the agent chooses servers by itself", mend);
}

#[tokio::test]
async fn a_server_of_the_name_localhost() {
    let mut patient = healthy(Kind::Real).await;
    patient.settings.insert("server", "localhost".into());
    let found = problem(&patient).await;
    found.says(
        "server",
        "no server's certificate has that name",
        "`puppet config set server puppet.lab.test --section main`",
    );
}

#[tokio::test]
async fn a_port_that_another_user_has() {
    let mut patient = healthy(Kind::Scripted).await;
    drop(patient.running.take());
    let address = patient.listen[0];
    let squatter = Squatter::on(address);
    let found = problem(&patient).await;
    let pid = squatter.0.id();
    found.says(
        &address.to_string(),
        &format!("taken by the user nobody, process {pid} (python3)"),
        &format!("stop process {pid}"),
    );

    // And when it is gone, nobody is there.
    drop(squatter);
    problem(&patient).await.says(&address.to_string(), "nobody listens here", "start `puppet-shim run`");
}

/// A host in alias mode, of which the name is the server's in DNS.
async fn alias_host() -> Patient {
    let [listen] = loopback::free_ports();
    let mut patient = Patient::without_daemon(vec![listen]).await;
    let server = patient.compile[0].address();
    // The name itself is dialled on the port that was asked for, which is the listener's.
    patient.listen = vec![SocketAddr::new(listen.ip(), server.port())];
    patient.configure("");
    patient.dns.set_srv(&owner(""), TTL, &[]).await;
    for name in official_names() {
        patient.dns.set_addresses(&name, TTL, &[server.ip()]).await;
    }
    fs::write(patient.file("hosts"), format!("{} {}\n", listen.ip(), official_names().join(" "))).unwrap();
    patient.settings.remove("http_proxy_host");
    for port in ["serverport", "ca_port", "report_port"] {
        patient.settings.insert(port, server.port().to_string());
    }
    patient.run().await;
    patient.ask().await.is_healthy();
    patient
}

#[tokio::test]
async fn a_resolver_that_answers_from_the_hosts_file() {
    let patient = alias_host().await;
    let here = patient.listen[0];
    // As a resolver on this host does that reads the hosts file.
    patient.dns.set_addresses("puppet.lab.test", TTL, &[here.ip()]).await;
    let opinion = patient.ask().await;
    assert_eq!(opinion.code, Some(1));
    let complaints = opinion.complaints();
    let [resolver, role] = &complaints[..] else { panic!("{complaints:#?}") };
    let mend = "name the site's nameservers in `servers` under `[dns]`";
    resolver.says("resolver", &format!("answers {} for puppet.lab.test, as /etc/hosts has it", here.ip()), mend);
    assert_eq!((role.group.as_str(), role.check.as_str()), ("role compile", "loop"));
    role.says(&format!("puppet.lab.test:{}", here.port()), "is puppet-shim's own listener", mend);
}

#[tokio::test]
async fn a_ca_bundle_that_cannot_be_used() {
    let patient = healthy(Kind::Scripted).await;
    let path = patient.file("ca.pem");
    fs::write(&path, "no certificate\n").unwrap();
    let path = path.display().to_string();
    let found = problem(&patient).await;
    found.says("CA's certificates", &format!("{path} has no certificate in it"), &format!("`rm {path}`"));

    // One that nobody can read, root included.
    fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("ca.pem", &path).unwrap();
    problem(&patient).await.says("CA's certificates", "cannot be read: ", &format!("`ls -l {path}`"));
}

#[tokio::test]
async fn a_ca_role_on_a_server_without_a_ca() {
    let patient = healthy(Kind::Scripted).await;
    let compile = &patient.compile[0];
    let port = compile.address().port();
    patient.dns.set_srv(&owner("-ca"), TTL, &[(0, 0, port, compile.name())]).await;
    let found = problem(&patient).await;
    assert_eq!((found.group.as_str(), found.check.as_str()), ("role ca", "ca"));
    found.says(&format!("compile1.lab.test:{port}"), "runs no CA", "take it out of _x-puppet-ca._tcp.lab.test");
}

#[tokio::test]
async fn a_listener_that_the_socket_unit_has_not() {
    let listen = loopback::free_ports::<2>();
    let mut patient = Patient::without_daemon(listen.to_vec()).await;
    patient.run().await;
    let show = |held: &[SocketAddr]| {
        let held: Vec<_> = held.iter().map(|address| format!("Listen={address} (Stream)\n")).collect();
        let held = held.concat();
        patient.systemd(&format!(
            "Id=puppet-shim.socket\nLoadState=loaded\nActiveState=active\nUnitFileState=enabled\n{held}
Id=puppet-shim.service\nLoadState=loaded\nActiveState=active\nUnitFileState=disabled\n"
        ));
    };
    show(&listen);
    patient.ask().await.is_healthy();
    show(&listen[..1]);
    let found = problem(&patient).await;
    let missing = listen[1].to_string();
    found.says(&missing, "not in puppet-shim.socket", &format!("`ListenStream={missing}`"));
}

// === what else it has to get right ===

/// The daemon passes over what it can, so an agent's run succeeds.
#[tokio::test]
async fn what_the_daemon_passes_over_is_a_warning() {
    let mut patient = healthy(Kind::Scripted).await;
    let names = |own: &str| [&[fqdn(own)], &official_names()[..]].concat();
    let mut down = patient.compiler("compile2", patient.pki.identity(&names("compile2"))).await;
    let misnamed = patient.compiler("compile3", patient.pki.identity(&[fqdn("compile3")])).await;
    down.stop().await;
    patient.compile.extend([down, misnamed]);
    patient.announce().await;
    let opinion = patient.ask().await;
    assert_eq!((opinion.code, &opinion.json["problems"]), (Some(0), &0.into()), "{:#?}", opinion.complaints());
    let of_compile = |opinion: &Opinion| -> Vec<String> {
        let complaints = opinion.complaints().into_iter().filter(|found| found.group == "role compile");
        complaints.map(|found| format!("{} {}", found.verdict, found.check)).collect()
    };
    assert_eq!(of_compile(&opinion), ["warning server", "warning certificate-name"]);

    // Unless it is told not to look at certificates.
    patient.configure("certificates.check = false\n");
    assert_eq!(of_compile(&patient.ask().await), ["warning server", "problem certificate-name"]);
}

/// What the agent asks its CA for is not answered by a compiler.
#[tokio::test]
async fn an_agent_that_asks_a_compiler_for_its_certificate() {
    let mut patient = healthy(Kind::Scripted).await;
    patient.settings.insert("ca_server", fqdn("puppet"));
    let found = problem(&patient).await;
    assert_eq!((found.group.as_str(), found.check.as_str()), ("role compile", "ca"));
    let server = format!("compile1.lab.test:{}", patient.compile[0].address().port());
    found.says(&server, "runs no CA", "`puppet config set ca_server puppetca.lab.test --section main`");
}

#[tokio::test]
async fn a_name_that_no_role_has() {
    let mut patient = healthy(Kind::Scripted).await;
    patient.settings.insert("server", "primary.corp.example".into());
    let found = problem(&patient).await;
    assert_eq!((found.group.as_str(), found.check.as_str()), ("agent", "name"));
    found.says(
        "server",
        "no name of any role",
        "`names = [\"puppet\", \"primary.corp.example\"]` under `[role.compile]`",
    );
}

/// A host before its first run is no ill one.
#[tokio::test]
async fn a_new_host() {
    let patient = healthy(Kind::Scripted).await;
    fs::remove_file(patient.file("ca.pem")).unwrap();
    fs::remove_file(patient.file("host.pem")).unwrap();
    let opinion = patient.ask().await;
    assert_eq!((opinion.code, &opinion.json["warnings"]), (Some(0), &2.into()), "{:#?}", opinion.complaints());
    let complaints = opinion.complaints();
    complaints[0].says("CA's certificates", "the first run brings it", "puppet config set ca_fingerprint");
    complaints[1].says(
        "agent01.lab.test",
        "the first run asks for it",
        "puppetserver ca sign --certname agent01.lab.test",
    );
}

#[tokio::test]
async fn a_configuration_with_an_error_and_a_daemon_with_an_older_one() {
    let patient = healthy(Kind::Scripted).await;
    patient.configure("idle_exit = \"5min\"\n");
    let opinion = patient.ask().await;
    let complaints = opinion.complaints();
    assert_eq!((opinion.code, complaints.len()), (Some(0), 1), "{complaints:#?}");
    complaints[0].says("daemon", "runs by an older configuration", "`systemctl reload puppet-shim`");

    patient.configure("idle_exit = 5\n");
    let opinion = patient.ask().await;
    assert_eq!((opinion.code, opinion.complaints().len()), (Some(78), 1), "{:#?}", opinion.complaints());
    assert!(opinion.complaints()[0].what.contains("the daemon goes by the last accepted configuration"));
}

/// Puppet, DNS or servers: it takes no longer than it says.
#[tokio::test]
async fn whatever_hangs_it_ends() {
    let mut patient = healthy(Kind::Scripted).await;
    let hole = BlackHole::new();
    patient.dns.set_addresses("hole.lab.test", TTL, &[hole.address().ip()]).await;
    patient.dns.set_srv(&owner(""), TTL, &[(0, 0, hole.address().port(), "hole.lab.test")]).await;
    patient.ca.set_fault(Some(support::fault::Fault::Mute));
    patient.puppet = Kind::Hanging;
    let began = Instant::now();
    let opinion = patient.ask().await;
    assert!(began.elapsed() < Duration::from_secs(17), "{:?}", began.elapsed());
    let complaints = opinion.complaints();
    let is_told = |subject: &str, what: &str| {
        // On a machine that is busy its time may be up before the server's is.
        let told = |f: &Finding| f.what.contains(what) || f.what.contains("has not been heard out after 15 s");
        assert!(complaints.iter().any(|f| f.subject.contains(subject) && told(f)), "{complaints:#?}");
    };
    is_told("puppet", "has not printed its settings within 11 s");
    is_told("hole.lab.test", "timed out");
    is_told("ca.lab.test", "says nothing for 3 s");
    assert_eq!(opinion.code, Some(1));
}

/// A process of the user `nobody` that listens. Dropping it kills it.
struct Squatter(Child);

impl Squatter {
    fn on(address: SocketAddr) -> Self {
        let script = "
import socket, sys
listener = socket.create_server((sys.argv[1], int(sys.argv[2])))
print('ready', flush=True)
sys.stdin.read()
";
        let mut command = Command::new("setpriv");
        command.args(["--reuid=nobody", "--clear-groups", "/usr/bin/python3", "-c", script]);
        command.args([address.ip().to_string(), address.port().to_string()]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        Squatter(child)
    }
}

impl Drop for Squatter {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
