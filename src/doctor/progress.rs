//! What is being waited for, on one line of a terminal.

use std::cell::RefCell;
use std::io::{self, IsTerminal as _, Write as _};

/// Columns that every terminal has.
const WIDTH: usize = 78;

/// The line, which is written over and over, and gone at the end.
pub struct Progress {
    is_shown: bool,
    waiting: RefCell<Vec<String>>,
}

impl Progress {
    /// One on standard error, if that is a terminal and somebody looks: `wanted`.
    pub fn new(wanted: bool) -> Self {
        Progress { is_shown: wanted && io::stderr().is_terminal(), waiting: RefCell::default() }
    }

    /// Waits for this, too, until it is done.
    pub async fn during<T>(&self, what: String, work: impl Future<Output = T>) -> T {
        self.waiting.borrow_mut().push(what.clone());
        self.draw();
        let done = work.await;
        let at = self.waiting.borrow().iter().position(|waiting| *waiting == what);
        if let Some(at) = at {
            self.waiting.borrow_mut().remove(at);
        }
        self.draw();
        done
    }

    fn draw(&self) {
        if !self.is_shown {
            return;
        }
        let line = line(&self.waiting.borrow());
        // Whoever does not see it misses nothing.
        let _ = write!(io::stderr().lock(), "\r\x1b[K{line}");
        let _ = io::stderr().lock().flush();
    }
}

fn line(waiting: &[String]) -> String {
    let text = match waiting {
        [] => return String::new(),
        [one] => format!("asking {one}"),
        [first, more @ ..] => format!("asking {first} and {} more", more.len()),
    };
    text.chars().filter(|c| !c.is_control()).take(WIDTH).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_is_waited_for() {
        let progress = Progress::new(false);
        let both = progress.during("Puppet".into(), async {
            progress.during("compiler1".into(), async { line(&progress.waiting.borrow()) }).await
        });
        assert_eq!(both.await, "asking Puppet and 1 more");
        assert_eq!(line(&progress.waiting.borrow()), "");
        assert_eq!(line(&["x".repeat(200)]).len(), WIDTH);
    }
}
