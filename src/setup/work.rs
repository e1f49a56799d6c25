//! Makes the changes, each file as a whole, after the record has them all.

use super::draft::{Draft, FileChange};
use super::file::{self, PUBLIC};
use super::record::{Book, Record};
use super::{Mode, SetupError, look};

/// Does all that is drafted. Where it ends in between, be it by an error or by a power cut, the record has everything that
/// may have been changed: the same again completes it, [`super::undo`] puts it back.
pub fn apply(book: &Book, mode: Mode, draft: &Draft) -> Result<(), SetupError> {
    let mut record = book.read()?.unwrap_or_else(|| Record::new(mode));
    for change in draft.files() {
        record.add(change.to_record(), change.before.as_deref());
    }
    record.is_done = false;
    book.write(&record)?;
    change_all(draft).map_err(|error| SetupError::Halfway(Box::new(error)))?;
    record.is_done = true;
    Ok(book.write(&record)?)
}

fn change_all(draft: &Draft) -> Result<(), SetupError> {
    for change in &draft.ours {
        write(change)?;
    }
    for step in &draft.steps {
        step.take()?;
    }
    let silent: Vec<_> =
        draft.listens.iter().filter(|address| look::is_free(**address)).map(ToString::to_string).collect();
    if !silent.is_empty() {
        return Err(SetupError::Silent(silent.join(", ")));
    }
    draft.agents.iter().try_for_each(write)
}

fn write(change: &FileChange) -> Result<(), SetupError> {
    if let Some(directory) = change.path.parent() {
        file::make_directory(directory, 0o755)?;
    }
    Ok(file::exchange(&change.path, change.before.as_deref(), Some(&change.after), PUBLIC)?)
}
