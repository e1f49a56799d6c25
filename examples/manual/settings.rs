//! puppet-shim.toml(5), from the configuration file as installed: what explains a setting there explains it here.
//!
//! The file's form: blank lines part blocks. In a block, `# text` is prose, about what follows it; `#[table]` and
//! `#key = value` are TOML, and what is not commented out is TOML too. In prose an indented line is a term, two spaces
//! or more, and what it means; or a line of an example.

use std::fmt::Write as _;

use crate::roff::escaped;

const HEAD: &str = r#".TH puppet\-shim.toml 5 "" "puppet-shim VERSION" "puppet-shim"
.SH NAME
puppet\-shim.toml \- configuration of puppet\-shim
.SH SYNOPSIS
.I /etc/puppet\-shim/puppet\-shim.toml
.SH DESCRIPTION
A file in TOML. What is shown is the file as installed: each setting with its default, and what it means.
"#;

const FOOT: &str = r#".SH "SEE ALSO"
.BR puppet\-shim (1),
.BR puppet\-shim\-check (1)
"#;

/// The whole page.
pub(crate) fn page(file: &str) -> String {
    let mut out = HEAD.replace("VERSION", env!("CARGO_PKG_VERSION"));
    for (number, block) in file.split("\n\n").enumerate() {
        // The first block is on the file itself.
        if number == 1 {
            out.push_str(".SH SETTINGS\n");
        }
        self::block(&mut out, block);
    }
    out.push_str(FOOT);
    out
}

/// A line of the file.
enum Line<'a> {
    Prose(&'a str),
    Table(&'a str),
    Setting(&'a str),
}

fn read(line: &str) -> Line<'_> {
    let toml = match line.strip_prefix('#') {
        Some("") => return Line::Prose(""),
        Some(text) if text.starts_with(' ') => return Line::Prose(&text[1..]),
        Some(toml) => toml,
        None => line,
    };
    if toml.starts_with('[') { Line::Table(toml) } else { Line::Setting(toml) }
}

fn block(out: &mut String, block: &str) {
    let mut said = Vec::new();
    let mut settings = Vec::new();
    for line in block.lines().map(read) {
        match line {
            Line::Prose(text) => {
                item(out, &mut said, &mut settings);
                said.push(text);
            }
            Line::Table(header) => {
                let _ = writeln!(out, ".SS {}", escaped(header));
                item(out, &mut said, &mut settings);
                prose(out, &std::mem::take(&mut said));
            }
            Line::Setting(setting) => settings.push(setting),
        }
    }
    item(out, &mut said, &mut settings);
    prose(out, &said);
}

/// Settings, the first of them with the prose above it; nothing, as long as no setting has followed that.
fn item<'a>(out: &mut String, said: &mut Vec<&'a str>, settings: &mut Vec<&'a str>) {
    if settings.is_empty() {
        return;
    }
    let mut request = ".TP";
    for setting in settings.drain(..) {
        let _ = writeln!(out, "{request}\n\\fB{}\\fR", escaped(setting));
        request = if said.is_empty() { ".TQ" } else { ".TP" };
        prose(out, &std::mem::take(said));
    }
    // What comes next belongs to none of them.
    out.push_str(".PP\n");
}

/// Running text, with what is indented set off: terms and their meaning, to any depth, and examples.
fn prose(out: &mut String, lines: &[&str]) {
    let mut terms: Vec<usize> = Vec::new();
    let mut example = false;
    for line in lines {
        let text = line.trim_start();
        let indent = line.len() - text.len();
        let term = text.split_once("  ").filter(|_| indent > 0);
        if example && (indent == 0 || term.is_some()) {
            out.push_str(".EE\n.RE\n");
            example = false;
        }
        if indent == 0 {
            end(out, &mut terms, 0);
            running(out, text);
        } else if let Some((name, meaning)) = term {
            end(out, &mut terms, indent);
            if terms.last() != Some(&indent) {
                out.push_str(".RS\n");
                terms.push(indent);
            }
            let _ = writeln!(out, ".TP\n\\fB{}\\fR\n{}", escaped(name), escaped(meaning.trim_start()));
        } else if !terms.is_empty() {
            let _ = writeln!(out, "{}", escaped(text));
        } else {
            if !example {
                out.push_str(".RS\n.EX\n");
                example = true;
            }
            let _ = writeln!(out, "{}", escaped(text));
        }
    }
    if example {
        out.push_str(".EE\n.RE\n");
    }
    end(out, &mut terms, 0);
}

/// Goes back to terms that are indented by no more than this.
fn end(out: &mut String, terms: &mut Vec<usize>, indent: usize) {
    while terms.last().is_some_and(|last| *last > indent) {
        terms.pop();
        out.push_str(".RE\n");
    }
}

fn running(out: &mut String, text: &str) {
    if text.is_empty() {
        out.push_str(".PP\n");
    } else if text.contains("  ") {
        // A line of its own, for the eye.
        let _ = writeln!(out, ".br\n{}\n.br", escaped(text));
    } else {
        let _ = writeln!(out, "{}", escaped(text));
    }
}
