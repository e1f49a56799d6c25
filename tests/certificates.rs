//! A server whose certificate lacks the name that the agent asks for is passed over: it is worse than a dead one, since
//! the agent does not go on to the next.
//!
//! The shim looks first, once, and without keeping anybody waiting where it can. The clock is slow: nobody is tried beside
//! another because the machine took long over a handshake.

// A test ends where its set-up fails.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use puppet_shim::config::Config;
use support::client::{Agent, Failure, Way};
use support::clock::let_time_pass;
use support::eventually;
use support::pki::Pki;
use support::server::Server;
use support::shim::Bare;

const COMPILE: &str = "_x-puppet._tcp.lab.test";
const PUPPET: &str = "puppet.lab.test";

/// Compilers with certificates for these names, and an agent that asks for `puppet.lab.test`.
struct Site {
    bare: Bare,
    pki: Arc<Pki>,
    servers: Vec<Server>,
}

impl Site {
    /// Each compiler is named after its certificate's first name.
    async fn with(certificates: &[&[&str]], adjust: impl FnOnce(&mut Config)) -> Self {
        let pki = Arc::new(Pki::new());
        let bare = Bare::slow(|config| {
            config.certificates.check = true;
            config.timeouts.pin = Duration::ZERO;
            adjust(config);
        })
        .await;
        let mut servers = Vec::new();
        for names in certificates {
            let names: Vec<_> = names.iter().map(|name| format!("{name}.lab.test")).collect();
            let server = Server::start(&pki, "compile", &names).await;
            bare.dns.set_addresses(&names[0], 60, &[server.address().ip()]).await;
            servers.push(server);
        }
        Site { bare, pki, servers }
    }

    async fn start(certificates: &[&[&str]]) -> Self {
        Self::with(certificates, |_| ()).await
    }

    /// Publishes some of them, with priority and weight.
    async fn publish(&self, records: &[(usize, u16, u16)]) {
        let records: Vec<_> = records
            .iter()
            .map(|(n, priority, weight)| {
                (*priority, *weight, self.servers[*n].address().port(), self.servers[*n].name())
            })
            .collect();
        self.bare.dns.set_srv(COMPILE, 5, &records).await;
    }

    fn agent(&self) -> Agent {
        let identity = self.pki.identity(&["agent01.lab.test"]);
        Agent::new(Way::Proxy(self.bare.shim()), &self.pki.trust(), Some(&identity))
    }

    /// Who answers the agent.
    async fn who(&self, agent: &Agent) -> String {
        let answer = agent.get(PUPPET, 8140, "/puppet/v3/node/agent01").await.expect("the agent noticed");
        answer.witness.server.trim_end_matches(".lab.test").to_owned()
    }

    /// The warnings about certificates so far.
    fn warnings(&self) -> Vec<String> {
        let notes = self.bare.journal.notes();
        notes.iter().map(ToString::to_string).filter(|note| note.starts_with("its certificate is not for")).collect()
    }
}

#[tokio::test]
async fn one_without_the_name_is_passed_over_and_said_once() {
    for alias in [false, true] {
        let site = Site::start(&[&["wrong", "other"], &["right", "puppet"]]).await;
        site.publish(&[(0, 0, 0), (1, 10, 0)]).await;
        let mut agent = site.agent();
        if alias {
            agent = agent.by(Way::Direct(site.bare.shim()));
        }
        assert_eq!(site.who(&agent).await, "right");
        let lines = site.bare.journal.take(1).await;
        let tried = lines[0].get("tried").unwrap();
        assert!(
            tried.contains("has a certificate for wrong.lab.test, other.lab.test, not for puppet.lab.test; "),
            "{tried}"
        );
        // From now on it is not even asked.
        let asked = site.servers[0].accepted();
        for _ in 0..3 {
            assert_eq!(site.who(&agent).await, "right");
        }
        assert!(site.bare.journal.take(3).await.iter().all(|line| !line.get("tried").unwrap().contains("wrong")));
        assert_eq!(site.servers[0].accepted(), asked);
        assert_eq!(site.servers[0].seen(), []);
        let warnings = site.warnings();
        let [warning] = warnings.as_slice() else { panic!("{warnings:?}") };
        for part in
            ["server=wrong.lab.test:", "asked=puppet.lab.test", "wrong.lab.test, other.lab.test", "dns_alt_names"]
        {
            assert!(warning.contains(part), "{part} is not in {warning}");
        }
    }
}

