//! Where a role's servers come from: its own SRV records, those of compile, the static list, the name itself, in this
//! order.
//!
//! Servers without TLS that say their name, and CONNECT: what comes through the tunnel is who was reached. The clock is
//! slow: no question is asked twice because the machine took long over the first.

// A test ends where its set-up fails.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::net::SocketAddr;
use std::time::Duration;

use hickory_server::proto::rr::RecordType;
use puppet_shim::config::{Config, StaticServer};
use puppet_shim::host::Host;
use support::clock::let_time_pass;
use support::dns::DnsFault;
use support::hello::with_sni;
use support::loopback;
use support::raw;
use support::shim::{Bare, role};
use support::tcp::{Answer, Named, ask, refusing};

const CA: &str = "_x-puppet-ca._tcp.lab.test";
const COMPILE: &str = "_x-puppet._tcp.lab.test";
const FILES: &str = "_x-puppet-fileserver._tcp.lab.test";
const REPORT: &str = "_x-puppet-report._tcp.lab.test";

/// Gives that role's record to this server alone, under a name of its own.
async fn announce(bare: &Bare, owner: &str, server: &Named) {
    let address = server.address();
    let target = format!("server-{}.lab.test", address.port());
    bare.dns.set_addresses(&target, 60, &[address.ip()]).await;
    bare.dns.set_srv(owner, 60, &[(0, 0, address.port(), &target)]).await;
}

fn static_server(address: SocketAddr) -> StaticServer {
    StaticServer { host: Host::Ip(address.ip()), port: Some(address.port()) }
}

fn reached(name: &str) -> Answer {
    Answer::Tunnel(name.into())
}

/// The `source` of the one log line since the last call.
async fn source(bare: &Bare) -> String {
    let lines = bare.journal.take(1).await;
    assert_eq!(lines.len(), 1);
    lines[0].get("source").unwrap_or_default().to_owned()
}

/// DNS that is ill does not mean that there is no record: a CSR must not go to a compiler for it, nor a server be
/// refused as foreign.
#[tokio::test]
async fn an_ill_dns_is_no_reason_to_guess() {
    let (bare, compiler) = (Bare::slow(|_| ()).await, Named::start("compiler").await);
    bare.dns.set_addresses("puppet.lab.test", 60, &[compiler.address().ip()]).await;
    bare.dns.set_fault(CA, Some(DnsFault::ServFail));
    for asked in ["puppet:8141", "compile3.lab.test:8140"] {
        let Answer::Refused(503, reason) = ask(bare.shim(), asked).await else { panic!("{asked}: no 503") };
        assert!(reason.contains("SERVFAIL") && !reason.contains("foreign"), "{reason}");
        let line = bare.journal.take(1).await.remove(0);
        assert_eq!((line.get("status"), line.get("side")), (Some("503"), Some("discovery")));
    }
    assert_eq!(compiler.accepted(), 0);
}

/// As where `_x-puppet-ca` of each subdomain leads to the records of the one domain that has a CA.
#[tokio::test]
async fn records_behind_an_alias_count() {
    let (bare, server) = (Bare::slow(|_| ()).await, Named::start("behind").await);
    bare.dns.set_alias(CA, 60, "alias.lab.test").await;
    bare.dns.set_alias("alias.lab.test", 60, "_x-puppet-ca._tcp.other.test").await;
    announce(&bare, "_x-puppet-ca._tcp.other.test", &server).await;
    assert_eq!(ask(bare.shim(), "puppetca:8140").await, reached("behind"));
    assert_eq!(source(&bare).await, format!("srv {CA}"));

    // A loop ends, and is no record.
    let looping = Bare::slow(|_| ()).await;
    looping.dns.set_alias(CA, 60, "alias.lab.test").await;
    looping.dns.set_alias("alias.lab.test", 60, CA).await;
    let Answer::Refused(502, reason) = ask(looping.shim(), "puppetca:8140").await else { panic!("reached somebody") };
    assert!(reason.contains("puppetca:8140 has no address in DNS"), "{reason}");
}

