//! A thousand connections at once, and half of the servers fail, each in its own way: nobody is lost.
//!
//! All come before anything is known of any server, and each stays open until the last has its answer. A role's
//! connections follow the first that has got through, so the crowd is one of many roles: to each of them the same
//! servers go by names of their own, and what one has found out the others do not know.
//!
//! Shim, DNS, servers and agents share one thread, and most of its time goes into their handshakes. That is the test's
//! doing, so the clock is slow, see [`support::clock`].

// A test ends where its set-up fails.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::sync::Arc;
use std::time::Duration;

use puppet_shim::config::{Balance, Config, RoleConfig};
use puppet_shim::role::Role;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use support::client::{Agent, Failure};
use support::clock::Slow;
use support::dns::Srv;
use support::lab::{TTL, fqdn};
use support::shim::any_port;
use support::site::{Ill, Mode, Site};
use tokio::sync::Barrier;
use tokio::time::{Instant, timeout};

/// Agents.
const CROWD: usize = 1000;
/// Their roles.
const ROLES: usize = 50;
/// Each connection is four sockets of this process, and eight more while it is undecided.
const DESCRIPTORS: u64 = 16 * 1024;
/// Longer than the shim's own budget.
const NEVER: Duration = Duration::from_secs(60);
/// Four of the servers are silent, and whoever meets all of them first has another one started after 1.75 s. Longer than
/// that takes only a question to DNS that got lost in the crowd.
const LONGEST: Duration = Duration::from_secs(5);

const ILLS: [Ill; 10] = [
    Ill::Refused,
    Ill::BlackHole,
    Ill::Mute,
    Ill::Reset,
    Ill::Eof,
    Ill::HalfClosed,
    Ill::Alert(40),
    Ill::Stuck,
    Ill::Drip,
    Ill::Unnamed,
];

fn role(n: usize) -> String {
    format!("role{n}")
}

fn configure(config: &mut Config) {
    config.roles.extend((0..ROLES).map(|n| RoleConfig {
        role: Role::new(&role(n)),
        names: vec![role(n)],
        ports: Vec::new(),
        srv: Some(format!("_{}._tcp", role(n))),
        fallback: false,
        servers: Vec::new(),
        balance: Balance::default(),
        prefer: Vec::new(),
        allow_targets: Vec::new(),
        allow_ports: Some(any_port()),
    }));
}

/// Makes all servers those of each role, in an order that is drawn for each connection.
async fn announce(site: &Site) {
    for n in 0..ROLES {
        let mut names = Vec::new();
        for (m, seat) in site.seats.iter().enumerate() {
            let name = fqdn(&format!("server{m}.{}", role(n)));
            site.dns.set_addresses(&name, TTL, &[seat.address().ip()]).await;
            names.push((name, seat.address().port()));
        }
        let records: Vec<Srv<'_>> = names.iter().map(|(name, port)| (0, 1, *port, name.as_str())).collect();
        site.dns.set_srv(&fqdn(&format!("_{}._tcp", role(n))), TTL, &records).await;
    }
}

fn raise_descriptor_limit() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_some_and(|current| current < DESCRIPTORS) {
        let limit = Rlimit { current: Some(DESCRIPTORS), maximum: maximum.map(|most| most.max(DESCRIPTORS)) };
        // Above the maximum only root gets.
        setrlimit(Resource::Nofile, limit)
            .unwrap_or_else(|error| panic!("{maximum:?} descriptors, `ulimit -Hn`: {error}"));
    }
}

/// One connection, open until all have their answer. Gives who answered.
async fn come(agent: Agent, host: String, all: Arc<Barrier>) -> Result<String, Failure> {
    let answer = async {
        let mut connection = agent.connect(&host, 8140).await?;
        let answer = connection.request("GET", "/puppet/v3/catalog/agent01.lab.test", b"").await?;
        Ok((connection, answer))
    };
    let result = answer.await;
    if let Err(failure) = &result {
        println!("{host}: {failure}");
    }
    all.wait().await;
    let (connection, answer) = result?;
    connection.close().await;
    assert_eq!(answer.response.status, 200);
    Ok(answer.witness.server)
}

#[tokio::test]
async fn nobody_of_a_crowd_is_lost() {
    raise_descriptor_limit();
    let names: Vec<_> = (0..ROLES).map(|n| fqdn(&role(n))).collect();
    let site = Site::start_for(&names, &[ILLS.map(Some), [None; ILLS.len()]].concat()).await;
    announce(&site).await;
    let shim = site.shim(true, configure).await;
    let all = Arc::new(Barrier::new(CROWD));
    let clock = Slow::start();
    let began = Instant::now();
    let come = |n: usize| come(site.agent(&shim, Mode::ALL[n % 2]), names[n / 2 % ROLES].clone(), all.clone());
    let coming: Vec<_> = (0..CROWD).map(|n| tokio::spawn(come(n))).collect();
    let mut answers = Vec::new();
    for one in coming {
        answers.push(timeout(NEVER, one).await.expect("it hangs").unwrap());
    }
    let took = began.elapsed();
    drop(clock);
    assert!(took < LONGEST, "the last of them took {took:?}");

    let lost: Vec<_> = answers.iter().filter_map(|answer| answer.as_ref().err()).collect();
    assert!(lost.is_empty(), "{} lost, the first: {}", lost.len(), lost[0]);
    let (ill, well) = site.seats.split_at(ILLS.len());
    assert!(answers.iter().flatten().all(|server| well.iter().any(|seat| seat.server.name() == server)));
    let lines = site.journal.take(CROWD).await;
    assert_eq!(lines.len(), CROWD);
    assert!(lines.iter().all(|line| line.get("message") == Some("carried")));
    // Each server that fails has been in the way of somebody.
    let tried: Vec<_> = lines.iter().map(|line| line.get("tried").unwrap()).collect();
    println!("{} tries in all", tried.iter().map(|tried| tried.split("; ").count()).sum::<usize>());
    for seat in ill {
        let its_own = format!(" ({}) ", seat.address().ip());
        let met = tried.iter().filter(|tried| tried.contains(&its_own)).count();
        println!("{met} have met {:?}", seat.ill.unwrap());
        assert!(met > 0, "nobody has met {:?}", seat.ill);
    }
}
