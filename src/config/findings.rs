//! Gathers the diagnostics of one file, and turns byte offsets into lines and columns.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::Path;

use super::diagnostic::{Diagnostic, Place, Problem, Severity};

/// Where something is written: a range of bytes in the text.
pub(super) type Span = Range<usize>;

/// A value and where it was written; no span where it is a default.
#[derive(Clone, Debug)]
pub(super) struct At<T> {
    pub(super) value: T,
    pub(super) span: Option<Span>,
}

impl<T> At<T> {
    /// A default, written nowhere.
    pub(super) fn default_of(value: T) -> Self {
        At { value, span: None }
    }
}

/// What has been found in one file so far.
pub(super) struct Findings<'a> {
    file: &'a Path,
    text: &'a str,
    /// Offset of the first byte of each line.
    lines: Vec<usize>,
    /// Lines with a syntax error, from 0. What the parser made of them is guesswork, so nothing else is said about
    /// them.
    broken: BTreeSet<usize>,
    found: Vec<Diagnostic>,
}

impl<'a> Findings<'a> {
    /// None so far, in this text of this file.
    pub(super) fn new(file: &'a Path, text: &'a str) -> Self {
        let lines = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Findings { file, text, lines, broken: BTreeSet::new(), found: Vec::new() }
    }

    /// The text is not TOML here. Of several such errors in a line only the one reported first is kept: the others are
    /// mostly its consequences.
    pub(super) fn syntax(&mut self, span: &Span, problem: Problem) {
        if self.broken.insert(self.line(span.start)) {
            self.note(Severity::Error, span, problem);
        }
    }

    /// This cannot be used.
    pub(super) fn error(&mut self, span: &Span, problem: Problem) {
        if !self.is_broken(span) {
            self.note(Severity::Error, span, problem);
        }
    }

    /// This can be used, and probably does not do what was meant.
    pub(super) fn warning(&mut self, span: &Span, problem: Problem) {
        self.note(Severity::Warning, span, problem);
    }

    /// Whether the line has a syntax error.
    pub(super) fn is_broken(&self, span: &Span) -> bool {
        self.broken.contains(&self.line(span.start))
    }

    /// Whether the file cannot be used.
    pub(super) fn has_errors(&self) -> bool {
        self.found.iter().any(|d| d.severity == Severity::Error)
    }

    /// Whether anything in it was not TOML.
    pub(super) fn has_syntax_errors(&self) -> bool {
        !self.broken.is_empty()
    }

    /// All of them, in the order of the text.
    pub(super) fn into_diagnostics(mut self) -> Vec<Diagnostic> {
        self.found.sort_by_key(|d| d.place);
        self.found
    }

    /// Line (from 1) and column of a byte.
    pub(super) fn place(&self, offset: usize) -> Place {
        let line = self.line(offset);
        let start = self.lines.get(line).copied().unwrap_or(0);
        let before = self.text.as_bytes().get(start..offset.min(self.text.len())).unwrap_or_default();
        // UTF-8: every byte that does not continue a character begins one.
        let characters = before.iter().filter(|byte| *byte & 0xC0 != 0x80).count();
        Place { line: line + 1, column: characters + 1 }
    }

    /// Line of a byte, from 0.
    fn line(&self, offset: usize) -> usize {
        self.lines.partition_point(|start| *start <= offset).saturating_sub(1)
    }

    fn note(&mut self, severity: Severity, span: &Span, Problem { message, help }: Problem) {
        let place = Some(self.place(span.start));
        self.found.push(Diagnostic { file: self.file.to_owned(), place, severity, message, help });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_count_characters() {
        let findings = Findings::new(Path::new("f"), "a\n\tä€x\r\n\n");
        for (offset, line, column) in
            [(0, 1, 1), (1, 1, 2), (2, 2, 1), (3, 2, 2), (5, 2, 3), (8, 2, 4), (11, 3, 1), (12, 4, 1), (99, 4, 1)]
        {
            assert_eq!(findings.place(offset), Place { line, column }, "{offset}");
        }
    }
}