#[tokio::test]
async fn own_records_go_before_everything_else() {
    let (own, compile, written) =
        (Named::start("own").await, Named::start("compile").await, Named::start("static").await);
    let list = vec![static_server(written.address())];
    let bare = Bare::slow(|config| role(config, "files").servers = list).await;
    announce(&bare, FILES, &own).await;
    announce(&bare, COMPILE, &compile).await;
    assert_eq!(ask(bare.shim(), "puppetfiles:8140").await, reached("own"));
    assert_eq!(source(&bare).await, format!("srv {FILES}"));
    assert_eq!((compile.accepted(), written.accepted()), (0, 0));
}

/// The SRV record's port is dialled, whatever port the agent asked for.
#[tokio::test]
async fn the_records_port_is_dialled() {
    let own = Named::start("own").await;
    let bare = Bare::slow(|_| ()).await;
    announce(&bare, CA, &own).await;
    for port in [8140, 8141, 443] {
        assert_eq!(ask(bare.shim(), &format!("puppetca:{port}")).await, reached("own"));
    }
    assert_eq!(own.accepted(), 3);
}

#[tokio::test]
async fn files_and_report_fall_back_to_compile_and_the_ca_never_does() {
    let compile = Named::start("compile").await;
    let bare = Bare::slow(|_| ()).await;
    announce(&bare, COMPILE, &compile).await;
    for name in ["puppetfiles:8140", "puppetreport:8140", "puppet:8140"] {
        assert_eq!(ask(bare.shim(), name).await, reached("compile"), "{name}");
        let fallback = if name.starts_with("puppet:") { "" } else { "fallback " };
        assert_eq!(source(&bare).await, format!("{fallback}srv {COMPILE}"));
    }
    let accepted = compile.accepted();
    let Answer::Refused(502, reason) = ask(bare.shim(), "puppetca:8140").await else { panic!("reached somebody") };
    assert_eq!(
        reason,
        "no ca server reachable: puppetca:8140 has no address in DNS; no SRV record _x-puppet-ca._tcp.lab.test"
    );
    assert_eq!(compile.accepted(), accepted);
    assert_eq!(source(&bare).await, "the name itself");
    assert!(bare.dns.queries(FILES, RecordType::SRV) == 1 && bare.dns.queries(REPORT, RecordType::SRV) == 1);
}

/// Where every compiler is a CA, an admin may say so.
#[tokio::test]
async fn the_ca_falls_back_when_told_to() {
    let compile = Named::start("compile").await;
    let bare = Bare::slow(|config| role(config, "ca").fallback = true).await;
    announce(&bare, COMPILE, &compile).await;
    assert_eq!(ask(bare.shim(), "puppetca:8140").await, reached("compile"));
    assert_eq!(source(&bare).await, format!("fallback srv {COMPILE}"));
}

/// `.` as the target means "not offered here" (RFC 2782).
#[tokio::test]
async fn a_target_of_nothing_is_no_record() {
    let (compile, written) = (Named::start("compile").await, Named::start("static").await);
    let list = vec![static_server(written.address())];
    let bare = Bare::slow(|config| role(config, "ca").servers = list).await;
    announce(&bare, COMPILE, &compile).await;
    for owner in [CA, FILES] {
        bare.dns.set_srv(owner, 60, &[(0, 0, 0, ".")]).await;
    }
    assert_eq!(ask(bare.shim(), "puppetfiles:8140").await, reached("compile"));
    assert_eq!(ask(bare.shim(), "puppetca:8140").await, reached("static"));
}

