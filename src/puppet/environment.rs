//! An environment that the agent may run in: who sets it, and what Puppet takes from it before its settings
//! (`lib/puppet/http/proxy.rb`).
//!
//! A variable may be empty, and that counts: systemd sets it so, and to Ruby it is there. An empty `http_proxy` names no
//! proxy, so the setting counts, and hides `HTTP_PROXY`. An empty `no_proxy` hides `NO_PROXY` and the setting: nothing goes
//! past the proxy then.

use std::env;
use std::fmt;

/// Puppet's `http_proxy_port`.
pub const PROXY_PORT: u16 = 3128;

/// What an environment has, in the order in which it was set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Variables(Vec<(String, String)>);

/// A proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxy {
    /// Its name or address, without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
}

impl Variables {
    /// This process's own.
    pub fn own() -> Self {
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Variables(env::vars_os().filter_map(text).collect())
    }

    /// Those of a file that a unit reads (`EnvironmentFile=`, systemd.exec(5)): `NAME=VALUE` lines, and quotes. To systemd a
    /// line that begins with `export` names no variable.
    pub fn of_service(file: &str) -> Self {
        let mut variables = systemd_file(file);
        variables.retain(|(name, _)| is_name(name));
        Variables(variables)
    }

    /// Those of a file that a shell or `pam_env` reads, such as `/etc/environment`: the same, perhaps after `export`.
    pub fn of_login(file: &str) -> Self {
        let bare = |(name, value): (String, String)| match name.strip_prefix("export") {
            Some(rest) if rest.starts_with([' ', '\t']) => (rest.trim_start().to_owned(), value),
            _ => (name, value),
        };
        Variables(systemd_file(file).into_iter().map(bare).filter(|(name, _)| is_name(name)).collect())
    }

    /// Those of `Environment=`, as `systemctl show` prints them: with a blank between, in double quotes where there is need.
    /// `None` for each that a systemd before 246 has not printed, for there is a blank in it.
    pub fn of_unit(shown: &str) -> (Self, usize) {
        let words = unquoted(shown);
        let unprinted = words.iter().filter(|word| *word == UNPRINTABLE).count();
        let set = |word: &String| word.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
        (Variables(words.iter().filter_map(set).collect()), unprinted)
    }

    /// These, and after them others, which go before them.
    pub fn extend(&mut self, later: Self) {
        self.0.extend(later.0);
    }

    /// The proxy that is taken before that of the settings, and the variable that names it.
    pub fn http_proxy(&self) -> Option<(&'static str, Proxy)> {
        let (name, value) = self.first(["http_proxy", "HTTP_PROXY"])?;
        Some((name, url(value)?))
    }

    /// What is taken in place of the setting `no_proxy`, and the variable that has it.
    pub fn no_proxy(&self) -> Option<(&'static str, &str)> {
        self.first(["no_proxy", "NO_PROXY"])
    }

