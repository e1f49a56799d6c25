//! What is remembered, as JSON. No io, and both clocks are arguments.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::answers::Written;
use super::clock::{Clocks, Stamp};
use super::text::{self, Text};
use super::{LIMIT, Learnt};
use crate::counters::Counters;
use crate::domain::HostDomain;
use crate::health::{LONGEST, Rank, Record, Trouble};
use crate::history::History;
use crate::host::{Host, HostPort};
use crate::pin::Set;
use crate::pool::Pool;
use crate::verdict::{Known, Verdict};

/// The one version there is.
const VERSION: u64 = 1;

/// Characters of a reason or a list of names that are kept: a certificate may have a thousand names.
const WORDS: usize = 200;

/// Why a file is of no use.
#[derive(Debug, thiserror::Error)]
pub enum Damage {
    /// Nothing that was ever written is.
    #[error("it is larger than {} MiB", LIMIT / 1024 / 1024)]
    TooLarge,
    /// Of a later puppet-shim.
    #[error("it is of version {0}, and this puppet-shim reads version {VERSION}")]
    Version(u64),
    /// Not JSON, or other JSON than ours.
    #[error("{0}")]
    Malformed(#[from] serde_json::Error),
}

/// What every version has.
#[derive(Deserialize)]
struct Head {
    version: u64,
}

/// The file.
#[derive(Serialize, Deserialize)]
struct File {
    version: u64,
    /// When it was written.
    saved: Stamp,
    servers: Vec<Judged<HostPort>>,
    addresses: Vec<Judged<std::net::SocketAddr>>,
    pins: Vec<Pinned>,
    verdicts: Vec<Concluded>,
    #[serde(default)]
    dns: Written,
    #[serde(default)]
    domain: Option<HostDomain>,
    #[serde(default)]
    counters: Counters,
    #[serde(default)]
    history: History,
}

/// A server or an address.
#[derive(Serialize, Deserialize)]
#[serde(bound(serialize = "K: std::fmt::Display", deserialize = "K: std::str::FromStr<Err: std::fmt::Display>"))]
struct Judged<K> {
    #[serde(with = "text")]
    server: K,
    usual_ms: Option<u64>,
    times: u32,
    misses: u32,
    recovered: Option<Stamp>,
    trouble: Option<Troubled>,
}

#[derive(Serialize, Deserialize)]
struct Troubled {
    rank: Rank,
    cause: String,
    since: Stamp,
    until: Stamp,
}

#[derive(Serialize, Deserialize)]
struct Pinned {
    set: Vec<Text<HostPort>>,
    #[serde(with = "text")]
    server: HostPort,
    used: Stamp,
}

#[derive(Serialize, Deserialize)]
struct Concluded {
    #[serde(with = "text")]
    server: HostPort,
    #[serde(with = "text")]
    asked: Host,
    since: Stamp,
    verdict: Verdict,
}

/// Everything that is remembered, at a moment on both clocks.
///
/// # Errors
///
/// None that is known of: what is remembered can be written as JSON.
pub fn to_json(pool: &Pool, learnt: &Learnt, now: Instant, wall: SystemTime) -> serde_json::Result<Vec<u8>> {
    let clocks = Clocks { now, wall };
    let mut pins: Vec<_> = pool
        .pins
        .live(now)
        .map(|(set, pin)| Pinned {
            set: set.servers().iter().cloned().map(Text).collect(),
            server: pin.server.clone(),
            // A tunnel that is open is use.
            used: clocks.stamp(if pool.pins.is_open(&pin.server) { now } else { pin.used }),
        })
        .collect();
    let mut verdicts: Vec<_> = pool
        .verdicts
        .all()
        .filter(|(_, _, known)| now < known.until())
        .map(|(server, asked, known)| Concluded {
            server: server.clone(),
            asked: asked.clone(),
            since: clocks.stamp(known.since),
            verdict: shorten(known.verdict.clone()),
        })
        .collect();
    // The maps have no order, and a file that is read by people should have one.
    pins.sort_by(|a, b| (&a.server, a.used).cmp(&(&b.server, b.used)));
    verdicts.sort_by(|a, b| (&a.server, &a.asked).cmp(&(&b.server, &b.asked)));
    let file = File {
        version: VERSION,
        saved: clocks.stamp(now),
        servers: clocks.servers(pool.servers.records()),
        addresses: clocks.servers(pool.addresses.records()),
        pins,
        verdicts,
        dns: Written::new(&learnt.answers, &clocks),
        domain: learnt.domain.clone(),
        counters: learnt.counters.clone(),
        history: learnt.history.clone(),
    };
    serde_json::to_vec_pretty(&file)
}

/// Takes over what [`to_json`] gave, perhaps long ago and with another clock, as far as it still counts. Damaged, it
/// changes nothing. Gives what is not the pool's.
pub fn restore(contents: &[u8], pool: &mut Pool, now: Instant, wall: SystemTime) -> Result<Learnt, Damage> {
    if contents.len() as u64 > LIMIT {
        return Err(Damage::TooLarge);
    }
    let Head { version } = serde_json::from_slice(contents)?;
    if version != VERSION {
        return Err(Damage::Version(version));
    }
    let file: File = serde_json::from_slice(contents)?;
    let clocks = Clocks { now, wall };
    // Where the clock was set back, a stamp that seems to be past may be newer than it seems.
    let was_set_back = clocks.past(file.saved).is_none();
    let past = |stamp| if was_set_back { None } else { clocks.past(stamp) };
    for known in file.servers {
        let (server, record) = known.into_record(&clocks, past);
        pool.servers.restore(server, record);
    }
    for known in file.addresses {
        let (address, record) = known.into_record(&clocks, past);
        pool.addresses.restore(address, record);
    }
    for Pinned { set, server, used } in file.pins {
        let Some(used) = past(used) else { continue };
        pool.pins.restore(Set::from_servers(set.into_iter().map(|Text(server)| server).collect()), server, used, now);
    }
    for Concluded { server, asked, since, verdict } in file.verdicts {
        let Some(since) = past(since) else { continue };
        pool.verdicts.restore(server, asked, Known { verdict, since }, now);
    }
    Ok(Learnt {
        answers: file.dns.into_answers(past),
        domain: file.domain,
        counters: file.counters,
        history: file.history,
    })
}

impl Clocks {
    fn servers<'a, K: Clone + Ord + 'a>(&self, records: impl Iterator<Item = (&'a K, &'a Record)>) -> Vec<Judged<K>> {
        let mut servers: Vec<_> = records
            .map(|(server, record)| Judged {
                server: server.clone(),
                usual_ms: record.usual.map(|usual| u64::try_from(usual.as_millis()).unwrap_or(u64::MAX)),
                times: record.times,
                misses: record.misses,
                recovered: record.recovered.map(|at| self.stamp(at)),
                trouble: record.trouble.as_ref().map(|trouble| Troubled {
                    rank: trouble.rank,
                    cause: cut(&trouble.cause),
                    since: self.stamp(trouble.since),
                    until: self.stamp(trouble.until),
                }),
            })
            .collect();
        servers.sort_by(|a, b| a.server.cmp(&b.server));
        servers
    }
}

impl<K> Judged<K> {
    fn into_record(self, clocks: &Clocks, past: impl Fn(Stamp) -> Option<Instant>) -> (K, Record) {
        let trouble = self.trouble.filter(|trouble| trouble.rank != Rank::Good).map(|trouble| {
            let Troubled { rank, cause, since, until } = trouble;
            let (since, until) = match past(since) {
                Some(since) => {
                    // No clock makes it longer than it can be.
                    let left = clocks.left(until, LONGEST).min(LONGEST);
                    let ended = || past(until).unwrap_or(clocks.now).max(since);
                    (since, if left.is_zero() { ended() } else { clocks.now + left })
                }
                // Its time is over: nobody goes before it any more, but it still has to show that it is up.
                None => (clocks.now, clocks.now),
            };
            Trouble { rank, cause, since, until, trying: None }
        });
        let usual = self.usual_ms.map(|ms| Duration::from_millis(ms).min(LONGEST));
        // Not long enough ago to be forgiven, where it cannot be told.
        let recovered = self.recovered.map(|at| past(at).unwrap_or(clocks.now));
        (self.server, Record { usual, trouble, times: self.times, misses: self.misses, recovered })
    }
}

fn shorten(verdict: Verdict) -> Verdict {
    match verdict {
        Verdict::Named => Verdict::Named,
        Verdict::Unnamed { has } => Verdict::Unnamed { has: cut(&has) },
        Verdict::Unclear { why } => Verdict::Unclear { why: cut(&why) },
    }
}

fn cut(words: &str) -> String {
    match words.char_indices().nth(WORDS) {
        Some((at, _)) => format!("{}...", &words[..at]),
        None => words.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::Arc;
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::dial::{Did, Try};
    use crate::discovery::answer::Answer;
    use crate::discovery::cache::Kept;
    use crate::role::Role;

    const HOLD: Duration = Duration::from_secs(300);
    const SECOND: Duration = Duration::from_secs(1);

    fn server(name: &str) -> HostPort {
        HostPort { host: name.parse().unwrap(), port: 8140 }
    }

    fn addr(name: &str) -> SocketAddr {
        SocketAddr::new(std::net::Ipv4Addr::new(192, 0, 2, name.as_bytes()[0]).into(), 8140)
    }

    fn name() -> Host {
        "puppet.test".parse().unwrap()
    }

    fn both() -> Set {
        Set::from_servers(vec![server("a"), server("b")])
    }

    fn empty() -> Pool {
        Pool::new(HOLD).seeded(1)
    }

    /// A moment, on both clocks.
    fn moment() -> (Instant, SystemTime) {
        (Instant::now(), UNIX_EPOCH + Duration::from_millis(1_700_000_000_123))
    }

    fn tried(name: &str, did: Did, took: Duration) -> Try {
        Try { server: server(name), addr: Some(addr(name)), did, started: Instant::now(), took }
    }

    /// `a` is down, `b` has answered in 70 ms and has the pin; what their certificates are worth is known.
    fn taught(now: Instant) -> Pool {
        let mut pool = empty();
        let tries = [tried("a", Did::Refuse, Duration::ZERO), tried("b", Did::Answer, Duration::from_millis(70))];
        pool.learn(&tries, now);
        let compile = Role::new("compile");
        pool.open(&compile, &both(), &server("b"), false, now);
        pool.pins.close(&server("b"), now);
        pool.conclude(&server("a"), &name(), Verdict::Unnamed { has: "x, y".into() }, now);
        pool.conclude(&server("b"), &name(), Verdict::Named, now);
        pool
    }

    /// What is left when it is written after `run`, and read on another process's clock when the host's shows `later`
    /// more.
    fn reread(pool: &Pool, (now, wall): (Instant, SystemTime), later: i64) -> (Pool, Instant) {
        let json = to_json(pool, &Learnt::default(), now, wall).unwrap();
        let by = Duration::from_millis(later.unsigned_abs());
        let wall = if later < 0 { wall - by } else { wall + by };
        let (mut pool, now) = (empty(), now + 1000 * HOLD);
        restore(&json, &mut pool, now, wall).unwrap();
        (pool, now)
    }

    fn pin(pool: &Pool, now: Instant) -> Option<(HostPort, Duration)> {
        pool.pins.live(now).next().map(|(_, pin)| (pin.server.clone(), now - pin.used))
    }

    /// A stamp has milliseconds.
    fn assert_near(one: Duration, other: Duration) {
        assert!(one.abs_diff(other) <= Duration::from_millis(2), "{one:?} and {other:?}");
    }

    #[test]
    fn comes_back_as_it_was() {
        let (now, wall) = moment();
        let pool = taught(now);
        let before = pool.servers.trouble(&server("a")).unwrap().clone();
        let (now, wall) = (now + 2 * SECOND, wall + 2 * SECOND);
        let (again, then) = reread(&pool, (now, wall), 1000);
        let trouble = again.servers.trouble(&server("a")).unwrap();
        assert_eq!((trouble.rank, trouble.cause.as_str()), (Rank::Down, "refused"));
        assert_near(then - trouble.since, 3 * SECOND);
        assert_near(trouble.until - then + SECOND, before.until - now);
        assert_eq!(again.servers.rank(&server("a"), then), Rank::Down);
        assert_eq!(again.addresses.rank(&addr("a"), then), Rank::Down);
        assert_eq!(again.servers.rank(&server("b"), then), Rank::Good);
        let known: Vec<_> = again.servers.records().map(|(server, r)| (server.clone(), r.usual, r.times)).collect();
        assert!(known.contains(&(server("a"), None, 1)), "{known:?}");
        assert!(known.contains(&(server("b"), Some(Duration::from_millis(70)), 0)), "{known:?}");
        let (pinned, unused) = pin(&again, then).unwrap();
        assert_eq!(pinned, server("b"));
        assert_near(unused, 3 * SECOND);
        assert_eq!(again.verdicts.get(&server("b"), &name(), then), Some(&Verdict::Named));
        let unnamed = Verdict::Unnamed { has: "x, y".into() };
        assert_eq!(again.verdicts.get(&server("a"), &name(), then), Some(&unnamed));
        // Once more gives the same, so nothing creeps.
        let (third, _) = reread(&again, (then, wall + SECOND), 0);
        let json = |pool: &Pool, now| to_json(pool, &Learnt::default(), now, wall + SECOND).unwrap();
        assert_eq!(json(&third, then + 1000 * HOLD), json(&again, then));
    }

    #[test]
    fn an_open_tunnel_is_use() {
        let (now, wall) = moment();
        let mut pool = taught(now);
        pool.open(&Role::new("compile"), &both(), &server("b"), false, now);
        let (now, wall) = (now + 10 * HOLD, wall + 10 * HOLD);
        let (again, then) = reread(&pool, (now, wall), 5000);
        let (pinned, unused) = pin(&again, then).unwrap();
        assert_eq!(pinned, server("b"));
        assert_near(unused, 5 * SECOND);
    }

    #[test]
    fn what_has_had_its_time_is_gone() {
        let pool = taught(moment().0);
        let (again, then) = reread(&pool, moment(), 299_000);
        assert!(pin(&again, then).is_some());
        assert!(again.verdicts.get(&server("a"), &name(), then).is_some());
        assert_eq!(again.servers.rank(&server("a"), then), Rank::Good, "its hold-down has ended");
        assert!(again.servers.trouble(&server("a")).is_some(), "but it has still to show that it is up");
        let (again, then) = reread(&pool, moment(), 300_000);
        assert_eq!(pin(&again, then), None);
        assert_eq!(again.verdicts.get(&server("a"), &name(), then), None);
        assert_eq!(again.verdicts.get(&server("b"), &name(), then), Some(&Verdict::Named));
        let (again, _) = reread(&pool, moment(), 24 * 60 * 60 * 1000);
        assert_eq!(again.verdicts.all().count(), 0);
    }

    /// Be it by a second: how long ago something was can no longer be told.
    #[test]
    fn a_clock_that_was_set_back_ends_it_all() {
        for back in [-1000, -3_600_000, -1_700_000_000_123] {
            let (again, then) = reread(&taught(moment().0), moment(), back);
            assert_eq!(again.servers.rank(&server("a"), then), Rank::Good, "{back}");
            assert_eq!(again.addresses.rank(&addr("a"), then), Rank::Good, "{back}");
            assert!(again.servers.trouble(&server("a")).is_some(), "{back}: it has still to show that it is up");
            assert_eq!((pin(&again, then), again.verdicts.all().count()), (None, 0), "{back}");
            let usual = again.servers.records().find(|(name, _)| **name == server("b")).unwrap().1.usual;
            assert_eq!(usual, Some(Duration::from_millis(70)), "{back}: that depends on no clock");
        }
    }

    /// It is written by a host whose clock was a year ahead until a moment before the write.
    #[test]
    fn a_stamp_from_the_future_counts_as_expired() {
        let (now, wall) = moment();
        let json = String::from_utf8(to_json(&taught(now), &Learnt::default(), now, wall).unwrap()).unwrap();
        // All but that of the write itself, which comes first.
        let later = json.replace("1700000000123", "1731536000123").replacen("1731536000123", "1700000000123", 1);
        assert_eq!(later.matches("1731536000123").count(), 5, "{later}");
        let mut pool = empty();
        restore(later.as_bytes(), &mut pool, now, wall + SECOND).unwrap();
        assert_eq!(pool.servers.rank(&server("a"), now), Rank::Good);
        assert_eq!(pool.addresses.rank(&addr("a"), now), Rank::Good);
        assert_eq!((pin(&pool, now), pool.verdicts.all().count()), (None, 0));
    }

    #[test]
    fn no_hold_down_is_longer_than_it_can_be() {
        let (now, wall) = moment();
        for until in ["1731536000123", "18446744073709551615"] {
            let json = format!(
                r#"{{"version": 1, "saved": 1700000000123, "addresses": [], "pins": [], "verdicts": [], "servers":
                    [{{"server": "a:8140", "usual_ms": 18446744073709551615, "times": 4294967295, "misses": 4294967295,
                    "trouble":
                    {{"rank": "down", "cause": "-", "since": 1700000000123, "until": {until}}}}}]}}"#
            );
            let mut pool = empty();
            restore(json.as_bytes(), &mut pool, now, wall).unwrap();
            assert_eq!(pool.servers.trouble(&server("a")).unwrap().until, now + LONGEST);
            // Nothing overflows with such numbers, either.
            pool.stagger(&server("a"));
            pool.learn(&[tried("a", Did::Refuse, Duration::ZERO)], now + LONGEST);
            pool.learn(&[tried("a", Did::Answer, SECOND)], now + LONGEST);
        }
    }

