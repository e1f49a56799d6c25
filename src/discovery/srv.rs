//! SRV records (RFC 2782) and the order in which Puppet's admins know their targets to be tried.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use crate::host::{Host, HostError};

/// One SRV record.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Srv {
    /// Lower is tried first.
    pub priority: u16,
    /// Share inside its priority.
    pub weight: u16,
    /// Where it listens.
    pub port: u16,
    /// Its name. `None` is the target `.`: the service is decidedly not offered here.
    pub target: Option<Host>,
}

/// As a zone file has it: `10 60 8140 compiler1.example.com`.
impl fmt::Display for Srv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {} ", self.priority, self.weight, self.port)?;
        match &self.target {
            Some(target) => write!(f, "{target}"),
            None => f.write_str("."),
        }
    }
}

/// Why a text is no SRV record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SrvError {
    /// Not four words, the first three of them numbers from 0 to 65535.
    #[error("it is not PRIORITY WEIGHT PORT TARGET")]
    Form,
    /// The target is no name.
    #[error(transparent)]
    Target(#[from] HostError),
}

impl FromStr for Srv {
    type Err = SrvError;

    fn from_str(text: &str) -> Result<Self, SrvError> {
        let words: Vec<_> = text.split(' ').collect();
        let [priority, weight, port, target] = words.as_slice() else { return Err(SrvError::Form) };
        let number = |word: &str| word.parse().map_err(|_| SrvError::Form);
        let target = if *target == "." { None } else { Some(target.parse()?) };
        Ok(Srv { priority: number(priority)?, weight: number(weight)?, port: number(port)?, target })
    }
}

/// Sorts targets as they are to be tried: priority first; inside a priority by Puppet's own draw
/// (`lib/puppet/http/dns.rb`), which is without replacement, counts weight 0 as 1 and weight w as 10·w, and so agrees
/// with RFC 2782 wherever no weight is zero. Duplicates collapse, the target `.` is left out.
pub fn order(records: &[Srv], rng: &mut fastrand::Rng) -> Vec<Srv> {
    let mut left: Vec<&Srv> = Vec::with_capacity(records.len());
    for record in records {
        if record.target.is_some() && !left.contains(&record) {
            left.push(record);
        }
    }
    left.sort_by_key(|r| r.priority);
    let mut ordered = Vec::with_capacity(left.len());
    while let Some(first) = left.first() {
        let group = left.iter().take_while(|r| r.priority == first.priority).count();
        let at = draw(left[..group].iter().map(|r| r.weight), rng);
        ordered.push(left.remove(at).clone());
    }
    ordered
}

/// What a weight counts, as Puppet has it: a tenth of weight 1 where it is zero.
pub(crate) fn share(weight: u16) -> u32 {
    if weight == 0 { 1 } else { 10 * u32::from(weight) }
}

