//! The order in which a role's servers are tried, before what is known of them has its say.
//!
//! SRV priority goes before everything, then what the site prefers, then the way to balance. Nothing here remembers:
//! the same records, [`Pick`] and random numbers give the same order.

use std::cmp::Ordering;

use crate::config::{Balance, RoleConfig};
use crate::discovery::srv::{self, Srv};
use crate::pattern::Pattern;

/// What decides among servers of one SRV priority.
#[derive(Clone, Copy, Debug)]
pub struct Pick<'a> {
    /// How those are chosen among that are equally preferred.
    pub balance: Balance,
    /// Who is preferred; an earlier pattern goes before a later one.
    pub prefer: &'a [Pattern],
    /// What tells this host from others in [`Balance::Hash`], as its bytes are: the certname, lower case.
    pub key: &'a str,
}

/// Sorts servers as they are to be tried. Duplicates collapse, the target `.` is left out.
///
/// With [`Balance::Hash`] the order depends on the key and the records alone, not on `rng` nor on the order in which a
/// nameserver lists them. [`Balance::LeastLoaded`] is a draw here, which puts those in order whose load is not known.
pub fn order(records: &[Srv], pick: &Pick<'_>, rng: &mut fastrand::Rng) -> Vec<Srv> {
    let mut servers = srv::order(records, rng);
    match pick.balance {
        // A draw without replacement, restricted to some of those drawn, is a draw among these.
        Balance::Srv | Balance::LeastLoaded => {}
        Balance::Hash => servers.sort_by(|a, b| by_hash(pick.key, a, b)),
    }
    // Both sorts are stable.
    servers.sort_by_key(|server| (server.priority, rank(server, pick.prefer)));
    servers
}

/// The same by a role's settings; where it has none, by the records alone. `key`: see [`Pick::key`].
pub fn order_for(role: Option<&RoleConfig>, key: &str, records: &[Srv], rng: &mut fastrand::Rng) -> Vec<Srv> {
    let Some(RoleConfig { balance, prefer, .. }) = role else { return srv::order(records, rng) };
    order(records, &Pick { balance: *balance, prefer, key }, rng)
}

/// Whether nothing but the draw, or the hash, put one of two servers before the other.
pub fn are_equal(a: &Srv, b: &Srv, prefer: &[Pattern]) -> bool {
    (a.priority, rank(a, prefer)) == (b.priority, rank(b, prefer))
}

/// Index of the first pattern that means the server; one past the last where none does.
fn rank(server: &Srv, prefer: &[Pattern]) -> usize {
    let host = server.target.as_ref();
    prefer.iter().position(|pattern| host.is_some_and(|host| pattern.matches(host))).unwrap_or(prefer.len())
}

/// The higher score first. Hashes are hardly ever equal; where they are, the order of a DNS answer must not decide.
fn by_hash(key: &str, a: &Srv, b: &Srv) -> Ordering {
    let ties = || (&a.target, a.port).cmp(&(&b.target, b.port));
    score(key, b).total_cmp(&score(key, a)).then_with(ties)
}

/// Weighted rendezvous hashing: each server has a score of its own for each key, independent of the other servers, and
/// the highest wins. Its share is in proportion to its weight, and a server that comes or goes moves only the keys that
/// it wins.
///
/// The logarithm may differ in its last bit from one machine to another. Two scores that close are one key in 10^15.
fn score(key: &str, server: &Srv) -> f64 {
    // -ln(u) is exponentially distributed, and of several such values divided by weights each is the smallest with a
    // probability in proportion to its weight.
    f64::from(srv::share(server.weight)) / -unit(hash(key, server)).ln()
}

/// A number strictly between 0 and 1 of the upper 52 bits, evenly distributed.
fn unit(hash: u64) -> f64 {
    // The bits are the fraction of a number from 1 to 2; half a step more keeps it off both ends.
    f64::from_bits(1f64.to_bits() | hash >> 12) - 1.0 + f64::EPSILON / 2.0
}

