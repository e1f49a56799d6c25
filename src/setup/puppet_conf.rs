//! `puppet.conf`: what Puppet itself makes of a copy of it.
//!
//! The copy shows beforehand what `puppet config set` will do, and takes the place of the file as a whole, however many
//! settings there are.

use std::fs;
use std::io;

use serde::{Deserialize, Serialize};
use similar::{ChangeTag, TextDiff};

use crate::puppet::{Puppet, PuppetError};

/// The section that every command of the agent reads.
pub const SECTION: &str = "main";

/// A setting of `[main]` that is changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    /// Its name.
    pub name: String,
    /// What it is set to; `None`: it is taken out.
    pub to: Option<String>,
    /// What it was, as written in the file; `None`: it was not there.
    pub was: Option<String>,
}

/// What a setting is to be; `None`: not there.
pub type Wanted = (String, Option<String>);

/// What Puppet makes of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edited {
    /// The whole text.
    pub text: String,
    /// What is different.
    pub settings: Vec<Setting>,
    /// Settings that would stay what they are for the agent all the same, and what: another section goes before `[main]`.
    pub overridden: Vec<(String, String)>,
}

/// Why there is no saying what Puppet makes of it.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    /// Puppet does not say.
    #[error(transparent)]
    Puppet(#[from] PuppetError),
    /// There is no place for the copy.
    #[error("a copy of puppet.conf cannot be made among the temporary files: {0}")]
    Copy(#[from] io::Error),
}

/// The file's text with these settings. Blocks for the seconds that Puppet takes for each.
pub fn edit(puppet: &Puppet, text: &str, wanted: &[Wanted]) -> Result<Edited, EditError> {
    // A directory of the caller's alone, for there may be a password in the file.
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("puppet.conf");
    fs::write(&file, text)?;
    let puppet = puppet.with_config(&file);
    let names: Vec<_> = wanted.iter().map(|(name, _)| name.as_str()).collect();
    let mut edited = Edited { text: text.to_owned(), settings: Vec::new(), overridden: Vec::new() };
    if names.is_empty() {
        return Ok(edited);
    }
    let present = puppet.settings(SECTION, &names)?;
    for (name, to) in wanted {
        if present.get(name) == to.as_deref() {
            continue;
        }
        match to {
            Some(value) => puppet.set(SECTION, name, value)?,
            None => puppet.delete(SECTION, name)?,
        }
        let after = fs::read_to_string(&file)?;
        if after != edited.text {
            let was = replaced(name, &edited.text, &after);
            edited.settings.push(Setting { name: name.clone(), to: to.clone(), was });
            edited.text = after;
        }
    }
    let agent = puppet.settings("agent", &names)?;
    for (name, to) in wanted {
        if agent.get(name) != to.as_deref() {
            edited.overridden.push((name.clone(), agent.get(name).unwrap_or_default().to_owned()));
        }
    }
    Ok(edited)
}

/// The file's text with these settings as they were, where they still are what `setup` made them, and those that are something
/// else by now, which are left alone. `had_section`: whether `[main]` was there before Puppet wrote the first of them.
pub fn take_back<'s>(
    puppet: &Puppet,
    text: &str,
    settings: &'s [Setting],
    had_section: bool,
) -> Result<(String, Vec<&'s Setting>), EditError> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("puppet.conf");
    fs::write(&file, text)?;
    let puppet = puppet.with_config(&file);
    let names: Vec<_> = settings.iter().map(|setting| setting.name.as_str()).collect();
    let present = puppet.settings(SECTION, &names)?;
    let mut left = Vec::new();
    // The last first: what was taken out then is there again before the section could become empty.
    for setting in settings.iter().rev() {
        if present.get(&setting.name) != setting.to.as_deref() {
            left.push(setting);
        } else if let Some(was) = &setting.was {
            puppet.set(SECTION, &setting.name, was)?;
        } else {
            puppet.delete(SECTION, &setting.name)?;
        }
    }
    let text = fs::read_to_string(&file)?;
    Ok((if had_section { text } else { without_empty_section(&text) }, left))
}

