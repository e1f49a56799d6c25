//! What DNS said, as it is kept.

use std::fmt::Display;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::clock::{Clocks, Stamp};
use super::text::Text;
use crate::discovery::Answers;
use crate::discovery::answer::Answer;
use crate::discovery::cache::Kept;
use crate::discovery::srv::Srv;

/// Bytes that all of it may fill, near enough; what was learnt longest ago goes. A usual host needs a hundredth.
const ROOM: usize = 512 * 1024;

/// All of it.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct Written {
    srv: Vec<Entry<Srv>>,
    aaaa: Vec<Entry<IpAddr>>,
    a: Vec<Entry<IpAddr>>,
}

/// One answer.
#[derive(Serialize, Deserialize)]
#[serde(bound(serialize = "T: Display", deserialize = "T: FromStr<Err: Display>"))]
struct Entry<T> {
    name: String,
    learnt: Stamp,
    ttl_s: u64,
    from: String,
    /// None: DNS said that there are none.
    records: Vec<Text<T>>,
}

impl Written {
    pub(super) fn new(answers: &Answers, clocks: &Clocks) -> Self {
        let mut room = ROOM;
        let [v6, v4] = &answers.addresses;
        Written {
            srv: entries(&answers.services, clocks, &mut room),
            aaaa: entries(v6, clocks, &mut room),
            a: entries(v4, clocks, &mut room),
        }
    }

    /// `past`: what a stamp means, where it can be believed.
    pub(super) fn into_answers(self, past: impl Fn(Stamp) -> Option<Instant>) -> Answers {
        Answers { services: kept(self.srv, &past), addresses: [kept(self.aaaa, &past), kept(self.a, &past)] }
    }
}

fn entries<T: Clone + Display>(kept: &[(String, Kept<T>)], clocks: &Clocks, room: &mut usize) -> Vec<Entry<T>> {
    let mut entries = Vec::new();
    for (name, Kept { answer, learnt }) in kept {
        let entry = Entry {
            name: name.clone(),
            learnt: clocks.stamp(learnt.unwrap_or(clocks.now)),
            ttl_s: answer.ttl.as_secs(),
            from: answer.from.to_string(),
            records: answer.records.iter().cloned().map(Text).collect(),
        };
        let records: usize = entry.records.iter().map(|Text(record)| record.to_string().len() + 20).sum();
        let Some(left) = room.checked_sub(name.len() + entry.from.len() + 160 + records) else { break };
        *room = left;
        entries.push(entry);
    }
    // A file that is read by people should have an order.
    entries.sort_by(|one, other| one.name.cmp(&other.name));
    entries
}

fn kept<T>(entries: Vec<Entry<T>>, past: impl Fn(Stamp) -> Option<Instant>) -> Vec<(String, Kept<T>)> {
    let kept = entries.into_iter().map(|Entry { name, learnt, ttl_s, from, records }| {
        let records = records.into_iter().map(|Text(record)| record).collect();
        let answer = Answer { records, ttl: Duration::from_secs(ttl_s), from: from.into(), is_vague: false };
        (name, Kept { answer: Arc::new(answer), learnt: past(learnt) })
    });
    kept.collect()
}

#[cfg(test)]
mod tests {
    use std::time::{SystemTime, UNIX_EPOCH};

    use super::*;

    fn clocks() -> Clocks {
        Clocks { now: Instant::now(), wall: UNIX_EPOCH + Duration::from_secs(1_700_000_000) }
    }

    fn answer<T: FromStr>(records: &[&str], ttl: u64) -> Arc<Answer<T>> {
        let records = records.iter().map(|record| record.parse().ok().unwrap()).collect();
        let from = "tls://192.0.2.1:853#dns.test".into();
        Arc::new(Answer { records, ttl: Duration::from_secs(ttl), from, is_vague: false })
    }

    fn answers(clocks: &Clocks) -> Answers {
        let learnt = Some(clocks.now.checked_sub(Duration::from_secs(60)).unwrap());
        Answers {
            services: vec![
                ("_x._tcp.test".into(), Kept { answer: answer(&["10 60 8140 a.test", "0 0 0 ."], 300), learnt }),
                ("_none._tcp.test".into(), Kept { answer: answer(&[], 60), learnt }),
            ],
            addresses: [
                vec![("a.test".into(), Kept { answer: answer(&["2001:db8::1"], 0), learnt })],
                vec![("a.test".into(), Kept { answer: answer(&["192.0.2.1", "192.0.2.2"], 3600), learnt })],
            ],
        }
    }

    fn read(json: &str, past: impl Fn(Stamp) -> Option<Instant>) -> Answers {
        serde_json::from_str::<Written>(json).unwrap().into_answers(past)
    }

    #[test]
    fn comes_back_as_it_was() {
        let clocks = clocks();
        let answers = answers(&clocks);
        let json = serde_json::to_string(&Written::new(&answers, &clocks)).unwrap();
        assert!(json.contains(r#"["10 60 8140 a.test","0 0 0 ."]"#), "{json}");
        let again = read(&json, |stamp| clocks.past(stamp));
        let flat = |list: &[(String, Kept<Srv>)]| -> Vec<_> {
            let mut all: Vec<_> =
                list.iter().map(|(name, kept)| (name.clone(), kept.answer.clone(), kept.learnt)).collect();
            all.sort_by(|a, b| a.0.cmp(&b.0));
            all
        };
        assert_eq!(flat(&again.services), flat(&answers.services));
        for (again, before) in again.addresses.iter().zip(&answers.addresses) {
            assert_eq!(
                (again[0].1.answer.clone(), again[0].1.learnt),
                (before[0].1.answer.clone(), before[0].1.learnt)
            );
        }
        // Where a stamp cannot be believed, the records still can.
        let undated = read(&json, |_| None);
        assert!(undated.services.iter().all(|(_, kept)| kept.learnt.is_none()));
        assert_eq!(undated.services.len(), 2);
    }

    #[test]
    fn what_is_too_much_goes() {
        let clocks = Clocks { now: Instant::now(), wall: SystemTime::UNIX_EPOCH + Duration::from_secs(1) };
        let label = "x".repeat(60);
        let record = format!("65535 65535 65535 {label}.{label}.{label}.{label}");
        let of =
            |n: usize| (format!("{n:05}.{label}"), Kept { answer: answer(&[record.as_str(); 60], 1), learnt: None });
        let answers = Answers { services: (0..1024).map(of).collect(), ..Answers::default() };
        let written = Written::new(&answers, &clocks);
        let json = serde_json::to_vec_pretty(&written).unwrap();
        assert!((ROOM * 9 / 10..=ROOM * 11 / 10).contains(&json.len()), "{}", json.len());
        // What was learnt last is in front.
        assert_eq!(written.srv[0].name, of(0).0);
    }
}
