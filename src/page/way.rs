//! The way that the last connections of a role have taken, as counts to be drawn. No io.

use crate::status::{Connection, Ending, RankStatus, RoleStatus, ServerStatus, Status};

/// Names and servers drawn one by one; the others together.
const ASKED: usize = 4;
const SERVERS: usize = 8;

/// How many connections ended in which way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts([u64; Ending::ALL.len()]);

impl Counts {
    fn add(&mut self, ending: Ending) {
        self.0[ending as usize] += 1;
    }

    fn join(&mut self, other: Counts) {
        self.0.iter_mut().zip(other.0).for_each(|(sum, count)| *sum += count);
    }

    /// All together.
    pub(super) fn all(self) -> u64 {
        self.0.iter().sum()
    }

    /// Those that there are.
    pub(super) fn each(self) -> impl Iterator<Item = (Ending, u64)> {
        Ending::ALL.into_iter().zip(self.0).filter(|(_, count)| *count > 0)
    }

    /// In words: `3 carried, 1 refused`.
    pub(super) fn words(self) -> String {
        let words: Vec<_> = self.each().map(|(ending, count)| format!("{count} {}", ending.as_str())).collect();
        words.join(", ")
    }
}

/// What agents asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) what: String,
    /// How they came in.
    pub(super) via: String,
    pub(super) counts: Counts,
}

/// Where connections ended up.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Goal<'s> {
    pub(super) end: End<'s>,
    pub(super) counts: Counts,
    /// How often it was tried before another one got the connection, or none did.
    pub(super) in_vain: u64,
}

/// What that is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum End<'s> {
    /// One of the role's servers.
    Server(&'s ServerStatus),
    /// One that nothing more is known of.
    Other(String),
    /// So many more.
    More(usize),
    /// No server.
    Nowhere,
}

impl End<'_> {
    /// Its name.
    pub(super) fn name(&self) -> String {
        match self {
            End::Server(server) => server.server.clone(),
            End::Other(name) => name.clone(),
            End::More(count) => format!("{count} more"),
            End::Nowhere => "no server".into(),
        }
    }
}

/// The way of a role's last connections.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Way<'s> {
    pub(super) role: &'s RoleStatus,
    pub(super) asked: Vec<Asked>,
    pub(super) goals: Vec<Goal<'s>>,
    pub(super) counts: Counts,
}

impl<'s> Way<'s> {
    /// Out of the last connections, whatever role they were for.
    pub(super) fn of(status: &'s Status, role: &'s RoleStatus) -> Self {
        let mut way = Way { role, asked: Vec::new(), goals: Vec::new(), counts: Counts::default() };
        for server in role.servers.iter().filter(|server| server.is_current) {
            way.goals.push(Goal { end: End::Server(server), counts: Counts::default(), in_vain: 0 });
        }
        for connection in status.recent.iter().filter(|connection| connection.role.as_deref() == Some(&role.role)) {
            way.counts.add(connection.outcome);
            way.asked(connection).add(connection.outcome);
            for goal in &mut way.goals {
                if tried_in_vain(connection, &goal.end.name()) {
                    goal.in_vain += 1;
                }
            }
            way.goal(connection.server.as_deref()).counts.add(connection.outcome);
        }
        way.asked.sort_by_key(|asked| std::cmp::Reverse(asked.counts.all()));
        way.shorten();
        way
    }

    fn asked(&mut self, connection: &Connection) -> &mut Counts {
        let what = connection.asked.as_deref().unwrap_or("no name");
        let via = connection.via.as_deref().unwrap_or("?");
        let at = self.asked.iter().position(|asked| asked.what == what && asked.via == via).unwrap_or_else(|| {
            self.asked.push(Asked { what: what.into(), via: via.into(), counts: Counts::default() });
            self.asked.len() - 1
        });
        &mut self.asked[at].counts
    }

    fn goal(&mut self, server: Option<&str>) -> &mut Goal<'s> {
        let is_it = |end: &End<'_>| match server {
            Some(server) => end.name() == server,
            None => *end == End::Nowhere,
        };
        let at = self.goals.iter().position(|goal| is_it(&goal.end)).unwrap_or_else(|| {
            let known = self.role.servers.iter().find(|known| Some(known.server.as_str()) == server);
            let end = match (known, server) {
                (Some(known), _) => End::Server(known),
                (None, Some(server)) => End::Other(server.into()),
                (None, None) => End::Nowhere,
            };
            self.goals.push(Goal { end, counts: Counts::default(), in_vain: 0 });
            self.goals.len() - 1
        });
        &mut self.goals[at]
    }

    /// What is too much to be drawn goes together: of the servers those where the least has happened.
    fn shorten(&mut self) {
        if self.asked.len() > ASKED {
            let rest = self.asked.split_off(ASKED - 1);
            let mut counts = Counts::default();
            for asked in &rest {
                counts.join(asked.counts);
            }
            self.asked.push(Asked { what: format!("{} other names", rest.len()), via: String::new(), counts });
        }
        if self.goals.len() > SERVERS {
            let is_eventful = |goal: &Goal<'_>| match &goal.end {
                End::Server(server) => server.rank != RankStatus::Good || server.is_pinned,
                _ => true,
            };
            let mut order: Vec<usize> = (0..self.goals.len()).collect();
            order.sort_by_key(|at| {
                let goal = &self.goals[*at];
                std::cmp::Reverse((is_eventful(goal), goal.counts.all() + goal.in_vain))
            });
            let kept = &order[..SERVERS - 1];
            let (mut goals, mut more) = (Vec::new(), (0, Counts::default(), 0));
            for (at, goal) in std::mem::take(&mut self.goals).into_iter().enumerate() {
                if kept.contains(&at) {
                    goals.push(goal);
                } else {
                    more.1.join(goal.counts);
                    more = (more.0 + 1, more.1, more.2 + goal.in_vain);
                }
            }
            goals.push(Goal { end: End::More(more.0), counts: more.1, in_vain: more.2 });
            self.goals = goals;
        }
    }

    /// All of it in words.
    pub(super) fn words(&self) -> String {
        if self.counts.all() == 0 {
            return "None of the last connections was for this role.".into();
        }
        let mut sentences = vec![format!("{} of the last connections.", self.counts.words())];
        for Asked { what, counts, .. } in &self.asked {
            sentences.push(format!("{what} was asked for {}.", times(counts.all())));
        }
        for Goal { end, counts, in_vain } in &self.goals {
            let mut words: Vec<String> =
                counts.each().map(|(end, count)| format!("{count} {}", end.as_str())).collect();
            if *in_vain > 0 {
                words.push(format!("tried in vain {}", times(*in_vain)));
            }
            if !words.is_empty() {
                sentences.push(format!("{}: {}.", end.name(), words.join(", ")));
            }
        }
        sentences.join(" ")
    }
}

