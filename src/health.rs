//! What servers have done lately, and how long that counts. No io, and the clock is an argument.
//!
//! A server is never asked how it is: what it did with real connections is all that is known of it. One that failed is
//! *down* for a while, one that was outrun by another is *slow* for a while; each time longer, with jitter, so that a
//! fleet does not come back to it at the same moment. After that it is *doubtful*: one connection tries it again, with a
//! short head start only. An answer clears it.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

/// First hold-down of a server that failed; doubled with each further failure.
const DOWN: Duration = Duration::from_secs(10);

/// First time for which a server that was outrun comes after the others; doubled likewise.
const SLOW: Duration = Duration::from_secs(60);

/// No longer than that, however often it has failed.
pub const LONGEST: Duration = Duration::from_secs(5 * 60);

/// Without an answer for so long, the next candidate is started too (RFC 8305 §5 has 250 ms).
const STAGGER: Duration = Duration::from_millis(250);

/// A server that always takes long is given twice what it usually takes, but no more than that.
const LONGEST_STAGGER: Duration = Duration::from_secs(2);

/// Head start of a server that is tried again, doubled each time: its hold-downs grow, and so may what a try costs.
const TRIAL: Duration = Duration::from_millis(50);

/// Every so many times a server that is tried again is given as long as it usually takes, and a quarter more,
const PATIENT: u32 = 4;

/// but no longer than that. One that takes longer, where others do not, may be left alone.
const LONGEST_TRIAL: Duration = Duration::from_secs(1);

/// While one connection tries a server again, others keep off it, for no longer than that.
const TRYING: Duration = Duration::from_secs(2);

/// A server that has not been in trouble for so long has a clean slate.
const FORGIVEN: Duration = Duration::from_secs(10 * 60);

/// Servers remembered at once. A host has a handful.
const MOST: usize = 1024;

/// What is known of a server, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rank {
    /// Nothing against it, or its time is over.
    Good,
    /// Another one answered while it was still silent.
    Slow,
    /// It failed.
    Down,
}

impl Rank {
    /// As the log writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Rank::Good => "good",
            Rank::Slow => "slow",
            Rank::Down => "down",
        }
    }
}

/// What a server did with one connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// It answered, after so long.
    Answered(Duration),
    /// Another one answered, though that one had less time for it.
    Outrun(String),
    /// It failed, in these words.
    Failed(String),
}

/// What is known of a server has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flip<K> {
    /// Which server.
    pub server: K,
    /// What it was.
    pub from: Rank,
    /// What it is now.
    pub to: Rank,
    /// Why.
    pub cause: String,
    /// For how long others go before it, if they are better.
    pub hold: Duration,
}

impl<K: fmt::Display> Flip<K> {
    /// Writes the one log line of it.
    pub fn tell(&self) {
        let Flip { server, from, to, cause, hold } = self;
        let (was, state) = (from.as_str(), to.as_str());
        if *to == Rank::Good {
            tracing::info!(target: "puppet_shim::health", %server, state, was, %cause, "server is back");
        } else {
            let hold_s = hold.as_secs();
            tracing::warn!(target: "puppet_shim::health", %server, state, was, %cause, hold_s, "others go first");
        }
    }
}

/// What is known of servers, or of their addresses.
#[derive(Clone, Debug)]
pub struct Health<K> {
    known: HashMap<K, Record>,
}

/// What is known of one server.
#[derive(Clone, Debug, Default)]
pub struct Record {
    /// How long it usually takes to answer; `None`: it has never answered.
    pub usual: Option<Duration>,
    /// What is against it.
    pub trouble: Option<Trouble>,
    /// How often in a row, or nearly so, it has been in trouble.
    pub times: u32,
    /// How often it has been in trouble since it last answered, however long ago.
    pub misses: u32,
    /// When its last trouble ended with an answer.
    pub recovered: Option<Instant>,
}

/// What is against a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// [`Rank::Slow`] or [`Rank::Down`].
    pub rank: Rank,
    /// In words.
    pub cause: String,
    /// Since when.
    pub since: Instant,
    /// Until when it counts.
    pub until: Instant,
    /// Until when it counts all the same, since a connection is trying whether it is over.
    pub trying: Option<Instant>,
}

impl<K: Clone + Eq + Hash> Default for Health<K> {
    fn default() -> Self {
        Health { known: HashMap::new() }
    }
}

