//! Whose signatures are trusted: the root's keys, those of the file that `dns.trust_anchor` names, and those that these
//! vouch for.
//!
//! hickory takes a zone's keys for good if each is an anchor, or if the zone above has a DS record for one. That one of
//! them is an anchor is not enough for it, so a zone's own key vouches for the others here, ahead of asking.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use hickory_resolver::NameServerPool;
use hickory_resolver::net::runtime::{Time, TokioRuntimeProvider, TokioTime};
use hickory_resolver::net::xfer::FirstAnswer as _;
use hickory_resolver::net::{DnsError, DnsHandle as _, NetError};
use hickory_resolver::proto::dnssec::rdata::{DNSKEY, DNSSECRData, RRSIG};
use hickory_resolver::proto::dnssec::{TrustAnchors, Verifier as _};
use hickory_resolver::proto::op::{DnsRequestOptions, Query};
use hickory_resolver::proto::rr::{DNSClass, Name, RData, Record, RecordType, SerialNumber};
use hickory_resolver::proto::serialize::txt::trust_anchor::{Entry, Parser};
use tokio::time::{Instant, timeout_at};

/// What a nameserver has shown holds for so long: for the questions that come together. A zone may get a new key at any
/// time, and to find that out by a signature that nobody vouches for takes hickory a second.
const HOLD: Duration = Duration::from_secs(5);

/// So many signatures over one set of keys are looked at, and so many keys: checking each costs time.
const MOST: usize = 8;

/// The keys of the file.
#[derive(Debug)]
pub(super) struct Anchors {
    path: PathBuf,
    root: Vec<DNSKEY>,
    /// Of zones other than the root.
    zones: Vec<(Name, Vec<DNSKEY>)>,
}

/// Whose signatures to trust, with what one nameserver has shown of the zones that the file has keys of.
pub(super) struct Trust {
    file: Arc<Anchors>,
    zones: Vec<Zone>,
    /// All keys.
    pub(super) all: Arc<TrustAnchors>,
    /// Without the root's.
    pub(super) own: Arc<TrustAnchors>,
    asked: Instant,
}

struct Zone {
    name: Name,
    /// The keys that were vouched for, or why none was.
    keys: Result<Vec<DNSKEY>, String>,
    /// Nor does the zone above vouch for any. hickory would find that out too, in seconds of work.
    is_lost: bool,
}

impl Anchors {
    /// No file: only the root's keys are trusted.
    pub(super) fn none() -> Self {
        Anchors { path: PathBuf::new(), root: Vec::new(), zones: Vec::new() }
    }

    pub(super) fn read(path: &Path) -> Result<Self, String> {
        let at = path.display();
        let text = fs::read_to_string(path).map_err(|why| format!("trust_anchor {at} cannot be read: {why}"))?;
        let no_list = |why: &dyn std::fmt::Display| format!("trust_anchor {at} is no list of DNSKEY records: {why}");
        let mut anchors = Anchors { path: path.to_owned(), ..Anchors::none() };
        let mut is_empty = true;
        for entry in Parser::new(with_classes(&text)).parse().map_err(|why| no_list(&why))? {
            let Entry::DNSKEY(record) = entry else { continue };
            is_empty = false;
            let key = record.data().clone();
            // Otherwise a key of an algorithm that is not known would count as one, and verify nothing.
            key.key().map_err(|why| no_list(&why))?;
            if !may_sign(&key) {
                continue;
            }
            let mut name = record.name().to_lowercase();
            name.set_fqdn(true);
            if name.is_root() {
                anchors.root.push(key);
            } else if let Some((_, keys)) = anchors.zones.iter_mut().find(|(zone, _)| *zone == name) {
                keys.push(key);
            } else {
                anchors.zones.push((name, vec![key]));
            }
        }
        match (is_empty, anchors.root.is_empty() && anchors.zones.is_empty()) {
            (true, _) => Err(format!("trust_anchor {at} has no DNSKEY record in it")),
            (_, true) => Err(format!("trust_anchor {at} has only keys that are revoked, or are no zone's")),
            _ => Ok(anchors),
        }
    }
}

