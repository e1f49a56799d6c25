//! What a nameserver's answer means: records, none, or no answer at all.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::{DnsError, NetError, NoRecords};
use hickory_resolver::proto::dnssec::Proof;
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};

use super::srv::Srv;
use crate::config::Dnssec;

/// How long "no such record" holds when the answer does not say (RFC 2308 §5 leaves it open).
const NEGATIVE_TTL: Duration = Duration::from_secs(60);

/// A kind of record that a server's address is found by.
pub(super) trait Kind: Clone + Send + Sync + 'static {
    /// What to ask for.
    const TYPE: RecordType;

    /// The record, if this is one.
    fn read(data: &RData) -> Option<Self>;
}

/// An answer of DNS, an empty one included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer<T> {
    /// The records; none: the name or the type does not exist, and a nameserver said so.
    pub records: Vec<T>,
    /// How long it holds, by the records' TTL or the zone's SOA; neither floor nor ceiling applied.
    pub ttl: Duration,
    /// Which nameserver gave it, as the configuration would write it.
    pub from: Arc<str>,
    /// Whether it says "none" without the zone's SOA: what is broken on the way says that too, so it does not undo what
    /// is known (RFC 2308 §5).
    pub is_vague: bool,
}

/// Why a nameserver gave no answer, in words that follow its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// It said something, so it is there.
    Spoke(String),
    /// It said nothing, or could not be reached.
    Silent(String),
}

impl Trouble {
    /// The words.
    pub(super) fn into_words(self) -> String {
        match self {
            Trouble::Spoke(why) | Trouble::Silent(why) => why,
        }
    }
}