/// The agent's own check decides, and its own words tell: nothing is refused on a suspicion.
#[tokio::test]
async fn if_all_lack_it_the_agent_is_let_through() {
    let site = Site::start(&[&["one"], &["two"]]).await;
    site.publish(&[(0, 0, 0), (1, 10, 0)]).await;
    for _ in 0..2 {
        let error = site.agent().get(PUPPET, 8140, "/").await.unwrap_err();
        assert!(matches!(error, Failure::Tls(_)), "{error}");
        assert!(error.to_string().contains("not valid for name"), "{error}");
    }
    assert_eq!(site.warnings().len(), 2);
}

/// All others fail at once, by what is known of their addresses: it is still tried.
#[tokio::test]
async fn if_nothing_else_has_an_address_the_agent_is_let_through() {
    let site = Site::start(&[&["nowhere", "puppet"], &["wrong"]]).await;
    site.bare.dns.set_addresses("nowhere.lab.test", 60, &[]).await;
    site.publish(&[(0, 0, 0), (1, 10, 0)]).await;
    for _ in 0..3 {
        let error = site.agent().get(PUPPET, 8140, "/").await.unwrap_err();
        assert!(matches!(error, Failure::Tls(_)), "{error}");
    }
}

#[tokio::test]
async fn where_there_is_no_other_it_is_looked_at_beside() {
    let site = Site::start(&[&["only"]]).await;
    site.publish(&[(0, 0, 0)]).await;
    let error = site.agent().get(PUPPET, 8140, "/").await.unwrap_err();
    assert!(matches!(error, Failure::Tls(_)), "{error}");
    eventually("the warning is there", || site.warnings().len() == 1).await;
}

/// Nobody waits for the look at a new server, while another one of its priority is known to be good.
#[tokio::test]
async fn a_new_server_is_looked_at_beside() {
    let site = Site::start(&[&["old", "puppet"], &["gone"], &["new", "puppet"]]).await;
    site.publish(&[(0, 0, 0), (1, 1, 0)]).await;
    assert_eq!(site.who(&site.agent()).await, "old");
    let before = site.servers[0].accepted();
    site.publish(&[(0, 0, 0), (2, 0, 65535)]).await;
    let_time_pass(Duration::from_secs(6)).await;
    // Its weight makes the new one first nearly always.
    assert_eq!(site.who(&site.agent()).await, "old");
    assert_eq!(site.servers[0].accepted(), before + 1, "the old one was asked again");
    eventually("the new one has been looked at", || site.servers[2].accepted() == 1).await;
    assert_eq!(site.servers[2].seen(), []);
    let mut who = Vec::new();
    for _ in 0..5 {
        tokio::task::yield_now().await;
        who.push(site.who(&site.agent()).await);
    }
    assert!(who.iter().filter(|who| *who == "new").count() >= 3, "{who:?}");
}

#[tokio::test]
async fn a_crowd_asks_once() {
    let site = Site::start(&[&["one", "puppet"], &["two", "puppet"]]).await;
    site.publish(&[(0, 0, 0), (1, 10, 0)]).await;
    let agent = site.agent();
    let all = join_all((0..20).map(|_| site.who(&agent))).await;
    assert!(all.iter().all(|who| who == "one"), "{all:?}");
    assert_eq!(site.servers[0].accepted(), 20 + 1);
    assert_eq!(site.servers[1].accepted(), 0);
}

#[tokio::test]
async fn no_look_where_none_is_wanted() {
    let site = Site::with(&[&["wrong"], &["right", "puppet"]], |config| config.certificates.check = false).await;
    site.publish(&[(0, 0, 0), (1, 10, 0)]).await;
    assert!(matches!(site.agent().get(PUPPET, 8140, "/").await, Err(Failure::Tls(_))));
    assert_eq!((site.servers[0].accepted(), site.servers[1].accepted()), (1, 0));
}