impl Trust {
    /// Asks a nameserver which keys the zones have, and lets those of the file vouch for them. `before`: what it
    /// replaces, of which whatever has not changed is kept. `patience`: for each zone; all are asked at once.
    pub(super) async fn ask(
        file: Arc<Anchors>,
        pool: &NameServerPool<TokioRuntimeProvider>,
        before: Option<&Trust>,
        patience: Duration,
    ) -> Self {
        let until = Instant::now() + patience;
        let zones = join_all(file.zones.iter().map(|(name, trusted)| Zone::ask(pool, name, trusted, until))).await;
        Trust::new(file, zones, before)
    }

    fn new(file: Arc<Anchors>, zones: Vec<Zone>, before: Option<&Trust>) -> Self {
        let same = before.filter(|before| {
            let keys = |trust: &[Zone]| trust.iter().map(|zone| zone.keys.clone().ok()).collect::<Vec<_>>();
            Arc::ptr_eq(&before.file, &file) && keys(&before.zones) == keys(&zones)
        });
        let (all, own) = match same {
            Some(before) => (before.all.clone(), before.own.clone()),
            None => (
                Arc::new(with_keys(TrustAnchors::default(), &file, &zones, true)),
                Arc::new(with_keys(TrustAnchors::empty(), &file, &zones, false)),
            ),
        };
        Trust { file, zones, all, own, asked: Instant::now() }
    }

    /// Whether it still holds: the file is as it was, and what the nameserver has shown is no older than that.
    pub(super) fn holds(&self, file: &Arc<Anchors>, oldest: Duration) -> bool {
        Arc::ptr_eq(&self.file, file) && (self.zones.is_empty() || self.asked.elapsed() < oldest.min(HOLD))
    }

    /// The zone other than the root whose key the file has and in which, or below which, the name is.
    pub(super) fn zone_of(&self, name: &Name) -> Option<&Name> {
        self.zone(name).map(|zone| &zone.name)
    }

    /// Why a signature in that name's zone could not be trusted, as far as it is the file's doing, and what to do.
    pub(super) fn why_not(&self, name: &Name) -> Option<String> {
        let zone = self.zone(name)?;
        let why = zone.keys.as_ref().err()?;
        let name = zone.name.to_ascii();
        let bare = name.trim_end_matches('.');
        let file = self.file.path.display();
        Some(format!(
            "the key of {bare} in {file} vouches for none of its keys: {why}; \
             {file} has to have its key-signing key, as dig DNSKEY {bare} prints it"
        ))
    }

    /// Whether nothing in that name's zone can be trusted, whatever its signatures.
    pub(super) fn is_lost(&self, name: &Name) -> bool {
        self.zone(name).is_some_and(|zone| zone.is_lost)
    }

    fn zone(&self, name: &Name) -> Option<&Zone> {
        let above = self.zones.iter().filter(|zone| zone.name.zone_of(name));
        above.max_by_key(|zone| zone.name.num_labels())
    }
}

fn with_keys(mut anchors: TrustAnchors, file: &Anchors, zones: &[Zone], has_root: bool) -> TrustAnchors {
    for key in file.root.iter().filter(|_| has_root) {
        anchors.insert(key.public_key());
    }
    for (name, keys) in &file.zones {
        for key in keys {
            anchors.insert_with_name(key.public_key(), name.into());
        }
    }
    for zone in zones {
        for key in zone.keys.iter().flatten() {
            anchors.insert_with_name(key.public_key(), (&zone.name).into());
        }
    }
    anchors
}

