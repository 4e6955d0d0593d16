//! What the calls of both switches have in common.

use immutable_core::model::{FleetId, RouteId, RouteVersion};
use immutable_core::provider::{ErrorKind, OpContext, Progress, ProviderError};

use super::APPLY;
use super::document::Written;
use super::health::Opinion;
use super::memory::{self, Memory};
use super::plan::Change;
use super::state::State;
use crate::Config;
use crate::operation::{SOON, Standing};

/// One call of `apply`, with what it has read.
pub(super) struct Call<'a> {
    pub(super) config: &'a Config,
    pub(super) memory: &'a Memory,
    pub(super) state: &'a State,
    pub(super) cx: &'a OpContext,
    pub(super) expected: &'a RouteVersion,
}

impl Call<'_> {
    /// Whether it has to wait before it can do anything.
    ///
    /// # Errors
    /// `Conflict` when the route has another version; why the last change of the gateway failed, once.
    pub(super) async fn begin(&self) -> Result<Option<Progress<()>>, ProviderError> {
        let state = self.state;
        state.claim.admit((APPLY, state.id(), &self.cx.key), self.expected, &state.content())?;
        match state.document.standing {
            Standing::Settled => Ok(None),
            Standing::Busy => Ok(Some(state.document.until_idle(SOON))),
            Standing::Failed => {
                memory::failure(self.memory, self.config, APPLY, &state.document).await?;
                // To be written again is how a gateway is repaired.
                Ok(None)
            }
        }
    }

    /// Writes a change. Whether it is in effect is seen by the next call.
    pub(super) async fn write(&self, change: Change<'_>, leads: Option<&str>) -> Result<Progress<()>, ProviderError> {
        let document = change.finish(&self.cx.key, self.expected, leads)?;
        if let Some(claim) = document.tag(&self.state.tag_claim()) {
            self.memory.send(self.state.id().as_str(), claim);
        }
        let begun = match document.write(self.config, APPLY).await? {
            Written::Busy(waits) => return Ok(waits),
            Written::Begun(begun) => begun,
        };
        self.memory.begin(document.id(), begun.handle);
        Ok(match begun.progress {
            Progress::Done(()) => document.until_idle(SOON),
            waits @ Progress::Pending { .. } => waits,
        })
    }
}

/// That a gateway has to find members of a fleet good first.
pub(super) fn until_good(fleet: &FleetId, opinion: &Opinion) -> Progress<()> {
    let note = format!("the gateway to find members of {fleet} good");
    Progress::Pending { retry_after: SOON, note: super::super::until_good(&note, opinion.why.as_deref()) }
}

pub(super) fn no_route(operation: &'static str, route: &RouteId, form: &str) -> ProviderError {
    let problem = format!("{route} is no such route: it must look like {form}");
    ProviderError::new(ErrorKind::NotFound, operation, problem).without_effect()
}
