//! Our own configuration, and whether the daemon goes by it.

use std::fmt::Write as _;

use super::finding::Finding;
use crate::config::{Diagnostic, InForce, Origin, Severity};

const CHECK: &str = "configuration";

/// Judges the file. `is_older`: whether a daemon runs, and has accepted another text.
pub(super) fn judge(config: &InForce, is_older: bool) -> Vec<Finding> {
    let mut findings: Vec<Finding> = config.diagnostics.iter().map(told).collect();
    if config.origin.is_fallback() {
        // What holds instead is the same for each error, so it is said once.
        if let Some(first) = findings.iter_mut().find(|finding| finding.mend.is_some()) {
            // Writing to a String cannot fail.
            let _ = write!(first.what, "; until that is mended the daemon goes by {}", config.origin);
        }
    } else if is_older {
        findings.push(Finding::warning(
            CHECK,
            "daemon",
            "runs by an older configuration than the file's",
            "`systemctl reload puppet-shim`",
        ));
    }
    if findings.is_empty() {
        let what = match &config.origin {
            Origin::File(file) => file.display().to_string(),
            _ => "no file, the defaults hold".to_owned(),
        };
        findings.push(Finding::ok(CHECK, CHECK, what));
    }
    findings
}

fn told(diagnostic: &Diagnostic) -> Finding {
    let subject = match diagnostic.place {
        Some(place) => format!("{}:{}", diagnostic.file.display(), place.line),
        None => diagnostic.file.display().to_string(),
    };
    let mend = diagnostic.help.clone().unwrap_or_else(|| "see puppet-shim.toml(5)".into());
    match diagnostic.severity {
        Severity::Error => Finding::problem(CHECK, subject, &diagnostic.message, mend),
        Severity::Warning => Finding::warning(CHECK, subject, &diagnostic.message, mend),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::finding::Verdict;
    use super::*;
    use crate::config;
    use crate::state::StateDirectory;

    fn judged(text: &str, is_older: bool) -> Vec<(Verdict, String, Option<String>)> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("shim.toml");
        fs::write(&file, text).unwrap();
        let state = StateDirectory::at(folder.path().join("state"));
        let path = file.display().to_string();
        let findings = judge(&config::in_force(Some(&file), &state), is_older);
        findings.into_iter().map(|f| (f.verdict, f.what.replace(&path, "FILE"), f.mend)).collect()
    }

    #[test]
    fn good_bad_and_older() {
        assert_eq!(judged("", false), [(Verdict::Ok, "FILE".into(), None)]);
        let older = &judged("", true)[0];
        assert_eq!((older.0, older.2.as_deref()), (Verdict::Warning, Some("`systemctl reload puppet-shim`")));
        let bad = judged("domian = 1\nlisten = 7\n", true);
        assert_eq!(bad.len(), 2);
        assert!(bad.iter().all(|(verdict, _, mend)| *verdict == Verdict::Problem && mend.is_some()));
        assert!(
            bad[0].1.ends_with("; until that is mended the daemon goes by the defaults, because FILE cannot be used")
        );
        assert_eq!(judged("[role.ca]\nfallback = true", false)[0].0, Verdict::Warning);
    }
}
