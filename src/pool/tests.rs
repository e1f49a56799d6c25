//! What is known of servers, and what follows from it, case by case. Their life over weeks: `tests/model.rs`.

use super::*;
use crate::discovery::NoAddress;
use crate::discovery::answer::Failure;

const HOLD: Duration = Duration::from_secs(300);

fn server(name: &str) -> HostPort {
    HostPort { host: name.parse().unwrap(), port: 8140 }
}

/// `a` has 192.0.2.97 and `2001:db8::97`, and so on.
fn addr(name: &str, is_v6: bool) -> SocketAddr {
    let n = name.as_bytes()[0];
    let ip = if is_v6 { format!("2001:db8::{n}") } else { format!("192.0.2.{n}") };
    SocketAddr::new(ip.parse().unwrap(), 8140)
}

fn tried(name: &str, did: Did, ms: u64) -> Try {
    let (started, took) = (Instant::now(), Duration::from_millis(ms));
    Try { server: server(name), addr: Some(addr(name, false)), did, started, took }
}

fn tried_v6(name: &str, did: Did, ms: u64) -> Try {
    Try { addr: Some(addr(name, true)), ..tried(name, did, ms) }
}

fn unnamed() -> Verdict {
    Verdict::Unnamed { has: "x.test".into() }
}

/// A host and its servers: `a`, `b`, … in this order, by priority.
struct Bench {
    pool: Pool,
    now: Instant,
    records: Vec<Srv>,
    role: Role,
    name: Host,
}

impl Bench {
    fn new(priorities: &[u16]) -> Self {
        let record = |(priority, name): (&u16, char)| {
            let target = name.to_string().parse().ok();
            Srv { priority: *priority, weight: 0, port: 8140, target }
        };
        Bench {
            pool: Pool::new(HOLD).seeded(1),
            now: Instant::now(),
            records: priorities.iter().zip('a'..).map(record).collect(),
            role: Role::new("compile"),
            name: "puppet.test".parse().unwrap(),
        }
    }

    fn set(&self) -> Set {
        Set::of(&self.records)
    }

    /// Without and with a look at certificates.
    fn lineup(&mut self, looks: bool) -> Lineup {
        let wanted = Wanted { role: Some(&self.role), name: looks.then_some(&self.name) };
        self.pool.line_up(self.records.clone(), &Set::of(&self.records), wanted, self.now)
    }

    fn order(&mut self) -> String {
        names(self.lineup(false).candidates.make_contiguous())
    }

    /// Gives the flips: who, and what it is now.
    fn learn(&mut self, tries: &[Try]) -> Vec<(String, Rank)> {
        self.pool.learn(tries, self.now).into_iter().map(|flip| (flip.server.host.to_string(), flip.to)).collect()
    }

    fn conclude(&mut self, name: &str, verdict: Verdict) {
        self.pool.conclude(&server(name), &self.name, verdict, self.now);
    }

    fn open(&mut self, name: &str) {
        self.pool.open(&self.role, &Set::of(&self.records), &server(name), false, self.now);
    }

    fn rank(&self, name: &str) -> Rank {
        self.pool.servers.rank(&server(name), self.now)
    }

    fn is_free(&self, name: &str) -> bool {
        self.pool.servers.trouble(&server(name)).is_none()
    }

    fn address_rank(&self, name: &str, is_v6: bool) -> Rank {
        self.pool.addresses.rank(&addr(name, is_v6), self.now)
    }
}

fn names(candidates: &[Candidate]) -> String {
    candidates.iter().map(|candidate| candidate.server.host.to_string()).collect()
}

/// Those that are to be looked at first.
fn checked(lineup: &Lineup) -> String {
    let checked: Vec<_> = lineup.candidates.iter().filter(|candidate| candidate.check).cloned().collect();
    names(&checked)
}

// === line_up ===