/// The hash of a key and a server: FNV-1a of the key, a zero byte, the target, a zero byte, and the port in two bytes,
/// the high one first; then [`mix`]. It must never change: with it every host of a fleet would change its server.
fn hash(key: &str, server: &Srv) -> u64 {
    let target = server.target.as_ref().map(ToString::to_string).unwrap_or_default();
    let bytes = [key.as_bytes(), &[0], target.as_bytes(), &[0], &server.port.to_be_bytes()].concat();
    mix(fnv1a(&bytes))
}

/// FNV-1a, 64 bits, by Fowler, Noll and Vo (RFC 9923).
fn fnv1a(bytes: &[u8]) -> u64 {
    const OFFSET_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    bytes.iter().fold(OFFSET_BASIS, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(PRIME))
}

/// `fmix64`, the finaliser of `MurmurHash3` by Austin Appleby: each bit of the input changes each bit of the output
/// with a probability near one half. FNV alone leaves names that differ in their last characters near each other.
fn mix(mut hash: u64) -> u64 {
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ hash >> 33
}

#[cfg(test)]
mod tests {
    use super::*;
    use fastrand::Rng;

    const HOSTS: u32 = 10_000;

    fn server(priority: u16, weight: u16, name: &str) -> Srv {
        Srv { priority, weight, port: 8140, target: Some(format!("{name}.example.com").parse().unwrap()) }
    }

    /// Names without their domain.
    fn names(order: &[Srv]) -> Vec<String> {
        let name = |server: &Srv| server.target.as_ref().unwrap().to_string();
        order.iter().map(|server| name(server).trim_end_matches(".example.com").to_owned()).collect()
    }

    /// As sites number their hosts, so that neighbours differ in a character or two.
    fn certnames() -> impl Iterator<Item = String> {
        (0..HOSTS).map(|n| match n % 3 {
            0 => format!("agent{n:05}.example.com"),
            1 => format!("web-{n}.fra.example.com"),
            _ => format!("{n:x}"),
        })
    }

    fn hashed(key: &str, records: &[Srv]) -> Vec<Srv> {
        order(records, &Pick { balance: Balance::Hash, prefer: &[], key }, &mut Rng::with_seed(1))
    }

    fn patterns(texts: &[&str]) -> Vec<Pattern> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    /// Whether a share of so many draws is what it should be: four standard deviations of a binomial distribution,
    /// which a fair choice leaves once in 16,000 times. Nothing here is random from one run of the test to the next.
    fn close(hits: u32, draws: u32, wanted: f64) {
        let (measured, draws) = (f64::from(hits) / f64::from(draws), f64::from(draws));
        let tolerance = 4.0 * (wanted * (1.0 - wanted) / draws).sqrt();
        assert!((measured - wanted).abs() < tolerance, "measured {measured}, wanted {wanted} ± {tolerance}");
    }

    fn count(draws: impl Iterator<Item = bool>) -> u32 {
        draws.map(u32::from).sum()
    }

    #[test]
    fn hosts_are_spread_in_proportion_to_the_weights() {
        for weights in [&[1, 1][..], &[75, 25], &[1, 2, 7], &[0, 0, 0], &[1, 0], &[65535, 65535, 65535, 65535]] {
            let records: Vec<_> = weights.iter().zip('a'..).map(|(w, c)| server(0, *w, &c.to_string())).collect();
            let first: Vec<_> = certnames().map(|key| hashed(&key, &records).remove(0)).collect();
            let all: u32 = weights.iter().map(|w| srv::share(*w)).sum();
            for record in &records {
                let wanted = f64::from(srv::share(record.weight)) / f64::from(all);
                close(count(first.iter().map(|won| won == record)), HOSTS, wanted);
            }
        }
    }

