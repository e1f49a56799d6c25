//! What a command prints.

use std::io::{self, Write};

/// Passes on what is written. A reader who has gone, as `head` does after the first lines, has seen what was wanted: that is
/// no error, and what is left is dropped.
#[derive(Debug)]
pub struct Output<W>(pub W);

impl<W: Write> Write for Output<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.0.write(bytes) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(bytes.len()),
            written => written,
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self.0.flush() {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            flushed => flushed,
        }
    }
}

/// Prints a text on standard output.
///
/// # Errors
/// What the kernel says, save that the reader has gone.
pub fn print(text: &str) -> io::Result<()> {
    let mut out = Output(io::stdout().lock());
    out.write_all(text.as_bytes())?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A reader who has gone, or another fault.
    struct Gone(io::ErrorKind);

    impl Write for Gone {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Err(self.0.into())
        }
    }

    #[test]
    fn who_has_gone_has_seen_enough() {
        let mut out = Output(Gone(io::ErrorKind::BrokenPipe));
        out.write_all(b"text").unwrap();
        out.flush().unwrap();
        let mut out = Output(Gone(io::ErrorKind::StorageFull));
        assert_eq!(out.write_all(b"text").unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(out.flush().unwrap_err().kind(), io::ErrorKind::StorageFull);
    }
}
