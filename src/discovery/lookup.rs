//! One question to one nameserver, and whether its answer can be trusted, where signatures are looked at.
//!
//! hickory verifies. What is left to do here is about the zones that the file of `dns.trust_anchor` has keys of.

use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::dnssec::Proof;
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};

use super::anchor::Trust;
use super::answer::chain;
use super::nameserver::Server;
use crate::config::Dnssec;

/// An answer whose signature is wrong may be signed by a key that is newer than those that are known. Then they are asked
/// for anew, but not more often than this.
const RENEWAL: Duration = Duration::from_secs(1);

type Answered = Result<Lookup, NetError>;

/// Asks.
///
/// # Errors
///
/// Why the nameserver cannot be asked, in words that follow its name.
pub(super) async fn look_up(server: &Server, name: &Name, kind: RecordType) -> Result<Answered, String> {
    if server.dnssec() == Dnssec::Off {
        return Ok(server.resolver(None)?.lookup(name.clone(), kind).await);
    }
    let mut trust = server.trust(Duration::MAX).await?;
    let mut answered = ask(server, &trust, name, kind).await?;
    if is_bogus(&answered) {
        let newer = server.trust(RENEWAL).await?;
        if !Arc::ptr_eq(&newer.all, &trust.all) {
            answered = ask(server, &newer, name, kind).await?;
        }
        trust = newer;
    }
    if is_bogus(&answered) {
        let Some(why) = trust.why_not(name) else { return Ok(answered) };
        return Ok(Err(format!("it cannot be verified (DNSSEC): {why}").into()));
    }
    // Where signatures are required, what has none is refused anyway.
    if server.dnssec() == Dnssec::Prefer {
        for (name, kind) in doubts(&trust, name, kind, &answered) {
            // With these keys alone nothing above their zones can say that they are not signed.
            let second = server.build(Some(&trust.own))?.lookup(name.clone(), kind).await;
            if matches!(second, Err(NetError::Timeout | NetError::Io(_) | NetError::NoConnections)) {
                return Ok(second);
            }
            if !is_unsigned(&trust, &name, kind, &second) {
                let zone = trust.zone_of(&name).map(Name::to_ascii).unwrap_or_default();
                let zone = zone.trim_end_matches('.');
                return Ok(Err(format!("it is not signed (DNSSEC), and trust_anchor has a key of {zone}").into()));
            }
        }
    }
    Ok(answered)
}

async fn ask(server: &Server, trust: &Trust, name: &Name, kind: RecordType) -> Result<Answered, String> {
    if trust.is_lost(name) {
        return Ok(Err(DnsError::DnssecBogus.into()));
    }
    Ok(server.resolver(Some(&trust.all))?.lookup(name.clone(), kind).await)
}

fn is_bogus(answered: &Answered) -> bool {
    match answered {
        Err(NetError::Dns(DnsError::Nsec { proof, .. })) => *proof != Proof::Insecure,
        Err(NetError::Dns(DnsError::DnssecBogus)) => true,
        _ => false,
    }
}

/// What is to be asked again, with only the keys of the file's own zones: what is in one of them, or below, and came
/// without a signature. The root's keys may prove that nobody above vouches for such a zone, which is why it has a key in
/// the file, and not that its answers need no signature.
fn doubts(trust: &Trust, name: &Name, kind: RecordType, answered: &Answered) -> Vec<(Name, RecordType)> {
    let mut doubts = Vec::new();
    let is_own = |name: &Name| trust.zone_of(name).is_some();
    if let Ok(lookup) = answered {
        for record in chain(name, lookup.answers()) {
            let doubt = (record.name.clone(), record.record_type());
            if !record.record_type().is_rrsig()
                && record.proof != Proof::Secure
                && is_own(&record.name)
                && !doubts.contains(&doubt)
            {
                doubts.push(doubt);
            }
        }
    } else if let Some(authorities) = nothing(answered)
        && is_own(name)
        && !(is_about(authorities, name) && authorities.iter().any(|record| record.proof == Proof::Secure))
    {
        // What is not said of the name itself is said of what it is an alias for, if it is one.
        doubts.push((name.clone(), if is_about(authorities, name) { kind } else { RecordType::CNAME }));
    }
    doubts
}

/// Whether that is an answer which need not be signed: it is below the file's zones, where they say so, or an alias
/// leads out of them.
fn is_unsigned(trust: &Trust, name: &Name, kind: RecordType, answered: &Answered) -> bool {
    if let Ok(lookup) = answered {
        let leads_out = |record: &&Record| match &record.data {
            RData::CNAME(to) => kind == RecordType::CNAME && trust.zone_of(&to.0).is_none(),
            _ => false,
        };
        let own: Vec<_> = lookup.answers().iter().filter(|r| r.name == *name && r.record_type() == kind).collect();
        let is_fine = |record: &&Record| record.proof == Proof::Insecure || leads_out(record);
        return !own.is_empty() && own.iter().all(is_fine);
    }
    nothing(answered).is_some_and(|authorities| {
        is_about(authorities, name) && authorities.iter().all(|record| record.proof == Proof::Insecure)
    })
}

/// What the nameserver has shown for there being nothing, if that is what it said.
fn nothing(answered: &Answered) -> Option<&[Record]> {
    match answered {
        Err(NetError::Dns(DnsError::NoRecordsFound(none))) => Some(none.authorities.as_deref().unwrap_or_default()),
        Err(NetError::Dns(DnsError::Nsec { response, .. })) => Some(&response.authorities),
        _ => None,
    }
}

/// Whether the zone that says "nothing" is one in which the name is.
fn is_about(authorities: &[Record], name: &Name) -> bool {
    authorities.iter().any(|record| record.record_type() == RecordType::SOA && record.name.zone_of(name))
}
