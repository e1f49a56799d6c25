//! What DNS said last, for as long as it holds; and beyond, where DNS is ill or late.
//!
//! Nothing is asked while nobody connects. Past its TTL an answer is asked for anew by whoever needs it, who waits for
//! that a moment, and then goes on with the last good one while the inquiry ends by itself.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::answer::{Answer, Failure};

/// Shortest time for which nothing is asked again, whatever the TTL: an agent's run is several connections within
/// seconds.
const TTL_FLOOR: Duration = Duration::from_secs(5);

/// Longest time for which nothing is asked again: a mistyped TTL must not outlive an admin's patience.
const TTL_CEILING: Duration = Duration::from_secs(60 * 60);

/// By so much of it a TTL is shortened at most, by chance: hosts that have learnt of something at the same time need
/// not all come back for it at the same time.
const JITTER: f64 = 0.1;

/// After a failure, DNS is left alone for so long; longer where there is a last good answer (RFC 8767 §5).
const FAILURE_TTL: Duration = Duration::from_secs(5);
const STALE_TTL: Duration = Duration::from_secs(30);

/// Names remembered at once. A host has a handful; only a client that asks for made-up names comes near.
const NAMES: usize = 1024;

/// Where an answer comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// Asked for just now.
    Live,
    /// Within its TTL, of which so much is left.
    Cached(Duration),
    /// Past its TTL, so long ago, since DNS gives no answer.
    Stale(Duration, Failure),
    /// The same, since DNS has not answered yet.
    Late(Duration),
}

/// An answer and where it comes from.
#[derive(Clone, Debug)]
pub struct Known<T> {
    /// What DNS said.
    pub answer: Arc<Answer<T>>,
    /// When.
    pub freshness: Freshness,
    /// Whether an earlier process was told so, which had it written down.
    pub is_from_disk: bool,
    /// Whether it is so old that anything else goes before it.
    pub is_too_old: bool,
}

/// An answer as it is kept from one process to the next.
#[derive(Clone, Debug)]
pub struct Kept<T> {
    /// What DNS said.
    pub answer: Arc<Answer<T>>,
    /// When; `None`: nobody knows any more.
    pub learnt: Option<Instant>,
}

/// How long somebody waits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wait {
    /// Who has an answer that is past its TTL, for a newer one.
    pub(super) soon: Instant,
    /// Who has none that is new enough, for any.
    pub(super) until: Instant,
}

/// Answers by name.
pub(super) struct Cache<T> {
    names: Mutex<HashMap<String, Arc<Slot<T>>>>,
    max_stale: Duration,
    /// Set when there is something new to be kept.
    changed: Arc<AtomicBool>,
}

/// One name.
struct Slot<T> {
    state: Mutex<State<T>>,
    /// An inquiry has ended.
    landed: Notify,
}

struct State<T> {
    good: Option<Good<T>>,
    /// What became of the last inquiry, if it failed.
    failure: Option<Failure>,
    /// Until when nothing is asked.
    quiet_until: Instant,
    is_being_asked: bool,
    /// Counts the times when everything was to be asked anew; what was asked for before counts no longer.
    round: u64,
}

/// The last good answer.
struct Good<T> {
    answer: Arc<Answer<T>>,
    learnt: Instant,
    /// Until when it holds.
    fresh_until: Instant,
    is_from_disk: bool,
}

/// What an inquiry has changed, for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum News<T> {
    /// Other records than before, an earlier process's included.
    Changed {
        /// The records before.
        before: Arc<Answer<T>>,
        /// The records now.
        now: Arc<Answer<T>>,
        /// Whether it had failed before.
        is_well_again: bool,
    },
    /// An answer, where before there was none.
    WellAgain,
    /// No answer, where before there was one, which goes on being used.
    Ill(Failure),
}

