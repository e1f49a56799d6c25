//! What the daemon has written down of a server, as `resolve` shows it. No io, and the clock is an argument.

use serde::Serialize;
use tokio::time::Instant;

use crate::health::Rank;
use crate::host::{Host, HostPort};
use crate::pool::Pool;
use crate::verdict::{REMEDY, Verdict};

/// What is remembered of a server.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Remembered {
    /// How it stands: `good`, `slow` or `down`.
    pub state: Rank,
    /// What is against it. Only an answer clears that, so it may be there where the state is good again.
    pub cause: Option<String>,
    /// For how long the others still go before it, rounded up; absent where the state is good.
    pub hold_seconds: Option<u64>,
    /// How long it usually takes to answer; absent: it has not been seen to.
    pub usual_ms: Option<u64>,
    /// Whether the host's run is with it.
    pub pinned: bool,
    /// What its certificate is worth.
    pub certificates: Vec<Certificate>,
}

/// What a server's certificate is worth to who asks for a name.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Certificate {
    /// The name asked for.
    pub asked: Host,
    /// Whether the certificate has it.
    #[serde(flatten)]
    pub verdict: Verdict,
}

impl Remembered {
    /// Of this server. `asked`: the only name that counts; `None`: all do.
    pub fn of(pool: &Pool, server: &HostPort, asked: Option<&Host>, pinned: Option<&HostPort>, now: Instant) -> Self {
        let state = pool.servers.rank(server, now);
        let trouble = pool.servers.trouble(server);
        let left = trouble.filter(|_| state != Rank::Good).map(|trouble| trouble.until.saturating_duration_since(now));
        let usual = pool.servers.records().find(|(known, _)| *known == server).and_then(|(_, record)| record.usual);
        let mut certificates: Vec<_> = pool
            .verdicts
            .all()
            .filter(|(of, name, known)| {
                *of == server && asked.is_none_or(|asked| asked == *name) && now < known.until()
            })
            .map(|(_, name, known)| Certificate { asked: name.clone(), verdict: known.verdict.clone() })
            .collect();
        certificates.sort_by(|a, b| a.asked.cmp(&b.asked));
        Remembered {
            state,
            cause: trouble.map(|trouble| trouble.cause.clone()),
            hold_seconds: left.map(|left| left.as_secs() + u64::from(left.subsec_nanos() > 0)),
            usual_ms: usual.map(|usual| u64::try_from(usual.as_millis()).unwrap_or(u64::MAX)),
            pinned: pinned == Some(server),
            certificates,
        }
    }

    /// For people: what is worth knowing, a line each.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if self.pinned {
            lines.push("pinned: the host's run is with it".to_owned());
        }
        match (&self.cause, self.hold_seconds) {
            (Some(cause), Some(left)) => lines.push(format!("{} for another {left} s: {cause}", self.state.as_str())),
            (Some(cause), None) => lines.push(format!("may be tried again: {cause}")),
            (None, _) => {}
        }
        for Certificate { asked, verdict } in &self.certificates {
            match verdict {
                Verdict::Named => {}
                Verdict::Unnamed { has } => {
                    lines.push(format!("its certificate is for {has}, not for {asked}: {REMEDY}"));
                }
                Verdict::Unclear { why } => lines.push(format!("whether its certificate is for {asked}: {why}")),
            }
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::dial::{Did, Try};
    use crate::pin::Set;
    use crate::role::Role;

    fn server(name: &str) -> HostPort {
        HostPort { host: name.parse().unwrap(), port: 8140 }
    }

    fn tried(name: &str, did: Did, ms: u64) -> Try {
        Try { server: server(name), addr: None, did, started: Instant::now(), took: Duration::from_millis(ms) }
    }

    #[test]
    fn each_thing_in_its_words() {
        let (mut pool, now) = (Pool::new(Duration::from_secs(300)).seeded(1), Instant::now());
        let addr = "192.0.2.1:8140".parse().ok();
        let tries = [
            Try { addr, ..tried("a", Did::Refuse, 1) },
            Try { addr, ..tried("b", Did::Mute, 251) },
            Try { addr, ..tried("c", Did::Answer, 40) },
        ];
        pool.learn(&tries, now);
        let set = Set::from_servers(["a", "b", "c"].map(server).into());
        pool.open(&Role::new("compile"), &set, &server("c"), false, now);
        let names: [Host; 2] = ["puppet.test".parse().unwrap(), "other.test".parse().unwrap()];
        pool.conclude(&server("a"), &names[0], Verdict::Unnamed { has: "x.test, y.test".into() }, now);
        pool.conclude(&server("c"), &names[0], Verdict::Named, now);
        pool.conclude(&server("c"), &names[1], Verdict::Unclear { why: "it closed".into() }, now);

        let lines = |name, asked, at| Remembered::of(&pool, &server(name), asked, Some(&server("c")), at).lines();
        let hold = |name| {
            let left = pool.servers.trouble(&server(name)).unwrap().until - now;
            left.as_secs() + 1
        };
        assert_eq!(
            lines("a", None, now),
            [
                format!("down for another {} s: refused", hold("a")),
                format!("its certificate is for x.test, y.test, not for puppet.test: {REMEDY}")
            ]
        );
        assert_eq!(lines("a", Some(&names[1]), now + Duration::from_secs(10)), ["may be tried again: refused"]);
        assert_eq!(lines("b", None, now), [format!("slow for another {} s: accepted and said nothing", hold("b"))]);
        assert_eq!(
            lines("c", None, now),
            ["pinned: the host's run is with it", "whether its certificate is for other.test: it closed"]
        );
        assert_eq!(lines("unknown", None, now), [""; 0]);

        let json = serde_json::to_value(Remembered::of(&pool, &server("c"), Some(&names[0]), None, now)).unwrap();
        let expected = serde_json::json!({
            "state": "good", "cause": null, "hold_seconds": null, "usual_ms": 40, "pinned": false,
            "certificates": [{"asked": "puppet.test", "kind": "named"}],
        });
        assert_eq!(json, expected);
    }
}
