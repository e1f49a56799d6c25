//! What DNS may choose, and what not.
//!
//! Whoever can forge an answer could have every host of a fleet connect to where he likes. So a role's records may name
//! certain targets and ports only, and nothing leads to loopback unless that is allowed.

// A test ends where its set-up fails.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::time::Duration;

use puppet_shim::config::StaticServer;
use puppet_shim::host::Host;
use support::clock::let_time_pass;
use support::shim::{Bare, role};
use support::tcp::{Answer, Named, ask};

const CA: &str = "_x-puppet-ca._tcp.lab.test";

fn reached(name: &str) -> Answer {
    Answer::Tunnel(name.into())
}

/// Records for two servers, the first with the better priority.
async fn announce(bare: &Bare, first: &Named, second: &Named) {
    for (name, server) in [("first.evil.test", first), ("second.lab.test", second)] {
        bare.dns.set_addresses(name, 60, &[server.address().ip()]).await;
    }
    let (first, second) = (first.address().port(), second.address().port());
    bare.dns.set_srv(CA, 60, &[(0, 0, first, "first.evil.test"), (1, 0, second, "second.lab.test")]).await;
}

#[tokio::test]
async fn a_target_that_is_not_allowed_is_passed_over_and_told_once() {
    let (first, second) = (Named::start("first").await, Named::start("second").await);
    let bare = Bare::with(|config| role(config, "ca").allow_targets = vec!["*.lab.test".parse().unwrap()]).await;
    announce(&bare, &first, &second).await;
    for _ in 0..3 {
        assert_eq!(ask(bare.shim(), "puppetca:8140").await, reached("second"));
    }
    assert_eq!(first.accepted(), 0);
    let why = format!("first.evil.test:{} matches none of the role's allow_targets", first.address().port());
    for line in bare.journal.take(3).await {
        assert_eq!(line.get("dns"), Some(format!("{CA}: {why}").as_str()));
    }
    let told: Vec<_> =
        bare.journal.notes().into_iter().filter(|note| note.to_string().contains("passed over")).collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].to_string().contains(&why), "{}", told[0]);
}

#[tokio::test]
async fn a_port_that_is_not_allowed_is_passed_over() {
    let (first, second) = (Named::start("first").await, Named::start("second").await);
    let port = second.address().port();
    let bare = Bare::with(|config| role(config, "ca").allow_ports = Some(vec![port..=port])).await;
    announce(&bare, &first, &second).await;
    assert_eq!(ask(bare.shim(), "puppetca:8140").await, reached("second"));
    assert_eq!(first.accepted(), 0);

    // Nor is it what the requested name means, where it is asked for as a target.
    let Answer::Refused(403, _) = ask(bare.shim(), &format!("first.evil.test:{}", first.address().port())).await else {
        panic!("it is no target")
    };
}

/// Where nothing else is left, the reason says so.
#[tokio::test]
async fn records_of_which_none_may_be_used_are_none() {
    let (first, written) = (Named::start("first").await, Named::start("static").await);
    let bare = Bare::with(|config| role(config, "ca").allow_ports = None).await;
    announce(&bare, &first, &first).await;
    let Answer::Refused(502, reason) = ask(bare.shim(), "puppetca:8140").await else { panic!("reached somebody") };
    let why = "has a port that the role's allow_ports does not have";
    assert!(
        reason.contains(&format!(
            "; SRV {CA} names nothing that may be used: first.evil.test:{} {why}",
            first.address().port()
        )),
        "{reason}"
    );
    assert_eq!(first.accepted(), 0);

    let list = vec![StaticServer { host: Host::Ip(written.address().ip()), port: Some(written.address().port()) }];
    let bare = Bare::with(|config| {
        role(config, "ca").allow_targets = vec!["other.test".parse().unwrap()];
        // The admin's own word.
        role(config, "ca").servers = list;
    })
    .await;
    announce(&bare, &first, &first).await;
    assert_eq!(ask(bare.shim(), "puppetca:8140").await, reached("static"));
}

/// Each role has its own bounds, whoever's records it uses.
#[tokio::test]
async fn the_bounds_are_those_of_the_role_that_asks() {
    let server = Named::start("server").await;
    let bare = Bare::with(|config| role(config, "files").allow_targets = vec!["*.files.test".parse().unwrap()]).await;
    bare.dns.set_addresses("compile1.lab.test", 60, &[server.address().ip()]).await;
    let records = [(0, 0, server.address().port(), "compile1.lab.test")];
    bare.dns.set_srv("_x-puppet._tcp.lab.test", 60, &records).await;
    assert_eq!(ask(bare.shim(), "puppet:8140").await, reached("server"));
    assert_eq!(ask(bare.shim(), "puppetreport:8140").await, reached("server"));
    let Answer::Refused(502, reason) = ask(bare.shim(), "puppetfiles:8140").await else { panic!("reached somebody") };
    assert!(reason.contains("matches none of the role's allow_targets"), "{reason}");
}

/// By any address of this host, in either family; those elsewhere are used.
#[tokio::test]
async fn a_name_that_leads_to_loopback_is_refused() {
    let server = Named::start("server").await;
    let bare = Bare::slow(|config| config.dns.allow_loopback = false).await;
    let port = server.address().port();
    for ip in [server.address().ip(), "::ffff:127.0.0.1".parse().unwrap(), "0.0.0.0".parse().unwrap()] {
        let target = format!("a{}.lab.test", ip.to_string().replace([':', '.'], "-"));
        bare.dns.set_addresses(&target, 60, &[ip]).await;
        bare.dns.set_srv("_x-puppet-report._tcp.lab.test", 5, &[(0, 0, port, &target)]).await;
        let_time_pass(Duration::from_secs(5)).await;
        let Answer::Refused(502, reason) = ask(bare.shim(), "puppetreport:8140").await else { panic!("reached it") };
        let why = "which allow_loopback = true under [dns] would allow";
        assert!(
            reason.contains(&format!("{target}:{port} is on loopback by DNS (")) && reason.contains(why),
            "{reason}"
        );
    }
    // Nor does the requested name itself.
    bare.dns.set_addresses("puppetca.lab.test", 60, &[server.address().ip()]).await;
    let Answer::Refused(502, reason) = ask(bare.shim(), &format!("puppetca:{port}")).await else {
        panic!("reached it")
    };
    assert!(reason.contains("is on loopback by DNS"), "{reason}");
    assert_eq!(server.accepted(), 0);
}

/// A target that looks like an address is one.
#[tokio::test]
async fn a_target_that_is_an_address_of_this_host_is_refused() {
    let server = Named::start("server").await;
    let target = server.address().ip().to_string();
    let bare = Bare::with(|config| config.dns.allow_loopback = false).await;
    bare.dns.set_srv(CA, 60, &[(0, 0, server.address().port(), &target)]).await;
    let Answer::Refused(502, reason) = ask(bare.shim(), "puppetca:8140").await else { panic!("reached it") };
    assert!(reason.contains("is on loopback, which allow_loopback = true under [dns] would allow"), "{reason}");
    assert_eq!(server.accepted(), 0);
}
