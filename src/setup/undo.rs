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
/// One that cannot be put back keeps none of the others from it, but that puppet-shim stays where it is as long as the
/// agent may still be led there.
///
/// # Errors
///
/// With the first that could not be put back. It stays in the record, and the same again goes on with that.
pub fn undo(
    book: &Book,
    places: &Places,
    mut record: Record,
    find: impl Fn() -> Result<Puppet, PuppetError>,
    mut tell: impl FnMut(&Undone),
) -> Result<(), SetupError> {
    let mut changed = Changed::unknown(&record, places);
    // From here on nobody knows, should this be cut short, what systemd has been told.
    if record.is_done {
        record.is_done = false;
        book.write(&record)?;
    }
    let mut failure = None;
    for stage in [Stage::Agent, Stage::Service, Stage::Socket] {
        if stage != Stage::Agent && record.changes.iter().any(|change| Stage::of(change, places) == Stage::Agent) {
            break;
        }
        for at in (0..record.changes.len()).rev() {
            let change = &record.changes[at];
            if Stage::of(change, places) != stage {
                continue;
            }
            match put_back(change, &find) {
                Ok(undone) => {
                    changed.note(&undone, change, places);
                    tell(&undone);
                    record.changes.remove(at);
                    book.write(&record)?;
                }
                Err(error) => {
                    failure.get_or_insert(error);
                }
            }
        }
    }
    if units::is_booted(&places.systemd) {
        let untold = changed.steps().into_iter().find_map(|step| step.take().err());
        failure = failure.or(untold.map(SetupError::from));
    }
    match failure {
        Some(error) => Err(error),
        None => Ok(book.remove()?),
    }
}

/// In which order it is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// What leads the agent to puppet-shim.
    Agent,
    /// Our configuration.
    Service,
    /// The socket's drop-in. Last: while it is in the record, systemd may not have been told that it is gone.
    Socket,
}

impl Stage {
    fn of(change: &Change, places: &Places) -> Self {
        match change.part {
            Part::Keys(_) => Stage::Service,
            Part::Block if change.path == places.drop_in => Stage::Socket,
            Part::Block | Part::Settings(_) => Stage::Agent,
        }
    }
}

/// Which of our own files were changed.
struct Changed {
    drop_in: bool,
    configuration: bool,
}

impl Changed {
    /// What may have been changed before, and systemd not told: all that has been begun is so.
    fn unknown(record: &Record, places: &Places) -> Self {
        let has_drop_in = record.changes.iter().any(|change| Stage::of(change, places) == Stage::Socket);
        Changed {
            drop_in: !record.is_done && (has_drop_in || record.changes.is_empty()),
            configuration: !record.is_done,
        }
    }

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
            let before = change.whole.as_ref().map(|whole| whole.before.as_deref().unwrap_or_default());
            let had_section = before.is_none_or(puppet_conf::has_section);
            let (text, left) = puppet_conf::take_back(&find()?, present, settings, had_section)?;
            (text, left.iter().map(|setting| setting.name.clone()).collect())
        }
    };
    let text = (!was_absent || !configuration::is_empty(&text)).then_some(text);
    Ok(Back { text, is_whole: false, left })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setup::Mode;

    /// A crash between a file's write and the record's leaves a file that needs no change, and systemd that knows nothing.
    #[test]
    fn an_undo_that_was_cut_short_tells_systemd() {
        let places = Places::of_host("/etc/puppet-shim/puppet-shim.toml".into());
        let change = |path: &PathBuf, part| Change { path: path.clone(), whole: None, made: Vec::new(), part };
        let drop_in = change(&places.drop_in, Part::Block);
        let configuration = change(&places.configuration, Part::Keys(Vec::new()));
        for (is_done, changes, steps) in [
            (true, vec![drop_in.clone(), configuration.clone()], &[][..]),
            (false, vec![drop_in], &[Step::Reload, Step::RestartSocket, Step::ReloadService]),
            (false, vec![], &[Step::Reload, Step::RestartSocket, Step::ReloadService]),
            (false, vec![configuration], &[Step::ReloadService]),
        ] {
            let mut record = Record::new(Mode::Alias);
            (record.is_done, record.changes) = (is_done, changes);
            assert_eq!(Changed::unknown(&record, &places).steps(), steps, "{record:?}");
        }
    }
}
