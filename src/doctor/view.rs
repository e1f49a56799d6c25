//! Findings for people and for machines.

use std::fmt::Write as _;

use serde::Serialize;

use super::finding::{Count, Finding, Group, Verdict};

/// The widest first column; a longer subject pushes what follows it to the right.
const WIDEST: usize = 34;

/// How findings are written for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    /// `✓ ! ✗`, for who can see them; else `+ ! x`.
    pub is_unicode: bool,
    /// Whether the marks have colours.
    pub is_coloured: bool,
}

impl Style {
    /// `locale`: the values of `LC_ALL`, `LC_CTYPE` and `LANG`; the first that is not empty counts (locale(7)).
    pub fn new(locale: [Option<String>; 3], is_coloured: bool) -> Self {
        let locale = locale.into_iter().flatten().find(|value| !value.is_empty()).unwrap_or_default();
        let locale = locale.to_ascii_lowercase();
        Style { is_unicode: locale.contains("utf-8") || locale.contains("utf8"), is_coloured }
    }

    fn mark(self, verdict: Verdict) -> String {
        let (sign, ascii, colour) = match verdict {
            Verdict::Ok => ("✓", "+", 32),
            Verdict::Warning => ("!", "!", 33),
            Verdict::Problem => ("✗", "x", 31),
        };
        let sign = if self.is_unicode { sign } else { ascii };
        if self.is_coloured { format!("\x1b[{colour}m{sign}\x1b[0m") } else { sign.into() }
    }

    /// A group: its title, then each finding on a line, what to do below it.
    pub fn group(self, group: &Group) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{}", self.fit(&group.title));
        let width = |finding: &Finding| finding.subject.chars().count();
        let widest = group.findings.iter().map(width).filter(|width| *width <= WIDEST).max().unwrap_or_default();
        for finding in &group.findings {
            let (mark, subject) = (self.mark(finding.verdict), self.fit(&finding.subject));
            let _ = writeln!(text, "  {mark} {subject:<widest$}  {}", self.fit(&finding.what));
            if let Some(mend) = &finding.mend {
                let arrow = if self.is_unicode { "→" } else { "->" };
                let _ = writeln!(text, "      {arrow} {}", self.fit(mend));
            }
        }
        text
    }

    /// What comes from files and from the network must not command a terminal.
    fn fit(self, text: &str) -> String {
        let is_fit = |c: char| if self.is_unicode { !c.is_control() } else { matches!(c, ' '..='~') };
        text.chars().map(|c| if is_fit(c) { c } else { '?' }).collect()
    }
}

#[derive(Serialize)]
struct Json<'a> {
    version: &'static str,
    verdict: Verdict,
    #[serde(flatten)]
    count: Count,
    groups: &'a [Group],
}

/// Everything, for machines.
pub fn json(groups: &[Group]) -> String {
    let findings = groups.iter().flat_map(|group| &group.findings);
    let verdict = findings.map(|finding| finding.verdict).max().unwrap_or(Verdict::Ok);
    let json = Json { version: env!("CARGO_PKG_VERSION"), verdict, count: Count::of(groups), groups };
    serde_json::to_string_pretty(&json).unwrap_or_default() + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group() -> Group {
        let findings = vec![
            Finding::ok("configuration", "configuration", "/etc/x"),
            Finding::problem("listener", "127.0.0.1:8139", "nobody\x1b[2J listens", "start it"),
        ];
        Group { title: "role ca, asked for as é".into(), ..Group::new("role ca", findings) }
    }

    #[test]
    fn for_people() {
        let style = |is_unicode, is_coloured| Style { is_unicode, is_coloured };
        assert_eq!(
            style(true, false).group(&group()),
            "role ca, asked for as é\n  ✓ configuration   /etc/x\n  ✗ 127.0.0.1:8139  nobody?[2J listens\n      → start it\n"
        );
        assert_eq!(
            style(false, false).group(&group()),
            "role ca, asked for as ?\n  + configuration   /etc/x\n  x 127.0.0.1:8139  nobody?[2J listens\n      -> start it\n"
        );
        assert!(style(true, true).group(&group()).contains("  \x1b[31m✗\x1b[0m 127.0.0.1:8139  "));
    }

    #[test]
    fn the_locale_decides_on_the_marks() {
        let some = |text: &str| Some(text.to_owned());
        for (locale, expected) in [
            ([None, None, some("en_GB.UTF-8")], true),
            ([some(""), some("C.utf8"), some("C")], true),
            ([some("C"), None, some("en_GB.UTF-8")], false),
            ([None, None, None], false),
        ] {
            assert_eq!(Style::new(locale.clone(), false).is_unicode, expected, "{locale:?}");
        }
    }

    #[test]
    fn for_machines() {
        let json: serde_json::Value = serde_json::from_str(&json(&[group()])).unwrap();
        assert_eq!((&json["verdict"], &json["ok"], &json["problems"]), (&"problem".into(), &1.into(), &1.into()));
        let finding = &json["groups"][0]["findings"][0];
        assert_eq!((&finding["verdict"], &finding["mend"]), (&"ok".into(), &serde_json::Value::Null));
    }

    #[test]
    fn a_sum() {
        assert_eq!(Count::of(&[group()]).to_string(), "2 checks: 1 ok, 0 warnings, 1 problem");
    }
}