    /// So that a server's hosts do not all go to one other when it fails.
    #[test]
    fn the_second_place_is_in_proportion_too() {
        let records = [server(0, 7, "a"), server(0, 2, "b"), server(0, 1, "c")];
        let orders: Vec<_> =
            certnames().map(|key| names(&hashed(&key, &records))).filter(|order| order[0] == "a").collect();
        close(count(orders.iter().map(|order| order[1] == "b")), u32::try_from(orders.len()).unwrap(), 2.0 / 3.0);
    }

    #[test]
    fn who_goes_or_comes_changes_nothing_for_the_others() {
        let five: Vec<_> =
            [(60, "a"), (40, "b"), (0, "c"), (1, "d"), (60, "e")].map(|(weight, name)| server(0, weight, name)).into();
        for gone in 0..five.len() {
            let mut four = five.clone();
            let gone = four.remove(gone);
            for key in certnames().step_by(10) {
                // All of the order, and so the first place: it moves only where the one that has gone was first.
                let without: Vec<_> = hashed(&key, &five).into_iter().filter(|server| *server != gone).collect();
                assert_eq!(hashed(&key, &four), without, "{key} without {:?}", gone.target);
            }
        }
    }

    #[test]
    fn more_weight_only_draws_hosts_to_it() {
        let before = [server(0, 10, "a"), server(0, 10, "b"), server(0, 10, "c")];
        let after = [server(0, 10, "a"), server(0, 20, "b"), server(0, 10, "c")];
        let mut moved = 0;
        for key in certnames() {
            let (old, new) = (names(&hashed(&key, &before)).remove(0), names(&hashed(&key, &after)).remove(0));
            if old != new {
                assert_eq!(new, "b", "{key}");
                moved += 1;
            }
        }
        close(moved, HOSTS, 2.0 / 4.0 - 1.0 / 3.0);
    }

    /// Were one of these to change, every host of a fleet would change its server with the upgrade. They come from
    /// another implementation of what the documentation of [`hash`] and [`score`] says.
    #[test]
    fn the_hash_stays_as_it_is() {
        let mut other_port = server(0, 60, "compiler1");
        other_port.port = 8141;
        let records =
            [server(0, 60, "compiler1"), server(0, 40, "compiler2"), server(0, 0, "compiler3"), other_port.clone()];
        for (key, golden, expected) in [
            ("agent01.example.com", 0x5189_dbb9_7318_4b18, [3, 1, 0, 2]),
            ("agent02.example.com", 0xde3d_4d1f_b75e_37c0, [0, 3, 1, 2]),
            ("web.example.com", 0x086d_baa5_650d_3346, [3, 1, 0, 2]),
            ("a", 0x580b_a22f_4cab_b209, [1, 0, 3, 2]),
        ] {
            assert_eq!(hash(key, &records[0]), golden, "{key}");
            assert_eq!(hashed(key, &records), expected.map(|at: usize| records[at].clone()), "{key}");
        }
    }

    /// Test vectors of RFC 9923, and values of `fmix64` that were computed elsewhere.
    #[test]
    fn the_parts_of_the_hash_are_what_they_are_called() {
        assert_eq!(fnv1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fnv1a(b"foobar"), 0x8594_4171_f739_67e8);
        assert_eq!(mix(0), 0);
        assert_eq!(mix(1), 0xb456_bcfc_34c2_cb2c);
        assert_eq!(mix(u64::MAX), 0x64b5_720b_4b82_5f21);
    }

    #[test]
    fn no_hash_has_a_score_without_bounds() {
        for hash in [0, 1, 1 << 63, u64::MAX - 1, u64::MAX] {
            let unit = unit(hash);
            assert!(0.0 < unit && unit < 1.0, "{hash} gives {unit}");
        }
    }

