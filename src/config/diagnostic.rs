//! What is wrong with a configuration, where, and what to write instead.

use std::fmt;
use std::path::PathBuf;

/// One thing that is wrong, or looks wrong, in a configuration.
///
/// Displays on one line, in the form that editors and CI systems know how to jump from:
///
/// ```text
/// puppet-shim.toml:12:11: error: "2" has no unit; write "2s"
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// The file, as the admin named it.
    pub file: PathBuf,
    /// Where in the file; `None` where the file as a whole is meant, such as one that cannot be read.
    pub place: Option<Place>,
    /// Whether the file can be used all the same.
    pub severity: Severity,
    /// What is wrong: one clause, no capital letter, no full stop.
    pub message: String,
    /// What to write or do instead, in the imperative.
    pub help: Option<String>,
}

/// A place in a text file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// From 1.
    pub line: usize,
    /// From 1, in characters; a tab is one, a byte order mark is none.
    pub column: usize,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The configuration is not used.
    Error,
    /// It is used, and probably does not do what was meant.
    Warning,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
        })
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(Place { line, column }) = self.place {
            write!(f, ":{line}:{column}")?;
        }
        write!(f, ": {}: {}", self.severity, self.message)?;
        match &self.help {
            Some(help) => write!(f, "; {help}"),
            None => Ok(()),
        }
    }
}

/// A problem without its place: what is wrong, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) message: String,
    pub(super) help: Option<String>,
}

impl Problem {
    /// A problem and its remedy.
    pub(super) fn new(message: impl Into<String>, help: impl Into<String>) -> Self {
        Problem { message: message.into(), help: Some(help.into()) }
    }
}

/// A text of the admin's, in quotes, short enough for one line and without anything that a terminal would obey.
pub(super) fn quoted(text: &str) -> String {
    const LONGEST: usize = 60;
    match text.char_indices().nth(LONGEST) {
        None => format!("{text:?}"),
        Some((end, _)) => format!("{:?}…", &text[..end]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn displays_on_one_line() {
        let mut diagnostic = Diagnostic {
            file: "shim.toml".into(),
            place: Some(Place { line: 3, column: 11 }),
            severity: Severity::Error,
            message: "\"2\" has no unit".into(),
            help: Some("write \"2s\"".into()),
        };
        assert_eq!(diagnostic.to_string(), r#"shim.toml:3:11: error: "2" has no unit; write "2s""#);
        diagnostic.place = None;
        diagnostic.severity = Severity::Warning;
        diagnostic.help = None;
        assert_eq!(diagnostic.to_string(), r#"shim.toml: warning: "2" has no unit"#);
    }

    #[test]
    fn quotes_what_a_terminal_would_obey() {
        assert_eq!(quoted("a\u{1b}[2Jb\n"), r#""a\u{1b}[2Jb\n""#);
        assert_eq!(quoted(&"ä".repeat(61)), format!("\"{}\"…", "ä".repeat(60)));
    }
}
