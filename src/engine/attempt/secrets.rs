//! The secrets of an attempt, opened when it starts.

use crate::engine::error::EngineError;
use crate::event::Failure;
use crate::handover;
use crate::secret::HandedSecret;
use crate::spec::pipeline::Stage;

use super::Attempts;

impl Attempts {
    /// Today's values of what the stage takes. What vanished since the run began fails the task.
    pub(super) async fn open_secrets(
        &self,
        stage: &Stage,
    ) -> Result<Result<Vec<HandedSecret>, Failure>, EngineError> {
        let vault = self.settings.vault.as_deref();
        let opened = handover::open(&self.state, vault, &stage.secrets).await?;
        Ok(opened.map_err(|hindrance| Failure::Secret {
            name: hindrance.id().to_string(),
            why: hindrance.with_help(),
        }))
    }
}