fn times(count: u64) -> String {
    match count {
        1 => "once".into(),
        count => format!("{count} times"),
    }
}

/// Whether a connection tried that server, and another one got it, or none. `tried` has it as the log does: `NAME:PORT
/// (ADDRESS) what it did; …`.
fn tried_in_vain(connection: &Connection, server: &str) -> bool {
    let tries = connection.tried.as_deref().unwrap_or_default();
    connection.server.as_deref() != Some(server)
        && tries.split("; ").any(|tried| tried.strip_prefix(server).is_some_and(|rest| rest.starts_with(' ')))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::ServerStatus;

    fn server(name: &str) -> ServerStatus {
        ServerStatus { server: name.into(), is_current: true, ..ServerStatus::default() }
    }

    fn connection(asked: &str, server: Option<&str>, tried: &str, outcome: Ending) -> Connection {
        Connection {
            role: Some("compile".into()),
            via: Some("connect".into()),
            asked: Some(asked.into()),
            server: server.map(Into::into),
            tried: Some(tried.into()),
            outcome,
            ..Connection::default()
        }
    }

    fn status(servers: usize, recent: Vec<Connection>) -> Status {
        let servers = (0..servers).map(|n| server(&format!("s{n}:8140"))).collect();
        let roles = vec![RoleStatus { role: "compile".into(), servers, ..RoleStatus::default() }];
        Status { roles, recent, ..Status::default() }
    }

    #[test]
    fn counts_who_asked_and_who_got_it() {
        let mut foreign = connection("x:1", Some("s0:8140"), "", Ending::Carried);
        foreign.role = None;
        let recent = vec![
            connection(
                "puppet:8140",
                Some("s1:8140"),
                "s0:8140 (::1) refused; s1:8140 (::1) answered",
                Ending::Carried,
            ),
            connection("puppet:8140", None, "s0:8140 (::1) refused; s1:8140 (::1) reset", Ending::Refused),
            connection("s9:8140", Some("s9:8140"), "s9:8140 (::1) answered", Ending::Broken),
            foreign,
        ];
        let status = status(2, recent);
        let way = Way::of(&status, &status.roles[0]);
        assert_eq!(way.counts.words(), "1 carried, 1 broken, 1 refused");
        assert_eq!(
            way.asked.iter().map(|a| (a.what.as_str(), a.counts.all())).collect::<Vec<_>>(),
            [("puppet:8140", 2), ("s9:8140", 1)]
        );
        let goals: Vec<_> = way.goals.iter().map(|goal| (goal.end.name(), goal.counts.words(), goal.in_vain)).collect();
        let goal = |name: &str, words: &str, in_vain| (name.to_owned(), words.to_owned(), in_vain);
        assert_eq!(
            goals,
            [
                goal("s0:8140", "", 2),
                goal("s1:8140", "1 carried", 1),
                goal("no server", "1 refused", 0),
                goal("s9:8140", "1 broken", 0),
            ]
        );
        let words = way.words();
        for part in ["puppet:8140 was asked for 2 times.", "s0:8140: tried in vain 2 times.", "no server: 1 refused."] {
            assert!(words.contains(part), "{words}");
        }
    }

    #[test]
    fn what_is_too_much_goes_together_and_nothing_is_lost() {
        let recent =
            (0..9).map(|n| connection(&format!("n{n}:1"), Some("s19:8140"), "s18:8140 (::1) reset", Ending::Carried));
        let mut status = status(20, recent.collect());
        status.roles[0].servers[17].rank = RankStatus::Down;
        let way = Way::of(&status, &status.roles[0]);
        assert_eq!((way.asked.len(), way.asked[3].what.as_str(), way.asked[3].counts.all()), (4, "6 other names", 6));
        let names: Vec<_> = way.goals.iter().map(|goal| goal.end.name()).collect();
        assert_eq!(names.len(), 8);
        assert_eq!(names[4..], ["s17:8140", "s18:8140", "s19:8140", "13 more"], "{names:?}");
    }

    #[test]
    fn a_name_that_begins_like_another_is_another() {
        let one = connection("puppet:8140", None, "s1:81400 (::1) refused", Ending::Refused);
        assert!(!tried_in_vain(&one, "s1:8140") && tried_in_vain(&one, "s1:81400"));
    }
}