    /// The value of one; where it is set twice, the last.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// As Ruby's `ENV[a] || ENV[b]`.
    fn first<const N: usize>(&self, names: [&'static str; N]) -> Option<(&'static str, &str)> {
        names.into_iter().find_map(|name| Some((name, self.get(name)?)))
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Proxy { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

/// What a systemd before 246 prints for a string with a blank in it.
const UNPRINTABLE: &str = "[unprintable]";

fn is_name(text: &str) -> bool {
    let is_fit = |c: char| c.is_ascii_alphanumeric() || c == '_';
    !text.is_empty() && !text.starts_with(|c: char| c.is_ascii_digit()) && text.chars().all(is_fit)
}

/// The proxy in a variable, as Ruby reads it: what is no URL with a host is none.
fn url(text: &str) -> Option<Proxy> {
    if text.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return None;
    }
    let (scheme, rest) = text.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let address = authority.rsplit_once('@').map_or(authority, |(_, address)| address);
    let default = match scheme.to_ascii_lowercase().as_str() {
        "http" => 80,
        "https" => 443,
        // Ruby knows none, so that the setting's counts.
        _ => PROXY_PORT,
    };
    let (host, port) = match address.rsplit_once(':') {
        Some((host, "")) => (host, default),
        Some((host, port)) if !port.contains(']') => (host, port.parse().ok()?),
        _ => (address, default),
    };
    let host = host.trim_matches(['[', ']']);
    (!host.is_empty()).then(|| Proxy { host: host.into(), port })
}

/// Assignments in the form of systemd's environment files (systemd.exec(5), `EnvironmentFile=`), with what it takes for
/// their names: a backslash takes the next character as it is, and joins lines; in double quotes only before `"`, `\`,
/// `` ` ``, `$` and at the end of a line, in single quotes not at all; blanks around a value that is not quoted are no part
/// of it.
fn systemd_file(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut characters = text.chars().peekable();
    while let Some(&first) = characters.peek() {
        if first.is_whitespace() {
            characters.next();
            continue;
        }
        if matches!(first, '#' | ';') {
            comment(&mut characters);
            continue;
        }
        let mut name = String::new();
        let mut has_value = false;
        for c in characters.by_ref() {
            match c {
                '\n' | '\r' => break,
                '=' => {
                    has_value = true;
                    break;
                }
                c => name.push(c),
            }
        }
        if has_value {
            found.push((name.trim_end().to_owned(), value(&mut characters)));
        }
    }
    found
}

type Characters<'t> = std::iter::Peekable<std::str::Chars<'t>>;

/// To the end of a comment, which a backslash carries on.
fn comment(characters: &mut Characters<'_>) {
    while let Some(c) = characters.next() {
        match c {
            '\n' | '\r' => return,
            '\\' => drop(characters.next()),
            _ => {}
        }
    }
}

/// A value, to the end of its line.
fn value(characters: &mut Characters<'_>) -> String {
    let mut value = String::new();
    loop {
        // In front of a word: here a quote is one.
        match characters.next() {
            None | Some('\n' | '\r') => return value,
            Some('\'') => value.extend(characters.by_ref().take_while(|c| *c != '\'')),
            Some('"') => double_quoted(characters, &mut value),
            Some(c) if c.is_whitespace() => {}
            Some(c) => {
                word(c, characters, &mut value);
                return value;
            }
        }
    }
}

fn double_quoted(characters: &mut Characters<'_>, value: &mut String) {
    while let Some(c) = characters.next() {
        match c {
            '"' => return,
            '\\' => match characters.next() {
                Some(c @ ('"' | '\\' | '`' | '$')) => value.push(c),
                Some('\n') | None => {}
                Some(c) => value.extend(['\\', c]),
            },
            c => value.push(c),
        }
    }
}

/// What is not quoted, to the end of the line.
fn word(first: char, characters: &mut Characters<'_>, value: &mut String) {
    let mut next = Some(first);
    // Blanks count once something follows them.
    let mut end = value.len();
    while let Some(c) = next {
        match c {
            '\n' | '\r' => break,
            '\\' => {
                value.extend(characters.next().filter(|c| *c != '\n'));
                end = value.len();
            }
            c => {
                value.push(c);
                end = if c.is_whitespace() { end } else { value.len() };
            }
        }
        next = characters.next();
    }
    value.truncate(end);
}

/// The strings in a list of systemd's. `shell_maybe_quote` there leaves one alone, or puts it into double quotes, with a
/// backslash before `"`, `\`, `` ` `` and `$`, and C's escapes for control characters.
fn unquoted(shown: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut characters = shown.chars().peekable();
    while let Some(first) = characters.next() {
        match first {
            ' ' => {}
            '"' => {
                let mut word = String::new();
                while let Some(c) = characters.next().filter(|c| *c != '"') {
                    word.push(if c == '\\' { escaped(&mut characters) } else { c });
                }
                words.push(word);
            }
            first => words.push([first].into_iter().chain(characters.by_ref().take_while(|c| *c != ' ')).collect()),
        }
    }
    words
}

/// What stands behind a backslash.
fn escaped(characters: &mut Characters<'_>) -> char {
    let Some(first) = characters.next() else { return '\\' };
    match first {
        'a' => '\x07',
        'b' => '\x08',
        'f' => '\x0c',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'v' => '\x0b',
        '0'..='3' => {
            let digits = [Some(first), characters.next(), characters.next()].map(|c| c.and_then(|c| c.to_digit(8)));
            let code = digits.into_iter().flatten().fold(0, |code, digit| code * 8 + digit);
            char::from_u32(code).unwrap_or('?')
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(text: &str) -> Vec<(String, String)> {
        Variables::of_service(text).0
    }

    /// As `load_env_file` of systemd 252 reads them.
    #[test]
    fn files_as_systemd_reads_them() {
        for (text, expected) in [
            ("a=b\n\n c = d e \nx", vec![("a", "b"), ("c", "d e")]),
            ("# a=b\n ; c=d\n#e \\\n f=g\nh=i#j", vec![("h", "i#j")]),
            ("a=\"b c\"\nd='e\\f \"'\ng=\"h\\\"\\$\\n\"", vec![("a", "b c"), ("d", "e\\f \""), ("g", "h\"$\\n")]),
            ("a='b' \"c\" d \ne=f\"g\"", vec![("a", "bcd"), ("e", "f\"g\"")]),
            ("a=b \\\n c\nd=\\ e\\ \n", vec![("a", "b  c"), ("d", " e ")]),
            ("a=\nb=\"\"\nc", vec![("a", ""), ("b", "")]),
            ("export a=b\n1=2\n=3\nc-d=e", vec![]),
            ("a=\"b\nc=d", vec![("a", "b\nc=d")]),
        ] {
            let expected: Vec<_> = expected.into_iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
            assert_eq!(service(text), expected, "{text:?}");
        }
    }

    #[test]
    fn files_as_a_login_reads_them() {
        let variables = Variables::of_login("export http_proxy='http://a:1'\n exported=x\nexport\tno_proxy=\"b, c\"\n");
        assert_eq!(variables.http_proxy().unwrap().1.to_string(), "a:1");
        assert_eq!(variables.no_proxy(), Some(("no_proxy", "b, c")));
    }

    #[test]
    fn lists_as_systemctl_shows_them() {
        let (variables, unprinted) = Variables::of_unit(
            "LANG=C \"no_proxy=localhost, .example.com\" \"http_proxy=http://u:\\\"\\$\\\\@b:1/\" \"x=a\\tb\\001\" e=",
        );
        assert_eq!(variables.no_proxy(), Some(("no_proxy", "localhost, .example.com")));
        assert_eq!(variables.http_proxy().unwrap().1.to_string(), "b:1");
        assert_eq!(
            variables.0[2..],
            [("http_proxy", "http://u:\"$\\@b:1/"), ("x", "a\tb\x01"), ("e", "")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
        );
        assert_eq!(unprinted, 0);
        assert_eq!(Variables::of_unit("").0, Variables::default());
        let (variables, unprinted) = Variables::of_unit("[unprintable] NO_PROXY=x");
        assert_eq!((variables.no_proxy(), unprinted), (Some(("NO_PROXY", "x")), 1));
    }

    #[test]
    fn the_lower_case_goes_first_and_an_empty_one_counts() {
        let of = Variables::of_service;
        let proxy = |text: &str| of(text).http_proxy().map(|(name, proxy)| format!("{name} {proxy}"));
        assert_eq!(proxy("HTTP_PROXY=http://a\nhttp_proxy=http://b").as_deref(), Some("http_proxy b:80"));
        assert_eq!(proxy("HTTP_PROXY=http://a\nHTTP_PROXY=http://b").as_deref(), Some("HTTP_PROXY b:80"));
        assert_eq!(proxy("https_proxy=http://a\nHttp_Proxy=http://b"), None);
        assert_eq!(proxy("http_proxy=\nHTTP_PROXY=http://a"), None);
        assert_eq!(of("no_proxy=\nNO_PROXY=a").no_proxy(), Some(("no_proxy", "")));
        let mut both = of("http_proxy=http://a");
        both.extend(of("http_proxy="));
        assert_eq!(both.http_proxy(), None);
    }

    /// As `URI.parse` of Ruby 3.1 does.
    #[test]
    fn proxies_in_variables() {
        for (text, expected) in [
            ("http://proxy.test:3128/", Some("proxy.test:3128")),
            ("http://u:p@[::1]:8139", Some("[::1]:8139")),
            ("http://[::1]", Some("[::1]:80")),
            ("https://p/", Some("p:443")),
            ("HTTP://p:?x", Some("p:80")),
            ("socks5://p", Some("p:3128")),
            ("proxy.test:3128", None),
            ("http:///x", None),
            ("http://p:x", None),
            ("http://a b", None),
            ("", None),
        ] {
            assert_eq!(url(text).map(|proxy| proxy.to_string()).as_deref(), expected, "{text:?}");
        }
    }
}
