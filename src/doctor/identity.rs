//! What the agent has of the CA: its certificates, and a certificate of its own.

use std::fs;
use std::io;
use std::path::Path;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::access::Reader;
use super::expiry::{self, RENEWAL};
use super::finding::{Finding, Verdict};
use crate::certificate::Names;
use crate::puppet::Settings;
use crate::trust::{AGENTS, COPY, NoBundle};

/// A file with certificates.
#[derive(Debug)]
pub(super) enum Pem {
    /// It is not there.
    Absent,
    /// It cannot be read, or is none; why, in words that follow its name.
    Broken(String),
    /// Their names and dates.
    Certificates(Vec<Names>),
}

impl Pem {
    /// Reads one.
    pub(super) fn read(path: &Path) -> Self {
        let text = match fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Pem::Absent,
            Err(error) => return Pem::Broken(format!("cannot be read: {error}")),
        };
        let names = CertificateDer::pem_slice_iter(&text).map(|certificate| {
            let certificate = certificate.map_err(|error| error.to_string())?;
            Names::of(&certificate).map_err(|error| error.to_string())
        });
        match names.collect::<Result<Vec<_>, _>>() {
            Ok(names) if names.is_empty() => Pem::Broken("has no certificate in it".into()),
            Ok(names) => Pem::Certificates(names),
            Err(why) => Pem::Broken(format!("is broken: {why}")),
        }
    }
}

/// Judges the CA's certificates, as the agent has them. `now`: seconds since 1970-01-01 UTC.
pub(super) fn judge_bundle<T>(
    found: &Result<T, NoBundle>,
    path: &str,
    pem: &Pem,
    settings: &Settings,
    now: i64,
) -> Finding {
    const CHECK: &str = "ca-certificates";
    let subject = "CA's certificates";
    let again = format!("remove it, and the next run fetches it anew: `rm {path}`");
    match (found, pem) {
        (Err(NoBundle::Absent(_) | NoBundle::Awaited(_)), _) => {
            let what = format!("there is no {path}: the first run brings it");
            let mend = if settings.get("ca_fingerprint").is_some() {
                "`puppet agent --test`, which compares it with the ca_fingerprint that is set".to_owned()
            } else {
                "`puppet agent --test`; to be sure whose it is, first `puppet config set ca_fingerprint FINGERPRINT --section main`, \
                 with what `sha256sum ca_crt.pem` says in the CA's own directory"
                    .to_owned()
            };
            Finding::warning(CHECK, subject, what, mend)
        }
        (Err(NoBundle::Closed { why, .. }), _) => {
            let mend = format!("make it readable: `ls -l {path}`, and its directories");
            Finding::problem(CHECK, subject, format!("{path} cannot be read: {why}"), mend)
        }
        (Err(NoBundle::Broken { why, .. }), _) | (Ok(_), Pem::Broken(why)) => {
            Finding::problem(CHECK, subject, format!("{path} {why}"), again)
        }
        (Ok(_), Pem::Absent) => Finding::ok(CHECK, subject, path),
        (Ok(_), Pem::Certificates(all)) => {
            let dates = all.iter().map(|names| expiry::judge(names, now));
            let (verdict, words) = dates.max_by_key(|(verdict, _)| *verdict).unwrap_or((Verdict::Ok, String::new()));
            let many = all.len();
            let what = format!("{path}: {many} certificate{}", if many == 1 { "" } else { "s" });
            match verdict {
                Verdict::Ok => Finding::ok(CHECK, subject, what),
                verdict => {
                    let mend = "the CA has to be renewed, on its server; then every agent fetches it anew";
                    Finding { verdict, ..Finding::problem(CHECK, subject, format!("{what}; one {words}"), mend) }
                }
            }
        }
    }
}

/// Whether the daemon looks where the agent keeps it, and may read it there. `configured`: `ca_file` under `[certificates]`.
pub(super) fn judge_place(agents: &str, configured: Option<&Path>, checks: bool, reader: &Reader) -> Option<Finding> {
    let is_found = match configured {
        Some(path) => path == Path::new(agents),
        None => AGENTS.contains(&agents),
    };
    // Another copy of the same is as good.
    let is_same = configured.is_some_and(|path| matches!((fs::read(path), fs::read(agents)), (Ok(a), Ok(b)) if a == b));
    if !checks {
        return None;
    }
    if is_found || is_same {
        let is_handed_on =
            configured.is_none() && agents == AGENTS[1] && (reader.has_credentials || Path::new(COPY).exists());
        return if is_handed_on { None } else { judge_access(configured.unwrap_or(Path::new(agents)), reader) };
    }
    let what = match configured {
        Some(path) => format!("is {}, and the agent trusts what is in {agents}", path.display()),
        None => {
            format!("is not set, and the agent has the CA's certificates in {agents}, where puppet-shim does not look")
        }
    };
    let mend = format!("write `ca_file = \"{agents}\"` under `[certificates]`");
    Some(Finding::warning("ca-certificates", "ca_file", what, mend))
}