#[test]
fn what_nothing_is_known_of_stays_in_order() {
    let mut bench = Bench::new(&[0, 0, 1]);
    let lineup = bench.lineup(false);
    assert_eq!((names(&Vec::from(lineup.candidates.clone())), checked(&lineup)), ("abc".into(), String::new()));
    assert_eq!((lineup.is_pinned, lineup.beside, lineup.last_resort), (false, None, Vec::new()));
    assert_eq!(checked(&bench.lineup(true)), "abc");
}

#[test]
fn slow_comes_after_good_and_down_after_slow() {
    let mut bench = Bench::new(&[0, 0, 1, 2]);
    bench.learn(&[tried("a", Did::Refuse, 1), tried("b", Did::Mute, 260), tried("d", Did::Answer, 9)]);
    assert_eq!(bench.order(), "cdba");
}

#[test]
fn where_all_are_down_none_is_left_out() {
    let mut bench = Bench::new(&[0, 1, 2]);
    bench.learn(&["a", "b", "c"].map(|name| tried(name, Did::Refuse, 1)));
    assert_eq!(bench.order(), "abc");
    // One of these may be up again.
    bench.now = bench.pool.servers.trouble(&server("c")).unwrap().until;
    bench.learn(&["a", "b"].map(|name| tried(name, Did::Refuse, 1)));
    assert_eq!(bench.order(), "cab");
}

#[test]
fn one_that_may_be_up_again_is_tried_in_its_place_by_one_connection() {
    let mut bench = Bench::new(&[0, 1, 2, 3]);
    bench.learn(&[tried("b", Did::Refuse, 1), tried("d", Did::Answer, 9)]);
    bench.now += Duration::from_secs(1);
    bench.learn(&[tried("a", Did::Refuse, 1), tried("d", Did::Answer, 9)]);
    assert_eq!(bench.order(), "cdab");
    bench.now += Duration::from_secs(60);
    // The one that has waited longer.
    let (a, b) = (server("a"), server("b"));
    let until = |bench: &Bench, server| bench.pool.servers.trouble(server).unwrap().until;
    let (first, second) = if until(&bench, &a) < until(&bench, &b) { ("a", "b") } else { ("b", "a") };
    assert_eq!(bench.order(), format!("{first}cd{second}"));
    // While that is being tried, it counts as down; the next connection tries the other.
    assert_eq!(bench.order(), format!("{second}cd{first}"));
    assert_eq!(bench.order(), "cdab");
    bench.learn(&[tried(first, Did::Refuse, 1), tried("c", Did::Answer, 9)]);
    bench.learn(&[tried(second, Did::Answer, 9)]);
    assert_eq!(bench.order(), format!("{second}cd{first}"), "it is back");
}

#[test]
fn what_is_tried_again_does_not_go_before_what_is_preferred() {
    let mut bench = Bench::new(&[0, 1, 2]);
    bench.learn(&[tried("b", Did::Refuse, 1), tried("a", Did::Answer, 9)]);
    bench.now += Duration::from_secs(60);
    assert_eq!((bench.order(), bench.order()), ("acb".into(), "acb".into()));
    assert!(bench.pool.servers.doubtful(&server("b"), bench.now).is_some(), "nobody is trying it");
}

#[test]
fn the_runs_server_goes_first_unless_something_is_against_it() {
    let mut bench = Bench::new(&[0, 0, 1]);
    bench.open("c");
    let lineup = bench.lineup(false);
    assert_eq!((names(&Vec::from(lineup.candidates)), lineup.is_pinned), ("cab".into(), true));
    let set = bench.set();
    assert!(!bench.pool.is_unpinned(&bench.role, &set, bench.now));
    bench.learn(&[tried("c", Did::Reset, 1), tried("a", Did::Answer, 9)]);
    let lineup = bench.lineup(false);
    assert_eq!((names(&Vec::from(lineup.candidates)), lineup.is_pinned), ("abc".into(), false));
    assert!(bench.pool.is_unpinned(&bench.role, &set, bench.now));
    // Its hold-down is over, but it has not answered since.
    bench.now += Duration::from_secs(60);
    assert_eq!((bench.order(), bench.lineup(false).is_pinned), ("abc".into(), false));
    bench.learn(&[tried("c", Did::Answer, 9)]);
    assert!(bench.lineup(false).is_pinned);
}

