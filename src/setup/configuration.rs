//! Our own configuration file, changed key by key with everything else as it was written.

use serde::{Deserialize, Serialize};
use similar::{ChangeTag, TextDiff};
use toml_edit::{Array, DocumentMut, Item, Table, TableLike, Value};

/// A value that `setup` gives to a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Wanted {
    /// Yes or no.
    Flag(bool),
    /// A string.
    Text(String),
    /// A list of strings.
    List(Vec<String>),
}

/// A key that is set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// Its path: `["role", "compile", "names"]`.
    pub path: Vec<String>,
    /// What it is set to.
    pub to: Wanted,
    /// What it was, as written; `None`: it was not there.
    pub was: Option<String>,
    /// How many of the tables it is in were made for it, counted from the inside.
    pub made: usize,
}

/// Why a text cannot be changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is no TOML: {0}")]
pub struct NotToml(String);

impl From<toml_edit::TomlError> for NotToml {
    fn from(error: toml_edit::TomlError) -> Self {
        NotToml(error.message().to_owned())
    }
}

/// Why a key cannot be set: it stands within something that is no table.
const NO_TABLE: &str = "a key leads through something that is no table";

/// The text with these keys set, and the keys that had another value. Those that have theirs already are left alone.
pub fn set(text: &str, wanted: &[(Vec<String>, Wanted)]) -> Result<(String, Vec<Key>), NotToml> {
    let mut document: DocumentMut = text.parse()?;
    let mut keys = Vec::new();
    for (path, to) in wanted {
        let Some((name, parents)) = path.split_last() else { continue };
        let made = make_tables(document.as_table_mut(), parents).ok_or_else(|| NotToml(NO_TABLE.into()))?;
        let table = table(document.as_table_mut(), parents).ok_or_else(|| NotToml(NO_TABLE.into()))?;
        let value = to.value();
        let old = table.get(name).and_then(Item::as_value);
        if old.is_some_and(|old| plain(old) == plain(&value)) {
            continue;
        }
        keys.push(Key { path: path.clone(), to: to.clone(), was: old.map(plain), made });
        put(table, name, value);
    }
    Ok((with_line_ends(text, &document.to_string()), keys))
}

/// The text with these keys as they were, where they still have what `setup` gave them; and those that have something
/// else by now, which are left alone.
pub fn take_back<'k>(text: &str, keys: &'k [Key]) -> Result<(String, Vec<&'k Key>), NotToml> {
    let mut document: DocumentMut = text.parse()?;
    let mut left = Vec::new();
    for key in keys.iter().rev() {
        let Some((name, parents)) = key.path.split_last() else { continue };
        let Some(table) = table(document.as_table_mut(), parents) else { continue };
        match table.get(name).and_then(Item::as_value) {
            None => {}
            Some(value) if plain(value) != plain(&key.to.value()) => left.push(key),
            Some(_) => {
                if let Some(was) = key.was.as_ref().and_then(|was| was.parse::<Value>().ok()) {
                    put(table, name, was);
                } else {
                    table.remove(name);
                    prune(document.as_table_mut(), parents, key.made);
                }
            }
        }
    }
    Ok((with_line_ends(text, &document.to_string()), left))
}

/// The new text with the line ends of the old one: `toml_edit` writes LF throughout. A line that is new has that of the
/// first.
fn with_line_ends(old: &str, new: &str) -> String {
    if !old.contains("\r\n") {
        return new.to_owned();
    }
    let lines: Vec<&str> = old.split_inclusive('\n').collect();
    let end = if lines.first().is_some_and(|line| line.ends_with("\r\n")) { "\r\n" } else { "\n" };
    let plain = old.replace("\r\n", "\n");
    let diff = TextDiff::from_lines(plain.as_str(), new);
    let mut text = String::new();
    for change in diff.iter_all_changes() {
        match (change.tag(), change.old_index().and_then(|at| lines.get(at)), change.value().strip_suffix('\n')) {
            (ChangeTag::Delete, ..) => {}
            (ChangeTag::Equal, Some(line), _) => text.push_str(line),
            (_, _, Some(line)) => text.extend([line, end]),
            (_, _, None) => text.push_str(change.value()),
        }
    }
    text
}

/// Whether nothing is left but blanks.
pub fn is_empty(text: &str) -> bool {
    text.trim().is_empty()
}

impl Wanted {
    fn value(&self) -> Value {
        match self {
            Wanted::Flag(flag) => Value::from(*flag),
            Wanted::Text(text) => Value::from(text.as_str()),
            Wanted::List(items) => items.iter().map(String::as_str).collect::<Array>().into(),
        }
    }
}

/// The table at this path.
fn table<'d>(root: &'d mut Table, path: &[String]) -> Option<&'d mut dyn TableLike> {
    let mut table: &mut dyn TableLike = root;
    for name in path {
        table = table.get_mut(name)?.as_table_like_mut()?;
    }
    Some(table)
}

/// Makes those tables of the path that are not there, and says how many. They are dotted keys, `role.compile.names = …`: with
/// a header of its own, a table would take the comments that follow into itself, keys that are to be uncommented among
/// them. Only where there is nothing but headers, as under `role` beside `[role.ca]`, it has one too.
fn make_tables(root: &mut Table, path: &[String]) -> Option<usize> {
    let mut made = 0;
    let mut has_headers = false;
    let mut table: &mut dyn TableLike = root;
    for name in path {
        if !table.contains_key(name) {
            let mut new = Table::new();
            new.set_dotted(!has_headers);
            table.insert(name, Item::Table(new));
            made += 1;
        }
        let item = table.get_mut(name)?;
        has_headers = item.as_table().is_some_and(|table| table.is_implicit() && !table.is_dotted());
        table = item.as_table_like_mut()?;
    }
    Some(made)
}