/// Draws an index, in proportion to the weights.
fn draw(weights: impl Iterator<Item = u16> + Clone, rng: &mut fastrand::Rng) -> usize {
    let counts = weights.map(|w| u64::from(share(w)));
    let mut left = rng.u64(..counts.clone().sum::<u64>().max(1));
    for (index, count) in counts.enumerate() {
        if left < count {
            return index;
        }
        left -= count;
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn srv(priority: u16, weight: u16, target: &str) -> Srv {
        let target = (target != ".").then(|| target.parse().unwrap());
        Srv { priority, weight, port: 8140, target }
    }

    fn names(order: &[Srv]) -> Vec<String> {
        order.iter().map(|r| r.target.as_ref().unwrap().to_string()).collect()
    }

    /// How often each record comes first.
    fn shares(records: &[Srv], draws: u32) -> Vec<f64> {
        let mut rng = fastrand::Rng::with_seed(7);
        let mut first = vec![0u32; records.len()];
        for _ in 0..draws {
            let won = order(records, &mut rng).remove(0);
            first[records.iter().position(|r| *r == won).unwrap()] += 1;
        }
        first.into_iter().map(|n| f64::from(n) / f64::from(draws)).collect()
    }

    fn close(measured: &[f64], wanted: &[f64]) {
        for (m, w) in measured.iter().zip(wanted) {
            // 200,000 draws: one standard deviation is 0.0011 at most.
            assert!((m - w).abs() < 0.005, "measured {measured:?}, wanted {wanted:?}");
        }
    }

    /// The figures are those of Puppet's own code over 200,000 draws.
    #[test]
    fn draws_as_puppet_does() {
        close(&shares(&[srv(0, 75, "a"), srv(0, 25, "b")], 200_000), &[0.75, 0.25]);
        close(&shares(&[srv(0, 1, "a"), srv(0, 0, "b")], 200_000), &[0.909, 0.091]);
        close(&shares(&[srv(0, 10, "a"), srv(0, 0, "b")], 200_000), &[0.990, 0.010]);
    }

    /// RFC 2782: "the probability of this target being selected is proportional to its weight".
    #[test]
    fn draws_as_the_rfc_does_where_no_weight_is_zero() {
        close(&shares(&[srv(0, 1, "a"), srv(0, 2, "b"), srv(0, 7, "c")], 200_000), &[0.1, 0.2, 0.7]);
        close(&shares(&[srv(0, 65535, "a"), srv(0, 65535, "b")], 200_000), &[0.5, 0.5]);
    }

    #[test]
    fn the_second_place_is_drawn_among_the_rest() {
        let records = [srv(0, 1, "a"), srv(0, 2, "b"), srv(0, 7, "c")];
        let mut rng = fastrand::Rng::with_seed(11);
        let (mut after_c, mut b_second) = (0, 0);
        for _ in 0..100_000 {
            let got = names(&order(&records, &mut rng));
            if got[0] == "c" {
                after_c += 1;
                b_second += u32::from(got[1] == "b");
            }
        }
        close(&[f64::from(b_second) / f64::from(after_c)], &[2.0 / 3.0]);
    }

    #[test]
    fn weights_of_zero_alone_are_drawn_evenly() {
        close(&shares(&[srv(0, 0, "a"), srv(0, 0, "b"), srv(0, 0, "c")], 200_000), &[1.0 / 3.0; 3]);
    }

    #[test]
    fn priority_goes_before_weight() {
        let records = [srv(20, 100, "last"), srv(0, 0, "first"), srv(10, 0, "middle"), srv(10, 60, "middle2")];
        for seed in 0..200 {
            let got = names(&order(&records, &mut fastrand::Rng::with_seed(seed)));
            assert_eq!((got[0].as_str(), got[3].as_str()), ("first", "last"));
        }
    }

    #[test]
    fn each_target_once_and_the_dot_never() {
        let records = [srv(0, 5, "a"), srv(0, 5, "a"), srv(0, 5, "."), srv(1, 5, "b")];
        assert_eq!(names(&order(&records, &mut fastrand::Rng::with_seed(1))), ["a", "b"]);
        assert_eq!(order(&[srv(0, 0, ".")], &mut fastrand::Rng::with_seed(1)), []);
        assert_eq!(order(&[], &mut fastrand::Rng::with_seed(1)), []);
    }

    #[test]
    fn is_read_as_it_is_written() {
        for text in ["10 60 8140 compiler1.example.com", "0 0 0 .", "65535 65535 65535 2001:db8::1"] {
            assert_eq!(text.parse::<Srv>().unwrap().to_string(), text);
        }
        for text in ["", "1 2 3", "1 2 3 4 5", "1 2 65536 a", "-1 2 3 a", "1 2  3 a"] {
            assert_eq!(text.parse::<Srv>(), Err(SrvError::Form), "{text:?}");
        }
        assert_eq!("1 2 3 a..b".parse::<Srv>(), Err(SrvError::Target(HostError::EmptyLabel)));
    }

    /// The same name at another port, priority or weight is another record.
    #[test]
    fn only_exact_duplicates_collapse() {
        let mut other = srv(0, 5, "a");
        other.port = 8141;
        assert_eq!(order(&[srv(0, 5, "a"), other], &mut fastrand::Rng::with_seed(1)).len(), 2);
    }
}
