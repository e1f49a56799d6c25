//! Which of several good servers is taken: by weight, by the host, by their load, and by what the site prefers.

// A test ends where its set-up fails.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use puppet_shim::config::{Balance, Config};
use support::client::{Agent, Way};
use support::fault::Fault;
use support::pki::{ClientCertificate, Pki};
use support::server::Server;
use support::shim::{Bare, role};

const COMPILE: &str = "_x-puppet._tcp.lab.test";

/// Compilers of one priority, and an agent whose runs are one connection each.
struct Site {
    bare: Bare,
    servers: Vec<Server>,
    agent: Agent,
}

impl Site {
    async fn start(count: usize, adjust: impl FnOnce(&mut Config)) -> Self {
        let pki = Arc::new(Pki::new());
        let bare = Bare::with(|config| {
            config.timeouts.pin = Duration::ZERO;
            adjust(config);
        })
        .await;
        let (mut servers, mut records) = (Vec::new(), Vec::new());
        for n in 0..count {
            let names = [format!("compiler{n}.lab.test"), "puppet.lab.test".to_owned()];
            // Real ones take a client without a certificate, and show it what is public.
            let server = Server::start_asking(&pki, "compile", &names, ClientCertificate::Optional).await;
            bare.dns.set_addresses(server.name(), 60, &[server.address().ip()]).await;
            servers.push(server);
        }
        for server in &servers {
            records.push((0, 10, server.address().port(), server.name()));
        }
        bare.dns.set_srv(COMPILE, 60, &records).await;
        let agent = Agent::new(Way::Proxy(bare.shim()), &pki.trust(), None);
        Site { bare, servers, agent }
    }

    /// Who answers how many of so many connections.
    async fn answers(&self, connections: usize) -> HashMap<String, usize> {
        let mut answers = HashMap::new();
        for _ in 0..connections {
            let answer = self.agent.get("puppet.lab.test", 8140, "/").await.unwrap();
            *answers.entry(answer.witness.server).or_default() += 1;
            self.bare.journal.take(1).await;
        }
        answers
    }

    /// How often a server was asked how busy it is.
    fn asked(&self, n: usize) -> usize {
        self.servers[n].seen().iter().filter(|seen| seen.path.starts_with("/status/")).count()
    }
}

#[tokio::test]
async fn by_weight_everybody_gets_some() {
    let site = Site::start(2, |_| ()).await;
    // The chance of one server alone is 2^-39.
    assert_eq!(site.answers(40).await.len(), 2);
}

#[tokio::test]
async fn by_hash_a_host_keeps_its_server() {
    let mut chosen = HashMap::new();
    for n in 0..8 {
        let site = Site::start(3, |config| {
            config.certname = Some(format!("agent{n}.lab.test"));
            role(config, "compile").balance = Balance::Hash;
        })
        .await;
        let answers = site.answers(5).await;
        assert_eq!(answers.len(), 1, "{answers:?}");
        *chosen.entry(answers.into_keys().next().unwrap()).or_insert(0) += 1;
    }
    assert!(chosen.len() > 1, "eight hosts, and all chose {chosen:?}");
}

#[tokio::test]
async fn by_load_the_freer_one_is_taken() {
    let site = Site::start(2, |config| role(config, "compile").balance = Balance::LeastLoaded).await;
    site.servers[0].set_load(Some((0, 7)));
    site.servers[1].set_load(Some((3, 0)));
    let answers = site.answers(10).await;
    assert_eq!(answers, HashMap::from([("compiler1.lab.test".into(), 10)]));
    assert_eq!((site.asked(0), site.asked(1)), (10, 10));
    // Times change.
    site.servers[0].set_load(Some((4, 0)));
    assert_eq!(site.answers(5).await, HashMap::from([("compiler0.lab.test".into(), 5)]));
}

#[tokio::test]
async fn the_load_stands_in_the_log() {
    let site = Site::start(2, |config| role(config, "compile").balance = Balance::LeastLoaded).await;
    site.servers[0].set_load(Some((2, 1)));
    site.agent.get("puppet.lab.test", 8140, "/").await.unwrap();
    let lines = site.bare.journal.take(1).await;
    let load = lines[0].get("load").unwrap();
    for part in [
        format!("compiler0.lab.test:{} 2 free, 1 waiting", site.servers[0].address().port()),
        format!("compiler1.lab.test:{} does not tell", site.servers[1].address().port()),
    ] {
        assert!(load.contains(&part), "{part} is not in {load}");
    }
}

/// Only when a run begins.
#[tokio::test]
async fn the_load_is_not_asked_for_within_a_run() {
    let site = Site::start(2, |config| {
        role(config, "compile").balance = Balance::LeastLoaded;
        config.timeouts.pin = Duration::from_secs(300);
    })
    .await;
    for server in &site.servers {
        server.set_load(Some((1, 0)));
    }
    assert_eq!(site.answers(6).await.len(), 1);
    assert_eq!((site.asked(0), site.asked(1)), (1, 1));
}

/// A server that hangs costs its first run the wait, and no other.
#[tokio::test]
async fn who_is_silent_is_not_asked_again() {
    let site = Site::start(2, |config| role(config, "compile").balance = Balance::LeastLoaded).await;
    site.servers[1].set_load(Some((1, 0)));
    site.servers[0].set_fault(Some(Fault::Mute));
    // It is drawn first sooner or later: not to be is a chance of 2^-20.
    assert_eq!(site.answers(20).await, HashMap::from([("compiler1.lab.test".into(), 20)]));
    let notes = site.bare.journal.notes();
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert_eq!((notes[0].get("state"), notes[0].get("cause")), (Some("slow"), Some("did not say how busy it is")));
}

/// Then it is as if it were not set.
#[tokio::test]
async fn nobody_says_how_busy_it_is() {
    let site = Site::start(2, |config| role(config, "compile").balance = Balance::LeastLoaded).await;
    assert_eq!(site.answers(40).await.len(), 2);
}

#[tokio::test]
async fn what_the_site_prefers_goes_first() {
    let site = Site::start(3, |config| {
        role(config, "compile").prefer = vec!["compiler2.lab.test".parse().unwrap()];
    })
    .await;
    assert_eq!(site.answers(10).await, HashMap::from([("compiler2.lab.test".into(), 10)]));
}
