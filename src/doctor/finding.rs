//! What was found out: one line each, with what to do where something is wrong.

use std::fmt;

use serde::Serialize;

/// How it stands with one thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// An agent's run succeeds all the same, for now; or it goes past puppet-shim, and nobody has sent it here
    /// yet; or only runs from a login or cron do.
    Warning,
    /// An agent's run fails, or goes past puppet-shim where `setup` or something else has sent it here; or is one step from
    /// either.
    Problem,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What kind of thing, the same words in every version: `listener`, `certificate-name`.
    pub check: &'static str,
    /// Which one: an address, a setting, a server.
    pub subject: String,
    /// How it stands.
    pub verdict: Verdict,
    /// What was found, a clause.
    pub what: String,
    /// What to do, in the imperative; there is always something where the verdict is not [`Verdict::Ok`].
    pub mend: Option<String>,
}

/// Findings that belong together, in the order in which they are told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Group {
    /// `host`, `agent`, or `role NAME`.
    pub name: String,
    /// What it is about, for people.
    #[serde(skip)]
    pub title: String,
    /// At least one.
    pub findings: Vec<Finding>,
}

/// How many of each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Count {
    /// [`Verdict::Ok`].
    pub ok: usize,
    /// [`Verdict::Warning`].
    pub warnings: usize,
    /// [`Verdict::Problem`].
    pub problems: usize,
}

impl Finding {
    /// As it should be.
    pub fn ok(check: &'static str, subject: impl Into<String>, what: impl Into<String>) -> Self {
        Finding { check, subject: subject.into(), verdict: Verdict::Ok, what: what.into(), mend: None }
    }

    /// It works all the same.
    pub fn warning(
        check: &'static str,
        subject: impl Into<String>,
        what: impl Into<String>,
        mend: impl Into<String>,
    ) -> Self {
        let (subject, what, mend) = (subject.into(), what.into(), Some(mend.into()));
        Finding { check, subject, verdict: Verdict::Warning, what, mend }
    }

    /// It does not.
    pub fn problem(
        check: &'static str,
        subject: impl Into<String>,
        what: impl Into<String>,
        mend: impl Into<String>,
    ) -> Self {
        Finding { verdict: Verdict::Problem, ..Self::warning(check, subject, what, mend) }
    }

    /// The same as a warning, where it is a problem and `is_survivable`.
    #[must_use]
    pub fn unless(self, is_survivable: bool) -> Self {
        let verdict = if is_survivable { self.verdict.min(Verdict::Warning) } else { self.verdict };
        Finding { verdict, ..self }
    }
}

impl Group {
    /// Findings under a name that is also their title.
    pub fn new(name: &str, findings: Vec<Finding>) -> Self {
        Group { name: name.into(), title: name.into(), findings }
    }
}

impl Count {
    /// Of all these.
    pub fn of(groups: &[Group]) -> Self {
        let mut count = Count::default();
        for finding in groups.iter().flat_map(|group| &group.findings) {
            *match finding.verdict {
                Verdict::Ok => &mut count.ok,
                Verdict::Warning => &mut count.warnings,
                Verdict::Problem => &mut count.problems,
            } += 1;
        }
        count
    }
}

impl fmt::Display for Count {
    /// `21 checks: 20 ok, 1 warning, 0 problems`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = |n: usize| if n == 1 { "" } else { "s" };
        let Count { ok, warnings, problems } = *self;
        let all = ok + warnings + problems;
        write!(
            f,
            "{all} check{}: {ok} ok, {warnings} warning{}, {problems} problem{}",
            plural(all),
            plural(warnings),
            plural(problems)
        )
    }
}
