use super::*;

const MAX_STALE: Duration = Duration::from_secs(7 * 24 * 60 * 60);
const SECOND: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_millis(300);

fn patient() -> Wait {
    let now = Instant::now();
    Wait { soon: now + PATIENCE, until: now + 2 * SECOND }
}

fn cache() -> Cache<u8> {
    Cache::new(MAX_STALE, Arc::default())
}

fn answer(records: &[u8], ttl: u64) -> Answer<u8> {
    let ttl = Duration::from_secs(ttl);
    Answer { records: records.to_vec(), ttl, from: "192.0.2.1:53".into(), is_vague: false }
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
    let known = cache.get(name, patient(), ask, |_| ()).await;
    Got { known, took: began.elapsed() }
}

async fn now(cache: &Cache<u8>, name: &str, result: Result<Answer<u8>, Failure>) -> Known<u8> {
    get(cache, name, Duration::ZERO, result).await.known.unwrap()
}

async fn unasked(cache: &Cache<u8>, name: &str) -> Result<Known<u8>, Failure> {
    let ask = || async { panic!("nothing should have been asked") };
    cache.get(name, patient(), ask, |_| ()).await
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
    let known = cache.get("a", patient(), ask, |_| ()).await;
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
    // "None" is what those said who are asked no longer.
    now(&cache, "none", Ok(answer(&[], 60))).await;
    cache.retry();
    assert_eq!(now(&cache, "none", Ok(answer(&[3], 60))).await.answer.records, [3]);
    // And what they were still asked comes too late.
    let (old, new) = tokio::join!(get(&cache, "slow", SECOND, Err(failure())), async {
        tokio::time::sleep(SECOND / 2).await;
        cache.retry();
        get(&cache, "slow", SECOND / 10, Ok(answer(&[4], 60))).await
    });
    assert_eq!(old.known.unwrap().answer.records, new.known.unwrap().answer.records);
    assert_eq!(unasked(&cache, "slow").await.unwrap().answer.records, [4]);
}

#[tokio::test(start_paused = true)]
async fn a_vague_none_does_not_undo_what_is_known() {
    let cache = cache();
    let vague = || Ok(Answer { is_vague: true, ..answer(&[], 60) });
    assert!(now(&cache, "a", vague()).await.answer.records.is_empty(), "where nothing is known it is an answer");
    now(&cache, "b", Ok(answer(&[1], 5))).await;
    tokio::time::advance(5 * SECOND).await;
    let known = now(&cache, "b", vague()).await;
    assert_eq!(known.answer.records, [1]);
    assert!(known.freshness.describe().contains("(no SOA)"), "{}", known.freshness.describe());
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
        new.restore(&name, kept, true);
    }
    let known = unasked(&new, "a").await.unwrap();
    assert!(known.is_from_disk && matches!(known.freshness, Freshness::Cached(_)));
    assert!(unasked(&new, "b").await.unwrap().answer.records.is_empty());
    // Where the clock cannot be believed, the TTL cannot either.
    let doubted = cache();
    let (_, kept) = old.kept().remove(1);
    doubted.restore("a", Kept { learnt: None, ..kept }, true);
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
        let _ = cache.get("a", patient(), || async { result }, tell).await;
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
        tokio::time::advance(Duration::from_millis(1)).await;
        now(&cache, &format!("x{n}"), Ok(answer(&[1], 60))).await;
    }
    assert!(cache.names.lock().unwrap().len() <= NAMES);
    // What was learnt longest ago goes.
    assert!(!cache.has_records("real") && !cache.has_records("x0"));
    assert!(cache.has_records(&format!("x{}", 3 * NAMES - 1)) && cache.has_records(&format!("x{}", 2 * NAMES + 1)));
}