#[test]
fn a_certificate_without_the_name_comes_last() {
    let mut bench = Bench::new(&[0, 1, 2]);
    bench.conclude("a", unnamed());
    bench.conclude("b", Verdict::Named);
    bench.learn(&[tried("c", Did::Refuse, 1), tried("b", Did::Answer, 9)]);
    let lineup = bench.lineup(true);
    assert_eq!((names(&lineup.last_resort), checked(&lineup)), ("a".into(), "c".into()));
    assert_eq!(names(&Vec::from(lineup.candidates)), "bc");
    assert_eq!(bench.order(), "abc", "who asks for no name does not care");
    for name in ["b", "c"] {
        bench.conclude(name, unnamed());
    }
    let lineup = bench.lineup(true);
    assert_eq!((lineup.candidates.len(), names(&lineup.last_resort)), (0, "abc".into()));
}

#[test]
fn a_run_whose_server_lacks_the_name_goes_elsewhere_and_stays() {
    let mut bench = Bench::new(&[0, 0]);
    bench.open("b");
    bench.conclude("b", unnamed());
    let lineup = bench.lineup(true);
    assert_eq!((lineup.is_pinned, lineup.keep_pin, names(&lineup.last_resort)), (false, true, "b".into()));
    assert!(bench.lineup(false).is_pinned, "connections for another name");
}

#[test]
fn an_unknown_certificate_is_looked_at_beside_a_known_one() {
    let mut bench = Bench::new(&[0, 0, 1]);
    bench.conclude("b", Verdict::Named);
    bench.conclude("c", Verdict::Named);
    let lineup = bench.lineup(true);
    assert_eq!((checked(&lineup), lineup.beside.clone()), ("a".into(), Some(server("a"))));
    assert_eq!(names(&Vec::from(lineup.candidates)), "bac");
    // Not one of another priority, nor one that is worse off.
    bench.learn(&[tried("b", Did::Refuse, 1), tried("a", Did::Answer, 9)]);
    for wait in [0, 60] {
        bench.now += Duration::from_secs(wait);
        let lineup = bench.lineup(true);
        assert_eq!((names(&Vec::from(lineup.candidates)), lineup.beside), ("acb".into(), None), "{wait}");
    }
}

#[test]
fn a_runs_server_is_looked_at_for_another_name_first() {
    let mut bench = Bench::new(&[0, 0]);
    bench.open("b");
    let lineup = bench.lineup(true);
    assert_eq!((checked(&lineup), lineup.beside.clone()), ("ba".into(), None));
    assert!(lineup.is_pinned);
}

#[test]
fn the_only_server_is_taken_whatever_is_known() {
    let mut bench = Bench::new(&[0]);
    let lineup = bench.lineup(true);
    assert_eq!((checked(&lineup), lineup.beside), (String::new(), Some(server("a"))));
    bench.learn(&[tried("a", Did::Refuse, 1)]);
    bench.conclude("a", unnamed());
    let lineup = bench.lineup(true);
    assert_eq!((lineup.candidates.len(), lineup.last_resort.len(), lineup.beside), (1, 0, None));
}

#[test]
fn a_role_that_is_nobodys_has_no_pin() {
    let mut bench = Bench::new(&[0, 0]);
    bench.open("b");
    let wanted = Wanted { role: None, name: None };
    let lineup = bench.pool.line_up(bench.records.clone(), &bench.set(), wanted, bench.now);
    assert!(!lineup.is_pinned);
}

// === learn ===

