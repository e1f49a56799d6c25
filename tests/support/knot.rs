//! knot, Debian's authoritative nameserver, with zones that change while it runs.

use std::fmt::Write;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use hickory_server::proto::rr::RecordType;
use tempfile::TempDir;

use super::nameserver::{Process, free_address, program, run};

const ALGORITHM: &str = "algorithm=ecdsap256sha256";
const KSK: [&str; 2] = ["ksk=yes", "zsk=no"];
const ZSK: [&str; 2] = ["ksk=no", "zsk=yes"];

/// A running knot.
pub struct Knot {
    address: SocketAddr,
    process: Process,
    zones: Vec<Zone>,
    serial: u32,
}

/// One zone. `.` delegates to all the others.
#[derive(Clone, Debug)]
pub struct Zone {
    name: String,
    /// In zone file form, without SOA and NS.
    records: String,
    signing: Signing,
    /// Whether one key signs the zone's keys and another one the rest.
    has_two_keys: bool,
    /// Whether `.` vouches for its key.
    has_ds: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Signing {
    /// None.
    Off,
    /// By knot, with NSEC or NSEC3 to prove that there is no such name.
    On { nsec3: bool },
    /// The file has the signatures, and knot does not look at them.
    AsWritten,
}

impl Zone {
    /// A zone without signatures.
    pub fn plain(name: &str, records: &str) -> Self {
        Zone { name: name.into(), records: records.into(), signing: Signing::Off, has_two_keys: false, has_ds: true }
    }

    /// A zone that knot signs.
    pub fn signed(name: &str, records: &str) -> Self {
        Zone { signing: Signing::On { nsec3: false }, ..Zone::plain(name, records) }
    }

    /// The same with hashed names where it says what there is not, as large zones have it.
    pub fn signed_with_nsec3(name: &str, records: &str) -> Self {
        Zone { signing: Signing::On { nsec3: true }, ..Zone::plain(name, records) }
    }

    /// The same with a key that signs the zone's keys and another that signs the rest, as knot does by itself.
    pub fn with_two_keys(self) -> Self {
        Zone { has_two_keys: true, ..self }
    }

    /// The same, and nobody above says that it is signed.
    pub fn without_ds(self) -> Self {
        Zone { has_ds: false, ..self }
    }

    fn is_signed_by_knot(&self) -> bool {
        matches!(self.signing, Signing::On { .. })
    }