impl<T: PartialEq + Send + Sync + 'static> Cache<T> {
    /// `max_stale`: older answers are marked. `changed` is set when there is something new to be kept.
    pub(super) fn new(max_stale: Duration, changed: Arc<AtomicBool>) -> Self {
        Cache { names: Mutex::new(HashMap::new()), max_stale, changed }
    }

    /// The answer for a name: remembered, or by `ask`, which runs once however many wait for it, and to its end, however
    /// few. `tell` hears of what has changed.
    pub(super) async fn get<F>(
        &self,
        name: &str,
        wait: Wait,
        ask: impl FnOnce() -> F,
        tell: impl FnOnce(News<T>) + Send + 'static,
    ) -> Result<Known<T>, Failure>
    where
        F: Future<Output = Result<Answer<T>, Failure>> + Send + 'static,
    {
        let slot = self.slot(name);
        let mut landed = pin!(slot.landed.notified());
        // Before it is looked: an inquiry that ends in between must not be missed.
        landed.as_mut().enable();
        let now = Instant::now();
        let until = {
            let mut state = slot.lock();
            if now < state.quiet_until {
                return state.known(now, self.max_stale);
            }
            state.start(&slot, &self.changed, ask, tell);
            match &state.good {
                Some(good) if now - good.learnt < self.max_stale => wait.soon.min(wait.until),
                _ => wait.until,
            }
        };
        let has_landed = timeout_at(until, landed).await.is_ok();
        let state = slot.lock();
        if has_landed && state.failure.is_none() {
            return state.live(self.max_stale);
        }
        state.known(Instant::now(), self.max_stale)
    }

    /// Begins to ask for a name, if it is time to, and waits for nothing.
    pub(super) fn start<F>(&self, name: &str, ask: impl FnOnce() -> F, tell: impl FnOnce(News<T>) + Send + 'static)
    where
        F: Future<Output = Result<Answer<T>, Failure>> + Send + 'static,
    {
        let slot = self.slot(name);
        let mut state = slot.lock();
        if Instant::now() >= state.quiet_until {
            state.start(&slot, &self.changed, ask, tell);
        }
    }

    /// The answer for a name, if it is remembered and holds.
    pub(super) fn fresh(&self, name: &str) -> Option<Known<T>> {
        let slot = self.lock().get(name)?.clone();
        let state = slot.lock();
        let now = Instant::now();
        if now < state.good.as_ref()?.fresh_until { state.known(now, self.max_stale).ok() } else { None }
    }

    /// What is known of a name without asking; `None`: it has never been asked for.
    pub(super) fn peek(&self, name: &str) -> Option<Result<Known<T>, Failure>> {
        let slot = self.lock().get(name)?.clone();
        let state = slot.lock();
        (state.good.is_some() || state.failure.is_some()).then(|| state.known(Instant::now(), self.max_stale))
    }

    /// Whether there are records of this name that may be used while it is asked for.
    pub(super) fn has_records(&self, name: &str) -> bool {
        let Some(slot) = self.lock().get(name).cloned() else { return false };
        let state = slot.lock();
        state
            .good
            .as_ref()
            .is_some_and(|good| !good.answer.records.is_empty() && good.learnt.elapsed() < self.max_stale)
    }

    /// Where an inquiry has failed, or found nothing, asks again with the next connection: the nameservers are others now.
    pub(super) fn retry(&self) {
        let now = Instant::now();
        for slot in self.lock().values() {
            let mut state = slot.lock();
            (state.round, state.is_being_asked) = (state.round + 1, false);
            let has_records = state.good.as_ref().is_some_and(|good| !good.answer.records.is_empty());
            if state.failure.is_some() || !has_records {
                state.quiet_until = now;
            }
        }
    }

    /// What is to be kept, what was learnt last in front.
    pub(super) fn kept(&self) -> Vec<(String, Kept<T>)> {
        let names = self.lock();
        let kept = names.iter().filter_map(|(name, slot)| {
            let state = slot.lock();
            let good = state.good.as_ref()?;
            Some((name.clone(), Kept { answer: good.answer.clone(), learnt: Some(good.learnt) }))
        });
        let mut kept: Vec<_> = kept.collect();
        kept.sort_by(|(a, one), (b, other)| other.learnt.cmp(&one.learnt).then_with(|| a.cmp(b)));
        kept
    }

    /// Takes over what was kept. Where nobody knows when it was learnt, its TTL is over.
    pub(super) fn restore(&self, name: &str, Kept { answer, learnt }: Kept<T>, is_from_disk: bool) {
        let now = Instant::now();
        let fresh_until = learnt.map_or(now, |learnt| learnt + hold(answer.ttl));
        let good = Good { answer, learnt: learnt.unwrap_or(now), fresh_until, is_from_disk };
        let slot = self.slot(name);
        let mut state = slot.lock();
        (state.quiet_until, state.good) = (fresh_until, Some(good));
    }

    fn slot(&self, name: &str) -> Arc<Slot<T>> {
        let mut names = self.lock();
        if let Some(slot) = names.get(name) {
            return slot.clone();
        }
        if names.len() >= NAMES {
            // Names that do not exist go first: they are what somebody makes up.
            names.retain(|_, slot| slot.lock().is_worth_keeping());
        }
        while names.len() >= NAMES {
            let oldest = names.iter().min_by_key(|(_, slot)| slot.lock().good.as_ref().map(|good| good.learnt));
            let Some(oldest) = oldest.map(|(name, _)| name.clone()) else { break };
            names.remove(&oldest);
        }
        let state = State { good: None, failure: None, quiet_until: Instant::now(), is_being_asked: false, round: 0 };
        let slot = Slot { state: Mutex::new(state), landed: Notify::new() };
        names.entry(name.into()).or_insert_with(|| Arc::new(slot)).clone()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Slot<T>>>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Slot<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An inquiry under way. However it ends, those who wait are told, and the next one may ask again.
struct Inquiry<T> {
    slot: Arc<Slot<T>>,
    round: u64,
}

impl<T> Drop for Inquiry<T> {
    fn drop(&mut self) {
        let mut state = self.slot.lock();
        if state.round == self.round {
            state.is_being_asked = false;
        }
        drop(state);
        self.slot.landed.notify_waiters();
    }
}

impl<T: PartialEq + Send + Sync + 'static> State<T> {
    /// Asks, unless somebody does already. In a task of its own, for whoever needs the answer may not wait for it.
    fn start<F>(
        &mut self,
        slot: &Arc<Slot<T>>,
        changed: &Arc<AtomicBool>,
        ask: impl FnOnce() -> F,
        tell: impl FnOnce(News<T>) + Send + 'static,
    ) where
        F: Future<Output = Result<Answer<T>, Failure>> + Send + 'static,
    {
        if self.is_being_asked {
            return;
        }
        self.is_being_asked = true;
        let (inquiry, changed, ask) = (Inquiry { slot: slot.clone(), round: self.round }, changed.clone(), ask());
        tokio::spawn(async move {
            let result = ask.await;
            let news = {
                let mut state = inquiry.slot.lock();
                if state.round != inquiry.round {
                    return;
                }
                if result.is_ok() {
                    changed.store(true, Ordering::Relaxed);
                }
                state.land(result)
            };
            if let Some(news) = news {
                tell(news);
            }
            drop(inquiry);
        });
    }

    /// An inquiry has ended.
    fn land(&mut self, result: Result<Answer<T>, Failure>) -> Option<News<T>> {
        let now = Instant::now();
        match self.doubted(result) {
            Ok(answer) => {
                let fresh_until = now + hold(answer.ttl);
                let answer = Arc::new(answer);
                let good = Good { answer: answer.clone(), learnt: now, fresh_until, is_from_disk: false };
                let (before, is_well_again) = (self.good.replace(good), self.failure.take().is_some());
                self.quiet_until = fresh_until;
                match before {
                    Some(Good { answer: before, .. }) if !are_same(&before.records, &answer.records) => {
                        Some(News::Changed { before, now: answer, is_well_again })
                    }
                    _ => is_well_again.then_some(News::WellAgain),
                }
            }
            Err(failure) => {
                let hold = if self.good.is_some() { STALE_TTL } else { FAILURE_TTL };
                self.quiet_until = now + shortened(hold);
                let was_well = self.failure.replace(failure.clone()).is_none();
                (was_well && self.good.is_some()).then_some(News::Ill(failure))
            }
        }
    }

    /// "None" that comes without a zone is no answer where there were records before.
    fn doubted(&self, result: Result<Answer<T>, Failure>) -> Result<Answer<T>, Failure> {
        match result {
            Ok(answer) if answer.is_vague && self.good.as_ref().is_some_and(|good| !good.answer.records.is_empty()) => {
                let what = "said that there is nothing, and not in which zone (no SOA)".to_owned();
                Err(Failure { tried: vec![(answer.from, what)] })
            }
            other => other,
        }
    }

    fn is_worth_keeping(&self) -> bool {
        self.is_being_asked || self.good.as_ref().is_some_and(|good| !good.answer.records.is_empty())
    }

    /// What has just been learnt.
    fn live(&self, max_stale: Duration) -> Result<Known<T>, Failure> {
        let known = self.known(Instant::now(), max_stale)?;
        Ok(Known { freshness: Freshness::Live, ..known })
    }

    /// What is known without asking, or without waiting any longer.
    fn known(&self, now: Instant, max_stale: Duration) -> Result<Known<T>, Failure> {
        let Some(good) = &self.good else { return Err(self.failure.clone().unwrap_or_else(unanswered)) };
        let since = now.saturating_duration_since(good.fresh_until);
        let freshness = match &self.failure {
            _ if now < good.fresh_until => Freshness::Cached(good.fresh_until - now),
            Some(failure) => Freshness::Stale(since, failure.clone()),
            None => Freshness::Late(since),
        };
        Ok(Known {
            answer: good.answer.clone(),
            is_too_old: now - good.learnt >= max_stale && now >= good.fresh_until,
            is_from_disk: good.is_from_disk,
            freshness,
        })
    }
}

/// Where somebody stops waiting before the inquiry has ended, such as for lack of any answer a moment ago.
fn unanswered() -> Failure {
    Failure { tried: vec![("DNS".into(), "did not answer in time".into())] }
}

/// How long an answer holds.
fn hold(ttl: Duration) -> Duration {
    shortened(ttl.clamp(TTL_FLOOR, TTL_CEILING)).max(TTL_FLOOR)
}

fn shortened(time: Duration) -> Duration {
    time.mul_f64(1.0 - JITTER * fastrand::f64())
}

/// Whether both are the same records, in whatever order.
fn are_same<T: PartialEq>(one: &[T], other: &[T]) -> bool {
    one.len() == other.len() && one.iter().all(|record| other.contains(record))
}

impl Freshness {
    /// In words, for `resolve` and the log.
    pub fn describe(&self) -> String {
        match self {
            Freshness::Live => "live".into(),
            Freshness::Cached(left) => format!("cached for another {} s", left.as_secs()),
            Freshness::Stale(since, failure) => format!("stale since {} s: {failure}", since.as_secs()),
            Freshness::Late(since) => format!("stale since {} s: DNS is slow to answer", since.as_secs()),
        }
    }

    /// The one word for it.
    pub fn word(&self) -> &'static str {
        match self {
            Freshness::Live => "live",
            Freshness::Cached(_) => "cached",
            Freshness::Stale(..) | Freshness::Late(_) => "stale",
        }
    }

    /// For how long it holds, or has not held any longer.
    pub fn span(&self) -> Option<Duration> {
        match self {
            Freshness::Live => None,
            Freshness::Cached(span) | Freshness::Stale(span, _) | Freshness::Late(span) => Some(*span),
        }
    }

    /// Whether it is past its TTL.
    pub fn is_stale(&self) -> bool {
        matches!(self, Freshness::Stale(..) | Freshness::Late(_))
    }
}

#[cfg(test)]
mod tests;
