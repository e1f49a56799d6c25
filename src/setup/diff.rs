//! What changes, as `patch` takes it.

use std::path::Path;

use similar::TextDiff;

/// What stands for a file that is not there.
const NOTHING: &str = "/dev/null";

/// Stands in a diff in the place of a password.
const HIDDEN: &str = "********";

/// The unified diff of a file's text; `None`: there is no file. Empty where nothing differs. Passwords are not shown.
pub fn unified(path: &Path, before: Option<&str>, after: Option<&str>) -> String {
    let name = path.display().to_string();
    let title = |text: Option<&str>| text.map_or(NOTHING, |_| name.as_str()).to_owned();
    let (old, new) = (hide(before.unwrap_or_default()), hide(after.unwrap_or_default()));
    let diff = TextDiff::from_lines(old.as_str(), new.as_str());
    diff.unified_diff().header(&title(before), &title(after)).to_string()
}

/// Who looks at a diff need not learn `http_proxy_password`, which may stand beside what is changed.
fn hide(text: &str) -> String {
    let line = |line: &str| {
        let Some((key, _)) = line.split_once('=').filter(|(key, _)| key.trim_end().ends_with("password")) else {
            return line.to_owned();
        };
        let end = if line.ends_with('\n') { "\n" } else { "" };
        format!("{key}= {HIDDEN}{end}")
    };
    text.split_inclusive('\n').map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(before: Option<&str>, after: Option<&str>) -> String {
        unified(Path::new("/etc/x"), before, after)
    }

    #[test]
    fn shows_lines() {
        let expected = "--- /etc/x\n+++ /etc/x\n@@ -1,2 +1,3 @@\n a\n b\n+c\n";
        assert_eq!(shown(Some("a\nb\n"), Some("a\nb\nc\n")), expected);
        assert_eq!(shown(Some("a\n"), Some("a\n")), "");
    }

    #[test]
    fn a_file_that_comes_or_goes() {
        assert_eq!(shown(None, Some("a\n")), "--- /dev/null\n+++ /etc/x\n@@ -0,0 +1 @@\n+a\n");
        assert_eq!(shown(Some("a\n"), None), "--- /etc/x\n+++ /dev/null\n@@ -1 +0,0 @@\n-a\n");
    }

    #[test]
    fn passwords_are_not_shown() {
        let before = "http_proxy_password = geheim\n";
        let diff = shown(Some(before), Some(&format!("{before}a = b\n")));
        assert!(diff.contains(" http_proxy_password = ********\n+a = b\n"), "{diff}");
        assert!(!diff.contains("geheim"));
    }
}