impl Zone {
    async fn ask(pool: &NameServerPool<TokioRuntimeProvider>, name: &Name, trusted: &[DNSKEY], until: Instant) -> Self {
        let zone = |keys, is_lost| Zone { name: name.clone(), keys, is_lost };
        let set = match fetch(pool, name, RecordType::DNSKEY, until).await {
            Ok(set) => set,
            Err(why) => return zone(Err(why), false),
        };
        // The clock that hickory looks at signatures by.
        let wall = u32::try_from(TokioTime::current_time() & u64::from(u32::MAX)).unwrap_or_default();
        let keys = vouch(name, trusted, &set, wall);
        let mut all = set.iter().filter_map(dnskey).peekable();
        if keys.is_ok() || (all.peek().is_some() && all.all(|key| has(trusted, key))) {
            return zone(keys, false);
        }
        let above = fetch(pool, name, RecordType::DS, until).await;
        let is_lost = !above.is_ok_and(|records| records.iter().any(|record| record.record_type() == RecordType::DS));
        zone(keys, is_lost)
    }
}

/// Records of a zone's and the signatures over them.
async fn fetch(
    pool: &NameServerPool<TokioRuntimeProvider>,
    zone: &Name,
    kind: RecordType,
    until: Instant,
) -> Result<Vec<Record>, String> {
    let mut options = DnsRequestOptions::default();
    options.edns_set_dnssec_ok = true;
    let answer = pool.lookup(Query::query(zone.clone(), kind), options).first_answer();
    match timeout_at(until, answer).await.unwrap_or(Err(NetError::Timeout)) {
        Ok(response) => Ok(response.into_message().answers),
        Err(NetError::Dns(DnsError::NoRecordsFound(_))) => Ok(Vec::new()),
        Err(NetError::Dns(DnsError::ResponseCode(code))) => Err(format!("asked for them, the nameserver said {code}")),
        Err(why) => Err(format!("asked for them, the nameserver gave no answer: {why}")),
    }
}

fn has(trusted: &[DNSKEY], key: &DNSKEY) -> bool {
    trusted.iter().any(|other| other.public_key() == key.public_key())
}

/// Which keys of a zone those that are trusted vouch for, by a signature over all of them (RFC 4035 §5.3).
fn vouch(zone: &Name, trusted: &[DNSKEY], records: &[Record], wall: u32) -> Result<Vec<DNSKEY>, String> {
    let own = || records.iter().filter(|record| record.name == *zone && record.dns_class == DNSClass::IN);
    let set: Vec<&Record> = own().filter(|record| record.record_type() == RecordType::DNSKEY).collect();
    let keys: Vec<&DNSKEY> = set.iter().filter_map(|record| dnskey(record)).collect();
    if keys.is_empty() {
        return Err("the nameserver has none".into());
    }
    let vouching: Vec<_> = keys.iter().filter(|key| may_sign(key) && has(trusted, key)).take(MOST).collect();
    if vouching.is_empty() {
        return Err("it is none of the zone's, or revoked".into());
    }
    let signatures: Vec<_> = own().filter_map(rrsig).take(MOST).collect();
    if signatures.is_empty() {
        return Err("the nameserver gave no signature over them".into());
    }
    let mut is_untimely = false;
    for signature in signatures {
        for key in vouching.iter().filter(|key| is_by(zone, key, signature)) {
            if !is_timely(signature, wall) {
                is_untimely = true;
            } else if key.verify_rrsig(zone, DNSClass::IN, signature, set.iter().copied()).is_ok() {
                return Ok(keys.into_iter().filter(|key| may_sign(key)).cloned().collect());
            }
        }
    }
    Err(if is_untimely {
        "its signature over them has run out or is yet to begin, by this host's clock".into()
    } else {
        "no signature over them is by it".into()
    })
}

/// Whether a key may sign at all: it is the zone's (RFC 4034 §2.1.1), and not revoked (RFC 5011 §2.1). A revoked one must
/// not become an anchor: whoever has found it out could present it without the mark. The mark of a key-signing key
/// is for people.
fn may_sign(key: &DNSKEY) -> bool {
    key.zone_key() && !key.revoke()
}

/// Whether the signature is one over the zone's keys, and says that it is by this one (RFC 4035 §5.3.1).
fn is_by(zone: &Name, key: &DNSKEY, signature: &RRSIG) -> bool {
    let input = signature.input();
    input.type_covered == RecordType::DNSKEY
        && input.signer_name == *zone
        && input.num_labels == zone.num_labels()
        && input.algorithm == key.algorithm()
        && key.calculate_key_tag().is_ok_and(|tag| tag == input.key_tag)
}

