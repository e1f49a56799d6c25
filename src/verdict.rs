//! Whose certificate has which name: what was found out, for as long as that counts. No io, and the clock is an
//! argument.
//!
//! A server whose certificate lacks the name that the agent asked for is worse than a dead one: the agent does not go on
//! to the next, and on the CA role the run aborts. So it is passed over, unless there is no other.

use std::collections::HashMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::host::{Host, HostPort};

/// How long a good verdict counts.
const GOOD: Duration = Duration::from_secs(24 * 60 * 60);

/// How long any other counts: the admin may be mending it.
const OTHER: Duration = Duration::from_secs(5 * 60);

/// Verdicts remembered at once.
const MOST: usize = 1024;

/// What to do about a certificate that lacks the name.
pub const REMEDY: &str = "have it signed again with that name among its dns_alt_names, or use port mode";

/// What a server's certificate is worth to who asked for a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Verdict {
    /// It has the name.
    Named,
    /// It does not.
    Unnamed {
        /// The names that it has, in words.
        has: String,
    },
    /// It could not be seen.
    Unclear {
        /// Why.
        why: String,
    },
}

/// A verdict and its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// What was found.
    pub verdict: Verdict,
    /// When.
    pub since: Instant,
}

impl Known {
    /// Until when it counts.
    pub fn until(&self) -> Instant {
        self.since + if self.verdict == Verdict::Named { GOOD } else { OTHER }
    }
}

/// What was found out, by server and name.
#[derive(Clone, Debug, Default)]
pub struct Verdicts {
    known: HashMap<HostPort, HashMap<Host, Known>>,
    count: usize,
}

impl Verdicts {
    /// What counts of this server for who asked for that name.
    pub fn get(&self, server: &HostPort, asked: &Host, now: Instant) -> Option<&Verdict> {
        let known = self.known.get(server)?.get(asked)?;
        (now < known.until()).then_some(&known.verdict)
    }

    /// Remembers a verdict. Gives whether it says something else than the one before it, be that still counting or not.
    pub fn put(&mut self, server: &HostPort, asked: &Host, verdict: Verdict, now: Instant) -> bool {
        let before = self.known.get(server).and_then(|names| names.get(asked)).map(|known| &known.verdict);
        let is_news = before != Some(&verdict);
        self.insert(server.clone(), asked.clone(), Known { verdict, since: now });
        is_news
    }

    /// Takes over what the state directory had, as far as it still counts.
    pub fn restore(&mut self, server: HostPort, asked: Host, known: Known, now: Instant) {
        if now < known.until() {
            self.insert(server, asked, known);
        }
    }

    fn insert(&mut self, server: HostPort, asked: Host, known: Known) {
        if self.count >= MOST {
            self.make_room();
        }
        if self.known.entry(server).or_default().insert(asked, known).is_none() {
            self.count += 1;
        }
    }

    /// Forgets the older half: of names that somebody makes up none is asked for again.
    fn make_room(&mut self) {
        let mut stamps: Vec<_> = self.all().map(|(.., known)| known.since).collect();
        stamps.sort_unstable();
        let Some(middle) = stamps.get(stamps.len() / 2).copied() else { return };
        for names in self.known.values_mut() {
            names.retain(|_, known| known.since > middle);
        }
        self.known.retain(|_, names| !names.is_empty());
        self.count = self.known.values().map(HashMap::len).sum();
    }

    /// Everything that is known, for the state directory and for who wants to see it.
    pub fn all(&self) -> impl Iterator<Item = (&HostPort, &Host, &Known)> {
        self.known.iter().flat_map(|(server, names)| names.iter().map(move |(asked, known)| (server, asked, known)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unnamed() -> Verdict {
        Verdict::Unnamed { has: "other.test".into() }
    }

    #[test]
    fn good_counts_for_a_day_and_bad_for_minutes() {
        let (mut verdicts, start) = (Verdicts::default(), Instant::now());
        let (server, asked) = ("a.test:8140".parse().unwrap(), "puppet.test".parse().unwrap());
        for (verdict, lasts) in
            [(Verdict::Named, GOOD), (unnamed(), OTHER), (Verdict::Unclear { why: "-".into() }, OTHER)]
        {
            assert!(verdicts.put(&server, &asked, verdict.clone(), start));
            assert_eq!(verdicts.get(&server, &asked, start + lasts.mul_f64(0.999)), Some(&verdict));
            assert_eq!(verdicts.get(&server, &asked, start + lasts), None);
            assert!(!verdicts.put(&server, &asked, verdict, start + lasts), "the same again is no news");
        }
    }

    #[test]
    fn belongs_to_a_server_and_a_name() {
        let (mut verdicts, now) = (Verdicts::default(), Instant::now());
        let (server, asked) = ("a.test:8140".parse().unwrap(), "puppet.test".parse().unwrap());
        verdicts.put(&server, &asked, unnamed(), now);
        assert_eq!(verdicts.get(&server, &"puppetca.test".parse().unwrap(), now), None);
        assert_eq!(verdicts.get(&"a.test:8141".parse().unwrap(), &asked, now), None);
    }

    #[test]
    fn no_more_are_kept_than_there_is_room_for() {
        let (mut verdicts, now) = (Verdicts::default(), Instant::now());
        for n in 0..3 * MOST {
            verdicts.put(&"a.test:8140".parse().unwrap(), &format!("n{n}.test").parse().unwrap(), unnamed(), now);
            assert!(verdicts.all().count() <= MOST);
        }
    }
}
