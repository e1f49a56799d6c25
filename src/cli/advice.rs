//! What puppet-shim, its documentation and its alerts tell people to type is what it understands.

use std::fs;
use std::path::{Path, PathBuf};

use clap::CommandFactory as _;
use clap::error::ErrorKind;

use super::Cli;

fn path(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(file)
}

/// Each file below a folder with this ending.
fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let found = entries.flat_map(|path| if path.is_dir() { files(&path, ending) } else { vec![path] });
    found.filter(|path| path.extension().is_some_and(|extension| extension == ending)).collect()
}

/// Each command between backticks, in a text whose lines have been joined.
fn quoted(text: &str) -> Vec<String> {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let commands = text.match_indices("`puppet-shim ").filter_map(|(at, _)| text[at + 1..].split('`').next());
    commands.map(str::to_owned).collect()
}

/// A source's strings, as whole texts: without its comments, which speak of commands and advise none.
fn strings(source: &str) -> String {
    source
        .lines()
        .map(str::trim)
        .filter(|line| !line.starts_with("//"))
        .map(|line| line.trim_end_matches('\\'))
        .fold(String::new(), |text, line| text + line + " ")
}

/// What is to be put in stands as some word, which one of setup's modes is too.
fn filled_in(command: &str) -> String {
    let (mut filled, mut name) = (String::new(), String::new());
    let mut depth = 0;
    for c in command.chars() {
        match c {
            '{' => depth += 1,
            '}' => {
                depth -= 1;
                if depth == 0 {
                    filled.push_str(if name == "mode" { "proxy" } else { "word" });
                    name.clear();
                }
            }
            c if depth == 0 => filled.push(c),
            c => name.push(c),
        }
    }
    filled
}

/// Asserts that each is understood, up to what a shell would take, and gives how many there were.
fn assert_understood(from: &Path, commands: &[String]) -> usize {
    for command in commands {
        let filled = filled_in(command);
        let words: Vec<_> =
            filled.split_whitespace().take_while(|word| !["|", ">", "2>&1", "#", "&&"].contains(word)).collect();
        if let Err(error) = Cli::command().try_get_matches_from(&words) {
            let is_understood = match error.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => true,
                // A command's name alone speaks of it.
                ErrorKind::MissingRequiredArgument => words.len() == 2,
                _ => false,
            };
            assert!(is_understood, "{}: `{command}`: {error}", from.display());
        }
    }
    commands.len()
}

#[test]
fn what_the_sources_quote_is_understood() {
    // This file's own are made up of pieces.
    let count: usize = files(&path("src"), "rs")
        .iter()
        .filter(|file| !file.ends_with(file!()))
        .map(|file| assert_understood(file, &quoted(&strings(&fs::read_to_string(file).unwrap()))))
        .sum();
    assert!(count > 10, "{count}");
}

/// What stands in an example before it goes on with another command, or with what it is for.
fn example(line: &str) -> Option<String> {
    let line = line.strip_prefix("  ").filter(|line| line.starts_with("puppet-shim "))?;
    line.split("  ").next().map(str::to_owned)
}

#[test]
fn what_help_gives_as_examples_is_understood() {
    let command = Cli::command();
    let all = std::iter::once(&command).chain(command.get_subcommands());
    let count: usize = all
        .filter_map(|command| command.get_after_long_help().or(command.get_after_help()))
        .map(|help| help.to_string().lines().filter_map(example).collect::<Vec<_>>())
        .map(|examples| assert_understood(Path::new("--help"), &examples))
        .sum();
    assert!(count > 20, "{count}");
}

#[test]
fn what_the_documents_and_the_alerts_quote_is_understood() {
    for (file, least) in [("README.md", 10), ("packaging/prometheus/puppet-shim.rules.yml", 5)] {
        let text = fs::read_to_string(path(file)).unwrap();
        // What is to be typed as a line of its own, with root's prompt or without.
        let typed = text.split("```").skip(1).step_by(2).flat_map(|block| {
            let (kind, lines) = block.split_once('\n').unwrap_or_default();
            let prompt = if kind == "console" { "# " } else { "" };
            lines
                .lines()
                .filter_map(move |line| line.strip_prefix(prompt))
                .filter(move |_| ["console", "sh"].contains(&kind))
        });
        let typed = typed.filter(|line| line.starts_with("puppet-shim ")).map(str::to_owned);
        let commands: Vec<_> = quoted(&text).into_iter().chain(typed).collect();
        assert!(assert_understood(&path(file), &commands) >= least, "{file}: {commands:?}");
    }
}