    #[test]
    fn what_is_damaged_changes_nothing() {
        let (now, wall) = moment();
        let good = to_json(&taught(now), &Learnt::default(), now, wall).unwrap();
        let text = String::from_utf8(good.clone()).unwrap();
        let mut damaged: Vec<Vec<u8>> = (0..good.len()).map(|at| good[..at].to_vec()).collect();
        damaged.extend([
            b"[]".to_vec(),
            b"null".to_vec(),
            b"{\"version\": \"1\"}".to_vec(),
            b"\xff\xfe".to_vec(),
            vec![0; good.len()],
            text.replace("a:8140", "a/b:8140").into(),
            text.replace("a:8140", "a").into(),
            text.replace("\"down\"", "\"dead\"").into(),
            text.replace("1700000000123", "-1").into(),
        ]);
        for contents in damaged {
            let mut pool = empty();
            let shown = String::from_utf8_lossy(&contents).into_owned();
            assert!(matches!(restore(&contents, &mut pool, now, wall), Err(Damage::Malformed(_))), "{shown}");
            assert_eq!(pool.servers.records().count() + pool.verdicts.all().count(), 0, "{shown}");
        }
        let two = text.replace("\"version\": 1", "\"version\": 2");
        assert!(matches!(restore(two.as_bytes(), &mut empty(), now, wall), Err(Damage::Version(2))));
        let long = text.clone() + &" ".repeat(usize::try_from(LIMIT).unwrap());
        assert!(matches!(restore(long.as_bytes(), &mut empty(), now, wall), Err(Damage::TooLarge)));
        assert!(restore(text.as_bytes(), &mut empty(), now, wall).is_ok());
    }