#[test]
fn each_thing_that_a_server_does() {
    let failure = |did| (did, Some(Rank::Down));
    for (did, expected) in [
        failure(Did::Refuse),
        failure(Did::TimeOut),
        failure(Did::Reset),
        failure(Did::Close),
        failure(Did::Alert(40)),
        failure(Did::NotTls(b'H')),
        failure(Did::Fail("No route to host".into())),
        (Did::NotAnswer, Some(Rank::Slow)),
        (Did::Mute, Some(Rank::Slow)),
        // DNS, and what is wrong on this host.
        (Did::NotFound, None),
        (Did::NoAddress(NoAddress::None), None),
        (Did::NoAddress(NoAddress::Failed(Failure { tried: Vec::new() })), None),
        (Did::Local("Too many open files".into()), None),
        // The client had not said what it wants.
        (Did::Wait, None),
        (Did::LeadBack, None),
        (Did::OtherFamily("192.0.2.1".parse().unwrap()), None),
        (Did::Unnamed { asked: "puppet.test".parse().unwrap(), has: "x".into() }, None),
    ] {
        let mut bench = Bench::new(&[0, 1]);
        let flips = bench.learn(&[tried("a", did.clone(), 260), tried("b", Did::Answer, 9)]);
        let flip = expected.map(|rank| ("a".to_owned(), rank));
        assert_eq!(flips, Vec::from_iter(flip), "{did:?}");
        assert_eq!(bench.rank("a"), expected.unwrap_or(Rank::Good), "{did:?}");
        assert_eq!(bench.pool.take_changed(), expected.is_some(), "{did:?}");
        assert!(!bench.pool.take_changed());
    }
}

#[test]
fn outrun_is_only_who_had_more_time_than_the_winner_took() {
    let mut bench = Bench::new(&[0, 0]);
    assert_eq!(bench.learn(&[tried("a", Did::NotAnswer, 300), tried("b", Did::Answer, 300)]), []);
    let slow = [("a".to_owned(), Rank::Slow)];
    assert_eq!(bench.learn(&[tried("a", Did::NotAnswer, 301), tried("b", Did::Answer, 300)]), slow);
}

#[test]
fn who_answers_is_back() {
    let mut bench = Bench::new(&[0, 0]);
    bench.learn(&[tried("a", Did::Refuse, 1), tried("b", Did::Answer, 9)]);
    assert_eq!(bench.learn(&[tried("a", Did::Accept, 9)]), [], "to accept is no answer");
    assert!(!bench.is_free("a"));
    assert_eq!(bench.learn(&[tried("a", Did::Answer, 9)]), [("a".to_owned(), Rank::Good)]);
    assert!(bench.is_free("a") && bench.address_rank("a", false) == Rank::Good);
}

#[test]
fn what_alerts_everywhere_is_the_clients_doing() {
    let mut bench = Bench::new(&[0, 0]);
    assert_eq!(bench.learn(&[tried("a", Did::Alert(70), 5), tried("b", Did::Alert(70), 5)]), []);
    assert_eq!(bench.learn(&[tried("a", Did::Alert(70), 5), tried("b", Did::LeadBack, 5)]), []);
    assert_eq!(bench.learn(&[tried("a", Did::Alert(70), 5), tried("b", Did::Accept, 5)]), []);
    assert!(bench.is_free("a") && bench.is_free("b") && !bench.pool.take_changed());
    // Nor does another's fault make it theirs; only an answer does.
    let flips = bench.learn(&[tried("a", Did::Alert(70), 5), tried("b", Did::Refuse, 5)]);
    assert_eq!(flips, [("b".to_owned(), Rank::Down)]);
    let flips = bench.learn(&[tried("a", Did::Alert(70), 5), tried("b", Did::Answer, 5)]);
    assert!(flips.contains(&("a".to_owned(), Rank::Down)), "{flips:?}");
}

#[test]
fn where_nobody_answers_only_long_silence_counts() {
    let mut bench = Bench::new(&[0, 0, 0]);
    let gone = [tried("a", Did::NotAnswer, 1499), tried("b", Did::Mute, 1499), tried("c", Did::NotFound, 1499)];
    assert_eq!(bench.learn(&gone), [], "the client has gone");
    let late = [tried("a", Did::NotAnswer, 1500), tried("b", Did::Mute, 1500), tried("c", Did::NotFound, 1500)];
    bench.learn(&late);
    assert_eq!(["a", "b", "c"].map(|name| bench.rank(name)), [Rank::Down, Rank::Slow, Rank::Good]);
}