fn is_timely(signature: &RRSIG, wall: u32) -> bool {
    let (input, now) = (signature.input(), SerialNumber::new(wall));
    input.sig_inception <= now && now <= input.sig_expiration
}

fn dnskey(record: &Record) -> Option<&DNSKEY> {
    if let RData::DNSSEC(DNSSECRData::DNSKEY(key)) = &record.data { Some(key) } else { None }
}

fn rrsig(record: &Record) -> Option<&RRSIG> {
    match &record.data {
        RData::DNSSEC(DNSSECRData::RRSIG(signature)) if signature.input().type_covered == RecordType::DNSKEY => {
            Some(signature)
        }
        _ => None,
    }
}

/// The class may be left out in a zone file (RFC 1035 §5.1), and `keymgr` does; hickory wants it.
fn with_classes(text: &str) -> String {
    let mut lines = String::with_capacity(text.len() + 16);
    for line in text.lines() {
        let words: Vec<_> = line.split_whitespace().collect();
        match words.iter().position(|word| word.eq_ignore_ascii_case("DNSKEY")) {
            Some(at) if at > 0 && !words[..at].iter().any(|word| word.eq_ignore_ascii_case("IN")) => {
                lines.push_str(&words[..at].join(" "));
                lines.push_str(" IN ");
                lines.push_str(&words[at..].join(" "));
            }
            _ => lines.push_str(line),
        }
        lines.push('\n');
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_may_be_left_out() {
        let text = "; keys\nlab.test. DNSKEY 257 3 13 AAAA\nx. 300 dnskey ( 257\n 3 13 AA )\nroot. IN DNSKEY 257\n";
        let expected =
            "; keys\nlab.test. IN DNSKEY 257 3 13 AAAA\nx. 300 IN dnskey ( 257\n 3 13 AA )\nroot. IN DNSKEY 257\n";
        assert_eq!(with_classes(text), expected);
    }

    #[test]
    fn a_file_that_is_of_no_use_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let why = || Anchors::read(&path).unwrap_err();
        assert!(why().contains("cannot be read"));
        fs::write(&path, "; nothing\n").unwrap();
        assert!(why().contains("has no DNSKEY record in it"));
        fs::write(&path, "example.test. DNSKEY what\n").unwrap();
        assert!(why().contains("is no list of DNSKEY records"));
        let key = "oJMRESz5E4gYzS/q6XDrvU1qMPYIjCWzJaOau8XNEZeqCYKD5ar0IRd8KqXXFJkqmVfRvMGPmM1x8fGAa2XhSA==";
        fs::write(&path, format!("example.test. DNSKEY 385 3 13 {key}\n")).unwrap();
        assert!(why().contains("revoked"));
        fs::write(&path, format!("Example.test. DNSKEY 257 3 13 {key}\n. DNSKEY 257 3 13 {key}\n")).unwrap();
        let anchors = Anchors::read(&path).unwrap();
        assert_eq!((anchors.root.len(), anchors.zones.len()), (1, 1));
        let trust = Trust::new(Arc::new(anchors), Vec::new(), None);
        assert_eq!(trust.all.len(), TrustAnchors::default().len() + 1, "in addition to the root's");
        assert!(trust.own.is_empty());
    }

    mod vouching {
        use hickory_resolver::proto::dnssec::crypto::EcdsaSigningKey;
        use hickory_resolver::proto::dnssec::rdata::sig::SigInput;
        use hickory_resolver::proto::dnssec::{Algorithm, SigningKey as _, TBS};

        use super::super::*;

        const NOW: u32 = 1_000_000;

        struct Key {
            signing: EcdsaSigningKey,
            public: DNSKEY,
        }

        fn key(flags: u16) -> Key {
            let algorithm = Algorithm::ECDSAP256SHA256;
            let bytes = EcdsaSigningKey::generate_pkcs8(algorithm).unwrap();
            let signing = EcdsaSigningKey::from_pkcs8(&bytes, algorithm).unwrap();
            let public = DNSKEY::with_flags(flags, signing.to_public_key().unwrap());
            Key { signing, public }
        }

        fn zone() -> Name {
            Name::from_ascii("lab.test.").unwrap()
        }

        fn set(keys: &[&Key]) -> Vec<Record> {
            let record =
                |key: &&Key| Record::from_rdata(zone(), 300, RData::DNSSEC(DNSSECRData::DNSKEY(key.public.clone())));
            keys.iter().map(record).collect()
        }

        /// A signature of a key's over these records, by that clock from 100 s ago to 900 s ahead.
        fn signed(records: &[Record], by: &Key, adjust: impl FnOnce(&mut SigInput)) -> Vec<Record> {
            let mut input = SigInput {
                type_covered: RecordType::DNSKEY,
                algorithm: by.public.algorithm(),
                num_labels: 2,
                original_ttl: 300,
                sig_expiration: SerialNumber::new(NOW + 900),
                sig_inception: SerialNumber::new(NOW - 100),
                key_tag: by.public.calculate_key_tag().unwrap(),
                signer_name: zone(),
            };
            adjust(&mut input);
            let tbs = TBS::from_input(&zone(), DNSClass::IN, &input, records.iter()).unwrap();
            let signature = RRSIG::from_sig(input, by.signing.sign(&tbs).unwrap());
            let signature = Record::from_rdata(zone(), 300, RData::DNSSEC(DNSSECRData::RRSIG(signature)));
            records.iter().cloned().chain([signature]).collect()
        }

        fn why(trusted: &Key, records: &[Record], wall: u32) -> String {
            vouch(&zone(), std::slice::from_ref(&trusted.public), records, wall).unwrap_err()
        }

        #[test]
        fn a_key_vouches_for_the_others_while_its_signature_holds() {
            let (ksk, zsk, revoked) = (key(257), key(256), key(385));
            let keys = set(&[&ksk, &zsk, &revoked]);
            let records = signed(&keys, &ksk, |_| ());
            let keys = vouch(&zone(), std::slice::from_ref(&ksk.public), &records, NOW).unwrap();
            assert_eq!(keys, [ksk.public.clone(), zsk.public.clone()], "not the revoked one");
            for wall in [NOW - 101, NOW + 901] {
                assert!(why(&ksk, &records, wall).contains("clock"), "{wall}");
            }
        }

        #[test]
        fn nothing_else_vouches() {
            let (ksk, zsk, other) = (key(257), key(256), key(257));
            let keys = set(&[&ksk, &zsk]);
            assert!(why(&ksk, &[], NOW).contains("has none"));
            assert!(why(&ksk, &keys, NOW).contains("no signature over them"));
            assert!(why(&other, &signed(&keys, &ksk, |_| ()), NOW).contains("none of the zone's"));
            assert!(why(&zsk, &signed(&keys, &ksk, |_| ()), NOW).contains("no signature over them is by it"));
            // Of another name, another zone's, by another key under the same tag, over other keys.
            let wrong: [fn(&mut SigInput); 3] = [
                |input| input.num_labels = 1,
                |input| input.signer_name = Name::from_ascii("test.").unwrap(),
                |input| input.type_covered = RecordType::A,
            ];
            for adjust in wrong {
                why(&ksk, &signed(&keys, &ksk, adjust), NOW);
            }
            let tag = ksk.public.calculate_key_tag().unwrap();
            why(&ksk, &signed(&keys, &other, |input| input.key_tag = tag), NOW);
            let mut more = signed(&keys, &ksk, |_| ());
            more.extend(set(&[&other]));
            why(&ksk, &more, NOW);
            for flags in [385, 0] {
                let ksk = key(flags);
                let records = signed(&set(&[&ksk, &zsk]), &ksk, |_| ());
                assert!(why(&ksk, &records, NOW).contains("revoked"), "{flags}");
            }
        }
    }
}
