//! What was found: a role's servers, a server's addresses, and whatever was in the way, in words.

use std::fmt::{self, Write as _};
use std::net::IpAddr;
use std::time::Duration;

use serde::Serialize;

use super::answer::Failure;
use super::bounds::Refused;
use super::cache::{Freshness, Known};
use super::srv::Srv;
use crate::config::RoleConfig;
use crate::role::Role;

/// Refused records that a sentence names.
const NAMED: usize = 3;

/// Which source named a role's servers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", content = "owner", rename_all = "kebab-case")]
pub enum Source {
    /// SRV records of its own, of this owner name.
    Srv(String),
    /// The SRV records of `compile`, of this owner name.
    Fallback(String),
    /// The static list of the configuration.
    Static,
    /// The requested name itself.
    Name,
    /// The requested name is a current target: that very server.
    Target,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Srv(owner) => write!(f, "srv {owner}"),
            Source::Fallback(owner) => write!(f, "fallback srv {owner}"),
            Source::Static => f.write_str("static"),
            Source::Name => f.write_str("the name itself"),
            Source::Target => f.write_str("target"),
        }
    }
}

/// One record set that was asked for on the way.
#[derive(Clone, Debug)]
pub struct Step {
    /// Its owner name.
    pub owner: String,
    /// What came of it.
    pub result: Result<Known<Srv>, Failure>,
    /// Its records that may not be used.
    pub refused: Vec<Refused>,
}

/// A role's servers.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Who named them; `None`: nobody did.
    pub source: Option<Source>,
    /// The servers, as records: a static list counts up in priority.
    pub servers: Vec<Srv>,
    /// What was asked for on the way, in order.
    pub steps: Vec<Step>,
}

impl Found {
    /// One sentence for a refusal: what was looked for in vain.
    pub fn why_none(&self, role: &Role) -> String {
        let mut text = format!("no {role} server is known{}", self.in_vain());
        if self.steps.is_empty() {
            text.push_str("; no SRV record could be asked for: set its `srv` or the `domain`, or its `servers`");
        }
        text
    }

    /// The record sets that named nobody, to follow a sentence; empty where servers are known all the same, and not by the
    /// requested name alone.
    pub fn in_vain(&self) -> String {
        if !matches!(self.source, None | Some(Source::Name)) {
            return String::new();
        }
        let steps = self.steps.iter().map(|step| match &step.result {
            Err(failure) | Ok(Known { freshness: Freshness::Stale(_, failure), .. }) => {
                format!("; SRV {}: {failure}", step.owner)
            }
            Ok(known) if known.answer.records.is_empty() => format!("; no SRV record {}", step.owner),
            Ok(_) if !step.refused.is_empty() => {
                format!("; SRV {} names nothing that may be used: {}", step.owner, list(&step.refused))
            }
            Ok(_) => format!("; SRV {} says that the service is not offered", step.owner),
        });
        steps.collect()
    }

    /// For how long the answer that names the servers has been past its TTL.
    pub fn stale_for(&self) -> Option<Duration> {
        let Some(Source::Srv(owner) | Source::Fallback(owner)) = &self.source else { return None };
        let known = self.steps.iter().find(|step| step.owner == *owner)?.result.as_ref().ok()?;
        known.freshness.span().filter(|_| known.freshness.is_stale())
    }

    /// What was wrong with DNS on the way, if anything was, though servers may have been found all the same.
    pub fn trouble(&self) -> Option<String> {
        let troubles: Vec<_> = self.steps.iter().filter_map(Step::trouble).collect();
        (!troubles.is_empty()).then(|| troubles.join("; "))
    }

    /// The first failure of DNS on the way.
    pub(super) fn failure(&self) -> Option<&Failure> {
        self.steps.iter().find_map(|step| match &step.result {
            Err(failure) => Some(failure),
            // That there was nothing so long ago says nothing of today.
            Ok(Known { answer, freshness: Freshness::Stale(_, failure), is_too_old: true, .. })
                if answer.records.is_empty() =>
            {
                Some(failure)
            }
            Ok(_) => None,
        })
    }
}

impl Step {
    /// Why DNS gave no answer, or none that is newer.
    pub fn failure(&self) -> Option<&Failure> {
        match &self.result {
            Err(failure) | Ok(Known { freshness: Freshness::Stale(_, failure), .. }) => Some(failure),
            Ok(_) => None,
        }
    }

    fn trouble(&self) -> Option<String> {
        let refused = || (!self.refused.is_empty()).then(|| format!("{}: {}", self.owner, list(&self.refused)));
        match &self.result {
            Err(failure) => Some(format!("{}: {failure}", self.owner)),
            Ok(known) if known.freshness.is_stale() => Some(format!("{} {}", self.owner, known.describe())),
            Ok(_) => refused(),
        }
    }
}

pub(super) fn list(refused: &[Refused]) -> String {
    let mut list = refused.iter().take(NAMED).map(ToString::to_string).collect::<Vec<_>>().join(", ");
    if refused.len() > NAMED {
        let _ = write!(list, " and {} more", refused.len() - NAMED);
    }
    list
}

impl<T> Known<T> {
    /// How new it is and where it comes from, in words, for `resolve` and the log.
    pub fn describe(&self) -> String {
        let disk = if self.is_from_disk { "kept on disk, " } else { "" };
        format!("{disk}{}", self.freshness.describe())
    }
}

/// What a name is to the roles' records.
#[derive(Clone, Debug)]
pub enum Target<'t> {
    /// Nothing.
    None,
    /// A server of this role.
    Server(&'t RoleConfig, Srv),
    /// One that this role's records name and may not.
    Refused(&'t RoleConfig, Refused),
}

/// The addresses of one server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// In the order to try them.
    pub ips: Vec<IpAddr>,
    /// How long DNS lets them hold; `None`: they were written, not looked up.
    pub ttl: Option<Duration>,
    /// How new they are, in words; `None`: as new as they have to be.
    pub stale: Option<String>,
    /// Those of this very host, which are not used.
    pub refused: Vec<IpAddr>,
}

impl Addresses {
    /// One that needs no DNS.
    pub(super) fn written(ip: IpAddr) -> Self {
        Addresses { ips: vec![ip], ttl: None, stale: None, refused: Vec::new() }
    }
}

/// Why a server has none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoAddress {
    /// DNS says so.
    #[error("has no address in DNS")]
    None,
    /// DNS only has addresses of this very host.
    #[error("is on loopback by DNS ({0}), which allow_loopback = true under [dns] would allow")]
    Loopback(IpAddr),
    /// DNS did not say.
    #[error("could not be looked up: {0}")]
    Failed(Failure),
}