/// Whether the daemon may read it, where it is no business of systemd's.
fn judge_access(file: &Path, reader: &Reader) -> Option<Finding> {
    let bar = reader.bar(file)?;
    let what = format!(
        "puppet-shim's user may not read {}, since {} has the mode {:04o}: servers' certificates are not checked against the CA",
        file.display(),
        bar.path.display(),
        bar.mode
    );
    let mend = format!(
        "`install -m 0644 {} /etc/puppet-shim/ca.pem`, again whenever it changes, and `ca_file = \"/etc/puppet-shim/ca.pem\"` under \
         `[certificates]`",
        file.display()
    );
    Some(Finding::warning("ca-certificates", "ca_file", what, mend))
}

/// Judges the agent's own certificate.
pub(super) fn judge_own(path: &str, pem: &Pem, settings: &Settings, now: i64) -> Finding {
    const CHECK: &str = "agent-certificate";
    let certname = settings.get("certname").unwrap_or("CERTNAME");
    let anew = format!(
        "on the CA `puppetserver ca clean --certname {certname}`, here `puppet ssl clean` and `puppet agent --test`, and on the CA \
         `puppetserver ca sign --certname {certname}`"
    );
    let all = match pem {
        Pem::Absent => {
            return Finding::warning(
                CHECK,
                certname,
                format!("there is no {path}: the first run asks for it"),
                format!("`puppet agent --test`, and on the CA `puppetserver ca sign --certname {certname}`"),
            );
        }
        Pem::Broken(why) => return Finding::problem(CHECK, certname, format!("{path} {why}"), anew),
        Pem::Certificates(all) => all,
    };
    let Some(own) = all.first() else { return Finding::ok(CHECK, certname, path) };
    let (verdict, words) = expiry::judge(own, now);
    let what = format!("the agent's certificate {words}");
    match verdict {
        Verdict::Ok => Finding::ok(CHECK, certname, what),
        Verdict::Warning => Finding::warning(CHECK, certname, what, renewal(settings, &anew)),
        Verdict::Problem if own.not_before() > now => {
            Finding::problem(CHECK, certname, what, "set the clocks of this host and of the CA: `timedatectl`")
        }
        Verdict::Problem => Finding::problem(CHECK, certname, what, anew),
    }
}

