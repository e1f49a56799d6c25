//! Our lines in a file of others: between two marks, so that they can be told from theirs.

const BEGIN: &str = "# BEGIN puppet-shim setup: `puppet-shim setup --undo` takes this out";
const END: &str = "# END puppet-shim setup";

/// What a line begins with, whatever else an other version writes behind it.
const BEGINS: &str = "# BEGIN puppet-shim setup";

/// The text with these lines in our block, and no other block of ours. Where there is one, the new one takes its place;
/// otherwise it comes last.
pub fn put(text: &str, lines: &[String]) -> String {
    let mut block = format!("{BEGIN}\n");
    for line in lines {
        block.push_str(line);
        block.push('\n');
    }
    block.push_str(END);
    block.push('\n');
    if let Some((before, after)) = around(text) {
        return [before, &block, &take(after)].concat();
    }
    let line_end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    [text, line_end, &block].concat()
}

/// The text without our blocks.
pub fn take(text: &str) -> String {
    let (mut kept, mut rest) = (String::new(), text);
    while let Some((before, after)) = around(rest) {
        kept.push_str(before);
        rest = after;
    }
    kept + rest
}

/// The lines of our block; none where there is none.
pub fn lines(text: &str) -> Vec<&str> {
    let inside = text.lines().skip_while(|line| !is_begin(line)).skip(1);
    inside.take_while(|line| !is_end(line)).collect()
}

/// What is before our first block and after it. One whose end somebody has taken out is no more than the mark itself:
/// nobody knows any more where it ends.
fn around(text: &str) -> Option<(&str, &str)> {
    let mut begin = None;
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let next = at + line.len();
        if begin.is_none() && is_begin(line) {
            begin = Some((at, next));
        } else if let Some((begin, _)) = begin
            && is_end(line)
        {
            return Some((&text[..begin], &text[next..]));
        }
        at = next;
    }
    begin.map(|(begin, next)| (&text[..begin], &text[next..]))
}

fn is_begin(line: &str) -> bool {
    line.starts_with(BEGINS)
}

fn is_end(line: &str) -> bool {
    line.trim_end() == END
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two() -> Vec<String> {
        vec!["one".into(), "two".into()]
    }

    #[test]
    fn is_put_last_and_taken_out_again() {
        for text in ["", "a\n", "a\n\n\nb\n"] {
            let with = put(text, &two());
            assert_eq!(with, format!("{text}{BEGIN}\none\ntwo\n{END}\n"));
            assert_eq!(lines(&with), ["one", "two"]);
            assert_eq!(put(&with, &two()), with, "twice changes nothing");
            assert_eq!(take(&with), text);
        }
    }

    #[test]
    fn the_last_line_gets_its_end() {
        assert_eq!(take(&put("a", &two())), "a\n");
    }

    #[test]
    fn stays_where_it_is() {
        let with = put("a\n", &two()) + "b\n";
        let again = put(&with, &["three".into()]);
        assert_eq!(again, format!("a\n{BEGIN}\nthree\n{END}\nb\n"));
        assert_eq!(take(&again), "a\nb\n");
    }

    #[test]
    fn two_become_one() {
        let twice = put("a\n", &two()) + &put("b\n", &two());
        assert_eq!(take(&twice), "a\nb\n");
        assert_eq!(lines(&take(&put(&twice, &two()))), Vec::<&str>::new());
    }

    #[test]
    fn a_lost_end_takes_nothing_of_others_along() {
        let lost = format!("a\n{BEGIN}\none\nb\n");
        assert_eq!(take(&lost), "a\none\nb\n");
    }
}
