//! What DNS said last, for as long as it holds; and beyond, where DNS is ill.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::dns::{Answer, Failure};

/// Shortest time for which nothing is asked again, whatever the TTL: an agent's run is several connections within
/// seconds.
const TTL_FLOOR: Duration = Duration::from_secs(5);

/// Longest time for which nothing is asked again: a mistyped TTL must not outlive an admin's patience.
const TTL_CEILING: Duration = Duration::from_secs(60 * 60);

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
}

/// An answer and where it comes from.
#[derive(Clone, Debug)]
pub struct Known<T> {
    /// What DNS said.
    pub answer: Arc<Answer<T>>,
    /// When.
    pub freshness: Freshness,
}

/// Answers by name.
pub(super) struct Cache<T> {
    names: Mutex<HashMap<String, Arc<Slot<T>>>>,
}

/// One name. Who holds the lock asks; the others wait for what it finds.
type Slot<T> = tokio::sync::Mutex<State<T>>;

struct State<T> {
    good: Option<Arc<Answer<T>>>,
    failure: Option<Failure>,
    /// Until when the good answer holds.
    fresh_until: Instant,
    /// Until when nothing is asked.
    quiet_until: Instant,
}

impl<T> Cache<T> {
    pub(super) fn new() -> Self {
        Cache { names: Mutex::new(HashMap::new()) }
    }

    /// The answer for a name: remembered, or by `ask`, which runs once however many wait for it.
    pub(super) async fn get<F>(&self, name: &str, ask: impl FnOnce() -> F) -> Result<Known<T>, Failure>
    where
        F: Future<Output = Result<Answer<T>, Failure>>,
    {
        let slot = self.slot(name);
        let mut state = slot.lock().await;
        let now = Instant::now();
        if now < state.quiet_until {
            return state.known(now);
        }
        match ask().await {
            Ok(answer) => {
                let now = Instant::now();
                let hold = answer.ttl.clamp(TTL_FLOOR, TTL_CEILING);
                let answer = Arc::new(answer);
                *state = State {
                    good: Some(answer.clone()),
                    failure: None,
                    fresh_until: now + hold,
                    quiet_until: now + hold,
                };
                Ok(Known { answer, freshness: Freshness::Live })
            }
            Err(failure) => {
                let now = Instant::now();
                state.failure = Some(failure);
                state.quiet_until = now + if state.good.is_some() { STALE_TTL } else { FAILURE_TTL };
                state.known(now)
            }
        }
    }

    /// The answer for a name, if it is remembered and holds.
    pub(super) fn fresh(&self, name: &str) -> Option<Known<T>> {
        let slot = self.names.lock().unwrap_or_else(PoisonError::into_inner).get(name)?.clone();
        let state = slot.try_lock().ok()?;
        let now = Instant::now();
        if now < state.fresh_until { state.known(now).ok() } else { None }
    }

    fn slot(&self, name: &str) -> Arc<Slot<T>> {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = names.get(name) {
            return slot.clone();
        }
        if names.len() >= NAMES {
            // Names that do not exist go first: they are what somebody makes up.
            names.retain(|_, slot| slot.try_lock().map_or(true, |state| state.has_records()));
        }
        if names.len() >= NAMES {
            names.clear();
        }
        let now = Instant::now();
        let state = State { good: None, failure: None, fresh_until: now, quiet_until: now };
        names.entry(name.into()).or_insert_with(|| Arc::new(Slot::new(state))).clone()
    }
}

impl<T> State<T> {
    fn has_records(&self) -> bool {
        self.good.as_ref().is_some_and(|good| !good.records.is_empty())
    }