/// Sets a value, the blanks and the comment behind it as they were.
fn put(table: &mut dyn TableLike, name: &str, mut value: Value) {
    match table.get_mut(name).and_then(Item::as_value_mut) {
        Some(old) => {
            *value.decor_mut() = old.decor().clone();
            *old = value;
        }
        None => {
            table.insert(name, Item::Value(value));
        }
    }
}

/// Takes out the innermost `made` tables of the path, as far as they are empty now.
fn prune(root: &mut Table, path: &[String], made: usize) {
    for length in (1..=path.len()).rev().take(made) {
        let Some((name, parents)) = path[..length].split_last() else { return };
        let Some(parent) = table(root, parents) else { return };
        if !parent.get(name).and_then(Item::as_table_like).is_some_and(TableLike::is_empty) {
            return;
        }
        parent.remove(name);
    }
}

/// The value without the blanks and comments around it.
fn plain(value: &Value) -> String {
    let mut value = value.clone();
    value.decor_mut().clear();
    if let Value::Array(array) = &mut value {
        array.fmt();
    }
    value.to_string()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Config;

    fn key(path: &str) -> Vec<String> {
        path.split('.').map(str::to_owned).collect()
    }

    fn wanted() -> Vec<(Vec<String>, Wanted)> {
        vec![
            (key("foreign"), Wanted::Text("http://proxy.example.com:3128".into())),
            (key("role.compile.names"), Wanted::List(vec!["puppet".into(), "primary.example.com".into()])),
            (key("role.ca.names"), Wanted::List(vec!["puppetca".into(), "ca.example.com".into()])),
        ]
    }

    fn accepted(text: &str) -> Config {
        let accepted = Config::parse(text.as_bytes(), Path::new("f"));
        accepted.unwrap_or_else(|rejected| panic!("{:?}\n{text}", rejected.errors)).config
    }

    /// An empty file, the package's, one with tables, one with comments behind values.
    const FILES: [&str; 5] = [
        "",
        include_str!("../../packaging/puppet-shim.toml"),
        "idle_exit = \"2min\"\n\n# The CA\n[role.ca]\nports = [8141] # as ever\n\n[limits]\nconnections = 7\n",
        "foreign = \"direct\"   # for now\nrole.compile.names = [\n  \"puppet\", # one\n]\n",
        "role = { ca = { ports = [8141] } }\n",
    ];

    #[test]
    fn sets_keys_and_takes_them_back() {
        for text in FILES {
            let (with, keys) = set(text, &wanted()).unwrap();
            let config = accepted(&with);
            let names = |role: usize| config.roles[role].names.join(" ");
            assert_eq!(
                (names(0).as_str(), names(1).as_str()),
                ("puppetca ca.example.com", "puppet primary.example.com")
            );
            assert_eq!(keys.len(), 3);
            assert_eq!(set(&with, &wanted()).unwrap(), (with.clone(), Vec::new()), "twice changes nothing");

            let (without, left) = take_back(&with, &keys).unwrap();
            assert_eq!(left, Vec::<&Key>::new());
            assert_eq!(accepted(&without), accepted(text), "{without}");
            // Every line of the file is there still, but for a value that has been written anew.
            if keys.iter().all(|key| key.was.is_none()) {
                assert_eq!(without.trim_end(), text.trim_end());
            }
        }
    }

    #[test]
    fn a_comment_that_shows_a_key_still_can_be_uncommented() {
        let (with, _) = set(FILES[1], &wanted()).unwrap();
        let config = accepted(&with.replace("#allow_remote_clients = false", "allow_remote_clients = true"));
        assert!(config.allow_remote_clients);
    }

    #[test]
    fn comments_stay_behind_values() {
        let (with, keys) = set(FILES[3], &wanted()[..1]).unwrap();
        assert!(with.starts_with("foreign = \"http://proxy.example.com:3128\"   # for now\n"), "{with}");
        assert_eq!(keys[0].was.as_deref(), Some("\"direct\""));
        assert_eq!(take_back(&with, &keys).unwrap().0, FILES[3]);
    }

    #[test]
    fn what_somebody_has_changed_since_is_left() {
        let (with, keys) = set("", &wanted()).unwrap();
        let edited = with.replace("3128", "8080") + "certname = \"a\"\n";
        let (without, left) = take_back(&edited, &keys).unwrap();
        assert_eq!(without, "foreign = \"http://proxy.example.com:8080\"\ncertname = \"a\"\n");
        assert_eq!(left, [&keys[0]]);
        assert!(!is_empty(&without) && is_empty(&take_back(&with, &keys).unwrap().0));
    }

    #[test]
    fn lines_keep_their_ends() {
        let text = "# by hand\r\n[role.ca]\r\nports = [8141] # as ever\n\r\n[limits]\r\nconnections = 7\r\n";
        let (with, keys) = set(text, &wanted()).unwrap();
        assert!(
            with.contains("\r\nports = [8141] # as ever\nnames = [\"puppetca\", \"ca.example.com\"]\r\n"),
            "{with:?}"
        );
        assert!(with.starts_with("foreign = \"http://proxy.example.com:3128\"\r\n"), "{with:?}");
        accepted(&with);
        assert_eq!(take_back(&with, &keys).unwrap().0, text);
    }

    #[test]
    fn a_key_within_no_table_is_an_error() {
        assert!(set("role = 7", &wanted()).unwrap_err().to_string().contains("no table"));
        set("= 7", &wanted()).unwrap_err();
    }
}