/// Whether the text has the line `[main]`.
pub fn has_section(text: &str) -> bool {
    text.lines().any(is_section)
}

fn is_section(line: &str) -> bool {
    line.trim().strip_prefix('[').and_then(|line| line.strip_suffix(']')) == Some(SECTION)
}

/// The text without the line `[main]`, unless there are settings below it.
fn without_empty_section(text: &str) -> String {
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let Some(at) = lines.iter().position(|line| is_section(line)) else { return text.to_owned() };
    let of_section = lines[at + 1..].iter().map(|line| line.trim()).take_while(|line| !line.starts_with('['));
    let is_empty = of_section.clone().all(|line| line.is_empty() || line.starts_with('#'));
    if is_empty { [&lines[..at], &lines[at + 1..]].concat().concat() } else { text.to_owned() }
}

/// The setting's value in the line that is not there any more: Puppet replaces its line, or adds one. Other lines of the
/// section go and come too where it mends them, such as a last one without its end, or ends of CRLF.
fn replaced(name: &str, before: &str, after: &str) -> Option<String> {
    let diff = TextDiff::from_lines(before, after);
    let gone = diff.iter_all_changes().filter(|change| change.tag() == ChangeTag::Delete);
    let mut settings = gone.filter_map(|change| change.value().split_once('='));
    settings.find(|(key, _)| key.trim() == name).map(|(_, value)| value.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_a_line_was() {
        let before = "[main]\nserver = a\n# c\n[agent]\nserver = b\n";
        for (after, was) in [
            ("[main]\nserver = a\nx = y\n# c\n[agent]\nserver = b\n", None),
            ("[main]\nserver = $new\n# c\n[agent]\nserver = b\n", Some("a")),
            ("[main]\n# c\n[agent]\nserver = b\n", Some("a")),
            ("[main]\nserver = a\n# c\n[agent]\n", Some("b")),
            ("[main]\nserver = b\n# c\n[agent]\nserver = b\n", Some("a")),
            (before, None),
        ] {
            assert_eq!(replaced("server", before, after).as_deref(), was, "{after}");
        }
        let twice = "[main]\nserver = a\n[agent]\nserver = a\n";
        assert_eq!(replaced("server", twice, &twice.replacen("= a", "= b", 1)).as_deref(), Some("a"));
        let was = replaced("ca_server", "[main]\nca_server=$server", "[main]\nca_server=x\n");
        assert_eq!(was.as_deref(), Some("$server"));
    }

    /// Puppet puts the line in front of all else.
    #[test]
    fn a_section_that_puppet_has_made_goes_with_what_is_in_it() {
        for (text, expected) in [
            ("[main]\n# stock\n\n# by hand\n", "# stock\n\n# by hand\n"),
            (" [main]\r\n[agent]\r\nserver = x\r\n", "[agent]\r\nserver = x\r\n"),
            ("[main]\n", ""),
            ("[main]\n# stock\nruninterval = 1h\n", "[main]\n# stock\nruninterval = 1h\n"),
            ("# stock\n", "# stock\n"),
        ] {
            assert_eq!(without_empty_section(text), expected);
        }
        assert!(has_section("# a\n[main]\n") && !has_section("# [main]\n[agent]\n"));
    }

    /// As `puppet config set` of 7 and 8 leaves them: it gives the section's last line its end, and the section's lines ends
    /// of LF.
    #[test]
    fn what_puppet_mends_besides_is_not_what_the_setting_was() {
        for (name, before, after, was) in [
            ("proxy", "[main]\nserver = a", "[main]\nserver = a\nproxy = x\n", None),
            ("ca_server", "[main]\nserver = a\nca_server = q", "[main]\nserver = a\nca_server = x\n", Some("q")),
            ("proxy", "[main]\r\nserver = a\r\n# c\r\n", "[main]\nserver = a\nproxy = x\n# c\r\n", None),
            (
                "ca_server",
                "[main]\r\nserver = a\r\nca_server = q\r\n",
                "[main]\nserver = a\nca_server = x\n",
                Some("q"),
            ),
        ] {
            assert_eq!(replaced(name, before, after).as_deref(), was, "{name} in {before:?}");
        }
    }
}
