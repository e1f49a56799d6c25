//! What the `puppet` command writes and reads, as text.

use serde_json::Value;

/// A setting's value as `puppet.conf` would have it. Lists of lists are `server_list`'s.
pub(super) fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(item).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

fn item(value: &Value) -> String {
    match value {
        Value::Array(parts) => parts.iter().map(text).collect::<Vec<_>>().join(":"),
        other => text(other),
    }
}

/// The error lines, without the word and without colours.
pub(super) fn errors(stderr: &[u8]) -> String {
    let plain = without_colours(&String::from_utf8_lossy(stderr));
    let lines = plain.lines().filter_map(|line| line.trim().strip_prefix("Error: "));
    lines.collect::<Vec<_>>().join("; ")
}

/// Puppet colours also where nobody looks. Only the sequences `ESC [ … m` are taken out.
fn without_colours(text: &str) -> String {
    let mut parts = text.split("\x1b[");
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        plain.push_str(part.split_once('m').map_or(part, |(_, rest)| rest));
    }
    plain
}

/// A word for a shell.
pub(super) fn quoted(word: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_./:,=@%+".contains(&b);
    if !word.is_empty() && word.bytes().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_for_a_shell() {
        for (word, expected) in [
            ("server", "server"),
            ("", "''"),
            ("a b", "'a b'"),
            ("it's", r"'it'\''s'"),
            ("$x", "'$x'"),
            ("127.0.0.1:1", "127.0.0.1:1"),
        ] {
            assert_eq!(quoted(word), expected);
        }
    }

    #[test]
    fn finds_the_errors() {
        let stderr = b"Warning: old\n\x1b[1;31mError: one\x1b[0m\n\x1b[1;31mError: two\x1b[0m\nnoise\n";
        assert_eq!(errors(stderr), "one; two");
        assert_eq!(errors(b"Warning: old\n"), "");
    }
}