    fn file(&self) -> String {
        if self.name == "." { "root.zone".into() } else { format!("{}.zone", self.name) }
    }
}

impl Knot {
    /// Starts it with these zones, on a port of its own.
    pub async fn start(zones: &[Zone]) -> Self {
        let folder = TempDir::new().unwrap();
        let address = free_address();
        fs::write(config(folder.path()), configuration(folder.path(), address, zones)).unwrap();
        for zone in zones.iter().filter(|zone| zone.is_signed_by_knot()) {
            let kinds: &[_] = if zone.has_two_keys { &[KSK, ZSK] } else { &[["ksk=yes", "zsk=yes"]] };
            for [ksk, zsk] in kinds {
                keymgr(folder.path(), &[&zone.name, "generate", ALGORITHM, ksk, zsk]);
            }
        }
        let serial = 1;
        for zone in zones {
            fs::write(folder.path().join(zone.file()), text(folder.path(), zones, zone, serial)).unwrap();
        }
        let mut command = Command::new(program("knotd", "knot"));
        command.arg("-c").arg(config(folder.path()));
        let mut process = Process::start(folder, &mut command);
        let names: Vec<_> = zones.iter().map(|zone| (zone.name.as_str(), RecordType::SOA)).collect();
        process.answers(address, &names).await;
        Knot { address, process, zones: zones.to_vec(), serial }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Gives a zone other records, signed anew where it was signed.
    pub fn set(&mut self, name: &str, records: &str) {
        // Signing has its own share in the serial.
        self.serial += 100;
        let zone = self.zones.iter_mut().find(|zone| zone.name == name).unwrap();
        zone.records = records.into();
        let zone = zone.clone();
        let folder = self.process.folder();
        fs::write(folder.join(zone.file()), text(folder, &self.zones, &zone, self.serial)).unwrap();
        self.knotc(&["zone-reload", name]);
    }

    /// Gives a zone another key that signs its records, beside those that it has.
    pub fn add_zone_key(&self, name: &str) {
        keymgr(self.process.folder(), &[name, "generate", ALGORITHM, ZSK[0], ZSK[1]]);
        self.knotc(&["zone-sign", name]);
    }

    /// Takes its oldest such key away.
    pub fn drop_zone_key(&self, name: &str) {
        let keys = keymgr(self.process.folder(), &[name, "list"]);
        let oldest = keys.lines().find(|line| line.contains(" ZSK ")).and_then(|line| line.split(' ').next());
        keymgr(self.process.folder(), &[name, "delete", oldest.unwrap()]);
        self.knotc(&["zone-sign", name]);
    }

    /// The key that a signed zone is trusted by, as a record that has neither TTL nor class.
    pub fn key(&self, name: &str) -> String {
        keymgr(self.process.folder(), &[name, "dnskey"])
    }

    /// A file with that key, as `dns.trust_anchor` has it. It goes with the server.
    pub fn trust_anchor(&self, name: &str) -> PathBuf {
        let file = self.process.folder().join(format!("{name}anchor"));
        fs::write(&file, self.key(name).replace(" DNSKEY ", " IN DNSKEY ")).unwrap();
        file
    }

    /// Another server with the same zones, signatures included, in one of which `change` has been at work since it was
    /// signed.
    pub async fn tampered(&self, name: &str, change: impl Fn(&str) -> String) -> Knot {
        let out = TempDir::new().unwrap();
        self.knotc(&["zone-flush", "+outdir", out.path().to_str().unwrap()]);
        let mut zones = self.zones.clone();
        for zone in &mut zones {
            zone.records = fs::read_to_string(out.path().join(zone.file())).unwrap();
            zone.signing = Signing::AsWritten;
            if zone.name == name {
                let changed = change(&zone.records);
                assert_ne!(changed, zone.records, "nothing has changed in {name}");
                zone.records = changed;
            }
        }
        Knot::start(&zones).await
    }

    fn knotc(&self, arguments: &[&str]) {
        let folder = self.process.folder();
        run(Command::new(program("knotc", "knot")).arg("-c").arg(config(folder)).arg("-b").args(arguments));
    }
}

fn config(folder: &Path) -> PathBuf {
    folder.join("knot.conf")
}

fn configuration(folder: &Path, address: SocketAddr, zones: &[Zone]) -> String {
    let mut text = format!(
        r#"server:
    rundir: "{folder}"
    listen: {ip}@{port}
    udp-workers: 1
    tcp-workers: 1
    background-workers: 1
log:
  - target: stderr
    any: info
database:
    storage: "{folder}"
policy:
  - id: nsec
    manual: on
    algorithm: ecdsap256sha256
  - id: nsec3
    manual: on
    algorithm: ecdsap256sha256
    nsec3: on
template:
  - id: default
    storage: "{folder}"
    zonefile-sync: -1
    zonefile-load: whole
    journal-content: none
zone:
"#,
        folder = folder.display(),
        ip = address.ip(),
        port = address.port(),
    );
    for zone in zones {
        writeln!(text, "  - domain: {}\n    file: {}", zone.name, zone.file()).unwrap();
        if let Signing::On { nsec3 } = zone.signing {
            let policy = if nsec3 { "nsec3" } else { "nsec" };
            writeln!(text, "    dnssec-signing: on\n    dnssec-policy: {policy}").unwrap();
        }
    }
    text
}

/// A zone's file.
fn text(folder: &Path, zones: &[Zone], zone: &Zone, serial: u32) -> String {
    if zone.signing == Signing::AsWritten {
        return zone.records.clone();
    }
    let mut text =
        format!("$TTL 60\n@ SOA ns.lab.test. root.lab.test. {serial} 3600 600 86400 60\n@ NS ns.lab.test.\n");
    for child in zones.iter().filter(|other| zone.name == "." && other.name != ".") {
        writeln!(text, "{}. NS ns.lab.test.", child.name).unwrap();
        if child.is_signed_by_knot() && child.has_ds {
            text.push_str(&keymgr(folder, &[&child.name, "ds"]));
        }
    }
    text + &zone.records
}

fn keymgr(folder: &Path, arguments: &[&str]) -> String {
    run(Command::new(program("keymgr", "knot")).arg("-c").arg(config(folder)).args(arguments))
}
