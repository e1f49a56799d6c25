//! Asking DNS. One resolver for each nameserver, so that the answer tells who gave it; no cache, no hosts file, no
//! search list.
//!
//! hickory does the protocol: packets that are lost, TCP after truncation, CNAME chains, TLS, signatures. What an answer
//! means is for [`super::answer`], how long it holds and what to do without one for [`super::cache`].

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hickory_resolver::proto::rr::Name;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::answer::{Answer, Cname, Failure, Kind, Trouble, read};
use super::lookup::look_up;
use super::nameserver::{Nameservers, Server, Standing, order};
use super::srv::Srv;
use crate::config::{DnsConfig, Dnssec};

/// When a nameserver has said nothing for so long, the next one is asked beside it. Shorter than the wait of who has an
/// old answer, so that it gets the new one from the second.
const STAGGER: Duration = Duration::from_millis(200);

/// After so long, nobody's silence is held against DNS as a whole any more.
const DEAD: Duration = Duration::from_secs(5);

/// Aliases in a row that are followed. More is a loop.
const ALIASES: usize = 8;

/// Whom to ask, and how.
pub struct Dns {
    timeout: Duration,
    dnssec: Dnssec,
    nameservers: Nameservers,
    /// Until when it is known that nobody answers.
    dead_until: Mutex<Option<Instant>>,
}

impl Dns {
    /// The configured nameservers, else those of `resolv.conf`.
    pub fn new(config: &DnsConfig, resolv_conf: &Path) -> Self {
        Dns {
            timeout: config.timeout,
            dnssec: config.dnssec,
            nameservers: Nameservers::new(config, resolv_conf),
            dead_until: Mutex::default(),
        }
    }

    /// Suffixes for names without a dot, as `resolv.conf` has them.
    pub(super) fn search(&self) -> Arc<[String]> {
        self.nameservers.search()
    }

    /// Reads `resolv.conf` again where it has changed; gives whether it has.
    pub(super) fn look(&self) -> bool {
        self.nameservers.look()
    }

    /// Whether nobody has answered a moment ago, so that there is little use in waiting for long.
    pub(super) fn is_dead(&self) -> bool {
        self.death().is_some_and(|until| Instant::now() < until)
    }

    fn death(&self) -> MutexGuard<'_, Option<Instant>> {
        self.dead_until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for SRV records, behind an alias too: hickory follows CNAMEs for addresses, but loses SRV records behind
    /// one. All of it is bounded by the configured timeout.
    pub(super) async fn ask_srv(&self, name: &str) -> Result<Answer<Srv>, Failure> {
        let late = || Failure { tried: vec![("DNS".into(), "did not tell in time what an alias leads to".into())] };
        timeout(self.timeout, self.follow(name)).await.unwrap_or_else(|_| Err(late()))
    }

    async fn follow(&self, name: &str) -> Result<Answer<Srv>, Failure> {
        let mut answer = self.ask::<Srv>(name).await?;
        let mut at = name.to_owned();
        for _ in 0..ALIASES {
            if !answer.records.is_empty() {
                break;
            }
            // No answer to this is no answer at all: what is behind an alias must not be taken for nothing.
            let alias = self.ask::<Cname>(&at).await?;
            let Some(Cname(next)) = alias.records.into_iter().next() else { break };
            let behind = self.ask::<Srv>(&next).await?;
            // The chain holds as long as its shortest link.
            answer = Answer { ttl: behind.ttl.min(alias.ttl), ..behind };
            at = next;
        }
        Ok(answer)
    }

    /// Asks for the records of an absolute name (without the trailing dot). The nameservers are asked in order, the
    /// next one when one has failed or said nothing for a while; the first answer counts, and all of it is bounded by
    /// the configured timeout.
    pub(super) async fn ask<T: Kind>(&self, name: &str) -> Result<Answer<T>, Failure> {
        let Ok(name) = Name::from_ascii(format!("{name}.")) else {
            return Err(Failure { tried: vec![("DNS".into(), format!("cannot be asked: {name:?} is no name"))] });
        };
        let servers = self.nameservers.servers();
        let began = Instant::now();
        let turns = order(servers.iter().map(|server| server.standing(began)));
        let mut turns = turns.into_iter().peekable();
        // Who has been asked and has not answered, and since when.
        let mut pending: Vec<(usize, Instant)> = Vec::new();
        let mut tried: Vec<(Arc<str>, String)> = Vec::new();
        let mut has_nobody_spoken = true;
        let mut asked = JoinSet::new();
        let race = async {
            loop {
                while let Some((at, _)) = turns.next() {
                    pending.push((at, Instant::now()));
                    asked.spawn(inquire::<T>(servers.clone(), at, name.clone(), self.dnssec));
                    if turns.peek().is_none_or(|(_, is_beside)| !is_beside) {
                        break;
                    }
                }
                let next = if turns.peek().is_none() {
                    asked.join_next().await
                } else {
                    match timeout(STAGGER, asked.join_next()).await {
                        Ok(next) => next,
                        Err(_) => continue,
                    }
                };
                match next {
                    Some(Ok((at, answer))) => {
                        pending.retain(|(other, _)| *other != at);
                        match answer {
                            Ok(answer) => return Some(answer),
                            Err(trouble) => {
                                has_nobody_spoken &= matches!(trouble, Trouble::Silent(_));
                                tried.push((servers[at].label.clone(), trouble.into_words()));
                            }
                        }
                    }
                    None if turns.peek().is_none() => return None,
                    // An inquiry that panicked is as good as silent.
                    Some(Err(_)) | None => {}
                }
            }
        };
        let Ok(Some(answer)) = timeout(self.timeout, race).await else {
            let silent = servers.iter().filter(|server| !tried.iter().any(|(label, _)| *label == server.label));
            let silent: Vec<_> = silent.map(|server| (server.label.clone(), SILENT.to_owned())).collect();
            tried.extend(silent);
            if has_nobody_spoken {
                *self.death() = Some(Instant::now() + DEAD);
            }
            return Err(Failure { tried });
        };
        self.death().take();
        let now = Instant::now();
        for (at, since) in pending {
            let server = &servers[at];
            if now - since >= STAGGER && server.was_silent(now) {
                tracing::warn!(nameserver = %server.label, instead = %answer.from, "does not answer in time; others go first");
            }
        }
        // One that is late may yet show that it is there.
        asked.detach_all();
        Ok(answer)
    }
}

/// Asks one nameserver; its place comes back with what it said, or why that is no answer.
async fn inquire<T: Kind>(
    servers: Arc<[Server]>,
    at: usize,
    name: Name,
    dnssec: Dnssec,
) -> (usize, Result<Answer<T>, Trouble>) {
    let (server, began) = (&servers[at], Instant::now());
    let answer = match look_up(server, &name, T::TYPE).await {
        Ok(result) => read::<T>(&server.label, &name, dnssec, result).map_err(|trouble| server.why(trouble)),
        Err(why) => Err(Trouble::Silent(why)),
    };
    let (now, is_silent) = (Instant::now(), matches!(answer, Err(Trouble::Silent(_))));
    if !is_silent && now - began < STAGGER {
        if server.has_spoken() {
            tracing::info!(nameserver = %server.label, "answers again");
        }
    } else if server.standing(now) == Standing::Due {
        // It has had its trial. Who answers, but so late that another one was asked, is not the one to ask first.
        server.was_silent(now);
    }
    (at, answer)
}

/// What is said of a nameserver that says nothing.
const SILENT: &str = "did not answer";
