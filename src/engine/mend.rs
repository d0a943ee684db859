//! Waiting out what may mend by itself: a full disk, a monitor that starts again, an index that is away.
//! Retries of the machinery live here and nowhere else.

use std::io::{self, ErrorKind};
use std::time::Duration;

use crate::runtime::RuntimeError;
use crate::store::StoreError;
use crate::workspace::WorkspaceError;

use super::error::EngineError;

/// Between the tries; after the last one the error stands.
const PAUSES: [Duration; 3] =
    [Duration::from_millis(500), Duration::from_secs(2), Duration::from_secs(6)];

/// Does it, and again after a while when it failed in a way that may mend. It must be fit to be done twice.
pub(super) async fn mend<T, F>(act: impl Fn() -> F) -> Result<T, EngineError>
where
    F: Future<Output = Result<T, EngineError>>,
{
    for pause in PAUSES {
        match act().await {
            Err(error) if may_mend(&error) => tokio::time::sleep(pause).await,
            answer => return answer,
        }
    }
    act().await
}

fn may_mend(error: &EngineError) -> bool {
    match error {
        EngineError::Index { .. } | EngineError::Runtime(RuntimeError::Monitor(_)) => true,
        EngineError::Runtime(RuntimeError::Io(error))
        | EngineError::Store(StoreError::Io(error))
        | EngineError::Workspace(
            WorkspaceError::Io(error) | WorkspaceError::Store(StoreError::Io(error)),
        ) => passes(error),
        EngineError::State(_)
        | EngineError::Store(_)
        | EngineError::Workspace(_)
        | EngineError::Journal { .. }
        | EngineError::Stuck(_) => false,
    }
}

/// Shortages pass; a missing file or a refused permission does not.
fn passes(error: &io::Error) -> bool {
    const TOO_MANY_FILES: [i32; 2] = [23, 24];
    matches!(
        error.kind(),
        ErrorKind::Interrupted
            | ErrorKind::WouldBlock
            | ErrorKind::TimedOut
            | ErrorKind::ResourceBusy
            | ErrorKind::StorageFull
            | ErrorKind::QuotaExceeded
            | ErrorKind::OutOfMemory
            | ErrorKind::StaleNetworkFileHandle
    ) || error.raw_os_error().is_some_and(|code| TOO_MANY_FILES.contains(&code))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test]
    async fn what_does_not_mend_is_tried_once() {
        let tries = Cell::new(0);
        let answer: Result<(), _> = mend(|| async {
            tries.set(tries.get() + 1);
            Err(EngineError::from(io::Error::from(ErrorKind::PermissionDenied)))
        })
        .await;
        assert!(matches!(answer, Err(EngineError::Workspace(_))));
        assert_eq!(tries.get(), 1);
    }

    #[tokio::test]
    async fn what_mends_is_tried_again() {
        let tries = Cell::new(0);
        let answer = mend(|| async {
            tries.set(tries.get() + 1);
            if tries.get() == 1 {
                return Err(EngineError::Store(io::Error::from(ErrorKind::StorageFull).into()));
            }
            Ok(tries.get())
        })
        .await;
        assert_eq!(answer.unwrap(), 2);
    }
}