#[test]
fn one_address_of_two_is_not_the_server() {
    let mut bench = Bench::new(&[0, 0]);
    assert_eq!(bench.learn(&[tried_v6("a", Did::Refuse, 1), tried("a", Did::Answer, 9)]), []);
    assert!(bench.is_free("a"));
    assert_eq!((bench.address_rank("a", true), bench.address_rank("a", false)), (Rank::Down, Rank::Good));
    // One that has failed and one that is late may yet come; another server was faster.
    let tries = [tried_v6("b", Did::Refuse, 1), tried("b", Did::NotAnswer, 260), tried("a", Did::Answer, 9)];
    assert_eq!(bench.learn(&tries), [("b".to_owned(), Rank::Slow)]);
    let tries = [tried_v6("b", Did::Refuse, 1), tried("b", Did::Refuse, 1), tried("a", Did::Answer, 9)];
    assert_eq!(bench.learn(&tries), [("b".to_owned(), Rank::Down)]);
    // One that has failed and one that had no time says nothing.
    let mut bench = Bench::new(&[0, 0]);
    let tries = [tried_v6("b", Did::Refuse, 1), tried("b", Did::NotAnswer, 5), tried("a", Did::Answer, 9)];
    assert_eq!(bench.learn(&tries), []);
}

#[test]
fn a_black_hole_of_ipv6_costs_once() {
    let mut bench = Bench::new(&[0, 0]);
    let ips = |name: &str| [addr(name, true).ip(), addr(name, false).ip()];
    let mut sorted = ips("a");
    bench.pool.sort_addresses(&mut sorted, 8140, None, bench.now);
    assert_eq!(sorted, ips("a"));
    // While one is silent, the other family goes first, another server's too.
    for name in ["a", "b"] {
        let mut sorted = ips(name);
        bench.pool.sort_addresses(&mut sorted, 8140, Some(addr("a", true).ip()), bench.now);
        assert!(sorted[0].is_ipv4() && sorted[1].is_ipv6(), "{sorted:?}");
    }
    assert_eq!(bench.learn(&[tried_v6("a", Did::NotAnswer, 260), tried("a", Did::Answer, 9)]), []);
    let mut sorted = ips("a");
    bench.pool.sort_addresses(&mut sorted, 8140, None, bench.now);
    assert!(sorted[0].is_ipv4(), "it is remembered");
    let only = addr("a", true).ip();
    let mut sorted = [only];
    bench.pool.sort_addresses(&mut sorted, 8140, Some(only), bench.now);
    assert_eq!(sorted, [only]);
}

/// The other family was not at fault, but nothing is gained by going back to one that nobody has heard of.
#[test]
fn an_address_that_has_answered_goes_before_an_unknown_one() {
    let mut bench = Bench::new(&[0, 0]);
    bench.learn(&[tried("a", Did::Answer, 9)]);
    let mut sorted = [addr("a", true).ip(), addr("a", false).ip()];
    bench.pool.sort_addresses(&mut sorted, 8140, None, bench.now);
    assert!(sorted[0].is_ipv4(), "{sorted:?}");
}

/// Connections that have met the same fault at the same moment.
#[test]
fn one_event_that_many_meet_is_one_failure() {
    let mut bench = Bench::new(&[0, 0]);
    let tries = [tried("a", Did::Refuse, 1), tried("b", Did::Answer, 9)];
    assert_eq!(bench.learn(&tries).len(), 1);
    let until = bench.pool.servers.trouble(&server("a")).unwrap().until;
    for _ in 0..20 {
        assert_eq!(bench.learn(&tries), []);
    }
    assert_eq!(bench.pool.servers.trouble(&server("a")).unwrap().until, until);
}
