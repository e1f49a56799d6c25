//! Puts back what `setup` has changed: the very bytes where nobody else has touched the file since, otherwise our own keys
//! and lines and no more.

use std::fs;
use std::path::PathBuf;

use super::file::{self, PUBLIC};
use super::record::{Book, Change, Part, Record};
use super::units::{self, Step};
use super::{Places, SetupError, block, configuration, diff, puppet_conf};
use crate::puppet::{Puppet, PuppetError};

/// What has become of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undone {
    /// Which.
    pub path: PathBuf,
    /// Whether it is again what it was, byte for byte.
    pub is_whole: bool,
    /// What was changed; empty: nothing had to be.
    pub diff: String,
    /// What is ours and has been changed by somebody else since, so that it is left.
    pub left: Vec<String>,
}

/// What a file is to hold.
struct Back {
    text: Option<String>,
    is_whole: bool,
    left: Vec<String>,
}

/// Undoes all of the record, the last change first, so that the agent is off before puppet-shim goes. Each file is told of
/// as soon as it is done.
///
/// # Errors
///
/// With the first that could not be put back. The rest of the record stays, and the same again goes on with it.
pub fn undo(
    book: &Book,
    places: &Places,
    mut record: Record,
    find: impl Fn() -> Result<Puppet, PuppetError>,
    mut tell: impl FnMut(&Undone),
) -> Result<(), SetupError> {
    // Cut short after the last file: nobody knows any more what systemd has been told.
    let is_unknown = record.changes.is_empty();
    let mut changed = Changed { drop_in: is_unknown, configuration: is_unknown };
    while let Some(change) = record.changes.last() {
        let undone = put_back(change, &find)?;
        changed.note(&undone, change, places);
        tell(&undone);
        record.changes.pop();
        record.is_done = false;
        book.write(&record)?;
    }
    if units::is_booted(&places.systemd) {
        for step in changed.steps() {
            step.take()?;
        }
    }
    Ok(book.remove()?)
}

/// Which of our own files were changed.
struct Changed {
    drop_in: bool,
    configuration: bool,
}

impl Changed {
    fn note(&mut self, undone: &Undone, change: &Change, places: &Places) {
        let is_changed = !undone.diff.is_empty();
        self.drop_in |= is_changed && undone.path == places.drop_in;
        self.configuration |= is_changed && matches!(change.part, Part::Keys(_));
    }

    fn steps(&self) -> Vec<Step> {
        units::steps(self.drop_in, self.configuration, true)
    }
}

fn put_back(change: &Change, find: &impl Fn() -> Result<Puppet, PuppetError>) -> Result<Undone, SetupError> {
    let present = file::read(&change.path)?;
    let Back { text, is_whole, left } = back(change, present.as_deref(), find)?;
    let diff = diff::unified(&change.path, present.as_deref(), text.as_deref());
    if text != present {
        file::exchange(&change.path, present.as_deref(), text.as_deref(), PUBLIC)?;
    }
    if text.is_none() {
        for directory in change.made.iter().rev() {
            // One in which others keep something stays.
            let _ = fs::remove_dir(directory);
        }
    }
    Ok(Undone { path: change.path.clone(), is_whole, diff, left })
}

/// What the file is to hold.
fn back(
    change: &Change,
    present: Option<&str>,
    find: &impl Fn() -> Result<Puppet, PuppetError>,
) -> Result<Back, SetupError> {
    if let Some(whole) = change.whole.as_ref().filter(|whole| whole.is_as_left(present)) {
        return Ok(Back { text: whole.before.clone(), is_whole: true, left: Vec::new() });
    }
    // Somebody has removed it: nothing of ours is left either.
    let Some(present) = present else { return Ok(Back { text: None, is_whole: false, left: Vec::new() }) };
    let was_absent = change.whole.as_ref().is_some_and(|whole| whole.before.is_none());
    let (text, left) = match &change.part {
        Part::Block => (block::take(present), Vec::new()),
        Part::Keys(keys) => {
            let error = |why| SetupError::Configuration { path: change.path.clone(), why };
            let (text, left) = configuration::take_back(present, keys).map_err(error)?;
            (text, left.iter().map(|key| key.path.join(".")).collect())
        }
        Part::Settings(settings) => {
            let (text, left) = puppet_conf::take_back(&find()?, present, settings)?;
            (text, left.iter().map(|setting| setting.name.clone()).collect())
        }
    };
    let text = (!was_absent || !configuration::is_empty(&text)).then_some(text);
    Ok(Back { text, is_whole: false, left })
}
