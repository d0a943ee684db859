//! A release on its way: what the engine asks of whoever rolls it out.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use tokio::sync::mpsc::unbounded_channel;

use crate::engine::error::EngineError;
use crate::event::Notice;
use crate::names::ReleaseId;
use crate::plan::TaskIndex;
use crate::rollout::{Candidate, Promotion, RolloutError, RolloutFailure};
use crate::runtime::log_lines::{LogEntry, read_entries};

use super::Attempts;

/// So many last lines of a log say why a release did not pass.
const LAST_LINES: usize = 20;

/// The addresses of the releases that this process has seen ready; none when an attempt was given it already.
#[derive(Default)]
pub(in crate::engine) struct Candidates(Mutex<HashMap<ReleaseId, Option<String>>>);

impl Candidates {
    fn has(&self, release: ReleaseId) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&release)
    }

    fn take(&self, release: ReleaseId) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get_mut(&release)?.take()
    }

    fn set(&self, release: ReleaseId, url: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(release, Some(url));
    }

    fn forget(&self, release: ReleaseId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&release);
    }
}

impl Attempts {
    /// Has the replicas of a service's release started and waits until they are ready; gives their address.
    pub(in crate::engine) async fn prepare_release(
        &self,
        service: TaskIndex,
        release: ReleaseId,
    ) -> Result<Result<String, RolloutFailure>, EngineError> {
        match self.patience.mend(|| async { Ok(self.told(service, release).await?) }).await? {
            Ok(Candidate { url }) => {
                self.candidates.set(release, url.clone());
                Ok(Ok(url))
            }
            Err(failure) => Ok(Err(failure)),
        }
    }

    /// The address of a release that is prepared. It is asked for again for each further attempt, and for one that an earlier
    /// process had prepared: nobody may have looked after it meanwhile, and a server that was started again has another one.
    pub(super) async fn candidate(
        &self,
        service: TaskIndex,
        release: ReleaseId,
    ) -> Result<Result<String, RolloutFailure>, EngineError> {
        if let Some(url) = self.candidates.take(release) {
            return Ok(Ok(url));
        }
        let prepared = self.prepare_release(service, release).await?;
        Ok(prepared.inspect(|_| drop(self.candidates.take(release))))
    }

    /// Has a release put live. One that is live already, since that was asked for before, answers so.
    pub(in crate::engine) async fn promote(
        &self,
        service: TaskIndex,
        release: ReleaseId,
        if_live_is: Option<ReleaseId>,
    ) -> Result<Promotion, EngineError> {
        self.patience.mend(|| self.promote_once(service, release, if_live_is)).await
    }

    /// What was prepared by an earlier process, or for a server that answers no more, may be gone: it is prepared again first.
    async fn promote_once(
        &self,
        service: TaskIndex,
        release: ReleaseId,
        if_live_is: Option<ReleaseId>,
    ) -> Result<Promotion, EngineError> {
        if !self.candidates.has(release) {
            let stage = &self.graph.tasks[service].id.stage;
            let live = self.state.live_release(&self.service(stage)).await?;
            if live.is_none_or(|live| live.id != release) {
                match self.told(service, release).await? {
                    Ok(Candidate { url }) => self.candidates.set(release, url),
                    Err(failure) => return Ok(Promotion::Failed(failure)),
                }
            }
        }
        let promotion = self.rollout.promote(release, if_live_is).await;
        if promotion.is_err() {
            self.candidates.forget(release);
        }
        Ok(promotion?)
    }

    /// Has the replicas of a release stopped. Gives the last lines of the attempt that says why, if one does.
    pub(in crate::engine) async fn abandon(
        &self,
        release: ReleaseId,
        why: &str,
        log_of: Option<(TaskIndex, u32)>,
    ) -> Result<Vec<String>, EngineError> {
        self.patience.mend(|| async { Ok(self.rollout.abandon(release, why).await?) }).await?;
        let Some((task, attempt)) = log_of else { return Ok(Vec::new()) };
        // A log that cannot be read says nothing; the failure is the same.
        let entries = read_entries(&self.folder(task, attempt)).unwrap_or_default();
        let last = &entries[entries.len().saturating_sub(LAST_LINES)..];
        Ok(last.iter().map(LogEntry::text).collect())
    }

    /// Asks for the preparation once, and passes on what is said of its progress.
    async fn told(
        &self,
        service: TaskIndex,
        release: ReleaseId,
    ) -> Result<Result<Candidate, RolloutFailure>, RolloutError> {
        let (sender, mut steps) = unbounded_channel();
        let tell = |step| {
            let task = self.graph.tasks[service].id.clone();
            // Nobody listens any more once the run is over; then there is nothing to show.
            drop(self.notices.send(Notice::Preparing { task, step }));
        };
        let mut prepare = self.rollout.prepare(release, sender);
        let answer = loop {
            tokio::select! {
                answer = &mut prepare => break answer,
                Some(step) = steps.recv() => tell(step),
            }
        };
        while let Ok(step) = steps.try_recv() {
            tell(step);
        }
        answer
    }
}
