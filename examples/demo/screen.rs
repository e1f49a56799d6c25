//! What the demo looks like.

use std::env;
use std::fmt::Display;
use std::io::{self, IsTerminal, Stdout, Write};

/// Standard output: a terminal, or a file.
pub(crate) struct Screen {
    out: Stdout,
    colour: bool,
}

impl Screen {
    pub(crate) fn new() -> Self {
        // As no-color.org has it: any value but the empty one.
        let unwanted = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = env::var_os("TERM").is_some_and(|value| value == "dumb");
        let out = io::stdout();
        Screen { colour: out.is_terminal() && !unwanted && !dumb, out }
    }

    /// Plain text.
    pub(crate) fn say(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.out, "{text}")
    }

    /// The name of a part.
    pub(crate) fn title(&mut self, text: &str) -> io::Result<()> {
        self.say("")?;
        self.styled("1", text)
    }

    /// Something that happens to the site.
    pub(crate) fn event(&mut self, text: &str) -> io::Result<()> {
        self.styled("33", &format!("  ── {text}"))
    }

    /// A line of the shim's own.
    pub(crate) fn aside(&mut self, text: &str) -> io::Result<()> {
        self.styled("2", &format!("    shim: {text}"))
    }

    /// The last word.
    pub(crate) fn verdict(&mut self, text: &str) -> io::Result<()> {
        self.styled("1;32", text)
    }

    /// The head of the table of requests.
    pub(crate) fn head(&mut self) -> io::Result<()> {
        self.styled("4", &row(&[&"request", &"role", &"asked for", &"answered by", &"certname seen", &"ms"]))
    }

    /// A row of the table of requests.
    pub(crate) fn row(&mut self, cells: &[&dyn Display; 6]) -> io::Result<()> {
        self.say(&row(cells))
    }

    fn styled(&mut self, style: &str, text: &str) -> io::Result<()> {
        if self.colour { self.say(&format!("\x1b[{style}m{text}\x1b[0m")) } else { self.say(text) }
    }
}

/// As wide as a terminal of old.
fn row(cells: &[&dyn Display; 6]) -> String {
    let [request, role, asked, server, certname, ms] = cells.map(ToString::to_string);
    format!("  {request:15} {role:7} {asked:18} {server:11} {certname:14} {ms:>6}")
}
