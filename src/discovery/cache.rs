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

/// Who has an answer that is past its TTL waits for so long for a newer one.
const PATIENCE: Duration = Duration::from_millis(300);

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
    /// few. `until`: how long to wait where nothing is known, or nothing that is new enough. `tell` hears of what has
    /// changed.
    pub(super) async fn get<F>(
        &self,
        name: &str,
        until: Instant,
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
                Some(good) if now - good.learnt < self.max_stale => until.min(now + PATIENCE),
                _ => until,
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

    /// Whether there are records of this name that may be used while it is asked for.
    pub(super) fn has_records(&self, name: &str) -> bool {
        let Some(slot) = self.lock().get(name).cloned() else { return false };
        let state = slot.lock();
        state
            .good
            .as_ref()
            .is_some_and(|good| !good.answer.records.is_empty() && good.learnt.elapsed() < self.max_stale)
    }

    /// Where an inquiry has failed, asks again with the next connection: the nameservers are others now.
    pub(super) fn retry(&self) {
        for slot in self.lock().values() {
            let mut state = slot.lock();
            if state.failure.is_some() {
                state.quiet_until = Instant::now();
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
    pub(super) fn restore(&self, name: &str, Kept { answer, learnt }: Kept<T>) {
        let now = Instant::now();
        let fresh_until = learnt.map_or(now, |learnt| learnt + hold(answer.ttl));
        let good = Good { answer, learnt: learnt.unwrap_or(now), fresh_until, is_from_disk: true };
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
        if names.len() >= NAMES {
            names.clear();
        }
        let state = State { good: None, failure: None, quiet_until: Instant::now(), is_being_asked: false };
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
struct Inquiry<T>(Arc<Slot<T>>);

impl<T> Drop for Inquiry<T> {
    fn drop(&mut self) {
        self.0.lock().is_being_asked = false;
        self.0.landed.notify_waiters();
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
        let (inquiry, changed, ask) = (Inquiry(slot.clone()), changed.clone(), ask());
        tokio::spawn(async move {
            let result = ask.await;
            if result.is_ok() {
                changed.store(true, Ordering::Relaxed);
            }
            let news = inquiry.0.lock().land(result);
            if let Some(news) = news {
                tell(news);
            }
            drop(inquiry);
        });
    }

    /// An inquiry has ended.
    fn land(&mut self, result: Result<Answer<T>, Failure>) -> Option<News<T>> {
        let now = Instant::now();
        match result {
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

/// Nobody waits for so long but where the time for the whole connection is over.
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

    /// Whether it is past its TTL.
    pub fn is_stale(&self) -> bool {
        matches!(self, Freshness::Stale(..) | Freshness::Late(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX_STALE: Duration = Duration::from_secs(7 * 24 * 60 * 60);
    const SECOND: Duration = Duration::from_secs(1);

    fn cache() -> Cache<u8> {
        Cache::new(MAX_STALE, Arc::default())
    }

    fn answer(records: &[u8], ttl: u64) -> Answer<u8> {
        Answer { records: records.to_vec(), ttl: Duration::from_secs(ttl), from: "192.0.2.1:53".into() }
    }

    fn failure() -> Failure {
        Failure { tried: vec![("192.0.2.1:53".into(), "said SERVFAIL".into())] }
    }

    /// What happens to be asked for, and how long the inquiry takes.
    async fn get(cache: &Cache<u8>, name: &str, after: Duration, result: Result<Answer<u8>, Failure>) -> Got {
        let began = Instant::now();
        let ask = || async move {
            tokio::time::sleep(after).await;
            result
        };
        let known = cache.get(name, began + 2 * SECOND, ask, |_| ()).await;
        Got { known, took: began.elapsed() }
    }

    async fn now(cache: &Cache<u8>, name: &str, result: Result<Answer<u8>, Failure>) -> Known<u8> {
        get(cache, name, Duration::ZERO, result).await.known.unwrap()
    }

    async fn unasked(cache: &Cache<u8>, name: &str) -> Result<Known<u8>, Failure> {
        let ask = || async { panic!("nothing should have been asked") };
        cache.get(name, Instant::now() + 2 * SECOND, ask, |_| ()).await
    }

    struct Got {
        known: Result<Known<u8>, Failure>,
        took: Duration,
    }

    #[tokio::test(start_paused = true)]
    async fn asks_once_within_the_ttl_and_again_after_it() {
        let cache = cache();
        assert_eq!(now(&cache, "a", Ok(answer(&[1], 100))).await.freshness, Freshness::Live);
        tokio::time::advance(89 * SECOND).await;
        let known = unasked(&cache, "a").await.unwrap();
        assert!(matches!(known.freshness, Freshness::Cached(left) if left <= 11 * SECOND), "{:?}", known.freshness);
        tokio::time::advance(11 * SECOND).await;
        assert_eq!(now(&cache, "a", Ok(answer(&[2], 100))).await.answer.records, [2]);
    }

    /// Never longer than DNS said, and not the same for all.
    #[test]
    fn a_ttl_is_shortened_by_chance() {
        let holds: Vec<_> = (0..1000).map(|_| hold(100 * SECOND)).collect();
        assert!(holds.iter().all(|hold| (90 * SECOND..=100 * SECOND).contains(hold)));
        assert!(holds.iter().max().unwrap().abs_diff(*holds.iter().min().unwrap()) > 9 * SECOND);
    }

    #[test]
    fn a_ttl_has_a_floor_and_a_ceiling() {
        assert_eq!(hold(Duration::ZERO), TTL_FLOOR);
        assert!(hold(604_800 * SECOND) <= TTL_CEILING);
        assert!(hold(604_800 * SECOND) >= TTL_CEILING.mul_f64(0.9));
    }

    #[tokio::test(start_paused = true)]
    async fn keeps_the_last_good_answer_while_dns_is_ill() {
        let cache = cache();
        now(&cache, "a", Ok(answer(&[1], 60))).await;
        tokio::time::advance(70 * SECOND).await;
        let known = now(&cache, "a", Err(failure())).await;
        assert_eq!(known.answer.records, [1]);
        assert!(matches!(known.freshness, Freshness::Stale(since, _) if (10 * SECOND..=16 * SECOND).contains(&since)));
        assert!(!known.is_too_old);
        // It is left alone for a moment, then asked again.
        unasked(&cache, "a").await.unwrap();
        tokio::time::advance(STALE_TTL).await;
        assert_eq!(now(&cache, "a", Ok(answer(&[2], 60))).await.answer.records, [2]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_late_answer_is_waited_for_a_moment_and_then_comes_by_itself() {
        let cache = cache();
        now(&cache, "a", Ok(answer(&[1], 60))).await;
        tokio::time::advance(60 * SECOND).await;
        let Got { known, took } = get(&cache, "a", SECOND, Ok(answer(&[2], 60))).await;
        let known = known.unwrap();
        assert_eq!(known.answer.records, [1]);
        assert!(matches!(known.freshness, Freshness::Late(_)), "{:?}", known.freshness);
        assert_eq!(took, PATIENCE);
        // Who comes meanwhile waits a moment too, and asks nothing.
        assert_eq!(unasked(&cache, "a").await.unwrap().answer.records, [1]);
        tokio::time::sleep(SECOND).await;
        assert_eq!(unasked(&cache, "a").await.unwrap().answer.records, [2]);
        // One that is in time is what counts.
        tokio::time::advance(60 * SECOND).await;
        let Got { known, took } = get(&cache, "a", PATIENCE / 2, Ok(answer(&[3], 60))).await;
        assert_eq!((known.unwrap().answer.records.as_slice(), took), ([3].as_slice(), PATIENCE / 2));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_known_is_waited_for() {
        let cache = cache();
        let Got { known, took } = get(&cache, "a", SECOND, Ok(answer(&[1], 60))).await;
        assert_eq!((known.unwrap().freshness, took), (Freshness::Live, SECOND));
        let Got { known, took } = get(&cache, "b", 10 * SECOND, Ok(answer(&[1], 60))).await;
        assert_eq!((known.unwrap_err(), took), (unanswered(), 2 * SECOND));
        // The inquiry goes on, and is not made twice.
        tokio::time::sleep(8 * SECOND).await;
        assert_eq!(unasked(&cache, "b").await.unwrap().answer.records, [1]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_too_old_is_waited_for_and_marked() {
        let cache = cache();
        now(&cache, "a", Ok(answer(&[1], 60))).await;
        tokio::time::advance(MAX_STALE).await;
        let Got { known, took } = get(&cache, "a", 10 * SECOND, Ok(answer(&[2], 60))).await;
        let known = known.unwrap();
        assert_eq!((known.answer.records.as_slice(), known.is_too_old, took), ([1].as_slice(), true, 2 * SECOND));
        tokio::time::sleep(8 * SECOND).await;
        let known = unasked(&cache, "a").await.unwrap();
        assert_eq!((known.answer.records.as_slice(), known.is_too_old), ([2].as_slice(), false));
    }

    #[tokio::test(start_paused = true)]
    async fn an_empty_answer_replaces_a_full_one() {
        let cache = cache();
        now(&cache, "a", Ok(answer(&[1], 5))).await;
        assert!(cache.has_records("a"));
        tokio::time::advance(5 * SECOND).await;
        assert!(now(&cache, "a", Ok(answer(&[], 60))).await.answer.records.is_empty());
        assert!(unasked(&cache, "a").await.unwrap().answer.records.is_empty());
        assert!(!cache.has_records("a"));
    }

    #[tokio::test(start_paused = true)]
    async fn many_waiters_ask_once() {
        let cache = cache();
        let slow = get(&cache, "a", SECOND, Ok(answer(&[1], 60)));
        let (first, second) = tokio::join!(slow, unasked(&cache, "a"));
        assert_eq!((first.known.unwrap().answer.records[0], second.unwrap().answer.records[0]), (1, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn begins_to_ask_and_waits_for_nothing() {
        let cache = cache();
        cache.start("a", || async { Ok(answer(&[1], 60)) }, |_| ());
        assert!(!cache.has_records("a"));
        assert_eq!(unasked(&cache, "a").await.unwrap().answer.records, [1]);
        cache.start("a", || async { panic!("nothing should have been asked") }, |_| ());
        assert!(cache.has_records("a"));
    }

    /// Nobody waits for ever, and the next one asks again.
    #[tokio::test(start_paused = true)]
    async fn an_inquiry_that_panics_is_over() {
        let cache = cache();
        let ask = || async { panic!("this panic belongs to the test") };
        let known = cache.get("a", Instant::now() + SECOND, ask, |_| ()).await;
        assert_eq!(known.unwrap_err(), unanswered());
        assert_eq!(now(&cache, "a", Ok(answer(&[1], 60))).await.answer.records, [1]);
    }

    #[tokio::test(start_paused = true)]
    async fn other_nameservers_are_asked_at_once() {
        let cache = cache();
        now(&cache, "well", Ok(answer(&[1], 60))).await;
        get(&cache, "ill", Duration::ZERO, Err(failure())).await.known.unwrap_err();
        unasked(&cache, "ill").await.unwrap_err();
        cache.retry();
        assert_eq!(now(&cache, "ill", Ok(answer(&[2], 60))).await.answer.records, [2]);
        unasked(&cache, "well").await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_kept_comes_back() {
        let (old, new) = (cache(), cache());
        now(&old, "a", Ok(answer(&[1], 60))).await;
        tokio::time::advance(SECOND).await;
        now(&old, "b", Ok(answer(&[], 60))).await;
        let kept = old.kept();
        assert_eq!(kept.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["b", "a"]);
        for (name, kept) in kept {
            new.restore(&name, kept);
        }
        let known = unasked(&new, "a").await.unwrap();
        assert!(known.is_from_disk && matches!(known.freshness, Freshness::Cached(_)));
        assert!(unasked(&new, "b").await.unwrap().answer.records.is_empty());
        // Where the clock cannot be believed, the TTL cannot either.
        let doubted = cache();
        let (_, kept) = old.kept().remove(1);
        doubted.restore("a", Kept { learnt: None, ..kept });
        let known = now(&doubted, "a", Err(failure())).await;
        assert!(known.is_from_disk && known.freshness.is_stale());
    }

    #[tokio::test(start_paused = true)]
    async fn tells_of_what_has_changed() {
        let (cache, heard) = (cache(), Arc::new(Mutex::new(Vec::new())));
        let story = [
            (Ok(answer(&[1, 2], 5)), None),
            (Ok(answer(&[2, 1], 5)), None),
            (Ok(answer(&[2, 3], 5)), Some("changed")),
            (Err(failure()), Some("ill")),
            (Err(failure()), None),
            (Ok(answer(&[2, 3], 5)), Some("well")),
            (Err(failure()), Some("ill")),
            (Ok(answer(&[4], 5)), Some("changed, and well")),
        ];
        for (result, expected) in story {
            let told = heard.clone();
            let tell = move |news: News<u8>| {
                told.lock().unwrap().push(match news {
                    News::Changed { is_well_again: false, .. } => "changed",
                    News::Changed { .. } => "changed, and well",
                    News::WellAgain => "well",
                    News::Ill(_) => "ill",
                });
            };
            let _ = cache.get("a", Instant::now() + SECOND, || async { result }, tell).await;
            assert_eq!(heard.lock().unwrap().pop(), expected);
            tokio::time::advance(STALE_TTL).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn made_up_names_neither_pile_up_nor_push_out_real_ones() {
        let cache = cache();
        now(&cache, "real", Ok(answer(&[1], 60))).await;
        for n in 0..3 * NAMES {
            now(&cache, &n.to_string(), Ok(answer(&[], 60))).await;
        }
        assert!(cache.names.lock().unwrap().len() <= NAMES);
        assert_eq!(unasked(&cache, "real").await.unwrap().answer.records, [1]);
        for n in 0..3 * NAMES {
            now(&cache, &format!("x{n}"), Ok(answer(&[1], 60))).await;
        }
        assert!(cache.names.lock().unwrap().len() <= NAMES);
    }
}