impl<K: Clone + Eq + Hash> Health<K> {
    /// How it stands now.
    pub fn rank(&self, server: &K, now: Instant) -> Rank {
        match self.trouble(server) {
            Some(trouble) if now < trouble.until || trouble.trying.is_some_and(|until| now < until) => trouble.rank,
            _ => Rank::Good,
        }
    }

    /// Since when nobody knows whether it is up again: its time is over, and it has not answered since.
    pub fn doubtful(&self, server: &K, now: Instant) -> Option<Instant> {
        let trouble = self.trouble(server)?;
        (self.rank(server, now) == Rank::Good).then_some(trouble.until)
    }

    /// A connection is about to find out whether it is up again; that is enough of them.
    pub fn try_again(&mut self, server: &K, now: Instant) {
        if let Some(trouble) = self.known.get_mut(server).and_then(|record| record.trouble.as_mut()) {
            trouble.trying = Some(now + TRYING);
        }
    }

    /// What is against it, be its time over or not: only an answer clears it.
    pub fn trouble(&self, server: &K) -> Option<&Trouble> {
        self.known.get(server)?.trouble.as_ref()
    }

    /// Whether it has ever answered.
    pub fn has_answered(&self, server: &K) -> bool {
        self.known.get(server).is_some_and(|record| record.usual.is_some())
    }

    /// How long to wait for its answer before another one is started too, 50 ms to 2 s.
    pub fn stagger(&self, server: &K) -> Duration {
        let Some(record) = self.known.get(server) else { return STAGGER };
        if record.trouble.is_none() {
            // A site whose servers are all slow must not get twice the handshakes because of us.
            return record.usual.map_or(STAGGER, |usual| 2 * usual).clamp(STAGGER, LONGEST_STAGGER);
        }
        let usual = record.usual.unwrap_or_default();
        // Now and then it has as long as it usually needs: else one that always takes long would never come back.
        if record.misses > 0 && record.misses.is_multiple_of(PATIENT) {
            return usual.mul_f64(1.25).clamp(STAGGER, LONGEST_TRIAL);
        }
        let trial = TRIAL * 2u32.saturating_pow(record.misses.saturating_sub(1).min(8));
        trial.max(usual).min(STAGGER)
    }

    /// Remembers what a server did. Gives the flip, if it is one.
    pub fn judge(
        &mut self,
        server: &K,
        judgement: Judgement,
        now: Instant,
        rng: &mut fastrand::Rng,
    ) -> Option<Flip<K>> {
        if !self.known.contains_key(server) {
            self.make_room(now);
        }
        let record = self.known.entry(server.clone()).or_default();
        let from = record.trouble.as_ref().map_or(Rank::Good, |trouble| trouble.rank);
        let (to, cause) = match judgement {
            Judgement::Answered(took) => {
                record.usual = Some(record.usual.map_or(took, |usual| (3 * usual + took) / 4));
                record.misses = 0;
                record.trouble.take()?;
                record.recovered = Some(now);
                let cause = format!("answered in {} ms", took.as_millis());
                return Some(Flip { server: server.clone(), from, to: Rank::Good, cause, hold: Duration::ZERO });
            }
            // Whoever was down and is outrun on trial is not known to be up.
            Judgement::Outrun(cause) => (from.max(Rank::Slow), cause),
            Judgement::Failed(cause) => (Rank::Down, cause),
        };
        // One event that many connections meet is one failure.
        if record.trouble.as_ref().is_some_and(|was| now < was.until && to <= was.rank) {
            return None;
        }
        // Whoever flaps is not let off, whoever fails once a week is.
        let last = record.trouble.as_ref().map(|trouble| trouble.until).or(record.recovered);
        if last.is_some_and(|last| now.saturating_duration_since(last) > FORGIVEN) {
            record.times = 0;
        }
        record.times = record.times.saturating_add(1);
        record.misses = record.misses.saturating_add(1);
        let first = if to == Rank::Down { DOWN } else { SLOW };
        let hold = (first * 2u32.saturating_pow((record.times - 1).min(8))).min(LONGEST);
        let hold = hold.mul_f64(0.5 + rng.f64() / 2.0);
        let since = record.trouble.as_ref().filter(|was| was.rank == to).map_or(now, |was| was.since);
        record.trouble = Some(Trouble { rank: to, cause: cause.clone(), since, until: now + hold, trying: None });
        (from != to).then(|| Flip { server: server.clone(), from, to, cause, hold })
    }

