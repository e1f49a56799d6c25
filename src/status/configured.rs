//! The configuration and the listeners, as the status has them. No io.

use super::{ConfigurationOrigin, ConfigurationStatus, ListenerState, ListenerStatus};
use crate::config::{Origin, Provenance};
use crate::listen::{Door, DoorState};
use crate::moment::Moment;

impl From<&Provenance> for ConfigurationStatus {
    fn from(provenance: &Provenance) -> Self {
        let Provenance { origin, read, diagnostics, rejected } = provenance;
        let path = |path: &std::path::Path| Some(path.display().to_string());
        let (origin, file, passed_over) = match origin {
            Some(Origin::File(file)) => (ConfigurationOrigin::File, path(file), None),
            Some(Origin::LastAccepted { rejected, accepted }) => {
                (ConfigurationOrigin::LastAccepted, path(accepted), path(rejected))
            }
            Some(Origin::DefaultsInstead { rejected }) => (ConfigurationOrigin::DefaultsInstead, None, path(rejected)),
            Some(Origin::Defaults) | None => (ConfigurationOrigin::Defaults, None, None),
        };
        ConfigurationStatus {
            origin,
            file,
            rejected: passed_over,
            read: read.map(Moment::from),
            diagnostics: diagnostics.clone(),
            reload_failed: rejected.as_ref().map(|rejected| rejected.at.into()),
            reload_diagnostics: rejected.as_ref().map(|rejected| rejected.diagnostics.clone()).unwrap_or_default(),
        }
    }
}

impl From<&Door> for ListenerStatus {
    fn from(door: &Door) -> Self {
        let state = match &door.state {
            DoorState::Inherited => ListenerState::Inherited,
            DoorState::Bound => ListenerState::Bound,
            DoorState::Absent => ListenerState::Absent,
            DoorState::Failed { .. } => ListenerState::Failed,
        };
        let (error, help) = match &door.state {
            DoorState::Failed { why, mend } => (Some(why.clone()), Some(mend.clone())),
            _ => (None, None),
        };
        ListenerStatus { address: door.addr.to_string(), state, error, help }
    }
}