#[tokio::test]
async fn priorities_go_in_order() {
    let (first, second) = (Named::start("first").await, Named::start("second").await);
    let bare = Bare::slow(|_| ()).await;
    let gone = refusing();
    for (name, ip) in [("a", first.address().ip()), ("b", second.address().ip()), ("c", gone.ip())] {
        bare.dns.set_addresses(&format!("{name}.lab.test"), 60, &[ip]).await;
    }
    let records = [
        (30, 0, second.address().port(), "b.lab.test"),
        (20, 0, first.address().port(), "a.lab.test"),
        (10, 0, gone.port(), "c.lab.test"),
    ];
    bare.dns.set_srv(COMPILE, 60, &records).await;
    assert_eq!(ask(bare.shim(), "puppet:8140").await, reached("first"));
    let lines = bare.journal.take(1).await;
    let tried = format!(
        "c.lab.test:{} ({}) refused; a.lab.test:{} ({}) answered",
        gone.port(),
        gone.ip(),
        first.address().port(),
        first.address().ip()
    );
    assert_eq!(lines[0].get("tried"), Some(tried.as_str()));
}

/// In the order written, each with its own port or the requested one.
#[tokio::test]
async fn the_static_list() {
    let second = Named::start("second").await;
    let mut third = Named::start("third").await;
    let (gone, port) = (refusing(), second.address().port());
    let list = |config: &mut Config| {
        role(config, "ca").servers = vec![
            static_server(gone),
            StaticServer { host: Host::Ip(second.address().ip()), port: None },
            static_server(third.address()),
        ];
    };
    let bare = Bare::slow(list).await;
    // The second has no port of its own: the requested one.
    assert_eq!(ask(bare.shim(), &format!("puppetca:{port}")).await, reached("second"));
    let lines = bare.journal.take(1).await;
    assert_eq!(lines[0].get("source"), Some("static"));
    assert_eq!(
        lines[0].get("tried"),
        Some(format!("{gone} refused; {} answered", second.address()).as_str()),
        "an address is said once"
    );
    assert_eq!(ask(bare.shim(), &format!("puppetca:{}", refusing().port())).await, reached("third"));
    // By its name, as by its address.
    third = Named::start("by name").await;
    let address = third.address();
    let named = Bare::slow(|config| {
        role(config, "ca").servers =
            vec![StaticServer { host: "server.lab.test".parse().unwrap(), port: Some(address.port()) }];
    })
    .await;
    named.dns.set_addresses("server.lab.test", 60, &[address.ip()]).await;
    assert_eq!(ask(named.shim(), "puppetca:8140").await, reached("by name"));
}

/// A site that has never heard of SRV works as before, with the requested port, and failover over the name's addresses.
#[tokio::test]
async fn the_name_itself_where_there_is_nothing_else() {
    let server = Named::start("itself").await;
    let address = server.address();
    let bare = Bare::slow(|_| ()).await;
    bare.dns.set_addresses("puppet.lab.test", 60, &[loopback::any_port().ip(), address.ip()]).await;
    bare.dns.set_addresses("puppetca.lab.test", 60, &[address.ip()]).await;
    for name in ["puppet", "puppet.lab.test", "puppetca"] {
        assert_eq!(ask(bare.shim(), &format!("{name}:{}", address.port())).await, reached("itself"), "{name}");
        assert_eq!(source(&bare).await, "the name itself");
    }
}

#[tokio::test]
async fn the_name_itself_where_dns_fails_for_srv() {
    let server = Named::start("itself").await;
    let target = format!("puppetca:{}", server.address().port());
    for fault in [DnsFault::ServFail, DnsFault::Refused, DnsFault::Silent] {
        let bare = Bare::slow(|config| config.dns.timeout = Duration::from_millis(300)).await;
        bare.dns.set_addresses("puppetca.lab.test", 60, &[server.address().ip()]).await;
        bare.dns.set_fault(CA, Some(fault));
        assert_eq!(ask(bare.shim(), &target).await, reached("itself"), "{fault:?}");
        assert_eq!(source(&bare).await, "the name itself");
    }
}