    /// A nameserver may list the records in another order each time.
    #[test]
    fn a_host_keeps_its_order_whatever_the_draw_and_the_answer() {
        let mut records: Vec<_> = ('a'..='h').map(|c| server(u16::from(c > 'd'), 10, &c.to_string())).collect();
        for key in certnames().take(20) {
            let expected = hashed(&key, &records);
            for seed in 0..20 {
                let mut rng = Rng::with_seed(seed);
                rng.shuffle(&mut records);
                assert_eq!(
                    order(&records, &Pick { balance: Balance::Hash, prefer: &[], key: &key }, &mut rng),
                    expected
                );
            }
        }
    }

    #[test]
    fn without_hash_and_preference_it_is_the_draw_of_srv() {
        let records: Vec<_> = ('a'..='f').map(|c| server(u16::from(c > 'c'), 10, &c.to_string())).collect();
        for balance in [Balance::Srv, Balance::LeastLoaded] {
            for seed in 0..50 {
                let (mut one, mut other) = (Rng::with_seed(seed), Rng::with_seed(seed));
                let pick = Pick { balance, prefer: &[], key: "agent01" };
                assert_eq!(order(&records, &pick, &mut one), srv::order(&records, &mut other));
            }
        }
    }

    #[test]
    fn priority_goes_before_preference() {
        let records = [
            server(10, 0, "a"),
            server(10, 60, "b.fra"),
            server(20, 60, "c.fra"),
            server(20, 0, "d"),
            server(30, 1, "e"),
        ];
        let prefer = patterns(&["e.example.com", "*.fra.example.com"]);
        for balance in Balance::ALL {
            for seed in 0..100 {
                let pick = Pick { balance, prefer: &prefer, key: &format!("agent{seed}") };
                let got = order(&records, &pick, &mut Rng::with_seed(seed));
                assert_eq!(names(&got), ["b.fra", "a", "c.fra", "d", "e"], "{balance:?}");
            }
        }
    }

    #[test]
    fn the_first_pattern_that_matches_counts() {
        let records = ["other", "a.lon", "a.fra", "b.fra", "b.lon"].map(|name| server(0, 10, name));
        let prefer = patterns(&["b.fra.example.com", "*.lon.example.com", "*.fra.example.com", "b.lon.example.com"]);
        for balance in Balance::ALL {
            let mut lon = Vec::new();
            for seed in 0..100 {
                let pick = Pick { balance, prefer: &prefer, key: &format!("agent{seed}") };
                let got = names(&order(&records, &pick, &mut Rng::with_seed(seed)));
                assert_eq!((&*got[0], &*got[3], &*got[4]), ("b.fra", "a.fra", "other"), "{balance:?}");
                lon.push(got[1].clone());
            }
            // The last pattern says nothing of what the second has matched already.
            assert!(lon.iter().any(|name| name == "a.lon") && lon.iter().any(|name| name == "b.lon"), "{balance:?}");
        }
    }

    #[test]
    fn the_preferred_share_by_weight() {
        let records = [server(0, 75, "a.fra"), server(0, 25, "b.fra"), server(0, 100, "other")];
        let prefer = patterns(&["*.fra.example.com"]);
        for balance in Balance::ALL {
            let mut rng = Rng::with_seed(7);
            let firsts =
                certnames().map(|key| names(&order(&records, &Pick { balance, prefer: &prefer, key: &key }, &mut rng)));
            close(count(firsts.map(|order| order[0] == "a.fra")), HOSTS, 0.75);
        }
    }

    #[test]
    fn each_target_once_and_the_dot_never() {
        let dot = Srv { target: None, ..server(0, 5, "a") };
        let records = [server(0, 5, "a"), server(0, 5, "a"), dot.clone(), server(1, 5, "b")];
        for balance in Balance::ALL {
            let pick = Pick { balance, prefer: &patterns(&["b.example.com"]), key: "agent01" };
            assert_eq!(names(&order(&records, &pick, &mut Rng::with_seed(1))), ["a", "b"]);
            assert_eq!(order(std::slice::from_ref(&dot), &pick, &mut Rng::with_seed(1)), []);
            assert_eq!(order(&[], &pick, &mut Rng::with_seed(1)), []);
        }
    }
}
