//! Doing what the machine commands of services, and what tasks see of live releases. Before each step that others see, the state is
//! asked whether the run is still ours: this process may have slept since the step was journalled.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::engine::attempt::{LiveReleases, known};
use crate::engine::clock;
use crate::engine::run::{Input, Seen};
use crate::names::ReleaseId;
use crate::plan::{ResolvedInputs, TaskIndex};

use super::driver::Driver;
use super::live::Happened;

impl Driver<'_> {
    /// What a task may name: results of what it needs, the live releases it saw when it was resolved, and what came from outside.
    pub(super) fn inputs_of(&self, task: TaskIndex) -> ResolvedInputs {
        let stage = &self.attempts.graph.tasks[task].id.stage;
        let mut inputs = self.results.seen_by(&self.attempts.pipeline, stage);
        if let Some(live) = self.live_seen.get(&task) {
            inputs.live.clone_from(live);
        }
        let pins = self.pinned.get(&task).into_iter().flat_map(BTreeMap::values);
        inputs.outside = pins.map(|pin| (pin.wanted, pin.artifact)).collect();
        inputs
    }

    /// Remembers what a task sees of live releases from here on, and says it for the journal.
    pub(super) fn saw_live(&mut self, task: TaskIndex, live: LiveReleases) -> Seen {
        if live.is_empty() {
            return Seen::new();
        }
        self.live_seen.insert(task, known(&live));
        live.into_iter().map(|(service, release)| (service, release.map(|one| one.id))).collect()
    }

    /// The service whose release a `verify` task tries, and that release.
    pub(super) fn candidate_of(&self, task: TaskIndex) -> Option<(TaskIndex, ReleaseId)> {
        let service = *self.attempts.verifies.get(&task)?;
        Some((service, self.run.rolls_out(service)?))
    }

    pub(super) fn release(&mut self, task: TaskIndex) {
        let attempts = Arc::clone(&self.attempts);
        let (inputs, reported) = (self.inputs_of(task), self.results.reported());
        let epoch = self.epoch;
        self.heavy.spawn(async move {
            attempts.state.confirm(attempts.run, epoch).await?;
            let made = attempts.make_release(task, &inputs, reported, clock::now()).await?;
            let made = made.map(|release| (release.id, release.number));
            Ok(Happened::Input(Input::ReleaseMade { task, made }))
        });
    }

    pub(super) fn prepare_release(&mut self, task: TaskIndex, release: ReleaseId) {
        let (attempts, epoch) = (Arc::clone(&self.attempts), self.epoch);
        let given_up = self.heavy.spawn(async move {
            attempts.state.confirm(attempts.run, epoch).await?;
            let result = attempts.prepare_release(task, release).await?.map(drop);
            Ok(Happened::Input(Input::Prepared { task, release, result }))
        });
        self.preparing.insert(task, given_up);
    }

    pub(super) fn promote(
        &mut self,
        task: TaskIndex,
        release: ReleaseId,
        if_live_is: Option<ReleaseId>,
    ) {
        let (attempts, epoch) = (Arc::clone(&self.attempts), self.epoch);
        self.wait_for(async move {
            attempts.state.confirm(attempts.run, epoch).await?;
            let promotion = attempts.promote(task, release, if_live_is).await?;
            Ok(Happened::Input(Input::PromotionEnded { task, release, promotion }))
        });
    }

    /// A preparation that is still waited for is given up first: its answer means nothing any more.
    pub(super) fn abandon(
        &mut self,
        task: TaskIndex,
        release: ReleaseId,
        why: String,
        log_of: Option<(TaskIndex, u32)>,
    ) {
        if let Some(given_up) = self.preparing.remove(&task) {
            given_up.abort();
        }
        let (attempts, epoch) = (Arc::clone(&self.attempts), self.epoch);
        self.wait_for(async move {
            attempts.state.confirm(attempts.run, epoch).await?;
            let log = attempts.abandon(release, &why, log_of).await?;
            Ok(Happened::Input(Input::Abandoned { task, release, log }))
        });
    }
}