#[tokio::test]
async fn the_last_answer_holds_while_dns_is_dead() {
    let server = Named::start("server").await;
    let mut bare = Bare::slow(|config| config.dns.timeout = Duration::from_millis(300)).await;
    announce(&bare, CA, &server).await;
    assert_eq!(ask(bare.shim(), "puppetca:8140").await, reached("server"));
    // Within the TTL nothing is asked.
    let_time_pass(Duration::from_secs(50)).await;
    assert_eq!(ask(bare.shim(), "puppetca:8140").await, reached("server"));
    assert_eq!(bare.dns.queries(CA, RecordType::SRV), 1);

    bare.dns.stop().await;
    // Two days: an outage, not a hiccup.
    let_time_pass(Duration::from_secs(2 * 24 * 3600)).await;
    assert_eq!(ask(bare.shim(), "puppetca:8140").await, reached("server"));
    bare.journal.take(2).await;

    // And ends with it: what DNS says now counts.
    let other = Named::start("other").await;
    announce(&bare, CA, &other).await;
    bare.dns.restart().await;
    let_time_pass(Duration::from_secs(61)).await;
    assert_eq!(ask(bare.shim(), "puppetca:8140").await, reached("other"));
}

/// DNS that says "none" is not dead.
#[tokio::test]
async fn records_that_were_removed_are_gone() {
    let (old, compile) = (Named::start("old").await, Named::start("compile").await);
    let bare = Bare::slow(|_| ()).await;
    announce(&bare, FILES, &old).await;
    announce(&bare, COMPILE, &compile).await;
    assert_eq!(ask(bare.shim(), "puppetfiles:8140").await, reached("old"));
    bare.dns.set_srv(FILES, 60, &[]).await;
    let_time_pass(Duration::from_secs(61)).await;
    assert_eq!(ask(bare.shim(), "puppetfiles:8140").await, reached("compile"));
}

/// As when a hosts file entry has found its way into DNS (systemd-resolved and dnsmasq answer from it).
#[tokio::test]
async fn a_target_that_is_the_shim_is_passed_over() {
    let server = Named::start("server").await;
    let bare = Bare::slow(|_| ()).await;
    let own = bare.shim();
    bare.dns.set_addresses("self.lab.test", 60, &[own.ip()]).await;
    bare.dns.set_addresses("other.lab.test", 60, &[server.address().ip()]).await;
    let records = [(0, 0, own.port(), "self.lab.test"), (1, 0, server.address().port(), "other.lab.test")];
    bare.dns.set_srv(CA, 60, &records).await;
    assert_eq!(ask(own, "puppetca:8140").await, reached("server"));
    let lines = bare.journal.take(1).await;
    assert_eq!(lines.len(), 1, "the shim has served itself");
    let tried = format!("self.lab.test:{} (127.0.0.1) leads back to puppet-shim; ", own.port());
    assert!(lines[0].get("tried").unwrap().starts_with(&tried), "{}", lines[0]);

    // With nobody else, the reason says so. 0.0.0.0 is this host, too.
    bare.dns.set_addresses("report-self.lab.test", 60, &["0.0.0.0".parse().unwrap()]).await;
    bare.dns.set_srv(REPORT, 60, &[(0, 0, own.port(), "report-self.lab.test")]).await;
    let Answer::Refused(502, reason) = ask(own, "puppetreport:8140").await else { panic!("reached somebody") };
    assert!(reason.ends_with("leads back to puppet-shim"), "{reason}");
}

/// Without a name there is nothing left to connect to: the log says what was looked for.
#[tokio::test]
async fn nothing_at_all() {
    let address = loopback::free_ports::<1>()[0];
    let bare = Bare::slow(|config| {
        config.listen = vec![address];
        role(config, "files").ports = vec![address.port()];
    })
    .await;
    let reply = raw::exchange(bare.shim(), &[&with_sni(None)]).await.unwrap();
    assert_eq!(reply, raw::Reply { bytes: vec![21, 3, 3, 0, 2, 2, 80], closed: true });
    let lines = bare.journal.take(1).await;
    let end = format!("no files server is known; no SRV record {FILES}; no SRV record {COMPILE}");
    assert_eq!(lines[0].get("end"), Some(end.as_str()));
    assert_eq!((lines[0].get("role"), lines[0].get("alert")), (Some("files"), Some("80")));
}
