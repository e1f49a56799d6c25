//! Text in roff's clothes.

/// Text that is to come out as it is, hyphens included: what is named here is to be copied.
pub(crate) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\\' => out.push_str("\\e"),
            '-' => out.push_str("\\-"),
            '\'' => out.push_str("\\(aq"),
            '^' => out.push_str("\\(ha"),
            '~' => out.push_str("\\(ti"),
            '`' => out.push_str("\\(ga"),
            _ => out.push(character),
        }
    }
    // At the start of a line a dot is a request.
    if out.starts_with('.') { format!("\\&{out}") } else { out }
}
