//! One table of the file while it is read: its known keys, one value after the other.

use toml::de::{DeTable, DeValue};

use super::diagnostic::{Problem, quoted};
use super::findings::{At, Findings, Span};
use super::keys::{self, Table};
use super::value::mistyped;

/// A table whose keys have been checked.
pub(super) struct Section<'f, 't> {
    /// As the admin would write it, `[timeouts]`; "the top level" for none.
    title: String,
    entries: &'f DeTable<'t>,
    findings: &'f mut Findings<'t>,
}

impl<'f, 't> Section<'f, 't> {
    /// The table above all others. Unknown keys are reported.
    pub(super) fn top(entries: &'f DeTable<'t>, findings: &'f mut Findings<'t>) -> Self {
        Section { title: "the top level".into(), entries, findings }.checked(&keys::TOP)
    }

    /// The table under `key`, if there is one. `title` is its header without the brackets.
    pub(super) fn table(&mut self, key: &str, title: &str, keys: Option<&Table>) -> Option<Section<'_, 't>> {
        let entries = self.entries;
        let value = entries.get(key)?;
        let DeValue::Table(inner) = value.get_ref() else {
            // An array of tables has the span of its first header, a plain value its own.
            self.findings
                .error(&value.span(), mistyped(value.get_ref(), "a table", &format!("[{title}] on a line of its own")));
            return None;
        };
        let section = Section { title: format!("[{title}]"), entries: inner, findings: self.findings };
        Some(match keys {
            Some(keys) => section.checked(keys),
            None => section,
        })
    }

    /// The keys as written, in the order of the text, each with its place.
    pub(super) fn written_keys(&self) -> Vec<(String, Span)> {
        let mut keys: Vec<_> = self.entries.keys().map(|key| (key.get_ref().to_string(), key.span())).collect();
        keys.sort_by_key(|(_, span)| span.start);
        keys
    }

    /// Reads one value into `target`. Absent: the default stays. Wrong: reported, and nothing is known of it from then
    /// on.
    pub(super) fn read<T>(
        &mut self,
        key: &str,
        target: &mut Option<At<T>>,
        parse: impl FnOnce(&DeValue<'_>) -> Result<T, Problem>,
    ) {
        let Some((key, value)) = self.entries.get_key_value(key) else { return };
        *target = None;
        if self.findings.is_broken(&key.span()) {
            return;
        }
        match parse(value.get_ref()) {
            Ok(parsed) => *target = Some(At { value: parsed, span: Some(value.span()) }),
            Err(problem) => self.findings.error(&value.span(), problem),
        }
    }

    /// Reads a list into `target`. Absent: the default stays. Items that are wrong are reported and left out.
    pub(super) fn read_list<T>(
        &mut self,
        key: &str,
        target: &mut Vec<At<T>>,
        example: &str,
        parse: impl Fn(&DeValue<'_>) -> Result<T, Problem>,
    ) {
        let Some((key, value)) = self.entries.get_key_value(key) else { return };
        target.clear();
        if self.findings.is_broken(&key.span()) {
            return;
        }
        let DeValue::Array(items) = value.get_ref() else {
            self.findings.error(&value.span(), mistyped(value.get_ref(), "a list", &format!("[{example}]")));
            return;
        };
        for item in items {
            match parse(item.get_ref()) {
                Ok(parsed) => target.push(At { value: parsed, span: Some(item.span()) }),
                Err(problem) => self.findings.error(&item.span(), problem),
            }
        }
    }

    /// Reports what cannot be said of one value alone.
    pub(super) fn error(&mut self, span: &Span, problem: Problem) {
        self.findings.error(span, problem);
    }

    /// Where a list is written that has no items.
    pub(super) fn empty_list(&self, key: &str) -> Option<Span> {
        let value = self.entries.get(key)?;
        value.get_ref().as_array().is_some_and(|items| items.is_empty()).then(|| value.span())
    }

    /// Reports the keys that `known` does not have.
    fn checked(self, known: &Table) -> Self {
        for (key, span) in self.written_keys() {
            if known.keys.contains(&key.as_str()) {
                continue;
            }
            let elsewhere = || keys::TABLES.iter().filter(|table| table.keys.contains(&key.as_str()));
            let help = if let Some(near) = known.nearest(&key) {
                format!("write `{near}`")
            } else if elsewhere().any(|table| table.header.is_empty()) {
                format!("write `{key}` above the first [table]")
            } else if elsewhere().next().is_some() {
                let headers: Vec<_> = elsewhere().map(|table| format!("[{}]", table.header)).collect();
                format!("write `{key}` under {}", headers.join(" or "))
            } else {
                format!("write one of {}", known.keys.join(", "))
            };
            let message = format!("{} is not a key of {}", quoted(&key), self.title);
            self.findings.error(&span, Problem::new(message, help));
        }
        self
    }
}
