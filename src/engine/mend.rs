//! Waiting out what may mend by itself: a full disk, a monitor that starts again, an index or a store that is away.
//! Retries of the machinery live here and nowhere else.

use std::io::{self, ErrorKind};
use std::time::Duration;

use tokio::time::Instant;

use crate::outside::OutsideError;
use crate::rollout::RolloutError;
use crate::runtime::RuntimeError;
use crate::runtime::docker::DockerError;
use crate::store::StoreError;
use crate::weather::{Away, Weather};
use crate::workspace::WorkspaceError;

use super::error::EngineError;

/// Between the tries; after the last one the error stands.
const PAUSES: [Duration; 3] =
    [Duration::from_millis(500), Duration::from_secs(2), Duration::from_secs(6)];

/// So long a store that went away is waited for, unless something else is set.
pub const STORE_PATIENCE: Duration = Duration::from_mins(10);

/// How a store that is away is waited for; it has tried for a while by itself each time.
struct Bound {
    /// In all.
    most: Duration,
    /// Before the second try; then twice as long each time.
    first: Duration,
    /// No pause is longer.
    longest: Duration,
}

/// Waits, and tells what it waits for.
pub(super) struct Patience {
    store: Weather,
    store_away: Bound,
}

impl Patience {
    /// `store`: whether it answers; `most`: so long a store that went away is waited for.
    pub(super) fn new(store: Weather, most: Duration) -> Self {
        let (first, longest) = (Duration::from_secs(1), Duration::from_secs(30));
        Self { store, store_away: Bound { most, first, longest } }
    }

    /// Does it, and again after a while when it failed in a way that may mend. It must be fit to be done twice.
    pub(super) async fn mend<T, F>(&self, act: impl Fn() -> F) -> Result<T, EngineError>
    where
        F: Future<Output = Result<T, EngineError>>,
    {
        let bound = &self.store_away;
        let mut tries = 0;
        let mut away: Option<(Instant, Duration)> = None;
        loop {
            let error = match act().await {
                Ok(value) => {
                    if away.is_some() {
                        self.store.turn_good();
                    }
                    return Ok(value);
                }
                Err(error) => error,
            };
            let pause = if let Some(gone) = store_away(&error) {
                let now = Instant::now();
                // It may have tried for long by itself.
                let (since, pause) =
                    away.unwrap_or_else(|| (self.store.bad_since().unwrap_or(now), bound.first));
                let left = (since + bound.most).saturating_duration_since(now);
                if left.is_zero() {
                    return Err(error);
                }
                let (why, help) = (format!("it {}", gone.why), gone.help.to_owned());
                self.store.turn_bad(Away { why, help, since, patience: bound.most });
                away = Some((since, (pause * 2).min(bound.longest)));
                pause.min(left)
            } else if tries < PAUSES.len() && may_mend(&error) {
                tries += 1;
                PAUSES[tries - 1]
            } else {
                return Err(error);
            };
            tokio::time::sleep(pause).await;
        }
    }
}

/// A store that may come back, and what it did.
struct Gone<'e> {
    why: &'e str,
    help: &'e str,
}

/// Whether the error is that of a store that is away.
pub(super) fn is_of_absent_store(error: &EngineError) -> bool {
    store_away(error).is_some()
}

fn store_away(error: &EngineError) -> Option<Gone<'_>> {
    match error {
        EngineError::Store(error)
        | EngineError::Workspace(WorkspaceError::Store(error))
        | EngineError::Outside { error: OutsideError::Store(error), .. } => match error {
            StoreError::Unreachable { why, help, passes: true, .. } => Some(Gone { why, help }),
            _ => None,
        },
        _ => None,
    }
}

fn may_mend(error: &EngineError) -> bool {
    match error {
        EngineError::Index { .. }
        | EngineError::Runtime(
            RuntimeError::Monitor(_) | RuntimeError::Docker(DockerError::Absent { .. }),
        )
        | EngineError::Rollout(RolloutError::Server(_) | RolloutError::Machinery(_)) => true,
        EngineError::Runtime(
            RuntimeError::Io(error) | RuntimeError::Docker(DockerError::Io(error)),
        )
        | EngineError::Store(StoreError::Io(error))
        | EngineError::Outside {
            error: OutsideError::Io(error) | OutsideError::Store(StoreError::Io(error)),
            ..
        }
        | EngineError::Workspace(
            WorkspaceError::Io(error) | WorkspaceError::Store(StoreError::Io(error)),
        ) => passes(error),
        EngineError::State(_)
        | EngineError::Runtime(RuntimeError::Docker(_))
        | EngineError::Store(_)
        | EngineError::Workspace(_)
        | EngineError::Rollout(_)
        | EngineError::Outside { .. }
        | EngineError::Journal { .. }
        | EngineError::Left
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

    use tokio::sync::watch::Receiver;

    use super::*;

    /// Whose pauses are short, and what is told of its store.
    fn patience() -> (Patience, Receiver<Option<Away>>) {
        let store = Weather::default();
        let heard = store.listen();
        let mut patience = Patience::new(store, STORE_PATIENCE);
        let milli = Duration::from_millis(1);
        patience.store_away = Bound { first: milli, longest: milli * 2, most: STORE_PATIENCE };
        (patience, heard)
    }

    fn away() -> EngineError {
        EngineError::Store(StoreError::Unreachable {
            place: "s3://models".to_owned(),
            why: "cannot be reached: connection refused".to_owned(),
            help: "check the endpoint".to_owned(),
            passes: true,
        })
    }

    #[tokio::test]
    async fn what_does_not_mend_is_tried_once() {
        let tries = Cell::new(0);
        let answer: Result<(), _> = patience()
            .0
            .mend(|| async {
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
        let (patience, heard) = patience();
        let answer = patience
            .mend(|| async {
                tries.set(tries.get() + 1);
                if tries.get() == 1 {
                    return Err(EngineError::Store(io::Error::from(ErrorKind::StorageFull).into()));
                }
                Ok(tries.get())
            })
            .await;
        assert_eq!(answer.unwrap(), 2);
        assert!(!heard.has_changed().unwrap(), "nothing is said of a short pause");
    }

    #[tokio::test]
    async fn a_store_that_comes_back_is_waited_for_and_told_of() {
        let tries = Cell::new(0);
        let (patience, heard) = patience();
        let answer = patience
            .mend(|| async {
                tries.set(tries.get() + 1);
                if tries.get() == 6 {
                    let told = heard.borrow().clone().unwrap();
                    assert_eq!(told.why, "it cannot be reached: connection refused");
                    assert_eq!(told.help, "check the endpoint");
                }
                if tries.get() < 6 { Err(away()) } else { Ok(tries.get()) }
            })
            .await;
        assert_eq!(answer.unwrap(), 6);
        assert_eq!(*heard.borrow(), None, "it is back");
    }

    #[tokio::test]
    async fn a_store_that_stays_away_is_given_up() {
        let (mut patience, heard) = patience();
        patience.store_away.most = Duration::from_millis(20);
        let answer: Result<(), _> = patience.mend(|| async { Err(away()) }).await;
        assert!(matches!(answer, Err(EngineError::Store(StoreError::Unreachable { .. }))));
        assert!(heard.borrow().is_some());
        // Who comes later does not wait all over again.
        let tries = Cell::new(0);
        let answer: Result<(), _> = patience
            .mend(|| async {
                tries.set(tries.get() + 1);
                Err(away())
            })
            .await;
        assert!(answer.is_err());
        assert_eq!(tries.get(), 1);
    }
}
