//! What the TOML parser says, in our words where ours help more.

use toml::de::Error;

use super::diagnostic::{Problem, quoted};

/// Puts an error of the parser's, in this text, as a problem. The parser's sentence is `what is wrong[, expected
/// what]`; one that is not known here is passed on as it is.
pub(super) fn problem(error: &Error, text: &str) -> Problem {
    let at = error.span().and_then(|span| text.get(span)).unwrap_or_default();
    let what = error.message().split(", expected ").next().unwrap_or_default();
    let help = match what {
        "duplicate key" => return Problem::new(format!("{} is written twice", quoted(at)), "leave one of them out"),
        "string values must be quoted" if at.is_empty() => {
            return Problem::new("the value is missing", "write KEY = VALUE");
        }
        // `127.0.0.1` passes for a float that went wrong, `true.example.com` for a boolean.
        "string values must be quoted"
        | "invalid float"
        | "invalid boolean"
        | "invalid integer"
        | "invalid datetime" => "put it in double quotes if it is a text",
        "invalid basic string" => {
            "write \" at its end, on the same line, and a special character as \\u and four hexadecimal digits"
        }
        "invalid literal string" => "write ' at its end, on the same line, and no special characters",
        "missing escaped value" => "write \\\\ for a backslash",
        "key with no value" | "missing value for key" => "write KEY = VALUE",
        "invalid unquoted key" => "write letters, digits, - and _ only",
        "unclosed array" => "write ] where the list ends",
        "unclosed table" => "write ] after the table's name",
        "missing comma between array elements" => "write a comma between the items, and ] where the list ends",
        "carriage return must be followed by newline" => "end the line with a newline",
        _ => return Problem { message: format!("this is not TOML: {}", error.message()), help: None },
    };
    Problem::new(format!("this is not TOML: {what}"), help)
}