    /// What is known without asking.
    fn known(&self, now: Instant) -> Result<Known<T>, Failure> {
        match (&self.good, &self.failure) {
            (Some(good), None) => {
                Ok(Known { answer: good.clone(), freshness: Freshness::Cached(self.fresh_until - now) })
            }
            (Some(good), Some(failure)) => Ok(Known {
                answer: good.clone(),
                freshness: Freshness::Stale(now.saturating_duration_since(self.fresh_until), failure.clone()),
            }),
            (None, failure) => Err(failure.clone().unwrap_or(Failure { tried: Vec::new() })),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[allow(clippy::unnecessary_wraps, reason = "as DNS answers")]
    fn answer(records: &[u8], ttl: u64) -> Result<Answer<u8>, Failure> {
        Ok(Answer { records: records.to_vec(), ttl: Duration::from_secs(ttl), from: "192.0.2.1:53".parse().unwrap() })
    }

    fn failure() -> Result<Answer<u8>, Failure> {
        Err(Failure { tried: vec![("192.0.2.1:53".parse().unwrap(), "said SERVFAIL".into())] })
    }

    async fn unasked() -> Result<Answer<u8>, Failure> {
        panic!("nothing should have been asked")
    }

    #[tokio::test(start_paused = true)]
    async fn asks_once_within_the_ttl_and_again_after_it() {
        let cache = Cache::new();
        assert_eq!(cache.get("a", || async { answer(&[1], 60) }).await.unwrap().freshness, Freshness::Live);
        tokio::time::advance(Duration::from_secs(59)).await;
        let known = cache.get("a", unasked).await.unwrap();
        assert_eq!(known.freshness, Freshness::Cached(Duration::from_secs(1)));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(cache.get("a", || async { answer(&[2], 60) }).await.unwrap().answer.records, [2]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_ttl_has_a_floor_and_a_ceiling() {
        let cache = Cache::new();
        cache.get("zero", || async { answer(&[1], 0) }).await.unwrap();
        cache.get("long", || async { answer(&[1], 604_800) }).await.unwrap();
        tokio::time::advance(TTL_FLOOR.mul_f32(0.9)).await;
        cache.get("zero", unasked).await.unwrap();
        tokio::time::advance(TTL_CEILING).await;
        assert_eq!(cache.get("long", || async { answer(&[2], 60) }).await.unwrap().answer.records, [2]);
    }

    #[tokio::test(start_paused = true)]
    async fn keeps_the_last_good_answer_while_dns_is_ill() {
        let cache = Cache::new();
        cache.get("a", || async { answer(&[1], 60) }).await.unwrap();
        tokio::time::advance(Duration::from_secs(70)).await;
        let known = cache.get("a", || async { failure() }).await.unwrap();
        assert_eq!(known.answer.records, [1]);
        assert!(matches!(known.freshness, Freshness::Stale(since, _) if since == Duration::from_secs(10)));
        // It is left alone for a moment, then asked again.
        cache.get("a", unasked).await.unwrap();
        tokio::time::advance(STALE_TTL).await;
        assert_eq!(cache.get("a", || async { answer(&[2], 60) }).await.unwrap().answer.records, [2]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_empty_answer_replaces_a_full_one() {
        let cache = Cache::new();
        cache.get("a", || async { answer(&[1], 5) }).await.unwrap();
        tokio::time::advance(Duration::from_secs(5)).await;
        assert!(cache.get("a", || async { answer(&[], 60) }).await.unwrap().answer.records.is_empty());
        assert!(cache.get("a", unasked).await.unwrap().answer.records.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn many_waiters_ask_once() {
        let cache = Cache::new();
        let slow = cache.get("a", || async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            answer(&[1], 60)
        });
        let (first, second) = tokio::join!(slow, cache.get("a", unasked));
        assert_eq!((first.unwrap().answer.records[0], second.unwrap().answer.records[0]), (1, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn made_up_names_neither_pile_up_nor_push_out_real_ones() {
        let cache = Cache::new();
        cache.get("real", || async { answer(&[1], 60) }).await.unwrap();
        for n in 0..3 * NAMES {
            cache.get(&n.to_string(), || async { answer(&[], 60) }).await.unwrap();
        }
        assert!(cache.names.lock().unwrap().len() <= NAMES);
        assert_eq!(cache.get("real", unasked).await.unwrap().answer.records, [1]);
        for n in 0..3 * NAMES {
            cache.get(&format!("x{n}"), || async { answer(&[1], 60) }).await.unwrap();
        }
        assert!(cache.names.lock().unwrap().len() <= NAMES);
    }
}
