//! What a server that goes wrong costs the agent, by a real clock.
//!
//! One that says no costs less than anybody notices, the first time too; a silent one a third of a second, once. Each
//! first time is that of a new shim, which knows nothing; runs are not kept with their server, so that a second
//! connection is fast only by what the shim has learned from the first.
//!
//! Shim, servers and agent share one thread, and the machine does other things as well. What that thread has waited for
//! a processor is the machine's doing and is taken off. What remains of it, such as caches gone cold, can only add to a
//! time, and hits what goes wrong as it hits what does not: so the least of several times counts, of either kind,
//! measured in turns, and where none of them was undisturbed some more. A wait of the shim's own is in every one of
//! them, and no number of trials hides it. What well servers take is measured beside it, and is what any other is
//! compared with: no bound is one of the machine's speed.

// A test ends where its set-up fails.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::time::Duration;

use support::shim::Shim;
use support::site::{ASKED, Ill, Mode, Site};
use tokio::time::Instant;

/// What a server that says no may cost, and any that is known already. On a slow machine that is half as much as a well one
/// takes.
const SOON: Duration = Duration::from_millis(10);
/// What a silent server may cost the first time: the shim's 250 ms, and what there is to be done around them.
const ONCE: Duration = Duration::from_millis(300);
/// Trials at least and at most.
const ROUNDS: (usize, usize) = (6, 60);
/// The same for those that are waited for.
const SLOW_ROUNDS: (usize, usize) = (3, 20);

/// How long something took.
struct Time {
    /// In all.
    whole: Duration,
    /// Without what this thread has waited for a processor.
    own: Duration,
}

/// Times of one kind, of which the least counts.
#[derive(Debug, Default)]
struct Times(Vec<Duration>);

impl Times {
    fn least(&self) -> Duration {
        self.0.iter().min().copied().unwrap_or(Duration::MAX)
    }

    /// What may be called as fast as this.
    fn soon(&self) -> Duration {
        self.least() + SOON.max(self.least() / 2)
    }
}

/// How long this thread has been ready to run and has not run, so far (Linux, `Documentation/scheduler/sched-stats.rst`).
fn kept_waiting() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    Duration::from_nanos(stat.split(' ').nth(1).map_or(0, |waited| waited.parse().unwrap()))
}

/// The time until an agent has its TLS session. A well server must be behind it, the last of all.
async fn time(site: &Site, shim: &Shim, mode: Mode) -> Time {
    let agent = site.agent(shim, mode);
    let began = Instant::now();
    let before = kept_waiting();
    let mut connection = agent.connect(ASKED, 8140).await.unwrap();
    let waited = kept_waiting().saturating_sub(before);
    let whole = began.elapsed();
    let time = Time { whole, own: whole.saturating_sub(waited) };
    let answer = connection.request("GET", "/puppet/v3/catalog/agent01.lab.test", b"").await.unwrap();
    assert_eq!(answer.witness.server, site.seats.last().unwrap().server.name());
    connection.close().await;
    time
}

/// A shim that knows nothing and keeps no run with its server. Its servers: the `first`, if any, and a well one.
async fn shim(site: &Site, first: Option<usize>, check: bool) -> Shim {
    let last = site.seats.len() - 1;
    // Two of them also where both are well: a single one is not looked at beforehand.
    site.announce(&[first.unwrap_or(last), last - usize::from(first.is_none())]).await;
    site.shim(check, |config| config.timeouts.pin = Duration::ZERO).await
}

/// Servers that go wrong, one of each kind, and two that do not.
async fn site(ills: &[Ill]) -> Site {
    let mut seats: Vec<_> = ills.iter().copied().map(Some).collect();
    seats.extend([None, None]);
    Site::start(&seats).await
}

async fn no_costs_nothing(check: bool) {
    let ills = [Ill::Refused, Ill::Reset, Ill::Eof, Ill::HalfClosed, Ill::Alert(40)];
    let site = site(&ills).await;
    for mode in Mode::ALL {
        let (mut well, mut ill) = (Times::default(), [(); 5].map(|()| Times::default()));
        for round in 1.. {
            well.0.push(time(&site, &shim(&site, None, check).await, mode).await.own);
            for (first, times) in ill.iter_mut().enumerate() {
                times.0.push(time(&site, &shim(&site, Some(first), check).await, mode).await.own);
            }
            if round >= ROUNDS.0 && ill.iter().all(|ill| ill.least() < well.soon()) {
                break;
            }
            assert!(round < ROUNDS.1, "{mode:?}: {ills:?} take {ill:#?}, a well one {well:#?}");
        }
        let least = ill.map(|ill| ill.least());
        println!("{mode:?}: {ills:?} take {least:?}, a well one {:?}", well.least());
    }
}

#[tokio::test]
async fn a_server_that_says_no_costs_nothing() {
    no_costs_nothing(false).await;
}

#[tokio::test]
async fn a_server_that_says_no_when_looked_at_costs_nothing() {
    no_costs_nothing(true).await;
}

async fn silence_is_waited_for_once(ills: &[Ill], check: bool) {
    let site = site(ills).await;
    for mode in Mode::ALL {
        let (mut new, mut well) = (Times::default(), Times::default());
        let mut ill: Vec<_> = ills.iter().map(|ill| (ill, Times::default(), Times::default())).collect();
        for round in 1.. {
            let known = shim(&site, None, check).await;
            new.0.push(time(&site, &known, mode).await.whole);
            well.0.push(time(&site, &known, mode).await.own);
            for (first, (_, once, then)) in ill.iter_mut().enumerate() {
                let shim = shim(&site, Some(first), check).await;
                // The shim waits for the server while this thread waits for a processor.
                once.0.push(time(&site, &shim, mode).await.whole);
                then.0.push(time(&site, &shim, mode).await.own);
            }
            let is_soon =
                |(_, once, then): &(&Ill, Times, Times)| once.least() < new.soon() + ONCE && then.least() < well.soon();
            if round >= SLOW_ROUNDS.0 && ill.iter().all(is_soon) {
                break;
            }
            assert!(round < SLOW_ROUNDS.1, "{mode:?}: {ill:#?}, a well one {new:#?}, then {well:#?}");
        }
        for (ill, once, then) in &ill {
            let times = [once, then, &new, &well].map(Times::least);
            println!(
                "{mode:?}: {ill:?} {:?}, then {:?}; a well one {:?}, then {:?}",
                times[0], times[1], times[2], times[3]
            );
        }
    }
}

#[tokio::test]
async fn a_silent_server_is_waited_for_once() {
    silence_is_waited_for_once(&[Ill::BlackHole, Ill::Mute, Ill::Stuck, Ill::Drip], false).await;
}

/// One whose certificate lacks the name costs a look at it, once.
#[tokio::test]
async fn a_server_that_is_silent_when_looked_at_is_waited_for_once() {
    silence_is_waited_for_once(&[Ill::BlackHole, Ill::Mute, Ill::Stuck, Ill::Drip, Ill::Unnamed], true).await;
}