    /// Everything that is known, for the state directory.
    pub fn records(&self) -> impl Iterator<Item = (&K, &Record)> {
        self.known.iter()
    }

    /// Takes over what the state directory had.
    pub fn restore(&mut self, server: K, record: Record) {
        if self.known.len() < MOST {
            self.known.insert(server, record);
        }
    }

    /// Forgets what matters least: servers with nothing against them, then those whose time is over soonest.
    fn make_room(&mut self, now: Instant) {
        if self.known.len() >= MOST {
            self.known.retain(|_, record| record.trouble.as_ref().is_some_and(|trouble| now < trouble.until));
        }
        if self.known.len() < MOST {
            return;
        }
        let until = |record: &Record| record.trouble.as_ref().map(|trouble| trouble.until);
        let mut ends: Vec<_> = self.known.values().map(until).collect();
        ends.sort_unstable();
        if let Some(middle) = ends.get(ends.len() / 2).copied() {
            self.known.retain(|_, record| until(record) > middle);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed() -> Judgement {
        Judgement::Failed("refused".into())
    }

    fn outrun() -> Judgement {
        Judgement::Outrun("was outrun".into())
    }

    fn answered(ms: u64) -> Judgement {
        Judgement::Answered(Duration::from_millis(ms))
    }

    struct Bench {
        health: Health<&'static str>,
        now: Instant,
        rng: fastrand::Rng,
    }

    impl Bench {
        fn new() -> Self {
            Bench { health: Health::default(), now: Instant::now(), rng: fastrand::Rng::with_seed(3) }
        }

        fn judge(&mut self, judgement: Judgement) -> Option<Flip<&'static str>> {
            self.health.judge(&"a", judgement, self.now, &mut self.rng)
        }

        fn rank(&self) -> Rank {
            self.health.rank(&"a", self.now)
        }

        /// How long it is held down from now on.
        fn hold(&self) -> Duration {
            self.health.trouble(&"a").unwrap().until - self.now
        }
    }

    #[test]
    fn a_failure_holds_down_and_an_answer_clears_it() {
        let mut bench = Bench::new();
        assert_eq!(bench.rank(), Rank::Good);
        let flip = bench.judge(failed()).unwrap();
        assert_eq!((flip.from, flip.to, flip.cause.as_str()), (Rank::Good, Rank::Down, "refused"));
        assert_eq!(bench.rank(), Rank::Down);
        let hold = bench.hold();
        assert!(hold >= DOWN / 2 && hold <= DOWN, "{hold:?}");
        bench.now += hold;
        assert_eq!(bench.rank(), Rank::Good, "it may be tried again");
        assert!(bench.health.trouble(&"a").is_some(), "but is not yet known to be up");
        let flip = bench.judge(answered(7)).unwrap();
        assert_eq!((flip.from, flip.to, flip.cause.as_str()), (Rank::Down, Rank::Good, "answered in 7 ms"));
        assert_eq!(bench.judge(answered(7)), None);
    }

    #[test]
    fn a_hold_down_grows_to_a_bound_and_is_told_once() {
        let mut bench = Bench::new();
        assert!(bench.judge(failed()).is_some());
        let mut longest = Duration::ZERO;
        for n in 1..12 {
            bench.now += LONGEST;
            assert_eq!(bench.judge(failed()), None);
            let bound = (DOWN * 2u32.pow(n)).min(LONGEST);
            assert!(bench.hold() >= bound / 2 && bench.hold() <= bound, "{n}: {:?}", bench.hold());
            longest = longest.max(bench.hold());
        }
        assert!(longest > LONGEST / 2);
    }

    #[test]
    fn what_flaps_is_held_longer_and_what_was_good_for_long_is_not() {
        let mut bench = Bench::new();
        bench.judge(failed());
        bench.now += DOWN;
        bench.judge(answered(1));
        bench.judge(failed());
        assert!(bench.hold() > DOWN / 2 && bench.health.known["a"].times == 2);
        bench.now += bench.hold() + 3 * LONGEST;
        bench.judge(failed());
        assert!(bench.hold() <= DOWN);
    }

    #[test]
    fn outrun_is_slow_and_not_down_but_down_stays_down() {
        let mut bench = Bench::new();
        assert_eq!(bench.judge(outrun()).unwrap().to, Rank::Slow);
        assert!(bench.hold() >= SLOW / 2 && bench.hold() <= SLOW);
        assert_eq!(bench.judge(failed()).unwrap().to, Rank::Down);
        assert_eq!(bench.judge(outrun()), None);
        assert_eq!(bench.rank(), Rank::Down);
    }

    #[test]
    fn the_stagger_follows_what_is_usual() {
        let mut bench = Bench::new();
        assert_eq!(bench.health.stagger(&"a"), STAGGER);
        bench.judge(answered(5));
        assert_eq!(bench.health.stagger(&"a"), STAGGER);
        for _ in 0..40 {
            bench.judge(answered(400));
        }
        let stagger = bench.health.stagger(&"a");
        assert!(stagger > Duration::from_millis(790) && stagger <= Duration::from_millis(800), "{stagger:?}");
        for _ in 0..40 {
            bench.judge(answered(9000));
        }
        assert_eq!(bench.health.stagger(&"a"), LONGEST_STAGGER);
    }

    /// However long ago each of them was.
    #[test]
    fn a_failure_now_and_then_is_held_against_nobody() {
        let mut bench = Bench::new();
        for _ in 0..20 {
            bench.judge(failed());
            assert!(bench.hold() <= DOWN, "{:?}", bench.hold());
            bench.now += bench.hold();
            bench.judge(answered(1));
            bench.now += 2 * FORGIVEN;
        }
    }

    #[test]
    fn while_one_tries_it_counts_for_the_others() {
        let mut bench = Bench::new();
        bench.judge(outrun());
        assert_eq!(bench.health.doubtful(&"a", bench.now), None, "it is held back");
        bench.now += bench.hold();
        assert_eq!(bench.health.doubtful(&"a", bench.now), Some(bench.now));
        bench.health.try_again(&"a", bench.now);
        assert_eq!((bench.rank(), bench.health.doubtful(&"a", bench.now)), (Rank::Slow, None));
        // Whoever tried it may have come to nothing, its client gone.
        bench.now += TRYING;
        assert_eq!(bench.rank(), Rank::Good);
        bench.health.try_again(&"a", bench.now);
        bench.judge(answered(5));
        assert_eq!(bench.rank(), Rank::Good);
        bench.health.try_again(&"a", bench.now);
        assert_eq!(bench.rank(), Rank::Good, "there is nothing to try");
    }

    /// Else it would never come back: it is outrun in each trial.
    #[test]
    fn who_always_takes_long_has_long_enough_now_and_then() {
        let mut bench = Bench::new();
        bench.judge(answered(700));
        let mut staggers = Vec::new();
        for _ in 0..8 {
            bench.judge(outrun());
            // They are as far apart as an agent's runs.
            bench.now += 3 * FORGIVEN;
            staggers.push(u64::try_from(bench.health.stagger(&"a").as_millis()).unwrap());
        }
        assert_eq!(staggers, [250, 250, 250, 875, 250, 250, 250, 875]);
        bench.judge(answered(700));
        assert_eq!(bench.health.stagger(&"a"), Duration::from_millis(1400), "back in its rights");
        for _ in 0..8 {
            bench.judge(answered(9000));
        }
        for _ in 0..PATIENT {
            bench.judge(failed());
            bench.now += bench.hold();
        }
        assert_eq!(bench.health.stagger(&"a"), LONGEST_TRIAL);
    }

    /// Of one that has not answered yet nobody knows how long it takes.
    #[test]
    fn a_trial_gets_longer_however_far_apart_they_are() {
        let mut bench = Bench::new();
        for expected in [50, 100, 200, 250, 250] {
            bench.judge(outrun());
            bench.now += 3 * FORGIVEN;
            assert_eq!(bench.health.stagger(&"a"), Duration::from_millis(expected));
        }
    }

    #[test]
    fn a_trial_is_short_at_first() {
        let mut bench = Bench::new();
        for expected in [50, 100, 200, 250, 250] {
            bench.judge(failed());
            // The same event once more is no further failure.
            bench.judge(failed());
            assert_eq!(bench.health.stagger(&"a"), Duration::from_millis(expected));
            bench.now += bench.hold();
        }
    }

    #[test]
    fn no_more_is_remembered_than_there_is_room_for() {
        let mut health = Health::default();
        let (now, mut rng) = (Instant::now(), fastrand::Rng::with_seed(1));
        health.judge(&usize::MAX, failed(), now, &mut rng);
        for n in 0..3 * MOST {
            health.judge(&n, answered(1), now, &mut rng);
            assert!(health.known.len() <= MOST);
        }
        assert_eq!(health.rank(&usize::MAX, now), Rank::Down);
    }
}