/// What to do about a certificate that is still good, so that it can ask for its successor (`lib/puppet/ssl/state_machine.rb`
/// of Puppet 8.2). `anew`: how it is replaced by hand.
fn renewal(settings: &Settings, anew: &str) -> String {
    // Older agents do not know the setting.
    match settings.number("hostcert_renewal_interval").map(|seconds| seconds / expiry::DAY.unsigned_abs()) {
        None => format!("this agent is older than Puppet 8.2, and renews none; before that day, {anew}"),
        Some(0) => format!(
            "hostcert_renewal_interval keeps the agent from renewing it: `puppet config delete hostcert_renewal_interval --section main`; \
             where the CA does not do that ({RENEWAL}), before that day, {anew}"
        ),
        Some(days) => format!(
            "a run renews it when less than {days} days are left (hostcert_renewal_interval), if the CA allows that: {RENEWAL}; else, \
             before that day, {anew}"
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::PathBuf;

    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    /// A certificate that is good from 2026 to 2027, in a file.
    fn file(text: Option<&str>) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.pem");
        let mut params = CertificateParams::new(vec!["agent01".to_owned()]).unwrap();
        (params.not_before, params.not_after) = (date_time_ymd(2026, 1, 1), date_time_ymd(2027, 1, 1));
        let pem = params.self_signed(&KeyPair::generate().unwrap()).unwrap().pem();
        fs::write(&path, text.unwrap_or(&pem)).unwrap();
        (folder, path)
    }

    fn seconds(year: i32, month: u8) -> i64 {
        date_time_ymd(year, month, 1).unix_timestamp()
    }

    #[test]
    fn the_agents_own() {
        let (_folder, path) = file(None);
        let settings = [("certname", "agent01")].into_iter().collect();
        let judged = |pem: &Pem, now| judge_own("FILE", pem, &settings, now);
        let good = Pem::read(&path);
        let finding = judged(&good, seconds(2026, 6));
        assert_eq!(
            finding,
            Finding::ok("agent-certificate", "agent01", "the agent's certificate is good until 2027-01-01")
        );
        let finding = judged(&good, seconds(2027, 2));
        assert_eq!(finding.verdict, Verdict::Problem);
        assert!(finding.mend.unwrap().starts_with("on the CA `puppetserver ca clean --certname agent01`"));
        let finding = judged(&good, seconds(2025, 2));
        assert_eq!(finding.verdict, Verdict::Problem);
        assert!(finding.mend.unwrap().ends_with("`timedatectl`"));
        assert_eq!(judged(&Pem::read(&path.with_extension("no")), 0).verdict, Verdict::Warning);
        let (_folder, path) = file(Some("garbage"));
        assert_eq!(judged(&Pem::read(&path), 0).what, "FILE has no certificate in it");
    }

    /// One that can still renew itself is not to be revoked.
    #[test]
    fn the_agents_own_in_its_last_month() {
        let (_folder, path) = file(None);
        let good = Pem::read(&path);
        let mend = |interval: Option<&'static str>| {
            let interval = interval.map(|value| ("hostcert_renewal_interval", value));
            let settings = [("certname", "agent01")].into_iter().chain(interval).collect();
            let finding = judge_own("FILE", &good, &settings, seconds(2026, 12) + 5 * 86400);
            assert_eq!(finding.verdict, Verdict::Warning);
            finding.mend.unwrap()
        };
        let renewed = mend(Some("2592000"));
        assert!(renewed.starts_with("a run renews it when less than 30 days are left"), "{renewed}");
        assert!(
            renewed.contains("`allow-auto-renewal: true` in its ca.conf; else, before that day, on the CA"),
            "{renewed}"
        );
        assert!(mend(Some("0")).starts_with("hostcert_renewal_interval keeps the agent from renewing it"));
        assert!(mend(None).starts_with("this agent is older than Puppet 8.2, and renews none"));
    }

    #[test]
    fn the_cas() {
        let (_folder, path) = file(None);
        let pem = Pem::read(&path);
        let none = Settings::default();
        let judged = |found: &Result<(), NoBundle>, pem: &Pem, settings: &Settings, now| {
            judge_bundle(found, "FILE", pem, settings, now)
        };
        assert_eq!(judged(&Ok(()), &pem, &none, seconds(2026, 6)).what, "FILE: 1 certificate");
        assert_eq!(judged(&Ok(()), &pem, &none, seconds(2027, 6)).verdict, Verdict::Problem);
        let absent = Err(NoBundle::Absent(vec![path.clone()]));
        let first = judged(&absent, &Pem::Absent, &none, 0);
        assert_eq!(first.verdict, Verdict::Warning);
        assert!(first.mend.unwrap().contains("puppet config set ca_fingerprint"));
        let set = [("ca_fingerprint", "AA")].into_iter().collect();
        assert!(!judged(&absent, &Pem::Absent, &set, 0).mend.unwrap().contains("config set"));
        let broken = Err(NoBundle::Broken { path, why: "has no certificate in it".into() });
        let finding = judged(&broken, &Pem::Absent, &none, 0);
        assert_eq!((finding.verdict, finding.what.as_str()), (Verdict::Problem, "FILE has no certificate in it"));
    }

    #[test]
    fn where_the_daemon_looks() {
        let (_folder, path) = file(None);
        let agents = path.to_str().unwrap();
        let root = Reader { user: Some((0, 0)), has_credentials: false };
        let judged = |agents: &str, configured: Option<&Path>, checks| judge_place(agents, configured, checks, &root);
        assert!(judged(AGENTS[1], None, true).is_none());
        assert!(judged(agents, Some(&path), true).is_none());
        assert!(judged(agents, None, false).is_none());
        let finding = judged(agents, None, true).unwrap();
        assert_eq!(finding.mend.unwrap(), format!("write `ca_file = \"{agents}\"` under `[certificates]`"));
        assert!(judged(agents, Some(Path::new("/nowhere")), true).is_some());
    }

    /// Root, who asks, may read everything.
    #[test]
    fn what_the_daemon_may_not_read() {
        let (folder, path) = file(None);
        fs::set_permissions(folder.path(), Permissions::from_mode(0o750)).unwrap();
        let agents = path.to_str().unwrap();
        let judged = |user| judge_place(agents, Some(&path), true, &Reader { user, has_credentials: true });
        let finding = judged(None).unwrap();
        assert_eq!((finding.verdict, finding.subject.as_str()), (Verdict::Warning, "ca_file"));
        assert!(finding.what.contains(&format!("since {} has the mode 0750", folder.path().display())), "{finding:?}");
        assert!(finding.mend.unwrap().contains("`ca_file = \"/etc/puppet-shim/ca.pem\"`"));
        assert_eq!(judged(Some((0, 0))), None);
        // Debian's, which the unit hands on.
        assert_eq!(judge_place(AGENTS[1], None, true, &Reader { user: None, has_credentials: true }), None);
    }
}
