//! The files' new texts, as the plan wants them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::plan::Plan;
use super::record::{Change, Part, Record, Whole};
use super::units::{self, Step};
use super::{Places, SetupError, block, configuration, diff, file, puppet_conf};
use crate::puppet::Puppet;
use crate::setup::facts::{Facts, Port};

/// What is about to be changed.
#[derive(Debug, Default)]
pub struct Draft {
    /// So that puppet-shim is where the agent will look for it.
    pub ours: Vec<FileChange>,
    /// What systemd has to be told then.
    pub steps: Vec<Step>,
    /// Where somebody has to listen then. None without systemd, which is all that could see to it at once.
    pub listens: Vec<SocketAddr>,
    /// So that the agent looks there. Last, for a host whose set-up ends in between is as it was before.
    pub agents: Vec<FileChange>,
}

/// One file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileChange {
    /// Which.
    pub path: PathBuf,
    /// What it holds.
    pub before: Option<String>,
    /// What it is to hold.
    pub after: String,
    /// What of it is ours.
    pub part: Part,
}

impl Draft {
    /// Whether all is as it should be.
    pub fn is_empty(&self) -> bool {
        self.ours.is_empty() && self.steps.is_empty() && self.agents.is_empty()
    }

    /// The files, in order.
    pub fn files(&self) -> impl Iterator<Item = &FileChange> {
        self.ours.iter().chain(&self.agents)
    }

    /// The commands by which Puppet makes the change.
    pub fn commands(&self, puppet: &Puppet) -> Vec<String> {
        let settings = self.files().filter_map(|change| match &change.part {
            Part::Settings(settings) => Some(settings),
            _ => None,
        });
        let call = |setting: &puppet_conf::Setting| match &setting.to {
            Some(to) => puppet.call(&["config", "set", &setting.name, to, "--section", puppet_conf::SECTION]),
            None => puppet.call(&["config", "delete", &setting.name, "--section", puppet_conf::SECTION]),
        };
        settings.flatten().map(call).collect()
    }
}

impl FileChange {
    /// What it changes, for `patch`.
    pub fn diff(&self) -> String {
        diff::unified(&self.path, self.before.as_deref(), Some(&self.after))
    }

    /// As the record has it.
    pub fn to_record(&self) -> Change {
        Change {
            path: self.path.clone(),
            whole: Some(Whole { before: self.before.clone(), after: self.after.clone() }),
            made: file::lacking_directories(&self.path),
            part: self.part.clone(),
        }
    }
}

/// Works it out; refusals that show only now go into the plan. `unfinished`: what an earlier call had begun, whose files may be
/// written, and systemd not told.
pub fn draft(
    puppet: &Puppet,
    puppet_conf: &Path,
    places: &Places,
    facts: &Facts,
    unfinished: Option<&Record>,
    plan: &mut Plan,
) -> Result<Draft, SetupError> {
    let mut draft = Draft::default();
    let drop_in = block_of(&places.drop_in, &plan.drop_in)?;
    let configuration = keys_of(&places.configuration, plan)?;
    let silent = plan.listens.iter().any(|address| facts.ports.get(address) == Some(&Port::Free));
    if facts.has_systemd {
        draft.listens.clone_from(&plan.listens);
        let had_begun = |path| unfinished.is_some_and(|record| record.change(path).is_some());
        let units = drop_in.is_some() || had_begun(&places.drop_in);
        draft.steps = units::steps(units, configuration.is_some() || had_begun(&places.configuration), !silent);
    }
    draft.ours.extend(drop_in);
    draft.ours.extend(configuration);
    draft.agents.extend(block_of(&places.hosts, &plan.hosts)?);
    let before = file::read(puppet_conf)?;
    let edited = puppet_conf::edit(puppet, before.as_deref().unwrap_or_default(), &plan.settings)?;
    for (name, value) in &edited.overridden {
        let delete = puppet.call(&["config", "delete", name, "--section", "agent"]);
        // What would be taken out of [main] is not to be lost: from there it is carried over.
        let mend = if plan.settings.iter().any(|(of, to)| of == name && to.is_none()) {
            let set = puppet.call(&["config", "set", name, value, "--section", puppet_conf::SECTION]);
            format!("have it there instead: {set} && {delete}")
        } else {
            format!("take it out: {delete}")
        };
        plan.refusals.push(format!(
            "[agent] in {} says {name} = {value}, which goes before [main]; {mend}",
            puppet_conf.display()
        ));
    }
    if !edited.settings.is_empty() {
        let part = Part::Settings(edited.settings);
        draft.agents.push(FileChange { path: puppet_conf.to_owned(), before, after: edited.text, part });
    }
    Ok(draft)
}

/// A file with our lines in it, if it is not that already.
fn block_of(path: &Path, lines: &[String]) -> Result<Option<FileChange>, SetupError> {
    if lines.is_empty() {
        return Ok(None);
    }
    let before = file::read(path)?;
    let after = block::put(before.as_deref().unwrap_or_default(), lines);
    let is_so = before.as_ref() == Some(&after);
    Ok((!is_so).then(|| FileChange { path: path.to_owned(), before, after, part: Part::Block }))
}

/// Our configuration with the plan's keys in it.
fn keys_of(path: &Path, plan: &Plan) -> Result<Option<FileChange>, SetupError> {
    let before = file::read(path)?;
    let set = configuration::set(before.as_deref().unwrap_or_default(), &plan.keys);
    let (after, keys) = set.map_err(|why| SetupError::Configuration { path: path.to_owned(), why })?;
    Ok((!keys.is_empty()).then(|| FileChange { path: path.to_owned(), before, after, part: Part::Keys(keys) }))
}