/// DNS gave no answer: neither records nor "there are none".
#[derive(Clone, Debug, Default, PartialEq, Eq, thiserror::Error)]
pub struct Failure {
    /// Each nameserver asked, and what it did.
    pub tried: Vec<(Arc<str>, String)>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.tried.is_empty() {
            return f.write_str("no nameserver is known");
        }
        for (n, (server, what)) in self.tried.iter().enumerate() {
            write!(f, "{}{server} {what}", if n == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

impl Kind for Srv {
    const TYPE: RecordType = RecordType::SRV;

    fn read(data: &RData) -> Option<Self> {
        let RData::SRV(srv) = data else { return None };
        let target =
            if srv.target.is_root() { None } else { Some(srv.target.to_ascii().trim_end_matches('.').parse().ok()?) };
        Some(Srv { priority: srv.priority, weight: srv.weight, port: srv.port, target })
    }
}

/// Where an alias leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cname(pub(super) String);

impl Kind for Cname {
    const TYPE: RecordType = RecordType::CNAME;

    fn read(data: &RData) -> Option<Self> {
        let RData::CNAME(name) = data else { return None };
        Some(Cname(name.to_ascii().trim_end_matches('.').to_ascii_lowercase()))
    }
}

/// An IPv4 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct A(pub(super) IpAddr);

/// An IPv6 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Aaaa(pub(super) IpAddr);

impl Kind for A {
    const TYPE: RecordType = RecordType::A;

    fn read(data: &RData) -> Option<Self> {
        if let RData::A(a) = data { Some(A(IpAddr::V4(a.0))) } else { None }
    }
}

impl Kind for Aaaa {
    const TYPE: RecordType = RecordType::AAAA;

    fn read(data: &RData) -> Option<Self> {
        if let RData::AAAA(a) = data { Some(Aaaa(IpAddr::V6(a.0))) } else { None }
    }
}

impl From<A> for IpAddr {
    fn from(a: A) -> Self {
        a.0
    }
}

impl From<Aaaa> for IpAddr {
    fn from(a: Aaaa) -> Self {
        a.0
    }
}

/// Tells an answer, an empty one included, from a failure. `name`: what was asked for.
pub(super) fn read<T: Kind>(
    from: &Arc<str>,
    name: &Name,
    dnssec: Dnssec,
    result: Result<Lookup, NetError>,
) -> Result<Answer<T>, Trouble> {
    match result {
        Ok(lookup) => found(from, name, dnssec, lookup.answers()).map_err(Trouble::Spoke),
        Err(NetError::Dns(error)) => not_found(from, dnssec, error).map_err(Trouble::Spoke),
        Err(NetError::Timeout) => Err(Trouble::Silent("did not answer".into())),
        Err(NetError::Io(error)) => Err(Trouble::Silent(format!("could not be reached: {error}"))),
        Err(NetError::NoConnections) => Err(Trouble::Silent("could not be reached".into())),
        Err(other) => Err(Trouble::Spoke(format!("did not give an answer that can be used: {other}"))),
    }
}

fn found<T: Kind>(from: &Arc<str>, name: &Name, dnssec: Dnssec, records: &[Record]) -> Result<Answer<T>, String> {
    let chain = chain(name, records);
    signed_enough(dnssec, chain.iter().copied())?;
    let of_kind = chain.iter().filter(|record| record.record_type() == T::TYPE).count();
    let records: Vec<T> = chain.iter().filter_map(|record| T::read(&record.data)).collect();
    if records.len() < of_kind {
        tracing::warn!(%name, from = &**from, "{} of {of_kind} records name no host", of_kind - records.len());
        if records.is_empty() {
            // They are there, whatever they are: that is not "none".
            return Err("only gave records that name no host".into());
        }
    }
    // The whole chain: a CNAME that moves sooner than the record behind it counts too.
    let ttl = Duration::from_secs(chain.iter().map(|r| r.ttl).min().unwrap_or(0).into());
    Ok(Answer { is_vague: records.is_empty(), records, ttl, from: from.clone() })
}

fn not_found<T>(from: &Arc<str>, dnssec: Dnssec, error: DnsError) -> Result<Answer<T>, String> {
    let none = |ttl, is_vague| Ok(Answer { records: Vec::new(), ttl, from: from.clone(), is_vague });
    match error {
        DnsError::NoRecordsFound(nothing) => {
            none_found(&nothing, dnssec)?;
            none(negative_ttl(&nothing), nothing.soa.is_none() && nothing.response_code != ResponseCode::NXDomain)
        }
        // There is nothing, and no proof of it is owed: the zone is not signed.
        DnsError::Nsec { response, proof: Proof::Insecure, .. }
            if matches!(response.response_code, ResponseCode::NXDomain | ResponseCode::NoError) =>
        {
            signed_enough(dnssec, response.authorities.iter())?;
            none(response.negative_ttl().map_or(NEGATIVE_TTL, |s| Duration::from_secs(s.into())), false)
        }
        DnsError::Nsec { .. } => Err("gave no proof that there is no such record (DNSSEC)".into()),
        DnsError::DnssecBogus => Err("gave an answer whose signature is wrong (DNSSEC)".into()),
        DnsError::ResponseCode(other) => Err(code(other)),
        other => Err(format!("did not give an answer that can be used: {other}")),
    }
}

/// Whether "none" may be taken for that.
fn none_found(none: &NoRecords, dnssec: Dnssec) -> Result<(), String> {
    if !matches!(none.response_code, ResponseCode::NXDomain | ResponseCode::NoError) {
        return Err(code(none.response_code));
    }
    if none.soa.is_none() && none.ns.as_ref().is_some_and(|ns| !ns.is_empty()) {
        // It knows who would know, and did not ask.
        return Err("only gave a referral: it does not resolve names for this host".into());
    }
    signed_enough(dnssec, none.authorities.as_deref().unwrap_or_default().iter())
}

/// By the SOA (RFC 2308 §5): the lesser of its TTL and its last field.
fn negative_ttl(none: &NoRecords) -> Duration {
    let of_soa = || none.soa.as_ref().map(|soa| soa.ttl.min(soa.data.minimum));
    none.negative_ttl.or_else(of_soa).map_or(NEGATIVE_TTL, |s| Duration::from_secs(s.into()))
}

/// The records of this name, and of those that it is an alias for. Whatever else an answer brings has not been asked for,
/// and nobody vouches for it: a signed answer may have an unsigned stranger in it.
pub(super) fn chain<'r>(name: &Name, records: &'r [Record]) -> Vec<&'r Record> {
    let mut names = vec![name];
    while let Some(next) = names.last().and_then(|last| alias(last, records)) {
        if names.contains(&next) {
            break;
        }
        names.push(next);
    }
    records.iter().filter(|record| names.contains(&&record.name)).collect()
}

fn alias<'r>(name: &Name, records: &'r [Record]) -> Option<&'r Name> {
    records.iter().filter(|record| record.name == *name).find_map(|record| match &record.data {
        RData::CNAME(to) => Some(&to.0),
        _ => None,
    })
}

/// Whether the records are signed, where they have to be. What is wrongly signed has not come so far. Of several
/// signatures one is enough, so they are not looked at themselves.
fn signed_enough<'r>(dnssec: Dnssec, records: impl Iterator<Item = &'r Record>) -> Result<(), String> {
    let mut proofs = records.filter(|record| !record.record_type().is_rrsig()).map(|record| record.proof).peekable();
    let is_secure = proofs.peek().is_some() && proofs.all(|proof| proof == Proof::Secure);
    if dnssec == Dnssec::Require && !is_secure {
        return Err("gave an answer that is not signed, and dnssec = \"require\"".into());
    }
    Ok(())
}

/// A response code by the name admins know.
fn code(code: ResponseCode) -> String {
    match code {
        ResponseCode::ServFail => "said SERVFAIL".into(),
        ResponseCode::Refused => "said REFUSED".into(),
        ResponseCode::FormErr => "said FORMERR".into(),
        ResponseCode::NotImp => "said NOTIMP".into(),
        other => format!("said {other}"),
    }
}