    #[test]
    fn a_pin_on_a_server_that_is_not_in_its_set_is_none() {
        let (now, wall) = moment();
        let json = r#"{"version": 1, "saved": 1700000000123, "addresses": [], "servers": [], "verdicts": [], "pins":
            [{"set": ["a:8140", "b:8140"], "server": "c:8140", "used": 1700000000123}]}"#;
        let mut pool = empty();
        restore(json.as_bytes(), &mut pool, now, wall).unwrap();
        assert_eq!(pin(&pool, now), None);
    }

    /// As much as there can be, with the longest names that there are.
    #[test]
    fn all_that_can_be_remembered_fits() {
        let (now, wall) = moment();
        let mut pool = empty();
        let label = "x".repeat(60);
        for n in 0..1024u16 {
            let host = format!("{n:06}.{label}.{label}.{label}.{label}");
            let host: Host = host.parse().unwrap();
            let server = HostPort { host: host.clone(), port: 8140 };
            let addr = SocketAddr::new(std::net::Ipv6Addr::new(1, n, 1, 1, 1, 1, 1, 1).into(), 8140);
            let did = Did::Fail("w".repeat(1000));
            let tried = Try { server: server.clone(), addr: Some(addr), did, started: now, took: Duration::ZERO };
            pool.learn(&[tried], now);
            pool.conclude(&server, &host, Verdict::Unnamed { has: "é".repeat(100_000) }, now);
            let set = Set::from_servers(vec![server.clone(); 4]);
            pool.open(&Role::new("compile"), &set, &server, false, now);
        }
        let mut learnt = Learnt { history: History::full(), ..Learnt::default() };
        let record = format!("65535 65535 65535 {label}.{label}.{label}.{label}");
        for n in 0..1024 {
            let records = vec![record.parse().unwrap(); 60];
            let (ttl, from) = (SECOND, "192.0.2.1:53".into());
            let answer = Arc::new(Answer { records, ttl, from, is_vague: false });
            learnt.answers.services.push((format!("{n}.{label}"), Kept { answer, learnt: Some(now) }));
        }
        let json = to_json(&pool, &learnt, now, wall).unwrap();
        assert!(json.len() as u64 <= LIMIT, "{}", json.len());
        restore(&json, &mut empty(), now, wall).unwrap();
    }
}
