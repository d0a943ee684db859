//! The environments of a run: each is built at most once in this process.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OnceCell;

use crate::digest::Digest;
use crate::engine::EngineError;
use crate::engine::clock;
use crate::environment::{Definition, Environment, EnvironmentError, build};
use crate::event::Notice;
use crate::names::TaskId;
use crate::runtime::RuntimeError;

use super::Attempts;

/// Ready, or the build tool's last lines; those are the same for everybody who needs it.
type Built = Result<Arc<Environment>, String>;

/// By digest of the definition.
#[derive(Default)]
pub(in crate::engine) struct Environments(Mutex<HashMap<Digest, Arc<OnceCell<Built>>>>);

impl Environments {
    /// Builds an environment, or waits for whoever builds it. When the builder is given up (its attempt was stopped), one of
    /// those who wait goes on.
    pub(super) async fn get(
        &self,
        attempts: &Attempts,
        task: &TaskId,
        definition: &Definition,
    ) -> Result<Built, EngineError> {
        let digest = definition.digest();
        let cell = {
            let mut cells = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(cells.entry(digest).or_default())
        };
        if let Some(built) = cell.get() {
            return Ok(built.clone());
        }
        let built = cell.get_or_try_init(|| make(attempts, task, definition, digest)).await?;
        Ok(built.clone())
    }
}

async fn make(
    attempts: &Attempts,
    task: &TaskId,
    definition: &Definition,
    digest: Digest,
) -> Result<Built, EngineError> {
    let notices = attempts.notices.clone();
    let progress = |step: String| {
        // Nobody listens any more once the run is over; then there is nothing to show.
        drop(notices.send(Notice::Preparing { task: task.clone(), step }));
    };
    let built = attempts
        .patience
        .mend(|| async {
            match build(&attempts.settings.environment, definition, &progress).await {
                Ok(environment) => Ok(Ok(Arc::new(environment))),
                Err(EnvironmentError::Build { log }) => Ok(Err(log)),
                Err(EnvironmentError::Definition { message, help }) => {
                    Ok(Err(format!("{message}\n{help}")))
                }
                Err(EnvironmentError::Index { log }) => Err(EngineError::Index { log }),
                Err(EnvironmentError::Docker(error)) => Err(RuntimeError::Docker(*error).into()),
                Err(EnvironmentError::Io(error)) => Err(error.into()),
            }
        })
        .await?;
    if let Ok(environment) = &built {
        // A definition is plain data and always serialises.
        let parts = serde_json::to_string(definition).unwrap_or_default();
        attempts.state.environment_built(digest, &parts, &environment.lock, clock::now()).await?;
    }
    Ok(built)
}
